"""The optimum of one replicate.

The problem is minimisation of -2 logLik over positive semi-definite Psi = Lam Lam'. BFGS in Lam
comes near; small pivots are set to zero where that costs nothing; Newton steps with the exact
Hessian finish; then the first-order conditions in Psi are checked. Where D has a negative
eigenvalue the point is a false zero: step along its eigenvector and go on.
"""

from enum import IntEnum

import numpy as np

from mcsim.engine.compiled import kernel
from mcsim.engine.certificate import CERTIFICATE_TOLERANCE, violation_of
from mcsim.engine.kernels import deviance, gradient, hessian
from mcsim.engine.matrices import semidefinite_factor, solve_factored

START = 0.5  # relative SD of every random effect, in columns of unit scale
PREDICTED_DECREASE = 1e-10  # in -2 logLik, where BFGS hands over to Newton
NEWTON_DECREASE = 1e-18  # in -2 logLik, where Newton stops
SNAP_PIVOT = 0.05  # pivots below this are tried at zero ...
SNAP_COST = 1e-9  # ... and stay there where -2 logLik rises by no more than this
MAX_EVALUATIONS = 1000
MAX_ESCAPES = 20
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
    evaluations = 0
    for _ in range(MAX_ESCAPES):
        f, used = _bfgs(tree, moments, ws, theta, MAX_EVALUATIONS - evaluations)
        evaluations += used
        if not np.isfinite(f):
            H[:] = np.nan
            return np.nan, np.nan, np.nan, FAILED, evaluations
        evaluations += _snap(tree, moments, ws, theta, f)
        evaluations += _newton(tree, moments, ws, theta, H)
        f, r2 = deviance(tree, moments, ws, theta)
        gradient(tree, moments, ws, r2)
        evaluations += 1
        violation, is_negative, block, direction = violation_of(tree, ws, tree.nu / r2)
        if violation <= CERTIFICATE_TOLERANCE or evaluations >= MAX_EVALUATIONS:
            break
        if is_negative:
            evaluations += _escape(tree, moments, ws, theta, f, block, direction)
    return f, r2, violation, _status(tree, theta, violation), evaluations


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
def _set_theta(tree, Lam, theta):  # type: ignore[no-untyped-def]
    for t in range(len(theta)):
        theta[t] = Lam[tree.free[t, 0], tree.free[t, 1], tree.free[t, 2]]


@kernel
def _factor_of(tree, theta, shape):  # type: ignore[no-untyped-def]
    Lam = np.zeros(shape)
    for t in range(len(theta)):
        Lam[tree.free[t, 0], tree.free[t, 1], tree.free[t, 2]] = theta[t]
    return Lam


@kernel
def _snap(tree, moments, ws, theta, f):  # type: ignore[no-untyped-def]
    """Non-negative pivots, and small ones at exactly zero where the objective allows it."""
    Lam = _factor_of(tree, theta, ws.Lam.shape)
    trial = theta.copy()
    evaluations = 0
    for b in range(len(tree.blocks)):
        level, first, size = tree.blocks[b]
        block = Lam[level, first : first + size, first : first + size]
        held = np.zeros(size, dtype=np.bool_)
        for j in range(size):
            held[j] = block[j, j] == 0.0
        block[:] = semidefinite_factor(block @ block.T, held)
        _set_theta(tree, Lam, theta)
        for j in range(size - 1, -1, -1):
            if 0.0 < block[j, j] < SNAP_PIVOT:
                before = block.copy()
                held[j] = True
                block[:] = semidefinite_factor(before @ before.T, held)
                _set_theta(tree, Lam, trial)
                f_trial, r2 = deviance(tree, moments, ws, trial)
                evaluations += 1
                if r2 > 0.0 and f_trial <= f + SNAP_COST:
                    f = min(f, f_trial)
                    theta[:] = trial
                else:
                    held[j] = False
                    block[:] = before
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
    level, first, size = tree.blocks[b]
    Lam = _factor_of(tree, theta, ws.Lam.shape)
    block = Lam[level, first : first + size, first : first + size]
    Psi = block @ block.T
    v = direction[:size] / np.sqrt(direction[:size] @ direction[:size])
    trial, best = theta.copy(), f
    step, evaluations = 0.25, 0
    for _ in range(40):
        block[:] = semidefinite_factor(Psi + step * np.outer(v, v), np.zeros(size, dtype=np.bool_))
        _set_theta(tree, Lam, trial)
        f_trial, r2 = deviance(tree, moments, ws, trial)
        evaluations += 1
        if r2 > 0.0 and f_trial < best:
            best = f_trial
            theta[:] = trial
        elif best < f:
            break
        step *= 0.25
    return evaluations
