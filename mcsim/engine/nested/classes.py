"""Classes of identical units, the links between them, and how rows become their moments.

Every unit gets an orthonormal basis Q of its columns [Z_outer .. Z_own | X]; the data of a unit are
t = Q'y. Innermost units with the same columns form a class; a unit whose children are all alike is
uniform and its basis is theirs, stacked; any other unit is a class of its own.
"""

import itertools
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints, Positions
from mcsim.engine.arithmetic.basis import orthonormal_basis
from mcsim.engine.blocks import Blocks
from mcsim.engine.nested.moments import Reduction
from mcsim.engine.nested.tree import LANE_POSITIONS, MAX_WIDTH, Classes, Links, Model, Roots, Tree


class _Unit(NamedTuple):
    """A unit's class and its columns in the basis of that class."""

    class_number: int
    columns: Floats  # (rank, n_columns)


class Class(NamedTuple):
    """Units that are alike."""

    level: int
    rank: int
    is_uniform: bool
    columns: Floats  # (rank, q) of its own level


class Link(NamedTuple):
    """Units of one kind among the children of a class."""

    child: int
    parent: int
    n_children: int
    C: Floats


class Leaf(NamedTuple):
    """Basis (n_rows, rank) of a class of innermost units, and the strata of its rows."""

    Q: Floats
    stratum: Ints


class TreeBuilder:
    """Builds classes, links and the reduction, innermost level first."""

    def __init__(self, n_columns: list[int], p: int) -> None:
        self.n_columns, self.p = n_columns, p  # outermost level first
        self.classes: list[Class] = []
        self.n_units: list[int] = []
        self.links: list[list[Link]] = []
        self.roots: list[tuple[int, int, Floats]] = []
        self.unit_kinds: list[list[int]] = []
        self.kinds: list[_Unit] = []
        self.leaves: list[Leaf] = []

    def build(self, W: Floats, units: Ints, stratum: Ints | None = None) -> Reduction:
        """Classes of all levels from the sorted rows W and unit numbers (outermost first).

        Innermost units whose rows differ in `stratum` (n_rows,) are not alike.
        """
        n_levels = len(units)
        starts = np.flatnonzero(np.diff(units[-1], prepend=-1))
        row_start = np.append(starts, len(W))
        stratum = np.zeros(len(W), dtype=np.int64) if stratum is None else stratum
        basis_start = self._leaves(W, row_start, stratum)
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
        takers.append(self._root_groups())
        return self._reduction(
            row_start, basis_start, unit_start, *map(np.concatenate, (parents, shares, takers))
        )

    def _reduction(
        self,
        row_start: Ints,
        basis_start: Ints,
        unit_start: Ints,
        parent: Ints,
        share: Floats,
        taker: Ints,
    ) -> Reduction:
        """How rows become moments; parent, share and taker of every unit, innermost level first."""
        kind_of_unit = np.concatenate(self.unit_kinds)
        is_first = (np.diff(kind_of_unit, prepend=-1) != 0) | (np.diff(parent, prepend=-2) != 0)
        is_first[unit_start[:-1]] = True
        first = np.flatnonzero(is_first)
        kind_of_run = kind_of_unit[first]
        basis = stacked([leaf.Q for leaf in self.leaves], self._rank())
        return Reduction(
            len(self.classes),
            sum(len(links) for links in self.links),
            len(self.roots),
            _positions(row_start),
            _positions(basis_start),
            basis,
            self._leaf_columns(len(basis)),
            _positions(kind_of_run[first < unit_start[1]]),
            _positions(np.append(first, len(kind_of_unit))),
            _positions([self.kinds[kind].class_number for kind in kind_of_run]),
            parent[first].astype(np.int64),
            share[first],
            taker[first].astype(np.int64),
        )

    def _leaf_columns(self, k: int) -> Floats:
        """Fixed-effect columns of the kinds of innermost units: (n_kinds, k, p)."""
        own = self.kinds[: max(self.unit_kinds[0]) + 1]
        found = np.zeros((len(own), k, self.p))
        for columns, kind in zip(found, own, strict=True):
            columns[: len(kind.columns)] = kind.columns[:, kind.columns.shape[1] - self.p :]
        return found

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
        self.classes.append(Class(depth, len(columns), is_uniform, self._own(depth, columns)))
        self.n_units.append(0)
        return len(self.classes) - 1

    def _kind(self, class_number: int, columns: Floats) -> int:
        self.kinds.append(_Unit(class_number, columns))
        return len(self.kinds) - 1

    def _leaves(self, W: Floats, row_start: Ints, stratum: Ints) -> Ints:
        """Kinds (all columns alike) and classes (basis and Z alike) of the innermost units."""
        n_z = sum(self.n_columns)
        kind_of_rows: dict[bytes, tuple[int, int]] = {}
        class_of_basis: dict[bytes, tuple[int, int]] = {}
        n_basis_rows, unit_kinds, basis_start = 0, [], []
        for first, last in itertools.pairwise(row_start):
            rows = W[first:last]
            own = stratum[first:last]
            key = rows.tobytes() + own.tobytes()
            if key not in kind_of_rows:
                Q, columns = orthonormal_basis(rows)
                basis_key = Q.tobytes() + columns[:, :n_z].tobytes() + own.tobytes()
                if basis_key not in class_of_basis:
                    number = self._new_class(0, columns, is_uniform=True)
                    class_of_basis[basis_key] = (number, n_basis_rows)
                    self.leaves.append(Leaf(Q, own))
                    n_basis_rows += len(Q)
                number, position = class_of_basis[basis_key]
                kind_of_rows[key] = (self._kind(number, columns), position)
            kind, position = kind_of_rows[key]
            self.n_units[self.kinds[kind].class_number] += 1
            unit_kinds.append(kind)
            basis_start.append(position)
        self.unit_kinds.append(unit_kinds)
        return np.array(basis_start, dtype=np.int64)

    def _parents(self, depth: int, parent: Ints) -> tuple[Floats, Ints]:
        """Classes of one level; per child its weight in the parent and the link that takes it."""
        child_kinds = self.unit_kinds[-1]
        bounds = np.append(np.flatnonzero(np.diff(parent, prepend=-1)), len(parent))
        share, taker = np.zeros(len(parent)), np.full(len(parent), -1)
        links: list[Link] = []
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
                        links.append(Link(child.class_number, number, m, C))
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

    def _mixed_parent(self, depth: int, counts: Counter[int], links: list[Link]) -> int:
        """A unit whose children differ: a class of its own, one link per kind of child."""
        children = [(self.kinds[kind], counts[kind]) for kind in sorted(counts)]
        blocks = [np.sqrt(m) * self._outer(depth - 1, child.columns) for child, m in children]
        stacked = np.vstack(blocks)
        Q, columns = orthonormal_basis(stacked)
        number = self._new_class(depth, columns, is_uniform=False)
        first = 0
        for (child, m), block in zip(children, blocks, strict=True):
            C = Q[first : first + len(block)] / np.sqrt(m)
            links.append(Link(child.class_number, number, m, C))
            first += len(block)
        return self._kind(number, columns)

    def _root_groups(self) -> Ints:
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

    def tree(self, blocks: Blocks, scales: tuple[Floats, ...], model: Model) -> Tree:
        """Everything in flat arrays, padded to one rank and one number of columns."""
        width = int(np.clip(LANE_POSITIONS // len(self.classes), 1, MAX_WIDTH))
        return Tree(
            model._replace(width=width),
            self._classes(scales, width),
            self._links(width),
            self._roots(width),
            blocks,
        )

    def _rank(self) -> int:
        return max(c.rank for c in self.classes)

    def _is_mixed(self) -> Flags:
        return np.array([not c.is_uniform for c in self.classes])

    def _classes(self, scales: tuple[Floats, ...], width: int) -> Classes:
        n_levels = len(self.n_columns)
        levels = [c.level for c in self.classes]
        level_start = np.searchsorted(levels, np.arange(n_levels + 1)).astype(np.int64)
        B = np.zeros((self._rank(), max(1, *self.n_columns), len(self.classes)))
        for number, one in enumerate(self.classes):
            columns = one.columns @ scales[n_levels - 1 - one.level]
            B[: one.rank, : columns.shape[1], number] = columns
        leaves = B[:, :, : level_start[1]]
        mixed = [self._is_mixed()[first:last] for first, last in itertools.pairwise(level_start)]
        return Classes(
            level_start,
            np.array([not np.all(one) for one in mixed]),
            np.array([bool(np.any(one)) for one in mixed]),
            np.zeros(n_levels, dtype=np.bool_),
            _repeat(self.n_units, width),
            _repeat(B, width),
            _repeat(np.einsum("kic,kjc->ijc", leaves, leaves), width),
        )

    def _links(self, width: int) -> Links:
        links = [link for level in self.links for link in level]
        C = np.zeros((self._rank(), self._rank(), len(links)))
        for number, link in enumerate(links):
            C[: link.C.shape[0], : link.C.shape[1], number] = link.C
        start = np.cumsum([0] + [len(level) for level in self.links]).astype(np.int64)
        child = np.array([link.child for link in links], dtype=np.int64)
        in_order = [_is_in_order(child[first:last]) for first, last in itertools.pairwise(start)]
        return Links(
            start,
            np.array([False, *in_order]),
            _lane_positions(child, width),
            _lane_positions([link.parent for link in links], width),
            _repeat([link.n_children for link in links], width),
            np.ones(len(links) * width),
            _repeat(self._is_mixed()[child], width),
            _repeat(C, width),
        )

    def _roots(self, width: int) -> Roots:
        Bx = np.zeros((self._rank(), self.p, len(self.roots)))
        for number, (_, _, columns) in enumerate(self.roots):
            Bx[: len(columns), :, number] = columns
        child = np.array([child for child, _, _ in self.roots], dtype=np.int64)
        return Roots(
            _is_in_order(child),
            _lane_positions(child, width),
            _repeat([count for _, count, _ in self.roots], width),
            _repeat(self._is_mixed()[child], width),
            _repeat(Bx, width),
        )


def stacked(bases: list[Floats], k: int) -> Floats:
    """Bases (n_rows, rank) one after the other, with zeros up to a rank of k: (k, n_rows)."""
    padded = np.vstack([np.pad(Q, ((0, 0), (0, k - Q.shape[1]))) for Q in bases])
    return np.ascontiguousarray(padded.T)


def _repeat(values: ArrayLike, width: int) -> Floats:
    """Every value once per lane."""
    return np.repeat(np.asarray(values, dtype=np.float64), width, axis=-1)


def _is_in_order(numbers: Ints) -> bool:
    return bool(np.all(np.diff(numbers) == 1))


def _positions(values: Ints | list[int]) -> Positions:
    return np.asarray(values).astype(np.uint64)


def _lane_positions(numbers: Ints | list[int], width: int) -> Positions:
    """Where the lanes of the numbered classes stand on a last axis."""
    first = np.asarray(numbers, dtype=np.int64) * width
    return _positions((first[:, None] + np.arange(width)).ravel())
