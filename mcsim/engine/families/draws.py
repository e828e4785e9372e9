"""Draws of counts and proportions, given their means."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats

LARGEST_SHAPE = 1e9  # of a gamma: the negative binomial is the Poisson distribution by then


def draw_counts(
    generator: np.random.Generator, mean: Floats, trials: Floats | None, dispersion: float | None
) -> Floats:
    """A response of every row (n_rows,).

    Parameters
    ----------
    mean : of a trial, where there are trials; else of a count
    trials : of binomial rows; dispersion : of negative binomial ones
    """
    if trials is None:
        if dispersion is not None and dispersion < LARGEST_SHAPE:
            mean = mean * (generator.standard_gamma(dispersion, len(mean)) / dispersion)
        return generator.poisson(mean).astype(np.float64)
    if np.all(trials == 1.0):
        return (generator.random(len(mean)) < mean).astype(np.float64)
    return generator.binomial(trials.astype(np.int64), mean).astype(np.float64)
