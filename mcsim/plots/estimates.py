"""Histograms of the estimates: the truth, their mean, and the share at exactly zero."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mcsim.plots.drawing import (
    BLUE,
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

SAME = ("mean", "emp_se", "n")  # methods that agree in these have the same estimates
N_BINS = 30
PANEL = (2.3, 1.75)
BROKEN = (0, (3, 2))
NOTE = "In parentheses: Monte Carlo standard error of the share."


def draw_estimates(shown: Shown, _measure: str | None) -> Figure:
    """Histogram of the estimates of every parameter, condition and method."""
    refuse_nothing(shown.records, ["mean"], shown)
    rows = panel_rows(shown, "mean", SAME)
    drawn = shown.only(record for row in rows for record in row)
    note = f"{replicates_in_words(drawn.records)} {NOTE}"
    figure, axes = panel_axes(rows, PANEL, Frame("Estimates", shown.title, note, _handles()))
    found = read_numbers(drawn, lambda _record, _replicates, numbers: numbers[0].copy())
    for row, panels in zip(rows, axes, strict=True):
        values = [found[key_of(record)] for record in row]
        _draw_histograms(panels, row, [one[~np.isnan(one)] for one in values])
    label_left(axes, "replicates, %")
    title_panels(rows, axes, _zeros_in_words)
    return figure


def _draw_histograms(axes: Sequence[Axes], row: Sequence[Record], values: list[Floats]) -> None:
    """Panels of one parameter, with the same range."""
    limits = robust_range(np.concatenate(values), row[0]["truth"])
    for axis, record, estimates in zip(axes, row, values, strict=True):
        _draw_histogram(axis, record, estimates, limits)


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
    share, mcse = 100 * record["share_at_zero"], 100 * record["share_at_zero_mcse"]
    axis.bar(-width / 2, share, width, color=RED, hatch="////", edgecolor="white", linewidth=0)
    axis.errorbar(-width / 2, share, half_width(mcse), color="black", elinewidth=0.8)


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
