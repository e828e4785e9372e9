"""Families of responses and their links: one row for each, and the only place that lists them.

Imports nothing heavy, so that `mcsim --help` can.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcsim.errors import DataError, nearest_name
from mcsim.scenario.limits import number_in

if TYPE_CHECKING:
    from mcsim.scenario.records import MethodSpec
    from mcsim.scenario.truth import TruthSpec

GAUSSIAN = "gaussian"
LINKS = {  # the first where none is named
    GAUSSIAN: ("identity",),
    "binomial": ("logit", "probit", "cloglog"),
    "poisson": ("log",),
    "nbinom": ("log",),
}
FAMILIES = tuple(LINKS)
ALL_LINKS = tuple(dict.fromkeys(link for links in LINKS.values() for link in links))
MOST_POINTS = 50  # of quadrature, per random effect: more change nothing
COUNTS = ("poisson", "nbinom")
FAMILIES_OF = {  # whose mean responses a comparison is of: one of MARGINAL in names
    "risk_difference": ("binomial",),
    "rate_ratio": COUNTS,
    "odds_ratio": ("binomial",),
}
MODELS_OF = {  # families that a method may take responses of a family for
    GAUSSIAN: (GAUSSIAN,),
    "binomial": ("binomial", GAUSSIAN),
    "poisson": (*COUNTS, GAUSSIAN),
    "nbinom": (*COUNTS, GAUSSIAN),
}


@dataclass(frozen=True)
class FamilyModel:
    """What a method takes responses for that are not normal.

    trials : of a binomial response, a number or the name of a covariate
    quadrature : points per random effect; 1 is Laplace's approximation
    """

    family: str
    link: str
    trials: float | str = 1.0
    quadrature: int = 1


def family_model(
    family: str,
    link: str | None = None,
    trials: float | str | None = None,
    quadrature: int | None = None,
) -> FamilyModel | None:
    """What a method takes responses for; None for normal ones.

    Raises
    ------
    DataError
        The family is none, or lacks the link, trials or quadrature.
    """
    if family not in LINKS:
        names = ", ".join(FAMILIES)
        near = nearest_name(family, FAMILIES)
        raise DataError(f"there is no family {family!r}. There are: {names}.{near}")
    if trials is not None and family != "binomial":
        raise DataError(f"trials go with family 'binomial', not {family!r}; leave them out")
    if not isinstance(trials, str | None):
        trials = number_in("trials", trials, 1, math.inf, is_whole=True, others=", or a column")
    if quadrature is not None:
        quadrature = int(number_in("quadrature", quadrature, 1, MOST_POINTS, is_whole=True))
    link = link_of(family, link)
    if family == GAUSSIAN:
        if quadrature is not None:
            raise DataError(
                "quadrature is for counts and proportions; normal responses need none: leave it out"
            )
        return None
    return FamilyModel(family, link, 1.0 if trials is None else trials, quadrature or 1)


def model_of(spec: "MethodSpec", truth: "TruthSpec") -> FamilyModel | None:
    """What a method of a scenario takes responses of a truth for; errors as of `family_model`."""
    family = spec.family or truth.family
    of_truth = truth.link if family == truth.family else None
    trials = truth.trials if family == "binomial" else None
    return family_model(family, spec.link or of_truth, trials, spec.quadrature)


def is_on_scale(spec: "MethodSpec", truth: "TruthSpec") -> bool:
    """Whether parameters of a method are on the scale of the truth's link."""
    model = model_of(spec, truth)
    own = link_of(GAUSSIAN, None) if model is None else model.link
    return own == link_of(truth.family, truth.link)


def link_of(family: str, link: str | None) -> str:
    """The link of a family, the first of its links where none is named.

    Raises
    ------
    DataError
        The family lacks the link.
    """
    allowed = LINKS[family]
    if link is not None and link not in allowed:
        raise DataError(no_link(family, link))
    return link or allowed[0]


def no_link(family: str, link: str) -> str:
    """A sentence on a link that the family lacks."""
    allowed = LINKS[family]
    names = ", ".join(allowed)
    return f"family {family!r} has no link {link!r}. It has: {names}.{nearest_name(link, allowed)}"
