"""Parametric bootstrap: data sets simulated from a fit and fitted again.

Percentile intervals: quantiles of the estimates (Efron & Tibshirani 1993, chapter 13).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.arrays import Positions
from mcsim.engine.arithmetic.replicates import semidefinite_factor
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.draws import Cells, add_effects
from mcsim.engine.fit import Fit, fit_moments, reduce_sorted
from mcsim.engine.optimum.search import Status
from mcsim.methods.inference.fixed_effects import ParameterBlock

Floats = NDArray[np.float64]
StreamOf = Callable[[int], np.random.Generator]  # of a replicate, by its position in the block
EstimatesOf = Callable[[Fit], list[ParameterBlock]]


@dataclass(frozen=True)
class _Level:
    """Rows in the order of the units.

    order : (n_rows,) of those of the compiled design
    """

    order: NDArray[np.int64]
    Z: Floats  # (q, n_rows)
    unit_start: Positions
    cells: Cells


class Bootstrap:
    """Fits to data sets simulated from fits of one model.

    n_resamples : data sets per fit
    """

    def __init__(self, columns: ModelColumns, design: CompiledDesign, n_resamples: int) -> None:
        self._design, self._n = design, n_resamples
        self._X = columns.X[design.order]
        self._levels = []
        for level in columns.levels:
            unit = level.unit_of_row[design.order]
            order = np.argsort(unit, kind="stable") if columns.are_crossed else np.arange(len(unit))
            start = np.append(np.flatnonzero(np.diff(unit[order], prepend=-1)), len(unit))
            cells = Cells(np.zeros(len(start) - 1, dtype=np.uint64), np.ones(1))
            Z = np.ascontiguousarray(level.Z[design.order][order].T)
            self._levels.append(_Level(order, Z, start.astype(np.uint64), cells))

    def intervals(
        self,
        fit: Fit,
        estimates_of: EstimatesOf,
        stream_of: StreamOf,
        confidence: float,
    ) -> list[ParameterBlock]:
        """The estimates of a fit with their spread over resamples, none where the fit failed.

        A resample that cannot be fitted, or has no such correlation, is left out of the quantiles.
        """
        blocks = estimates_of(fit)
        spread = np.full((3, len(blocks), len(fit.status)), np.nan)
        levels = [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence]
        for r in np.flatnonzero(fit.status <= Status.BOUNDARY).tolist():
            again = fit_moments(
                self._design, reduce_sorted(self._design, self._draw(fit, r, stream_of(r)))
            )
            usable = again.status <= Status.BOUNDARY
            for position, one in enumerate(estimates_of(again)):
                values = one.estimate[usable & np.isfinite(one.estimate)]
                if len(values) > 1:
                    spread[:, position, r] = values.std(ddof=1), *np.quantile(values, levels)
        return [
            replace(one, std_error=spread[0, k], ci_lower=spread[1, k], ci_upper=spread[2, k])
            for k, one in enumerate(blocks)
        ]

    def _draw(self, fit: Fit, r: int, generator: np.random.Generator) -> Floats:
        """Responses (n_resamples, n_rows) with the parameters of fit r."""
        n_rows = len(self._X)
        y: Floats = generator.standard_normal((self._n, n_rows)) * np.sqrt(fit.scale[r])
        y += self._X @ fit.coefficients[r]
        for level, Sigma in zip(self._levels, fit.covariances, strict=True):
            factor = semidefinite_factor(Sigma[[r]])[0]
            normals = generator.standard_normal((self._n, len(level.cells.of_unit) * len(factor)))
            if np.array_equal(level.order, np.arange(n_rows)):
                add_effects(normals, factor, level.Z, level.unit_start, level.cells, y)
            else:
                own = np.zeros_like(y)
                add_effects(normals, factor, level.Z, level.unit_start, level.cells, own)
                y[:, level.order] += own
        return y
