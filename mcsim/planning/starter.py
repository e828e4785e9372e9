"""Scenarios to start from: commented ones by kind, and one whose truth is a fit of pilot data."""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np

from mcsim.design.columns import model_columns
from mcsim.design.table import References, Table
from mcsim.errors import DataError
from mcsim.formula import ColumnPiece, Formula, read_column, written_name
from mcsim.formula.expression import Call
from mcsim.methods.one_file import FileFit, fit_table, table_for
from mcsim.planning.fitted_truth import fitted_truth
from mcsim.planning.kept_design import as_read, kept_design, rows_of
from mcsim.planning.seen_design import SeenDesign, seen_design
from mcsim.planning.truths import is_pilot
from mcsim.scenario.checks import find_problems
from mcsim.scenario.design import DesignSpec, TableDesignSpec
from mcsim.scenario.families import FamilyModel
from mcsim.scenario.plan import OBSERVATIONS
from mcsim.scenario.records import Scenario
from mcsim.scenario.values import OBSERVATION
from mcsim.scenario.write import dump_scenario, toml_key
from mcsim.study.warm_up import compile_engine, parts_for_table

FROM_DATA = """\
# Made from {data} by mcsim init: the design of the data, and as the truth a fit of
#     {formula}
# An estimate is no truth: look at larger and smaller SDs too, then
#     mcsim run {file} --dry-run      what it would do, and how long that takes
#     mcsim run {file}                run it
"""
ASK = """\
#     mcsim plan {file}               the cheapest design: look at [plan] first, at the costs
"""
SWEEP = """
# To compare numbers of units, remove the #; every combination is one condition. Keep few lines.
# [sweep]
"""
NO_UNITS = (
    "--formula {!r} has no random term, so no units to simulate; add one, such as (1 | animal)"
)
OWN_LEVEL = "{0!r} tells units apart and is a column of the model; the level is called {1!r}"
LOST = (
    "{}: {:.1%} of the points that each innermost unit could have are not there; the scenario loses"
    " as many at random (truth.missing)"
)
DOUBT = """
# [plan.truth]  # without it, as if the SDs were true; remove the # to take their doubt in,
# {}  # by truths that these data leave open: more units, and a few times the time
"""
PLAN = """
[plan]                                     # which design to take: mcsim plan; a run ignores it
cost = {{ {costs} }}  # of one, without what is within it: put yours
target = {{ rejection = {target}, at_least = 0.8 }}  # its power: in truth.fixed,
# put the smallest effect that matters in place of the one that was estimated
# budget = 10000  # what it may cost; without `at_least`, the best that this money buys
{truth}
[plan.search]
{search}"""
FEW = 10  # a smallest whole number below which all may count something
IS_BINARY = "{!r} is 0 or 1 in every row; --family binomial takes it for what it is, not for normal"
IS_COUNT = (
    "{!r} has whole numbers from 0 up; if they count something, --family poisson, nbinom or"
    " binomial (with --trials) takes them for what they are, not for normal"
)
ON_BOUNDARY = (
    "The fit is on the boundary: an SD of 0, or a correlation of +-1, is what few data give, and"
    " seldom what is true. Look at that truth first"
)


def starter(kind: str, name: str) -> str:
    """TOML text of the commented scenario of a kind."""
    text = (files("mcsim.planning") / "starters" / f"{kind}.toml").read_text(encoding="utf-8")
    return text.replace("{name}.toml", shlex.quote(f"{name}.toml"))


@dataclass(frozen=True)
class Start:
    """A scenario made from data; `table` is the text of its design's table, None without one."""

    text: str
    table: str | None = None


def starter_from_data(
    path: Path,
    formula: str,
    name: str,
    say: Callable[[str], None] = lambda _: None,
    references: References | None = None,
    model: FamilyModel | None = None,
    *,
    keep_design: bool = False,
    folder: Path = Path(),
) -> Start:
    """A scenario with the design of a data file and the truth of a fit to it.

    Parameters
    ----------
    name : of the scenario's file, without its ending
    say : takes what was left out of the data, and what to look at
    references : reference levels of factors, in place of the first
    model : what the response is taken for; None for normal
    keep_design : the rows of the table are the design, in place of numbers of units
    folder : of the scenario's file

    Raises
    ------
    DataError
        The data cannot be read or fitted, or their design is none that a scenario can describe.
    """
    read = table_for(path, formula, references, model)
    if not read.formula.random:
        raise DataError(NO_UNITS.format(formula))
    table = _with_own_levels(read)
    fit = _fitted(path, table, model, say)
    kept = SeenDesign(kept_design(table, f"{name}.csv")) if keep_design else None
    seen = kept or seen_design(table, say)
    if seen.lost:
        say(LOST.format(path, seen.lost))
    shown = "".join(one if one.isprintable() else "?" for one in path.name)
    response, formula = _as_simulated(table.formula)
    raw = _raw(f"Design and fit of {shown}", seen.design | {"response": response}, formula, model)
    raw["truth"] = fitted_truth(fit, table, seen.lost, _responses(table, model, keep_design))
    plan = {} if keep_design else _plan(raw, table)
    text = rows_of(table) if keep_design else None
    _refuse_problems(path, raw | plan, {} if text is None else {f"{name}.csv": text})
    words = {"data": shown, "formula": formula, "file": shlex.quote(f"{name}.toml")}
    head = (FROM_DATA + ASK).format_map(words)
    scenario = Scenario.model_validate(raw)
    is_as_read = table is read and formula == " ".join(table.formula.text.split())
    source = _source(path, folder) if is_as_read else "draws = 64"
    return Start(head + _with_comments(scenario) + _asked(plan, scenario, source), text)


def _raw(
    title: str, design: Mapping[str, Any], formula: str, model: FamilyModel | None
) -> dict[str, Any]:
    """A scenario without its truth."""
    return {
        "title": title,
        "replicates": 1000,
        "seed": 1,
        "design": design,
        "methods": [{"name": "fitted", "formula": formula, "df": [_df(model)]}],
    }


def _asked(plan: Mapping[str, Any], scenario: Scenario, source: str) -> str:
    """The text of a plan, if there is one, with where the doubt on its truth comes from."""
    doubt = DOUBT.format(source) * is_pilot(scenario)
    return _plan_in_words(plan["plan"], doubt) if plan else ""


def _fitted(
    path: Path, table: Table, model: FamilyModel | None, say: Callable[[str], None]
) -> FileFit:
    """The fit whose estimates become the truth, and what is to be said of the data."""
    for note in (*table.notes, *(() if model else _suggested_family(table))):
        say(note)
    compile_engine(say, parts_for_table(table, model))
    fit = fit_table(table, model=model)
    if fit.message:
        formula = table.formula.text
        raise DataError(f"{path}: {formula!r} could not be fitted ({fit.status}): {fit.message}")
    if fit.status == "boundary":
        say(ON_BOUNDARY)
    return fit


def _refuse_problems(path: Path, raw: Mapping[str, Any], tables: Mapping[str, str]) -> None:
    if problems := find_problems(raw, {name: as_read(text, name) for name, text in tables.items()}):
        sentences = "; ".join(message for _, message in problems)
        raise DataError(f"{path}: no scenario can describe these data: {sentences}")


def _with_own_levels(table: Table) -> Table:
    """The table with levels by names of their own, where a factor or covariate is one too."""
    names = {one: f"{one}.unit" for one in table.formula.groups if one in table.formula.columns}
    if not names:
        return table
    frame = table.frame.assign(**{new: table.frame[name] for name, new in names.items()})
    notes = tuple(OWN_LEVEL.format(name, new) for name, new in names.items())
    formula = table.formula.with_groups(names)
    return replace(table, frame=frame, formula=formula, notes=(*table.notes, *notes))


def _plan(raw: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """The question for `mcsim plan`: which numbers of units show the last of the effects."""
    design, fixed = raw["design"], raw["truth"]["fixed"]
    fewest = {OBSERVATIONS: _fewest_observations(table)}
    counts = {f"design.levels.{one['name']}.count": one["count"] for one in design["levels"]}
    if all("values" not in one for one in design["covariates"].values()):
        counts[OBSERVATIONS] = design["observations"]["count"]
    search = {
        key: {"from": min(count, max(fewest.get(key, 2), count // 2)), "to": 4 * count}
        for key, count in counts.items()
        if isinstance(count, int) and count > 1
    }
    no_effects = ("Intercept", *table.formula.offset_names)
    effects = [name for name, value in fixed.items() if name not in no_effects and value]
    if not search or not effects:
        return {}
    cost = {**{one["name"]: 1.0 for one in design["levels"]}, OBSERVATION: 1.0}
    target = {"rejection": effects[-1], "at_least": 0.8}
    return {"plan": {"cost": cost, "target": target, "truth": {"draws": 64}, "search": search}}


def _fewest_observations(table: Table) -> int:
    """Rows per innermost unit that tell its effects and sigma apart, and curves from lines."""
    columns = model_columns(table.formula, table.frame)
    unit, inner = columns.levels[-1].unit_of_row, len(columns.levels[-1].names)
    first = np.unique(unit, return_index=True)[1]
    varies = (columns.X[first][unit] != columns.X).any(axis=0)
    own = [
        name
        for name, differs in zip(columns.names, varies, strict=True)
        if differs and not any(map(_is_of_factor, read_column(name)))
    ]
    return max(2, 1 + len(own), 1 + inner)


def _is_of_factor(piece: ColumnPiece) -> bool:
    if isinstance(piece.base, Call):
        return piece.base.function in ("C", "factor")
    return piece.label is not None


def _source(path: Path, folder: Path) -> str:
    """The key of a plan's truths that names the table, as seen from the scenario's folder."""
    return f"from = {json.dumps(Path(relpath(path, folder)).as_posix(), ensure_ascii=False)}"


def _plan_in_words(plan: Mapping[str, Any], truth: str) -> str:
    """The question as a table of the file."""
    costs = ", ".join(f"{toml_key(name)} = {cost:g}" for name, cost in plan["cost"].items())
    target = json.dumps(plan["target"]["rejection"], ensure_ascii=False)
    search = "".join(
        f"{toml_key(key)} = {{ from = {one['from']}, to = {one['to']} }}\n"
        for key, one in plan["search"].items()
    )
    return PLAN.format(costs=costs, target=target, truth=truth, search=search)


def _as_simulated(formula: Formula) -> tuple[str, str]:
    """The response and the formula of a scenario: what is fitted is what is simulated."""
    text = " ".join(formula.text.split())
    if formula.measured == written_name(formula.response):
        return formula.response, text
    right = formula.written.removeprefix(f"{formula.measured} ~ ")
    return formula.measured, f"{written_name(formula.measured)} ~ {right}"


def _with_comments(scenario: Scenario) -> str:
    """The scenario with what its tables are for, and a sweep to switch on."""
    fields = type(scenario).model_fields
    lines = []
    for line in dump_scenario(scenario, with_defaults=False).splitlines():
        key = re.match(r"(\w+) =|\[+(\w+)\]+$", line)
        found = fields.get(key[1] or key[2]) if key else None
        meaning = found.description if found else None
        lines.append(f"{line:<42} # {meaning}" if meaning else line)
    swept = "".join(f"# {json.dumps(key)} = {values}\n" for key, values in _sweep(scenario.design))
    lines += [*SWEEP.splitlines(), swept.rstrip("\n")] if swept else []
    return "\n".join(lines) + "\n"


def _sweep(design: DesignSpec | TableDesignSpec) -> Iterator[tuple[str, list[int]]]:
    """Keys that a study of sizes would change, and values for them."""
    if isinstance(design, TableDesignSpec):
        yield f"design.copies.{design.level_names[0]}", [1, 2, 4]
        return
    counts = {f"design.levels.{one.name}.count": one.count for one in design.levels}
    if all(one.values is None for one in design.covariates.values()):
        counts["design.observations.count"] = design.observations.count
    for key, count in counts.items():
        if isinstance(count, int):
            yield key, [count * times for times in (1, 2, 4)]


def _responses(table: Table, model: FamilyModel | None, keep_design: bool) -> dict[str, Any]:
    """Family, link and trials of counts and proportions."""
    if model is None:
        return {}
    found: dict[str, Any] = {"family": model.family, "link": model.link}
    if model.family != "binomial":
        return found
    if not isinstance(model.trials, str) or keep_design:
        return found | {"trials": model.trials}
    numbers = table.frame[model.trials].unique()
    if len(numbers) > 1:
        raise DataError(
            f"the trials, {model.trials!r}, differ between rows; keep them with --keep-design"
        )
    return found | {"trials": float(numbers[0])}


def _df(model: FamilyModel | None) -> str:
    return "kenward-roger" if model is None else "containment"


def _suggested_family(table: Table) -> tuple[str, ...]:
    """That a response looks like a count or a proportion, where it was taken for normal."""
    y, name = table.response, table.formula.response
    if table.formula.measured != written_name(name) or np.any((y < 0.0) | (y % 1.0 != 0.0)):
        return ()
    if np.all(y <= 1.0):
        return (IS_BINARY.format(name),)
    return (IS_COUNT.format(name),) if y.min() < FEW else ()
