"""The optimum of every replicate: a search that asks for one evaluation at a time.

The problem is minimisation of -2 logLik over positive semi-definite Psi = Lam Lam'. From the start
(start.py), BFGS in Lam comes near; small pivots are set to zero where that costs nothing; Newton
steps with the Hessian finish; then the first-order conditions in Psi are checked. Where D has a
negative eigenvalue the point is a false zero: step along its eigenvector and go on.

Several replicates are in work at a time, one per lane. Each function `_after_...` takes what was
found at a lane's trial point and sets its next one; no lane sees another.
"""

import numpy as np

from mcsim.engine.blocks import (
    active_entries,
    covariance,
    entry,
    put_largest_pivots_first,
    set_block,
)
from mcsim.engine.certificate import CERTIFICATE_TOLERANCE, violation_of
from mcsim.engine.compiled import kernel
from mcsim.engine.likelihood import evaluate
from mcsim.engine.matrices import semidefinite_factor, solve_factored
from mcsim.engine.search import Status
from mcsim.engine.start import START, minque

PREDICTED_DECREASE = 1e-10  # in -2 logLik, where BFGS hands over to Newton
NEWTON_DECREASE = 1e-16  # in -2 logLik, where Newton stops
SNAP_PIVOT = 0.05  # pivots below this are tried at zero ...
SNAP_COST = 1e-9  # ... and stay there where -2 logLik rises by no more than this
JUMP_COST = 1e-2  # the same where BFGS cannot finish
MAX_EVALUATIONS = 1000
MAX_ROUNDS = 20
SHORTEST_STEP = 1e-10  # of an escape or a line search, relative to the first
MAX_NEWTON_STEPS = 12
ROUNDING = 1e-13  # of -2 logLik, relative
HESSIAN_STEP = 1e-5  # of Lam in columns of unit scale; error about 1e-9 relative

# what the evaluation that comes next is for
PROBE, BEGIN, RESTART, DESCENT, SNAP, CHECK, HESSIAN, NEWTON, FINISH, ESCAPE = range(10)
OK, BOUNDARY, NOT_CONVERGED, FAILED = (int(status) for status in Status)  # compiled code wants ints


@kernel
def fit_lanes(tree, moments, probes, ws, s, fits):  # type: ignore[no-untyped-def]
    """Fit every replicate into `fits`; or evaluate each at its row of `probes`, where there are."""
    n_replicates, n_next = len(fits.f), 0
    n_busy = 1
    while n_busy > 0:
        n_busy = 0
        for lane in range(tree.width):
            if s.replicate[lane] < 0 and n_next < n_replicates:
                _load(tree, moments, ws, s, lane, n_next)
                if len(probes) > 0:
                    s.phase[lane], s.trial[lane] = PROBE, probes[n_next]
                n_next += 1
            if s.replicate[lane] >= 0:
                n_busy += 1
                for t in range(s.trial.shape[1]):
                    ws.theta[t, lane] = s.trial[lane, t]
        if n_busy > 0:
            evaluate(tree, ws)
        for lane in range(tree.width):
            if s.replicate[lane] >= 0:
                s.evaluations[lane] += 1
                _advance(tree, ws, s, fits, lane)


@kernel
def _load(tree, moments, ws, s, lane, r):  # type: ignore[no-untyped-def]
    """Begin replicate r in a lane."""
    width = tree.width
    k = ws.S.shape[0]
    ws.rss[lane] = moments.rss[r]
    ws.with_data[lane] = 1.0
    for i in range(k):
        for j in range(k):
            for c in range(moments.S.shape[3]):
                ws.S[i, j, c * width + lane] = moments.S[r, i, j, c]
        for c in range(moments.link_t.shape[2]):
            ws.link_t[i, c * width + lane] = moments.link_t[r, i, c]
        for c in range(moments.root_t.shape[2]):
            ws.root_t[i, c * width + lane] = moments.root_t[r, i, c]
    for b in range(ws.order.shape[0]):
        for i in range(ws.order.shape[1]):
            ws.order[b, i, lane] = i
    _set_plain_start(tree, s, lane)
    s.replicate[lane], s.phase[lane] = r, BEGIN
    s.evaluations[lane], s.n_rounds[lane], s.n_newton[lane] = 0, 0, 0
    s.snap_cost[lane] = SNAP_COST
    s.H[lane] = 0.0


@kernel
def _set_plain_start(tree, s, lane):  # type: ignore[no-untyped-def]
    blocks = tree.blocks
    s.trial[lane] = 0.0
    for b in range(len(blocks.size)):
        for j in range(blocks.size[b]):
            s.trial[lane, entry(blocks, b, j, j)] = START


@kernel
def _advance(tree, ws, s, fits, lane):  # type: ignore[no-untyped-def]
    """Take the evaluation of a lane to where it was asked for."""
    phase = s.phase[lane]
    if phase == DESCENT:
        _after_descent(tree, ws, s, lane)
    elif phase == HESSIAN:
        _after_hessian(tree, ws, s, lane)
    elif phase == NEWTON:
        _after_newton(tree, ws, s, lane)
    elif phase == CHECK or phase == FINISH:  # noqa: PLR1714 - numba makes no sets
        _after_check(tree, ws, s, fits, lane)
    elif phase == SNAP:
        _after_snap(tree, ws, s, lane)
    elif phase == ESCAPE:
        _after_escape(tree, ws, s, fits, lane)
    elif phase == PROBE:
        _accept(ws, s, lane)
        _finish(ws, s, fits, lane, OK, 0.0)
    elif not (ws.r2[lane] > 0.0 and np.isfinite(ws.f[lane])):
        if phase == BEGIN or s.evaluations[lane] > MAX_ROUNDS:
            _accept(ws, s, lane)
            _finish(ws, s, fits, lane, FAILED, np.nan)
        else:  # the start was outside of what can be evaluated
            _set_plain_start(tree, s, lane)
    elif phase == BEGIN:
        _accept(ws, s, lane)
        minque(tree, ws.order[:, :, lane], s.D[lane], s.r2[lane], s.trial[lane])
        s.phase[lane] = RESTART
    else:
        _accept(ws, s, lane)
        _begin_descent(tree, ws, s, lane)


@kernel
def _accept(ws, s, lane):  # type: ignore[no-untyped-def]
    """Make the trial point the best one."""
    s.f[lane], s.r2[lane] = ws.f[lane], ws.r2[lane]
    for t in range(s.theta.shape[1]):
        s.theta[lane, t] = s.trial[lane, t]
        s.gradient[lane, t] = ws.gradient[t, lane]
    for level in range(s.D.shape[1]):
        for i in range(s.D.shape[2]):
            s.scale[lane, level, i] = ws.scale[level, i, lane]
            for j in range(s.D.shape[3]):
                s.D[lane, level, i, j] = ws.D[level, i, j, lane]
    for i in range(s.beta.shape[1]):
        s.beta[lane, i] = ws.beta[i, lane]
        for j in range(s.beta.shape[1]):
            s.T_inverse[lane, i, j] = ws.T_inverse[i, j, lane]


@kernel
def _is_out_of_budget(s, lane):  # type: ignore[no-untyped-def]
    return s.evaluations[lane] >= MAX_EVALUATIONS


@kernel
def _begin_descent(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Start BFGS with the curvature of independent effects."""
    blocks = tree.blocks
    s.inverse[lane] = 0.0
    for b in range(len(blocks.size)):
        level, first = blocks.level[b], blocks.first[b]
        for j in range(blocks.size[b]):
            for i in range(j, blocks.size[b]):
                t = entry(blocks, b, i, j)
                curvature = 0.0
                if blocks.is_matrix[b]:
                    curvature = s.scale[lane, level, first + ws.order[b, i, lane]]
                else:
                    for m in range(s.scale.shape[2]):
                        curvature += blocks.Q[b, m, m] * s.scale[lane, level, m]
                s.inverse[lane, t, t] = 1.0 / (2.0 * max(curvature, 1e-8))
    _next_descent(tree, ws, s, lane)


@kernel
def _next_descent(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Next step of BFGS; stops where little is left to gain."""
    step, inverse, g = s.step[lane], s.inverse[lane], s.gradient[lane]
    slope, longest = 0.0, 0.0
    for i in range(len(step)):
        step[i] = 0.0
        for j in range(len(step)):
            step[i] -= inverse[i, j] * g[j]
        slope += step[i] * g[i]
        longest = max(longest, abs(step[i]))
    s.slope[lane] = slope
    if slope >= 0.0 or -0.5 * slope < PREDICTED_DECREASE or _is_out_of_budget(s, lane):
        _begin_snap(tree, ws, s, lane)
        return
    s.length[lane] = min(1.0, 2.0 / longest)
    s.phase[lane] = DESCENT
    s.trial[lane] = s.theta[lane] + s.length[lane] * step


@kernel
def _after_descent(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    f_trial, length, slope = ws.f[lane], s.length[lane], s.slope[lane]
    if ws.r2[lane] > 0.0 and f_trial <= s.f[lane] + 1e-4 * length * slope:
        _update_inverse(ws, s, lane)
        _accept(ws, s, lane)
        _next_descent(tree, ws, s, lane)
        return
    if length < SHORTEST_STEP or _is_out_of_budget(s, lane):
        _begin_snap(tree, ws, s, lane)
        return
    curvature = f_trial - s.f[lane] - length * slope
    shrink = -0.5 * length * slope / curvature if curvature > 0.0 else 0.25
    s.length[lane] = length * min(max(shrink, 0.1), 0.5)
    s.trial[lane] = s.theta[lane] + s.length[lane] * s.step[lane]


@kernel
def _update_inverse(ws, s, lane):  # type: ignore[no-untyped-def]
    """BFGS update of the inverse Hessian with the step to the trial point."""
    n = s.theta.shape[1]
    inverse = s.inverse[lane]
    d, y, Hy = np.empty(n), np.empty(n), np.zeros(n)
    dy, dd, yy, yHy = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        d[i] = s.trial[lane, i] - s.theta[lane, i]
        y[i] = ws.gradient[i, lane] - s.gradient[lane, i]
        dy += d[i] * y[i]
        dd += d[i] * d[i]
        yy += y[i] * y[i]
    if dy <= 1e-10 * np.sqrt(dd * yy):
        return
    for i in range(n):
        for j in range(n):
            Hy[i] += inverse[i, j] * y[j]
        yHy += y[i] * Hy[i]
    factor = (1.0 + yHy / dy) / dy
    for i in range(n):
        for j in range(n):
            inverse[i, j] += factor * d[i] * d[j] - (Hy[i] * d[j] + d[i] * Hy[j]) / dy


@kernel
def _begin_snap(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Make pivots non-negative, which changes signs only, and look for small ones."""
    blocks = tree.blocks
    for b in range(len(blocks.size)):
        for j in range(blocks.size[b]):
            if s.theta[lane, entry(blocks, b, j, j)] < 0.0:
                for i in range(j, blocks.size[b]):
                    t = entry(blocks, b, i, j)
                    s.theta[lane, t] = -s.theta[lane, t]
                    s.gradient[lane, t] = -s.gradient[lane, t]
    s.position[lane] = -1
    _next_snap(tree, ws, s, lane)


@kernel
def _next_snap(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Try the next small pivot at zero; a block's last pivot comes first."""
    blocks, position = tree.blocks, -1
    for b in range(len(blocks.size)):
        for j in range(blocks.size[b] - 1, -1, -1):
            position += 1
            pivot = s.theta[lane, entry(blocks, b, j, j)]
            if position > s.position[lane] and 0.0 < pivot < SNAP_PIVOT:
                s.position[lane], s.phase[lane] = position, SNAP
                held = np.zeros(blocks.size[b], dtype=np.bool_)
                for i in range(blocks.size[b]):
                    held[i] = i == j or s.theta[lane, entry(blocks, b, i, i)] == 0.0
                s.trial[lane] = s.theta[lane]
                order = ws.order[:, :, lane]
                Psi = covariance(blocks, order, s.theta[lane], b)
                set_block(blocks, order, s.trial[lane], b, Psi, held)
                return
    if np.all(active_entries(blocks, s.theta[lane])):
        _begin_hessian(tree, ws, s, lane)
    else:
        _begin_check(ws, s, lane, CHECK)


@kernel
def _after_snap(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    if ws.r2[lane] > 0.0 and ws.f[lane] <= s.f[lane] + s.snap_cost[lane]:
        _accept(ws, s, lane)
    _next_snap(tree, ws, s, lane)


@kernel
def _begin_hessian(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Second derivatives of -2 logLik, by central differences of the gradient."""
    s.H[lane] = 0.0
    s.position[lane] = -1
    s.phase[lane] = HESSIAN
    _next_difference(tree, ws, s, lane)


@kernel
def _next_difference(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Next point of a difference; position counts the parameters twice, once for each side."""
    n = s.theta.shape[1]
    active = active_entries(tree.blocks, s.theta[lane])
    s.position[lane] += 1
    while s.position[lane] < 2 * n and not active[s.position[lane] // 2]:
        s.position[lane] += 2
    if s.position[lane] >= 2 * n:
        H = s.H[lane]
        for i in range(n):
            for j in range(i):
                H[i, j] = 0.5 * (H[i, j] + H[j, i])
                H[j, i] = H[i, j]
        _next_newton(tree, ws, s, lane)
        return
    t, side = s.position[lane] // 2, 1.0 - 2.0 * (s.position[lane] % 2)
    s.trial[lane] = s.theta[lane]
    s.trial[lane, t] += side * HESSIAN_STEP * max(1.0, abs(s.theta[lane, t]))


@kernel
def _after_hessian(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    t = s.position[lane] // 2
    change = 2.0 * (s.trial[lane, t] - s.theta[lane, t])
    for i in range(s.theta.shape[1]):
        s.H[lane, i, t] += ws.gradient[i, lane] / change
    _next_difference(tree, ws, s, lane)


@kernel
def _next_newton(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Newton step among the active parameters; none where the Hessian is not positive definite."""
    active = np.flatnonzero(active_entries(tree.blocks, s.theta[lane]))
    m = len(active)
    H, g = np.zeros((m, m)), np.zeros(m)
    for i in range(m):
        g[i] = s.gradient[lane, active[i]]
        for j in range(m):
            H[i, j] = s.H[lane, active[i], active[j]]
    L = semidefinite_factor(H, np.zeros(m, dtype=np.bool_))
    is_positive = True
    for i in range(m):
        is_positive = is_positive and L[i, i] > 0.0
    s.slope[lane] = 0.0
    if is_positive:
        solution = solve_factored(L, g)
        s.trial[lane] = s.theta[lane]
        for i in range(m):
            s.trial[lane, active[i]] -= solution[i]
            s.slope[lane] -= g[i] * solution[i]
    is_done = -0.5 * s.slope[lane] < NEWTON_DECREASE or s.n_newton[lane] >= MAX_NEWTON_STEPS
    if is_done or _is_out_of_budget(s, lane):
        _begin_check(ws, s, lane, FINISH)
    else:
        s.phase[lane] = NEWTON


@kernel
def _after_newton(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    if not (ws.r2[lane] > 0.0 and ws.f[lane] <= s.f[lane] + ROUNDING * abs(s.f[lane])):
        _begin_check(ws, s, lane, FINISH)
        return
    _accept(ws, s, lane)
    s.n_newton[lane] += 1
    if -0.5 * s.slope[lane] > PREDICTED_DECREASE:
        _begin_hessian(tree, ws, s, lane)  # it has moved too far for the old one
    else:
        _next_newton(tree, ws, s, lane)


@kernel
def _begin_check(ws, s, lane, phase):  # type: ignore[no-untyped-def]
    """Ask for the metric of the first-order conditions at the accepted point."""
    s.phase[lane] = phase
    s.trial[lane] = s.theta[lane]
    ws.with_data[lane] = 0.0


@kernel
def _after_check(tree, ws, s, fits, lane):  # type: ignore[no-untyped-def]
    """Finish with a certificate, or go on from where it failed."""
    ws.with_data[lane] = 1.0
    r = s.replicate[lane]
    N = fits.N[r]
    for level in range(N.shape[0]):
        for i in range(N.shape[1]):
            for j in range(N.shape[1]):
                N[level, i, j] = ws.D[level, i, j, lane]
    order = ws.order[:, :, lane]
    violation, lowest, block = violation_of(
        tree, order, s.theta[lane], s.D[lane], N, s.direction[lane]
    )
    if s.phase[lane] == CHECK and lowest == 0.0:
        _begin_hessian(tree, ws, s, lane)
        return
    s.n_rounds[lane] += s.phase[lane] == FINISH
    if violation <= CERTIFICATE_TOLERANCE:
        is_inside = np.all(active_entries(tree.blocks, s.theta[lane]))
        _finish(ws, s, fits, lane, OK if is_inside else BOUNDARY, violation)
    elif _is_out_of_budget(s, lane) or s.n_rounds[lane] >= MAX_ROUNDS:
        _finish(ws, s, fits, lane, NOT_CONVERGED, violation)
    elif lowest < 0.0:
        n_units = 0.0
        level = tree.blocks.level[block]
        for c in range(tree.level_start[level], tree.level_start[level + 1]):
            n_units += tree.n_units[c * tree.width]
        s.block[lane], s.phase[lane] = block, ESCAPE
        s.snap_cost[lane] = SNAP_COST
        s.length[lane] = -lowest * n_units  # the optimum, were this the only effect
        s.position[lane] = 0
        _try_escape(tree, ws, s, lane)
    else:
        s.snap_cost[lane] = JUMP_COST
        _restart_in_order(tree, ws, s, lane)


@kernel
def _restart_in_order(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Begin BFGS again with the largest pivots first."""
    order = ws.order[:, :, lane]
    s.phase[lane], s.n_newton[lane] = RESTART, 0
    for b in range(len(tree.blocks.size)):
        Psi = covariance(tree.blocks, order, s.theta[lane], b)
        put_largest_pivots_first(tree.blocks, order, b, Psi)
        held = np.zeros(len(Psi), dtype=np.bool_)
        set_block(tree.blocks, order, s.trial[lane], b, Psi, held)


@kernel
def _try_escape(tree, ws, s, lane):  # type: ignore[no-untyped-def]
    """Leave a false zero: add a multiple of the direction's square to Psi."""
    b = s.block[lane]
    order = ws.order[:, :, lane]
    held = np.zeros(tree.blocks.size[b], dtype=np.bool_)
    Psi = covariance(tree.blocks, order, s.theta[lane], b)
    there = Psi.copy()
    for i in range(len(Psi)):
        for j in range(len(Psi)):
            there[i, j] += s.length[lane] * s.direction[lane, i] * s.direction[lane, j]
    put_largest_pivots_first(tree.blocks, order, b, there)
    set_block(tree.blocks, order, s.theta[lane], b, Psi, held)
    s.trial[lane] = s.theta[lane]
    set_block(tree.blocks, order, s.trial[lane], b, there, held)


@kernel
def _after_escape(tree, ws, s, fits, lane):  # type: ignore[no-untyped-def]
    if ws.r2[lane] > 0.0 and ws.f[lane] < s.f[lane]:
        _accept(ws, s, lane)
        s.n_newton[lane] = 0
        _begin_descent(tree, ws, s, lane)
        return
    s.length[lane] *= 0.25
    s.position[lane] += 1
    if 0.25 ** s.position[lane] < SHORTEST_STEP or _is_out_of_budget(s, lane):
        violation, _, _ = violation_of(
            tree, ws.order[:, :, lane], s.theta[lane], s.D[lane],
            fits.N[s.replicate[lane]], s.direction[lane],
        )  # fmt: skip
        _finish(ws, s, fits, lane, NOT_CONVERGED, violation)
        return
    _try_escape(tree, ws, s, lane)


@kernel
def _finish(ws, s, fits, lane, status, violation):  # type: ignore[no-untyped-def]
    """Hand the accepted point over and free the lane."""
    r = s.replicate[lane]
    fits.theta[r], fits.gradient[r], fits.H[r] = s.theta[lane], s.gradient[lane], s.H[lane]
    fits.order[r] = ws.order[:, :, lane]
    fits.f[r], fits.r2[r], fits.violation[r] = s.f[lane], s.r2[lane], violation
    fits.status[r], fits.evaluations[r] = status, s.evaluations[lane]
    fits.D[r], fits.beta[r], fits.T_inverse[r] = s.D[lane], s.beta[lane], s.T_inverse[lane]
    s.replicate[lane] = -1
