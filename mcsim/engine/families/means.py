"""Means of counts and proportions by link: shares and rates, their slopes and variances."""

from collections.abc import Callable

import numpy as np
from scipy import special

from mcsim.engine.arithmetic.arrays import Floats

OfPredictor = Callable[[Floats], Floats]


def _cloglog(eta: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(-np.expm1(-np.exp(eta)))


def _normal_density(eta: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * eta * eta) / np.sqrt(2.0 * np.pi))


def _of_cloglog(eta: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(eta - np.exp(eta)))


MEANS: dict[str, OfPredictor] = {  # of a trial, or of a count
    "logit": special.expit,
    "probit": special.ndtr,
    "cloglog": _cloglog,
    "log": np.exp,
}
SLOPES: dict[str, OfPredictor] = {  # derivatives of these
    "logit": lambda eta: special.expit(eta) * special.expit(-eta),
    "probit": _normal_density,
    "cloglog": _of_cloglog,
    "log": np.exp,
}
PREDICTORS: dict[str, OfPredictor] = {  # inverses of the means
    "logit": special.logit,
    "probit": special.ndtri,
    "cloglog": lambda p: np.log(-np.log1p(-p)),
    "log": np.log,
}


def working_rows(link: str, trials: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
    """Means of binomial or Poisson rows, their slopes in the predictor, and variances."""
    mean, slope = MEANS[link](eta), SLOPES[link](eta)
    if link == "log":
        return mean, slope, mean
    return trials * mean, trials * slope, trials * mean * (1.0 - mean)
