"""A scenario as far as it can be read.

A faulty scenario is read a second time, by records that have None in the place of every value that
is faulty or missing, so that one mistake does not hide the next.
"""

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticUndefined

from mcsim.scenario.checks.fields import field_problems, path_of
from mcsim.scenario.design import Design, DesignNames, TableDesignSpec
from mcsim.scenario.design_table import DesignTable, TableColumns
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.records import Scenario
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.values import Record, shape_of_design

Tables = Mapping[str, DesignTable]
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Draft:
    """A scenario as far as it can be read.

    scenario : with None in the place of each value that is faulty or missing, whatever its type
    names : of the design; None where one of them is faulty
    faulty : paths at which or below which something is faulty; findings : what, as sentences
    tables : that designs name, as far as they can be read
    """

    scenario: Scenario
    names: DesignNames | None
    faulty: frozenset[KeyPath]
    findings: tuple[Finding, ...]
    tables: Tables


class _Data(Record):
    """What a sweep can change."""

    model_config = ConfigDict(extra="ignore")

    design: Design
    truth: StatedTruth


def read_scenario(raw: Mapping[str, Any], tables: Tables | None = None) -> Draft:
    """What can be read of a scenario."""
    tables = tables or {}
    scenario, names, faulty, findings = _read(Scenario, raw, tables)
    return Draft(scenario, names, faulty, findings, tables)


def read_condition(raw: Mapping[str, Any], draft: Draft) -> Draft:
    """The draft with the design and the truth of `raw`, which alone are read again."""
    data, names, faulty, findings = _read(_Data, raw, draft.tables)
    faulty |= {path for path in draft.faulty if path and path[0] not in _Data.model_fields}
    scenario = draft.scenario.model_copy(update=vars(data))
    return Draft(scenario, names, faulty, findings, draft.tables)


def numbered(records: Iterable[R | None] | None) -> dict[int, R]:
    """The records of a list that can be read, by position."""
    return {number: one for number, one in enumerate(records or ()) if one is not None}


def _read(record: type[BaseModel], raw: Mapping[str, Any], tables: Tables) -> tuple[Any, ...]:
    """The record as far as it can be read, with what else a draft holds."""
    try:
        sound: Any = record.model_validate(raw)
    except ValidationError as error:
        paths = [path_of(one) for one in error.errors()]
        faulty = frozenset(path[:depth] for path in paths for depth in range(len(path) + 1))
        findings = tuple(field_problems(error, raw))
        names = _names(raw.get("design"), tables)
        return _lenient(record).model_validate(raw), names, faulty, findings
    is_table = isinstance(sound.design, TableDesignSpec)
    names = names_of_table(sound.design, tables) if is_table else sound.design
    return sound, names, frozenset(), ()


def _names(raw: object, tables: Tables) -> DesignNames | None:
    try:
        if shape_of_design(raw) == "<rows>":
            return names_of_table(TableDesignSpec.model_validate(raw), tables)
        return DesignNames.model_validate(raw)
    except ValidationError:
        return None


def columns_of(design: TableDesignSpec, tables: Tables) -> TableColumns:
    """The columns of a design's table, which is there."""
    table = tables[design.table]
    return table.columns(design.level_names, design.factor_levels, design.crossed_levels)


def names_of_table(design: TableDesignSpec, tables: Tables) -> DesignNames | None:
    """The names that a table gives to the parts of a design, those of unusable columns too.

    None where there is no such table, or it lacks a level.
    """
    if design.table not in tables:
        return None
    columns = columns_of(design, tables)
    if design.level_names != tuple(columns.units):
        return None
    factors = {name: tuple(one.cat.categories) for name, one in columns.factors.items()}
    covariates = dict.fromkeys([*columns.covariates, *columns.unusable])
    for known in (factors, covariates):  # what is simulated takes the place of what was measured
        known.pop(design.response, None)
    return DesignNames.model_construct(
        response=design.response, factors=factors, levels=design.levels, covariates=covariates
    )


@lru_cache
def _lenient(record: type[BaseModel]) -> Any:
    """The record without unknown keys, and with None for each value that is faulty or missing."""
    fields: dict[str, Any] = {
        name: (
            _or_none(_lenient_kind(field.annotation), *field.metadata),
            None if field.default is PydanticUndefined else field.default,
        )
        for name, field in record.model_fields.items()
    }
    return create_model(
        record.__name__, __base__=record, __cls_kwargs__={"extra": "ignore"}, **fields
    )


def _lenient_kind(kind: Any) -> Any:
    """The type with lenient records, and None for faulty items of lists and tables."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _lenient(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[_lenient_kind(parts[0]), *parts[1:]]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_lenient_kind, parts))]  # noqa: UP007 - of a computed tuple
    if origin is dict:
        return types.GenericAlias(dict, (str, _or_none(_lenient_kind(parts[1]))))
    if origin is tuple and parts[-1] is ...:
        return types.GenericAlias(tuple, (_or_none(_lenient_kind(parts[0])), ...))
    return kind


def _or_none(kind: Any, *metadata: Any) -> Any:
    return Annotated[kind, *metadata, WrapValidator(_none_if_faulty)]


def _none_if_faulty(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None
