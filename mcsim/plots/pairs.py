"""Estimates of one method against those of another, on the same data sets."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.errors import DataError
from mcsim.plots.drawing import (
    GREY,
    reference_handles,
)
from mcsim.plots.replicate_panels import (
    SAME_ESTIMATES,
    TITLE_WIDTH,
    Floats,
    Look,
    draw_panels,
    draw_points,
    panel_rows,
    there,
)
from mcsim.summary.records import Record, unique
from mcsim.summary.selection import Shown, refuse_nothing
from mcsim.summary.text import wrapped

PANEL = (2.4, 2.9)
HEADING = "Estimates of two methods from the same data"
NOTE = (
    "A point is a data set, analysed by both methods. difference: mean of the vertical axis less"
    " the horizontal one; in parentheses its Monte Carlo standard error."
)


def draw_methods(shown: Shown, _measure: str | None) -> Figure:
    """Estimates of the first method against those of every other, replicate by replicate.

    Raises
    ------
    DataError
        There is no second method, or it estimates the same.
    """
    refuse_nothing(shown.records, ["mean"], shown)
    rows = [
        pairs for row in panel_rows(shown, "mean", SAME_ESTIMATES) if (pairs := _with_others(row))
    ]
    if not rows:
        raise DataError(
            "nothing to compare: one method, or df methods of one fit, whose estimates are the"
            f" same. Methods: {', '.join(shown.methods)}"
        )

    def draw(axis: Axes, record: Record) -> str:
        axis.set_xlabel(wrapped(record["shown_as"], TITLE_WIDTH))
        axis.set_ylabel(wrapped(record["other"]["shown_as"], TITLE_WIDTH))
        A, B = _paired(shown, record, record["other"])
        if A.size > 0:
            return draw_points(axis, A, B)
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "no data set has both", ha="center", color=GREY)
        return ""

    handles = reference_handles(["the same estimate"])
    look = Look(HEADING, NOTE, PANEL, handles, has_methods=False)
    return draw_panels(shown, rows, look, draw)


def _with_others(row: list[Record]) -> list[Record]:
    """The first method of every condition, once for each other one, which is its `other`."""
    by_place = [[r for r in row if r["place"] == p] for p in unique(r["place"] for r in row)]
    return [first | {"other": other} for first, *others in by_place for other in others]


def _paired(shown: Shown, first: Record, second: Record) -> tuple[Floats, ...]:
    """Estimates of both methods from the data sets that have both."""
    one, other = shown.numbers_of(first), shown.numbers_of(second)
    _, here, at = np.intersect1d(one.replicate, other.replicate, return_indices=True)
    return there(one.estimate[here], other.estimate[at])
