"""Nested loop plot: a measure over all conditions, the swept values as steps below.

Ruecker & Schwarzer (2014).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.plots.curves import refuse_no_sweep
from mcsim.plots.drawing import (
    BAND_NOTE,
    LINE,
    Frame,
    colour,
    error_note,
    line,
    line_handles,
    number,
    panel_grid,
    panel_of,
    reference_handles,
)
from mcsim.plots.measure_axes import (
    NO_REFERENCE,
    bars_of,
    having,
    heading_of,
    limit_upright,
    reference,
    reference_words,
    value_of,
    words_of_all,
)
from mcsim.summary.records import Record, drawn_once, measure_named, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing
from mcsim.summary.summarize import value_text
from mcsim.summary.text import wrapped

DEFAULT_MEASURE = "rmse"
HEIGHT, WIDTH = 1.5, 7.5  # inches of a panel
LANE = 0.45  # inches of a swept key
LABEL_WIDTH = 26  # characters
MOST_VALUES = 8  # of a swept key that are written out
TITLE_WIDTH = 90
UNBROKEN = "\0"  # stands for a space at which a line does not end


def draw_nested_loop(shown: Shown, measure: str | None) -> Figure:
    """One measure over all conditions, a panel per parameter.

    Raises
    ------
    DataError
        The conditions do not differ in any swept value.
    """
    refuse_no_sweep(shown)
    name = measure_named(measure or DEFAULT_MEASURE)
    refuse_nothing(shown.records, [name], shown)
    records = one_per_fit(having(shown.records, name), [name])
    records = drawn_once(records, [name])
    parameters = unique(record["parameter"] for record in records)
    methods = shown.numbered_methods(records)
    labels = _lane_labels(shown)
    lane = max(LANE, LINE * max(label.count("\n") + 2 for label in labels))
    panels = [panel_of(parameter, records, [name], TITLE_WIDTH) for parameter in parameters]
    heights = [HEIGHT + LINE * title.count("\n") for title, _ in panels] + [
        lane * len(labels) + 0.3
    ]
    against = [] if name in NO_REFERENCE else [reference_words(name, shown.confidence)]
    handles = line_handles(methods) + reference_handles(against)
    frame = Frame(heading_of(name), shown.title, error_note(records, [name], BAND_NOTE), handles)
    figure, axes = panel_grid(heights, [WIDTH], frame)
    for (title, own), axis in zip(panels, axes[:, 0], strict=False):
        _draw_panel(axis, own, name, shown, methods)
        axis.set_title(title, loc="left")
    _draw_lanes(axes[-1, 0], shown, labels)
    return figure


def _draw_panel(
    axis: Axes, records: Sequence[Record], measure: str, shown: Shown, methods: Mapping[str, int]
) -> None:
    places = shown.places
    edges = np.arange(len(places) + 1) - 0.5
    for method, n in methods.items():
        found = {r["place"]: value_of(r, measure) for r in records if r["shown_as"] == method}
        points = [found.get(place, (None, None)) for place in places]
        values = np.array([number(value) for value, _ in points])
        below, above = bars_of(points, measure)
        axis.stairs(values, edges, baseline=None, color=colour(n), lw=1.2, ls=line(n))
        low, high = (np.append(one, one[-1]) for one in (values - below, values + above))
        axis.fill_between(edges, low, high, step="post", color=colour(n), alpha=0.25, lw=0)
    against = {r["place"]: reference(r, measure, shown.confidence) for r in records}
    level = np.array([number(against.get(place)) for place in places])
    axis.stairs(level, edges, baseline=None, color="black", ls="--", lw=0.8, zorder=1)
    axis.set_ylabel(words_of_all(records, measure))
    axis.set_xlim(edges[0], edges[-1])
    axis.set_xticks([])
    axis.locator_params(axis="y", nbins=5)
    limit_upright(axis, measure)


def _lane_labels(shown: Shown) -> list[str]:
    """Every swept key and its values; of many, the first and the last."""
    labels = []
    for key in shown.swept:
        totals = shown.units_in_all(key)
        values = [
            f"{words}{UNBROKEN}({totals[value]:,})" if totals else words
            for value, words in shown.values_of(key).items()
        ]
        values = values if len(values) <= MOST_VALUES else [*values[:2], "...", values[-1]]
        words = wrapped(", ".join(values), LABEL_WIDTH).replace(UNBROKEN, " ")
        labels.append(wrapped(f"{shown.axis_label(key)}:", LABEL_WIDTH) + "\n" + words)
    return labels


def _draw_lanes(axis: Axes, shown: Shown, labels: Sequence[str]) -> None:
    """Swept values as steps, a lane per key, the values in words on the left."""
    first = {record["place"]: record for record in reversed(shown.records)}
    edges = np.arange(len(shown.places) + 1) - 0.5
    for lane, key in enumerate(shown.swept):
        values = list(shown.values_of(key))
        steps = [values.index(value_text(first[place][key])) for place in shown.places]
        heights = 0.7 * np.array(steps) / (len(values) - 1)
        axis.stairs(heights - lane, edges, baseline=None, color="black", lw=1.0)
    axis.set_yticks([0.35 - lane for lane in range(len(labels))], labels)
    axis.set_ylim(0.8 - len(labels), 0.9)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[:].set_visible(False)
