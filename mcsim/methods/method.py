"""What every method gives, and what methods ask of the columns of their model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns
from mcsim.design.population import Population
from mcsim.design.residual_rows import residual_parameters
from mcsim.errors import DataError
from mcsim.formula import same_column
from mcsim.methods.inference.components import RandomNames
from mcsim.methods.inference.df import containment_df, stratum_of
from mcsim.methods.inference.fixed_effects import Contrast, ParameterBlock
from mcsim.methods.inference.theory import Theory, closed_forms
from mcsim.methods.terms import term_contrast
from mcsim.names import DISPERSION, FIXED, SIGMA, TOTAL, Parameter
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.estimators import estimators_of, estimators_with, facts_of
from mcsim.scenario.families import GAUSSIAN, FamilyModel
from mcsim.scenario.plugin_file import Plugin
from mcsim.scenario.residuals import ResidualModel
from mcsim.scenario.true_values import Truth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
StreamOf = Callable[[int], np.random.Generator]


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

    def of(self, rows: slice) -> "Analysis":
        """That of some replicates of the block."""
        estimates = {df: [one.of(rows) for one in own] for df, own in self.estimates.items()}
        return Analysis(estimates, FitOutcomes(*(one[rows] for one in vars(self.fits).values())))


class Method(Protocol):
    """A prepared method: takes blocks of responses, then analyses all of them.

    n_values : numbers that it keeps of a response; n_parameters : of its model
    """

    n_values: int
    n_parameters: int

    def parameters(self) -> list[Parameter]:
        """What is estimated, in order."""
        ...

    def theory(self, truth: Truth) -> dict[str, dict[Parameter, Theory]]:
        """Closed forms by df method and parameter, empty where there are none."""
        ...

    def take(self, responses: Floats) -> Any:
        """Return what the method needs of responses (n_replicates, n_rows)."""
        ...

    def analyse(self, taken: list[Any], stream_of: StreamOf) -> Analysis:
        """Fit every response of the blocks that were taken.

        Parameters
        ----------
        stream_of : random numbers for what the method itself simulates, by position of the response
        """
        ...


@dataclass(frozen=True)
class MethodSettings:
    """What a scenario says of a method beside its formula.

    family : None for normal responses
    population : over which means are averaged; None: the rows of the model
    """

    estimator: str
    df: tuple[str, ...]
    confidence: float
    estimands: tuple[EstimandSpec, ...] = ()
    interval: str = "wald"
    resamples: int = 200
    plugin: Plugin | None = None
    residual: ResidualModel | None = None
    identifiable: bool = True
    family: FamilyModel | None = None
    population: Population | None = None


def refuse_unsupported(settings: MethodSettings) -> None:
    """Raise a DataError where the settings ask for what the estimator does not give."""
    facts, of = facts_of(settings.estimator), f"estimator {settings.estimator!r}"
    for name in settings.df:
        if name not in facts.df:
            given = ", ".join(sorted(facts.df))
            raise DataError(f"{of} does not give df {name!r}; it gives: {given}")
    if settings.residual is not None and not facts.has_residual_models:
        others = " or ".join(map(repr, estimators_with(lambda one: one.has_residual_models)))
        raise DataError(
            f"{of} has residuals that are independent with one SD; leave out `residual`, or use"
            f" estimator {others}"
        )
    if settings.interval not in facts.intervals:
        raise DataError(
            f"{of} gives no interval {settings.interval!r} of a variance component; leave it out,"
            f" for 'wald'"
        )
    family = GAUSSIAN if settings.family is None else settings.family.family
    if family not in facts.families:
        others = estimators_of(family)[0]
        counted = ", or name the family of the counts (--family, `family`)"
        raise DataError(
            f"{of} is not for family {family!r}; leave it out, for {others!r}"
            + counted * (settings.family is None)
        )


def random_names(columns: ModelColumns) -> list[RandomNames]:
    """Names of the random effects per level, outermost first."""
    return [RandomNames(level.level, level.names, level.structures) for level in columns.levels]


def fixed_contrasts(columns: ModelColumns, settings: MethodSettings) -> list[Contrast]:
    """Every fixed effect, every term that has several columns, sums and tests asked for.

    A sum has the value 0 for columns that the model lacks; a sum that has none of the model's is
    left out, as is the test of a term that it lacks. Errors as of `term_contrast`.
    """
    unit = np.eye(len(columns.names))
    contrasts = [
        Contrast(Parameter.read(name, FIXED), unit[[j]]) for j, name in enumerate(columns.names)
    ]
    for number, term in enumerate(columns.terms):
        own = np.flatnonzero(np.array(columns.term_of_column) == number)
        if len(own) > 1:
            contrasts.append(Contrast(Parameter.term(term, len(own)), unit[own]))
    for one in settings.estimands:
        weights = {same_column(name): weight for name, weight in (one.fixed or {}).items()}
        L = np.array([[weights.get(same_column(name), 0.0) for name in columns.names]])
        if np.any(L):
            contrasts.append(Contrast(Parameter.read(one.name, FIXED), L))
        if one.term is not None:
            tested = term_contrast(columns, one.term, one.test or "type 3")
            if tested is not None:
                contrasts.append(Contrast(Parameter.term(one.name, len(tested)), tested))
    return contrasts


def derived_estimands(columns: ModelColumns, settings: MethodSettings) -> list[Parameter]:
    """Derived quantities asked for whose random effects the model has."""
    found = {level.level: level.names for level in columns.levels}
    found[TOTAL] = tuple(name for level in columns.levels for name in level.names)
    asked_for = [Parameter.read(one.name) for one in settings.estimands if not one.fixed]
    return [
        one
        for one in asked_for
        if one.is_derived and any(map(one.is_of_column, found.get(str(one.level), ())))
    ]


def parameters(columns: ModelColumns, settings: MethodSettings) -> list[Parameter]:
    """All that is estimated, in the order of the estimates."""
    found = [one.parameter for one in fixed_contrasts(columns, settings)]
    for level in random_names(columns):
        found += level.parameters()
    if settings.family is None:
        found += [SIGMA, *residual_parameters(settings.residual, columns.frame)]
    elif settings.family.family == "nbinom":
        found.append(DISPERSION)
    return found + derived_estimands(columns, settings)


def constant_df(columns: ModelColumns, name: str) -> Floats:
    """Degrees of freedom that the design alone gives every fixed effect: (p,), infinite for z."""
    if name == "z":
        return np.full(len(columns.names), np.inf)
    return columns.once("containment", _containment_df)


def _containment_df(columns: ModelColumns) -> Floats:
    units = [level.unit_of_row for level in columns.levels]
    units = [one for one in units if one.max() + 1 < len(one)]  # a unit per row is the row itself
    stratum = np.array([[stratum_of(values, units) for values in columns.X.T]], dtype=np.int64)
    sizes = np.array([[*(int(unit.max()) + 1 for unit in units), len(columns.X)]])
    return np.asarray(containment_of(columns, stratum, sizes)[0])


def containment_of(columns: ModelColumns, stratum: Ints, sizes: Ints) -> Floats:
    """Containment df of n designs with the columns of a model: (n, p), as of `containment_df`."""
    is_intercept = [column == "Intercept" for column in columns.names]
    return containment_df(stratum, sizes, columns.term_of_column, is_intercept)


def reml_theory(
    columns: ModelColumns, settings: MethodSettings, truth: Truth
) -> dict[str, dict[Parameter, Theory]]:
    """What REML's estimates do in a balanced nested design; empty in any other."""
    if columns.are_crossed:
        return {}
    df = {
        name: constant_df(columns, name) if name in ("containment", "z") else None
        for name in settings.df
    }
    contrasts = fixed_contrasts(columns, settings)
    return closed_forms(columns, contrasts, truth, df, 1.0 - settings.confidence)
