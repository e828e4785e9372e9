"""Estimates of SDs and correlations against the values realized in their own data sets."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcsim.errors import DataError
from mcsim.plots.drawing import RED, Frame, reference_handles, replicates_in_words
from mcsim.plots.pairs import Floats, draw_points, mean_difference
from mcsim.plots.panels import label_left, panel_axes, panel_rows, title_panel
from mcsim.summary.records import Record, unique
from mcsim.summary.selection import Shown, key_of, read_numbers, refuse_nothing

SAME = ("mean", "emp_se", "n")  # methods that agree in these have the same estimates
PANEL = (2.4, 2.9)
HEADING = "Estimates against what the drawn effects themselves have"
NOTE = (
    "A point is a data set: horizontally the SD or correlation of the effects that were drawn for"
    " it, vertically its estimate. difference: mean of the estimates less the realized values; in"
    " parentheses its Monte Carlo standard error."
)


def draw_realized(shown: Shown, _measure: str | None) -> Figure:
    """Estimate against realized value of every parameter that has one, replicate by replicate.

    Raises
    ------
    DataError
        No parameter has a realized value.
    """
    refuse_nothing(shown.records, ["mean"], shown)
    if all(record["rmse_estimation"] is None for record in shown.records):
        raise DataError(
            "nothing to draw: only SDs and correlations of random effects have a value realized in"
            " the data; choose some with --parameter, such as '*.sd*'"
        )
    rows = panel_rows(shown, "rmse_estimation", SAME)
    drawn = shown.only(record for row in rows for record in row)
    note = f"{replicates_in_words(drawn.records)} {NOTE}"
    figure, axes = panel_axes(rows, PANEL, Frame(HEADING, shown.title, note, _handles()))
    found = read_numbers(drawn, _estimates_and_realized)
    several = len(unique(record["shown_as"] for record in drawn.records)) > 1
    for row, panels in zip(rows, axes, strict=True):
        for record, axis in zip(row, panels, strict=True):
            method = record["shown_as"] if several else ""
            _draw_panel(axis, record, method, *found[key_of(record)])
    label_left(axes, "estimate")
    return figure


def _estimates_and_realized(_record: Record, _replicates: Any, numbers: Floats) -> Floats:
    both = numbers[[0, 5]]
    return both[:, ~np.isnan(both).any(axis=0)]


def _draw_panel(
    axis: Axes, record: Record, method: str, estimates: Floats, realized: Floats
) -> None:
    axis.set_xlabel("realized")
    outside = draw_points(axis, realized, estimates, record["truth"])
    axis.plot(*[[record["truth"]]] * 2, "+", color=RED, ms=9, mew=1.4)
    difference = mean_difference(realized, estimates)
    title_panel(axis, record["parameter"], record["place"], method, difference, outside)


def _handles() -> list[Artist]:
    cross = Line2D([], [], color=RED, marker="+", ls="none", ms=9, mew=1.4, label="truth")
    return [*reference_handles(["as realized"]), cross]
