"""A study from start to end: plan chunks, skip what is done, analyse, commit, report progress."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mcsim import __version__
from mcsim.errors import DataError
from mcsim.methods.r.method import r_record
from mcsim.results.identity import Contents, identify
from mcsim.results.ranges import LARGEST_BLOCK, Range, cut, subtract
from mcsim.results.store import Chunk, Parts, Store, StudyDescription, encode
from mcsim.scenario.estimators import facts_of
from mcsim.scenario.records import Scenario, conditions, study_identity
from mcsim.scenario.write import dump_scenario
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import draw_responses, new_room, prepare_simulator
from mcsim.simulate.streams import stream
from mcsim.study.analyse import analyse_replicate
from mcsim.study.conditions_table import Planned, conditions_table
from mcsim.study.crashes import LostReplicate, failed_parts, pieces_of
from mcsim.study.failures import FailureWatch
from mcsim.study.prepared import PreparedCondition, named, prepare_condition
from mcsim.study.shards import Shard, n_replicates, of_shard
from mcsim.study.tables import (
    estimate_rows,
    fallbacks,
    fit_rows,
    parameters_of,
    with_likelihood_ratios,
)
from mcsim.study.warm_up import compile_engine
from mcsim.study.workers.dask import Cluster, DaskExecutor
from mcsim.study.workers.processes import EXECUTORS, Executor, stop_on_signals, usable_cpus

Floats = NDArray[np.float64]

BLOCK_VALUES = 100_000  # of responses at a time: 0.8 MB, which a processor's cache can hold
KEPT_VALUES = 4_000_000  # of what methods keep of the responses that they analyse together: 32 MB
SLOW_CHUNK_SIZE = 32  # of what takes long, so that little is lost and progress is seen
CHUNK_VALUES = 20_000_000  # of responses in a chunk, for the same reason
SERIAL_ROWS = 10_000_000  # simulated rows below which starting workers costs more than it saves


@dataclass
class ChunkAnalyser:
    """Simulates and fits the replicates of a chunk; sent to every worker once."""

    scenario: Scenario
    _prepared: dict[str, PreparedCondition] = field(default_factory=dict, repr=False)

    def __call__(self, chunk: Chunk) -> tuple[Chunk, Parts]:
        """The chunk with its files, rows in the order replicate, method, parameter."""
        condition = self.prepared(chunk.condition).only(chunk.methods)
        if isinstance(chunk, LostReplicate):
            return chunk, failed_parts(chunk, condition.specs, condition.methods)
        replicates = range(chunk.first, chunk.last + 1)
        if condition.condition.has_own_rows:
            tables = [analyse_replicate(condition, replicate) for replicate in replicates]
        else:
            n_kept = sum(method.n_values for method in condition.methods.values())
            size = max(1, KEPT_VALUES // n_kept)
            tables = [
                _analyse_batch(condition, replicates[first : first + size])
                for first in range(0, len(replicates), size)
            ]
        estimates, fits = zip(*tables, strict=True)
        return chunk, encode(pa.concat_tables(estimates), pa.concat_tables(fits))

    def prepared(self, label: str) -> PreparedCondition:
        """The condition called `label`, prepared at its first use in this process."""
        if label not in self._prepared:
            by_label = {condition.label: condition for condition in conditions(self.scenario)}
            self._prepared[label] = prepare_condition(self.scenario, by_label[label])
        return self._prepared[label]

    def __getstate__(self) -> dict[str, object]:
        return {"scenario": self.scenario, "_prepared": {}}


def _analyse_batch(condition: PreparedCondition, replicates: range) -> tuple[pa.Table, pa.Table]:
    """Simulate block by block, so that few responses are in memory, then fit all together."""
    simulator, methods = condition.simulator, condition.methods
    block_size = min(len(replicates), max(1, BLOCK_VALUES // len(simulator.mean)))
    room = new_room(simulator, block_size)
    taken: dict[str, list[Any]] = {name: [] for name in methods}
    products = []
    for first in range(0, len(replicates), block_size):
        block = draw_responses(simulator, replicates[first : first + block_size], room)
        products.append(block.products)
        for name, method in methods.items():
            taken[name].append(method.take(block.y))

    def stream_of(position: int) -> np.random.Generator:
        return stream(simulator.key, replicates[position], "bootstrap")

    analyses = with_likelihood_ratios(
        condition.specs,
        methods,
        {name: method.analyse(taken[name], stream_of) for name, method in methods.items()},
    )
    analyses = {spec.name: analyses[spec.name] for spec in condition.specs}
    per_level = [np.concatenate(level) for level in zip(*products, strict=True)]
    realized = realized_values(simulator, per_level)
    estimates = estimate_rows(condition.label, replicates, realized, analyses, condition.specs)
    return estimates, fit_rows(condition.label, replicates, analyses)


@dataclass(frozen=True)
class Progress:
    """What a finished chunk adds."""

    n_replicates: int
    n_failed: int


@dataclass(frozen=True)
class RunOptions:
    """How to run, without influence on the numbers.

    planned : replicates of the study for now, in place of the scenario's
    """

    directory: Path
    n_workers: int | None = None
    overwrite: bool = False
    planned: int | None = None
    replicates: Sequence[Range] | None = None
    shard: Shard | None = None
    cluster: Cluster | None = None
    max_failures: float = 1.0
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
    TooManyFailuresError
        More than `max_failures` of the fits failed in the first tenth of a condition.
    """
    planned = conditions(scenario)
    n_planned = options.planned or scenario.replicates
    analyser = ChunkAnalyser(scenario)
    with stop_on_signals():
        compile_engine(options.report)  # before there are workers, so that they find it done
    prepared = [analyser.prepared(one.label) for one in planned]
    _report_aliased(prepared, options.report)
    table = conditions_table(
        scenario, [Planned(one.condition, one.simulator.design, one.methods) for one in prepared]
    )
    description = StudyDescription(
        identity=identify(study_identity(scenario), {one.label: one.identity for one in planned}),
        manifest=_manifest(scenario, n_planned) | r_record(prepared[0].methods),
        scenario_text=dump_scenario(scenario),
        conditions=table,
    )
    with stop_on_signals() as guard:
        store = Store.open(options.directory, description, overwrite=options.overwrite)
        wanted = options.replicates or [(1, n_planned)]
        chunks = _left_to_do(_own_chunks(analyser, store, wanted, options), store)
        options.start(n_replicates(chunks))
        watch = FailureWatch(chunks, options.max_failures)
        with _executor(analyser, chunks, options) as executor:
            results = executor.map_unordered(analyser, chunks, on_lost=pieces_of)
            for chunk, parts in results:
                with guard.held():
                    store.commit_chunk(chunk, parts)
                options.advance(Progress(n_replicates([chunk]), parts.n_failed))
                watch.count(chunk, parts)
        store.tidy()
    return store


def _report_aliased(prepared: Sequence[PreparedCondition], report: Callable[[str], None]) -> None:
    found = {(name, ready.aliased) for one in prepared for name, ready in one.ready.items()}
    for name, columns in sorted(pair for pair in found if pair[1]):
        report(f"Method {name!r} leaves out {', '.join(columns)}: the columns before determine it.")


def _own_chunks(
    analyser: ChunkAnalyser, store: Store, wanted: Sequence[Range], options: RunOptions
) -> list[Chunk]:
    """The chunks that this run is to see done: all, or those of its shard."""
    chunks = plan_chunks(analyser, store, wanted)
    if options.shard is None:
        return chunks
    own = of_shard(chunks, options.shard)
    options.report(
        f"Shard {options.shard}: {len(own)} of {len(chunks)} chunks,"
        f" {n_replicates(own):,} of {n_replicates(chunks):,} data sets."
    )
    return own


def plan_chunks(analyser: ChunkAnalyser, store: Store, wanted: Sequence[Range]) -> list[Chunk]:
    """The chunks of every condition and method, done or not."""
    is_slow = _slowness(analyser.scenario)

    def at_most(contents: Contents) -> int:
        n_rows = len(analyser.prepared(contents.condition).simulator.mean)
        of_rows = max(SLOW_CHUNK_SIZE, CHUNK_VALUES // n_rows)
        return SLOW_CHUNK_SIZE if is_slow(contents) else min(LARGEST_BLOCK, of_rows)

    return [
        Chunk(contents.condition, key, first, last, contents.methods)
        for key, contents in store.contents.items()
        for first, last in cut(wanted, at_most(contents))
    ]


def _left_to_do(chunks: Sequence[Chunk], store: Store) -> list[Chunk]:
    """The chunks without what is in the store."""
    done = store.committed()
    left = [
        replace(chunk, first=first, last=last)
        for chunk in chunks
        for first, last in cut(subtract([(chunk.first, chunk.last)], done.get(chunk.key, ())))
    ]
    # the largest first: the small ones at the end keep all workers busy to the last
    return sorted(left, key=lambda chunk: chunk.first - chunk.last)


def _slowness(scenario: Scenario) -> Callable[[Contents | Chunk], bool]:
    """What says whether replicates of a condition by some methods take long."""
    one_by_one = {one.label for one in conditions(scenario) if one.has_own_rows}
    slow = {
        spec.name
        for spec in scenario.methods
        if facts_of(spec.estimator).is_slow or spec.interval == "bootstrap"
    }

    def is_slow(part: Contents | Chunk) -> bool:
        methods = {spec.name for spec in named(scenario.methods, part.methods)}
        return part.condition in one_by_one or bool(methods & slow)

    return is_slow


def _executor(analyser: ChunkAnalyser, todo: Sequence[Chunk], options: RunOptions) -> Executor:
    """The cluster, processes, or this process where the work is too small to share."""
    if options.cluster is not None and todo:
        return DaskExecutor(options.cluster, options.report)
    n_workers = usable_cpus() if options.n_workers is None else options.n_workers
    n_workers = min(n_workers, max(1, len(todo)))
    n_values = sum(
        n_replicates([chunk]) * len(analyser.prepared(chunk.condition).simulator.mean)
        for chunk in todo
    )
    is_slow = any(map(_slowness(analyser.scenario), todo))
    if n_workers == 1 or (n_values < SERIAL_ROWS and not is_slow):
        return EXECUTORS["serial"](1)
    return EXECUTORS["processes"](n_workers)


def _manifest(scenario: Scenario, n_planned: int) -> dict[str, object]:
    """What a reader of the folder wants to know and the numbers do not depend on."""
    packages = ("numpy", "scipy", "numba", "pyarrow", "formulaic", "statsmodels")
    return {
        "title": scenario.title,
        "confidence": scenario.confidence,
        "replicates": n_planned,
        "fallbacks": fallbacks(scenario),
        "versions": {"mcsim": __version__} | {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def parameter_names(scenario: Scenario) -> list[str]:
    """All that the methods report, in their order; errors as of `prepare_condition`."""
    ready = ChunkAnalyser(scenario).prepared(conditions(scenario)[0].label)
    named = [one for spec in scenario.methods for one in parameters_of(spec, ready.methods)]
    return list(dict.fromkeys(one.name for one in named))


def replicate_data(scenario: Scenario, replicate: int, label: str | None) -> pd.DataFrame:
    """The data set of one replicate, columns as the scenario names them.

    Raises
    ------
    DataError
        The scenario has several conditions and `label` names none of them.
    """
    by_label = {condition.label: condition for condition in conditions(scenario)}
    if label is None and len(by_label) == 1:
        (label,) = by_label
    if label not in by_label:
        raise DataError(
            f"--condition {label!r} is none of the scenario's conditions: {'; '.join(by_label)}"
        )
    condition = by_label[label]
    data = draw_data_set(condition, prepare_simulator(condition, scenario.seed), replicate)
    return data.design.frame.assign(**{scenario.design.response: data.y})
