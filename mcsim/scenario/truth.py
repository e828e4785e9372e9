"""The truth that data are generated from: records of what a scenario may state."""

import math
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag

from mcsim.names import split_pair
from mcsim.scenario.families import GAUSSIAN
from mcsim.scenario.values import (
    AboveTwo,
    AboveZero,
    AtLeastZero,
    Correlation,
    FamilyName,
    InsideOne,
    LinkName,
    Mixture,
    Normal,
    Number,
    Record,
    ResidualCorrelation,
    Share,
    Text,
    Trials,
    shape_of_distribution,
    shape_of_table,
)

R = TypeVar("R", bound=Record)

OF_MEAN = "mean"  # what a power of the mean is of


class ShapeSpec(Record):
    """A distribution that is not normal: exactly one of t, skew_normal, gamma, mixture.

    Centred and scaled to the SD that the truth states, so that only the shape differs.
    """

    t: AboveTwo | None = Field(None, description="degrees of freedom: long tails")
    skew_normal: Number | None = Field(
        None, description="Azzalini's shape: 0 is the normal, 5 clearly skewed, -5 to the left"
    )
    gamma: AboveZero | None = Field(
        None, description="shape: skewed to the right, 1 is the exponential, 100 nearly normal"
    )
    mixture: Mixture | None = Field(
        None,
        description="two normal groups: share of the upper one, and how many SDs of a group it "
        "lies above the other",
    )

    @property
    def given(self) -> dict[str, Any]:
        """What is given, by name: one distribution with its parameters."""
        return self.model_dump(exclude_none=True)


Distribution = Annotated[
    Annotated[Normal, Tag("<name>")] | Annotated[ShapeSpec, Tag("<table>")],
    Discriminator(shape_of_distribution),
]


_Correlations = Annotated[
    Annotated[Correlation, Tag("<number>")] | Annotated[dict[str, Correlation], Tag("<table>")],
    Discriminator(shape_of_table),
]


class RandomSpec(Record):
    """Distribution of the effects of one level's units; exactly one of sd and variance."""

    sd: dict[str, AtLeastZero] | None = Field(None, description="standard deviation per column")
    variance: dict[str, AtLeastZero] | None = Field(None, description="variance per column")
    correlation: _Correlations = Field(
        0.0, description='one number for every pair, or a table { "Intercept,x" = 0.3 }'
    )
    distribution: Distribution = Field(
        "normal", description='"normal", or a shape such as { t = 5 }, of the independent draws'
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns whose effects vary."""
        return tuple(self.sd or self.variance or ())

    @property
    def standard_deviations(self) -> dict[str, float]:
        """Standard deviation per column, however the file gives it."""
        if self.sd is not None:
            return dict(self.sd)
        return {column: math.sqrt(value) for column, value in (self.variance or {}).items()}

    def correlation_of(self, first: str, second: str) -> float:
        """Correlation between the effects of two columns, 0 where the file gives none."""
        if first == second:
            return 1.0
        if isinstance(self.correlation, float):
            return self.correlation
        pairs = ((first, second), (second, first))
        return next((r for key, r in self.correlation.items() if split_pair(key) in pairs), 0.0)


class PowerSpec(Record):
    """An SD that grows with a covariate, or with the mean, as nlme's varPower."""

    of: Text = Field(
        description='covariate whose absolute value is raised to the exponent; or "mean": what '
        "the fixed and the random effects of the observation add up to"
    )
    exponent: Number = Field(description="0.5: the variance grows in proportion; 1: the SD does")


class ResidualSpec(Record):
    """Residuals that are not normal, not independent, or have no common SD."""

    distribution: Distribution = Field(
        "normal", description='"normal", or a shape such as { t = 5 }, of the independent draws'
    )
    correlation: ResidualCorrelation | None = Field(
        None,
        description='within an innermost unit: "ar1", phi ** distance, in steps of `along`; or '
        '"exchangeable", rho for every pair',
    )
    phi: InsideOne | None = Field(
        None, description="ar1: correlation of observations that are one step apart"
    )
    along: Text | None = Field(
        None, description="ar1: covariate whose steps count; else the order of the observations"
    )
    rho: InsideOne | None = Field(None, description="exchangeable: correlation of every pair")
    sd_by: dict[str, dict[str, AboveZero]] = Field(
        {},
        description="what sigma is multiplied by, per level of a factor; 1 for others: "
        "{ diet = { fed = 1.5 } }, as nlme's varIdent",
    )
    power: PowerSpec | None = Field(
        None,
        description="sigma is multiplied by a power of a covariate or of the mean: "
        '{ of = "x", exponent = 0.5 }',
    )


class DropoutSpec(Record):
    """Units that are no longer observed after some point."""

    level: Text = Field(description="level whose units drop out, each by itself")
    along: Text = Field(description="covariate that tells when, such as time")
    after: Number = Field(description="observations at larger values of the covariate are lost")
    probability: Share = Field(description="probability that a unit drops out")


class MissingSpec(Record):
    """Observations that are planned and lost, whatever their values would have been."""

    observations: Share = Field(0.0, description="probability that an observation is lost")
    units: dict[str, Share] = Field(
        {}, description="probability that a unit is lost with all its observations, per level"
    )
    dropout: DropoutSpec | None = Field(
        None,
        description="units whose later observations are lost: { level = "
        '"animal", along = "x", after = 0.5, probability = 0.2 }',
    )


def _none_if_empty(record: R | None) -> R | None:
    """A table that states nothing is as good as none: both make the same data."""
    return None if record is None or not record.model_dump(exclude_defaults=True) else record


RandomEffects = Annotated[
    dict[str, RandomSpec], Field(description="random effects, by grouping level")
]
OptionalResiduals = Annotated[
    ResidualSpec | None,
    AfterValidator(_none_if_empty),
    Field(description="residuals that are correlated, not normal, or have no common SD"),
]
OptionalMissing = Annotated[
    MissingSpec | None,
    AfterValidator(_none_if_empty),
    Field(description="observations that are planned and lost"),
]


OptionalLink = Annotated[
    LinkName | None,
    Field(
        description="scale of the fixed and random effects: logit (the default), probit or cloglog"
        " of a binomial response"
    ),
]
OptionalTrials = Annotated[
    Trials | None,
    Field(description="of a binomial response: a number, or the name of a covariate; default 1"),
]
Dispersion = Annotated[
    AboveZero | None,
    Field(description="nbinom: the variance is mu + mu ** 2 / dispersion"),
]
ZeroInflation = Annotated[
    Share | None,
    Field(description="share of observations that are 0, whatever their mean"),
]


class TruthSpec(Record):
    """Parameters that the data of a condition are generated from; sigma of normal ones alone."""

    family: FamilyName = GAUSSIAN
    link: OptionalLink = None
    trials: OptionalTrials = None
    dispersion: Dispersion = None
    zero_inflation: ZeroInflation = None
    sigma: AboveZero | None = None
    fixed: dict[str, Number] = Field({})
    random: RandomEffects = Field({})
    residual: OptionalResiduals = None
    missing: OptionalMissing = None

    @property
    def is_normal(self) -> bool:
        """Whether the responses are jointly normal, with a covariance that is the design's."""
        if self.family != GAUSSIAN:
            return False
        parts: list[RandomSpec | ResidualSpec] = [*self.random.values()]
        if self.residual is not None:
            power = self.residual.power
            if power is not None and power.of == OF_MEAN:
                return False
            parts.append(self.residual)
        return all(one.distribution == "normal" for one in parts)

    @property
    def is_standard(self) -> bool:
        """Whether all is normal, residuals independent with one SD, and nothing is lost."""
        return self.residual is None and self.missing is None and self.is_normal
