"""The REML or ML optimum of every replicate of a block, each with its certificate.

The problem is minimisation of -2 logLik over positive semi-definite Psi = Lam Lam'. BFGS in Lam
comes near; small pivots are set to zero where that costs nothing; Newton steps with the exact
Hessian finish; then the first-order conditions in Psi are checked, D Psi = 0 and D >= 0, in the
metric of sum Z'PZ. Where D has a negative eigenvalue the point is a false zero: step along its
eigenvector and go on.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mcsim.engine.collapse import CompiledDesign, reduce_response
from mcsim.engine.kernels import (
    Floats,
    Ints,
    Moments,
    deviance,
    gradient,
    hessian,
    new_workspace,
)

START = 0.5  # relative SD of every random effect, in columns of unit scale
PREDICTED_DECREASE = 1e-10  # in -2 logLik, where BFGS hands over to Newton
NEWTON_DECREASE = 1e-18  # in -2 logLik, where Newton stops
SNAP_PIVOT = 0.05  # pivots below this are tried at zero ...
SNAP_COST = 1e-9  # ... and stay there where -2 logLik rises by no more than this
CERTIFICATE_TOLERANCE = 1e-6  # relative violation of the first-order conditions
MAX_EVALUATIONS = 1000
MAX_ESCAPES = 20


class Status(IntEnum):
    """How a fit ended; `NOT_CONVERGED` and `FAILED` are not usable."""

    OK = 0
    BOUNDARY = 1
    NOT_CONVERGED = 2
    FAILED = 3


@dataclass(frozen=True)
class FitBlock:
    """Fits of one model to a block of replicates; levels outermost first.

    beta : (n_replicates, p); beta_covariance : (n_replicates, p, p)
    sigma2 : (n_replicates,); covariances : per level (n_replicates, q, q), of the random effects
    theta : (n_replicates, n_theta) entries of Lam, innermost level first, and at these
    hessian : second derivatives of -2 logLik; log_r2_gradient : derivative of log y'Py
    certificate : (n_replicates,) relative violation of the first-order conditions
    """

    beta: Floats
    beta_covariance: Floats
    sigma2: Floats
    covariances: tuple[Floats, ...]
    loglik: Floats
    status: Ints
    evaluations: Ints
    certificate: Floats
    theta: Floats
    hessian: Floats
    log_r2_gradient: Floats


def fit_block(design: CompiledDesign, responses: NDArray[np.float64]) -> FitBlock:
    """Fit every response.

    Parameters
    ----------
    responses : (n_replicates, n_rows), rows in the order in which the design was given
    """
    tree = design.tree
    n, p, n_theta = len(responses), tree.Bx.shape[1], len(tree.free)
    beta, covariance = np.empty((n, p)), np.empty((n, p, p))
    theta, scalars = np.empty((n, n_theta)), np.empty((n, 4))
    hessians, log_r2_gradient = np.empty((n, n_theta, n_theta)), np.empty((n, n_theta))
    codes = np.empty((n, 2), dtype=np.int64)
    real, complex_ = new_workspace(tree, np.float64), new_workspace(tree, np.complex128)
    sorted_responses = responses[:, design.order]
    _fit_responses(
        tree, design.reduction, sorted_responses, real, complex_,
        (theta, beta, covariance, hessians, log_r2_gradient, scalars, codes),
    )  # fmt: skip
    sigma2 = scalars[:, 1] / tree.nu
    to_original = np.linalg.inv(design.R)
    return FitBlock(
        beta=np.einsum("ij,nj->ni", to_original, beta),
        beta_covariance=np.einsum(
            "n,ia,nab,jb->nij", sigma2, to_original, covariance, to_original
        ),
        sigma2=sigma2,
        covariances=_covariances(design, theta, sigma2),
        loglik=-0.5 * scalars[:, 0],
        status=codes[:, 0],
        evaluations=codes[:, 1],
        certificate=scalars[:, 2],
        theta=theta,
        hessian=hessians,
        log_r2_gradient=log_r2_gradient,
    )


def relative_factors(design: CompiledDesign, theta: Floats) -> tuple[Floats, ...]:
    """Lam of the original columns per level, outermost first: (n_replicates, q, q)."""
    n_levels = len(design.scales)
    factors = []
    for level, S in enumerate(design.scales):
        Lam = np.zeros((len(theta), *S.shape))
        for t, (depth, row, column) in enumerate(design.tree.free):
            if depth == n_levels - 1 - level:
                Lam[:, row, column] = theta[:, t]
        factors.append(np.einsum("ij,njk->nik", S, Lam))
    return tuple(factors)


def _covariances(design: CompiledDesign, theta: Floats, sigma2: Floats) -> tuple[Floats, ...]:
    return tuple(
        np.einsum("n,nij,nkj->nik", sigma2, Lam, Lam) for Lam in relative_factors(design, theta)
    )


@njit(cache=True, nogil=True)
def _fit_responses(tree, reduction, responses, real, complex_, out):  # type: ignore[no-untyped-def]
    """Reduce and fit one response after the other; nothing carries over between them."""
    theta, beta, covariance, hessians, log_r2_gradient, scalars, codes = out
    k = tree.B.shape[0]
    S = np.zeros((k, k, len(tree.n_units)))
    link_t = np.zeros((k, len(tree.link_child)))
    root_t = np.zeros((k, len(tree.root_child)))
    for r in range(len(responses)):
        yy = reduce_response(reduction, responses[r], S, link_t, root_t)
        moments = Moments(yy, S, link_t, root_t)
        f, r2, violation, status, evaluations, H = _fit(tree, moments, real, complex_, theta[r])
        scalars[r, 0], scalars[r, 1], scalars[r, 2] = f, r2, violation
        codes[r, 0], codes[r, 1] = status, evaluations
        hessians[r] = H
        beta[r] = real.beta
        covariance[r] = real.T_inverse
        for t in range(len(tree.free)):
            level, i, j = tree.free[t]
            s = 0.0
            for m in range(real.Lam.shape[1]):
                s += real.D2[level, i, m] * real.Lam[level, m, j]
            log_r2_gradient[r, t] = -2.0 * s / r2


@njit(cache=True, nogil=True)
def _fit(tree, moments, real, complex_, theta):  # type: ignore[no-untyped-def]
    """One fit, into theta; -2 logLik, y'Py, certificate, status, evaluations, Hessian."""
    for t in range(len(theta)):
        theta[t] = START if tree.free[t, 1] == tree.free[t, 2] else 0.0
    H = np.zeros((len(theta), len(theta)))
    evaluations, violation, f, r2 = 0, np.inf, np.inf, np.nan
    for _ in range(MAX_ESCAPES):
        f, used = _bfgs(tree, moments, real, theta, MAX_EVALUATIONS - evaluations)
        evaluations += used
        if not np.isfinite(f):
            return np.nan, np.nan, np.nan, Status.FAILED.value, evaluations, H
        f, used = _snap(tree, moments, real, theta, f)
        evaluations += used
        f, used = _newton(tree, moments, real, complex_, theta, H)
        evaluations += used
        f, r2 = deviance(tree, moments, real, theta)
        gradient(tree, moments, real, r2)
        violation, negative, block, direction = _certificate(tree, real, tree.nu / r2)
        evaluations += 1
        if violation <= CERTIFICATE_TOLERANCE or evaluations >= MAX_EVALUATIONS:
            break
        if negative:
            used = _escape(tree, moments, real, theta, f, block, direction)
            evaluations += used
    status = Status.OK.value
    for t in range(len(theta)):
        if tree.free[t, 1] == tree.free[t, 2] and theta[t] == 0.0:
            status = Status.BOUNDARY.value
    if not violation <= CERTIFICATE_TOLERANCE:
        status = Status.NOT_CONVERGED.value
    return f, r2, violation, status, evaluations, H


@njit(cache=True, nogil=True)
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
        inverse[t, t] = 1.0 / (2.0 * max(ws.D1[tree.free[t, 0], tree.free[t, 1], tree.free[t, 1]], 1e-8))
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


@njit(cache=True, nogil=True)
def _set_theta(tree, Lam, theta):  # type: ignore[no-untyped-def]
    for t in range(len(theta)):
        theta[t] = Lam[tree.free[t, 0], tree.free[t, 1], tree.free[t, 2]]


@njit(cache=True, nogil=True)
def _factor_of(tree, theta, shape):  # type: ignore[no-untyped-def]
    Lam = np.zeros(shape)
    for t in range(len(theta)):
        Lam[tree.free[t, 0], tree.free[t, 1], tree.free[t, 2]] = theta[t]
    return Lam


@njit(cache=True, nogil=True)
def _semidefinite_factor(Psi, held):  # type: ignore[no-untyped-def]
    """Lower triangular factor of Psi, its columns `held` (and those without a pivot) zero."""
    n = len(Psi)
    L = np.zeros((n, n))
    for j in range(n):
        pivot = Psi[j, j]
        for m in range(j):
            pivot -= L[j, m] * L[j, m]
        if held[j] or pivot <= 1e-15 * Psi[j, j] or pivot <= 0.0:
            continue
        L[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            s = Psi[i, j]
            for m in range(j):
                s -= L[i, m] * L[j, m]
            L[i, j] = s / L[j, j]
    return L


@njit(cache=True, nogil=True)
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
        block[:] = _semidefinite_factor(block @ block.T, held)
        _set_theta(tree, Lam, theta)
        for j in range(size - 1, -1, -1):
            if 0.0 < block[j, j] < SNAP_PIVOT:
                before = block.copy()
                held[j] = True
                block[:] = _semidefinite_factor(before @ before.T, held)
                _set_theta(tree, Lam, trial)
                f_trial, r2 = deviance(tree, moments, ws, trial)
                evaluations += 1
                if r2 > 0.0 and f_trial <= f + SNAP_COST:
                    f = min(f, f_trial)
                    theta[:] = trial
                else:
                    held[j] = False
                    block[:] = before
    return f, evaluations


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _newton(tree, moments, ws, complex_, theta, H):  # type: ignore[no-untyped-def]
    """Newton steps among the active entries, in place; H is left at the last refreshed point."""
    f, r2 = deviance(tree, moments, ws, theta)
    gradient(tree, moments, ws, r2)
    evaluations = 1
    active = _active_entries(tree, theta)
    m = len(active)
    stale = True
    for _ in range(12):
        if stale:
            H[:] = hessian(tree, moments, complex_, theta)
            evaluations += len(theta)
        if m == 0:
            break
        reduced = np.zeros((m, m))
        g = np.zeros(m)
        for i in range(m):
            g[i] = ws.gradient[active[i]]
            for j in range(m):
                reduced[i, j] = H[active[i], active[j]]
        L = _semidefinite_factor(reduced, np.zeros(m, dtype=np.bool_))
        if np.min(np.diag(L)) <= 0.0:
            break
        step = -_solve_factored(L, g)
        decrease = -0.5 * (g @ step)
        if decrease < NEWTON_DECREASE:
            break
        trial = theta.copy()
        scale = 1.0
        accepted = False
        for _ in range(20):
            for i in range(m):
                trial[active[i]] = theta[active[i]] + scale * step[i]
            f_trial, r2 = deviance(tree, moments, ws, trial)
            evaluations += 1
            if r2 > 0.0 and f_trial <= f + 1e-10 * (1.0 + abs(f)) * 1e-3:
                accepted = True
                break
            scale *= 0.25
        if not accepted:
            _, r2 = deviance(tree, moments, ws, theta)
            break
        gradient(tree, moments, ws, r2)
        theta[:] = trial
        f = f_trial
        stale = decrease > 1e-6
    return f, evaluations


@njit(cache=True, nogil=True)
def _solve_factored(L, b):  # type: ignore[no-untyped-def]
    """Solve L L' x = b."""
    x = b.copy()
    for i in range(len(x)):
        for m in range(i):
            x[i] -= L[i, m] * x[m]
        x[i] /= L[i, i]
    for i in range(len(x) - 1, -1, -1):
        for m in range(i + 1, len(x)):
            x[i] -= L[m, i] * x[m]
        x[i] /= L[i, i]
    return x


@njit(cache=True, nogil=True)
def _symmetric_eigen(A):  # type: ignore[no-untyped-def]
    """Eigenvalues and eigenvectors (columns) by Jacobi rotations; exact enough for q <= 10."""
    n = len(A)
    A = A.copy()
    V = np.eye(n)
    for _ in range(60):
        largest = 0.0
        for p in range(n):
            for q in range(p + 1, n):
                largest = max(largest, abs(A[p, q]))
                if abs(A[p, q]) < 1e-300:
                    continue
                angle = 0.5 * np.arctan2(2.0 * A[p, q], A[q, q] - A[p, p])
                c, s = np.cos(angle), np.sin(angle)
                for i in range(n):
                    A[i, p], A[i, q] = c * A[i, p] - s * A[i, q], s * A[i, p] + c * A[i, q]
                for i in range(n):
                    A[p, i], A[q, i] = c * A[p, i] - s * A[q, i], s * A[p, i] + c * A[q, i]
                for i in range(n):
                    V[i, p], V[i, q] = c * V[i, p] - s * V[i, q], s * V[i, p] + c * V[i, q]
        if largest <= 1e-16 * np.max(np.abs(A)):
            break
    return np.diag(A).copy(), V


@njit(cache=True, nogil=True)
def _certificate(tree, ws, kappa):  # type: ignore[no-untyped-def]
    """Violation of D Psi = 0 and D >= 0 in the metric of sum Z'PZ, per block the worst.

    Returns it, whether a negative eigenvalue is the cause, the block, and the direction.
    """
    violation, negative, worst = 0.0, False, 0
    direction = np.zeros(ws.Lam.shape[1])
    lowest = -CERTIFICATE_TOLERANCE
    for b in range(len(tree.blocks)):
        level, first, size = tree.blocks[b]
        inside = slice(first, first + size)
        N = ws.D1[level, inside, inside].copy()
        D = N - kappa * ws.D2[level, inside, inside]
        ridge = 1e-12 * tree.nu
        for i in range(size):
            N[i, i] += ridge
        C = _semidefinite_factor(0.5 * (N + N.T), np.zeros(size, dtype=np.bool_))
        scaled = np.zeros((size, size))  # C^-1 D C^-T
        for j in range(size):
            scaled[:, j] = _forward(C, D[:, j])
        for i in range(size):
            scaled[i] = _forward(C, scaled[i].copy())
        scaled = 0.5 * (scaled + scaled.T)
        values, vectors = _symmetric_eigen(scaled)
        factor = C.T @ ws.Lam[level, inside, inside]
        Psi = factor @ factor.T
        size_of_Psi = np.sqrt(np.sum(Psi * Psi))
        if size_of_Psi > 0.0:
            product = scaled @ Psi
            violation = max(violation, np.sqrt(np.sum(product * product)) / size_of_Psi)
        smallest = np.argmin(values)
        violation = max(violation, -values[smallest])
        if values[smallest] < lowest:
            lowest, negative, worst = values[smallest], True, b
            direction[:] = 0.0
            vector = vectors[:, smallest].copy()
            for i in range(size - 1, -1, -1):  # C^-T vector
                for m in range(i + 1, size):
                    vector[i] -= C[m, i] * direction[m]
                direction[i] = vector[i] / C[i, i]
    return violation, negative, worst, direction


@njit(cache=True, nogil=True)
def _forward(L, b):  # type: ignore[no-untyped-def]
    """Solve L x = b."""
    x = b.copy()
    for i in range(len(x)):
        for m in range(i):
            x[i] -= L[i, m] * x[m]
        x[i] /= L[i, i]
    return x


@njit(cache=True, nogil=True)
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
        block[:] = _semidefinite_factor(
            Psi + step * np.outer(v, v), np.zeros(size, dtype=np.bool_)
        )
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
