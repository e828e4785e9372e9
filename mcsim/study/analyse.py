"""Replicates of a condition simulated and analysed: from a chunk to the files that it becomes.

Replicates that have the same rows are fitted together; where each has rows of its own, one is a
sample by itself, and what its rows can tell is asked anew (own_rows.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.methods.identifiability import without
from mcsim.methods.method import StreamOf
from mcsim.names import Parameter
from mcsim.results.store import Chunk, PartFiles, encode
from mcsim.scenario.true_values import targets_of
from mcsim.simulate.realized import realized_value, realized_values
from mcsim.simulate.responses import draw_responses, new_room
from mcsim.simulate.streams import stream
from mcsim.study.at_truth import AtTruth, EstimatesAtTruth, estimates_at_truth, with_shifts
from mcsim.study.chunks import MANY_CONDITIONS, Batch
from mcsim.study.implied_truth import Realized, realized_as_written
from mcsim.study.likelihood_ratio import with_likelihood_ratios
from mcsim.study.own_rows import Sample, as_tested, own_rows
from mcsim.study.prepared import PreparedCondition, PreparedStudy
from mcsim.study.ready import failed
from mcsim.study.tables import estimate_rows, fit_rows

Floats = NDArray[np.float64]

BLOCK_VALUES = 100_000  # of responses at a time: 0.8 MB, which a processor's cache can hold
KEPT_VALUES = 4_000_000  # of what methods keep of the responses that they analyse together: 32 MB
LOST = (
    "replicate {replicate}: its analysis ended two worker processes, by a crash or for want of"
    " memory"
)


@dataclass
class ChunkAnalyser:
    """Simulates and fits the replicates of chunks; sent to every worker once."""

    study: PreparedStudy

    def __call__(self, batch: Batch) -> list[tuple[Chunk, PartFiles]]:
        """The chunks with their files, rows in the order replicate, method, parameter."""
        ready = {chunk: self._condition(chunk) for chunk in batch.chunks}
        found: dict[Chunk, PartFiles] = {}
        for together in _fitted_together(ready):
            drawn = [draw_replicates(ready[one], _replicates(one)) for one in together]
            for chunk, sample in zip(together, analyse_together(drawn), strict=True):
                found[chunk] = encode(*_rows(ready[chunk], sample))
        done = [(chunk, found.get(chunk) or self.files(chunk)) for chunk in batch.chunks]
        if len(self.study.conditions) > MANY_CONDITIONS:
            for chunk in batch.chunks:
                if chunk.condition != batch.chunks[-1].condition:  # which may go on
                    self.study.condition(chunk.condition).forget()
        return done

    def files(self, chunk: Chunk) -> PartFiles:
        """The files of one chunk."""
        condition = self._condition(chunk)
        if chunk.is_lost:
            return encode(*lost_replicate(condition, chunk.first))
        return encode(*analyse_replicates(condition, _replicates(chunk)))

    def _condition(self, chunk: Chunk) -> PreparedCondition:
        return self.study.condition(chunk.condition).only(chunk.methods)


def _replicates(chunk: Chunk) -> range:
    return range(chunk.first, chunk.last + 1)


def _fitted_together(ready: Mapping[Chunk, PreparedCondition]) -> list[list[Chunk]]:
    """Chunks of conditions that differ in the truth alone: the methods' fits cost less together."""
    groups: dict[tuple[int, ...], list[list[Chunk]]] = {}
    for chunk, condition in ready.items():
        if chunk.is_lost or condition.condition.has_own_rows:
            continue
        of_methods = groups.setdefault(tuple(map(id, condition.ready.values())), [[]])
        if not _is_kept([*of_methods[-1], chunk], condition):
            of_methods.append([])
        of_methods[-1].append(chunk)
    return [group for found in groups.values() for group in found if len(group) > 1]


def _is_kept(group: Sequence[Chunk], condition: PreparedCondition) -> bool:
    """Whether what methods keep of the responses fits in memory."""
    of_one = sum(method.n_values for method in condition.methods.values())
    return of_one * sum(len(_replicates(chunk)) for chunk in group) <= KEPT_VALUES


def analyse_replicates(
    condition: PreparedCondition, replicates: range
) -> tuple[pa.Table, pa.Table]:
    """Rows of estimates/ and fits/, replicate by replicate."""
    has_own_rows = condition.condition.has_own_rows
    samples = own_rows if has_own_rows else _shared_rows
    few_rows: AbstractContextManager[object] = nullcontext()
    if has_own_rows:  # few may be left
        few_rows = np.errstate(divide="ignore", invalid="ignore", over="ignore")
    with few_rows:
        tables = [_rows(condition, sample) for sample in samples(condition, replicates)]
    estimates, fits = zip(*tables, strict=True)
    return pa.concat_tables(estimates), pa.concat_tables(fits)


def lost_replicate(condition: PreparedCondition, replicate: int) -> tuple[pa.Table, pa.Table]:
    """A `failed` row for every fit, no estimates: its analysis ended two workers."""
    message = LOST.format(replicate=replicate)
    analyses = {name: failed(one, message) for name, one in condition.ready.items()}
    replicates = range(replicate, replicate + 1)
    return _rows(condition, Sample(replicates, {}, analyses))


def _rows(condition: PreparedCondition, sample: Sample) -> tuple[pa.Table, pa.Table]:
    specs, label = condition.specs, condition.label
    tested = with_likelihood_ratios(specs, condition.methods, sample.analyses)
    own = {spec.name: as_tested(spec, tested[spec.name], sample.lacking) for spec in specs}
    realized_of = _realized_of(condition, sample.realized)
    return (
        estimate_rows(label, sample.replicates, realized_of, own),
        fit_rows(label, sample.replicates, own),
    )


def _realized_of(
    condition: PreparedCondition, realized: Realized
) -> Callable[[str, Parameter], Floats | None]:
    """Realized values by method and parameter: of what it declares to estimate, or as it writes."""
    targets = {spec.name: targets_of(spec.truth) for spec in condition.specs}
    changes = condition.changes
    written = {name: realized_as_written(realized, changes[name]) for name in targets}

    def realized_of(method: str, parameter: Parameter) -> Floats | None:
        if method in condition.other_scale:
            return None
        if target := targets[method].get(parameter):
            return realized_value(realized, target)
        return realized_value(written[method], parameter)

    return realized_of


def _shared_rows(condition: PreparedCondition, replicates: range) -> Iterator[Sample]:
    """Samples of so many replicates as may be kept at a time."""
    n_kept = sum(method.n_values for method in condition.methods.values())
    size = max(1, KEPT_VALUES // n_kept)
    for first in range(0, len(replicates), size):
        yield from analyse_together([draw_replicates(condition, replicates[first : first + size])])


@dataclass(frozen=True)
class Drawn:
    """Replicates that were simulated: what the methods need of them, and what is known of them.

    products : per block, as of `ResponseBlock`
    """

    condition: PreparedCondition
    replicates: range
    taken: Mapping[str, list[Any]]
    products: Sequence[Sequence[Floats]]
    at_truth: Mapping[str, AtTruth]
    true_estimates: Sequence[EstimatesAtTruth]


def draw_replicates(condition: PreparedCondition, replicates: range) -> Drawn:
    """Simulate block by block, so that few responses are in memory."""
    simulator = condition.simulator
    block_size = min(len(replicates), max(1, BLOCK_VALUES // len(simulator.mean)))
    room = new_room(simulator, block_size)
    taken: dict[str, list[Any]] = {name: [] for name in condition.ready}
    products, at_truth = [], condition.at_truth
    true_estimates: list[EstimatesAtTruth] = []
    for first in range(0, len(replicates), block_size):
        block = draw_responses(simulator, replicates[first : first + block_size], room)
        products.append(block.products)
        true_estimates.append(estimates_at_truth(at_truth, block.y))
        for name, one in condition.ready.items():
            taken[name].append(one.take(block.y))
    return Drawn(condition, replicates, taken, products, at_truth, true_estimates)


def analyse_together(drawn: Sequence[Drawn]) -> Iterator[Sample]:
    """Fit replicates of conditions with the same methods, each method all of them at once."""
    streams = [_streams(one.condition, one.replicates) for one in drawn]
    places = [(of_one, place) for one, of_one in zip(drawn, streams, strict=True)
              for place in range(len(one.replicates))]  # fmt: skip

    def stream_of(position: int) -> np.random.Generator:
        of_one, place = places[position]
        return of_one(place)

    all_analyses = {
        name: without(
            one.method.analyse([x for each in drawn for x in each.taken[name]], stream_of),
            one.undetermined,
        )
        for name, one in drawn[0].condition.ready.items()
    }
    first = 0
    for one in drawn:
        rows = slice(first, first := first + len(one.replicates))
        analyses = all_analyses
        if len(drawn) > 1:
            analyses = {name: each.of(rows) for name, each in all_analyses.items()}
        analyses = with_shifts(analyses, one.at_truth, one.true_estimates)
        per_level = [np.concatenate(level) for level in zip(*one.products, strict=True)]
        realized = realized_values(one.condition.simulator, per_level)
        yield Sample(one.replicates, realized, analyses)


def _streams(condition: PreparedCondition, replicates: range) -> StreamOf:
    """Random numbers for what methods themselves simulate, by position among the replicates."""
    return lambda position: stream(condition.simulator.key, replicates[position], "bootstrap")
