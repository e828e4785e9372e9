"""Parametric bootstrap: data sets simulated from a fit and fitted again.

Percentile intervals: quantiles of the estimates (Efron & Tibshirani 1993, chapter 13).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.arrays import Ints, Positions
from mcsim.engine.arithmetic.replicates import semidefinite_factor
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.draws import Cells, add_effects
from mcsim.engine.families.draws import draw_counts
from mcsim.engine.families.kinds import KINDS
from mcsim.engine.families.means import MEANS
from mcsim.engine.fit import Fit, fit_moments, reduce_sorted
from mcsim.engine.laplace.crossing import Cross
from mcsim.engine.laplace.fit import LaplaceFit, fit_laplace
from mcsim.engine.laplace.nest import Nest
from mcsim.engine.optimum.search import Status
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.scenario.families import FamilyModel

Floats = NDArray[np.float64]
StreamOf = Callable[[int], np.random.Generator]  # of a replicate, by its position in the block
FitT = TypeVar("FitT", Fit, LaplaceFit)

LARGEST_MEAN = 1e9  # of a count that is drawn


class Model(Protocol[FitT]):
    """How the responses of a fit are drawn and fitted; rows sorted, (n_resamples, n_rows)."""

    def residuals(
        self, fit: FitT, r: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Floats:
        """What predictors have beside fixed and random effects."""
        ...

    def responses(
        self, fit: FitT, r: int, predictor: Floats, generator: np.random.Generator
    ) -> Floats:
        """Responses with these predictors."""
        ...

    def fit(self, responses: Floats) -> FitT:
        """Fit them."""
        ...


@dataclass(frozen=True)
class _Level:
    """Rows in the order of the units.

    order : (n_rows,) of those of the compiled design
    """

    order: NDArray[np.int64]
    Z: Floats  # (q, n_rows)
    unit_start: Positions
    cells: Cells


class Bootstrap(Generic[FitT]):
    """Fits to data sets simulated from fits of one model.

    order : (n_rows,) of the rows, in which the model draws and fits; n_resamples : sets per fit
    """

    def __init__(
        self, columns: ModelColumns, order: Ints, n_resamples: int, model: "Model[FitT]"
    ) -> None:
        self._model: Model[FitT] = model
        self._n = n_resamples
        self._X = columns.X[order]
        self._levels = []
        of_rows = order
        for level in columns.levels:
            unit = level.unit_of_row[of_rows]
            order = np.argsort(unit, kind="stable") if columns.are_crossed else np.arange(len(unit))
            start = np.append(np.flatnonzero(np.diff(unit[order], prepend=-1)), len(unit))
            cells = Cells(np.zeros(len(start) - 1, dtype=np.uint64), np.ones(1))
            Z = np.ascontiguousarray(level.Z[of_rows][order].T)
            self._levels.append(_Level(order, Z, start.astype(np.uint64), cells))

    def intervals(
        self,
        fit: FitT,
        estimates_of: Callable[[FitT], list[ParameterBlock]],
        stream_of: StreamOf,
        confidence: float,
    ) -> list[ParameterBlock]:
        """The estimates of a fit with their spread over resamples, none where the fit failed.

        A resample that cannot be fitted, or has no such correlation, is left out of the quantiles.
        """
        blocks = estimates_of(fit)
        spread = np.full((3, len(blocks), len(fit.status)), np.nan)
        levels: list[float] = [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence]
        for r in np.flatnonzero(fit.status <= Status.BOUNDARY).tolist():
            again = self._model.fit(self._draw(fit, r, stream_of(r)))
            usable = again.status <= Status.BOUNDARY
            for position, one in enumerate(estimates_of(again)):
                values: Floats = one.estimate[usable & np.isfinite(one.estimate)]
                if len(values) > 1:
                    spread[:, position, r] = values.std(ddof=1), *np.quantile(values, levels)
        return [
            replace(one, std_error=spread[0, k], ci_lower=spread[1, k], ci_upper=spread[2, k])
            for k, one in enumerate(blocks)
        ]

    def _draw(self, fit: FitT, r: int, generator: np.random.Generator) -> Floats:
        """Responses (n_resamples, n_rows) with the parameters of fit r."""
        n_rows = len(self._X)
        y = self._model.residuals(fit, r, (self._n, n_rows), generator)
        y += self._X @ fit.coefficients[r]
        for level, Sigma in zip(self._levels, fit.covariances, strict=True):
            factor = semidefinite_factor(Sigma[[r]])[0]
            normals = generator.standard_normal((self._n, len(level.cells.of_unit) * len(factor)))
            if np.array_equal(level.order, np.arange(n_rows)):
                add_effects(normals, 0, factor, level.Z, level.unit_start, level.cells, y)
            else:
                own = np.zeros_like(y)
                add_effects(normals, 0, factor, level.Z, level.unit_start, level.cells, own)
                y[:, level.order] += own
        return self._model.responses(fit, r, y, generator)


@dataclass(frozen=True)
class NormalModel:
    """Normal responses."""

    design: CompiledDesign

    def residuals(
        self, fit: Fit, r: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Floats:
        """What rows have by themselves."""
        return np.asarray(generator.standard_normal(shape) * np.sqrt(fit.scale[r]))

    def responses(
        self, _fit: Fit, _r: int, predictor: Floats, _generator: np.random.Generator
    ) -> Floats:
        """The predictors, which hold all."""
        return predictor

    def fit(self, responses: Floats) -> Fit:
        """Fit sorted responses."""
        return fit_moments(self.design, reduce_sorted(self.design, responses))


@dataclass(frozen=True)
class CountsModel:
    """Counts and proportions, by Laplace's approximation or quadrature."""

    design: CompiledDesign
    nest: Nest | Cross
    family: FamilyModel

    def residuals(
        self, _fit: LaplaceFit, _r: int, shape: tuple[int, int], _generator: np.random.Generator
    ) -> Floats:
        """The offset alone."""
        return np.tile(self.nest.offset, (shape[0], 1))

    def responses(
        self, fit: LaplaceFit, r: int, predictor: Floats, generator: np.random.Generator
    ) -> Floats:
        """Draws of the family."""
        mean = np.minimum(MEANS[self.family.link](predictor), LARGEST_MEAN)
        trials = self.nest.trials if self.family.family == "binomial" else None
        dispersion = 1.0 / fit.dispersion[r] if fit.dispersion[r] > 0.0 else None
        return np.array([draw_counts(generator, one, trials, dispersion) for one in mean])

    def fit(self, responses: Floats) -> LaplaceFit:
        """Fit sorted responses."""
        given = np.empty_like(responses)
        given[:, self.design.order] = responses
        kind = KINDS[self.family.family, self.family.link]
        return fit_laplace(self.design, self.nest, kind, given, self.family.quadrature)
