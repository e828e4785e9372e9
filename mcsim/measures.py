"""Performance measures of a simulation study, each with its Monte Carlo standard error (MCSE).

Knows arrays only; where they come from and how they are printed is `summary/`'s business.

Letters: `T` estimates, `theta` truth, `R` realized values, `L` and `U` interval limits,
`V` squared standard errors, `S` empirical SD, `n` replicates that the measure at hand can use.
Formulas: Morris, White & Crowther (2019), table 6, but for three MCSEs that hold more widely: of
the empirical SE (estimates that pile up at zero), of the relative error of the standard errors
(they grow with the estimates) and of bias-eliminated coverage (lopsided intervals). What is
undefined is NaN inside, None outside. Sums are pairwise, in replicate order: the same bits however
the files were cut.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RANKS = 12  # SDs of a rank beyond which an order statistic of a sample is not found
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


def median(sample: Sample) -> Measure:
    """Median of the estimates; MCSE from the order statistics around it.

    They are the ends of a 95% interval: rank `(n + 1) / 2 - 1.96 sqrt(n / 4)`, counted from below
    and from above. Too few replicates to hold both leave the MCSE undefined.
    """
    T = sample.ordered_estimates
    if (n := T.size) == 0:
        return UNDEFINED
    rank = round((n + 1) / 2 - NORMAL_QUANTILE * math.sqrt(n / 4))
    spread = T[n - rank] - T[rank - 1] if rank >= 1 else math.nan
    return _measure(np.median(T), spread / (2 * NORMAL_QUANTILE))


def quantile(sample: Sample, *, p: float) -> Measure:
    """Quantile `p` of the estimates; MCSE of Maritz & Jarrett (1978).

    It is the SD of that order statistic when samples of size n are drawn from the estimates. The
    ends of an interval, as for the median, lie too far apart where the density falls off: with 500
    normal estimates they make the MCSE of the 5% quantile 15% too large. Undefined where the
    quantile lies beyond the ranks 1 .. n.
    """
    T = sample.ordered_estimates
    if (n := T.size) == 0:
        return UNDEFINED
    mcse = _sd_of_order_statistic(T, p) if (n + 1) * min(p, 1 - p) >= 1 else math.nan
    return _measure(np.quantile(T, p), mcse)


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
    """`model_se / emp_se - 1` over replicates that have both an estimate and a standard error.

    MCSE `(model_se / emp_se) sqrt(V_V / (4 n Vbar^2) + MCSE(emp_se)^2 / S^2 - C / (2 n Vbar S^2))`
    with the covariance C of `V_i` and `(T_i - T)^2`. It is 0 for a fixed effect; without it the
    MCSE of a variance component, whose standard error grows with the estimate, is up to 70% too
    large.
    """
    has_both = ~np.isnan(sample.estimates + sample.std_errors)
    T, V = sample.estimates[has_both], sample.std_errors[has_both] ** 2
    S, S_mcse = _emp_se(T)
    ratio = _ratio(math.sqrt(_mean(V)), S)
    squares = (T - _mean(T)) ** 2
    shared = _ratio(_covariance(V, squares), 2 * T.size * _mean(V) * S * S)
    relative_variance = _relative_mcse(V) ** 2 + _ratio(S_mcse, S) ** 2 - shared
    return _measure(ratio - 1, ratio * math.sqrt(max(relative_variance, 0.0)))


def coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the truth; MCSE `sqrt(c (1 - c) / n)`."""
    return _share_covering(sample, _truth(sample))


def be_coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the mean of all estimates: bias-eliminated coverage.

    MCSE `sqrt(b (1 - b) / n)` where the intervals are symmetric about the estimates. In general the
    error of the mean counts too, by the slope of the coverage in the point to be covered (Randles
    1982, on statistics with estimated parameters).
    """
    T = sample.estimates
    n, centre, n_intervals = _present(T).size, _mean(_present(T)), int(_has_interval(sample).sum())
    share = _share_covering(sample, centre).value
    if share is None:
        return UNDEFINED
    error = np.where(_has_interval(sample), _covers(sample, centre) - share, 0.0) / n_intervals
    step = 0.5 * math.sqrt(_variance(_present(T))) * n**-0.2  # the coverage is smooth over this
    if step > 0:
        above, below = (int(_covers(sample, centre + one).sum()) for one in (step, -step))
        slope = (above - below) / (2 * n_intervals)  # per step
        error += slope * np.nan_to_num((T - centre) / step) / n
    return _measure(share, math.sqrt(float((error**2).sum())))


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


def _sd_of_order_statistic(T: Array, p: float) -> float:
    """SD of order statistic `p (n + 1)` of samples drawn from T, in ascending order."""
    n, reach = T.size, RANKS * math.sqrt(T.size * p * (1 - p)) + RANKS**2
    ranks = np.arange(max(0, int(n * p - reach)), min(n, int(n * p + reach) + 1))
    distance, u = T[ranks] - T[ranks[0]], (ranks + 0.5) / n
    log_density = ((n + 1) * p - 1) * np.log(u) + ((n + 1) * (1 - p) - 1) * np.log1p(-u)
    weights = np.exp(log_density - log_density.max())  # of a beta distribution
    weights[weights < np.finfo(np.float64).eps] = 0.0  # so that a quantile among zeros has no MCSE
    weights /= weights.sum()
    centre = (weights * distance).sum()
    return math.sqrt(float((weights * (distance - centre) ** 2).sum()))


def _relative_mcse(V: Array) -> float:
    """MCSE of sqrt(mean(V)), by the delta method, relative to its value."""
    return _ratio(math.sqrt(_ratio(_variance(V), V.size)), 2 * _mean(V))


def _share_covering(sample: Sample, point: float) -> Measure:
    if math.isnan(point):
        return UNDEFINED
    return _share(_covers(sample, point)[_has_interval(sample)])


def _has_interval(sample: Sample) -> NDArray[np.bool_]:
    return ~(np.isnan(sample.ci_lower) | np.isnan(sample.ci_upper))


def _covers(sample: Sample, point: float) -> NDArray[np.bool_]:
    return (point >= sample.ci_lower) & (point <= sample.ci_upper)


def _share(hits: NDArray[np.bool_]) -> Measure:
    share = _ratio(int(hits.sum()), hits.size)
    return _measure(share, math.sqrt(_ratio(share * (1 - share), hits.size)))


def _mean(values: Array) -> float:
    if values.size == 0:
        return math.nan
    with np.errstate(over="ignore"):  # an interval of a nearly flat likelihood may be that wide
        average = float(values.sum()) / values.size
    if not math.isfinite(average):
        return average
    # rounding must not push the mean of equal values off their value
    return min(max(average, float(values.min())), float(values.max()))


def _variance(values: Array) -> float:
    centre = _mean(values)
    if values.size < 2 or not math.isfinite(centre):
        return math.nan
    with np.errstate(over="ignore"):  # as above
        return float(((values - centre) ** 2).sum()) / (values.size - 1)


def _covariance(first: Array, second: Array) -> float:
    if first.size < 2:
        return math.nan
    products = (first - _mean(first)) * (second - _mean(second))
    return float(products.sum()) / (first.size - 1)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _measure(value: float, mcse: float) -> Measure:
    return Measure(*(float(x) if math.isfinite(x) else None for x in (value, mcse)))
