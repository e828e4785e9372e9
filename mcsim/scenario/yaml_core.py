"""Plain values of YAML by the core schema of YAML 1.2: 010 is ten, 20:30 and yes are text."""

import re
from collections.abc import Callable
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
_BOOLS = {"true": True, "false": False}


class CoreLoader(yaml.SafeLoader):
    """Reads what JSON has, and merges of tables; other tags, as that of dates, are refused."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the base has it
    yaml_constructors = {  # noqa: RUF012 - as the base has it
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag in (None, *(TAG + kind for kind in ("null", "str", "seq", "map")))
    }


def _read_bool(text: str) -> bool:
    return _BOOLS[text.lower()]


def _read_int(text: str) -> int:
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def _read_float(text: str) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


def _constructor(kind: str, read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        text = str(loader.construct_scalar(node))
        try:
            return read(text)
        except (ValueError, KeyError):
            found = f"{text[:40]!r} cannot be read as {kind}"
            raise yaml.constructor.ConstructorError(None, None, found, node.start_mark) from None

    return construct


_KINDS: tuple[tuple[str, str, Callable[[str], Any] | None], ...] = (  # YAML 1.2.2, 10.3.2
    ("null", r"~|null|Null|NULL|", None),
    ("bool", r"true|True|TRUE|false|False|FALSE", _read_bool),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _read_int),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        _read_float,
    ),
    ("merge", "<<", None),
)
for _kind, _pattern, _read in _KINDS:
    CoreLoader.add_implicit_resolver(TAG + _kind, re.compile(f"({_pattern})$"), None)
    if _read is not None:
        CoreLoader.add_constructor(TAG + _kind, _constructor(_kind, _read))
