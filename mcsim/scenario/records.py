"""A scenario: frozen records of the file, which hold what it says and nothing made of it.

A record checks its own fields (values.py); checks/ finds what is wrong between them, and
load.py says where in a file. Everything here trusts that both have passed.
"""

import itertools
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator

from mcsim.errors import FormulaError
from mcsim.formula import Formula, parse_formula
from mcsim.scenario.design import Design
from mcsim.scenario.design_table import DesignTable
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.estimators import df_of_crossed, estimators_of
from mcsim.scenario.families import FAMILIES, GAUSSIAN
from mcsim.scenario.plan import PlanSpec
from mcsim.scenario.plugin_file import PREFIX, Plugin, function_of
from mcsim.scenario.question import QuestionSpec
from mcsim.scenario.residuals import ResidualChoice
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.values import (
    AboveZero,
    AtLeastOne,
    Confidence,
    DfMethods,
    Estimator,
    FamilyName,
    FormulaText,
    IntervalMethod,
    LinkName,
    MethodName,
    QuadraturePoints,
    Record,
    Replicates,
    Resamples,
    Structure,
    SweptValues,
    TargetName,
    Text,
    Whole,
    default_df,
)


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

    @property
    def result_names(self) -> list[str]:
        """One name, or with several df methods one per entry: `general/containment`."""
        return [self.name] if len(self.df) == 1 else [f"{self.name}/{df}" for df in self.df]


def _crossed_levels(design: Any) -> list[str]:
    """Names of the levels that cross with those before them, as far as a design says so."""
    levels = design.get("levels") if isinstance(design, Mapping) else None
    listed = levels if isinstance(levels, list | tuple) else ()
    named = [one for one in listed if isinstance(one, Mapping)]
    return [str(one.get("name")) for one in named if one.get("crossed") is True]


def _with_df(method: Any, crossed: Collection[str]) -> Any:
    """A method with the df that it leaves open, if its units cross: what is usual needs nesting."""
    try:
        paths = [set(term.group) for term in parse_formula(method["formula"]).random]
    except (TypeError, KeyError, FormulaError):  # what is wrong is found by the checks
        return method
    do_cross = any(
        not one <= other and not other <= one and (one | other) & set(crossed)
        for one, other in itertools.combinations(paths, 2)
    )
    if "df" in method or not do_cross:
        return method
    df = df_of_crossed(method.get("estimator", estimators_of(GAUSSIAN)[0]))[:1]
    return {**method, "df": df} if df else method


def _with_estimator(method: Any, of_truth: Any) -> Any:
    """A method, as a file has it, with the estimator that it leaves to its family."""
    if not isinstance(method, Mapping) or "estimator" in method:
        return method
    family = method.get("family") or of_truth
    if family not in FAMILIES or family == GAUSSIAN:
        return method
    return {**method, "estimator": estimators_of(family)[0]}


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
    plan: PlanSpec | None = Field(
        None, description="which design to take, for `mcsim plan`; a run takes no notice of it"
    )
    report: QuestionSpec | None = Field(
        None, description="what the title asks: the report answers that first, and figures show it"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, raw: Any) -> Any:
        """Name what methods leave open, where it is not the usual."""
        truth = raw.get("truth") if isinstance(raw, Mapping) else None
        methods = raw.get("methods") if isinstance(truth, Mapping) else None
        if not isinstance(methods, list | tuple) or not isinstance(truth, Mapping):
            return raw
        of_truth, crossed = truth.get("family", GAUSSIAN), _crossed_levels(raw.get("design"))
        found = [_with_df(_with_estimator(one, of_truth), crossed) for one in methods]
        return {**raw, "methods": found}

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

    def refuse_lacking_functions(self) -> None:
        """Raise a DataError where a method is a function of a file that is not there."""
        for spec in self.methods:
            if spec.estimator.startswith(PREFIX):
                function_of(self.plugin, spec.estimator)

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
