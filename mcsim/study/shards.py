"""A study in shards: which replicates each of several runs does, whatever the others do."""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mcsim.errors import McsimError
from mcsim.results.store import Chunk
from mcsim.scenario.limits import MOST_SHARDS

SMALLEST = 32  # replicates of a chunk that is dealt whole


@dataclass(frozen=True)
class Shard:
    """Number `number` of `count` runs that share a study; counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read `2/5`; McsimError for any other text."""
    match = re.fullmatch(r"(\d{1,20})/(\d{1,20})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count <= MOST_SHARDS:
        raise McsimError(
            f"{text!r} is no shard; write K/N, such as 2/5, with K from 1 to N and N at most"
            f" {MOST_SHARDS:,}"
        )
    return Shard(number, count)


def of_shard(chunks: Iterable[Chunk], shard: Shard) -> list[Chunk]:
    """The chunks that the shard does: of every condition, its share to within SMALLEST replicates.

    The largest first, each to the shard that has least of its condition, then of all; what would be
    more than that shard's share is halved. It depends on nothing but the chunks: shards that know
    nothing of each other do every replicate once.
    """
    by_key: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_key.setdefault(chunk.key, []).append(chunk)
    totals, own = [0] * shard.count, []
    for of_key in by_key.values():
        for place, chunk in _dealt(of_key, totals):
            totals[place] += n_replicates([chunk])
            if place == shard.number - 1:
                own.append(chunk)
    return own


def _dealt(chunks: Sequence[Chunk], totals: Sequence[int]) -> Iterator[tuple[int, Chunk]]:
    """The chunks of a condition, or halves of them, each with the place of the shard it goes to."""
    least = [(0, total, place) for place, total in enumerate(totals)]
    heapq.heapify(least)
    share = n_replicates(chunks) / len(totals)
    left = [(chunk.first - chunk.last, chunk.first, chunk) for chunk in chunks]
    heapq.heapify(left)
    while left:
        *_, chunk = heapq.heappop(left)
        of_condition, total, place = least[0]
        size = n_replicates([chunk])
        if size > SMALLEST and of_condition + size > share:
            for half in halves(chunk):
                heapq.heappush(left, (half.first - half.last, half.first, half))
            continue
        heapq.heapreplace(least, (of_condition + size, total + size, place))
        yield place, chunk


def halves(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """A chunk of several replicates in two: halves of a block are blocks, cut off at its end."""
    half = 1 << ((chunk.last - chunk.first).bit_length() - 1)
    middle = chunk.first + half - 1
    return replace(chunk, last=middle), replace(chunk, first=middle + 1)


def n_replicates(chunks: Iterable[Chunk]) -> int:
    """How many replicates the chunks have, those of several conditions added up."""
    return sum(chunk.last - chunk.first + 1 for chunk in chunks)
