"""Zip plot: all intervals of a method, ordered so that those that miss the truth lie on top."""

from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mcsim.plots.drawing import (
    ORANGE,
    RED,
    SKY,
    Frame,
    half_width,
    replicates_in_words,
    robust_range,
    share_in_words,
)
from mcsim.plots.panels import label_left, panel_axes, panel_rows, title_panels
from mcsim.summary.records import Record
from mcsim.summary.selection import Shown, key_of, read_numbers, refuse_nothing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME = ("coverage", "ci_width", "median_ci_width", "n_missing_interval")  # the same intervals
N_INTERVALS = 250  # of a panel: more would lie on top of each other
MAX_WIDTHS = 2.5  # median widths on either side of the truth that are shown
PANEL = (2.3, 2.6)
NOTE = (
    "Every horizontal line is an interval; from bottom to top the truth lies ever nearer to its"
    " end, at last outside. In parentheses: Monte Carlo standard error of the coverage; band: its"
    " 95% Monte Carlo interval."
)


class Intervals(NamedTuple):
    """Intervals from the one nearest to the truth to the furthest, thinned; rank in percent."""

    rank: Floats
    lower: Floats
    upper: Floats
    covers: NDArray[np.bool_]


def draw_zip(shown: Shown, _measure: str | None) -> Figure:
    """Intervals of every parameter, condition and method.

    Morris, White & Crowther (2019), figure 4, but ordered as `thinned_intervals` says.
    """
    refuse_nothing(shown.records, ["coverage"], shown)
    rows = panel_rows(shown, "coverage", SAME)
    drawn = shown.only(record for row in rows for record in row)
    note = f"{replicates_in_words(drawn.records)} {NOTE}"
    frame = Frame("Intervals", shown.title, note, _handles(shown.confidence))
    figure, axes = panel_axes(rows, PANEL, frame)
    found = read_numbers(drawn, thinned_intervals)
    for row, panels in zip(rows, axes, strict=True):
        for record, axis in zip(row, panels, strict=True):
            _draw_panel(axis, record, found[key_of(record)], shown.confidence)
    label_left(axes, "intervals, %")
    title_panels(rows, axes, _in_words)
    return figure


def thinned_intervals(record: Record, _replicates: Ints, numbers: Floats) -> Intervals:
    """At most N_INTERVALS of the intervals, evenly over all ranks.

    Ordered by the distance of the truth from the estimate as a share of the interval's side towards
    it: as by abs(z) where intervals are symmetric; where they are lopsided, those that miss the
    truth still come last.
    """
    truth = record["truth"]
    estimate, lower, upper = numbers[0], numbers[2], numbers[3]
    is_there = ~np.isnan(estimate + lower + upper)
    estimate, lower, upper = estimate[is_there], lower[is_there], upper[is_there]
    side = np.where(truth >= estimate, upper - estimate, estimate - lower)
    distance = np.abs(truth - estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(np.where(distance == 0.0, 0.0, distance / side), kind="stable")
    n = order.size
    rank = np.unique(np.linspace(0, n - 1, min(n, N_INTERVALS)).round().astype(int))
    lower, upper = lower[order[rank]], upper[order[rank]]
    return Intervals(100.0 * (rank + 0.5) / n, lower, upper, (lower <= truth) & (truth <= upper))


def _draw_panel(axis: Axes, record: Record, found: Intervals, confidence: float) -> None:
    low, high = _range(found, record["truth"])
    for covers, shade in ((True, SKY), (False, RED)):
        own = found.covers == covers
        ends = zip(found.lower[own], found.upper[own], found.rank[own], strict=True)
        segments = [[(left, rank), (right, rank)] for left, right, rank in ends]
        axis.add_collection(LineCollection(segments, colors=shade, linewidths=0.7))
    coverage, half = 100 * record["coverage"], 100 * half_width(record["coverage_mcse"])
    axis.axhspan(coverage - half, coverage + half, color=ORANGE, alpha=0.5, lw=0)
    axis.axhline(100 * confidence, color="black", ls="--", lw=0.8)
    axis.axvline(record["truth"], color="black", lw=1.0)
    axis.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    axis.set_ylim(0, 100)
    axis.set_yticks([0, 25, 50, 75, 100])
    axis.locator_params(axis="x", nbins=4)


def _range(found: Intervals, truth: float) -> tuple[float, float]:
    """A range that shows nearly all ends, and most intervals where some are wide beyond measure."""
    low, high = robust_range(np.concatenate([found.lower, found.upper]), truth)
    reach = MAX_WIDTHS * float(np.median(found.upper - found.lower)) or high - low
    return max(low, truth - reach), min(high, truth + reach)


def _in_words(record: Record) -> str:
    text = f"coverage {share_in_words(record['coverage'], record['coverage_mcse'])}"
    missing = record["n_missing_interval"]
    return text + (f"\n{missing:,} without interval" if missing else "")


def _handles(confidence: float) -> list[Artist]:
    return [
        Line2D([], [], color=SKY, lw=2, label="holds the truth"),
        Line2D([], [], color=RED, lw=2, label="misses it"),
        Line2D([], [], color="black", label="truth"),
        Line2D([], [], color="black", ls="--", lw=0.8, label=f"nominal {100 * confidence:g}%"),
        Patch(facecolor=ORANGE, alpha=0.5, label="coverage"),
    ]
