"""The way back: D of all levels and the gradient; see likelihood.py."""

import numpy as np

from mcsim.engine.arithmetic.compiled import part, step
from mcsim.engine.crossed.crossing import LANES
from mcsim.engine.crossed.elimination import add_rows, copy, factorise_block
from mcsim.engine.crossed.products import set_products, take_chosen_products, take_products
from mcsim.engine.nested.steps import set_gradient_of_block

U = np.uint64


@part
def differentiate_outer(outer, is_reml, room, system, found):
    """D of the levels that make the dense system."""
    A, F, h, z, V = system.A, system.F, system.h, system.z, system.V
    n, n_fixed = U(len(F)), U(h.shape[1])
    for one in range(U(len(outer.level))):
        first, q = outer.first[one], outer.first[one + U(1)] - outer.first[one]
        for i in range(q):
            for j in range(n_fixed):
                copy(z[i, j], A[n + j, first + i])
                take_products(z[i, j], F[first + i], h[:, j], n)
            for j in range(i + U(1)):
                copy(V[i, j], A[first + i, first + j])
                take_products(V[i, j], F[first + i], F[first + j], n)
            _take_out_fixed(z[i], found.beta)
        level = outer.level[one]
        for i in range(q):
            _add(found.scale[level, i], V[i, i])
            for j in range(i + U(1)):
                _add_to_D(
                    found.D[level], i, j, V[i, j], z[i], z[j], found.T_inverse, is_reml,
                    room.numbers[3],
                )  # fmt: skip


@step
def _take_out_fixed(z, beta):
    """Z'Py in place of the last of z, Z'V^-1y."""
    p = U(len(beta))
    for m in range(p):
        for lane in range(LANES):
            z[p, lane] -= z[m, lane] * beta[m, lane]


@step
def _add(out, values):
    for lane in range(LANES):
        out[lane] += values[lane]


@step
def _add_to_D(D, i, j, v, zi, zj, T_inverse, is_reml, kappa):
    """Add one entry of Z'PZ - kappa (Z'Py)(Z'Py)' to D, and its mirror image."""
    p = U(len(T_inverse))
    for lane in range(LANES):
        D[i, j, lane] += v[lane] - kappa[lane] * zi[p, lane] * zj[p, lane]
    if is_reml:
        for a in range(p):
            for b in range(p):
                for lane in range(LANES):
                    D[i, j, lane] -= zi[a, lane] * T_inverse[a, b, lane] * zj[b, lane]
    if i != j:
        copy(D[j, i], D[i, j])


@part
def differentiate_inner(
    inner, block_unit, weight, touch_start, touch, G_start, G, C_start, C, is_reml, room, system,
    block, found
):  # fmt: skip
    """D of the levels that are eliminated."""
    p = U(len(found.beta))
    for s in range(U(len(block_unit) - 1)):
        own = G[G_start[s] :]
        b = factorise_block(inner, block_unit[s], block_unit[s + U(1)], own, room, block)
        start = inner.first[block_unit[s]]
        touched = touch[touch_start[s] : touch_start[s + U(1)]]
        n = U(len(touched))
        add_rows(block, C[C_start[s] :], room.data[start:], n, b)
        _solve_rows_of_block(block, own, n, b)
        _add_outer_part(block, system.U, touched, n - p, p, b)
        for i in range(b):
            _take_out_fixed(block.x[i], found.beta)
        for one in range(block_unit[s], block_unit[s + U(1)]):
            at, level = inner.first[one] - start, inner.level[one]
            q = inner.first[one + U(1)] - inner.first[one]
            _take_out_outer(block, system.N, touched, n - p, at, q)
            for i in range(q):
                for j in range(i + U(1)):
                    for lane in range(LANES):
                        block.V[at + i, at + j, lane] *= weight[s]
                _add(found.scale[level, i], block.V[at + i, at + i])
                for j in range(i + U(1)):
                    _add_to_D(
                        found.D[level], i, j, block.V[at + i, at + j], block.x[at + i],
                        block.x[at + j], found.T_inverse, is_reml, room.numbers[3],
                    )  # fmt: skip


@step
def _solve_rows_of_block(block, G, n_touched, b):
    """V = G - G M G, and E = R'W - R'W M G, with G H' in the place of Lam."""
    L, H, V, E, k = block.L, block.H, block.V, block.E, block.k
    for i in range(b):
        for j in range(b):
            L[i, j] = 0.0
            for m in range(b):
                for lane in range(LANES):
                    L[i, j, lane] += G[i * b + m] * H[j, m, lane]
    for i in range(b):
        for j in range(b):
            V[i, j] = G[i * b + j]
            for m in range(b):
                for lane in range(LANES):
                    V[i, j, lane] -= L[i, m, lane] * L[j, m, lane]
    for r in range(n_touched + U(1)):
        for i in range(b):
            set_products(k[i], H[i], E[r], b)
        for i in range(b):
            take_products(E[r, i], L[i], k, b)


@step
def _add_outer_part(block, Uh, touched, n_outer, p, b):
    """W'V^-1X and W'V^-1y."""
    E, x = block.E, block.x
    for i in range(b):
        for j in range(p + U(1)):
            copy(x[i, j], E[n_outer + j, i])
            take_chosen_products(x[i, j], Uh[:, j], touched, E[:, i], n_outer)


@step
def _take_out_outer(block, N, touched, n_outer, at, q):
    """Take E' N E of one unit out of its V."""
    E, V, k = block.E, block.V, block.k
    for r in range(n_outer):
        for i in range(q):  # minus what stands before the diagonal of N, and half of that
            for lane in range(LANES):
                k[i, lane] = -0.5 * N[touched[r], touched[r], lane] * E[r, at + i, lane]
            take_chosen_products(k[i], N[touched[r]], touched, E[:, at + i], r)
        for i in range(q):
            for j in range(i + U(1)):
                for lane in range(LANES):
                    V[at + i, at + j, lane] += (
                        E[r, at + i, lane] * k[j, lane] + k[i, lane] * E[r, at + j, lane]
                    )


@part
def set_gradient(blocks, turn, room, found):
    """D in turned columns, and the gradient in theta: 2 D Lam, masked to the parameters."""
    D, Lam, factor, gradient = found.D, room.Lam, room.factor, found.gradient
    for level in range(len(turn)):
        _turn_both(D[level], turn[level], Lam[level])
        _turn_scale(found.scale[level], turn[level], Lam[level, 0])
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
                for lane in range(LANES):
                    room[i, j, lane] += D[i, m, lane] * A[m, j]
    for i in range(q):
        for j in range(q):
            D[i, j] = 0.0
            for m in range(q):
                for lane in range(LANES):
                    D[i, j, lane] += A[m, i] * room[m, j, lane]


@step
def _turn_scale(scale, A, room):
    """The scale of turned columns, as if those that they are made of were orthogonal."""
    q = U(len(scale))
    for i in range(q):
        room[i] = 0.0
        for m in range(q):
            for lane in range(LANES):
                room[i, lane] += A[m, i] * A[m, i] * scale[m, lane]
    for i in range(q):
        copy(scale[i], room[i])
