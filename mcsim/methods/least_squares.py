"""Ordinary least squares: on the rows, as if they were independent, or on the means of units.

Letters: X (n_rows, p) fixed-effect columns, M = (X'X)^-1, beta coefficients, e residuals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from mcsim.design.columns import ModelColumns, means_of_units, without_aliased
from mcsim.engine.arithmetic.basis import orthonormal_basis
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError
from mcsim.methods.inference.df import ConstantDf, DfMethod
from mcsim.methods.inference.fixed_effects import ParameterBlock, fixed_effects
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import (
    Analysis,
    FitOutcomes,
    Floats,
    Ints,
    MethodSettings,
    StreamOf,
    fixed_contrasts,
)
from mcsim.names import SIGMA, Parameter
from mcsim.scenario.true_values import Truth


@dataclass(frozen=True)
class LinearModel:
    """Fixed-effect columns of full rank, and what least squares needs of them.

    root : (p, p) M = root root'; P : (n_rows, p) X M, so that beta = P'y
    """

    X: Floats
    root: Floats
    P: Floats

    @property
    def M(self) -> Floats:
        """(X'X)^-1: (p, p)."""
        return np.asarray(self.root @ self.root.T)

    @property
    def df(self) -> int:
        """Degrees of freedom of the residuals."""
        n, p = self.X.shape
        return int(n - p)

    def coefficients(self, responses: Floats) -> Floats:
        """Beta of responses (n_replicates, n_rows): (n_replicates, p)."""
        everyone = np.zeros(len(self.X), dtype=np.int64)
        return unit_sums(responses, self.P, everyone, 1)[:, 0]

    def residuals(self, responses: Floats, beta: Floats) -> Floats:
        """What the columns leave of the responses."""
        left = responses.copy()
        for j, column in enumerate(self.X.T):
            left -= beta[:, j, None] * column
        return left


def linear_model(X: Floats) -> LinearModel:
    """Prepare least squares by columns of full rank.

    Raises
    ------
    DataError
        There are no more rows than columns.
    """
    n, p = X.shape
    if n <= p:
        raise DataError(f"{n} observations cannot estimate {p} fixed effects; add observations")
    Q, R = orthonormal_basis(X)  # the same bits on any number of threads
    root = np.linalg.inv(R).astype(np.float64)
    return LinearModel(X, root, Q @ root.T)


def inner_products(one: Floats, other: Floats) -> Floats:
    """Sum over the rows of each replicate: (n_replicates,)."""
    n_rows = one.shape[1]
    return unit_sums(one * other, np.ones((n_rows, 1)), np.zeros(n_rows, np.int64), 1)[:, 0, 0]


class FixedEffectsMethod:
    """What methods share that estimate fixed effects, and no variance components."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings) -> None:
        self.settings = settings
        self.contrasts = fixed_contrasts(columns, settings)
        self.n_parameters = len(columns.names)

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return [one.parameter for one in self.contrasts]

    def theory(self, _truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """None."""
        return {}

    def effects(self, beta: Floats, df_method: DfMethod) -> list[ParameterBlock]:
        """Estimates and tests of the fixed effects."""
        return fixed_effects(beta, self.contrasts, df_method, self.settings.confidence)


class LeastSquares(FixedEffectsMethod):
    """Every row independent of the others: what ignores the units altogether."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        super().__init__(columns, settings)
        self.model = linear_model(columns.X)
        self.n_values = self.model.X.shape[1] + 1

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return [*super().parameters(), SIGMA]

    def take(self, responses: Floats) -> tuple[Floats, Floats]:
        """Coefficients, and sums of squares of the residuals."""
        beta = self.model.coefficients(responses)
        residuals = self.model.residuals(responses, beta)
        return beta, inner_products(residuals, residuals)

    def analyse(self, taken: Sequence[tuple[Floats, Floats]], _stream_of: StreamOf) -> Analysis:
        """Estimates, t tests on n - p degrees of freedom, and sigma."""
        beta, squares = joined(taken)
        variance = squares / self.model.df
        estimates = self.effects(beta, residual_df(self.model, variance))
        sigma = _residual_sd(np.sqrt(variance), self.model.df, self.settings.confidence)
        return Analysis({"residual": [*estimates, sigma]}, all_usable(len(beta)))


class ImageMeans(FixedEffectsMethod):
    """Least squares on the means of the innermost units, each of the same weight.

    Effects of columns that have the same mean in all units cannot be estimated and are left out.
    """

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        unit_of_row, means = columns_of_means(columns)
        means, _ = without_aliased(means)
        super().__init__(means, settings)
        self.model = linear_model(means.X)
        self._unit_of_row = unit_of_row
        self._weights = 1.0 / np.bincount(unit_of_row)[unit_of_row][:, None]
        self.n_values = len(means.X)

    def take(self, responses: Floats) -> Floats:
        """Means of the units: (n_replicates, n_units)."""
        n_units = len(self.model.X)
        return unit_sums(responses, self._weights, self._unit_of_row, n_units)[:, :, 0]

    def analyse(self, taken: Sequence[Floats], _stream_of: StreamOf) -> Analysis:
        """Estimates, and t tests on as many degrees of freedom as units leave."""
        means = np.concatenate(taken)
        beta = self.model.coefficients(means)
        residuals = self.model.residuals(means, beta)
        variance = inner_products(residuals, residuals) / self.model.df
        estimates = self.effects(beta, residual_df(self.model, variance))
        return Analysis({"residual": estimates}, all_usable(len(beta)))


def columns_of_means(columns: ModelColumns) -> tuple[Ints, ModelColumns]:
    """Innermost unit of every row, and the fixed-effect columns as means of these units.

    Raises
    ------
    DataError
        The formula names no units.
    """
    unit = units_of(columns, "image-means", -1)
    return unit, replace(columns, X=means_of_units(columns.X, unit), unit_of_row=unit)


def units_of(columns: ModelColumns, estimator: str, position: int) -> Ints:
    """Unit of every row at a level of the formula, 0 the outermost and -1 the innermost.

    Raises
    ------
    DataError
        The formula names no units.
    """
    if not columns.levels:
        raise DataError(
            f"estimator {estimator!r} needs the units; name them by a random term, such as"
            " (1 | animal)"
        )
    return columns.levels[position].unit_of_row


def residual_df(model: LinearModel, variance: Floats) -> ConstantDf:
    """Covariance of beta by the variance of the residuals (n_replicates,), and their df."""
    df = np.full(len(model.M), float(model.df))
    return ConstantDf(variance[:, None, None] * model.M, df)


def joined(taken: Sequence[tuple[Floats, ...]]) -> tuple[Floats, ...]:
    """What was taken of several blocks as one."""
    return tuple(np.concatenate(parts) for parts in zip(*taken, strict=True))


def all_usable(n_replicates: int) -> FitOutcomes:
    """Outcomes of fits that cannot fail, without a likelihood."""
    none = np.full(n_replicates, np.nan)
    status = np.full(n_replicates, int(Status.OK))
    return FitOutcomes(status, none, none, none, [None] * n_replicates)


def _residual_sd(sigma: Floats, df: int, confidence: float) -> ParameterBlock:
    """Exact interval of normal residuals, by the chi-squared distribution of the variance."""
    tail = 0.5 - 0.5 * confidence
    lower = sigma * np.sqrt(df / special.chdtri(df, tail))
    upper = sigma * np.sqrt(df / special.chdtri(df, 1.0 - tail))
    std_error = sigma / np.sqrt(2.0 * df)
    return ParameterBlock(SIGMA, sigma, std_error, ci_lower=lower, ci_upper=upper)
