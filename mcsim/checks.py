"""What is wrong with a scenario: every mistake at once, as a key path and a sentence.

`find_problems` is the door. Field checks come from the records of scenario.py; the other functions
each look at one part and read only what they need, so that one mistake does not hide another.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula import Formula, parse_formula, split_column, variable_names
from mcsim.scenario import (
    DesignNames,
    KeyPath,
    RandomSpec,
    Scenario,
    plain_copy,
    put_value,
    show_value,
    split_pair,
)

Finding = tuple[KeyPath, str]

MAX_CONDITIONS = 10_000  # more is a slip of the pen: each is a row of every table
SINGULAR = -1e-10  # rounding of the smallest eigenvalue of a matrix of correlations

_SHAPES = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "too_short": "must hold at least one table",
}


def find_problems(raw: Mapping[str, Any]) -> list[Finding]:
    """Return every mistake of a scenario as read from its file; none means that it can be run."""
    found = [*_field_problems(raw), *_part_problems(raw)]
    return found + list(_sweep_problems(raw, set(found)))


def _part_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _unique_method_names(raw)
    names = _read(DesignNames, raw.get("design"))
    if names is not None:
        yield from _name_problems(names)
        yield from _count_problems(raw, names)
        yield from _truth_problems(raw, names)
        yield from _method_problems(raw, names)
    yield from _covariate_problems(raw, names)
    yield from _random_problems(raw)


def _field_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        Scenario.model_validate(raw)
    except ValidationError as error:
        yield from (_plain(detail, raw) for detail in error.errors())


def _plain(error: ErrorDetails, raw: Mapping[str, Any]) -> Finding:
    # the last two are marks of pydantic: an alternative of a union, the key of a table
    path = tuple(p for p in error["loc"] if not re.fullmatch(r"<\w+>|\[key\]", str(p)))
    record = _record_at(path[:-1])
    if error["type"] == "extra_forbidden":
        return path, _unknown(f"key {path[-1]!r}", record.model_fields, "Allowed here")
    if error["type"] == "missing":
        where = _dotted(path[:-1], raw) or "the scenario"
        meaning = record.model_fields[str(path[-1])].description
        return path[:-1], f"the key {path[-1]!r} is missing in {where}. It holds: {meaning}"
    rule = _SHAPES.get(error["type"]) or str(error["ctx"]["error"])
    if error["loc"][-1] == "[key]":
        return path, f"the name {path[-1]!r} {rule}"
    return path, f"{_dotted(path, raw)} is {_short(error['input'])}; it {rule}"


def _read(record: type[Any], raw: object) -> Any:
    """The record, or None where the part is broken (its fields are reported elsewhere)."""
    try:
        return record.model_validate(raw)
    except ValidationError:
        return None


def _record_at(path: KeyPath) -> type[BaseModel]:
    """The record whose keys stand at `path`."""
    record: Any = Scenario
    for piece in path:
        if isinstance(record, type) and issubclass(record, BaseModel):
            record = record.model_fields[str(piece)].annotation
        record = next(_records_in(record), record)
    return record if isinstance(record, type) and issubclass(record, BaseModel) else Scenario


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _records_in(inner)


def _unknown(what: str, allowed: Iterable[str], introduction: str) -> str:
    """`what` quotes the name that is not among those allowed."""
    names = list(allowed)
    near = nearest_name(what.split("'")[1], names)
    return f"unknown {what}. {introduction}: {', '.join(names) or 'none'}.{near}"


def _dotted(path: KeyPath, raw: Mapping[str, Any]) -> str:
    """The path as a user writes it: tables in lists go by their names."""
    pieces: list[str] = []
    here: Any = raw
    for piece in path:
        here = here[piece] if _holds(here, piece) else None
        named = isinstance(piece, int) and isinstance(here, Mapping) and "name" in here
        pieces.append(str(here["name"]) if named else str(piece))
    return ".".join(pieces)


def _holds(here: Any, piece: str | int) -> bool:
    if isinstance(here, Mapping):
        return piece in here
    return isinstance(here, list) and isinstance(piece, int) and piece < len(here)


def _short(value: object) -> str:
    text = show_value(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _table(raw: object, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, Mapping) else {}


def _unique_method_names(raw: Mapping[str, Any]) -> Iterator[Finding]:
    methods = raw.get("methods")
    seen: set[object] = set()
    for number, method in enumerate(methods if isinstance(methods, list) else []):
        name = method.get("name") if isinstance(method, Mapping) else None
        if isinstance(name, str) and name in seen:
            yield ("methods", number, "name"), f"two methods are named {name!r}; rename one"
        seen.add(name)


def _name_problems(names: DesignNames) -> Iterator[Finding]:
    """Factors, levels, covariates and the response share one set of column names."""
    seen: dict[str, str] = {}
    places: list[tuple[KeyPath, str]] = [(("design", "response"), names.response)]
    places += [(("design", "factors", name), name) for name in names.factors]
    places += [
        (("design", "levels", number, "name"), level.name)
        for number, level in enumerate(names.levels)
    ]
    places += [(("design", "covariates", name), name) for name in names.covariates]
    for path, name in places:
        what = path[1] if path[1] == "response" else str(path[1])[:-1]
        if name in seen:
            yield path, f"the name {name!r} is taken by a {seen[name]}; rename one"
        seen[name] = str(what)


def _count_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    """Counts per factor cell: on the outermost level only, every cell present."""
    levels = _table(raw, "design").get("levels")
    for number, level in enumerate(levels if isinstance(levels, list) else []):
        count = level.get("count") if isinstance(level, Mapping) else None
        if not isinstance(count, Mapping) or "uniform" in count:
            continue
        path: KeyPath = ("design", "levels", number, "count")
        if number > 0:
            yield path, "counts per cell belong to the outermost level; write one number here"
            continue
        for cell in names.cells:
            if cell not in count:
                yield path, f"the count of cell {cell!r} is missing; give one for every cell"
        for cell in count:
            if cell not in names.cells:
                yield (*path, cell), _unknown(f"cell {cell!r}", names.cells, "The factors make")


def _column_problem(name: str, names: DesignNames) -> str | None:
    """Why the design cannot make the column called `name`."""
    for piece in split_column(name):
        indicator = re.fullmatch(r"(\w+)\[(T\.)?(.+)\]", piece)
        if indicator and indicator[1] in names.factors:
            levels = names.factors[indicator[1]]
            if indicator[3] not in levels:
                return _unknown(
                    f"level {indicator[3]!r} of {indicator[1]}", levels, "The factor has"
                )
            if indicator[2] and indicator[3] == levels[0]:
                return (
                    f"{piece!r} names the reference level; the others are {', '.join(levels[1:])}"
                )
            continue
        if piece == "Intercept":
            continue
        try:
            used = variable_names(piece)
        except FormulaError as error:
            return f"{piece!r} is no column: {error}"
        for variable in used:
            if variable in names.factors:
                columns = [f"{variable}[T.{level}]" for level in names.factors[variable][1:]]
                return f"{variable!r} is a factor; name one of its columns: {', '.join(columns)}"
            if variable not in names.covariates:
                return _unknown(f"column {variable!r}", _columns(names), "The design makes")
    return None


def _columns(names: DesignNames) -> list[str]:
    indicators = [
        f"{factor}[T.{level}]" for factor, levels in names.factors.items() for level in levels[1:]
    ]
    return ["Intercept", *indicators, *names.covariates]


def _truth_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    for name in _table(raw, "truth", "fixed"):
        problem = _column_problem(str(name), names)
        if problem:
            yield ("truth", "fixed", name), problem
    for level, spec in _table(raw, "truth", "random").items():
        path: KeyPath = ("truth", "random", level)
        if level not in names.level_names:
            message = _unknown(
                f"level {level!r} in truth.random", names.level_names, "The design has"
            )
            yield path, message
        for scale in ("sd", "variance"):
            for name in _table(spec, scale):
                problem = _column_problem(str(name), names)
                if problem:
                    yield (*path, scale, name), problem


def _method_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    methods = raw.get("methods")
    for number, method in enumerate(methods if isinstance(methods, list) else []):
        text = method.get("formula") if isinstance(method, Mapping) else None
        if not isinstance(text, str):
            continue
        path: KeyPath = ("methods", number, "formula")
        try:
            formula = parse_formula(text)
        except FormulaError as error:
            yield path, f"{text!r}: {error}"
            continue
        yield from ((path, message) for message in _formula_problems(formula, names))


def _formula_problems(formula: Formula, names: DesignNames) -> Iterator[str]:
    if formula.response != names.response:
        yield f"the response is {formula.response!r} here and {names.response!r} in the design"
    columns = [*names.factors, *names.covariates]
    for name in formula.columns:
        if name not in columns:
            yield _unknown(f"name {name!r}", columns, "The design has")
    order = {name: depth for depth, name in enumerate(names.level_names)}
    for term in formula.random:
        for name in term.group:
            if name not in order:
                yield _unknown(f"level {name!r}", names.level_names, "The design has")
        depths = [order[name] for name in term.group if name in order]
        if depths != sorted(depths):
            yield f"{'/'.join(term.group)} is inside out; levels go outermost first: {'/'.join(order)}"


def _covariate_problems(raw: Mapping[str, Any], names: DesignNames | None) -> Iterator[Finding]:
    observations = _table(raw, "design", "observations").get("count")
    for name, covariate in _table(raw, "design", "covariates").items():
        path: KeyPath = ("design", "covariates", name)
        given = [key for key in ("grid", "values", "uniform", "normal") if key in _table(covariate)]
        if isinstance(covariate, Mapping) and len(given) != 1:
            found = " and ".join(given) or "none"
            yield path, f"give exactly one of grid, values, uniform, normal; found {found}"
        values = _table(covariate).get("values")
        if isinstance(values, list) and observations != len(values):
            yield (
                (*path, "values"),
                (
                    f"there are {len(values)} values for {_short(observations)} observations;"
                    " the numbers must agree"
                ),
            )
        level = _table(covariate).get("level")
        if level is not None and names and level not in names.level_names:
            yield (
                (*path, "level"),
                _unknown(f"level {level!r}", names.level_names, "The design has"),
            )
        if level is not None and {"grid", "values"} & set(given):
            yield (*path, "level"), "only uniform and normal covariates are drawn per level"


def _random_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    for level, table in _table(raw, "truth", "random").items():
        path: KeyPath = ("truth", "random", level)
        if isinstance(table, Mapping) and ("sd" in table) == ("variance" in table):
            yield path, "give either sd or variance"
        spec = _read(RandomSpec, table)
        if spec is None:
            continue
        if isinstance(spec.correlation, Mapping):
            for key in spec.correlation:
                pair = split_pair(key)
                if len(pair) != 2 or not set(pair) <= set(spec.columns):
                    yield (
                        (*path, "correlation", key),
                        (f'{key!r} is no pair of columns; write "{",".join(spec.columns[:2])}"'),
                    )
        matrix = [[spec.correlation_of(a, b) for b in spec.columns] for a in spec.columns]
        if spec.columns and np.linalg.eigvalsh(np.array(matrix))[0] < SINGULAR:
            yield (
                (*path, "correlation"),
                "no random effects can be correlated like this all at once",
            )


def _sweep_problems(raw: Mapping[str, Any], found: set[Finding]) -> Iterator[Finding]:
    """Every combination must be a valid scenario; only what the sweep adds is reported."""
    sweep = _table(raw, "sweep")
    usable = {}
    for key, values in sweep.items():
        path: KeyPath = ("sweep", key)
        if not re.match(r"(design|truth)\.", str(key)):
            yield path, f"{key!r} cannot be swept; keys of design and truth can"
            continue
        try:
            put_value(plain_copy(raw), key, None)
        except (KeyError, IndexError, TypeError):
            yield path, f"{key!r} leads to nothing in this scenario"
            continue
        if isinstance(values, list) and values:
            usable[key] = values
    if np.prod([len(values) for values in usable.values()], dtype=float) > MAX_CONDITIONS:
        yield ("sweep",), f"the sweep makes more than {MAX_CONDITIONS:,} conditions"
        return
    reported = {finding[1] for finding in found}
    for key, values in usable.items():
        for value in values:
            changed = plain_copy({k: v for k, v in raw.items() if k != "sweep"})
            put_value(changed, key, value)
            for _, message in [*_field_problems(changed), *_part_problems(changed)]:
                if message not in reported:
                    reported.add(message)
                    yield ("sweep", key), f"with {_short(value)}: {message}"
