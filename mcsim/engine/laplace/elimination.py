"""Steps of the Laplace approximation over the tree of units, compiled.

A unit's effects are eliminated before those of the unit around it, so that no matrix is larger than
the columns of one path from the innermost unit outwards. Letters are those of nest.py.
"""

import math

import numpy as np

from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.families.kinds import row_of

U = np.uint64  # an index that cannot be negative needs no check


@step
def spread(nest, Lam, lo, hi, source, path):
    """Put Lam times the units' own `source` into `path`, beside that of the units around them."""
    k = U(nest.Z.shape[1])
    for back in range(U(len(lo))):
        level = U(len(lo)) - U(1) - back
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        for g in range(lo[level], hi[level]):
            for i in range(a, e):
                total = 0.0
                for j in range(a, e):
                    total += Lam[level, i - a, j - a, U(0)] * source[g, j]
                path[g, i] = total
            if level > U(0):
                for child in range(nest.first[g], nest.end[g]):
                    for i in range(a, k):
                        path[child, i] = path[g, i]


@step
def along(Z, path, row, g):
    """A row's columns times what its innermost unit has of a path."""
    total = 0.0
    for i in range(U(Z.shape[1])):
        total += Z[row, i] * path[g, i]
    return total


@step
def sum_rows(kind, nest, room, y, tau, lo, hi):
    """Minus log-likelihood of a root's rows at room.b; derivatives; sums of the innermost units."""
    k, total = U(nest.Z.shape[1]), 0.0
    Z, M, vector = nest.Z, room.M, room.vector
    for g in range(lo[U(0)], hi[U(0)]):
        first, end = nest.first[g], nest.end[g]
        for i in range(k):
            vector[g, i] = 0.0
            for j in range(k):
                M[g, i, j] = 0.0
        shift = along(Z, room.b, first, g)
        sum_r, sum_w = 0.0, 0.0
        for row in range(first, end):
            if not nest.is_plain:
                shift = along(Z, room.b, row, g)
            nll, r, w, w3 = row_of(kind, y[row], nest.trials[row], room.eta[row] + shift, tau)
            total += nll
            room.r[row], room.w[row], room.w3[row] = r, w, w3
            sum_r += r
            sum_w += w
            if not nest.is_plain:
                for i in range(k):
                    vector[g, i] += r * Z[row, i]
                    for j in range(i + U(1)):
                        M[g, i, j] += w * Z[row, i] * Z[row, j]
        if nest.is_plain:
            for i in range(k):
                vector[g, i] = sum_r * Z[first, i]
                for j in range(i + U(1)):
                    M[g, i, j] = sum_w * Z[first, i] * Z[first, j]
        for i in range(k):
            for j in range(i):
                M[g, j, i] = M[g, i, j]
    return total


@step
def gather(sums, g, first, end, a):
    """Put the sum over the units within, first to end, into `sums` of a unit."""
    for i in range(a, U(sums.shape[1])):
        total = 0.0
        for child in range(first, end):
            total += sums[child, i]
        sums[g, i] = total


@step
def eliminate(nest, room, lo, hi):
    """Eliminate the effects of a root's units; log-determinant of I + Lam'Z'WZ Lam."""
    k, log_det, F, M = U(nest.Z.shape[1]), 0.0, room.F, room.M
    for level in range(U(len(lo))):
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        for g in range(lo[level], hi[level]):
            if level > U(0):
                _gather_matrices(
                    F, M, g, nest.first[g], nest.end[g], nest.column_start[level - U(1)], a
                )
            for i in range(a, e):  # L L' = I + Lam'M Lam of its own
                for j in range(a, e):
                    total = 0.0
                    for m in range(a, e):
                        total += M[g, i, m] * room.Lam[level, m - a, j - a, U(0)]
                    room.C[g, i, j] = total
            for i in range(a, e):
                for j in range(a, i + U(1)):
                    total = 1.0 if i == j else 0.0
                    for m in range(a, e):
                        total += room.Lam[level, m - a, i - a, U(0)] * room.C[g, m, j]
                    F[g, i, j] = total
            product = 1.0
            for j in range(a, e):
                for m in range(a, j):
                    for i in range(j, e):
                        F[g, i, j] -= F[g, i, m] * F[g, j, m]
                pivot = math.sqrt(F[g, j, j])
                product *= pivot
                F[g, j, j] = pivot
                for i in range(j + U(1), e):
                    F[g, i, j] /= pivot
            log_det += 2.0 * math.log(product)
            for j in range(e, k):
                for i in range(a, e):
                    total = 0.0
                    for m in range(a, e):
                        total += room.Lam[level, m - a, i - a, U(0)] * M[g, m, j]
                    for m in range(a, i):
                        total -= F[g, i, m] * F[g, m, j]
                    F[g, i, j] = total / F[g, i, i]
    return log_det


@step
def _gather_matrices(F, M, g, first, end, within, a):
    """M of a unit, from the units within, whose own effects are eliminated."""
    k = U(M.shape[1])
    for i in range(a, k):
        for j in range(a, i + U(1)):
            total = 0.0
            for child in range(first, end):
                total += M[child, i, j]
                for m in range(within, a):
                    total -= F[child, m, i] * F[child, m, j]
            M[g, i, j] = total
            M[g, j, i] = total


@step
def solve(nest, room, lo, hi, vector, minus_u, out):
    """Put H^-1 (Lam'vector - minus_u u) into `out`, and return its square in the metric of H.

    vector : of the innermost units; gains that of the others
    """
    k, F, y, squared = U(nest.Z.shape[1]), room.F, room.y, 0.0
    for level in range(U(len(lo))):
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        for g in range(lo[level], hi[level]):
            if level > U(0):
                within = nest.column_start[level - U(1)]
                for i in range(a, k):
                    total = 0.0
                    for child in range(nest.first[g], nest.end[g]):
                        total += vector[child, i]
                        for m in range(within, a):
                            total -= F[child, m, i] * y[child, m]
                    vector[g, i] = total
            for i in range(a, e):
                total = -minus_u * room.u[g, i]
                for m in range(a, e):
                    total += room.Lam[level, m - a, i - a, U(0)] * vector[g, m]
                for m in range(a, i):
                    total -= F[g, i, m] * y[g, m]
                y[g, i] = total / F[g, i, i]
                squared += y[g, i] * y[g, i]
    _substitute_back(nest, room, lo, hi, out)
    return squared


@step
def _substitute_back(nest, room, lo, hi, out):
    """From room.y, outermost units first; Lam times all solutions of a path in room.path."""
    k, F, y, path = U(nest.Z.shape[1]), room.F, room.y, room.path
    for back in range(U(len(lo))):
        level = U(len(lo)) - U(1) - back
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        for g in range(lo[level], hi[level]):
            for last in range(e - a):
                i = e - U(1) - last
                total = y[g, i]
                for m in range(e, k):
                    total -= F[g, i, m] * path[g, m]
                for m in range(i + U(1), e):
                    total -= F[g, m, i] * out[g, m]
                out[g, i] = total / F[g, i, i]
            for i in range(a, e):
                total = 0.0
                for m in range(a, e):
                    total += room.Lam[level, i - a, m - a, U(0)] * out[g, m]
                path[g, i] = total
            if level > U(0):
                for child in range(nest.first[g], nest.end[g]):
                    for i in range(a, k):
                        path[child, i] = path[g, i]


@step
def covariances(nest, room, lo, hi):
    """Put the covariance of b given the responses, of every unit's path, into room.C.

    That of the units around stands there already.
    """
    k, F, C, y = U(nest.Z.shape[1]), room.F, room.C, room.y
    for back in range(U(len(lo))):
        level = U(len(lo)) - U(1) - back
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        for g in range(lo[level], hi[level]):
            for j in range(e, k):  # G = L^-T F
                for last in range(e - a):
                    i = e - U(1) - last
                    total = F[g, i, j]
                    for m in range(i + U(1), e):
                        total -= F[g, m, i] * C[g, m, j]
                    C[g, i, j] = total / F[g, i, i]
            for i in range(a, e):
                for j in range(e, k):
                    total = 0.0
                    for m in range(e, k):
                        total -= C[g, i, m] * C[g, m, j]
                    C[g, j, i] = total
            for j in range(a, e):  # (L L')^-1 + G C G'
                for i in range(a, e):
                    total = 1.0 if i == j else 0.0
                    for m in range(a, i):
                        total -= F[g, i, m] * y[g, m]
                    y[g, i] = total / F[g, i, i]
                for last in range(e - a):
                    i = e - U(1) - last
                    total = y[g, i]
                    for m in range(i + U(1), e):
                        total -= F[g, m, i] * y[g, m]
                    y[g, i] = total / F[g, i, i]
                for i in range(a, e):
                    C[g, i, j] = y[g, i]
                    for m in range(e, k):
                        C[g, i, j] -= C[g, i, m] * C[g, m, j]
            _turn(room.Lam, C, y, level, g, a, e)
            if level > U(0):
                for child in range(nest.first[g], nest.end[g]):
                    for i in range(a, k):
                        for j in range(a, k):
                            C[child, i, j] = C[g, i, j]


@step
def _turn(Lam, C, y, level, g, a, e):
    """From own effects u to Lam u, in place: Lam C Lam' of its own, Lam C beside it."""
    k = U(C.shape[1])
    for j in range(a, e):
        for i in range(a, e):
            y[g, i] = C[g, i, j]
        for i in range(a, e):
            total = 0.0
            for m in range(a, e):
                total += Lam[level, i - a, m - a, U(0)] * y[g, m]
            C[g, i, j] = total
    for row in range(a, k):
        for j in range(a, e):
            y[g, j] = C[g, row, j]
        for j in range(a, e):
            total = 0.0
            for m in range(a, e):
                total += Lam[level, j - a, m - a, U(0)] * y[g, m]
            C[g, row, j] = total
            if row >= e:
                C[g, j, row] = total
