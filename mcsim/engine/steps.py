"""Steps of the likelihood that are no plain algebra of matrices; see likelihood.py."""

import numpy as np

from mcsim.engine.compiled import step
from mcsim.engine.lanes import factorise, substitute, substitute_back

U = np.uint64


@step
def load_lane(moments, own, points, r, point, lane, width):  # type: ignore[no-untyped-def]
    """Put the moments of replicate r and a point into a lane."""
    rss, S, link_t, root_t = moments
    own_rss, own_S, own_link_t, own_root_t = own
    theta, order, own_theta, own_order = points
    own_rss[lane] = rss[r]
    for i in range(S.shape[1]):
        for j in range(S.shape[2]):
            for c in range(S.shape[3]):
                own_S[i, j, c * width + lane] = S[r, i, j, c]
        for c in range(link_t.shape[2]):
            own_link_t[i, c * width + lane] = link_t[r, i, c]
        for c in range(root_t.shape[2]):
            own_root_t[i, c * width + lane] = root_t[r, i, c]
    for t in range(theta.shape[1]):
        own_theta[t, lane] = theta[point, t]
    for b in range(order.shape[1]):
        for i in range(order.shape[2]):
            own_order[b, i, lane] = order[point, b, i]


@step
def store_lane(own, found, point, lane):  # type: ignore[no-untyped-def]
    """Take what was found out of a lane."""
    f, r2, gradient, D, scale, beta, T_inverse = own
    found.f[point], found.r2[point] = f[lane], r2[lane]
    for t in range(len(gradient)):
        found.gradient[point, t] = gradient[t, lane]
    for level in range(D.shape[0]):
        for i in range(D.shape[1]):
            found.scale[point, level, i] = scale[level, i, lane]
            for j in range(D.shape[1]):
                found.D[point, level, i, j] = D[level, i, j, lane]
    for i in range(len(beta)):
        found.beta[point, i] = beta[i, lane]
        for j in range(len(beta)):
            found.T_inverse[point, i, j] = T_inverse[i, j, lane]


@step
def add_factor(Lam, theta, order, Q, first, size, is_matrix):  # type: ignore[no-untyped-def]
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


@step
def set_gradient_of_block(  # type: ignore[no-untyped-def]
    gradient, D, Lam, order, Q, first, size, is_matrix
):
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


@step
def factorise_with_identity(K, start, n):  # type: ignore[no-untyped-def]
    """Lower Cholesky factor of I + K, in place."""
    for i in range(K.shape[0]):
        for c in range(start, start + n):
            K[i, i, c] += 1.0
    factorise(K, start, n)


@step
def solve_for_transpose(H, K, L, start, n):  # type: ignore[no-untyped-def]
    """Put K^-1 L' into H, for lower triangular K."""
    for i in range(H.shape[0]):
        for j in range(H.shape[1]):
            for c in range(start, start + n):
                H[i, j, c] = L[j, i, c]
    substitute(K, start, H, start, n)


@step
def log_determinant(out, K, weights, start, n):  # type: ignore[no-untyped-def]
    """Put weights log|K K'| into out, for lower triangular K, whose first entry it overwrites."""
    for i in range(1, K.shape[0]):
        for c in range(start, start + n):
            K[0, 0, c] *= K[i, i, c]
    for c in range(start, start + n):
        out[c] = 2.0 * weights[c] * np.log(K[0, 0, c])


@step
def solve_fixed_effects(T, beta, inverse, r2, log_det):  # type: ignore[no-untyped-def]
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
def add_predicted(k1, v, t, count, is_mixed, kappas, start, n):  # type: ignore[no-untyped-def]
    """Add kappa sum ((t - v)(t - v)' - t t') to k1, over the units of uniform children."""
    for i in range(len(t)):
        for j in range(len(t)):
            for c in range(start, start + n):
                k1[i, j, c] += (
                    kappas[c]
                    * (1.0 - is_mixed[c])
                    * (count[c] * v[i, c] * v[j, c] - v[i, c] * t[j, c] - t[i, c] * v[j, c])
                )
