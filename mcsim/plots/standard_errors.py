"""Mean standard error that the methods report, against the SD that their estimates have."""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mcsim.measures import NORMAL_QUANTILE
from mcsim.plots.drawing import (
    BAR_NOTE,
    COLOURS,
    GREY,
    LINE,
    MARKERS,
    Frame,
    colour,
    error_note,
    half_width,
    marker,
    method_handles,
    n_side_by_side,
    panel_grid,
    panel_of,
    reference_handles,
)
from mcsim.summary.records import Record, drawn_once, one_per_fit, unique
from mcsim.summary.selection import Shown, refuse_nothing

MEASURES = ("emp_se", "model_se")
WIDTH, HEIGHT = 2.6, 2.75  # inches of a panel
MAX_COLUMNS = 4
MAX_TICKS = 3  # steps: ticks of many digits need the room
TITLE_WIDTH = 36  # characters
ROOM = 0.15  # of the range, beyond the outermost points
HEADING = "Standard errors of the methods against the SD of their estimates"
NOTE = "A point below the dashed line: the method's standard errors are too small."


def draw_se(shown: Shown, _measure: str | None) -> Figure:
    """Model SE against empirical SE: a panel per parameter, a point per condition and method."""
    known = [r for r in shown.records if None not in (r["emp_se"], r["model_se"])]
    refuse_nothing(known, MEASURES, shown)
    records = drawn_once(one_per_fit(known, MEASURES), MEASURES)
    parameters, places = (unique(r[key] for r in records) for key in ("parameter", "place"))
    methods = shown.numbered_methods(records)
    n_columns = n_side_by_side(WIDTH, min(MAX_COLUMNS, len(parameters)))
    n_rows = -(-len(parameters) // n_columns)
    note = f"{error_note(records, MEASURES, BAR_NOTE)} {NOTE}"
    frame = Frame(HEADING, shown.title, note, _handles(methods, places))
    panels = [panel_of(parameter, records, MEASURES, TITLE_WIDTH) for parameter in parameters]
    n_lines_above = max(title.count("\n") for title, _ in panels)
    heights, widths = [HEIGHT + LINE * n_lines_above] * n_rows, [WIDTH] * n_columns
    figure, axes = panel_grid(heights, widths, frame, n_panels=len(panels))
    flat = list(axes.ravel())
    for (title, own), axis in zip(panels, flat, strict=False):
        _draw_panel(axis, own, methods, places)
        axis.set_title(title, loc="left")
    for axis in flat[len(parameters) :]:
        axis.set_axis_off()
    return figure


def _are_few(methods: Collection[str], places: Sequence[str]) -> bool:
    """Whether colours tell the methods apart and markers the conditions, else markers methods."""
    return len(methods) <= len(COLOURS) and len(places) <= len(MARKERS)


def _draw_panel(
    axis: Axes, records: Sequence[Record], methods: Mapping[str, int], places: Sequence[str]
) -> None:
    are_few = _are_few(methods, places)
    for method, n in methods.items():
        own = [record for record in records if record["shown_as"] == method]
        if not own:  # not every method has every parameter
            continue
        if are_few:  # a line through more is a tangle
            x, y = ([record[name] for record in own] for name in MEASURES)
            axis.plot(x, y, color=colour(n), lw=0.7, alpha=0.6)
        for group in [[record] for record in own] if are_few else [own]:
            x, y = ([record[name] for record in group] for name in MEASURES)
            xerr, yerr = (
                [half_width(record[f"{name}_mcse"]) for record in group] for name in MEASURES
            )
            form = MARKERS[places.index(group[0]["place"])] if are_few else marker(n)
            axis.errorbar(
                x, y, xerr=xerr, yerr=yerr, fmt=form, color=colour(n), ms=4 if are_few else 3,
                elinewidth=0.7,
            )  # fmt: skip
    _square(axis, records)
    axis.set_xlabel("empirical SE")
    axis.set_ylabel("model SE")
    axis.locator_params(nbins=MAX_TICKS)


def _square(axis: Axes, records: Sequence[Record]) -> None:
    """The same range on both axes, with all bars in it, and its diagonal."""
    ends = [record[name] + sign * (record[f"{name}_mcse"] or 0.0) * NORMAL_QUANTILE
            for record in records for name in MEASURES for sign in (-1, 1)]  # fmt: skip
    room = ROOM * ((max(ends) - min(ends)) or max(ends) or 1.0)
    below_zero = -0.2 * room  # for the half of a marker
    span = max(below_zero, min(ends) - room), max(ends) + room
    axis.plot(span, span, color="black", ls="--", lw=0.8, zorder=1)
    axis.set(xlim=span, ylim=span, aspect="equal")


def _handles(methods: Mapping[str, int], places: Sequence[str]) -> list[Artist]:
    against = reference_handles(["as large as the SD"])
    if not _are_few(methods, places):
        return method_handles(methods) + against
    handles: list[Artist] = []
    if len(methods) > 1:
        handles += [Line2D([], [], color=colour(n), lw=2, label=m) for m, n in methods.items()]
    if len(places) > 1:
        handles += [
            Line2D([], [], color=GREY, marker=MARKERS[n], ls="none", ms=4, label=one)
            for n, one in enumerate(places)
        ]
    return handles + against
