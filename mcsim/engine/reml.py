"""REML and ML fits of blocks of replicates: original columns in, original columns out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.collapse import CompiledDesign
from mcsim.engine.moments import reduce_block
from mcsim.engine.probe import no_probes, run_search
from mcsim.engine.search import Fits
from mcsim.engine.tree import Floats, Ints, Moments


@dataclass(frozen=True)
class FitBlock:
    """Fits of one model to a block of replicates; levels outermost first.

    beta : (n_replicates, p); beta_covariance : (n_replicates, p, p)
    sigma2 : (n_replicates,); covariances : per level (n_replicates, q, q), of the random effects
    theta : (n_replicates, n_theta) parameters of Lam, innermost level first
    factors : per level (n_replicates, q, q) Lam; slopes : per level (n_replicates, n_theta, q, q)
        its derivative in theta
    hessian : second derivatives of -2 logLik; log_r2_gradient : derivative of log y'Py
    is_held : (n_replicates, n_theta) parameters in a column of Lam that is zero
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
    factors: tuple[Floats, ...]
    slopes: tuple[Floats, ...]
    hessian: Floats
    log_r2_gradient: Floats
    is_held: NDArray[np.bool_]


def fit_block(design: CompiledDesign, responses: NDArray[np.float64]) -> FitBlock:
    """Fit every response.

    Parameters
    ----------
    responses : (n_replicates, n_rows), rows in the order in which the design was given
    """
    return fit_moments(design, reduce_responses(design, responses))


def reduce_responses(design: CompiledDesign, responses: NDArray[np.float64]) -> Moments:
    """What the fits need of responses (n_replicates, n_rows), rows as the design was given."""
    if not np.array_equal(design.order, np.arange(design.n_rows)):
        responses = responses[:, design.order]
    return reduce_block(design.reduction, np.ascontiguousarray(responses))


def fit_moments(design: CompiledDesign, moments: Moments) -> FitBlock:
    """Fit every replicate."""
    tree = design.tree
    fits = run_search(tree, moments, no_probes(tree))
    sigma2 = fits.r2 / tree.nu
    to_original = np.linalg.inv(design.R)
    patterns = _patterns(design, fits)
    factors = tuple(np.einsum("nt,ntij->nij", fits.theta, slopes) for slopes in patterns)
    return FitBlock(
        beta=np.einsum("ij,nj->ni", to_original, moments.beta + fits.beta),
        beta_covariance=np.einsum(
            "n,ia,nab,jb->nij", sigma2, to_original, fits.T_inverse, to_original
        ),
        sigma2=sigma2,
        covariances=tuple(np.einsum("n,nij,nkj->nik", sigma2, Lam, Lam) for Lam in factors),
        loglik=-0.5 * fits.f,
        status=fits.status,
        evaluations=fits.evaluations,
        certificate=fits.violation,
        theta=fits.theta,
        factors=factors,
        slopes=patterns,
        hessian=fits.H,
        log_r2_gradient=_log_r2_gradient(design, fits),
        is_held=_held_parameters(design, fits.theta),
    )


def _patterns(design: CompiledDesign, fits: Fits) -> tuple[Floats, ...]:
    """d Lam / d theta in the original columns per level, outermost first."""
    tree, n_levels = design.tree, len(design.scales)
    n, n_theta = fits.theta.shape
    patterns = [np.zeros((n, n_theta, *S.shape)) for S in design.scales]
    everyone = np.arange(n)
    for b, (level, first, size, t, is_matrix) in enumerate(zip(*tree.blocks[:5], strict=True)):
        pattern, S = patterns[n_levels - 1 - level], design.scales[n_levels - 1 - level]
        if not is_matrix:
            q = len(S)
            pattern[:, t] = S @ tree.blocks.Q[b][:q, :q]
            continue
        for j in range(size):
            for i in range(j, size):
                pattern[everyone, t, :, first + j] = S[:, first + fits.order[:, b, i]].T
                t += 1
    return tuple(patterns)


def _log_r2_gradient(design: CompiledDesign, fits: Fits) -> Floats:
    """Derivative of log y'Py in theta: -2 <sum (Z'Py)(Z'Py)', dLam Lam'> / y'Py."""
    tree = design.tree
    scaled = CompiledDesign(
        tree, design.reduction, design.order,
        tuple(np.eye(len(S)) for S in design.scales), design.R, design.n_rows,
    )  # fmt: skip
    gradient = np.zeros_like(fits.theta)
    for level, slopes in enumerate(_patterns(scaled, fits)):
        q, depth = slopes.shape[2], len(design.scales) - 1 - level
        Lam = np.einsum("nt,ntij->nij", fits.theta, slopes)
        residual = (fits.N - fits.D)[:, depth, :q, :q]
        gradient -= 2.0 / tree.nu * np.einsum("nij,ntik,njk->nt", residual, slopes, Lam)
    return gradient


def _held_parameters(design: CompiledDesign, theta: Floats) -> NDArray[np.bool_]:
    held = np.zeros(theta.shape, dtype=bool)
    for size, t in zip(design.tree.blocks.size, design.tree.blocks.theta, strict=True):
        for j in range(size):
            held[:, t : t + size - j] = theta[:, t, None] == 0.0
            t += size - j
    return held
