"""A study with its conditions expanded once, each made ready at its first use.

What the replicates of a condition share is its simulator, and methods ready for its design; what
conditions share that differ in the truth alone are the design and these methods.
"""

import platform
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from mcsim import __version__
from mcsim.design.columns import (
    ModelColumns,
    ModelFrame,
    model_columns,
    without_columns,
)
from mcsim.design.population import Population
from mcsim.design.units import Design, is_drawn
from mcsim.errors import DataError
from mcsim.methods.likelihood import Reducers
from mcsim.methods.method import Method, MethodSettings
from mcsim.methods.r.method import r_record
from mcsim.methods.registry import left_out, prepare_method, undetermined
from mcsim.names import Parameter
from mcsim.results.folder import TABLES
from mcsim.results.identity import Identity, identify
from mcsim.results.store import StudyDescription
from mcsim.scenario.conditions import Condition, conditions, study_identity
from mcsim.scenario.families import is_on_scale, model_of
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.scenario.residuals import residual_model
from mcsim.scenario.write import dump_scenario
from mcsim.simulate.responses import Simulator, prepare_replicate, prepare_simulator
from mcsim.simulate.streams import stream_key
from mcsim.study.at_truth import AtTruth, KnownLeastSquares, methods_at_truth
from mcsim.study.conditions_table import Planned, conditions_table
from mcsim.study.implied_truth import Change, changes_of
from mcsim.study.nested_models import why_not_nested
from mcsim.study.ready import ReadyMethod
from mcsim.study.tables import fallbacks, parameters_of

T = TypeVar("T")

OTHER_DRAWS = (1, 2, 3)  # replicates whose designs a refusal is tried with
version_of = cache(version)  # which reads a file
PACKAGES = ("numpy", "scipy", "numba", "pyarrow", "formulaic", "statsmodels")


@dataclass(frozen=True)
class ReadyDesign:
    """A design and, by name, the methods ready for it."""

    design: Design
    ready: dict[str, ReadyMethod]


Designs = dict[str, ReadyDesign]  # by what determines them; those that are drawn are not kept


@dataclass(frozen=True)
class PreparedCondition:
    """A condition with everything its replicates share.

    ready : by name, the methods of `specs` and those that they are tested against
    """

    condition: Condition
    simulator: Simulator
    specs: tuple[MethodSpec, ...]
    ready: dict[str, ReadyMethod]
    _known: KnownLeastSquares = field(default_factory=dict, repr=False)
    _found: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, what: str, find: Callable[["PreparedCondition"], T]) -> T:
        """What `find` says of these methods of the condition, found at the first question."""
        key = " ".join([what, *map(repr, self.ready)])
        if key not in self._found:
            self._found[key] = find(self)
        found: T = self._found[key]
        return found

    def forget(self) -> None:
        """Find all anew at the next question: what was found takes memory."""
        self._known.clear()
        self._found.clear()

    @property
    def label(self) -> str:
        """Name of the condition in the results."""
        return self.condition.label

    @property
    def other_scale(self) -> set[str]:
        """Methods whose parameters are not on the scale of the truth's link."""
        truth = self.condition.truth
        return {spec.name for spec in self.specs if not is_on_scale(spec, truth)}

    @property
    def changes(self) -> dict[str, dict[str, Change]]:
        """By method and level, how it writes random effects that the truth has otherwise."""
        return self.once("changes", _changes_of_methods)

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by name."""
        return {name: one.method for name, one in self.ready.items()}

    @property
    def columns(self) -> dict[str, ModelColumns]:
        """The columns of the methods' models by name."""
        return {name: one.columns for name, one in self.ready.items()}

    @property
    def undetermined(self) -> dict[str, frozenset[Parameter]]:
        """What the design leaves open of the methods' models by name."""
        return {name: one.undetermined for name, one in self.ready.items()}

    @property
    def at_truth(self) -> dict[str, AtTruth]:
        """By name, methods whose fixed effects have a known distribution at the truth."""
        return self.once(
            "at truth",
            lambda one: methods_at_truth(one.condition, one.simulator, one.ready, one._known),
        )

    def only(self, names: Collection[str]) -> "PreparedCondition":
        """The same with some methods, and those that they are tested against; all if none named."""
        specs = named(self.specs, names)
        needed = {spec.name for spec in specs} | {spec.likelihood_ratio for spec in specs}
        ready = {name: one for name, one in self.ready.items() if name in needed}
        return replace(self, specs=specs, ready=ready)


def named(specs: tuple[MethodSpec, ...], names: Collection[str]) -> tuple[MethodSpec, ...]:
    """The methods with these names; all if none named."""
    return tuple(spec for spec in specs if not names or spec.name in names)


class PreparedStudy:
    """A scenario with all that is made of it once; travels without what is made at first use.

    conditions : by label, in the order of the sweep
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.conditions = {one.label: one for one in conditions(scenario)}
        self._prepared: dict[str, PreparedCondition] = {}
        self._designs: Designs = {}

    def condition(self, label: str) -> PreparedCondition:
        """The condition called `label`, prepared at its first use; errors as there."""
        if label not in self._prepared:
            condition = self.conditions[label]
            self._prepared[label] = prepare_condition(self.scenario, condition, self._designs)
        return self._prepared[label]

    def all_conditions(self) -> list[PreparedCondition]:
        """Every condition, prepared."""
        return [self.condition(label) for label in self.conditions]

    def some(self, n: int) -> "PreparedStudy":
        """The same with at most `n` conditions, evenly spaced from the first to the last."""
        labels, few = list(self.conditions), copy(self)
        chosen = np.linspace(0, len(labels) - 1, min(n, len(labels))).round().astype(int)
        few.conditions = {labels[i]: self.conditions[labels[i]] for i in chosen}
        few.__dict__.pop("table", None)  # that of all conditions
        return few

    def n_rows(self, label: str) -> int:
        """Observations of a data set, before any are lost."""
        return len(self.condition(label).simulator.mean)

    @property
    def identity(self) -> Identity:
        """What determines the study's numbers."""
        of_conditions = {label: one.identity for label, one in self.conditions.items()}
        return identify(study_identity(self.scenario), of_conditions)

    @cached_property
    def table(self) -> pa.Table:
        """The table of conditions."""
        planned = [
            Planned(one.condition, one.simulator.design, one.methods, one.columns, one.undetermined)
            for one in self.all_conditions()
        ]
        return conditions_table(self.scenario, planned)

    @property
    def parameters(self) -> dict[str, list[Parameter]]:
        """All that each method reports, in the first condition."""
        methods = self.condition(next(iter(self.conditions))).methods
        return {spec.name: parameters_of(spec, methods) for spec in self.scenario.methods}

    def description(self, n_planned: int) -> StudyDescription:
        """What the folder of the study says of it."""
        first = self.condition(next(iter(self.conditions)))
        return StudyDescription(
            identity=self.identity,
            manifest=_manifest(self.scenario, n_planned) | r_record(first.methods),
            scenario_text=dump_scenario(self._of_size(n_planned), tables_in=TABLES),
            conditions=self.table,
            tables={name: one.content for name, one in self.scenario.tables.items()},
        )

    def _of_size(self, n_planned: int) -> Scenario:
        """The scenario, of as many replicates as the study has if it has more."""
        n_replicates = max(self.scenario.replicates, n_planned)
        return self.scenario.model_copy(update={"replicates": n_replicates})

    def __getstate__(self) -> dict[str, object]:
        return {
            "scenario": self.scenario,
            "conditions": self.conditions,
            "_prepared": {},
            "_designs": {},
        }


def _manifest(scenario: Scenario, n_planned: int) -> dict[str, object]:
    """What a reader of the folder wants to know and the numbers do not depend on."""
    asked = {"report": scenario.report.model_dump()} if scenario.report else {}
    return {
        "title": scenario.title,
        **asked,
        "confidence": scenario.confidence,
        "replicates": n_planned,
        "fallbacks": fallbacks(scenario),
        "versions": {"mcsim": __version__} | {name: version_of(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def prepare_condition(
    scenario: Scenario, condition: Condition, designs: Designs | None = None
) -> PreparedCondition:
    """Build the design, the simulator and every method of a condition.

    Parameters
    ----------
    designs : of other conditions of the scenario; gains that of this one

    Raises
    ------
    DataError
        A method cannot be fitted to this design; names the condition and the method.
    """
    designs = {} if designs is None else designs
    key = condition.identity
    if not is_drawn(condition.design):
        truth = condition.truth  # what of it methods are told
        key = f"{condition.design.model_dump_json()} {truth.family} {truth.link} {truth.trials}"
    known = designs.get(key)
    design = None if known is None else known.design
    simulator = prepare_simulator(condition, scenario.seed, design)
    if known is None:
        ready = _ready_methods(scenario, condition, simulator.design)
        known = ReadyDesign(simulator.design, ready)
        if not is_drawn(condition.design):
            designs[key] = known
    return PreparedCondition(condition, simulator, scenario.methods, known.ready)


def _changes_of_methods(condition: PreparedCondition) -> dict[str, dict[str, Change]]:
    design = condition.simulator.design
    return {
        name: changes_of(one.columns, design, condition.condition)
        for name, one in condition.ready.items()
    }


def _ready_methods(
    scenario: Scenario, condition: Condition, design: Design
) -> dict[str, ReadyMethod]:
    data, shared = ModelFrame(design.frame), Reducers()
    population = Population(design.frame, has_others=condition.has_own_rows)
    ready = {}
    for spec in scenario.methods:
        settings = replace(settings_of(scenario, spec, condition), population=population)
        try:
            ready[spec.name] = _ready_for(design, spec, settings, data, shared)
        except DataError as error:
            where = f"method {spec.name!r} in condition {condition.label}"
            of_draw = _of_draw(scenario, condition, spec, str(error))
            raise DataError(f"{where}: {error}{of_draw}") from error
    for spec in scenario.methods:
        if (other := spec.likelihood_ratio) and (
            why := why_not_nested(ready[spec.name], ready[other])
        ):
            raise DataError(
                f"method {spec.name!r} in condition {condition.label}: likelihood_ratio ="
                f" {other!r} names no smaller model: {why}"
            )
    return ready


def _ready_for(
    design: Design, spec: MethodSpec, settings: MethodSettings, data: ModelFrame, shared: Reducers
) -> ReadyMethod:
    formula = spec.parsed.outermost_first(list(design.unit_of_row).index)
    return _ready(spec, settings, model_columns(formula, data, spec.structure), shared)


def _of_draw(scenario: Scenario, condition: Condition, spec: MethodSpec, refusal: str) -> str:
    """What a refusal is about, where designs that are drawn otherwise have another, or none."""
    if not is_drawn(condition.design):
        return ""
    settings, key = (
        settings_of(scenario, spec, condition),
        stream_key(scenario.seed, condition.identity),
    )
    for replicate in OTHER_DRAWS:
        design = prepare_replicate(condition, key, replicate).design
        try:
            _ready_for(design, spec, settings, ModelFrame(design.frame), Reducers())
        except DataError as error:
            if str(error) == refusal:
                continue
        own = ", not those that replicates draw for themselves (`redraw`)" * condition.design.redraw
        draws = f"This is about the one design that seed {scenario.seed} draws for the condition"
        return f". {draws}{own}"
    return ""


def _ready(
    spec: MethodSpec, settings: MethodSettings, columns: ModelColumns, shared: Reducers
) -> ReadyMethod:
    method = prepare_method(columns, settings, shared)
    is_open = undetermined(method, columns, settings, shared)
    return ReadyMethod(spec, settings, method, columns, left_out(columns, settings), is_open)


def prepare_again(before: ReadyMethod, data: ModelFrame, shared: Reducers) -> ReadyMethod:
    """The method for other rows, with the fixed effects that it has in the condition's design.

    Raises
    ------
    DataError
        The rows cannot support the model.
    """
    columns = model_columns(before.columns.formula, data, before.spec.structure)
    return prepare_columns(before, without_columns(columns, before.aliased), shared)


def prepare_columns(before: ReadyMethod, columns: ModelColumns, shared: Reducers) -> ReadyMethod:
    """The same, of columns without the fixed effects that the method leaves out."""
    return _ready(before.spec, before.settings, columns, shared)


def settings_of(scenario: Scenario, spec: MethodSpec, condition: Condition) -> MethodSettings:
    """What the scenario says of a method beside its formula."""
    return MethodSettings(
        spec.estimator,
        spec.df,
        scenario.confidence,
        scenario.estimands,
        spec.interval,
        spec.resamples,
        scenario.plugin,
        residual_model(spec.residual),
        spec.identifiable,
        model_of(spec, condition.truth),
    )
