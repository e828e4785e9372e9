"""A study in shards: which chunks each of several runs does, whatever the others do."""

import heapq
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mcsim.errors import McsimError
from mcsim.limits import MOST_SHARDS
from mcsim.results.store import Chunk


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
    """The chunks that the shard does: of every condition, and of all, about the same share.

    The largest first, each to the shard that has least of its condition, then of all. It depends on
    nothing but the chunks: shards that know nothing of each other do every chunk once.
    """
    by_key: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_key.setdefault(chunk.key, []).append(chunk)
    totals, own = [0] * shard.count, []
    for of_key in by_key.values():
        least = [(0, total, place) for place, total in enumerate(totals)]
        heapq.heapify(least)
        for chunk in sorted(of_key, key=lambda one: (one.first - one.last, one.first)):
            of_condition, total, place = least[0]
            size = n_replicates([chunk])
            heapq.heapreplace(least, (of_condition + size, total + size, place))
            totals[place] += size
            if place == shard.number - 1:
                own.append(chunk)
    return own


def n_replicates(chunks: Iterable[Chunk]) -> int:
    """How many replicates the chunks have, those of several conditions added up."""
    return sum(chunk.last - chunk.first + 1 for chunk in chunks)
