"""Probabilities of a t test whose interval is given, where the estimate is normal with a known SD.

Letters: `h` half the width of the interval, `m` shift and `s` SD of the estimate about the effect,
`D` the effect; the estimate is N(D + m, s^2), and the test of 0 rejects beyond +-h.

Responses whose deviations from their mean have all signs changed are as likely, and give the same h
and s, and the shift -m: probabilities are means over both, which takes chance out for nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

ROOT_TWO_PI = np.sqrt(2.0 * np.pi)
FAR = 100.0  # SDs, from which on the density is 0


class Tails(NamedTuple):
    """Probabilities that the estimate is beyond h and significant, below -h, and their slopes in D.

    size : expected |estimate| where the test rejects, times the probability that it does
    """

    above: Array
    below: Array
    slope: Array
    size: Array


def tails(h: Array, m: Array, s: Array, D: Array | float) -> Tails:
    """By the normal distribution, NaN where a number is missing."""
    found = _tails(h, s, D + m)
    if not np.any(m):
        return found
    for one, other in zip(found, _tails(h, s, D - m), strict=True):
        one += other  # in its place: there may be millions
        one /= 2.0
    return found


def _tails(h: Array, s: Array, centre: Array) -> Tails:
    z = (centre - h) / s
    above, at_above = special.ndtr(z), _density(z)
    z = (-h - centre) / s
    below, at_below = special.ndtr(z), _density(z)
    size = centre * (above - below) + s * (at_above + at_below)
    return Tails(above, below, (at_above - at_below) / s, size)


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
