"""REML and ML fits of blocks of replicates: original columns in, original columns out."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.replicates import (
    apply,
    dot,
    generalized_inverse,
    inverse_positive,
    product,
    transpose,
)
from mcsim.engine.blocks import entries, n_parameters
from mcsim.engine.compile import CompiledDesign, likelihood_of
from mcsim.engine.crossed.moments import reduce_crossed
from mcsim.engine.crossed.sums import CrossedReduction
from mcsim.engine.nested.moments import Moments, reduce_block
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.search import Optima, Search
from mcsim.engine.residuals.classes import sum_forms
from mcsim.engine.residuals.likelihood import ResidualLikelihood
from mcsim.engine.residuals.search import residual_optima


@dataclass(frozen=True)
class ResidualEstimates:
    """What is reported of residuals with a structure, and its derivatives in theta.

    values : (n_replicates, m) correlations, or ratios of SDs; slopes : (n_replicates, m, n_theta),
        of ratios those of their logarithm
    sd : (n_replicates,) that of the residuals (of the first stratum) in units of sigma;
        sd_slopes : (n_replicates, n_theta) of its logarithm
    is_ratio : whether the values are ratios
    """

    values: Floats
    slopes: Floats
    sd: Floats
    sd_slopes: Floats
    is_ratio: bool


class Curvature:
    """The likelihood around the optima of a block: what intervals, df and profiles read.

    theta : (n_replicates, n_theta) parameters of Lam, innermost level first; then those of the
        residuals
    order : (n_replicates, n_blocks, q) row of a block's factor that stands first, second, ...
    hessian : second derivatives of -2 logLik
    is_held : (n_replicates, n_theta) parameters in a column of Lam that is zero, or of the
        residuals where a variance is
    nu : (n_replicates,) degrees of freedom of sigma^2
    T_inverse : (n_replicates, p, p) covariance of the coefficients in the coordinates of the tree
        and units of sigma
    slopes : per level (n_replicates, n_theta, q, q) derivatives of the factor in theta
    factors : per level (n_replicates, q, q) Lam
    inverse : of an information matrix (n, m, m), which has null vectors where the design does not
        tell covariances apart
    """

    def __init__(self, design: CompiledDesign, optima: Optima) -> None:
        self.theta, self.order, self.hessian = optima.theta, optima.order, optima.hessian
        self.is_held, self.nu = optima.is_held, np.broadcast_to(design.nu, len(optima.theta))
        self.T_inverse = optima.found.T_inverse
        is_flat = any(map(len, design.starts[0].flat))
        self.inverse = generalized_inverse if is_flat else inverse_positive
        self.slopes = factor_slopes(design, optima.order)
        self.factors = tuple(weighted(slope, optima.theta) for slope in self.slopes)
        self._design, self._optima = design, optima

    @cached_property
    def residual(self) -> ResidualEstimates:
        """What is reported of the residuals."""
        return _residual(self._design, self.theta)

    @cached_property
    def log_r2_gradient(self) -> Floats:
        """Derivative of log y'Py in theta: -2 <sum (Z'Py)(Z'Py)', dLam Lam'> / y'Py."""
        return _log_r2_gradient(self._design, self._optima)


@dataclass(frozen=True)
class Fit:
    """Fits of one model to a block of replicates; levels with random effects, outermost first.

    coefficients : (n_replicates, p); covariance : (n_replicates, p, p), theirs
    covariances : per level (n_replicates, q, q), of the random effects
    scale : (n_replicates,) sigma^2, the unit of the covariances of a response
    certificate : (n_replicates,) relative violation of the first-order conditions
    """

    coefficients: Floats
    covariance: Floats
    covariances: tuple[Floats, ...]
    scale: Floats
    loglik: Floats
    status: Ints
    evaluations: Ints
    certificate: Floats
    curvature: Curvature


def fit_block(design: CompiledDesign, responses: Floats) -> Fit:
    """Fit every response.

    Parameters
    ----------
    responses : (n_replicates, n_rows), rows in the order in which the design was given
    """
    return fit_moments(design, reduce_responses(design, responses))


def reduce_responses(design: CompiledDesign, responses: Floats) -> Moments:
    """What the fits need of responses (n_replicates, n_rows), rows as the design was given."""
    if not np.array_equal(design.order, np.arange(design.n_rows)):
        responses = responses[:, design.order]
    return reduce_sorted(design, np.ascontiguousarray(responses))


def reduce_sorted(design: CompiledDesign, responses: Floats) -> Moments:
    """The same of rows in the order of the compiled design."""
    if isinstance(design.reduction, CrossedReduction):
        return reduce_crossed(design.reduction, responses)
    assert design.reduction is not None
    moments = reduce_block(design.reduction, responses)
    if design.residual is None:
        return moments
    return moments._replace(forms=sum_forms(design.residual, design.reduction, responses))


def reduction_key(design: CompiledDesign) -> str:
    """Equal for designs that reduce responses in the same way."""
    digest = hashlib.sha256(design.order.tobytes())
    parts = list(design.reduction or ())
    if design.residual is not None:
        digest.update(type(design.residual.structure).__name__.encode())
        parts += [*design.residual.units, design.residual.k]
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def fit_moments(design: CompiledDesign, moments: Moments) -> Fit:
    """Fit every replicate."""
    optima = _optima(design, moments)
    found, curvature = optima.found, Curvature(design, optima)
    sigma2 = found.r2 / design.nu
    to_original = inverse_of_R(design, len(sigma2))
    X_inverse = product(product(to_original, found.T_inverse), transpose(to_original))
    return Fit(
        coefficients=apply(to_original, moments.beta + found.beta),
        covariance=sigma2[:, None, None] * X_inverse,
        covariances=tuple(
            sigma2[:, None, None] * product(Lam, transpose(Lam)) for Lam in curvature.factors
        ),
        scale=sigma2,
        loglik=-0.5 * found.f,
        status=optima.status,
        evaluations=optima.evaluations,
        certificate=optima.violation,
        curvature=curvature,
    )


def inverse_of_R(design: CompiledDesign, n: int) -> Floats:
    """What turns coefficients of the coordinates of the tree into those of X: (n, p, p)."""
    inverse = np.linalg.inv(design.R)
    return np.asarray(np.broadcast_to(inverse, (n, *inverse.shape[-2:])))


def _optima(design: CompiledDesign, moments: Moments) -> Optima:
    likelihood, n = likelihood_of(design, moments), len(moments.rss)
    if isinstance(likelihood, ResidualLikelihood):
        return residual_optima(likelihood, design.starts, n)
    search = Search(likelihood, np.arange(n), *plain_start(design.blocks, n))
    search.begin(design.starts[0])
    search.run()
    return search.optima()


def _residual(design: CompiledDesign, theta: Floats) -> ResidualEstimates:
    n, n_theta = theta.shape
    sd_slopes = np.zeros((n, n_theta))
    if design.residual is None:
        none = np.zeros((n, 0)), np.zeros((n, 0, n_theta))
        return ResidualEstimates(*none, np.ones(n), sd_slopes, is_ratio=False)
    structure, first = design.residual.structure, n_parameters(design.blocks)
    values, own = structure.values(theta[:, first:])
    slopes = np.concatenate([np.zeros((n, values.shape[1], first)), own], axis=2)
    sd, sd_slopes[:, first:] = structure.scale(theta[:, first:])
    return ResidualEstimates(values, slopes, sd, sd_slopes, structure.is_ratio)


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
    blocks, n_levels = design.blocks, len(design.scales)
    n, n_theta = len(order), design.n_parameters
    patterns = {
        level: np.zeros((n, n_theta, *S.shape[-2:]))
        for level, S in enumerate(design.scales)
        if S.shape[-1]
    }
    for t, (b, i, j) in enumerate(entries(blocks)):
        level, first = n_levels - 1 - int(blocks.level[b]), int(blocks.first[b])
        if blocks.is_matrix[b]:
            row = first + order[:, b, i]
            patterns[level][np.arange(n), t, row, first + j] = 1.0
        else:
            q = design.scales[level].shape[-1]
            patterns[level][:, t] = blocks.Q[b][:q, :q]
    return patterns


def _scaled(S: Floats, patterns: Floats) -> Floats:
    """S times every pattern."""
    everywhere = np.broadcast_to(S[..., None, :, :], patterns.shape)
    flat = (-1, *S.shape[-2:])
    return product(everywhere.reshape(flat), patterns.reshape(flat)).reshape(patterns.shape)


def _log_r2_gradient(design: CompiledDesign, optima: Optima) -> Floats:
    n_theta, nu = n_parameters(design.blocks), np.reshape(design.nu, (-1, 1, 1))
    gradient = (optima.found.gradient - optima.traces.gradient) / nu[:, 0]
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
