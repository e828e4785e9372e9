"""Steps of the Laplace approximation where units cross, compiled: letters are those of crossing.py.

With M = H'H of an inner unit, what is left of the outer columns is A = Z'WZ - sum C M C', and with
N = Lam (I + Lam'A Lam)^-1 Lam', the covariance of b given the responses is N among outer columns,
-M C'N between, and M + M C'N C M within an inner unit.
"""

import math

from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.arithmetic.unit_sums import sum_of_products
from mcsim.engine.families.kinds import U, rows_of
from mcsim.engine.laplace.elimination import add_times, copy


@step
def along_rows(cross, b, out):
    """Add the rows' columns times b of their units to `out`."""
    for level in range(U(len(cross.place))):
        first = cross.column_start[level]
        for i in range(cross.column_start[level + U(1)] - first):
            Z, place = cross.Z[first + i], cross.place[level]
            for row in range(U(len(out))):
                out[row] += Z[row] * b[place[row] + i]


@step
def sum_columns(cross, r, out):
    """Put sums of r Z over the rows of all units into `out`."""
    out[:] = 0.0
    for level in range(U(len(cross.place))):
        first = cross.column_start[level]
        for i in range(cross.column_start[level + U(1)] - first):
            Z, place = cross.Z[first + i], cross.place[level]
            for row in range(U(len(r))):
                out[place[row] + i] += r[row] * Z[row]


@step
def sum_rows(kind, cross, room, y, tau):
    """Minus log-likelihood at room.b; derivatives of rows; sums of all units, in room.R too."""
    copy(room.eta, room.fixed)
    along_rows(cross, room.b, room.eta)
    rows_of(kind, y, cross.trials, room.eta, tau, room.nll, room.r, room.w, room.w3)
    sum_columns(cross, room.r, room.R)
    copy(room.vector, room.R)
    total = 0.0
    for s in range(U(len(cross.first) - 1)):  # in parts, whose rounding does not add up
        own = 0.0
        for row in range(cross.first[s], cross.first[s + U(1)]):
            own += room.nll[row]
        total += own
    return total


@step
def sum_products(cross, room):
    """Put Z'WZ into G, C and A."""
    room.G[:] = 0.0
    room.C[:] = 0.0
    room.A[:] = 0.0
    inner, n_levels = U(cross.inner), U(len(cross.place))
    a, q = cross.column_start[inner], U(room.G.shape[1])
    for s in range(U(len(room.G))):
        G, C = room.G[s], room.C[cross.touch_start[s] :]
        for row in range(cross.first[s], cross.first[s + U(1)]):
            for i in range(q):
                wz = room.w[row] * cross.Z[a + i, row]
                for j in range(q):
                    G[i, j] += wz * cross.Z[a + j, row]
                for level in range(n_levels):
                    if level != inner:
                        _add_row_to_inner(cross, C, level, row, i, wz)
            for level in range(n_levels):
                if level != inner:
                    _add_row_to_outer(cross, room, level, row)


@step
def _add_row_to_inner(cross, C, level, row, i, wz):
    first, at = cross.column_start[level], cross.at[level, row]
    for j in range(cross.column_start[level + U(1)] - first):
        C[at + j, i] += wz * cross.Z[first + j, row]


@step
def _add_row_to_outer(cross, room, level, row):
    """Add a row's columns of one outer level times those of all to A."""
    n_inner = U(len(room.u)) - U(len(room.A))
    first, to = cross.column_start[level], cross.place[level, row] - n_inner
    for other in range(U(len(cross.place))):
        if other == U(cross.inner):
            continue
        start, beside = cross.column_start[other], cross.place[other, row] - n_inner
        for i in range(cross.column_start[level + U(1)] - first):
            wz = room.w[row] * cross.Z[first + i, row]
            for j in range(cross.column_start[other + U(1)] - start):
                room.A[to + i, beside + j] += wz * cross.Z[start + j, row]


@step
def eliminate(cross, room):
    """Factorise I + Lam'Z'WZ Lam."""
    sum_products(cross, room)
    A, B, Lam = room.A, room.B, room.Lam[cross.inner, :, :, 0]
    q = U(room.G.shape[1])
    for s in range(U(len(room.G))):
        _factorise_inner(Lam, room.G[s], room.L[s], room.H[s], q)
        C, P = room.C[cross.touch_start[s] :], room.P[cross.touch_start[s] :]
        touch = cross.touch[cross.touch_start[s] : cross.touch_start[s + U(1)]]
        for i in range(U(len(touch))):
            for j in range(q):
                P[i, j] = 0.0
                for m in range(q):
                    P[i, j] += C[i, m] * room.H[s, j, m]
        for j in range(q):
            for i in range(U(len(touch))):
                own, factor = A[touch[i]], P[i, j]
                for m in range(U(len(touch))):
                    own[touch[m]] -= factor * P[m, j]
    n_outer = U(len(cross.outer_level))
    for i in range(n_outer):
        for j in range(i + U(1)):
            _multiply_block(cross, room.Lam, A, B, i, j, True)
    for i in range(U(len(B))):
        B[i, i] += 1.0
        for j in range(i):
            B[i, j] = (B[i, j] - sum_of_products(B[i, :j], B[j, :j])) / B[j, j]
        B[i, i] = math.sqrt(B[i, i] - sum_of_products(B[i, :i], B[i, :i]))


@step
def _factorise_inner(Lam, G, L, H, q):
    """L L' = I + Lam'G Lam, and H = L^-1 Lam'."""
    for i in range(q):
        for j in range(q):
            H[i, j] = 0.0  # G Lam, for now
            for m in range(q):
                H[i, j] += G[i, m] * Lam[m, j]
    for j in range(q):
        for i in range(j, q):
            total = 1.0 if i == j else 0.0
            for m in range(q):
                total += Lam[m, i] * H[m, j]
            for m in range(j):
                total -= L[i, m] * L[j, m]
            L[i, j] = math.sqrt(total) if i == j else total / L[j, j]
    for j in range(q):
        for i in range(q):
            total = Lam[j, i]
            for m in range(i):
                total -= L[i, m] * H[m, j]
            H[i, j] = total / L[i, i]


@step
def _multiply_block(cross, Lam, source, out, i, j, is_turned):
    """Put Lam' or Lam of an outer unit times a block of `source` times Lam or Lam' into `out`."""
    a, b = cross.outer[i], cross.outer[j]
    first, second = Lam[cross.outer_level[i]], Lam[cross.outer_level[j]]
    n, m = cross.outer[i + U(1)] - a, cross.outer[j + U(1)] - b
    for r in range(n):
        for c in range(m):
            total = 0.0
            for k in range(n):
                left = first[k, r, 0] if is_turned else first[r, k, 0]
                own = 0.0
                for d in range(m):
                    own += source[a + k, b + d] * (
                        second[d, c, 0] if is_turned else second[c, d, 0]
                    )
                total += left * own
            out[a + r, b + c] = total


@step
def log_determinant(room):
    """Log-determinant of I + Lam'Z'WZ Lam, factorised."""
    total = 0.0
    for s in range(U(len(room.L))):
        for i in range(U(room.L.shape[1])):
            total += 2.0 * math.log(room.L[s, i, i])
    for i in range(U(len(room.B))):
        total += 2.0 * math.log(room.B[i, i])
    return total


@step
def solve(cross, room, vector, minus_u, out):
    """Put H^-1 (Lam'vector - minus_u u) into `out`, and return its square in the metric of H.

    vector : sums of columns, loses what is explained; Lam times the solution into room.path
    """
    q, n_inner, squared = U(room.G.shape[1]), U(len(room.u)) - U(len(room.A)), 0.0
    Lam, y, outer = room.Lam[cross.inner, :, :, 0], room.y, vector[n_inner:]
    for s in range(U(len(room.G))):
        L, first = room.L[s], s * q
        for i in range(q):
            total = -minus_u * room.u[first + i]
            for m in range(q):
                total += Lam[m, i] * vector[first + m]
            for m in range(i):
                total -= L[i, m] * y[first + m]
            y[first + i] = total / L[i, i]
            squared += y[first + i] * y[first + i]
        for i in range(cross.touch_start[s], cross.touch_start[s + U(1)]):
            for m in range(q):
                outer[cross.touch[i]] -= room.P[i, m] * y[first + m]
    _times_outer(cross, room.Lam, outer, y[n_inner:], True)
    squared += _solve_outer(room.B, room.u[n_inner:], y[n_inner:], minus_u, out[n_inner:])
    _times_outer(cross, room.Lam, out[n_inner:], room.path[n_inner:], False)
    for s in range(U(len(room.G))):
        first = s * q
        for i in range(cross.touch_start[s], cross.touch_start[s + U(1)]):
            for m in range(q):
                y[first + m] -= room.P[i, m] * room.path[n_inner + cross.touch[i]]
        for last in range(q):
            at = q - U(1) - last
            total = y[first + at]
            for m in range(at + U(1), q):
                total -= room.L[s, m, at] * out[first + m]
            out[first + at] = total / room.L[s, at, at]
        for i in range(q):
            room.path[first + i] = 0.0
            for m in range(q):
                room.path[first + i] += Lam[i, m] * out[first + m]
    return squared


@step
def _times_outer(cross, Lam, x, out, is_turned):
    """Put Lam' x or Lam x of all outer units into `out`."""
    for unit in range(U(len(cross.outer_level))):
        own, a = Lam[cross.outer_level[unit]], cross.outer[unit]
        n = cross.outer[unit + U(1)] - a
        for i in range(n):
            out[a + i] = 0.0
            for m in range(n):
                out[a + i] += (own[m, i, 0] if is_turned else own[i, m, 0]) * x[a + m]


@step
def _solve_outer(B, u, y, minus_u, out):
    """Put (B B')^-1 (y - minus_u u) into `out`; the square of B^-1 times that."""
    n, squared = U(len(B)), 0.0
    for i in range(n):
        y[i] = (y[i] - minus_u * u[i] - sum_of_products(B[i, :i], y[:i])) / B[i, i]
        squared += y[i] * y[i]
    copy(out, y)
    for last in range(n):
        at = n - U(1) - last
        out[at] /= B[at, at]
        add_times(out[:at], -out[at], B[at, :at])
    return squared


@step
def covariances(cross, room):
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
            _multiply_block(cross, room.Lam, V, N, i, j, False)


@step
def variances(cross, room, out):
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
        _times_N(room.N, touch, E, F, q)
        _variances_of_unit(cross, room, s, E, F, out)
        for i in range(U(len(touch))):
            for j in range(q):  # C - C M G
                F[i, j] = C[i, j]
                for m in range(q):
                    F[i, j] -= E[i, m] * G[m, j]
        _times_N(room.N, touch, F, E, q)
        _add_inner(H, G, F, E, room.K[inner, :, :, 0], q)


@step
def _times_N(N, touch, X, out, q):
    """Put N X, among touched columns, into `out`."""
    for i in range(U(len(touch))):
        own = N[touch[i]]
        for j in range(q):
            total = 0.0
            for m in range(U(len(touch))):
                total += own[touch[m]] * X[m, j]
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
def add_outer(cross, room):
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
