"""Ways to analyse a data set: each is prepared once per design, then given blocks of responses."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.design import ModelColumns
from mcsim.engine.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.collapse import CompiledDesign, Level, compile_design
from mcsim.engine.moments import join, n_values
from mcsim.engine.optimise import Status
from mcsim.engine.reml import FitBlock, fit_moments, reduce_responses, reduction_key
from mcsim.engine.tree import Moments
from mcsim.errors import DataError
from mcsim.inference import (
    ParameterBlock,
    RandomNames,
    containment_df,
    fixed_effects,
    variance_components,
    without_interval,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BOUNDARY_RATIO = 1e-6  # of the residual SD: statsmodels never returns an exact zero


@dataclass(frozen=True)
class FitOutcomes:
    """How the fits of a block ended; `message` is None for a usable fit.

    status : (n_replicates,) of `Status`; evaluations : NaN where they are not counted
    """

    status: Ints
    loglik: Floats
    evaluations: Floats
    certificate: Floats
    message: list[str | None]


@dataclass(frozen=True)
class Analysis:
    """Estimates of a block, per df method, and the outcomes of the fits they share."""

    estimates: dict[str, list[ParameterBlock]]
    fits: FitOutcomes


class Method(Protocol):
    """A prepared method: takes blocks of responses, then analyses all of them.

    n_values : numbers that it keeps of a response
    """

    n_values: int

    def parameters(self) -> list[tuple[str, str]]:
        """Parameter and component of every estimate, in order."""
        ...

    def take(self, responses: Floats) -> Any:
        """Return what the method needs of responses (n_replicates, n_rows)."""
        ...

    def analyse(self, taken: list[Any]) -> Analysis:
        """Fit every response of the blocks that were taken."""
        ...


@dataclass(frozen=True)
class MethodSettings:
    """What a scenario says of a method beside its formula."""

    estimator: str
    df: tuple[str, ...]
    confidence: float


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
    return METHODS[settings.estimator](columns, settings, Reducers() if shared is None else shared)


def _random_names(columns: ModelColumns) -> list[RandomNames]:
    return [RandomNames(level.level, level.names, level.block_sizes) for level in columns.levels]


def _parameters(columns: ModelColumns) -> list[tuple[str, str]]:
    """Names in the order of the estimates."""
    names = [(name, "fixed") for name in columns.names]
    for level in _random_names(columns):
        names += [(parameter, level.level) for parameter in level.parameters()]
    return [*names, ("sigma", "residual")]


def _degrees_of_freedom(columns: ModelColumns, name: str) -> Floats:
    if name == "z":
        return np.full(len(columns.names), np.inf)
    return containment_df(
        columns.X,
        columns.term_of_column,
        [level.unit_of_row for level in columns.levels],
        [column == "Intercept" for column in columns.names],
    )


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
        self._columns, self._settings, self._shared = columns, settings, shared
        self._df = {name: _degrees_of_freedom(columns, name) for name in settings.df}
        levels = tuple(
            Level(
                level.unit_of_row,
                level.Z,
                tuple(("general", size) for size in level.block_sizes),
                level.names,
            )
            for level in columns.levels
        )
        self._design = compile_design(columns.X, levels, names=columns.names, is_reml=is_reml)
        self._reduction_key = reduction_key(self._design)
        self.n_values = n_values(self._design.reduction)

    def parameters(self) -> list[tuple[str, str]]:
        """Parameter and component of every estimate, in order."""
        return _parameters(self._columns)

    def take(self, responses: Floats) -> Moments:
        """Moments of the responses."""
        return self._shared.reduce(self._reduction_key, self._design, responses)

    def analyse(self, taken: list[Moments]) -> Analysis:
        """Fit every response."""
        fit = fit_moments(self._design, join(taken))
        components = variance_components(
            fit, _random_names(self._columns), self._design.tree.model.nu, self._settings.confidence
        )
        estimates = {
            name: fixed_effects(
                fit.beta, fit.beta_covariance, self._columns.names, df, self._settings.confidence
            )
            + components
            for name, df in self._df.items()
        }
        return Analysis(estimates, _outcomes(fit))


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


class StatsmodelsMethod:
    """statsmodels' MixedLM (REML): slow, and here to see that two programs agree.

    It can correlate random effects at the outermost level only.
    """

    n_values = 100  # of a fit, about

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: Reducers) -> None:
        if not columns.levels:
            raise DataError("the formula has no random effect; add a term such as (1 | animal)")
        for level in columns.levels[1:]:
            if max(level.block_sizes) > 1:
                raise DataError(
                    f"statsmodels cannot correlate random effects at the inner level"
                    f" {level.level!r}; write || there, or use estimator 'reml'"
                )
        self._columns, self._settings = columns, settings
        self._df = {name: _degrees_of_freedom(columns, name) for name in settings.df}

    def parameters(self) -> list[tuple[str, str]]:
        """Parameter and component of every estimate, in order."""
        return _parameters(self._columns)

    def take(self, responses: Floats) -> "list[_SlowFit]":
        """Fit every response, one after the other."""
        return [self._fit(y) for y in responses]

    def analyse(self, taken: "list[list[_SlowFit]]") -> Analysis:
        """Put the fits together."""
        fits = [fit for block in taken for fit in block]
        beta = np.array([fit.beta for fit in fits])
        covariance = np.array([fit.beta_covariance for fit in fits])
        sds = np.array([fit.components for fit in fits])
        components = [
            without_interval(parameter, component, sds[:, position])
            for position, (parameter, component) in enumerate(
                self.parameters()[len(self._columns.names) :]
            )
        ]
        estimates = {
            name: fixed_effects(
                beta, covariance, self._columns.names, df, self._settings.confidence
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
        is_correlated = max(outer.block_sizes) > 1
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
            components += _component_values(covariance, level.block_sizes)
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
        p, n_components = len(self._columns.names), len(self.parameters())
        return _SlowFit(
            np.full(p, np.nan),
            np.full((p, p), np.nan),
            np.full(n_components - p, np.nan),
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


def _reml(columns: ModelColumns, settings: MethodSettings, shared: Reducers) -> Method:
    return LikelihoodMethod(columns, settings, shared, is_reml=True)


def _ml(columns: ModelColumns, settings: MethodSettings, shared: Reducers) -> Method:
    return LikelihoodMethod(columns, settings, shared, is_reml=False)


METHODS = {"reml": _reml, "ml": _ml, "statsmodels": StatsmodelsMethod}
SLOW_ESTIMATORS = ("statsmodels",)
