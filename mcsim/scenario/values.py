"""Values that a scenario may hold: each type with the sentence a user reads where it does not fit.

Every refusal reads `must be ...`: it ends the sentence `key is value; it ...` of checks/.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula import is_name, parse_formula
from mcsim.measures import MEASURES
from mcsim.scenario.estimators import ESTIMATOR_FACTS, NAMED_ESTIMATORS, kind_of, offered
from mcsim.scenario.families import ALL_LINKS, FAMILIES, MOST_POINTS
from mcsim.scenario.limits import LARGEST, MOST_REPLICATES, MOST_RESAMPLES, SMALLEST, is_of_size
from mcsim.scenario.plugin_file import PREFIX

DF_METHODS = offered(lambda facts: facts.df)
INTERVALS = offered(lambda facts: facts.intervals)
RESIDUAL_CORRELATIONS = {  # keys of a truth that go with each; the first is needed
    "ar1": ("phi", "along"),
    "exchangeable": ("rho",),
}
TERM_TESTS = ("type 2", "type 3")  # mcsim.methods.terms has what is behind each
STRUCTURES = ("general", "diagonal", "identity", "compound")
OBSERVATION = "observation"  # what a factor is of that varies within innermost units
DEALT = ("latin", "all")  # ways to give the levels of a factor to the cells of two others
RESERVED_NAMES = ("Intercept", "fixed", "residual", "sigma", "total")


class Record(BaseModel):
    """One table of the file: cannot be changed, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def must_be(rule: str, accepts: Callable[[Any], object]) -> BeforeValidator:
    """Refuse what is not accepted, with a sentence that says the rule."""

    def check(value: Any) -> Any:
        if not accepts(value):
            is_list = isinstance(value, list | tuple)
            all_fit = all(map(_is_of_size, value if is_list else [value]))
            raise ValueError(f"must be {rule if all_fit else _SIZE_RULE}")
        return value

    return BeforeValidator(check)


def _at_most(most: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if _is_number(value) and value > most:
            raise ValueError(f"must be at most {most:,}")
        return value

    return BeforeValidator(check)


def one_of(allowed: tuple[str, ...]) -> BeforeValidator:
    """Refuse what is none of these texts, with all of them."""

    def check(value: Any) -> Any:
        if value not in allowed:
            names = ", ".join(sorted(allowed))
            raise ValueError(f"must be one of: {names}.{nearest_name(str(value), allowed)}")
        return value

    return BeforeValidator(check)


def _check_estimator(value: Any) -> Any:
    if value not in NAMED_ESTIMATORS and not _is_text(value, rf"{PREFIX}[A-Za-z_]\w*"):
        names = ", ".join(sorted(NAMED_ESTIMATORS))
        near = nearest_name(str(value), NAMED_ESTIMATORS)
        raise ValueError(
            f"must be one of: {names}; or {PREFIX}NAME for a function of the file of"
            f" `mcsim run --plugin FILE`.{near}"
        )
    return value


def default_df(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Df methods of a method that names none; `data` holds its estimator, if that is known."""
    return _df_of(data.get("estimator"))[:1]


def _df_of(estimator: object) -> tuple[str, ...]:
    facts = ESTIMATOR_FACTS.get(kind_of(estimator))
    return DF_METHODS if facts is None else facts.df


def _given_by_estimator(value: Any, info: ValidationInfo) -> Any:
    estimator = info.data.get("estimator")
    allowed = _df_of(estimator)
    if value not in allowed:
        of = f" of those of estimator {estimator!r}" if estimator else " of"
        near = nearest_name(str(value), allowed)
        raise ValueError(f"must be one{of}: {', '.join(sorted(allowed))}.{near}")
    return value


def _check_formula(text: str) -> str:
    try:
        parse_formula(text)
    except FormulaError as error:
        raise ValueError(f"the formula cannot be read: {error}") from error
    return text


def _is_text(value: Any, pattern: str = r"[^\ud800-\udfff]*") -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= value <= high and is_of_size(value)


def _is_of_size(value: Any) -> bool:
    is_finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return not is_finite or is_of_size(value)


def _is_whole(value: Any, low: int) -> bool:
    return _is_number(value, low) and int(value) == value


def _is_list(value: Any, at_least: int = 1) -> bool:
    return isinstance(value, list | tuple) and len(value) >= at_least


def _is_distinct(value: Any, at_least: int = 1) -> bool:
    return _is_list(value, at_least) and len({str(item) for item in value}) == len(value)


def _is_pair(value: Any) -> bool:
    return _is_list(value) and len(value) == 2 and all(map(_is_number, value))


def _is_count_range(value: Any) -> bool:
    return _is_pair(value) and all(_is_whole(item, 1) for item in value) and value[0] <= value[1]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and is_name(value) and value not in RESERVED_NAMES


def _is_place(value: Any) -> bool:
    return _is_text(value) or (
        _is_distinct(value, 2) and len(value) == 2 and all(map(_is_text, value))
    )


def _is_target(value: Any) -> bool:
    match = re.fullmatch(r"(\w+)(\(.+\))?", value) if isinstance(value, str) else None
    return match is not None and match[1] in (*MEASURES, "power")


_NAME_RULE = (
    "a name, as a column of a table has one: without ` and without blanks at the ends, none of "
    + ", ".join(sorted(RESERVED_NAMES))
)
_SIZE_RULE = f"of a size between {SMALLEST:g} and {LARGEST:g}, or 0"
_LIST_OF_TWO = "a list of two numbers"
_METHOD_NAME = "text of letters, digits, '_', '.' and '-' (a '/' separates the df method)"
_ALONG = [name for name, keys in RESIDUAL_CORRELATIONS.items() if "along" in keys]
_RESIDUAL = "|".join(
    [name + r"(\(.+\))?" * (name in _ALONG) for name in RESIDUAL_CORRELATIONS] + [r"by:.+"]
)
_RESIDUAL_TEXTS = ", ".join(
    f'"{name}"' + f', "{name}(COVARIATE)"' * (name in _ALONG) for name in RESIDUAL_CORRELATIONS
)
_DF_SCHEMA = {"enum": [*DF_METHODS]}

Flag = Annotated[bool, must_be("true or false", lambda v: isinstance(v, bool))]
Text = Annotated[str, must_be("text in quotes", _is_text)]
FormulaText = Annotated[Text, AfterValidator(_check_formula)]
Name = Annotated[str, must_be(_NAME_RULE, _is_name)]
MethodName = Annotated[str, must_be(_METHOD_NAME, lambda v: _is_text(v, r"[A-Za-z0-9_.-]+"))]
EstimandName = Annotated[
    str,
    must_be("text in quotes, not empty", lambda v: _is_text(v, r"[^\r\n\ud800-\udfff]+")),
]
TargetName = Annotated[
    str,
    must_be(
        f"a measure, alone or with a parameter in parentheses: {', '.join(MEASURES)}",
        _is_target,
    ),
]


def is_factor_level(value: Any) -> bool:
    """Whether this can be a level: text without the signs that names of cells and columns have."""
    return _is_text(value, r"[^:,\[\]\r\n\ud800-\udfff]+")


FactorLevel = Annotated[str, must_be("text in quotes without : , [ ]", is_factor_level)]
FactorLevels = Annotated[
    tuple[FactorLevel, ...],
    Field(json_schema_extra={"minItems": 2}),
    must_be("a list of two or more different levels", lambda v: _is_distinct(v, 2)),
]
LevelPair = Annotated[
    tuple[FactorLevel, FactorLevel],
    must_be(
        "a list of two different levels, the first to compare with",
        lambda v: _is_distinct(v, 2) and len(v) == 2,
    ),
]
FactorPlace = Annotated[
    str | tuple[str, str],
    must_be(f'the name of a level, "{OBSERVATION}", or a list of two different names', _is_place),
]
Dealt = Annotated[str, one_of(DEALT), WithJsonSchema({"enum": [*DEALT]})]
Int = Annotated[int, BeforeValidator(int)]  # pydantic refuses 1e20, though it is a whole number
Whole = Annotated[
    Int,
    Field(ge=0),
    must_be("a whole number of at least 0", lambda v: _is_whole(v, 0)),
]
Positive = Annotated[
    Int,
    Field(ge=1),
    must_be("a whole number of at least 1", lambda v: _is_whole(v, 1)),
]
Replicates = Annotated[Positive, Field(le=MOST_REPLICATES), _at_most(MOST_REPLICATES)]
Resamples = Annotated[Positive, Field(le=MOST_RESAMPLES), _at_most(MOST_RESAMPLES)]
Count = Annotated[
    Int,
    Field(ge=1),
    must_be("a whole number of at least 1 or { uniform = [low, high] }", lambda v: _is_whole(v, 1)),
]
CountRange = Annotated[
    tuple[Int, Int],
    must_be("a list of two whole numbers of at least 1, the lower first", _is_count_range),
]
Number = Annotated[float, must_be("a number", _is_number)]
AtLeastZero = Annotated[
    float,
    Field(ge=0),
    must_be("a number of at least 0", lambda v: _is_number(v, 0)),
]
AboveZero = Annotated[
    float,
    Field(gt=0),
    must_be("a number above 0", lambda v: _is_number(v, 0) and v > 0),
]
Confidence = Annotated[
    float,
    Field(gt=0, lt=1),
    must_be("a number between 0 and 1, such as 0.95", lambda v: _is_number(v, 0, 1) and 0 < v < 1),
]
Share = Annotated[
    float,
    Field(ge=0, lt=1),
    must_be("a number of at least 0 and below 1", lambda v: _is_number(v, 0, 1) and v < 1),
]
SomeShare = Annotated[
    float,
    Field(gt=0, le=1),
    must_be("a number above 0 and at most 1", lambda v: _is_number(v, 0, 1) and v > 0),
]
Correlation = Annotated[
    float,
    Field(ge=-1, le=1),
    must_be("a number from -1 to 1", lambda v: _is_number(v, -1, 1)),
]
AboveTwo = Annotated[
    float,
    Field(gt=2),
    must_be("a number above 2, so that there is an SD", lambda v: _is_number(v, 2) and v > 2),
]
InsideOne = Annotated[
    float,
    Field(gt=-1, lt=1),
    must_be("a number above -1 and below 1", lambda v: _is_number(v) and -1 < v < 1),
]
Ends = Annotated[tuple[float, float], must_be(f"{_LIST_OF_TWO}, first and last point", _is_pair)]
Interval = Annotated[
    tuple[float, float],
    must_be(f"{_LIST_OF_TWO}, the lower first", lambda v: _is_pair(v) and v[0] < v[1]),
]
MeanAndSd = Annotated[
    tuple[float, float],
    must_be(f"{_LIST_OF_TWO}, the mean and an sd above 0", lambda v: _is_pair(v) and v[1] > 0),
]
Mixture = Annotated[
    tuple[float, float],
    must_be(
        f"{_LIST_OF_TWO}: the share of the upper group, between 0 and 1, and how many SDs it lies"
        " above the other",
        lambda v: _is_pair(v) and 0 < v[0] < 1 and v[1] >= 0,
    ),
]
# a length that pydantic checks is counted after faulty items are dropped, so it is checked here
AtLeastOne = must_be("a list of at least one table, each under double brackets", _is_list)
Points = Annotated[tuple[Number, ...], must_be("a list of at least one number", _is_list)]
SweptValues = Annotated[tuple[Any, ...], must_be("a list of at least one value", _is_list)]
Normal = Annotated[
    str,
    must_be(
        '"normal", or a table such as { t = 5 }: gamma, mixture, skew_normal or t',
        lambda v: v == "normal",
    ),
    WithJsonSchema({"const": "normal"}),
]
Estimator = Annotated[
    str,
    BeforeValidator(_check_estimator),
    WithJsonSchema({"anyOf": [{"enum": [*NAMED_ESTIMATORS]}, {"pattern": f"^{PREFIX}"}]}),
]
IntervalMethod = Annotated[str, one_of(INTERVALS), WithJsonSchema({"enum": [*INTERVALS]})]
ResidualCorrelation = Annotated[
    str, one_of(tuple(RESIDUAL_CORRELATIONS)), WithJsonSchema({"enum": [*RESIDUAL_CORRELATIONS]})
]
ResidualText = Annotated[
    str,
    must_be(
        f'{_RESIDUAL_TEXTS}, "by:FACTOR", or a table with `correlation` or `by`',
        lambda v: _is_text(v, _RESIDUAL),
    ),
    WithJsonSchema({"type": "string", "pattern": f"^({_RESIDUAL})$"}),
]
FamilyName = Annotated[str, one_of(FAMILIES), WithJsonSchema({"enum": [*FAMILIES]})]
LinkName = Annotated[str, one_of(ALL_LINKS), WithJsonSchema({"enum": [*ALL_LINKS]})]
Trials = Annotated[
    Int | str,
    must_be(
        "a whole number of at least 1, or the name of a covariate",
        lambda v: isinstance(v, str) or _is_whole(v, 1),
    ),
]
QuadraturePoints = Annotated[
    Int,
    Field(ge=1, le=MOST_POINTS),
    must_be(
        f"a whole number from 1 to {MOST_POINTS}",
        lambda v: _is_whole(v, 1) and v <= MOST_POINTS,
    ),
]
TermTest = Annotated[str, one_of(TERM_TESTS), WithJsonSchema({"enum": [*TERM_TESTS]})]
Structure = Annotated[str, one_of(STRUCTURES), WithJsonSchema({"enum": [*STRUCTURES]})]
DfMethods = Annotated[
    tuple[Annotated[str, BeforeValidator(_given_by_estimator)], ...],
    must_be("one name or a list of different names", _is_distinct),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [_DF_SCHEMA, {"type": "array", "items": _DF_SCHEMA, "minItems": 1}]}),
]


class UniformCount(Record):
    """A number of units drawn for each parent, every whole number of the range equally likely."""

    uniform: CountRange = Field(description="smallest and largest number of units")


def shape_of_count(value: object) -> str:
    """Name the alternative that a count is written in: a number, a range, or one per cell."""
    if isinstance(value, UniformCount) or (
        isinstance(value, Mapping) and list(value) == ["uniform"]
    ):
        return "<range>"  # with a second key `uniform` is a cell like the others
    return "<table>" if isinstance(value, Mapping) else "<number>"


def shape_of_design(value: object) -> str:
    """Name the alternative that a design is written in: numbers of units, or a table of rows."""
    has_table = "table" in value if isinstance(value, Mapping) else hasattr(value, "table")
    return "<rows>" if has_table else "<units>"


def shape_of_factor(value: object) -> str:
    """Name the alternative that a factor is written in: its levels alone, or a table."""
    return "<factor>" if isinstance(value, Mapping | Record) else "<levels>"


def shape_of_distribution(value: object) -> str:
    """Name the alternative that a distribution is written in: a name, or a table."""
    return "<table>" if isinstance(value, Mapping | Record) else "<name>"


def shape_of_table(value: object) -> str:
    """Name the alternative of a value that is one number or a table of numbers."""
    return "<table>" if isinstance(value, Mapping | Record) else "<number>"
