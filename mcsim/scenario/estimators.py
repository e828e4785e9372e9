"""What each estimator gives: one row for each, and the only place that lists them.

Checks, choices of commands, sizes of chunks and refusals read it; imports nothing heavy, so that
`mcsim --help` can. `mcsim.methods` has the class behind each name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mcsim.scenario.families import FAMILIES, GAUSSIAN

PLUGIN = "plugin"  # the row of plugin:NAME, any function of a user's file


@dataclass(frozen=True)
class EstimatorFacts:
    """What a scenario may ask of an estimator.

    df : methods, the first where none is named; intervals : of variance components, likewise
    nested_df : those of `df` that there are not where units cross
    likelihood : REML, ML or Laplace, where likelihoods of this estimator can be compared
    families : of responses that it can take them for
    has_residual_models : whether residuals may be correlated or have several SDs
    rests_on_residuals : whether SEs and df stay the same where fixed effects are added to the
        responses, and estimates move along
    has_means : whether it compares mean responses, as a risk difference does
    is_slow : whether a fit takes longer than committing it, so that chunks are small
    """

    df: tuple[str, ...]
    intervals: tuple[str, ...] = ("wald",)
    nested_df: tuple[str, ...] = ()
    likelihood: str | None = None
    families: tuple[str, ...] = (GAUSSIAN,)
    has_residual_models: bool = False
    rests_on_residuals: bool = False
    has_means: bool = False
    is_slow: bool = False


_OF_COUNTS = tuple(name for name in FAMILIES if name != GAUSSIAN)
_INDEPENDENT = ("binomial", "poisson")  # whose rows have a variance by their mean alone
_OWN_INTERVALS = ("wald", "profile", "bootstrap")

ESTIMATOR_FACTS = {
    "reml": EstimatorFacts(
        df=("containment", "satterthwaite", "kenward-roger", "z"),
        intervals=_OWN_INTERVALS,
        nested_df=("containment",),
        likelihood="REML",
        has_residual_models=True,
        rests_on_residuals=True,
    ),
    "ml": EstimatorFacts(
        df=("containment", "satterthwaite", "z"),
        intervals=_OWN_INTERVALS,
        nested_df=("containment",),
        likelihood="ML",
        has_residual_models=True,
        rests_on_residuals=True,
    ),
    "laplace": EstimatorFacts(
        df=("containment", "z"),
        intervals=_OWN_INTERVALS,
        nested_df=("containment",),
        likelihood="Laplace",
        families=_OF_COUNTS,
        has_means=True,
    ),
    "glm": EstimatorFacts(df=("z",), families=_INDEPENDENT, has_means=True),
    "glm-cluster": EstimatorFacts(df=("cr2", "cr1"), families=_INDEPENDENT, has_means=True),
    "statsmodels": EstimatorFacts(df=("containment", "z"), is_slow=True),
    "ols": EstimatorFacts(df=("residual",), rests_on_residuals=True),
    "ols-cluster": EstimatorFacts(df=("cr2", "cr1"), nested_df=("cr2",), rests_on_residuals=True),
    "gee": EstimatorFacts(
        df=("mancl-derouen", "kauermann-carroll", "fay-graubard", "robust"),
        families=(GAUSSIAN, *_INDEPENDENT),
        rests_on_residuals=True,
        has_means=True,
    ),
    "image-means": EstimatorFacts(df=("residual",), families=FAMILIES),
    "two-stage": EstimatorFacts(df=("residual",), families=FAMILIES, rests_on_residuals=True),
    "nlme": EstimatorFacts(df=("containment",), is_slow=True),
    "lme4": EstimatorFacts(df=("z", "satterthwaite", "kenward-roger"), is_slow=True),
    "glmer": EstimatorFacts(df=("z",), families=_OF_COUNTS, is_slow=True),
    "glmmTMB": EstimatorFacts(df=("z",), families=_OF_COUNTS, is_slow=True),
    PLUGIN: EstimatorFacts(df=("own",), families=FAMILIES, is_slow=True),
}
NAMED_ESTIMATORS = tuple(name for name in ESTIMATOR_FACTS if name != PLUGIN)


def kind_of(estimator: object) -> str:
    """The estimator, or `plugin` for any function of a plugin: its row in the table."""
    return str(estimator).partition(":")[0]


def facts_of(estimator: str) -> EstimatorFacts:
    """The row of a sound estimator."""
    return ESTIMATOR_FACTS[kind_of(estimator)]


def df_of_crossed(estimator: object) -> tuple[str, ...]:
    """Df methods that an estimator gives where units cross, the first where none is named."""
    facts = ESTIMATOR_FACTS.get(kind_of(estimator))
    return () if facts is None else tuple(one for one in facts.df if one not in facts.nested_df)


def estimators_with(has: Callable[[EstimatorFacts], object]) -> tuple[str, ...]:
    """Names of the estimators whose facts are such, in the order of the table."""
    return tuple(name for name, facts in ESTIMATOR_FACTS.items() if has(facts))


def estimators_of(family: str) -> tuple[str, ...]:
    """The named estimators for responses of a family; the first where a method names none."""
    return tuple(name for name in NAMED_ESTIMATORS if family in ESTIMATOR_FACTS[name].families)


def offered(
    what: Callable[[EstimatorFacts], Iterable[str]], estimators: Iterable[str] = ESTIMATOR_FACTS
) -> tuple[str, ...]:
    """All that these estimators give of something, each once, such as `lambda facts: facts.df`."""
    found = (one for name in estimators for one in what(ESTIMATOR_FACTS[name]))
    return tuple(dict.fromkeys(found))
