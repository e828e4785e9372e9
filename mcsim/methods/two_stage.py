"""Two-stage analysis: a regression per outermost unit, then least squares on its coefficients.

What varies within the units makes the first stage, and the rest the second. With diet * x, every
animal has an intercept and a slope; Intercept and diet[T.fed] are the coefficients of the animals'
intercepts on the diet, x and diet[T.fed]:x those of their slopes. Without interaction, x is the
mean slope of all animals.

Letters: W (n_rows, k) columns of the first stage, B (n_units, k, p) with X_g = W_g B_g; every
fixed effect is one of a single coefficient of the first stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.arithmetic.unit_sums import unit_sums
from mcsim.errors import DataError
from mcsim.methods.inference.df import ConstantDf
from mcsim.methods.least_squares import (
    FixedEffectsMethod,
    LinearModel,
    all_usable,
    inner_products,
    linear_model,
    units_of,
)
from mcsim.methods.method import Analysis, Floats, Ints, MethodSettings, StreamOf

ROUNDING = 1e-9  # of a column's length within a unit: what counts as nothing


class TwoStage(FixedEffectsMethod):
    """A regression per outermost unit, then t tests on the coefficients."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        super().__init__(columns, settings)
        self.unit, self._names = units_of(columns, settings.estimator, 0), columns.names
        level = columns.levels[0].level
        first = first_stage(columns, self.unit, level)
        self._weights = first.weights
        self._second = second_stage(columns, first.B, level)
        self._n_units = len(first.B)
        self.n_values = first.B[:, :, 0].size

    def take(self, responses: Floats) -> Floats:
        """Coefficients of the regressions: (n_replicates, n_units, k)."""
        return unit_sums(responses, self._weights, self.unit, self._n_units)

    def squared_error(self, name: str) -> tuple[Floats, Floats] | None:
        """What the squared SE of a fixed effect is: weights (n_rows,), A (n_units, n_units).

        It is b'A b of the weighted sums b of the units' responses. None where there is no such
        effect.
        """
        for k, one in enumerate(self._second):
            if name in (own := [self._names[j] for j in one.own]):
                P = one.model.P[:, own.index(name)]
                left = np.eye(self._n_units) - one.model.X @ one.model.P.T
                return self._weights[:, k], left * float(P @ P) / one.model.df
        return None

    def analyse(self, taken: Sequence[Floats], _stream_of: StreamOf) -> Analysis:
        """Estimates and t tests on as many degrees of freedom as units leave."""
        coefficients = np.concatenate(taken)
        n, p = len(coefficients), sum(len(one.own) for one in self._second)
        beta, covariance, df = np.zeros((n, p)), np.zeros((n, p, p)), np.zeros(p)
        residuals = []
        for k, one in enumerate(self._second):
            responses = np.ascontiguousarray(coefficients[:, :, k])
            beta[:, one.own] = one.model.coefficients(responses)
            residuals.append(one.model.residuals(responses, beta[:, one.own]))
            df[one.own] = one.model.df
        for one, e in zip(self._second, residuals, strict=True):
            for other, f in zip(self._second, residuals, strict=True):
                product = inner_products(e, f) / _divisor(one.model, other.model)
                block = product[:, None, None] * (one.model.P.T @ other.model.P)
                covariance[:, one.own[:, None], other.own] = block
        estimates = self.effects(beta, ConstantDf(covariance, df))
        return Analysis({"residual": estimates}, all_usable(n))


@dataclass(frozen=True)
class FirstStage:
    """Regressions per unit: weights (n_rows, k) of the responses in the coefficients."""

    weights: Floats
    B: Floats


@dataclass(frozen=True)
class SecondStage:
    """Least squares of one coefficient on the columns `own` of the model."""

    own: Ints
    model: LinearModel


def first_stage(columns: ModelColumns, unit: Ints, level: str) -> FirstStage:
    """The regression that is fitted to every unit.

    Raises
    ------
    DataError
        Some unit has too few rows for it.
    """
    rows = _RowsOfUnits(unit)
    W, names, Q = _within_columns(columns, rows)
    k = W.shape[1]
    R = np.swapaxes(Q, 1, 2) @ rows.of(W)  # W = Q R in every unit
    sizes = np.linalg.svd(R, compute_uv=False)
    least = np.finfo(float).eps * np.maximum(rows.n_rows, k) * sizes.max(axis=1, initial=0.0)
    short = np.flatnonzero(np.count_nonzero(sizes > least[:, None], axis=1) < k)
    if len(short):
        raise DataError(
            f"a regression with {k} coefficients cannot be fitted to every unit of"
            f" {level!r}: one has {rows.n_rows[short[0]]} observations, too few or all alike. The"
            f" regression has what varies within units: {', '.join(names)}. Observe more, or"
            f" leave some out{_advice(columns.terms)}"
        )
    solutions = Q @ np.swapaxes(np.linalg.inv(R), 1, 2)  # (n_units, n, k)
    weights = np.zeros((len(unit), k))
    weights[rows.index[rows.is_there]] = solutions[rows.is_there]
    B = np.swapaxes(solutions, 1, 2) @ rows.of(columns.X)
    return FirstStage(weights, np.asarray(B, dtype=np.float64))


class _RowsOfUnits:
    """The rows of every unit, as many for each as the largest has: those beyond are zero.

    n_rows : (n_units,); index, is_there : (n_units, n) rows, and whether there is one
    """

    def __init__(self, unit: Ints) -> None:
        order = np.argsort(unit, kind="stable")
        self.n_rows = np.bincount(unit)
        place = np.arange(int(self.n_rows.max()))
        self.is_there = place < self.n_rows[:, None]
        start = np.cumsum(self.n_rows) - self.n_rows
        self.index = order[np.where(self.is_there, start[:, None] + place, 0)]

    def of(self, columns: Floats) -> Floats:
        """Columns (n_rows, k), or one (n_rows,), by units: (n_units, n, k)."""
        values = columns[self.index]
        values[~self.is_there] = 0.0
        return values


def second_stage(columns: ModelColumns, B: Floats, level: str) -> list[SecondStage]:
    """Which fixed effects are those of each coefficient.

    Raises
    ------
    DataError
        A fixed effect is part of several coefficients, or there are too few units.
    """
    is_part = np.abs(B).max(axis=0) > ROUNDING * np.abs(B).max(axis=(0, 1))
    for name, parts in zip(columns.names, is_part.T, strict=True):
        if parts.sum() > 1:
            raise DataError(
                f"the fixed effect {name!r} changes several coefficients of the regressions per"
                f" {level!r}, so it cannot be estimated from one of them; leave it out"
            )
    stages = []
    for k, own in enumerate(map(np.flatnonzero, is_part)):
        if len(B) <= len(own):
            raise DataError(
                f"{len(B)} units of {level!r} cannot estimate {len(own)} fixed effects; add units"
            )
        stages.append(SecondStage(own, linear_model(np.ascontiguousarray(B[:, k, own]))))
    return stages


def _advice(terms: Sequence[str]) -> str:
    """What to write for an interaction without its parts, each of whose columns counts."""
    for parts in (term.split(":") for term in terms):
        if not set(parts) <= set(terms):
            return f"; write {' * '.join(parts)}, not {':'.join(parts)}"
    return ""


def _within_columns(columns: ModelColumns, rows: _RowsOfUnits) -> tuple[Floats, list[str], Floats]:
    """A constant if X has any within units, and the columns that those before do not make.

    With their names, and an orthonormal basis of them in every unit (n_units, n, k).
    """
    X, ones = columns.X, np.ones(len(columns.X))
    constant, _ = _what_is_new(rows.of(ones), [])
    W, names, Q = [ones], ["a constant"], [constant]
    if all(_what_is_new(rows.of(column), Q)[1] for column in X.T):
        W, names, Q = [], [], []
    for name, column in zip(columns.names, X.T, strict=True):
        new, is_any = _what_is_new(rows.of(column), Q)
        if is_any:
            W.append(column)
            names.append(name)
            Q.append(new)
    n_units, n = rows.index.shape
    basis = np.stack(Q, axis=2) if Q else np.zeros((n_units, n, 0))
    return np.column_stack(W) if W else np.zeros((len(X), 0)), names, basis


def _what_is_new(column: Floats, Q: Sequence[Floats]) -> tuple[Floats, bool]:
    """What vectors Q do not make of a column, of length 1 in every unit; whether there is any."""
    rest = column.copy()
    for _ in range(2):  # Gram-Schmidt, twice
        for q in Q:
            rest -= np.sum(q * rest, axis=1, keepdims=True) * q
    left, length = (np.linalg.norm(one, axis=1, keepdims=True) for one in (rest, column))
    is_new = left > ROUNDING * length
    return np.where(is_new, rest / np.where(is_new, left, 1.0), 0.0), bool(is_new.any())


def _divisor(one: LinearModel, other: LinearModel) -> float:
    """Expected product of two residuals whose units have covariance 1; their df if one is other."""
    n, p = one.X.shape
    shared = np.sum((one.X.T @ other.X) * (one.P.T @ other.P))  # trace of the hat matrices' product
    return float(n - p - other.X.shape[1] + shared)
