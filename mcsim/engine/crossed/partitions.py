"""Units as partitions of the rows: which lie within which, and what they have in common."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats, Ints

MOST = 8  # partitions and their joins: more are not looked through


def is_within(inner: Ints, outer: Ints) -> bool:
    """Whether every unit of `inner` lies in one unit of `outer`."""
    first = np.unique(inner, return_index=True)[1]
    return bool(np.array_equal(outer[first][inner], outer))


def units_that_cross(units: Sequence[Ints]) -> bool:
    """Whether some levels, outermost first, do not lie within those before them."""
    return not all(is_within(inner, outer) for outer, inner in itertools.pairwise(units))


def sums_of_pairs(first: Ints, second: Ints, values: Floats) -> Any:
    """Sums of the values of the rows that two units share: sparse, (n_first, n_second)."""
    shape = int(first.max()) + 1, int(second.max()) + 1
    found = scipy.sparse.csr_array((values, (first, second)), shape=shape)
    found.sum_duplicates()
    return found


def of_units(cells: Ints, unit: Ints) -> Ints:
    """The cell of every unit, where units lie within cells."""
    return np.asarray(cells[np.unique(unit, return_index=True)[1]])


def join(first: Ints, second: Ints) -> Ints:
    """The finest partition that both lie within."""
    n, m = int(first.max()) + 1, int(second.max()) + 1
    both = scipy.sparse.csr_array((np.ones(len(first)), (first, second + n)), shape=(n + m, n + m))
    labels = scipy.sparse.csgraph.connected_components(both, directed=False)[1].astype(np.int64)
    return _in_order(labels[first])


def _in_order(labels: Ints) -> Ints:
    """The same partition, numbered as its cells occur."""
    _, first, found = np.unique(labels, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.asarray(place[found])


def joins(partitions: Sequence[Ints]) -> list[Ints] | None:
    """The whole, partitions and their joins, coarsest first; None where these are too many."""
    found = [np.zeros(len(partitions[0]), dtype=np.int64)]
    waiting = [_in_order(own) for own in partitions]
    while waiting:
        new = waiting.pop()
        if any(np.array_equal(new, one) for one in found):
            continue
        if len(found) == MOST:
            return None
        waiting += [join(new, one) for one in found[1:]]
        found.append(new)
    return sorted(found, key=lambda cells: int(cells.max()))


def are_orthogonal(one: Ints, other: Ints) -> bool:
    """Whether cells share as many rows wherever they share any, in every cell of their join."""
    both = join(one, other)
    shared = sums_of_pairs(one, other, np.ones(len(one)))
    possible = np.bincount(of_units(both, one)) @ np.bincount(of_units(both, other))
    return bool(shared.nnz == possible and np.ptp(shared.data) == 0.0)
