"""Figures of a study, from its files alone: the same bytes for the same results.

A kind of figure has a module; `summary/selection.py` reads, `drawing.py` says how everything looks.
"""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from mcsim.errors import McsimError, nearest_name
from mcsim.plots.curves import draw_curves
from mcsim.plots.drawing import FORMATS, render, style
from mcsim.plots.estimates import draw_estimates
from mcsim.plots.heatmap import draw_heatmap
from mcsim.plots.measures import draw_bias, draw_lollipop
from mcsim.plots.nested_loop import draw_nested_loop
from mcsim.plots.pairs import draw_methods
from mcsim.plots.plan import draw_plan
from mcsim.plots.power import draw_power
from mcsim.plots.realized import draw_realized
from mcsim.plots.standard_errors import draw_se
from mcsim.plots.zip import draw_zip
from mcsim.results.whole_files import refuse_place, write_beside
from mcsim.summary.plans import read_plan
from mcsim.summary.selection import Selection, Shown, shown_rows

KINDS: dict[str, Callable[[Shown, str | None], Figure]] = {
    "estimates": draw_estimates,
    "bias": draw_bias,
    "zip": draw_zip,
    "lollipop": draw_lollipop,
    "nested-loop": draw_nested_loop,
    "curves": draw_curves,
    "power": draw_power,
    "heatmap": draw_heatmap,
    "methods": draw_methods,
    "realized": draw_realized,
    "se": draw_se,
}
PLAN, DATA, DESIGN = "plan", "data", "design"  # kinds of other things than summaries
OF_A_MEASURE = ("lollipop", "nested-loop", "curves", "power", "heatmap")


def plot(results: Path, kind: str, selection: Selection, out: Path) -> Path:
    """Draw a figure of a study, or of a folder of studies, into a PNG, SVG or PDF file.

    Raises
    ------
    McsimError
        The study cannot give this figure, or the file is of no known kind or cannot be written.
    """
    write(out, lambda: figure(results, kind, selection))
    return out


def write(out: Path, make: Callable[[], Figure], width: float | None = None) -> None:
    """Write the figure that `make` makes, so many mm wide; errors as of `plot`."""
    form = out.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise McsimError(f"{out}: figures are written as .{', .'.join(FORMATS)}; name such a file")
    refuse_place(out)
    with style(width):
        content = render(make(), form)
    write_beside(out, content)


def figure(results: Path, kind: str, selection: Selection) -> Figure:
    """A figure of a study, a folder of studies or a plan; a McsimError where it cannot be drawn."""
    if kind == PLAN:
        plan = read_plan(results)
        if plan is None:
            raise McsimError(f"{results} is no plan: --kind {PLAN} draws a folder of mcsim plan")
        with style():
            return draw_plan(plan)
    if kind not in KINDS:
        known = (*KINDS, PLAN, DATA, DESIGN)
        raise McsimError(
            f"no kind {kind!r}. There are: {', '.join(known)}.{nearest_name(kind, known)}"
        )
    if selection.measure is not None and kind not in OF_A_MEASURE:
        raise McsimError(
            f"--measure {selection.measure!r} goes with --kind {' or '.join(OF_A_MEASURE)},"
            f" not {kind}"
        )
    with style():
        return KINDS[kind](shown_rows(results, selection), selection.measure)


def draw(shown: Shown, kind: str, measure: str | None, form: str) -> bytes:
    """The bytes of a figure; errors of the study as of `plot`."""
    with style():
        return render(KINDS[kind](shown, measure), form)
