"""The n x n definition of the likelihood: no cleverness, the oracle of the engine."""

import numpy as np


def dense_deviance(X, levels, y, Lams, *, is_reml):
    """-2 logLik profiled over beta and sigma2, with beta and sigma2.

    levels: (unit_of_row, Z) per level, outermost first, unit labels nested by position;
    Lams: relative factor per level.
    """
    n, p = X.shape
    V = np.eye(n)
    inside = np.ones((n, n), dtype=bool)
    for (unit_of_row, Z), Lam in zip(levels, Lams, strict=True):
        inside = inside & (unit_of_row[:, None] == unit_of_row[None, :])
        V += np.where(inside, Z @ Lam @ Lam.T @ Z.T, 0.0)
    V_inverse = np.linalg.inv(V)
    T = X.T @ V_inverse @ X
    beta = np.linalg.solve(T, X.T @ V_inverse @ y)
    residual = y - X @ beta
    nu = n - p if is_reml else n
    sigma2 = residual @ V_inverse @ residual / nu
    deviance = np.linalg.slogdet(V)[1] + nu * (1 + np.log(2 * np.pi * sigma2))
    if is_reml:
        deviance += np.linalg.slogdet(T)[1]
    return deviance, beta, sigma2
