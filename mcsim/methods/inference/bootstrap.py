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
from mcsim.engine.nested.moments import Moments, join
from mcsim.engine.optimum.search import Status
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.scenario.families import FamilyModel

Floats = NDArray[np.float64]
StreamOf = Callable[[int], np.random.Generator]  # of a replicate, by its position in the block
FitT = TypeVar("FitT", Fit, LaplaceFit)
KeptT = TypeVar("KeptT", Moments, Floats)

FITTED_TOGETHER = 2_048  # resamples, of as many fits as that takes
KEPT_VALUES = 4_000_000  # of what a model keeps of them: 32 MB
LARGEST_MEAN = 1e9  # of a count that is drawn


class Model(Protocol[FitT, KeptT]):
    """How the responses of a fit are drawn and fitted; rows sorted, (n_resamples, n_rows)."""

    @property
    def n_values(self) -> int:
        """Numbers that it keeps of a response."""
        ...

    def put_residuals(
        self, fit: FitT, r: int, room: Floats, generator: np.random.Generator
    ) -> None:
        """What predictors have beside fixed and random effects."""
        ...

    def responses(
        self, fit: FitT, r: int, predictor: Floats, generator: np.random.Generator
    ) -> Floats:
        """Responses with these predictors."""
        ...

    def take(self, responses: Floats) -> KeptT:
        """What fits need of responses."""
        ...

    def fit(self, taken: list[KeptT]) -> FitT:
        """Fit what was taken."""
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


class Bootstrap(Generic[FitT, KeptT]):
    """Fits to data sets simulated from fits of one model.

    order : (n_rows,) of the rows, in which the model draws and fits; n_resamples : sets per fit
    """

    def __init__(
        self, columns: ModelColumns, order: Ints, n_resamples: int, model: Model[FitT, KeptT]
    ) -> None:
        self._model: Model[FitT, KeptT] = model
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
        fitted = np.flatnonzero(fit.status <= Status.BOUNDARY).tolist()
        room = np.empty((self._n, len(self._X)))
        most = min(FITTED_TOGETHER, KEPT_VALUES // self._model.n_values) // self._n
        for first in range(0, len(fitted), max(1, most)):
            own = fitted[first : first + max(1, most)]
            taken = [self._model.take(self._draw(fit, r, room, stream_of(r))) for r in own]
            again = self._model.fit(taken)
            usable = (again.status <= Status.BOUNDARY).reshape(len(own), self._n)
            for position, one in enumerate(estimates_of(again)):
                estimates = one.estimate.reshape(len(own), self._n)
                is_there = usable & np.isfinite(estimates)
                spread[:, position, own] = _spread(estimates, is_there, levels)
        return [
            replace(one, std_error=spread[0, k], ci_lower=spread[1, k], ci_upper=spread[2, k])
            for k, one in enumerate(blocks)
        ]

    def _draw(self, fit: FitT, r: int, y: Floats, generator: np.random.Generator) -> Floats:
        """Responses (n_resamples, n_rows) with the parameters of fit r; `y` is room for them."""
        n_rows = len(self._X)
        self._model.put_residuals(fit, r, y, generator)
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


def _spread(estimates: Floats, is_there: NDArray[np.bool_], levels: list[float]) -> Floats:
    """SD and quantiles of every row, of what is there; NaN where that is less than two."""
    found = np.full((3, len(estimates)), np.nan)
    counts = is_there.sum(axis=1)
    for n in np.unique(counts[counts > 1]).tolist():
        rows = counts == n
        values = estimates[rows][is_there[rows]].reshape(-1, n)
        found[:, rows] = values.std(axis=1, ddof=1), *np.quantile(values, levels, axis=1)
    return found


@dataclass(frozen=True)
class NormalModel:
    """Normal responses."""

    design: CompiledDesign

    @property
    def n_values(self) -> int:
        """Of the moments of a response."""
        return self.design.n_values

    def put_residuals(self, fit: Fit, r: int, room: Floats, generator: np.random.Generator) -> None:
        """What rows have by themselves."""
        generator.standard_normal(out=room)
        room *= np.sqrt(fit.scale[r])

    def responses(
        self, _fit: Fit, _r: int, predictor: Floats, _generator: np.random.Generator
    ) -> Floats:
        """The predictors, which hold all."""
        return predictor

    def take(self, responses: Floats) -> Moments:
        """Moments of sorted responses."""
        return reduce_sorted(self.design, responses)

    def fit(self, taken: list[Moments]) -> Fit:
        """Fit the moments."""
        return fit_moments(self.design, join(taken))


@dataclass(frozen=True)
class CountsModel:
    """Counts and proportions, by Laplace's approximation or quadrature."""

    design: CompiledDesign
    nest: Nest | Cross
    family: FamilyModel

    @property
    def n_values(self) -> int:
        """Of a response itself."""
        return self.design.n_rows

    def put_residuals(
        self, _fit: LaplaceFit, _r: int, room: Floats, _generator: np.random.Generator
    ) -> None:
        """The offset alone."""
        room[:] = self.nest.offset

    def responses(
        self, fit: LaplaceFit, r: int, predictor: Floats, generator: np.random.Generator
    ) -> Floats:
        """Draws of the family."""
        mean = np.minimum(MEANS[self.family.link](predictor), LARGEST_MEAN)
        trials = self.nest.trials if self.family.family == "binomial" else None
        dispersion = 1.0 / fit.dispersion[r] if fit.dispersion[r] > 0.0 else None
        return np.array([draw_counts(generator, one, trials, dispersion) for one in mean])

    def take(self, responses: Floats) -> Floats:
        """Sorted responses as the design was given."""
        given = np.empty_like(responses)
        given[:, self.design.order] = responses
        return given

    def fit(self, taken: list[Floats]) -> LaplaceFit:
        """Fit the responses."""
        kind, given = KINDS[self.family.family, self.family.link], np.concatenate(taken)
        return fit_laplace(self.design, self.nest, kind, given, self.family.quadrature)
