"""Observations that are lost: which rows of a design a replicate keeps."""

import numpy as np
from numpy.typing import NDArray

from mcsim.design.units import Design
from mcsim.scenario.truth import MissingSpec

Flags = NDArray[np.bool_]


def kept_rows(design: Design, spec: MissingSpec, generator: np.random.Generator) -> Flags:
    """Rows (n_rows,) that are observed; each cause of loss acts by itself."""
    is_kept = generator.random(len(design.frame)) >= spec.observations
    for level, unit in design.unit_of_row.items():
        n_units = int(unit.max()) + 1
        is_kept &= (generator.random(n_units) >= spec.units.get(level, 0.0))[unit]
    if spec.dropout is not None:
        unit = design.unit_of_row[spec.dropout.level]
        stays = generator.random(int(unit.max()) + 1) >= spec.dropout.probability
        is_later = design.frame[spec.dropout.along].to_numpy() > spec.dropout.after
        is_kept &= stays[unit] | ~is_later
    return is_kept
