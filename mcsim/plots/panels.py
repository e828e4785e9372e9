"""Panels of one row of a summary each: which there are, where they stand, what is above them."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mcsim.plots.drawing import LINE, Frame, panel_grid, wrapped
from mcsim.summary.records import Record, one_per_fit, unique
from mcsim.summary.selection import Shown

Rows = Sequence[Sequence[Record]]  # of panels

MAX_COLUMNS = 8  # of panels of one parameter side by side
LINE_LENGTH = 4  # panels on a line that several parameters share
TITLE_WIDTH = 34  # characters


def panel_rows(shown: Shown, needed: str, measures: Sequence[str]) -> list[list[Record]]:
    """Records that have the measure `needed`, a list per parameter.

    Methods of a fit that agree in `measures` there are drawn once.
    """
    known = [r for r in shown.records if r["component"] != "terms" and r[needed] is not None]
    parameters = unique(record["parameter"] for record in known)
    return [one_per_fit([r for r in known if r["parameter"] == p], measures) for p in parameters]


def panel_axes(
    rows: Rows, size: tuple[float, float], frame: Frame
) -> tuple[Figure, list[list[Axes]]]:
    """Axes in the shape of the rows, each of which stays on one line if it can.

    size : inches, width and height
    """
    longest, n_panels = max(map(len, rows)), sum(map(len, rows))
    size = size[0], size[1] + LINE * _n_more_lines(rows)
    if longest > MAX_COLUMNS:
        figure, grid = _grid(-(-n_panels // LINE_LENGTH), LINE_LENGTH, size, frame)
        places = iter(grid.ravel())
        axes = [[next(places) for _ in row] for row in rows]
    else:
        n_side_by_side = min(max(1, LINE_LENGTH // longest), len(rows))
        n_lines = -(-len(rows) // n_side_by_side)
        figure, grid = _grid(n_lines, n_side_by_side * longest, size, frame)
        lines = grid.reshape(-1, longest)
        axes = [list(line[: len(row)]) for line, row in zip(lines, rows, strict=False)]
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


def _grid(
    n_lines: int, n_columns: int, size: tuple[float, float], frame: Frame
) -> tuple[Figure, NDArray[Any]]:
    return panel_grid([size[1]] * n_lines, [size[0]] * n_columns, frame)


def label_left(axes: Sequence[Sequence[Axes]], words: str) -> None:
    """Words for the upright axes, once per parameter."""
    for panels in axes:
        panels[0].set_ylabel(words)


def title_panels(rows: Rows, axes: Sequence[Sequence[Axes]], say: Callable[[Record], str]) -> None:
    """Parameter and condition above every panel, the method where there are several, and `say`."""
    several = len({record["shown_as"] for row in rows for record in row}) > 1
    for row, panels in zip(rows, axes, strict=True):
        for record, axis in zip(row, panels, strict=True):
            method = record["shown_as"] if several else ""
            title_panel(axis, record["parameter"], record["place"], method, say(record))


def title_panel(axis: Axes, *parts: str) -> None:
    """The parts that there are above a panel, on lines of their own."""
    axis.set_title("\n".join(wrapped(part, TITLE_WIDTH) for part in parts if part), loc="left")
