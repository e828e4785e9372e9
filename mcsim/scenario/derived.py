"""Quantities made of several variances: total.sd(COLUMN), total.var(COLUMN), LEVEL.icc."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from mcsim.formula import same_column

Value = TypeVar("Value", float, Any)  # a number, or an array of them


class DerivedParts(NamedTuple):
    """What the name of a derived quantity says; level is `total` for sums over the levels."""

    level: str
    kind: str
    column: str


def derived_parts(name: str) -> DerivedParts | None:
    """Read total.sd(COLUMN), total.var(COLUMN) or LEVEL.icc; None for another name."""
    total = re.fullmatch(r"total\.(sd|var)\((.+)\)", name)
    share = re.fullmatch(r"(\w+)\.icc", name)
    if total is not None:
        return DerivedParts("total", total[1], total[2])
    return None if share is None else DerivedParts(share[1], "icc", "Intercept")


def derived_names(levels: Sequence[str]) -> list[str]:
    """Names of derived quantities, for a message."""
    return ["total.sd(COLUMN)", "total.var(COLUMN)", *(f"{level}.icc" for level in levels)]


def derived_value(name: str, values: Mapping[str, Value]) -> Value:
    """A derived quantity from the standard deviations in `values`, LEVEL.sd(COLUMN) and sigma."""
    parts = derived_parts(name)
    assert parts is not None
    found = [re.fullmatch(r"(\w+)\.sd\((.+)\)", key) for key in values]
    variances = {
        match[1]: values[match[0]] ** 2
        for match in found
        if match and same_column(match[2]) == same_column(parts.column)
    }
    total = sum(variances.values())
    if parts.kind == "icc":
        return variances.get(parts.level, 0.0 * total) / (total + values["sigma"] ** 2)
    return total**0.5 if parts.kind == "sd" else total
