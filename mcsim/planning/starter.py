"""Scenarios to start from: commented ones by kind, and one whose truth is a fit of pilot data."""

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsim.design.columns import ModelColumns, model_columns
from mcsim.design.table import References, Table, read_formula, read_table
from mcsim.errors import DataError
from mcsim.methods.one_file import FileFit, fit_table
from mcsim.names import FIXED, SIGMA, Parameter, show_value
from mcsim.scenario.checks import find_problems
from mcsim.scenario.records import LevelSpec, Scenario
from mcsim.scenario.write import dump_scenario

DIGITS = 4  # of an estimate that becomes a truth
FROM_DATA = """\
# Made from {data} by mcsim init: the design of the data, and as the truth a fit of
#     {formula}
# An estimate is no truth: look at larger and smaller SDs too, then
#     mcsim run {name}.toml --dry-run      what it would do, and how long that takes
#     mcsim run {name}.toml                run it
"""
SWEEP = """
# To compare numbers of units, remove the #; every value is one condition.
# [sweep]
# "design.levels.{level}.count" = {counts}
"""
ON_BOUNDARY = (
    "The fit is on the boundary: an SD of 0, or a correlation of +-1, is what few data give, and"
    " seldom what is true. Look at that truth first"
)
SAME_GRID = 1e-6  # of the range of a covariate: points closer than this are one


def starter(kind: str, name: str) -> str:
    """TOML text of the commented scenario of a kind."""
    text = (files("mcsim.planning") / "starters" / f"{kind}.toml").read_text()
    return text.replace("{name}", name)


def starter_from_data(
    path: Path,
    formula: str,
    name: str,
    say: Callable[[str], None] = lambda _: None,
    references: References | None = None,
) -> str:
    """TOML text of a scenario with the design of a data file and the truth of a fit to it.

    Parameters
    ----------
    name : of the scenario's file, without its ending
    say : takes what was left out of the data, and what to look at
    references : reference levels of factors, in place of the first

    Raises
    ------
    DataError
        The data cannot be read or fitted, or their design is none that a scenario can describe.
    """
    if not read_formula(formula).random:
        raise DataError(
            f"--formula {formula!r} has no random term, so no units to simulate; add one, such as"
            " (1 | animal)"
        )
    table, formula = read_table(path, formula, references), " ".join(formula.split())
    fit = fit_table(table)
    for note in table.notes:
        say(note)
    if fit.message:
        raise DataError(f"{path}: {formula!r} could not be fitted ({fit.status}): {fit.message}")
    if fit.status == "boundary":
        say(ON_BOUNDARY)
    shown = "".join(one if one.isprintable() else "?" for one in path.name)
    raw = {
        "title": f"Design and fit of {shown}",
        "replicates": 1000,
        "seed": 1,
        "design": _design(table),
        "truth": _truth(fit),
        "methods": [{"name": "fitted", "formula": formula, "df": ["kenward-roger"]}],
    }
    if problems := find_problems(raw):
        sentences = "; ".join(message for _, message in problems)
        raise DataError(f"{path}: no scenario can describe these data: {sentences}")
    head = FROM_DATA.format(data=shown, formula=formula, name=name)
    return head + _with_comments(Scenario.model_validate(raw))


def _with_comments(scenario: Scenario) -> str:
    """The scenario with what its tables are for, and a sweep to switch on."""
    fields = type(scenario).model_fields
    lines = []
    for line in dump_scenario(scenario, with_defaults=False).splitlines():
        key = re.match(r"(\w+) =|\[+(\w+)\]+$", line)
        found = fields.get(key[1] or key[2]) if key else None
        meaning = found.description if found else None
        lines.append(f"{line:<42} # {meaning}" if meaning else line)
    outermost = scenario.design.levels[0]
    if isinstance(outermost, LevelSpec) and isinstance(outermost.count, int):
        counts = [outermost.count * times for times in (1, 2, 4)]
        lines += SWEEP.format(level=outermost.name, counts=counts).splitlines()
    return "\n".join(lines) + "\n"


def _design(table: Table) -> dict[str, Any]:
    frame, formula = table.frame, table.formula
    levels = _levels(model_columns(formula, frame))
    units = _units(frame, levels)
    for name in formula.columns:
        if f"C({name}" in formula.fixed and name not in formula.labels:
            raise DataError(
                f"{name!r} is a factor in C() and a covariate elsewhere in the formula; give the"
                " factor a column of its own"
            )
    factors = [name for name in formula.columns if not pd.api.types.is_float_dtype(frame[name])]
    for name in factors:
        if frame.groupby(units[0], sort=False)[name].nunique().max() > 1:
            raise DataError(
                f"the factor {name!r} varies within {levels[0]!r}; a scenario's factors lie between"
                " the outermost units. Make 0/1 columns of it, as covariates"
            )
    innermost = units[-1]
    covariates = {
        name: _covariate(frame[name], innermost) for name in formula.columns if name not in factors
    }
    return {
        "response": formula.response,
        "factors": {name: list(map(str, frame[name].cat.categories)) for name in factors},
        "levels": [
            {"name": level, "count": _count_of_units(frame, units, factors, depth)}
            for depth, level in enumerate(levels)
        ],
        "observations": {"count": _count(np.bincount(innermost))},
        "covariates": covariates,
    }


def _levels(columns: ModelColumns) -> tuple[str, ...]:
    """Names of the grouping columns, outermost first."""
    groups = {term.level: term.group for term in columns.formula.random}
    return tuple(dict.fromkeys(name for one in columns.levels for name in groups[one.level]))


def _units(frame: pd.DataFrame, levels: tuple[str, ...]) -> list[np.ndarray]:
    """Number of every row's unit per level, labels counted within the outer levels."""
    return [
        frame.groupby(list(levels[: depth + 1]), sort=False, observed=True).ngroup().to_numpy()
        for depth in range(len(levels))
    ]


def _count_of_units(
    frame: pd.DataFrame, units: list[np.ndarray], factors: list[str], depth: int
) -> Any:
    first = np.unique(units[depth], return_index=True)[1]
    if depth > 0:
        return _count(np.bincount(units[depth - 1][first]))
    if not factors:
        return len(first)
    cells = frame.iloc[first][factors].astype(str).agg(":".join, axis=1).value_counts()
    same = cells.nunique() == 1 and len(cells) == np.prod(
        [frame[name].nunique() for name in factors]
    )
    return int(cells.iloc[0]) if same else {str(cell): int(n) for cell, n in cells.items()}


def _count(counts: np.ndarray) -> Any:
    low, high = int(counts.min()), int(counts.max())
    return low if low == high else {"uniform": [low, high]}


def _covariate(values: pd.Series, innermost: np.ndarray) -> dict[str, Any]:
    """The same points in every innermost unit, or drawn between the smallest and the largest."""
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise DataError(f"the covariate {values.name!r} is {low:g} in every row; leave it out")
    groups = [np.sort(one.to_numpy()) for _, one in values.groupby(innermost)]
    sizes = {len(one) for one in groups}
    if len(sizes) == 1:
        points = np.array(groups)
        if np.ptp(points, axis=0).max() <= SAME_GRID * (high - low):
            grid = np.linspace(low, high, points.shape[1])
            is_even = np.abs(points[0] - grid).max() <= SAME_GRID * (high - low)
            return {"grid": [low, high]} if is_even else {"values": points[0].tolist()}
    return {"uniform": [_rounded(low), _rounded(high)]}


def _truth(fit: FileFit) -> dict[str, Any]:
    values = {Parameter.read(one.parameter, one.component): one.estimate for one in fit.parameters}
    fixed = {
        one.name: _rounded(value)
        for one, value in values.items()
        if one.component == FIXED and value is not None
    }
    random: dict[str, dict[str, Any]] = {}
    for one, value in values.items():
        if one.kind in ("sd", "correlation"):
            level = random.setdefault(str(one.level), {"sd": {}, "correlation": {}})
            level[one.kind][",".join(one.columns)] = _rounded(value)
    sigma = values[SIGMA]
    if not sigma:
        raise DataError(f"{SIGMA} is {show_value(sigma)}: the data leave no residual variation")
    return {"sigma": _rounded(sigma), "fixed": fixed, "random": random}


def _rounded(value: float | None) -> float:
    return float(f"{value or 0.0:.{DIGITS}g}")
