"""Scenario files: TOML or YAML text to a validated scenario, and a scenario back to TOML."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mcsim.checks import find_problems
from mcsim.errors import Problem, ScenarioError, nearest_name
from mcsim.positions import Positions, toml_positions, yaml_positions
from mcsim.scenario import Scenario, plain_copy, put_value

SUFFIXES = (".toml", ".yaml", ".yml")


def load_scenario(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    replicates: int | None = None,
    seed: int | None = None,
) -> Scenario:
    """Read, change as the options say, and validate a scenario.

    Parameters
    ----------
    overrides : `KEY=VALUE` each, the key dotted, the value as in TOML

    Raises
    ------
    ScenarioError
        With every problem of the file and the options.
    """
    name = str(path)
    raw, positions = _read(Path(path), name)
    options: dict[tuple[str | int, ...], str] = {}
    for override in overrides:
        options[_override(raw, override)] = f"--set {override.partition('=')[0]}"
    for key, value in (("replicates", replicates), ("seed", seed)):
        if value is not None:
            raw[key] = value
            options[key,] = f"--{key}" if key == "seed" else "-n"
    problems = []
    for key_path, message in find_problems(raw):
        option = next((options[key_path[:end]] for end in range(len(key_path), 0, -1)
                       if key_path[:end] in options), None)  # fmt: skip
        line, column = (0, 0) if option else positions.of(key_path)
        problems.append(Problem(option or name, line, column, message))
    if problems:
        raise ScenarioError(problems)
    return Scenario.model_validate(raw)


def _read(path: Path, name: str) -> tuple[dict[str, Any], Positions]:
    if path.suffix not in SUFFIXES:
        raise _refusal(name, f"a scenario ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [str(other) for other in path.parent.glob("*") if other.suffix in SUFFIXES]
        raise _refusal(name, f"there is no such file.{nearest_name(name, near)}") from None
    except UnicodeDecodeError:
        raise _refusal(name, "the file is not text in UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise _refusal(name, f"the file cannot be read: {error.strerror}") from None
    raw, positions = _parse_toml(text, name) if path.suffix == ".toml" else _parse_yaml(text, name)
    return raw, positions


def _refusal(name: str, message: str, line: int = 0, column: int = 0) -> ScenarioError:
    return ScenarioError([Problem(name, line, column, message)])


def _parse_toml(text: str, name: str) -> tuple[dict[str, Any], Positions]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.match(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
        message, line, column = found.groups() if found else (str(error), None, None)
        last_line = text.count("\n") + 1
        raise _refusal(
            name, f"this is not TOML: {message}", int(line or last_line), int(column or 1)
        ) from None
    return raw, toml_positions(text)


def _parse_yaml(text: str, name: str) -> tuple[dict[str, Any], Positions]:
    try:
        raw = yaml.safe_load(text)
        positions, repeated = yaml_positions(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = str(error.problem)
        if "'\\t'" in message:
            message = "indented with a tab; YAML wants spaces"
        raise _refusal(name, f"this is not YAML: {message}", line, column) from None
    except yaml.YAMLError as error:
        raise _refusal(name, f"this is not YAML: {error}".splitlines()[0]) from None
    if repeated:
        raise ScenarioError(
            [
                Problem(name, line, column, f"the key {key!r} stands twice in one table")
                for key, line, column in repeated
            ]
        )
    if not isinstance(raw, dict):
        raise _refusal(
            name, "the file holds no keys; see `mcsim init` for a scenario to start from"
        )
    return plain_copy(raw), positions


def _override(raw: dict[str, Any], override: str) -> tuple[str | int, ...]:
    """Put one `KEY=VALUE` into `raw`; returns the path of the key."""
    key, equals, text = override.partition("=")
    where = f"--set {key}"
    if not equals:
        raise _refusal(where, "write --set KEY=VALUE, such as --set truth.sigma=0.1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    try:
        return put_value(raw, key, value)
    except (KeyError, ValueError) as error:
        raise _refusal(where, str(error.args[0])) from None


def dump_scenario(scenario: Scenario) -> str:
    """TOML text of the scenario, every default visible; loads back to an equal scenario."""
    raw = scenario.model_dump(mode="json", exclude_none=True)
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
            yield f"{_key(key)} = {_value(value)}"
    for key, value in nested.items():
        name = ".".join(map(_key, (*path, key)))
        for item in value if isinstance(value, list) else [value]:
            yield ""
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from _tables(item, (*path, key))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
