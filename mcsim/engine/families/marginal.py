"""Means of shares and rates over normal effects on the scale of the link.

The mean of g(eta + sd Z), Z standard normal: in closed form where there is one, else by the
trapezoidal rule, whose error falls off with exp(-2 pi d / step) where g is analytic within d of the
real axis (Trefethen & Weideman 2014).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.families.means import MEANS, SLOPES

REACH = 8.0  # SDs, beyond which the normal distribution has less than 1e-15
LARGEST_STEP = 0.7  # of SDs: the normal density itself is then summed to 1e-17
NEAREST_POLE = {"logit": np.pi, "cloglog": 0.5 * np.pi}  # of g from the real axis, or what acts so
EXPONENT = 32.0  # of the error, which is below 1e-11
MOST_NODES = 2000


class Means(NamedTuple):
    """Of every predictor: the mean, and its derivatives in the predictor and in the SD."""

    mean: Floats
    in_eta: Floats
    in_sd: Floats


def normal_means(link: str, eta: Floats, sd: Floats) -> Means:
    """Means of a share or a rate whose predictor is normal with mean eta and SD sd, both (n,)."""
    return CLOSED[link](eta, sd) if link in CLOSED else _by_sum(link, eta, sd)


def _by_sum(link: str, eta: Floats, sd: Floats) -> Means:
    largest = float(np.max(sd, initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return Means(MEANS[link](eta), SLOPES[link](eta), np.zeros_like(eta) * largest)
    step = min(LARGEST_STEP, 2.0 * np.pi * NEAREST_POLE[link] / (EXPONENT * largest))
    n_half = min(int(np.ceil(REACH / step)), MOST_NODES)
    z = np.linspace(-REACH, REACH, 2 * n_half + 1)
    weights = np.exp(-0.5 * z * z)
    weights /= weights.sum()
    at = eta[:, None] + sd[:, None] * z
    slopes = SLOPES[link](at) * weights
    return Means(
        (MEANS[link](at) * weights).sum(axis=1), slopes.sum(axis=1), (slopes * z).sum(axis=1)
    )


def _log_normal(eta: Floats, sd: Floats) -> Means:
    with np.errstate(over="ignore"):
        mean = np.asarray(np.exp(eta + 0.5 * sd * sd))
    return Means(mean, mean, sd * mean)


def _probit_normal(eta: Floats, sd: Floats) -> Means:
    size = np.sqrt(1.0 + sd * sd)
    slope = SLOPES["probit"](eta / size) / size
    return Means(MEANS["probit"](eta / size), slope, -slope * eta * sd / size**2)


CLOSED: dict[str, Callable[[Floats, Floats], Means]] = {
    "log": _log_normal,
    "probit": _probit_normal,
}
