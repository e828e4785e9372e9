"""A plan: what every design that was tried costs, and what it reaches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.plots.drawing import (
    BLUE,
    GREY,
    ORANGE,
    Frame,
    colour,
    number,
    panel_grid,
    reference_handles,
    wrapped,
)
from mcsim.plots.measure_axes import AXES
from mcsim.summary.plans import MadePlan, design_name
from mcsim.summary.records import Record, unique

VERDICTS = {  # colour and marker
    "reaches": (BLUE, "o"),
    "does not": (GREY, "s"),
    "cannot be told": (ORANGE, "D"),
}
WIDTH, HEIGHT = 5.0, 2.4  # inches of a panel
LABEL_WIDTH = 34  # characters
NOTE = "Intervals hold at every look with 95%, for all designs of a method together."


def draw_plan(plan: MadePlan) -> Figure:
    """Value against cost, a panel per method, the answer named."""
    (first, *_), designs = plan.told["target"], plan.told["designs"]
    methods = unique(row["method"] for row in designs)
    bound = [] if first["bound"] is None else [f"target: {plan.target}"]
    handles = _handles(unique(row["verdict"] for row in designs)) + reference_handles(bound)
    frame = Frame("What designs cost, and what they reach", plan.title, NOTE, handles)
    figure, axes = panel_grid([HEIGHT] * len(methods), [WIDTH], frame)
    for axis, method in zip(axes[:, 0], methods, strict=True):
        _draw_panel(axis, plan, [row for row in designs if row["method"] == method])
        axis.set_title(method if len(methods) > 1 else "", loc="left")
    return figure


def _handles(verdicts: Sequence[str | None]) -> list[Artist]:
    points = Figure().subplots()
    return [
        points.plot([], [], color=ink, marker=shape, ls="none", ms=4, label=verdict)[0]
        for verdict in verdicts
        if verdict
        for ink, shape in [VERDICTS.get(verdict, (ORANGE, "D"))]
    ]


def _draw_panel(axis: Axes, plan: MadePlan, rows: Sequence[Record]) -> None:
    first = plan.told["target"][0]
    factor = 100.0 if plan.is_share else 1.0
    for row in rows:
        ink, shape = VERDICTS.get(row["verdict"] or "", (colour(0), "o"))
        value, lower, upper = (factor * number(row[n]) for n in ("estimate", "lower", "upper"))
        bars = np.nan_to_num([[value - lower], [upper - value]])
        axis.errorbar(
            row["cost"], value, yerr=bars, color=ink, marker=shape, ms=4, capsize=2, elinewidth=0.9
        )
    if first["bound"] is not None:
        axis.axhline(factor * first["bound"], color="black", ls="--", lw=0.8, zorder=1)
    axis.set_xlabel("cost")
    axis.set_ylabel(AXES[first["measure"]].words if first["measure"] in AXES else "relative SE")
    axis.margins(x=0.08, y=0.18)
    answer = next(
        one["answer"] for one in plan.told["methods"] if one["method"] == rows[0]["method"]
    )
    if answer is not None:
        _name_answer(axis, answer, factor)


def _name_answer(axis: Axes, answer: Record, factor: float) -> None:
    """Its counts beside its point, on the side where there is room."""
    low, high = axis.get_xlim()
    is_left = answer["cost"] > 0.5 * (low + high)
    axis.annotate(
        wrapped(design_name(answer).replace(",", ", "), LABEL_WIDTH),
        (answer["cost"], factor * answer["estimate"]),
        xytext=(-8 if is_left else 8, 8), textcoords="offset points", fontsize=7,
        ha="right" if is_left else "left", va="bottom",
    )  # fmt: skip
