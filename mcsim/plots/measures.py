"""Figures of a measure, a line per parameter or condition: forest of the bias, lollipops."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.measures import SHARES
from mcsim.plots.drawing import (
    BAR_NOTE,
    CHARACTER,
    LINE,
    Frame,
    colour,
    error_note,
    marker,
    method_handles,
    n_side_by_side,
    number,
    panel_grid,
    reference_handles,
)
from mcsim.plots.measure_axes import (
    NO_REFERENCE,
    OF_ONE_SCALE,
    bars_of,
    having,
    heading_of,
    limits_of_shares,
    reference,
    reference_words,
    value_of,
    words_of_all,
)
from mcsim.summary.records import Record, measure_named, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing
from mcsim.summary.text import wrapped

DEFAULT_MEASURE = "coverage"
LABEL_WIDTH, WIDE_LABEL = 30, 64  # characters; the wide ones where there are many lines
MAX_COLUMNS, MORE_COLUMNS = 4, 6
MANY_LINES = 12
LINE_HEIGHT, METHOD_HEIGHT = 0.12, 0.11  # inches: of a line without methods, of every method in it
AXIS_HEIGHT = 0.65  # inches of a panel's title, ticks and words
PANEL_WIDTH, WIDE_PANEL = 2.3, 4.5


class Block(NamedTuple):
    """A panel: its title, its measure, and the records of every line by the words on its left."""

    title: str
    measure: str
    lines: dict[str, list[Record]]

    @property
    def records(self) -> list[Record]:
        """The records of all lines."""
        return [record for line in self.lines.values() for record in line]

    @property
    def labels(self) -> list[str]:
        """Words on the left of the lines, in lines of their own if need be."""
        width = WIDE_LABEL if len(self.lines) > MANY_LINES else LABEL_WIDTH
        return [wrapped(words, width) for words in self.lines]


def draw_bias(shown: Shown, _measure: str | None) -> Figure:
    """Bias of every parameter, in percent of the truth where that is not 0."""
    refuse_nothing(shown.records, ["bias"], shown)
    records = one_per_fit(having(shown.records, "bias"), ["bias"])
    without = {record["parameter"] for record in records if record["relative_bias"] is None}
    relative = [record for record in records if record["parameter"] not in without]
    absolute = [record for record in records if record["parameter"] in without]
    blocks = _blocks(relative, "relative_bias", shown) + _blocks(absolute, "bias", shown)
    return _draw(shown, "Bias", blocks, has_stems=False)


def draw_lollipop(shown: Shown, measure: str | None) -> Figure:
    """One measure of every parameter, condition and method."""
    name = measure_named(measure or DEFAULT_MEASURE)
    refuse_nothing(shown.records, [name], shown)
    records = one_per_fit(having(shown.records, name), [name])
    return _draw(shown, heading_of(name), _blocks(records, name, shown), has_stems=True)


def _blocks(records: Sequence[Record], measure: str, shown: Shown) -> list[Block]:
    """One panel with a line per parameter, or one per parameter with a line per condition."""
    parameters = {
        name: [record for record in records if record["parameter"] == name]
        for name in unique(record["parameter"] for record in records)
    }
    if not parameters:
        return []
    if len(shown.places) == 1 and measure in OF_ONE_SCALE:
        return [Block("", measure, parameters)]
    if len(shown.places) == 1 and measure == "bias":  # of correlations, most often
        return [Block("", measure, parameters)]
    return [
        Block(name, measure, {p: [r for r in own if r["place"] == p] for p in shown.places})
        for name, own in parameters.items()
    ]


def _draw(shown: Shown, heading: str, blocks: Sequence[Block], *, has_stems: bool) -> Figure:
    records = [record for block in blocks for record in block.records]
    methods = shown.numbered_methods(records)
    measures = unique(block.measure for block in blocks)
    frame = Frame(
        heading,
        shown.title,
        error_note(records, measures, BAR_NOTE),
        _handles(measures, methods, shown),
    )
    figure, axes = _panels(blocks, len(methods), frame)
    for axis, block in zip(axes, blocks, strict=True):
        _draw_block(axis, block, methods, shown.confidence, has_stems=has_stems)
    _share_axes([a for a, block in zip(axes, blocks, strict=True) if block.measure in SHARES])
    return figure


def _panels(blocks: Sequence[Block], n_methods: int, frame: Frame) -> tuple[Figure, list[Axes]]:
    """A panel per block, as high as its lines need; words on the left of the leftmost ones."""
    has_many = len(blocks[0].lines) > MANY_LINES
    n_columns = min(MORE_COLUMNS if has_many else MAX_COLUMNS, len(blocks))
    n_columns = n_columns if blocks[0].title else 1
    labels = [label.split("\n") for block in blocks for label in block.labels]
    margin = CHARACTER * max(len(text) for lines in labels for text in lines)
    n_columns = n_side_by_side(PANEL_WIDTH, n_columns, margin)
    layout = [blocks[i : i + n_columns] for i in range(0, len(blocks), n_columns)]
    line = max(LINE_HEIGHT + METHOD_HEIGHT * n_methods, LINE * max(map(len, labels)) + 0.04)
    heights = [AXIS_HEIGHT + line * max(len(block.lines) for block in row) for row in layout]
    widths = [PANEL_WIDTH if n_columns > 1 else WIDE_PANEL] * n_columns
    figure, axes = panel_grid(heights, widths, frame, margin=margin, n_panels=len(blocks))
    for axis in axes[:, 1:].ravel():
        axis.tick_params(labelleft=False)
    for axis in axes.ravel()[len(blocks) :]:
        axis.set_axis_off()
    return figure, list(axes.ravel()[: len(blocks)])


def _draw_block(
    axis: Axes, block: Block, methods: Mapping[str, int], confidence: float, *, has_stems: bool
) -> None:
    for position in range(1, len(block.lines), 2):
        axis.axhspan(position - 0.5, position + 0.5, color="#F2F2F2", lw=0, zorder=0)
    against = [
        (position, reference(record, block.measure, confidence))
        for position, records in enumerate(block.lines.values())
        for record in records[:1]
    ]
    known = {position: level for position, level in against if level is not None}
    axis.vlines(
        list(known.values()), [p - 0.5 for p in known], [p + 0.5 for p in known],
        colors="black", linestyles="--", linewidths=0.8, zorder=1,
    )  # fmt: skip
    for place, (method, n) in enumerate(methods.items()):
        shift = 0.8 * ((place + 0.5) / len(methods) - 0.5)
        own = {
            position: record
            for position, records in enumerate(block.lines.values())
            for record in records
            if record["shown_as"] == method
        }
        points = [value_of(record, block.measure) for record in own.values()]
        x, y = [number(value) for value, _ in points], [position + shift for position in own]
        axis.errorbar(
            x, y, xerr=bars_of(points, block.measure), fmt=marker(n), color=colour(n),
            ms=4, elinewidth=1.0, capsize=2, capthick=1.0, zorder=3,
        )  # fmt: skip
        if has_stems:
            starts = [known.get(position, 0.0) for position in own]
            axis.hlines(y, starts, x, colors=colour(n), linewidths=3.0, alpha=0.35, zorder=2)
    _draw_words(axis, block)
    if has_stems and block.measure in NO_REFERENCE:
        axis.set_xlim(left=0)


def _draw_words(axis: Axes, block: Block) -> None:
    axis.set_ylim(len(block.lines) - 0.5, -0.5)
    axis.set_yticks(range(len(block.lines)), block.labels)
    axis.tick_params(axis="y", length=0)
    axis.set_title(wrapped(block.title, LABEL_WIDTH), loc="left")
    axis.set_xlabel(words_of_all(block.records, block.measure))
    axis.locator_params(axis="x", nbins=4)


def _share_axes(axes: Sequence[Axes]) -> None:
    """The same range for shares of all parameters, never beyond what a share can be."""
    if axes:
        limits = [axis.get_xlim() for axis in axes]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        for axis in axes:
            axis.set_xlim(limits_of_shares(low, high))


def _handles(measures: Sequence[str], methods: Mapping[str, int], shown: Shown) -> list[Artist]:
    words = [reference_words(m, shown.confidence) for m in measures if m not in NO_REFERENCE]
    return method_handles(methods) + reference_handles(words)
