"""A scenario: frozen records of the file, checks across its parts, sweep and identities.

Knows neither files nor lines: a mistake is a key path and a sentence, and loading.py finds the line.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar, get_args

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula import (
    FORMULA_FUNCTIONS,
    Formula,
    is_name,
    parse_formula,
    split_column,
    variable_names,
)

KeyPath = tuple[str | int, ...]
Finding = tuple[KeyPath, str]
T = TypeVar("T")

ESTIMATORS = ("reml", "ml", "statsmodels")
DF_METHODS = ("containment", "z")
RESERVED_NAMES = ("Intercept", "fixed", "residual", "sigma", "total", *FORMULA_FUNCTIONS)
MAX_CONDITIONS = 10_000  # more is a slip of the pen: each has a row in every table


def _must_be(rule: str, accepts: Callable[[Any], bool]) -> BeforeValidator:
    """Complete the sentence `key is value; it must be ...` for every value not accepted."""

    def check(value: Any) -> Any:
        if not accepts(value):
            raise ValueError(f"must be {rule}")
        return value

    return BeforeValidator(check)


def _is_number(value: object, low: float = -math.inf) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= value and abs(value) < 1e300  # type: ignore[operator,arg-type]


def _is_whole(value: Any, low: int) -> bool:
    return _is_number(value, low) and int(value) == value


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


def _is_distinct(value: Any) -> bool:
    return _is_list(value) and len({str(item) for item in value}) == len(value)


def _is_pair(value: Any, *, increasing: bool = False) -> bool:
    numbers = _is_list(value) and len(value) == 2 and all(map(_is_number, value))
    return numbers and (value[0] < value[1] or not increasing)


def _is_count_range(value: Any) -> bool:
    return _is_pair(value) and all(_is_whole(item, 1) for item in value) and value[0] <= value[1]


def _one_of(allowed: tuple[str, ...]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value not in allowed:
            names = ", ".join(sorted(allowed))
            raise ValueError(f"must be one of: {names}.{nearest_name(str(value), allowed)}")
        return value

    return BeforeValidator(check)


def _shape(value: object) -> str:
    if isinstance(value, UniformCount) or (isinstance(value, Mapping) and "uniform" in value):
        return "<uniform>"
    return "<table>" if isinstance(value, Mapping) else "<number>"


def _shape_of_range(value: object) -> str:
    return "<uniform>" if isinstance(value, Mapping | UniformCount) else "<number>"


Text = Annotated[str, _must_be("text; put it in quotes", lambda value: isinstance(value, str))]
Name = Annotated[
    str,
    Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$"),
    _must_be(
        "a name of letters, digits and _, other than a word of Python and "
        + ", ".join(sorted(RESERVED_NAMES)),
        lambda value: isinstance(value, str) and is_name(value) and value not in RESERVED_NAMES,
    ),
]
FactorLevel = Annotated[
    str,
    _must_be(
        "text in quotes, without : , [ or ]",
        lambda value: isinstance(value, str) and re.fullmatch(r"[^:,\[\]\s][^:,\[\]\n]*", value),
    ),
]
FactorLevels = Annotated[
    tuple[FactorLevel, ...],
    Field(min_length=2),
    _must_be("a list of two or more different levels", lambda v: _is_distinct(v) and len(v) > 1),
]
Whole = Annotated[
    int,
    Field(ge=0),
    _must_be("a whole number of at least 0", lambda value: _is_whole(value, 0)),
]
Positive = Annotated[
    int,
    Field(ge=1),
    _must_be("a whole number of at least 1", lambda value: _is_whole(value, 1)),
]
Number = Annotated[float, _must_be("a number", _is_number)]
Spread = Annotated[
    float, Field(ge=0), _must_be("a number of at least 0", lambda value: _is_number(value, 0))
]
AboveZero = Annotated[
    float,
    Field(gt=0),
    _must_be("a number above 0", lambda value: _is_number(value, 0) and value > 0),
]
Share = Annotated[
    float,
    Field(gt=0, lt=1),
    _must_be("a number between 0 and 1", lambda value: _is_number(value, 0) and 0 < value < 1),
]
Correlation = Annotated[
    float,
    Field(ge=-1, le=1),
    _must_be("a number from -1 to 1", lambda value: _is_number(value, -1) and value <= 1),
]


class Record(BaseModel):
    """One table of the file: cannot be changed, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
