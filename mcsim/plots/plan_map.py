"""What designs reach over two counts, with lines of equal cost and that of the target."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mcsim.names import short_names
from mcsim.plots.drawing import BLUE, GREY, ORANGE
from mcsim.summary.plans import MadePlan
from mcsim.summary.records import Record
from mcsim.summary.text import wrapped

VERDICTS = {  # colour and marker
    "reaches": (BLUE, "o"),
    "does not": (GREY, "s"),
    "cannot be told": (ORANGE, "D"),
}
N_SHADES, N_COSTS = 10, 6
LABEL_WIDTH = 34  # characters
WITHIN = 0.43  # of the map's size from its middle: a cost further out would be cut


def draw_map(axis: Axes, plan: MadePlan, shown: Record, rows: Sequence[Record]) -> None:
    """Shades of the value, and the designs of the map that were simulated."""
    first = plan.told["target"][0]
    factor = 100.0 if plan.is_share else 1.0
    values, costs = (np.array(shown[name], dtype=np.float64) for name in ("values", "costs"))
    masked = np.ma.masked_invalid(factor * values)
    levels = np.linspace(0.0, 100.0, N_SHADES + 1) if plan.is_share else N_SHADES
    shades = axis.contourf(*shown["counts"], masked, levels, cmap="Blues", alpha=0.7)
    axis.figure.colorbar(shades, ax=axis, pad=0.02).ax.tick_params(labelsize=7)
    lines = axis.contour(
        *shown["counts"], np.ma.masked_invalid(costs), N_COSTS, colors=GREY, linewidths=0.6
    )
    for text in axis.clabel(lines, fmt=lambda cost: f"{cost:,.6g}", fontsize=6, colors="black"):
        middle = axis.transLimits.transform(text.get_position())
        text.set_visible(bool(np.abs(middle - 0.5).max() < WITHIN))
    if first["bound"] is not None and masked.min() < factor * first["bound"] < masked.max():
        axis.contour(*shown["counts"], masked, [factor * first["bound"]], colors="black")
    fixed = {key: n for key, n in _centre(plan, rows)["design"].items() if key not in shown["keys"]}
    for row in rows:
        if all(row["design"][key] == n for key, n in fixed.items()):
            ink, shape = VERDICTS.get(row["verdict"] or "", (BLUE, "o"))
            place = [row["design"][key] for key in shown["keys"]]
            axis.plot(
                *place, color=ink, marker=shape, ms=4, mec="white", mew=0.5, clip_on=False, zorder=3
            )
    answer = _centre(plan, rows)["design"]
    axis.plot(
        *(answer[key] for key in shown["keys"]), "o", ms=10, mfc="none", mec="black", clip_on=False
    )
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(MaxNLocator(integer=True))
    names = short_names([*answer])
    axis.set_xlabel(wrapped(plan.words[shown["keys"][0]], LABEL_WIDTH))
    axis.set_ylabel(wrapped(plan.words[shown["keys"][1]], LABEL_WIDTH))
    where = ", ".join(f"{names[key]} = {n}" for key, n in fixed.items())
    axis.set_title(where, loc="right", fontsize=8)


def _centre(plan: MadePlan, rows: Sequence[Record]) -> Record:
    """The answer by the method of the rows; without one, the best that was tried."""
    own = (one for one in plan.told["methods"] if one["method"] == rows[0]["method"])
    sign = 1.0 if plan.is_share else -1.0
    return next(own)["answer"] or max(rows, key=lambda row: sign * row["estimate"])
