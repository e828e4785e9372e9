"""What is wrong with a scenario: every mistake at once, as a key path and a sentence.

`find_problems` is the door. Field checks come from the records of scenario.py; the other functions
each look at one part and read only what they need, so that one mistake does not hide another.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula import Formula, parse_formula, split_column, variable_names
from mcsim.scenario import (
    CovariateSpec,
    DesignNames,
    KeyPath,
    ObservationsSpec,
    RandomSpec,
    Scenario,
    canonical,
    conditions,
    expand_sweep,
    put_value,
    plain_copy,
    show_value,
    split_pair,
)

Finding = tuple[KeyPath, str]
T = TypeVar("T")

MAX_CONDITIONS = 10_000  # more is a slip of the pen: each is a row of every table
SINGULAR = -1e-10  # rounding of the smallest eigenvalue of a matrix of correlations

_SHAPES = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "too_short": "must hold at least one table",
}


def find_problems(raw: Mapping[str, Any]) -> list[Finding]:
    """Return every mistake of a scenario as read from its file; none means that it can be run."""
    found = [*_field_problems(raw), *_part_problems(raw)]
    return found + list(_sweep_problems(raw, set(found)))


def _part_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _unique_method_names(raw)
    names = _read(DesignNames, raw.get("design"))
    if names is not None:
        yield from _name_problems(names)
        yield from _count_problems(raw, names)
        yield from _truth_problems(raw, names)
        yield from _method_problems(raw, names)
    yield from _covariate_problems(raw, names)
    yield from _random_problems(raw)


def _field_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        Scenario.model_validate(raw)
    except ValidationError as error:
        yield from (_plain(detail, raw) for detail in error.errors())


def _plain(error: ErrorDetails, raw: Mapping[str, Any]) -> Finding:
    # the last two are marks of pydantic: an alternative of a union, the key of a table
    path = tuple(p for p in error["loc"] if not re.fullmatch(r"<\w+>|\[key\]", str(p)))
    record = _record_at(path[:-1])
    if error["type"] == "extra_forbidden":
        return path, _unknown(f"key {path[-1]!r}", record.model_fields, "Allowed here")
    if error["type"] == "missing":
        where = _dotted(path[:-1], raw) or "the scenario"
        meaning = record.model_fields[str(path[-1])].description
        return path[:-1], f"the key {path[-1]!r} is missing in {where}. It holds: {meaning}"
    rule = _SHAPES.get(error["type"]) or str(error["ctx"]["error"])
    if error["loc"][-1] == "[key]":
        return path, f"the name {path[-1]!r} {rule}"
    return path, f"{_dotted(path, raw)} is {_short(error['input'])}; it {rule}"
