"""A t test between the outermost units as a control of power, on the same data sets.

In balanced designs it is exact. What its power given the replicates' standard errors differs by
from the true power is chance, most of which the power of other methods shares. In all others its
squared standard error is a quadratic form of normal numbers, whose mean and variance are known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.engine.crossed.partitions import is_within
from mcsim.formula import written_name
from mcsim.measures import Sample
from mcsim.methods.two_stage import TwoStage
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.simulate.at_truth import variances_of_units
from mcsim.study.prepared import PreparedCondition

Floats = NDArray[np.float64]

CONTROL = "t-test-of-units"
LEAST, LEAST_OF_TRUTH = 64, 4  # replicates, for slopes that are worth it


class Law(NamedTuple):
    """Mean and variance of the squared SE of a t test between outermost units."""

    mean: float
    variance: float


class Control(NamedTuple):
    """Replicates of the control, and the law of its squared SE; None where its test is exact."""

    sample: Sample
    law: Law | None = None


def with_control(scenario: Scenario, formula: str | None = None) -> Scenario:
    """The scenario with the control as one more method.

    A regression per outermost unit, and a t test of its coefficients: what a control asks of data
    sets costs next to nothing. It is left out again where the design cannot have it.
    """
    design = scenario.design
    outermost, response = written_name(design.level_names[0]), written_name(design.response)
    fixed = scenario.methods[0].parsed.fixed
    described = {"name": CONTROL, "estimator": "two-stage"}
    described |= {"formula": formula or f"{response} ~ {fixed} + (1 | {outermost})"}
    spec = MethodSpec.model_validate(described)
    return scenario.model_copy(update={"methods": (*scenario.methods, spec)})


def law_of(condition: PreparedCondition, parameter: str) -> Law | None:
    """The law of the control's squared SE of a fixed effect.

    None where it has none: of a contrast, of units that cross, of residuals with a structure.
    """
    method, simulator = condition.ready[CONTROL].method, condition.simulator
    assert isinstance(method, TwoStage)
    found = method.squared_error(parameter)
    units = simulator.design.unit_of_row
    do_cross = not all(is_within(units[one.level], method.unit) for one in simulator.effects)
    if found is None or do_cross or simulator.residuals is not None:
        return None
    weights, A = found
    variances = variances_of_units(simulator, weights, method.unit)
    AD = A * variances
    return Law(float(np.trace(AD)), 2.0 * float(np.sum(AD * AD.T)))


def controls_of(sample: Sample, control: Control | None) -> Floats | None:
    """Functions of the control's SE whose means are 0: (n, 2); None where none is known."""
    if control is None:
        return None
    if control.law is not None:
        mean, variance = control.law
        relative = control.sample.std_errors[0] ** 2 / mean
        return np.column_stack([relative - 1.0, relative**2 - 1.0 - variance / mean**2])
    return _of_exact(sample, control.sample)


def _of_exact(sample: Sample, control: Sample) -> Floats | None:
    df, se = control.df[0, 0], control.spread[0, 0]
    if not se > 0.0 or np.any(control.df[0] != df) or np.any(control.shift[0] != 0.0):
        return None
    t = special.stdtrit(df, 1 - sample.alpha / 2)
    size = abs(float(sample.truth[0])) / se
    below, above = np.nan_to_num(special.nctdtr(df, size, [-t, t]))  # NaN where next to nothing
    power = (control.tails.above + control.tails.below)[0] - (below + 1.0 - above)
    relative = control.std_errors[0] / se
    return np.column_stack([power, relative**2 - 1.0])


def without_controls(values: Sequence[Floats], controls: Sequence[Floats]) -> list[Floats]:
    """Values (n,) of every truth without what controls (n, k) explain, whose means are 0.

    By slopes that truths share, of either half of the replicates for the other: the means of the
    values have no bias.
    """
    found, halves = [one.copy() for one in values], (slice(0, None, 2), slice(1, None, 2))
    for own, other in (halves, halves[::-1]):
        x = np.concatenate([one[other] - one[other].mean(axis=0) for one in controls])
        y = np.concatenate([one[other] - one[other].mean() for one in values])
        slopes = np.linalg.lstsq(x, y)[0]
        for one, control in zip(found, controls, strict=True):
            one[own] -= control[own] @ slopes
    return found
