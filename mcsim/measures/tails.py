"""Probabilities of a t test whose interval is given, where the estimate is normal with a known SD.

Letters: `h` half the width of the interval, `m` shift and `s` SD of the estimate about the effect,
`D` the effect; the estimate is N(D + m, s^2), and the test of 0 rejects beyond +-h.

Responses whose deviations from their mean have all signs changed are as likely, and give the same h
and s, and the shift -m: probabilities are means over both, which takes chance out for nothing.

There may be millions: what is not needed any more is written over.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

ROOT_TWO_PI = np.sqrt(2.0 * np.pi)
FAR = 100.0  # SDs, from which on the density is 0


class Tails(NamedTuple):
    """Probabilities that the estimate is beyond h and significant, and below -h.

    size : expected |estimate| where the test rejects, times the probability that it does
    """

    above: Array
    below: Array
    size: Array


class Power(NamedTuple):
    """The same probabilities, and the slope of their sum in D."""

    above: Array
    below: Array
    slope: Array


def tails(h: Array, m: Array, s: Array, D: Array | float) -> Tails:
    """By the normal distribution, NaN where a number is missing."""
    return Tails(*_of_both(_tails, h, m, s, D))


def power(h: Array, m: Array, s: Array, D: Array | float) -> Power:
    """As `tails`."""
    return Power(*_of_both(_power, h, m, s, D))


def _of_both(
    find: Callable[[Array, Array, Array], tuple[Array, ...]],
    h: Array,
    m: Array,
    s: Array,
    D: Array | float,
) -> tuple[Array, ...]:
    """Means over the replicates and their mirror images, in the place of the first."""
    found = find(h, s, D + m)
    if np.any(m):
        for one, other in zip(found, find(h, s, D - m), strict=True):
            one += other
            one /= 2.0
    return found


def _tails(h: Array, s: Array, centre: Array) -> tuple[Array, Array, Array]:
    above, below, at_above, at_below = _densities(h, s, centre)
    size = above - below
    size *= centre
    at_above += at_below
    at_above *= s
    size += at_above
    return above, below, size


def _power(h: Array, s: Array, centre: Array) -> tuple[Array, Array, Array]:
    above, below, at_above, at_below = _densities(h, s, centre)
    at_above -= at_below
    at_above /= s
    return above, below, at_above


def _densities(h: Array, s: Array, centre: Array) -> tuple[Array, Array, Array, Array]:
    """Probabilities of both tails, and densities at their ends."""
    z = (centre - h) / s
    above, at_above = special.ndtr(z), _density(z)
    z = (-h - centre) / s
    return above, special.ndtr(z), at_above, _density(z)


def misses(h: Array, m: Array, s: Array) -> Array:
    """Probability that the interval does not hold the truth."""
    return np.asarray(special.ndtr((m - h) / s) + special.ndtr((-h - m) / s))


def within(q: Array, m: Array, s: Array, D: Array | float, limits: tuple[Array, Array]) -> Array:
    """Probability that estimate +- q lies within limits."""
    if not np.any(m):
        return _within(q, s, D + m, limits)
    return np.asarray((_within(q, s, D + m, limits) + _within(q, s, D - m, limits)) / 2.0)


def _within(q: Array, s: Array, centre: Array, limits: tuple[Array, Array]) -> Array:
    lower, upper = limits
    found = special.ndtr((upper - q - centre) / s) - special.ndtr((lower + q - centre) / s)
    return np.asarray(np.maximum(found, 0.0))  # keeps NaN


def _density(z: Array) -> Array:
    """Of the normal distribution, in the place of `z`."""
    z = np.minimum(np.abs(z, out=z), FAR, out=z)
    z *= z
    z *= -0.5
    return np.divide(np.exp(z, out=z), ROOT_TWO_PI, out=z)
