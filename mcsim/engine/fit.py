"""REML and ML fits of blocks of replicates: original columns in, original columns out."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.arithmetic.replicates import Flags, apply, dot, product, transpose
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.nested.blocks import entries
from mcsim.engine.nested.likelihood import Likelihood
from mcsim.engine.nested.moments import n_moments, reduce_block
from mcsim.engine.nested.tree import Floats, Ints, Moments, n_parameters
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.search import Evaluates, Optima, Search
from mcsim.engine.residuals.classes import sum_forms
from mcsim.engine.residuals.likelihood import ResidualLikelihood
from mcsim.engine.residuals.search import residual_optima


@dataclass(frozen=True)
class FitBlock:
    """Fits of one model to a block of replicates; levels with random effects, outermost first.

    beta : (n_replicates, p); beta_covariance : (n_replicates, p, p); T_inverse : the same in the
        coordinates of the tree and units of sigma
    sigma2 : (n_replicates,); covariances : per level (n_replicates, q, q), of the random effects
    theta : (n_replicates, n_theta) parameters of Lam, innermost level first; then those of the
        residuals
    order : (n_replicates, n_blocks, q) row of a block's factor that stands first, second, ...
    factors : per level (n_replicates, q, q) Lam; slopes : per level (n_replicates, n_theta, q, q)
        its derivative in theta
    hessian : second derivatives of -2 logLik; log_r2_gradient : derivative of log y'Py
    is_held : (n_replicates, n_theta) parameters in a column of Lam that is zero, or of the
        residuals where a variance is
    residual : (n_replicates, m) correlation of the residuals, or ratios of SDs; residual_slopes :
        (n_replicates, m, n_theta) derivatives, of ratios those of their logarithm
    scale : (n_replicates,) SD of the residuals (of the first stratum) in units of sigma;
        scale_slopes : (n_replicates, n_theta) derivatives of its logarithm
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
    residual: Floats
    residual_slopes: Floats
    scale: Floats
    scale_slopes: Floats


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
    responses = np.ascontiguousarray(responses)
    moments = reduce_block(design.reduction, responses)
    if design.residual is None:
        return moments
    return moments._replace(forms=sum_forms(design.residual, design.reduction, responses))


def reduction_key(design: CompiledDesign) -> str:
    """Equal for designs that reduce responses in the same way."""
    digest = hashlib.sha256(design.order.tobytes())
    parts = [*design.reduction, *(() if design.residual is None else design.residual.forms)]
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def n_values(design: CompiledDesign) -> int:
    """Numbers in the moments of a replicate, beside the least-squares fit and rss."""
    n_forms = 0
    if design.residual is not None:
        n_forms = design.residual.forms.n_forms * len(design.residual.whitening.group)
    return n_moments(design.reduction) + n_forms


def fit_moments(design: CompiledDesign, moments: Moments) -> FitBlock:
    """Fit every replicate."""
    optima = _optima(design, moments)
    found, n = optima.found, len(optima.theta)
    sigma2 = found.r2 / design.tree.model.nu
    to_original = np.tile(np.linalg.inv(design.R), (n, 1, 1))
    slopes = factor_slopes(design, optima.order)
    factors = tuple(weighted(slope, optima.theta) for slope in slopes)
    X_inverse = product(product(to_original, found.T_inverse), transpose(to_original))
    return FitBlock(
        beta=apply(to_original, moments.beta + found.beta),
        beta_covariance=sigma2[:, None, None] * X_inverse,
        T_inverse=found.T_inverse,
        sigma2=sigma2,
        covariances=tuple(sigma2[:, None, None] * product(Lam, transpose(Lam)) for Lam in factors),
        loglik=-0.5 * found.f,
        status=optima.status,
        evaluations=optima.evaluations,
        certificate=optima.violation,
        theta=optima.theta,
        order=optima.order,
        factors=factors,
        slopes=slopes,
        hessian=optima.hessian,
        log_r2_gradient=_log_r2_gradient(design, optima),
        is_held=optima.is_held,
        **_residual(design, optima.theta),
    )


def _residual(design: CompiledDesign, theta: Floats) -> dict[str, Floats]:
    """What is reported of the residuals."""
    n, n_theta, n_all = len(theta), n_parameters(design.tree), theta.shape[1]
    values, slopes, scale = np.zeros((n, 0)), np.zeros((n, 0, n_all)), np.ones(n)
    scale_slopes = np.zeros((n, n_all))
    if design.residual is not None:
        structure, z = design.residual.residual, theta[:, n_theta:]
        values, own = structure.values(z)
        slopes = np.concatenate([np.zeros((n, values.shape[1], n_theta)), own], axis=2)
        scale, scale_slopes[:, n_theta:] = structure.scale(z)
    return {
        "residual": values,
        "residual_slopes": slopes,
        "scale": scale,
        "scale_slopes": scale_slopes,
    }


def _optima(design: CompiledDesign, moments: Moments) -> Optima:
    if design.residual is not None:
        return residual_optima(design.tree, design.residual, moments)
    theta, order = plain_start(design.tree, len(moments.rss))
    search = Search(design.tree, likelihood_of(design, moments), theta, order)
    search.run()
    return search.optima()


def likelihood_of(design: CompiledDesign, moments: Moments) -> Evaluates:
    """The likelihood of all replicates."""
    if design.residual is None:
        return Likelihood(design.tree, moments)
    everyone = np.arange(len(moments.rss))
    return ResidualLikelihood(design.tree, design.residual, moments, everyone)


def factor_slopes(design: CompiledDesign, order: Ints) -> tuple[Floats, ...]:
    """D Lam / d theta of the original columns per level, outermost first: (n, n_theta, q, q).

    That of the residuals' parameters is zero.

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
    if design.residual is not None:
        n_theta += design.residual.residual.n_parameters
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


def _log_r2_gradient(design: CompiledDesign, optima: Optima) -> Floats:
    """Derivative of log y'Py in theta: -2 <sum (Z'Py)(Z'Py)', dLam Lam'> / y'Py."""
    n_theta, nu = n_parameters(design.tree), design.tree.model.nu
    gradient = (optima.found.gradient - optima.traces.gradient) / nu
    gradient[:, :n_theta] = 0.0
    for level, pattern in _patterns(design, optima.order).items():
        q, depth = pattern.shape[2], len(design.scales) - 1 - level
        residual = (optima.traces.D - optima.found.D)[:, depth, :q, :q] / nu
        Lam = weighted(pattern, optima.theta)
        for t in range(n_theta):
            change = product(pattern[:, t], transpose(Lam))
            for i in range(q):
                gradient[:, t] -= 2.0 * dot(residual[:, i], change[:, i])
    return gradient
