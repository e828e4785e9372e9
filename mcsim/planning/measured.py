"""The value of a goal, from the replicates of a design."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcsim.measures import MEASURES, Sample, mcse_bound
from mcsim.planning.control import (
    LEAST,
    LEAST_OF_TRUTH,
    Control,
    Floats,
    controls_of,
    without_controls,
)
from mcsim.scenario.plan import Goal
from mcsim.summary.records import Record


class Value(NamedTuple):
    """A measure from `n` replicates, and the SD that one of them would have."""

    value: float
    spread: float
    n: int


class Told(NamedTuple):
    """Replicates of one truth: what the row is, its sample, and the control's if it is one."""

    row: Record
    sample: Sample
    control: Control | None


def value_of(goal: Goal, told: Told) -> Value:
    """The value by the replicates of one truth."""
    (known,) = _probabilities(goal, [told])
    return _counted(goal, told) if known is None else _mean(known)


def average_of(goal: Goal, all_told: Sequence[Told]) -> Value:
    """The mean over truths, and the SD that one replicate of them all has."""
    known = _probabilities(goal, all_told)
    pairs = zip(all_told, known, strict=True)
    values = [_counted(goal, told) if own is None else _mean(own) for told, own in pairs]
    n = sum(one.n for one in values)
    if not all(one.n for one in values):
        return Value(math.nan, math.nan, 0)
    variances = [one.spread**2 / one.n for one in values]  # of each, of as many replicates
    mean = math.fsum(one.value for one in values) / len(values)
    return Value(mean, math.sqrt(math.fsum(variances) * n) / len(values), n)


def _mean(values: Floats) -> Value:
    return Value(float(values.mean()), float(values.std(ddof=1)), len(values))


def _probabilities(goal: Goal, all_told: Sequence[Told]) -> list[Floats | None]:
    """Of the rejections, given the intervals of the replicates; None where they are not known.

    Less what the control tells of chance, where all truths have it.
    """
    found: list[Floats | None] = []
    controls: list[Floats] = []
    for _, sample, control in all_told:
        expected = (sample.tails.above + sample.tails.below)[0]
        known = controls_of(sample, control)
        is_there = ~np.isnan(expected + (0.0 if known is None else known.sum(axis=1)))
        is_told = goal.measure == "rejection" and not np.isnan(expected).all()
        found.append(expected[is_there] if is_told else None)
        if (
            known is not None and is_told
        ):  # whose mean is 0 over all replicates, also those that others lack
            own = known[is_there]
            controls.append(own - own.mean(axis=0) + known.mean(axis=0))
    values = [one for one in found if one is not None]
    has_all = len(values) == len(controls) == len(found)
    if has_all and sum(map(len, values)) >= LEAST and min(map(len, values)) >= LEAST_OF_TRUTH:
        return [*without_controls(values, controls)]
    return found


def _counted(goal: Goal, told: Told) -> Value:
    row, sample, _ = told
    n = int(np.sum(~np.isnan(sample.estimates)))
    if goal.measure == "rejection":
        return _share_of_tests(sample)
    if goal.measure == "relative_se":
        value, mcse = (float(one[0]) for one in MEASURES["emp_se"](sample))
        scale = abs(row["truth"]) or math.nan
        return Value(value / scale, mcse / scale * math.sqrt(n), n)
    name = goal.measure
    if name == "coverage" and not np.isnan(sample.tails.above).all():
        name = "expected_coverage"
    value, mcse = (float(one[0]) for one in MEASURES[name](sample))
    if goal.is_share and value in (0.0, 1.0):  # of shares that are counted
        mcse = mcse_bound(max(n, 1))
    return Value(value, mcse * math.sqrt(n), n)


def _share_of_tests(sample: Sample) -> Value:
    value, mcse = (float(one[0]) for one in MEASURES["rejection"](sample))
    n = int(np.sum(~np.isnan(sample.p_values)))
    mcse = mcse_bound(max(n, 1)) if value in (0.0, 1.0) else mcse
    return Value(value, mcse * math.sqrt(n), n)
