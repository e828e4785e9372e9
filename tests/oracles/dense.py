"""The n x n definition of the likelihood: no cleverness, the oracle of the engine."""

import numpy as np
from scipy.linalg import solve_triangular


def dense_deviance(X, levels, y, Lams, *, is_reml, R=None, is_crossed=False):
    """-2 logLik profiled over beta and sigma2, with beta and sigma2.

    levels: (unit_of_row, Z) per level, outermost first, unit labels nested by position, or, where
    units cross, of their own;
    Lams: relative factor per level; R: relative covariance of the residuals.
    """
    n, p = X.shape
    V = np.eye(n) if R is None else R.copy()
    inside = np.ones((n, n), dtype=bool)
    for (unit_of_row, Z), Lam in zip(levels, Lams, strict=True):
        together = unit_of_row[:, None] == unit_of_row[None, :]
        inside = together if is_crossed else inside & together
        V += np.where(inside, Z @ Lam @ Lam.T @ Z.T, 0.0)
    # whitened by a triangular factor: an inverse of V would lose digits where variances are large
    factor = np.linalg.cholesky(V)
    whitened = solve_triangular(factor, np.column_stack([X, y]), lower=True)
    T = np.linalg.qr(whitened, mode="r")
    beta = solve_triangular(T[:p, :p], T[:p, p])
    nu = n - p if is_reml else n
    sigma2 = T[p, p] ** 2 / nu
    deviance = 2 * np.log(np.diag(factor)).sum() + nu * (1 + np.log(2 * np.pi * sigma2))
    if is_reml:
        deviance += 2 * np.log(np.abs(np.diag(T)[:p])).sum()
    return deviance, beta, sigma2


def residual_covariance(kind, unit, values, *, along=None, stratum=None):
    """Covariance (n, n) of residuals: phi, rho, or ratios of SDs to that of the first stratum."""
    if kind == "strata":
        return np.diag(np.append(1.0, values)[stratum] ** 2)
    R = np.zeros((len(unit), len(unit)))
    for u in np.unique(unit):
        rows = np.flatnonzero(unit == u)
        position = np.arange(len(rows)) if along is None else along[rows]
        steps = np.abs(np.subtract.outer(position, position))
        own = values[0] ** steps if kind == "ar1" else np.where(steps == 0, 1.0, values[0])
        R[np.ix_(rows, rows)] = own
    return R
