"""How far a study is, per condition and in all: in words and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcsim.names import shown_labels
from mcsim.results.ranges import Range, format_ranges

MANY = 20  # conditions: of more, only those have a line that are not as they should be


@dataclass(frozen=True)
class ConditionStatus:
    """How far a condition is, in replicates, and how many fits failed. As text, one line."""

    condition: str
    n_planned: int
    n_done: int
    n_failed: int
    missing: tuple[Range, ...]

    @property
    def rest(self) -> str:
        """What is missing, as an option of `mcsim run`, or that nothing is."""
        ranges = format_ranges(self.missing)
        return f"missing: --replicates {ranges}" if ranges else "complete"


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is. As text, a line per condition and one of all, if there are several."""

    conditions: Sequence[ConditionStatus]

    @property
    def n_planned(self) -> int:
        """Replicates of all conditions."""
        return sum(one.n_planned for one in self.conditions)

    @property
    def n_done(self) -> int:
        """Of all conditions."""
        return sum(one.n_done for one in self.conditions)

    @property
    def n_failed(self) -> int:
        """Fits."""
        return sum(one.n_failed for one in self.conditions)

    @property
    def is_complete(self) -> bool:
        """Whether every condition has all its replicates."""
        return not any(one.missing for one in self.conditions)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        shown, n = list(self.conditions), len(self.conditions)
        if n > MANY:
            shown = [one for one in shown if one.missing or one.n_failed]
        labels = shown_labels(one.condition for one in self.conditions)
        for one in shown[:MANY]:
            yield f"{labels[one.condition]}: {_counts(one)}; {one.rest}"
        if len(shown) > MANY:
            yield f"... and {len(shown) - MANY:,} more; --format json lists all"
        if n > 1:
            n_open = sum(bool(one.missing) for one in self.conditions)
            rest = f"{n_open:,} incomplete" if n_open else "complete"
            yield f"{n:,} conditions: {_counts(self)}; {rest}"

    def to_json(self) -> str:
        """The same for programs; every condition is listed."""
        rows = [
            {"condition": one.condition, **_numbers(one), "missing": format_ranges(one.missing)}
            for one in self.conditions
        ]
        found = {"complete": self.is_complete, **_numbers(self), "conditions": rows}
        return json.dumps(found, indent=2)


def _counts(one: ConditionStatus | StudyStatus) -> str:
    return f"{one.n_planned:,} planned, {one.n_done:,} done, {one.n_failed:,} fits failed"


def _numbers(one: ConditionStatus | StudyStatus) -> dict[str, Any]:
    return {"planned": one.n_planned, "done": one.n_done, "failed": one.n_failed}
