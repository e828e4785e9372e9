"""Observations that are lost: which rows of a design a replicate keeps."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mcsim.design.units import Floats, Ints
from mcsim.scenario.truth import MissingSpec

Flags = NDArray[np.bool_]


def kept_rows(
    unit_of_row: Mapping[str, Ints],
    column: Callable[[str], Floats],
    spec: MissingSpec,
    generator: np.random.Generator,
) -> Flags:
    """Rows (n_rows,) that are observed; each cause of loss acts by itself.

    Parameters
    ----------
    unit_of_row : per level (n_rows,), outermost first; column : a covariate by its name
    """
    is_kept = generator.random(len(next(iter(unit_of_row.values())))) >= spec.observations
    for level, unit in unit_of_row.items():
        stays = generator.random(int(unit.max()) + 1) >= spec.units.get(level, 0.0)
        if not stays.all():
            is_kept &= stays[unit]
    if spec.dropout is not None:
        unit = unit_of_row[spec.dropout.level]
        stays = generator.random(int(unit.max()) + 1) >= spec.dropout.probability
        is_later = column(spec.dropout.along) > spec.dropout.after
        is_kept &= stays[unit] | ~is_later
    return is_kept
