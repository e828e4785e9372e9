"""Replicates of a condition simulated and analysed: from a chunk to the files that it becomes.

Replicates that have the same rows are fitted together; where each has rows of its own, one is a
sample by itself, and what its rows can tell is asked anew (own_rows.py).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.methods.identifiability import without
from mcsim.methods.method import Analysis, StreamOf
from mcsim.names import Parameter
from mcsim.results.store import Chunk, PartFiles, encode
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import draw_responses, new_room
from mcsim.simulate.streams import stream
from mcsim.study.at_truth import EstimatesAtTruth, estimates_at_truth, with_shifts
from mcsim.study.chunks import Batch
from mcsim.study.likelihood_ratio import with_likelihood_ratios
from mcsim.study.own_rows import analyse_rows, as_tested, failed
from mcsim.study.prepared import PreparedCondition, PreparedStudy
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
        return [(chunk, self.files(chunk)) for chunk in batch.chunks]

    def files(self, chunk: Chunk) -> PartFiles:
        """The files of one chunk."""
        condition = self.study.condition(chunk.condition).only(chunk.methods)
        if chunk.is_lost:
            return encode(*lost_replicate(condition, chunk.first))
        return encode(*analyse_replicates(condition, range(chunk.first, chunk.last + 1)))


def analyse_replicates(
    condition: PreparedCondition, replicates: range
) -> tuple[pa.Table, pa.Table]:
    """Rows of estimates/ and fits/, replicate by replicate."""
    has_own_rows = condition.condition.has_own_rows
    samples = _own_rows if has_own_rows else _shared_rows
    few_rows: AbstractContextManager[object] = nullcontext()
    if has_own_rows:  # few may be left
        few_rows = np.errstate(divide="ignore", invalid="ignore", over="ignore")
    with few_rows:
        tables = [_rows(condition, sample) for sample in samples(condition, replicates)]
    estimates, fits = zip(*tables, strict=True)
    return pa.concat_tables(estimates), pa.concat_tables(fits)


def lost_replicate(condition: PreparedCondition, replicate: int) -> tuple[pa.Table, pa.Table]:
    """A `failed` row for every fit, no estimates: its analysis ended two workers."""
    analyses = _failed(condition, LOST.format(replicate=replicate))
    replicates = range(replicate, replicate + 1)
    return _rows(condition, Sample(replicates, {}, analyses, without=condition.ready))


@dataclass(frozen=True)
class Sample:
    """Replicates that were analysed together.

    realized : values (n_replicates,); without : methods that lack an effect in these rows
    """

    replicates: range
    realized: Mapping[Parameter, Floats]
    analyses: dict[str, Analysis]
    without: Collection[str] = ()


def _rows(condition: PreparedCondition, sample: Sample) -> tuple[pa.Table, pa.Table]:
    specs, label = condition.specs, condition.label
    tested = with_likelihood_ratios(specs, condition.methods, sample.analyses)
    own = {spec.name: as_tested(spec, tested[spec.name], sample.without) for spec in specs}
    return (
        estimate_rows(label, sample.replicates, sample.realized, own, specs, condition.other_scale),
        fit_rows(label, sample.replicates, own),
    )


def _shared_rows(condition: PreparedCondition, replicates: range) -> Iterator[Sample]:
    """Samples of so many replicates as may be kept at a time."""
    n_kept = sum(method.n_values for method in condition.methods.values())
    size = max(1, KEPT_VALUES // n_kept)
    for first in range(0, len(replicates), size):
        yield _of_shared_rows(condition, replicates[first : first + size])


def _of_shared_rows(condition: PreparedCondition, replicates: range) -> Sample:
    """Simulate block by block, so that few responses are in memory, then fit all together."""
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

    stream_of = _streams(condition, replicates)
    analyses = {
        name: without(one.method.analyse(taken[name], stream_of), one.undetermined)
        for name, one in condition.ready.items()
    }
    analyses = with_shifts(analyses, at_truth, true_estimates)
    per_level = [np.concatenate(level) for level in zip(*products, strict=True)]
    return Sample(replicates, realized_values(simulator, per_level), analyses)


def _own_rows(condition: PreparedCondition, replicates: range) -> Iterator[Sample]:
    """A sample of each replicate."""
    for replicate in replicates:
        alone = range(replicate, replicate + 1)
        try:
            data = draw_data_set(condition.condition, condition.simulator, replicate)
            analyses, without = analyse_rows(condition, data, _streams(condition, alone))
            yield Sample(alone, data.realized, analyses, without)
        except DataError as error:
            yield Sample(alone, {}, _failed(condition, str(error)))


def _streams(condition: PreparedCondition, replicates: range) -> StreamOf:
    """Random numbers for what methods themselves simulate, by position among the replicates."""
    return lambda position: stream(condition.simulator.key, replicates[position], "bootstrap")


def _failed(condition: PreparedCondition, message: str) -> dict[str, Analysis]:
    return {name: failed(one, message) for name, one in condition.ready.items()}
