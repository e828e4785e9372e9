"""Counts and proportions as one number per unit, for analyses of normal responses.

`image-means` has a number for every innermost unit. `two-stage` has one for all rows of an
outermost unit that are alike in the columns of the fixed effects, such as cells at the same
distance; every row has its own where none are. With y counted in m trials or n rows, it is

    link((y + 1/2) / (m + 1)), which for the logit is log((y + 1/2) / (m - y + 1/2)), or
    log((y + 1/2) / n),

so that none is infinite (Haldane 1956, Anscombe 1956). Offsets are taken from it: of counts as log
of their exposure, the sum over rows of exp(offset) in place of n.
"""

from dataclasses import replace

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.engine.families.means import PREDICTORS
from mcsim.methods.inference.theory import Theory
from mcsim.methods.laplace import trials_of
from mcsim.methods.least_squares import ImageMeans, columns_of_means, units_of
from mcsim.methods.method import Analysis, Floats, Ints, Method, MethodSettings, StreamOf
from mcsim.methods.two_stage import TwoStage
from mcsim.names import Parameter
from mcsim.scenario.true_values import Truth


class UnitSummaries:
    """A method of normal responses, of the numbers that units have."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, shared: object) -> None:
        assert settings.family is not None
        self._cell, summaries = _cells(columns, settings.estimator)
        method = TwoStage if settings.estimator == "two-stage" else ImageMeans
        self._method: Method = method(summaries, replace(settings, family=None), shared)
        self._link, self._n_cells = settings.family.link, len(summaries.X)
        offset = np.zeros(len(columns.X)) if columns.offset is None else columns.offset
        if self._link == "log":
            self._exposure = np.bincount(self._cell, np.exp(offset))
            self._offset = np.zeros(self._n_cells)
        else:
            self._exposure = np.bincount(self._cell, trials_of(columns, settings.family))
            self._offset = np.bincount(self._cell, offset) / np.bincount(self._cell)
        self.n_values, self.n_parameters = self._method.n_values, self._method.n_parameters

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return self._method.parameters()

    def theory(self, _truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """None."""
        return {}

    def take(self, responses: Floats) -> Floats:
        """What the method takes of the numbers of units."""
        ones = np.ones((responses.shape[1], 1))
        counted = unit_sums(responses, ones, self._cell, self._n_cells)[:, :, 0] + 0.5
        share = counted / (self._exposure + (0.0 if self._link == "log" else 1.0))
        taken: Floats = self._method.take(PREDICTORS[self._link](share) - self._offset)
        return taken

    def analyse(self, taken: list[Floats], stream_of: StreamOf) -> Analysis:
        """Analyse all that was taken."""
        return self._method.analyse(taken, stream_of)


def _cells(columns: ModelColumns, estimator: str) -> tuple[Ints, ModelColumns]:
    """The cell of every row, and the columns of cells."""
    if estimator == "image-means":
        cell, means = columns_of_means(columns)
        X = means.X
    else:
        unit = units_of(columns, estimator, 0)
        rows = np.column_stack([unit, columns.X.round(12)])
        _, cell = np.unique(rows, axis=0, return_inverse=True)
        cell = cell.reshape(-1)
        X = columns.X[np.unique(cell, return_index=True)[1]]
    first = np.unique(cell, return_index=True)[1]
    levels = tuple(
        replace(level, unit_of_row=level.unit_of_row[first], Z=level.Z[first])
        for level in columns.levels
    )
    frame = columns.frame.iloc[first]
    return cell, replace(columns, X=X, levels=levels, frame=frame, offset=None)
