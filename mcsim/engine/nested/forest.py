"""Trees of replicates that each have rows of their own, grown together.

Every unit is a class of its own. As in classes.py it gets an orthonormal basis Q of its columns,
of which those that are equal count once; the data of an innermost unit are t = Q'y.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.basis import RANK_TOLERANCE
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.nested.moments import ROUNDING

U = np.uint64
SURE = 1e-6  # share of a column that is new, below which the rows are asked one by one


class OwnRows(NamedTuple):
    """Rows of replicates, one replicate after the other; the rows of a unit stand together.

    start : (n + 1,) first row of each
    is_first : (n_levels, n_rows) whether a unit begins, outermost level first
    columns : (n_columns, n_rows) those that differ
    Z, X : per level, outermost first, and of the fixed effects, where they stand among the columns
    """

    start: Ints
    is_first: Flags
    columns: Floats
    Z: tuple[Ints, ...]
    X: Ints


class Forest(NamedTuple):
    """Trees of n replicates, units innermost level first; arrays end with the units of a level.

    Missing units, of replicates that have fewer, are zero.

    coefficients : per level (n, k, n_columns, n_units) of the columns in the bases
    C : per level but the last (n, k, k, n_units) bases of the parents in those of the units
    parent : per level but the last (n, n_units) number of the parent
    t : (n, k, n_innermost) data, less a least-squares fit
    beta, rss, R : (n, p), (n,), (n, p, p) that fit; sum of squares outside the bases; X = X~ R
    R_of_level : per level (n, q, q), upper triangular, R'R = Z'Z / n_rows
    n_units, n_rows : (n, n_levels), (n,)
    stratum : (n, p) 1 .. L for the outermost level within whose units a fixed effect is constant,
        else L + 1
    is_sure : (n,) whether the fixed effects are far from being combinations of each other
    """

    coefficients: tuple[Floats, ...]
    C: tuple[Floats, ...]
    parent: tuple[Ints, ...]
    t: Floats
    beta: Floats
    rss: Floats
    R: Floats
    R_of_level: tuple[Floats, ...]
    n_units: Ints
    n_rows: Ints
    stratum: Ints
    is_sure: Flags


def grow(rows: OwnRows, y: Floats, k: int) -> Forest:
    """Trees of all replicates, whose responses are y (n_rows,), one after the other.

    Parameters
    ----------
    k : likely rank of the bases
    """
    n_levels, n = len(rows.Z), len(rows.start) - 1
    n_rows = np.diff(rows.start)
    counts = np.zeros((n_levels, len(y) + 1), dtype=np.int64)
    np.cumsum(rows.is_first[::-1], axis=1, out=counts[:, 1:])
    n_units = np.diff(counts[:, rows.start], axis=1).T
    level_start = np.concatenate([[0], np.cumsum(n_units.max(axis=0))])
    p, q = len(rows.X), max(1, *map(len, rows.Z))
    n_columns, last = len(rows.columns), int(level_start[-2])
    Z, active = _columns_of_levels(rows, q)
    largest = max(int(n_rows.max()), 1)
    while True:
        coefficients = np.zeros((n, k, n_columns, int(level_start[-1])))
        C, parent = np.zeros((n, k, k, last)), np.zeros((n, last), dtype=np.int64)
        t = np.zeros((n, k, int(level_start[1])))
        beta, rss = np.zeros((n, p)), np.zeros(n)
        R, Rz = np.zeros((n, p, p)), np.zeros((n, n_levels, q, q))
        pivot, rank = np.ones(n), np.zeros(1, dtype=np.int64)
        stratum = np.ones((n, p), dtype=np.int64)
        _grow(
            rows.start, rows.is_first, rows.columns, rows.X, Z, active, level_start, y,
            coefficients, C, parent, t, beta, rss, R, Rz, stratum, pivot, rank,
            np.empty((max(n_columns, p, q), k * largest)), np.empty((max(k, p, q), k * largest)),
            np.zeros(n_levels, dtype=np.int64), np.zeros((k, max(1, p))),
        )  # fmt: skip
        if rank[0] <= k:
            break
        k = int(rank[0])
    ends = level_start.tolist()
    slices = [slice(*pair) for pair in itertools.pairwise(ends)]
    sizes = [len(own) for own in reversed(rows.Z)]
    return Forest(
        tuple(coefficients[..., own] for own in slices),
        tuple(C[..., own] for own in slices[:-1]),
        tuple(parent[:, own] for own in slices[:-1]),
        t, beta, rss, R,
        tuple(Rz[:, depth, :size, :size] for depth, size in enumerate(sizes)),
        n_units, n_rows, stratum, pivot > SURE,
    )  # fmt: skip


def _columns_of_levels(rows: OwnRows, q: int) -> tuple[Ints, Flags]:
    """Per level, innermost first, columns of the random effects, then -1, and those of a unit."""
    n_levels = len(rows.Z)
    Z, active = np.full((n_levels, q), -1), np.zeros((n_levels, len(rows.columns)), dtype=np.bool_)
    for depth, own in enumerate(reversed(rows.Z)):
        Z[depth, : len(own)] = own
        active[depth, rows.X] = True
        for outer in rows.Z[: n_levels - depth]:
            active[depth, outer] = True
    return Z, active


def join_forests(parts: list[Forest]) -> Forest:
    """Several forests as one."""
    if len(parts) == 1:
        return parts[0]

    def joined(arrays: Sequence[Any]) -> Any:
        shape = np.max([one.shape[1:] for one in arrays], axis=0)
        whole = np.zeros((sum(map(len, arrays)), *shape), dtype=arrays[0].dtype)
        first = 0
        for one in arrays:
            own = (slice(first, first + len(one)), *map(slice, one.shape[1:]))
            whole[own] = one
            first += len(one)
        return whole

    found: list[Any] = [
        tuple(map(joined, zip(*part, strict=True))) if isinstance(part[0], tuple) else joined(part)
        for part in zip(*parts, strict=True)
    ]
    return Forest(*found)


def some_trees(forest: Forest, chosen: Ints) -> Forest:
    """Those of some replicates, in their order."""
    if len(chosen) == len(forest.rss):
        return forest
    found: list[Any] = [
        tuple(one[chosen] for one in part) if isinstance(part, tuple) else part[chosen]
        for part in forest
    ]
    return Forest(*found)


@lean_kernel
def _grow(
    start, is_first, columns, x_columns, z_columns, active, level_start, y,
    coefficients, C, parent, t, beta, rss, R, Rz, stratum, pivot, rank, A, Q, counts, x_tilde,
):  # fmt: skip
    """Grow one tree after the other; k that is too small leaves what is needed in rank."""
    n_levels = len(is_first)
    for r in range(len(start) - 1):
        own, n_rows = coefficients[r], start[r + 1] - start[r]
        counts[:] = 0
        _find_strata(is_first, columns, x_columns, start[r], start[r + 1], stratum[r])
        first = start[r]
        while first < start[r + 1]:
            end = first + 1
            while end < start[r + 1] and not is_first[n_levels - 1, end]:
                end += 1
            leaf = counts[0]
            for level in range(n_levels):
                depth = n_levels - 1 - level
                if is_first[level, first]:
                    if level > 0:
                        parent[r, level_start[depth] + counts[depth]] = counts[depth + 1] - 1
                    counts[depth] += 1
            for j in range(len(columns)):
                for row in range(end - first):
                    A[j, row] = columns[j, first + row]
            found = _basis(A, end - first, active[0], Q, own, leaf)
            rank[0] = max(rank[0], found)
            if rank[0] > len(own):
                return
            rss[r] += _project(Q, found, y, first, end - first, t[r], leaf)
            first = end
        for depth in range(1, n_levels):
            _grow_parents(
                depth, level_start, counts, active[depth], own, C[r], parent[r], A, Q, rank
            )
            if rank[0] > len(own):
                return
        _finish_tree(
            own, level_start, counts, x_columns, z_columns, A, Q, R[r], Rz[r], t[r], beta[r],
            rss[r : r + 1], pivot[r : r + 1], n_rows, x_tilde,
        )  # fmt: skip


@step
def _finish_tree(
    own, level_start, counts, x_columns, z_columns, A, Q, R, Rz, t, beta, rss, pivot, n_rows,
    x_tilde,
):  # fmt: skip
    """R of all columns, and a least-squares fit that is taken out of the data."""
    n_levels, p = len(Rz), len(x_columns)
    for depth in range(n_levels):
        q = 0
        while q < z_columns.shape[1] and z_columns[depth, q] >= 0:
            q += 1
        which = z_columns[depth, :q]
        _triangular(own, level_start[depth], counts[depth], which, A, Q, Rz[depth], n_rows)
    last = n_levels - 1
    pivot[0] = _triangular(own, level_start[last], counts[last], x_columns, A, Q, R, n_rows)
    if n_rows <= p or counts[0] == 0:
        pivot[0] = 0.0
    if pivot[0] > SURE and _take_out_least_squares(
        own, counts[0], x_columns, R, t, beta, n_rows, rss[0], x_tilde
    ):
        rss[0] = np.nan


@step
def _find_strata(is_first, columns, x_columns, first, end, stratum):
    """The stratum of every fixed effect: a change within a unit is one within those around it."""
    for row in range(first + 1, end):
        around = 0
        while around < len(is_first) and not is_first[around, row]:
            around += 1
        for j in range(len(x_columns)):
            if columns[x_columns[j], row] != columns[x_columns[j], row - 1]:
                stratum[j] = max(stratum[j], around + 1)


@step
def _basis(A, n_rows, active, Q, own, unit):
    """Basis Q of the active columns of A, and their coefficients at a unit; returns the rank.

    Gram-Schmidt, twice for what is new. More than there is room for is counted, and not kept.
    """
    rank, n = 0, U(n_rows)
    for j in range(len(active)):
        if not active[j]:
            continue
        length = 0.0
        for row in range(n):
            length += A[j, row] * A[j, row]
        if length == 0.0:
            continue
        left = length
        for _again in range(2):
            for i in range(min(rank, own.shape[0])):
                s = 0.0
                for row in range(n):
                    s += Q[i, row] * A[j, row]
                own[i, j, unit] += s
                for row in range(n):
                    A[j, row] -= s * Q[i, row]
            left = 0.0
            for row in range(n):
                left += A[j, row] * A[j, row]
            if left <= RANK_TOLERANCE * RANK_TOLERANCE * length:
                break
        if left > RANK_TOLERANCE * RANK_TOLERANCE * length and rank < n_rows:
            if rank < own.shape[0]:
                scale = np.sqrt(left)
                for row in range(n):
                    Q[rank, row] = A[j, row] / scale
                own[rank, j, unit] = scale
            rank += 1
    return rank


@step
def _project(Q, rank, y, first, n_rows, t, unit):
    """T = Q'y; returns the sum of squares that is left."""
    for i in range(rank):
        s = 0.0
        for row in range(n_rows):
            s += Q[i, row] * y[first + row]
        t[i, unit] = s
    squares = 0.0
    for row in range(n_rows):
        rest = y[first + row]
        for i in range(rank):
            rest -= Q[i, row] * t[i, unit]
        squares += rest * rest
    return squares


@step
def _grow_parents(depth, level_start, counts, active, own, C, parent, A, Q, rank):
    """Bases of the units of an outer level, from the coefficients of their children."""
    k, before, here = own.shape[0], level_start[depth - 1], level_start[depth]
    first = 0
    while first < counts[depth - 1]:
        number, end = parent[before + first], first + 1
        while end < counts[depth - 1] and parent[before + end] == number:
            end += 1
        n_rows = 0
        for child in range(before + first, before + end):
            for i in range(k):
                for j in range(len(active)):
                    A[j, n_rows + i] = own[i, j, child]
            n_rows += k
        found = _basis(A, n_rows, active, Q, own, here + number)
        rank[0] = max(rank[0], found)
        if found > k:
            return
        for child in range(first, end):
            for i in range(k):
                for j in range(found):
                    C[i, j, before + child] = Q[j, (child - first) * k + i]
        first = end


@step
def _triangular(own, first, n_units, which, A, Q, R, n_rows):
    """R of some columns, R'R = W'W / n_rows, from coefficients; the least share that is new."""
    k, m = own.shape[0], len(which)
    n = U(k * n_units)
    for j in range(m):
        for unit in range(n_units):
            for i in range(k):
                A[j, unit * k + i] = own[i, which[j], first + unit]
    least, root = 1.0, np.sqrt(n_rows)
    for j in range(m):
        length = 0.0
        for row in range(n):
            length += A[j, row] * A[j, row]
        for _again in range(2):
            for i in range(j):
                s = 0.0
                for row in range(n):
                    s += Q[i, row] * A[j, row]
                R[i, j] += s / root
                for row in range(n):
                    A[j, row] -= s * Q[i, row]
        left = 0.0
        for row in range(n):
            left += A[j, row] * A[j, row]
        scale = np.sqrt(left)
        R[j, j] = scale / root
        least = min(least, scale / np.sqrt(length) if length > 0.0 else 0.0)
        for row in range(n):
            Q[j, row] = A[j, row] / scale if scale > 0.0 else 0.0
    return least


@step
def _take_out_least_squares(own, n_units, x_columns, R, t, beta, n_rows, rss, x_tilde):
    """Whether no more than rounding is left of y."""
    k, p = own.shape[0], len(x_columns)
    before, after = rss, rss
    for unit in range(n_units):
        _solve_for(own, unit, x_columns, R, x_tilde)
        for i in range(k):
            before += t[i, unit] * t[i, unit]
            for j in range(p):
                beta[j] += x_tilde[i, j] * t[i, unit]
    for j in range(p):
        beta[j] /= n_rows
    for unit in range(n_units):
        _solve_for(own, unit, x_columns, R, x_tilde)
        for i in range(k):
            for j in range(p):
                t[i, unit] -= x_tilde[i, j] * beta[j]
            after += t[i, unit] * t[i, unit]
    return not after > ROUNDING * before


@step
def _solve_for(own, unit, x_columns, R, x_tilde):
    """Coefficients of X~ = X R^-1 at a unit."""
    for i in range(own.shape[0]):
        for j in range(len(x_columns)):
            s = own[i, x_columns[j], unit]
            for m in range(j):
                s -= x_tilde[i, m] * R[m, j]
            x_tilde[i, j] = s / R[j, j]
