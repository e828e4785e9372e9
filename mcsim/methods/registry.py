"""The methods, by the names of their estimators."""

import itertools
from collections.abc import Callable
from functools import partial

from mcsim.design.columns import ModelColumns, without_aliased
from mcsim.engine.crossed.partitions import units_that_cross
from mcsim.errors import DataError
from mcsim.methods.cluster_robust import ClusterRobust
from mcsim.methods.gee import Gee
from mcsim.methods.gee_counts import GeeOfCounts
from mcsim.methods.glm import Glm
from mcsim.methods.glm_cluster import GlmCluster
from mcsim.methods.identifiability import left_open
from mcsim.methods.laplace import LaplaceMethod
from mcsim.methods.least_squares import ImageMeans, LeastSquares, columns_of_means
from mcsim.methods.likelihood import LikelihoodMethod, Reducers, compile_model
from mcsim.methods.method import (
    Method,
    MethodSettings,
    derived_estimands,
    refuse_unsupported,
)
from mcsim.methods.plugin import PluginMethod
from mcsim.methods.r.method import RMethod
from mcsim.methods.statsmodels import StatsmodelsMethod
from mcsim.methods.two_stage import TwoStage
from mcsim.methods.unit_summaries import UnitSummaries
from mcsim.names import Parameter
from mcsim.scenario.estimators import df_of_crossed, facts_of, kind_of
from mcsim.scenario.families import GAUSSIAN

Maker = Callable[[ModelColumns, MethodSettings, "Reducers"], Method]


def _by_family(of_normal: Maker, of_counts: Maker) -> Maker:
    """A method of two forms: of normal responses, and of counts and proportions."""

    def make(columns: ModelColumns, settings: MethodSettings, shared: Reducers) -> Method:
        return (of_normal if settings.family is None else of_counts)(columns, settings, shared)

    return make


METHODS: dict[str, Maker] = {
    "reml": partial(LikelihoodMethod, is_reml=True),
    "ml": partial(LikelihoodMethod, is_reml=False),
    "laplace": LaplaceMethod,
    "glm": Glm,
    "glm-cluster": GlmCluster,
    "statsmodels": StatsmodelsMethod,
    "ols": LeastSquares,
    "ols-cluster": ClusterRobust,
    "gee": _by_family(Gee, GeeOfCounts),
    "image-means": _by_family(ImageMeans, UnitSummaries),
    "two-stage": _by_family(TwoStage, UnitSummaries),
    "nlme": RMethod,
    "lme4": RMethod,
    "glmer": RMethod,
    "glmmTMB": RMethod,
    "plugin": PluginMethod,
}
WITH_CROSSED = (
    "reml", "ml", "laplace", "lme4", "glmer", "glmmTMB", "ols", "ols-cluster", "glm", "plugin",
)  # fmt: skip
WITHOUT_FIXED = ("reml", "ml", "laplace", "plugin")  # these can do without fixed effects
WITH_FORMULA = ("nlme", "lme4", "glmer", "glmmTMB", "plugin")  # these read the formula themselves


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
    refuse_unsupported(settings)
    is_plain = kind_of(settings.estimator) in WITHOUT_FIXED and not settings.residual
    if not columns.names and not columns.levels:
        raise DataError(f"{columns.formula.text!r} has no effect, fixed or random; add a term")
    if not columns.names and not is_plain:
        raise DataError(
            "the formula has no fixed effect; estimators 'reml' and 'ml' fit that, without"
            " `residual`"
        )
    if columns.offset is not None and kind_of(settings.estimator) in WITH_FORMULA:
        raise DataError(f"estimator {settings.estimator!r} takes no offset(); leave it out")
    if columns.are_crossed:
        _refuse_where_units_cross(columns, settings)
    shared = Reducers() if shared is None else shared
    kept, _ = columns.once("aliased", without_aliased)
    return METHODS[kind_of(settings.estimator)](kept, settings, shared)


def _refuse_where_units_cross(columns: ModelColumns, settings: MethodSettings) -> None:
    """Raise a DataError where the settings ask for what only nested units have."""
    crossed = next(
        f"{one.level!r} and {other.level!r}"
        for one, other in itertools.combinations(columns.levels, 2)
        if units_that_cross([one.unit_of_row, other.unit_of_row])
    )
    if kind_of(settings.estimator) not in WITH_CROSSED:
        family = GAUSSIAN if settings.family is None else settings.family.family
        allowed = ", ".join(one for one in WITH_CROSSED if family in facts_of(one).families)
        raise DataError(
            f"estimator {settings.estimator!r} needs nested units, but those of {crossed} cross;"
            f" in a scenario, estimators for these are {allowed}"
        )
    if settings.residual is not None:
        raise DataError(
            f"`residual` needs nested units, but those of {crossed} cross; leave it out"
        )
    for df in set(settings.df) & set(facts_of(settings.estimator).nested_df):
        others = " or ".join(map(repr, df_of_crossed(settings.estimator)))
        raise DataError(
            f"df {df!r} is for nested units, but those of {crossed} cross; write df = {others}"
            " (--df of mcsim fit)"
        )


def left_out(columns: ModelColumns, settings: MethodSettings) -> tuple[str, ...]:
    """Fixed effects that a method leaves out: others determine them in what it analyses."""
    if settings.estimator == "image-means":
        columns = columns_of_means(columns)[1]
    return columns.once("aliased", without_aliased)[1]


def undetermined(
    method: Method, columns: ModelColumns, settings: MethodSettings, shared: Reducers
) -> frozenset[Parameter]:
    """Parameters of a method's model that the design leaves open.

    Raises
    ------
    DataError
        SDs are among them, and the settings do not allow it.
    """
    columns, _ = columns.once("aliased", without_aliased)
    if isinstance(method, LikelihoodMethod):
        design = method.design
    elif isinstance(method, StatsmodelsMethod | RMethod | LaplaceMethod) and columns.levels:
        _, design = compile_model(columns, settings, shared, is_reml=True)
    else:
        return frozenset()
    derived = derived_estimands(columns, settings)
    return left_open(
        design,
        columns,
        derived,
        is_allowed=not settings.identifiable,
        has_residuals=settings.family is None,
    )
