"""What is wrong with a truth of counts or proportions, and with methods for them."""

from collections.abc import Iterator

from mcsim.scenario.checks.columns import lacking
from mcsim.scenario.checks.draft import Draft, numbered
from mcsim.scenario.estimators import estimators_of, facts_of
from mcsim.scenario.families import FAMILIES_OF, GAUSSIAN, LINKS, MODELS_OF, no_link
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.records import MethodSpec
from mcsim.scenario.stated_truth import EffectSpec, StatedTruth

OF_NORMAL = ("sigma", "total_variance", "total_sd", "icc", "residual")
OF_COUNTS = {  # families that a key is of
    "trials": ("binomial",),
    "dispersion": ("nbinom",),
    "zero_inflation": ("binomial", "poisson", "nbinom"),
}
NO_DISPERSION = (
    "missing key 'dispersion' in truth; add it: the variance is mu + mu ** 2 / dispersion"
)


def family_problems(draft: Draft) -> Iterator[Finding]:
    """Keys and links that a family lacks, methods that cannot take its responses."""
    truth = draft.scenario.truth
    if truth is None or ("truth", "family") in draft.faulty:
        return
    family = truth.family or GAUSSIAN
    yield from _truth_problems(truth, family, draft)
    for number, method in numbered(draft.scenario.methods).items():
        yield from _method_problems(("methods", number), method, family, draft)
    for number, estimand in numbered(draft.scenario.estimands).items():
        if estimand.comparison is not None:
            yield from _mean_problems(("estimands", number), estimand.comparison.kind, family)


def _mean_problems(path: KeyPath, kind: str, family: str) -> Iterator[Finding]:
    """Why responses of a family have no means that are compared so."""
    if family not in FAMILIES_OF[kind]:
        of = " or ".join(map(repr, FAMILIES_OF[kind]))
        others = " or ".join(other for other, own in FAMILIES_OF.items() if family in own)
        hint = f"use {others}" if others else "means of normal responses are compared by `fixed`"
        yield (*path, kind), f"{kind!r} is of family {of}, not of {family!r}; {hint}"


def _truth_problems(truth: StatedTruth, family: str, draft: Draft) -> Iterator[Finding]:
    """Keys of other families, and one that is missing."""
    if truth.link is not None and truth.link not in LINKS[family]:
        yield ("truth", "link"), no_link(family, truth.link)
    for key, families in OF_COUNTS.items():
        if getattr(truth, key) is not None and family not in families:
            of = " or ".join(map(repr, families))
            yield ("truth", key), f"{key!r} is of family {of}, not of {family!r}; leave it out"
    if family != GAUSSIAN:
        yield from _normal_keys(truth, family)
    is_given = truth.dispersion is not None or ("truth", "dispersion") in draft.faulty
    if family == "nbinom" and not is_given:
        yield ("truth",), NO_DISPERSION
    if isinstance(truth.trials, str) and draft.names is not None:
        yield from lacking(("truth", "trials"), "covariate", truth.trials, draft.names.covariates)


def _normal_keys(truth: StatedTruth, family: str) -> Iterator[Finding]:
    """What counts and proportions lack."""
    for key in (key for key in OF_NORMAL if getattr(truth, key)):
        message = f"{key!r} is of normal responses; family {family!r} has no residuals"
        yield ("truth", key), f"{message}: leave it out"
    for name, effect in (truth.fixed or {}).items():
        if isinstance(effect, EffectSpec):
            message = "{ d = ... } is in SDs of normal responses; give a number on the link scale"
            yield ("truth", "fixed", name), message


def _method_problems(
    path: KeyPath, method: MethodSpec, of_truth: str, draft: Draft
) -> Iterator[Finding]:
    family, estimator = method.family or of_truth, method.estimator
    if family not in MODELS_OF[of_truth]:
        allowed = ", ".join(MODELS_OF[of_truth])
        message = f"responses of family {of_truth!r} cannot be taken for {family!r}; for: {allowed}"
        yield (*path, "family"), message
    if method.link is not None and method.link not in LINKS[family]:
        yield (*path, "link"), no_link(family, method.link)
    if method.quadrature is not None and family == GAUSSIAN:
        message = "quadrature is for counts and proportions; normal responses need none"
        yield (*path, "quadrature"), f"{message}: leave it out"
    if estimator is not None and family not in facts_of(estimator).families:
        others = " or ".join(map(repr, estimators_of(family)))
        message = f"estimator {estimator!r} is not for family {family!r}; use {others}"
        if GAUSSIAN in facts_of(estimator).families and of_truth != GAUSSIAN:
            message += ', or write family = "gaussian" for a normal model of them'
        yield (*path, "estimator"), message
