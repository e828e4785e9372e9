"""Estimates of one method against those of another, on the same data sets."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.plots.drawing import (
    BLUE,
    GREY,
    Frame,
    reference_handles,
    replicates_in_words,
    robust_range,
    wrapped,
)
from mcsim.plots.panels import TITLE_WIDTH, panel_axes, panel_rows, title_panel
from mcsim.summary.records import Record, unique
from mcsim.summary.selection import Key, Shown, key_of, read_numbers, refuse_nothing
from mcsim.summary.text import with_mcse

Floats = NDArray[np.float64]
Pair = tuple[Record, Record]

SAME = ("mean", "emp_se", "n")  # methods that agree in these have the same estimates
PANEL = (2.4, 2.9)
ROUNDING = 1e-10  # of an estimate: methods that estimate the same
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
    rows = [pairs for row in panel_rows(shown, "mean", SAME) if (pairs := _pairs(row))]
    if not rows:
        raise DataError(
            "nothing to compare: one method, or df methods of one fit, whose estimates are the"
            f" same. Methods: {', '.join(shown.methods)}"
        )
    drawn = shown.only(record for row in rows for pair in row for record in pair)
    note = f"{replicates_in_words(drawn.records)} {NOTE}"
    frame = Frame(HEADING, shown.title, note, reference_handles(["the same estimate"]))
    first = [[pair[0] for pair in row] for row in rows]
    figure, axes = panel_axes(first, PANEL, frame)
    found = read_numbers(drawn, lambda _record, replicates, numbers: (replicates, +numbers[0]))
    for row, panels in zip(rows, axes, strict=True):
        for pair, axis in zip(row, panels, strict=True):
            _draw_pair(axis, pair, *_paired(pair, found))
    return figure


def _pairs(row: list[Record]) -> list[Pair]:
    by_place = [[r for r in row if r["place"] == p] for p in unique(r["place"] for r in row)]
    return [(first, other) for first, *others in by_place for other in others]


def _paired(pair: Pair, found: dict[Key, Any]) -> tuple[Floats, Floats]:
    """Estimates of both methods from the data sets that have both."""
    (first, A), (second, B) = (found[key_of(record)] for record in pair)
    _, here, there = np.intersect1d(first, second, return_indices=True)
    A, B = A[here], B[there]
    has_both = ~np.isnan(A + B)
    return A[has_both], B[has_both]


def _draw_pair(axis: Axes, pair: Pair, A: Floats, B: Floats) -> None:
    axis.set_xlabel(wrapped(pair[0]["shown_as"], TITLE_WIDTH))
    axis.set_ylabel(wrapped(pair[1]["shown_as"], TITLE_WIDTH))
    if A.size == 0:
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "no data set has both", ha="center", color=GREY)
        title_panel(axis, pair[0]["parameter"], pair[0]["place"])
        return
    outside = draw_points(axis, A, B)
    title_panel(axis, pair[0]["parameter"], pair[0]["place"], mean_difference(A, B), outside)


def draw_points(axis: Axes, x: Floats, y: Floats, *others: float) -> str:
    """Points and the diagonal in a square that holds nearly all; says how many are outside.

    others : values that the square must hold
    """
    low, high = robust_range(np.concatenate([x, y]), *others)
    span = low - 0.05 * (high - low), high + 0.05 * (high - low)
    axis.plot(span, span, color="black", ls="--", lw=0.8)
    shade = min(0.6, max(0.08, 60.0 / x.size))
    axis.plot(x, y, "o", ms=2.5, mew=0, color=BLUE, alpha=shade, rasterized=True)
    axis.set(xlim=span, ylim=span, aspect="equal")
    axis.locator_params(nbins=4)
    n_outside = int(np.sum((np.minimum(x, y) < span[0]) | (np.maximum(x, y) > span[1])))
    return f"{n_outside:,} further out" if n_outside else ""


def mean_difference(A: Floats, B: Floats) -> str:
    """Mean of B less A and its Monte Carlo standard error, in words."""
    differences = np.where(np.isclose(A, B, rtol=ROUNDING, atol=0.0), 0.0, B - A)
    mcse = float(differences.std(ddof=1)) / A.size**0.5 if A.size > 1 else None
    return f"difference {with_mcse(float(differences.mean()), mcse)}"
