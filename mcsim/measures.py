"""Performance measures of a simulation study, each with its Monte Carlo standard error (MCSE).

Knows arrays only; where they come from and how they are printed is `summary/`'s business. Many rows
(a method and a parameter of a condition each) are measured together.

Letters: `T` estimates, `theta` truth, `R` realized values, `L` and `U` interval limits,
`V` squared standard errors, `S` empirical SD, `n` replicates that the measure at hand can use.
Formulas: Morris, White & Crowther (2019), table 6, but for three MCSEs that hold more widely: of
the empirical SE (estimates that pile up at zero), of the relative error of the standard errors
(they grow with the estimates) and of bias-eliminated coverage (lopsided intervals). What is
undefined is NaN. Sums are pairwise, in replicate order, over what is there: the same bits however
the files were cut and whichever rows are measured together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

RANKS = 12  # SDs of a rank beyond which an order statistic of a sample is not found
NORMAL_QUANTILE = 1.96  # of the 95% interval whose width gives the MCSE of a quantile


class Measure(NamedTuple):
    """A performance measure and its Monte Carlo standard error: (n_rows,); NaN where undefined."""

    value: Array
    mcse: Array


@dataclass(frozen=True, eq=False)
class Sample:
    """What was reported on some parameters, in replicate order.

    truth, is_scale, is_at_edge : (n_rows,); the truth is NaN where there is none, `is_scale` marks
    an SD or a variance, `is_at_edge` a truth that is the last possible value, such as an SD of 0.
    All other arrays are of shape (n_rows, n_replicates), NaN where missing.
    """

    truth: Array
    is_scale: Bools
    is_at_edge: Bools
    alpha: float
    estimates: Array
    std_errors: Array
    ci_lower: Array
    ci_upper: Array
    p_values: Array
    realized: Array

    @cached_property
    def theta(self) -> Array:
        """The truth as a column: (n_rows, 1)."""
        return self.truth[:, None]

    @cached_property
    def ordered_estimates(self) -> Array:
        """The estimates of every row in ascending order, what is missing last."""
        return np.sort(self.estimates, axis=1)

    @cached_property
    def has_interval(self) -> Bools:
        """Where there is an interval: (n_rows, n_replicates)."""
        return ~(np.isnan(self.ci_lower) | np.isnan(self.ci_upper))

    @cached_property
    def n_intervals(self) -> Array:
        """How many intervals every row has: (n_rows, 1)."""
        return _count(self.has_interval)


def mean(sample: Sample) -> Measure:
    """Mean of the estimates; MCSE `S / sqrt(n)`."""
    return _average(sample.estimates)


def bias(sample: Sample) -> Measure:
    """Mean of the estimates minus the truth; MCSE `S / sqrt(n)`."""
    return _average(sample.estimates - sample.theta)


def relative_bias(sample: Sample) -> Measure:
    """Bias divided by the truth, undefined where that is 0; MCSE `S / (|theta| sqrt(n))`."""
    return _average(_ratio(sample.estimates - sample.theta, sample.theta))


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

    return Measure(*_by_row(of_ordered, sample.ordered_estimates))


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

    return Measure(*_by_row(of_ordered, sample.ordered_estimates))


def emp_se(sample: Sample) -> Measure:
    """Empirical standard error `S`; MCSE `(S/2) sqrt((k - 1) / n)` with the kurtosis `k`."""
    return Measure(*_by_row(_emp_se, sample.estimates))


def mse(sample: Sample) -> Measure:
    """Mean squared error; MCSE from the spread of the squared errors."""
    return _average((sample.estimates - sample.theta) ** 2)


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
    return Measure(*_by_row(_relative_error_se, sample.estimates, sample.std_errors))


def coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the truth; MCSE `sqrt(c (1 - c) / n)`.

    Undefined where the truth lies at the edge and none holds it: intervals on the log scale cannot.
    """
    n_hits = _n_covering(sample, sample.theta)
    n_hits[(n_hits[:, 0] == 0) & sample.is_at_edge] = math.nan
    return _share(n_hits, sample.n_intervals)


def be_coverage(sample: Sample) -> Measure:
    """Share of the intervals that hold the mean of all estimates: bias-eliminated coverage.

    MCSE `sqrt(b (1 - b) / n)` where the intervals are symmetric about the estimates. In general the
    error of the mean counts too, by the slope of the coverage in the point to be covered (Randles
    1982, on statistics with estimated parameters).
    """
    n, T = _count(~np.isnan(sample.estimates)), sample.estimates
    centre, step = (one[:, None] for one in _by_row(_centre_and_step, T))
    share = _share(_n_covering(sample, centre), sample.n_intervals).value
    error = np.where(sample.has_interval, _covers(sample, centre) - share[:, None], 0.0)
    error = _ratio(error, sample.n_intervals)
    above, below = (_n_covering(sample, centre + one) for one in (step, -step))
    slope = _ratio(above - below, 2 * sample.n_intervals)  # per step
    of_mean = _ratio(slope * np.nan_to_num(_ratio(T - centre, step)), n)
    error += np.where(step > 0, of_mean, 0.0)
    return Measure(share, np.where(np.isnan(share), math.nan, np.sqrt((error**2).sum(axis=1))))


def rejection(sample: Sample) -> Measure:
    """Share of p-values below alpha: power, or the type I error where the truth is 0."""
    return _share(_count(sample.p_values < sample.alpha), _count(~np.isnan(sample.p_values)))


def ci_width(sample: Sample) -> Measure:
    """Mean width of the intervals, undefined if one is infinite; MCSE `SD / sqrt(n)`."""
    return _average(_width(sample))


def median_ci_width(sample: Sample) -> Measure:
    """Median width of the intervals, without MCSE."""
    width = np.sort(_width(sample), axis=1)
    return Measure(*_by_row(lambda W, _n: (_middle(W), _undefined(W)), width))


def share_at_zero(sample: Sample) -> Measure:
    """Share of the estimates of an SD or a variance that are exactly 0."""
    n = np.where(sample.is_scale[:, None], _count(~np.isnan(sample.estimates)), 0.0)
    return _share(_count(sample.estimates == 0), n)


SHARES = ("coverage", "be_coverage", "rejection", "share_at_zero")


def mcse_bound(n: int) -> float:
    """What the MCSE of a share is at most, about, where all or none of `n` count.

    Its estimate is 0 then. Half of Wilson's (1927) interval, in SDs: z / (2 n) / (1 + z^2 / n).
    """
    return NORMAL_QUANTILE / (2 * n) / (1 + NORMAL_QUANTILE**2 / n)


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


def _by_row(measure: Callable[..., tuple[Array, Array]], *columns: Array) -> Array:
    """Two numbers per row, from the values that are there in all columns: (2, n_rows).

    Rows that have equally many go together: measure(*values, n) with values (n_such_rows, n), n > 0
    """
    is_there = ~np.isnan(sum(columns))
    counts = is_there.sum(axis=1)
    found = np.full((2, len(counts)), math.nan)
    for n in np.unique(counts[counts > 0]).tolist():
        rows = counts == n
        own = [values[rows][is_there[rows]].reshape(-1, n) for values in columns]
        found[:, rows] = measure(*own, n)
    return np.where(np.isfinite(found), found, math.nan)


def _average(values: Array) -> Measure:
    def of_row(x: Array, n: int) -> tuple[Array, Array]:
        return _mean(x), np.sqrt(_variance(x) / n)

    return Measure(*_by_row(of_row, values))


def _root_mean_square(values: Array) -> Measure:
    def of_row(x: Array, n: int) -> tuple[Array, Array]:
        squared = x**2
        root = np.sqrt(_mean(squared))
        return root, root * _relative_mcse(squared, n)

    return Measure(*_by_row(of_row, values))


def _emp_se(T: Array, n: int) -> tuple[Array, Array]:
    S = np.sqrt(_variance(T))
    standard = _ratio(T - _mean(T)[:, None], S[:, None])
    excess = _mean(np.square(np.square(standard))) - 1
    # a kurtosis up to 1 (two estimates, a coin) says nothing about the error of S
    return S, S / 2 * np.sqrt(np.where(excess > 0, excess, math.nan) / n)


def _relative_error_se(T: Array, std_errors: Array, n: int) -> tuple[Array, Array]:
    V = std_errors**2
    V_mean, (S, S_mcse) = _mean(V), _emp_se(T, n)
    ratio = _ratio(np.sqrt(V_mean), S)
    shared = _ratio(_covariance(V, (T - _mean(T)[:, None]) ** 2), 2 * n * V_mean * S * S)
    variance = _relative_mcse(V, n) ** 2 + _ratio(S_mcse, S) ** 2 - shared
    return ratio - 1, ratio * np.sqrt(np.where(variance < 0, 0.0, variance))


def _centre_and_step(T: Array, n: int) -> tuple[Array, Array]:
    return _mean(T), 0.5 * np.sqrt(_variance(T)) * n**-0.2  # the coverage is smooth over the step


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
    with np.errstate(over="ignore"):  # as in _mean
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
    return _ratio(np.sqrt(_variance(V) / n), 2 * _mean(V))


def _covers(sample: Sample, point: Array) -> Bools:
    return (point >= sample.ci_lower) & (point <= sample.ci_upper)


def _n_covering(sample: Sample, point: Array) -> Array:
    """Intervals that hold the point of their row; NaN where there is no point."""
    return np.where(np.isnan(point), math.nan, _count(_covers(sample, point)))


def _width(sample: Sample) -> Array:
    with np.errstate(invalid="ignore"):  # both limits infinite
        return sample.ci_upper - sample.ci_lower


def _count(hits: Bools) -> Array:
    """How many there are in every row: (n_rows, 1)."""
    return np.asarray(hits.sum(axis=1, keepdims=True, dtype=np.float64))


def _share(n_hits: Array, n: Array) -> Measure:
    share = _ratio(n_hits, n)[:, 0]
    return Measure(share, np.sqrt(_ratio(share * (1 - share), n[:, 0])))


def _mean(values: Array) -> Array:
    with np.errstate(over="ignore"):  # an interval of a nearly flat likelihood may be that wide
        average = values.sum(axis=1) / values.shape[1]
    # rounding must not push the mean of equal values off their value
    held = np.clip(average, values.min(axis=1), values.max(axis=1))
    return np.asarray(np.where(np.isfinite(average), held, average))


def _variance(values: Array) -> Array:
    centre = _mean(values)
    centre = np.where(np.isfinite(centre), centre, math.nan)
    with np.errstate(over="ignore"):  # as above
        return _ratio(((values - centre[:, None]) ** 2).sum(axis=1), values.shape[1] - 1)


def _covariance(first: Array, second: Array) -> Array:
    products = (first - _mean(first)[:, None]) * (second - _mean(second)[:, None])
    return _ratio(products.sum(axis=1), first.shape[1] - 1)


def _ratio(numerator: Array, denominator: Array | float) -> Array:
    """NaN where the denominator is 0."""
    return numerator / np.where(denominator == 0, math.nan, denominator)


def _undefined(values: Array) -> Array:
    return np.full(len(values), math.nan)
