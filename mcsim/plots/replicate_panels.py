"""Panels that show the replicates of one row each: which there are, where they stand, their titles.

What figures of estimates, of intervals, of realized values and of pairs of methods share.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mcsim.plots.drawing import (
    BLUE,
    LINE,
    Frame,
    n_side_by_side,
    panel_grid,
    replicates_in_words,
    robust_range,
)
from mcsim.summary.compare import without_rounding
from mcsim.summary.records import Record, one_per_fit, unique
from mcsim.summary.selection import Shown
from mcsim.summary.text import with_mcse, wrapped

Floats = NDArray[np.float64]
Rows = Sequence[Sequence[Record]]  # of panels

SAME_ESTIMATES = ("mean", "emp_se", "n")  # methods that agree in these have the same ones
MAX_COLUMNS = 8  # of panels of one parameter side by side
LINE_LENGTH = 4  # panels on a line that several parameters share
TIGHT = 1e-4  # of the values, that an axis spans
TITLE_WIDTH = 34  # characters


class Look(NamedTuple):
    """What the panels of a figure share.

    size : inches, width and height; upright : words for the upright axes, once per parameter;
    has_methods : whether titles name the methods where there are several
    """

    heading: str
    note: str
    size: tuple[float, float]
    handles: Sequence[Artist]
    upright: str = ""
    has_methods: bool = True


def panel_rows(shown: Shown, needed: str, measures: Sequence[str]) -> list[list[Record]]:
    """Records that have the measure `needed`, a list per parameter.

    Methods of a fit that agree in `measures` there are drawn once.
    """
    known = [r for r in shown.records if r["component"] != "terms" and r[needed] is not None]
    parameters = unique(record["parameter"] for record in known)
    return [one_per_fit([r for r in known if r["parameter"] == p], measures) for p in parameters]


def draw_panels(
    shown: Shown, rows: Rows, look: Look, draw: Callable[[Axes, Record], str]
) -> Figure:
    """A panel per record, under its parameter, condition, method and what `draw` says of it."""
    records = [record for row in rows for record in row]
    note = f"{replicates_in_words(records)} {look.note}"
    frame = Frame(look.heading, shown.title, note, look.handles)
    figure, axes = _panel_axes(rows, look.size, frame)
    has_methods = look.has_methods and len({record["shown_as"] for record in records}) > 1
    for row, panels in zip(rows, axes, strict=True):
        for record, axis in zip(row, panels, strict=True):
            method = record["shown_as"] if has_methods else ""
            name = ", ".join(filter(None, [record["parameter"], record.get("scale")]))
            parts = name, record["place"], method, draw(axis, record)
            title = "\n".join(wrapped(part, TITLE_WIDTH) for part in parts if part)
            axis.set_title(title, loc="left")
        if look.upright:
            panels[0].set_ylabel(look.upright)
    return figure


def _panel_axes(
    rows: Rows, size: tuple[float, float], frame: Frame
) -> tuple[Figure, list[list[Axes]]]:
    """Axes in the shape of the rows, each of which stays on one line if it can."""
    longest, n_panels = max(map(len, rows)), sum(map(len, rows))
    width, height = size[0], size[1] + LINE * _n_more_lines(rows)
    is_mixed = longest > n_side_by_side(width, MAX_COLUMNS)
    line_length = n_side_by_side(width, LINE_LENGTH)
    n_rows = 1 if is_mixed else min(max(1, line_length // longest), len(rows))  # side by side
    n_columns = line_length if is_mixed else n_rows * longest
    n_lines = -(-n_panels // line_length) if is_mixed else -(-len(rows) // n_rows)
    figure, grid = panel_grid([height] * n_lines, [width] * n_columns, frame)
    places = iter(grid.ravel() if is_mixed else grid.reshape(-1, longest))
    axes: list[list[Axes]] = [
        [next(places) for _ in row] if is_mixed else list(next(places)[: len(row)]) for row in rows
    ]
    used = {axis for line in axes for axis in line}
    for axis in grid.ravel():
        if axis not in used:
            axis.set_axis_off()
    return figure, axes


def _n_more_lines(rows: Rows) -> int:
    """Lines of the titles beyond one for the parameter and one for condition or method."""
    parts = ("parameter", "place", "shown_as")
    names = [[record[part] for part in parts] for row in rows for record in row]
    has_both = all(len({name[i] for name in names}) > 1 for i in (1, 2))
    n_breaks = (sum(wrapped(part, TITLE_WIDTH).count("\n") for part in name) for name in names)
    return max(n_breaks) + has_both


def draw_points(axis: Axes, x: Floats, y: Floats, *others: float) -> str:
    """Points and the diagonal in a square that holds nearly all; how far off they are, in words.

    It says the mean of y less x with its Monte Carlo standard error, and how many are outside.

    others : values that the square must hold
    """
    low, high = robust_range(np.concatenate([x, y]), *others)
    span = low - 0.05 * (high - low), high + 0.05 * (high - low)
    axis.plot(span, span, color="black", ls="--", lw=0.8)
    shade = min(0.6, max(0.08, 60.0 / x.size))
    axis.plot(x, y, "o", ms=2.5, mew=0, color=BLUE, alpha=shade, rasterized=True)
    axis.set(xlim=span, ylim=span, aspect="equal")
    low, high = axis.get_xlim()
    is_tight = high - low < TIGHT * max(abs(low), abs(high))  # ticks of many digits
    axis.locator_params(nbins=1 if is_tight else 4)
    n_outside = int(np.sum((np.minimum(x, y) < span[0]) | (np.maximum(x, y) > span[1])))
    outside = f"\n{n_outside:,} further out" if n_outside else ""
    return _mean_difference(x, y) + outside


def _mean_difference(A: Floats, B: Floats) -> str:
    differences = without_rounding(A, B) - A
    mcse = float(differences.std(ddof=1)) / A.size**0.5 if A.size > 1 else None
    return f"difference {with_mcse(float(differences.mean()), mcse)}"


def there(*values: Floats) -> tuple[Floats, ...]:
    """The values of the replicates that have all of them."""
    has_all = ~np.isnan(np.sum(values, axis=0))
    return tuple(one[has_all] for one in values)
