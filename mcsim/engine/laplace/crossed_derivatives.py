"""Derivatives of the Laplace approximation where units cross, compiled.

N, M and C are those of crossed_elimination.py, which has what they are the covariance of.
"""

from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.arithmetic.unit_sums import sum_of_products
from mcsim.engine.families.kinds import NBINOM, U
from mcsim.engine.laplace.crossed_elimination import (
    SPARSE,
    along_rows,
    multiply_block,
    put_touched,
    solve,
    sum_columns,
)
from mcsim.engine.laplace.derivatives import add_information, add_to_dispersion
from mcsim.engine.laplace.elimination import add_times, copy


@step
def differentiate(kind, cross, room, y, tau):
    """Add to the derivatives in Psi and in the dispersion; leave those of rows in room.moved."""
    _covariances(cross, room)
    _variances(cross, room, room.nll)  # whose own numbers are counted
    _add_outer(cross, room)
    moved, n = room.moved, U(len(y))
    for row in range(n):
        moved[row] = room.w3[row] * room.nll[row]
    sum_columns(cross, moved, room.vector)
    solve(cross, room, room.vector, 0.0, room.step)
    moved[:] = 0.0
    along_rows(cross, room.path, moved)
    if kind == NBINOM:
        add_to_dispersion(room, y, tau)
    for row in range(n):
        moved[row] = room.w3[row] * room.nll[row] - room.w[row] * moved[row]
    sum_columns(cross, moved, room.S)
    for row in range(n):
        moved[row] -= 2.0 * room.r[row]
    for level in range(U(len(room.Lam))):
        for i in range(U(room.K.shape[1])):
            add_times(room.D[level, i, :, 0], 1.0, room.K[level, i, :, 0])
    q, n_inner = U(room.G.shape[1]), U(len(room.u)) - U(len(room.A))
    for s in range(U(len(room.G))):
        _add_unit(room, U(cross.inner), s * q, q)
    for unit in range(U(len(cross.outer_level))):
        a = cross.outer[unit]
        _add_unit(room, cross.outer_level[unit], n_inner + a, cross.outer[unit + U(1)] - a)


@step
def _add_unit(room, level, first, n):
    """Add what the responses say to the derivative in Psi of a unit's level."""
    R, S, D = room.R[first:], room.S[first:], room.D[level, :, :, 0]
    if n == U(1) and room.Lam[level, 0, 0, 0] != 0.0:  # without the rounding of large counts
        R[0] = room.u[first] / room.Lam[level, 0, 0, 0]
    for i in range(n):
        for j in range(n):
            D[i, j] += 0.5 * (R[i] * S[j] + S[i] * R[j]) - R[i] * R[j]


@step
def _covariances(cross, room):
    """Put the covariance of the outer b given the responses into N."""
    B, V, N = room.B, room.V, room.N
    n = U(len(B))
    for i in range(n):  # V = B^-1
        V[i, : i + U(1)] = 0.0
        V[i, i] = 1.0
        for m in range(i):
            add_times(V[i, : m + U(1)], -B[i, m], V[m, : m + U(1)])
        for j in range(i + U(1)):
            V[i, j] /= B[i, i]
    N[:] = 0.0
    for m in range(n):
        for i in range(m + U(1)):
            add_times(N[i, : m + U(1)], V[m, i], V[m, : m + U(1)])
    for i in range(n):
        copy(V[i], N[i])
    n_outer = U(len(cross.outer_level))
    for i in range(n_outer):
        for j in range(n_outer):
            multiply_block(cross, room.Lam, V, N, i, j, False)


@step
def _variances(cross, room, out):
    """Put the variance of every row's predictor, given the responses, into `out`.

    Adds derivatives in Psi of the inner level, as far as the weights give them, to room.K.
    """
    q, inner = U(room.G.shape[1]), U(cross.inner)
    for s in range(U(len(room.G))):
        lo, hi = cross.touch_start[s], cross.touch_start[s + U(1)]
        touch, H, G = cross.touch[lo:hi], room.H[s], room.G[s]
        C, P, E, F = room.C[lo:hi], room.P[lo:hi], room.E[lo:hi], room.F[lo:hi]
        for i in range(U(len(touch))):
            for j in range(q):  # E = C M, for now
                E[i, j] = 0.0
                for m in range(q):
                    E[i, j] += P[i, m] * H[m, j]
        _times_N(room.N, touch, E, room.y[: len(room.N)], F, q)
        _variances_of_unit(cross, room, s, E, F, out)
        for i in range(U(len(touch))):
            for j in range(q):  # C - C M G
                F[i, j] = C[i, j]
                for m in range(q):
                    F[i, j] -= E[i, m] * G[m, j]
        _times_N(room.N, touch, F, room.y[: len(room.N)], E, q)
        _add_inner(H, G, F, E, room.K[inner, :, :, 0], q)


@step
def _times_N(N, touch, X, x, out, q):
    """Put N X, among touched columns, into `out`."""
    is_sparse = SPARSE * len(touch) < len(N)
    for j in range(q):
        if not is_sparse:
            put_touched(touch, X[:, j], x)
        for i in range(U(len(touch))):
            own, total = N[touch[i]], 0.0
            if is_sparse:
                for m in range(U(len(touch))):
                    total += own[touch[m]] * X[m, j]
            else:
                total = sum_of_products(own, x)
            out[i, j] = total


@step
def _variances_of_unit(cross, room, s, CM, NCM, out):
    """Of the rows of an inner unit."""
    q, inner, H, n_levels = U(room.G.shape[1]), U(cross.inner), room.H[s], U(len(cross.place))
    n_inner, a, own = U(len(room.u)) - U(len(room.A)), cross.column_start[inner], room.own
    for i in range(q):  # covariance of its b
        for j in range(q):
            own[i, j] = 0.0
            for m in range(q):
                own[i, j] += H[m, i] * H[m, j]
            for m in range(U(len(CM))):
                own[i, j] += CM[m, i] * NCM[m, j]
    for row in range(cross.first[s], cross.first[s + U(1)]):
        total = 0.0
        for i in range(q):
            z = cross.Z[a + i, row]
            for j in range(q):
                total += z * own[i, j] * cross.Z[a + j, row]
            for level in range(n_levels):
                if level != inner:
                    first, at = cross.column_start[level], cross.at[level, row]
                    for j in range(cross.column_start[level + U(1)] - first):
                        total -= 2.0 * z * NCM[at + j, i] * cross.Z[first + j, row]
        for level in range(n_levels):
            for other in range(n_levels):
                if level != inner and other != inner:
                    total += _form(cross, room.N, level, other, row, n_inner)
        out[row] = total


@step
def _form(cross, N, level, other, row, n_inner):
    """A row's columns of two levels in the metric of N."""
    first, start = cross.column_start[level], cross.column_start[other]
    to, beside = cross.place[level, row] - n_inner, cross.place[other, row] - n_inner
    total = 0.0
    for i in range(cross.column_start[level + U(1)] - first):
        for j in range(cross.column_start[other + U(1)] - start):
            total += cross.Z[first + i, row] * N[to + i, beside + j] * cross.Z[start + j, row]
    return total


@step
def _add_inner(H, G, E, NE, K, q):
    """Add G - G M G - E'N E of an inner unit to K."""
    for i in range(q):
        for j in range(q):
            total = G[i, j]
            for m in range(q):
                left, right = 0.0, 0.0
                for n in range(q):
                    left += H[m, n] * G[n, i]
                    right += H[m, n] * G[n, j]
                total -= left * right
            for m in range(U(len(E))):
                total -= E[m, i] * NE[m, j]
            K[i, j] += total


@step
def _add_outer(cross, room):
    """Add A - A N A of outer units to the derivatives in their Psi by the weights."""
    A, N, V = room.A, room.N, room.V
    n = U(len(A))
    for i in range(n):  # V = N A
        V[i] = 0.0
        for m in range(n):
            add_times(V[i], N[i, m], A[m])
    for unit in range(U(len(cross.outer_level))):
        a, e = cross.outer[unit], cross.outer[unit + U(1)]
        K = room.K[cross.outer_level[unit], :, :, 0]
        for i in range(a, e):
            for j in range(a, e):
                total = A[i, j]
                for m in range(n):
                    total -= A[m, i] * V[m, j]
                K[i - a, j - a] += total


@step
def set_information(cross, room, out):
    """Put X'V^-1X into `out`."""
    own, explained = room.fixed, room.eta
    for j in range(U(len(cross.X))):
        for row in range(U(len(own))):
            own[row] = room.w[row] * cross.X[j, row]
        sum_columns(cross, own, room.vector)
        solve(cross, room, room.vector, 0.0, room.step)
        explained[:] = 0.0
        along_rows(cross, room.path, explained)
        add_information(cross.X, room.w, own, explained, j, out)
