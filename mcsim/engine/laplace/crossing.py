"""A design whose units cross as the Laplace approximation works on it: rows by eliminated unit.

Units of the level with most columns ("inner") are eliminated one by one, those of all others
("outer") together, in one dense system. Columns of all units stand side by side, inner ones first.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.blocks import Blocks
from mcsim.engine.compile import CompiledDesign, Level


class Cross(NamedTuple):
    """Rows and units; k columns of random effects in a row, p of fixed effects.

    Levels are numbered innermost first, wherever their columns stand.
    """

    inner: int  # level whose units are eliminated
    level_start: Positions  # (n_levels + 1,) number of units, added up
    column_start: Positions  # (n_levels + 1,) of the k columns
    first: Positions  # (n_inner + 1,) first row of every inner unit
    place: Positions  # (n_levels, n_rows) first column of a row's unit
    outer: (
        Positions  # (n_outer + 1,) first column of every outer unit, counted from the inner ones'
    )
    outer_level: Positions  # (n_outer,)
    touch_start: Positions  # (n_inner + 1,)
    touch: Positions  # outer columns that have rows in common with an inner unit
    at: Positions  # (n_levels, n_rows) where the columns of a row's outer units stand among these
    Z: Floats  # (k, n_rows) of unit scale
    X: Floats  # (p, n_rows) X~', X~ orthogonal with X~'X~ = n I
    offset: Floats  # (n_rows,)
    trials: Floats  # (n_rows,)

    def unit_of_row(self, level: int) -> Ints:
        """Any number of every row's unit."""
        return np.asarray(self.place[level].astype(np.int64))


class CrossRoom(NamedTuple):
    """What an evaluation leaves on its way; names are those of nest.Room."""

    fixed: Floats  # (n_rows,)
    eta: Floats
    nll: Floats
    r: Floats
    w: Floats
    w3: Floats
    moved: Floats
    u: Floats  # (n_columns,) of all units
    u_before: Floats
    step: Floats
    b: Floats
    b_before: Floats
    vector: Floats
    path: Floats
    y: Floats
    R: Floats
    S: Floats
    G: Floats  # (n_inner, q, q) Z'WZ of inner units
    L: Floats  # (n_inner, q, q) Cholesky factor of I + Lam'G Lam
    H: Floats  # (n_inner, q, q) L^-1 Lam'
    C: Floats  # (n_touch, q) Z'WZ of touched outer columns and inner ones
    P: Floats  # (n_touch, q) C H'
    E: Floats  # (n_touch, q) on the way, as are those that follow
    F: Floats
    own: Floats  # (q, q)
    A: Floats  # (n_outer_columns,) * 2 Z'WZ of outer columns, less what inner units explain
    B: Floats  # Cholesky factor of I + Lam'A Lam
    V: Floats
    N: Floats  # Lam B^-1 B^-T Lam', covariance of the outer b given the responses
    Lam: Floats  # (n_levels, q, q, 1)
    D: Floats  # (n_levels + 1, q, q, 1)
    K: Floats


def cross_of(
    design: CompiledDesign, X: Floats, levels: tuple[Level, ...], offset: Floats, trials: Floats
) -> tuple[CompiledDesign, Cross]:
    """The design with its rows sorted by inner unit, and these.

    Parameters
    ----------
    design : compiled of X and levels, which cross; offset, trials : (n_rows,)
    """
    units = [np.unique(level.unit_of_row, return_inverse=True)[1] for level in levels][::-1]
    Z = [level.Z @ S for level, S in zip(levels, design.scales, strict=True)][::-1]
    sizes, n_units = [one.shape[1] for one in Z], [int(one.max()) + 1 for one in units]
    inner = int(np.argmax(np.multiply(sizes, n_units)))
    order = np.argsort(units[inner], kind="stable")
    units, starts = [one[order] for one in units], [0] * len(units)
    n_inner_columns = end = sizes[inner] * n_units[inner]
    others = [level for level in range(len(units)) if level != inner]
    for level in others:
        starts[level], end = end, end + sizes[level] * n_units[level]
    place = np.array(starts)[:, None] + np.array(units) * np.array(sizes)[:, None]
    outer_level = np.repeat(others, [n_units[level] for level in others])
    outer = np.cumsum([0, *np.array(sizes)[outer_level]])
    touch_start, touch, at = _touched(place - n_inner_columns, units[inner], sizes, others)
    cross = Cross(
        inner,
        _positions(np.cumsum([0, *n_units])),
        _positions(np.cumsum([0, *sizes])),
        _positions(np.cumsum([0, *np.bincount(units[inner])])),
        _positions(place),
        _positions(outer),
        _positions(outer_level),
        _positions(touch_start),
        _positions(touch),
        _positions(at),
        np.ascontiguousarray(np.hstack(Z)[order].T),
        np.ascontiguousarray((X @ np.linalg.inv(design.R))[order].T),
        offset[order],
        trials[order],
    )
    return replace(design, order=order), cross


def _touched(
    place: Ints, unit: Ints, sizes: list[int], others: list[int]
) -> tuple[Ints, Ints, Ints]:
    """Outer columns that every inner unit touches, and where those of a row stand among them."""
    at, starts, end = np.zeros_like(place), [0], 0
    touch: list[Ints] = []
    for rows in np.split(np.arange(len(unit)), np.flatnonzero(np.diff(unit)) + 1):
        for level in others:
            own, which = np.unique(place[level, rows], return_inverse=True)
            at[level, rows] = end - starts[-1] + which * sizes[level]
            touch.append((own[:, None] + np.arange(sizes[level])).ravel())
            end += len(touch[-1])
        starts.append(end)
    return np.array(starts), np.concatenate(touch), at


def turned_cross(cross: Cross, blocks: Blocks, b: int, A: Floats) -> Cross:
    """The crossing with the columns of a block times A."""
    Z = cross.Z.copy()
    first = int(cross.column_start[blocks.level[b]]) + int(blocks.first[b])
    own = slice(first, first + len(A))
    Z[own] = A.T @ Z[own]
    return cross._replace(Z=Z)


def _positions(numbers: Ints) -> Positions:
    return np.ascontiguousarray(numbers).astype(np.uint64)


def room_for_cross(cross: Cross, q: int) -> CrossRoom:
    """Memory for an evaluation; q columns at most in a level."""
    n_rows, n_levels, n_inner = len(cross.offset), len(cross.place), len(cross.first) - 1
    q_inner = int(cross.column_start[cross.inner + 1] - cross.column_start[cross.inner])
    n_outer = int(cross.outer[-1])
    rows = [np.zeros(n_rows) for _ in range(7)]
    columns = [np.zeros(n_inner * q_inner + n_outer) for _ in range(10)]
    of_inner = [np.zeros((n_inner, q_inner, q_inner)) for _ in range(3)]
    of_touch = [np.zeros((len(cross.touch), q_inner)) for _ in range(4)]
    of_outer = [np.zeros((n_outer, n_outer)) for _ in range(4)]
    of_levels = [np.zeros((n, q, q, 1)) for n in (n_levels, n_levels + 1, n_levels + 1)]
    own = [np.zeros((q_inner, q_inner))]
    return CrossRoom(*rows, *columns, *of_inner, *of_touch, *own, *of_outer, *of_levels)
