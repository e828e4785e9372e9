"""An exact test as a control of power: its power is known, and its data sets are the same.

In balanced designs a t test between the outermost units is exact. What its power given the
replicates' standard errors differs by from the true power is chance, most of which the power of
other methods shares.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.formula import written_name
from mcsim.measures import Sample
from mcsim.scenario.records import MethodSpec, Scenario

Floats = NDArray[np.float64]

CONTROL = "t-test-of-units"
LEAST, LEAST_OF_TRUTH = 64, 4  # replicates, for slopes that are worth it


def with_control(scenario: Scenario, formula: str | None = None) -> Scenario:
    """The scenario with the exact test of balanced designs as one more method.

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


def controls_of(sample: Sample, control: Sample | None) -> Floats | None:
    """Functions of the exact test's SE whose means are 0: (n, 2); None where it is not exact."""
    if control is None or control.estimates.shape != sample.estimates.shape:
        return None
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
