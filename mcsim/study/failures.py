"""Too many failed fits: noticed early in a run, and at its end."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from mcsim.errors import TooManyFailuresError
from mcsim.names import shown_label
from mcsim.results.folder import read_parquet
from mcsim.results.store import Chunk, PartFiles, failed_fits

FIRST_SHARE = 0.1  # of the replicates of a run, after which it may end early


@dataclass(frozen=True)
class FailedFit:
    """A fit that failed, and why."""

    condition: str
    replicate: int
    method: str
    message: str

    def __str__(self) -> str:
        return (
            f"replicate {self.replicate} of condition {shown_label(self.condition)},"
            f" method {self.method!r}:\n{self.message}"
        )


@dataclass
class _Count:
    """What is planned and done of a condition."""

    n_planned: int = 0
    n_replicates: int = 0
    n_fits: int = 0
    n_failed: int = 0
    first: FailedFit | None = None

    @property
    def is_early(self) -> bool:
        return self.n_replicates < FIRST_SHARE * self.n_planned

    def add(self, chunk: Chunk, parts: PartFiles) -> None:
        self.n_replicates += chunk.last - chunk.first + 1
        self.n_fits += parts.n_fits
        self.n_failed += parts.n_failed
        if self.first is None and parts.n_failed:
            self.first = first_failure(parts)


class FailureWatch:
    """Counts failed fits, and ends a run where the first tenth of a condition has too many.

    Parameters
    ----------
    planned : what the run is to do
    allowed : share of fits that may fail
    """

    def __init__(self, planned: Iterable[Chunk], allowed: float) -> None:
        self._allowed = allowed
        self._counts: dict[str, _Count] = {}
        for chunk in planned:
            count = self._counts.setdefault(chunk.condition, _Count())
            count.n_planned += chunk.last - chunk.first + 1

    def count(self, done: Iterable[tuple[Chunk, PartFiles]]) -> None:
        """Take note of finished chunks.

        Raises
        ------
        TooManyFailuresError
            The first tenth of a condition is done, with more failed fits than allowed, and others
            are not; shows the first of them.
        """
        looked_at = []
        for chunk, parts in done:
            count = self._counts[chunk.condition]
            was_early = count.is_early
            count.add(chunk, parts)
            looked_at += [count] if was_early and not count.is_early else []
        if all(count.n_replicates == count.n_planned for count in self._counts.values()):
            return  # nothing is left to be stopped: the summary says it
        for count in (one for one in looked_at if one.n_failed > self._allowed * one.n_fits):
            assert count.first is not None
            raise TooManyFailuresError(
                f"stopped: {count.n_failed} of {count.n_fits} fits failed in the first"
                f" {count.n_replicates} of {count.n_planned} replicates; --max-failures allows"
                f" {self._allowed:.1%}. What is done stays. The first is {count.first}\n"
                f"{how_to_look(count.first.replicate)} To go on all the same: --max-failures 1"
            )


def first_failure(parts: PartFiles) -> FailedFit:
    """The failed fit with the smallest replicate; there must be one."""
    fits = read_parquet(pa.BufferReader(parts.fits))
    row = failed_fits(fits).slice(0, 1).to_pylist()[0]
    return FailedFit(row["condition"], row["replicate"], row["method"], row["message"])


def how_to_look(replicate: int | str) -> str:
    """Sentences on what to do with a replicate whose fit failed."""
    return (
        f"To fit it alone: mcsim run SCENARIO --replicates {replicate} -o FOLDER; to have its data:"
        f" mcsim simulate SCENARIO --replicate {replicate} -o FILE.csv."
    )


def check_failures(summary: pa.Table, allowed: float) -> None:
    """Refuse a study with too many failed fits.

    Raises
    ------
    TooManyFailuresError
        The share of failed fits of some method exceeds `allowed`.
    """
    for row in summary.select(["condition", "method", "n_replicates", "n_failed"]).to_pylist():
        if row["n_failed"] > allowed * row["n_replicates"]:
            raise TooManyFailuresError(
                f"{row['n_failed']} of {row['n_replicates']} fits of {row['method']!r} failed"
                f" in condition {shown_label(row['condition'])}; --max-failures allows"
                f" {allowed:.1%}. Columns replicate and message of fits/ say which, and why."
                f" {how_to_look('K')}"
            )
