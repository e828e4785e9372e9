"""What a study says of a replicate whose analysis ended its worker process, twice.

Such a chunk is halved until the replicate is found; the others keep their results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcsim.engine.optimum.search import Status
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import Analysis, FitOutcomes, Method
from mcsim.results.store import Chunk, Parts, encode
from mcsim.scenario.records import MethodSpec
from mcsim.study.tables import estimate_rows, fit_rows, parameters_of

MESSAGE = (
    "replicate {replicate}: its analysis ended two worker processes, by a crash or for want of"
    " memory"
)


@dataclass(frozen=True)
class LostReplicate(Chunk):
    """A chunk of one replicate that is not to be analysed: its fits have failed."""


def pieces_of(lost: Chunk) -> list[Chunk]:
    """What to do in the place of a chunk that ended two workers; nothing is left of a lost one."""
    if isinstance(lost, LostReplicate):
        return []
    if lost.first == lost.last:
        return [LostReplicate(**vars(lost))]
    middle = (lost.first + lost.last) // 2  # halves of a block are blocks
    return [replace(lost, last=middle), replace(lost, first=middle + 1)]


def failed_parts(
    lost: LostReplicate, specs: Sequence[MethodSpec], methods: Mapping[str, Method]
) -> Parts:
    """The files of a lost replicate: a `failed` row for every fit, no estimates."""
    none = np.full(1, np.nan)
    message: list[str | None] = [MESSAGE.format(replicate=lost.first)]
    fits = FitOutcomes(np.array([Status.FAILED]), none, none, none, message)
    analyses = {}
    for spec in specs:
        blocks = [ParameterBlock(one) for one in parameters_of(spec, methods)]
        analyses[spec.name] = Analysis(dict.fromkeys(spec.df, blocks), fits)
    replicates = [lost.first]
    return encode(
        estimate_rows(lost.condition, replicates, {}, analyses),
        fit_rows(lost.condition, replicates, analyses),
    )
