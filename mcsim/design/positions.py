"""Where the rows of a unit stand along a covariate, in whole steps: distances of `ar1`.

Truths and methods ask the same function, so that what is lost leaves its gap in a fit as well.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 0.1  # of a step: values may be rounded
SPARSE = (
    10.0  # steps; if neighbours lie farther apart as a rule, steps are the digits of the values
)
GRIDS = 0.75  # share of units with even values; others may have lost what would show their step
COMMON = 4.0  # times as many values as an average unit has: those of all units, many being lost
SAME = 1e-9  # of the range of all values: nearer ones are equal


def positions(values: Floats, unit: Ints) -> Ints:
    """Whole numbers (n_rows,) that order the rows of a unit; their differences are distances.

    A step is the smallest difference within a unit if all differences are multiples of it; else,
    where units have even values of their own, that of each unit; else, of values that units have in
    common, the next larger one. Otherwise, or with equal values in a unit, neighbours are one step
    apart, and of equal values the first row comes first.
    """
    order = np.lexsort((values, unit))
    is_next = np.diff(unit[order]) == 0
    steps = np.zeros(len(order), dtype=np.int64)
    if is_next.any():
        steps[1:][is_next] = _steps(values[order], unit[order], is_next)
    found = np.empty_like(steps)
    found[order] = np.cumsum(steps)
    return found


def _steps(values: Floats, unit: Ints, is_next: NDArray[np.bool_]) -> Floats:
    """Steps from row to row within units, of sorted rows."""
    between, same = np.diff(values)[is_next], SAME * np.ptp(values)
    if between.min() <= same:
        return np.ones(len(between))
    common = _whole(between, np.zeros(len(between), dtype=np.int64))
    if common.all() and np.median(common) <= SPARSE:
        return common
    group = np.unique(unit[1:][is_next], return_inverse=True)[1]
    own, is_telling = _whole(between, group), (np.bincount(group) > 1)[group]
    first = np.diff(group, prepend=-1) > 0
    is_grid = own[is_telling & first] > 0
    if len(is_grid) and is_grid.mean() >= GRIDS and np.median(own) <= SPARSE:
        return np.maximum(own, 1.0)
    by_value = np.argsort(values, kind="stable")
    rank = np.empty(len(values))
    rank[by_value] = np.cumsum(np.diff(values[by_value], prepend=-np.inf) > same)
    n_units = 1 + np.count_nonzero(~is_next)
    if rank.max() <= COMMON * len(values) / n_units:
        return np.diff(rank)[is_next]
    return np.ones(len(between))


def _whole(between: Floats, group: Ints) -> Floats:
    """Differences in steps of their group, 0 in groups where some is no whole number of them."""
    least = np.full(int(group.max()) + 1, np.inf)
    np.minimum.at(least, group, between)
    is_one = between < 1.5 * least[group]
    step = np.bincount(group, between * is_one) / np.bincount(group, is_one)  # of rounded ones
    exact = between / step[group]
    is_off = np.abs(exact - np.rint(exact)) > TOLERANCE
    return np.where(np.bincount(group, is_off)[group] > 0, 0.0, np.rint(exact))
