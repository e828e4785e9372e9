"""Estimates, t intervals and tests of fixed effects, from coefficients and a df method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.engine.arithmetic.replicates import apply, dot, inverse_positive, product, transpose
from mcsim.methods.inference.df import DfMethod
from mcsim.names import AT_TRUTH, ESTIMATES, Parameter

Floats = NDArray[np.float64]


def _null() -> Floats:
    """In the place of a number that is left out."""
    return np.array(np.nan)


@dataclass(frozen=True)
class ParameterBlock:
    """Estimates of one parameter over the replicates of a block; NaN where there is none.

    A number that is left out is NaN in every replicate; without an estimate there is one replicate.
    shift, true_se : given all but the mean of the responses, the estimate is normal about the truth
        plus `shift` with this SD
    """

    parameter: Parameter
    estimate: Floats = field(default_factory=_null)
    std_error: Floats = field(default_factory=_null)
    df: Floats = field(default_factory=_null)
    ci_lower: Floats = field(default_factory=_null)
    ci_upper: Floats = field(default_factory=_null)
    p_value: Floats = field(default_factory=_null)
    shift: Floats = field(default_factory=_null)
    true_se: Floats = field(default_factory=_null)

    def __post_init__(self) -> None:
        for name in (*ESTIMATES, *AT_TRUTH):
            if getattr(self, name).ndim == 0:
                object.__setattr__(self, name, np.full(self.estimate.shape or 1, np.nan))

    def of(self, rows: slice) -> "ParameterBlock":
        """That of some replicates of the block."""
        given = {name: getattr(self, name) for name in (*ESTIMATES, *AT_TRUTH)}
        own = {name: one[rows] if len(one) > 1 else one for name, one in given.items()}
        return ParameterBlock(self.parameter, **own)


@dataclass(frozen=True)
class Contrast:
    """Linear combinations of the fixed effects, L (rows, p); more than one row are an F test."""

    parameter: Parameter
    L: Floats


def fixed_effects(
    beta: Floats, contrasts: Sequence[Contrast], df_method: DfMethod, confidence: float
) -> list[ParameterBlock]:
    """Estimates, t intervals and tests; for terms F and its test.

    Parameters
    ----------
    beta : (n_replicates, p)
    """
    return [
        _contrast_test(beta, one, df_method, confidence)
        if one.parameter.kind != "term"
        else _f_test(beta, one, df_method)
        for one in contrasts
    ]


def t_test(
    estimate: Floats, std_error: Floats, df: Floats, confidence: float
) -> tuple[Floats, Floats, Floats]:
    """Lower and upper limits and the p-value of 0, by the t distribution; infinite df: normal.

    NaN where a number is missing, or the standard error is 0.
    """
    t = -np.abs(estimate) / np.where(std_error > 0.0, std_error, np.nan)
    is_one = np.all(df == df.flat[0])  # given by the design alone
    one = np.asarray(df.flat[0]) if is_one else df
    half = _by_df(special.stdtrit, special.ndtri, one, 0.5 + 0.5 * confidence) * std_error
    tail = _by_df(special.stdtr, special.ndtr, df, t)
    return estimate - half, estimate + half, 2.0 * tail


def _by_df(
    of_t: Callable[..., Floats], of_normal: Callable[..., Floats], df: Floats, x: Floats | float
) -> Floats:
    """A function of the t distribution at x; of the normal one where df are infinite."""
    is_normal = np.isinf(df)
    if is_normal.all():
        return of_normal(x)
    if not is_normal.any():
        return of_t(df, x)
    return np.where(is_normal, of_normal(x), of_t(np.where(is_normal, 1.0, df), x))


def _contrast_test(
    beta: Floats, contrast: Contrast, df_method: DfMethod, confidence: float
) -> ParameterBlock:
    c = np.tile(contrast.L[0], (len(beta), 1))
    df = df_method.of_contrast(contrast.L[0])
    estimate, variance = dot(c, beta), dot(c, apply(df_method.covariance, c))
    std_error = np.sqrt(np.where(variance < 0.0, np.nan, variance))  # lost to rounding
    reported_df = np.where(np.isfinite(df), df, np.nan)
    tested = t_test(estimate, std_error, df, confidence)
    return ParameterBlock(contrast.parameter, estimate, std_error, reported_df, *tested)


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


def _f_probability(F: Floats, numerator_df: float, df: Floats) -> Floats:
    """P(F or more) of the F distribution; of chi-squared where the first df is infinite."""
    if np.isinf(df[0]):
        return np.asarray(special.chdtrc(numerator_df, numerator_df * F))
    return np.asarray(special.fdtrc(numerator_df, df, F))
