"""A design, compiled once: its classes of identical units, and the moments that replace the rows.

Knows arrays only. Every unit gets an orthonormal basis Q of its columns [Z_outer .. Z_own | X];
the data of a unit are t = Q'y. Innermost units with the same columns form a class; a unit whose
children are all alike is uniform and its basis is theirs, stacked; any other unit is a class of
its own.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mcsim.engine.matrices import orthonormal_basis
from mcsim.engine.start import with_start
from mcsim.engine.tree import (
    LANE_POSITIONS,
    MAX_WIDTH,
    Blocks,
    Classes,
    Floats,
    Ints,
    Links,
    Model,
    Positions,
    Reduction,
    Roots,
    Tree,
)
from mcsim.errors import DataError


@dataclass(frozen=True)
class Level:
    """The random effects of one grouping level, outermost level first.

    unit_of_row : (n_rows,) any integers; units are nested within those of the level above
    Z : (n_rows, q)
    structures : general, identity or compound, and the number of columns, of blocks of consecutive
        columns; blocks are independent of each other
    """

    unit_of_row: Ints
    Z: Floats
    structures: tuple[tuple[str, int], ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class CompiledDesign:
    """What the engine needs of a design; `order` sorts the rows so that units are contiguous."""

    tree: Tree
    reduction: Reduction
    order: Ints
    scales: tuple[Floats, ...]  # per level S: Lam of the original columns is S Lam
    R: Floats  # (p, p) X = X~ R
    n_rows: int


def compile_design(
    X: Floats, levels: tuple[Level, ...], *, names: tuple[str, ...], is_reml: bool = True
) -> CompiledDesign:
    """Compile a design, with the start of the search.

    Parameters
    ----------
    X : (n_rows, p) fixed-effect columns, called `names`
    levels : outermost first, at least one

    Raises
    ------
    DataError
        A column is zero or a combination of the columns before it, or too few rows.
    """
    design = collapse_design(X, levels, names=names, is_reml=is_reml)
    return replace(design, tree=with_start(design.tree))


def collapse_design(
    X: Floats, levels: tuple[Level, ...], *, names: tuple[str, ...], is_reml: bool = True
) -> CompiledDesign:
    """Classes of identical units, and how responses reduce to their moments."""
    n, p = X.shape
    if n <= p:
        raise DataError(f"{n} observations cannot estimate {p} fixed effects; add observations")
    units, order = _nested_units(levels)
    X_tilde, R = _orthonormalise(X, names)
    scales = tuple(_scale_of_level(level) for level in levels)
    W = np.ascontiguousarray(np.hstack([*(level.Z for level in levels), X_tilde])[order])
    builder = _TreeBuilder([level.Z.shape[1] for level in levels], p)
    reduction = builder.build(W, units[:, order])
    log_constant = 2.0 * float(np.sum(np.log(np.abs(np.diag(R))))) if is_reml else 0.0
    tree = builder.tree(_blocks(levels), scales, n - p if is_reml else n, is_reml, log_constant)
    return CompiledDesign(tree, reduction, order, scales, R, n)


def _nested_units(levels: tuple[Level, ...]) -> tuple[Ints, Ints]:
    """Unit numbers per level (outermost first), nested by construction, and the sorting order."""
    units = []
    outer = np.zeros(len(levels[0].unit_of_row), dtype=np.int64)
    for level in levels:
        pairs = np.column_stack([outer, level.unit_of_row])
        outer = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        units.append(outer)
    return np.array(units), np.argsort(outer, kind="stable").astype(np.int64)


def _orthonormalise(X: Floats, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """X = X~ R with X~'X~ = n I; refuses a column that the others already determine."""
    n = len(X)
    length = np.linalg.norm(X, axis=0)
    factor = np.linalg.qr(X / np.where(length > 0, length, 1.0), mode="r")
    R = np.asarray(factor, dtype=np.float64)
    for j, name in enumerate(names):
        if abs(R[j, j]) < 1e-9 or length[j] == 0:
            before = ", ".join(names[:j]) or "none"
            raise DataError(
                f"the fixed effect {name!r} is zero or a combination of the columns before it"
                f" ({before}); leave it out of the formula"
            )
    R = R * length / np.sqrt(n)
    return _combine(X, np.linalg.inv(R).astype(np.float64)), R


def _combine(columns: Floats, weights: Floats) -> Floats:
    """Columns @ weights, where equal rows give equal bits (BLAS does not promise that)."""
    product = np.zeros((len(columns), weights.shape[1]))
    for i, row in enumerate(weights):
        product += columns[:, i : i + 1] * row
    return product


def _scale_of_level(level: Level) -> Floats:
    """Lower triangular S, one block per block of the level, such that Z S has unit scale."""
    S = np.zeros((level.Z.shape[1], level.Z.shape[1]))
    start = 0
    for structure, size in level.structures:
        block = slice(start, start + size)
        Z = level.Z[:, block]
        if structure == "general":
            _, R = _orthonormalise(Z, level.names[block])
            inverse = np.linalg.inv(R)  # Z R^-1 has Z'Z = n I; S = chol(R^-1 R^-T) spans the same
            S[block, block] = np.linalg.cholesky(inverse @ inverse.T)
        else:  # one number, so that the columns keep their common variance
            length = float(np.linalg.norm(Z))
            if length == 0.0:
                raise DataError(f"the random effects {', '.join(level.names[block])} are all zero")
            S[block, block] = np.eye(size) * np.sqrt(Z.size) / length
        start += size
    return S


def _blocks(levels: tuple[Level, ...]) -> Blocks:
    """The parameters of Lam, innermost level first as in the tree."""
    q = max(level.Z.shape[1] for level in levels)
    rows, projections = [], []
    n_theta = 0
    for depth, level in enumerate(reversed(levels)):
        first = 0
        for structure, size in level.structures:
            for Q in _projections(structure, size):
                block_size = size if Q is None else 1
                rows.append((depth, first, block_size, n_theta, Q is None))
                projection = np.zeros((q, q))
                if Q is not None:
                    projection[first : first + size, first : first + size] = Q
                projections.append(projection)
                n_theta += block_size * (block_size + 1) // 2
            first += size
    level_of, first_of, size_of, theta_of, is_matrix = np.array(rows, dtype=np.int64).T.copy()
    Q = np.array(projections)
    return Blocks(level_of, first_of, size_of, theta_of, is_matrix.astype(np.bool_), Q)


def _projections(structure: str, size: int) -> list[Floats | None]:
    """None for a matrix of its own, else projections that share a variance each.

    Compound symmetry, s2 ((1 - r) I + r 11'), has the variances s2 (1 - r) within and
    s2 (1 + (size - 1) r) along the mean of the columns.
    """
    if structure == "general" or size == 1:
        return [None]
    if structure == "identity":
        return [np.eye(size)]
    along = np.full((size, size), 1.0 / size)
    return [np.eye(size) - along, along]


class _Unit(NamedTuple):
    """A unit's class and its columns in the basis of that class."""

    class_number: int
    columns: Floats  # (rank, n_columns)


class _Class(NamedTuple):
    level: int
    rank: int
    is_uniform: bool
    columns: Floats  # (rank, q) of its own level


class _Link(NamedTuple):
    child: int
    parent: int
    n_children: int
    C: Floats


class _TreeBuilder:
    """Builds classes, links and the reduction, innermost level first."""

    def __init__(self, n_columns: list[int], p: int) -> None:
        self.n_columns, self.p = n_columns, p  # outermost level first
        self.classes: list[_Class] = []
        self.n_units: list[int] = []
        self.links: list[list[_Link]] = []
        self.roots: list[tuple[int, int, Floats]] = []
        self.unit_kinds: list[list[int]] = []
        self.kinds: list[_Unit] = []

    def build(self, W: Floats, units: Ints) -> Reduction:
        """Classes of all levels from the sorted rows W and unit numbers (outermost first)."""
        n_levels = len(units)
        starts = np.flatnonzero(np.diff(units[-1], prepend=-1))
        row_start = np.append(starts, len(W))
        basis, basis_start = self._leaves(W, row_start)
        parents, shares, takers = [], [], []
        unit_start = np.concatenate(
            [[0], np.cumsum([units[i].max() + 1 for i in range(n_levels)][::-1])]
        )
        for depth in range(1, n_levels):
            parent = units[n_levels - 1 - depth][starts]
            share, taker = self._parents(depth, parent)
            parents.append(parent + unit_start[depth])
            shares.append(share)
            takers.append(taker)
            starts = starts[np.flatnonzero(np.diff(parent, prepend=-1))]
        parents.append(np.full(len(starts), -1))
        shares.append(np.zeros(len(starts)))
        takers.append(self._root())
        class_of_unit = [
            self.kinds[kind].class_number for level in self.unit_kinds for kind in level
        ]
        n_leaf_kinds = max(self.unit_kinds[0]) + 1
        leaf_columns = np.zeros((n_leaf_kinds, len(basis), self.p))
        for number, kind in enumerate(self.kinds[:n_leaf_kinds]):
            leaf_columns[number, : len(kind.columns)] = kind.columns[:, W.shape[1] - self.p :]
        return Reduction(
            len(self.classes),
            sum(len(links) for links in self.links),
            len(self.roots),
            _positions(row_start),
            _positions(basis_start),
            basis,
            _positions(self.unit_kinds[0]),
            leaf_columns,
            _positions(unit_start),
            _positions(class_of_unit),
            np.concatenate(parents).astype(np.int64),
            np.concatenate(shares),
            np.concatenate(takers).astype(np.int64),
        )

    def _own(self, depth: int, columns: Floats) -> Floats:
        """The columns of the unit's own level; those of levels further in are already dropped."""
        end = sum(self.n_columns[: len(self.n_columns) - depth])
        return columns[:, end - self.n_columns[len(self.n_columns) - 1 - depth] : end]

    def _outer(self, depth: int, columns: Floats) -> Floats:
        """Without the columns of the unit's own level: what its parent needs."""
        end = sum(self.n_columns[: len(self.n_columns) - 1 - depth])
        own_end = sum(self.n_columns[: len(self.n_columns) - depth])
        return np.hstack([columns[:, :end], columns[:, own_end:]])

    def _new_class(self, depth: int, columns: Floats, *, is_uniform: bool) -> int:
        self.classes.append(_Class(depth, len(columns), is_uniform, self._own(depth, columns)))
        self.n_units.append(0)
        return len(self.classes) - 1

    def _kind(self, class_number: int, columns: Floats) -> int:
        self.kinds.append(_Unit(class_number, columns))
        return len(self.kinds) - 1

    def _leaves(self, W: Floats, row_start: Ints) -> tuple[Floats, Ints]:
        """Kinds (all columns alike) and classes (basis and Z alike) of the innermost units."""
        n_z = sum(self.n_columns)
        kind_of_rows: dict[bytes, tuple[int, int]] = {}
        class_of_basis: dict[bytes, tuple[int, int]] = {}
        bases: list[Floats] = []
        n_basis_rows, unit_kinds, basis_start = 0, [], []
        for first, last in itertools.pairwise(row_start):
            rows = W[first:last]
            key = rows.tobytes()
            if key not in kind_of_rows:
                Q, columns = orthonormal_basis(rows)
                basis_key = Q.tobytes() + columns[:, :n_z].tobytes()
                if basis_key not in class_of_basis:
                    number = self._new_class(0, columns, is_uniform=True)
                    class_of_basis[basis_key] = (number, n_basis_rows)
                    bases.append(Q)
                    n_basis_rows += len(Q)
                number, position = class_of_basis[basis_key]
                kind_of_rows[key] = (self._kind(number, columns), position)
            kind, position = kind_of_rows[key]
            self.n_units[self.kinds[kind].class_number] += 1
            unit_kinds.append(kind)
            basis_start.append(position)
        self.unit_kinds.append(unit_kinds)
        k = max(Q.shape[1] for Q in bases)
        padded = np.vstack([np.pad(Q, ((0, 0), (0, k - Q.shape[1]))) for Q in bases])
        return np.ascontiguousarray(padded.T), np.array(basis_start, dtype=np.int64)

    def _parents(self, depth: int, parent: Ints) -> tuple[Floats, Ints]:
        """Classes of one level; per child its weight in the parent and the link that takes it."""
        child_kinds = self.unit_kinds[-1]
        bounds = np.append(np.flatnonzero(np.diff(parent, prepend=-1)), len(parent))
        share, taker = np.zeros(len(parent)), np.full(len(parent), -1)
        links: list[_Link] = []
        n_links_before = sum(len(level) for level in self.links)
        kind_of_children: dict[tuple[int, int], int] = {}
        class_of_children: dict[tuple[int, int], int] = {}
        unit_kinds = []
        for first, last in itertools.pairwise(bounds):
            counts = Counter(child_kinds[first:last])
            kind = child_kinds[first]
            child = self.kinds[kind]
            if len(counts) == 1 and self.classes[child.class_number].is_uniform:
                m = int(last - first)
                share[first:last] = 1.0 / np.sqrt(m)
                if (kind, m) not in kind_of_children:
                    columns = np.sqrt(m) * self._outer(depth - 1, child.columns)
                    if (child.class_number, m) not in class_of_children:
                        number = self._new_class(depth, columns, is_uniform=True)
                        class_of_children[child.class_number, m] = number
                        C = np.eye(len(columns)) / np.sqrt(m)
                        links.append(_Link(child.class_number, number, m, C))
                    number = class_of_children[child.class_number, m]
                    kind_of_children[kind, m] = self._kind(number, columns)
                unit_kinds.append(kind_of_children[kind, m])
            else:
                first_link = n_links_before + len(links)
                position = {kind: first_link + i for i, kind in enumerate(sorted(counts))}
                taker[first:last] = [position[kind] for kind in child_kinds[first:last]]
                unit_kinds.append(self._mixed_parent(depth, counts, links))
            self.n_units[self.kinds[unit_kinds[-1]].class_number] += 1
        self.links.append(links)
        self.unit_kinds.append(unit_kinds)
        return share, taker

    def _mixed_parent(self, depth: int, counts: Counter[int], links: list[_Link]) -> int:
        """A unit whose children differ: a class of its own, one link per kind of child."""
        children = [(self.kinds[kind], counts[kind]) for kind in sorted(counts)]
        blocks = [np.sqrt(m) * self._outer(depth - 1, child.columns) for child, m in children]
        stacked = np.vstack(blocks)
        Q, columns = orthonormal_basis(stacked)
        number = self._new_class(depth, columns, is_uniform=False)
        first = 0
        for (child, m), block in zip(children, blocks, strict=True):
            C = Q[first : first + len(block)] / np.sqrt(m)
            links.append(_Link(child.class_number, number, m, C))
            first += len(block)
        return self._kind(number, columns)

    def _root(self) -> Ints:
        """Root groups: outermost units with the same class and the same fixed-effect columns."""
        kinds = self.unit_kinds[-1]
        group_of_kind: dict[int, int] = {}
        takers = []
        for kind in kinds:
            group = group_of_kind.setdefault(kind, len(group_of_kind))
            takers.append(group)
        counts = Counter(kinds)
        for kind in group_of_kind:
            unit = self.kinds[kind]
            Bx = unit.columns[:, unit.columns.shape[1] - self.p :]
            self.roots.append((unit.class_number, counts[kind], Bx))
        return np.array(takers)

    def tree(
        self,
        blocks: Blocks,
        scales: tuple[Floats, ...],
        nu: int,
        is_reml: bool,
        log_constant: float,
    ) -> Tree:
        """Everything in flat arrays, padded to one rank and one number of columns."""
        n_classes, n_levels = len(self.classes), len(self.n_columns)
        k, q = max(c.rank for c in self.classes), max(self.n_columns)
        width = int(np.clip(LANE_POSITIONS // n_classes, 1, MAX_WIDTH))
        level_start = np.searchsorted(
            [c.level for c in self.classes], np.arange(n_levels + 1)
        ).astype(np.int64)
        B = np.zeros((k, q, n_classes))
        for number, unit_class in enumerate(self.classes):
            columns = unit_class.columns @ scales[n_levels - 1 - unit_class.level]
            B[: unit_class.rank, : columns.shape[1], number] = columns
        links = [link for level in self.links for link in level]
        C = np.zeros((k, k, len(links)))
        for number, link in enumerate(links):
            C[: link.C.shape[0], : link.C.shape[1], number] = link.C
        Bx = np.zeros((k, self.p, len(self.roots)))
        for number, (_, _, columns) in enumerate(self.roots):
            Bx[: len(columns), :, number] = columns
        is_mixed = np.array([not c.is_uniform for c in self.classes])
        by_level = [is_mixed[first:last] for first, last in itertools.pairwise(level_start)]
        child = np.array([link.child for link in links], dtype=np.int64)
        root = np.array([child for child, _, _ in self.roots], dtype=np.int64)
        n_theta = sum(size * (size + 1) // 2 for size in blocks.size)

        def repeat(values: ArrayLike) -> Floats:
            return np.repeat(np.asarray(values, dtype=np.float64), width, axis=-1)

        leaves = B[:, :, : level_start[1]]
        classes = Classes(
            level_start,
            np.array([not np.all(mixed) for mixed in by_level]),
            np.array([bool(np.any(mixed)) for mixed in by_level]),
            repeat(self.n_units),
            repeat(B),
            repeat(np.einsum("kic,kjc->ijc", leaves, leaves)),
        )
        link_start = np.cumsum([0] + [len(level) for level in self.links]).astype(np.int64)
        by_parent_level = [child[first:last] for first, last in itertools.pairwise(link_start)]
        all_links = Links(
            link_start,
            np.array([False, *map(_is_in_order, by_parent_level)]),
            _lane_positions(child, width),
            _lane_positions([link.parent for link in links], width),
            repeat([link.n_children for link in links]),
            np.ones(len(links) * width),
            repeat(is_mixed[child]),
            repeat(C),
        )
        roots = Roots(
            _is_in_order(root),
            _lane_positions(root, width),
            repeat([count for _, count, _ in self.roots]),
            repeat(is_mixed[root]),
            repeat(Bx),
        )
        return Tree(
            Model(width, float(nu), is_reml, log_constant),
            classes,
            all_links,
            roots,
            blocks,
            np.zeros((n_theta + 1, n_theta + 1)),
            np.zeros((n_levels, q, q)),
        )


def _is_in_order(numbers: Ints) -> bool:
    return bool(np.all(np.diff(numbers) == 1))


def _positions(values: Ints | list[int]) -> Positions:
    return np.asarray(values).astype(np.uint64)


def _lane_positions(numbers: Ints | list[int], width: int) -> Positions:
    """Where the lanes of the numbered classes stand on a last axis."""
    first = np.asarray(numbers, dtype=np.int64) * width
    return _positions((first[:, None] + np.arange(width)).ravel())
