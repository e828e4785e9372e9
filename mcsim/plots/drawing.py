"""How every figure looks: style, panels in a frame of words, bytes that depend on results alone.

Knows no study. Colours: Okabe & Ito (2008), told apart by people who see red and green alike.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.measures import NORMAL_QUANTILE
from mcsim.summary.records import OF_INTERVALS, Record, drawn_once, has_gaps, share_missing, unique
from mcsim.summary.text import SLACK, wrapped

Floats = NDArray[np.float64]

FORMATS = ("png", "svg", "pdf")
COLOURS = (  # those of Okabe and Ito; of many methods, more of Tol's muted ones
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#882255", "#999933", "#332288",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
BLUE, RED, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#E69F00", "#56B4E9", "#777777"
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is a $
    "svg.hashsalt": "mcsim",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType, embedded: what journals take
    "figure.dpi": 100,
    "savefig.dpi": 300,
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
CHARACTER = 0.075  # inches of a character of 8 points, about
LINE = 0.14  # inches from line to line
EDGE = 0.08  # inches around everything
MIN_WIDTH = 4.5  # inches, for the words
MM = 25.4  # of an inch
NARROWEST = (0.45, 0.75)  # of the width that a panel has by itself; of several side by side
MAX_PANELS, MAX_HEIGHT = 100, 80.0  # inches: more is no picture any more
SMALL, LARGE = 1e-3, 1e5  # of numbers that need no power of ten, by far
PLACES = 6  # decimals of a panel's place in the figure
NOTE_COLOUR = "#444444"
BAR_NOTE = "Bars: 95% Monte Carlo intervals (1.96 Monte Carlo standard errors)."
BAND_NOTE = "Bands: 95% Monte Carlo intervals (1.96 Monte Carlo standard errors)."
NO_ERROR_NOTE = "No Monte Carlo error is known."


_page: ContextVar[float | None] = ContextVar("page", default=None)  # inches that were asked for


class Frame(NamedTuple):
    """What stands around the panels: heading, title of the study and legend above, a note below."""

    heading: str
    title: str
    note: str
    handles: Sequence[Artist] = ()


@contextmanager
def style(width: float | None = None) -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's configuration says.

    width : of figures, in mm; unless given, that of the style around, or what they need
    """
    before = _page.set(_page.get() if width is None else width / MM)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(STYLE)
            yield
    finally:
        _page.reset(before)


def width_of_page(width: float) -> float:
    """Inches that were asked for, or else these."""
    return _page.get() or width


def n_side_by_side(width: float, most: int, margin: float = 0.0) -> int:
    """Panels of a width that stand side by side: at most so many, and no more than have room."""
    page = _page.get()
    return most if page is None else max(1, min(most, int((page - margin) / width)))


def render(figure: Figure, form: str) -> bytes:
    """The figure as PNG, SVG or PDF: the same bytes for the same figure."""
    _fix_titles(figure)
    _fix_layout(figure)
    content = io.BytesIO()
    figure.savefig(content, format=form, metadata=METADATA[form], bbox_inches=_bounds(figure))
    return content.getvalue()


def _bounds(figure: Figure) -> Any:
    """What is written: all that is drawn, or the whole of a width that was asked for."""
    if _page.get() is None:
        return "tight"
    FigureCanvasAgg(figure)
    drawn = figure.get_tightbbox()
    right = max(figure.get_figwidth(), drawn.x1)  # rather a hair wider than cut
    return Bbox([[min(0.0, drawn.x0), drawn.y0 - EDGE], [right, drawn.y1 + EDGE]])


def _fix_titles(figure: Figure) -> None:
    """Put titles where they would come to stand: to look for room takes a third of the time.

    Only the power of ten above an upright axis of very small or large numbers is in the way.
    """
    for axis in figure.axes:
        if SMALL < np.abs(axis.get_ylim()).max() < LARGE:
            axis.set_title(axis.get_title(loc="left"), loc="left", y=1.0)


def _fix_layout(figure: Figure) -> None:
    """Put the panels where the layout wants them, rounded.

    The layout's solver takes its variables in the order of their places in memory, so that the last
    digits differ from run to run; names in an SVG are hashes of all digits.
    """
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")
    for axis in figure.axes:
        bounds = np.round(axis.get_position(original=True).bounds, PLACES)
        axis.set_position(tuple(bounds.tolist()), which="original")
        axis.set_in_layout(True)  # set_position takes it out


def panel_grid(
    heights: Sequence[float],
    widths: Sequence[float],
    frame: Frame,
    *,
    margin: float = 0.0,
    n_panels: int | None = None,
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its panels: (n_rows, n_columns).

    Parameters
    ----------
    heights, widths : inches of every line and every column of panels
    margin : inches that labels on the left need
    n_panels : that are drawn, unless all are

    Raises
    ------
    DataError
        There would be too many panels to be looked at.
    """
    widths = _fitted(widths, margin)
    width = _page.get() or max(sum(widths) + margin, MIN_WIDTH)
    n_characters = int(width / CHARACTER) - (0 if _page.get() is None else SLACK)
    heading, title, note = (wrapped(text, n_characters) for text in frame[:3])
    n_columns, n_lines = _shape_of_legend(frame.handles, width)
    titles = EDGE + 1.25 * LINE * _count_lines(heading) + LINE * _count_lines(title)
    above = titles + 1.4 * LINE * n_lines + 0.5 * LINE
    below = EDGE + LINE * (_count_lines(note) + 0.5)
    height = sum(heights) + above + below
    _refuse_too_much(n_panels or len(heights) * len(widths), height)
    figure = Figure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(h_pad=0.09, rect=(0, below / height, 1, 1 - (above + below) / height))
    x, y = EDGE / width, 1 - (EDGE + 1.25 * LINE * _count_lines(heading)) / height
    figure.text(x, 1 - EDGE / height, heading, va="top", fontsize=9, fontweight="bold")
    figure.text(x, y, title, va="top", color=NOTE_COLOUR)
    figure.text(x, EDGE / height, note, va="bottom", fontsize=7, color=NOTE_COLOUR)
    if frame.handles:
        figure.legend(
            handles=list(frame.handles), loc="upper left",
            bbox_to_anchor=(x, 1 - (titles + 0.2 * LINE) / height), ncols=n_columns,
            borderaxespad=0, handlelength=1.8, columnspacing=1.2, borderpad=0,
        ).set_in_layout(False)  # fmt: skip
    return figure, figure.subplots(
        len(heights), len(widths), squeeze=False, height_ratios=heights, width_ratios=widths
    )


def _fitted(widths: Sequence[float], margin: float) -> Sequence[float]:
    """The widths that columns of panels have if the figure is as wide as was asked for."""
    page = _page.get()
    if page is None:
        return widths
    share, narrowest = (page - margin) / sum(widths), NARROWEST[len(widths) > 1]
    if share < narrowest:
        least = MM * (narrowest * sum(widths) + margin)
        raise DataError(
            f"{MM * page:.0f} mm are too narrow for these panels and their words: give --width"
            f" {least:.0f} at least, or choose less with --measure, --parameter or --method"
        )
    return [share * one for one in widths]


def _count_lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def _shape_of_legend(handles: Sequence[Artist], width: float) -> tuple[int, int]:
    """Columns and lines."""
    if not handles:
        return 1, 0
    widest = CHARACTER * max(len(str(handle.get_label())) for handle in handles) + 0.5
    n_columns = max(1, min(len(handles), int(width / widest)))
    return n_columns, -(-len(handles) // n_columns)


def _refuse_too_much(n_panels: int, height: float) -> None:
    if n_panels > MAX_PANELS or height > MAX_HEIGHT:
        raise DataError(
            f"{n_panels} panels, {height:.0f} inches high, are too much to look at (at most"
            f" {MAX_PANELS} panels and {MAX_HEIGHT:.0f} inches); choose some with --method,"
            " --parameter or --condition"
        )


def colour(number: int) -> str:
    """Colour of the nth method."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """Marker of the nth method; no two of 70 have its colour too."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def line(number: int) -> Any:
    """Line of the nth method: solid, then ever more broken."""
    return LINES[number % len(LINES)]


def half_width(mcse: float | None) -> float:
    """Half of a 95% Monte Carlo interval; NaN, which draws nothing, where it is unknown."""
    return float("nan") if mcse is None else NORMAL_QUANTILE * mcse


def panel_of(
    parameter: str, records: Sequence[Record], measures: Sequence[str], width: int
) -> tuple[str, list[Record]]:
    """Title of a parameter's panel, and its rows without those that others would hide."""
    own = [record for record in records if record["parameter"] == parameter]
    names = {r["method"]: r["shown_as"] for r in drawn_once(own, measures, joint="; ")}
    kept = [record for record in own if record["method"] in names]
    same = unique(names[r["method"]] for r in kept if names[r["method"]] != r["shown_as"])
    words = [parameter, *(f"the same: {one}" for one in same)]
    return "\n".join(wrapped(one, width) for one in words), kept


def number(value: float | None) -> float:
    """NaN, which draws nothing, for what is missing."""
    return float("nan") if value is None else float(value)


def method_handles(methods: Mapping[str, int], *, linestyle: str = "none") -> list[Artist]:
    """What the legend shows of methods, by their numbers; nothing of a single one."""
    return [
        Line2D([], [], color=colour(n), marker=marker(n), ls=linestyle, ms=4, label=name)
        for name, n in _told_apart(methods).items()
    ]


def line_handles(methods: Mapping[str, int]) -> list[Artist]:
    """The same for figures of lines without markers."""
    return [
        Line2D([], [], color=colour(n), ls=line(n), label=name)
        for name, n in _told_apart(methods).items()
    ]


def _told_apart(methods: Mapping[str, int]) -> Mapping[str, int]:
    """All of several methods, also where they are drawn as one."""
    return methods if len(methods) > 1 or any(" and " in name for name in methods) else {}


def reference_handles(labels: Sequence[str]) -> list[Artist]:
    """What the legend shows of the line that a measure is held against, if there is one."""
    label = " or ".join(dict.fromkeys(labels))
    return [Line2D([], [], color="black", lw=0.8, ls="--", label=label)] if label else []


def robust_range(values: Floats, *points: float | None) -> tuple[float, float]:
    """A range that holds the points and nearly all values, however far out the others lie."""
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.5 * (high - low)
    low, high = max(values.min(), low - margin), min(values.max(), high + margin)
    known = [point for point in points if point is not None]
    low, high = min([low, *known]), max([high, *known])
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = 0.5 * abs(high) or 1.0
        return float(low - margin), float(high + margin)
    return float(low), float(high)


def error_note(records: Sequence[Record], measures: Sequence[str], note: str) -> str:
    """How many replicates there are, and what shows their Monte Carlo error, if it is known."""
    is_known = any(record[f"{name}_mcse"] is not None for record in records for name in measures)
    missing = _missing_intervals(records) * any(name in OF_INTERVALS for name in measures)
    return f"{replicates_in_words(records)} {note if is_known else NO_ERROR_NOTE}{missing}"


def _missing_intervals(records: Sequence[Record]) -> str:
    some = [record for record in records if has_gaps(record)]
    if not some:
        return ""
    return f" Up to {max(map(share_missing, some)):.1%} of the estimates have no interval."


def share_in_words(share: float, mcse: float | None) -> str:
    """`12.3% (0.7)`: a share and its Monte Carlo standard error."""
    return f"{100 * share:.1f}%" + ("" if mcse is None else f" ({100 * mcse:.1f})")


def replicates_in_words(records: Sequence[Mapping[str, Any]]) -> str:
    """`300 replicates.` or `12 to 300 replicates.`"""
    counts = [record["n_replicates"] for record in records]
    low, high = min(counts), max(counts)
    shown = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"{shown} replicate{'s' * (high != 1)}."
