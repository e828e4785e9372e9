"""What was reported on parameters, and sums over replicates that several measures need."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.measures.tails import Tails, tails

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Measure(NamedTuple):
    """A performance measure and its Monte Carlo standard error: (n_rows,); NaN where undefined."""

    value: Array
    mcse: Array


@dataclass(frozen=True, eq=False)
class Sample:
    """What was reported on some parameters, in replicate order.

    truth, is_scale, is_at_edge : (n_rows,); the truth is NaN where there is none, `is_scale` marks
    an SD or a variance, `is_at_edge` a truth that is the last possible value, such as an SD of 0.
    no_effect : (n_rows,), or (1,) for all: what a parameter is without an effect, 1 for a ratio
    equivalence : (n_rows, 2), limits within which an effect counts as none, NaN where not given
    All other arrays are of shape (n_rows, n_replicates), NaN where missing. Where `true_se` is
    there, the estimate is normal with this SD about the truth plus `shift`, given its interval.
    """

    truth: Array
    is_scale: Bools
    is_at_edge: Bools
    alpha: float
    equivalence: Array
    estimates: Array
    std_errors: Array
    ci_lower: Array
    ci_upper: Array
    p_values: Array
    realized: Array
    df: Array
    shift: Array
    true_se: Array
    no_effect: Array = field(default_factory=lambda: np.zeros(1))

    @cached_property
    def theta(self) -> Array:
        """The truth as a column: (n_rows, 1)."""
        return self.truth[:, None]

    @cached_property
    def effects(self) -> Array:
        """The estimates, logarithms of ratios: 0 is no effect."""
        return self._on_effects(self.estimates)

    @cached_property
    def true_effects(self) -> Array:
        """The truth likewise: (n_rows, 1)."""
        return self._on_effects(self.theta)

    def _on_effects(self, values: Array) -> Array:
        is_ratio = self.no_effect[:, None] == 1.0
        if not is_ratio.any():
            return values
        return np.where(is_ratio, np.log(np.where(is_ratio, values, 1.0)), values)

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
        return n_true(self.has_interval)

    @cached_property
    def half_width(self) -> Array:
        """What a test of level alpha asks of an estimate in size; NaN where there is none."""
        with np.errstate(invalid="ignore"):  # both limits infinite
            half = (self.ci_upper - self.ci_lower) / 2
        return np.where(half > 0.0, half, math.nan)

    @cached_property
    def spread(self) -> Array:
        """SD of the estimate given its interval; NaN where not known."""
        return np.where(self.true_se > 0.0, self.true_se, math.nan)

    @cached_property
    def tails(self) -> Tails:
        """Probabilities of the test at the truth, given its interval; NaN where not known."""
        return tails(self.half_width, self.shift, self.spread, self.theta)

    @cached_property
    def rejections(self) -> list[Array]:
        """Whether a test rejects, with the wrong sign, and |estimate| if so: expected, or counted.

        NaN where the truth is 0: it has no sign.
        """
        above, below, size = self.tails
        found = [above + below, np.where(self.true_effects < 0.0, above, below), size]
        is_known = ~np.isnan(above)
        if not is_known.all():
            pairs = zip(found, self._counted(), strict=True)
            found = [np.where(is_known, *pair) for pair in pairs]
        if not self.true_effects.all():
            found = [np.where(self.true_effects == 0.0, math.nan, one) for one in found]
        return found

    def _counted(self) -> list[Array]:
        is_tested = ~np.isnan(self.p_values) & ~np.isnan(self.true_effects)
        rejected = np.where(is_tested, self.p_values < self.alpha, math.nan)
        is_wrong = np.sign(self.effects) == -np.sign(self.true_effects)
        return [rejected, rejected * is_wrong, rejected * np.abs(self.effects)]


def by_row(measure: Callable[..., tuple[Array, Array]], *columns: Array) -> Array:
    """Two numbers per row, from the values that are there in all columns: (2, n_rows).

    Rows that have equally many go together: measure(*values, n) with values (n_such_rows, n), n > 0
    """
    is_there = ~np.isnan(sum(columns))
    counts = is_there.sum(axis=1)
    found = np.full((2, len(counts)), math.nan)
    for n in np.unique(counts[counts > 0]).tolist():
        rows = counts == n
        own = columns  # no copy of many replicates
        if n < is_there.shape[1] or not rows.all():
            own = tuple(values[rows][is_there[rows]].reshape(-1, n) for values in columns)
        found[:, rows] = measure(*map(np.ascontiguousarray, own), n)
    return np.where(np.isfinite(found), found, math.nan)


def average_of(values: Array) -> Measure:
    """Mean of every row; MCSE `SD / sqrt(n)`."""

    def of_row(x: Array, n: int) -> tuple[Array, Array]:
        average = mean_of(x)
        return average, np.sqrt(variance_of(x, average) / n)

    return Measure(*by_row(of_row, values))


def n_true(hits: Bools) -> Array:
    """How many there are in every row: (n_rows, 1)."""
    return np.asarray(hits.sum(axis=1, keepdims=True, dtype=np.float64))


def share_of(n_hits: Array, n: Array) -> Measure:
    """`n_hits / n`; MCSE `sqrt(s (1 - s) / n)`."""
    share = quotient(n_hits, n)[:, 0]
    return Measure(share, np.sqrt(quotient(share * (1 - share), n[:, 0])))


def mean_of(values: Array) -> Array:
    """Mean of every row, all of whose values are there."""
    with np.errstate(over="ignore"):  # an interval of a nearly flat likelihood may be that wide
        average = values.sum(axis=1) / values.shape[1]
    # rounding must not push the mean of equal values off their value
    held = np.clip(average, values.min(axis=1), values.max(axis=1))
    return np.asarray(np.where(np.isfinite(average), held, average))


def variance_of(values: Array, average: Array | None = None) -> Array:
    """Sample variance of every row, all of whose values are there; `average` where it is known."""
    centre = mean_of(values) if average is None else average
    centre = np.where(np.isfinite(centre), centre, math.nan)
    with np.errstate(over="ignore"):  # as above
        return quotient(((values - centre[:, None]) ** 2).sum(axis=1), values.shape[1] - 1)


def quotient(numerator: Array, denominator: Array | float) -> Array:
    """NaN where the denominator is 0."""
    return numerator / np.where(denominator == 0, math.nan, denominator)
