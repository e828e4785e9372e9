"""Nested tables and lists, as a scenario file gives them: copied, compared, changed."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcsim.errors import nearest_name

KeyPath = tuple[str | int, ...]
Finding = tuple[KeyPath, str]  # something wrong with a scenario: where, and a sentence


class NowhereError(KeyError):
    """A dotted key that leads nowhere; its argument is a sentence for the user."""


def canonical(value: Any) -> Any:
    """Make equal values look equal: sorted keys, lists for tuples, 25 for 25.0."""
    if isinstance(value, dict):
        # the intercept leads, as in every table of coefficients
        keys = sorted(value, key=lambda key: (key != "Intercept", key))
        return {key: canonical(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def plain_copy(value: Any) -> Any:
    """Copy tables and lists: keys are text, and no two keys share a table as aliases in YAML do."""
    if isinstance(value, dict):
        return {str(key): plain_copy(item) for key, item in value.items()}
    return [plain_copy(item) for item in value] if isinstance(value, list | tuple) else value


def flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; tables of a list go by their name, where they have one."""
    if isinstance(value, list) and value and all(map(_has_name, value)):
        yield f"{prefix}names", [item["name"] for item in value]
        value = {item["name"]: item for item in value}
    if not isinstance(value, dict) or not value:
        yield prefix.removesuffix("."), value
        return
    for key, item in value.items():
        yield from flatten(item, f"{prefix}{key}.")


def _has_name(item: Any) -> bool:
    return isinstance(item, dict) and "name" in item


def put_value(raw: dict[str, Any], key: str, value: object) -> KeyPath:
    """Put `value` at a dotted key of `raw`, and return the path to it.

    A table in a list goes by its `name` or its number; brackets and quotes protect dots.

    Raises
    ------
    NowhereError
        Where the key leads nowhere.
    """
    here: Any = raw
    path: list[str | int] = []
    pieces = _split_key(key)
    while pieces:
        place, n = _place(here, pieces)
        path.append(place)
        pieces = pieces[n:]
        if not pieces:
            here[place] = value
        else:
            here = here.setdefault(place, {}) if isinstance(here, dict) else here[place]
    return tuple(path)


def _split_key(key: str) -> list[str]:
    inside = r'"[^"]*"|`[^`]*`|\[[^\]]*\]|\([^)]*\)|[^.]'
    pieces = re.findall(rf"((?:{inside})*)(?:\.|$)", key)
    pieces = pieces if key[-1:] in ("", ".") else pieces[:-1]  # then the end matches once more
    return [piece[1:-1] if re.fullmatch(r'"[^"]*"', piece) else piece for piece in pieces]


def _place(here: Any, pieces: list[str]) -> tuple[str | int, int]:
    """Where the first pieces lead, and how many they are: a name may have dots."""
    items = here if isinstance(here, list) else []
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    for n in range(len(pieces), 0, -1):
        name = ".".join(pieces[:n])
        if isinstance(here, dict) and name in here:
            return name, n
        if name in names:
            return names.index(name), n
    piece = pieces[0]
    if isinstance(here, dict):
        return piece, 1
    if piece.isdecimal() and int(piece) < len(items):
        return int(piece), 1
    texts = [name for name in names if isinstance(name, str)]
    found = f"There are: {', '.join(texts)}." if texts else "Nothing lies below it."
    raise NowhereError(f"the key leads nowhere at {piece!r}. {found}{nearest_name(piece, texts)}")


def expand_sweep(raw: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the swept values of each condition, and the scenario with them and without a sweep.

    Tables at the top in which nothing is swept are those of `raw`, not copies.

    Raises
    ------
    NowhereError
        Where a swept key leads nowhere, as after another one has changed what lies above it.
    """
    sweep = raw.get("sweep", {})
    kept = {key: value for key, value in raw.items() if key != "sweep"}
    changed = {_split_key(key)[0] for key in sweep} & kept.keys()
    for combination in itertools.product(*sweep.values()):
        values = dict(zip(sweep, combination, strict=True))
        swept = kept | {key: plain_copy(kept[key]) for key in changed}
        for key, value in values.items():
            put_value(swept, key, plain_copy(value))
        yield values, swept
