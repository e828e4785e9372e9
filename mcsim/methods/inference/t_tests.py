"""Intervals and p-values from estimates, standard errors and degrees of freedom."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]


def t_test(
    estimate: Floats, std_error: Floats, df: Floats, confidence: float
) -> tuple[Floats, Floats, Floats]:
    """Lower and upper limits and the p-value of 0, by the t distribution; infinite df: normal.

    NaN where a number is missing, or the standard error is 0.
    """
    is_normal, upper = np.isinf(df), 0.5 + 0.5 * confidence
    finite = np.where(is_normal, 1.0, df)
    quantile = np.where(is_normal, special.ndtri(upper), special.stdtrit(finite, upper))
    t = -np.abs(estimate) / np.where(std_error > 0.0, std_error, np.nan)
    tail = np.where(is_normal, special.ndtr(t), special.stdtr(finite, t))
    half = quantile * std_error
    return estimate - half, estimate + half, 2.0 * tail
