"""Adaptive Gauss-Hermite quadrature of one effect per unit, in one level or two nested ones.

Nodes lie around the mode of Laplace's approximation, at distances by its curvature: with one point
they are the same (Pinheiro & Bates 1995). In two levels, every node of an outer unit has nodes of
its own for each unit within. Nodes move with the parameters: with weights pi_k of nodes u + z_k sd,

    d log I = sum pi_k [d h_k + h_k' (du + z_k dsd)] + dsd / sd,

h' the derivative in the effect, du and dsd those of mode and scale, by the implicit function
theorem.
"""

import math
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.blocks import Blocks
from mcsim.engine.families.kinds import NBINOM, U, rows_of
from mcsim.engine.families.nbinom import log_rising, nbinom_slopes
from mcsim.engine.laplace.likelihood import (
    LaplaceLikelihood,
    add_to_coefficients,
    mode_of,
    prepare,
)
from mcsim.engine.laplace.nest import Nest
from mcsim.engine.likelihood import Points

NEXT_TO_ZERO = 1e-4  # an SD whose square stands for a variance of zero, in derivatives
ROUNDING = 1e-12  # of a column of ones
MAX_STEPS = 60
STEP = 1e-8  # of an effect in its SDs, the last that Newton goes
LONGEST = 2.0  # step of Newton, in SDs


class Rows(NamedTuple):
    """Predictors of rows, and what the family says of them: (n_rows,)."""

    eta: Floats
    nll: Floats
    r: Floats
    w: Floats
    w3: Floats


class Nodes(NamedTuple):
    """Points and log weights of a normal variable, and room for what is found at them."""

    z: Floats  # (n_points,)
    log_weight: Floats
    value: Floats  # (n_points,) log integrand of an outer unit at its nodes
    slope: Floats  # its derivatives: in the effect, ...
    of_shift: Floats  # in the predictor of all rows, ...
    of_inner: Floats  # in the SD of the units within, ...
    of_tau: Floats  # in the dispersion
    c: Floats  # (n_points, n_rows) in the predictor of a row
    w: Floats  # (n_rows,) at the mode of a unit within
    w3: Floats
    at: Rows  # at a node of it


class QuadratureLikelihood(LaplaceLikelihood):
    """The likelihood by quadrature; as Laplace's, whose weights say what the design tells."""

    def __init__(
        self, nest: Nest, blocks: Blocks, kind: int, responses: Floats, n_points: int
    ) -> None:
        super().__init__(nest, blocks, kind, responses)
        z, weight = np.polynomial.hermite_e.hermegauss(n_points)
        log_weight = np.log(weight) - 0.5 * math.log(2.0 * math.pi) + 0.5 * z**2
        n_rows = nest.X.shape[1]
        value, slope, of_shift, of_inner, of_tau = (np.zeros(n_points) for _ in range(5))
        c, w, w3 = np.zeros((n_points, n_rows)), np.zeros(n_rows), np.zeros(n_rows)
        at = Rows(*(np.zeros(n_rows) for _ in range(5)))
        self._nodes = Nodes(z, log_weight, value, slope, of_shift, of_inner, of_tau, c, w, w3, at)

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
        found = super().at(
            replicates, theta, order, with_data=with_data, inverse_sigma2=inverse_sigma2
        )
        if not with_data:
            return found
        f, slopes, gradient = self._integrate(replicates, theta, order)
        usable = found.r2 > 0.0
        found.f[:] = np.where(usable, f - 2.0 * self._constant[replicates], np.nan)
        found.gradient[:, self.n_covariances :] = gradient
        n_sds = self.n_lam
        for t in range(n_sds):
            s = theta[:, t]
            found.gradient[:, t] = slopes[:, t]
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
            self.kind, self.nest, self._room, self._nodes, self.blocks, self.responses,
            self._n_above, self._modes, self._order_room, replicates, theta, order, f, slopes,
            gradient,
        )  # fmt: skip
        return f, slopes, gradient


@lean_kernel
def _evaluate(
    kind, nest, room, nodes, blocks, responses, n_above, modes, own_order, replicates, theta, order,
    f, slopes, gradient,
):  # fmt: skip
    n_levels = len(nest.level_start) - 1
    for point in range(len(replicates)):
        replicate, total = replicates[point], 0.0
        y = responses[replicate]
        tau = prepare(nest, room, blocks, own_order, theta[point], order[point])
        if not mode_of(kind, nest, room, y, tau, modes[replicate]) < math.inf:
            f[point] = math.nan
            continue
        for root in range(nest.level_start[n_levels - 1], nest.level_start[n_levels]):
            if n_levels == 1:
                value = _integrate_unit(
                    kind, nest, room.fixed, nodes, y, tau, root, 0.0, theta[point, 0],
                    room.u[0, root], U(0),
                )  # fmt: skip
                slopes[point, 0] -= 2.0 * value[1]
                slopes[point, 1] -= 2.0 * value[2]
                total -= 2.0 * value[0]
            else:
                total -= 2.0 * _integrate_root(
                    kind, nest, room, nodes, y, tau, root, theta[point, 0], theta[point, 1],
                    slopes[point],
                )  # fmt: skip
        add_to_coefficients(nest.X, nodes.c[0], -2.0, gradient[point])
        if kind == NBINOM:
            rising, slope = log_rising(n_above[replicate], y, tau)
            total -= 2.0 * rising
            slopes[point, n_levels] -= 2.0 * slope
        f[point] = total


@step
def _integrate_unit(kind, nest, eta, nodes, y, tau, g, shift, s, u, k):
    """Log integral over the effect of an innermost unit, its derivatives in s and tau, their sum
    over rows in the predictor; those of rows into nodes.c[k].
    """
    first, end, w, w3, c = nest.first[g], nest.end[g], nodes.w, nodes.w3, nodes.c
    at = nodes.at
    R, W, T, R_tau, W_tau, f, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0
    for _ in range(MAX_STEPS):
        R, W, T, f = 0.0, 0.0, 0.0, 0.5 * u * u
        _rows_at(kind, nest, nodes, y, eta, tau, (first, end, shift + s * u), w, w3)
        for row in range(first, end):
            f += at.nll[row]
            R += at.r[row]
            W += w[row]
            T += w3[row]
        h = 1.0 + s * s * W
        change = (s * R - u) / h
        is_near = not abs(change) * math.sqrt(h) > STEP * (1.0 + abs(u))
        u += max(-LONGEST, min(LONGEST, change))
        if is_near:  # its square is rounding, so that sums of rows follow by their derivatives
            R -= s * W * change
            W += s * T * change
            h = 1.0 + s * s * W
            break
    for row in range(first, end):
        c[k, row] = 0.0
        if kind == NBINOM:
            _, dr, dw = nbinom_slopes(y[row], at.eta[row], tau)
            R_tau += dr
            W_tau += dw
    sd = 1.0 / math.sqrt(h)
    total, A, B, of_s, of_tau = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(U(len(nodes.z))):
        node = u + nodes.z[i] * sd
        value, sum_r, sum_tau = -0.5 * node * node, 0.0, 0.0
        _rows_at(kind, nest, nodes, y, eta, tau, (first, end, shift + s * node), at.w, at.w3)
        for row in range(first, end):
            value -= at.nll[row]
            sum_r += at.r[row]
            if kind == NBINOM:
                dl, _, _ = nbinom_slopes(y[row], at.eta[row], tau)
                sum_tau += dl
        weight = math.exp(nodes.log_weight[i] + value + f)
        total += weight
        A += weight * (s * sum_r - node)
        B += weight * (s * sum_r - node) * nodes.z[i]
        of_s += weight * node * sum_r
        of_tau += weight * sum_tau
        for row in range(first, end):
            c[k, row] += weight * at.r[row]
    A /= total
    B = -0.5 * sd**3 * (B / total + 1.0 / sd)  # of h
    of_s = of_s / total + A * (R - s * W * u) / h + B * 2.0 * s * (W + s * T * u / h)
    of_tau = of_tau / total + A * s * R_tau / h + B * s * s * (W_tau + T * s * s * R_tau / h)
    of_shift = 0.0
    for row in range(first, end):
        moved = w3[row] - T * s * s * w[row] / h
        c[k, row] = c[k, row] / total - A * s * w[row] / h + B * s * s * moved
        of_shift += c[k, row]
    return math.log(total) - f + math.log(sd), of_s, of_tau, of_shift


@step
def _rows_at(kind, nest, nodes, y, eta, tau, where, w, w3):
    """Evaluate the rows of a unit, from first to end, at predictors moved by a shift."""
    (first, end, shift), at = where, nodes.at
    for row in range(first, end):
        at.eta[row] = eta[row] + shift
    rows_of(
        kind, y[first:end], nest.trials[first:end], at.eta[first:end], tau, at.nll[first:end],
        at.r[first:end], w[first:end], w3[first:end],
    )  # fmt: skip


@step
def _integrate_root(kind, nest, room, nodes, y, tau, root, s_g, s_a, slopes):
    """Log integral over the effects of an outer unit and those within, at whose mode `room` is.

    Adds to the slopes of -2 logLik in s_g, s_a and tau; leaves those of rows in nodes.c[0].
    """
    u, s = room.u[1, root], room.F[1, 1, root] ** 2
    sums = _sums_at_mode(kind, nest, room, y, tau, root, s_g, s_a)
    n_points, largest = U(len(nodes.z)), -math.inf
    for k in range(n_points):
        node = u + nodes.z[k] / math.sqrt(s)
        value, of_shift, of_inner, of_tau = -0.5 * node * node, 0.0, 0.0, 0.0
        for g in range(nest.first[root], nest.end[root]):
            W = room.M[0, 0, g]
            start = room.u[0, g] - s_a * s_g * W / (1.0 + s_g * s_g * W) * (node - u)
            found = _integrate_unit(
                kind, nest, room.fixed, nodes, y, tau, g, s_a * node, s_g, start, k
            )
            value += found[0]
            of_inner += found[1]
            of_tau += found[2]
            of_shift += found[3]
        nodes.value[k] = nodes.log_weight[k] + value
        nodes.slope[k] = s_a * of_shift - node
        nodes.of_shift[k] = node * of_shift
        nodes.of_inner[k], nodes.of_tau[k] = of_inner, of_tau
        largest = max(largest, nodes.value[k])
    total, A, B, of_a, of_g, of_tau = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n_points):
        weight = math.exp(nodes.value[k] - largest)
        nodes.value[k] = weight
        total += weight
        A += weight * nodes.slope[k]
        B += weight * nodes.slope[k] * nodes.z[k]
        of_a += weight * nodes.of_shift[k]
        of_g += weight * nodes.of_inner[k]
        of_tau += weight * nodes.of_tau[k]
    A /= total
    B = -0.5 * s**-1.5 * (B / total + math.sqrt(s))  # of s
    A += B * sums[0]  # s moves with the mode too
    slopes[0] -= 2.0 * (of_g / total + A * sums[1] + B * sums[2])
    slopes[1] -= 2.0 * (of_a / total + A * sums[3] + B * sums[4])
    slopes[2] -= 2.0 * (of_tau / total + A * sums[5] + B * sums[6])
    for g in range(nest.first[root], nest.end[root]):
        W, T = room.M[0, 0, g], room.S[0, g]
        h = 1.0 + s_g * s_g * W
        for row in range(nest.first[g], nest.end[g]):
            own = 0.0
            for k in range(n_points):
                own += nodes.value[k] * nodes.c[k, row]
            moved = room.w3[row] - T * s_g * s_g * room.w[row] / h
            own = own / total - A * s_a * room.w[row] / (h * s) + B * s_a * s_a * moved / (h * h)
            nodes.c[0, row] = own
    return math.log(total) + largest - 0.5 * math.log(s)


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


def can_integrate(nest: Nest) -> bool:
    """Whether there are one or two levels, each with intercepts that vary and nothing else."""
    n_levels = len(nest.level_start) - 1
    return bool(
        n_levels <= 2 and len(nest.column) == n_levels and np.all(np.abs(nest.B - 1.0) < ROUNDING)
    )
