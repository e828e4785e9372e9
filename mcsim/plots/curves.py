"""Curves of measures against a swept value, such as the number of animals."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.measures import SHARES
from mcsim.plots.drawing import (
    BAR_NOTE,
    Frame,
    colour,
    error_note,
    line,
    marker,
    method_handles,
    number,
    panel_grid,
    reference_handles,
    width_of_page,
)
from mcsim.plots.measure_axes import (
    AXES,
    NO_REFERENCE,
    bars_of,
    having,
    limit_upright,
    reference,
    reference_words,
    share_upright,
    value_of,
    words_of_all,
)
from mcsim.summary.records import Record, drawn_once, measure_named, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing
from mcsim.summary.summarize import value_text
from mcsim.summary.text import wrapped

MEASURES = ("rmse", "rejection", "coverage")  # unless one is chosen; narrow screens show two
ACROSS = 4, 3  # panels of one measure in a row, of few and of more, where there is room
WIDTH, HEIGHT = 2.6, 2.0  # inches of a panel
TITLE_WIDTH = 38  # characters
LOG_RANGE = 8.0  # swept values this far apart stand on a logarithmic axis
ROOM = 0.6  # of an axis, on the right, for words at the ends of lines
APART = 0.09  # of an upright axis, between such words
MAX_TICKS, MAX_LONG_TICKS = 7, 5  # of an axis
LONG, LONG_NUMBER = 100, 5  # units in all, characters of a swept number, that make ticks long
MAX_WORDS = 22  # characters at the end of a line
TICK_WIDTH = 9  # characters of a tick of a table
STEP_ASIDE = 0.012  # of the axis, between methods, so that their bars do not hide each other


class Curves(NamedTuple):
    """A panel: its title, its measure, its records, and by what else than methods lines differ."""

    title: str
    measure: str
    records: list[Record]
    others: dict[str, str]


class End(NamedTuple):
    """Where a line ends, its words and its colour."""

    height: float
    words: str
    ink: str


class SweptAxis(NamedTuple):
    """Where swept values stand: numbers at their place, others in their order.

    places : of the values' texts, in order;
    values : their words; totals : of numbers of units, how many are in all
    """

    name: str
    column: str
    places: dict[str, float]
    is_log: bool
    values: Mapping[str, str]
    is_number: bool = True
    totals: Mapping[str, int] = MappingProxyType({})

    @property
    def words(self) -> str:
        """The words of the axis."""
        return f"{self.name} (in all)" if self.totals else self.name

    def tick(self, value: str) -> str:
        """A value as a tick has it."""
        words = self.values[value]
        if not self.is_number and value != words:  # a key and its value, each unbroken
            words = "\n".join(wrapped(one, TICK_WIDTH) for one in words.split(" ", 1))
        else:
            words = wrapped(words, 12 if self.is_number else 8)
        return f"{words}\n({self.totals[value]:,})" if self.totals else words

    def positions(self, records: Sequence[Record], shift: float) -> NDArray[np.float64]:
        """Where the records stand, moved aside by a share of the axis: (n,)."""
        x = np.array([self.places[value_text(record[self.column])] for record in records])
        low, high = min(self.places.values()), max(self.places.values())
        return x * (high / low) ** shift if self.is_log else x + shift * (high - low)


def draw_curves(shown: Shown, measure: str | None) -> Figure:
    """Measures against the first swept number; lines per method or, if more is swept, its values.

    Raises
    ------
    DataError
        The conditions do not differ in any swept value.
    """
    refuse_no_sweep(shown)
    wanted = [measure_named(measure)] if measure else _measures(shown)
    refuse_nothing(shown.records, wanted, shown)
    measures = [name for name in wanted if any(r[name] is not None for r in shown.records)]
    records = drawn_once(one_per_fit(shown.records, measures), measures)
    swept = swept_axis(shown)
    others = {key: name for key, name in shown.swept.items() if key != swept.column}
    is_lines = swept.is_number and all(
        len(rest_in_words(record, others)) <= MAX_WORDS for record in records
    )
    rows = _rows(records, measures, shown.parameters, others if is_lines else {})
    if not is_lines:
        rows = [panel for row in rows for panel in _parted(row, others)]
    methods = shown.numbered_methods(records)
    rows = [drawn for row in rows if (drawn := [one for one in row if one.records])]
    if len(measures) == 1:
        rows = _side_by_side([*itertools.chain(*rows)])
    note, handles = error_note(records, measures, BAR_NOTE), _handles(measures, methods, shown)
    frame = Frame(f"Against {swept.name}", shown.title, note, handles)
    heights, widths = [HEIGHT] * len(rows), [WIDTH] * max(map(len, rows))
    figure, axes = panel_grid(heights, widths, frame, n_panels=sum(map(len, rows)))
    panels: list[tuple[Curves, Axes]] = []
    for row, along in zip(rows, axes, strict=True):
        panels += zip(row, along, strict=False)
        for axis in along[len(row) :]:
            axis.set_axis_off()
    ends = [_draw_panel(axis, curves, swept, methods) for curves, axis in panels]
    for curves, axis in panels:
        _draw_reference(axis, curves, swept, shown.confidence)
    for words in unique(axis.get_ylabel() for curves, axis in panels if curves.measure in SHARES):
        share_upright([axis for _, axis in panels if axis.get_ylabel() == words])
    for (_, axis), own in zip(panels, ends, strict=True):
        label_ends(axis, own, swept)
    return figure


def _side_by_side(panels: Sequence[Curves]) -> list[list[Curves]]:
    """Panels of one measure in rows."""
    few, more = ACROSS
    n = few if len(panels) <= few else more
    n = max(1, min(n, int(width_of_page(n * WIDTH) / WIDTH)))
    return [[*panels[first : first + n]] for first in range(0, len(panels), n)]


def _measures(shown: Shown) -> list[str]:
    """Those that the title asks for; beside several of them, the usual ones."""
    own = [r for r in shown.records if r["parameter"] in shown.question.parameters]
    is_relative = any(record["relative_bias"] is not None for record in own)
    asked = [name for name in shown.question.measures if name in AXES]
    if is_relative:
        asked = ["relative_bias" if name == "bias" else name for name in asked]
    n = 1 if len(asked) == 1 else max(len(MEASURES), len(asked))
    return unique([*asked, *MEASURES])[:n]


def _handles(measures: Sequence[str], methods: Mapping[str, int], shown: Shown) -> list[Artist]:
    words = [reference_words(m, shown.confidence) for m in measures if m not in NO_REFERENCE]
    return method_handles(methods, linestyle="-") + reference_handles(words)


def refuse_no_sweep(shown: Shown) -> None:
    """Raise a DataError where there is but one condition."""
    if not shown.swept:
        raise DataError(
            "one condition, and nothing swept, which this figure needs: give the scenario a table"
            " [sweep], or choose more conditions. --kind bias or lollipop draws one condition"
        )


def swept_axis(shown: Shown) -> SweptAxis:
    """The first swept key whose values are numbers, or else the first of all."""
    is_number = any(map(shown.is_numeric, shown.swept))
    key = next(key for key in shown.swept if shown.is_numeric(key) == is_number)
    values = shown.values_of(key)
    places = {value: float(value) if is_number else float(i) for i, value in enumerate(values)}
    low, *_, high = places.values()
    return SweptAxis(
        shown.axis_words(key), key, places,
        is_number and low > 0 and high / low >= LOG_RANGE, values, is_number,
        shown.units_in_all(key),
    )  # fmt: skip


def _rows(
    records: Sequence[Record],
    measures: Sequence[str],
    parameters: Sequence[str],
    others: dict[str, str],
) -> list[list[Curves]]:
    """A row of panels per parameter and, where lines differ in other values, per method."""
    several = others and len(unique(record["shown_as"] for record in records)) > 1
    rows: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: parameters.index(record["parameter"])):
        title = "\n".join([record["parameter"], *[record["shown_as"]] * bool(several)])
        rows.setdefault(title, []).append(record)
    return [
        [Curves(title, measure, having(own, measure), others) for measure in measures]
        for title, own in rows.items()
    ]


def _parted(row: Sequence[Curves], others: dict[str, str]) -> list[list[Curves]]:
    """A row of panels for each of the other swept values, which are too long to stand at lines."""
    groups = unique(rest_in_words(record, others) for one in row for record in one.records)
    return [
        [
            one._replace(
                title="\n".join(filter(None, [one.title, group])),
                records=[r for r in one.records if rest_in_words(r, others) == group],
            )
            for one in row
        ]
        for group in groups
    ]


def rest_in_words(record: Record, others: dict[str, str]) -> str:
    """`image.count=4`: the swept values that are not on the axis."""
    return ", ".join(f"{name}={record['words'][key]}" for key, name in others.items())


def label_ends(axis: Axes, ends: Sequence[End], swept: SweptAxis) -> None:
    """Words at the right ends of lines, at these heights or as far apart as can be read."""
    if not any(end.words for end in ends):
        return
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** ROOM if swept.is_log else high + ROOM * (high - low))
    bottom, top = axis.get_ylim()
    heights = np.array([end.height for end in ends])
    order, apart = np.argsort(heights, kind="stable"), min(APART, 1 / len(ends)) * (top - bottom)
    for previous, this in itertools.pairwise(order):
        heights[this] = max(heights[this], heights[previous] + apart)
    heights[order[-1]] = min(heights[order[-1]], top)
    for this, following in itertools.pairwise(order[::-1]):  # down again, those that are too high
        heights[following] = min(heights[following], heights[this] - apart)
    place = max(swept.places.values())
    for height, end in zip(heights, ends, strict=True):
        axis.annotate(end.words, (place, height), xytext=(6, 0), textcoords="offset points",
                      fontsize=6.5, color=end.ink, va="center", annotation_clip=False,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip


def _draw_lines(
    axis: Axes, curves: Curves, swept: SweptAxis, methods: Mapping[str, int]
) -> list[End]:
    groups = unique(rest_in_words(record, curves.others) for record in curves.records)
    n_lines, ends = len(groups) if curves.others else len(methods), []
    for method, group in itertools.product(methods, groups):
        own = [
            record
            for record in curves.records
            if record["shown_as"] == method and rest_in_words(record, curves.others) == group
        ]
        if not own:
            continue
        own.sort(key=lambda record: swept.places[value_text(record[swept.column])])
        points = [value_of(record, curves.measure) for record in own]
        number_of_method, number_of_group = methods[method], groups.index(group)
        place = number_of_group if curves.others else list(methods).index(method)
        y, ink = [number(value) for value, _ in points], colour(number_of_method)
        axis.errorbar(
            swept.positions(own, STEP_ASIDE * (place - 0.5 * (n_lines - 1))), y,
            yerr=bars_of(points, curves.measure), color=ink, lw=1.0, ls=line(number_of_group),
            marker=marker(number_of_method), ms=3.5, capsize=1.5, elinewidth=0.9, capthick=0.9,
        )  # fmt: skip
        ends.append(End(y[-1], group, ink))
    return ends


def _draw_panel(
    axis: Axes, curves: Curves, swept: SweptAxis, methods: Mapping[str, int]
) -> list[End]:
    """The ends of the lines, whose words go by the final range of the axis."""
    ends = _draw_lines(axis, curves, swept, methods)
    axis.set_title(
        "\n".join(wrapped(one, TITLE_WIDTH) for one in curves.title.split("\n")), loc="left"
    )
    axis.set_ylabel(words_of_all(curves.records, curves.measure))
    axis.set_xlabel(wrapped(swept.words, TITLE_WIDTH))
    draw_ticks(axis, swept)
    axis.locator_params(axis="y", nbins=5)
    limit_upright(axis, curves.measure)
    return ends


def draw_ticks(axis: Axes, swept: SweptAxis) -> None:
    """Ticks at swept values, as many as have room."""
    if swept.is_log:
        axis.set_xscale("log")
    x = np.array(list(swept.places.values()))
    axis.update_datalim(np.column_stack([x, x]), updatey=False)  # those without results too
    axis.autoscale_view(scaley=False)
    along = np.log(x) if swept.is_log else x
    is_long = max(swept.totals.values(), default=0) >= LONG or (
        swept.is_number and max(map(len, swept.values.values())) > LONG_NUMBER
    )
    most = MAX_LONG_TICKS if is_long else MAX_TICKS
    chosen = _apart(along, (along.max() - along.min()) / most)
    labels = [swept.tick(list(swept.places)[i]) for i in chosen]
    axis.xaxis.set_major_locator(FixedLocator(x[chosen].tolist()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(x[chosen].tolist(), labels)


def _apart(positions: NDArray[np.float64], distance: float) -> list[int]:
    """Numbers of positions, in ascending order, that lie at least a distance apart."""
    chosen = [0]
    for i, position in enumerate(positions):
        if position - positions[chosen[-1]] >= distance:
            chosen.append(i)
    return chosen


def _draw_reference(axis: Axes, curves: Curves, swept: SweptAxis, confidence: float) -> None:
    known = {}
    for record in curves.records:
        against = reference(record, curves.measure, confidence)
        if against is not None:
            known[float(swept.positions([record], 0.0)[0])] = against
    x = sorted(known)
    axis.plot(x, [known[one] for one in x], color="black", ls="--", lw=0.8, zorder=1)
