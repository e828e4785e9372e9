"""The Laplace approximation of -2 logLik where units cross; likelihood.py has its formulas."""

import math

import numpy as np

from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.families.kinds import U
from mcsim.engine.laplace.crossed_derivatives import differentiate, set_information
from mcsim.engine.laplace.crossed_elimination import (
    along_rows,
    eliminate,
    log_determinant,
    solve,
    sum_columns,
    sum_rows,
)
from mcsim.engine.laplace.crossing import Cross, room_for_cross
from mcsim.engine.laplace.derivatives import add_to_coefficients
from mcsim.engine.laplace.elimination import copy
from mcsim.engine.laplace.likelihood import (
    DECREMENT,
    LAST_DECREMENT,
    MAX_STEPS,
    RISE,
    LaplaceLikelihood,
    finish,
    prepare,
)
from mcsim.engine.laplace.nest import Nest


class CrossedLaplaceLikelihood(LaplaceLikelihood):
    """The approximated likelihood of random effects that cross."""

    def _make_room(self, nest: Nest | Cross, q: int) -> None:
        assert isinstance(nest, Cross)
        self._room, self._evaluate = room_for_cross(nest, q), _evaluate
        self._modes = np.zeros((len(self.responses), len(self._room.u)))


@lean_kernel
def _evaluate(
    kind, cross, room, blocks, responses, n_above, modes, own_order, replicates, theta, order,
    with_data, results,
):  # fmt: skip
    p, n_theta = U(len(cross.X)), U(theta.shape[1])
    for point in range(len(replicates)):
        replicate, found = replicates[point], results[point]
        y = responses[replicate]
        tau = prepare(cross, room, blocks, own_order, theta[point], order[point])
        total = _mode_of(kind, cross, room, y, tau, modes[replicate])
        found[:] = 0.0
        room.D[:] = 0.0
        room.K[:] = 0.0
        if total < math.inf:
            differentiate(kind, cross, room, y, tau)
            own = found[U(2) + n_theta - p : U(2) + n_theta]
            add_to_coefficients(cross.X, room.moved, 1.0, own)
            if not with_data:
                set_information(cross, room, found[U(len(found)) - p * p :])
        finish(
            kind, room, blocks, own_order, n_above[replicate], y, tau, theta[point],
            total if total < math.inf else math.nan, with_data, found,
        )  # fmt: skip


@step
def _mode_of(kind, cross, room, y, tau, mode):
    """As for units that nest."""
    copy(room.u, mode)
    _spread(cross, room)
    f, f_before, decrement_before, length = 0.0, math.inf, math.inf, 1.0
    scale = float(len(y))
    for _ in range(MAX_STEPS):
        f = sum_rows(kind, cross, room, y, tau)
        for i in range(U(len(room.u))):
            f += 0.5 * room.u[i] * room.u[i]
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
        eliminate(cross, room)
        decrement = solve(cross, room, room.vector, 1.0, room.step)
        copy(room.u_before, room.u)
        copy(room.b_before, room.b)
        is_rounding = decrement < LAST_DECREMENT * scale and decrement > 0.1 * decrement_before
        if is_rounding or not decrement > DECREMENT * scale:
            _go_last_step(cross, room)
            break
        f_before, decrement_before, length = f, decrement, 1.0
        _go(room, length)
    copy(mode, room.u)
    return 2.0 * f + log_determinant(room)


@step
def _spread(cross, room):
    """B = Lam u of all units."""
    q, Lam = U(room.G.shape[1]), room.Lam
    n_inner = U(len(room.G)) * q
    for s in range(U(len(room.G))):
        for i in range(q):
            room.b[s * q + i] = 0.0
            for j in range(q):
                room.b[s * q + i] += Lam[cross.inner, i, j, 0] * room.u[s * q + j]
    for unit in range(U(len(cross.outer_level))):
        a, n = n_inner + cross.outer[unit], cross.outer[unit + U(1)] - cross.outer[unit]
        for i in range(n):
            room.b[a + i] = 0.0
            for j in range(n):
                room.b[a + i] += Lam[cross.outer_level[unit], i, j, 0] * room.u[a + j]


@step
def _go(room, length):
    """Go so much of a step from where the last one began."""
    for i in range(U(len(room.u))):
        room.u[i] = room.u_before[i] + length * room.step[i]
        room.b[i] = room.b_before[i] + length * room.path[i]


@step
def _go_last_step(cross, room):
    """Go a step that changes the sums of large counts alone, and these by little."""
    _go(room, 1.0)
    room.moved[:] = 0.0
    along_rows(cross, room.path, room.moved)
    for row in range(U(len(room.r))):
        room.r[row] -= room.w[row] * room.moved[row]
    sum_columns(cross, room.r, room.R)
