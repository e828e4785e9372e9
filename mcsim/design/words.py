"""A design in words."""

import numpy as np

from mcsim.design.units import Design


def design_in_words(design: Design) -> str:
    """Units per level, and rows: `50 units of animal; 500 units of image, 10 per animal; ...`."""
    pieces, outer = [], None
    for level, unit in design.unit_of_row.items():
        n_units = int(unit.max()) + 1
        text = f"{n_units:,} unit{'s' * (n_units != 1)} of {level}"  # no plural of a user's name
        if outer is not None:
            parent = outer[1][np.unique(unit, return_index=True)[1]]
            text += f", {_each(np.bincount(parent))} per {outer[0]}"
        pieces.append(text)
        outer = level, unit
    assert outer is not None
    text = f"{len(outer[1]):,} observations, {_each(np.bincount(outer[1]))} per {outer[0]}"
    return "; ".join([*pieces, text])


def _each(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
