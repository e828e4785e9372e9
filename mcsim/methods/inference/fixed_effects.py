"""Estimates, t intervals and tests of fixed effects, from coefficients and a df method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.engine.arithmetic.replicates import apply, dot, inverse_positive, product, transpose
from mcsim.methods.inference.df import DfMethod

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
