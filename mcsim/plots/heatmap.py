"""A measure over two swept keys: a cell per condition, its number in it."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.errors import DataError
from mcsim.measures import SHARES
from mcsim.plots.curves import refuse_no_sweep, rest_in_words
from mcsim.plots.drawing import (
    CHARACTER,
    LINE,
    Floats,
    Frame,
    n_side_by_side,
    number,
    panel_grid,
    replicates_in_words,
)
from mcsim.plots.measure_axes import heading_of, value_of
from mcsim.summary.records import Record, measure_named, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing
from mcsim.summary.summarize import value_text
from mcsim.summary.text import wrapped

CELL = (0.52, 0.3)  # inches
MOST_COLUMNS = 3
MIN_WIDTH = 2.2  # inches of a panel
TITLE_WIDTH, MIN_LABEL, TICK_WIDTH = 34, 10, 9  # characters
TICK_CHARACTER, GAP, BESIDE = 0.066, 0.06, 0.4  # inches: of a tick, between ticks, of a label
COLOURS = "cividis"  # told apart by people who see red and green alike, and in print
DARK = 0.55  # of the range: cells below have white numbers
NOTE = "Numbers: the measure; its Monte Carlo errors: mcsim summarize."


def draw_heatmap(shown: Shown, measure: str | None) -> Figure:
    """A panel per parameter, method and other swept values, the same colours in all.

    Raises
    ------
    DataError
        Fewer than two keys are swept.
    """
    refuse_no_sweep(shown)
    across, *more = shown.swept
    if not more:
        raise DataError(
            f"one key is swept, {shown.swept[across]}, and a heatmap has two: --kind curves"
            " or power draws one"
        )
    has_tests = any(r["rejection"] is not None and r["truth"] for r in shown.records)
    name = measure_named(measure or ("rejection" if has_tests else "coverage"))
    refuse_nothing(shown.records, [name], shown)
    records = one_per_fit([r for r in shown.records if r[name] is not None], [name])
    records.sort(key=lambda record: shown.parameters.index(record["parameter"]))
    panels = _panels(records, {key: shown.swept[key] for key in more[1:]})
    axes_of = {key: shown.values_of(key) for key in (across, more[0])}
    labels = [shown.axis_label(key) for key in axes_of]
    ticks = [_ticks(values, shown.units_in_all(key)) for key, values in axes_of.items()]
    height = _cell(ticks)[1]
    figure, axes = _grid(panels, ticks, name, shown)
    values = [number(value_of(record, name)[0]) for record in records]
    limits = min(values), max(values)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, own) in zip(axes, panels.items(), strict=False):
        cells = _cells(own, axes_of, name)
        _draw_panel(axis, cells, limits)
        axis.set_xticks(range(len(ticks[0])), ticks[0])
        axis.set_yticks(range(len(ticks[1])), ticks[1])
        axis.set_xlabel(wrapped(labels[0], TITLE_WIDTH))
        axis.set_ylabel(wrapped(labels[1], max(MIN_LABEL, int(height * len(cells) / CHARACTER))))
        axis.set_title("\n".join(wrapped(x, TITLE_WIDTH) for x in title.split("\n")), loc="left")
    return figure


def _ticks(values: Mapping[str, str], totals: Mapping[str, int]) -> list[str]:
    """Words for values, of numbers of units with how many are in all."""
    lines = {value: wrapped(words, TICK_WIDTH) for value, words in values.items()}
    return [f"{words}\n({totals[value]:,})" if totals else words for value, words in lines.items()]


def _cell(ticks: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Inches of a cell that has room for the ticks below and on the left."""
    n_lines = 1 + max(tick.count("\n") for tick in ticks[1])
    return max(CELL[0], _width(ticks[0]) + GAP), max(CELL[1], LINE * n_lines)


def _width(ticks: Sequence[str]) -> float:
    """Inches of the longest line."""
    return TICK_CHARACTER * max(len(line) for tick in ticks for line in tick.split("\n"))


def _panels(records: Sequence[Record], others: dict[str, str]) -> dict[str, list[Record]]:
    several = len(unique(record["shown_as"] for record in records)) > 1
    found: dict[str, list[Record]] = {}
    for record in records:
        rest = rest_in_words(record, others)
        title = filter(None, [record["parameter"], record["shown_as"] * several, rest])
        found.setdefault("\n".join(title), []).append(record)
    return found


def _grid(
    panels: dict[str, list[Record]], ticks: Sequence[Sequence[str]], name: str, shown: Shown
) -> tuple[Figure, list[Axes]]:
    n_methods = len(unique(r["shown_as"] for own in panels.values() for r in own))
    n_columns = min(MOST_COLUMNS, len(panels) if n_methods in (1, len(panels)) else n_methods)
    (n_across, n_up), cell = map(len, ticks), _cell(ticks)
    width = max(MIN_WIDTH, cell[0] * n_across + _width(ticks[1]) + BESIDE)
    n_columns = n_side_by_side(width, n_columns)
    n_lines = 1 + max(title.count("\n") for title in panels)
    n_lines += max(tick.count("\n") for tick in ticks[0])
    height = cell[1] * n_up + 0.6 + LINE * n_lines
    note = f"{replicates_in_words([r for own in panels.values() for r in own])} {NOTE}"
    frame = Frame(f"{heading_of(name)}{', %' * (name in SHARES)}", shown.title, note)
    n_rows = -(-len(panels) // n_columns)
    figure, axes = panel_grid([height] * n_rows, [width] * n_columns, frame, n_panels=len(panels))
    return figure, list(axes.ravel())


def _cells(
    records: Sequence[Record], axes_of: Mapping[str, Mapping[str, str]], name: str
) -> Floats:
    """(n_up, n_across), NaN where there is no condition."""
    place_of = {
        key: {value: i for i, value in enumerate(values)} for key, values in axes_of.items()
    }
    n_across, n_up = map(len, axes_of.values())
    cells = np.full((n_up, n_across), np.nan)
    for record in records:
        column, row = (places[value_text(record[key])] for key, places in place_of.items())
        cells[row, column] = number(value_of(record, name)[0])
    return cells


def _draw_panel(axis: Axes, cells: Floats, limits: tuple[float, float]) -> None:
    low, high = limits
    cmap = mpl.colormaps[COLOURS]
    axis.imshow(cells, cmap=cmap, vmin=low, vmax=high, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            ink = "white" if value <= low + DARK * (high - low) else "black"
            axis.text(column, row, f"{value:.3g}", ha="center", va="center", color=ink, fontsize=7)
    axis.tick_params(length=0)
