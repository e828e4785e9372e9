"""A drawing of who is measured: a line per level, with units, numbers, factors and crossing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.design.units import Design, Flags, Ints
from mcsim.design.words import design_in_words
from mcsim.engine.crossed.partitions import is_within
from mcsim.plots.drawing import (
    CHARACTER,
    GREY,
    LINE,
    Frame,
    colour,
    panel_grid,
    width_of_page,
)
from mcsim.report.one_data_set import shown_condition
from mcsim.summary.records import Globs
from mcsim.summary.text import SLACK, wrapped

WIDTH = 6.6  # inches of the drawing
WORDS = 26  # characters of the words on the left
LEFT = WORDS * CHARACTER  # inches, where units begin
STEP = 0.3  # inches from unit to unit, at most
ROOM = 0.5  # inches of a line beside its words
MOST_UNITS = 14  # of a line that are drawn
MOST_CELLS = 6  # of a line
MOST_JOINED = 4  # units whose lines to those below are drawn
LEAST = 3  # units that a cell has room for, since words stand below it
NOTE = "Of the units above, one is drawn with what is in it; dots stand for more."


class Cell(NamedTuple):
    """Units of a line whose own factors agree: words, how many in all, which are drawn."""

    words: str
    n: int
    ink: str
    units: list[int]

    @property
    def n_slots(self) -> int:
        """Places side by side: of units, of the dots that stand for more, and a gap."""
        return max(LEAST, len(self.units) + (self.n > len(self.units))) + 1


class Row(NamedTuple):
    """A line: its words, its cells, the unit of every row of the design; inches for all."""

    words: str
    cells: list[Cell]
    unit_of_row: Ints
    width: float

    @property
    def step(self) -> float:
        """Inches from unit to unit."""
        return min(STEP, (self.width - LEFT) / sum(cell.n_slots for cell in self.cells))

    @property
    def lines(self) -> list[str]:
        """The words on the left, in lines."""
        return [line for one in self.words.split(", ") for line in wrapped(one, WORDS).split("\n")]

    def label(self, cell: Cell) -> str:
        """What stands below the units of a cell."""
        room = int(cell.n_slots * self.step / CHARACTER) - SLACK
        words = [wrapped(cell.words, max(SLACK, room))] if cell.words else []
        return "\n".join([*words, f"{cell.n:,}"] if cell.n else words)

    @property
    def height(self) -> float:
        """Inches."""
        below = max(self.label(cell).count("\n") + 1 for cell in self.cells)
        return max(ROOM + LINE * below, LINE * (len(self.lines) + 1.5))


def draw_design_of(results: Path, label: Globs | None) -> Figure:
    """The design of a study's condition; errors as of `draw_data_of`."""
    of = shown_condition(results, label)
    return draw_design(of.simulator.design, of.title, of.name)


def draw_design(design: Design, title: str, name: str) -> Figure:
    """A design, of the condition with this name."""
    width = width_of_page(WIDTH)
    rows = list(_rows(design, width))
    said = f"{name}." if name else "", _covariates_in_words(design), NOTE
    frame = Frame("Who is measured", title, " ".join(filter(None, said)))
    figure, axes = panel_grid([sum(row.height for row in rows)], [width], frame)
    _draw(axes[0, 0], rows)
    return figure


def _rows(design: Design, width: float) -> Iterator[Row]:
    """Lines from the outermost level to observations."""
    words = design_in_words(design).split("; ")
    is_own, known = np.ones(len(design.frame), dtype=bool), list[str]()
    seen: list[Ints] = []
    places = [*design.unit_of_row.items(), ("", np.arange(len(design.frame)))]
    ink = colour(0)
    for text, (level, unit) in zip(words, places, strict=True):
        crosses = bool(level) and not all(is_within(unit, one) for one in seen)
        own = _own_factors(design, unit, known)
        known += own
        cells = _cells(design, own, unit, np.ones_like(is_own) if crosses else is_own, ink)
        by = f", by {' and '.join(own)}" if own else ""
        yield Row(f"{text}{by}", cells, unit, width)
        if not crosses:
            ink = cells[0].ink
            is_own = is_own & (unit == cells[0].units[0])
        seen.append(unit)


def _own_factors(design: Design, unit: Ints, known: Sequence[str]) -> list[str]:
    """Factors that differ between these units, and did not between those around them."""
    first = np.unique(unit, return_index=True)[1]
    codes = {name: design.frame[name].cat.codes.to_numpy() for name in design.factors}
    return [
        name
        for name, code in codes.items()
        if name not in known and np.array_equal(code[first][unit], code)
    ]


def _cells(
    design: Design, factors: Sequence[str], unit: Ints, is_own: Flags, ink: str
) -> list[Cell]:
    """Cells of some factors among the units of the rows that are drawn, in the factors' order."""
    first = np.unique(unit, return_index=True)[1]
    first = first[np.isin(unit[first], unit[is_own])]
    codes = [design.frame[name].cat.codes.to_numpy()[first] for name in factors]
    cells, cell_of = np.unique(
        np.column_stack([*codes, np.zeros(len(first), dtype=int)]), axis=0, return_inverse=True
    )
    n_drawn = max(1, MOST_UNITS // min(len(cells), MOST_CELLS))
    found = []
    for i, cell in enumerate(cells[:MOST_CELLS]):
        units = unit[first][cell_of.reshape(-1) == i]
        names = [design.factors[name][code] for name, code in zip(factors, cell, strict=False)]
        found.append(
            Cell(
                ", ".join(names),
                len(units),
                colour(i) if factors else ink,
                units[:n_drawn].tolist(),
            )
        )
    if len(cells) > MOST_CELLS:
        found.append(Cell(f"{len(cells) - MOST_CELLS} more cells", 0, GREY, []))
    return found


def _covariates_in_words(design: Design) -> str:
    """`x from 0 to 1. `"""
    numbers = design.frame.drop(columns=list(design.unit_of_row)).select_dtypes("number")
    said = [
        f"{name} from {values.min():.3g} to {values.max():.3g}" for name, values in numbers.items()
    ]
    return f"Covariates: {', '.join(said)}." if said else ""


def _draw(axis: Axes, rows: Sequence[Row]) -> None:
    """In inches, from the top down."""
    y, above, previous = 0.0, dict[int, tuple[float, float]](), None
    for row in rows:
        places = {unit: (x, y) for unit, x in _places(row)}
        if previous is not None:
            for one, other in _joined(row, previous):
                ends = zip(above[one], places[other], strict=True)
                axis.plot(*ends, color=GREY, lw=0.5, alpha=0.7, zorder=1)
        _draw_row(axis, row, places, y, is_last=row is rows[-1])
        y, above, previous = y - row.height, places, row
    axis.set(xlim=(0, rows[0].width), ylim=(y + LINE, LINE), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _draw_row(
    axis: Axes, row: Row, places: dict[int, tuple[float, float]], y: float, *, is_last: bool
) -> None:
    axis.text(0, y, "\n".join(row.lines), va="center", fontsize=7.5)
    x = LEFT
    for cell in row.cells:
        points = [places[unit] for unit in cell.units]
        if points:
            shape, size = ("s", 3.5) if is_last else ("o", 8)
            axis.plot(*zip(*points, strict=True), ls="none", marker=shape, ms=size, color=cell.ink)
        middle = x + 0.5 * row.step * (cell.n_slots - 2)
        if cell.n > len(points) > 0:
            dots = [points[-1][0] + row.step * (1 + shift) for shift in (-0.25, 0.0, 0.25)]
            axis.plot(dots, [y] * 3, ls="none", marker=".", ms=2, color=cell.ink)
        axis.text(
            middle, y - LINE, row.label(cell), ha="center", va="top", fontsize=7, color=cell.ink,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        x += row.step * cell.n_slots


def _places(row: Row) -> Iterator[tuple[int, float]]:
    """Where units stand side by side, those of a cell in the middle of its room."""
    x = LEFT
    for cell in row.cells:
        n = len(cell.units) + (cell.n > len(cell.units))
        start = x + 0.5 * row.step * (cell.n_slots - 1 - n)
        yield from ((unit, start + row.step * i) for i, unit in enumerate(cell.units))
        x += row.step * cell.n_slots


def _joined(row: Row, above: Row) -> set[tuple[int, int]]:
    """Pairs of units that are drawn, one above the other, and meet in some row of the design."""
    drawn = [[unit for cell in one.cells for unit in cell.units] for one in (above, row)]
    drawn[0] = drawn[0][:MOST_JOINED] if len(drawn[1]) > 1 else drawn[0]
    units = above.unit_of_row, row.unit_of_row
    both = np.isin(units[0], drawn[0]) & np.isin(units[1], drawn[1])
    return set(zip(units[0][both].tolist(), units[1][both].tolist(), strict=True))
