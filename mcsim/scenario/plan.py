"""What a plan asks: the cheapest design that reaches a target, or the best for a budget."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema, create_model

from mcsim.scenario.values import (
    AboveZero,
    AtLeastZero,
    Number,
    Positive,
    Record,
    SweptValues,
    Text,
    must_be,
)

FIXED_COST, OBSERVATION = "fixed", "observation"  # beside the names of levels
OBSERVATIONS = "design.observations.count"
MOST_COUNTS = 10_000  # of one key
DRAWS, LEAST_DRAWS, MOST_DRAWS = 64, 8, 1_024  # of truths
SHARES = ("rejection", "equivalence", "coverage")  # which are to be at least so large
SIZES = ("relative_se", "ci_width", "rmse", "mde")  # which are to be at most so large
_RANGE = {"from", "to", "step"}


def _listed(value: Any) -> Any:
    """The counts of a range { from, to, step }; what is no sound range stays as it is."""
    if not isinstance(value, Mapping) or not {"from", "to"} <= value.keys() <= _RANGE:
        return value
    ends = [value["from"], value["to"], value.get("step", 1)]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in ends):
        return value
    first, last, step = ends
    return list(range(first, min(last, first + step * MOST_COUNTS) + 1, step)) or value


def _are_counts(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MOST_COUNTS
        and all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in value)
        and all(a < b for a, b in itertools.pairwise(value))
    )


Draws = Annotated[
    Positive,
    Field(ge=LEAST_DRAWS, le=MOST_DRAWS),
    must_be(
        f"a whole number from {LEAST_DRAWS} to {MOST_DRAWS:,}",
        lambda v: isinstance(v, int) and LEAST_DRAWS <= v <= MOST_DRAWS,
    ),
]
Counts = Annotated[
    tuple[Positive, ...],
    must_be(
        "a list of counts in ascending order, or { from = 3, to = 60 } with a `step` if not 1; at"
        f" most {MOST_COUNTS:,}",
        _are_counts,
    ),
    BeforeValidator(_listed),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer"}, "minItems": 1},
                {"type": "object", "required": ["from", "to"]},
            ]
        }
    ),
]


class Goal(NamedTuple):
    """A measure of a parameter and the value that it is to reach; None: as good as can be."""

    measure: str
    parameter: str
    bound: float | None

    @property
    def is_share(self) -> bool:
        """Whether it is to be at least so large; else at most."""
        return self.measure in SHARES

    def __str__(self) -> str:
        words = "at least" if self.is_share else "at most"
        bound = "as good as can be" if self.bound is None else f"{words} {self.bound:g}"
        return f"{self.measure} of {self.parameter} {bound}"


class TargetSpec(Record):
    """What a design is to reach: one measure of one parameter, and a bound."""

    rejection: Text | None = Field(None, description="parameter whose test is to reject: its power")
    equivalence: Text | None = Field(
        None, description="estimand that is to be shown to lie within its limits"
    )
    coverage: Text | None = Field(None, description="parameter whose interval is to cover")
    relative_se: Text | None = Field(
        None, description="parameter whose SE, divided by its truth, is to be small"
    )
    ci_width: Text | None = Field(None, description="parameter whose interval is to be narrow")
    rmse: Text | None = Field(None, description="parameter whose error is to be small")
    mde: Text | None = Field(
        None, description="parameter whose smallest effect with 80% power is to be small"
    )
    at_least: AboveZero | None = Field(
        None, description=f"bound of {', '.join(SHARES)}: a share, such as 0.8"
    )
    at_most: AboveZero | None = Field(None, description=f"bound of {', '.join(SIZES)}")

    @property
    def given(self) -> dict[str, str]:
        """Parameter by measure, of those that are given: a sound target has one."""
        named = {name: getattr(self, name) for name in (*SHARES, *SIZES)}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def goal(self) -> Goal:
        """The measure, the parameter and the bound of a sound target."""
        ((measure, parameter),) = self.given.items()
        return Goal(measure, parameter, self.at_least if measure in SHARES else self.at_most)


_PILOT: Any = {  # "from" is a keyword of Python, which no field can be called in a class
    "from": (
        Text | None,
        Field(
            None,
            description="table of a pilot study, seen from the scenario's folder: SDs are those of "
            "the method's formula fitted to it, and truths are drawn from what it leaves open",
        ),
    )
}


class TruthsSpec(create_model("_Pilot", __base__=Record, **_PILOT)):  # type: ignore[misc]
    """Truths that a plan takes into account beside the stated one: `from`, `draws` or `range`."""

    draws: Draws | None = Field(
        None,
        description="number of truths, such as 64, drawn from what a pilot study leaves open of "
        "its SDs: that of `from`, or one with the counts of `design`; values are averages over "
        "them",
    )
    range: dict[str, SweptValues] = Field(
        {}, description="values per key of the truth; each combination is to reach the target"
    )

    @property
    def pilot(self) -> str | None:
        """The name of the pilot's table."""
        name: str | None = getattr(self, "from")
        return name

    @property
    def n_draws(self) -> int | None:
        """How many truths are drawn; None for a range."""
        return self.draws or (DRAWS if self.pilot else None)


class PlanSpec(Record):
    """Which design to take: for `mcsim plan`; a run takes no notice of it."""

    cost: dict[str, AtLeastZero] = Field(
        description="of a unit of each level, of an `observation`, and `fixed`: what a study costs "
        "in any case; the cost of an animal is without that of its images"
    )
    search: dict[str, Counts] = Field(
        description="counts of levels, and of observations, to choose from: { from = 3, to = 60 }, "
        "or a list"
    )
    target: TargetSpec | None = Field(
        None, description='what to reach: { rejection = "diet[T.fed]:x", at_least = 0.8 }'
    )
    targets: tuple[TargetSpec, ...] = Field((), description="several, which are all to be reached")
    budget: AboveZero | None = Field(
        None,
        description="most that a design may cost; a target without a bound is reached as far "
        "as this goes",
    )
    method: Text | None = Field(None, description="method to plan for; unless given the first")
    methods: tuple[Text, ...] = Field(
        (), description="several methods, each with its answer; the cheapest is the answer"
    )
    within: AboveZero | None = Field(
        None,
        description="difference from the bound that does not matter: 0.005 unless given, of a size "
        "2% of the bound",
    )
    truth: TruthsSpec | None = Field(
        None, description="how far the stated truth is in doubt; unless given, not at all"
    )
    effects: tuple[Number, ...] = Field(
        (), description="sizes of the effect at which the power of the answer is told too"
    )

    @property
    def all_targets(self) -> tuple[TargetSpec, ...]:
        """The target and the targets."""
        return (*(() if self.target is None else (self.target,)), *self.targets)

    @property
    def all_methods(self) -> tuple[str, ...]:
        """The method and the methods that are named, each once."""
        return tuple(
            dict.fromkeys([*(() if self.method is None else (self.method,)), *self.methods])
        )
