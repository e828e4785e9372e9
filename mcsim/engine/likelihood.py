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

from mcsim.engine.compiled import lean_kernel, part
from mcsim.engine.lanes import (
    add_at,
    add_difference,
    add_square,
    add_to,
    add_up,
    add_vectors,
    apply,
    apply_transposed,
    fill,
    fill_matrices,
    gather,
    inner_product,
    inner_product_of_vectors,
    multiply,
    multiply_by_transpose,
    multiply_transposed,
    scatter_add,
    spread,
    spread_row,
    spread_vectors,
    subtract,
    take_from,
    take_from_identity,
    times,
    weigh,
)
from mcsim.engine.steps import (
    add_factor,
    add_predicted,
    factorise_with_identity,
    load_lane,
    load_order,
    log_determinant,
    set_gradient_of_block,
    solve_fixed_effects,
    solve_for_transpose,
    store_lane,
)
from mcsim.engine.tree import Floats, Ints, Moments, Points, Tree, new_points, new_workspace

U = np.uint64


class Likelihood:
    """The likelihood of some replicates, at any points; n_theta parameters in Lam."""

    def __init__(self, tree: Tree, moments: Moments) -> None:
        self.tree, self.moments = tree, moments
        self._workspace = new_workspace(tree)

    def at(self, replicates: Ints, theta: Floats, order: Ints, *, with_data: bool = True) -> Points:
        """Evaluate.

        Parameters
        ----------
        replicates : (n,) rows of the moments
        theta : (n, n_theta)
        order : (n, n_blocks, q) row of a block's factor that stands first, second, ...
        with_data : False for D = sum Z'PZ, which is what the design alone says
        """
        found = new_points(self.tree, len(replicates))
        _evaluate_points(
            self.tree, self.moments, replicates, theta, order, float(with_data),
            self._workspace, found.results,
        )  # fmt: skip
        return found


@lean_kernel
def _evaluate_points(  # type: ignore[no-untyped-def]
    tree, moments, replicates, theta, order, with_data, ws, results
):
    """Evaluate all points, as many at a time as there are lanes."""
    n, width = len(replicates), tree.width
    with_data_of_lane, rss = ws.with_data, ws.rss
    for first in range(0, n, width):
        for lane in range(width):
            point = min(first + lane, n - 1)  # lanes that are left over repeat the last point
            with_data_of_lane[lane] = with_data
            rss[lane] = moments.rss[replicates[point]]
            load_lane(ws.data, moments.values, replicates[point], lane)
            load_lane(ws.theta, theta, point, lane)
            load_order(ws.order, order, point, lane)
        _evaluate(tree, ws)
        for lane in range(min(width, n - first)):
            store_lane(results, ws.results, first + lane, lane)


@part
def _evaluate(tree, ws):  # type: ignore[no-untyped-def]
    """-2 logLik of every lane at ws.theta, its gradient, D, and the fit of the fixed effects."""
    _set_factors(tree, ws)
    log_det, r2 = ws.log_det, ws.r2
    for lane in range(tree.width):
        log_det[lane], r2[lane] = 0.0, ws.rss[lane]
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


@part
def _set_factors(tree, ws):  # type: ignore[no-untyped-def]
    """Lam of every level from theta."""
    Lam, theta, order, blocks = ws.Lam, ws.theta, ws.order, tree.blocks
    Lam[:] = 0.0
    for b in range(len(blocks.size)):
        level, first, t, size = blocks.level[b], blocks.first[b], blocks.theta[b], blocks.size[b]
        add_factor(Lam[level], theta[t:], order[b], blocks.Q[b], first, size, blocks.is_matrix[b])


@part
def _eliminate(tree, ws, level):  # type: ignore[no-untyped-def]
    """A, J, F, E of one level, and what its random effects take out of y'y."""
    start = U(tree.level_start[level] * tree.width)
    n = U(tree.level_start[level + 1] * tree.width) - start
    B, A, J, E, K, H, L, c1 = tree.B, ws.A, ws.J, ws.E, ws.K, ws.H, ws.L, ws.c1
    spread(L, start, ws.Lam[level], n // U(tree.width))
    if level == 0:
        multiply(H, start, tree.G, start, L, start, n)
    else:
        _gather_children(tree, ws, level, start, n)
        multiply(ws.b1, start, A, start, B, start, n)
        multiply_transposed(K, start, B, start, ws.b1, start, n)
        multiply(H, start, K, start, L, start, n)
    multiply_transposed(K, start, L, start, H, start, n)
    factorise_with_identity(K, start, n)
    solve_for_transpose(H, K, L, start, n)  # H = chol(K)^-1 Lam'
    multiply_by_transpose(ws.b1, start, B, start, H, start, n)
    multiply_by_transpose(J, start, ws.b1, start, ws.b1, start, n)
    log_determinant(c1, K, tree.n_units, start, n)
    add_up(ws.log_det, c1, start, n, ws.sums)
    if level > 0:
        multiply(ws.F, start, A, start, J, start, n)
        take_from_identity(ws.F, ws.F, start, n)
        multiply(E, start, ws.F, start, A, start, n)
        _take_out_of_yy(tree, ws, level, start, n)
    else:
        # the part of y'y within the bases is added here in one sum, so that no digits are lost
        take_from_identity(E, J, start, n)
        inner_product(c1, start, 1.0, E, ws.S, n)
        add_up(ws.r2, c1, start, n, ws.sums)
        fill(ws.e, start, 0.0, n)


@part
def _gather_children(tree, ws, level, first, n_positions):  # type: ignore[no-untyped-def]
    """Sum what the children of one level pass up: A, and a for mixed units."""
    start = U(tree.link_start[level - 1] * tree.width)
    n = U(tree.link_start[level] * tree.width) - start
    C, k1, k2, k3 = tree.C, ws.k1, ws.k2, ws.k3
    fill_matrices(ws.A, first, 0.0, n_positions)
    fill(ws.a, first, 0.0, n_positions)
    gather(k1, start, ws.E, tree.link_child, n)
    multiply(k2, start, k1, start, C, start, n)
    multiply_transposed(k3, start, C, start, k2, start, n)
    times(k3, start, tree.link_count, n)
    scatter_add(ws.A, k3, start, tree.link_parent, n)
    if tree.has_mixed[level]:
        apply(ws.v1, start, k1, start, ws.link_t, start, n)
        add_at(ws.v1, start, ws.e, tree.link_child, n)
        apply_transposed(ws.v2, start, C, start, ws.v1, start, n)
        add_to(ws.a, ws.v2, tree.ones, tree.link_parent, start, n)


@part
def _take_out_of_yy(tree, ws, level, start, n):  # type: ignore[no-untyped-def]
    """Take a'J a of every unit of an outer level out of y'y; leaves e = F a in ws.e."""
    A, c1 = ws.A, ws.c1
    if tree.has_uniform[level]:
        multiply(ws.k1, start, A, start, ws.S, start, n)
        multiply(ws.k2, start, ws.k1, start, A, start, n)
        inner_product(c1, start, -1.0, ws.J, ws.k2, n)
        add_up(ws.r2, c1, start, n, ws.sums)
    if tree.has_mixed[level]:
        apply(ws.v1, start, ws.J, start, ws.a, start, n)
        inner_product_of_vectors(c1, start, -1.0, ws.a, ws.v1, n)
        add_up(ws.r2, c1, start, n, ws.sums)
    apply(ws.e, start, ws.F, start, ws.a, start, n)


@part
def _solve_root(tree, ws):  # type: ignore[no-untyped-def]
    """X'V^-1X, its factor and inverse, b, y'Py and -2 logLik."""
    zero, n = U(0), U(len(tree.root_child))
    Bx, k1, v1, pp, c1, T, beta, sums = tree.Bx, ws.k1, ws.v1, ws.pp, ws.c1, ws.T, ws.beta, ws.sums
    p = Bx.shape[1]
    gather(k1, zero, ws.E, tree.root_child, n)
    apply(v1, zero, k1, zero, ws.root_t, zero, n)
    add_at(v1, zero, ws.e, tree.root_child, n)
    multiply(ws.p1, zero, k1, zero, Bx, zero, n)
    multiply_transposed(pp, zero, Bx, zero, ws.p1, zero, n)
    times(pp, zero, tree.root_count, n)
    apply_transposed(ws.p3, zero, Bx, zero, v1, zero, n)
    T[:] = 0.0
    beta[:] = 0.0
    for i in range(p):
        for j in range(i + 1):
            add_up(T[i, j], pp[i, j], zero, n, sums)
        add_up(beta[i], ws.p3[i], zero, n, sums)
    solve_fixed_effects(T, beta, ws.T_inverse, ws.r2, ws.kappa)
    log_det, f, r2, kappa = ws.log_det, ws.f, ws.r2, ws.kappa
    for c in range(U(tree.width)):
        if tree.is_reml:
            log_det[c] += kappa[c] + tree.log_constant
        f[c] = log_det[c] + tree.nu * (1.0 + np.log(2.0 * np.pi * r2[c] / tree.nu))
        kappa[c] = ws.with_data[c] * tree.nu / r2[c]


@part
def _descend_from_root(tree, ws):  # type: ignore[no-untyped-def]
    """Start the slopes and w: what the fixed effects pass down."""
    N, n, zero = U(len(tree.n_units)), U(len(tree.root_child)), U(0)
    n_groups = n // U(tree.width)
    Bx, k1 = tree.Bx, ws.k1
    spread_row(ws.kappas, ws.kappa)
    fill(ws.w, zero, 0.0, N)
    weigh(ws.slope, ws.S, ws.kappas, N)
    spread_vectors(ws.p3, ws.beta, n_groups)
    apply(ws.v1, zero, Bx, zero, ws.p3, zero, n)
    if tree.is_reml:
        spread(ws.pp, zero, ws.T_inverse, n_groups)
        multiply(ws.p1, zero, Bx, zero, ws.pp, zero, n)
        multiply_by_transpose(k1, zero, ws.p1, zero, Bx, zero, n)
        times(k1, zero, tree.root_count, n)
    else:
        fill_matrices(k1, zero, 0.0, n)
    add_to(ws.w, ws.v1, tree.root_is_mixed, tree.root_child, zero, n)
    add_predicted(k1, ws.v1, ws.root_t, tree.root_count, tree.root_is_mixed, ws.kappas, zero, n)
    scatter_add(ws.slope, k1, zero, tree.root_child, n)


@part
def _differentiate(tree, ws, level):  # type: ignore[no-untyped-def]
    """D of one level, summed over its classes, and its scale."""
    start = U(tree.level_start[level] * tree.width)
    n = U(tree.level_start[level + 1] * tree.width) - start
    EB, K, H, D, scale = ws.EB, ws.K, ws.H, ws.D[level], ws.scale[level]
    multiply(EB, start, ws.E, start, tree.B, start, n)
    multiply(ws.b1, start, ws.slope, start, EB, start, n)
    multiply_transposed(K, start, EB, start, ws.b1, start, n)
    multiply_transposed(H, start, tree.B, start, EB, start, n)
    times(H, start, tree.n_units, n)
    if tree.has_mixed[level]:  # v2 = B'(e - E w)
        apply(ws.v1, start, ws.E, start, ws.w, start, n)
        take_from(ws.v1, ws.e, start, n)
        apply_transposed(ws.v2, start, tree.B, start, ws.v1, start, n)
        add_square(K, ws.v2, ws.kappas, start, n)
    D[:] = 0.0
    scale[:] = 0.0
    for i in range(len(D)):
        add_up(scale[i], H[i, i], start, n, ws.sums)
        for j in range(i + 1):
            subtract(ws.c1, H[i, j], K[i, j], start, n)
            add_up(D[i, j], ws.c1, start, n, ws.sums)
            for lane in range(tree.width):
                D[j, i, lane] = D[i, j, lane]


@part
def _descend(tree, ws, level):  # type: ignore[no-untyped-def]
    """Pass the slopes and w of one level on to its children."""
    start = U(tree.level_start[level] * tree.width)
    n = U(tree.level_start[level + 1] * tree.width) - start
    link = U(tree.link_start[level - 1] * tree.width)
    n_links = U(tree.link_start[level] * tree.width) - link
    slope, C, k1, v1, v2 = ws.slope, tree.C, ws.k1, ws.v1, ws.v2
    multiply(k1, start, slope, start, ws.F, start, n)
    multiply_transposed(slope, start, ws.F, start, k1, start, n)
    add_difference(slope, tree.n_units, ws.J, ws.kappas, ws.S, start, n)
    gather(ws.k2, link, slope, tree.link_parent, n_links)
    multiply(ws.k3, link, C, link, ws.k2, link, n_links)
    multiply_by_transpose(k1, link, ws.k3, link, C, link, n_links)
    times(k1, link, tree.link_count, n_links)
    if tree.has_mixed[level]:
        apply(v1, start, ws.A, start, ws.w, start, n)  # then w + J (a - A w)
        take_from(v1, ws.a, start, n)
        apply(v2, start, ws.J, start, v1, start, n)
        add_vectors(ws.w, v2, start, n)
        fill(v2, link, 0.0, n_links)
        add_at(v2, link, ws.w, tree.link_parent, n_links)
        apply(v1, link, C, link, v2, link, n_links)
        add_to(ws.w, v1, tree.child_is_mixed, tree.link_child, link, n_links)
        add_predicted(
            k1, v1, ws.link_t, tree.link_count, tree.child_is_mixed, ws.kappas, link, n_links
        )
    scatter_add(slope, k1, link, tree.link_child, n_links)


@part
def _set_gradient(tree, ws):  # type: ignore[no-untyped-def]
    """Gradient in theta: 2 D Lam, masked to the parameters."""
    blocks, D, Lam, gradient, order = tree.blocks, ws.D, ws.Lam, ws.gradient, ws.order
    for b in range(len(blocks.size)):
        level, first, t, size = blocks.level[b], blocks.first[b], blocks.theta[b], blocks.size[b]
        set_gradient_of_block(
            gradient[t:], D[level], Lam[level], order[b], blocks.Q[b], first, size,
            blocks.is_matrix[b],
        )  # fmt: skip
