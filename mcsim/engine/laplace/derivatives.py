"""Derivatives of the Laplace approximation at a mode, compiled; likelihood.py has the formulas."""

from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.arithmetic.unit_sums import sum_of_products
from mcsim.engine.families.kinds import NBINOM, U
from mcsim.engine.families.nbinom import nbinom_slopes
from mcsim.engine.laplace.elimination import (
    add_times,
    along_rows,
    copy,
    copy_all,
    covariances,
    divide,
    gather,
    solve,
    sum_columns,
    take_product,
)


@step
def differentiate(kind, nest, room, y, tau):
    """Add to the derivatives in Psi and in the dispersion; leave those of rows in room.moved."""
    covariances(nest, room)
    _variances(nest, room, room.nll)  # whose own numbers are counted
    for row in range(U(len(y))):
        room.moved[row] = room.w3[row] * room.nll[row]
    sum_columns(nest, room.moved, room.of_basis, room.S)
    copy_all(room.vector, room.S)
    solve(nest, room, room.vector, 0.0, room.step)
    moved = room.moved
    moved[:] = 0.0
    along_rows(nest, room.path, room.of_basis, moved)
    if kind == NBINOM:
        add_to_dispersion(room, y, tau)
    for row in range(U(len(y))):
        moved[row] = room.w3[row] * room.nll[row] - 2.0 * room.r[row] - room.w[row] * moved[row]
    n_leaves, k = nest.level_start[U(1)], U(len(nest.column))
    for i in range(k):
        for j in range(k):
            take_product(room.S[i, :n_leaves], room.M[i, j, :n_leaves], room.path[j, :n_leaves])
    for level in range(U(len(nest.level_start) - 1)):
        if level > U(0):
            gather(nest, level, room.R)
            gather(nest, level, room.S)
        _settle(nest, level, room)
        _add_units(nest, level, room, room.K[level], room.D[level])


@step
def _settle(nest, level, room):
    """R of single effects by their mode, s R = u, which large counts tell without rounding."""
    a, e = nest.column_start[level], nest.column_start[level + U(1)]
    s = room.Lam[level, U(0), U(0), U(0)]
    if e - a == U(1) and s != 0.0:
        for g in range(nest.level_start[level], nest.level_start[level + U(1)]):
            room.R[a, g] = room.u[a, g] / s


@step
def _variances(nest, room, out):
    """Put the variance of every row's predictor, given the responses, into `out`."""
    n_leaves, k, sums = nest.level_start[U(1)], U(len(nest.column)), room.of_basis
    sums[:] = 0.0
    for i in range(k):
        for j in range(k):
            c, d = nest.column[i], nest.column[j]
            if c >= d:
                add_times(sums[c, d], 1.0 if c == d else 2.0, room.C[i, j, :n_leaves])
    out[:] = 0.0
    for c in range(U(len(nest.B))):
        for d in range(c + U(1)):
            own = sums[c, d]
            for row in range(U(len(out))):
                out[row] += nest.B[c, row] * nest.B[d, row] * own[nest.leaf[row]]


@step
def add_to_dispersion(room, y, tau):
    """Add the rows to the derivative in the dispersion, but for what y and tau alone give.

    room.nll : variances of their predictors; room.moved : what these change by through the modes
    """
    total, weight = 0.0, 0.0
    for row in range(U(len(y))):
        dl, dr, dw = nbinom_slopes(y[row], room.eta[row], tau)
        room.fixed[row] = room.nll[row] * dw - 2.0 * dl + room.moved[row] * dr
    for row in range(U(len(y))):
        total += room.fixed[row]
        weight += room.w[row]
    room.D[len(room.Lam), 0, 0, 0] += total
    room.K[len(room.Lam), 0, 0, 0] += weight


@step
def _add_units(nest, level, room, of_design, of_data):
    """Add a level's units to the derivatives in its Psi."""
    k, M, C, R, S = U(len(nest.column)), room.M, room.C, room.R, room.S
    a, e = nest.column_start[level], nest.column_start[level + U(1)]
    lo, hi = nest.level_start[level], nest.level_start[level + U(1)]
    _explain_own(room.Lam[level, :, :, U(0)], room.F, M, C, (a, e, lo, hi))
    for i in range(a, e):
        for j in range(a, i + U(1)):
            K, other = room.y[0, lo:hi], room.step[0, lo:hi]
            copy(K, M[i, j, lo:hi])
            for m in range(a, e):
                take_product(K, C[m, i, lo:hi], C[m, j, lo:hi])
            for m in range(e, k):
                other[:] = 0.0
                for n in range(e, k):
                    take_product(other, C[m, n, lo:hi], M[n, j, lo:hi])
                for g in range(hi - lo):
                    K[g] += M[m, i, lo + g] * other[g]
            total, change = 0.0, 0.0
            for g in range(lo, hi):
                total += K[g - lo]
                change += 0.5 * (R[i, g] * S[j, g] + S[i, g] * R[j, g]) - R[i, g] * R[j, g]
            of_design[i - a, j - a, U(0)] = of_design[j - a, i - a, U(0)] = total
            of_data[i - a, j - a, U(0)] = of_data[j - a, i - a, U(0)] = total + change


@step
def _explain_own(Lam, F, M, C, places):
    """Put L^-1 Lam'M of a level's own columns into C, and M less what they explain below M's own.

    Of large weights a difference of M and what all effects of a path explain would be rounding.
    """
    a, e, lo, hi = places
    for i in range(a, e):
        for m in range(a, e):
            own = C[m, i, lo:hi]
            own[:] = 0.0
            for n in range(a, e):
                add_times(own, Lam[n - a, m - a], M[n, i, lo:hi])
            for n in range(a, m):
                take_product(own, F[m, n, lo:hi], C[n, i, lo:hi])
            divide(own, F[m, m, lo:hi])
        for outer in range(e, U(len(M))):
            for m in range(a, e):
                take_product(M[outer, i, lo:hi], C[m, i, lo:hi], F[m, outer, lo:hi])


@step
def add_to_coefficients(X, rows, factor, gradient):
    """Add the rows' derivatives to those in the coefficients."""
    for j in range(U(len(X))):
        gradient[j] += factor * sum_of_products(X[j], rows)


@step
def set_information(nest, room, out):
    """Put X'V^-1X into `out`."""
    own, explained, p = room.fixed, room.eta, U(len(nest.X))
    for j in range(p):
        for row in range(U(len(own))):
            own[row] = room.w[row] * nest.X[j, row]
        sum_columns(nest, own, room.of_basis, room.vector)
        solve(nest, room, room.vector, 0.0, room.step)
        explained[:] = 0.0
        along_rows(nest, room.path, room.of_basis, explained)
        add_information(nest.X, room.w, own, explained, j, out)


@step
def add_information(X, w, own, explained, j, out):
    """Put X'(own - w explained), of its column j, into `out`."""
    take_product(own, w, explained)
    for i in range(j + U(1)):
        total = sum_of_products(X[i], own)
        out[i * U(len(X)) + j] = out[j * U(len(X)) + i] = total
