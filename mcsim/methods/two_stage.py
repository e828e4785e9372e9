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
        self._unit = units_of(columns, settings.estimator, 0)
        level = columns.levels[0].level
        first = first_stage(columns, self._unit, level)
        self._weights = first.weights
        self._second = second_stage(columns, first.B, level)
        self._n_units = len(first.B)
        self.n_values = first.B[:, :, 0].size

    def take(self, responses: Floats) -> Floats:
        """Coefficients of the regressions: (n_replicates, n_units, k)."""
        return unit_sums(responses, self._weights, self._unit, self._n_units)

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
    units = [np.flatnonzero(unit == one) for one in range(int(unit.max()) + 1)]
    W, names = _within_columns(columns, units)
    weights, B = np.zeros_like(W), np.zeros((len(units), W.shape[1], columns.X.shape[1]))
    for one, rows in enumerate(units):
        if np.linalg.matrix_rank(W[rows]) < W.shape[1]:
            raise DataError(
                f"a regression with {W.shape[1]} coefficients cannot be fitted to every unit of"
                f" {level!r}: one has {len(rows)} observations, too few or all alike. The"
                f" regression has what varies within units: {', '.join(names)}. Observe more, or"
                f" leave some out{_advice(columns.terms)}"
            )
        weights[rows] = np.linalg.pinv(W[rows]).T
        B[one] = weights[rows].T @ columns.X[rows]
    return FirstStage(weights, B)


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


def _within_columns(columns: ModelColumns, units: Sequence[Ints]) -> tuple[Floats, list[str]]:
    """A constant if X has any within units, and the columns that those before do not make."""
    X = columns.X
    W, names = np.ones((len(X), 1)), ["a constant"]
    if not any(_is_made_of(W, column, units) for column in X.T):
        W, names = W[:, :0], []
    for name, column in zip(columns.names, X.T, strict=True):
        if not _is_made_of(W, column, units):
            W = np.column_stack([W, column])
            names.append(name)
    return W, names


def _is_made_of(W: Floats, column: Floats, units: Sequence[Ints]) -> bool:
    """Whether the columns W make this one within every unit."""
    for rows in units:
        rest = column[rows] - W[rows] @ (np.linalg.pinv(W[rows]) @ column[rows])
        if np.linalg.norm(rest) > ROUNDING * np.linalg.norm(column[rows]):
            return False
    return True


def _divisor(one: LinearModel, other: LinearModel) -> float:
    """Expected product of two residuals whose units have covariance 1; their df if one is other."""
    n, p = one.X.shape
    shared = np.sum((one.X.T @ other.X) * (one.P.T @ other.P))  # trace of the hat matrices' product
    return float(n - p - other.X.shape[1] + shared)
