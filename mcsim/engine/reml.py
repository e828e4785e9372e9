"""REML and ML fits of blocks of replicates: original columns in, original columns out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.collapse import CompiledDesign
from mcsim.engine.compiled import kernel
from mcsim.engine.moments import reduce_response
from mcsim.engine.optimise import fit
from mcsim.engine.tree import Floats, Ints, Moments, new_workspace


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
    in_order = np.ascontiguousarray(responses[:, design.order])
    _fit_responses(
        tree, design.reduction, in_order, new_workspace(tree),
        (theta, beta, covariance, hessians, log_r2_gradient, scalars, codes),
    )  # fmt: skip
    sigma2 = scalars[:, 1] / tree.nu
    to_original = np.linalg.inv(design.R)
    return FitBlock(
        beta=np.einsum("ij,nj->ni", to_original, beta),
        beta_covariance=np.einsum("n,ia,nab,jb->nij", sigma2, to_original, covariance, to_original),
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


@kernel
def _fit_responses(tree, reduction, responses, ws, out):  # type: ignore[no-untyped-def]
    """Reduce and fit one response after the other; nothing carries over between them."""
    theta, beta, covariance, hessians, log_r2_gradient, scalars, codes = out
    k = tree.B.shape[0]
    S = np.zeros((k, k, len(tree.n_units)))
    link_t = np.zeros((k, len(tree.link_child)))
    root_t = np.zeros((k, len(tree.root_child)))
    for r in range(len(responses)):
        rss = reduce_response(reduction, responses[r], (S, link_t, root_t), beta[r])
        moments = Moments(rss, S, link_t, root_t)
        f, r2, violation, status, evaluations = fit(tree, moments, ws, theta[r], hessians[r])
        scalars[r, 0], scalars[r, 1], scalars[r, 2] = f, r2, violation
        codes[r, 0], codes[r, 1] = status, evaluations
        beta[r] += ws.beta
        covariance[r] = ws.T_inverse
        for t in range(len(tree.free)):
            level, i, j = tree.free[t]
            s = 0.0
            for m in range(ws.Lam.shape[1]):
                s += ws.D2[level, i, m] * ws.Lam[level, m, j]
            log_r2_gradient[r, t] = -2.0 * s / r2
