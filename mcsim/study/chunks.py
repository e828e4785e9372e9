"""What a run has to do: chunks of replicates, and small ones together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mcsim.results.identity import PartContents
from mcsim.results.ranges import GRID, LARGEST_BLOCK, Grid, Range, cut, subtract
from mcsim.results.store import Chunk, Store
from mcsim.scenario.estimators import facts_of
from mcsim.study.own_plan import fitted_together
from mcsim.study.prepared import PreparedStudy, named
from mcsim.study.shards import halves

MANY_CONDITIONS = 32  # of which each is a small share of the work
SLOW_CHUNK_SIZE = 32  # of what takes long, so that little is lost and progress is seen
CHUNK_VALUES = 20_000_000  # of responses in a chunk, for the same reason
BATCH_REPLICATES = 64  # in chunks that go together: what is lost if the run is stopped
BATCH_VALUES = 200_000  # of responses in them: a fraction of a second
BATCH_CHUNKS = 16  # at most, where each may be of a condition that is to be prepared
LARGE_BATCH = 64  # times as much of quick fits goes together, where much is to be done
N_BATCHES = 64  # that share the work well


@dataclass(frozen=True)
class Batch:
    """Chunks that a worker does one after the other, and that are committed together."""

    chunks: tuple[Chunk, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.chunks))


def plan_chunks(
    study: PreparedStudy,
    parts: Mapping[str, PartContents],
    wanted: Sequence[Range],
    grid: Grid = GRID,
    end: int | None = None,
) -> list[Chunk]:
    """The chunks of every condition and method, done or not; `parts` say what goes together.

    Parameters
    ----------
    end : last replicate of the plan, where a chunk may be cut off, so that files are few
    """

    def at_most(label: str, methods: Sequence[str]) -> int:
        of_rows = max(SLOW_CHUNK_SIZE, CHUNK_VALUES // study.n_rows(label))
        return SLOW_CHUNK_SIZE if is_slow(study, label, methods) else min(LARGEST_BLOCK, of_rows)

    return [
        Chunk(contents.condition, key, first, last, contents.methods)
        for key, contents in parts.items()
        for first, last in cut(wanted, at_most(contents.condition, contents.methods), grid, end)
    ]


def left_to_do(chunks: Iterable[Chunk], store: Store, grid: Grid = GRID) -> list[Chunk]:
    """The chunks without what is in the store."""
    done = store.committed()
    left = [
        replace(chunk, first=first, last=last)
        for chunk in chunks
        for first, last in cut(
            subtract([(chunk.first, chunk.last)], done.get(chunk.key, ())),
            grid=grid,
            end=chunk.last,
        )
    ]
    # the largest first: the small ones at the end keep all workers busy to the last
    return sorted(left, key=lambda chunk: chunk.first - chunk.last)


def batches(
    study: PreparedStudy, chunks: Sequence[Chunk], *, n_wanted: int = N_BATCHES
) -> Iterator[Batch]:
    """The chunks, small ones of quick methods together: messages and commits are paid once.

    Parameters
    ----------
    n_wanted : batches, where the work is enough for so many of the usual size
    """
    shares = [_share_of_batch(study, chunk) for chunk in chunks]
    is_quick = [_is_quick(study, chunk) for chunk in chunks]
    of_quick = sum(share for share, quick in zip(shares, is_quick, strict=True) if quick)
    times = min(LARGE_BATCH, max(1.0, of_quick / n_wanted))
    together: list[Chunk] = []
    share = 0.0  # of the largest batch
    for chunk, usual, quick in zip(chunks, shares, is_quick, strict=True):
        of_chunk = usual / times if quick else usual
        if together and share + of_chunk > 1.0:
            yield Batch(tuple(together))
            together, share = [], 0.0
        together.append(chunk)
        share += of_chunk
    if together:
        yield Batch(tuple(together))


def _share_of_batch(study: PreparedStudy, chunk: Chunk) -> float:
    if is_slow(study, chunk.condition, chunk.methods):
        return 1.0
    n = chunk.last - chunk.first + 1
    n_values = n * study.n_rows(chunk.condition)
    return max(1 / BATCH_CHUNKS, n / BATCH_REPLICATES, n_values / BATCH_VALUES)


def is_slow(study: PreparedStudy, label: str, methods: Sequence[str]) -> bool:
    """Whether replicates of a condition by some methods take long."""
    own = named(study.scenario.methods, methods)
    if any(facts_of(one.estimator).is_slow or one.interval == "bootstrap" for one in own):
        return True
    condition = study.condition(label).only(methods)
    return condition.condition.has_own_rows and not (
        fitted_together(condition).methods.keys() >= condition.ready.keys()
    )


def _is_quick(study: PreparedStudy, chunk: Chunk) -> bool:
    """Whether a fit takes next to nothing, whatever the design: so that a batch may be large."""
    condition = study.condition(chunk.condition)
    is_plain = all(
        one.interval == "wald" and one.residual is None
        for one in named(study.scenario.methods, chunk.methods)
    )
    has_own = study.scenario.has_counts or condition.condition.has_own_rows
    return is_plain and not has_own and not condition.condition.design.crossed_levels


def pieces_of(lost: Batch) -> list[Batch]:
    """What to do in the place of chunks that ended two workers; nothing is left of a lost one.

    Each chunk alone, then halves of it until the replicate is found.
    """
    if len(lost.chunks) > 1:
        return [Batch((chunk,)) for chunk in lost.chunks]
    (chunk,) = lost.chunks
    if chunk.is_lost:
        return []
    if chunk.first == chunk.last:
        return [Batch((replace(chunk, is_lost=True),))]
    return [Batch((half,)) for half in halves(chunk)]
