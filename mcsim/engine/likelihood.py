"""The profiled deviance of a nested mixed model and its derivatives, by elimination.

Notation. A class is a set of identical units, its columns written in an orthonormal basis of k
vectors. Per class: B (k x q) the random-effect columns of its own level, A (k x k) the
cross-products of the basis after its children were eliminated (the identity at the innermost
level), and per level Lam, the relative factor:

    K = I + Lam' B'A B Lam,   J = B Lam K^-1 Lam' B',   F = I - A J,   E = F A

E goes up to the parents through links C (k x k), and to the root through Bx (k x p). The data of a
class whose units all look alike down to the rows ("uniform") are the moments S = sum t t' and
sum t over its units, t = basis' y; in this basis the vector that reaches such a unit is A t. Other
units ("mixed") keep their vector a, and pass e = F a on.

The way down carries, per class, the derivative in E: of log|V| + log|X'V^-1X| alone for a mixed
class, and of -2 logLik for a uniform one; for a mixed unit also the vector w that is predicted
from above. With v = B'(e - E w) of mixed units and kappa = nu / y'Py,

    D = d(-2 logLik) / d Psi = sum n B'EB - (EB)' slope EB - kappa v v',   d / d Lam = 2 D Lam.

"""

import numpy as np

from mcsim.engine.compiled import kernel
from mcsim.engine.lanes import (
    add_up,
    apply,
    apply_transposed,
    factorise,
    gather,
    inner_product,
    multiply,
    multiply_by_transpose,
    multiply_transposed,
    scatter_add,
    spread,
    substitute,
)

U = np.uint64


@kernel
def evaluate(tree, ws):  # type: ignore[no-untyped-def]
    """-2 logLik of every lane at ws.theta, its gradient, D, and the fit of the fixed effects."""
    _set_factors(tree, ws)
    ws.log_det[:] = 0.0
    ws.r2[:] = ws.rss
    n_levels = len(tree.level_start) - 1
    for level in range(n_levels):
        _eliminate(tree, ws, level)
    _solve_root(tree, ws)
    _descend_from_root(tree, ws)
    for level in range(n_levels - 1, -1, -1):
        _differentiate(tree, ws, level)
        if level > 0:
            _descend(tree, ws, level)
    _set_gradient(tree, ws)


@kernel
def _set_factors(tree, ws):  # type: ignore[no-untyped-def]
    """Lam of every level from theta."""
    ws.Lam[:] = 0.0
    blocks = tree.blocks
    for b in range(len(blocks.size)):
        level, first, t = blocks.level[b], blocks.first[b], blocks.theta[b]
        if not blocks.is_matrix[b]:
            for i in range(ws.Lam.shape[1]):
                for j in range(ws.Lam.shape[1]):
                    for lane in range(tree.width):
                        ws.Lam[level, i, j, lane] += ws.theta[t, lane] * blocks.Q[b, i, j]
            continue
        for j in range(blocks.size[b]):
            for i in range(j, blocks.size[b]):
                for lane in range(tree.width):
                    row = first + ws.order[b, i, lane]
                    ws.Lam[level, row, first + j, lane] = ws.theta[t, lane]
                t += 1


@kernel
def _eliminate(tree, ws, level):  # type: ignore[no-untyped-def]
    """A, J, F, E of one level, and what its random effects take out of y'y."""
    start = U(tree.level_start[level] * tree.width)
    n = U(tree.level_start[level + 1] * tree.width) - start
    n_classes = n // U(tree.width)
    k, q = tree.B.shape[0], tree.B.shape[1]
    for i in range(q):
        for j in range(q):
            spread(ws.L[i, j], start, ws.Lam[level, i, j], n_classes)
    if level == 0:
        multiply(ws.H, start, tree.G, start, ws.L, start, n)
    else:
        _gather_children(tree, ws, level)
        multiply(ws.b1, start, ws.A, start, tree.B, start, n)
        multiply_transposed(ws.K, start, tree.B, start, ws.b1, start, n)
        multiply(ws.H, start, ws.K, start, ws.L, start, n)
    multiply_transposed(ws.K, start, ws.L, start, ws.H, start, n)
    for i in range(q):
        for c in range(n):
            ws.K[i, i, start + c] += 1.0
    factorise(ws.K, start, n)
    for i in range(q):
        for j in range(q):
            for c in range(n):
                ws.H[i, j, start + c] = ws.L[j, i, start + c]
    substitute(ws.K, start, ws.H, start, n)  # H = chol(K)^-1 Lam'
    multiply_by_transpose(ws.b1, start, tree.B, start, ws.H, start, n)
    multiply_by_transpose(ws.J, start, ws.b1, start, ws.b1, start, n)
    for i in range(1, q):
        for c in range(n):
            ws.K[0, 0, start + c] *= ws.K[i, i, start + c]
    for c in range(n):
        ws.c1[start + c] = 2.0 * tree.n_units[start + c] * np.log(ws.K[0, 0, start + c])
    add_up(ws.log_det, ws.c1, start, n, ws.sums)
    if level > 0:
        multiply(ws.F, start, ws.A, start, ws.J, start, n)
        _take_from_identity(ws.F, ws.F, start, n)
        multiply(ws.E, start, ws.F, start, ws.A, start, n)
        _take_out_of_yy(tree, ws, level, start, n)
        return
    # the part of y'y within the bases is added here in one sum, so that no digits are lost
    _take_from_identity(ws.E, ws.J, start, n)
    inner_product(ws.c1, start, ws.E, start, ws.S, start, n)
    add_up(ws.r2, ws.c1, start, n, ws.sums)
    for i in range(k):
        for c in range(n):
            ws.e[i, start + c] = 0.0


@kernel
def _take_from_identity(out, P, start, n):  # type: ignore[no-untyped-def]
    """Put I - P into out."""
    for i in range(P.shape[0]):
        for j in range(P.shape[0]):
            one = 1.0 if i == j else 0.0
            for c in range(n):
                out[i, j, start + c] = one - P[i, j, start + c]


@kernel
def _gather_children(tree, ws, level):  # type: ignore[no-untyped-def]
    """Sum what the children of one level pass up: A, and a for mixed units."""
    k = tree.B.shape[0]
    first, last = U(tree.level_start[level] * tree.width), U(tree.level_start[level + 1] * tree.width)
    for i in range(k):
        for c in range(first, last):
            ws.a[i, c] = 0.0
        for j in range(k):
            for c in range(first, last):
                ws.A[i, j, c] = 0.0
    start = U(tree.link_start[level - 1] * tree.width)
    n = U(tree.link_start[level] * tree.width) - start
    gather(ws.k1, start, ws.E, tree.link_child, n)
    multiply(ws.k2, start, ws.k1, start, tree.C, start, n)
    multiply_transposed(ws.k3, start, tree.C, start, ws.k2, start, n)
    for i in range(k):
        for j in range(k):
            for c in range(n):
                ws.k3[i, j, start + c] *= tree.link_count[start + c]
    scatter_add(ws.A, ws.k3, start, tree.link_parent, n)
    if tree.has_mixed[level]:
        apply(ws.v1, start, ws.k1, start, ws.link_t, start, n)
        for i in range(k):
            for c in range(n):
                ws.v1[i, start + c] += ws.e[i, tree.link_child[start + c]]
        apply_transposed(ws.v2, start, tree.C, start, ws.v1, start, n)
        for i in range(k):
            for c in range(n):
                ws.a[i, tree.link_parent[start + c]] += ws.v2[i, start + c]


@kernel
def _take_out_of_yy(tree, ws, level, start, n):  # type: ignore[no-untyped-def]
    """Take a'J a of every unit of an outer level out of y'y; leaves e = F a in ws.e."""
    k = tree.B.shape[0]
    if tree.has_uniform[level]:
        multiply(ws.k1, start, ws.A, start, ws.S, start, n)
        multiply(ws.k2, start, ws.k1, start, ws.A, start, n)
        inner_product(ws.c1, start, ws.J, start, ws.k2, start, n)
        for c in range(n):
            ws.c1[start + c] = -ws.c1[start + c]
        add_up(ws.r2, ws.c1, start, n, ws.sums)
    if tree.has_mixed[level]:
        apply(ws.v1, start, ws.J, start, ws.a, start, n)
        for c in range(n):
            ws.c1[start + c] = 0.0
        for i in range(k):
            for c in range(n):
                ws.c1[start + c] -= ws.a[i, start + c] * ws.v1[i, start + c]
        add_up(ws.r2, ws.c1, start, n, ws.sums)
    apply(ws.e, start, ws.F, start, ws.a, start, n)


@kernel
def _solve_root(tree, ws):  # type: ignore[no-untyped-def]
    """X'V^-1X, its factor and inverse, b, y'Py and -2 logLik."""
    k, p = tree.Bx.shape[0], tree.Bx.shape[1]
    zero, n = U(0), U(len(tree.root_child))
    width = U(tree.width)
    gather(ws.k1, zero, ws.E, tree.root_child, n)
    apply(ws.v1, zero, ws.k1, zero, ws.root_t, zero, n)
    for i in range(k):
        for c in range(n):
            ws.v1[i, c] += ws.e[i, tree.root_child[c]]
    multiply(ws.p1, zero, ws.k1, zero, tree.Bx, zero, n)
    multiply_transposed(ws.pp, zero, tree.Bx, zero, ws.p1, zero, n)
    ws.T[:] = 0.0
    ws.beta[:] = 0.0
    for i in range(p):
        for j in range(i + 1):
            for c in range(n):
                ws.c1[c] = tree.root_count[c] * ws.pp[i, j, c]
            add_up(ws.T[i, j], ws.c1, zero, n, ws.sums)
        for c in range(n):
            ws.c1[c] = 0.0
        for m in range(k):
            for c in range(n):
                ws.c1[c] += tree.Bx[m, i, c] * ws.v1[m, c]
        add_up(ws.beta[i], ws.c1, zero, n, ws.sums)
    factorise(ws.T, zero, width)
    log_det_x = ws.kappa
    log_det_x[:] = 0.0
    for i in range(p):  # forward substitution: y'Py = y'V^-1y - |L^-1 X'V^-1y|^2
        for m in range(i):
            for c in range(width):
                ws.beta[i, c] -= ws.T[i, m, c] * ws.beta[m, c]
        for c in range(width):
            ws.beta[i, c] /= ws.T[i, i, c]
            ws.r2[c] -= ws.beta[i, c] * ws.beta[i, c]
            log_det_x[c] += 2.0 * np.log(ws.T[i, i, c])
    for i in range(p - 1, -1, -1):
        for m in range(i + 1, p):
            for c in range(width):
                ws.beta[i, c] -= ws.T[m, i, c] * ws.beta[m, c]
        for c in range(width):
            ws.beta[i, c] /= ws.T[i, i, c]
    _invert_root(ws)
    for c in range(width):
        if tree.is_reml:
            ws.log_det[c] += log_det_x[c] + tree.log_constant
        ws.f[c] = ws.log_det[c] + tree.nu * (1.0 + np.log(2.0 * np.pi * ws.r2[c] / tree.nu))
        ws.kappa[c] = ws.with_data[c] * tree.nu / ws.r2[c]


@kernel
def _invert_root(ws):  # type: ignore[no-untyped-def]
    """Inverse of X'V^-1X from its factor."""
    p, width = ws.T.shape[0], U(ws.T.shape[2])
    ws.T_inverse[:] = 0.0
    for i in range(p):
        ws.T_inverse[i, i] = 1.0
    substitute(ws.T, U(0), ws.T_inverse, U(0), width)
    for j in range(p):
        for i in range(p - 1, -1, -1):
            for m in range(i + 1, p):
                for c in range(width):
                    ws.T_inverse[i, j, c] -= ws.T[m, i, c] * ws.T_inverse[m, j, c]
            for c in range(width):
                ws.T_inverse[i, j, c] /= ws.T[i, i, c]


@kernel
def _descend_from_root(tree, ws):  # type: ignore[no-untyped-def]
    """Start the slopes and w: what the fixed effects pass down."""
    k, p, N = tree.Bx.shape[0], tree.Bx.shape[1], U(len(tree.n_units))
    zero, n = U(0), U(len(tree.root_child))
    n_groups = n // U(tree.width)
    spread(ws.kappas, zero, ws.kappa, U(len(ws.kappas)) // U(tree.width))
    for i in range(k):
        for c in range(N):
            ws.w[i, c] = 0.0
        for j in range(k):
            for c in range(N):
                ws.slope[i, j, c] = ws.kappas[c] * ws.S[i, j, c]
    for i in range(p):
        spread(ws.v2[0], zero, ws.beta[i], n_groups)
        for m in range(k):
            if i == 0:
                for c in range(n):
                    ws.v1[m, c] = tree.Bx[m, 0, c] * ws.v2[0, c]
            else:
                for c in range(n):
                    ws.v1[m, c] += tree.Bx[m, i, c] * ws.v2[0, c]
    if tree.is_reml:
        for i in range(p):
            for j in range(p):
                spread(ws.pp[i, j], zero, ws.T_inverse[i, j], n_groups)
        multiply(ws.p1, zero, tree.Bx, zero, ws.pp, zero, n)
        multiply_by_transpose(ws.k1, zero, ws.p1, zero, tree.Bx, zero, n)
        for i in range(k):
            for j in range(k):
                for c in range(n):
                    ws.k1[i, j, c] *= tree.root_count[c]
    else:
        for i in range(k):
            for j in range(k):
                for c in range(n):
                    ws.k1[i, j, c] = 0.0
    _add_predicted(ws, tree.root_child, tree.root_is_mixed, tree.root_count, ws.root_t, zero, n)


@kernel
def _add_predicted(ws, child, is_mixed, count, t, start, n):  # type: ignore[no-untyped-def]
    """Hand the prediction in ws.v1 on: to w of a mixed child, to the slope of a uniform one.

    The slope gets, in sum over the units, kappa ((t - v)(t - v)' - t t'), added to ws.k1.
    """
    k = len(t)
    for i in range(k):
        for c in range(n):
            ws.w[i, child[start + c]] += is_mixed[start + c] * ws.v1[i, start + c]
    for c in range(n):
        ws.c1[start + c] = ws.kappas[start + c] * (1.0 - is_mixed[start + c])
    for i in range(k):
        for j in range(k):
            for c in range(n):
                x = start + c
                ws.k1[i, j, x] += ws.c1[x] * (
                    count[x] * ws.v1[i, x] * ws.v1[j, x]
                    - ws.v1[i, x] * t[j, x]
                    - t[i, x] * ws.v1[j, x]
                )
    scatter_add(ws.slope, ws.k1, start, child, n)


@kernel
def _differentiate(tree, ws, level):  # type: ignore[no-untyped-def]
    """D of one level, summed over its classes, and its scale."""
    start = U(tree.level_start[level] * tree.width)
    n = U(tree.level_start[level + 1] * tree.width) - start
    k, q = tree.B.shape[0], tree.B.shape[1]
    multiply(ws.EB, start, ws.E, start, tree.B, start, n)
    multiply(ws.b1, start, ws.slope, start, ws.EB, start, n)
    multiply_transposed(ws.K, start, ws.EB, start, ws.b1, start, n)
    multiply_transposed(ws.H, start, tree.B, start, ws.EB, start, n)
    for i in range(q):
        for j in range(q):
            for c in range(n):
                ws.H[i, j, start + c] *= tree.n_units[start + c]
    ws.D[level] = 0.0
    ws.scale[level] = 0.0
    if tree.has_mixed[level]:  # v1 = e - E w, v2 = B' v1
        apply(ws.v1, start, ws.E, start, ws.w, start, n)
        for i in range(k):
            for c in range(n):
                ws.v1[i, start + c] = ws.e[i, start + c] - ws.v1[i, start + c]
        apply_transposed(ws.v2, start, tree.B, start, ws.v1, start, n)
    for i in range(q):
        add_up(ws.scale[level, i], ws.H[i, i], start, n, ws.sums)
        for j in range(i + 1):
            for c in range(n):
                ws.c1[start + c] = ws.H[i, j, start + c] - ws.K[i, j, start + c]
            if tree.has_mixed[level]:
                for c in range(n):
                    x = start + c
                    ws.c1[x] -= ws.kappas[x] * ws.v2[i, x] * ws.v2[j, x]
            add_up(ws.D[level, i, j], ws.c1, start, n, ws.sums)
            ws.D[level, j, i] = ws.D[level, i, j]


@kernel
def _descend(tree, ws, level):  # type: ignore[no-untyped-def]
    """Pass the slopes and w of one level on to its children."""
    k = tree.B.shape[0]
    start = U(tree.level_start[level] * tree.width)
    n = U(tree.level_start[level + 1] * tree.width) - start
    multiply(ws.k1, start, ws.slope, start, ws.F, start, n)
    multiply_transposed(ws.slope, start, ws.F, start, ws.k1, start, n)
    for i in range(k):
        for j in range(k):
            for c in range(n):
                x = start + c
                ws.slope[i, j, x] += (
                    tree.n_units[x] * ws.J[i, j, x] - ws.kappas[x] * ws.S[i, j, x]
                )
    link = U(tree.link_start[level - 1] * tree.width)
    n_links = U(tree.link_start[level] * tree.width) - link
    gather(ws.k2, link, ws.slope, tree.link_parent, n_links)
    multiply(ws.k3, link, tree.C, link, ws.k2, link, n_links)
    multiply_by_transpose(ws.k1, link, ws.k3, link, tree.C, link, n_links)
    for i in range(k):
        for j in range(k):
            for c in range(n_links):
                ws.k1[i, j, link + c] *= tree.link_count[link + c]
    if not tree.has_mixed[level]:
        scatter_add(ws.slope, ws.k1, link, tree.link_child, n_links)
        return
    apply(ws.v1, start, ws.A, start, ws.w, start, n)  # then w + J (a - A w)
    for i in range(k):
        for c in range(n):
            ws.v1[i, start + c] = ws.a[i, start + c] - ws.v1[i, start + c]
    apply(ws.v2, start, ws.J, start, ws.v1, start, n)
    for i in range(k):
        for c in range(n):
            ws.w[i, start + c] += ws.v2[i, start + c]
    for i in range(k):
        for c in range(n_links):
            ws.v2[i, link + c] = ws.w[i, tree.link_parent[link + c]]
    apply(ws.v1, link, tree.C, link, ws.v2, link, n_links)
    _add_predicted(
        ws, tree.link_child, tree.child_is_mixed, tree.link_count, ws.link_t, link, n_links
    )


@kernel
def _set_gradient(tree, ws):  # type: ignore[no-untyped-def]
    """Gradient in theta: 2 D Lam, masked to the parameters."""
    blocks = tree.blocks
    for b in range(len(blocks.size)):
        level, first, t = blocks.level[b], blocks.first[b], blocks.theta[b]
        D, Lam = ws.D[level], ws.Lam[level]
        q = D.shape[0]
        if not blocks.is_matrix[b]:
            ws.gradient[t] = 0.0
            for i in range(q):
                for m in range(q):
                    for j in range(q):
                        for lane in range(tree.width):
                            product = D[i, m, lane] * Lam[m, j, lane]
                            ws.gradient[t, lane] += 2.0 * blocks.Q[b, i, j] * product
            continue
        for j in range(blocks.size[b]):
            for i in range(j, blocks.size[b]):
                for lane in range(tree.width):
                    row = first + ws.order[b, i, lane]
                    s = 0.0
                    for m in range(q):
                        s += D[row, m, lane] * Lam[m, first + j, lane]
                    ws.gradient[t, lane] = 2.0 * s
                t += 1
