"""Measures of tests by probabilities in the place of counts.

Where the estimate of a fixed effect has a known normal distribution given its interval (`shift` and
`true_se`), a share is the mean of probabilities: that of Rao and Blackwell, with a smaller error.
"""

import math

import numpy as np
from scipy import special

from mcsim.measures.sample import (
    Array,
    Measure,
    Sample,
    average_of,
    by_row,
    mean_of,
    quotient,
    variance_of,
)
from mcsim.measures.tails import misses, tails, within

POWER = 0.8  # that the minimal detectable effect has
STEPS = 60  # of a search by Newton's method that halves its bracket where it must
PRECISION = 1e-10  # of the effect that is searched, relative to its SE


def expected_coverage(sample: Sample) -> Measure:
    """Coverage as the mean of the probabilities, given every interval, that it holds the truth."""
    missed = misses(sample.half_width, sample.shift, sample.spread)
    return average_of(np.where(np.isnan(sample.theta), math.nan, 1.0 - missed))


def expected_rejection(sample: Sample) -> Measure:
    """Power, or type I error, as the mean of the probabilities of the tests given their intervals.

    By the normal distribution of the estimate given its interval; MCSE `SD / sqrt(n)`.
    """
    return average_of(sample.tails.above + sample.tails.below)


def type_s(sample: Sample) -> Measure:
    """Share of the tests that reject whose estimate has the wrong sign; undefined for a truth of 0.

    Gelman & Carlin (2014); of ratios, that of their logarithms. By probabilities where they are
    known, else counted; MCSE by the delta method.
    """
    rejected, wrong, _ = _rejections(sample)
    return _quotient_of_means(wrong, rejected)


def type_m(sample: Sample) -> Measure:
    """Mean of |estimate| / |truth| over the tests that reject: exaggeration of what is published.

    As `type_s`.
    """
    rejected, _, size = _rejections(sample)
    return _quotient_of_means(quotient(size, np.abs(sample.true_effects)), rejected)


def mde(sample: Sample) -> Measure:
    """Minimal detectable effect: the size of an effect whose test has 80% power.

    By the probabilities of `expected_rejection`, which know any effect; MCSE by the delta method.
    """
    found = np.full((2, len(sample.truth)), math.nan)
    numbers = np.stack([sample.half_width, sample.shift, sample.spread])
    numbers[1] *= np.where(sample.theta < 0.0, -1.0, 1.0)  # in the direction of the truth
    for row in np.flatnonzero(np.any(~np.isnan(numbers).any(axis=0), axis=1)):
        own = numbers[:, row]
        found[:, row] = _detectable(*own[:, ~np.isnan(own).any(axis=0)])
    return Measure(*found)


def equivalence(sample: Sample) -> Measure:
    """Share of the studies that show an effect within the limits of `equivalence`: two t tests.

    Both one-sided tests of level alpha reject (TOST, Schuirmann 1987): the interval of confidence
    1 - 2 alpha lies within the limits. By probabilities where they are known, else counted.
    """
    if np.isnan(sample.equivalence).all():
        return Measure(*np.full((2, len(sample.truth)), math.nan))
    df = np.where(np.isnan(sample.df), math.inf, sample.df)
    level = 1 - sample.alpha
    t = np.where(np.isinf(df), special.ndtri(level), special.stdtrit(df, level))
    q, (lower, upper) = t * sample.std_errors, sample.equivalence.T[:, :, None]
    known = within(q, sample.shift, sample.spread, sample.theta, (lower, upper))
    shown = (sample.estimates - q > lower) & (sample.estimates + q < upper)
    counted = np.where(np.isnan(q + sample.estimates + lower), math.nan, shown)
    return average_of(np.where(np.isnan(known), counted, known))


def _rejections(sample: Sample) -> tuple[Array, Array, Array]:
    """Whether a test rejects, with the wrong sign, and |estimate| if so: expected, or counted."""
    above, below, _, size = sample.tails
    is_known, is_negative = ~np.isnan(above), sample.true_effects < 0.0
    is_tested = ~np.isnan(sample.p_values) & ~np.isnan(sample.true_effects)
    counted = np.where(is_tested, sample.p_values < sample.alpha, math.nan)
    is_wrong = np.sign(sample.effects) == -np.sign(sample.true_effects)
    rejected = np.where(is_known, above + below, counted)
    wrong = np.where(is_known, np.where(is_negative, above, below), counted * is_wrong)
    sizes = np.where(is_known, size, counted * np.abs(sample.effects))
    has_sign = sample.true_effects != 0.0
    return (
        np.where(has_sign, rejected, math.nan),
        np.where(has_sign, wrong, math.nan),
        np.where(has_sign, sizes, math.nan),
    )


def _quotient_of_means(numerators: Array, denominators: Array) -> Measure:
    def of_row(x: Array, y: Array, n: int) -> tuple[Array, Array]:
        ratio = quotient(mean_of(x), mean_of(y))
        error = quotient(variance_of(x - ratio[:, None] * y), n * mean_of(y) ** 2)
        return ratio, np.sqrt(error)

    return Measure(*by_row(of_row, numerators, denominators))


def _detectable(h: Array, m: Array, s: Array) -> tuple[float, float]:
    """The effect whose test has POWER, and its MCSE; NaN where no effect has it."""
    lower, upper = 0.0, math.inf
    effect = float(np.median(h) + special.ndtri(POWER) * np.median(s))
    for _ in range(STEPS if np.isfinite(effect) else 0):
        at = tails(h, m, s, effect)
        rejected, slope = at.above + at.below, float(np.mean(at.slope))
        excess = float(np.mean(rejected)) - POWER
        lower, upper = (lower, effect) if excess > 0.0 else (effect, upper)
        step = excess / slope if slope > 0.0 else math.inf
        if abs(step) <= PRECISION * float(np.mean(s)):
            spread = float(np.std(rejected, ddof=1)) if len(h) > 1 else math.nan
            error = spread / slope / math.sqrt(len(h))
            return effect, error if math.isfinite(error) else math.nan
        inside = lower < effect - step < upper
        effect = effect - step if inside else min(2.0 * effect, 0.5 * (lower + upper))
    return math.nan, math.nan
