"""The records that the compiled code works on: a design in classes, a replicate's moments."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Tree(NamedTuple):
    """A design in classes of identical units; the last axis is the class, link or root group."""

    level_start: Ints  # (n_levels + 1,) first class of each level, innermost level first
    n_units: Floats  # (n_classes,)
    rank: Ints  # (n_classes,) columns of the basis in use, the rest is padding
    is_uniform: NDArray[np.bool_]  # (n_classes,)
    B: Floats  # (k, q, n_classes)
    link_start: Ints  # (n_levels,) first link into level l; links into level 0 do not exist
    link_child: Ints  # (n_links,)
    link_parent: Ints  # (n_links,)
    link_count: Floats  # (n_links,) children per parent unit
    C: Floats  # (k, k, n_links)
    root_child: Ints  # (n_roots,)
    root_count: Floats  # (n_roots,)
    Bx: Floats  # (k, p, n_roots)
    free: Ints  # (n_theta, 3) level, row, column of the free entries of Lam
    blocks: Ints  # (n_blocks, 3) level, first column and size of the blocks of Lam
    nu: float  # n - p (REML) or n (ML)
    is_reml: bool
    log_constant: float  # 2 log|R| of X = X~ R for REML, else 0


class Reduction(NamedTuple):
    """How the rows of one response become moments."""

    X: Floats  # (n_rows, p) X~ with X~'X~ = n I, as all rows in the compiled order
    row_start: Ints  # (n_leaves + 1,) rows of each innermost unit
    basis_start: Ints  # (n_leaves,) where the unit's basis begins in `basis`
    basis: Floats  # (n_rows_of_distinct_units, k)
    unit_start: Ints  # (n_levels + 1,) units are numbered innermost level first
    class_of_unit: Ints
    parent_of_unit: Ints  # unit number; -1 at the outermost level
    share: Floats  # 1 / sqrt(number of siblings): weight of t in a uniform parent's t
    taker_of_unit: Ints  # link or root group that takes the unit's t, -1 if a uniform parent does


class Moments(NamedTuple):
    """One replicate's data as the elimination needs them."""

    rss: float  # sum of squares outside the bases of the innermost units
    S: Floats  # (k, k, n_classes) sum of t t' over the units of a uniform class
    link_t: Floats  # (k, n_links) sum of t over the children of a link
    root_t: Floats  # (k, n_roots)


class Workspace(NamedTuple):
    """Arrays that every evaluation overwrites."""

    order: Ints  # (n_levels, q) row of Lam that stands first, second, ... in its factor
    Lam: Floats  # (n_levels, q, q)
    A: Floats  # (k, k, n_classes), as the five that follow
    J: Floats
    F: Floats
    E: Floats
    E1: Floats
    E2: Floats
    k1: Floats  # (k, k, n_classes) scratch
    k2: Floats
    b1: Floats  # (k, q, n_classes) scratch
    q1: Floats  # (q, q, n_classes) scratch
    q2: Floats
    a: Floats  # (k, n_classes)
    e: Floats
    w: Floats
    v: Floats
    T: Floats  # (p, p) Cholesky factor of X'V^-1X
    beta: Floats  # (p,)
    T_inverse: Floats  # (p, p)
    D1: Floats  # (n_levels, q, q)
    D2: Floats
    gradient: Floats  # (n_theta,)


def new_workspace(tree: Tree) -> Workspace:
    """Arrays of the sizes that `tree` needs."""
    k, q, n_classes = tree.B.shape
    p, n_levels, n_theta = tree.Bx.shape[1], len(tree.level_start) - 1, len(tree.free)
    shapes: list[tuple[int, ...]] = [(n_levels, q, q), *[(k, k, n_classes)] * 8, (k, q, n_classes)]
    shapes += [*[(q, q, n_classes)] * 2, *[(k, n_classes)] * 4]
    shapes += [(p, p), (p,), (p, p), (n_levels, q, q), (n_levels, q, q), (n_theta,)]
    order = np.tile(np.arange(q), (n_levels, 1))
    return Workspace(order, *[np.zeros(shape) for shape in shapes])
