"""A study from start to end: skip what is done, analyse what is left, commit, report progress."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcsim.errors import DataError, LargerStudyError
from mcsim.results.folder import find_manifest
from mcsim.results.identity import PartContents
from mcsim.results.ranges import GRID, WIDE_GRID, Grid, Range
from mcsim.results.store import Chunk, Store
from mcsim.scenario.records import Scenario
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.responses import prepare_simulator
from mcsim.study.analyse import ChunkAnalyser
from mcsim.study.chunks import (
    MANY_CONDITIONS,
    N_BATCHES,
    Batch,
    batches,
    is_slow,
    left_to_do,
    pieces_of,
    plan_chunks,
)
from mcsim.study.conditions_table import without_truth
from mcsim.study.failures import FailureWatch
from mcsim.study.prepared import PreparedStudy
from mcsim.study.shards import Shard, n_replicates, of_shard
from mcsim.study.warm_up import compile_engine, parts_for
from mcsim.study.workers.dask import Cluster
from mcsim.study.workers.executor import Executor
from mcsim.study.workers.kinds import EXECUTORS, Place
from mcsim.study.workers.processes import usable_cpus
from mcsim.study.workers.signals import stop_on_signals
from mcsim.summary.records import Globs, the_one

NO_TRUTH = (
    "Its columns do not make those of the truth, lack some of a sum in another coding, change with"
    " the rows that a replicate has (center, poly, scale), or it has another link; there is no bias"
    " or coverage. `truth` in the method names what it estimates"
)
SERIAL_ROWS = 10_000_000  # simulated rows below which starting workers costs more than it saves
SERIAL_ROWS_OF_COUNTS = 300_000  # the same of counts and proportions, whose fits take longer


@dataclass(frozen=True)
class Progress:
    """What a finished chunk adds."""

    n_replicates: int
    n_failed: int
    condition: str


@dataclass(frozen=True)
class RunOptions:
    """How to run, without influence on the numbers.

    planned : replicates of the study for now, in place of the scenario's
    grid : of the blocks that are fitted together
    """

    directory: Path
    n_workers: int | None = None
    overwrite: bool = False
    planned: int | None = None
    grid: Grid = GRID
    replicates: Sequence[Range] | None = None
    shard: Shard | None = None
    cluster: Cluster | None = None
    max_failures: float = 1.0
    report: Callable[[str], None] = lambda message: None
    start: Callable[[int], None] = lambda n_replicates: None
    advance: Callable[[Progress], None] = lambda progress: None


def run_study(scenario: Scenario, options: RunOptions) -> Store:
    """Run what is missing of a study into its folder; errors as of `run_prepared`."""
    compile_before_all(options, scenario)
    return run_prepared(PreparedStudy(scenario), options)


def compile_before_all(options: RunOptions, scenario: Scenario) -> None:
    """Compile the engine before there are workers, so that they find it done."""
    with stop_on_signals():
        compile_engine(options.report, parts_for(scenario))


def run_prepared(study: PreparedStudy, options: RunOptions) -> Store:
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
    n_planned = _n_planned(study, options)
    last = max((last for _, last in options.replicates or ()), default=0)
    if last > n_planned:
        raise DataError(f"the study has {n_planned:,} replicates, none {last:,}: add -n {last}")
    for note in (note for one in study.scenario.tables.values() for note in one.file.notes):
        options.report(note)
    _report_columns(study, options.report)
    with stop_on_signals() as guard:
        if options.cluster and (options.overwrite or not options.directory.exists()):
            EXECUTORS["dask"](Place(cluster=options.cluster)).close()  # before there is a folder
        store = _open(study, options, n_planned)
        own = own_chunks(study, store.contents, options)
        chunks = left_to_do(own, store, grid_of(study, options))
        options.start(n_replicates(chunks))
        watch = FailureWatch(chunks, options.max_failures)
        todo = list(batches(study, chunks, n_wanted=N_BATCHES if options.grid else 1))
        with _executor(study, todo, options) as executor:
            for done in executor.map_unordered(ChunkAnalyser(study), todo, on_lost=pieces_of):
                with guard.held():
                    store.commit(done)
                for chunk, files in done:
                    n = n_replicates([chunk])
                    options.advance(Progress(n, files.n_failed, chunk.condition))
                watch.count(done)
        store.tidy()
    return store


def _open(study: PreparedStudy, options: RunOptions, n_planned: int) -> Store:
    """The folder, of which another run may extend the plan at this moment."""
    while True:
        try:
            description = study.description(n_planned)
            return Store.open(options.directory, description, overwrite=options.overwrite)
        except LargerStudyError:
            n_planned = _n_planned(study, options)


def _n_planned(study: PreparedStudy, options: RunOptions) -> int:
    """Replicates of the study for now: what is there is not taken away."""
    wanted = options.planned or study.scenario.replicates
    there = 0 if options.overwrite else find_manifest(options.directory).get("replicates", 0)
    if there > wanted:
        options.report(
            f"The study stays at the {there:,} replicates that it has; this run does those up to"
            f" {wanted:,}."
        )
    return max(wanted, int(there))


def _report_columns(study: PreparedStudy, report: Callable[[str], None]) -> None:
    """Say what methods leave out, what the design leaves open, and what has no truth."""
    found = {
        (name, ready.aliased) for one in study.all_conditions() for name, ready in one.ready.items()
    }
    for name, columns in sorted(pair for pair in found if pair[1]):
        report(f"Method {name!r} leaves out {', '.join(columns)}: the columns before determine it.")
    left_open = {
        (name, parameter.name)
        for one in study.all_conditions()
        for name, ready in one.ready.items()
        for parameter in ready.undetermined
    }
    for name, own in _by_method(left_open):
        report(f"Method {name!r} says nothing of {own}: the design leaves it open.")
    for name, own in _by_method(without_truth(study.table) - left_open):
        report(f"Method {name!r} has no true value of {own}. {NO_TRUTH}")


def _by_method(pairs: Collection[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Methods, and their parameters on one line."""
    for name in sorted({name for name, _ in pairs}):
        yield name, ", ".join(sorted(parameter for method, parameter in pairs if method == name))


def grid_of(study: PreparedStudy, options: RunOptions) -> Grid:
    """That of the options; larger blocks of many conditions, unless shards are to be equal."""
    is_wide = len(study.conditions) > MANY_CONDITIONS and options.shard is None
    return WIDE_GRID if is_wide and options.grid == GRID else options.grid


def own_chunks(
    study: PreparedStudy, parts: Mapping[str, PartContents], options: RunOptions
) -> list[Chunk]:
    """The chunks that a run is to see done, whether they are or not: all, or those of its shard."""
    end = options.planned or study.scenario.replicates
    wanted, grid = options.replicates or [(1, end)], grid_of(study, options)
    is_cut_off = grid == WIDE_GRID and options.replicates is None
    chunks = plan_chunks(study, parts, wanted, grid, end if is_cut_off else None)
    if options.shard is None:
        return chunks
    own = of_shard(chunks, options.shard)
    options.report(
        f"Shard {options.shard}: {n_replicates(own):,} of {n_replicates(chunks):,} data sets."
    )
    return own


def _executor(study: PreparedStudy, todo: Sequence[Batch], options: RunOptions) -> Executor:
    """The cluster, processes, or this process where the work is too small to share."""
    if options.cluster is not None and todo:
        return EXECUTORS["dask"](Place(cluster=options.cluster, report=options.report))
    n_workers = usable_cpus() if options.n_workers is None else options.n_workers
    n_workers = min(n_workers, max(1, len(todo)))
    chunks = [chunk for batch in todo for chunk in batch.chunks]
    n_values = sum(n_replicates([chunk]) * study.n_rows(chunk.condition) for chunk in chunks)
    is_any_slow = any(is_slow(study, chunk.condition, chunk.methods) for chunk in chunks)
    most = SERIAL_ROWS_OF_COUNTS if study.scenario.has_counts else SERIAL_ROWS
    is_small = n_workers == 1 or (n_values < most and not is_any_slow)
    # a user's function may end its process: this one only where it was asked for, for a debugger
    if options.n_workers == 1 or (is_small and not (todo and study.scenario.has_plugin)):
        return EXECUTORS["serial"](Place())
    return EXECUTORS["processes"](Place(n_workers))


def replicate_data(scenario: Scenario, replicate: int, label: Globs | None) -> pd.DataFrame:
    """The data set of one replicate, columns as the scenario names them.

    Raises
    ------
    DataError
        The scenario has several conditions and `label` names none of them.
    """
    by_label = PreparedStudy(scenario).conditions
    condition = by_label[the_one("condition", label, by_label)]
    data = draw_data_set(condition, prepare_simulator(condition, scenario.seed), replicate)
    return data.design.frame.assign(**{scenario.design.response: data.y})
