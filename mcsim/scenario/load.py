"""Scenario files: TOML or YAML text to a validated scenario."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mcsim.errors import Problem, ScenarioError, nearest_name
from mcsim.scenario.checks import find_problems
from mcsim.scenario.design_table import read_design_tables
from mcsim.scenario.keys import KeyPath, plain_copy, put_value
from mcsim.scenario.locations import Positions, n_repeated, toml_positions, yaml_positions
from mcsim.scenario.records import Scenario
from mcsim.scenario.yaml_core import CoreLoader

SUFFIXES = (".toml", ".yaml", ".yml")
MAX_REPEATED = 10_000  # entries that aliases of YAML may add: far more than any study needs
_QUOTED = "a name with other signs than letters, digits, _ and - stands in quotes"
_NO_END = "text that begins with a quote has no end"
TWICE = r"Cannot declare \((.*)\) twice"  # tomllib's message
TOML_IN_WORDS = {  # of tomllib's messages; any other is shown as it is
    "Cannot overwrite a value": "a key stands twice in one table",
    "Expected '=' after a key in a key/value pair": f"a key without = and a value; {_QUOTED}",
    "Expected ']' at the end of a table declaration": f"a table's name without its ]; {_QUOTED}",
    "Expected newline or end of document after a statement": "a value ends here, but more follows:"
    " one key in a line, 0.5 and not 0,5, a share and not a percentage",
    "Invalid initial character for a key part": f"a key must stand here; {_QUOTED}, and a table in"
    " braces stays in one line",
    "Invalid statement": "a line must be `key = value`, or a table's name in brackets",
    "Invalid value": "no value; numbers are written 0.5, text stands in quotes",
    "Unclosed array": "a list that begins with [ has no ]",
    "Unclosed inline table": "a table that begins with { has no }",
    "Unterminated string": _NO_END,
    "Illegal character '\\n'": _NO_END,
    'Expected "\'"': _NO_END,
}


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
    raw, positions = _read(Path(path), str(path))
    problems: list[Problem] = []
    options: dict[KeyPath, str] = {}
    for override in overrides:
        try:
            options[_override(raw, override)] = _option(override)
        except KeyError as error:
            problems.append(Problem(_option(override), 0, 0, error.args[0]))
    for key, value, option in (("replicates", replicates, "-n"), ("seed", seed, "--seed")):
        if value is not None:
            raw[key] = value
            options[key,] = option
    tables, unread = read_design_tables(raw, Path(path).parent)
    for key_path, message in [*unread, *find_problems(raw, tables)]:
        source = _option_at(key_path, options, positions)
        place = (source, 0, 0) if source else (str(path), *positions.of(key_path))
        problems.append(Problem(*place, message))
    if problems:
        raise ScenarioError(problems)
    return Scenario.model_validate(raw).with_tables(tables)


def _option(override: str) -> str:
    return f"--set {override.partition('=')[0].strip()}"


def _override(raw: dict[str, Any], override: str) -> KeyPath:
    """Put one `KEY=VALUE` into `raw`, and return the path of the key."""
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals:
        raise KeyError("write --set KEY=VALUE, such as --set truth.sigma=0.1")
    sweep = raw.get("sweep")
    if isinstance(sweep, dict) and key in sweep:
        instead = f"--set 'sweep.\"{key}\"=[...]'"
        raise KeyError(f"the sweep gives this key its values; change them with {instead}")
    return put_value(raw, key, _option_value(text))


def _option_value(text: str) -> object:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # the first also for numbers of thousands of digits
        return text
    return table["value"] if len(table) == 1 else text


def _option_at(path: KeyPath, options: Mapping[KeyPath, str], positions: Positions) -> str:
    """Option that put `path` there: it set the path, a table around it, or all that lies in it."""
    for changed, option in options.items():
        if path[: len(changed)] == changed:
            return option
        if path and path == changed[: len(path)] and path not in positions.places:
            return option
    return ""


def _read(path: Path, name: str) -> tuple[dict[str, Any], Positions]:
    if path.suffix not in SUFFIXES:
        raise _refusal(name, f"a scenario ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark first
        return _parse_toml(text, name) if path.suffix == ".toml" else _parse_yaml(text, name)
    except FileNotFoundError:
        near = [str(other) for other in path.parent.glob("*") if other.suffix in SUFFIXES]
        raise _refusal(name, f"there is no such file.{nearest_name(name, near)}") from None
    except UnicodeDecodeError:
        raise _refusal(name, "the file is not text in UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise _refusal(name, f"the file cannot be read: {error.strerror}") from None
    except RecursionError:
        raise _refusal(name, "tables and lists lie too deep within each other") from None


def _refusal(name: str, message: str, line: int = 0, column: int = 0) -> ScenarioError:
    return ScenarioError([Problem(name, line, column, message)])


def _parse_toml(text: str, name: str) -> tuple[dict[str, Any], Positions]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.match(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
        message, line, column = found.groups() if found else (str(error), None, None)
        place = (int(line or text.count("\n") + 1), int(column or 1))
        words = TOML_IN_WORDS.get(message, re.sub(TWICE, _twice, message))
        raise _refusal(name, f"this is not TOML: {words}", *place) from None
    except ValueError:  # only this: Python reads no more than some thousand digits
        raise _refusal(name, "a whole number has thousands of digits") from None
    return raw, toml_positions(text)


def _twice(found: re.Match[str]) -> str:
    table = ".".join(re.findall(r"'([^']*)'", found[1]))
    return f"the table [{table}] stands twice; a list of tables has two brackets: [[{table}]]"


def _parse_yaml(text: str, name: str) -> tuple[dict[str, Any], Positions]:
    try:
        loader = CoreLoader(text)
        node = loader.get_single_node()
        if n_repeated(node) > MAX_REPEATED:
            most = f"at most {MAX_REPEATED:,} entries may be repeated so; write the tables out"
            raise _refusal(name, f"the aliases (*name) of this file repeat too much: {most}")
        positions, repeated = yaml_positions(node)
        raw = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = str(error.problem)
        if "'\\t'" in message:
            message = "indented with a tab; YAML wants spaces"
        raise _refusal(name, f"this is not YAML: {message}", line, column) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _refusal(name, f"this is not YAML: {error}".splitlines()[0]) from None
    if repeated:
        raise ScenarioError([Problem(name, *place, message) for place, message in repeated])
    if not isinstance(raw, dict):
        raise _refusal(name, "the file holds no keys; `mcsim init` writes one to start from")
    return plain_copy(raw), positions
