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
from collections.abc import Callable

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.blocks import Blocks, n_parameters
from mcsim.engine.families.kinds import NBINOM, POISSON, U, log_constants
from mcsim.engine.families.nbinom import DIRECT, log_rising
from mcsim.engine.laplace.crossing import Cross, CrossRoom
from mcsim.engine.laplace.derivatives import add_to_coefficients, differentiate, set_information
from mcsim.engine.laplace.elimination import (
    along_rows,
    copy,
    copy_all,
    eliminate,
    log_determinant,
    solve,
    spread,
    sum_columns,
    sum_rows,
)
from mcsim.engine.laplace.nest import Nest, Room, room_for, with_dispersion
from mcsim.engine.likelihood import ROUNDING, Likelihood, Points, points_of
from mcsim.engine.nested.steps import add_factor, set_gradient_of_block

MAX_STEPS = 200  # of Newton towards the mode of a root's effects
DECREMENT = 1e-22  # of f, per row: log|H| follows the mode to the root of this
LAST_DECREMENT = 1e-16  # per row, below which it is rounding where it no longer becomes a tenth
OWN_DIGITS = 10.0  # ROUNDING is so much more than that of one number
RISE = 1e-11  # of f, relative: more is no rounding


class LaplaceLikelihood(Likelihood):
    """The approximated likelihood of some replicates; theta ends with the fixed effects.

    Parameters of Lam come first, in blocks, then the root of a negative binomial's dispersion (a
    block of its own), then the coefficients of X~.
    """

    def __init__(self, nest: Nest | Cross, blocks: Blocks, kind: int, responses: Floats) -> None:
        n_levels, q = len(nest.level_start) - 1, blocks.Q.shape[1]
        self.nest, self.kind, self.n_lam = nest, kind, n_parameters(blocks)
        self.blocks = with_dispersion(blocks, n_levels) if kind == NBINOM else blocks
        self.n_covariances = n_parameters(self.blocks)
        p, n_rows = nest.X.shape
        self.nu = float(n_rows)
        self.n_units = np.append(np.diff(nest.level_start), n_rows).astype(np.float64)
        self.responses = responses
        self._n_above = _numbers_above(responses if kind == NBINOM else responses[:, :0])
        self._constant = log_constants(kind, responses, nest.trials)
        self._size = self.nu + _size_of_terms(kind, responses, nest.trials)
        self._make_room(nest, q)
        of_levels = (n_levels + 1, q)
        n_theta = self.n_covariances + p
        self._shapes = ((), (), (n_theta,), (*of_levels, q), of_levels, (0,), (p, p))
        self._order_room = np.zeros((len(self.blocks.size), q, 1), dtype=np.int64)

    def _make_room(self, nest: Nest | Cross, q: int) -> None:
        assert isinstance(nest, Nest)
        self._modes = np.zeros((len(self.responses), len(nest.column), len(nest.first)))
        self._room: Room | CrossRoom = room_for(nest, q)
        self._evaluate: Callable[..., None] = _evaluate

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; without data, the derivative in Psi is that of the rows' weights alone, and
        X'V^-1X, V = W^-1 + Z Psi Z', stands where its inverse does of normal responses.
        """
        assert inverse_sigma2 is None  # there is no sigma
        results = np.empty((len(theta), sum(map(math.prod, self._shapes))))
        self._evaluate(
            self.kind, self.nest, self._room, self.blocks, self.responses, self._n_above,
            self._modes, self._order_room, replicates, theta, order, with_data,
            results,
        )  # fmt: skip
        results[:, 0] -= 2.0 * self._constant[replicates]
        return points_of(results, self._shapes)

    def rounding(self, f: Floats, replicates: Ints) -> Floats:
        """Of terms that are larger than their sum."""
        return np.asarray(ROUNDING * (np.abs(f) + self._size[replicates]))


def _size_of_terms(kind: int, responses: Floats, trials: Floats) -> Floats:
    """Of all rows of every replicate, as far as the last digits of -2 logLik depend on it."""
    if kind in (POISSON, NBINOM):
        return np.asarray((responses * np.log1p(responses)).sum(axis=1)) / OWN_DIGITS
    return np.full(len(responses), trials.sum() / OWN_DIGITS)


def _numbers_above(responses: Floats) -> Floats:
    """Responses above 0, 1, ... of every replicate: (n_replicates, DIRECT or less)."""
    largest = int(min(responses.max(initial=0.0), DIRECT))
    above = [(responses > j).sum(axis=1) for j in range(largest)]
    return np.array(above, dtype=np.float64).reshape(largest, len(responses)).T.copy()


@lean_kernel
def _evaluate(
    kind, nest, room, blocks, responses, n_above, modes, own_order, replicates, theta, order,
    with_data, results,
):  # fmt: skip
    p, n_theta = U(len(nest.X)), U(theta.shape[1])
    for point in range(len(replicates)):
        replicate, found = replicates[point], results[point]
        y = responses[replicate]
        tau = prepare(nest, room, blocks, own_order, theta[point], order[point])
        total = mode_of(kind, nest, room, y, tau, modes[replicate])
        found[:] = 0.0
        room.D[:] = 0.0
        room.K[:] = 0.0
        is_there = total < math.inf
        if is_there:
            differentiate(kind, nest, room, y, tau)
            add_to_coefficients(nest.X, room.moved, 1.0, found[U(2) + n_theta - p : U(2) + n_theta])
            if not with_data:
                set_information(nest, room, found[U(len(found)) - p * p :])
        finish(
            kind, room, blocks, own_order, n_above[replicate], y, tau, theta[point],
            total if is_there else math.nan, with_data, found,
        )  # fmt: skip


@step
def finish(
    kind, room, blocks, own_order, n_above, y, tau, theta, total, with_data, found
):  # fmt: skip
    """What is found of a point, from its derivatives in Psi and in the dispersion."""
    n_levels, q, n_theta = len(room.Lam), blocks.Q.shape[1], len(theta)
    if kind == NBINOM:
        rising, slope = log_rising(n_above, y, tau)
        total -= 2.0 * rising
        room.D[n_levels, 0, 0, 0] -= 2.0 * slope
    found[0] = total
    found[1] = 1.0 if total < math.inf else math.nan
    _set_gradient(room, blocks, own_order, theta, n_levels, found[2:])
    at = 2 + n_theta
    for level in range(n_levels + 1):
        for i in range(q):
            for j in range(q):
                D, K = room.D[level, i, j, 0], room.K[level, i, j, 0]
                found[at + (level * q + i) * q + j] = D if with_data else K
            found[at + ((n_levels + 1) * q + level) * q + i] = room.K[level, i, i, 0]


@step
def prepare(nest, room, blocks, own_order, theta, order):
    """Put factors and the fixed part of a point into `room`, and return the dispersion."""
    for b in range(len(blocks.size)):
        for i in range(order.shape[1]):
            own_order[b, i, 0] = order[b, i]
    copy(room.fixed, nest.offset)
    p = U(len(nest.X))
    for j in range(p):
        X, beta = nest.X[j], theta[U(len(theta)) - p + j]
        for row in range(U(len(X))):
            room.fixed[row] += beta * X[row]
    return _set_factors(room, blocks, own_order, theta, len(nest.level_start) - 1)


@step
def _set_factors(room, blocks, order, theta, n_levels):
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
def mode_of(kind, nest, room, y, tau, mode):
    """-2 logLik at the mode of the effects, from and into `mode`.

    Infinite where it overflows at the mode that is there and at zero.
    """
    copy_all(room.u, mode)
    spread(nest, room.Lam, room.u, room.b)
    f, f_before, decrement_before, length = 0.0, math.inf, math.inf, 1.0
    scale = float(len(y))  # not |f|, which terms of y alone make as large as they like
    for _ in range(MAX_STEPS):
        f = sum_rows(kind, nest, room, y, tau) + _half_squares(nest, room.u)
        if not f < math.inf and f_before == math.inf:
            if decrement_before < 0.0:
                return math.inf
            decrement_before = -math.inf  # a second time
            room.u[:] = 0.0
            room.b[:] = 0.0
            continue
        if not f <= f_before + RISE * (1.0 + abs(f_before)):
            length *= 0.5
            _go(room, length)
            continue
        eliminate(nest, room)
        decrement = solve(nest, room, room.vector, 1.0, room.step)
        is_rounding = decrement < LAST_DECREMENT * scale and decrement > 0.1 * decrement_before
        if is_rounding or not decrement > DECREMENT * scale:
            _go_last_step(nest, room)
            break
        f_before, decrement_before, length = f, decrement, 1.0
        copy_all(room.u_before, room.u)
        copy_all(room.b_before, room.b)
        _go(room, length)
    copy_all(mode, room.u)
    return 2.0 * f + log_determinant(nest, room.F)


@step
def _go_last_step(nest, room):
    """Go a step that changes all but the sums of large counts by nothing, and these by little."""
    copy_all(room.u_before, room.u)
    copy_all(room.b_before, room.b)
    _go(room, 1.0)
    room.moved[:] = 0.0
    along_rows(nest, room.path, room.of_basis, room.moved)
    for row in range(U(len(room.r))):
        room.r[row] -= room.w[row] * room.moved[row]
    sum_columns(nest, room.r, room.of_basis, room.R)


@step
def _go(room, length):
    """Go so much of a step from where the last one began."""
    for i in range(U(len(room.u))):
        _add(room.u[i], room.u_before[i], length, room.step[i])
        _add(room.b[i], room.b_before[i], length, room.path[i])


@step
def _add(out, start, length, step):
    for g in range(U(len(out))):
        out[g] = start[g] + length * step[g]


@step
def _half_squares(nest, u):
    total = 0.0
    for level in range(U(len(nest.level_start) - 1)):
        for i in range(nest.column_start[level], nest.column_start[level + U(1)]):
            for g in range(nest.level_start[level], nest.level_start[level + U(1)]):
                total += 0.5 * u[i, g] * u[i, g]
    return total
