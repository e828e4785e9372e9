"""A design with nested units as the Laplace approximation works on it: sorted rows, units by level.

Units are numbered level by level, innermost level first; columns of all levels stand side by side,
innermost level first, so that a unit knows its own and those of the units around it: `own:`.
"""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints, Positions
from mcsim.engine.blocks import Blocks, n_parameters
from mcsim.engine.compile import CompiledDesign, Level


class Nest(NamedTuple):
    """Rows and units; k columns of random effects in all, p of fixed effects."""

    first: Positions  # (n_units,) of what is within a unit: rows (innermost level) or units
    end: Positions
    parent: Positions  # (n_units,) unit around it; of the outermost level 0
    level_start: Positions  # (n_levels + 1,) first unit of every level
    column_start: Positions  # (n_levels + 1,)
    leaf: Positions  # (n_rows,) innermost unit
    B: Floats  # (n_basis, n_rows) columns of random effects, each once, of unit scale
    column: Positions  # (k,) which of these a random effect has
    X: Floats  # (p, n_rows) X~', X~ orthogonal with X~'X~ = n I
    offset: Floats  # (n_rows,)
    trials: Floats  # (n_rows,)

    def unit_of_row(self, level: int) -> Ints:
        """Any number of every row's unit."""
        unit = self.leaf
        for _ in range(level):
            unit = self.parent[unit]
        return unit.astype(np.int64)


class Room(NamedTuple):
    """What an evaluation leaves on its way; k columns, units as in Nest.

    Units come last, so that loops over those of a level become vector instructions.
    """

    fixed: Floats  # (n_rows,) fixed part and offset
    eta: Floats  # (n_rows,) the predictor
    nll: Floats  # (n_rows,) minus log-likelihood and derivatives, of families/
    r: Floats
    w: Floats
    w3: Floats
    moved: Floats  # (n_rows,)
    u: Floats  # (k, n_units) own effects, of covariance I
    u_before: Floats
    step: Floats
    b: Floats  # (k, n_units) Lam u of a unit and of those around it
    b_before: Floats
    vector: Floats  # (k, n_units) sums of r Z, without what the units within explain
    path: Floats  # (k, n_units) Lam times a solution, as b
    y: Floats  # (k, n_units) L^-1 times a unit's own
    R: Floats  # (k, n_units) sums of r Z
    S: Floats  # (k, n_units) sums of (w' q - w Z v) Z
    M: Floats  # (k, k, n_units) Z'(W^-1 + Z Psi Z')^-1 Z, Psi of the units within
    F: Floats  # (k, k, n_units) Cholesky factor L of a unit's own; L^-1 Lam'M beside it
    C: Floats  # (k, k, n_units) covariance of b given the responses
    of_basis: Floats  # (n_basis, n_basis, n_leaves) sums by columns of the basis
    Lam: Floats  # (n_levels, q, q, 1)
    D: Floats  # (n_levels + 1, q, q, 1) derivative in Psi; the last in the dispersion
    K: Floats  # the same without data


def nest_of(
    design: CompiledDesign, X: Floats, levels: tuple[Level, ...], offset: Floats, trials: Floats
) -> Nest:
    """Sort the rows into units.

    Parameters
    ----------
    design : compiled of X and levels; offset, trials : (n_rows,)
    """
    order, n = design.order, len(X)
    units = [level.unit_of_row[order] for level in levels] or [np.zeros(n, dtype=np.int64)]
    begins: list[Flags] = []
    for unit in units:
        changed = np.diff(unit, prepend=unit[0] - 1) != 0
        begins.append(changed | begins[-1] if begins else changed)
    starts = [np.flatnonzero(one) for one in begins[::-1]]  # rows, innermost level first
    level_start = np.cumsum([0, *map(len, starts)])
    firsts, ends = [starts[0]], [np.append(starts[0][1:], n)]
    for inner, outer, at in zip(starts, starts[1:], level_start, strict=False):
        position = at + np.searchsorted(inner, outer)
        firsts.append(position)
        ends.append(np.append(position[1:], at + len(inner)))
    first, end = np.concatenate(firsts), np.concatenate(ends)
    parent = np.zeros(level_start[-1], dtype=np.int64)
    for at in range(level_start[1], level_start[-1]):
        parent[first[at] : end[at]] = at
    Z = [level.Z @ S for level, S in zip(levels, design.scales, strict=False)][::-1]
    sizes = [one.shape[1] for one in Z] or [0]
    columns = np.hstack([np.zeros((n, 0)), *Z])[order]
    B, column = _distinct(columns.T)
    leaf = np.cumsum(begins[-1]) - 1
    return Nest(
        _positions(first),
        _positions(end),
        _positions(parent),
        _positions(level_start),
        _positions(np.cumsum([0, *sizes])),
        _positions(leaf),
        B,
        column,
        np.ascontiguousarray((X @ np.linalg.inv(design.R))[order].T),
        offset[order],
        trials[order],
    )


def turned_nest(nest: Nest, blocks: Blocks, b: int, A: Floats) -> Nest:
    """The nest with the columns of a block times A."""
    columns = nest.B[nest.column.astype(np.int64)]
    first = int(nest.column_start[blocks.level[b]]) + int(blocks.first[b])
    own = slice(first, first + len(A))
    columns[own] = A.T @ columns[own]
    B, column = _distinct(columns)
    return nest._replace(B=B, column=column)


def _distinct(columns: Floats) -> tuple[Floats, Positions]:
    """Columns (k, n_rows), each once, and which of these each of them is."""
    rounded = np.ascontiguousarray(columns.round(12))
    _, chosen, column = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return np.ascontiguousarray(columns[chosen]), _positions(column.reshape(-1))


def _positions(numbers: Ints) -> Positions:
    return np.asarray(numbers.astype(np.uint64))


def room_for(nest: Nest, q: int) -> Room:
    """Memory for an evaluation; q columns at most in a level."""
    n_basis, n_rows = nest.B.shape
    k, n_units, n_levels = len(nest.column), len(nest.first), len(nest.level_start) - 1
    rows = [np.zeros(n_rows) for _ in range(7)]
    vectors = [np.zeros((k, n_units)) for _ in range(10)]
    matrices = [np.zeros((k, k, n_units)) for _ in range(3)]
    of_basis = [np.zeros((n_basis, n_basis, int(nest.level_start[1])))]
    of_levels = [np.zeros((n, q, q, 1)) for n in (n_levels, n_levels + 1, n_levels + 1)]
    return Room(*rows, *vectors, *matrices, *of_basis, *of_levels)


def with_dispersion(blocks: Blocks, n_levels: int) -> Blocks:
    """The blocks and one more, whose variance is that of a negative binomial: a level of its own.

    To second order the dispersion is the variance of an effect that every row has.
    """
    b, q = len(blocks.size), blocks.Q.shape[1]
    one = np.zeros((1, q, q))
    return Blocks(
        np.append(blocks.level, n_levels),
        np.append(blocks.first, 0),
        np.append(blocks.size, 1),
        np.append(blocks.theta, n_parameters(blocks)),
        np.append(blocks.is_matrix, True),
        np.concatenate([blocks.Q[:b], one]),
        np.concatenate([blocks.meets[:b], one == 0.0]),
    )
