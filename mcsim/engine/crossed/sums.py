"""From the rows of a response to what the likelihood reads: sums over units, means, contrasts.

Sums over the rows of every unit come first. Sweeps take means over cells of units out of them, one
table each: the means of units that are alike, which stay units of the crossing, and the tables of
every stratum, side by side. Contrasts of a stratum that the fixed effects enter are kept apart; of
the others as many are made as a stratum has columns, with the same cross-products as all of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.crossed.alike import Alike

NOTHING = 1e-12  # of the fixed effects' cross-products: what is rounding
PIVOT = 1e-14  # of what a column began with: what is left of it is rounding

U = np.uint64


class Layout(NamedTuple):
    """Columns of all units, level by level.

    column, W : (n_rows, n) columns that a row is part of, and its values there
    first : per level its first column; n_sums : number of columns of all units
    """

    n_units: list[int]
    sizes: list[int]
    first: list[int]
    n_sums: int
    column: Ints
    W: Floats


class Strata(NamedTuple):
    """Contrasts as blocks for the elimination, and which of them hold the fixed effects.

    n_units, n_columns, weight : per block; unit_size, unit_level : per unit of these
    G, C : as in Crossing; Q : per stratum (n_cells, r) the contrasts that the fixed effects enter
    n_rest : per stratum, how many blocks the other contrasts become
    """

    n_units: Ints
    n_columns: Ints
    weight: Floats
    unit_size: Ints
    unit_level: Ints
    G: Floats
    C: Floats
    Q: list[Floats]
    n_rest: list[int]


class Tables(NamedTuple):
    """Which tables the sweeps make of the sums, in a buffer that begins with these.

    of_means : per level where its means begin; of_strata : per stratum (n_cells, n_columns) places
    sweeps : (n_sweeps, 6) first column of the level, its size, first place and row length of the
        table, first and last of the listed units; unit, cell, root : of those, with
        root = 1 / sqrt(units in the cell)
    """

    n_buffer: int
    of_means: list[int]
    of_strata: list[Ints]
    sweeps: Ints
    unit: Ints
    cell: Ints
    root: Floats


class CrossedReduction(NamedTuple):
    """How the rows of a response become W'y of all columns of random effects.

    n_columns, n_buffer : numbers that are kept of a response, and that are worked out
    column, W : of the rows, as in Layout; X : (n_rows, p) X~ with X~'X~ = n I
    sweeps, unit, cell, root : as in Tables
    kept : (n, 2) places in the buffer of what is kept as it is, and where
    strata : (n_strata, 6) first place of the table, cells, columns, contrasts with fixed effects,
        blocks of others, first number that is kept; Q : (n_cells, r) of all strata
    """

    n_columns: int
    n_buffer: int
    column: Positions
    W: Floats
    X: Floats
    sweeps: Positions
    unit: Positions
    cell: Positions
    root: Floats
    kept: Positions
    strata: Positions
    Q: Floats


def layout_of(units: Sequence[Ints], columns: Sequence[Floats]) -> Layout:
    """Number the columns of all units."""
    sizes, n_units = [one.shape[1] for one in columns], [int(own.max()) + 1 for own in units]
    first = np.cumsum([0, *(n * q for n, q in zip(n_units, sizes, strict=True))]).tolist()
    parts = [
        start + unit[:, None] * q + np.arange(q)
        for start, unit, q in zip(first, units, sizes, strict=False)
    ]
    W = np.ascontiguousarray(np.hstack(columns))
    return Layout(n_units, sizes, first[:-1], first[-1], np.hstack(parts), W)


def mean_columns(layout: Layout, alike: Alike, place: Sequence[Ints]) -> Any:
    """Columns of the means of units that are alike, of length 1: sparse, (n_sums, n_means).

    Parameters
    ----------
    place : per level (n_types,) first column of every type
    """
    to, values = [], []
    for q, types, own in zip(layout.sizes, alike.types, place, strict=True):
        to.append((own[types][:, None] + np.arange(q)).ravel())
        values.append(np.repeat(1.0 / np.sqrt(np.bincount(types))[types], q))
    n_means = sum(len(own) * q for own, q in zip(place, layout.sizes, strict=True))
    where = np.arange(layout.n_sums), np.concatenate(to)
    return scipy.sparse.csr_array((np.concatenate(values), where), shape=(layout.n_sums, n_means))


def tables_of(layout: Layout, alike: Alike) -> Tables:
    """Means of units that are alike, then the tables of the strata; none of single units."""
    if not alike.strata:
        none = np.zeros(0, dtype=np.int64)
        no_sweeps = np.zeros((0, 6), dtype=np.int64)
        return Tables(layout.n_sums, layout.first, [], no_sweeps, none, none, np.zeros(0))
    of_means: list[int] = []
    of_strata: list[Ints] = []
    sweeps: list[tuple[int, ...]] = []
    listed: list[tuple[Ints, Ints, Floats]] = []
    end, n_listed = layout.n_sums, 0

    def sweep(level: int, units: Ints, cells: Ints, first: int, width: int) -> None:
        nonlocal n_listed
        last = n_listed + len(units)
        sweeps.append((layout.first[level], layout.sizes[level], first, width, n_listed, last))
        listed.append((units, cells, 1.0 / np.sqrt(np.bincount(cells))[cells]))
        n_listed = last

    for level, (types, q) in enumerate(zip(alike.types, layout.sizes, strict=True)):
        of_means.append(end)
        sweep(level, np.arange(len(types)), types, end, q)
        end += (int(types.max()) + 1) * q
    for stratum in alike.strata:
        width = sum(layout.sizes[level] for level, *_ in stratum.cells)
        n_cells = int(stratum.cells[0][2].max()) + 1
        of_strata.append(end + np.arange(n_cells * width).reshape(n_cells, width))
        first = end
        for level, units, cells in stratum.cells:
            sweep(level, units, cells, first, width)
            first += layout.sizes[level]
        end += n_cells * width
    unit, cell, root = (np.concatenate(part) for part in zip(*listed, strict=True))
    return Tables(end, of_means, of_strata, np.array(sweeps), unit, cell, root)


def strata_of(
    tables: Tables, layout: Layout, alike: Alike, GX: Floats, G: Any, place: Sequence[Ints]
) -> Strata:
    """The contrasts of all strata.

    Parameters
    ----------
    GX : (n_sums, p) sums over units of X; G : sparse, cross-products of the means
    """
    p, size = GX.shape[1], float(np.linalg.norm(GX))
    buffers = np.zeros((p, tables.n_buffer))
    buffers[:, : layout.n_sums] = GX.T
    where = map(_positions, (tables.sweeps, tables.unit, tables.cell))
    _sweep_all(*where, tables.root, buffers)
    n_of_block, level_of_unit, weight, own_G, own_C, Q, n_rest = [], [], [], [], [], [], []
    for stratum, table in zip(alike.strata, tables.of_strata, strict=True):
        at = np.concatenate([
            place[level][alike.types[level][units[0]]] + np.arange(layout.sizes[level])
            for level, units, _ in stratum.cells
        ])  # fmt: skip
        X = buffers[:, table].swapaxes(0, 1)  # (n_cells, p, n_columns)
        left, values, _ = np.linalg.svd(X.reshape(len(X), -1), full_matrices=False)
        r = min(int(np.count_nonzero(values > NOTHING * size)), stratum.n)
        Q.append(left[:, :r])
        n_rest.append(min(len(at), stratum.n - r))
        n = r + n_rest[-1]
        own_C += [np.einsum("cr,cpb->rpb", left[:, :r], X), np.zeros((n_rest[-1], p, len(at)))]
        own_G.append(np.tile(G[at][:, at].toarray().ravel(), n))
        n_of_block += [(len(stratum.cells), len(at))] * n
        level_of_unit += [level for level, *_ in stratum.cells] * n
        weight += [stratum.n / n] * n
    levels = np.array(level_of_unit, dtype=np.int64)
    numbers = np.array(n_of_block, dtype=np.int64).reshape(-1, 2)
    return Strata(
        numbers[:, 0], numbers[:, 1], np.array(weight), np.array(layout.sizes)[levels], levels,
        _joined(own_G), _joined(own_C), Q, n_rest,
    )  # fmt: skip


def reduction_of(
    tables: Tables,
    layout: Layout,
    strata: Strata,
    X: Floats,
    place: Sequence[Ints],
    n_inner: int,
) -> CrossedReduction:
    """How rows are reduced.

    Parameters
    ----------
    n_inner : inner columns of the means, after which contrasts stand
    """
    n_contrasts, kept = int(strata.n_columns.sum()), []
    for first, q, own in zip(tables.of_means, layout.sizes, place, strict=True):
        to = (own[:, None] + np.arange(q)).ravel()
        to = np.where(to < n_inner, to, to + n_contrasts)
        kept.append(np.column_stack([first + np.arange(len(to)), to]))
    numbers, end = [], n_inner
    for table, Q, n_rest in zip(tables.of_strata, strata.Q, strata.n_rest, strict=True):
        numbers.append((table[0, 0], *table.shape, Q.shape[1], n_rest, end))
        end += (Q.shape[1] + n_rest) * table.shape[1]
    return CrossedReduction(
        sum(map(len, kept)) + n_contrasts, tables.n_buffer, _positions(layout.column), layout.W, X,
        _positions(tables.sweeps), _positions(tables.unit), _positions(tables.cell), tables.root,
        _positions(np.concatenate(kept)),
        _positions(np.array(numbers, dtype=np.int64).reshape(-1, 6)), _joined(strata.Q),
    )  # fmt: skip


def _positions(values: Ints) -> Positions:
    return np.ascontiguousarray(values.astype(np.uint64))


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *(part.ravel() for part in parts)])


@lean_kernel
def _sweep_all(sweeps, unit, cell, root, buffers):
    for r in range(len(buffers)):
        make_tables(sweeps, unit, cell, root, buffers[r])


@step
def make_tables(sweeps, unit, cell, root, buffer):
    """Fill the tables, which are zero, and take out of the sums what is in them."""
    for s in range(U(len(sweeps))):
        column, q, table, width = sweeps[s, 0], sweeps[s, 1], sweeps[s, 2], sweeps[s, 3]
        for m in range(sweeps[s, 4], sweeps[s, 5]):
            for i in range(q):
                at = table + cell[m] * width + i
                buffer[at] += root[m] * buffer[column + unit[m] * q + i]
        for m in range(sweeps[s, 4], sweeps[s, 5]):
            for i in range(q):
                at = table + cell[m] * width + i
                buffer[column + unit[m] * q + i] -= root[m] * buffer[at]


@step
def keep_contrasts(strata, Q, buffer, S, values):
    """Contrasts of the tables with fixed effects, and as few others with the same products."""
    of_Q = U(0)
    for s in range(U(len(strata))):
        table, n, b, r = strata[s, 0], strata[s, 1], strata[s, 2], strata[s, 3]
        to = strata[s, 5]
        for k in range(r):
            for i in range(b):
                total = 0.0
                for c in range(n):
                    total += Q[of_Q + c * r + k] * buffer[table + c * b + i]
                values[to + k * b + i] = total
        for c in range(n):
            for i in range(b):
                for k in range(r):
                    buffer[table + c * b + i] -= Q[of_Q + c * r + k] * values[to + k * b + i]
        of_Q += n * r
        for i in range(b):
            for j in range(i + U(1)):
                total = 0.0
                for c in range(n):
                    total += buffer[table + c * b + i] * buffer[table + c * b + j]
                S[i, j] = total
        _keep_factor(S, b, strata[s, 4], to + r * b, values)


@step
def _keep_factor(S, b, n_rest, to, values):
    """Columns of a factor of S (b, b), whose lower triangle is lost."""
    for i in range(b):
        S[i, b] = PIVOT * S[i, i]
    k = U(0)
    for j in range(b):
        if k < n_rest and S[j, j] > S[j, b]:
            pivot = np.sqrt(S[j, j])
            for i in range(j, b):
                S[i, j] /= pivot
                values[to + k * b + i] = S[i, j]
            for i in range(j + U(1), b):
                for m in range(j + U(1), i + U(1)):
                    S[i, m] -= S[i, j] * S[m, j]
            k += U(1)
