"""Panels that show the replicates of one row each: which there are, where they stand, their titles.

What figures of estimates, of intervals, of realized values and of pairs of methods share.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
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
    width, height = size[0], size[1] + LINE * _n_more_lines(rows)
    longest, most = max(map(len, rows)), n_side_by_side(width, MAX_COLUMNS)
    n_rows = max(1, n_side_by_side(width, LINE_LENGTH) // longest)  # side by side
    if n_rows > 1:
        n_rows = min(n_rows, len(rows))
        places = [
            (i // n_rows, i % n_rows * longest + j)
            for i, row in enumerate(rows)
            for j in range(len(row))
        ]
    else:
        places = list(_broken(rows, most))
    n_lines, n_columns = (1 + max(one) for one in zip(*places, strict=True))
    heights, widths = [height] * n_lines, [width] * n_columns
    figure, grid = panel_grid(heights, widths, frame, n_panels=len(places))
    for place, axis in np.ndenumerate(grid):
        if place not in places:
            axis.set_axis_off()
    drawn = (grid[place] for place in places)
    return figure, [[next(drawn) for _ in row] for row in rows]


def _broken(rows: Rows, most: int) -> Iterator[tuple[int, int]]:
    """Line and column of every panel: conditions stay together where at most so many have room."""
    line = -1
    for row in rows:
        column = most  # a parameter begins on the left
        for _, group in groupby(row, key=lambda record: record["place"]):
            n = len(list(group))
            column = column if column + n <= most else most  # on a line of its own
            for _ in range(n):
                line, column = (line, column) if column < most else (line + 1, 0)
                yield line, column
                column += 1


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
