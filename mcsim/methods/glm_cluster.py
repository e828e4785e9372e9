"""Generalised linear models with standard errors by the squared sums of outermost units.

Rows are taken as those of a linear model, as glm.py says. CR2 and its df, which for normal rows the
design alone makes, then differ from replicate to replicate: with the means, the weights do.
"""

from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.engine.families.means import working_rows
from mcsim.methods.cluster_robust import (
    BellMcCaffrey,
    ClusterSatterthwaite,
    bell_mccaffrey,
    cr1_factor,
    refuse_one_unit,
    sandwich,
)
from mcsim.methods.glm import Glm
from mcsim.methods.inference.df import ConstantDf, DfMethod
from mcsim.methods.least_squares import LinearModel, linear_model, units_of
from mcsim.methods.method import Analysis, FitOutcomes, Floats, MethodSettings


class GlmCluster(Glm):
    """Maximum likelihood of independent rows, with the covariance CR1 or CR2 of units."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, shared: object) -> None:
        super().__init__(columns, settings, shared)
        self._unit = units_of(columns, settings.estimator, 0)
        self._n_units = int(self._unit.max()) + 1
        refuse_one_unit(columns.levels[0].level, self._unit)

    def _analysis(
        self, responses: Floats, beta: Floats, covariance: Floats, outcomes: FitOutcomes
    ) -> Analysis:
        n, p = beta.shape
        found = {name: np.full((n, p, p), np.nan) for name in self.settings.df}
        designs: list[BellMcCaffrey | None] = [None] * n
        for row in np.flatnonzero(np.isfinite(beta).all(axis=1)):
            model, scores = self._linear(responses[row], beta[row])
            everywhere = np.tile(model.M, (self._n_units, 1, 1))
            for name in self.settings.df:
                if name == "cr2":
                    designs[row] = bell_mccaffrey(model, self._unit)
                design = designs[row]
                T = everywhere if name == "cr1" or design is None else design.T
                found[name][row] = sandwich(scores, T)[0]
        factor = cr1_factor(self._n_units, *self._X.shape)
        n_df = np.full(p, self._n_units - 1.0)
        df: dict[str, DfMethod] = {
            name: OwnSatterthwaite(one, designs)
            if name == "cr2"
            else ConstantDf(factor * one, n_df)
            for name, one in found.items()
        }
        return Analysis({name: self.effects(beta, one) for name, one in df.items()}, outcomes)

    def _linear(self, y: Floats, beta: Floats) -> tuple[LinearModel, Floats]:
        """The linear model at the coefficients, and sums of its scores over units."""
        eta = self._columns.X @ beta + self._offset
        mean, slope, variance = working_rows(self._link, self._trials, eta)
        model = linear_model(slope[:, None] / np.sqrt(variance)[:, None] * self._columns.X)
        r = slope * (y - mean) / variance
        return model, unit_sums(r[None], self._columns.X, self._unit, self._n_units)


@dataclass(frozen=True)
class OwnSatterthwaite:
    """Satterthwaite's df of CR2 where every replicate has a design of its own, or None: NaN."""

    covariance: Floats
    designs: list[BellMcCaffrey | None]

    def of_contrast(self, c: Floats) -> Floats:
        """Degrees of freedom of one contrast."""
        return np.array([np.nan if one is None else one.of_contrast(c)[0] for one in self._each()])

    def of_term(self, L: Floats) -> tuple[Floats, Floats]:
        """Denominator df of F, and its scale."""
        nothing = np.array([np.nan]), np.array([np.nan])
        pairs = [nothing if one is None else one.of_term(L) for one in self._each()]
        df, scale = (np.concatenate(each) for each in zip(*pairs, strict=True))
        return df, scale

    def _each(self) -> list[ClusterSatterthwaite | None]:
        return [
            None if one is None else ClusterSatterthwaite(self.covariance[row : row + 1], one)
            for row, one in enumerate(self.designs)
        ]
