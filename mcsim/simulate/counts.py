"""Counts and proportions: draws of a family, given the predictor of every observation."""

from dataclasses import dataclass

import numpy as np

from mcsim.design.units import Design
from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.families.draws import draw_counts
from mcsim.engine.families.means import MEANS
from mcsim.errors import DataError
from mcsim.scenario.families import link_of
from mcsim.scenario.truth import TruthSpec

LARGEST_MEAN = 1e9  # of a count: a random effect of more is a slip of the pen


@dataclass(frozen=True)
class Counts:
    """What makes responses of predictors.

    trials : (n_rows,); dispersion : of a negative binomial, None of others
    """

    family: str
    link: str
    trials: Floats
    dispersion: float | None
    zero_inflation: float

    def draw(self, generator: np.random.Generator, eta: Floats) -> None:
        """Put draws in the place of predictors (n_rows,).

        Raises
        ------
        DataError
            A mean is too large to count.
        """
        is_binomial = self.family == "binomial"
        mean = MEANS[self.link](eta) if is_binomial else self._means(eta)
        trials = self.trials if is_binomial else None
        eta[:] = draw_counts(generator, mean, trials, self.dispersion)
        if self.zero_inflation:
            eta[generator.random(len(eta)) < self.zero_inflation] = 0.0

    def expected(self, eta: Floats) -> Floats:
        """Mean of responses with these predictors."""
        if self.family == "binomial":
            mean = self.trials * MEANS[self.link](eta)
        else:
            mean = self._means(eta)
        return np.asarray((1.0 - self.zero_inflation) * mean)

    def _means(self, eta: Floats) -> Floats:
        with np.errstate(over="ignore"):
            mean = MEANS[self.link](eta)
        if not mean.max(initial=0.0) <= LARGEST_MEAN:
            raise DataError(
                f"the truth gives a count a mean of {mean.max():.3g}, more than {LARGEST_MEAN:g}:"
                " fixed and random effects are on the scale of the logarithm; make them smaller"
            )
        return np.asarray(mean)


def counts_in(design: Design, truth: TruthSpec) -> Counts | None:
    """How a truth makes responses that are not normal; None where they are.

    Raises
    ------
    DataError
        Trials are no whole numbers from 1 up.
    """
    if truth.sigma is not None:
        return None
    trials = np.full(len(design.frame), 1.0)
    if isinstance(truth.trials, str):
        trials = design.frame[truth.trials].to_numpy(dtype=np.float64)
        wrong = trials[~((trials >= 1.0) & (trials % 1.0 == 0.0))]
        if len(wrong):
            raise DataError(
                f"truth.trials: {truth.trials!r} is {wrong[0]:g} in an observation; trials must be"
                " whole numbers of at least 1"
            )
    elif truth.trials is not None:
        trials *= truth.trials
    link = link_of(truth.family, truth.link)
    return Counts(truth.family, link, trials, truth.dispersion, truth.zero_inflation or 0.0)
