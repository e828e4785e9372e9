"""Data without a finite optimum: coefficients or variances that run off, found from the rows.

A coefficient of a binomial model runs off where some direction g of the predictor never lowers the
likelihood: x'g >= 0 in rows without failures, <= 0 in those without successes, 0 in all others, and
not 0 in all (Albert & Anderson 1984). In a model of counts x'g <= 0 where they are 0, and 0 in all
others.
"""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.families.kinds import NBINOM, POISSON
from mcsim.engine.laplace.crossing import Cross
from mcsim.engine.laplace.nest import Nest

NONE = 1e-7  # of the largest change of a predictor, which is 1


def runaway_direction(kind: int, X: Floats, trials: Floats, y: Floats) -> Floats | None:
    """Coefficients of X (p,) along which the likelihood of y (n_rows,) never falls; None: none."""
    sign = _sign(kind, trials, y)
    from scipy.optimize import linprog  # slow to load, and few data sets come here

    rows, first = np.unique(np.column_stack([X.round(12), sign]), axis=0, return_index=True)
    X, sign = X[first], rows[:, -1]
    is_free = sign != 0.0
    if not is_free.any():
        return None
    signed, fixed = X[is_free] * sign[is_free, None], X[~is_free]
    n = len(signed)
    found = linprog(
        -signed.sum(axis=0) / n,
        A_ub=np.vstack([signed, -signed]),
        b_ub=np.repeat([1.0, 0.0], n),
        A_eq=fixed if len(fixed) else None,
        b_eq=np.zeros(len(fixed)) if len(fixed) else None,
        bounds=(None, None),
        method="highs",
    )
    direction: Floats | None = found.x
    if direction is None or not (signed @ direction).max() > NONE:
        return None
    return direction


def _sign(kind: int, trials: Floats, y: Floats) -> Floats:
    """1 where a row would have its predictor grow without end, -1 the opposite, 0 neither."""
    if kind in (POISSON, NBINOM):
        return np.where(y == 0.0, -1.0, 0.0)
    return np.where(y == trials, 1.0, 0.0) - np.where(y == 0.0, 1.0, 0.0)


def uniform_levels(kind: int, nest: Nest | Cross, y: Floats) -> Ints:
    """Levels, innermost first, whose units have rows of one kind each: all 0, or all successes."""
    sign, found = _sign(kind, nest.trials, y), []
    for level in range(len(nest.level_start) - 1):
        unit = nest.unit_of_row(level)
        size = np.bincount(unit)
        if np.any(size > 1) and np.all(np.abs(np.bincount(unit, sign)) == size):
            found.append(level)
    return np.array(found, dtype=np.int64)
