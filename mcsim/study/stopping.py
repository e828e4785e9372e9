"""Runs that end when their Monte Carlo standard errors are small enough.

Replicates are added in blocks of a fixed schedule, and the targets are looked at after each: where
a run ends depends on the scenario alone, not on workers or interruptions.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from mcsim.errors import DataError, McsimError, nearest_name
from mcsim.measures import SHARES, mcse_bound
from mcsim.results.folder import find_manifest
from mcsim.results.store import Store
from mcsim.scenario.records import Scenario
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import RunOptions, compile_before_all, run_prepared, run_study
from mcsim.summary.cache import latest_summary
from mcsim.summary.records import measure_named

FIRST_BLOCK = 256  # replicates before the first look: fewer tell an MCSE badly
SHARD_WITH_TARGETS = (
    "--shard and target_mcse do not go together: no shard knows how precise all are together."
    " Leave the targets out with --set 'target_mcse={}'"
)


class Target(NamedTuple):
    """An MCSE wanted of a measure, of one parameter or of all."""

    key: str
    measure: str
    parameter: str | None
    mcse: float


class Largest(NamedTuple):
    """The largest MCSE of what a target is about; where it was met with."""

    mcse: float
    n_replicates: int
    parameter: str
    method: str


def run_until_precise(scenario: Scenario, options: RunOptions) -> Store:
    """Run a study until its targets are met, or to its end where it has none.

    Raises
    ------
    McsimError
        A target is of no parameter, or the run is that of a shard.
    """
    if not scenario.target_mcse:
        return run_study(scenario, options)
    if options.replicates:  # no more than these: where a run ends is not decided yet
        end = max(last for _, last in options.replicates)
        return run_study(scenario, replace(options, planned=min(end, scenario.replicates)))
    if options.shard:
        raise McsimError(SHARD_WITH_TARGETS)
    targets = read_targets(scenario.target_mcse)
    compile_before_all(options, scenario)
    study = PreparedStudy(scenario)
    named = [one.name for found in study.parameters.values() for one in found]
    refuse_unknown_parameters(targets, named)
    last = scenario.replicates
    there = 0 if options.overwrite else find_manifest(options.directory).get("replicates", 0)
    for n_replicates in [n for n in blocks(last) if n >= there] or [last]:
        store = run_prepared(study, replace(options, planned=n_replicates))
        options = replace(options, overwrite=False)
        table = latest_summary(options.directory)
        if all(is_met(table, target) for target in targets):
            break
    for line in in_words(table, targets):
        options.report(line)
    n_done = max(n_replicates, there)
    options.report(f"Ended after {n_done:,} of at most {max(last, there):,} replicates.")
    return store


def read_targets(targets: Mapping[str, float]) -> list[Target]:
    """Targets by `measure` or `measure(parameter)`.

    Raises
    ------
    McsimError
        A key names no measure that has an MCSE.
    """
    return [_target(key, mcse) for key, mcse in targets.items()]


def _target(key: str, mcse: float) -> Target:
    match = re.fullmatch(r"(\w+)(?:\((.+)\))?", key)
    measure = match[1] if match else key
    try:
        return Target(key, measure_named(measure), match[2] if match else None, mcse)
    except DataError as error:
        raise McsimError(
            f"target {key!r}: {error} Write coverage=0.005 or 'bias(x)=0.001'"
        ) from error


def refuse_unknown_parameters(targets: Sequence[Target], names: Iterable[str]) -> None:
    """Raise a McsimError for a target of a parameter that is not among the names."""
    known = list(dict.fromkeys(names))
    for target in targets:
        if target.parameter is not None and target.parameter not in known:
            raise McsimError(
                f"target {target.key!r}: no method estimates {target.parameter!r}. Parameters:"
                f" {', '.join(known)}.{nearest_name(target.parameter, known)}"
            )


def blocks(n_replicates: int) -> Iterator[int]:
    """Numbers of replicates after which the targets are looked at, the last of them all."""
    size = FIRST_BLOCK
    while size < n_replicates:
        yield size
        if 3 * size // 2 < n_replicates:
            yield 3 * size // 2
        size *= 2
    yield n_replicates


def largest_mcse(summary: pa.Table, target: Target) -> Largest | None:
    """Of all methods and conditions; None where no row has one."""
    rows = [
        Largest(mcse, row["n_replicates"], row["parameter"], row["method"])
        for row in summary.to_pylist()
        if target.parameter in (None, row["parameter"])
        and (mcse := _mcse(row, target.measure)) is not None
    ]
    return max(rows, default=None)


def _mcse(row: Mapping[str, Any], measure: str) -> float | None:
    """The MCSE of a row; of a share of 0 or 1, whose MCSE is 0, how large it may be."""
    mcse: float | None = row[f"{measure}_mcse"]
    if measure in SHARES and row[measure] in (0.0, 1.0):
        n_missing = row["n_missing_interval"] if "coverage" in measure else 0
        return mcse_bound(max(1, row["n"] - n_missing))
    return mcse


def is_met(summary: pa.Table, target: Target) -> bool:
    """Whether every MCSE that a target is about is small enough."""
    found = largest_mcse(summary, target)
    return found is not None and found.mcse <= target.mcse


def needed_replicates(largest: Largest, mcse: float) -> int:
    """Replicates for an MCSE: it falls with the root of their number."""
    return math.ceil(largest.n_replicates * (largest.mcse / mcse) ** 2)


def in_words(summary: pa.Table, targets: Sequence[Target]) -> list[str]:
    """A line per target: what was wanted, and what there is."""
    lines = []
    for target in targets:
        found = largest_mcse(summary, target)
        wanted = f"MCSE of {target.key} at most {target.mcse:g}"
        if found is None:
            lines.append(f"{wanted}: no row has one")
        else:
            verdict = "met" if found.mcse <= target.mcse else "not met"
            where = f"{found.parameter}, {found.method}"
            lines.append(f"{wanted}: {verdict}, {found.mcse:.2g} (largest for {where})")
    return lines
