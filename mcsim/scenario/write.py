"""A scenario as TOML text."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcsim.scenario.design_table import places_of_tables
from mcsim.scenario.records import Scenario


def dump_scenario(
    scenario: Scenario, *, with_defaults: bool = True, tables_in: str | None = None
) -> str:
    """TOML text of the scenario; loads back to an equal scenario.

    Parameters
    ----------
    tables_in : folder beside the file that its tables lie in
    """
    raw = scenario.model_dump(mode="json", exclude_none=True, exclude_defaults=not with_defaults)
    if tables_in is not None:
        for holder, key, _ in places_of_tables(raw):
            holder[key] = f"{tables_in}/{holder[key]}"
    return "\n".join(_tables(raw, ())) + "\n"


def _tables(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Plain keys first, then tables and arrays of tables under their headers."""
    nested = {}
    for key, value in table.items():
        if (isinstance(value, dict) and len(path) < 2 and path != ("design", "factors")) or (
            isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
        ):
            nested[key] = value
        else:
            yield f"{toml_key(key)} = {_value(value)}"
    for key, value in nested.items():
        name = ".".join(map(toml_key, (*path, key)))
        for item in value if isinstance(value, list) else [value]:
            yield ""
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from _tables(item, (*path, key))


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for one control character that JSON leaves as it is
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
