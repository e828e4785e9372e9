"""Zip plot: all intervals of a method, ordered so that those that miss the truth lie on top."""

from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from mcsim.plots.drawing import ORANGE, RED, SKY, half_width, robust_range, share_in_words
from mcsim.plots.replicate_panels import Look, draw_panels, panel_rows, there
from mcsim.summary.records import Record, share_missing
from mcsim.summary.selection import Numbers, Shown, refuse_nothing

Floats = NDArray[np.float64]

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

    def draw(axis: Axes, record: Record) -> str:
        found = thinned_intervals(record["truth"], shown.numbers_of(record))
        _draw_panel(axis, record, found, shown.confidence)
        return _in_words(record)

    look = Look("Intervals", NOTE, PANEL, _handles(shown.confidence), "intervals, %")
    return draw_panels(shown, rows, look, draw)


def thinned_intervals(truth: float, numbers: Numbers) -> Intervals:
    """At most N_INTERVALS of the intervals, evenly over all ranks.

    Ordered by the distance of the truth from the estimate as a share of the interval's side towards
    it: as by abs(z) where intervals are symmetric; where they are lopsided, those that miss the
    truth still come last.
    """
    estimate, lower, upper = there(numbers.estimate, numbers.ci_lower, numbers.ci_upper)
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
        ends = np.stack([found.lower[own], found.rank[own], found.upper[own], found.rank[own]], 1)
        # one path for all lines: a path each would make the file three times as large
        lines = Path(ends.reshape(-1, 2), [Path.MOVETO, Path.LINETO] * int(own.sum()))
        axis.add_patch(PathPatch(lines, fill=False, edgecolor=shade, linewidth=0.7, zorder=2))
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
    share = f" ({share_missing(record):.1%})" if missing else ""
    return text + (f"\n{missing:,} without interval{share}" if missing else "")


def _handles(confidence: float) -> list[Artist]:
    return [
        Line2D([], [], color=SKY, lw=2, label="holds the truth"),
        Line2D([], [], color=RED, lw=2, label="misses it"),
        Line2D([], [], color="black", label="truth"),
        Line2D([], [], color="black", ls="--", lw=0.8, label=f"nominal {100 * confidence:g}%"),
        Patch(facecolor=ORANGE, alpha=0.5, label="coverage"),
    ]
