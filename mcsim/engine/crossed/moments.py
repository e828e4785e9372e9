"""Responses, reduced to their cross-products with all columns of random effects."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.compiled import lean_kernel
from mcsim.engine.crossed.sums import CrossedReduction, keep_contrasts, make_tables
from mcsim.engine.nested.moments import ROUNDING, Moments

U = np.uint64


def reduce_crossed(reduction: CrossedReduction, responses: Floats) -> Moments:
    """W'y, the least-squares fit, which is taken out first, and y'y after that.

    y'y is NaN where the fixed effects fit the response exactly.

    Parameters
    ----------
    responses : (n_replicates, n_rows) in the order in which the design was given
    """
    n, p = len(responses), reduction.X.shape[1]
    values, beta, rss = np.zeros((n, reduction.n_columns)), np.zeros((n, p)), np.zeros(n)
    buffer = np.empty(reduction.n_buffer)
    b = max(reduction.strata[:, 2].tolist(), default=0)
    _reduce(*reduction[2:], responses, values, beta, rss, buffer, np.zeros((b, b + 1)))
    return Moments(values, beta, rss, np.zeros((n, 0)))


@lean_kernel
def _reduce(
    column, W, X, sweeps, unit, cell, root, kept, strata, Q, responses, values, beta, rss, buffer, S
):
    """One response after the other; the bits depend on this response alone."""
    n_rows, p, n_each = U(X.shape[0]), U(X.shape[1]), U(W.shape[1])
    for r in range(U(len(responses))):
        buffer[:] = 0.0
        before, after = 0.0, 0.0
        for row in range(n_rows):
            y = responses[r, row]
            before += y * y
            for j in range(p):
                beta[r, j] += X[row, j] * y
        for j in range(p):
            beta[r, j] /= n_rows
        for row in range(n_rows):
            y = responses[r, row]
            for j in range(p):
                y -= X[row, j] * beta[r, j]
            after += y * y
            for j in range(n_each):
                buffer[column[row, j]] += W[row, j] * y
        rss[r] = after if after > ROUNDING * before else np.nan
        make_tables(sweeps, unit, cell, root, buffer)
        for m in range(U(len(kept))):
            values[r, kept[m, 1]] = buffer[kept[m, 0]]
        keep_contrasts(strata, Q, buffer, S, values[r])
