"""The profiled deviance of a nested mixed model and its derivatives, by elimination.

Notation. A class is a set of identical units, its columns written in an orthonormal basis of k
vectors. Classes of all levels share one last axis, innermost level first, so that every step is a
loop over classes. Per class: B (k x q) the random-effect columns of its own level, A (k x k) the
cross-products of the basis after its children were eliminated, and per level Lam, the relative
factor:

    K = I + Lam' B'A B Lam,   J = B Lam K^-1 Lam' B',   F = I - A J,   E = F A

E goes up to the parents through links C (k x k), and to the root through Bx (k x p). The data of a
class whose units all look alike down to the rows ("uniform") are the moments S = sum t t' and
sum t over its units, t = basis' y; in this basis the vector that reaches such a unit is A t. Other
units keep their vector a. The way down carries, per class, the derivative with respect to E in two
parts: of log|V| + log|X'V^-1X| (E1), and of y'Py (E2, or for a single unit the vector w that is
predicted from above). With D1 = sum Z'PZ and D2 = sum (Z'Py)(Z'Py)' per level,

    d(-2 logLik) / d Lam = 2 (D1 - (nu / r2) D2) Lam.

"""

import numpy as np

from mcsim.engine.compiled import kernel
from mcsim.engine.matrices import add_cross_product, multiply, multiply_transposed

HESSIAN_STEP = 1e-5  # of Lam in columns of unit scale; error about 1e-9 relative


@kernel
def _factor_of_level(ws, B, level, start, stop):  # type: ignore[no-untyped-def]
    """Put J of each class into ws.J, and log|K| into ws.q1[0, 0]."""
    Lam, K, H = ws.Lam[level], ws.q1, ws.q2
    k, q = B.shape[0], B.shape[1]
    multiply(ws.b1, ws.A, B, start, stop)
    multiply_transposed(H, B, ws.b1, start, stop)
    for i in range(q):  # K = I + Lam' G Lam, lower triangle
        for j in range(i + 1):
            for c in range(start, stop):
                K[i, j, c] = 1.0 if i == j else 0.0
            for m in range(q):
                for n in range(q):
                    weight = Lam[m, i] * Lam[n, j]
                    for c in range(start, stop):
                        K[i, j, c] += weight * H[m, n, c]
    for j in range(q):  # K = L L', in place
        for i in range(j, q):
            for m in range(j):
                for c in range(start, stop):
                    K[i, j, c] -= K[i, m, c] * K[j, m, c]
            for c in range(start, stop):
                K[i, j, c] = np.sqrt(K[i, j, c]) if i == j else K[i, j, c] / K[j, j, c]
    for j in range(q):  # H = L^-1 Lam', column by column
        for i in range(q):
            for c in range(start, stop):
                H[i, j, c] = Lam[j, i]
            for m in range(i):
                for c in range(start, stop):
                    H[i, j, c] -= K[i, m, c] * H[m, j, c]
            for c in range(start, stop):
                H[i, j, c] /= K[i, i, c]
    for i in range(k):  # b1 = B H', then J = b1 b1'
        for j in range(q):
            for c in range(start, stop):
                ws.b1[i, j, c] = B[i, 0, c] * H[j, 0, c]
            for m in range(1, q):
                for c in range(start, stop):
                    ws.b1[i, j, c] += B[i, m, c] * H[j, m, c]
    for i in range(k):
        for j in range(i + 1):
            for c in range(start, stop):
                ws.J[i, j, c] = ws.b1[i, 0, c] * ws.b1[j, 0, c]
            for m in range(1, q):
                for c in range(start, stop):
                    ws.J[i, j, c] += ws.b1[i, m, c] * ws.b1[j, m, c]
            for c in range(start, stop):
                ws.J[j, i, c] = ws.J[i, j, c]
    for c in range(start, stop):
        s = np.log(K[0, 0, c])
        for i in range(1, q):
            s += np.log(K[i, i, c])
        K[0, 0, c] = 2.0 * s


@kernel
def _gather_children(tree, moments, ws, level):  # type: ignore[no-untyped-def]
    """Sum what the children of one level pass up: A, and a for units that are not uniform."""
    k = tree.B.shape[0]
    start, stop = tree.level_start[level], tree.level_start[level + 1]
    ws.A[:, :, start:stop] = 0.0
    ws.a[:, start:stop] = 0.0
    if level == 0:
        for c in range(start, stop):
            for i in range(tree.rank[c]):
                ws.A[i, i, c] = 1.0
        return
    for g in range(tree.link_start[level - 1], tree.link_start[level]):
        child, parent = tree.link_child[g], tree.link_parent[g]
        C = tree.C[:, :, g]
        add_cross_product(ws.E, C, child, ws.A, parent, tree.link_count[g])
        if not tree.is_uniform[parent]:
            for m in range(k):
                s = ws.e[m, child]
                if tree.is_uniform[child]:
                    s = ws.E[m, 0, child] * moments.link_t[0, g]
                    for j in range(1, k):
                        s += ws.E[m, j, child] * moments.link_t[j, g]
                for i in range(k):
                    ws.a[i, parent] += C[m, i] * s


@kernel
def _quadratic_of_level(tree, moments, ws, start, stop):  # type: ignore[no-untyped-def]
    """What the level's random effects take out of y'y; leaves e = F a in ws.e.

    At the innermost level the part of y'y within the bases is added in the same sum, so that
    no digits are lost where the random effects are large.
    """
    k = tree.B.shape[0]
    if start == 0:
        remaining = 0.0
        for i in range(k):
            for j in range(k):
                for c in range(stop):
                    remaining += ws.F[i, j, c] * moments.S[i, j, c]
        return -remaining
    multiply(ws.k1, ws.A, moments.S, start, stop)
    multiply(ws.k2, ws.k1, ws.A, start, stop)
    total = 0.0
    for c in range(start, stop):
        if tree.is_uniform[c]:
            for i in range(k):
                for j in range(k):
                    total += ws.J[i, j, c] * ws.k2[i, j, c]
        else:
            for i in range(k):
                s, r = ws.J[i, 0, c] * ws.a[0, c], ws.F[i, 0, c] * ws.a[0, c]
                for j in range(1, k):
                    s += ws.J[i, j, c] * ws.a[j, c]
                    r += ws.F[i, j, c] * ws.a[j, c]
                total += s * ws.a[i, c]
                ws.e[i, c] = r
    return total


@kernel
def _solve_root(tree, moments, ws, yVy):  # type: ignore[no-untyped-def]
    """X'V^-1X, its factor and inverse, b; returns log|X'V^-1X| and r2 = y'Py."""
    k, p = tree.Bx.shape[0], tree.Bx.shape[1]
    T, beta, inverse = ws.T, ws.beta, ws.T_inverse
    T[:] = 0.0
    beta[:] = 0.0
    for g in range(len(tree.root_child)):
        c, Bx = tree.root_child[g], tree.Bx[:, :, g]
        for i in range(k):
            s = ws.e[i, c]
            if tree.is_uniform[c]:
                s = ws.E[i, 0, c] * moments.root_t[0, g]
                for j in range(1, k):
                    s += ws.E[i, j, c] * moments.root_t[j, g]
            for m in range(p):
                beta[m] += Bx[i, m] * s
            for j in range(k):
                s = tree.root_count[g] * ws.E[i, j, c]
                for m in range(p):
                    for n in range(m + 1):
                        T[m, n] += s * Bx[i, m] * Bx[j, n]
    log_det = 0.0
    for j in range(p):
        for i in range(j, p):
            for m in range(j):
                T[i, j] -= T[i, m] * T[j, m]
            T[i, j] = np.sqrt(T[i, j]) if i == j else T[i, j] / T[j, j]
        log_det += 2.0 * np.log(T[j, j])
    r2 = yVy
    for i in range(p):  # forward substitution: r2 = y'V^-1y - |L^-1 X'V^-1y|^2
        for m in range(i):
            beta[i] -= T[i, m] * beta[m]
        beta[i] /= T[i, i]
        r2 -= beta[i] * beta[i]
    for i in range(p - 1, -1, -1):
        for m in range(i + 1, p):
            beta[i] -= T[m, i] * beta[m]
        beta[i] /= T[i, i]
    for n in range(p):
        for i in range(p):
            inverse[i, n] = 1.0 if i == n else 0.0
            for m in range(i):
                inverse[i, n] -= T[i, m] * inverse[m, n]
            inverse[i, n] /= T[i, i]
        for i in range(p - 1, -1, -1):
            for m in range(i + 1, p):
                inverse[i, n] -= T[m, i] * inverse[m, n]
            inverse[i, n] /= T[i, i]
    return log_det, r2


@kernel
def deviance(tree, moments, ws, theta):  # type: ignore[no-untyped-def]
    """-2 logLik, profiled over beta and sigma, and r2; leaves in `ws` what the gradient needs."""
    ws.Lam[:] = 0.0
    for t in range(len(theta)):
        level, i, j = tree.free[t]
        ws.Lam[level, ws.order[level, i], j] = theta[t]
    log_det, yVy = 0.0, moments.rss
    for level in range(len(tree.level_start) - 1):
        start, stop = tree.level_start[level], tree.level_start[level + 1]
        _gather_children(tree, moments, ws, level)
        _factor_of_level(ws, tree.B, level, start, stop)
        for c in range(start, stop):
            log_det += tree.n_units[c] * ws.q1[0, 0, c]
        multiply(ws.F, ws.A, ws.J, start, stop)
        for i in range(tree.B.shape[0]):
            for j in range(tree.B.shape[0]):
                for c in range(start, stop):
                    ws.F[i, j, c] = (1.0 if i == j else 0.0) - ws.F[i, j, c]
        multiply(ws.E, ws.F, ws.A, start, stop)
        yVy -= _quadratic_of_level(tree, moments, ws, start, stop)
    log_det_x, r2 = _solve_root(tree, moments, ws, yVy)
    if tree.is_reml:
        log_det += log_det_x + tree.log_constant
    return log_det + tree.nu * (1.0 + np.log(2.0 * np.pi * r2 / tree.nu)), r2


@kernel
def _add_residual_moments(E2, child, w, t, count):  # type: ignore[no-untyped-def]
    """Sum of (t - w)(t - w)' - t t' over `count` children whose t add up to `t`."""
    for i in range(len(w)):
        for j in range(len(w)):
            E2[i, j, child] += count * w[i] * w[j] - w[i] * t[j] - t[i] * w[j]


@kernel
def _descend_from_root(tree, moments, ws):  # type: ignore[no-untyped-def]
    """Start E1, E2 and w: what the fixed effects pass down."""
    k, p = tree.Bx.shape[0], tree.Bx.shape[1]
    ws.E1[:] = 0.0
    ws.E2[:] = moments.S
    ws.w[:] = 0.0
    predicted = np.zeros(k)
    for g in range(len(tree.root_child)):
        c, Bx = tree.root_child[g], tree.Bx[:, :, g]
        for i in range(k):
            predicted[i] = 0.0
            for m in range(p):
                predicted[i] += Bx[i, m] * ws.beta[m]
        if tree.is_reml:
            for i in range(k):
                for n in range(p):
                    s = Bx[i, 0] * ws.T_inverse[0, n]
                    for m in range(1, p):
                        s += Bx[i, m] * ws.T_inverse[m, n]
                    s *= tree.root_count[g]
                    for j in range(k):
                        ws.E1[i, j, c] += s * Bx[j, n]
        if tree.is_uniform[c]:
            _add_residual_moments(ws.E2, c, predicted, moments.root_t[:, g], tree.root_count[g])
        else:
            ws.w[:, c] = predicted


@kernel
def _derivative_of_level(tree, ws, level):  # type: ignore[no-untyped-def]
    """Sum D1 and D2 of one level over its classes."""
    start, stop = tree.level_start[level], tree.level_start[level + 1]
    k, q = tree.B.shape[0], tree.B.shape[1]
    D1, D2 = ws.D1[level], ws.D2[level]
    D1[:] = 0.0
    D2[:] = 0.0
    EB, E1EB = ws.b1, ws.k1
    multiply(EB, ws.E, tree.B, start, stop)
    for i in range(q):
        for j in range(q):
            for m in range(k):
                for c in range(start, stop):
                    D1[i, j] += tree.n_units[c] * tree.B[m, i, c] * EB[m, j, c]
    multiply(E1EB, ws.E1, ws.E, start, stop)
    multiply(ws.k2, ws.E, E1EB, start, stop)
    for i in range(q):
        for j in range(q):
            for m in range(k):
                for n in range(k):
                    for c in range(start, stop):
                        D1[i, j] -= tree.B[m, i, c] * ws.k2[m, n, c] * tree.B[n, j, c]
    for c in range(start, stop):
        if tree.is_uniform[c]:
            for i in range(k):
                for j in range(q):
                    s = ws.E2[i, 0, c] * EB[0, j, c]
                    for m in range(1, k):
                        s += ws.E2[i, m, c] * EB[m, j, c]
                    for m in range(q):
                        D2[m, j] += EB[i, m, c] * s
        else:
            for i in range(k):
                ws.v[i, c] = ws.e[i, c]
                for j in range(k):
                    ws.v[i, c] -= ws.E[i, j, c] * ws.w[j, c]
            for i in range(q):
                s = tree.B[0, i, c] * ws.v[0, c]
                for m in range(1, k):
                    s += tree.B[m, i, c] * ws.v[m, c]
                ws.q2[i, 0, c] = s
            for i in range(q):
                for j in range(q):
                    D2[i, j] += ws.q2[i, 0, c] * ws.q2[j, 0, c]


@kernel
def _descend_from_level(tree, moments, ws, level):  # type: ignore[no-untyped-def]
    """Pass E1, E2 and w from the classes of one level on to their children."""
    k = tree.B.shape[0]
    start, stop = tree.level_start[level], tree.level_start[level + 1]
    multiply(ws.k1, ws.E1, ws.F, start, stop)
    multiply_transposed(ws.E1, ws.F, ws.k1, start, stop)  # E1 of this level is not needed again
    multiply(ws.k1, ws.E2, ws.F, start, stop)
    multiply_transposed(ws.E2, ws.F, ws.k1, start, stop)
    for i in range(k):
        for j in range(k):
            for c in range(start, stop):
                ws.E1[i, j, c] += tree.n_units[c] * ws.J[i, j, c]
                ws.E2[i, j, c] -= moments.S[i, j, c]
    for c in range(start, stop):
        if not tree.is_uniform[c]:
            for i in range(k):  # v = a - A w, then w + J v: what this level predicts for its rows
                ws.v[i, c] = ws.a[i, c]
                for j in range(k):
                    ws.v[i, c] -= ws.A[i, j, c] * ws.w[j, c]
            for i in range(k):
                for j in range(k):
                    ws.w[i, c] += ws.J[i, j, c] * ws.v[j, c]
    predicted = np.zeros(k)
    for g in range(tree.link_start[level - 1], tree.link_start[level]):
        child, parent, count = tree.link_child[g], tree.link_parent[g], tree.link_count[g]
        C = tree.C[:, :, g]
        add_cross_product(ws.E1, C.T, parent, ws.E1, child, count)
        if tree.is_uniform[parent]:
            add_cross_product(ws.E2, C.T, parent, ws.E2, child, count)
            continue
        for i in range(k):
            predicted[i] = 0.0
            for j in range(k):
                predicted[i] += C[i, j] * ws.w[j, parent]
        if tree.is_uniform[child]:
            _add_residual_moments(ws.E2, child, predicted, moments.link_t[:, g], count)
        else:
            ws.w[:, child] = predicted


@kernel
def gradient(tree, moments, ws, r2):  # type: ignore[no-untyped-def]
    """d(-2 logLik)/d theta into ws.gradient, D1 and D2 into ws; `deviance` must have run."""
    _descend_from_root(tree, moments, ws)
    kappa = tree.nu / r2
    for level in range(len(tree.level_start) - 2, -1, -1):
        _derivative_of_level(tree, ws, level)
        if level > 0:
            _descend_from_level(tree, moments, ws, level)
    for t in range(len(tree.free)):
        level, i, j = tree.free[t]
        s = 0.0
        for m in range(ws.Lam.shape[1]):
            row = ws.order[level, i]
            s += (ws.D1[level, row, m] - kappa * ws.D2[level, row, m]) * ws.Lam[level, m, j]
        ws.gradient[t] = 2.0 * s


@kernel
def hessian(tree, moments, ws, theta):  # type: ignore[no-untyped-def]
    """Second derivatives of -2 logLik in theta, by central differences of the gradient."""
    n = len(theta)
    H = np.zeros((n, n))
    point = theta.copy()
    for t in range(n):
        step = HESSIAN_STEP * max(1.0, abs(theta[t]))
        for side in (1.0, -1.0):
            point[t] = theta[t] + side * step
            _, r2 = deviance(tree, moments, ws, point)
            gradient(tree, moments, ws, r2)
            for s in range(n):
                H[s, t] += side * ws.gradient[s] / (2.0 * step)
        point[t] = theta[t]
    return 0.5 * (H + H.T)
