"""What a scenario may estimate beside the parameters of its models."""

from typing import NamedTuple

from pydantic import Field

from mcsim.names import MARGINAL
from mcsim.scenario.values import (
    EstimandName,
    Interval,
    LevelPair,
    Number,
    Record,
    TermTest,
    Text,
)

_COMPARED = "factor whose levels are compared, all observations being at each of two in turn: "


class Comparison(NamedTuple):
    """Two levels of a factor by their mean responses, averaged over a population.

    kind : one of MARGINAL; levels : the first to compare with, None: those of a factor that has two
    """

    kind: str
    factor: str
    levels: tuple[str, str] | None


class EstimandSpec(Record):
    """A quantity to estimate beside the parameters of the models."""

    name: EstimandName = Field(
        description="name in the results; without `fixed` one of total.sd(COLUMN), "
        "total.var(COLUMN), LEVEL.icc"
    )
    fixed: dict[str, Number] | None = Field(
        None, description="weights of fixed effects, whose sum is the estimand"
    )
    term: Text | None = Field(
        None, description="term of the fixed effects, such as diet or diet:x, to test by F"
    )
    test: TermTest | None = Field(
        None,
        description='of the term: "type 3" (the default; given all other terms, averaged over the '
        'levels of other factors) or "type 2" (given all terms that do not contain it)',
    )
    risk_difference: Text | None = Field(
        None,
        description=_COMPARED + "difference of the mean probabilities (binomial)",
    )
    rate_ratio: Text | None = Field(
        None, description=_COMPARED + "ratio of the mean counts (poisson, nbinom)"
    )
    odds_ratio: Text | None = Field(
        None, description=_COMPARED + "ratio of the odds of the mean probabilities (binomial)"
    )
    levels: LevelPair | None = Field(
        None,
        description='of that factor: ["fasted", "fed"] compares fed with fasted; unless given, the '
        "second level of a factor that has two with its first",
    )
    equivalence: Interval | None = Field(
        None,
        description="of a sum: limits within which it counts as no effect, [-0.1, 0.1]; how often "
        "two one-sided tests show that is the measure `equivalence`",
    )

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of levels of a factor, if it is one."""
        given = ((kind, getattr(self, kind)) for kind in MARGINAL)
        found = [(kind, factor) for kind, factor in given if factor is not None]
        return Comparison(*found[0], self.levels) if found else None
