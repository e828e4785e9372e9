"""Responses, reduced to the moments that the elimination needs."""

import numpy as np

from mcsim.engine.compiled import kernel
from mcsim.engine.tree import Floats, Moments, Reduction

ROUNDING = 1e-26  # of y'y: what is left of an exact fit

U = np.uint64


def new_moments(reduction: Reduction, n_replicates: int) -> Moments:
    """Room for the moments of some replicates."""
    k, p = len(reduction.basis), reduction.leaf_X.shape[2]
    n = n_replicates
    return Moments(
        np.empty((n, p)),
        np.empty(n),
        np.empty((n, k, k, reduction.n_classes)),
        np.empty((n, k, reduction.n_links)),
        np.empty((n, k, reduction.n_roots)),
    )


def reduce_block(reduction: Reduction, responses: Floats) -> Moments:
    """Moments of a block of responses.

    Parameters
    ----------
    responses : (n_replicates, n_rows) in the compiled order
    """
    moments = new_moments(reduction, len(responses))
    _reduce_responses(reduction, responses, moments)
    return moments


def join(parts: list[Moments]) -> Moments:
    """The moments of several blocks as those of one."""
    return Moments(*map(np.concatenate, zip(*parts, strict=True)))


@kernel
def _reduce_responses(reduction, responses, moments):  # type: ignore[no-untyped-def]
    """Reduce one response after the other; the bits depend on this response alone.

    The least-squares fit is taken out first: y'Py does not change, and its digits are kept.
    The sum of squares outside the bases is NaN where the fixed effects fit the response exactly.
    """
    k = len(reduction.basis)
    t = np.empty((k, len(reduction.class_of_unit)))
    for r in range(len(responses)):
        moments.S[r] = 0.0
        moments.link_t[r] = 0.0
        moments.root_t[r] = 0.0
        t[:] = 0.0
        rss = _project_rows(reduction, responses[r], t)
        moments.rss[r] = rss
        if not _take_out_least_squares(reduction, t, moments.beta[r], rss):
            moments.rss[r] = np.nan
        _sum_over_units(reduction, t, moments.S[r], moments.link_t[r], moments.root_t[r])


@kernel
def _project_rows(reduction, y, t):  # type: ignore[no-untyped-def]
    """T = basis' y of every innermost unit; returns the sum of squares that is left."""
    basis = reduction.basis
    k = len(basis)
    n_leaves = U(len(reduction.basis_start))
    rest = np.empty(len(y))
    for leaf in range(n_leaves):
        first, base = reduction.row_start[leaf], reduction.basis_start[leaf]
        n_rows = reduction.row_start[leaf + U(1)] - first
        for i in range(k):
            s = 0.0
            for row in range(n_rows):
                s += basis[i, base + row] * y[first + row]
            t[i, leaf] = s
        for row in range(n_rows):
            rest[first + row] = y[first + row]
        for i in range(k):
            for row in range(n_rows):
                rest[first + row] -= basis[i, base + row] * t[i, leaf]
    sums = np.zeros(8)
    n = U(len(y))
    for row in range(n):
        sums[row & U(7)] += rest[row] * rest[row]
    return np.sum(sums)


@kernel
def _take_out_least_squares(reduction, t, beta, rss):  # type: ignore[no-untyped-def]
    """Whether more than rounding is left of y."""
    k, p = reduction.leaf_X.shape[1], reduction.leaf_X.shape[2]
    n_leaves = U(len(reduction.leaf_kind))
    n_rows = reduction.row_start[n_leaves]
    before, after = rss, rss
    beta[:] = 0.0
    for leaf in range(n_leaves):
        kind = reduction.leaf_kind[leaf]
        for i in range(k):
            before += t[i, leaf] * t[i, leaf]
            for j in range(p):
                beta[j] += reduction.leaf_X[kind, i, j] * t[i, leaf]
    beta /= n_rows
    for leaf in range(n_leaves):
        kind = reduction.leaf_kind[leaf]
        for i in range(k):
            for j in range(p):
                t[i, leaf] -= reduction.leaf_X[kind, i, j] * beta[j]
            after += t[i, leaf] * t[i, leaf]
    return after > ROUNDING * before


@kernel
def _sum_over_units(reduction, t, S, link_t, root_t):  # type: ignore[no-untyped-def]
    """Sums of t t' and t over the units of each class, innermost level first."""
    k = len(t)
    n_levels = len(reduction.unit_start) - 1
    for level in range(n_levels):
        for unit in range(reduction.unit_start[level], reduction.unit_start[level + 1]):
            c, taker = reduction.class_of_unit[unit], reduction.taker_of_unit[unit]
            for i in range(k):
                for j in range(k):
                    S[i, j, c] += t[i, unit] * t[j, unit]
            if taker < 0:
                parent = reduction.parent_of_unit[unit]
                for i in range(k):
                    t[i, parent] += reduction.share[unit] * t[i, unit]
            elif level == n_levels - 1:
                for i in range(k):
                    root_t[i, taker] += t[i, unit]
            else:
                for i in range(k):
                    link_t[i, taker] += t[i, unit]
