"""Steps of the Laplace approximation over the tree of units, compiled.

A unit's effects are eliminated before those of the unit around it, so that no matrix is larger than
the columns of one path from the innermost unit outwards; all units of a level go together, which
loops over the last axis make vector instructions of. Letters are those of nest.py.
"""

import math

from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.families.kinds import U, rows_of


@step
def spread(nest, Lam, source, path):
    """Put Lam times the units' own `source` into `path`, beside that of the units around them."""
    n_levels, k = U(len(nest.level_start) - 1), U(len(nest.column))
    for back in range(n_levels):
        level = n_levels - U(1) - back
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        lo, hi = nest.level_start[level], nest.level_start[level + U(1)]
        for i in range(a, e):
            own = path[i, lo:hi]
            own[:] = 0.0
            for j in range(a, e):
                add_times(own, Lam[level, i - a, j - a, U(0)], source[j, lo:hi])
        _inherit(nest.parent[lo:hi], path, lo, e, k)


@step
def _inherit(parent, path, lo, e, k):
    """Give units from lo on what the unit around them has of a path."""
    for i in range(e, k):
        own, outer = path[i, lo:], path[i]
        for g in range(U(len(parent))):
            own[g] = outer[parent[g]]


@step
def copy(out, x):
    """Put x into `out`, as far as both go."""
    for i in range(U(min(len(out), len(x)))):
        out[i] = x[i]


@step
def copy_all(out, x):
    """Put x, of two axes, into `out`."""
    for i in range(U(len(out))):
        copy(out[i], x[i])


@step
def add_times(out, factor, x):
    """Add a multiple of x to `out`."""
    for g in range(U(len(out))):
        out[g] += factor * x[g]


@step
def take_product(out, x, y):
    """Take x y from `out`."""
    for g in range(U(len(out))):
        out[g] -= x[g] * y[g]


@step
def divide(out, x):
    """Divide `out` by x."""
    for g in range(U(len(out))):
        out[g] /= x[g]


@step
def along_rows(nest, path, sums, out):
    """Add the rows' columns times what their innermost units have of a path to `out`."""
    n_leaves = nest.level_start[U(1)]
    sums[U(0)] = 0.0
    for i in range(U(len(nest.column))):
        add_times(sums[U(0), nest.column[i]], 1.0, path[i, :n_leaves])
    for c in range(U(len(nest.B))):
        own, B = sums[U(0), c], nest.B[c]
        for row in range(U(len(out))):
            out[row] += B[row] * own[nest.leaf[row]]


@step
def sum_columns(nest, r, sums, out):
    """Put sums of r Z over the rows of the innermost units into `out`."""
    for c in range(U(len(nest.B))):
        _sum_rows(nest, r, nest.B[c], sums[U(0), c])
    for i in range(U(len(nest.column))):
        copy(out[i], sums[U(0), nest.column[i]])


@step
def _sum_rows(nest, r, x, out):
    for g in range(U(len(out))):
        total = 0.0
        for row in range(nest.first[g], nest.end[g]):
            total += r[row] * x[row]
        out[g] = total


@step
def sum_rows(kind, nest, room, y, tau):
    """Minus log-likelihood at room.b; derivatives of rows; sums of the innermost units."""
    copy(room.eta, room.fixed)
    along_rows(nest, room.b, room.of_basis, room.eta)
    rows_of(kind, y, nest.trials, room.eta, tau, room.nll, room.r, room.w, room.w3)
    sum_columns(nest, room.r, room.of_basis, room.R)
    copy_all(room.vector, room.R)
    for c in range(U(len(nest.B))):
        copy(room.moved, room.w)
        _times(room.moved, nest.B[c])
        for d in range(c + U(1)):
            _sum_rows(nest, room.moved, nest.B[d], room.of_basis[c, d])
    n_leaves = nest.level_start[U(1)]
    for i in range(U(len(nest.column))):
        for j in range(U(len(nest.column))):
            c, d = nest.column[i], nest.column[j]
            copy(room.M[i, j], room.of_basis[max(c, d), min(c, d)])
    total = 0.0
    for g in range(n_leaves):
        own = 0.0
        for row in range(nest.first[g], nest.end[g]):
            own += room.nll[row]
        total += own
    return total


@step
def _times(out, x):
    for row in range(U(len(out))):
        out[row] *= x[row]


@step
def gather(nest, level, sums):
    """Put sums over the units within, vectors (k, n_units), into those of a level's units."""
    for i in range(nest.column_start[level], U(len(sums))):
        _gather(nest, level, sums[i], sums[i])


@step
def _gather(nest, level, of_units, out):
    for g in range(nest.level_start[level], nest.level_start[level + U(1)]):
        total = 0.0
        for child in range(nest.first[g], nest.end[g]):
            total += of_units[child]
        out[g] = total


@step
def eliminate(nest, room):
    """Eliminate the effects of all units, into room.F."""
    k, F, M, C = U(len(nest.column)), room.F, room.M, room.C
    for level in range(U(len(nest.level_start) - 1)):
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        lo, hi = nest.level_start[level], nest.level_start[level + U(1)]
        if level > U(0):
            _gather_matrices(nest, level, F, M, C)
        Lam = room.Lam[level, :, :, U(0)]
        for i in range(a, e):
            for j in range(a, k):  # Lam'M
                own = F[i, j, lo:hi]
                own[:] = 0.0
                for m in range(a, e):
                    add_times(own, Lam[m - a, i - a], M[m, j, lo:hi])
        for i in range(a, e):  # L L' = I + Lam'M Lam of its own
            for j in range(a, i + U(1)):
                own = C[i, j, lo:hi]
                own[:] = 1.0 if i == j else 0.0
                for m in range(a, e):
                    add_times(own, Lam[m - a, j - a], F[i, m, lo:hi])
        _factorise(C, F, a, e, lo, hi)
        for j in range(e, k):
            for i in range(a, e):
                for m in range(a, i):
                    take_product(F[i, j, lo:hi], F[i, m, lo:hi], F[m, j, lo:hi])
                divide(F[i, j, lo:hi], F[i, i, lo:hi])


@step
def _factorise(C, F, a, e, lo, hi):
    """Put the Cholesky factor of C into F."""
    for j in range(a, e):
        for i in range(j, e):
            own = F[i, j, lo:hi]
            copy(own, C[i, j, lo:hi])
            for m in range(a, j):
                take_product(own, F[i, m, lo:hi], F[j, m, lo:hi])
            if i == j:
                for g in range(U(len(own))):
                    own[g] = math.sqrt(own[g])
            else:
                divide(own, F[j, j, lo:hi])


@step
def _gather_matrices(nest, level, F, M, C):
    """M of a level's units, from the units within, whose own effects are eliminated."""
    a, within = nest.column_start[level], nest.column_start[level - U(1)]
    lo, hi = nest.level_start[level - U(1)], nest.level_start[level]
    for i in range(a, U(len(M))):
        for j in range(a, i + U(1)):
            own = C[i, j, lo:hi]
            copy(own, M[i, j, lo:hi])
            for m in range(within, a):
                take_product(own, F[m, i, lo:hi], F[m, j, lo:hi])
            _gather(nest, level, C[i, j], M[i, j])
            copy(M[j, i, hi : nest.level_start[level + U(1)]], M[i, j, hi:])


@step
def log_determinant(nest, F):
    """Log-determinant of I + Lam'Z'WZ Lam, eliminated."""
    total = 0.0
    for level in range(U(len(nest.level_start) - 1)):
        for i in range(nest.column_start[level], nest.column_start[level + U(1)]):
            for g in range(nest.level_start[level], nest.level_start[level + U(1)]):
                total += 2.0 * math.log(F[i, i, g])
    return total


@step
def solve(nest, room, vector, minus_u, out):
    """Put H^-1 (Lam'vector - minus_u u) into `out`, and return its square in the metric of H.

    vector : of the innermost units; gains that of the others, and loses what is explained
    """
    k, F, y, squared = U(len(nest.column)), room.F, room.y, 0.0
    for level in range(U(len(nest.level_start) - 1)):
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        lo, hi = nest.level_start[level], nest.level_start[level + U(1)]
        if level > U(0):
            gather(nest, level, vector)
        Lam = room.Lam[level, :, :, U(0)]
        for i in range(a, e):
            own = y[i, lo:hi]
            own[:] = 0.0
            add_times(own, -minus_u, room.u[i, lo:hi])
            for m in range(a, e):
                add_times(own, Lam[m - a, i - a], vector[m, lo:hi])
            for m in range(a, i):
                take_product(own, F[i, m, lo:hi], y[m, lo:hi])
            divide(own, F[i, i, lo:hi])
            for g in range(U(len(own))):
                squared += own[g] * own[g]
        for i in range(e, k):
            for m in range(a, e):
                take_product(vector[i, lo:hi], F[m, i, lo:hi], y[m, lo:hi])
    _substitute_back(nest, room, out)
    return squared


@step
def _substitute_back(nest, room, out):
    """From room.y, outermost units first; Lam times all solutions of a path in room.path."""
    n_levels, k = U(len(nest.level_start) - 1), U(len(nest.column))
    F, path = room.F, room.path
    for back in range(n_levels):
        level = n_levels - U(1) - back
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        lo, hi = nest.level_start[level], nest.level_start[level + U(1)]
        _inherit(nest.parent[lo:hi], path, lo, e, k)
        for last in range(e - a):
            i = e - U(1) - last
            own = out[i, lo:hi]
            copy(own, room.y[i, lo:hi])
            for m in range(e, k):
                take_product(own, F[i, m, lo:hi], path[m, lo:hi])
            for m in range(i + U(1), e):
                take_product(own, F[m, i, lo:hi], out[m, lo:hi])
            divide(own, F[i, i, lo:hi])
        for i in range(a, e):
            own = path[i, lo:hi]
            own[:] = 0.0
            for m in range(a, e):
                add_times(own, room.Lam[level, i - a, m - a, U(0)], out[m, lo:hi])


@step
def covariances(nest, room):
    """Put the covariance of b given the responses, of every unit's path, into room.C."""
    n_levels, k = U(len(nest.level_start) - 1), U(len(nest.column))
    C, F = room.C, room.F
    for back in range(n_levels):
        level = n_levels - U(1) - back
        a, e = nest.column_start[level], nest.column_start[level + U(1)]
        lo, hi = nest.level_start[level], nest.level_start[level + U(1)]
        for j in range(e, k):
            _inherit(nest.parent[lo:hi], C[j], lo, e, k)
        for j in range(e, k):  # G = L^-T F
            for last in range(e - a):
                i = e - U(1) - last
                own = C[i, j, lo:hi]
                copy(own, F[i, j, lo:hi])
                for m in range(i + U(1), e):
                    take_product(own, F[m, i, lo:hi], C[m, j, lo:hi])
                divide(own, F[i, i, lo:hi])
        for i in range(a, e):
            for j in range(e, k):
                own = C[j, i, lo:hi]
                own[:] = 0.0
                for m in range(e, k):
                    take_product(own, C[i, m, lo:hi], C[m, j, lo:hi])
        for j in range(a, e):  # (L L')^-1 + G C G'
            _solve_column(F, room.y, j, a, e, lo, hi)
            for i in range(a, e):
                own = C[i, j, lo:hi]
                copy(own, room.y[i, lo:hi])
                for m in range(e, k):
                    take_product(own, C[i, m, lo:hi], C[m, j, lo:hi])
        _turn(room.Lam[level, :, :, U(0)], C, room.y, a, e, lo, hi)


@step
def _solve_column(F, y, j, a, e, lo, hi):
    """Put column j of (L L')^-1 into y."""
    for i in range(a, e):
        own = y[i, lo:hi]
        own[:] = 1.0 if i == j else 0.0
        for m in range(a, i):
            take_product(own, F[i, m, lo:hi], y[m, lo:hi])
        divide(own, F[i, i, lo:hi])
    for last in range(e - a):
        i = e - U(1) - last
        for m in range(i + U(1), e):
            take_product(y[i, lo:hi], F[m, i, lo:hi], y[m, lo:hi])
        divide(y[i, lo:hi], F[i, i, lo:hi])


@step
def _turn(Lam, C, y, a, e, lo, hi):
    """From own effects u to Lam u, in place: Lam C Lam' of its own, Lam C beside it."""
    for j in range(a, e):
        for i in range(a, e):
            copy(y[i, lo:hi], C[i, j, lo:hi])
        for i in range(a, e):
            own = C[i, j, lo:hi]
            own[:] = 0.0
            for m in range(a, e):
                add_times(own, Lam[i - a, m - a], y[m, lo:hi])
    for row in range(a, U(len(C))):
        for j in range(a, e):
            copy(y[j, lo:hi], C[row, j, lo:hi])
        for j in range(a, e):
            own = C[row, j, lo:hi]
            own[:] = 0.0
            for m in range(a, e):
                add_times(own, Lam[j - a, m - a], y[m, lo:hi])
            if row >= e:
                copy(C[j, row, lo:hi], own)
