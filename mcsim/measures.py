"""Performance measures of a simulation study, each with its Monte Carlo standard error (MCSE).

Knows arrays only; where they come from and how they are printed is `summary.py`'s business.

Letters: `T` estimates, `theta` truth, `R` realized values, `L` and `U` interval limits,
`V` squared standard errors, `S` empirical SD, `n` replicates that the measure at hand can use.
Formulas: Morris, White & Crowther (2019), table 6; the MCSE of the empirical SE in its kurtosis
form, which holds for estimates that pile up at zero too. What is undefined is NaN inside, None
outside. Sums are pairwise, in replicate order: the same bits however the files were cut.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NORMAL_QUANTILE = 1.96  # of the 95% interval whose width gives the MCSE of a quantile


class Measure(NamedTuple):
    """A performance measure and its Monte Carlo standard error; None where undefined."""

    value: float | None
    mcse: float | None


UNDEFINED = Measure(None, None)


@dataclass(frozen=True, eq=False)
class Sample:
    """What one method reported on one parameter of one condition, in replicate order.

    Arrays are of shape (n_replicates,), NaN where missing; `is_scale` marks an SD or a variance.
    """

    truth: float | None
    is_scale: bool
    alpha: float
    estimates: Array
    std_errors: Array
    ci_lower: Array
    ci_upper: Array
    p_values: Array
    realized: Array

    @cached_property
    def ordered_estimates(self) -> Array:
        """Estimates that are there, in ascending order."""
        return np.sort(_present(self.estimates))


def mean(sample: Sample) -> Measure:
    """Mean of the estimates; MCSE `S / sqrt(n)`."""
    return _average(sample.estimates)


def bias(sample: Sample) -> Measure:
    """Mean of the estimates minus the truth; MCSE `S / sqrt(n)`."""
    return _average(sample.estimates - _truth(sample))


def relative_bias(sample: Sample) -> Measure:
    """Bias divided by the truth, undefined where that is 0; MCSE `S / (|theta| sqrt(n))`."""
    theta = _truth(sample)
    return _average((sample.estimates - theta) / theta) if theta else UNDEFINED


def quantile(sample: Sample, *, p: float) -> Measure:
    """Quantile `p` of the estimates; MCSE from the order statistics around it.

    They have rank `p (n + 1) - 1.96 sqrt(n p (1 - p))` and its mirror image counted from above;
    too few replicates to hold both ranks leave the MCSE undefined.
    """
    T = sample.ordered_estimates
    if (n := T.size) == 0:
        return UNDEFINED
    reach = NORMAL_QUANTILE * math.sqrt(n * p * (1 - p))
    lower = round((n + 1) * p - reach)
    upper = n + 1 - round((n + 1) * (1 - p) - reach)
    spread = T[upper - 1] - T[lower - 1] if lower >= 1 and upper <= n else math.nan
    return _measure(np.quantile(T, p), spread / (2 * NORMAL_QUANTILE))


def median(sample: Sample) -> Measure:
    """Median of the estimates; MCSE from the order statistics around it."""
    return quantile(sample, p=0.5)


def emp_se(sample: Sample) -> Measure:
    """Empirical standard error `S`; MCSE `(S/2) sqrt((k - 1) / n)` with the kurtosis `k`."""
    return _measure(*_emp_se(_present(sample.estimates)))


def mse(sample: Sample) -> Measure:
    """Mean squared error; MCSE from the spread of the squared errors."""
    return _average((sample.estimates - _truth(sample)) ** 2)


def rmse(sample: Sample) -> Measure:
    """Root mean squared error; MCSE `MCSE(mse) / (2 rmse)`."""
    return _root_mean_square(sample.estimates - _truth(sample))


def rmse_estimation(sample: Sample) -> Measure:
    """RMSE of the estimates against the values realized in their own replicates."""
    return _root_mean_square(sample.estimates - sample.realized)


def rmse_sample(sample: Sample) -> Measure:
    """RMSE of the realized values against the truth: what no estimator could avoid."""
    return _root_mean_square(sample.realized - _truth(sample))


def model_se(sample: Sample) -> Measure:
    """Root mean of the squared standard errors; MCSE `sqrt(V_V / (4 n Vbar))`."""
    return _root_mean_square(sample.std_errors)


def relative_error_se(sample: Sample) -> Measure:
    """`model_se / emp_se - 1` over replicates that have both an estimate and a standard error."""
    has_both = ~np.isnan(sample.estimates + sample.std_errors)
    S, S_mcse = _emp_se(sample.estimates[has_both])
    V = sample.std_errors[has_both] ** 2
    ratio = _ratio(math.sqrt(_mean(V)), S)
    return _measure(ratio - 1, ratio * math.hypot(_relative_mcse(V), _ratio(S_mcse, S)))


def coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the truth; MCSE `sqrt(c (1 - c) / n)`."""
    return _share_covering(sample, _truth(sample))


def be_coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the mean of all estimates: bias-eliminated coverage."""
    return _share_covering(sample, _mean(_present(sample.estimates)))


def rejection(sample: Sample) -> Measure:
    """Share of p-values below alpha: power, or the type I error where the truth is 0."""
    return _share(_present(sample.p_values) < sample.alpha)


def ci_width(sample: Sample) -> Measure:
    """Mean width of the intervals, undefined if one is infinite; MCSE `SD / sqrt(n)`."""
    return _average(sample.ci_upper - sample.ci_lower)


def median_ci_width(sample: Sample) -> Measure:
    """Median width of the intervals, without MCSE."""
    width = _present(sample.ci_upper - sample.ci_lower)
    return _measure(np.median(width) if width.size else math.nan, math.nan)


def share_at_zero(sample: Sample) -> Measure:
    """Share of the estimates of an SD or a variance that are exactly 0."""
    return _share(_present(sample.estimates) == 0) if sample.is_scale else UNDEFINED


MEASURES: dict[str, Callable[[Sample], Measure]] = {
    "mean": mean,
    "bias": bias,
    "relative_bias": relative_bias,
    "median": median,
    "q05": partial(quantile, p=0.05),
    "q25": partial(quantile, p=0.25),
    "q75": partial(quantile, p=0.75),
    "q95": partial(quantile, p=0.95),
    "emp_se": emp_se,
    "mse": mse,
    "rmse": rmse,
    "rmse_estimation": rmse_estimation,
    "rmse_sample": rmse_sample,
    "model_se": model_se,
    "relative_error_se": relative_error_se,
    "coverage": coverage,
    "be_coverage": be_coverage,
    "rejection": rejection,
    "ci_width": ci_width,
    "median_ci_width": median_ci_width,
    "share_at_zero": share_at_zero,
}


def _truth(sample: Sample) -> float:
    return math.nan if sample.truth is None else sample.truth


def _present(values: Array) -> Array:
    return values[~np.isnan(values)]


def _average(values: Array) -> Measure:
    values = _present(values)
    return _measure(_mean(values), math.sqrt(_ratio(_variance(values), values.size)))


def _root_mean_square(values: Array) -> Measure:
    squared = _present(values) ** 2
    root = math.sqrt(_mean(squared))
    return _measure(root, root * _relative_mcse(squared))


def _emp_se(T: Array) -> tuple[float, float]:
    S = math.sqrt(_variance(T))
    excess = _mean(np.square(np.square((T - _mean(T)) / S))) - 1 if S > 0 else math.nan
    # a kurtosis up to 1 (two estimates, a coin) says nothing about the error of S
    return S, S / 2 * math.sqrt(excess / T.size) if excess > 0 else math.nan


def _relative_mcse(V: Array) -> float:
    """MCSE of sqrt(mean(V)), by the delta method, relative to its value."""
    return _ratio(math.sqrt(_ratio(_variance(V), V.size)), 2 * _mean(V))


def _share_covering(sample: Sample, point: float) -> Measure:
    if math.isnan(point):
        return UNDEFINED
    L, U = sample.ci_lower, sample.ci_upper
    has_interval = ~(np.isnan(L) | np.isnan(U))
    return _share(((point >= L) & (point <= U))[has_interval])


def _share(hits: NDArray[np.bool_]) -> Measure:
    share = _ratio(int(hits.sum()), hits.size)
    return _measure(share, math.sqrt(_ratio(share * (1 - share), hits.size)))


def _mean(values: Array) -> float:
    if values.size == 0:
        return math.nan
    average = float(values.sum()) / values.size
    # rounding must not push the mean of equal values off their value
    return min(max(average, float(values.min())), float(values.max()))


def _variance(values: Array) -> float:
    centre = _mean(values)
    if values.size < 2 or not math.isfinite(centre):
        return math.nan
    with np.errstate(over="ignore"):  # an interval of a nearly flat likelihood may be that wide
        return float(((values - centre) ** 2).sum()) / (values.size - 1)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _measure(value: float, mcse: float) -> Measure:
    return Measure(*(float(x) if math.isfinite(x) else None for x in (value, mcse)))
