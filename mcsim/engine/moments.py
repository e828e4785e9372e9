"""A response, reduced to the moments that the elimination needs."""

import numpy as np

from mcsim.engine.compiled import kernel

ROUNDING = 1e-26  # of y'y: what is left of an exact fit


@kernel
def reduce_response(reduction, y, moments, beta):  # type: ignore[no-untyped-def]
    """Put the moments of one response into `moments`; its sum of squares outside the bases,
    NaN where the fixed effects fit it exactly.

    The least-squares fit `beta` is taken out first: y'Py does not change, and its digits are kept.
    Rows are always summed in the same order: the bits depend on this response alone.

    Parameters
    ----------
    y : (n_rows,) in the compiled order; overwritten by the least-squares residuals
    """
    S, link_t, root_t = moments
    S[:] = 0.0
    link_t[:] = 0.0
    root_t[:] = 0.0
    if not _take_out_least_squares(reduction.X, y, beta):
        return np.nan
    t = np.zeros((len(reduction.class_of_unit), S.shape[0]))
    rss = _project_rows(reduction, y, t)
    n_levels = len(reduction.unit_start) - 1
    for level in range(n_levels):
        for unit in range(reduction.unit_start[level], reduction.unit_start[level + 1]):
            c, taker = reduction.class_of_unit[unit], reduction.taker_of_unit[unit]
            for i in range(S.shape[0]):
                for j in range(S.shape[0]):
                    S[i, j, c] += t[unit, i] * t[unit, j]
            if taker < 0:
                parent = reduction.parent_of_unit[unit]
                for i in range(S.shape[0]):
                    t[parent, i] += reduction.share[unit] * t[unit, i]
            elif level == n_levels - 1:
                for i in range(S.shape[0]):
                    root_t[i, taker] += t[unit, i]
            else:
                for i in range(S.shape[0]):
                    link_t[i, taker] += t[unit, i]
    return rss


@kernel
def _take_out_least_squares(X, y, beta):  # type: ignore[no-untyped-def]
    """Whether more than rounding is left of y."""
    n, p = X.shape
    beta[:] = 0.0
    before, after = 0.0, 0.0
    for row in range(n):
        for j in range(p):
            beta[j] += X[row, j] * y[row]
        before += y[row] * y[row]
    beta /= n
    for row in range(n):
        for j in range(p):
            y[row] -= X[row, j] * beta[j]
        after += y[row] * y[row]
    return after > ROUNDING * before


@kernel
def _project_rows(reduction, y, t):  # type: ignore[no-untyped-def]
    """T = basis' y of every innermost unit; returns the sum of squares that is left."""
    rss = 0.0
    for leaf in range(reduction.unit_start[1]):
        first, base = reduction.row_start[leaf], reduction.basis_start[leaf]
        n_rows = reduction.row_start[leaf + 1] - first
        for row in range(n_rows):
            for i in range(reduction.basis.shape[1]):
                t[leaf, i] += reduction.basis[base + row, i] * y[first + row]
        for row in range(n_rows):
            rest = y[first + row]
            for i in range(reduction.basis.shape[1]):
                rest -= reduction.basis[base + row, i] * t[leaf, i]
            rss += rest * rest
    return rss
