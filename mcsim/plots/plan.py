"""A plan: what every design that was tried costs, and what it reaches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsim.plots.drawing import (
    GREY,
    ORANGE,
    Frame,
    colour,
    number,
    panel_grid,
    reference_handles,
)
from mcsim.plots.measure_axes import AXES
from mcsim.plots.plan_map import VERDICTS, draw_map
from mcsim.summary.plans import MadePlan, design_name
from mcsim.summary.records import Record, unique
from mcsim.summary.text import wrapped

WIDTH, MAP_WIDTH, HEIGHT = 4.2, 3.8, 2.8  # inches of a panel
LABEL_WIDTH = 34  # characters
ON_MAP = (
    " Shades, and the best that a cost buys (grey line): closed forms, moved to the designs that"
    " were simulated (points). Black line: the target. Thin lines: equal costs."
)
NOTE = "Intervals hold at every look with 95%, for all designs of a method together."


def draw_plan(plan: MadePlan) -> Figure:
    """Value against cost, a panel per method, the answer named."""
    (first, *_), designs = plan.told["target"], plan.told["designs"]
    methods = unique(row["method"] for row in designs)
    bound = [] if first["bound"] is None else [f"target: {plan.target}"]
    handles = _handles(unique(row["verdict"] for row in designs)) + reference_handles(bound)
    maps = {name: one for name, one in plan.told.get("maps", {}).items() if one is not None}
    note = f"{NOTE}{ON_MAP * bool(maps)}"
    frame = Frame("What designs cost, and what they reach", plan.title, note, handles)
    widths = [MAP_WIDTH, WIDTH] if maps else [WIDTH]
    figure, axes = panel_grid([HEIGHT] * len(methods), widths, frame)
    for row, method in zip(axes, methods, strict=True):
        own = [one for one in designs if one["method"] == method]
        _draw_panel(row[-1], plan, own, maps.get(method))
        if method in maps:
            draw_map(row[0], plan, maps[method], own)
        row[0].set_title(method if len(methods) > 1 else "", loc="left")
    return figure


def _handles(verdicts: Sequence[str | None]) -> list[Artist]:
    points = Figure().subplots()
    return [
        points.plot([], [], color=ink, marker=shape, ls="none", ms=4, label=verdict)[0]
        for verdict in verdicts
        if verdict
        for ink, shape in [VERDICTS.get(verdict, (ORANGE, "D"))]
    ]


def _draw_panel(axis: Axes, plan: MadePlan, rows: Sequence[Record], shown: Record | None) -> None:
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
    if shown is not None:
        cost, best = shown["frontier"]
        axis.plot(cost, factor * np.array(best), color=GREY, lw=0.9, zorder=1)
    axis.set_xlabel("cost")
    axis.set_ylabel(AXES[first["measure"]].words if first["measure"] in AXES else "relative SE")
    axis.margins(x=0.08, y=0.18)
    answer = next(
        one["answer"] for one in plan.told["methods"] if one["method"] == rows[0]["method"]
    )
    if answer is not None:
        _name_answer(axis, answer, factor, is_below=shown is not None and plan.is_share)


def _name_answer(axis: Axes, answer: Record, factor: float, *, is_below: bool) -> None:
    """Its counts beside its point, on the side where there is room."""
    low, high = axis.get_xlim()
    is_left = answer["cost"] > 0.5 * (low + high)
    is_below &= not is_left
    axis.annotate(
        wrapped(design_name(answer).replace(",", ", "), LABEL_WIDTH),
        (answer["cost"], factor * answer["estimate"]),
        xytext=(-8 if is_left else 8, -8 if is_below else 8), textcoords="offset points",
        ha="right" if is_left else "left", va="top" if is_below else "bottom", fontsize=7,
    )  # fmt: skip
