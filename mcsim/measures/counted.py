"""Measures that count and average over what was reported.

Letters and formulas: as in the package.
"""

import math
from functools import lru_cache

import numpy as np

from mcsim.measures.sample import (
    Array,
    Bools,
    Measure,
    Sample,
    average_of,
    by_row,
    mean_of,
    n_true,
    quotient,
    share_of,
    variance_of,
)

FEW = 100  # replicates, of which the kurtosis needs a correction
RANKS = 12  # SDs of a rank beyond which an order statistic of a sample is not found
NORMAL_QUANTILE = 1.96  # of the 95% interval whose width gives the MCSE of a quantile


def mean(sample: Sample) -> Measure:
    """Mean of the estimates; MCSE `S / sqrt(n)`."""
    return average_of(sample.estimates)


def bias(sample: Sample) -> Measure:
    """Mean of the estimates minus the truth; MCSE `S / sqrt(n)`."""
    return average_of(sample.estimates - sample.theta)


def relative_bias(sample: Sample) -> Measure:
    """Bias divided by the truth, undefined where that is 0; MCSE `S / (|theta| sqrt(n))`."""
    return average_of(quotient(sample.estimates - sample.theta, sample.theta))


def median(sample: Sample) -> Measure:
    """Median of the estimates; MCSE from the order statistics around it.

    They are the ends of a 95% interval: rank `(n + 1) / 2 - 1.96 sqrt(n / 4)`, counted from below
    and from above. Too few replicates to hold both leave the MCSE undefined.
    """

    def of_ordered(T: Array, n: int) -> tuple[Array, Array]:
        rank = round((n + 1) / 2 - NORMAL_QUANTILE * math.sqrt(n / 4))
        if rank < 1:
            return _middle(T), _undefined(T)
        return _middle(T), (T[:, n - rank] - T[:, rank - 1]) / (2 * NORMAL_QUANTILE)

    return Measure(*by_row(of_ordered, sample.ordered_estimates))


def quantile(sample: Sample, *, p: float) -> Measure:
    """Quantile `p` of the estimates; MCSE of Maritz & Jarrett (1978).

    It is the SD of that order statistic when samples of size n are drawn from the estimates. The
    ends of an interval, as for the median, lie too far apart where the density falls off: with 500
    normal estimates they make the MCSE of the 5% quantile 15% too large. Undefined where the
    quantile lies beyond the ranks 1 .. n.
    """

    def of_ordered(T: Array, n: int) -> tuple[Array, Array]:
        has_rank = (n + 1) * min(p, 1 - p) >= 1
        return _interpolated(T, p), _sd_of_order_statistic(T, p) if has_rank else _undefined(T)

    return Measure(*by_row(of_ordered, sample.ordered_estimates))


def emp_se(sample: Sample) -> Measure:
    """Empirical standard error `S`; MCSE `(S/2) sqrt((k - 1) / n)` with the kurtosis `k`.

    Of fewer than 100 replicates, where that is too small (by a third for 10), it is
    `(S/2) sqrt(g / n + 2 / (n - 1))`: `g` is the larger of the excess kurtosis of the sample and
    its estimate `G2` (Joanes & Gill 1998).
    """
    return Measure(*by_row(_emp_se, sample.estimates))


def mse(sample: Sample) -> Measure:
    """Mean squared error; MCSE from the spread of the squared errors."""
    return average_of((sample.estimates - sample.theta) ** 2)


def rmse(sample: Sample) -> Measure:
    """Root mean squared error; MCSE `MCSE(mse) / (2 rmse)`."""
    return _root_mean_square(sample.estimates - sample.theta)


def rmse_estimation(sample: Sample) -> Measure:
    """RMSE of the estimates against the values realized in their own replicates."""
    return _root_mean_square(sample.estimates - sample.realized)


def rmse_sample(sample: Sample) -> Measure:
    """RMSE of the realized values against the truth: what no estimator could avoid."""
    return _root_mean_square(sample.realized - sample.theta)


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
    return Measure(*by_row(_relative_error_se, sample.estimates, sample.std_errors))


def coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the truth; MCSE `sqrt(c (1 - c) / n)`.

    Undefined where the truth lies at the edge and none holds it: intervals on the log scale cannot.
    """
    n_hits = _n_covering(sample, sample.theta)
    n_hits[(n_hits[:, 0] == 0) & sample.is_at_edge] = math.nan
    return share_of(n_hits, sample.n_intervals)


def be_coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the mean of all estimates: bias-eliminated coverage.

    MCSE `sqrt(b (1 - b) / n)` where the intervals are symmetric about the estimates. In general the
    error of the mean counts too, by the slope of the coverage in the point to be covered (Randles
    1982, on statistics with estimated parameters).
    """
    n, T = n_true(~np.isnan(sample.estimates)), sample.estimates
    centre, step = (one[:, None] for one in by_row(_centre_and_step, T))
    share = share_of(_n_covering(sample, centre), sample.n_intervals).value
    error = np.where(sample.has_interval, _covers(sample, centre) - share[:, None], 0.0)
    error = quotient(error, sample.n_intervals)
    above, below = (_n_covering(sample, centre + one) for one in (step, -step))
    slope = quotient(above - below, 2 * sample.n_intervals)  # per step
    of_mean = quotient(slope * np.nan_to_num(quotient(T - centre, step)), n)
    error += np.where(step > 0, of_mean, 0.0)
    return Measure(share, np.where(np.isnan(share), math.nan, np.sqrt((error**2).sum(axis=1))))


def rejection(sample: Sample) -> Measure:
    """Share of p-values below alpha: power, or type I error where the truth is 0 (of a ratio 1)."""
    return share_of(n_true(sample.p_values < sample.alpha), n_true(~np.isnan(sample.p_values)))


def ci_width(sample: Sample) -> Measure:
    """Mean width of the intervals, undefined if one is infinite; MCSE `SD / sqrt(n)`."""
    return average_of(_width(sample))


def median_ci_width(sample: Sample) -> Measure:
    """Median width of the intervals, without MCSE."""
    width = np.sort(_width(sample), axis=1)
    return Measure(*by_row(lambda W, _n: (_middle(W), _undefined(W)), width))


def share_at_zero(sample: Sample) -> Measure:
    """Share of the estimates of an SD or a variance that are exactly 0."""
    n = np.where(sample.is_scale[:, None], n_true(~np.isnan(sample.estimates)), 0.0)
    return share_of(n_true(sample.estimates == 0), n)


def _root_mean_square(values: Array) -> Measure:
    def of_row(x: Array, n: int) -> tuple[Array, Array]:
        squared = x**2
        root = np.sqrt(mean_of(squared))
        return root, root * _relative_mcse(squared, n)

    return Measure(*by_row(of_row, values))


def _emp_se(T: Array, n: int) -> tuple[Array, Array]:
    S = np.sqrt(variance_of(T))
    if n < 4:  # they say nothing of a kurtosis
        return S, _undefined(S)
    k = mean_of(np.square(np.square(quotient(T - mean_of(T)[:, None], S[:, None]))))
    if n >= FEW:
        # a kurtosis up to 1 (a coin) says nothing about the error of S
        return S, S / 2 * np.sqrt(np.where(k > 1, k - 1, math.nan) / n)
    g = k * (n / (n - 1)) ** 2 - 3
    g = np.maximum(g, (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g + 6))
    return S, S / 2 * np.sqrt(g / n + 2 / (n - 1))


def _relative_error_se(T: Array, std_errors: Array, n: int) -> tuple[Array, Array]:
    V = std_errors**2
    V_mean, (S, S_mcse) = mean_of(V), _emp_se(T, n)
    ratio = quotient(np.sqrt(V_mean), S)
    shared = quotient(_covariance(V, (T - mean_of(T)[:, None]) ** 2), 2 * n * V_mean * S * S)
    variance = _relative_mcse(V, n) ** 2 + quotient(S_mcse, S) ** 2 - shared
    # few replicates may give a difference of errors that is none
    return ratio - 1, ratio * np.sqrt(np.where(variance > 0, variance, math.nan))


def _centre_and_step(T: Array, n: int) -> tuple[Array, Array]:
    return mean_of(T), 0.5 * np.sqrt(variance_of(T)) * n**-0.2  # coverage is smooth over it


def _interpolated(T: Array, p: float) -> Array:
    """Quantile p of every row, which is in ascending order, as `np.quantile` has it."""
    place = (T.shape[1] - 1) * p
    below = math.floor(place)
    low, high, share = T[:, below], T[:, min(below + 1, T.shape[1] - 1)], place - below
    found: Array = high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share
    return found


def _middle(T: Array) -> Array:
    """Median of every row, which is in ascending order."""
    n = T.shape[1]
    with np.errstate(over="ignore"):  # as in mean_of
        found: Array = T[:, n // 2] if n % 2 else (T[:, n // 2 - 1] + T[:, n // 2]) / 2
    return found


def _sd_of_order_statistic(T: Array, p: float) -> Array:
    """SD of order statistic `p (n + 1)` of samples drawn from a row of T, in ascending order."""
    first, last, weights = _weights_of_order_statistic(T.shape[1], p)
    distance = T[:, first:last] - T[:, first, None]
    centre = (weights * distance).sum(axis=1)
    variance: Array = (weights * (distance - centre[:, None]) ** 2).sum(axis=1)
    return np.sqrt(variance)


@lru_cache(maxsize=64)
def _weights_of_order_statistic(n: int, p: float) -> tuple[int, int, Array]:
    """The ranks that count, from the first to before the last, and their weights."""
    reach = RANKS * math.sqrt(n * p * (1 - p)) + RANKS**2
    first, last = max(0, int(n * p - reach)), min(n, int(n * p + reach) + 1)
    u = (np.arange(first, last) + 0.5) / n
    log_density = ((n + 1) * p - 1) * np.log(u) + ((n + 1) * (1 - p) - 1) * np.log1p(-u)
    weights = np.exp(log_density - log_density.max())  # of a beta distribution
    weights[weights < np.finfo(np.float64).eps] = 0.0  # so that a quantile among zeros has no MCSE
    weights /= weights.sum()
    return first, last, weights


def _relative_mcse(V: Array, n: int) -> Array:
    """MCSE of sqrt(mean(V)), by the delta method, relative to its value."""
    return quotient(np.sqrt(variance_of(V) / n), 2 * mean_of(V))


def _covers(sample: Sample, point: Array) -> Bools:
    return (point >= sample.ci_lower) & (point <= sample.ci_upper)


def _n_covering(sample: Sample, point: Array) -> Array:
    """Intervals that hold the point of their row; NaN where there is no point."""
    return np.where(np.isnan(point), math.nan, n_true(_covers(sample, point)))


def _width(sample: Sample) -> Array:
    with np.errstate(invalid="ignore"):  # both limits infinite
        return sample.ci_upper - sample.ci_lower


def _covariance(first: Array, second: Array) -> Array:
    products = (first - mean_of(first)[:, None]) * (second - mean_of(second)[:, None])
    return quotient(products.sum(axis=1), first.shape[1] - 1)


def _undefined(values: Array) -> Array:
    return np.full(len(values), math.nan)
