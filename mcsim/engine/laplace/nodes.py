"""Integrals over the effects of innermost units, all at once, of which quadrature is made.

With weights pi_i of nodes u + z_i sd, h the log integrand and h' its derivative in the effect,

    d log I = sum pi_i [d h_i + h_i' (du + z_i dsd)] + dsd / sd,

du and dsd those of mode and scale, by the implicit function theorem.
"""

import math
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.compiled import step
from mcsim.engine.arithmetic.elementary import exp
from mcsim.engine.families.kinds import NBINOM, U
from mcsim.engine.families.shifted import at_modes, at_nodes, dispersion_at_modes

MAX_STEPS = 60
STEP = 1e-6  # of an effect in its SDs, the last that Newton goes: its square is rounding
LONGEST = 2.0  # step of Newton, in SDs


class Nodes(NamedTuple):
    """Points and log weights of a normal variable."""

    z: Floats  # (n_points,)
    log_weight: Floats


class Leaves(NamedTuple):
    """Innermost units in the order of their stack: (n_units,) unless said."""

    shift: Floats  # of the predictor of all rows of a unit, by the effects around it
    u: Floats  # the mode
    moved: Floats  # shift of the predictor with an effect of the unit
    R: Floats  # at the mode, sums of r, w, w', and of the derivatives of r and w in tau
    W: Floats
    T: Floats
    R_tau: Floats
    W_tau: Floats
    total: Floats  # on the way
    A: Floats
    B: Floats
    log_integral: Floats  # and its derivatives: in the SD, in the dispersion, in the shift
    of_s: Floats
    of_tau: Floats
    of_shift: Floats
    value: Floats  # (n_points, n_units) log integrand at the nodes, then weights
    sum_r: Floats
    sum_tau: Floats
    r: Floats  # (n_points, n_rows)


def nodes_of(n_points: int) -> Nodes:
    """Gauss-Hermite points."""
    z, weight = np.polynomial.hermite_e.hermegauss(n_points)
    return Nodes(z, np.log(weight) - 0.5 * math.log(2.0 * math.pi) + 0.5 * z**2)


def room_of_leaves(n_points: int, n_units: int, n_rows: int) -> Leaves:
    """Memory for integrals of all units."""
    units = [np.zeros(n_units) for _ in range(15)]
    points = [np.zeros((n_points, n_units)) for _ in range(3)]
    return Leaves(*units, *points, *[np.zeros((n_points, n_rows))])


@step
def integrate_leaves(kind, stack, rows, nodes, leaves, tau, s, of_rows):
    """Log integrals over the effects of all units, from leaves.shift and from leaves.u on, which
    ends at the modes; derivatives in the predictors of rows into `of_rows`.
    """
    _find_modes(kind, stack, rows, leaves, tau, s)
    n, value = U(len(leaves.u)), leaves.value
    for i in range(U(len(nodes.z))):
        own, node, moved = value[i], leaves.total, leaves.moved
        for g in range(n):
            h = 1.0 + s * s * leaves.W[g]
            node[g] = leaves.u[g] + nodes.z[i] / math.sqrt(h)
            moved[g] = leaves.shift[g] + s * node[g]
        at_nodes(
            kind, stack, rows, moved, tau, leaves.r[i], own, leaves.sum_r[i], leaves.sum_tau[i]
        )
        for g in range(n):
            own[g] += nodes.log_weight[i] - 0.5 * node[g] * node[g]
    _weigh(leaves)
    _add_up(nodes, leaves, s)
    if kind == NBINOM:
        _add_up_dispersion(leaves, s)
    _differentiate_rows(stack, rows, leaves, s, of_rows)


@step
def _find_modes(kind, stack, rows, leaves, tau, s):
    u, R, W, T = leaves.u, leaves.R, leaves.W, leaves.T
    n, moved, change = U(len(u)), leaves.moved, leaves.total
    for _ in range(MAX_STEPS):
        for g in range(n):
            moved[g] = leaves.shift[g] + s * u[g]
        at_modes(kind, stack, rows, moved, tau, R, W, T)
        farthest = 0.0
        for g in range(n):
            h = 1.0 + s * s * W[g]
            change[g] = (s * R[g] - u[g]) / h
            far = abs(change[g]) * math.sqrt(h) / (1.0 + abs(u[g]))
            farthest = max(farthest, far)
            u[g] += max(-LONGEST, min(LONGEST, change[g]))
        if not farthest > STEP:
            break
    if kind == NBINOM:
        dispersion_at_modes(stack, rows, tau, leaves.R_tau, leaves.W_tau)
    for g in range(n):  # sums of rows follow the last step by their derivatives
        R[g] -= s * W[g] * change[g]
        W[g] += s * T[g] * change[g]


@step
def _weigh(leaves):
    """From log integrands at the nodes to weights, and the log integral but for log(sd)."""
    value, total, largest = leaves.value, leaves.total, leaves.log_integral
    n = U(len(total))
    for g in range(n):
        largest[g] = value[0, g]
        total[g] = 0.0
    for i in range(U(1), U(len(value))):
        own = value[i]
        for g in range(n):
            largest[g] = max(largest[g], own[g])
    for i in range(U(len(value))):
        own = value[i]
        for g in range(n):
            own[g] = exp(own[g] - largest[g])
            total[g] += own[g]
    for i in range(U(len(value))):
        own = value[i]
        for g in range(n):
            own[g] /= total[g]
    for g in range(n):
        largest[g] += math.log(total[g])


@step
def _add_up(nodes, leaves, s):
    """The integrals, and their derivatives in the SD."""
    u, R, W, T, A, B = leaves.u, leaves.R, leaves.W, leaves.T, leaves.A, leaves.B
    n, of_s, of_shift = U(len(u)), leaves.of_s, leaves.of_shift
    A[:] = 0.0
    B[:] = 0.0
    of_s[:] = 0.0
    of_shift[:] = 0.0
    for i in range(U(len(nodes.z))):
        z, weight, sum_r = nodes.z[i], leaves.value[i], leaves.sum_r[i]
        for g in range(n):
            node = u[g] + z / math.sqrt(1.0 + s * s * W[g])
            slope = weight[g] * (s * sum_r[g] - node)
            A[g] += slope
            B[g] += slope * z
            of_s[g] += weight[g] * node * sum_r[g]
            of_shift[g] += weight[g] * sum_r[g]
    for g in range(n):
        h = 1.0 + s * s * W[g]
        root = math.sqrt(h)
        B[g] = -0.5 * (B[g] + root) / (h * root)  # of h
        of_s[g] += A[g] * (R[g] - s * W[g] * u[g]) / h
        of_s[g] += B[g] * 2.0 * s * (W[g] + s * T[g] * u[g] / h)
        of_shift[g] += s * s * B[g] * (T[g] - T[g] * s * s * W[g] / h) - A[g] * s * W[g] / h
        leaves.log_integral[g] -= math.log(root)


@step
def _add_up_dispersion(leaves, s):
    """Derivatives in tau."""
    of_tau, R_tau = leaves.of_tau, leaves.R_tau
    n = U(len(of_tau))
    of_tau[:] = 0.0
    for i in range(U(len(leaves.value))):
        weight, sum_tau = leaves.value[i], leaves.sum_tau[i]
        for g in range(n):
            of_tau[g] += weight[g] * sum_tau[g]
    for g in range(n):
        h = 1.0 + s * s * leaves.W[g]
        of_tau[g] += leaves.A[g] * s * R_tau[g] / h
        of_tau[g] += leaves.B[g] * s * s * (leaves.W_tau[g] + leaves.T[g] * s * s * R_tau[g] / h)


@step
def _differentiate_rows(stack, rows, leaves, s, of_rows):
    by_w, by_w3 = leaves.total, leaves.moved
    for g in range(U(len(by_w))):
        h = 1.0 + s * s * leaves.W[g]
        by_w3[g] = s * s * leaves.B[g]
        by_w[g] = -(leaves.A[g] + s * by_w3[g] * leaves.T[g]) * s / h
    for j in range(U(len(stack.start) - 1)):
        a, e = stack.start[j], stack.start[j + U(1)]
        own, w, w3 = of_rows[a:e], rows.w[a:e], rows.w3[a:e]
        for g in range(e - a):
            own[g] = by_w[g] * w[g] + by_w3[g] * w3[g]
        for i in range(U(len(leaves.value))):
            weight, r = leaves.value[i], leaves.r[i, a:e]
            for g in range(e - a):
                own[g] += weight[g] * r[g]
