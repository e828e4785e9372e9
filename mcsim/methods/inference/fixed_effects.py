"""Estimates, t intervals and tests of fixed effects, from coefficients and a df method."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.engine.arithmetic.replicates import apply, dot, inverse_positive, product, transpose
from mcsim.methods.inference.df import DfMethod
from mcsim.names import ESTIMATES, Parameter

Floats = NDArray[np.float64]


def _null() -> Floats:
    """In the place of a number that is left out."""
    return np.array(np.nan)


@dataclass(frozen=True)
class ParameterBlock:
    """Estimates of one parameter over the replicates of a block; NaN where there is none.

    A number that is left out is NaN in every replicate; without an estimate there is one replicate.
    """

    parameter: Parameter
    estimate: Floats = field(default_factory=_null)
    std_error: Floats = field(default_factory=_null)
    df: Floats = field(default_factory=_null)
    ci_lower: Floats = field(default_factory=_null)
    ci_upper: Floats = field(default_factory=_null)
    p_value: Floats = field(default_factory=_null)

    def __post_init__(self) -> None:
        for name in ESTIMATES:
            if getattr(self, name).ndim == 0:
                object.__setattr__(self, name, np.full(self.estimate.shape or 1, np.nan))


@dataclass(frozen=True)
class Contrast:
    """Linear combinations of the fixed effects, L (rows, p); more than one row are an F test."""

    parameter: Parameter
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
        contrast.parameter, estimate, std_error, reported_df, estimate - half, estimate + half,
        p_value,
    )  # fmt: skip


def _f_test(beta: Floats, contrast: Contrast, df_method: DfMethod) -> ParameterBlock:
    """F as the estimate; no standard error and no interval."""
    rows = np.tile(contrast.L, (len(beta), 1, 1))
    df, scale = df_method.of_term(contrast.L)
    values = apply(rows, beta)
    inverse = inverse_positive(product(product(rows, df_method.covariance), transpose(rows)))
    F = scale * dot(values, apply(inverse, values)) / len(contrast.L)
    p_value = _f_probability(F, float(len(contrast.L)), df)
    reported_df = np.where(np.isfinite(df), df, np.nan)
    return ParameterBlock(contrast.parameter, F, df=reported_df, p_value=p_value)


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
