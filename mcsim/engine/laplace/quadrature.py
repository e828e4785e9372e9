"""Adaptive Gauss-Hermite quadrature of one effect per unit, in one level or two nested ones.

Nodes lie around the mode of Laplace's approximation, at distances by its curvature: with one point
they are the same (Pinheiro & Bates 1995). In two levels, every node of an outer unit has nodes of
its own for each unit within (nodes.py). Nodes move with the parameters, and so do derivatives.
"""

import math
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.blocks import Blocks
from mcsim.engine.families.kinds import NBINOM, U
from mcsim.engine.families.nbinom import log_rising, nbinom_slopes
from mcsim.engine.families.shifted import load_rows, room_of_rows, stack_of, unload_rows
from mcsim.engine.laplace.crossing import Cross
from mcsim.engine.laplace.derivatives import add_to_coefficients
from mcsim.engine.laplace.likelihood import (
    LaplaceLikelihood,
    mode_of,
    prepare,
)
from mcsim.engine.laplace.nest import Nest
from mcsim.engine.laplace.nodes import integrate_leaves, nodes_of, room_of_leaves
from mcsim.engine.likelihood import Points, points_of

NEXT_TO_ZERO = 1e-4  # an SD whose square stands for a variance of zero, in derivatives
ROUNDING = 1e-12  # of a column of ones


class Roots(NamedTuple):
    """Outer units: what is found at their nodes, (n_points, n_roots) unless said.

    of_unit : (n_units,) root of every unit of the stack
    """

    of_unit: Positions
    value: Floats  # log integrand, then weights
    of_shift: Floats  # its derivatives: in the predictor of all rows, ...
    of_inner: Floats  # in the SD of the units within, ...
    of_tau: Floats  # in the dispersion
    linear: Floats  # (n_units,) modes within, to first order in the effect of the root
    of_rows: Floats  # (n_points, n_rows of the stack) derivatives in predictors
    by_row: Floats  # (n_rows,) the same, of all nodes, in the order of the nest


class QuadratureLikelihood(LaplaceLikelihood):
    """The likelihood by quadrature; as Laplace's, whose weights say what the design tells.

    laplace : that of the same replicates, where searches begin
    """

    def __init__(
        self, nest: Nest, blocks: Blocks, kind: int, responses: Floats, n_points: int
    ) -> None:
        super().__init__(nest, blocks, kind, responses)
        self.laplace = LaplaceLikelihood(nest, blocks, kind, responses)
        leaf, n_leaves = nest.leaf.astype(np.int64), int(nest.level_start[1])
        stack = stack_of(leaf, nest.trials, kind)
        n_units, n_rows = len(stack.unit), len(stack.row)
        n_outer, root = 1, np.zeros(n_units, dtype=np.int64)
        if len(nest.level_start) > 2:
            n_outer, root = n_points, nest.parent.astype(np.int64)[stack.unit] - n_leaves
        value, *slopes = (np.zeros((n_outer, len(nest.first) - n_leaves)) for _ in range(4))
        roots = Roots(
            root.astype(np.uint64), value, slopes[0], slopes[1], slopes[2], np.zeros(n_units),
            np.zeros((n_outer, n_rows)), np.zeros(len(leaf)),
        )  # fmt: skip
        leaves = room_of_leaves(n_points, n_units, n_rows)
        self._integral = stack, room_of_rows(stack), nodes_of(n_points), leaves, roots
        self._beside = np.zeros((len(responses), n_outer, n_units))  # modes less linear ones

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; without data as Laplace's."""
        if not with_data:
            return super().at(
                replicates, theta, order, with_data=False, inverse_sigma2=inverse_sigma2
            )
        found = points_of(np.zeros((len(theta), sum(map(math.prod, self._shapes)))), self._shapes)
        f, slopes, gradient = self._integrate(replicates, theta, order)
        found.f[:] = f - 2.0 * self._constant[replicates]
        found.r2[:] = np.where(np.isfinite(f), 1.0, np.nan)
        found.gradient[:, self.n_covariances :] = gradient
        n_sds = self.n_lam
        for t in range(n_sds):
            s = theta[:, t]
            found.gradient[:, t] = np.where(s == 0.0, 0.0, slopes[:, t])
            found.D[:, t, 0, 0] = slopes[:, t] / np.where(s == 0.0, 1.0, 2.0 * s)
            at_zero = np.flatnonzero(s == 0.0)
            if len(at_zero):
                beside = theta[at_zero].copy()
                beside[:, t] = NEXT_TO_ZERO
                _, own, _ = self._integrate(replicates[at_zero], beside, order[at_zero])
                found.D[at_zero, t, 0, 0] = own[:, t] / (2.0 * NEXT_TO_ZERO)
        if self.n_covariances > n_sds:
            found.D[:, -1, 0, 0] = slopes[:, -1]
            found.gradient[:, n_sds] = 2.0 * slopes[:, -1] * theta[:, n_sds]
        return found

    def _integrate(
        self, replicates: Ints, theta: Floats, order: Ints
    ) -> tuple[Floats, Floats, Floats]:
        """-2 logLik (n,), its slopes in SDs and dispersion (n, n_lam + 1), in coefficients."""
        n = len(replicates)
        f, slopes = np.zeros(n), np.zeros((n, self.n_lam + 1))
        gradient = np.zeros((n, len(self.nest.X)))
        _evaluate(
            self.kind, self.nest, self._room, self._integral, self.blocks, self.responses,
            self._n_above, self._modes, self._beside, self._order_room, replicates, theta, order,
            f, slopes, gradient,
        )  # fmt: skip
        return f, slopes, gradient


@lean_kernel
def _evaluate(
    kind, nest, room, integral, blocks, responses, n_above, modes, beside, own_order, replicates,
    theta, order, f, slopes, gradient,
):  # fmt: skip
    n_levels = len(nest.level_start) - 1
    stack, rows, nodes, leaves, roots = integral
    for point in range(len(replicates)):
        replicate = replicates[point]
        y = responses[replicate]
        tau = prepare(nest, room, blocks, own_order, theta[point], order[point])
        if not mode_of(kind, nest, room, y, tau, modes[replicate]) < math.inf:
            f[point] = math.nan
            continue
        load_rows(kind, stack, nest.leaf, y, room.fixed, rows)
        if n_levels == 1:
            total = _integrate_units(
                kind, nest, room, stack, rows, nodes, leaves, roots, y, tau, theta[point, 0],
                slopes[point],
            )  # fmt: skip
        else:
            total = _integrate_roots(
                kind, nest, room, stack, rows, nodes, leaves, roots, y, tau,
                (theta[point, 0], theta[point, 1]), beside[replicate], slopes[point],
            )  # fmt: skip
        add_to_coefficients(nest.X, roots.by_row, -2.0, gradient[point])
        if kind == NBINOM:
            rising, slope = log_rising(n_above[replicate], y, tau)
            total -= 2.0 * rising
            slopes[point, n_levels] -= 2.0 * slope
        f[point] = total


@step
def _integrate_units(
    kind, nest, room, stack, rows, nodes, leaves, roots, y, tau, s, slopes
):  # fmt: skip
    """-2 logLik of one level; adds to its slopes in s and tau, those of rows in roots.by_row."""
    leaves.shift[:] = 0.0
    for g in range(U(len(leaves.u))):
        leaves.u[g] = room.u[0, stack.unit[g]]
    integrate_leaves(kind, stack, rows, nodes, leaves, tau, s, roots.of_rows[0])
    total = 0.0
    for g in range(U(len(leaves.u))):
        total -= 2.0 * leaves.log_integral[g]
        slopes[0] -= 2.0 * leaves.of_s[g]
        slopes[1] -= 2.0 * leaves.of_tau[g]
    unload_rows(kind, stack, nest.leaf, y, room.fixed, rows, roots.of_rows[0], roots.by_row)
    return total


@step
def _integrate_roots(
    kind, nest, room, stack, rows, nodes, leaves, roots, y, tau, sds, beside, slopes
):  # fmt: skip
    """-2 logLik of two levels, at whose modes `room` is; as `_integrate_units`.

    beside : (n_points, n_units) where modes of units within lay the last time
    """
    for k in range(U(len(nodes.z))):
        _begin(nest, room, stack, leaves, roots, nodes.z[k], sds, beside[k])
        integrate_leaves(kind, stack, rows, nodes, leaves, tau, sds[0], roots.of_rows[k])
        roots.of_shift[k] = 0.0
        roots.of_inner[k] = 0.0
        roots.of_tau[k] = 0.0
        roots.value[k] = nodes.log_weight[k]
        for g in range(U(len(leaves.u))):
            root, away = roots.of_unit[g], leaves.u[g] - roots.linear[g]
            beside[k, g] = away if abs(away) < math.inf else 0.0
            roots.value[k, root] += leaves.log_integral[g]
            roots.of_shift[k, root] += leaves.of_shift[g]
            roots.of_inner[k, root] += leaves.of_s[g]
            roots.of_tau[k, root] += leaves.of_tau[g]
    total, first = 0.0, nest.level_start[U(1)]
    for root in range(U(roots.value.shape[1])):
        sums = _sums_at_mode(kind, nest, room, y, tau, first + root, sds[0], sds[1])
        found = _combine(room, nodes, roots, sums, first, root, sds[1], slopes)
        total -= 2.0 * found[0]
        roots.of_shift[0, root], roots.of_inner[0, root] = found[1], found[2]
    _combine_rows(kind, nest, room, stack, rows, leaves, roots, y, sds)
    return total


@step
def _begin(nest, room, stack, leaves, roots, z, sds, beside):
    """Shifts of units within at a node of their roots, and where their modes may be."""
    s_g, s_a = sds
    first = nest.level_start[U(1)]
    for g in range(U(len(leaves.u))):
        leaf, root = stack.unit[g], first + roots.of_unit[g]
        away, W = z / room.F[1, 1, root], room.M[0, 0, leaf]
        leaves.shift[g] = s_a * (room.u[1, root] + away)
        roots.linear[g] = room.u[0, leaf] - s_a * s_g * W / (1.0 + s_g * s_g * W) * away
        leaves.u[g] = roots.linear[g] + beside[g]


@step
def _combine(room, nodes, roots, sums, first, root, s_a, slopes):
    """Log integral over the effect of a root, and its derivatives by nodes that move with the mode
    and with the curvature; leaves weights in roots.value, and adds to the slopes of -2 logLik.
    """
    value, n_points = roots.value, U(len(nodes.z))
    u, s = room.u[1, first + root], room.F[1, 1, first + root] ** 2
    largest = -math.inf
    for k in range(n_points):
        node = u + nodes.z[k] / math.sqrt(s)
        value[k, root] -= 0.5 * node * node
        largest = max(largest, value[k, root])
    total, A, B, of_a, of_g, of_tau = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n_points):
        weight = math.exp(value[k, root] - largest)
        value[k, root] = weight
        node, of_shift = u + nodes.z[k] / math.sqrt(s), weight * roots.of_shift[k, root]
        slope = s_a * of_shift - weight * node
        total += weight
        A += slope
        B += slope * nodes.z[k]
        of_a += node * of_shift
        of_g += weight * roots.of_inner[k, root]
        of_tau += weight * roots.of_tau[k, root]
    for k in range(n_points):
        value[k, root] /= total
    A /= total
    B = -0.5 * s**-1.5 * (B / total + math.sqrt(s))  # of s
    A += B * sums[0]  # s moves with the mode too
    slopes[0] -= 2.0 * (of_g / total + A * sums[1] + B * sums[2])
    slopes[1] -= 2.0 * (of_a / total + A * sums[3] + B * sums[4])
    slopes[2] -= 2.0 * (of_tau / total + A * sums[5] + B * sums[6])
    return math.log(total) + largest - 0.5 * math.log(s), A, B


@step
def _combine_rows(kind, nest, room, stack, rows, leaves, roots, y, sds):
    """Derivatives in the predictors of rows, by all nodes, into roots.by_row."""
    (s_g, s_a), first, combined = sds, nest.level_start[U(1)], rows.eta
    combined[:] = 0.0
    for k in range(U(len(roots.value))):
        weight = leaves.total
        for g in range(U(len(weight))):
            weight[g] = roots.value[k, roots.of_unit[g]]
        for j in range(U(len(stack.start) - 1)):
            a, e = stack.start[j], stack.start[j + U(1)]
            own, of_node = combined[a:e], roots.of_rows[k, a:e]
            for g in range(e - a):
                own[g] += weight[g] * of_node[g]
    unload_rows(kind, stack, nest.leaf, y, room.fixed, rows, combined, roots.by_row)
    for g in range(first):
        root = nest.parent[g] - first
        s, W, T = room.F[1, 1, first + root] ** 2, room.M[0, 0, g], room.S[0, g]
        h = 1.0 + s_g * s_g * W
        by_w3 = roots.of_inner[0, root] * s_a * s_a / (h * h)
        by_w = -roots.of_shift[0, root] * s_a / (h * s) - by_w3 * T * s_g * s_g / h
        for row in range(nest.first[g], nest.end[g]):
            roots.by_row[row] += by_w * room.w[row] + by_w3 * room.w3[row]


@step
def _sums_at_mode(kind, nest, room, y, tau, root, s_g, s_a):
    """Derivatives of the curvature s of an outer unit in its mode; of its mode and s, the mode
    held, in s_g, s_a and tau; sums of w' of the units within into room.S.
    """
    u, s = room.u[1, root], room.F[1, 1, root] ** 2
    by_mode, mode_g, s_of_g, sum_R, sum_W, mode_tau, s_of_tau, by_shift = (
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip
    for g in range(nest.first[root], nest.end[root]):
        R, W, T, R_tau, W_tau = 0.0, 0.0, 0.0, 0.0, 0.0
        for row in range(nest.first[g], nest.end[g]):
            R += room.r[row]
            W += room.w[row]
            T += room.w3[row]
            if kind == NBINOM:
                own = room.fixed[row] + s_a * u + s_g * room.u[0, g]
                _, dr, dw = nbinom_slopes(y[row], own, tau)
                R_tau += dr
                W_tau += dw
        room.S[0, g] = T
        h, own = 1.0 + s_g * s_g * W, room.u[0, g]
        by_mode += T / h**3
        mode_g -= 2.0 * W * own / h
        s_of_g += (2.0 * T * own / h - 2.0 * s_g * W * W) / (h * h)
        sum_R += R
        sum_W += W / h
        by_shift += T / h**3
        mode_tau += R_tau / h
        s_of_tau += (W_tau + T * s_g * s_g * R_tau / h) / (h * h)
    return (
        s_a**3 * by_mode,
        s_a * mode_g / s,
        s_a * s_a * s_of_g,
        (sum_R - s_a * u * sum_W) / s,
        2.0 * s_a * sum_W + s_a * s_a * u * by_shift,
        s_a * mode_tau / s,
        s_a * s_a * s_of_tau,
    )


def can_integrate(nest: Nest | Cross) -> bool:
    """Whether there are one or two nested levels, with intercepts that vary and nothing else."""
    if isinstance(nest, Cross):
        return False
    n_levels = len(nest.level_start) - 1
    return bool(
        n_levels <= 2 and len(nest.column) == n_levels and np.all(np.abs(nest.B - 1.0) < ROUNDING)
    )
