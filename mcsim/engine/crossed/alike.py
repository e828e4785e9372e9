"""Units that are alike, whose contrasts no effect of other units enters: a likelihood in strata.

Units of a level with the same cross-products with all others are of one type. Their mean stays a
unit of the crossing; contrasts between them are orthogonal to it and to each other. Where levels
are balanced and all of one type, so are contrasts between the means over coarser units. A stratum
is made of many contrasts that have the same covariance matrix, of few columns.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.crossed.partitions import (
    are_orthogonal,
    is_within,
    join,
    joins,
    of_units,
    sums_of_pairs,
)

EQUAL = 1e-12  # cross-products, relative to the largest: rounding
NEARLY = 1e-9  # the same for what finds them
FEWER = 0.7  # types per unit, from which on strata are worth their while


class Stratum(NamedTuple):
    """Contrasts between cells of units.

    cells : per level that varies in the stratum its number, its units that are in a cell, and
        these cells, numbered from 0
    n : number of contrasts
    """

    cells: tuple[tuple[int, Ints, Ints], ...]
    n: int


class Alike(NamedTuple):
    """Types of the units of every level, numbered from 0, and strata, coarsest first."""

    types: tuple[Ints, ...]
    strata: tuple[Stratum, ...]


def units_alike(units: Sequence[Ints], columns: Sequence[Floats], G: Any) -> Alike:
    """Types and strata; each unit is of a type of its own where nothing is won.

    Parameters
    ----------
    units, columns : per level (n_rows,), numbered from 0, and (n_rows, q)
    G : sparse, cross-products of the columns of all units, level by level
    """
    found = _balanced(units, columns) or _twins(units, columns, G)
    n_units = [int(own.max()) + 1 for own in units]
    if found is not None:
        n_types = sum(int(own.max()) + 1 for own in found.types)
        if n_types < FEWER * sum(n_units):
            return found
    return Alike(tuple(np.arange(n) for n in n_units), ())


def _balanced(units: Sequence[Ints], columns: Sequence[Floats]) -> Alike | None:
    """Strata of a design in which all units of a level are alike."""
    levels = [level for level, own in enumerate(columns) if own.shape[1]]
    pairs = itertools.combinations_with_replacement(levels, 2)
    if not levels or not all(_meet_alike(units, columns, a, b) for a, b in pairs):
        return None
    partitions = joins([units[level] for level in levels])
    if partitions is None:
        return None
    for level in levels:
        own = [of_units(one, units[level]) for one in partitions if is_within(units[level], one)]
        if not all(itertools.starmap(are_orthogonal, itertools.combinations(own, 2))):
            return None
    strata, n_contrasts = [], [1]  # the first partition has one cell, the mean of all
    for number, cells in enumerate(partitions[1:], start=1):
        coarser = zip(n_contrasts, partitions[:number], strict=True)
        n = int(cells.max()) + 1 - sum(n for n, outer in coarser if is_within(cells, outer))
        n_contrasts.append(n)
        within = [level for level in levels if is_within(units[level], cells)]
        of_levels = [of_units(cells, units[level]) for level in within]
        everyone = [np.arange(len(own)) for own in of_levels]
        if n:
            strata.append(Stratum(tuple(zip(within, everyone, of_levels, strict=True)), n))
    types = tuple(np.zeros(int(own.max()) + 1, dtype=np.int64) for own in units)
    return Alike(types, tuple(strata))


def _meet_alike(units: Sequence[Ints], columns: Sequence[Floats], a: int, b: int) -> bool:
    """Whether all units of two levels that share a cell of their join meet in the same way."""
    both = join(units[a], units[b])
    n_each = [np.bincount(of_units(both, units[level])) for level in (a, b)]
    meets = sums_of_pairs(units[a], units[b], np.ones(len(both))) > 0.0
    if meets.nnz != int(n_each[0] @ n_each[1]) or any(np.ptp(n) for n in n_each):
        return False
    for first in columns[a].T:
        for second in columns[b].T:
            found = sums_of_pairs(units[a], units[b], first * second)
            size = sums_of_pairs(units[a], units[b], np.abs(first * second)).max()
            mean = found.sum() / meets.nnz
            if abs(found - mean * meets).max() > EQUAL * size:
                return False
    return True


def _twins(units: Sequence[Ints], columns: Sequence[Floats], G: Any) -> Alike | None:
    """Units of a level that meet all units of the others in the same way."""
    n_units = [int(own.max()) + 1 for own in units]
    sizes = [n * own.shape[1] for n, own in zip(n_units, columns, strict=True)]
    weights = np.random.default_rng(1).normal(size=G.shape[0])
    types: list[Ints] = []
    strata: list[Stratum] = []
    scale, end = abs(G).max() if G.nnz else 0.0, 0
    for level, (unit, own, n, size) in enumerate(zip(units, columns, n_units, sizes, strict=True)):
        first, end, q = end, end + size, own.shape[1]
        others = np.ones(len(weights))
        others[first:end] = 0.0
        meets = G[first:end] @ scipy.sparse.diags_array(others)
        itself = [np.bincount(unit, own[:, i] * own[:, j]) for i in range(q) for j in range(i + 1)]
        of_itself = np.column_stack([*itself, np.zeros(n)])
        first_own, own_type = _distinct(of_itself)
        if np.any(np.abs(of_itself - of_itself[first_own[own_type]]) > EQUAL * scale):
            return None
        at, found = _distinct(np.column_stack([own_type, (meets @ weights).reshape(n, q)]))
        alike = (at[found][:, None] * q + np.arange(q)).ravel()
        if size and abs(meets - meets[alike]).max() > EQUAL * scale:
            return None
        types.append(found)
        strata += _contrasts(level, found, own_type) if q else []
    return Alike(tuple(types), tuple(strata))


def _contrasts(level: int, types: Ints, own_type: Ints) -> Iterator[Stratum]:
    """Contrasts within types, together for those with the same columns."""
    n_alike = np.bincount(types)
    for one in range(int(own_type.max()) + 1):
        chosen = np.flatnonzero((own_type == one) & (n_alike[types] > 1))
        if len(chosen):
            n = len(chosen) - len(np.unique(types[chosen]))
            yield Stratum(((level, chosen, np.arange(len(chosen))),), n)


def _distinct(values: Floats) -> tuple[Ints, Ints]:
    """First of every distinct row, and their numbers for every row; equal but for rounding."""
    size = np.abs(values).max(axis=0)
    rounded = np.round(values / np.where(size > 0.0, NEARLY * size, 1.0)) + 0.0
    _, first, found = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return first, np.asarray(found.ravel())
