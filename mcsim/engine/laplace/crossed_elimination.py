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

SPARSE = 4  # beside those that are touched: with more columns, all at a time take longer


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
            _take_out(A, touch, P[: len(touch), j], room.y)
    for i in range(U(len(A))):
        for j in range(i):
            A[j, i] = A[i, j]
    n_outer = U(len(cross.outer_level))
    for i in range(n_outer):
        for j in range(i + U(1)):
            multiply_block(cross, room.Lam, A, B, i, j, True)
    for i in range(U(len(B))):
        B[i, i] += 1.0
        for j in range(i):
            B[i, j] = (B[i, j] - sum_of_products(B[i, :j], B[j, :j])) / B[j, j]
        B[i, i] = math.sqrt(B[i, i] - sum_of_products(B[i, :i], B[i, :i]))


@step
def _take_out(A, touch, p, x):
    """Take p p', of touched columns, from the lower triangle of A."""
    if SPARSE * len(touch) < len(A):
        for i in range(U(len(touch))):
            own, factor = A[touch[i]], p[i]
            for m in range(i + U(1)):
                own[touch[m]] -= factor * p[m]
        return
    put_touched(touch, p, x[: len(A)])
    for i in range(U(len(touch))):
        end = touch[i] + U(1)
        add_times(A[touch[i], :end], -p[i], x[:end])


@step
def put_touched(touch, p, x):
    """Put p where columns are touched, and zeros elsewhere."""
    x[:] = 0.0
    for i in range(U(len(touch))):
        x[touch[i]] = p[i]


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
def multiply_block(cross, Lam, source, out, i, j, is_turned):
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
