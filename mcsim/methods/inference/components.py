"""Variance components with Wald intervals: functions of the fit alone.

SDs: Wald on the log scale; correlations: on Fisher's z scale (Pinheiro & Bates 2000, section
2.4.3); variances: the squares of the SD's; shares of variance: on the logit scale. Components on
the boundary are held there and get no interval; nor do SDs whose limits would be beyond a
thousandth and the thousandfold of the estimate, which lie next to it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.engine.arithmetic.replicates import apply, dot, product, transpose
from mcsim.engine.fit import Curvature, Fit
from mcsim.engine.laplace.fit import LaplaceFit
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.names import DISPERSION, SIGMA, Parameter

Floats = NDArray[np.float64]

BELOW_ONE = np.nextafter(1.0, 0.0)  # the z scale holds no correlation of 1, whatever rounding says
LARGEST_HALF_WIDTH = math.log(1e3)  # of the interval of log SD: a thousandth to the thousandfold


@dataclass(frozen=True)
class RandomNames:
    """What the random effects of one level are called; outermost level first."""

    level: str
    columns: tuple[str, ...]
    structures: tuple[tuple[str, int], ...]

    def correlated_pairs(self) -> list[tuple[int, int]]:
        """Positions of the columns that the model correlates."""
        pairs, first = [], 0
        for structure, size in self.structures:
            if structure != "identity":
                pairs += list(itertools.combinations(range(first, first + size), 2))
            first += size
        return pairs

    def sds(self) -> list[Parameter]:
        """The SD of every column."""
        return [Parameter.of_level("sd", self.level, name) for name in self.columns]

    def correlation(self, i: int, j: int) -> Parameter:
        """The correlation of two columns, given their positions."""
        return Parameter.of_level("correlation", self.level, self.columns[i], self.columns[j])

    def parameters(self) -> list[Parameter]:
        """The level's parameters, in the order of the estimates."""
        sds = self.sds()
        correlations = [self.correlation(i, j) for i, j in self.correlated_pairs()]
        return [*sds, *(one.as_variance for one in sds), *correlations]


def variance_components(
    fit: Fit,
    names: Sequence[RandomNames],
    *,
    residual: Sequence[Parameter] = (),
    derived: Sequence[Parameter] = (),
    confidence: float,
) -> list[ParameterBlock]:
    """SDs, variances and correlations per level, outermost first; sigma, `residual`; `derived`."""
    covariance, at = component_covariance(fit.curvature), fit.curvature
    estimates, quantile = (fit.scale, covariance), _quantile(confidence)
    levels = [_level(*one) for one in zip(names, at.factors, at.slopes, strict=True)]
    blocks = _components_of(levels, estimates, quantile)
    blocks += _residual_components(fit, residual, covariance, quantile)
    reported = fit.curvature.residual.sd, fit.curvature.residual.sd_slopes
    return blocks + [_derived(one, levels, estimates, quantile, reported) for one in derived]


def components_without_residuals(
    fit: LaplaceFit,
    names: Sequence[RandomNames],
    *,
    derived: Sequence[Parameter] = (),
    confidence: float,
) -> list[ParameterBlock]:
    """SDs, variances and correlations per level; the dispersion of counts; `derived`."""
    n, n_theta = len(fit.loglik), fit.component_covariance.shape[1]
    covariance = np.zeros((n, n_theta + 1, n_theta + 1))  # the last: a sigma that is known, 1
    covariance[:, :-1, :-1] = fit.component_covariance
    estimates, quantile = (np.ones(n), covariance), _quantile(confidence)
    levels = [_level(*one) for one in zip(names, fit.factors, fit.slopes, strict=True)]
    blocks = _components_of(levels, estimates, quantile)
    return blocks + [_derived(one, levels, estimates, quantile) for one in derived]


def dispersion_of(fit: LaplaceFit, confidence: float) -> ParameterBlock:
    """What mu^2 is divided by in the variance of counts; none where they vary as Poisson's do."""
    with np.errstate(divide="ignore"):
        value = 1.0 / np.where(fit.dispersion > 0.0, fit.dispersion, np.nan)
    return _log_scale(DISPERSION, value, fit.log_dispersion_se**2, _quantile(confidence))


def _quantile(confidence: float) -> float:
    return float(special.ndtri(0.5 + 0.5 * confidence))


def _components_of(
    levels: Sequence["_Level"], estimates: tuple[Floats, Floats], quantile: float
) -> list[ParameterBlock]:
    return [block for one in levels for block in _level_components(one, *estimates, quantile)]


def _residual_components(
    fit: Fit, parameters: Sequence[Parameter], covariance: Floats, quantile: float
) -> list[ParameterBlock]:
    """Sigma, and correlations or ratios of SDs."""
    residual = fit.curvature.residual
    weights = np.hstack([residual.sd_slopes, np.full((len(residual.sd), 1), 0.5)])
    sigma = np.sqrt(fit.scale) * residual.sd
    blocks = [_log_scale(SIGMA, sigma, _variance_of(weights, covariance), quantile)]
    for k, one in enumerate(parameters):
        value, slopes = residual.values[:, k], residual.slopes[:, k]
        variance = _variance_of(np.hstack([slopes, np.zeros((len(value), 1))]), covariance)
        if residual.is_ratio:
            blocks.append(_log_scale(one, value, variance, quantile))
        else:
            is_held = np.all(fit.curvature.is_held | (slopes == 0.0), axis=1)
            variance = np.where(is_held, np.nan, variance)
            blocks.append(_z_scale(one, value, variance, quantile))
    return blocks


def component_covariance(at: Curvature) -> Floats:
    """Covariance of (theta, log sigma^2), zero in entries held at the boundary, NaN where none.

    The observed information; the profiled Hessian is completed by the terms of log sigma^2:
    d2/dtheta dlog(sigma2) = -nu dlog(r2)/dtheta and d2/dlog(sigma2)2 = nu.
    """
    n, n_theta = at.theta.shape
    full = np.zeros((n, n_theta + 1, n_theta + 1))
    gradient, nu = at.log_r2_gradient, at.nu[:, None]
    full[:, :-1, :-1] = at.hessian + nu[:, None] * gradient[:, :, None] * gradient[:, None, :]
    full[:, :-1, -1] = full[:, -1, :-1] = -nu * gradient
    full[:, -1, -1] = at.nu
    held = np.hstack([at.is_held, np.zeros((n, 1), dtype=bool)])
    full[held[:, :, None] | held[:, None, :]] = 0.0
    full[held[:, :, None] & np.eye(n_theta + 1, dtype=bool)] = 1.0
    full[~np.isfinite(full).all(axis=(1, 2))] = -np.eye(n_theta + 1)  # no information
    covariance = 2.0 * at.inverse(full)
    covariance[held[:, :, None] | held[:, None, :]] = 0.0
    return covariance


class _Level(NamedTuple):
    """Covariance of one level's effects in units of sigma, and its derivatives in theta."""

    names: RandomNames
    Psi: Floats  # (n, q, q)
    slopes: Floats  # (n, n_theta, q, q)


def _level(names: RandomNames, Lam: Floats, slopes: Floats) -> _Level:
    dPsi = np.stack([product(slopes[:, t], transpose(Lam)) for t in range(slopes.shape[1])], axis=1)
    return _Level(names, product(Lam, transpose(Lam)), dPsi + np.swapaxes(dPsi, 2, 3))


def _level_components(
    level: _Level, sigma2: Floats, covariance: Floats, quantile: float
) -> list[ParameterBlock]:
    """All components of one level; delta method from (theta, log sigma^2)."""
    Psi, dPsi = level.Psi, level.slopes
    sds = [
        _sd(one, (Psi[:, i, i], dPsi[:, :, i, i]), (sigma2, covariance), quantile)
        for i, one in enumerate(level.names.sds())
    ]
    correlations = [
        _fisher_z(
            level.names.correlation(i, j),
            (Psi[:, i, i], Psi[:, i, j], Psi[:, j, j]),
            (dPsi[:, :, i, i], dPsi[:, :, i, j], dPsi[:, :, j, j]),
            covariance,
            quantile,
        )
        for i, j in level.names.correlated_pairs()
    ]
    return [*sds, *map(_squared, sds), *correlations]


def _sd(
    parameter: Parameter,
    psi: tuple[Floats, Floats],
    estimates: tuple[Floats, Floats],
    quantile: float,
) -> ParameterBlock:
    """SD of sigma^2 psi, from psi (n,) and its derivatives in theta (n, n_theta)."""
    (value, slope), (sigma2, covariance) = psi, estimates
    with np.errstate(divide="ignore", invalid="ignore"):
        half = slope / (2.0 * value[:, None])
    weights = np.hstack([half, np.full((len(half), 1), 0.5)])
    variance = _variance_of(weights, covariance)
    return _log_scale(parameter, np.sqrt(sigma2 * value), variance, quantile)


def _derived(
    parameter: Parameter,
    levels: Sequence[_Level],
    estimates: tuple[Floats, Floats],
    quantile: float,
    residual: tuple[Floats | float, Floats | float] = (1.0, 0.0),
) -> ParameterBlock:
    """Sum of the variances of a column over all levels, or a level's share of all variance.

    Parameters
    ----------
    residual : the SD that is reported as sigma, in units of it, and the slopes of its logarithm
    """
    found = {
        level.names.level: (level.Psi[:, i, i], level.slopes[:, :, i, i])
        for level in levels
        for i, column in enumerate(level.names.columns)
        if parameter.is_of_column(column)
    }
    psi, slope = (np.sum(np.stack(one), axis=0) for one in zip(*found.values(), strict=True))
    if parameter.kind != "icc":
        sd = _sd(parameter, (psi, slope), estimates, quantile)
        return _squared(sd) if parameter.is_variance else sd
    own, own_slope = found[str(parameter.level)]
    variance = np.asarray(residual[0]) ** 2
    whole = psi + variance
    of_whole = slope + 2.0 * variance[..., None] * residual[1]
    share = own / whole
    gradient = (own_slope - share[:, None] * of_whole) / whole[:, None]
    weights = np.hstack([gradient, np.zeros((len(share), 1))])
    return _logit_scale(parameter, share, _variance_of(weights, estimates[1]), quantile)


def _logit_scale(
    parameter: Parameter, share: Floats, variance: Floats, quantile: float
) -> ParameterBlock:
    """Share with its Wald interval on the logit scale; none at zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        std_error = np.where(share > 0.0, np.sqrt(variance), np.nan)
        half = quantile * std_error / (share * (1.0 - share))
        lower, upper = special.expit(special.logit(share) + half * np.array([[-1.0], [1.0]]))
    return ParameterBlock(parameter, share, std_error, ci_lower=lower, ci_upper=upper)


def _variance_of(weights: Floats, covariance: Floats) -> Floats:
    return dot(weights, apply(covariance, weights))


def _log_scale(
    parameter: Parameter, sd: Floats, log_variance: Floats, quantile: float
) -> ParameterBlock:
    """Wald interval on the log scale; none at zero, nor where its limits say nothing."""
    with np.errstate(invalid="ignore", over="ignore"):
        log_se = np.where(sd > 0, np.sqrt(log_variance), np.nan)
        lower, upper = sd * np.exp(-quantile * log_se), sd * np.exp(quantile * log_se)
    says_something = np.isfinite(upper) & (quantile * log_se <= LARGEST_HALF_WIDTH)
    upper, lower = (np.where(says_something, limit, np.nan) for limit in (upper, lower))
    return ParameterBlock(parameter, sd, sd * log_se, ci_lower=lower, ci_upper=upper)


def _squared(sd: ParameterBlock) -> ParameterBlock:
    """The variance of an SD."""
    with np.errstate(over="ignore"):
        upper = sd.ci_upper**2
    return ParameterBlock(
        sd.parameter.as_variance,
        sd.estimate**2,
        2.0 * sd.estimate * sd.std_error,
        ci_lower=np.where(np.isfinite(upper), sd.ci_lower**2, np.nan),
        ci_upper=np.where(np.isfinite(upper), upper, np.nan),
    )


def _fisher_z(
    parameter: Parameter,
    Psi: tuple[Floats, Floats, Floats],
    dPsi: tuple[Floats, Floats, Floats],
    covariance: Floats,
    quantile: float,
) -> ParameterBlock:
    """Correlation with its Wald interval on the z scale; none at +-1 or where an SD is zero."""
    first, cross, second = Psi
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.clip(cross / np.sqrt(first * second), -1.0, 1.0)
        gradient = dPsi[1] / np.sqrt(first * second)[:, None] - 0.5 * correlation[:, None] * (
            dPsi[0] / first[:, None] + dPsi[2] / second[:, None]
        )
        weights = np.hstack([gradient, np.zeros((len(first), 1))])
        variance = _variance_of(weights, covariance)
    return _z_scale(parameter, correlation, variance, quantile)


def _z_scale(
    parameter: Parameter, correlation: Floats, variance: Floats, quantile: float
) -> ParameterBlock:
    """Wald interval on the z scale; none at +-1 or where there is no variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.abs(correlation) < 1.0 - 1e-12
        correlation = np.where(inside, correlation, np.sign(correlation))
        std_error = np.where(inside, np.sqrt(variance), np.nan)
        z, z_se = np.arctanh(correlation), std_error / (1.0 - correlation**2)
        limits = np.tanh(z - quantile * z_se), np.tanh(z + quantile * z_se)
        lower, upper = (np.clip(limit, -BELOW_ONE, BELOW_ONE) for limit in limits)
    return ParameterBlock(parameter, correlation, std_error, ci_lower=lower, ci_upper=upper)
