"""What is wrong with names of columns, variables and levels, given what a design can make."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula import same_column, split_column, variable_names
from mcsim.nested import KeyPath
from mcsim.scenario import DesignNames

Finding = tuple[KeyPath, str]

_CALL = re.compile(r"([A-Za-z]\w*\(.*\))(\[[^\]]*\])?")


def columns_problems(
    path: KeyPath, columns: Iterable[str], names: DesignNames
) -> Iterator[Finding]:
    """Columns of a table that the design cannot make, or that stand there twice."""
    earlier: dict[str, str] = {}
    for column in columns:
        twin = earlier.setdefault(same_column(column), column)
        if twin != column:
            yield (*path, column), f"{column!r} is the column {twin!r} once more; leave one out"
        for message in _column_problems(column, names):
            yield (*path, column), message


def _column_problems(column: str, names: DesignNames) -> Iterator[str]:
    """Why the design cannot make a column named as the formula library names it."""
    if column == "Intercept":
        return
    printed = [f"{f}[T.{level}]" for f, levels in names.factors.items() for level in levels[1:]]
    full = {f"{f}[{level}]" for f, levels in names.factors.items() for level in levels}
    for piece in split_column(column) or ("",):
        call = _CALL.fullmatch(piece)
        if call:
            yield from _call_problems(call[1], names)
        elif piece not in {*printed, *full, *names.covariates}:
            known = ["Intercept", *names.covariates, *printed]
            hint = "The design makes these, and their products with ':'"
            yield unknown("column", piece, known, hint)


def _call_problems(call: str, names: DesignNames) -> Iterator[str]:
    try:
        variables = variable_names(call)
    except FormulaError as error:
        yield str(error)
        return
    yield from variable_problems(variables, names)


def variable_problems(variables: Iterable[str], names: DesignNames) -> Iterator[str]:
    """Names that are neither factor nor covariate."""
    known = [*names.factors, *names.covariates]
    for name in variables:
        if name not in known:
            yield unknown("variable", name, known, "The design has")


def unknown_level(level: str, where: str, names: DesignNames) -> str:
    """Say that the design has no such level."""
    return unknown("level", level, names.level_names, "The design has", f" in {where}")


def unknown(kind: str, name: object, allowed: Iterable[str], heading: str, where: str = "") -> str:
    """Say that a name is not known, what is allowed, and what was probably meant."""
    known = list(allowed)
    near = nearest_name(str(name), known)
    return f"unknown {kind} {name!r}{where}. {heading}: {', '.join(known) or 'none'}.{near}"


def table_of(value: object) -> Mapping[str, Any]:
    """The table itself; an empty one in the place of anything else."""
    return value if isinstance(value, Mapping) else {}


def list_of(value: object) -> list[Any]:
    """Items of a list; none of anything else."""
    return list(value) if isinstance(value, list | tuple) else []


def read_as(kind: Any, raw: object) -> Any:
    """Return `raw` as `kind`, or None where the field checks have something to say about it."""
    try:
        return _adapter(kind).validate_python(raw)
    except ValidationError:
        return None


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
