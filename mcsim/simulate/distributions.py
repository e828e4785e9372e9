"""Distributions of random effects and residuals: independent draws of mean 0 and SD 1."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mcsim.scenario.truth import ShapeSpec

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Floats], None]  # fills an array (n,)


def draw_of(distribution: str | ShapeSpec) -> Draw:
    """What fills an array with draws of a distribution that a scenario names."""
    if isinstance(distribution, str):
        return normal
    ((name, shape),) = distribution.given.items()
    return partial(DISTRIBUTIONS[name], shape=shape)


def normal(generator: np.random.Generator, out: Floats) -> None:
    """The standard normal."""
    generator.standard_normal(out=out)


def t(generator: np.random.Generator, out: Floats, *, shape: float) -> None:
    """Student's t, the shape its degrees of freedom; excess kurtosis 6 / (df - 4)."""
    out[:] = generator.standard_t(shape, len(out))
    out *= math.sqrt((shape - 2.0) / shape)


def skew_normal(generator: np.random.Generator, out: Floats, *, shape: float) -> None:
    """Skew normal of Azzalini (1985): delta |z1| + sqrt(1 - delta^2) z2."""
    delta = shape / math.hypot(1.0, shape)
    mean = delta * math.sqrt(2.0 / math.pi)
    generator.standard_normal(out=out)
    out *= math.sqrt(1.0 - delta**2)
    out += delta * np.abs(generator.standard_normal(len(out))) - mean
    out /= math.sqrt(1.0 - mean**2)


def gamma(generator: np.random.Generator, out: Floats, *, shape: float) -> None:
    """Gamma; skewness 2 / sqrt(shape)."""
    generator.standard_gamma(shape, out=out)
    out -= shape
    out /= math.sqrt(shape)


def mixture(generator: np.random.Generator, out: Floats, *, shape: tuple[float, float]) -> None:
    """Two normal groups of the same SD: the share of the upper one, its distance in those SDs."""
    share, distance = shape
    generator.standard_normal(out=out)
    out += distance * ((generator.random(len(out)) < share) - share)
    out /= math.hypot(1.0, math.sqrt(share * (1.0 - share)) * distance)


DISTRIBUTIONS: dict[str, Callable[..., None]] = {
    "t": t,
    "skew_normal": skew_normal,
    "gamma": gamma,
    "mixture": mixture,
}
