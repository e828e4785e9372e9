"""The optimum of one replicate.

The problem is minimisation of -2 logLik over positive semi-definite Psi = Lam Lam'. BFGS in Lam
comes near; small pivots are set to zero where that costs nothing; Newton steps with the exact
Hessian finish; then the first-order conditions in Psi are checked. Where D has a negative
eigenvalue the point is a false zero: step along its eigenvector and go on.
"""

from enum import IntEnum

import numpy as np

from mcsim.engine.certificate import CERTIFICATE_TOLERANCE, violation_of
from mcsim.engine.compiled import kernel
from mcsim.engine.kernels import deviance, gradient, hessian
from mcsim.engine.matrices import semidefinite_factor, solve_factored, times_transpose

START = 0.5  # relative SD of every random effect, in columns of unit scale
PREDICTED_DECREASE = 1e-10  # in -2 logLik, where BFGS hands over to Newton
NEWTON_DECREASE = 1e-18  # in -2 logLik, where Newton stops
SNAP_PIVOT = 0.05  # pivots below this are tried at zero ...
SNAP_COST = 1e-9  # ... and stay there where -2 logLik rises by no more than this
JUMP_COST = 1e-2  # the same where BFGS cannot finish
MAX_EVALUATIONS = 1000
MAX_ROUNDS = 20
ESCAPE_STEP = 0.25  # first length of the step in Psi, then its quarters
MAX_ESCAPE_STEPS = 40
MAX_NEWTON_STEPS = 12
ROUNDING = 1e-13  # of -2 logLik, relative


class Status(IntEnum):
    """How a fit ended; `NOT_CONVERGED` and `FAILED` are not usable."""

    OK = 0
    BOUNDARY = 1
    NOT_CONVERGED = 2
    FAILED = 3


OK, BOUNDARY, NOT_CONVERGED, FAILED = (int(status) for status in Status)  # compiled code wants ints


@kernel
def fit(tree, moments, ws, theta, H):  # type: ignore[no-untyped-def]
    """Fit one replicate, into theta and its Hessian H.

    Returns -2 logLik, y'Py, the violation of the first-order conditions, the status and the number
    of evaluations.
    """
    for t in range(len(theta)):
        theta[t] = START if tree.free[t, 1] == tree.free[t, 2] else 0.0
    ws.order[:] = np.arange(ws.order.shape[1])
    evaluations, snap_cost = 0, SNAP_COST
    for _ in range(MAX_ROUNDS):
        f, used = _bfgs(tree, moments, ws, theta, MAX_EVALUATIONS - evaluations)
        evaluations += used
        if not np.isfinite(f):
            H[:] = np.nan
            return np.nan, np.nan, np.nan, FAILED, evaluations
        evaluations += _snap(tree, moments, ws, theta, f, snap_cost)
        evaluations += _newton(tree, moments, ws, theta, H)
        f, r2 = deviance(tree, moments, ws, theta)
        gradient(tree, moments, ws, r2)
        evaluations += 1
        violation, is_negative, block, direction = violation_of(tree, ws, tree.nu / r2)
        if violation <= CERTIFICATE_TOLERANCE or evaluations >= MAX_EVALUATIONS:
            break
        snap_cost = SNAP_COST if is_negative else JUMP_COST
        if is_negative:
            evaluations += _escape(tree, moments, ws, theta, f, block, direction)
        _put_largest_pivots_first(tree, ws, theta)
    if _restore_order(tree, ws, theta):
        H[:] = hessian(tree, moments, ws, theta)
        f, r2 = deviance(tree, moments, ws, theta)
        gradient(tree, moments, ws, r2)
        evaluations += 2 * len(theta) + 1
    return f, r2, violation, _status(tree, theta, violation), evaluations


@kernel
def _put_largest_pivots_first(tree, ws, theta):  # type: ignore[no-untyped-def]
    """Reorder the factor of every block: where a leading pivot is nearly zero, the entries below
    it and the next pivot are two names for one thing, and steps get lost between them.
    """
    for b in range(len(tree.blocks)):
        level, first, size = tree.blocks[b]
        Psi = _covariance(tree, ws, theta, b)
        rest = Psi.copy()
        order = np.arange(size)
        for j in range(size):
            largest = j
            for i in range(j + 1, size):
                if rest[order[i], order[i]] > rest[order[largest], order[largest]]:
                    largest = i
            order[j], order[largest] = order[largest], order[j]
            pivot = rest[order[j], order[j]]
            if pivot <= 0.0:
                break
            column = rest[:, order[j]].copy()
            for i in range(size):
                for m in range(size):
                    rest[i, m] -= column[i] * column[m] / pivot
        for i in range(size):
            ws.order[level, first + i] = first + order[i]
        _set_block(tree, ws, theta, b, Psi, np.zeros(size, dtype=np.bool_))


@kernel
def _restore_order(tree, ws, theta):  # type: ignore[no-untyped-def]
    """Back to the lower triangular factor; whether anything had to change."""
    changed = False
    for b in range(len(tree.blocks)):
        level, first, size = tree.blocks[b]
        Psi = _covariance(tree, ws, theta, b)
        for i in range(first, first + size):
            changed = changed or ws.order[level, i] != i
            ws.order[level, i] = i
        if changed:
            _set_block(tree, ws, theta, b, Psi, np.zeros(size, dtype=np.bool_))
    return changed


@kernel
def _covariance(tree, ws, theta, b):  # type: ignore[no-untyped-def]
    """Psi of one block in its original order."""
    level, first, size = tree.blocks[b]
    factor = np.zeros((size, size))
    for t in range(len(theta)):
        if tree.free[t, 0] == level and first <= tree.free[t, 1] < first + size:
            row = ws.order[level, tree.free[t, 1]] - first
            factor[row, tree.free[t, 2] - first] = theta[t]
    return times_transpose(factor)


@kernel
def _set_block(tree, ws, theta, b, Psi, held):  # type: ignore[no-untyped-def]
    """Entries of theta that make the block Psi, the columns `held` of its factor zero."""
    level, first, size = tree.blocks[b]
    ordered = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            row, column = ws.order[level, first + i], ws.order[level, first + j]
            ordered[i, j] = Psi[row - first, column - first]
    factor = semidefinite_factor(ordered, held)
    for t in range(len(theta)):
        if tree.free[t, 0] == level and first <= tree.free[t, 1] < first + size:
            theta[t] = factor[tree.free[t, 1] - first, tree.free[t, 2] - first]


@kernel
def _pivots(tree, theta, b):  # type: ignore[no-untyped-def]
    level, first, size = tree.blocks[b]
    pivots = np.zeros(size)
    for t in range(len(theta)):
        i, j = tree.free[t, 1], tree.free[t, 2]
        if tree.free[t, 0] == level and i == j and first <= i < first + size:
            pivots[i - first] = theta[t]
    return pivots


@kernel
def _status(tree, theta, violation):  # type: ignore[no-untyped-def]
    if not violation <= CERTIFICATE_TOLERANCE:
        return NOT_CONVERGED
    for t in range(len(theta)):
        if tree.free[t, 1] == tree.free[t, 2] and theta[t] == 0.0:
            return BOUNDARY
    return OK


@kernel
def _bfgs(tree, moments, ws, theta, budget):  # type: ignore[no-untyped-def]
    """Minimise from theta, in place; stops at a small predicted decrease or a failed search."""
    n = len(theta)
    f, r2 = deviance(tree, moments, ws, theta)
    if not (r2 > 0.0 and np.isfinite(f)):
        return np.inf, 1
    gradient(tree, moments, ws, r2)
    g = ws.gradient.copy()
    inverse = np.zeros((n, n))
    for t in range(n):
        inverse[t, t] = 1.0 / (
            2.0 * max(ws.D1[tree.free[t, 0], tree.free[t, 1], tree.free[t, 1]], 1e-8)
        )
    evaluations = 1
    while evaluations < budget:
        step = -inverse @ g
        slope = g @ step
        if slope >= 0.0 or -0.5 * slope < PREDICTED_DECREASE:
            break
        scale = min(1.0, 2.0 / np.max(np.abs(step)))
        accepted = False
        while evaluations < budget:
            trial = theta + scale * step
            f_trial, r2 = deviance(tree, moments, ws, trial)
            evaluations += 1
            if r2 > 0.0 and f_trial <= f + 1e-4 * scale * slope:
                accepted = True
                break
            if scale < 1e-10:
                break
            curvature = f_trial - f - scale * slope
            shrink = -0.5 * scale * slope / curvature if curvature > 0.0 else 0.25
            scale *= min(max(shrink, 0.1), 0.5)
        if not accepted:
            break
        gradient(tree, moments, ws, r2)
        s, y = trial - theta, ws.gradient - g
        theta[:] = trial
        f = f_trial
        g = ws.gradient.copy()
        sy = s @ y
        if sy > 1e-10 * np.sqrt((s @ s) * (y @ y)):
            Hy = inverse @ y
            factor = (1.0 + (y @ Hy) / sy) / sy
            for i in range(n):
                for j in range(n):
                    inverse[i, j] += factor * s[i] * s[j] - (Hy[i] * s[j] + s[i] * Hy[j]) / sy
    return f, evaluations


@kernel
def _snap(tree, moments, ws, theta, f, cost):  # type: ignore[no-untyped-def]
    """Non-negative pivots, and small ones at exactly zero where -2 logLik rises little."""
    evaluations = 0
    for b in range(len(tree.blocks)):
        Psi = _covariance(tree, ws, theta, b)
        held = _pivots(tree, theta, b) == 0.0
        _set_block(tree, ws, theta, b, Psi, held)
        for j in range(len(held) - 1, -1, -1):
            if 0.0 < _pivots(tree, theta, b)[j] < SNAP_PIVOT:
                trial = theta.copy()
                held[j] = True
                _set_block(tree, ws, trial, b, Psi, held)
                f_trial, r2 = deviance(tree, moments, ws, trial)
                evaluations += 1
                if r2 > 0.0 and f_trial <= f + cost:
                    f = f_trial
                    theta[:] = trial
                else:
                    held[j] = False
    return evaluations


@kernel
def _active_entries(tree, theta):  # type: ignore[no-untyped-def]
    """Entries of Lam whose column has a pivot; the others are held at zero."""
    active = np.zeros(len(theta), dtype=np.bool_)
    for t in range(len(theta)):
        for s in range(len(theta)):
            if (
                tree.free[s, 0] == tree.free[t, 0]
                and tree.free[s, 1] == tree.free[t, 2]
                and tree.free[s, 2] == tree.free[t, 2]
            ):
                active[t] = theta[s] != 0.0
    return np.flatnonzero(active)


@kernel
def _newton(tree, moments, ws, theta, H):  # type: ignore[no-untyped-def]
    """Newton steps among the active entries, in place; H is the Hessian where it last was taken."""
    f, evaluations = np.inf, 0
    active = _active_entries(tree, theta)
    is_stale = True
    for _ in range(MAX_NEWTON_STEPS):
        if is_stale:
            H[:] = hessian(tree, moments, ws, theta)
            evaluations += 2 * len(theta) + 1
            f, r2 = deviance(tree, moments, ws, theta)
            gradient(tree, moments, ws, r2)
        step, decrease = _newton_step(H, ws.gradient, active)
        if decrease < NEWTON_DECREASE:  # also where the Hessian is not positive definite
            break
        trial = theta + step
        f_trial, r2 = deviance(tree, moments, ws, trial)
        evaluations += 1
        if not (r2 > 0.0 and f_trial <= f + ROUNDING * abs(f)):
            break
        gradient(tree, moments, ws, r2)
        theta[:] = trial
        f = f_trial
        is_stale = decrease > PREDICTED_DECREASE
    return evaluations


@kernel
def _newton_step(H, g, active):  # type: ignore[no-untyped-def]
    """Newton step in the active entries and its predicted decrease; none where H is not convex."""
    step = np.zeros(len(g))
    m = len(active)
    reduced, reduced_g = np.zeros((m, m)), np.zeros(m)
    for i in range(m):
        reduced_g[i] = g[active[i]]
        for j in range(m):
            reduced[i, j] = H[active[i], active[j]]
    L = semidefinite_factor(reduced, np.zeros(m, dtype=np.bool_))
    for i in range(m):
        if L[i, i] <= 0.0:
            return step, 0.0
    solution = solve_factored(L, reduced_g)
    decrease = 0.0
    for i in range(m):
        step[active[i]] = -solution[i]
        decrease += 0.5 * reduced_g[i] * solution[i]
    return step, decrease


@kernel
def _escape(tree, moments, ws, theta, f, b, direction):  # type: ignore[no-untyped-def]
    """Leave a false zero: add a multiple of the direction's square to Psi, in place."""
    size = tree.blocks[b, 2]
    Psi = _covariance(tree, ws, theta, b)
    trial, best = theta.copy(), f
    length = 0.0
    for i in range(size):
        length += direction[i] * direction[i]
    step, evaluations = ESCAPE_STEP / length, 0
    added = np.zeros((size, size))
    for _ in range(MAX_ESCAPE_STEPS):
        for i in range(size):
            for j in range(size):
                added[i, j] = Psi[i, j] + step * direction[i] * direction[j]
        _set_block(tree, ws, trial, b, added, np.zeros(size, dtype=np.bool_))
        f_trial, r2 = deviance(tree, moments, ws, trial)
        evaluations += 1
        if r2 > 0.0 and f_trial < best:
            best = f_trial
            theta[:] = trial
        elif best < f:
            break
        step *= 0.25
    return evaluations
