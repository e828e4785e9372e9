"""The profiled deviance of a mixed model whose units cross, and its derivatives, by elimination.

With W the inner columns, block by block, and R the rest (outer columns O, then X, then y):

    K = I + Lam' W'W Lam,   M = Lam K^-1 Lam',   A = R'R - R'W M W'R        (every block of its own)
    B = I + Lam' A_OO Lam = L L',   S = L^-1 Lam' A_OO,   h = L^-1 Lam' A_O.
    X'V^-1X = A_XX - h_X' h_X, and so for y

and on the way back, with U = Lam L'^-1 h, N = Lam B^-1 Lam' and E = R'W - R'W M W'W,

    O'V^-1O = A_OO - S'S,   O'V^-1X = A_OX - S' h_X
    W'V^-1W = W'W - W'W M W'W - E_O' N E_O,   W'V^-1X = E_X' - E_O' U_X

of which blocks of one unit make D = sum Z'PZ - kappa (Z'Py)(Z'Py)', kappa = nu / y'Py.
"""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, part, step
from mcsim.engine.arithmetic.lanes import factorise, substitute
from mcsim.engine.blocks import n_parameters
from mcsim.engine.crossed.crossing import Crossing
from mcsim.engine.likelihood import Likelihood, Points, Shape, places_of, points_of
from mcsim.engine.nested.moments import Moments
from mcsim.engine.nested.steps import (
    add_factor,
    load_lane,
    load_order,
    set_gradient_of_block,
    solve_fixed_effects,
    store_lane,
)

U = np.uint64


class Room(NamedTuple):
    """What an evaluation reads of the lanes, which are the last axis, and keeps."""

    theta: Floats  # (n_theta,)
    order: Ints  # (n_blocks, q)
    data: Floats  # (n_columns,) W'y
    numbers: Floats  # (4,) weight of the data, log|V|, y'Py, kappa
    Lam: Floats  # (n_levels, q, q) times the turn
    factor: Floats  # (n_levels, q, q) as theta has it
    T: Floats  # (p, p)


class System(NamedTuple):
    """The dense system of an evaluation; lanes are the last axis."""

    A: Floats  # (n_rest + 1, n_rest + 1) lower triangle: outer columns, X, y
    F: Floats  # (n_outer, n_outer) A_OO Lam, becomes S'
    B: Floats  # (n_outer, n_outer) becomes its factor
    Q: Floats  # (n_outer, n_outer) L^-1 Lam' by rows
    N: Floats  # (n_outer, n_outer)
    h: Floats  # (n_outer, p + 1)
    U: Floats  # (n_outer, p + 1)
    z: Floats  # (q, p + 1) O'V^-1X of one unit, the last O'V^-1y and then O'Py
    V: Floats  # (q, q) O'V^-1O of one unit


class Block(NamedTuple):
    """Of one eliminated block; lanes are the last axis."""

    L: Floats  # (b, b) Lam
    K: Floats  # (b, b) becomes its factor
    H: Floats  # (b, b) K^-1/2 Lam'
    V: Floats  # (b, b) W'V^-1W
    E: Floats  # (m + 1, b) rows of R'W, then of E
    x: Floats  # (b, p + 1) W'V^-1X, W'V^-1y and then W'Py
    k: Floats  # (b,)


class CrossedLikelihood(Likelihood):
    """The likelihood of random effects that cross, and independent residuals with one SD."""

    def __init__(self, crossing: Crossing, moments: Moments) -> None:
        self.blocks, self.nu, self.n_units = crossing.blocks, crossing.model.nu, crossing.n_units
        self._crossing, self._moments = crossing, moments
        self._shapes = _result_shapes(crossing)
        self._found = _lane_points(self._shapes, crossing.model.width)
        self._room = _new_room(crossing)

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; the replicates are rows of the moments."""
        weight = np.full(len(replicates), np.nan if with_data else 0.0)
        weight = weight if inverse_sigma2 is None else inverse_sigma2
        results = np.empty((len(replicates), len(self._found.results)))
        evaluate_points(
            *self._crossing, *self._room, self._found, self._moments.values, self._moments.rss,
            replicates, theta, order, weight, results,
        )  # fmt: skip
        return points_of(results, self._shapes)


def _result_shapes(crossing: Crossing) -> tuple[Shape, ...]:
    n_levels, q = crossing.turn.shape[:2]
    p = len(crossing.rest) - int(crossing.outer.first[-1])
    return (), (), (n_parameters(crossing.blocks),), (n_levels, q, q), (n_levels, q), (p,), (p, p)


def _lane_points(shapes: tuple[Shape, ...], width: int) -> Points:
    places = places_of(shapes)
    results = np.zeros((places[-1].stop, width))
    views = [results[own].reshape(*shape, width) for own, shape in zip(places, shapes, strict=True)]
    return Points(results, *views)


def _new_room(crossing: Crossing) -> tuple[Room, System, Block]:
    width, n_rest = crossing.model.width, len(crossing.rest)
    n_outer, (n_levels, q) = int(crossing.outer.first[-1]), crossing.turn.shape[:2]
    p = n_rest - n_outer
    n_columns = int(crossing.inner.first[-1]) + n_outer
    first = crossing.inner.first[crossing.block_unit].astype(np.int64)
    b, m = int(np.diff(first).max()), int(np.diff(crossing.touch_start.astype(np.int64)).max())
    room = Room(
        np.zeros((n_parameters(crossing.blocks), width)),
        np.zeros((len(crossing.blocks.size), q, width), dtype=np.int64),
        np.zeros((n_columns, width)),
        np.zeros((4, width)),
        np.zeros((n_levels, q, q, width)),
        np.zeros((n_levels, q, q, width)),
        np.zeros((p, p, width)),
    )
    A, F, B, Q, N = (np.zeros((n, n, width)) for n in (n_rest + 1, *[n_outer] * 4))
    h, Uh = np.zeros((2, n_outer, p + 1, width))
    system = System(A, F, B, Q, N, h, Uh, np.zeros((q, p + 1, width)), np.zeros((q, q, width)))
    L, K, H, V = np.zeros((4, b, b, width))
    E, x, k = (np.zeros((*shape, width)) for shape in ((m + 1, b), (b, p + 1), (b,)))
    return room, system, Block(L, K, H, V, E, x, k)


@lean_kernel
def evaluate_points(
    model, blocks, n_units, turn, inner, outer, block_unit, touch_start, touch, G_start,
    G, C_start, C, rest, room, system, block, found, values, rss, replicates, theta, order, weight,
    results
):  # fmt: skip
    """Evaluate all points, as many at a time as there are lanes."""
    n, width = len(replicates), model.width
    for first in range(0, n, width):
        for lane in range(width):
            point = min(first + lane, n - 1)  # lanes that are left over repeat the last point
            room.numbers[0, lane] = weight[point]
            room.numbers[2, lane] = rss[replicates[point]]
            load_lane(room.data, values, replicates[point], lane)
            load_lane(room.theta, theta, point, lane)
            load_order(room.order, order, point, lane)
        _set_factors(blocks, turn, room)
        _eliminate_inner(
            inner, block_unit, touch_start, touch, G_start, G, C_start, C, rest, room, system, block
        )
        _eliminate_outer(outer, room, system)
        _solve_fixed_effects(model, room, system, found)
        found.D[:] = 0.0
        found.scale[:] = 0.0
        _differentiate_outer(outer, model.is_reml, room, system, found)
        _differentiate_inner(
            inner, block_unit, touch_start, touch, G_start, G, C_start, C, model.is_reml, room,
            system, block, found,
        )  # fmt: skip
        _set_gradient(blocks, turn, room, found)
        for lane in range(min(width, n - first)):
            store_lane(results, found.results, first + lane, lane)


@part
def _set_factors(blocks, turn, room):
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
        _turn(Lam[level], turn[level], factor[level])


@step
def _copy(out, values):
    for lane in range(U(len(out))):
        out[lane] = values[lane]


@step
def _turn(out, A, P):
    """Put A P into out."""
    for i in range(U(out.shape[0])):
        for j in range(U(out.shape[1])):
            out[i, j] = 0.0
            for m in range(U(out.shape[0])):
                for lane in range(U(out.shape[2])):
                    out[i, j, lane] += A[i, m] * P[m, j, lane]


@part
def _eliminate_inner(
    inner, block_unit, touch_start, touch, G_start, G, C_start, C, rest, room, system, block
):  # fmt: skip
    """A of the rest, and log|V| of what is eliminated."""
    width, n_rest = U(room.numbers.shape[1]), U(len(rest))
    n_inner, n_outer = U(inner.first[-1]), U(len(system.F))
    A, data, log_det = system.A, room.data, room.numbers[1]
    log_det[:] = 0.0
    for i in range(n_rest):
        for j in range(i + U(1)):
            A[i, j] = rest[i, j]
    A[n_rest] = 0.0
    for j in range(n_outer):
        for lane in range(width):
            A[n_rest, j, lane] = data[n_inner + j, lane]
    for s in range(U(len(block_unit) - 1)):
        b = _factorise_block(
            inner, block_unit[s], block_unit[s + U(1)], G[G_start[s] :], room, block
        )
        for i in range(b):
            for lane in range(width):
                log_det[lane] += 2.0 * np.log(block.K[i, i, lane])
        first = inner.first[block_unit[s]]
        touched = touch[touch_start[s] : touch_start[s + U(1)]]
        _add_rows(block, C[C_start[s] :], data[first:], U(len(touched)), b, width)
        _take_out(A, room.numbers[2], touched, block, b, n_rest, width)


@step
def _factorise_block(inner, unit, end, G, room, block):
    """K, its factor and H of one block; its number of columns."""
    width, start = U(room.numbers.shape[1]), inner.first[unit]
    b = inner.first[end] - start
    L, K, H, V = block.L, block.K, block.H, block.V
    for i in range(b):
        for j in range(b):
            L[i, j] = 0.0
    for one in range(unit, end):
        at, level = inner.first[one] - start, inner.level[one]
        for i in range(inner.first[one + U(1)] - inner.first[one]):
            for j in range(inner.first[one + U(1)] - inner.first[one]):
                for lane in range(width):
                    L[at + i, at + j, lane] = room.Lam[level, i, j, lane]
    for i in range(b):  # V = G Lam, for now
        for j in range(b):
            V[i, j] = 0.0
            for m in range(b):
                for lane in range(width):
                    V[i, j, lane] += G[i * b + m] * L[m, j, lane]
    for i in range(b):
        for j in range(b):
            K[i, j] = 1.0 if i == j else 0.0
            for m in range(b):
                for lane in range(width):
                    K[i, j, lane] += L[m, i, lane] * V[m, j, lane]
            for lane in range(width):
                H[i, j, lane] = L[j, i, lane]
    factorise(K[:b, :b], U(0), width)
    substitute(K[:b, :b], U(0), H[:b, :b], U(0), width)
    return b


@step
def _add_rows(block, C, y, n_touched, b, width):
    """Rows of R'W: those of the rest that are touched, and y'W."""
    E = block.E
    for r in range(n_touched):
        for i in range(b):
            E[r, i] = C[r * b + i]
    for i in range(b):
        for lane in range(width):
            E[n_touched, i, lane] = y[i, lane]


@step
def _take_out(A, yy, touched, block, b, n_rest, width):
    """Take R'W M W'R out of A, and of y'y; E becomes R'W H'."""
    E, H, k, n = block.E, block.H, block.k, U(len(touched))
    for r in range(n + U(1)):
        for i in range(b):
            k[i] = 0.0
            for m in range(b):
                for lane in range(width):
                    k[i, lane] += H[i, m, lane] * E[r, m, lane]
        for i in range(b):
            for lane in range(width):
                E[r, i, lane] = k[i, lane]
        row = n_rest if r == n else touched[r]
        for c in range(min(r + U(1), n)):
            for i in range(b):
                for lane in range(width):
                    A[row, touched[c], lane] -= E[r, i, lane] * E[c, i, lane]
    for i in range(b):
        for lane in range(width):
            yy[lane] -= E[n, i, lane] * E[n, i, lane]


@part
def _eliminate_outer(outer, room, system):
    """B, S, h, U and N of the dense system."""
    A, F, B, N, h, Uh = system.A, system.F, system.B, system.N, system.h, system.U
    width, n = U(room.numbers.shape[1]), U(len(F))
    n_fixed = U(h.shape[1])
    for i in range(n):
        for j in range(i):
            for lane in range(width):
                A[j, i, lane] = A[i, j, lane]
    for one in range(U(len(outer.level))):
        first, end, Lam = outer.first[one], outer.first[one + U(1)], room.Lam[outer.level[one]]
        for i in range(n):
            _add_row_times(F[i], A[i], Lam, first, end, width)
    for one in range(U(len(outer.level))):
        first, end, Lam = outer.first[one], outer.first[one + U(1)], room.Lam[outer.level[one]]
        for i in range(first, end):
            for j in range(n):
                B[i, j] = 0.0
                for m in range(first, end):
                    for lane in range(width):
                        B[i, j, lane] += Lam[m - first, i - first, lane] * F[m, j, lane]
            for j in range(n_fixed):
                h[i, j] = 0.0
                for m in range(first, end):
                    for lane in range(width):
                        h[i, j, lane] += Lam[m - first, i - first, lane] * A[n + j, m, lane]
    for i in range(n):
        for lane in range(width):
            B[i, i, lane] += 1.0
    factorise(B, U(0), width)
    for i in range(n):
        for lane in range(width):
            room.numbers[1, lane] += 2.0 * np.log(B[i, i, lane])
    substitute(B, U(0), h, U(0), width)
    _inverse_in_outer(outer, room.Lam, B, system.Q, N, h, Uh, width)
    _solve_rows(B, F, width)


@step
def _add_row_times(out, row, Lam, first, end, width):
    """Put the row times Lam of one unit into out, in its columns."""
    for j in range(first, end):
        out[j] = 0.0
        for m in range(first, end):
            for lane in range(width):
                out[j, lane] += row[m, lane] * Lam[m - first, j - first, lane]


@step
def _solve_rows(L, F, width):
    """Put L^-1 f into every row f of F."""
    n = U(len(F))
    for r in range(n):
        for i in range(n):
            for m in range(i):
                for lane in range(width):
                    F[r, i, lane] -= L[i, m, lane] * F[r, m, lane]
            for lane in range(width):
                F[r, i, lane] /= L[i, i, lane]


@step
def _inverse_in_outer(outer, Lams, L, Q, N, h, Uh, width):
    """N = Lam (L L')^-1 Lam' = Q Q' where row c of Q is L^-1 Lam' e_c; and U = Lam L'^-1 h."""
    n, n_fixed = U(len(L)), U(h.shape[1])
    for one in range(U(len(outer.level))):
        first, end, Lam = outer.first[one], outer.first[one + U(1)], Lams[outer.level[one]]
        for c in range(first, end):
            for i in range(first, n):  # before its unit a row is zero
                for lane in range(width):
                    Q[c, i, lane] = Lam[c - first, i - first, lane] if i < end else 0.0
                for m in range(first, i):
                    for lane in range(width):
                        Q[c, i, lane] -= L[i, m, lane] * Q[c, m, lane]
                for lane in range(width):
                    Q[c, i, lane] /= L[i, i, lane]
            for j in range(n_fixed):
                Uh[c, j] = 0.0
                for i in range(first, n):
                    for lane in range(width):
                        Uh[c, j, lane] += Q[c, i, lane] * h[i, j, lane]
            for r in range(c + U(1)):
                N[c, r] = 0.0
                for i in range(first, n):
                    for lane in range(width):
                        N[c, r, lane] += Q[c, i, lane] * Q[r, i, lane]
                _copy(N[r, c], N[c, r])


@part
def _solve_fixed_effects(model, room, system, found):
    """X'V^-1X, its factor and inverse, b, y'Py and -2 logLik."""
    A, h, T, beta, r2, f = system.A, system.h, room.T, found.beta, found.r2, found.f
    width, p, n = U(model.width), U(len(T)), U(len(system.F))
    log_det, kappa, yy = room.numbers[1], room.numbers[3], room.numbers[2]
    for lane in range(width):
        r2[lane] = yy[lane]
    for i in range(p + U(1)):
        for j in range(i + U(1)):
            for m in range(n):
                for lane in range(width):
                    A[n + i, n + j, lane] -= h[m, i, lane] * h[m, j, lane]
    for i in range(p):
        for lane in range(width):
            beta[i, lane] = A[n + p, n + i, lane]
            for j in range(i + U(1)):
                T[i, j, lane] = A[n + i, n + j, lane]
    for lane in range(width):
        r2[lane] += A[n + p, n + p, lane]
    solve_fixed_effects(T, beta, found.T_inverse, r2, kappa)
    for c in range(width):
        if model.is_reml:
            log_det[c] += kappa[c] + model.log_constant
        f[c] = log_det[c] + model.nu * (1.0 + np.log(2.0 * np.pi * r2[c] / model.nu))
        kappa[c] = model.nu / r2[c] if np.isnan(room.numbers[0, c]) else room.numbers[0, c]


@part
def _differentiate_outer(outer, is_reml, room, system, found):
    """D of the levels that make the dense system."""
    A, F, h, z, V = system.A, system.F, system.h, system.z, system.V
    width, n, n_fixed = U(room.numbers.shape[1]), U(len(F)), U(h.shape[1])
    for one in range(U(len(outer.level))):
        first, q = outer.first[one], outer.first[one + U(1)] - outer.first[one]
        for i in range(q):
            for j in range(n_fixed):
                _copy(z[i, j], A[n + j, first + i])
                for m in range(n):
                    for lane in range(width):
                        z[i, j, lane] -= F[first + i, m, lane] * h[m, j, lane]
            for j in range(i + U(1)):
                _copy(V[i, j], A[first + i, first + j])
                for m in range(n):
                    for lane in range(width):
                        V[i, j, lane] -= F[first + i, m, lane] * F[first + j, m, lane]
            _take_out_fixed(z[i], found.beta, width)
        level = outer.level[one]
        for i in range(q):
            for j in range(i + U(1)):
                _add_to_D(
                    found.D[level], i, j, V[i, j], z[i], z[j], found.T_inverse, is_reml,
                    room.numbers[3], width,
                )  # fmt: skip


@step
def _take_out_fixed(z, beta, width):
    """Z'Py in place of the last of z, Z'V^-1y."""
    p = U(len(beta))
    for m in range(p):
        for lane in range(width):
            z[p, lane] -= z[m, lane] * beta[m, lane]


@step
def _add_to_D(D, i, j, v, zi, zj, T_inverse, is_reml, kappa, width):
    """Add one entry of Z'PZ - kappa (Z'Py)(Z'Py)' to D, and its mirror image."""
    p = U(len(T_inverse))
    for lane in range(width):
        D[i, j, lane] += v[lane] - kappa[lane] * zi[p, lane] * zj[p, lane]
    if is_reml:
        for a in range(p):
            for b in range(p):
                for lane in range(width):
                    D[i, j, lane] -= zi[a, lane] * T_inverse[a, b, lane] * zj[b, lane]
    if i != j:
        _copy(D[j, i], D[i, j])


@part
def _differentiate_inner(
    inner, block_unit, touch_start, touch, G_start, G, C_start, C, is_reml, room, system, block,
    found
):  # fmt: skip
    """D of the levels that are eliminated."""
    width, p = U(room.numbers.shape[1]), U(len(found.beta))
    for s in range(U(len(block_unit) - 1)):
        own = G[G_start[s] :]
        b = _factorise_block(inner, block_unit[s], block_unit[s + U(1)], own, room, block)
        start = inner.first[block_unit[s]]
        touched = touch[touch_start[s] : touch_start[s + U(1)]]
        n = U(len(touched))
        _add_rows(block, C[C_start[s] :], room.data[start:], n, b, width)
        _solve_rows_of_block(block, own, n, b, width)
        _add_outer_part(block, system.U, touched, n - p, p, b, width)
        for i in range(b):
            _take_out_fixed(block.x[i], found.beta, width)
        for one in range(block_unit[s], block_unit[s + U(1)]):
            at, level = inner.first[one] - start, inner.level[one]
            q = inner.first[one + U(1)] - inner.first[one]
            _take_out_outer(block, system.N, touched, n - p, at, q, width)
            for i in range(q):
                for j in range(i + U(1)):
                    _add_to_D(
                        found.D[level], i, j, block.V[at + i, at + j], block.x[at + i],
                        block.x[at + j], found.T_inverse, is_reml, room.numbers[3], width,
                    )  # fmt: skip


@step
def _solve_rows_of_block(block, G, n_touched, b, width):
    """V = G - G M G, and E = R'W - R'W M G, with G H' in the place of Lam."""
    L, H, V, E, k = block.L, block.H, block.V, block.E, block.k
    for i in range(b):
        for j in range(b):
            L[i, j] = 0.0
            for m in range(b):
                for lane in range(width):
                    L[i, j, lane] += G[i * b + m] * H[j, m, lane]
    for i in range(b):
        for j in range(b):
            V[i, j] = G[i * b + j]
            for m in range(b):
                for lane in range(width):
                    V[i, j, lane] -= L[i, m, lane] * L[j, m, lane]
    for r in range(n_touched + U(1)):
        for i in range(b):
            k[i] = 0.0
            for m in range(b):
                for lane in range(width):
                    k[i, lane] += H[i, m, lane] * E[r, m, lane]
        for i in range(b):
            for m in range(b):
                for lane in range(width):
                    E[r, i, lane] -= L[i, m, lane] * k[m, lane]


@step
def _add_outer_part(block, Uh, touched, n_outer, p, b, width):
    """W'V^-1X and W'V^-1y."""
    E, x = block.E, block.x
    for i in range(b):
        for j in range(p + U(1)):
            for lane in range(width):
                x[i, j, lane] = E[n_outer + j, i, lane]
            for r in range(n_outer):
                for lane in range(width):
                    x[i, j, lane] -= Uh[touched[r], j, lane] * E[r, i, lane]


@step
def _take_out_outer(block, N, touched, n_outer, at, q, width):
    """Take E' N E of one unit out of its V."""
    E, V, k = block.E, block.V, block.k
    for r in range(n_outer):
        for i in range(q):
            k[i] = 0.0
        for c in range(n_outer):
            for i in range(q):
                for lane in range(width):
                    k[i, lane] += N[touched[r], touched[c], lane] * E[c, at + i, lane]
        for i in range(q):
            for j in range(q):
                for lane in range(width):
                    V[at + i, at + j, lane] -= E[r, at + i, lane] * k[j, lane]


@part
def _set_gradient(blocks, turn, room, found):
    """D in turned columns, and the gradient in theta: 2 D Lam, masked to the parameters."""
    D, Lam, factor, gradient = found.D, room.Lam, room.factor, found.gradient
    for level in range(len(turn)):
        _turn_both(D[level], turn[level], Lam[level])
    for b in range(len(blocks.size)):
        level, first, t, size = blocks.level[b], blocks.first[b], blocks.theta[b], blocks.size[b]
        set_gradient_of_block(
            gradient[t:], D[level], factor[level], room.order[b], blocks.Q[b], first, size,
            blocks.is_matrix[b],
        )  # fmt: skip


@step
def _turn_both(D, A, room):
    """Put A' D A into D."""
    q = U(len(D))
    for i in range(q):
        for j in range(q):
            room[i, j] = 0.0
            for m in range(q):
                for lane in range(U(D.shape[2])):
                    room[i, j, lane] += D[i, m, lane] * A[m, j]
    for i in range(q):
        for j in range(q):
            D[i, j] = 0.0
            for m in range(q):
                for lane in range(U(D.shape[2])):
                    D[i, j, lane] += A[m, i] * room[m, j, lane]
