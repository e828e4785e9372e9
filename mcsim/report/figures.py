"""Every kind of figure by its name: of results, of a plan, and those that need the scenario."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from mcsim.errors import McsimError
from mcsim.plots import kinds as plots
from mcsim.plots.drawing import style
from mcsim.plots.kinds import DATA, DESIGN
from mcsim.report.answer import limited, suited
from mcsim.report.design_drawing import draw_design_of
from mcsim.report.one_data_set import draw_data_of
from mcsim.summary.records import Globs, globs_of
from mcsim.summary.selection import Selection


def chosen_figure(
    results: Path, kind: str | None, selection: Selection, replicate: int | None = None
) -> tuple[str, Callable[[], Figure]]:
    """The kind that is asked for, or that suits the results, and what draws it.

    Raises
    ------
    DataError
        There is no study; what draws raises one where the results cannot give the figure.
    McsimError
        A replicate goes with another kind.
    """
    if kind is None:
        kind, selection = suited(results, selection)
    else:
        selection = limited(results, kind, selection)
    if kind != DATA and replicate is not None:
        raise McsimError(f"--replicate goes with --kind {DATA}, not {kind}")
    if kind not in (DATA, DESIGN):
        return kind, lambda: plots.figure(results, kind, selection)
    label: Globs | None = selection.conditions
    label = None if list(globs_of(selection.conditions)) == ["*"] else label

    def draw() -> Figure:
        with style():
            if kind == DATA:
                return draw_data_of(results, replicate or 1, label)
            return draw_design_of(results, label)

    return kind, draw
