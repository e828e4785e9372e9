"""Steps of the likelihood that are no plain algebra of matrices; see likelihood.py."""

import numpy as np

from mcsim.engine.arithmetic.compiled import part, step
from mcsim.engine.arithmetic.lanes import factorise, substitute, substitute_back

U = np.uint64


@step
def load_lane(lanes, rows, row, lane):
    """Put a row into a lane."""
    for m in range(U(len(lanes))):
        lanes[m, lane] = rows[row, m]


@step
def store_lane(rows, lanes, row, lane):
    """Take a row out of a lane."""
    for m in range(U(len(lanes))):
        rows[row, m] = lanes[m, lane]


@step
def load_order(lanes, orders, point, lane):
    """Put the order of the factors of a point into a lane."""
    for b in range(orders.shape[1]):
        for i in range(orders.shape[2]):
            lanes[b, i, lane] = orders[point, b, i]


@step
def add_factor(Lam, theta, order, Q, first, size, is_matrix):
    """Add the factor of one block to Lam (q, q, width) of its level."""
    if not is_matrix:
        for i in range(Lam.shape[0]):
            for j in range(Lam.shape[0]):
                for lane in range(Lam.shape[2]):
                    Lam[i, j, lane] += Q[i, j] * theta[0, lane]
        return
    t = 0
    for j in range(size):
        for i in range(j, size):
            for lane in range(Lam.shape[2]):
                Lam[first + order[i, lane], first + j, lane] = theta[t, lane]
            t += 1


@part
def set_factors(blocks, lanes):
    """Lam of every level from theta."""
    Lam, theta, order = lanes.Lam, lanes.theta, lanes.order
    Lam[:] = 0.0
    for b in range(len(blocks.size)):
        level, first, t, size = blocks.level[b], blocks.first[b], blocks.theta[b], blocks.size[b]
        add_factor(Lam[level], theta[t:], order[b], blocks.Q[b], first, size, blocks.is_matrix[b])


@step
def set_gradient_of_block(gradient, D, Lam, order, Q, first, size, is_matrix):
    """Gradient in the parameters of one block: 2 D Lam where they stand."""
    q = len(D)
    t = 0
    gradient[0] = 0.0
    for j in range(size if is_matrix else q):
        for i in range(j if is_matrix else 0, size if is_matrix else q):
            weight = 2.0 if is_matrix else 2.0 * Q[i, j]
            column = first + j if is_matrix else j
            for lane in range(D.shape[2]):
                row = first + order[i, lane] if is_matrix else i
                s = 0.0
                for m in range(q):
                    s += D[row, m, lane] * Lam[m, column, lane]
                if is_matrix:
                    gradient[t, lane] = weight * s
                else:
                    gradient[0, lane] += weight * s
            t += 1


@part
def set_gradient(blocks, lanes, found):
    """Gradient in theta: 2 D Lam, masked to the parameters."""
    D, Lam, gradient, order = found.D, lanes.Lam, found.gradient, lanes.order
    for b in range(len(blocks.size)):
        level, first, t, size = blocks.level[b], blocks.first[b], blocks.theta[b], blocks.size[b]
        set_gradient_of_block(
            gradient[t:], D[level], Lam[level], order[b], blocks.Q[b], first, size,
            blocks.is_matrix[b],
        )  # fmt: skip


@step
def factorise_with_identity(K, start, n):
    """Lower Cholesky factor of I + K, in place."""
    for i in range(K.shape[0]):
        for c in range(start, start + n):
            K[i, i, c] += 1.0
    factorise(K, start, n)


@step
def solve_for_transpose(H, K, L, start, n):
    """Put K^-1 L' into H, for lower triangular K."""
    for i in range(H.shape[0]):
        for j in range(H.shape[1]):
            for c in range(start, start + n):
                H[i, j, c] = L[j, i, c]
    substitute(K, start, H, start, n)


@step
def log_determinant(out, K, weights, start, n):
    """Put weights log|K K'| into out, for lower triangular K, whose first entry it overwrites."""
    for i in range(1, K.shape[0]):
        for c in range(start, start + n):
            K[0, 0, c] *= K[i, i, c]
    for c in range(start, start + n):
        out[c] = 2.0 * weights[c] * np.log(K[0, 0, c])


@step
def solve_fixed_effects(T, beta, inverse, r2, log_det):
    """Factorise X'V^-1X in T; b, the inverse and log|X'V^-1X|; take b' X'V^-1y out of r2.

    beta : (p, width) X'V^-1y, becomes b
    """
    p, n = T.shape[0], U(T.shape[2])
    factorise(T, U(0), n)
    inverse[:] = 0.0
    log_det[:] = 0.0
    for i in range(p):
        inverse[i, i] = 1.0
        for m in range(i):
            for c in range(n):
                beta[i, c] -= T[i, m, c] * beta[m, c]
        for c in range(n):
            beta[i, c] /= T[i, i, c]
            r2[c] -= beta[i, c] * beta[i, c]
            log_det[c] += 2.0 * np.log(T[i, i, c])
    substitute(T, U(0), inverse, U(0), n)
    substitute_back(T, inverse, n)
    substitute_back(T, beta.reshape(p, 1, T.shape[2]), n)


@step
def add_predicted(k1, v, t, count, is_mixed, kappas, start, n):
    """Add kappa sum ((t - v)(t - v)' - t t') to k1, over the units of uniform children."""
    for i in range(len(t)):
        for j in range(len(t)):
            for c in range(start, start + n):
                k1[i, j, c] += (
                    kappas[c]
                    * (1.0 - is_mixed[c])
                    * (count[c] * v[i, c] * v[j, c] - v[i, c] * t[j, c] - t[i, c] * v[j, c])
                )
