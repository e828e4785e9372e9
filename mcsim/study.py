"""A study from start to end: plan the chunks, skip what is done, analyse, commit, report progress."""

import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim import __version__
from mcsim.design import model_columns
from mcsim.engine import compiled
from mcsim.errors import McsimError, Problem, ScenarioError, DataError
from mcsim.executors import EXECUTORS, Executor, usable_cpus
from mcsim.formula import parse_formula
from mcsim.loading import dump_scenario
from mcsim.methods import Analysis, Method, MethodSettings, prepare_method
from mcsim.scenario import Condition, MethodSpec, Scenario, expand_sweep, study_identity
from mcsim.simulate import ResponseBlock, Simulator, draw_responses, prepare_simulator, true_values
from mcsim.store import ESTIMATES_SCHEMA, FITS_SCHEMA, Chunk, Store

Floats = NDArray[np.float64]

BLOCK_VALUES = 500_000  # responses in memory at a time, as numbers: 4 MB
SERIAL_ROWS = 2_000_000  # simulated rows below which starting workers costs more than it saves


@dataclass(frozen=True)
class PreparedCondition:
    """A condition with everything its replicates share."""

    label: str
    simulator: Simulator
    methods: dict[str, Method]


@dataclass
class ChunkAnalyser:
    """Simulates and fits the replicates of a chunk; sent to every worker once."""

    scenario: Scenario
    _prepared: dict[str, PreparedCondition] = field(default_factory=dict, repr=False)

    def __call__(self, chunk: Chunk) -> tuple[Chunk, pa.Table, pa.Table]:
        """The chunk with its estimates and fits, rows in the order replicate, method, parameter."""
        condition = self.prepared(chunk.condition)
        n_rows = len(condition.simulator.mean)
        block_size = max(1, BLOCK_VALUES // n_rows)
        estimates, fits = [], []
        for first in range(chunk.first, chunk.last + 1, block_size):
            replicates = range(first, min(first + block_size, chunk.last + 1))
            block = draw_responses(condition.simulator, replicates)
            analyses = {
                name: method.analyse(block.y) for name, method in condition.methods.items()
            }
            estimates.append(_estimate_rows(condition.label, block, analyses))
            fits.append(_fit_rows(condition.label, block, analyses))
        return chunk, pa.concat_tables(estimates), pa.concat_tables(fits)

    def prepared(self, label: str) -> PreparedCondition:
        """The condition called `label`, prepared at its first use in this process."""
        if label not in self._prepared:
            by_label = {condition.label: condition for condition in expand_sweep(self.scenario)}
            self._prepared[label] = prepare_condition(self.scenario, by_label[label])
        return self._prepared[label]

    def __getstate__(self) -> dict[str, object]:
        return {"scenario": self.scenario, "_prepared": {}}


def prepare_condition(scenario: Scenario, condition: Condition) -> PreparedCondition:
    """Build the design, the simulator and every method of a condition.

    Raises
    ------
    DataError
        A method cannot be fitted to this design; names the condition and the method.
    """
    simulator = prepare_simulator(condition, scenario.seed)
    methods = {}
    for spec in scenario.methods:
        try:
            columns = model_columns(parse_formula(spec.formula), simulator.design.frame)
            settings = MethodSettings(spec.estimator, spec.df, scenario.confidence)
            methods[spec.name] = prepare_method(columns, settings)
        except DataError as error:
            raise DataError(f"method {spec.name!r} in condition {condition.label}: {error}") from error
    return PreparedCondition(condition.label, simulator, methods)


@dataclass(frozen=True)
class Progress:
    """What a finished chunk adds."""

    n_replicates: int
    n_failed: int


@dataclass(frozen=True)
class RunOptions:
    """How to run, without influence on the numbers."""

    directory: Path
    n_workers: int | None = None
    overwrite: bool = False
    replicates: tuple[tuple[int, int], ...] | None = None
    report: Callable[[str], None] = lambda message: None
    start: Callable[[int], None] = lambda n_replicates: None
    advance: Callable[[Progress], None] = lambda progress: None


def run_study(scenario: Scenario, options: RunOptions) -> Store:
    """Run what is missing of a study into its folder.

    Raises
    ------
    StudyMismatchError
        The folder holds another study.
    DataError
        A method cannot be fitted to a design of the scenario.
    """
    conditions = expand_sweep(scenario)
    if compiled.is_cold():
        options.report("Compiling the engine: once per machine and version, about a minute.")
    analyser = ChunkAnalyser(scenario)
    table = conditions_table(scenario, [analyser.prepared(one.label) for one in conditions])
    store = Store.open(
        options.directory,
        identity=study_identity(scenario),
        manifest=_manifest(scenario, conditions),
        scenario_text=dump_scenario(scenario),
        conditions=table,
        overwrite=options.overwrite,
    )
    chunks = plan_chunks(scenario, conditions, store, options.replicates)
    options.start(sum(chunk.last - chunk.first + 1 for chunk in chunks))
    with _executor(analyser, chunks, options.n_workers) as executor:
        for chunk, estimates, fits in executor.map_unordered(analyser, chunks):
            store.commit_chunk(chunk, estimates, fits)
            options.advance(_progress(chunk, fits))
    return store
