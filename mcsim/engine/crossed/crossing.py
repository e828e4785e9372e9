"""A design whose units cross, as the compiled code works on it: cross-products of its columns.

One level and all levels nested within it are eliminated unit by unit ("inner" columns); the columns
of all other levels ("outer") form one dense system. Units that are alike are one unit here, their
mean, and what lies between them is eliminated as strata. What the design alone determines is here,
once for all replicates.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.blocks import Blocks
from mcsim.engine.crossed.alike import units_alike
from mcsim.engine.crossed.partitions import is_within, of_units
from mcsim.engine.crossed.sums import (
    CrossedReduction,
    Layout,
    Strata,
    layout_of,
    mean_columns,
    reduction_of,
    strata_of,
    tables_of,
)
from mcsim.engine.nested.tree import Model
from mcsim.errors import DataError

MOST_OUTER = 2000  # columns of the dense system
FEW = 1000  # columns whose cross-products are worked on with all their zeros
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
    weight: Floats  # (n_blocks,) how many of such blocks there are
    touch_start: Positions  # (n_blocks + 1,)
    touch: Positions  # rest columns that have rows in common with a block: outer ones, then X
    G_start: Positions  # (n_blocks,) where a block begins in G
    G: Floats  # W'W of each block
    C_start: Positions  # (n_blocks,) where a block begins in C
    C: Floats  # rest'W of each block, for the rest columns that it touches
    rest: Floats  # (n_rest, n_rest) rest'rest


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
    layout = layout_of(units, columns)
    rows = _sparse_rows(layout)
    G, GX = (rows.T @ rows).tocsr(), rows.T @ X
    alike = units_alike(units, columns, G)
    types = [own[unit] for own, unit in zip(alike.types, units, strict=True)]
    placed = _placed(types, layout.sizes)
    means = mean_columns(layout, alike, placed.place)
    G = (means.T @ G @ means).tocsr()
    tables = tables_of(layout, alike)
    strata = strata_of(tables, layout, alike, GX, G, placed.place)
    q = blocks.Q.shape[1]
    crossing = Crossing(
        model._replace(width=LANES), blocks, np.array(layout.n_units, dtype=np.float64),
        np.tile(np.eye(q), (len(units), 1, 1)),
        placed.inner, placed.outer, placed.block_unit, np.ones(len(placed.block_unit) - 1),
        *_products(G, means.T @ GX, X.T @ X, placed.block_first),
    )  # fmt: skip
    reduction = reduction_of(tables, layout, strata, X, placed.place, placed.block_first[-1])
    return _with_strata(crossing, strata), reduction


def _sparse_rows(layout: Layout) -> Any:
    """The columns of all units: sparse, (n_rows, n_sums)."""
    n, n_each = layout.W.shape
    starts = np.arange(0, n * n_each + 1, n_each) if n_each else np.zeros(n + 1, dtype=np.int64)
    where = layout.W.ravel(), layout.column.ravel().astype(np.int64), starts
    return scipy.sparse.csr_array(where, shape=(n, layout.n_sums))


def _with_strata(crossing: Crossing, strata: Strata) -> Crossing:
    """The crossing with the contrasts of strata as eliminated blocks, which touch X alone."""
    n, p = len(strata.weight), len(crossing.rest) - int(crossing.outer.first[-1])
    if n == 0:
        return crossing
    inner, X_columns = crossing.inner, np.arange(len(crossing.rest) - p, len(crossing.rest))

    def after(starts: Positions, sizes: Ints) -> Positions:
        return np.append(starts, starts[-1] + np.cumsum(sizes).astype(np.uint64))

    ends_of_blocks = np.append(crossing.G_start, np.uint64(len(crossing.G)))
    ends_of_products = np.append(crossing.C_start, np.uint64(len(crossing.C)))
    n_columns = strata.n_columns
    return crossing._replace(
        inner=Units(
            after(inner.first, strata.unit_size),
            np.append(inner.level, strata.unit_level.astype(np.uint64)),
        ),
        block_unit=after(crossing.block_unit, strata.n_units),
        weight=np.append(crossing.weight, strata.weight),
        touch_start=after(crossing.touch_start, np.full(n, p)),
        touch=np.append(crossing.touch, np.tile(X_columns, n).astype(np.uint64)),
        G_start=after(ends_of_blocks, n_columns**2)[:-1],
        G=np.append(crossing.G, strata.G),
        C_start=after(ends_of_products, n_columns * p)[:-1],
        C=np.append(crossing.C, strata.C),
    )


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


class _Placed(NamedTuple):
    """Where the columns of units stand: those that are eliminated first, block by block.

    place : per level (n_units,) first column; inner, outer : units that are eliminated, and others
    block_unit : (n_blocks + 1,) first unit of a block; block_first : its first column
    """

    place: list[Ints]
    inner: Units
    outer: Units
    block_unit: Any
    block_first: list[int]


def _placed(units: Sequence[Ints], sizes: Sequence[int]) -> _Placed:
    """The order of the columns; a DataError where too many are left."""
    n_units = [int(own.max()) + 1 for own in units]
    block_of_unit = _eliminated(units, n_units, sizes)
    order = _order(n_units, sizes, block_of_unit)
    place = [np.zeros(n, dtype=np.int64) for n in n_units]
    ends = np.cumsum([0, *(sizes[level] for _, level, _ in order)])
    for (_, level, unit), first in zip(order, ends.tolist(), strict=False):
        place[level][unit] = first
    level_of_unit = np.array([level for _, level, _ in order], dtype=np.uint64)
    is_inner = np.array([level in block_of_unit for _, level, _ in order], dtype=bool)
    n_inner = int(is_inner.sum())
    _refuse_too_many(int(ends[-1] - ends[n_inner]))
    block_of_inner = np.array([block for block, *_ in order])[is_inner]
    block_unit = np.flatnonzero(np.diff(block_of_inner, prepend=-1, append=-1))
    return _Placed(
        place,
        Units(ends[: n_inner + 1].astype(np.uint64), level_of_unit[is_inner]),
        Units((ends[n_inner:] - ends[n_inner]).astype(np.uint64), level_of_unit[~is_inner]),
        block_unit.astype(np.uint64),
        ends[block_unit].tolist(),
    )


def _eliminated(
    units: Sequence[Ints], n_units: Sequence[int], sizes: Sequence[int]
) -> dict[int, Ints]:
    """The block of every unit of the levels that are eliminated: those that leave least to do."""
    least, found, n_all = np.inf, {}, int(np.dot(n_units, sizes))
    for root in range(len(units)):
        own = [one for one in range(len(units)) if is_within(units[one], units[root])]
        block = {one: of_units(units[root], units[one]) for one in own}
        size = sum(np.bincount(block[one], minlength=n_units[root]) * sizes[one] for one in own)
        n_outer = n_all - int(np.sum(size))
        work = float(np.sum(size**3)) + float(n_all) * n_outer**2
        if work < least:
            least, found = work, block
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


def _products(G: Any, GX: Floats, XX: Floats, block_first: Sequence[int]) -> tuple[Any, ...]:
    """What blocks touch, their cross-products with themselves and with the rest, and the rest's.

    Parameters
    ----------
    G, GX, XX : cross-products of all columns, with X, and of X
    block_first : (n_blocks + 1,) first column of every block
    """
    n_inner, n_rest = block_first[-1], len(GX) - block_first[-1] + len(XX)
    fixed = np.arange(n_rest - len(XX), n_rest)
    touch, own, cross = [], [], []
    G = G.toarray() if len(GX) < FEW else G
    for first, end in itertools.pairwise(block_first):
        part = G[first:end]
        outer = np.flatnonzero(abs(part[:, n_inner:]).sum(axis=0))
        own.append(_with_zeros(part[:, first:end]).ravel())
        touched = _with_zeros(part[:, n_inner + outer]).T
        cross.append(np.vstack([touched, GX[first:end].T]).ravel())
        touch.append(np.concatenate([outer, fixed]))
    of_X = GX[n_inner:]
    rest = np.block([[_with_zeros(G[n_inner:, n_inner:]), of_X], [of_X.T, XX]])
    starts = [np.cumsum([0, *map(len, parts)]).astype(np.uint64) for parts in (touch, own, cross)]
    return (
        starts[0], np.concatenate(touch).astype(np.uint64), starts[1][:-1], np.concatenate(own),
        starts[2][:-1], np.concatenate(cross), rest,
    )  # fmt: skip


def _with_zeros(matrix: Any) -> Floats:
    return matrix if isinstance(matrix, np.ndarray) else np.asarray(matrix.toarray())
