"""Power against a swept value: curves with Monte Carlo bands, and where they cross 80%."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.errors import DataError
from mcsim.measures.expected import POWER
from mcsim.plots.curves import (
    End,
    SweptAxis,
    draw_ticks,
    label_ends,
    refuse_no_sweep,
    rest_in_words,
    swept_axis,
)
from mcsim.plots.drawing import (
    BAND_NOTE,
    LINE,
    Floats,
    Frame,
    colour,
    error_note,
    line,
    marker,
    method_handles,
    n_side_by_side,
    number,
    panel_grid,
    panel_of,
    reference_handles,
)
from mcsim.plots.measure_axes import OF_TESTS, bars_of, limits_of_shares, value_of
from mcsim.summary.records import Record, drawn_once, has_effect, measure_named, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing
from mcsim.summary.summarize import value_text
from mcsim.summary.text import wrapped

WIDTH, HEIGHT = 4.2, 2.3  # inches of a panel
MOST_COLUMNS = 2
TITLE_WIDTH = 46  # characters
LEVEL = 100.0 * POWER
NOTE = (
    " At the lines: where {level:g}% is reached, by straight lines between the points, and in"
    " parentheses where the band reaches it."
)


class Line(NamedTuple):
    """A line: the number of its method, its other swept values in words, its records."""

    method: int
    words: str
    records: list[Record]


def draw_power(shown: Shown, measure: str | None) -> Figure:
    """A panel per effect that is not 0, and per method where more is swept than the axis has.

    Raises
    ------
    DataError
        Nothing is swept, no effect is other than 0, or the measure is not of tests.
    """
    refuse_no_sweep(shown)
    name = measure_named(measure or "rejection")
    if name not in OF_TESTS:
        raise DataError(f"--kind power shows {' or '.join(OF_TESTS)}, not {name}")
    refuse_nothing(shown.records, [name], shown)
    effects = unique(r["parameter"] for r in shown.records if r[name] is not None and has_effect(r))
    effects = [one for one in effects if one != "Intercept"] or effects
    if not effects:
        raise DataError("no effect is other than 0, which has no power: --kind curves draws it")
    records = [r for r in shown.records if r["parameter"] in effects and r[name] is not None]
    records, swept = drawn_once(one_per_fit(records, [name]), [name]), swept_axis(shown)
    methods = shown.numbered_methods(records)
    others = {k: v for k, v in shown.swept.items() if k != swept.column}
    panels = _panels(records, methods, others, name)
    handles = method_handles(methods, linestyle="-") + reference_handles([f"{LEVEL:g}%"])
    n_columns = n_side_by_side(WIDTH, min(MOST_COLUMNS, len(panels)))
    note = error_note(records, [name], BAND_NOTE) + NOTE.format(level=LEVEL)
    frame = Frame(f"Power against {swept.name}", shown.title, note, handles)
    height = HEIGHT + LINE * max(title.count("\n") for title in panels)
    heights, widths = [height] * -(-len(panels) // n_columns), [WIDTH] * n_columns
    figure, axes = panel_grid(heights, widths, frame, n_panels=len(panels))
    for axis, (title, lines) in zip(axes.ravel(), panels.items(), strict=False):
        _draw_panel(axis, lines, swept, name)
        axis.set_title(title, loc="left")
    for axis in axes.ravel()[len(panels) :]:
        axis.set_axis_off()
    return figure


def _panels(
    records: Sequence[Record], methods: Mapping[str, int], others: dict[str, str], measure: str
) -> dict[str, list[Line]]:
    """The lines of every panel, by its title."""
    found: dict[str, dict[tuple[int, str], Line]] = {}
    for effect in unique(record["parameter"] for record in records):
        for method in unique(record["shown_as"] for record in records) if others else [""]:
            own = [record for record in records if method in ("", record["shown_as"])]
            title, own = panel_of(effect, own, [measure], TITLE_WIDTH)
            lines = found.setdefault(
                "\n".join(filter(None, [title, wrapped(method, TITLE_WIDTH)])), {}
            )
            for record in own:
                key = methods[record["shown_as"]], rest_in_words(record, others)
                lines.setdefault(key, Line(*key, [])).records.append(record)
    return {title: list(lines.values()) for title, lines in found.items() if lines}


def _draw_panel(axis: Axes, lines: Sequence[Line], swept: SweptAxis, measure: str) -> None:
    axis.axhline(LEVEL, color="black", ls="--", lw=0.8, zorder=1)
    ends = [_draw_line(axis, one, place, swept, measure) for place, one in enumerate(lines)]
    axis.set_ylabel("power, %")
    axis.set_xlabel(wrapped(swept.words, TITLE_WIDTH))
    draw_ticks(axis, swept)
    axis.set_ylim(limits_of_shares(-5.0, 105.0))  # before the words, which go by it
    label_ends(axis, ends, swept)


def _draw_line(axis: Axes, one: Line, place: int, swept: SweptAxis, measure: str) -> End:
    ink = colour(one.method)
    own = sorted(one.records, key=lambda record: swept.places[value_text(record[swept.column])])
    x = swept.positions(own, 0.0)
    points = [value_of(record, measure) for record in own]
    y = np.array([number(value) for value, _ in points])
    below, above = np.nan_to_num(bars_of(points, measure))
    style = line(place) if one.words else "-"
    axis.plot(x, y, color=ink, ls=style, lw=1.2, marker=marker(one.method), ms=3)
    axis.fill_between(x, y - below, y + above, color=ink, alpha=0.18, lw=0)
    places = [crossing(x, curve, is_log=swept.is_log) for curve in (y, y + above, y - below)]
    if not swept.is_number:
        places = [None] * 3
    if places[0] is not None:
        axis.plot([places[0]], [LEVEL], color=ink, marker="o", ms=4.5, mec="white", mew=0.6)
    return End(float(y[-1]), ": ".join(filter(None, [one.words, _in_words(places)])), ink)


def crossing(x: Floats, y: Floats, *, is_log: bool) -> float | None:
    """Where straight lines through points first rise to 80%; None where they do not."""
    rises = np.flatnonzero((y[:-1] < LEVEL) & (y[1:] >= LEVEL))
    if not len(rises):
        return None
    i = int(rises[0])
    along = np.log(x) if is_log else x
    share = (LEVEL - y[i]) / (y[i + 1] - y[i])
    place = float(along[i] + share * (along[i + 1] - along[i]))
    return float(np.exp(place)) if is_log else place


def _in_words(places: Sequence[float | None]) -> str:
    """`80% at 12.1 (10.4 to 14)`; an end that is not known, or on the wrong side, is left open."""
    place, first, last = places
    if place is None:
        return ""
    low = "" if first is None or first > place else f"{first:.3g}"
    high = "" if last is None or last < place else f"{last:.3g}"
    ends = " ".join([*[low if high else f"from {low}"] * bool(low), *[f"to {high}"] * bool(high)])
    return f"{LEVEL:g}% at {place:.3g}" + f" ({ends})" * bool(ends)
