"""A truth in the words of papers: a total variance, its shares, effects in total SDs.

Shares are of the variance of a single observation where all covariates with random slopes are 0:
the random intercepts of all levels and the residual (Snijders & Bosker 2012, chapter 3). An effect
d is in the SDs of such an observation (Westfall, Kenny & Judd 2014).
"""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from mcsim.scenario.families import GAUSSIAN, LINKS
from mcsim.scenario.truth import (
    Dispersion,
    OptionalLink,
    OptionalMissing,
    OptionalResiduals,
    OptionalTrials,
    RandomEffects,
    RandomSpec,
    TruthSpec,
    ZeroInflation,
)
from mcsim.scenario.values import AboveZero, FamilyName, Number, Record, Share, shape_of_table

DIGITS = 12  # of a value that follows from others: no rounding shows


class EffectSpec(Record):
    """A fixed effect without a unit."""

    d: Number = Field(description="in SDs of a single observation, all levels together")


_Effect = Annotated[
    Annotated[Number, Tag("<number>")] | Annotated[EffectSpec, Tag("<table>")],
    Discriminator(shape_of_table),
]


class StatedTruth(Record):
    """Parameters that the data are generated from, as a scenario states them."""

    family: FamilyName | None = Field(
        None,
        description="of the responses: gaussian (the default), binomial, poisson or nbinom, the "
        "negative binomial",
    )
    link: OptionalLink = Field(None)
    trials: OptionalTrials = Field(None)
    dispersion: Dispersion = Field(None)
    zero_inflation: ZeroInflation = Field(None)
    sigma: AboveZero | None = Field(
        None, description="standard deviation of the residuals; or total_variance, or total_sd"
    )
    total_variance: AboveZero | None = Field(
        None,
        description="in place of sigma: variance of an observation, of random intercepts and "
        "residuals",
    )
    total_sd: AboveZero | None = Field(None, description="the root of total_variance")
    icc: dict[str, Share] = Field(
        {},
        description="share of the total variance that a level's random intercepts have, per level, "
        "in place of their SDs",
    )
    fixed: dict[str, _Effect] = Field(
        {},
        description="fixed effects, named as the formula library prints them; others are 0; "
        "{ d = 0.5 } is half a total SD",
    )
    random: RandomEffects = Field({})
    residual: OptionalResiduals = Field(None)
    missing: OptionalMissing = Field(None)

    @property
    def is_normal(self) -> bool:
        """Whether the responses are normal, with residuals."""
        return self.family in (None, GAUSSIAN)

    @property
    def is_in_sds(self) -> bool:
        """Whether all is stated as SDs and in the units of the response, or of the link."""
        if not self.is_normal:
            return True
        is_plain = all(not isinstance(one, EffectSpec) for one in self.fixed.values())
        return self.sigma is not None and not self.icc and is_plain

    @property
    def stated_variance(self) -> float:
        """Variance of the random intercepts whose SDs are stated."""
        stated = (one.standard_deviations.get("Intercept", 0.0) for one in self.random.values())
        return math.fsum(sd**2 for sd in stated)

    @property
    def total(self) -> float:
        """Variance of an observation; not above 0 where none can be."""
        if self.total_variance is not None:
            return self.total_variance
        if self.total_sd is not None:
            return self.total_sd**2
        rest = 1.0 - math.fsum(self.icc.values())
        return ((self.sigma or 0.0) ** 2 + self.stated_variance) / rest if rest > 0.0 else 0.0

    @property
    def residual_variance(self) -> float:
        """What the levels leave of the total variance."""
        shared = math.fsum(self.icc.values()) * self.total
        return self.total - shared - self.stated_variance

    def in_sds(self) -> TruthSpec:
        """The truth with SDs and effects in the units of the response, or of the link."""
        if not self.is_normal:
            return self._of_counts()
        total = self.total
        sigma = self.sigma if self.sigma is not None else _plain(math.sqrt(self.residual_variance))
        sds = {level: _plain(math.sqrt(share * total)) for level, share in self.icc.items()}
        return TruthSpec(
            family=GAUSSIAN,
            sigma=sigma,
            fixed={name: _in_units(one, math.sqrt(total)) for name, one in self.fixed.items()},
            random=dict(self.random) | _with_intercepts(self.random, sds),
            residual=self.residual,
            missing=self.missing,
        )

    def _of_counts(self) -> TruthSpec:
        """The truth of counts or proportions; keys at their default are as good as left out."""
        assert self.family is not None
        fixed = {name: one for name, one in self.fixed.items() if isinstance(one, float | int)}
        return TruthSpec(
            family=self.family,
            link=None if self.link == LINKS[self.family][0] else self.link,
            trials=None if self.trials == 1 else self.trials,
            dispersion=self.dispersion,
            zero_inflation=self.zero_inflation or None,
            fixed=fixed,
            random=dict(self.random),
            missing=self.missing,
        )


def _with_intercepts(
    random: Mapping[str, RandomSpec], sds: Mapping[str, float]
) -> dict[str, RandomSpec]:
    """The effects of levels with the SDs of their intercepts."""
    found = {}
    for level, sd in sds.items():
        spec = random.get(level) or RandomSpec.model_validate({"sd": {}})
        own = {"Intercept": sd} | spec.standard_deviations
        found[level] = spec.model_copy(update={"sd": own, "variance": None})
    return found


def _in_units(effect: float | EffectSpec, total_sd: float) -> float:
    return _plain(effect.d * total_sd) if isinstance(effect, EffectSpec) else effect


def _plain(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
