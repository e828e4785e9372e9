"""A design in words."""

from collections.abc import Iterable, Iterator

import numpy as np

from mcsim.design.units import Design, Ints
from mcsim.engine.crossed.partitions import is_within

MAX_CELLS = 8  # whose numbers of units are told one by one


def design_in_words(design: Design) -> str:
    """Units per level, and rows: `50 units of animal; 500 units of image, 10 per animal; ...`."""
    pieces, outer = [], None
    seen: dict[str, Ints] = {}
    for level, unit in design.unit_of_row.items():
        n_units = int(unit.max()) + 1
        text = f"{n_units:,} unit{'s' * (n_units != 1)} of {level}"  # no plural of a user's name
        crossed_with = [name for name, other in seen.items() if not is_within(unit, other)]
        if crossed_with:
            met = np.unique(np.column_stack([unit, seen[crossed_with[-1]]]), axis=0)[:, 0]
            text += f", each meets {_each(np.bincount(met))} units of {crossed_with[-1]}"
        elif outer is not None:
            parent = outer[1][np.unique(unit, return_index=True)[1]]
            text += f", {_each(np.bincount(parent))} per {outer[0]}"
        pieces.append(text)
        seen[level] = unit
        if not crossed_with:
            outer = level, unit
    assert outer is not None
    text = f"{len(outer[1]):,} observations, {_each(np.bincount(outer[1]))} per {outer[0]}"
    return "; ".join([*pieces, text])


def factors_in_words(design: Design, factors: Iterable[str]) -> Iterator[str]:
    """Between which units factors differ, and how many units each cell has."""
    codes = {name: design.frame[name].cat.codes.to_numpy().astype(np.int64) for name in factors}
    units = {**design.unit_of_row, "": np.arange(len(design.frame))}
    known: dict[str, Ints] = {}  # of a row, the codes of the factors down to here
    for level, unit in units.items():
        first = np.unique(unit, return_index=True)[1]
        is_own = (np.array_equal(one[first][unit], one) for one in codes.values())
        own = [
            name for name, is_one in zip(codes, is_own, strict=True) if is_one and name not in known
        ]
        known |= {name: codes[name] for name in own}
        if own:
            cells = _cells(design, {name: code[first] for name, code in known.items()})
            differ = f"{_and(own)} {'differ' if own[1:] else 'differs'} between"
            where = f"units of {level}" if level else f"observations of one {[*units][-2]}"
            noun = "units" if level else "observations"
            yield f"{differ} {where}; {noun} per cell of {_and([*known])}: {cells}"


def _cells(design: Design, codes: dict[str, Ints]) -> str:
    """How many units each cell has."""
    levels = [design.factors[name] for name in codes]
    cells, counts = np.unique(np.column_stack([*codes.values()]), axis=0, return_counts=True)
    if len(cells) > MAX_CELLS:
        return f"{_each(counts)} in each of {len(cells):,} cells"
    names = (":".join(of[i] for of, i in zip(levels, cell, strict=True)) for cell in cells)
    return ", ".join(f"{n:,} {cell}" for cell, n in zip(names, counts.tolist(), strict=True))


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _each(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
