"""Values over two counts, for a figure: closed forms, moved to the designs that were simulated."""

import numpy as np
from scipy import special

from mcsim.planning.designs import Designs, Floats
from mcsim.planning.screen import score
from mcsim.planning.search import Look
from mcsim.scenario.plan import Goal
from mcsim.summary.records import Record

NEAR = 2.5  # times the cost of the answer: what is dearer is not shown
MOST_POINTS = 100  # of a line
LEAST_LOOKS = 3  # designs, from which a line through two is more than these


def map_of(
    designs: Designs, goal: Goal, expected: Floats | None, looks: list[Look], centre: int
) -> Record | None:
    """Values and costs over the first two keys, the others as in a design; None without a map.

    Scores of what was simulated are a line in those of the closed forms, by least squares.
    """
    keys = np.flatnonzero(np.ptp(designs.counts, axis=0)).tolist()
    if expected is None or len(keys) < 2:
        return None
    first, second = keys[:2]
    others = [place for place in range(len(designs.keys)) if place not in (first, second)]
    is_shown = (designs.counts[:, others] == designs.counts[centre, others]).all(axis=1)
    x, column = np.unique(designs.counts[is_shown, first], return_inverse=True)
    y, row = np.unique(designs.counts[is_shown, second], return_inverse=True)
    values = _from_score(goal, _moved(goal, expected, looks))
    grid = np.full((2, len(y), len(x)), np.nan)
    grid[:, row, column] = values[is_shown], designs.cost[is_shown]
    is_near = np.nanmin(grid[1], axis=0) <= NEAR * designs.cost[centre]
    x, grid = x[is_near], grid[:, :, is_near]
    return {
        "keys": [designs.keys[first], designs.keys[second]],
        "counts": [x.tolist(), y.tolist()],
        "values": _told(grid[0]),
        "costs": _told(grid[1]),
        "frontier": _frontier(goal, values, designs.cost, NEAR * float(designs.cost[centre])),
    }


def _told(grid: Floats) -> list[list[float | None]]:
    return [[None if np.isnan(one) else float(f"{one:.5g}") for one in row] for row in grid]


def _frontier(goal: Goal, values: Floats, cost: Floats, most: float) -> list[list[float]]:
    """Costs, and the best value that each buys, where one more buys a better one."""
    order = np.lexsort((-score(goal, values), cost))
    order = order[cost[order] <= most]
    best = np.maximum.accumulate(score(goal, values)[order])
    order = order[np.diff(best, prepend=-np.inf) > 0.0]
    order = order[:: max(1, len(order) // MOST_POINTS)]
    return [cost[order].tolist(), [float(f"{one:.5g}") for one in values[order]]]


def _moved(goal: Goal, expected: Floats, looks: list[Look]) -> Floats:
    scores = score(goal, expected)
    places = np.array([look.design for look in looks])
    seen = np.array([score(goal, look.values[goal].estimate) for look in looks])
    is_told = np.isfinite(seen) & np.isfinite(scores[places])
    own, seen = scores[places][is_told], seen[is_told]
    if not len(own):
        return scores
    if len(own) < LEAST_LOOKS or np.ptp(own) == 0.0:
        return np.asarray(scores + np.median(seen - own))
    slope, offset = np.polyfit(own, seen, 1)
    return np.asarray(offset + slope * scores)


def _from_score(goal: Goal, scores: Floats) -> Floats:
    return np.asarray(special.ndtr(scores) if goal.is_share else np.exp(-scores))
