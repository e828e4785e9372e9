"""What a run would do, before it does it: the design in words, time, disk, replicates needed."""

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mcsim.design.words import design_in_words, factors_in_words
from mcsim.errors import StudyMismatchError
from mcsim.methods.r.method import r_calls
from mcsim.names import SIGMA, shown_label
from mcsim.results.folder import contents_of, find_manifest
from mcsim.results.identity import grow
from mcsim.results.ranges import Range, merge
from mcsim.results.store import Chunk, Store, refuse_another_study
from mcsim.scenario.conditions import Condition
from mcsim.scenario.records import Scenario
from mcsim.scenario.true_values import truth_of
from mcsim.study.analyse import ChunkAnalyser
from mcsim.study.chunks import left_to_do
from mcsim.study.own_plan import fitted_together
from mcsim.study.prepared import PreparedCondition, PreparedStudy
from mcsim.study.run import RunOptions, grid_of, own_chunks
from mcsim.study.shards import n_replicates
from mcsim.study.stopping import (
    Largest,
    Target,
    largest_mcse,
    needed_replicates,
    read_targets,
    refuse_unknown_parameters,
)
from mcsim.study.workers.processes import usable_cpus
from mcsim.summary.summarize import summarize

PILOT_S = 5.0  # what the replicates that are tried may take, about
PILOT_REPLICATES = 200
FIRST_REPLICATES = 10  # of a condition: they also load what the others need
PILOT_CONDITIONS = 12  # of a larger sweep, these are tried, evenly spaced
ONE_BY_ONE = (
    "Replicates have rows of their own, for which {} prepared one by one: about {:.0f} ms each"
)

Targets = Mapping[str, float]  # MCSE wanted, by `measure` or `measure(parameter)`


@dataclass(frozen=True)
class Pilot:
    """What some replicates of some conditions took, and what they say."""

    seconds_per_replicate: float  # of all conditions
    bytes_per_replicate: float
    summary: pa.Table
    n_conditions: int  # that were tried


@dataclass(frozen=True)
class DryRun:
    """What a run would do. As text, all of it; as JSON, its numbers.

    n_replicates, n_fits : that are left to do, all conditions together; n_done : replicates that
    are done; of the shard if there is one; needed : replicates by target
    """

    text: str
    n_conditions: int
    n_replicates: int
    n_fits: int
    n_done: int
    n_processes: int
    seconds: float
    n_bytes: float
    needed: Mapping[str, int | None]

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> str:
        """The numbers for programs."""
        return json.dumps(
            {
                "conditions": self.n_conditions,
                "replicates": self.n_replicates,
                "fits": self.n_fits,
                "done": self.n_done,
                "processes": self.n_processes,
                "seconds": round(self.seconds, 3),
                "bytes": round(self.n_bytes),
                "needed": dict(self.needed),
            },
            indent=2,
        )


def describe_plan(scenario: Scenario, options: RunOptions, targets: Targets) -> DryRun:
    """What a run with these options would do; nothing is written but in a temporary folder.

    Raises
    ------
    McsimError
        A target names no measure, or no parameter.
    """
    wanted = read_targets({**scenario.target_mcse, **targets})
    study = PreparedStudy(scenario)
    lines = [f"{scenario.title}".strip() or "Study", ""]
    lines += [*_designs_in_words(study), "", *_methods_in_words(study), ""]
    work = _work(study, options)
    pilot, n_conditions = _pilot(study), len(study.conditions)
    refuse_unknown_parameters(wanted, pilot.summary["parameter"].to_pylist())
    largest = {target: largest_mcse(pilot.summary, target) for target in wanted}
    n_all, n_specs = scenario.replicates * n_conditions, len(scenario.methods)
    n_processes, n_each = options.n_workers or usable_cpus(), work.n_fits / n_specs / n_conditions
    found = DryRun(
        text="",
        n_conditions=n_conditions,
        n_replicates=work.n_left,
        n_fits=work.n_fits,
        n_done=work.n_own - work.n_left,
        n_processes=n_processes,
        seconds=n_each * pilot.seconds_per_replicate / n_processes,
        n_bytes=n_each * pilot.bytes_per_replicate,
        needed={
            target.key: one and needed_replicates(one, target.mcse)
            for target, one in largest.items()
        },
    )
    lines.append(_fits_in_words(study, n_all * n_specs))
    if options.shard is not None or work.n_fits < n_all * n_specs:
        lines.append(_left_in_words(found, n_all, options))
    lines += [*_costs_in_words(found), *filter(None, [work.refusal])]
    if alone := _prepared_alone(study):
        who = f"{', '.join(alone)} {'are' if alone[1:] else 'is'}"
        lines.append(ONE_BY_ONE.format(who, 1e3 * pilot.seconds_per_replicate / n_conditions))
    lines += [_needed_in_words(one, target) for target, one in largest.items()]
    if wanted and pilot.n_conditions < n_conditions:
        lines.append(f"  of {pilot.n_conditions} conditions that were tried, evenly spaced")
    return replace(found, text="\n".join(lines))


class Work(NamedTuple):
    """Replicates that a run is to see done, those that are left, and the fits of these.

    refusal : why there would be no run in this folder, as it is
    """

    n_own: int
    n_left: int
    n_fits: int
    refusal: str = ""


def _work(study: PreparedStudy, options: RunOptions) -> Work:
    """What a run would do, less what its folder has."""
    folder, refusal = options.directory, ""
    manifest = {} if options.overwrite else find_manifest(folder)
    try:
        if manifest:
            refuse_another_study(folder, manifest, study.identity)
    except StudyMismatchError as error:
        manifest, refusal = {}, str(error)
    store = Store(folder, grow(contents_of(manifest), study.identity))
    own = own_chunks(study, store.contents, options)
    left = left_to_do(own, store, grid_of(study, options)) if manifest else own
    n_fits = sum(n_replicates([one]) * len(one.methods) for one in left)
    return Work(_n_of_conditions(own), _n_of_conditions(left), n_fits, refusal)


def _n_of_conditions(chunks: Sequence[Chunk]) -> int:
    """Replicates of all conditions, each once whatever methods analyse it."""
    ranges: dict[str, list[Range]] = {}
    for chunk in chunks:
        ranges.setdefault(chunk.condition, []).append((chunk.first, chunk.last))
    return sum(last - first + 1 for one in ranges.values() for first, last in merge(one))


def _designs_in_words(study: PreparedStudy) -> Iterator[str]:
    """Who is measured; said once for conditions that follow each other and are alike."""
    of_rows: dict[int, tuple[str, ...]] = {}  # by design, which many conditions may share
    described = []
    for one in study.all_conditions():
        design = one.simulator.design
        words = of_rows.get(id(design)) or (design_in_words(design), *_factors_in_words(study, one))
        of_rows[id(design)] = words
        described.append(("\n".join(_design_in_words(study, one, words)), one))
    for text, alike in groupby(described, key=itemgetter(0)):
        labels = [shown_label(one.label) for _, one in alike]
        name = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]} ({len(labels):,})"
        yield f"{'Design' if len(labels) == len(study.conditions) else name}: {text}"


def _design_in_words(
    study: PreparedStudy, ready: PreparedCondition, of_rows: Sequence[str]
) -> Iterator[str]:
    yield f"{of_rows[0]}{_changes_in_words(ready.condition)}"
    yield from (f"  {one}" for one in of_rows[1:])
    if not study.scenario.truth.is_in_sds:
        yield f"  in SDs: {_truth_in_words(ready.condition)}"


def _prepared_alone(study: PreparedStudy) -> list[str]:
    """Methods that replicates with rows of their own need a data frame for."""
    own = [one for one in study.all_conditions() if one.condition.has_own_rows]
    alone = [name for one in own for name in one.ready if name not in fitted_together(one).methods]
    return list(dict.fromkeys(alone))


def _factors_in_words(study: PreparedStudy, ready: PreparedCondition) -> Iterator[str]:
    """Between which units factors differ: all that a design states, those of a table in use."""
    design, methods = ready.simulator.design, study.scenario.methods
    used = {name for spec in methods for name in spec.parsed.columns}
    is_table = ready.condition.table is not None
    return factors_in_words(design, [n for n in design.factors if n in used or not is_table])


def _changes_in_words(condition: Condition) -> str:
    """How the design of a replicate differs from that of the condition."""
    redrawn = "; this is one draw, every replicate has its own" * condition.design.redraw
    return redrawn + "; less what a replicate loses" * (condition.truth.missing is not None)


def _truth_in_words(condition: Condition) -> str:
    """What shares of a variance and effects without a unit come to."""
    truth = truth_of(condition.truth)
    stated = [*truth.sds.items(), (SIGMA, truth.sigma), *truth.fixed.items()]
    return ", ".join(f"{one.name} {value:.4g}" for one, value in stated)


def _methods_in_words(study: PreparedStudy) -> list[str]:
    lines, calls = [], r_calls(study.all_conditions()[0].methods)
    parameters = study.parameters
    for spec in study.scenario.methods:
        shown = [one.name for one in parameters[spec.name] if not one.is_variance]
        lines.append(f"Method {', '.join(spec.result_names)}: {spec.formula} ({spec.estimator})")
        lines += [f"  in R: {calls[spec.name]}"] if spec.name in calls else []
        lines.append(f"  estimates {', '.join(shown)}")
    return lines


def _pilot(study: PreparedStudy) -> Pilot:
    analyser = ChunkAnalyser(study.some(PILOT_CONDITIONS))
    analyser.files(Chunk(next(iter(study.conditions)), "", 1, FIRST_REPLICATES))  # loads the rest
    pilot = _try(analyser, FIRST_REPLICATES)
    n = min(PILOT_REPLICATES, int(PILOT_S / pilot.seconds_per_replicate))
    if n > FIRST_REPLICATES:
        longer = _try(analyser, n)
        seconds = min(pilot.seconds_per_replicate, longer.seconds_per_replicate)
        pilot = replace(longer, seconds_per_replicate=seconds)
    of_all = len(study.conditions) / pilot.n_conditions
    return replace(
        pilot,
        seconds_per_replicate=of_all * pilot.seconds_per_replicate,
        bytes_per_replicate=of_all * pilot.bytes_per_replicate,
    )


def _try(analyser: ChunkAnalyser, n: int) -> Pilot:
    """Analyse `n` replicates of each condition, in a study that is not kept."""
    seconds = 0.0
    with tempfile.TemporaryDirectory(prefix="mcsim-plan-") as folder:
        store = Store.open(Path(folder) / "pilot", analyser.study.description(n), is_kept=False)
        for key, contents in store.contents.items():
            chunk = Chunk(contents.condition, key, 1, n, contents.methods)
            started = time.perf_counter()
            files = analyser.files(chunk)
            seconds += time.perf_counter() - started
            store.commit([(chunk, files)])
        parts = [path.stat().st_size for path in store.directory.glob("*/part-*.parquet")]
        summary, n_conditions = summarize([store.directory]), len(analyser.study.conditions)
        return Pilot(seconds / n, sum(parts) / n, summary, n_conditions)


def _fits_in_words(study: PreparedStudy, n_fits: int) -> str:
    names = [spec.result_names for spec in study.scenario.methods]
    shared = "; ".join(f"{', '.join(one)} from one fit" for one in names if len(one) > 1)
    return (
        f"{study.scenario.replicates:,} replicates of"
        f" {_count(len(study.conditions), 'condition')} by"
        f" {_count(sum(map(len, names)), 'method')}: {n_fits:,} fits"
        + f" ({shared})"
        * bool(shared)
    )


def _left_in_words(found: DryRun, n_all: int, options: RunOptions) -> str:
    """What of the study this run does, where that is not all."""
    who = "To do" if options.shard is None else f"Shard {options.shard}"
    done = f" ({options.directory} has {found.n_done:,})" * bool(found.n_done)
    return (
        f"{who}: {found.n_replicates:,} of {n_all:,} data sets{done}, {found.n_fits:,} fits, of"
        " which are time and disk"
    )


def _costs_in_words(found: DryRun) -> list[str]:
    processes = _count(found.n_processes, "process")
    return [
        f"Time: about {_duration(found.seconds)} with {processes}, after the start",
        f"Disk: about {found.n_bytes / 1e6:,.1f} MB",
    ]


def _count(n: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun if n == 1 else plural}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return _count(max(1, math.ceil(seconds)), "second")


def _needed_in_words(found: Largest | None, target: Target) -> str:
    if found is None:
        return f"MCSE of {target.key}: nothing that was tried has one"
    where = f"{found.parameter}, {found.method}"
    needed = needed_replicates(found, target.mcse)
    return (
        f"MCSE of {target.key} at most {target.mcse:g}: about {needed:,} replicates (for {where})"
    )
