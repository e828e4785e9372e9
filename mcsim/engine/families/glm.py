"""Generalised linear models of independent rows: the optimum by Newton's method, compiled."""

import math
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.arithmetic.unit_sums import sum_of_products
from mcsim.engine.families.kinds import NBINOM, POISSON, U, log_constants, rows_of

MAX_STEPS = 60
DECREMENT = 1e-16  # of minus log-likelihood, relative, where Newton stops
RISE = 1e-12  # relative: more is no rounding
FIRST_COUNT = 0.1  # added to the mean of counts, whose log is where the intercept starts


class Rows(NamedTuple):
    """What is found of the rows."""

    eta: Floats
    nll: Floats
    r: Floats
    w: Floats
    w3: Floats


class GlmFits(NamedTuple):
    """Fits of some replicates.

    beta : (n_replicates, p); information : (n_replicates, p, p) X'WX; loglik : (n_replicates,)
    is_there : whether an optimum was reached; steps : that it took
    """

    beta: Floats
    information: Floats
    loglik: Floats
    is_there: Flags
    steps: Floats


def fit_glm(
    kind: int, X: Floats, responses: Floats, trials: Floats, offset: Floats, tau: float = 0.0
) -> GlmFits:
    """Fit X~ (n_rows, p), whose columns are orthogonal, to responses (n_replicates, n_rows)."""
    n, p = len(responses), X.shape[1]
    start = np.zeros((n, p))
    if kind in (POISSON, NBINOM) and p:
        means = np.log(responses.mean(axis=1) + FIRST_COUNT) - offset.mean()
        start[:] = means[:, None] * np.linalg.lstsq(X, np.ones(len(X)))[0]
    loglik, steps, information = np.zeros(n), np.zeros(n), np.zeros((n, p, p))
    room = np.zeros((p, p)), np.zeros(p), np.zeros(p), Rows(*(np.zeros(len(X)) for _ in range(5)))
    turned = np.ascontiguousarray(X.T)
    _fit(kind, turned, responses, trials, offset, tau, start, information, loglik, steps, *room)
    constant = log_constants(kind, responses, trials)
    return GlmFits(start, information, loglik + constant, np.isfinite(loglik), steps)


@lean_kernel
def _fit(
    kind, X, responses, trials, offset, tau, beta, information, loglik, steps, L, gradient, change,
    rows,
):  # fmt: skip
    p = len(X)
    for n in range(len(responses)):
        y, b, A = responses[n], beta[n], information[n]
        before, length = math.inf, 1.0
        change[:] = 0.0
        loglik[n] = math.nan
        for number in range(MAX_STEPS):
            nll = _sum_rows(kind, X, y, trials, offset, tau, b, A, gradient, rows)
            if not nll <= before + RISE * (1.0 + abs(before)):
                if before == math.inf or length < RISE:
                    break
                length *= 0.5
                for j in range(p):
                    b[j] -= length * change[j]
                continue
            steps[n] = number + 1.0
            decrement = _newton(A, gradient, L, change)
            if not decrement > DECREMENT * (1.0 + abs(nll)):
                if decrement >= 0.0:
                    loglik[n] = -nll
                break
            before, length = nll, 1.0
            for j in range(p):
                b[j] += change[j]


@step
def _sum_rows(kind, X, y, trials, offset, tau, b, A, gradient, rows):
    p, n, total = U(len(X)), U(len(y)), 0.0
    for row in range(n):
        rows.eta[row] = offset[row]
    for j in range(p):
        for row in range(n):
            rows.eta[row] += X[j, row] * b[j]
    rows_of(kind, y, trials, rows.eta, tau, rows.nll, rows.r, rows.w, rows.w3)
    for row in range(n):
        total += rows.nll[row]
    for i in range(p):
        gradient[i] = sum_of_products(rows.r, X[i])
        for row in range(n):
            rows.w3[row] = rows.w[row] * X[i, row]
        for j in range(i + U(1)):
            A[i, j] = A[j, i] = sum_of_products(rows.w3, X[j])
    return total


@step
def _newton(A, gradient, L, change):
    """Newton's step, and its length in the metric of A; NaN where A is not positive definite."""
    p, squared = len(A), 0.0
    for j in range(p):
        for i in range(j, p):
            total = A[i, j]
            for m in range(j):
                total -= L[i, m] * L[j, m]
            L[i, j] = math.sqrt(total) if i == j else total / L[j, j]
    for i in range(p):
        total = gradient[i]
        for m in range(i):
            total -= L[i, m] * change[m]
        change[i] = total / L[i, i]
        squared += change[i] * change[i]
    for i in range(p - 1, -1, -1):
        total = change[i]
        for m in range(i + 1, p):
            total -= L[m, i] * change[m]
        change[i] = total / L[i, i]
    return squared
