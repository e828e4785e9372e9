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
from mcsim.measures.tails import misses, power, within

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
    rejected, wrong = sample.rejections[:2]
    return _quotient_of_means(wrong, rejected)


def type_m(sample: Sample) -> Measure:
    """Mean of |estimate| / |truth| over the tests that reject: exaggeration of what is published.

    As `type_s`.
    """
    rejected, size = sample.rejections[::2]
    return _quotient_of_means(quotient(size, np.abs(sample.true_effects)), rejected)


def mde(sample: Sample) -> Measure:
    """Minimal detectable effect: the size of an effect whose test has 80% power.

    By the probabilities of `expected_rejection`, which know any effect; MCSE by the delta method.
    """
    towards = np.where(sample.theta < 0.0, -1.0, 1.0)  # in the direction of the truth
    return Measure(*by_row(_detectable, sample.half_width, sample.shift * towards, sample.spread))


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


def _quotient_of_means(numerators: Array, denominators: Array) -> Measure:
    def of_row(x: Array, y: Array, n: int) -> tuple[Array, Array]:
        below = mean_of(y)
        ratio = quotient(mean_of(x), below)
        error = quotient(variance_of(x - ratio[:, None] * y), n * below**2)
        return ratio, np.sqrt(error)

    return Measure(*by_row(of_row, numerators, denominators))


def _detectable(h: Array, m: Array, s: Array, n: int) -> tuple[Array, Array]:
    """Per row the effect whose test has POWER, and its MCSE; NaN where no effect has it."""
    found = np.full((2, len(h)), math.nan)
    lower, upper = np.zeros(len(h)), np.full(len(h), math.inf)
    effect = np.median(h, axis=1) + special.ndtri(POWER) * np.median(s, axis=1)
    precision = PRECISION * np.mean(s, axis=1)
    rows, left = np.arange(len(h)), np.isfinite(effect)
    for _ in range(STEPS):
        if not left.all():
            h, m, s = h[left], m[left], s[left]
            rows, lower, upper = rows[left], lower[left], upper[left]
            effect, precision = effect[left], precision[left]
        if not len(rows):
            break
        at = power(h, m, s, effect[:, None])
        rejected, slope = at.above + at.below, np.mean(at.slope, axis=1)
        excess = np.mean(rejected, axis=1) - POWER
        lower = np.where(excess > 0.0, lower, effect)
        upper = np.where(excess > 0.0, effect, upper)
        step = excess / np.where(slope > 0.0, slope, math.nan)
        is_found = np.abs(step) <= precision
        if is_found.any():
            of_found, error = rows[is_found], np.sqrt(variance_of(rejected) / n) / slope
            found[:, of_found] = effect[is_found], error[is_found]
        left = ~is_found
        inside = (lower < effect - step) & (effect - step < upper)
        halved = np.minimum(2.0 * effect, 0.5 * (lower + upper))
        effect = np.where(inside, effect - step, halved)
    return found[0], found[1]
