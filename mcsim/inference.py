"""Standard errors, degrees of freedom, intervals and tests: functions of the fit alone.

Fixed effects: t (or normal) intervals. SDs: Wald on the log scale; correlations: Wald on Fisher's z
scale (Pinheiro & Bates 2000, section 2.4.3); variances: the squares of the SD's. Components on the
boundary are held there and get no interval.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.df import DfMethod
from mcsim.engine.batched import apply, dot, inverse_positive, product, transpose
from mcsim.engine.reml import FitBlock

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ParameterBlock:
    """Estimates of one parameter over the replicates of a block; NaN where there is none."""

    parameter: str
    component: str
    estimate: Floats
    std_error: Floats
    df: Floats
    ci_lower: Floats
    ci_upper: Floats
    p_value: Floats


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

    def parameters(self) -> list[str]:
        """Names of the level's parameters, in the order of the estimates."""
        return [
            *(f"{self.level}.sd({name})" for name in self.columns),
            *(f"{self.level}.var({name})" for name in self.columns),
            *(
                f"{self.level}.cor({self.columns[i]},{self.columns[j]})"
                for i, j in self.correlated_pairs()
            ),
        ]


@dataclass(frozen=True)
class Contrast:
    """Linear combinations of the fixed effects, L (rows, p); more than one row are an F test."""

    name: str
    component: str
    L: Floats


def fixed_effects(
    beta: Floats, contrasts: Sequence[Contrast], df_method: DfMethod, confidence: float
) -> list[ParameterBlock]:
    """Estimates, t intervals and tests; for several rows F and its test.

    Parameters
    ----------
    beta : (n_replicates, p)
    """
    return [
        _t_test(beta, one, df_method, confidence)
        if len(one.L) == 1
        else _f_test(beta, one, df_method)
        for one in contrasts
    ]


def _t_test(
    beta: Floats, contrast: Contrast, df_method: DfMethod, confidence: float
) -> ParameterBlock:
    c = np.tile(contrast.L[0], (len(beta), 1))
    df = df_method.of_contrast(contrast.L[0])
    estimate, std_error = dot(c, beta), np.sqrt(dot(c, apply(df_method.covariance, c)))
    half = _t_quantile(0.5 + 0.5 * confidence, df) * std_error
    p_value = 2.0 * _t_probability(-np.abs(estimate / std_error), df)
    reported_df = np.where(np.isfinite(df), df, np.nan)
    return ParameterBlock(
        contrast.name, contrast.component, estimate, std_error, reported_df,
        estimate - half, estimate + half, p_value,
    )  # fmt: skip


def _f_test(beta: Floats, contrast: Contrast, df_method: DfMethod) -> ParameterBlock:
    """F as the estimate; no standard error and no interval."""
    rows = np.tile(contrast.L, (len(beta), 1, 1))
    df, scale = df_method.of_term(contrast.L)
    values = apply(rows, beta)
    inverse = inverse_positive(product(product(rows, df_method.covariance), transpose(rows)))
    F = scale * dot(values, apply(inverse, values)) / len(contrast.L)
    none = np.full(len(beta), np.nan)
    p_value = _f_probability(F, float(len(contrast.L)), df)
    reported_df = np.where(np.isfinite(df), df, np.nan)
    return ParameterBlock(
        contrast.name, contrast.component, F, none, reported_df, none, none, p_value
    )


def _t_quantile(p: float, df: Floats) -> Floats:
    """Quantile of the t distribution; of the normal one where the first df is infinite."""
    if np.all(df == df[0]):  # given by the design alone
        return np.full(len(df), special.ndtri(p) if np.isinf(df[0]) else special.stdtrit(df[0], p))
    return np.asarray(special.stdtrit(df, p))


def _t_probability(t: Floats, df: Floats) -> Floats:
    """P(T <= t) of the t distribution; of the normal one where the first df is infinite."""
    return np.asarray(special.ndtr(t) if np.isinf(df[0]) else special.stdtr(df, t))


def _f_probability(F: Floats, numerator_df: float, df: Floats) -> Floats:
    """P(F or more) of the F distribution; of chi-squared where the first df is infinite."""
    if np.isinf(df[0]):
        return np.asarray(special.chdtrc(numerator_df, numerator_df * F))
    return np.asarray(special.fdtrc(numerator_df, df, F))


def without_interval(parameter: str, component: str, estimate: Floats) -> ParameterBlock:
    """Estimates of a program that gives no standard error for this parameter."""
    none = np.full(len(estimate), np.nan)
    return ParameterBlock(parameter, component, estimate, none, none, none, none, none)


def variance_components(
    fit: FitBlock, levels: Sequence[RandomNames], nu: float, confidence: float
) -> list[ParameterBlock]:
    """SDs, variances and correlations per level, outermost first, then sigma."""
    covariance = component_covariance(fit, nu)
    quantile = float(special.ndtri(0.5 + 0.5 * confidence))
    blocks = []
    for names, Lam, Sigma, slopes in zip(
        levels, fit.factors, fit.covariances, fit.slopes, strict=True
    ):
        blocks += _level_components(names, Lam, Sigma, slopes, covariance, quantile)
    sigma = np.sqrt(fit.sigma2)
    blocks.append(_log_scale("sigma", "residual", sigma, 0.25 * covariance[:, -1, -1], quantile))
    return blocks


def component_covariance(fit: FitBlock, nu: float) -> Floats:
    """Covariance of (theta, log sigma^2), zero in entries held at the boundary, NaN where none.

    The observed information; the profiled Hessian is completed by the terms of log sigma^2:
    d2/dtheta dlog(sigma2) = -nu dlog(r2)/dtheta and d2/dlog(sigma2)2 = nu.
    """
    n, n_theta = fit.theta.shape
    full = np.zeros((n, n_theta + 1, n_theta + 1))
    gradient = fit.log_r2_gradient
    full[:, :-1, :-1] = fit.hessian + nu * gradient[:, :, None] * gradient[:, None, :]
    full[:, :-1, -1] = full[:, -1, :-1] = -nu * gradient
    full[:, -1, -1] = nu
    held = np.hstack([fit.is_held, np.zeros((n, 1), dtype=bool)])
    full[held[:, :, None] | held[:, None, :]] = 0.0
    full[held[:, :, None] & np.eye(n_theta + 1, dtype=bool)] = 1.0
    full[~np.isfinite(full).all(axis=(1, 2))] = -np.eye(n_theta + 1)  # no information
    covariance = 2.0 * inverse_positive(full)
    covariance[held[:, :, None] | held[:, None, :]] = 0.0
    return covariance


def _level_components(
    names: RandomNames,
    Lam: Floats,
    Sigma: Floats,
    slopes: Floats,
    covariance: Floats,
    quantile: float,
) -> list[ParameterBlock]:
    """All components of one level; delta method from (theta, log sigma^2)."""
    # dPsi[n, t, i, j] = d(Lam Lam')/dtheta
    dPsi = np.stack([product(slopes[:, t], transpose(Lam)) for t in range(slopes.shape[1])], axis=1)
    dPsi = dPsi + np.swapaxes(dPsi, 2, 3)
    Psi = product(Lam, transpose(Lam))
    sds, variances, correlations = [], [], []
    for i, name in enumerate(names.columns):
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = dPsi[:, :, i, i] / (2.0 * Psi[:, i, i, None])
        weights = np.hstack([slope, np.full((len(slope), 1), 0.5)])
        sd = np.sqrt(Sigma[:, i, i])
        sds.append(
            _log_scale(
                f"{names.level}.sd({name})",
                names.level,
                sd,
                _variance_of(weights, covariance),
                quantile,
            )
        )
        variances.append(_squared(sds[-1], f"{names.level}.var({name})"))
    for i, j in names.correlated_pairs():
        label = f"{names.level}.cor({names.columns[i]},{names.columns[j]})"
        correlations.append(
            _fisher_z(
                label,
                names.level,
                (Psi[:, i, i], Psi[:, i, j], Psi[:, j, j]),
                (dPsi[:, :, i, i], dPsi[:, :, i, j], dPsi[:, :, j, j]),
                covariance,
                quantile,
            )
        )
    return sds + variances + correlations


def _variance_of(weights: Floats, covariance: Floats) -> Floats:
    return dot(weights, apply(covariance, weights))


def _log_scale(
    parameter: str, component: str, sd: Floats, log_variance: Floats, quantile: float
) -> ParameterBlock:
    """Wald interval on the log scale; none at zero."""
    none = np.full(len(sd), np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        log_se = np.where(sd > 0, np.sqrt(log_variance), np.nan)
        lower, upper = sd * np.exp(-quantile * log_se), sd * np.exp(quantile * log_se)
    upper = np.where(np.isfinite(upper), upper, np.nan)
    lower = np.where(np.isfinite(upper), lower, np.nan)
    return ParameterBlock(parameter, component, sd, sd * log_se, none, lower, upper, none)


def _squared(sd: ParameterBlock, parameter: str) -> ParameterBlock:
    with np.errstate(over="ignore"):
        upper = sd.ci_upper**2
    return ParameterBlock(
        parameter,
        sd.component,
        sd.estimate**2,
        2.0 * sd.estimate * sd.std_error,
        sd.df,
        np.where(np.isfinite(upper), sd.ci_lower**2, np.nan),
        np.where(np.isfinite(upper), upper, np.nan),
        sd.p_value,
    )


def _fisher_z(
    parameter: str,
    component: str,
    Psi: tuple[Floats, Floats, Floats],
    dPsi: tuple[Floats, Floats, Floats],
    covariance: Floats,
    quantile: float,
) -> ParameterBlock:
    """Correlation with its Wald interval on the z scale; none at +-1 or where an SD is zero."""
    first, cross, second = Psi
    none = np.full(len(first), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.clip(cross / np.sqrt(first * second), -1.0, 1.0)
        gradient = dPsi[1] / np.sqrt(first * second)[:, None] - 0.5 * correlation[:, None] * (
            dPsi[0] / first[:, None] + dPsi[2] / second[:, None]
        )
        weights = np.hstack([gradient, np.zeros((len(first), 1))])
        inside = np.abs(correlation) < 1.0 - 1e-12
        correlation = np.where(inside, correlation, np.sign(correlation))
        std_error = np.where(inside, np.sqrt(_variance_of(weights, covariance)), np.nan)
        z, z_se = np.arctanh(correlation), std_error / (1.0 - correlation**2)
        lower, upper = np.tanh(z - quantile * z_se), np.tanh(z + quantile * z_se)
    return ParameterBlock(parameter, component, correlation, std_error, none, lower, upper, none)
