"""The Laplace approximation of -2 logLik, with its exact gradient, at any points.

    D(theta, beta) = 2 f(u) + log|H|,  f = -log-likelihood + u'u / 2 at its minimum,
    H = I + Lam'Z'WZ Lam, W minus the second derivatives of the log-likelihood

What D changes by through the mode u is found by the implicit function theorem: with q the variance
of a row's predictor given the responses and v = H^-1 Lam'Z'(w' q), its derivative in a row's
predictor is -2 r + w' q - w Z Lam v, and in Psi of a level

    sum over units of  K - R R' + (R S' + S R') / 2,   R = Z'r,  S = Z'(w' q - w Z Lam v),

K = Z'(W^-1 + Z Psi Z')^-1 Z. The formula holds on the boundary too, and at Psi = 0, where the
derivative in Lam says nothing.
"""

import math

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.blocks import Blocks, n_parameters
from mcsim.engine.families.kinds import NBINOM, log_constants
from mcsim.engine.families.nbinom import log_rising, nbinom_slopes
from mcsim.engine.laplace.elimination import (
    U,
    along,
    covariances,
    eliminate,
    gather,
    solve,
    spread,
    sum_rows,
)
from mcsim.engine.laplace.nest import Nest, room_for, with_dispersion
from mcsim.engine.likelihood import Likelihood, Points, points_of
from mcsim.engine.nested.steps import add_factor, set_gradient_of_block

MAX_STEPS = 200  # of Newton towards the mode of a root's effects
DECREMENT = 1e-22  # of f, relative: log|H| follows the mode to the root of this
LAST_DECREMENT = 1e-16  # below which it is rounding where it no longer becomes a tenth
RISE = 1e-11  # of f, relative: more is no rounding


class LaplaceLikelihood(Likelihood):
    """The approximated likelihood of some replicates; theta ends with the fixed effects.

    Parameters of Lam come first, in blocks, then the root of a negative binomial's dispersion (a
    block of its own), then the coefficients of X~.
    """

    def __init__(self, nest: Nest, blocks: Blocks, kind: int, responses: Floats) -> None:
        n_levels, q = len(nest.level_start) - 1, blocks.Q.shape[1]
        self.nest, self.kind, self.n_lam = nest, kind, n_parameters(blocks)
        self.blocks = with_dispersion(blocks, n_levels) if kind == NBINOM else blocks
        self.n_covariances = n_parameters(self.blocks)
        self.nu = float(len(nest.X))
        self.n_units = np.append(np.diff(nest.level_start), len(nest.X)).astype(np.float64)
        self.responses = responses
        self._n_above = _numbers_above(responses if kind == NBINOM else responses[:, :0])
        self._constant = log_constants(kind, responses, nest.trials)
        self._modes = np.zeros((len(responses), *(len(nest.first), nest.Z.shape[1])))
        self._room, self._bounds = room_for(nest, q), np.zeros((2, n_levels), dtype=np.uint64)
        p = nest.X.shape[1]
        of_levels = (n_levels + 1, q)
        n_theta = self.n_covariances + p
        self._shapes = ((), (), (n_theta,), (*of_levels, q), of_levels, (0,), (0, 0))
        self._order_room = np.zeros((len(self.blocks.size), q, 1), dtype=np.int64)

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; without data, the derivative in Psi is that of the rows' weights alone."""
        assert inverse_sigma2 is None  # there is no sigma
        results = np.empty((len(theta), sum(map(math.prod, self._shapes))))
        _evaluate(
            self.kind, self.nest, self._room, self.blocks, self.responses, self._n_above,
            self._modes, self._bounds, self._order_room, replicates, theta, order, with_data,
            results,
        )  # fmt: skip
        results[:, 0] -= 2.0 * self._constant[replicates]
        return points_of(results, self._shapes)


def _numbers_above(responses: Floats) -> Floats:
    """Responses above 0, 1, ... of every replicate: (n_replicates, largest response)."""
    largest = int(responses.max(initial=0.0))
    counts = [np.bincount(y.astype(np.int64), minlength=largest + 1) for y in responses]
    above = [y.size - np.cumsum(one)[:largest] for y, one in zip(responses, counts, strict=True)]
    return np.array(above, dtype=np.float64).reshape(len(responses), largest)


@lean_kernel
def _evaluate(
    kind, nest, room, blocks, responses, n_above, modes, bounds, own_order, replicates, theta,
    order, with_data, results,
):  # fmt: skip
    n_levels, p, q = len(nest.level_start) - 1, nest.X.shape[1], blocks.Q.shape[1]
    n_blocks, n_theta = len(blocks.size), theta.shape[1]
    for point in range(len(replicates)):
        replicate, found = replicates[point], results[point]
        for b in range(n_blocks):
            for i in range(q):
                own_order[b, i, 0] = order[point, b, i]
        tau = set_factors(room, blocks, own_order, theta[point], n_levels)
        predict(nest.X, nest.offset, theta[point, n_theta - p :], room.eta)
        found[:] = 0.0
        room.D[:] = 0.0
        room.K[:] = 0.0
        y, mode = responses[replicate], modes[replicate]
        total = 0.0
        for root in range(nest.level_start[n_levels - 1], nest.level_start[n_levels]):
            lo, hi = bounds[0], bounds[1]
            lo[n_levels - 1], hi[n_levels - 1] = root, root + U(1)
            for level in range(n_levels - 1, 0, -1):
                lo[level - 1] = nest.first[lo[level]]
                hi[level - 1] = nest.end[hi[level] - U(1)]
            total += mode_of_root(kind, nest, room, y, tau, lo, hi, mode)
            if not total < math.inf:
                break
            _differentiate_root(kind, nest, room, y, tau, lo, hi)
            _add_to_coefficients(nest, room, lo, hi, found[2 + n_theta - p : 2 + n_theta])
        if kind == NBINOM:
            rising, slope = log_rising(n_above[replicate], tau)
            total -= 2.0 * rising
            room.D[n_levels, 0, 0, 0] -= 2.0 * slope
        is_there = total < math.inf
        found[0] = total if is_there else math.nan
        found[1] = 1.0 if is_there else math.nan
        _set_gradient(room, blocks, own_order, theta[point], n_levels, found[2:])
        at = 2 + n_theta
        for level in range(n_levels + 1):
            for i in range(q):
                for j in range(q):
                    D, K = room.D[level, i, j, 0], room.K[level, i, j, 0]
                    found[at + (level * q + i) * q + j] = D if with_data else K
                found[at + ((n_levels + 1) * q + level) * q + i] = room.K[level, i, i, 0]


@step
def predict(X, offset, beta, eta):
    """Put the fixed part of all predictors into eta."""
    for row in range(U(len(X))):
        total = offset[row]
        for j in range(U(len(beta))):
            total += X[row, j] * beta[j]
        eta[row] = total


@step
def set_factors(room, blocks, order, theta, n_levels):
    """Put the factors of all levels into room.Lam, and return the dispersion."""
    room.Lam[:] = 0.0
    tau = 0.0
    for b in range(len(blocks.size)):
        first, size, t = blocks.first[b], blocks.size[b], blocks.theta[b]
        if blocks.level[b] == n_levels:
            tau = theta[t] * theta[t]
            continue
        own = theta[t : t + size * (size + 1) // 2].reshape(-1, 1)
        Lam = room.Lam[blocks.level[b]]
        add_factor(Lam, own, order[b], blocks.Q[b], first, size, blocks.is_matrix[b])
    return tau


@step
def _set_gradient(room, blocks, order, theta, n_levels, gradient):
    for b in range(len(blocks.size)):
        first, size, t = blocks.first[b], blocks.size[b], blocks.theta[b]
        level = blocks.level[b]
        if level == n_levels:
            gradient[t] = 2.0 * room.D[level, 0, 0, 0] * theta[t]
            continue
        own = gradient[t : t + size * (size + 1) // 2].reshape(-1, 1)
        Lam, D = room.Lam[level], room.D[level]
        set_gradient_of_block(own, D, Lam, order[b], blocks.Q[b], first, size, blocks.is_matrix[b])


@step
def mode_of_root(kind, nest, room, y, tau, lo, hi, mode):
    """-2 logLik of an outermost unit at the mode of its effects, from and into `mode`.

    Infinite where it overflows at the mode that is there and at zero.
    """
    u, before = room.u, room.u_before
    _copy(nest.column_start, lo, hi, mode, u)
    f_before, length, log_det, is_fresh = math.inf, 1.0, 0.0, False
    f, decrement_before = math.inf, math.inf
    for _ in range(MAX_STEPS):
        spread(nest, room.Lam, lo, hi, u, room.b)
        f = sum_rows(kind, nest, room, y, tau, lo, hi) + _half_squares(nest.column_start, lo, hi, u)
        if not f < math.inf and f_before == math.inf:
            if is_fresh:
                return math.inf
            is_fresh = True
            _combine(nest.column_start, lo, hi, u, 0.0, u, u)
            continue
        if not f <= f_before + RISE * (1.0 + abs(f_before)):
            length *= 0.5
            _combine(nest.column_start, lo, hi, before, length, room.step, u)
            continue
        log_det = eliminate(nest, room, lo, hi)
        decrement = solve(nest, room, lo, hi, room.vector, 1.0, room.step)
        scale = 1.0 + abs(f)
        is_rounding = decrement < LAST_DECREMENT * scale and decrement > 0.1 * decrement_before
        if is_rounding or not decrement > DECREMENT * scale:
            break
        f_before, decrement_before, length = f, decrement, 1.0
        _copy(nest.column_start, lo, hi, u, before)
        _combine(nest.column_start, lo, hi, before, 1.0, room.step, u)
    _copy(nest.column_start, lo, hi, u, mode)
    return 2.0 * f + log_det


@step
def _copy(column_start, lo, hi, source, target):
    for level in range(U(len(lo))):
        for g in range(lo[level], hi[level]):
            for i in range(column_start[level], column_start[level + U(1)]):
                target[g, i] = source[g, i]


@step
def _combine(column_start, lo, hi, start, length, change, target):
    """Put start + length x change into target; zero where start and change are the target."""
    is_zero = 0.0 if length == 0.0 else 1.0
    for level in range(U(len(lo))):
        for g in range(lo[level], hi[level]):
            for i in range(column_start[level], column_start[level + U(1)]):
                target[g, i] = is_zero * (start[g, i] + length * change[g, i])


@step
def _half_squares(column_start, lo, hi, u):
    total = 0.0
    for level in range(U(len(lo))):
        for g in range(lo[level], hi[level]):
            for i in range(column_start[level], column_start[level + U(1)]):
                total += 0.5 * u[g, i] * u[g, i]
    return total


@step
def _differentiate_root(kind, nest, room, y, tau, lo, hi):
    """Add to the derivatives in Psi and in the dispersion; leave those of rows in room.r."""
    k, n_levels = U(nest.Z.shape[1]), U(len(lo))
    covariances(nest, room, lo, hi)
    _add_variances(nest.Z, nest.first, nest.end, nest.is_plain, room, lo[U(0)], hi[U(0)])
    solve(nest, room, lo, hi, room.vector, 0.0, room.step)
    if kind == NBINOM:
        _add_to_dispersion(nest, room, y, tau, lo, hi)
    for g in range(lo[U(0)], hi[U(0)]):
        for i in range(k):
            for j in range(k):
                room.S[g, i] -= room.M[g, i, j] * room.path[g, j]
        moved = along(nest.Z, room.path, nest.first[g], g)
        for row in range(nest.first[g], nest.end[g]):
            if not nest.is_plain:
                moved = along(nest.Z, room.path, row, g)
            room.r[row] = room.w3[row] - 2.0 * room.r[row] - room.w[row] * moved
    for level in range(n_levels):
        for g in range(lo[level], hi[level]):
            if level > U(0):
                gather(room.R, g, nest.first[g], nest.end[g], nest.column_start[level])
                gather(room.S, g, nest.first[g], nest.end[g], nest.column_start[level])
            a, e = nest.column_start[level], nest.column_start[level + U(1)]
            _add_unit(room.R, room.S, room.M, room.C, room.K[level], room.D[level], g, a, e)


@step
def _add_variances(Z, starts, ends, is_plain, room, lo, hi):
    """Put w' q, q the variance of a row's predictor, into room.w3, its sums into room.S."""
    k, C, S, w3 = U(Z.shape[1]), room.C, room.S, room.w3
    for g in range(lo, hi):
        first, total = starts[g], 0.0
        for i in range(k):
            room.R[g, i], S[g, i] = room.vector[g, i], 0.0
        variance = _variance(Z, C, first, g)
        for row in range(first, ends[g]):
            if not is_plain:
                variance = _variance(Z, C, row, g)
            t = w3[row] * variance
            w3[row] = t
            total += t
            if not is_plain:
                for i in range(k):
                    S[g, i] += t * Z[row, i]
        for i in range(k):
            if is_plain:
                S[g, i] = total * Z[first, i]
            room.vector[g, i] = S[g, i]


@step
def _variance(Z, C, row, g):
    """Variance of a row's predictor given the responses."""
    total = 0.0
    for i in range(U(Z.shape[1])):
        for j in range(U(Z.shape[1])):
            total += Z[row, i] * C[g, i, j] * Z[row, j]
    return total


@step
def _add_to_dispersion(nest, room, y, tau, lo, hi):
    """Add a root's rows to the derivative in the dispersion, but for what y and tau alone give."""
    total, weight = 0.0, 0.0
    for g in range(lo[U(0)], hi[U(0)]):
        for row in range(nest.first[g], nest.end[g]):
            eta = room.eta[row] + along(nest.Z, room.b, row, g)
            dl, dr, dw = nbinom_slopes(y[row], eta, tau)
            variance = _variance(nest.Z, room.C, row, g)
            moved = along(nest.Z, room.path, row, g)
            total += variance * dw - 2.0 * dl + moved * dr
            weight += room.w[row]
    room.D[len(lo), 0, 0, 0] += total
    room.K[len(lo), 0, 0, 0] += weight


@step
def _add_unit(R, S, M, C, of_design, of_data, g, a, e):
    """Add a unit, whose columns are a to e, to the derivatives in Psi of its level."""
    k = U(M.shape[1])
    for i in range(a, e):
        for j in range(a, i + U(1)):
            K = M[g, i, j]
            for m in range(a, k):
                weight = 0.0
                for n in range(a, k):
                    weight += C[g, m, n] * M[g, n, j]
                K -= M[g, i, m] * weight
            change = K - R[g, i] * R[g, j] + 0.5 * (R[g, i] * S[g, j] + S[g, i] * R[g, j])
            of_design[i - a, j - a, U(0)] += K
            of_data[i - a, j - a, U(0)] += change
            if i != j:
                of_design[j - a, i - a, U(0)] += K
                of_data[j - a, i - a, U(0)] += change


@step
def _add_to_coefficients(nest, room, lo, hi, gradient):
    """Add a root's rows to the derivatives in the coefficients."""
    p, X, r = U(nest.X.shape[1]), nest.X, room.r
    for row in range(nest.first[lo[U(0)]], nest.end[hi[U(0)] - U(1)]):
        for j in range(p):
            gradient[j] += X[row, j] * r[row]
