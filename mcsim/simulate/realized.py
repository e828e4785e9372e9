"""Realized values: what the effects drawn in a replicate amount to, beside the truth."""

from collections.abc import Mapping, Sequence

import numpy as np

from mcsim.design.columns import Floats, Ints
from mcsim.names import Parameter
from mcsim.scenario.true_values import derived_value
from mcsim.simulate.responses import LevelEffects, Simulator


def realized_values(simulator: Simulator, products: Sequence[Floats]) -> dict[Parameter, Floats]:
    """SDs and correlations among the effects drawn, NaN where they are not defined.

    Pooled within factor cells. The fixed effects take up the cells' means, so the divisor is units
    less cells: this is what a sample of these units could tell if the effects were observed.

    Parameters
    ----------
    products : of `ResponseBlock`

    Returns
    -------
    Per parameter (n_replicates,)
    """
    realized: dict[Parameter, Floats] = {}
    for effects, sums in zip(simulator.effects, products, strict=True):
        degrees = len(effects.cells.of_unit) - len(effects.cells.n_units)
        realized |= realized_of_level(effects, sums, np.full(len(sums), degrees))
    return realized


def realized_of_level(
    effects: LevelEffects, products: Floats, degrees: Ints
) -> dict[Parameter, Floats]:
    """The same of one level, whose units less cells are `degrees` (n_replicates,)."""
    realized: dict[Parameter, Floats] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(np.einsum("nii->ni", products) / degrees[:, None])  # not a number without any
        for i, first in enumerate(effects.names):
            realized[Parameter.of_level("sd", effects.level, first)] = sd[:, i]
            for j, second in enumerate(effects.names[i + 1 :], start=i + 1):
                name = Parameter.of_level("correlation", effects.level, first, second)
                realized[name] = products[:, i, j] / (degrees * sd[:, i] * sd[:, j])
    return realized


def realized_value(realized: Mapping[Parameter, Floats], target: Parameter) -> Floats | None:
    """Realized values of what a parameter estimates; a variance is the square of its SD."""
    if target.is_derived and target.kind != "icc":
        found = derived_value(target, realized)
        return None if np.ndim(found) == 0 else np.asarray(found)  # no level has the column
    if target.is_variance:
        sd = realized.get(target.as_sd)
        return None if sd is None else sd**2
    return realized.get(target)
