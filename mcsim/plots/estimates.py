"""Histograms of the estimates: the truth, their mean, and the share at exactly zero."""

from functools import cache

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mcsim.plots.drawing import (
    BLUE,
    GREY,
    RED,
    SKY,
    half_width,
    number,
    robust_range,
    share_in_words,
)
from mcsim.plots.measure_axes import bars_of, value_of
from mcsim.plots.replicate_panels import SAME_ESTIMATES, Look, draw_panels, panel_rows, there
from mcsim.summary.records import Record
from mcsim.summary.selection import Shown, refuse_nothing

Floats = NDArray[np.float64]

N_BINS = 30
PANEL = (2.3, 1.75)
BROKEN = (0, (3, 2))
NOTE = "In parentheses: Monte Carlo standard error of the share."


def draw_estimates(shown: Shown, _measure: str | None) -> Figure:
    """Histogram of the estimates of every parameter, condition and method."""
    refuse_nothing(shown.records, ["mean"], shown)
    rows = panel_rows(shown, "mean", SAME_ESTIMATES)
    own = {row[0]["parameter"]: row for row in rows}

    @cache
    def limits_of(parameter: str) -> tuple[float, float]:
        """The same range for all panels of a parameter."""
        values = [there(shown.numbers_of(record).estimate)[0] for record in own[parameter]]
        return robust_range(np.concatenate(values), own[parameter][0]["truth"])

    def draw(axis: Axes, record: Record) -> str:
        (estimates,) = there(shown.numbers_of(record).estimate)
        _draw_histogram(axis, record, estimates, limits_of(record["parameter"]))
        return _zeros_in_words(record)

    look = Look("Estimates", NOTE, PANEL, _handles(), "replicates, %")
    return draw_panels(shown, rows, look, draw)


def _draw_histogram(
    axis: Axes, record: Record, estimates: Floats, limits: tuple[float, float]
) -> None:
    is_zero = (estimates == 0.0) & (record["share_at_zero"] is not None)
    kept = estimates[~is_zero & (estimates >= limits[0]) & (estimates <= limits[1])]
    low, high = (kept.min(), kept.max()) if np.unique(kept[:100]).size > 1 else limits
    low = 0.0 if is_zero.any() else low  # the bar of zeros ends where the others begin
    counts, edges = np.histogram(kept, bins=N_BINS, range=(low, high))
    heights = 100.0 * counts / estimates.size
    axis.stairs(heights, edges, fill=True, color=SKY)
    step = (limits[1] - limits[0]) / N_BINS
    axis.set_xlim(limits[0] - 3 * step, limits[1] + step)
    if is_zero.any():
        _draw_zeros(axis, record, 1.5 * step)
    _draw_centre(axis, record)
    axis.set_ylim(0, 1.15 * max(heights.max(), 100.0 * is_zero.mean()))
    axis.locator_params(axis="x", nbins=4)
    if n_outside := estimates.size - kept.size - int(is_zero.sum()):
        axis.text(0.99, 0.98, f"{n_outside:,} further out", ha="right", va="top", fontsize=7,
                  transform=axis.transAxes)  # fmt: skip


def _draw_zeros(axis: Axes, record: Record, width: float) -> None:
    point = value_of(record, "share_at_zero")
    share, error = number(point[0]), bars_of([point], "share_at_zero")
    axis.bar(-width / 2, share, width, color=RED, hatch="////", edgecolor="white", linewidth=0)
    axis.errorbar(-width / 2, share, error, color=GREY, elinewidth=0.8)  # black is the truth


def _draw_centre(axis: Axes, record: Record) -> None:
    """Truth, and mean with its Monte Carlo interval."""
    if record["truth"] is not None:
        axis.axvline(record["truth"], color="black", lw=1.0)
    mean, half = record["mean"], half_width(record["mean_mcse"])
    axis.axvline(mean, color=BLUE, lw=1.2, ls=BROKEN)
    if record["mean_mcse"] is not None:
        axis.axvspan(mean - half, mean + half, color=BLUE, alpha=0.25, lw=0)


def _zeros_in_words(record: Record) -> str:
    if record["share_at_zero"] is None:
        return ""
    return f"{share_in_words(record['share_at_zero'], record['share_at_zero_mcse'])} at zero"


def _handles() -> list[Artist]:
    return [
        Line2D([], [], color="black", label="truth"),
        Line2D([], [], color=BLUE, ls=BROKEN, label="mean; band: its 95% Monte Carlo interval"),
        Patch(facecolor=RED, hatch="////", edgecolor="white", label="exactly zero"),
    ]
