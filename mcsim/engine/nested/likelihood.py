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

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, part
from mcsim.engine.arithmetic.lanes import (
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
from mcsim.engine.likelihood import Likelihood, Points, points_of
from mcsim.engine.nested.moments import Moments
from mcsim.engine.nested.steps import (
    add_predicted,
    factorise_with_identity,
    load_lane,
    load_order,
    log_determinant,
    set_factors,
    set_gradient,
    solve_fixed_effects,
    solve_for_transpose,
    store_lane,
)
from mcsim.engine.nested.tree import (
    Classes,
    Links,
    Model,
    Roots,
    Tree,
    stacked,
    units_per_level,
)
from mcsim.engine.nested.workspace import new_workspace, result_shapes

U = np.uint64
BLOCK = U(128)  # positions that are worked on together: they stay in the first cache


class NestedLikelihood(Likelihood):
    """The likelihood of nested random effects and independent residuals with one SD."""

    def __init__(self, tree: Tree, moments: Moments) -> None:
        self.blocks, self.nu, self.n_units = tree.blocks, tree.model.nu, units_per_level(tree)
        self._stack, self._moments = stacked(tree), moments
        self._workspace = new_workspace(tree)
        self._shapes = result_shapes(tree)
        self._n_results = len(self._workspace.found.results)

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
        results = np.empty((len(replicates), self._n_results))
        evaluate_points(
            *self._stack, *self._workspace, self._moments.values, self._moments.rss,
            replicates, theta, order, weight, results,
        )  # fmt: skip
        return points_of(results, self._shapes)


@lean_kernel
def evaluate_points(
    model, classes, links, roots, blocks, lanes, data, found, m, x, v,
    values, rss, replicates, theta, order, weight, results
):  # fmt: skip
    """Evaluate all points, as many at a time as there are lanes.

    The trees are stacked: one for all, or a tree for each replicate, and then a single lane.
    """
    n, width = len(replicates), model.width
    has_uniform, has_mixed = classes.has_uniform, classes.has_mixed
    if n > 0 and weight[0] == 0.0:  # only what the design says is asked for
        has_uniform, has_mixed = classes.never, classes.never
    for first in range(0, n, width):
        tree = U(replicates[first]) if len(model.nu) > 1 else U(0)
        one = Model(width, model.nu[tree], model.is_reml, model.log_constant[tree])
        own_classes = Classes(
            classes.level_start, has_uniform, has_mixed, classes.never, classes.n_units[tree],
            classes.B[tree], classes.G[tree],
        )  # fmt: skip
        own_links = Links(
            links.start, links.in_order, links.child, links.parent[tree], links.n_children[tree],
            links.ones, links.is_mixed, links.C[tree],
        )  # fmt: skip
        own_roots = Roots(
            roots.in_order, roots.child, roots.n_units[tree], roots.is_mixed, roots.Bx[tree]
        )
        for lane in range(width):
            point = min(first + lane, n - 1)  # lanes that are left over repeat the last point
            lanes.weight[lane] = weight[point]
            lanes.rss[lane] = rss[replicates[point]]
            load_lane(lanes.data, values, replicates[point], lane)
            load_lane(lanes.theta, theta, point, lane)
            load_order(lanes.order, order, point, lane)
        _evaluate(one, own_classes, own_links, own_roots, blocks, lanes, data, found, m, x, v)
        for lane in range(min(width, n - first)):
            store_lane(results, found.results, first + lane, lane)


@part
def _evaluate(model, classes, links, roots, blocks, lanes, data, found, m, x, v):
    """-2 logLik of every lane at lanes.theta, its gradient, D, and the fit of the fixed effects."""
    set_factors(blocks, lanes)
    log_det, r2 = lanes.log_det, found.r2
    for lane in range(model.width):
        log_det[lane], r2[lane] = 0.0, lanes.rss[lane]
    n_levels = len(classes.level_start) - 1
    for level in range(n_levels):
        _eliminate(model, classes, links, lanes, data, found, m, x, v, level)
    _solve_root(model, roots, lanes, data, found, m, x, v)
    _descend_from_root(model, classes, roots, lanes, data, found, m, x, v)
    for level in range(n_levels - 1, -1, -1):
        _differentiate(model, classes, found, m, x, v, level)
        if level > 0:
            _descend(model, classes, links, data, m, v, level)
    set_gradient(blocks, lanes, found)


@part
def _eliminate(model, classes, links, lanes, data, found, m, x, v, level):
    """A, J, F, E of one level, and what its random effects take out of y'y."""
    first = U(classes.level_start[level] * model.width)
    end = U(classes.level_start[level + 1] * model.width)
    if level > 0:
        _gather_children(model, classes, links, data, m, v, level, first, end - first)
    for start in range(first, end, BLOCK):
        n = min(BLOCK, end - start)
        _eliminate_block(model, classes, lanes, data, found, m, x, v, level, start, n)


@part
def _eliminate_block(model, classes, lanes, data, found, m, x, v, level, start, n):
    B, A, J, E, K, H, L, c1 = classes.B, m.A, m.J, m.E, x.K, x.H, x.L, v.c1
    spread(L, start, lanes.Lam[level], n // U(model.width))
    if level == 0:
        multiply(H, start, classes.G, start, L, start, n)
    else:
        multiply(x.b1, start, A, start, B, start, n)
        multiply_transposed(K, start, B, start, x.b1, start, n)
        multiply(H, start, K, start, L, start, n)
    multiply_transposed(K, start, L, start, H, start, n)
    factorise_with_identity(K, start, n)
    solve_for_transpose(H, K, L, start, n)  # H = chol(K)^-1 Lam'
    multiply_by_transpose(x.b1, start, B, start, H, start, n)
    multiply_by_transpose(J, start, x.b1, start, x.b1, start, n)
    log_determinant(c1, K, classes.n_units, start, n)
    add_up(lanes.log_det, c1, start, n, v.sums)
    if level > 0:
        multiply(m.F, start, A, start, J, start, n)
        take_from_identity(m.F, m.F, start, n)
        multiply(E, start, m.F, start, A, start, n)
        _take_out_of_yy(classes, data, found, m, v, level, start, n)
    else:
        # the part of y'y within the bases is added here in one sum, so that no digits are lost
        take_from_identity(E, J, start, n)
        inner_product(c1, start, 1.0, E, data.S, n)
        add_up(found.r2, c1, start, n, v.sums)
        fill(v.e, start, 0.0, n)


@part
def _gather_children(model, classes, links, data, m, v, level, first, n_positions):
    """Sum what the children of one level pass up: A, and a for mixed units."""
    fill_matrices(m.A, first, 0.0, n_positions)
    fill(v.a, first, 0.0, n_positions)
    link = U(links.start[level - 1] * model.width)
    end = U(links.start[level] * model.width)
    for start in range(link, end, BLOCK):
        _gather_links(classes, links, data, m, v, level, start, min(BLOCK, end - start))


@part
def _gather_links(classes, links, data, m, v, level, start, n):
    C, k1, k2, k3 = links.C, m.k1, m.k2, m.k3
    gather(k1, start, m.E, links.child, n, links.in_order[level])
    multiply(k2, start, k1, start, C, start, n)
    multiply_transposed(k3, start, C, start, k2, start, n)
    times(k3, start, links.n_children, n)
    scatter_add(m.A, k3, start, links.parent, n, False)
    if classes.has_mixed[level]:
        apply(v.v1, start, k1, start, data.link_t, start, n)
        add_at(v.v1, start, v.e, links.child, n)
        apply_transposed(v.v2, start, C, start, v.v1, start, n)
        add_to(v.a, v.v2, links.ones, links.parent, start, n)


@part
def _take_out_of_yy(classes, data, found, m, v, level, start, n):
    """Take a'J a of every unit of an outer level out of y'y; leaves e = F a in v.e."""
    A, c1 = m.A, v.c1
    if classes.has_uniform[level]:
        multiply(m.k1, start, A, start, data.S, start, n)
        multiply(m.k2, start, m.k1, start, A, start, n)
        inner_product(c1, start, -1.0, m.J, m.k2, n)
        add_up(found.r2, c1, start, n, v.sums)
    if classes.has_mixed[level]:
        apply(v.v1, start, m.J, start, v.a, start, n)
        inner_product_of_vectors(c1, start, -1.0, v.a, v.v1, n)
        add_up(found.r2, c1, start, n, v.sums)
    apply(v.e, start, m.F, start, v.a, start, n)


@part
def _solve_root(model, roots, lanes, data, found, m, x, v):
    """X'V^-1X, its factor and inverse, b, y'Py and -2 logLik."""
    zero, n = U(0), U(len(roots.child))
    Bx, k1, v1, pp, T, beta = roots.Bx, m.k1, v.v1, x.pp, lanes.T, found.beta
    p = Bx.shape[1]
    gather(k1, zero, m.E, roots.child, n, roots.in_order)
    apply(v1, zero, k1, zero, data.root_t, zero, n)
    add_at(v1, zero, v.e, roots.child, n)
    multiply(x.p1, zero, k1, zero, Bx, zero, n)
    multiply_transposed(pp, zero, Bx, zero, x.p1, zero, n)
    times(pp, zero, roots.n_units, n)
    apply_transposed(x.p3, zero, Bx, zero, v1, zero, n)
    T[:] = 0.0
    beta[:] = 0.0
    for i in range(p):
        for j in range(i + 1):
            add_up(T[i, j], pp[i, j], zero, n, v.sums)
        add_up(beta[i], x.p3[i], zero, n, v.sums)
    solve_fixed_effects(T, beta, found.T_inverse, found.r2, lanes.kappa)
    log_det, f, r2, kappa = lanes.log_det, found.f, found.r2, lanes.kappa
    for c in range(U(model.width)):
        if model.is_reml:
            log_det[c] += kappa[c] + model.log_constant
        f[c] = log_det[c] + model.nu * (1.0 + np.log(2.0 * np.pi * r2[c] / model.nu))
        kappa[c] = model.nu / r2[c] if np.isnan(lanes.weight[c]) else lanes.weight[c]


@part
def _descend_from_root(model, classes, roots, lanes, data, found, m, x, v):
    """Start the slopes and w: what the fixed effects pass down."""
    N, n, zero = U(len(classes.n_units)), U(len(roots.child)), U(0)
    n_groups = n // U(model.width)
    Bx, k1 = roots.Bx, m.k1
    spread_row(v.kappas, lanes.kappa)
    fill(v.w, zero, 0.0, N)
    weigh(m.slope, data.S, v.kappas, N)
    spread_vectors(x.p3, found.beta, n_groups)
    fill(v.v1, zero, 0.0, n)
    if Bx.shape[1] > 0:
        apply(v.v1, zero, Bx, zero, x.p3, zero, n)
    if model.is_reml:
        spread(x.pp, zero, found.T_inverse, n_groups)
        multiply(x.p1, zero, Bx, zero, x.pp, zero, n)
        multiply_by_transpose(k1, zero, x.p1, zero, Bx, zero, n)
        times(k1, zero, roots.n_units, n)
    else:
        fill_matrices(k1, zero, 0.0, n)
    add_to(v.w, v.v1, roots.is_mixed, roots.child, zero, n)
    add_predicted(k1, v.v1, data.root_t, roots.n_units, roots.is_mixed, v.kappas, zero, n)
    scatter_add(m.slope, k1, zero, roots.child, n, roots.in_order)


@part
def _differentiate(model, classes, found, m, x, v, level):
    """D of one level, summed over its classes, and its scale."""
    first = U(classes.level_start[level] * model.width)
    end = U(classes.level_start[level + 1] * model.width)
    D, scale = found.D[level], found.scale[level]
    D[:] = 0.0
    scale[:] = 0.0
    for start in range(first, end, BLOCK):
        n = min(BLOCK, end - start)
        _differentiate_block(classes, D, scale, m, x, v, level, start, n)
    for i in range(len(D)):
        for j in range(i):
            for lane in range(model.width):
                D[j, i, lane] = D[i, j, lane]


@part
def _differentiate_block(classes, D, scale, m, x, v, level, start, n):
    EB, K, H = x.EB, x.K, x.H
    multiply(EB, start, m.E, start, classes.B, start, n)
    multiply(x.b1, start, m.slope, start, EB, start, n)
    multiply_transposed(K, start, EB, start, x.b1, start, n)
    multiply_transposed(H, start, classes.B, start, EB, start, n)
    times(H, start, classes.n_units, n)
    if classes.has_mixed[level]:  # Z'Py = B'(e - E w)
        apply(v.v1, start, m.E, start, v.w, start, n)
        take_from(v.v1, v.e, start, n)
        apply_transposed(x.ZPy, start, classes.B, start, v.v1, start, n)
        add_square(K, x.ZPy, v.kappas, start, n)
    for i in range(len(D)):
        add_up(scale[i], H[i, i], start, n, v.sums)
        for j in range(i + 1):
            subtract(v.c1, H[i, j], K[i, j], start, n)
            add_up(D[i, j], v.c1, start, n, v.sums)


@part
def _descend(model, classes, links, data, m, v, level):
    """Pass the slopes and w of one level on to its children."""
    first = U(classes.level_start[level] * model.width)
    end = U(classes.level_start[level + 1] * model.width)
    for start in range(first, end, BLOCK):
        _descend_block(classes, data, m, v, level, start, min(BLOCK, end - start))
    first = U(links.start[level - 1] * model.width)
    end = U(links.start[level] * model.width)
    for start in range(first, end, BLOCK):
        _descend_links(classes, links, data, m, v, level, start, min(BLOCK, end - start))


@part
def _descend_block(classes, data, m, v, level, start, n):
    """Slopes and w within the units of a level."""
    slope, v1, v2 = m.slope, v.v1, v.v2
    multiply(m.k1, start, slope, start, m.F, start, n)
    multiply_transposed(slope, start, m.F, start, m.k1, start, n)
    add_difference(slope, classes.n_units, m.J, v.kappas, data.S, start, n)
    if classes.has_mixed[level]:
        apply(v1, start, m.A, start, v.w, start, n)  # then w + J (a - A w)
        take_from(v1, v.a, start, n)
        apply(v2, start, m.J, start, v1, start, n)
        add_vectors(v.w, v2, start, n)


@part
def _descend_links(classes, links, data, m, v, level, link, n_links):
    """Slopes and w that go to the children."""
    slope, C, k1, v1, v2 = m.slope, links.C, m.k1, v.v1, v.v2
    gather(m.k2, link, slope, links.parent, n_links, False)
    multiply(m.k3, link, C, link, m.k2, link, n_links)
    multiply_by_transpose(k1, link, m.k3, link, C, link, n_links)
    times(k1, link, links.n_children, n_links)
    if classes.has_mixed[level]:
        fill(v2, link, 0.0, n_links)
        add_at(v2, link, v.w, links.parent, n_links)
        apply(v1, link, C, link, v2, link, n_links)
        add_to(v.w, v1, links.is_mixed, links.child, link, n_links)
        add_predicted(
            k1, v1, data.link_t, links.n_children, links.is_mixed, v.kappas, link, n_links
        )
    scatter_add(slope, k1, link, links.child, n_links, links.in_order[level])
