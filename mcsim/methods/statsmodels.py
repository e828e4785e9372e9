"""statsmodels' MixedLM as a method."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError
from mcsim.methods.inference.df import ConstantDf
from mcsim.methods.inference.fixed_effects import ParameterBlock, fixed_effects
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import (
    Analysis,
    FitOutcomes,
    Floats,
    MethodSettings,
    StreamOf,
    constant_df,
    fixed_contrasts,
    parameters,
    reml_theory,
)
from mcsim.names import SIGMA, Parameter
from mcsim.scenario.true_values import Truth, derived_value

BOUNDARY_RATIO = 1e-6  # of the residual SD: statsmodels never returns an exact zero


class StatsmodelsMethod:
    """statsmodels' MixedLM (REML): slow, and here to see that two programs agree.

    It can correlate random effects at the outermost level only.
    """

    n_values = 100  # of a fit, about

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        if not columns.levels:
            raise DataError("the formula has no random effect; add a term such as (1 | animal)")
        for level in columns.levels:
            if any(name not in ("general", "diagonal") for name, _ in level.structures):
                raise DataError(
                    f"statsmodels has no structure like that of {level.level!r}; use general or"
                    " diagonal there, or estimator 'reml'"
                )
            if len(level.structures) > 1 and _largest(level.structures) > 1:
                raise DataError(
                    f"statsmodels correlates all random effects of {level.level!r} or none; use"
                    " estimator 'reml'"
                )
        for level in columns.levels[1:]:
            if _largest(level.structures) > 1:
                raise DataError(
                    f"statsmodels cannot correlate random effects at the inner level"
                    f" {level.level!r}; write || there, or use estimator 'reml'"
                )
        self._columns, self._settings = columns, settings
        self.n_parameters = (
            len(columns.names)
            + sum(len(level.names) + (_largest(level.structures) > 1) for level in columns.levels)
            + 1
        )
        self._df = {name: constant_df(columns, name) for name in settings.df}
        self._contrasts = fixed_contrasts(columns, settings)

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return parameters(self._columns, self._settings)

    def theory(self, truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """Closed forms of REML."""
        return reml_theory(self._columns, self._settings, truth)

    def _components(self) -> list[Parameter]:
        """Variance components, sigma last."""
        everything = self.parameters()[len(self._contrasts) :]
        return everything[: 1 + everything.index(SIGMA)]

    def take(self, responses: Floats) -> "list[_SlowFit]":
        """Fit every response, one after the other."""
        return [self._fit(y) for y in responses]

    def analyse(self, taken: "list[list[_SlowFit]]", _stream_of: StreamOf) -> Analysis:
        """Put the fits together."""
        fits = [fit for block in taken for fit in block]
        beta = np.array([fit.beta for fit in fits])
        covariance = np.array([fit.beta_covariance for fit in fits])
        sds = np.array([fit.components for fit in fits])
        components = [
            ParameterBlock(one, sds[:, position]) for position, one in enumerate(self._components())
        ]
        values = {one.parameter: one.estimate for one in components}
        components += [
            ParameterBlock(one, derived_value(one, values))
            for one in self.parameters()[len(self._contrasts) + len(components) :]
        ]
        estimates = {
            name: fixed_effects(
                beta, self._contrasts, ConstantDf(covariance, df), self._settings.confidence
            )
            + components
            for name, df in self._df.items()
        }
        none = np.full(len(fits), np.nan)
        outcomes = FitOutcomes(
            np.array([fit.status for fit in fits]),
            np.array([fit.loglik for fit in fits]),
            none,
            none,
            [fit.message for fit in fits],
        )
        return Analysis(estimates, outcomes)

    def _fit(self, y: Floats) -> "_SlowFit":
        from statsmodels.regression.mixed_linear_model import MixedLM

        outer = self._columns.levels[0]
        is_correlated = _largest(outer.structures) > 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its warnings on boundaries are our status
                model = MixedLM(
                    y,
                    self._columns.X,
                    groups=outer.unit_of_row,
                    exog_re=outer.Z if is_correlated else None,
                    exog_vc=self._independent_components(is_correlated),
                )
                result = model.fit(reml=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            return self._failed(f"{type(error).__name__}: {error}")
        return self._read(result, is_correlated)

    def _independent_components(self, is_correlated: bool) -> object:
        """One variance component per column: a matrix per outermost unit."""
        from statsmodels.regression.mixed_linear_model import VCSpec

        outer = self._columns.levels[0].unit_of_row
        levels = self._columns.levels[1:] if is_correlated else self._columns.levels
        names, labels, matrices = [], [], []
        for level in levels:
            for j, column in enumerate(level.names):
                blocks = []
                for unit in range(int(outer.max()) + 1):
                    rows = outer == unit
                    inner = np.unique(level.unit_of_row[rows], return_inverse=True)[1]
                    indicator = inner[:, None] == np.arange(inner.max() + 1)[None, :]
                    blocks.append(indicator * level.Z[rows, j : j + 1])
                names.append(f"{level.level} {column}")
                labels.append([[str(c) for c in range(block.shape[1])] for block in blocks])
                matrices.append(blocks)
        return VCSpec(names, labels, matrices) if names else None

    def _read(self, result: "_MixedLMResults", is_correlated: bool) -> "_SlowFit":
        p = len(self._columns.names)
        sigma = float(np.sqrt(result.scale))
        independent = dict(zip(result.model.exog_vc.names, result.vcomp, strict=True))
        components: list[float] = []
        for depth, level in enumerate(self._columns.levels):
            if depth == 0 and is_correlated:
                covariance = np.asarray(result.cov_re)
            else:
                covariance = np.diag(
                    [independent[f"{level.level} {column}"] for column in level.names]
                )
            components += _component_values(covariance, [size for _, size in level.structures])
        variances = [*np.diag(np.atleast_2d(result.cov_re)), *result.vcomp]
        at_zero = min(variances, default=1.0) < (BOUNDARY_RATIO * sigma) ** 2
        status = Status.BOUNDARY if at_zero else Status.OK
        return _SlowFit(
            beta=np.asarray(result.fe_params),
            beta_covariance=np.asarray(result.cov_params())[:p, :p],
            components=np.array([*components, sigma]),
            loglik=float(result.llf),
            status=status if result.converged else Status.NOT_CONVERGED,
            message=None if result.converged else "statsmodels did not converge",
        )

    def _failed(self, message: str) -> "_SlowFit":
        p = len(self._columns.names)
        return _SlowFit(
            np.full(p, np.nan),
            np.full((p, p), np.nan),
            np.full(len(self._components()), np.nan),
            np.nan,
            Status.FAILED,
            message,
        )


class _MixedLMResults(Protocol):
    """What is read of statsmodels' result."""

    scale: float
    cov_re: Floats
    vcomp: Floats
    fe_params: Floats
    llf: float
    converged: bool
    model: "_MixedLM"

    def cov_params(self) -> Floats: ...


class _MixedLM(Protocol):
    exog_vc: "_VCSpec"


class _VCSpec(Protocol):
    names: Sequence[str]


@dataclass(frozen=True)
class _SlowFit:
    beta: Floats
    beta_covariance: Floats
    components: Floats
    loglik: float
    status: Status
    message: str | None


def _largest(structures: Sequence[tuple[str, int]]) -> int:
    return max(size for _, size in structures)


def _component_values(covariance: Floats, block_sizes: Sequence[int]) -> list[float]:
    """SDs, variances and correlations of one level, in the order of its parameters."""
    variances = np.diag(covariance)
    sds = np.sqrt(variances)
    correlations, first = [], 0
    for size in block_sizes:
        for i in range(first, first + size):
            for j in range(i + 1, first + size):
                scale = sds[i] * sds[j]
                correlations.append(float(covariance[i, j] / scale) if scale > 0 else np.nan)
        first += size
    return [*map(float, sds), *map(float, variances), *correlations]
