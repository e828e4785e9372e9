"""A design whose units cross, as the compiled code works on it: cross-products of its columns.

One level and all levels nested within it are eliminated unit by unit ("inner" columns); the columns
of all other levels ("outer") form one dense system. What the design alone determines is here, once
for all replicates.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.blocks import Blocks
from mcsim.engine.nested.tree import Model
from mcsim.errors import DataError

MOST_OUTER = 2000  # columns of the dense system
LANES = 8  # a constant for the compiler, which then needs no loops over them


class Units(NamedTuple):
    """Columns of units, one unit after the other.

    first : (n_units + 1,) first column; level : (n_units,) innermost level first
    """

    first: Positions
    level: Positions


class Crossing(NamedTuple):
    """Cross-products of the columns of a design whose units cross.

    Columns are of unit scale, q of them per level; rest are the outer columns and then X.
    """

    model: Model
    blocks: Blocks
    n_units: Floats  # (n_levels,)
    turn: Floats  # (n_levels, q, q) by which the columns of a level are multiplied
    inner: Units
    outer: Units
    block_unit: Positions  # (n_blocks + 1,) first inner unit of each eliminated block
    touch_start: Positions  # (n_blocks + 1,)
    touch: Positions  # rest columns that have rows in common with a block: outer ones, then X
    G_start: Positions  # (n_blocks,) where a block begins in G
    G: Floats  # W'W of each block
    C_start: Positions  # (n_blocks,) where a block begins in C
    C: Floats  # rest'W of each block, for the rest columns that it touches
    rest: Floats  # (n_rest, n_rest) rest'rest


class CrossedReduction(NamedTuple):
    """How the rows of a response become W'y of all columns of random effects.

    X : (n_rows, p) X~ with X~'X~ = n I
    """

    n_columns: int
    column: Positions  # (n_rows, n) columns of W that a row is part of
    W: Floats  # (n_rows, n) its values there
    X: Floats


def crossing_of(
    units: Sequence[Ints],
    columns: Sequence[Floats],
    X: Floats,
    blocks: Blocks,
    model: Model,
) -> tuple[Crossing, CrossedReduction]:
    """Choose what is eliminated, and multiply all columns.

    Parameters
    ----------
    units : per level (n_rows,), numbered from 0, innermost level first
    columns : per level (n_rows, q), of unit scale

    Raises
    ------
    DataError
        The dense system would be too large.
    """
    sizes, n_units = [one.shape[1] for one in columns], [int(own.max()) + 1 for own in units]
    block_of_unit = _eliminated(units, n_units, sizes)
    numbers = enumerate(zip(n_units, sizes, strict=True))
    n_outer = sum(n * size for level, (n, size) in numbers if level not in block_of_unit)
    _refuse_too_many(n_outer)
    order = _order(n_units, sizes, block_of_unit)
    place = [np.zeros(n, dtype=np.int64) for n in n_units]
    ends = np.cumsum([0, *(sizes[level] for _, level, _ in order)])
    for (_, level, unit), first in zip(order, ends.tolist(), strict=False):
        place[level][unit] = first
    n_inner = int(ends[-1]) - n_outer
    is_inner = ends[:-1] < n_inner
    blocks_of_inner = np.array([block for block, *_ in order])[is_inner]
    block_unit = np.flatnonzero(np.diff(blocks_of_inner, prepend=-1, append=-1))
    level_of_unit = np.array([level for _, level, _ in order], dtype=np.uint64)
    numbered = enumerate(zip(units, sizes, strict=True))
    column = np.hstack([place[i][own][:, None] + np.arange(size) for i, (own, size) in numbered])
    W = np.ascontiguousarray(np.hstack(columns))
    inner = Units(ends[: is_inner.sum() + 1].astype(np.uint64), level_of_unit[is_inner])
    outer = Units((ends[is_inner.sum() :] - n_inner).astype(np.uint64), level_of_unit[~is_inner])
    q = blocks.Q.shape[1]
    crossing = Crossing(
        model._replace(width=LANES), blocks, np.array(n_units, dtype=np.float64),
        np.tile(np.eye(q), (len(units), 1, 1)),
        inner, outer, block_unit.astype(np.uint64),
        *_products(column, W, X, inner.first[block_unit].astype(np.int64), int(ends[-1])),
    )  # fmt: skip
    return crossing, CrossedReduction(int(ends[-1]), column.astype(np.uint64), W, X)


def _refuse_too_many(n_outer: int) -> None:
    if n_outer > MOST_OUTER:
        raise DataError(
            f"units that cross have {n_outer:,} random effects beside those of the units with most;"
            f" at most {MOST_OUTER:,} can be fitted. Leave a crossed term or its slopes out"
        )


def turned_crossing(crossing: Crossing, b: int, A: Floats) -> Crossing:
    """The crossing with the columns of a block times A; what is a sum of columns may meet any."""
    turn, meets = crossing.turn.copy(), crossing.blocks.meets.copy()
    level, first = int(crossing.blocks.level[b]), int(crossing.blocks.first[b])
    own = slice(first, first + len(A))
    turn[level, :, own] = turn[level, :, own] @ A
    meets[b] = True
    return crossing._replace(turn=turn, blocks=crossing.blocks._replace(meets=meets))


def is_within(inner: Ints, outer: Ints) -> bool:
    """Whether every unit of `inner` lies in one unit of `outer`."""
    first = np.unique(inner, return_index=True)[1]
    return bool(np.array_equal(outer[first][inner], outer))


def units_that_cross(units: Sequence[Ints]) -> bool:
    """Whether some levels, outermost first, do not lie within those before them."""
    return not all(is_within(inner, outer) for outer, inner in itertools.pairwise(units))


def _eliminated(
    units: Sequence[Ints], n_units: Sequence[int], sizes: Sequence[int]
) -> dict[int, Ints]:
    """The block of every unit of the levels that are eliminated: as many columns as possible."""
    best, found = -1, {}
    for root in range(len(units)):
        own = [one for one in range(len(units)) if is_within(units[one], units[root])]
        n = sum(n_units[one] * sizes[one] for one in own)
        if n > best:
            first = {one: np.unique(units[one], return_index=True)[1] for one in own}
            best, found = n, {one: units[root][at] for one, at in first.items()}
    return found


def _order(
    n_units: Sequence[int], sizes: Sequence[int], block_of_unit: dict[int, Ints]
) -> list[tuple[int, int, int]]:
    """Block, level and unit in the order of the columns, inner ones first."""
    inner = [
        (int(block), level, unit)
        for level, blocks in block_of_unit.items()
        for unit, block in enumerate(blocks)
        if sizes[level]
    ]
    outer = [
        (len(inner), level, unit)
        for level, n in enumerate(n_units)
        for unit in range(n)
        if level not in block_of_unit and sizes[level]
    ]
    return [*sorted(inner), *outer]


def _products(
    column: Ints, W: Floats, X: Floats, block_first: Ints, n_columns: int
) -> tuple[Any, ...]:
    """What blocks touch, their cross-products with themselves and with the rest, and the rest's.

    Parameters
    ----------
    column, W : of the rows, as in CrossedReduction
    block_first : (n_blocks + 1,) first column of every block
    """
    from scipy.sparse import csr_array

    n, n_each = W.shape
    rows = csr_array((W.ravel(), column.ravel(), np.arange(0, n * n_each + 1, n_each)),
                     shape=(n, n_columns))  # fmt: skip
    G, GX = (rows.T @ rows).tocsr(), rows.T @ X
    n_inner, n_rest = int(block_first[-1]), n_columns - int(block_first[-1]) + X.shape[1]
    fixed = np.arange(n_rest - X.shape[1], n_rest)
    touch, own, cross = [], [], []
    for first, end in itertools.pairwise(block_first.tolist()):
        part = G[first:end]
        outer = np.unique(part.indices[part.indices >= n_inner])
        own.append(part[:, first:end].toarray().ravel())
        touched = part[:, outer].toarray().T
        cross.append(np.vstack([touched, GX[first:end].T]).ravel())
        touch.append(np.concatenate([outer - n_inner, fixed]))
    rest = np.empty((n_rest, n_rest))
    rest[: len(rest) - len(fixed), : len(rest) - len(fixed)] = G[n_inner:, n_inner:].toarray()
    rest[fixed, : -len(fixed) or None] = GX[n_inner:].T
    rest[: -len(fixed) or None, fixed] = GX[n_inner:]
    rest[np.ix_(fixed, fixed)] = X.T @ X
    starts = [np.cumsum([0, *map(len, parts)]).astype(np.uint64) for parts in (touch, own, cross)]
    return (
        starts[0], np.concatenate(touch).astype(np.uint64), starts[1][:-1], np.concatenate(own),
        starts[2][:-1], np.concatenate(cross), rest,
    )  # fmt: skip
