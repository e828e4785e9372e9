"""Estimates of SDs and correlations against the values realized in their own data sets."""

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcsim.errors import DataError
from mcsim.plots.drawing import RED, reference_handles
from mcsim.plots.replicate_panels import (
    SAME_ESTIMATES,
    Look,
    draw_panels,
    draw_points,
    panel_rows,
    there,
)
from mcsim.summary.records import Record
from mcsim.summary.selection import Shown, refuse_nothing

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

    def draw(axis: Axes, record: Record) -> str:
        numbers = shown.numbers_of(record)
        realized, estimates = there(numbers.realized, numbers.estimate)
        words = draw_points(axis, realized, estimates, record["truth"])
        axis.plot(*[[record["truth"]]] * 2, "+", color=RED, ms=9, mew=1.4)
        axis.set_xlabel("realized")
        return words

    rows = panel_rows(shown, "rmse_estimation", SAME_ESTIMATES)
    look = Look(HEADING, NOTE, PANEL, _handles(), "estimate")
    return draw_panels(shown, rows, look, draw)


def _handles() -> list[Artist]:
    cross = Line2D([], [], color=RED, marker="+", ls="none", ms=9, mew=1.4, label="truth")
    return [*reference_handles(["as realized"]), cross]
