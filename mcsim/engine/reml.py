"""REML and ML fits of blocks of replicates: original columns in, original columns out."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.batched import Flags, apply, dot, product, transpose
from mcsim.engine.blocks import entries, held_parameters
from mcsim.engine.collapse import CompiledDesign
from mcsim.engine.moments import reduce_block
from mcsim.engine.optimise import Search
from mcsim.engine.tree import Floats, Ints, Moments, n_parameters


@dataclass(frozen=True)
class FitBlock:
    """Fits of one model to a block of replicates; levels with random effects, outermost first.

    beta : (n_replicates, p); beta_covariance : (n_replicates, p, p); T_inverse : the same in the
        coordinates of the tree and units of sigma
    sigma2 : (n_replicates,); covariances : per level (n_replicates, q, q), of the random effects
    theta : (n_replicates, n_theta) parameters of Lam, innermost level first
    order : (n_replicates, n_blocks, q) row of a block's factor that stands first, second, ...
    factors : per level (n_replicates, q, q) Lam; slopes : per level (n_replicates, n_theta, q, q)
        its derivative in theta
    hessian : second derivatives of -2 logLik; log_r2_gradient : derivative of log y'Py
    is_held : (n_replicates, n_theta) parameters in a column of Lam that is zero
    certificate : (n_replicates,) relative violation of the first-order conditions
    """

    beta: Floats
    beta_covariance: Floats
    T_inverse: Floats
    sigma2: Floats
    covariances: tuple[Floats, ...]
    loglik: Floats
    status: Ints
    evaluations: Ints
    certificate: Floats
    theta: Floats
    order: Ints
    factors: tuple[Floats, ...]
    slopes: tuple[Floats, ...]
    hessian: Floats
    log_r2_gradient: Floats
    is_held: Flags


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


def reduction_key(design: CompiledDesign) -> str:
    """Equal for designs that reduce responses in the same way."""
    digest = hashlib.sha256(design.order.tobytes())
    for part in design.reduction:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def fit_moments(design: CompiledDesign, moments: Moments) -> FitBlock:
    """Fit every replicate."""
    tree = design.tree
    search = Search(tree, moments)
    search.run()
    found = search.found
    n = len(search.theta)
    sigma2 = found.r2 / tree.model.nu
    to_original = np.tile(np.linalg.inv(design.R), (n, 1, 1))
    slopes = factor_slopes(design, search.order)
    factors = tuple(weighted(slope, search.theta) for slope in slopes)
    X_inverse = product(product(to_original, found.T_inverse), transpose(to_original))
    return FitBlock(
        beta=apply(to_original, moments.beta + found.beta),
        beta_covariance=sigma2[:, None, None] * X_inverse,
        T_inverse=found.T_inverse,
        sigma2=sigma2,
        covariances=tuple(sigma2[:, None, None] * product(Lam, transpose(Lam)) for Lam in factors),
        loglik=-0.5 * found.f,
        status=search.status,
        evaluations=search.evaluations,
        certificate=search.violation,
        theta=search.theta,
        order=search.order,
        factors=factors,
        slopes=slopes,
        hessian=search.hessian,
        log_r2_gradient=_log_r2_gradient(design, search),
        is_held=held_parameters(tree.blocks, search.theta),
    )


def factor_slopes(design: CompiledDesign, order: Ints) -> tuple[Floats, ...]:
    """D Lam / d theta of the original columns per level, outermost first: (n, n_theta, q, q).

    Parameters
    ----------
    order : (n, n_blocks, q) row of a block's factor that stands first, second, ...
    """
    patterns = _patterns(design, order)
    return tuple(_scaled(design.scales[level], pattern) for level, pattern in patterns.items())


def weighted(slopes: Floats, theta: Floats) -> Floats:
    """Sum of the slopes (n, n_theta, q, q), weighted by theta (n, n_theta): Lam."""
    total = np.zeros((len(theta), *slopes.shape[2:]))
    for t in range(theta.shape[1]):
        total += theta[:, t, None, None] * slopes[:, t]
    return total


def _patterns(design: CompiledDesign, order: Ints) -> dict[int, Floats]:
    """D Lam / d theta in columns of unit scale, per level with random effects, outermost first."""
    blocks, n_levels = design.tree.blocks, len(design.scales)
    n, n_theta = len(order), n_parameters(design.tree)
    patterns = {
        level: np.zeros((n, n_theta, *S.shape)) for level, S in enumerate(design.scales) if len(S)
    }
    for t, (b, i, j) in enumerate(entries(blocks)):
        level, first = n_levels - 1 - int(blocks.level[b]), int(blocks.first[b])
        if blocks.is_matrix[b]:
            row = first + order[:, b, i]
            patterns[level][np.arange(n), t, row, first + j] = 1.0
        else:
            q = len(design.scales[level])
            patterns[level][:, t] = blocks.Q[b][:q, :q]
    return patterns


def _scaled(S: Floats, patterns: Floats) -> Floats:
    """S times every pattern."""
    flat = patterns.reshape(-1, *S.shape)
    return product(np.broadcast_to(S, flat.shape), flat).reshape(patterns.shape)


def _log_r2_gradient(design: CompiledDesign, search: Search) -> Floats:
    """Derivative of log y'Py in theta: -2 <sum (Z'Py)(Z'Py)', dLam Lam'> / y'Py."""
    gradient = np.zeros_like(search.theta)
    for level, pattern in _patterns(design, search.order).items():
        q, depth = pattern.shape[2], len(design.scales) - 1 - level
        residual = (search.N - search.found.D)[:, depth, :q, :q] / design.tree.model.nu
        Lam = weighted(pattern, search.theta)
        for t in range(pattern.shape[1]):
            change = product(pattern[:, t], transpose(Lam))
            for i in range(q):
                gradient[:, t] -= 2.0 * dot(residual[:, i], change[:, i])
    return gradient
