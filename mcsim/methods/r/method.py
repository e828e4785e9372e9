"""R's nlme and lme4 as methods: the same formula, the same data, the numbers that R gives."""

from collections.abc import Mapping, Sequence

import numpy as np

from mcsim.design.columns import ModelColumns, RandomColumns
from mcsim.engine.arithmetic.replicates import semidefinite_factor
from mcsim.engine.optimum.search import Status
from mcsim.methods.inference.components import RandomNames
from mcsim.methods.inference.fixed_effects import ParameterBlock, t_test
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import (
    Analysis,
    FitOutcomes,
    Floats,
    Ints,
    Method,
    MethodSettings,
    StreamOf,
    derived_estimands,
    fixed_contrasts,
    parameters,
    random_names,
    reml_theory,
)
from mcsim.methods.r.call import in_r, r_call
from mcsim.methods.r.process import RFit, RModel, r_versions, run_r
from mcsim.names import DISPERSION, SIGMA, Parameter
from mcsim.scenario.true_values import Truth, derived_value

SINGULAR = 1e-4  # relative to sigma: what lme4's isSingular takes for zero
PACKAGES = {"glmer": "lme4"}  # of estimators that are called otherwise
OF_DF = {"satterthwaite": ("lmerTest",), "kenward-roger": ("lmerTest", "pbkrtest")}


class RMethod:
    """A model fitted by Rscript, a process for every block of replicates."""

    def __init__(self, columns: ModelColumns, settings: MethodSettings, _shared: object) -> None:
        self.call = r_call(columns, settings.estimator, settings.family)
        needed = [name for df in settings.df for name in OF_DF.get(df, ())]
        self.packages = tuple(
            dict.fromkeys([PACKAGES.get(settings.estimator, settings.estimator), *needed])
        )
        r_versions(self.packages)
        self._columns, self._settings = columns, settings
        self._contrasts = fixed_contrasts(columns, settings)
        self._model = self._r_model()
        self._names = random_names(columns)
        self.n_values = len(columns.X)
        self.n_parameters = (
            len(columns.names)
            + sum(len(one.columns) + len(one.correlated_pairs()) for one in self._names)
            + 1
        )

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        return parameters(self._columns, self._settings)

    def theory(self, truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """Closed forms of REML."""
        if self._settings.family is not None:
            return {}
        return reml_theory(self._columns, self._settings, truth)

    def take(self, responses: Floats) -> Floats:
        """The responses, which R gets together."""
        return responses.copy()

    def analyse(self, taken: Sequence[Floats], _stream_of: StreamOf) -> Analysis:
        """Fit every response in R."""
        fits = run_r(self._model, np.concatenate(taken))
        empty = np.full(self._model.n_numbers, np.nan)
        numbers = np.array([empty if fit.numbers is None else fit.numbers for fit in fits])
        loglik, tests, covariances, sigma = self._parts(numbers)
        components = self._components(covariances, sigma)
        estimates = {
            df: self._effects(tests[:, position]) + components
            for position, df in enumerate(self._settings.df)
        }
        unit = sigma if self._settings.family is None else np.ones_like(sigma)
        status = _status(fits, covariances, unit)
        none = np.full(len(fits), np.nan)
        messages = [fit.message for fit in fits]
        return Analysis(estimates, FitOutcomes(status, loglik, none, none, messages))

    def _r_model(self) -> RModel:
        formula, columns = self._columns.formula, self._columns
        return RModel(
            packages=self.packages,
            call=self.call,
            fixed=in_r(formula.fixed),
            response=formula.response,
            frame=columns.frame[self._names_of_columns()],
            levels=tuple(map(self._name_in_r, columns.levels)),
            sizes=tuple(len(level.names) for level in columns.levels),
            X=columns.X,
            contrasts=tuple(one.L for one in self._contrasts),
            df=self._settings.df,
        )

    def _names_of_columns(self) -> list[str]:
        """Columns that R needs beside the response: those of the formula, and trials."""
        formula, family = self._columns.formula, self._settings.family
        others = [] if family is None or not isinstance(family.trials, str) else [family.trials]
        names = [name for name in formula.names if name != formula.response]
        return [*dict.fromkeys([*names, *others])]

    def _name_in_r(self, level: RandomColumns) -> str:
        """What R calls a level: nlme by its name, lme4 by all names of the path."""
        paths = [term.group for term in self._columns.formula.random if term.level == level.level]
        return level.level if self._settings.estimator == "nlme" else ":".join(sorted(paths[0]))

    def _parts(self, numbers: Floats) -> tuple[Floats, Floats, list[Floats], Floats]:
        """Log-likelihoods; (n, df, contrast, 4) tests; covariances per level; sigma."""
        n, n_tests = len(numbers), 4 * len(self._settings.df) * len(self._contrasts)
        shape = (n, len(self._settings.df), len(self._contrasts), 4)
        tests = numbers[:, 1 : 1 + n_tests].reshape(shape)
        sizes = [size * size for size in self._model.sizes]
        pieces = np.split(numbers[:, 1 + n_tests : -1], np.cumsum(sizes)[:-1], axis=1)
        covariances = [
            piece.reshape(n, size, size)
            for piece, size in zip(pieces, self._model.sizes, strict=True)
        ]
        return numbers[:, 0], tests, covariances, numbers[:, -1]

    def _effects(self, tests: Floats) -> list[ParameterBlock]:
        """R's tests of the contrasts (n, n_contrasts, 4), with t intervals."""
        blocks = []
        for position, contrast in enumerate(self._contrasts):
            estimate, std_error, df, p_value = tests[:, position].T
            if contrast.parameter.kind == "term" and len(contrast.L) == 1:  # R gives t
                estimate, std_error = (estimate / std_error) ** 2, np.full(len(estimate), np.nan)
            lower, upper, _ = t_test(estimate, std_error, df, self._settings.confidence)
            reported = np.where(np.isfinite(df), df, np.nan)
            numbers = (estimate, std_error, reported, lower, upper, p_value)
            blocks.append(ParameterBlock(contrast.parameter, *numbers))
        return blocks

    def _components(self, covariances: Sequence[Floats], sigma: Floats) -> list[ParameterBlock]:
        values: dict[Parameter, Floats] = {}
        for names, covariance in zip(self._names, covariances, strict=True):
            values |= dict(zip(names.parameters(), _values(names, covariance), strict=True))
        if self._settings.family is None:
            values[SIGMA] = sigma
        elif self._settings.family.family == "nbinom":
            values[DISPERSION] = sigma
        for one in derived_estimands(self._columns, self._settings):
            values[one] = np.asarray(derived_value(one, values))
        return [ParameterBlock(one, value) for one, value in values.items()]


def _values(names: RandomNames, covariance: Floats) -> list[Floats]:
    """SDs, variances and correlations of one level, in the order of its parameters."""
    variances = [covariance[:, i, i] for i in range(covariance.shape[1])]
    sds = [np.sqrt(variance) for variance in variances]
    correlations = []
    for i, j in names.correlated_pairs():
        scale = sds[i] * sds[j]
        is_defined = scale > 0.0
        ratio = covariance[:, i, j] / np.where(is_defined, scale, 1.0)
        correlations.append(np.where(is_defined, ratio, np.nan))
    return [*sds, *variances, *correlations]


def _status(fits: Sequence[RFit], covariances: Sequence[Floats], sigma: Floats) -> Ints:
    """Failed without numbers, not converged where R has doubts, at the boundary as lme4 says."""
    is_failed = np.array([fit.numbers is None for fit in fits])
    has_doubts = np.array([fit.message is not None for fit in fits])
    is_singular = np.zeros(len(fits), dtype=bool)
    for covariance in covariances:
        relative = np.where(is_failed[:, None, None], 1.0, covariance / sigma[:, None, None] ** 2)
        pivots = np.einsum("nii->ni", semidefinite_factor(relative))
        is_singular |= (pivots < SINGULAR).any(axis=1)
    status = np.where(is_singular, Status.BOUNDARY, Status.OK)
    return np.where(is_failed, Status.FAILED, np.where(has_doubts, Status.NOT_CONVERGED, status))


def r_calls(methods: Mapping[str, Method]) -> dict[str, str]:
    """The call of R by name of the methods that have one."""
    found = {name: one for name, one in methods.items() if isinstance(one, RMethod)}
    return {
        name: "; ".join([*(f"library({package})" for package in one.packages), one.call])
        for name, one in found.items()
    }


def r_record(methods: Mapping[str, Method]) -> dict[str, object]:
    """What a study's manifest holds of R; empty where no method uses it."""
    packages = [one.packages for one in methods.values() if isinstance(one, RMethod)]
    if not packages:
        return {}
    versions = {name: version for own in packages for name, version in r_versions(own).items()}
    return {"r": {"versions": versions, "calls": r_calls(methods)}}
