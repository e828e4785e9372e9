"""What the replicates of a condition share: its simulator, and methods ready for its design."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from mcsim.design.columns import ModelColumns, ModelFrame, model_columns, without_columns
from mcsim.errors import DataError
from mcsim.methods.likelihood import Reducers
from mcsim.methods.method import Method, MethodSettings
from mcsim.methods.registry import left_out, prepare_method
from mcsim.scenario.records import Condition, MethodSpec, Scenario
from mcsim.scenario.residuals import residual_model
from mcsim.simulate.responses import Simulator, prepare_simulator


@dataclass(frozen=True)
class ReadyMethod:
    """A method that is ready for the responses of one design.

    columns : of the model; aliased : fixed effects that it leaves out since others determine them
    """

    spec: MethodSpec
    settings: MethodSettings
    method: Method
    columns: ModelColumns
    aliased: tuple[str, ...]


@dataclass(frozen=True)
class PreparedCondition:
    """A condition with everything its replicates share.

    ready : by name, the methods of `specs` and those that they are tested against
    known : by hash of the rows and name, methods for replicates that have rows of their own
    """

    condition: Condition
    simulator: Simulator
    specs: tuple[MethodSpec, ...]
    ready: dict[str, ReadyMethod]
    known: dict[tuple[bytes, str], ReadyMethod] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """Name of the condition in the results."""
        return self.condition.label

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by name."""
        return {name: one.method for name, one in self.ready.items()}

    def only(self, names: Collection[str]) -> "PreparedCondition":
        """The same with some methods, and those that they are tested against; all if none named."""
        specs = named(self.specs, names)
        needed = {spec.name for spec in specs} | {spec.likelihood_ratio for spec in specs}
        ready = {name: one for name, one in self.ready.items() if name in needed}
        return replace(self, specs=specs, ready=ready)


def named(specs: tuple[MethodSpec, ...], names: Collection[str]) -> tuple[MethodSpec, ...]:
    """The methods with these names; all if none named."""
    return tuple(spec for spec in specs if not names or spec.name in names)


def prepare_condition(scenario: Scenario, condition: Condition) -> PreparedCondition:
    """Build the design, the simulator and every method of a condition.

    Raises
    ------
    DataError
        A method cannot be fitted to this design; names the condition and the method.
    """
    simulator = prepare_simulator(condition, scenario.seed)
    data, shared = ModelFrame(simulator.design.frame), Reducers()
    ready = {}
    for spec in scenario.methods:
        settings = _settings(scenario, spec)
        try:
            columns = model_columns(spec.parsed, data, spec.structure)
            method = prepare_method(columns, settings, shared)
        except DataError as error:
            raise DataError(
                f"method {spec.name!r} in condition {condition.label}: {error}"
            ) from error
        aliased = left_out(columns, settings)
        ready[spec.name] = ReadyMethod(spec, settings, method, columns, aliased)
    return PreparedCondition(condition, simulator, scenario.methods, ready)


def prepare_again(before: ReadyMethod, data: ModelFrame, shared: Reducers) -> ReadyMethod:
    """The method for other rows, with the fixed effects that it has in the condition's design.

    Raises
    ------
    DataError
        The rows cannot support the model.
    """
    spec = before.spec
    columns = model_columns(spec.parsed, data, spec.structure)
    columns = without_columns(columns, before.aliased)
    method = prepare_method(columns, before.settings, shared)
    return replace(
        before, method=method, columns=columns, aliased=left_out(columns, before.settings)
    )


def _settings(scenario: Scenario, spec: MethodSpec) -> MethodSettings:
    return MethodSettings(
        spec.estimator,
        spec.df,
        scenario.confidence,
        scenario.estimands,
        spec.interval,
        spec.resamples,
        scenario.plugin,
        residual_model(spec.residual),
    )
