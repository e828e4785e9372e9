"""Counts and proportions: mixed models of their families by Laplace's approximation."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.compile import CompiledDesign, collapse_design, crossed_design
from mcsim.engine.families.kinds import KINDS, NBINOM
from mcsim.engine.laplace.crossing import Cross, cross_of
from mcsim.engine.laplace.fit import LaplaceFit, fit_laplace
from mcsim.engine.laplace.nest import Nest, nest_of
from mcsim.engine.laplace.quadrature import can_integrate
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.status import Status
from mcsim.engine.profile.laplace import Counted, CountedSurface, Dispersion, Effect
from mcsim.errors import DataError
from mcsim.methods.inference.bootstrap import Bootstrap, CountsModel
from mcsim.methods.inference.components import components_without_residuals, dispersion_of
from mcsim.methods.inference.df import ConstantDf
from mcsim.methods.inference.fixed_effects import ParameterBlock, fixed_effects
from mcsim.methods.inference.profile import Profiles, profiles_of
from mcsim.methods.inference.theory import Theory
from mcsim.methods.likelihood import engine_levels
from mcsim.methods.marginal import Effects, blocks_of, comparisons
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
)
from mcsim.names import DISPERSION, Parameter
from mcsim.scenario.families import FamilyModel
from mcsim.scenario.true_values import Truth

MANY = 1e7  # counts whose rounding moves gradients by what the certificate allows
RUNS_OFF = 1e-3  # of the coefficient that runs off fastest, in SDs of its column


class LaplaceMethod:
    """A mixed model of counts or proportions, with standard errors by the exact Hessian."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        assert settings.family is not None
        _refuse_shares(columns, settings)
        self._columns, self._settings = columns, settings
        self._contrasts = fixed_contrasts(columns, settings)
        self._compared = comparisons(columns, settings)
        n, trials = len(columns.X), trials_of(columns, settings.family)
        _refuse_effects_of_chance(columns, settings.family, trials)
        self.design, self._nest = _rows_and_units(columns, trials)
        self._kind = KINDS[settings.family.family, settings.family.link]
        self._n_points = settings.family.quadrature
        if self._n_points > 1 and not can_integrate(self._nest):
            raise DataError(
                "quadrature is for random intercepts of one level or of two nested ones; leave it"
                " out, for Laplace's approximation"
            )
        self._names = random_names(columns)
        self._bootstrap = None
        if settings.interval == "bootstrap":
            model = CountsModel(self.design, self._nest, settings.family)
            self._bootstrap = Bootstrap(columns, self.design.order, settings.resamples, model)
        self.n_values = n
        self.n_parameters = len(self.parameters())

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        found, n = parameters(self._columns, self._settings), len(self._contrasts)
        return [*found[:n], *(one.parameter for one in self._compared), *found[n:]]

    def theory(self, _truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """None."""
        return {}

    def take(self, responses: Floats) -> Floats:
        """The responses: no sums can stand for them."""
        return responses.copy()

    def analyse(self, taken: Sequence[Floats], stream_of: StreamOf) -> Analysis:
        """Fit every response."""
        responses = np.concatenate(taken)
        fit = fit_laplace(self.design, self._nest, self._kind, responses, self._n_points)
        confidence = self._settings.confidence
        components = self._components(fit)
        if self._bootstrap is not None:
            components = self._bootstrap.intervals(fit, self._components, stream_of, confidence)
        has_profiles = self._settings.interval == "profile"
        if has_profiles:
            components = self._profiled(fit, responses, components)
        estimates = {}
        effects = Effects(fit.factors, fit.slopes, fit.component_covariance, fit.cross_covariance)
        compared = blocks_of(self._compared, fit.coefficients, effects)
        for name in self._settings.df:
            df = ConstantDf(fit.covariance, constant_df(self._columns, name))
            own = fixed_effects(fit.coefficients, self._contrasts, df, confidence)
            if has_profiles and name == "z":  # whose quantile that of the profile is, too
                single = [one for one in own if one.parameter.kind != "term"]
                limits = {one.parameter: one for one in self._profiled(fit, responses, single)}
                own = [limits.get(one.parameter, one) for one in own]
            estimates[name] = own + compared(df, confidence) + components
        return Analysis(estimates, self._outcomes(fit, responses.max(axis=1)))

    def _profiled(
        self, fit: LaplaceFit, responses: Floats, blocks: Sequence[ParameterBlock]
    ) -> list[ParameterBlock]:
        """The estimates with profile limits."""
        derived = derived_estimands(self._columns, self._settings)
        effects = {
            one.parameter: Effect(tuple(one.L[0]))
            for one in self._contrasts
            if one.parameter.kind != "term"
        }
        targets = {**profiles_of(self._names, derived).targets, DISPERSION: Dispersion(), **effects}
        ordered = np.ascontiguousarray(responses[:, self.design.order])
        counted = Counted(self.design, self._nest, self._kind, self._n_points, ordered)
        return Profiles(targets).intervals(
            partial(CountedSurface, counted), fit, blocks, confidence=self._settings.confidence
        )

    def _components(self, fit: LaplaceFit) -> list[ParameterBlock]:
        """Variance components with their Wald intervals."""
        confidence = self._settings.confidence
        derived = derived_estimands(self._columns, self._settings)
        found = components_without_residuals(
            fit, self._names, derived=derived, confidence=confidence
        )
        if self._kind == NBINOM:
            found.insert(len(found) - len(derived), dispersion_of(fit, confidence))
        return found

    def _outcomes(self, fit: LaplaceFit, largest: Floats) -> FitOutcomes:
        messages: list[str | None] = [None] * len(fit.status)
        for row in np.flatnonzero(fit.status > Status.BOUNDARY):
            messages[row] = self._message(fit, int(row), float(largest[row]))
        evaluations = fit.evaluations.astype(np.float64)
        return FitOutcomes(fit.status, fit.loglik, evaluations, fit.certificate, messages)

    def _message(self, fit: LaplaceFit, row: int, largest: float) -> str:
        if (level := int(fit.runaway_level[row])) >= 0:
            name = self._columns.levels[level].level
            return (
                f"separated: the SD of {name!r} has no finite estimate, since every {name} has only"
                " zeros or only successes"
            )
        if fit.runaway[row].any():
            return separated(self._columns, fit.runaway[row])
        if not np.isfinite(fit.loglik[row]):
            return "the likelihood cannot be evaluated: the predictor is too far out"
        if fit.certificate[row] > CERTIFICATE_TOLERANCE:
            found = (
                f"the first-order conditions are violated by {fit.certificate[row]:.1e}"
                f" (allowed: {CERTIFICATE_TOLERANCE:.0e})"
            )
        else:
            found = "the likelihood is flat at its optimum: the data do not tell all parameters"
        if largest > MANY:
            found += f"; 16 digits are too few for counts up to {largest:.1e}: fit their logarithm"
        return found


def _rows_and_units(columns: ModelColumns, trials: Floats) -> tuple[CompiledDesign, Nest | Cross]:
    """The design of a model, and its rows sorted into units."""
    X, levels, names = columns.X, engine_levels(columns), columns.names
    offset = np.zeros(len(X)) if columns.offset is None else columns.offset
    if columns.are_crossed:
        design = crossed_design(X, levels, names, is_reml=False)
        return cross_of(design, X, levels, offset, trials)
    design = collapse_design(X, levels, names=names, is_reml=False)
    return design, nest_of(design, X, levels, offset, trials)


def separated(columns: ModelColumns, runaway: Floats) -> str:
    """That coefficients run off, given their direction (p,)."""
    spread, is_constant = np.std(columns.X, axis=0), np.ptp(columns.X, axis=0) == 0.0
    size = np.abs(runaway) * np.where(is_constant, 1.0, spread)
    chosen = np.flatnonzero(size > RUNS_OFF * size.max())
    names = ", ".join(repr(columns.names[j]) for j in chosen)
    return (
        f"separated: no finite estimate of {names}, since these columns tell rows of zeros or of"
        " nothing but successes from all others"
    )


def trials_of(columns: ModelColumns, family: FamilyModel) -> Floats:
    """Trials of every row: (n_rows,)."""
    if isinstance(family.trials, str):
        return columns.frame[family.trials].to_numpy(dtype=np.float64)
    return np.full(len(columns.X), float(family.trials))


def _refuse_effects_of_chance(columns: ModelColumns, family: FamilyModel, trials: Floats) -> None:
    """Raise a DataError for effects of single binary rows, which differ by nothing but chance."""
    if family.family != "binomial" or np.any(trials > 1.0):
        return
    for level in columns.levels:
        if level.unit_of_row.max(initial=0) + 1 == len(trials):
            raise DataError(
                f"every {level.level!r} has one binary row, which cannot tell"
                f" {level.level}.sd(Intercept) from chance; leave this level out of the formula, or"
                " observe more rows or trials"
            )


def _refuse_shares(columns: ModelColumns, settings: MethodSettings) -> None:
    for one in derived_estimands(columns, settings):
        if one.kind == "icc":
            raise DataError(
                f"{one.name!r} is a share of a variance that holds that of the residuals, which"
                " counts and proportions lack; leave the estimand out"
            )
