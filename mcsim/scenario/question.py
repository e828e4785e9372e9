"""What a study is to tell: by which measures, of which parameters."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from mcsim.scenario.values import Record, Text, must_be, one_of

FAILED = "failed"  # share of the fits that failed, which is of no parameter
ASKED = ("rejection", "coverage", "bias", "rmse", "share_at_zero", FAILED)

Asked = Annotated[str, one_of(ASKED), WithJsonSchema({"enum": [*ASKED]})]
NOT_EMPTY: Any = {"minItems": 1}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


class QuestionSpec(Record):
    """What the title asks; the numbers of a study do not depend on it."""

    parameters: Annotated[
        tuple[Text, ...], must_be('a list of names, such as ["animal.sd(x)"]', _is_list)
    ] = Field(
        description="names of parameters, those that matter most first", json_schema_extra=NOT_EMPTY
    )
    measures: Annotated[
        tuple[Asked, ...], must_be('a list of measures, such as ["rmse", "coverage"]', _is_list)
    ] = Field(
        description="of them: rejection (power, or type I error), coverage, bias, rmse, "
        "share_at_zero, or failed, the share of the fits that failed",
        json_schema_extra=NOT_EMPTY,
    )
