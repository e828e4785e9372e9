"""REML and ML by mcsim's own engine."""

from collections.abc import Callable
from functools import partial

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.design.residual_rows import residual_columns, residual_parameters
from mcsim.engine.compile import CompiledDesign, Known, Level, compile_design
from mcsim.engine.dense import check_against_dense
from mcsim.engine.fit import Fit, fit_moments, reduce_responses, reduction_key
from mcsim.engine.information import covariance_slopes, information
from mcsim.engine.nested.moments import Moments, join
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import Status
from mcsim.engine.own_rows import OwnDesigns, Structures
from mcsim.engine.profile.deviance import Surface
from mcsim.engine.residuals.structure import ResidualRows
from mcsim.errors import DataError
from mcsim.methods.inference.bootstrap import Bootstrap, NormalModel
from mcsim.methods.inference.components import component_covariance, variance_components
from mcsim.methods.inference.crossed_theory import crossed_forms
from mcsim.methods.inference.df import (
    ConstantDf,
    DfMethod,
    KenwardRoger,
    Satterthwaite,
    Sensitivity,
)
from mcsim.methods.inference.fixed_effects import ParameterBlock, fixed_effects
from mcsim.methods.inference.profile import profiles_of
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import (
    Analysis,
    FitOutcomes,
    Floats,
    MethodSettings,
    StreamOf,
    constant_df,
    derived_estimands,
    fixed_contrasts,
    parameters,
    random_names,
    reml_theory,
)
from mcsim.names import Parameter
from mcsim.scenario.true_values import Truth

FAR_APART = 1e3  # ratio of two SDs at which rounding begins to hide where the optimum is


class Reducers:
    """How rows collapse, and moments of the last block, for all methods that need the same ones."""

    def __init__(self) -> None:
        self.known: Known = []
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
        self._columns, self._settings, self._shared = columns, settings, shared
        self._contrasts = fixed_contrasts(columns, settings)
        self._residual = residual_parameters(settings.residual, columns.frame)
        self._levels, self.design = compile_model(columns, settings, shared, is_reml=is_reml)
        self._bootstrap = None
        if settings.interval == "bootstrap":
            model = NormalModel(self.design)
            self._bootstrap = Bootstrap(columns, self.design.order, settings.resamples, model)
        self._reduction_key = reduction_key(self.design)
        self.n_values = self.design.n_values
        self.n_parameters = len(columns.names) + self.design.n_parameters + 1

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return parameters(self._columns, self._settings)

    def theory(self, truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """Closed forms of REML with random effects and independent residuals."""
        is_standard = self._settings.residual is None and self._columns.levels
        if not self.design.is_reml or not is_standard:
            return {}
        if self._columns.are_crossed:
            settings = self._settings
            df = {name: constant_df(self._columns, name) if name == "z" else None
                  for name in settings.df}  # fmt: skip
            alpha = 1.0 - settings.confidence
            return crossed_forms(self._columns, self.design, self._contrasts, truth, df, alpha)
        return reml_theory(self._columns, self._settings, truth)

    def take(self, responses: Floats) -> Moments:
        """Moments of the responses."""
        return self._shared.reduce(self._reduction_key, self.design, responses)

    def analyse(self, taken: list[Moments], stream_of: StreamOf) -> Analysis:
        """Fit every response."""
        moments = join(taken)
        fit = fit_moments(self.design, moments)
        components = self._components(fit, moments, stream_of)
        df = partial(constant_df, self._columns)
        return self._analysis(components, fit, self._df_methods(self.design, fit, moments, df))

    @property
    def structures(self) -> Structures | None:
        """What the fits of replicates with rows of their own need, None where each has to be alone.

        Columns that may have no unit in common, of which a design can make independent effects,
        are not for a stack of designs; nor is what stands on one design alone.
        """
        levels = self._columns.levels
        has_parts = any(len(one.names) > 1 and "Intercept" not in one.names for one in levels)
        is_plain = self._settings.interval == "wald" and self._settings.residual is None
        if (
            self._columns.are_crossed
            or has_parts
            or not is_plain
            or self._columns.offset is not None
        ):
            return None
        return tuple(one.structures for one in levels) or ((),)

    def analyse_own(self, own: OwnDesigns, containment: Floats) -> Analysis:
        """Fit responses that each have rows of their own, and `containment` df (n, p)."""
        fit = fit_moments(own.design, own.moments)

        def df(name: str) -> Floats:
            return containment if name == "containment" else constant_df(self._columns, name)

        df_methods = self._df_methods(own.design, fit, own.moments, df)
        return self._analysis(self._wald(fit), fit, df_methods)

    def _analysis(
        self, components: list[ParameterBlock], fit: Fit, df_methods: dict[str, DfMethod]
    ) -> Analysis:
        confidence = self._settings.confidence
        estimates = {
            name: fixed_effects(fit.coefficients, self._contrasts, df_method, confidence)
            + components
            for name, df_method in df_methods.items()
        }
        return Analysis(estimates, _outcomes(fit))

    def check_against_dense(self, y: Floats) -> None:
        """Raise a LikelihoodError where the fit of one response (n_rows,) is not what it says."""
        fit = fit_moments(self.design, self.take(y[None]))
        check_against_dense(self.design, self._columns.X, self._levels, y, fit)

    def _components(self, fit: Fit, moments: Moments, stream_of: StreamOf) -> list[ParameterBlock]:
        """Variance components with the intervals asked for."""
        confidence = self._settings.confidence
        if self._bootstrap is not None:
            return self._bootstrap.intervals(fit, self._wald, stream_of, confidence)
        estimates = self._wald(fit)
        if self._settings.interval == "profile":
            profiles = profiles_of(
                random_names(self._columns), derived_estimands(self._columns, self._settings)
            )
            surface_of = partial(Surface, self.design, moments)
            return profiles.intervals(surface_of, fit, estimates, confidence=confidence)
        return estimates

    def _wald(self, fit: Fit) -> list[ParameterBlock]:
        return variance_components(
            fit,
            random_names(self._columns),
            residual=self._residual,
            derived=derived_estimands(self._columns, self._settings),
            confidence=self._settings.confidence,
        )

    def _df_methods(
        self,
        design: CompiledDesign,
        fit: Fit,
        moments: Moments,
        constant: Callable[[str], Floats],
    ) -> dict[str, DfMethod]:
        """The df methods that are asked for; those of one fit share what they need."""
        C, wanted = fit.covariance, self._settings.df
        found: dict[str, DfMethod] = {
            name: ConstantDf(C, constant(name)) for name in wanted if name in ("containment", "z")
        }
        if "kenward-roger" in wanted:
            told = information(design, moments, fit)
            sensitivity = _sensitivity(design, fit, told.slopes)
            found["kenward-roger"] = KenwardRoger(told.adjusted_covariance, sensitivity, told.W)
        elif "satterthwaite" in wanted:
            sensitivity = _sensitivity(design, fit, covariance_slopes(design, moments, fit))
        if "satterthwaite" in wanted:
            W = component_covariance(fit.curvature)
            found["satterthwaite"] = Satterthwaite(C, sensitivity, W)
        return {name: found[name] for name in wanted}


def _sensitivity(design: CompiledDesign, fit: Fit, slopes: Floats) -> Sensitivity:
    to_given = np.linalg.inv(design.R).astype(np.float64)
    return Sensitivity(to_given, fit.curvature.T_inverse, slopes)


def compile_model(
    columns: ModelColumns, settings: MethodSettings, shared: Reducers, *, is_reml: bool
) -> tuple[tuple[Level, ...], CompiledDesign]:
    """The levels of a model and its design as the engine takes them; errors as there."""
    levels, rows = _levels_and_rows(columns, settings)
    return levels, compile_design(
        columns.X,
        levels,
        names=columns.names,
        is_reml=is_reml,
        residual=rows,
        known=shared.known,
        are_crossed=columns.are_crossed,
    )


def _levels_and_rows(
    columns: ModelColumns, settings: MethodSettings
) -> tuple[tuple[Level, ...], ResidualRows | None]:
    """Levels as the engine takes them, one of their own for the units of residuals with a structure
    if the model has none of these units, and what is said of the residuals.
    """
    levels = engine_levels(columns)
    if settings.residual is None:
        return levels, None
    _check_residual_settings(settings)
    residual = residual_columns(settings.residual, columns)
    if residual.is_own_level:
        assert residual.unit_of_row is not None
        levels += (Level(residual.unit_of_row, np.zeros((len(columns.X), 0)), (), ()),)
    return levels, residual.rows


def engine_levels(columns: ModelColumns) -> tuple[Level, ...]:
    """The levels of a model as the engine takes them."""
    return tuple(
        Level(
            level.unit_of_row,
            level.Z,
            level.structures,
            tuple(f"{name} | {level.level}" for name in level.names),
        )
        for level in columns.levels
    )


def _check_residual_settings(settings: MethodSettings) -> None:
    """Refuse what is not known for residuals with a structure."""
    if "kenward-roger" in settings.df:
        raise DataError(
            "df 'kenward-roger' is for residuals that are independent with one SD; with `residual`"
            " use df 'satterthwaite', 'containment' or 'z'"
        )
    if settings.interval != "wald":
        raise DataError(
            f"interval {settings.interval!r} is for residuals that are independent with one SD;"
            " with `residual` leave it out"
        )


def _outcomes(fit: Fit) -> FitOutcomes:
    message: list[str | None] = [None] * len(fit.status)
    for row in np.flatnonzero(fit.status >= Status.NOT_CONVERGED):
        residual = fit.curvature.residual.values[row]
        message[row] = _message(fit.status[row], fit.certificate[row], residual)
        if (ratio := _largest_ratio(fit, int(row))) > FAR_APART:
            message[row] = (
                f"{message[row]}; an SD is {ratio:,.0f} times sigma: numbers of 16 digits hardly"
                " tell where the optimum is"
            )
    return FitOutcomes(
        fit.status, fit.loglik, fit.evaluations.astype(np.float64), fit.certificate, message
    )


def _largest_ratio(fit: Fit, row: int) -> float:
    """Of an SD of random effects to sigma; 0 where there is none."""
    variances = [np.diag(one[row]).max(initial=0.0) for one in fit.covariances]
    sigma = fit.scale[row]
    return float(np.sqrt(max(variances, default=0.0) / sigma)) if sigma > 0.0 else 0.0


def _message(code: int, violation: float, residual: Floats) -> str:
    if code == Status.NOT_CONVERGED:
        if violation <= CERTIFICATE_TOLERANCE:
            return (
                f"the likelihood grows without end as the correlation of the residuals, now"
                f" {residual[0]:.6f}, goes to {np.sign(residual[0]):+.0f}"
            )
        return (
            f"the first-order conditions are violated by {violation:.1e}"
            f" (allowed: {CERTIFICATE_TOLERANCE:.0e})"
        )
    return "no residual variation is left: the model fits the response exactly"
