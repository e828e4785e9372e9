"""Ways to analyse a data set: each is prepared once per design, then given blocks of responses."""

from dataclasses import replace

import numpy as np

from mcsim.analysis import (
    Analysis,
    FitOutcomes,
    Floats,
    Method,
    MethodSettings,
    degrees_of_freedom,
    parameter_names,
    random_names,
)
from mcsim.design import ModelColumns
from mcsim.engine.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.collapse import CompiledDesign, Level, compile_design
from mcsim.engine.matrices import orthonormal_basis
from mcsim.engine.moments import join, n_values
from mcsim.engine.optimise import Status
from mcsim.engine.reml import FitBlock, fit_moments, reduce_responses, reduction_key
from mcsim.engine.tree import Moments
from mcsim.errors import DataError
from mcsim.inference import fixed_effects, variance_components
from mcsim.mixedlm import StatsmodelsMethod


def prepare_method(
    columns: ModelColumns, settings: MethodSettings, shared: "Reducers | None" = None
) -> Method:
    """The method of a scenario, ready for the responses of one design.

    Parameters
    ----------
    shared : what the methods of a condition have in common

    Raises
    ------
    DataError
        The design cannot support the model.
    """
    shared = Reducers() if shared is None else shared
    return METHODS[settings.estimator](without_aliased(columns)[0], settings, shared)


def without_aliased(columns: ModelColumns) -> tuple[ModelColumns, tuple[str, ...]]:
    """The model without fixed effects that those before them determine, and their names."""
    _, coefficients = orthonormal_basis(columns.X)
    kept = np.argmax(coefficients != 0.0, axis=1)  # where each vector of the basis began
    aliased = tuple(name for j, name in enumerate(columns.names) if j not in kept)
    return replace(
        columns,
        X=np.ascontiguousarray(columns.X[:, kept]),
        names=tuple(columns.names[j] for j in kept),
        term_of_column=tuple(columns.term_of_column[j] for j in kept),
    ), aliased


class Reducers:
    """Moments of the last block, for all methods that need the same ones."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Floats, Moments]] = {}

    def reduce(self, key: str, design: CompiledDesign, responses: Floats) -> Moments:
        """The moments; `key` stands for how the design reduces responses."""
        last = self._last.get(key)
        if last is None or last[0] is not responses:
            last = self._last[key] = responses, reduce_responses(design, responses)
        return last[1]


class LikelihoodMethod:
    """REML or ML by mcsim's own engine."""

    def __init__(
        self, columns: ModelColumns, settings: MethodSettings, shared: Reducers, *, is_reml: bool
    ) -> None:
        if not columns.levels:
            raise DataError("the formula has no random effect; add a term such as (1 | animal)")
        _check_innermost_units(columns)
        self._columns, self._settings, self._shared = columns, settings, shared
        self._df = {name: degrees_of_freedom(columns, name) for name in settings.df}
        levels = tuple(
            Level(level.unit_of_row, level.Z, level.structures, level.names)
            for level in columns.levels
        )
        self.design = compile_design(columns.X, levels, names=columns.names, is_reml=is_reml)
        self._reduction_key = reduction_key(self.design)
        self.n_values = n_values(self.design.reduction)

    def parameters(self) -> list[tuple[str, str]]:
        """Parameter and component of every estimate, in order."""
        return parameter_names(self._columns)

    def take(self, responses: Floats) -> Moments:
        """Moments of the responses."""
        return self._shared.reduce(self._reduction_key, self.design, responses)

    def analyse(self, taken: list[Moments]) -> Analysis:
        """Fit every response."""
        fit = fit_moments(self.design, join(taken))
        components = variance_components(
            fit, random_names(self._columns), self.design.tree.model.nu, self._settings.confidence
        )
        estimates = {
            name: fixed_effects(
                fit.beta, fit.beta_covariance, self._columns.names, df, self._settings.confidence
            )
            + components
            for name, df in self._df.items()
        }
        return Analysis(estimates, _outcomes(fit))


def _check_innermost_units(columns: ModelColumns) -> None:
    innermost = columns.levels[-1]
    if int(innermost.unit_of_row.max()) + 1 == len(columns.X):
        raise DataError(
            f"every {innermost.level!r} has one observation, so its random effects cannot be told"
            " from the residuals; leave that level out of the formula or observe more"
        )


def _outcomes(fit: FitBlock) -> FitOutcomes:
    message: list[str | None] = [None] * len(fit.status)
    for row in np.flatnonzero(fit.status >= Status.NOT_CONVERGED):
        message[row] = _message(fit.status[row], fit.certificate[row])
    return FitOutcomes(
        fit.status, fit.loglik, fit.evaluations.astype(np.float64), fit.certificate, message
    )


def _message(code: int, violation: float) -> str:
    if code == Status.NOT_CONVERGED:
        return (
            f"the first-order conditions are violated by {violation:.1e}"
            f" (allowed: {CERTIFICATE_TOLERANCE:.0e})"
        )
    return "the likelihood cannot be evaluated: no residual variation is left"


def _reml(columns: ModelColumns, settings: MethodSettings, shared: Reducers) -> Method:
    return LikelihoodMethod(columns, settings, shared, is_reml=True)


def _ml(columns: ModelColumns, settings: MethodSettings, shared: Reducers) -> Method:
    return LikelihoodMethod(columns, settings, shared, is_reml=False)


METHODS = {"reml": _reml, "ml": _ml, "statsmodels": StatsmodelsMethod}
SLOW_ESTIMATORS = ("statsmodels",)
