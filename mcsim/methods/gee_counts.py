"""Generalised estimating equations for counts and proportions, exchangeable within outermost units.

At any coefficients, rows are those of a linear model, as glm.py says, so that alpha, the next
coefficients and the covariance are those of gee.py there. They begin at independent rows.
"""

from typing import NamedTuple

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.engine.families.means import working_rows
from mcsim.engine.optimum.status import Status
from mcsim.methods.gee import (
    MAX_UPDATES,
    EstimatingEquations,
    Fit,
    Taken,
    df_of_units,
    refuse_small_units,
    why_not,
)
from mcsim.methods.glm import Glm
from mcsim.methods.inference.df import ConstantDf
from mcsim.methods.least_squares import inner_products, units_of
from mcsim.methods.method import Analysis, FitOutcomes, Floats, MethodSettings

STEP = 1e-9  # of the predictor, below which coefficients stand still


class Solved(NamedTuple):
    """Where one response's equations ended."""

    equations: EstimatingEquations
    taken: Taken
    fit: Fit


class GeeOfCounts(Glm):
    """GEE with the sandwich covariance, as it is or corrected for small samples."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, shared: object) -> None:
        super().__init__(columns, settings, shared)
        self._unit = units_of(columns, settings.estimator, 0)
        self._n_units = int(self._unit.max()) + 1
        refuse_small_units(EstimatingEquations(columns.X, self._unit), columns)
        self.n_parameters = len(columns.names) + 2

    def _analysis(
        self, responses: Floats, beta: Floats, covariance: Floats, outcomes: FitOutcomes
    ) -> Analysis:
        (n, p), status, message = beta.shape, outcomes.status.copy(), list(outcomes.message)
        found, beta = {name: np.full((n, p, p), np.nan) for name in self.settings.df}, beta.copy()
        for row in np.flatnonzero(status == Status.OK):
            solved = self._solve(responses[row], beta[row : row + 1])
            status[row], beta[row] = solved.fit.status[0], solved.taken.b[0]
            if status[row] != Status.OK:
                message[row] = why_not(int(status[row]), float(solved.fit.alpha[0]))
            if status[row] == Status.FAILED:
                beta[row] = np.nan
                continue
            for name, own in found.items():
                own[row] = solved.equations.covariance(name, solved.taken, solved.fit)[0]
        estimates = {}
        for name, own in found.items():
            df = np.full(p, df_of_units(name, self._n_units, p))
            estimates[name] = self.effects(beta, ConstantDf(own, df))
        none = np.full(n, np.nan)
        return Analysis(estimates, FitOutcomes(status, none, none, none, message))

    def _solve(self, y: Floats, b: Floats) -> Solved:
        """Alpha and coefficients (1, p) in turn until these stand still."""
        for _ in range(MAX_UPDATES):
            equations, taken = self._linear(y, b)
            fit, step = equations.step(taken)
            is_failed = fit.status[0] == Status.FAILED
            if is_failed or np.abs(self._columns.X @ step[0]).max() < STEP:
                return Solved(equations, taken, fit)
            b = b + step
        return Solved(equations, taken, fit._replace(status=np.array([Status.NOT_CONVERGED])))

    def _linear(self, y: Floats, b: Floats) -> tuple[EstimatingEquations, Taken]:
        """The linear model at the coefficients, and what it takes of the responses."""
        eta = self._columns.X @ b[0] + self._offset
        with np.errstate(all="ignore"):  # of a step that leads too far
            mean, slope, variance = working_rows(self._link, self._trials, eta)
            X = (slope / np.sqrt(variance))[:, None] * self._columns.X
            residuals = ((y - mean) / np.sqrt(variance))[None]
        weights = np.column_stack([X, np.ones(len(y))])
        scores = unit_sums(residuals, weights, self._unit, self._n_units)
        taken = Taken(b, inner_products(residuals, residuals), scores)
        return EstimatingEquations(X, self._unit), taken
