"""Generalised linear models: counts and proportions as if every row were independent.

Their SEs may come from the squared sums of outermost units instead (sandwich), and the units' rows
may have one working correlation (estimating equations). With D the slopes of the means in the
predictor and V their variances, a row is one of the linear model of (y - mu) / sqrt(V) on
D / sqrt(V) X, so that both are those of normal responses at the coefficients that are found.
"""

from collections.abc import Sequence

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.replicates import apply, inverse_positive, product, transpose
from mcsim.engine.families.glm import GlmFits, fit_glm
from mcsim.engine.families.kinds import KINDS
from mcsim.engine.laplace.separation import runaway_direction
from mcsim.engine.optimum.status import Status
from mcsim.methods.inference.df import ConstantDf, DfMethod
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.laplace import separated, trials_of
from mcsim.methods.least_squares import FixedEffectsMethod, linear_model
from mcsim.methods.marginal import blocks_of, comparisons
from mcsim.methods.method import Analysis, FitOutcomes, Floats, MethodSettings, StreamOf
from mcsim.names import Parameter

SUSPECT = 10.0  # of the predictor: does a coefficient run off?


class Glm(FixedEffectsMethod):
    """Maximum likelihood of independent rows, with z tests by the information."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        super().__init__(columns, settings)
        assert settings.family is not None
        self._compared = comparisons(columns, settings)
        self._columns, self._to_given = columns, linear_model(columns.X).root
        self._X = np.ascontiguousarray(columns.X @ self._to_given)
        self._trials = trials_of(columns, settings.family)
        self._offset = np.zeros(len(columns.X)) if columns.offset is None else columns.offset
        self._link = settings.family.link
        self._kind = KINDS[settings.family.family, settings.family.link]
        self.n_values = len(columns.X)

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return [*super().parameters(), *(one.parameter for one in self._compared)]

    def effects(self, beta: Floats, df_method: DfMethod) -> list[ParameterBlock]:
        """Estimates and tests of the fixed effects, and of means that are compared."""
        compared = blocks_of(self._compared, beta)(df_method, self.settings.confidence)
        return super().effects(beta, df_method) + compared

    def take(self, responses: Floats) -> Floats:
        """The responses."""
        return responses.copy()

    def analyse(self, taken: Sequence[Floats], _stream_of: StreamOf) -> Analysis:
        """Fit every response."""
        responses = np.concatenate(taken)
        fits = fit_glm(self._kind, self._X, responses, self._trials, self._offset)
        runaway = self._runaways(fits, responses)
        is_usable = fits.is_there & ~runaway.any(axis=1)
        to_given = np.tile(self._to_given, (len(responses), 1, 1))
        beta = np.where(is_usable[:, None], apply(to_given, fits.beta), np.nan)
        inverse = inverse_positive(fits.information)
        covariance = product(product(to_given, inverse), transpose(to_given))
        covariance[~is_usable] = np.nan
        status = np.where(is_usable, Status.OK, Status.FAILED)
        messages: list[str | None] = [None] * len(beta)
        for row in np.flatnonzero(~is_usable):
            messages[row] = "no optimum was found"
            if runaway[row].any():
                messages[row] = separated(self._columns, self._to_given @ runaway[row])
        none = np.full(len(beta), np.nan)
        loglik = np.where(is_usable, fits.loglik, np.nan)
        outcomes = FitOutcomes(status, loglik, fits.steps, none, messages)
        return self._analysis(responses, beta, covariance, outcomes)

    def _analysis(
        self, _responses: Floats, beta: Floats, covariance: Floats, outcomes: FitOutcomes
    ) -> Analysis:
        """Tests of the coefficients (n, p), whose covariance is that of independent rows."""
        df = ConstantDf(covariance, np.full(beta.shape[1], np.inf))
        return Analysis({"z": self.effects(beta, df)}, outcomes)

    def _runaways(self, fits: GlmFits, responses: Floats) -> Floats:
        """Directions in which coefficients run off (n_replicates, p), 0 where none does."""
        found = np.zeros(fits.beta.shape)
        reach = np.abs(fits.beta @ self._X.T).max(axis=1)
        for row in np.flatnonzero(~fits.is_there | ~(reach < SUSPECT)):
            direction = runaway_direction(self._kind, self._X, self._trials, responses[row])
            if direction is not None:
                found[row] = direction
        return found
