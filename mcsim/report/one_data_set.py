"""The data of one replicate as a figure: a line per unit, the mean of the truth on top."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcsim.errors import DataError
from mcsim.formula import variables_of
from mcsim.names import shown_label
from mcsim.plots.drawing import (
    BLUE,
    Frame,
    colour,
    n_side_by_side,
    panel_grid,
)
from mcsim.results.folder import read_manifest
from mcsim.scenario.conditions import Condition
from mcsim.scenario.load import load_scenario
from mcsim.scenario.records import MethodSpec
from mcsim.scenario.truth import TruthSpec
from mcsim.simulate.counts import counts_in
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.responses import Simulator, prepare_simulator
from mcsim.study.prepared import PreparedStudy
from mcsim.summary.records import Globs, the_one
from mcsim.summary.text import wrapped

MEAN = "mean of the truth"  # a column that no scenario can have: names have no spaces there
WIDTH, HEIGHT = 2.6, 2.2  # inches of a panel
MOST_COLUMNS, MOST_PANELS = 4, 12
MOST_UNITS = 60  # lines of a panel; of more, so many evenly chosen ones
MARGIN = 0.05  # of the range of the responses, above and below
TITLE_WIDTH = 36  # characters


class ShownCondition(NamedTuple):
    """A condition of a study; `name` where there are several."""

    title: str
    name: str
    condition: Condition
    simulator: Simulator
    methods: Sequence[MethodSpec]


def shown_condition(results: Path, label: Globs | None) -> ShownCondition:
    """The condition that a label names, or the only one; errors as of `draw_data_of`."""
    title = read_manifest(results).get("title") or results.name
    scenario = load_scenario(results / "scenario.toml")
    by_label = PreparedStudy(scenario).conditions
    name = the_one("condition", label, by_label)
    condition = by_label[name]
    shown = shown_label(name) if len(by_label) > 1 else ""
    return ShownCondition(
        str(title), shown, condition, prepare_simulator(condition, scenario.seed), scenario.methods
    )


def draw_data_of(results: Path, replicate: int, label: Globs | None) -> Figure:
    """One data set of a study's scenario: panels of factor levels, a line per innermost unit.

    Raises
    ------
    ScenarioError
        The scenario of the study cannot be read.
    DataError
        There is no study, or it has several conditions and `label` names none of them.
    """
    of = shown_condition(results, label)
    condition = of.condition
    data = draw_data_set(condition, of.simulator, replicate)
    fixed = condition.truth.fixed.items()
    mean = sum((c * data.design.columns((key,))[0] for key, c in fixed), np.zeros(len(data.y)))
    counts = counts_in(data.design, condition.truth)
    mean = mean if counts is None else counts.expected(mean)  # of units whose effects are 0
    response, levels = condition.design.response, list(condition.design.level_names)
    frame = data.design.frame.assign(**{response: data.y, MEAN: mean})
    if not levels:
        raise DataError("the design has no units to draw a line for")
    if frame.empty:
        raise DataError(
            f"replicate {replicate:,} has lost all of its rows; --replicate names another"
        )
    others = frame.drop(columns=[response, MEAN, *levels])
    factors = [str(one) for one in others.select_dtypes("category").columns][:2]
    asked = _covariates(condition.truth, of.methods)
    units = frame.groupby(levels, observed=True)
    numbers = [one for one in map(str, others) if one in asked and _varies(others[one], units[one])]
    cells = _cells(frame, factors)
    note = f"Replicate {replicate:,}{f' of {of.name}' if of.name else ''}."
    shown = f"{note} {_units_in_words(frame, levels)}"
    frame_of = Frame(f"{response} in one data set", of.title, shown, _handles(levels))
    n_columns = n_side_by_side(WIDTH, min(MOST_COLUMNS, len(cells)))
    n_rows = -(-len(cells) // n_columns)
    low, high = frame[response].min(), frame[response].max()
    margin = MARGIN * (high - low) or 0.5
    figure, axes = panel_grid([HEIGHT] * n_rows, [WIDTH] * n_columns, frame_of)
    for axis, (cell, own) in zip(axes.ravel(), cells.items(), strict=False):
        _draw_panel(axis, own, levels, response, numbers)
        axis.set_title(wrapped(cell, TITLE_WIDTH), loc="left")
        axis.set_ylim(low - margin, high + margin)
    for axis in axes.ravel()[len(cells) :]:
        axis.set_axis_off()
    return figure


def _cells(frame: pd.DataFrame, factors: list[str]) -> dict[str, pd.DataFrame]:
    """The rows of every panel, by its title."""
    if not factors:
        return {"": frame}
    found = {
        ", ".join(f"{name} {own[name].iloc[0]}" for name in factors): own
        for _, own in frame.groupby(factors, observed=True)
    }
    if len(found) > MOST_PANELS:
        raise DataError(f"{len(found)} cells of {', '.join(factors)} are too many panels")
    return found


def _covariates(truth: TruthSpec, methods: Sequence[MethodSpec]) -> set[str]:
    """Names of the data that the truth or a formula knows."""
    random = itertools.chain.from_iterable(one.columns for one in truth.random.values())
    named = itertools.chain.from_iterable(map(variables_of, [*truth.fixed, *random]))
    return {*named, *itertools.chain.from_iterable(one.parsed.columns for one in methods)}


def _varies(column: "pd.Series[float]", of_units: Any) -> bool:
    """Whether these are numbers along which units have observations."""
    return pd.api.types.is_numeric_dtype(column) and bool((of_units.nunique() > 1).any())


def _units_in_words(frame: pd.DataFrame, levels: list[str]) -> str:
    counts = [f"{frame.groupby(levels[: i + 1], observed=True).ngroups:,} units of {level}"
              for i, level in enumerate(levels)]  # fmt: skip
    words = "; ".join([*counts, f"{len(frame):,} observations"])
    return f"{words}. At most {MOST_UNITS} units of a panel are drawn."


def _handles(levels: list[str]) -> list[Artist]:
    words = f"one {levels[-1]}" + f", a colour per {levels[0]}" * (len(levels) > 1)
    return [
        Line2D([], [], color=BLUE, lw=0.7, marker=".", ms=3, label=words),
        Line2D([], [], color="black", lw=2.0, label=MEAN),
    ]


def _draw_panel(
    axis: Axes, frame: pd.DataFrame, levels: list[str], response: str, numbers: list[str]
) -> None:
    """Lines along the first covariate; where there is none, observations side by side per unit."""
    units = list(frame.groupby(levels, observed=True, sort=False))
    outermost = {unit: i for i, unit in enumerate(frame[levels[0]].unique())}
    chosen = np.unique(np.linspace(0, len(units) - 1, min(MOST_UNITS, len(units))).astype(int))
    for place in chosen:
        _, own = units[place]
        x = own[numbers[0]] if numbers else np.full(len(own), outermost[own[levels[0]].iloc[0]])
        order = np.argsort(np.asarray(x), kind="stable")
        axis.plot(
            np.asarray(x)[order], own[response].to_numpy()[order], lw=0.5 if numbers else 0.0,
            color=colour(outermost[own[levels[0]].iloc[0]]), alpha=0.5, marker=".", ms=2.5,
        )  # fmt: skip
    if numbers:
        mean = frame.groupby(numbers[0])[MEAN].mean()
        axis.plot(mean.index, mean.to_numpy(), color="black", lw=2.0)
    else:
        axis.axhline(frame[MEAN].mean(), color="black", lw=2.0)
    axis.set_xlabel(numbers[0] if numbers else levels[0])
    axis.set_ylabel(response)
    axis.locator_params(nbins=5)
