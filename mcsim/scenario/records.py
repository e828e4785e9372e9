"""A scenario: frozen records of the file, which hold what it says and nothing made of it.

A record checks its own fields (values.py); checks/ finds what is wrong between them, and
load.py says where in a file. Everything here trusts that both have passed.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, PrivateAttr, Tag, model_validator

from mcsim.formula import Formula, parse_formula
from mcsim.scenario.design_table import DesignTable
from mcsim.scenario.estimators import estimators_of
from mcsim.scenario.families import FAMILIES, GAUSSIAN
from mcsim.scenario.plugin_file import PREFIX, Plugin
from mcsim.scenario.residuals import ResidualChoice
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.values import (
    OBSERVATION,
    AboveZero,
    AtLeastOne,
    Confidence,
    Count,
    Dealt,
    DfMethods,
    Ends,
    EstimandName,
    Estimator,
    FactorLevels,
    FactorPlace,
    FamilyName,
    Flag,
    FormulaText,
    Interval,
    IntervalMethod,
    LinkName,
    MeanAndSd,
    MethodName,
    Name,
    Number,
    Points,
    Positive,
    QuadraturePoints,
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
    shape_of_design,
    shape_of_factor,
)

_Count = Annotated[
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

    count: _Count = Field(
        description="units per unit of the level above and per cell of this level's own factors; "
        "{ uniform = [low, high] } draws it; { fasted = 25, fed = 20 } has a count per cell of the "
        'factors down to this level, joined by colons: { "fasted:portal" = 3, ... }'
    )


class ObservationsSpec(Record):
    """Observations of each innermost unit."""

    count: _Count = Field(
        description="observations per innermost unit and per cell of the factors of observations; "
        "or { uniform = [low, high] }, or a count per cell"
    )


class StartsSpec(Record):
    """When units start, one group of them after the other, as in a stepped wedge."""

    level: Text = Field(description="level whose units start, as many at each step, in order")
    along: Text = Field(description="factor or covariate whose values are the steps, in order")


class CovariateSpec(Record):
    """Where a covariate's values come from: exactly one of the sources."""

    grid: Ends | None = Field(
        None,
        description="first and last of points evenly spaced in every innermost unit, and per cell "
        "of the factors of observations",
    )
    values: Points | None = Field(
        None, description="the points themselves, the same wherever a grid would be"
    )
    uniform: Interval | None = Field(None, description="drawn uniformly between these two")
    normal: MeanAndSd | None = Field(None, description="drawn from a normal: mean and sd")
    starts: StartsSpec | None = Field(
        None,
        description="0, and 1 once the unit has started, none at the first step and all at the "
        'last: { level = "cluster", along = "period" }',
    )
    level: Text | None = Field(
        None, description="draw one value per unit of this level, not one per observation"
    )


class FactorSpec(Record):
    """A factor that says whose it is."""

    levels: FactorLevels = Field(description="its levels; the first is the reference")
    of: FactorPlace = Field(
        description="level between whose units it varies, every unit of the level above having "
        'units of each cell; "observation": it varies within innermost units; or a list of two, '
        "levels or other factors, between whose cells `dealt` says how"
    )
    dealt: Dealt | None = Field(
        None,
        description="of two: a Latin square, each unit of the first has the levels in turn along "
        "the second, starting with another one than the unit before",
    )


_Factor = Annotated[
    Annotated[FactorLevels, Tag("<levels>")] | Annotated[FactorSpec, Tag("<factor>")],
    Discriminator(shape_of_factor),
]


def cells_of(factors: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Cells of factors, such as `fed:male`, the last factor changing fastest."""
    return tuple(":".join(cell) for cell in itertools.product(*factors.values()))


class _DesignParts(Record):
    """Names that every design gives to its parts."""

    response: Name = Field("y", description="name of the response column")
    factors: dict[Name, _Factor] = Field(
        {},
        description="factors between the outermost units, by their levels, of which the first is "
        'the reference; of others { levels = ["portal", "central"], of = "image" }',
    )
    levels: Annotated[tuple[LevelName, ...], AtLeastOne] = Field(
        description="grouping levels, outermost first", json_schema_extra={"minItems": 1}
    )

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the grouping levels, outermost first."""
        return tuple(level.name for level in self.levels)

    @property
    def places(self) -> tuple[str, ...]:
        """What factors may be of: the levels, outermost first, and observations."""
        rows = OBSERVATION if OBSERVATION not in self.level_names else ""  # then that is a level
        return (*self.level_names, rows)

    @property
    def factor_levels(self) -> dict[str, tuple[str, ...]]:
        """The levels of every factor."""
        return {
            name: one.levels if isinstance(one, FactorSpec) else one
            for name, one in self.factors.items()
        }

    @property
    def factor_places(self) -> dict[str, str | tuple[str, str]]:
        """What every factor is of: one of the places, or two names that it is dealt between."""
        return {
            name: one.of if isinstance(one, FactorSpec) else self.level_names[0]
            for name, one in self.factors.items()
        }

    def factors_of(self, *places: str) -> dict[str, tuple[str, ...]]:
        """Levels of the factors of some places, those of the first place first."""
        levels, of = self.factor_levels, self.factor_places
        return {name: levels[name] for place in places for name in levels if of[name] == place}

    def factors_down_to(self, place: str) -> dict[str, tuple[str, ...]]:
        """Levels of the factors of a place and of those around it, outermost first."""
        return self.factors_of(*self.places[: self.places.index(place) + 1])

    @property
    def plain_factors(self) -> dict[str, Any]:
        """The factors as a file has them, those of the outermost level as a list."""
        raw = self.model_dump(include={"factors"}, exclude_defaults=True).get("factors", {})
        levels, of, outermost = self.factor_levels, self.factor_places, self.level_names[0]
        return {n: levels[n] if of[n] == outermost else one for n, one in raw.items()}


class DesignNames(_DesignParts):
    """Names of the parts of a design, whatever else its tables hold."""

    model_config = ConfigDict(extra="ignore")

    covariates: dict[Name, Any] = Field({}, description="covariates of the observations")


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


class TableLevel(LevelName):
    """A column of a table that tells units apart."""

    model_config = ConfigDict(extra="forbid")


class TableDesignSpec(_DesignParts):
    """A design that is a table: a row per observation, columns of units, factors and covariates."""

    table: Text = Field(
        description="file of the table, CSV, Parquet or Excel, seen from the scenario's folder"
    )
    levels: Annotated[tuple[TableLevel, ...], AtLeastOne] = Field(
        description="columns that tell units apart, outermost first; labels count within the units "
        "of the level above",
        json_schema_extra={"minItems": 1},
    )
    factors: dict[Name, FactorLevels] = Field(  # type: ignore[assignment]
        {},
        description="levels of factors, where the first is to be another than that of the alphabet,"
        " or where they are numbers; other columns of text are factors, those of numbers are "
        "covariates",
    )
    copies: dict[Text, Positive] = Field(
        {},
        description="how often the units of a level stand in the design, each with all that lies "
        "within it and a label of its own: { animal = 3 }",
    )

    @property
    def redraw(self) -> bool:
        """Whether replicates draw the design anew: nothing of a table is drawn."""
        return False


Design = Annotated[
    Annotated[DesignSpec, Tag("<units>")] | Annotated[TableDesignSpec, Tag("<rows>")],
    Discriminator(shape_of_design),
]


class MethodSpec(Record):
    """One way to analyse a data set; a list of df methods makes one method for each."""

    name: MethodName = Field(description="name in the results, different for each method")
    formula: FormulaText = Field(description="as in lme4: y ~ diet * x + (x | animal/image)")
    estimator: Estimator = Field(
        "reml",
        description="how the model is fitted, or plugin:NAME; unless given laplace for counts and "
        "proportions",
    )
    family: FamilyName | None = Field(
        None, description="what the responses are taken for; unless given what they are"
    )
    link: LinkName | None = Field(
        None, description="of that family; unless given that of the truth, or the family's first"
    )
    quadrature: QuadraturePoints | None = Field(
        None,
        description="points of adaptive Gauss-Hermite quadrature per random effect; 1 (the "
        "default) is Laplace's approximation",
    )
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


def _with_estimator(method: Any, of_truth: Any) -> Any:
    """A method, as a file has it, with the estimator that it leaves to its family."""
    if not isinstance(method, Mapping) or "estimator" in method:
        return method
    family = method.get("family") or of_truth
    if family not in FAMILIES or family == GAUSSIAN:
        return method
    return {**method, "estimator": estimators_of(family)[0]}


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
    design: Design = Field(description="who is measured, and where")
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

    @model_validator(mode="before")
    @classmethod
    def _with_estimators(cls, raw: Any) -> Any:
        """Name the estimators of methods that name none, where it is not the usual one."""
        truth = raw.get("truth") if isinstance(raw, Mapping) else None
        methods = raw.get("methods") if isinstance(truth, Mapping) else None
        if not isinstance(methods, list | tuple) or not isinstance(truth, Mapping):
            return raw
        of_truth = truth.get("family", GAUSSIAN)
        return {**raw, "methods": [_with_estimator(one, of_truth) for one in methods]}

    _plugin: Plugin | None = PrivateAttr(None)  # of the command line, never of a file
    _tables: dict[str, DesignTable] = PrivateAttr({})  # files of their own

    @property
    def has_counts(self) -> bool:
        """Whether a method takes the responses for counts or proportions."""
        families = {spec.family or self.truth.family or GAUSSIAN for spec in self.methods}
        return families != {GAUSSIAN}

    @property
    def plugin(self) -> Plugin | None:
        """The user's functions that methods with the estimator plugin:NAME call."""
        return self._plugin

    @property
    def has_plugin(self) -> bool:
        """Whether a method is a user's function."""
        return any(spec.estimator.startswith(PREFIX) for spec in self.methods)

    def with_plugin(self, plugin: Plugin) -> "Scenario":
        """The same scenario with a user's functions."""
        scenario = self.model_copy()
        scenario._plugin = plugin
        return scenario

    @property
    def tables(self) -> dict[str, DesignTable]:
        """The tables that designs are made of, by name."""
        return self._tables

    def with_tables(self, tables: dict[str, DesignTable]) -> "Scenario":
        """The same scenario with the tables that it names."""
        scenario = self.model_copy()
        scenario._tables = tables
        return scenario


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario file, for editors; the checks between its parts are not in it."""
    schema = Scenario.model_json_schema() | {"title": "mcsim scenario"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
