"""Generalised estimating equations for a normal response, exchangeable within outermost units.

The working correlation of two rows of a unit is alpha. Its inverse is I - k J up to a factor, with
k = alpha / (1 + alpha (m - 1)) in a unit of m rows and J all ones; the factor cancels. beta and
alpha follow from each other in turn, as in statsmodels, by sums over units and sizes of units.
Liang & Zeger (1986).

Letters: e residuals, s_g their sum in unit g, x_g = X_g'1; B = sum of C_g, C_g = X_g'(I - k J)X_g;
b least-squares coefficients, beta = b + delta.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.arrays import Flags
from mcsim.engine.arithmetic.replicates import (
    apply,
    dot,
    inverse_positive,
    product,
    symmetric_eigen,
    transpose,
)
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError
from mcsim.methods.cluster_robust import FULL_LEVERAGE
from mcsim.methods.inference.df import ConstantDf
from mcsim.methods.least_squares import (
    FixedEffectsMethod,
    inner_products,
    joined,
    linear_model,
    units_of,
)
from mcsim.methods.method import Analysis, FitOutcomes, Floats, Ints, MethodSettings, StreamOf

MOST_SHARE = 0.75  # of a unit, by which Fay & Graubard correct
MAX_UPDATES = 100  # of alpha; a handful is usual
ALPHA_TOLERANCE = 1e-10  # change of alpha that counts as none


class Taken(NamedTuple):
    """What is kept of responses: least squares, and what its residuals are per unit.

    b : (n, p); squares : (n,) of all residuals; scores : (n, n_units, p + 1) X_g'e and s_g
    """

    b: Floats
    squares: Floats
    scores: Floats


class Fit(NamedTuple):
    """Estimates; status as of `Status`."""

    alpha: Floats
    delta: Floats
    status: Ints


class Gee(FixedEffectsMethod):
    """GEE with the sandwich covariance, as it is or corrected for small samples."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        super().__init__(columns, settings)
        self.model = linear_model(columns.X)
        self._unit = units_of(columns, settings.estimator, 0)
        self._equations = EstimatingEquations(self.model.X, self._unit)
        refuse_small_units(self._equations, columns)
        self.n_values = (len(self._equations.x) + 1) * (len(columns.names) + 1)
        self.n_parameters = len(columns.names) + 2

    def take(self, responses: Floats) -> Taken:
        """Least squares, and sums over units."""
        b = self.model.coefficients(responses)
        residuals = self.model.residuals(responses, b)
        weights = np.column_stack([self.model.X, np.ones(len(self._unit))])
        scores = unit_sums(residuals, weights, self._unit, len(self._equations.x))
        return Taken(b, inner_products(residuals, residuals), scores)

    def analyse(self, taken: Sequence[Taken], _stream_of: StreamOf) -> Analysis:
        """Estimates and tests per df method."""
        kept = Taken(*joined(taken))
        fit = self._equations.solve(kept)
        is_failed = fit.status == Status.FAILED
        beta = np.where(is_failed[:, None], np.nan, kept.b + fit.delta)
        estimates = {}
        for name in self.settings.df:
            df = np.full(beta.shape[1], df_of_units(name, len(self._equations.x), beta.shape[1]))
            estimates[name] = self.effects(
                beta, ConstantDf(self._equations.covariance(name, kept, fit), df)
            )
        return Analysis(estimates, _outcomes(fit))


def df_of_units(name: str, n_units: int, p: int) -> float:
    """The normal distribution for the sandwich as it is, else units less fixed effects."""
    df = n_units - p
    return np.inf if name == "robust" else float(df) if df > 0 else np.nan


def refuse_small_units(equations: "EstimatingEquations", columns: ModelColumns) -> None:
    """Raise a DataError where units have too few pairs of rows for their correlation."""
    if equations.n_pairs <= len(columns.names):
        raise DataError(
            f"the units of {columns.levels[0].level!r} have too few observations to estimate"
            " their correlation"
        )


class EstimatingEquations:
    """Sums over the units of a design, and the steps between alpha and beta."""

    def __init__(self, X: Floats, unit_of_row: Ints) -> None:
        n_units = int(unit_of_row.max()) + 1
        self._n_rows, self._p = X.shape
        self.G = np.swapaxes(unit_sums(X.T, X, unit_of_row, n_units), 0, 1)
        everything = np.ones((1, self._n_rows))
        self.x = unit_sums(everything, X, unit_of_row, n_units)[0]
        self._sizes, self._size_of_unit = np.unique(np.bincount(unit_of_row), return_inverse=True)
        counts = np.bincount(unit_of_row)
        self.n_pairs = float(np.sum(counts * (counts - 1.0)) / 2.0)
        squared = self.x[:, :, None] * self.x[:, None, :]
        self._S = np.stack(
            [squared[self._size_of_unit == size].sum(axis=0) for size in range(len(self._sizes))]
        )
        self._XX = self.G.sum(axis=0)

    def solve(self, taken: Taken) -> Fit:
        """Beta and alpha in turn until alpha stands still; what has converged stays as it is."""
        n = len(taken.b)
        sums = np.ascontiguousarray(taken.scores[:, :, -1])
        T = unit_sums(sums, self.x, self._size_of_unit, len(self._sizes))
        squares = inner_products(sums, sums)
        alpha, delta = np.zeros(n), np.zeros((n, self._p))
        is_moving = np.ones(n, dtype=bool)
        for _ in range(MAX_UPDATES):
            new = self._alpha(taken.squares, squares, T, delta)
            change = np.abs(new - alpha)
            alpha = np.where(is_moving, new, alpha)
            is_moving &= self._is_possible(alpha)
            step = -apply(inverse_positive(self._information(alpha)), self._weighted(alpha, T))
            delta = np.where(is_moving[:, None], step, delta)
            is_moving &= change > ALPHA_TOLERANCE
            if not np.any(is_moving):
                break
        status = np.where(is_moving, Status.NOT_CONVERGED, Status.OK)
        return Fit(alpha, delta, np.where(self._is_possible(alpha), status, Status.FAILED))

    def step(self, taken: Taken) -> tuple[Fit, Floats]:
        """Alpha by residuals of any coefficients, and how far the equations move these."""
        sums = np.ascontiguousarray(taken.scores[:, :, -1])
        T = unit_sums(sums, self.x, self._size_of_unit, len(self._sizes))
        none = np.zeros(taken.b.shape)
        alpha = self._alpha(taken.squares, inner_products(sums, sums), T, none)
        score = taken.scores[:, :, :-1].sum(axis=1) - self._weighted(alpha, T)
        status = np.where(self._is_possible(alpha), Status.OK, Status.FAILED)
        return Fit(alpha, none, status), apply(inverse_positive(self._information(alpha)), score)

    def covariance(self, name: str, taken: Taken, fit: Fit) -> Floats:
        """The sandwich, as it is or corrected: (n, p, p)."""
        given = {
            "robust": self.sandwich,
            "mancl-derouen": self.mancl_derouen,
            "kauermann-carroll": self.kauermann_carroll,
            "fay-graubard": self.fay_graubard,
        }
        return given[name](taken, fit)

    def sandwich(self, taken: Taken, fit: Fit) -> Floats:
        """Covariance of beta by Liang & Zeger (1986): (n, p, p)."""
        inverse = inverse_positive(self._information(fit.alpha))
        return self._sum_of_squares(taken, fit, lambda unit: inverse)

    def mancl_derouen(self, taken: Taken, fit: Fit) -> Floats:
        """The same with residuals divided by I - H_gg: Mancl & DeRouen (2001), Biometrics 57.

        By Woodbury's identity, this has the inverse of B - C_g in place of that of B.
        """
        B, k = self._information(fit.alpha), self._k(fit.alpha)
        R = _power(inverse_positive(B), 0.5) if self._is_needed.any() else B

        def left(unit: int) -> Floats:
            if self._is_needed[unit]:
                return self._between(R, unit, k, -1.0)
            return inverse_positive(B - self._own(unit, k))

        return self._sum_of_squares(taken, fit, left)

    def kauermann_carroll(self, taken: Taken, fit: Fit) -> Floats:
        """The same with the root of I - H_gg: Kauermann & Carroll (2001), JASA 96.

        With R the root of B^-1, its bread is R (I - R C_g R)^-1/2 R.
        """
        k, inverse = self._k(fit.alpha), inverse_positive(self._information(fit.alpha))
        R = _power(inverse, 0.5)
        return self._sum_of_squares(taken, fit, lambda unit: self._between(R, unit, k, -0.5))

    @cached_property
    def _is_needed(self) -> Flags:
        """Of every unit, whether the others cannot estimate all effects: (n_units,)."""
        scale = np.diag(1.0 / np.sqrt(self._XX.diagonal()))
        root = scale @ np.linalg.inv(np.linalg.cholesky(scale @ self._XX @ scale)).T
        return np.linalg.eigvalsh(root.T @ self.G @ root)[:, -1] > 1.0 - FULL_LEVERAGE

    def _between(self, R: Floats, unit: int, k: Floats, power: float) -> Floats:
        """R (I - R C_g R)^power R, without what the unit alone tells: it has no residuals of it."""
        left = np.eye(self._p) - product(product(R, self._own(unit, k)), R)
        least = FULL_LEVERAGE if self._is_needed[unit] else None
        return product(product(R, _power(left, power, least)), R)

    def fay_graubard(self, taken: Taken, fit: Fit) -> Floats:
        """Scores divided by the roots of 1 - the diagonal of C_g B^-1: Fay & Graubard (2001)."""
        k, inverse = self._k(fit.alpha), inverse_positive(self._information(fit.alpha))

        def scaled(unit: int) -> Floats:
            share = np.einsum("nii->ni", product(self._own(unit, k), inverse))
            return np.asarray(inverse / np.sqrt(1.0 - np.minimum(share, MOST_SHARE))[:, None, :])

        return self._sum_of_squares(taken, fit, scaled)

    def _own(self, unit: int, k: Floats) -> Floats:
        """C_g: (n, p, p)."""
        squared = self.x[unit][:, None] * self.x[unit]
        return np.asarray(self.G[unit] - k[:, self._size_of_unit[unit], None, None] * squared)

    def _sum_of_squares(self, taken: Taken, fit: Fit, bread: Callable[[int], Floats]) -> Floats:
        """Sum of v_g v_g', v_g the bread of unit g times its score X_g'(I - k J)e_g."""
        n, k = len(fit.alpha), self._k(fit.alpha)
        total = np.zeros((n, self._p, self._p))
        for unit, (G, x) in enumerate(zip(self.G, self.x, strict=True)):
            score = taken.scores[:, unit, :-1] - _times(G, fit.delta)
            s = taken.scores[:, unit, -1] - _times(x[None], fit.delta)[:, 0]
            score -= (k[:, self._size_of_unit[unit]] * s)[:, None] * x
            v = apply(bread(unit), score)
            total += v[:, :, None] * v[:, None, :]
        return total

    def _alpha(self, squares: Floats, squared_sums: Floats, T: Floats, delta: Floats) -> Floats:
        """Moment estimator: mean product of two residuals of a unit, over their variance."""
        rss = squares + dot(delta, _times(self._XX, delta))
        of_sums = squared_sums + dot(delta, _times(self._S.sum(axis=0), delta))
        for size in range(len(self._sizes)):
            of_sums = of_sums - 2.0 * dot(delta, T[:, size])
        variance = rss / (self._n_rows - self._p)
        return np.asarray(0.5 * (of_sums - rss) / (variance * (self.n_pairs - self._p)))

    def _k(self, alpha: Floats) -> Floats:
        """Of every size: (n, n_sizes)."""
        return np.asarray(alpha[:, None] / (1.0 + alpha[:, None] * (self._sizes - 1.0)))

    def _information(self, alpha: Floats) -> Floats:
        """B: (n, p, p)."""
        k, B = self._k(alpha), np.tile(self._XX, (len(alpha), 1, 1))
        for size, S in enumerate(self._S):
            B -= k[:, size, None, None] * S
        return B

    def _weighted(self, alpha: Floats, T: Floats) -> Floats:
        k = self._k(alpha)
        total = k[:, :1] * T[:, 0]
        for size in range(1, len(self._sizes)):
            total += k[:, size, None] * T[:, size]
        return total

    def _is_possible(self, alpha: Floats) -> Flags:
        """Whether the working correlation matrices are positive definite."""
        return np.asarray((alpha < 1.0) & (1.0 + alpha * (self._sizes.max() - 1.0) > 0.0))


def _power(A: Floats, power: float, least: float | None = None) -> Floats:
    """Of symmetric matrices (n, p, p); NaN where that is not defined.

    least : eigenvalues up to which count as 0, whose power is 0
    """
    values, vectors = symmetric_eigen(A)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(values > (least or 0.0), values, np.nan) ** power
    if least is not None:
        scaled = np.where(values > least, scaled, 0.0)
    return product(vectors * scaled[:, None, :], transpose(vectors))


def _times(A: Floats, v: Floats) -> Floats:
    """A v for one matrix (i, j) and vectors (n, j): (n, i)."""
    total = v[:, :1] * A[:, 0]
    for j in range(1, A.shape[1]):
        total += v[:, j, None] * A[:, j]
    return total


def _outcomes(fit: Fit) -> FitOutcomes:
    messages: list[str | None] = [None] * len(fit.status)
    for row in np.flatnonzero(fit.status >= Status.NOT_CONVERGED):
        messages[row] = why_not(int(fit.status[row]), float(fit.alpha[row]))
    none = np.full(len(fit.status), np.nan)
    return FitOutcomes(fit.status, none, none, none, messages)


def why_not(status: int, alpha: float) -> str:
    """A sentence on equations that were not solved."""
    if status == Status.FAILED:
        return f"the working correlation {alpha:.4g} is not possible"
    return f"not converged after {MAX_UPDATES} updates of the working correlation"
