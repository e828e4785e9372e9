"""Least squares with standard errors that allow for any correlation within the outermost units.

Letters: X_g rows of unit g, M = (X'X)^-1, H = X M X' the hat matrix, e residuals; V the sandwich
sum of u_g u_g' with u_g = M X_g'A_g e_g. CR1 has A_g = I and a constant in front. CR2 has
A_g = (I - H_gg)^(-1/2), which makes V unbiased where the rows are independent with one variance.
Where units cross, V of CR1 is that of each level, less that of the units they have in common, and
so on (Cameron, Gelbach & Miller 2011); CR2 is not known there.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.replicates import product, transpose
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.engine.crossed.partitions import units_that_cross
from mcsim.errors import DataError
from mcsim.methods.inference.df import ConstantDf, DfMethod
from mcsim.methods.least_squares import (
    FixedEffectsMethod,
    LinearModel,
    all_usable,
    joined,
    linear_model,
    units_of,
)
from mcsim.methods.method import Analysis, Floats, Ints, MethodSettings, StreamOf

FULL_LEVERAGE = 1e-10  # of 1 - h: a direction that the unit alone determines has no residuals


class ClusterRobust(FixedEffectsMethod):
    """OLS with the cluster-robust covariance CR1 or CR2 of the outermost units."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        super().__init__(columns, settings)
        self.model = linear_model(columns.X)
        self._groupings = _groupings(columns, settings)
        self._bell_mccaffrey = bell_mccaffrey(self.model, self._groupings[0].unit)
        p = len(columns.names)
        self.n_values = p + len(settings.df) * p * p

    def take(self, responses: Floats) -> tuple[Floats, ...]:
        """Coefficients, and a sum of u_g u_g' per df method."""
        beta = self.model.coefficients(responses)
        residuals = self.model.residuals(responses, beta)
        sandwiches = {"cr1": self._cr1, "cr2": self._cr2}
        return beta, *(sandwiches[name](residuals) for name in self.settings.df)

    def analyse(self, taken: Sequence[tuple[Floats, ...]], _stream_of: StreamOf) -> Analysis:
        """Estimates and t tests per df method."""
        beta, *covariances = joined(taken)
        estimates = {
            name: self.effects(beta, self._df_method(name, covariance))
            for name, covariance in zip(self.settings.df, covariances, strict=True)
        }
        return Analysis(estimates, all_usable(len(beta)))

    def _cr1(self, residuals: Floats) -> Floats:
        n, p = self.model.X.shape
        found = np.zeros((len(residuals), p, p))
        for one in self._groupings:
            scores = unit_sums(residuals, self.model.X, one.unit, one.n_units)
            everywhere = np.tile(self.model.M, (one.n_units, 1, 1))
            found += one.sign * cr1_factor(one.n_units, n, p) * sandwich(scores, everywhere)
        return found if len(self._groupings) == 1 else _without_negative(found)

    def _cr2(self, residuals: Floats) -> Floats:
        one = self._groupings[0]
        scores = unit_sums(residuals, self.model.X, one.unit, one.n_units)
        return sandwich(scores, self._bell_mccaffrey.T)

    def _df_method(self, name: str, covariance: Floats) -> DfMethod:
        if name == "cr2":
            return ClusterSatterthwaite(covariance, self._bell_mccaffrey)
        fewest = min(one.n_units for one in self._groupings)
        return ConstantDf(covariance, np.full(self.model.X.shape[1], float(fewest - 1)))


@dataclass(frozen=True)
class _Grouping:
    """Units whose rows may be correlated; sign: of its part of the covariance."""

    unit: Ints
    sign: float

    @property
    def n_units(self) -> int:
        return int(self.unit.max()) + 1


def _groupings(columns: ModelColumns, settings: MethodSettings) -> list[_Grouping]:
    """The outermost units; where levels cross, those of each, and what any of them have in common.

    Raises
    ------
    DataError
        The formula names no units, or a level has one only.
    """
    units = units_of(columns, settings.estimator, 0)
    outermost = {columns.levels[0].level: units}
    if columns.are_crossed:
        outermost = {
            one.level: one.unit_of_row
            for one in columns.levels
            if not any(_is_inside(one.unit_of_row, other.unit_of_row) for other in columns.levels)
        }
    for name, unit in outermost.items():
        refuse_one_unit(name, unit)
    return [
        _Grouping(_in_common(units), -1.0 if len(units) % 2 == 0 else 1.0)
        for size in range(1, len(outermost) + 1)
        for units in itertools.combinations(outermost.values(), size)
    ]


def _is_inside(inner: Ints, outer: Ints) -> bool:
    """Whether the units lie in fewer ones of another level."""
    return int(outer.max()) < int(inner.max()) and not units_that_cross([outer, inner])


def _in_common(units: Sequence[Ints]) -> Ints:
    """The unit of every row that rows share which have the same unit of each level."""
    if len(units) == 1:
        return units[0]
    found = np.unique(np.column_stack(units), axis=0, return_inverse=True)[1]
    return found.reshape(-1).astype(np.int64)


def _without_negative(covariance: Floats) -> Floats:
    """The covariances without the negative eigenvalues that a difference of sandwiches may have."""
    values, vectors = np.linalg.eigh(covariance)
    scaled = vectors * np.maximum(values, 0.0)[:, None, :]
    return np.asarray(scaled @ np.swapaxes(vectors, 1, 2))


def cr1_factor(n_units: int, n: int, p: int) -> float:
    """What few units and columns take from the sandwich."""
    return n_units / (n_units - 1) * (n - 1) / (n - p)


def refuse_one_unit(name: str, unit: Ints) -> None:
    """Raise a DataError where there is no other unit to compare with."""
    if not unit.any():
        raise DataError(f"{name!r} has one unit; a covariance needs two")


def sandwich(scores: Floats, T: Floats) -> Floats:
    """Sum of u_g u_g' over the units, u_g = T_g' times the score of unit g."""
    u = scores[:, :, :1] * T[:, 0]
    for m in range(1, T.shape[1]):
        u += scores[:, :, m, None] * T[:, m]
    return product(transpose(u), u)


@dataclass(frozen=True)
class BellMcCaffrey:
    """What CR2 needs of a design.

    M : (p, p); G : (n_units, p, p) X_g'X_g; T : (n_units, p, p) A_g X_g M = X_g T_g
    """

    M: Floats
    G: Floats
    T: Floats

    def products(self, s: Floats, t: Floats) -> Floats:
        """Covariances (n_units, n_units) of s'u_g with t'u_h for independent rows of variance 1."""
        of_s, of_t = self.T @ s, self.T @ t
        first, second = (np.einsum("gij,gj->gi", self.G, one) for one in (of_s, of_t))
        own = np.diag(np.sum(of_s * second, axis=1))
        return np.asarray(own - first @ self.M @ second.T)


def bell_mccaffrey(model: LinearModel, unit_of_row: Ints) -> BellMcCaffrey:
    """Prepare CR2 for rows that are independent with one variance.

    Source: Bell & McCaffrey (2002), Survey Methodology 28; where A_g does not exist, its pseudo
    inverse as in Pustejovsky & Tipton (2018).
    """
    n_units = int(unit_of_row.max()) + 1
    G = np.swapaxes(unit_sums(model.X.T, model.X, unit_of_row, n_units), 0, 1)
    h, vectors = np.linalg.eigh(model.root.T @ G @ model.root)  # of H_gg, other than 0
    turned = model.root @ vectors
    change = _root_of_leverage(h)[:, None, :] * turned @ np.swapaxes(turned, 1, 2)
    return BellMcCaffrey(model.M, G, model.M + change @ G @ model.M)


def _root_of_leverage(h: Floats) -> Floats:
    """((1 - h)^(-1/2) - 1) / h, whose limit at 0 is 1/2; -1 / h where nothing is left of 1 - h."""
    inside = np.clip(h, 1e-300, 1.0 - FULL_LEVERAGE)
    ratio = np.expm1(-0.5 * np.log1p(-inside)) / inside
    return np.where(h < 1.0 - FULL_LEVERAGE, ratio, -1.0)


@dataclass(frozen=True)
class ClusterSatterthwaite:
    """Satterthwaite's df for CR2 by the design alone: the mean and variance of c'Vc.

    Bell & McCaffrey (2002); several contrasts by Hotelling's T^2 with df that match the total
    variance of L V L': Pustejovsky & Tipton (2018), section 3.
    """

    covariance: Floats
    design: BellMcCaffrey

    def of_contrast(self, c: Floats) -> Floats:
        """Degrees of freedom of one contrast."""
        P = self.design.products(c, c)
        return np.full(len(self.covariance), np.trace(P) ** 2 / np.sum(P**2))

    def of_term(self, L: Floats) -> tuple[Floats, Floats]:
        """Denominator df of F, and its scale; NaN where there are too few units."""
        size = len(L)
        T = np.linalg.solve(np.linalg.cholesky(L @ self.design.M @ L.T), L)
        P = [[self.design.products(s, t) for t in T] for s in T]
        pairs = [(i, j) for i in range(size) for j in range(size)]
        variance = sum(np.sum(P[i][i] * P[j][j] + P[i][j] * P[i][j].T) for i, j in pairs)
        eta = size * (size + 1.0) / variance
        df = eta - size + 1.0 if eta > size - 1.0 else np.nan
        n = len(self.covariance)
        return np.full(n, df), np.full(n, df / eta)
