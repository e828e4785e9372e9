"""Curves of measures against a swept value, such as the number of animals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.plots.drawing import (
    BAR_NOTE,
    Frame,
    colour,
    error_note,
    marker,
    method_handles,
    number,
    panel_grid,
    reference_handles,
    wrapped,
)
from mcsim.plots.measure_axes import (
    NO_REFERENCE,
    bars_of,
    limit_upright,
    reference,
    reference_words,
    value_of,
    words_of,
)
from mcsim.summary.records import Record, measure_named, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing, value_text

MEASURES = ("rmse", "coverage", "rejection")  # unless one is chosen
WIDTH, HEIGHT = 2.6, 2.0  # inches of a panel
TITLE_WIDTH = 38  # characters
LOG_RANGE = 8.0  # swept values this far apart stand on a logarithmic axis
MAX_TICKS = 6
STEP_ASIDE = 0.012  # of the axis, between methods, so that their bars do not hide each other


class Curves(NamedTuple):
    """A panel: its title, its measure, its records."""

    title: str
    measure: str
    records: list[Record]


class SweptAxis(NamedTuple):
    """Where swept values stand: numbers at their place, others in their order.

    places : of the values' texts, in order
    """

    name: str
    column: str
    places: dict[str, float]
    is_log: bool

    def positions(self, records: Sequence[Record], shift: float) -> NDArray[np.float64]:
        """Where the records stand, moved aside by a share of the axis: (n,)."""
        x = np.array([self.places[value_text(record[self.column])] for record in records])
        low, high = min(self.places.values()), max(self.places.values())
        return x * (high / low) ** shift if self.is_log else x + shift * (high - low)


def draw_curves(shown: Shown, measure: str | None) -> Figure:
    """Measures against the first swept number; panels per parameter and other swept values.

    Raises
    ------
    DataError
        The conditions do not differ in any swept value.
    """
    refuse_no_sweep(shown)
    wanted = [measure_named(measure)] if measure else list(MEASURES)
    refuse_nothing(shown.records, wanted, shown)
    measures = [name for name in wanted if any(r[name] is not None for r in shown.records)]
    records = one_per_fit(shown.records, measures)
    swept = _swept_axis(shown)
    rows = _rows(records, measures, {k: v for k, v in shown.swept.items() if k != swept.column})
    methods = unique(record["shown_as"] for record in records)
    note, handles = error_note(records, measures, BAR_NOTE), _handles(measures, methods, shown)
    frame = Frame(f"Against {swept.name}", shown.title, note, handles)
    figure, axes = panel_grid([HEIGHT] * len(rows), [WIDTH] * len(measures), frame)
    for row, panels in zip(rows, axes, strict=True):
        for curves, axis in zip(row, panels, strict=True):
            _draw_panel(axis, curves, swept, methods)
            _draw_reference(axis, curves, swept, shown.confidence)
    return figure


def _handles(measures: Sequence[str], methods: Sequence[str], shown: Shown) -> list[Artist]:
    words = [reference_words(m, shown.confidence) for m in measures if m not in NO_REFERENCE]
    return method_handles(methods, linestyle="-") + reference_handles(words)


def refuse_no_sweep(shown: Shown) -> None:
    """Raise a DataError where there is but one condition."""
    if not shown.swept:
        raise DataError(
            "one condition, and nothing swept, which this figure needs: give the scenario a table"
            " [sweep], or choose more conditions. --kind bias or lollipop draws one condition"
        )


def _swept_axis(shown: Shown) -> SweptAxis:
    """The first swept key whose values are numbers, or else the first of all."""
    values = {key: unique(value_text(r[key]) for r in shown.records) for key in shown.swept}
    numeric = [key for key in values if all(_is_number(r[key]) for r in shown.records)]
    if not numeric:
        key = next(iter(values))
        return SweptAxis(
            shown.swept[key], key, {v: float(i) for i, v in enumerate(values[key])}, False
        )
    key = numeric[0]
    places = {value: float(value) for value in sorted(values[key], key=float)}
    low, *_, high = places.values()
    return SweptAxis(shown.swept[key], key, places, low > 0 and high / low >= LOG_RANGE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(
    records: Sequence[Record], measures: Sequence[str], others: dict[str, str]
) -> list[list[Curves]]:
    """A row of panels per parameter and combination of the other swept values."""
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        rest = ", ".join(f"{name}={value_text(record[key])}" for key, name in others.items())
        rows.setdefault((record["parameter"], rest), []).append(record)
    return [
        [
            Curves(
                "\n".join(filter(None, names)), measure, [r for r in own if r[measure] is not None]
            )
            for measure in measures
        ]
        for names, own in rows.items()
    ]


def _draw_panel(axis: Axes, curves: Curves, swept: SweptAxis, methods: Sequence[str]) -> None:
    if not curves.records:
        axis.set_axis_off()
        return
    for place, method in enumerate(methods):
        own = [record for record in curves.records if record["shown_as"] == method]
        own.sort(key=lambda record: swept.places[value_text(record[swept.column])])
        points = [value_of(record, curves.measure) for record in own]
        shift = STEP_ASIDE * (place - 0.5 * (len(methods) - 1))
        axis.errorbar(
            swept.positions(own, shift), [number(value) for value, _ in points],
            yerr=bars_of(points, curves.measure), color=colour(place), lw=1.0,
            marker=marker(place), ms=3.5, capsize=1.5, elinewidth=0.9, capthick=0.9,
        )  # fmt: skip
    axis.set_title(
        "\n".join(wrapped(one, TITLE_WIDTH) for one in curves.title.split("\n")), loc="left"
    )
    axis.set_ylabel(words_of(curves.records[0], curves.measure))
    axis.set_xlabel(wrapped(swept.name, TITLE_WIDTH))
    _draw_ticks(axis, swept)
    axis.locator_params(axis="y", nbins=5)
    limit_upright(axis, curves.measure)


def _draw_ticks(axis: Axes, swept: SweptAxis) -> None:
    if swept.is_log:
        axis.set_xscale("log")
    x = np.array(list(swept.places.values()))
    along = np.log(x) if swept.is_log else x
    chosen = _apart(along, (along.max() - along.min()) / MAX_TICKS)
    labels = [wrapped(list(swept.places)[i], 12) for i in chosen]
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
