"""The way up: inner units, the dense system, the fixed effects; see likelihood.py."""

import numpy as np

from mcsim.engine.arithmetic.compiled import part, step
from mcsim.engine.crossed.crossing import LANES
from mcsim.engine.crossed.products import set_products, take_products
from mcsim.engine.nested.steps import add_factor
from mcsim.engine.nested.steps import solve_fixed_effects as solve_root

U = np.uint64


@part
def set_factors(blocks, turn, room):
    """Lam of every level from theta."""
    factor, Lam = room.factor, room.Lam
    factor[:] = 0.0
    for b in range(len(blocks.size)):
        level, first, t, size = blocks.level[b], blocks.first[b], blocks.theta[b], blocks.size[b]
        add_factor(
            factor[level], room.theta[t:], room.order[b], blocks.Q[b], first, size,
            blocks.is_matrix[b],
        )  # fmt: skip
    for level in range(len(turn)):
        times_on_left(Lam[level], turn[level], factor[level])


@step
def _factorise(K, n):
    """Lower Cholesky factor of K (n, n), in place."""
    for j in range(n):
        for i in range(j, n):
            take_products(K[i, j], K[i], K[j], j)
            if i == j:
                for lane in range(LANES):
                    K[i, j, lane] = np.sqrt(K[i, j, lane])
            else:
                for lane in range(LANES):
                    K[i, j, lane] /= K[j, j, lane]


@step
def _substitute(L, X, n, n_columns):
    """Put L^-1 X into X (n, n_columns), for lower triangular L."""
    for i in range(n):
        for j in range(n_columns):
            take_products(X[i, j], L[i], X[:, j], i)
            for lane in range(LANES):
                X[i, j, lane] /= L[i, i, lane]


@step
def copy(out, values):
    """Put the values of all lanes into out."""
    for lane in range(LANES):
        out[lane] = values[lane]


@step
def times_on_left(out, A, P):
    """Put A P into out."""
    for i in range(U(out.shape[0])):
        for j in range(U(out.shape[1])):
            out[i, j] = 0.0
            for m in range(U(out.shape[0])):
                for lane in range(LANES):
                    out[i, j, lane] += A[i, m] * P[m, j, lane]


@part
def eliminate_inner(
    inner, block_unit, weight, touch_start, touch, G_start, G, C_start, C, rest, room, system, block
):  # fmt: skip
    """A of the rest, and log|V| of what is eliminated."""
    n_rest = U(len(rest))
    n_inner, n_outer = U(inner.first[-1]), U(len(system.F))
    A, data, log_det = system.A, room.data, room.numbers[1]
    log_det[:] = 0.0
    for i in range(n_rest):
        for j in range(i + U(1)):
            A[i, j] = rest[i, j]
    A[n_rest] = 0.0
    for j in range(n_outer):
        for lane in range(LANES):
            A[n_rest, j, lane] = data[n_inner + j, lane]
    for s in range(U(len(block_unit) - 1)):
        b = factorise_block(
            inner, block_unit[s], block_unit[s + U(1)], G[G_start[s] :], room, block
        )
        for i in range(b):
            for lane in range(LANES):
                log_det[lane] += weight[s] * 2.0 * np.log(block.K[i, i, lane])
        first = inner.first[block_unit[s]]
        touched = touch[touch_start[s] : touch_start[s + U(1)]]
        add_rows(block, C[C_start[s] :], data[first:], U(len(touched)), b)
        _take_out(A, room.numbers[2], touched, block, b, n_rest)


@step
def factorise_block(inner, unit, end, G, room, block):
    """K, its factor and H of one block; its number of columns."""
    start = inner.first[unit]
    b = inner.first[end] - start
    L, K, H, V = block.L, block.K, block.H, block.V
    for i in range(b):
        for j in range(b):
            L[i, j] = 0.0
    for one in range(unit, end):
        at, level = inner.first[one] - start, inner.level[one]
        for i in range(inner.first[one + U(1)] - inner.first[one]):
            for j in range(inner.first[one + U(1)] - inner.first[one]):
                for lane in range(LANES):
                    L[at + i, at + j, lane] = room.Lam[level, i, j, lane]
    for i in range(b):  # V = G Lam, for now
        for j in range(b):
            V[i, j] = 0.0
            for m in range(b):
                for lane in range(LANES):
                    V[i, j, lane] += G[i * b + m] * L[m, j, lane]
    for i in range(b):
        for j in range(b):
            K[i, j] = 1.0 if i == j else 0.0
            for m in range(b):
                for lane in range(LANES):
                    K[i, j, lane] += L[m, i, lane] * V[m, j, lane]
            for lane in range(LANES):
                H[i, j, lane] = L[j, i, lane]
    _factorise(K, b)
    _substitute(K, H, b, b)
    return b


@step
def add_rows(block, C, y, n_touched, b):
    """Rows of R'W: those of the rest that are touched, and y'W."""
    E = block.E
    for r in range(n_touched):
        for i in range(b):
            E[r, i] = C[r * b + i]
    for i in range(b):
        for lane in range(LANES):
            E[n_touched, i, lane] = y[i, lane]


@step
def _take_out(A, yy, touched, block, b, n_rest):
    """Take R'W M W'R out of A, and of y'y; E becomes R'W H'."""
    E, H, k, n = block.E, block.H, block.k, U(len(touched))
    for r in range(n + U(1)):
        for i in range(b):
            set_products(k[i], H[i], E[r], b)
        for i in range(b):
            copy(E[r, i], k[i])
        row = n_rest if r == n else touched[r]
        for c in range(min(r + U(1), n)):
            take_products(A[row, touched[c]], E[r], E[c], b)
    for i in range(b):
        for lane in range(LANES):
            yy[lane] -= E[n, i, lane] * E[n, i, lane]


@part
def eliminate_outer(outer, room, system):
    """B, S, h, U and N of the dense system."""
    A, F, B, N, h, Uh = system.A, system.F, system.B, system.N, system.h, system.U
    n = U(len(F))
    n_fixed = U(h.shape[1])
    for i in range(n):
        for j in range(i):
            for lane in range(LANES):
                A[j, i, lane] = A[i, j, lane]
    for one in range(U(len(outer.level))):
        first, end, Lam = outer.first[one], outer.first[one + U(1)], room.Lam[outer.level[one]]
        for i in range(n):
            _add_row_times(F[i], A[i], Lam, first, end)
    for one in range(U(len(outer.level))):
        first, end, Lam = outer.first[one], outer.first[one + U(1)], room.Lam[outer.level[one]]
        for i in range(first, end):
            for j in range(n):
                B[i, j] = 0.0
                for m in range(first, end):
                    for lane in range(LANES):
                        B[i, j, lane] += Lam[m - first, i - first, lane] * F[m, j, lane]
            for j in range(n_fixed):
                h[i, j] = 0.0
                for m in range(first, end):
                    for lane in range(LANES):
                        h[i, j, lane] += Lam[m - first, i - first, lane] * A[n + j, m, lane]
    for i in range(n):
        for lane in range(LANES):
            B[i, i, lane] += 1.0
    _factorise(B, n)
    for i in range(n):
        for lane in range(LANES):
            room.numbers[1, lane] += 2.0 * np.log(B[i, i, lane])
    _substitute(B, h, n, n_fixed)
    _inverse_in_outer(outer, room.Lam, B, system.Q, N, h, Uh)
    _solve_rows(B, F)


@step
def _add_row_times(out, row, Lam, first, end):
    """Put the row times Lam of one unit into out, in its columns."""
    for j in range(first, end):
        out[j] = 0.0
        for m in range(first, end):
            for lane in range(LANES):
                out[j, lane] += row[m, lane] * Lam[m - first, j - first, lane]


@step
def _solve_rows(L, F):
    """Put L^-1 f into every row f of F."""
    n = U(len(F))
    for r in range(n):
        for i in range(n):
            take_products(F[r, i], L[i], F[r], i)
            for lane in range(LANES):
                F[r, i, lane] /= L[i, i, lane]


@step
def _inverse_in_outer(outer, Lams, L, Q, N, h, Uh):
    """N = Lam (L L')^-1 Lam' = Q Q' where row c of Q is L^-1 Lam' e_c; and U = Lam L'^-1 h."""
    n, n_fixed = U(len(L)), U(h.shape[1])
    for one in range(U(len(outer.level))):
        first, end, Lam = outer.first[one], outer.first[one + U(1)], Lams[outer.level[one]]
        for c in range(first, end):
            for i in range(first, n):  # before its unit a row is zero
                for lane in range(LANES):
                    Q[c, i, lane] = Lam[c - first, i - first, lane] if i < end else 0.0
                take_products(Q[c, i], L[i, first:], Q[c, first:], i - first)
                for lane in range(LANES):
                    Q[c, i, lane] /= L[i, i, lane]
            for j in range(n_fixed):
                set_products(Uh[c, j], Q[c, first:], h[first:, j], n - first)
            for r in range(c + U(1)):
                set_products(N[c, r], Q[c, first:], Q[r, first:], n - first)
                copy(N[r, c], N[c, r])


@part
def solve_fixed_effects(model, room, system, found):
    """X'V^-1X, its factor and inverse, b, y'Py and -2 logLik."""
    A, h, T, beta, r2, f = system.A, system.h, room.T, found.beta, found.r2, found.f
    p, n = U(len(T)), U(len(system.F))
    log_det, kappa, yy = room.numbers[1], room.numbers[3], room.numbers[2]
    for lane in range(LANES):
        r2[lane] = yy[lane]
    for i in range(p + U(1)):
        for j in range(i + U(1)):
            take_products(A[n + i, n + j], h[:, i], h[:, j], n)
    for i in range(p):
        for lane in range(LANES):
            beta[i, lane] = A[n + p, n + i, lane]
            for j in range(i + U(1)):
                T[i, j, lane] = A[n + i, n + j, lane]
    for lane in range(LANES):
        r2[lane] += A[n + p, n + p, lane]
    solve_root(T, beta, found.T_inverse, r2, kappa)
    for c in range(LANES):
        if model.is_reml:
            log_det[c] += kappa[c] + model.log_constant
        f[c] = log_det[c] + model.nu * (1.0 + np.log(2.0 * np.pi * r2[c] / model.nu))
        kappa[c] = model.nu / r2[c] if np.isnan(room.numbers[0, c]) else room.numbers[0, c]
