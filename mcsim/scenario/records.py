"""A scenario: frozen records of the file, which hold what it says and nothing made of it.

A record checks its own fields (values.py); checks/ finds what is wrong between them, and
load.py says where in a file. Everything here trusts that both have passed.
"""

import itertools
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, PrivateAttr, Tag

from mcsim.formula import Formula, parse_formula
from mcsim.scenario.plan import PlanSpec
from mcsim.scenario.plugin_file import Plugin
from mcsim.scenario.residuals import ResidualChoice
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.values import (
    AboveZero,
    AtLeastOne,
    Confidence,
    Count,
    DfMethods,
    Ends,
    EstimandName,
    Estimator,
    FactorLevels,
    Flag,
    FormulaText,
    Interval,
    IntervalMethod,
    MeanAndSd,
    MethodName,
    Name,
    Number,
    Points,
    Positive,
    Record,
    Replicates,
    Resamples,
    Structure,
    SweptValues,
    TargetName,
    TermTest,
    Text,
    UniformCount,
    Whole,
    default_df,
    shape_of_count,
    shape_of_range,
)

_RangeCount = Annotated[
    Annotated[Count, Tag("<number>")] | Annotated[UniformCount, Tag("<range>")],
    Discriminator(shape_of_range),
]
_LevelCount = Annotated[
    Annotated[Count, Tag("<number>")]
    | Annotated[UniformCount, Tag("<range>")]
    | Annotated[dict[str, Positive], Tag("<table>")],
    Discriminator(shape_of_count),
]


class LevelName(Record):
    """The name of a grouping level, whatever else its table holds."""

    model_config = ConfigDict(extra="ignore")

    name: Name = Field(description="name of the level, as formulas write it")


class LevelSpec(LevelName):
    """One grouping level of the design."""

    model_config = ConfigDict(extra="forbid")

    count: _LevelCount = Field(
        description="units per unit of the level above, or per cell of the factors on the "
        "outermost level; { uniform = [low, high] } draws it; the outermost level may have a "
        "count per cell, { fasted = 25, fed = 20 }"
    )


class ObservationsSpec(Record):
    """Observations of each innermost unit."""

    count: _RangeCount = Field(
        description="observations per innermost unit, or { uniform = [low, high] }"
    )


class CovariateSpec(Record):
    """Where a covariate's values come from: exactly one of grid, values, uniform, normal."""

    grid: Ends | None = Field(
        None, description="first and last of points evenly spaced in every innermost unit"
    )
    values: Points | None = Field(
        None, description="the points themselves, the same in every innermost unit"
    )
    uniform: Interval | None = Field(None, description="drawn uniformly between these two")
    normal: MeanAndSd | None = Field(None, description="drawn from a normal: mean and sd")
    level: Text | None = Field(
        None, description="draw one value per unit of this level, not one per observation"
    )


class DesignNames(Record):
    """Names that a design gives to its parts, whatever else its tables hold."""

    model_config = ConfigDict(extra="ignore")

    response: Name = Field("y", description="name of the response column")
    factors: dict[Name, FactorLevels] = Field(
        {}, description="factors between the outermost units; the first level is the reference"
    )
    levels: Annotated[tuple[LevelName, ...], AtLeastOne] = Field(
        description="grouping levels, outermost first", json_schema_extra={"minItems": 1}
    )
    covariates: dict[Name, Any] = Field({}, description="covariates of the observations")

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the grouping levels, outermost first."""
        return tuple(level.name for level in self.levels)

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells of the factors, such as `fed:male`, the last factor changing fastest."""
        return tuple(":".join(cell) for cell in itertools.product(*self.factors.values()))


class DesignSpec(DesignNames):
    """Who is measured, and where."""

    model_config = ConfigDict(extra="forbid")

    levels: Annotated[tuple[LevelSpec, ...], AtLeastOne] = Field(
        description="grouping levels, outermost first", json_schema_extra={"minItems": 1}
    )
    covariates: dict[Name, CovariateSpec] = Field({}, description="covariates, by name")
    observations: ObservationsSpec = Field(description="observations of each innermost unit")
    redraw: Flag = Field(
        False,
        description="draw random counts and covariates anew in every replicate, not once for all",
    )


class MethodSpec(Record):
    """One way to analyse a data set; a list of df methods makes one method for each."""

    name: MethodName = Field(description="name in the results, different for each method")
    formula: FormulaText = Field(description="as in lme4: y ~ diet * x + (x | animal/image)")
    estimator: Estimator = Field("reml", description="how the model is fitted, or plugin:NAME")
    structure: dict[str, Structure] = Field(
        {},
        description="covariance of the effects of a level that the formula writes with one bar: "
        "general (the default), diagonal, identity (one variance) or compound (one variance, one "
        "correlation)",
    )
    residual: ResidualChoice | None = Field(
        None,
        description='residuals that are correlated within innermost units, "ar1" or '
        '"exchangeable", or have an SD per level of a factor, "by:diet"',
    )
    df: DfMethods = Field(
        default_factory=default_df,
        description="degrees of freedom that the estimator gives, a name or a list; unless given "
        "containment, or the first that the estimator has",
    )
    interval: IntervalMethod = Field("wald", description="intervals of the variance components")
    likelihood_ratio: MethodName | None = Field(
        None, description="method of a smaller model, to test against by the likelihood ratio"
    )
    fallback: MethodName | None = Field(
        None,
        description="method whose estimates stand in where this one has none: a summary with "
        "--missing fallback",
    )
    truth: dict[Text, Text] = Field(
        {},
        description="what parameters estimate, where that is not their namesake in the truth: "
        '{ "image.sd(x)" = "total.sd(x)" }',
    )
    resamples: Resamples = Field(200, description="data sets that a bootstrap interval rests on")
    identifiable: bool = Field(
        True,
        description="whether a model with SDs that the design cannot tell apart is refused; false "
        "goes on, and says nothing of them",
    )

    @property
    def parsed(self) -> Formula:
        """The formula, taken apart."""
        return parse_formula(self.formula)

    @property
    def result_names(self) -> list[str]:
        """One name, or with several df methods one per entry: `general/containment`."""
        return [self.name] if len(self.df) == 1 else [f"{self.name}/{df}" for df in self.df]


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
    equivalence: Interval | None = Field(
        None,
        description="of a sum: limits within which it counts as no effect, [-0.1, 0.1]; how often "
        "two one-sided tests show that is the measure `equivalence`",
    )


class Scenario(Record):
    """Everything that determines a study."""

    title: Text = Field("", description="a line for the reader")
    replicates: Replicates = Field(description="simulated data sets per condition")
    seed: Whole = Field(description="start of every random stream")
    confidence: Confidence = Field(0.95, description="level of the intervals")
    target_mcse: dict[TargetName, AboveZero] = Field(
        {},
        description="Monte Carlo errors at which a run may end before `replicates`: "
        '{ coverage = 0.005, "bias(x)" = 0.001 }',
    )
    design: DesignSpec = Field(description="who is measured, and where")
    truth: StatedTruth = Field(description="parameters that the data are generated from")
    methods: Annotated[tuple[MethodSpec, ...], AtLeastOne] = Field(
        description="ways to analyse each data set", json_schema_extra={"minItems": 1}
    )
    estimands: tuple[EstimandSpec, ...] = Field(
        (), description="quantities to estimate beside the parameters of the models"
    )
    sweep: dict[str, SweptValues] = Field(
        {}, description="values per dotted key of design or truth; each combination is a condition"
    )
    plan: PlanSpec | None = Field(
        None, description="which design to take, for `mcsim plan`; a run takes no notice of it"
    )
    _plugin: Plugin | None = PrivateAttr(None)  # of the command line, never of a file

    @property
    def plugin(self) -> Plugin | None:
        """The user's functions that methods with the estimator plugin:NAME call."""
        return self._plugin

    def with_plugin(self, plugin: Plugin) -> "Scenario":
        """The same scenario with a user's functions."""
        scenario = self.model_copy()
        scenario._plugin = plugin
        return scenario


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario file, for editors; the checks between its parts are not in it."""
    schema = Scenario.model_json_schema() | {"title": "mcsim scenario"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
