"""A scenario as far as it can be read, and what its records say of the rest.

A faulty scenario is read a second time, by records that have None in the place of every value that
is faulty or missing, so that one mistake does not hide the next.
"""

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    create_model,
)
from pydantic import WrapValidator as Wrap
from pydantic_core import ErrorDetails, PydanticUndefined

from mcsim.errors import nearest_name
from mcsim.scenario.checks.columns import Finding, unknown
from mcsim.scenario.keys import KeyPath, show_value
from mcsim.scenario.records import DesignNames, DesignSpec, Scenario
from mcsim.scenario.truth import TruthSpec
from mcsim.scenario.values import Record

LONGEST = 60  # characters of a value in a message
_SHAPES = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
}


class _Data(Record):
    """What a sweep can change."""

    model_config = ConfigDict(extra="ignore")

    design: DesignSpec
    truth: TruthSpec


@dataclass(frozen=True)
class Draft:
    """A scenario as far as it can be read.

    scenario : with None in the place of each value that is faulty or missing, whatever its type
    names : of the design, or None where one of them is faulty
    faults : paths of what is faulty; findings : the same as sentences
    """

    scenario: Scenario
    names: DesignNames | None
    faults: tuple[KeyPath, ...] = ()
    findings: tuple[Finding, ...] = ()

    def is_sound(self, *path: str | int) -> bool:
        """Whether nothing is faulty at a path, above it or below it."""
        depths = (min(len(path), len(fault)) for fault in self.faults)
        return all(f[:n] != path[:n] for f, n in zip(self.faults, depths, strict=True))


def read_scenario(raw: Mapping[str, Any]) -> Draft:
    """What can be read of a scenario."""
    try:
        scenario = Scenario.model_validate(raw)
    except ValidationError as error:
        return Draft(_lenient(Scenario).model_validate(raw), _names(raw), *_faults(error, raw))
    return Draft(scenario, scenario.design)


def read_condition(raw: Mapping[str, Any], draft: Draft) -> Draft:
    """The draft with the design and the truth of `raw`, which alone are read again."""
    try:
        data = _Data.model_validate(raw)
    except ValidationError as error:
        data = _lenient(_Data).model_validate(raw)
        return Draft(_with(draft, data), _names(raw), *_faults(error, raw))
    return Draft(_with(draft, data), data.design)


def _with(draft: Draft, data: _Data) -> Scenario:
    return draft.scenario.model_copy(update={"design": data.design, "truth": data.truth})


def _names(raw: Mapping[str, Any]) -> DesignNames | None:
    try:
        return DesignNames.model_validate(raw.get("design"))
    except ValidationError:
        return None


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
    kwargs = {"extra": "ignore"}
    return create_model(record.__name__, __base__=record, __cls_kwargs__=kwargs, **fields)


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
        return types.GenericAlias(dict, (parts[0], _or_none(_lenient_kind(parts[1]))))
    if origin is tuple and parts[-1] is ...:
        return types.GenericAlias(tuple, (_or_none(_lenient_kind(parts[0])), ...))
    return kind


def _or_none(kind: Any, *metadata: Any) -> Any:
    return Annotated[Annotated[kind, *metadata] if metadata else kind, Wrap(_none_if_faulty)]


def _none_if_faulty(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _faults(
    error: ValidationError, raw: Mapping[str, Any]
) -> tuple[tuple[KeyPath, ...], tuple[Finding, ...]]:
    """Paths of what is faulty, and the sentences."""
    errors = [it for it in error.errors() if it["type"] != "default_factory_not_called"]
    findings = (_plain(it, raw) for it in errors if not _is_misspelt(it, errors))
    return tuple(map(_path_of, errors)), tuple(findings)


def _path_of(error: ErrorDetails) -> KeyPath:
    # these are no keys: the alternative of a union that was tried, and the mark of a bad key
    return tuple(piece for piece in error["loc"] if not re.fullmatch(r"<\w+>|\[key\]", str(piece)))


def _is_misspelt(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Whether a key is missing whose name an unknown key beside it nearly has."""
    *table, missing = error["loc"]
    unknown = (list(it["loc"]) for it in errors if it["type"] == "extra_forbidden")
    beside = (path[-1] for path in unknown if path[:-1] == table)
    found = any(nearest_name(str(name), [str(missing)]) for name in beside)
    return found and error["type"] == "missing"


def _plain(error: ErrorDetails, raw: Mapping[str, Any]) -> Finding:
    path = _path_of(error)
    fields = _record_at(path[:-1]).model_fields
    if error["type"] == "extra_forbidden":
        return path, unknown("key", path[-1], sorted(fields), "Allowed here")
    if error["type"] == "missing":
        where = _dotted(path[:-1], raw) or "the scenario"
        meaning = fields[str(path[-1])].description
        return path[:-1], f"missing key {path[-1]!r} in {where}; add it: {meaning}"
    rule = _SHAPES.get(error["type"]) or str(error["ctx"]["error"])
    if error["loc"][-1] == "[key]":
        return path, f"the name {path[-1]!r} {rule}"
    if not rule.startswith("must "):
        return path, rule
    return path, f"{_dotted(path, raw)} is {_short(error['input'])}; it {rule}"


def _record_at(path: KeyPath) -> type[BaseModel]:
    """Record that describes the table at `path`; free names and numbers stay at the same one."""
    record: type[BaseModel] = Scenario
    for piece in path:
        field = record.model_fields.get(str(piece))
        record = next(_records_in(field.annotation), record) if field else record
    return record


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _records_in(part)


def _dotted(path: KeyPath, raw: object) -> str:
    """Path as a swept key would write it: tables of a list by their name."""
    pieces: list[str] = []
    for piece in path:
        try:
            raw = raw[piece]  # type: ignore[index]
        except (TypeError, LookupError):
            raw = None
        name = raw.get("name") if isinstance(piece, int) and isinstance(raw, Mapping) else piece
        pieces.append(name if isinstance(name, str) else str(piece))
    return ".".join(pieces)


def _short(value: object) -> str:
    text = show_value(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
