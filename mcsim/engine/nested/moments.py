"""Responses, reduced to the moments that the elimination needs."""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.arithmetic.compiled import lean_kernel, step

ROUNDING = 1e-26  # of y'y: what is left of an exact fit

U = np.uint64


class Reduction(NamedTuple):
    """How the rows of one response become moments.

    Units are numbered innermost level first; neighbours with the same columns and the same parent
    are a run.
    """

    n_classes: int
    n_links: int
    n_roots: int
    row_start: Positions  # (n_leaves + 1,) rows of each innermost unit
    basis_start: Positions  # (n_leaves,) where the unit's basis begins in `basis`
    basis: Floats  # (k, n_rows_of_distinct_units)
    leaf_columns: Floats  # (n_kinds, k, p) X~ = basis leaf_columns, with X~'X~ = n I
    leaf_kind: Positions  # (n_leaf_runs,)
    run_start: Positions  # (n_runs + 1,) first unit of each run
    class_of_run: Positions
    parent_of_run: Ints  # unit number; -1 at the outermost level
    share: Floats  # (n_runs,) 1 / sqrt(number of siblings): weight of t in a uniform parent's t
    taker_of_run: Ints  # link or root group that takes the units' t, -1 if a uniform parent does


class Moments(NamedTuple):
    """The data of replicates as the elimination needs them.

    values : (n_replicates, n_values) one row per replicate, holding S (k, k, n_classes), the sum of
        t t' over the units of each uniform class; the sum of t over the children of each link
        (k, n_links); and over the units of each root group (k, n_roots)
    beta : (n_replicates, p) least-squares fit that was taken out
    rss : (n_replicates,) sum of squares outside the bases of the innermost units
    forms : (n_replicates, n) sums of e'N_m e, where the residuals have a structure
    """

    values: Floats
    beta: Floats
    rss: Floats
    forms: Floats


def n_moments(reduction: Reduction) -> int:
    """Numbers in the moments of a replicate, beside the least-squares fit and rss."""
    k = len(reduction.basis)
    return k * (k * reduction.n_classes + reduction.n_links + reduction.n_roots)


def reduce_block(reduction: Reduction, responses: Floats) -> Moments:
    """Moments of a block of responses.

    The least-squares fit is taken out first: y'Py does not change, and its digits are kept. The sum
    of squares outside the bases is NaN where the fixed effects fit the response exactly.

    Parameters
    ----------
    responses : (n_replicates, n_rows) in the compiled order
    """
    n, k, p = len(responses), len(reduction.basis), reduction.leaf_columns.shape[2]
    values = np.zeros((n, n_moments(reduction)))
    moments = Moments(values, np.zeros((n, p)), np.zeros(n), np.zeros((n, 0)))
    _reduce_responses(reduction, responses, moments, np.empty((k, int(reduction.run_start[-1]))))
    return moments


def join(parts: list[Moments]) -> Moments:
    """The moments of several blocks as those of one."""
    return Moments(*map(np.concatenate, zip(*parts, strict=True)))


@lean_kernel
def _reduce_responses(reduction, responses, moments, t):
    """Reduce one response after the other; the bits depend on this response alone."""
    for r in range(len(responses)):
        for i in range(t.shape[0]):
            for unit in range(t.shape[1]):
                t[i, unit] = 0.0
        y = responses[r]
        rss = _project_rows(reduction.basis, reduction.row_start, reduction.basis_start, y, t)
        is_exact = _take_out_least_squares(reduction, len(y), t, moments.beta[r], rss)
        moments.rss[r] = np.nan if is_exact else rss
        _sum_over_units(reduction, t, moments.values[r])


@step
def _project_rows(basis, row_start, basis_start, y, t):
    """T = basis' y of every innermost unit; returns the sum of squares that is left."""
    n_leaves = U(len(basis_start))
    rss = 0.0
    leaf = U(0)
    while leaf < n_leaves:
        first, base = row_start[leaf], basis_start[leaf]
        n_rows = row_start[leaf + U(1)] - first
        last = leaf + U(3)
        if (
            last < n_leaves
            and row_start[last + U(1)] - first == U(4) * n_rows
            and (base == basis_start[leaf + U(1)] == basis_start[leaf + U(2)] == basis_start[last])
        ):
            rss += _project_four(basis, base, n_rows, first, leaf, y, t)
            leaf += U(4)
        else:
            rss += _project_one(basis, base, n_rows, first, leaf, y, t)
            leaf += U(1)
    return rss


@step
def _project_one(basis, base, n_rows, first, leaf, y, t):
    for i in range(U(len(basis))):
        s = 0.0
        for row in range(n_rows):
            s += basis[i, base + row] * y[first + row]
        t[i, leaf] = s
    squares = 0.0
    for row in range(n_rows):
        rest = y[first + row]
        for i in range(U(len(basis))):
            rest -= basis[i, base + row] * t[i, leaf]
        squares += rest * rest
    return squares


@step
def _project_four(basis, base, n_rows, first, leaf, y, t):
    """Project four units with the same basis at once: no addition waits for the one before it."""
    second, third, fourth = first + n_rows, first + U(2) * n_rows, first + U(3) * n_rows
    for i in range(U(len(basis))):
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for row in range(n_rows):
            weight = basis[i, base + row]
            s0 += weight * y[first + row]
            s1 += weight * y[second + row]
            s2 += weight * y[third + row]
            s3 += weight * y[fourth + row]
        t[i, leaf], t[i, leaf + U(1)], t[i, leaf + U(2)], t[i, leaf + U(3)] = s0, s1, s2, s3
    q0, q1, q2, q3 = 0.0, 0.0, 0.0, 0.0
    for row in range(n_rows):
        r0, r1, r2, r3 = y[first + row], y[second + row], y[third + row], y[fourth + row]
        for i in range(U(len(basis))):
            weight = basis[i, base + row]
            r0 -= weight * t[i, leaf]
            r1 -= weight * t[i, leaf + U(1)]
            r2 -= weight * t[i, leaf + U(2)]
            r3 -= weight * t[i, leaf + U(3)]
        q0 += r0 * r0
        q1 += r1 * r1
        q2 += r2 * r2
        q3 += r3 * r3
    return (q0 + q1) + (q2 + q3)


@step
def _take_out_least_squares(reduction, n_rows, t, beta, rss):
    """Whether no more than rounding is left of y."""
    leaf_columns, leaf_kind, run_start = (
        reduction.leaf_columns, reduction.leaf_kind, reduction.run_start,
    )  # fmt: skip
    k, p = U(leaf_columns.shape[1]), U(leaf_columns.shape[2])
    before, after = rss, rss
    for run in range(U(len(leaf_kind))):
        for i in range(k):
            total, squares = 0.0, 0.0
            for unit in range(run_start[run], run_start[run + U(1)]):
                total += t[i, unit]
                squares += t[i, unit] * t[i, unit]
            before += squares
            for j in range(p):
                beta[j] += leaf_columns[leaf_kind[run], i, j] * total
    for j in range(p):
        beta[j] /= n_rows
    for run in range(U(len(leaf_kind))):
        for i in range(k):
            fitted, squares = 0.0, 0.0
            for j in range(p):
                fitted += leaf_columns[leaf_kind[run], i, j] * beta[j]
            for unit in range(run_start[run], run_start[run + U(1)]):
                t[i, unit] -= fitted
                squares += t[i, unit] * t[i, unit]
            after += squares
    return not after > ROUNDING * before


@step
def _sum_over_units(reduction, t, values):
    """Sums of t t' and t over the units of each class, innermost level first."""
    run_start, class_of_run, share = (
        reduction.run_start, reduction.class_of_run, reduction.share,
    )  # fmt: skip
    k, n_classes = U(len(t)), U(reduction.n_classes)
    n_links, n_roots = U(reduction.n_links), U(reduction.n_roots)
    link_t = k * k * n_classes
    root_t = link_t + k * n_links
    for run in range(U(len(class_of_run))):
        c, first, end = class_of_run[run], run_start[run], run_start[run + U(1)]
        parent, taker = reduction.parent_of_run[run], reduction.taker_of_run[run]
        for i in range(k):
            for j in range(i + U(1)):
                product = 0.0
                for unit in range(first, end):
                    product += t[i, unit] * t[j, unit]
                values[(i * k + j) * n_classes + c] += product
                if j < i:
                    values[(j * k + i) * n_classes + c] += product
            total = 0.0
            for unit in range(first, end):
                total += t[i, unit]
            if parent < 0:
                values[root_t + i * n_roots + U(taker)] += total
            elif taker < 0:
                t[i, U(parent)] += share[run] * total
            else:
                values[link_t + i * n_links + U(taker)] += total
