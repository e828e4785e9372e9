"""What a method says of its residuals: a text such as "ar1" or "by:diet", or a table."""

import re
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from mcsim.scenario.values import (
    RESIDUAL_CORRELATIONS,
    Record,
    ResidualCorrelation,
    ResidualText,
    Text,
    shape_of_distribution,
)


class ResidualModel(Record):
    """Residuals that are correlated within the innermost units, or have an SD per level."""

    correlation: ResidualCorrelation | None = Field(
        None,
        description="within innermost units: ar1 (nlme's corAR1) or exchangeable (corCompSymm)",
    )
    within: Text | None = Field(
        None, description="level of these units; else the innermost one of the formula"
    )
    along: Text | None = Field(
        None,
        description="ar1: covariate whose steps count, so that lost observations leave a gap; else "
        "the order of the observations",
    )
    by: Text | None = Field(
        None, description="factor with an SD per level, in place of a correlation: nlme's varIdent"
    )


def residual_model(choice: str | ResidualModel | None) -> ResidualModel | None:
    """The table that a text stands for."""
    if not isinstance(choice, str):
        return choice
    match = re.fullmatch(r"(?P<correlation>\w+)(?:\((?P<along>.+)\))?|by:(?P<by>.+)", choice)
    assert match
    names = {key: name and name.strip("`") for key, name in match.groupdict().items()}
    return ResidualModel.model_validate(names)


def _check(choice: str | ResidualModel) -> str | ResidualModel:
    model = residual_model(choice)
    assert model is not None
    if (model.correlation is None) == (model.by is None):
        raise ValueError("must have exactly one of: by, correlation")
    ordered = [name for name, keys in RESIDUAL_CORRELATIONS.items() if "along" in keys]
    if model.along is not None and model.correlation not in ordered:
        raise ValueError(f'must have `along` only with correlation = "{", ".join(ordered)}"')
    if model.within is not None and model.correlation is None:
        raise ValueError("must have `within` only with a correlation")
    return choice


ResidualChoice = Annotated[
    Annotated[
        Annotated[ResidualText, Tag("<name>")] | Annotated[ResidualModel, Tag("<table>")],
        Discriminator(shape_of_distribution),
    ],
    AfterValidator(_check),
]
