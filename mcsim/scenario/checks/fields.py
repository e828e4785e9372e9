"""What the records say of their own fields, as sentences with the path of a key."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from mcsim.errors import nearest_name
from mcsim.names import show_value
from mcsim.scenario.checks.columns import unknown
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.records import Scenario

LONGEST = 60  # characters of a value in a message
_SHAPES = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list of tables, each under double brackets",
}


def field_problems(error: ValidationError, raw: Mapping[str, Any]) -> Iterator[Finding]:
    """What the records say of their own fields."""
    errors = [it for it in error.errors() if it["type"] != "default_factory_not_called"]
    return (_plain(it, raw) for it in errors if not _is_misspelt(it, errors))


def path_of(error: ErrorDetails) -> KeyPath:
    """Where a value is faulty."""
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
    path = path_of(error)
    fields = _record_at(error["loc"][:-1]).model_fields
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


def _record_at(place: tuple[int | str, ...]) -> type[BaseModel]:
    """Record that describes the table at a place; free names and numbers stay at the same one."""
    record: type[BaseModel] = Scenario
    for piece, following in itertools.zip_longest(place, place[1:]):
        field = record.model_fields.get(str(piece))
        record = next(_records_in(field.annotation, following), record) if field else record
    return record


def _records_in(annotation: Any, tag: object) -> Iterator[type[BaseModel]]:
    """The records in a type, that of the alternative with this tag first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    parts = get_args(annotation)
    for part in sorted(parts, key=lambda one: Tag(str(tag)) not in get_args(one)):
        yield from _records_in(part, tag)


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
