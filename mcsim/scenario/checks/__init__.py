"""What is wrong with a scenario: every mistake at once, as a key path and a sentence.

The records check their own fields. The functions here each look at one part and
read only what they need of the others, so that one mistake does not hide the next.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mcsim.errors import nearest_name
from mcsim.formula import parse_formula
from mcsim.names import TOTAL, Parameter, derived_names, show_value
from mcsim.scenario.checks.columns import (
    Finding,
    columns_problems,
    list_of,
    read_as,
    table_of,
    unknown,
    unknown_level,
    variable_problems,
)
from mcsim.scenario.checks.truth import random_problems, residual_problems, truth_problems
from mcsim.scenario.keys import KeyPath, expand_sweep, plain_copy, put_value
from mcsim.scenario.records import (
    CovariateSpec,
    DesignNames,
    ObservationsSpec,
    Scenario,
    conditions,
)
from mcsim.scenario.values import FormulaText, SweptValues, shape_of_count

MAX_CONDITIONS = 10_000  # more is a slip of the pen: each is a row of every table

_SOURCES = ("grid", "normal", "uniform", "values")
_SHAPES = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
}


def find_problems(raw: Mapping[str, Any]) -> list[Finding]:
    """Every mistake of a scenario as read from its file; none means that it can be run."""
    found = list(_problems_without_sweep(raw))
    return found + list(dict.fromkeys(_sweep_problems(raw, found)))


def _problems_without_sweep(raw: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _field_problems(raw)
    yield from _method_name_problems(raw)
    yield from _source_problems(raw)
    yield from random_problems(raw)
    yield from residual_problems(raw)
    names: DesignNames | None = read_as(DesignNames, raw.get("design"))
    if names is not None:
        yield from _name_problems(names)
        yield from _count_problems(raw, names)
        yield from _covariate_level_problems(raw, names)
        yield from truth_problems(raw, names)
        yield from _formula_problems(raw, names)
        yield from _other_method_problems(raw)
        yield from _estimand_problems(raw, names)


def _field_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        Scenario.model_validate(raw)
    except ValidationError as error:
        details = error.errors()
        details = [it for it in details if it["type"] != "default_factory_not_called"]
        yield from (_plain(it, raw) for it in details if not _is_misspelt(it, details))


def _is_misspelt(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """Whether a key is missing whose name an unknown key beside it nearly has."""
    *table, missing = error["loc"]
    unknown = (list(it["loc"]) for it in errors if it["type"] == "extra_forbidden")
    beside = (path[-1] for path in unknown if path[:-1] == table)
    found = any(nearest_name(str(name), [str(missing)]) for name in beside)
    return found and error["type"] == "missing"


def _plain(error: ErrorDetails, raw: Mapping[str, Any]) -> Finding:
    # these are no keys: the alternative of a union that was tried, and the mark of a bad key
    path = tuple(piece for piece in error["loc"] if not re.fullmatch(r"<\w+>|\[key\]", str(piece)))
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


def _method_name_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    names = [table_of(method).get("name") for method in list_of(raw.get("methods"))]
    for number, name in enumerate(names):
        if name is not None and name in names[:number]:
            message = f"the name {name!r} is that of an earlier method; each needs its own"
            yield ("methods", number, "name"), message


def _source_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    design = table_of(raw.get("design"))
    observations: ObservationsSpec | None = read_as(ObservationsSpec, design.get("observations"))
    for name, table in table_of(design.get("covariates")).items():
        spec: CovariateSpec | None = read_as(CovariateSpec, table)
        path = ("design", "covariates", name)
        if spec is None:
            continue
        given = [source for source in _SOURCES if getattr(spec, source) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            yield path, f"{name!r} must have exactly one of {', '.join(_SOURCES)}; it has: {found}"
        if spec.level is not None and (spec.grid or spec.values):
            yield (*path, "level"), "only a drawn covariate, uniform or normal, can have a level"
        if spec.values is not None and observations is not None:
            message = _wrong_length(len(spec.values), observations.count)
            yield from [((*path, "values"), message)] if message else []


def _wrong_length(n_values: int, count: object) -> str:
    if not isinstance(count, int):
        return "values need a fixed design.observations.count; with a drawn one use grid"
    if n_values == count:
        return ""
    return f"values holds {n_values}, but design.observations.count is {count}; make them equal"


def _name_problems(names: DesignNames) -> Iterator[Finding]:
    used: list[tuple[KeyPath, str]] = [(("design", "response"), names.response)]
    used += [(("design", "factors", name), name) for name in names.factors]
    used += [(("design", "levels", i, "name"), name) for i, name in enumerate(names.level_names)]
    used += [(("design", "covariates", name), name) for name in names.covariates]
    taken: set[str] = set()
    for path, name in used:
        if name in taken:
            others = "response, factors, levels and covariates"
            yield path, f"the name {name!r} is used twice in the design; {others} must differ"
        taken.add(name)


def _count_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    for number, level in enumerate(raw["design"]["levels"]):
        cells = level.get("count")
        path = ("design", "levels", number, "count")
        if shape_of_count(cells) != "<table>":
            continue
        if number > 0 or not names.factors:
            place = f"at {names.level_names[0]!r}, the outermost level, of a design with factors"
            instead = "a whole number or { uniform = [low, high] }"
            yield path, f"a count per cell stands only {place}; write {instead}"
            continue
        for cell in cells.keys() - set(names.cells):
            yield (*path, cell), unknown("cell", cell, names.cells, "The factors have")
        for cell in set(names.cells) - cells.keys():
            yield path, f"no count for the cell {cell!r}; each needs one: {', '.join(names.cells)}"


def _covariate_level_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    for name, table in names.covariates.items():
        level = table_of(table).get("level")
        if isinstance(level, str) and level not in names.level_names:
            where = f"design.covariates.{name}"
            yield ("design", "covariates", name, "level"), unknown_level(level, where, names)


def _formula_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    for number, method in enumerate(list_of(raw.get("methods"))):
        text: str | None = read_as(FormulaText, table_of(method).get("formula"))
        for message in _misfits(text, names) if text is not None else ():
            yield ("methods", number, "formula"), message
        for level in table_of(table_of(method).get("structure")):
            if level not in names.level_names:
                where = f"methods.{table_of(method).get('name', number + 1)}.structure"
                yield ("methods", number, "structure", level), unknown_level(level, where, names)


def _other_method_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    tables = [table_of(one) for one in list_of(raw.get("methods"))]
    methods = {one["name"]: one for one in tables if isinstance(one.get("name"), str)}
    for number, method in enumerate(tables):
        others = [name for name in methods if name != method.get("name")]
        for key in ("fallback", "likelihood_ratio"):
            other = method.get(key)
            if isinstance(other, str) and other not in others:
                message = unknown("method", other, others, "There are, beside this one")
                yield ("methods", number, key), message
            elif isinstance(other, str) and key == "likelihood_ratio":
                for message in _incomparable(method, methods[other]):
                    yield ("methods", number, key), message


def _incomparable(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> Iterator[str]:
    """Why the likelihoods of two methods say nothing about each other."""
    estimators = [one.get("estimator", "reml") for one in (larger, smaller)]
    formulas = [read_as(FormulaText, one.get("formula")) for one in (larger, smaller)]
    if estimators not in (["ml", "ml"], ["reml", "reml"]):
        yield f"both methods need estimator 'ml', or both 'reml'; they have {estimators}"
    elif "reml" in estimators and None not in formulas:
        fixed = {parse_formula(text).fixed for text in formulas}
        if len(fixed) > 1:
            yield "REML likelihoods of different fixed effects do not compare; use estimator 'ml'"


def _estimand_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    earlier: list[str] = []
    for number, estimand in enumerate(list_of(raw.get("estimands"))):
        path: KeyPath = ("estimands", number)
        name, fixed = (table_of(estimand).get(key) for key in ("name", "fixed"))
        yield from columns_problems((*path, "fixed"), table_of(fixed), names)
        if not isinstance(name, str):
            continue
        if name in earlier:
            yield (*path, "name"), f"the name {name!r} is that of an earlier estimand"
        earlier.append(name)
        parameter = Parameter.read(name)
        if not parameter.is_derived and fixed is None:
            allowed = "; ".join(derived_names(names.level_names))
            message = f"the estimand {name!r} needs a table `fixed`, or one of the names: {allowed}"
            yield path, message
        elif parameter.is_derived and fixed is not None:
            yield (*path, "fixed"), f"{name!r} is made of variances; give the estimand another name"
        elif parameter.is_derived and parameter.level not in (TOTAL, *names.level_names):
            yield (*path, "name"), unknown_level(str(parameter.level), repr(name), names)
        elif parameter.is_derived:
            for _, message in columns_problems(path, parameter.columns, names):
                yield (*path, "name"), message


def _misfits(text: str, names: DesignNames) -> Iterator[str]:
    formula = parse_formula(text)
    if formula.response != names.response:
        response = f"design.response is {names.response!r}"
        yield f"the response of the formula is {formula.response!r}, but {response}"
    yield from variable_problems(formula.columns, names)
    levels = names.level_names
    for path in dict.fromkeys(term.group for term in formula.random):
        unknown = [name for name in path if name not in levels]
        yield from (unknown_level(name, f"{text!r}", names) for name in unknown[-1:])
        ordered = sorted(path, key=lambda name: levels.index(name)) if not unknown else path
        if list(path) != list(ordered):
            yield f"{'/'.join(path)} is not outermost first; write {'/'.join(ordered)}"


def _sweep_problems(raw: Mapping[str, Any], known: list[Finding]) -> Iterator[Finding]:
    given = table_of(raw.get("sweep"))
    sweep: dict[str, tuple[Any, ...]] = read_as(dict[str, SweptValues], given) or {}
    paths: dict[str, KeyPath] = {}
    for key in given:
        try:
            paths[key] = _swept_path(raw, key)
        except KeyError as error:
            yield ("sweep", key), str(error.args[0])
    n_conditions = math.prod(len(values) for values in sweep.values())
    if n_conditions > MAX_CONDITIONS:
        yield ("sweep",), f"the sweep makes {n_conditions} conditions; at most {MAX_CONDITIONS}"
    elif sweep and len(paths) == len(sweep):
        yield from _condition_problems({**raw, "sweep": sweep}, paths, known)


def _swept_path(raw: Mapping[str, Any], key: str) -> KeyPath:
    if not key.startswith(("design.", "truth.")):
        raise KeyError(f"{key!r} cannot be swept; a swept key starts with design. or truth.")
    return put_value(plain_copy(raw), key, None)


def _condition_problems(
    raw: dict[str, Any], paths: dict[str, KeyPath], known: list[Finding]
) -> Iterator[Finding]:
    is_sound = not known
    for values, swept in expand_sweep(raw):
        for path, message in set(_problems_without_sweep(swept)) - set(known):
            is_sound = False
            own = [key for key in values if path[: len(paths[key])] == paths[key]]
            blamed = own or list(values)
            shown = ", ".join(f"{key} = {show_value(values[key])}" for key in blamed)
            yield ("sweep", blamed[0]), f"with {shown}: {message}"
    if is_sound:
        yield from _twin_problems(raw)


def _twin_problems(raw: dict[str, Any]) -> Iterator[Finding]:
    earlier: dict[str, str] = {}
    for condition in conditions(Scenario.model_validate(raw)):
        twin = earlier.get(condition.identity)
        if twin is not None:
            yield ("sweep",), f"{twin} and {condition.label} are the same condition; drop one"
        earlier[condition.identity] = condition.label


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
        name = table_of(raw).get("name") if isinstance(piece, int) else piece
        pieces.append(name if isinstance(name, str) else str(piece))
    return ".".join(pieces)


def _short(value: object) -> str:
    text = show_value(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
