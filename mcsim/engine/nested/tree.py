"""A design in classes of identical units, as the compiled code works on it.

The engine works on several replicates at a time, one per lane. A position of a last axis is
class x width + lane (or link, or root group, in place of class).
"""

from typing import Any, NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints, Positions
from mcsim.engine.blocks import Blocks

LANE_POSITIONS = 128  # classes x lanes that are worked on together: they stay in the first cache
MAX_WIDTH = 64


class Model(NamedTuple):
    """Numbers that the likelihood needs of a model; arrays where trees are stacked."""

    width: int  # lanes
    nu: Any  # n - p (REML) or n (ML)
    is_reml: bool
    log_constant: Any  # 2 log|R| of X = X~ R for REML, else 0


class Classes(NamedTuple):
    """Classes of identical units, innermost level first, each repeated for every lane."""

    level_start: Ints  # (n_levels + 1,) first class of each level
    has_uniform: Flags  # (n_levels,) whether any class of the level is uniform
    has_mixed: Flags
    never: Flags  # (n_levels,) False: neither is asked about data that do not count
    n_units: Floats  # (n_classes x width,)
    B: Floats  # (k, q, n_classes x width)
    G: Floats  # (q, q, n_leaf_classes x width) B'B of the innermost level


class Links(NamedTuple):
    """Which classes the units of a class have as children, each repeated for every lane."""

    start: Ints  # (n_levels,) first link into level l; links into level 0 do not exist
    in_order: Flags  # (n_levels,) whether the children stand one after the other
    child: Positions  # (n_links x width,)
    parent: Positions
    n_children: Floats  # (n_links x width,) of each parent unit
    ones: Floats  # (n_links x width,)
    is_mixed: Floats  # (n_links x width,) whether the child is: 1 or 0
    C: Floats  # (k, k, n_links x width)


class Roots(NamedTuple):
    """Outermost units with the same class and fixed-effect columns, repeated for every lane."""

    in_order: bool  # whether the children stand one after the other
    child: Positions  # (n_roots x width,)
    n_units: Floats
    is_mixed: Floats
    Bx: Floats  # (k, p, n_roots x width)


class Tree(NamedTuple):
    """A design in classes of identical units."""

    model: Model
    classes: Classes
    links: Links
    roots: Roots
    blocks: Blocks


def stacked(tree: Tree) -> Tree:
    """The tree as a stack of one: what differs between designs gets a first axis, of designs."""
    model, classes, links, roots, _ = tree
    if classes.B.ndim == 4:
        return tree
    return tree._replace(
        model=model._replace(nu=np.array([model.nu]), log_constant=np.array([model.log_constant])),
        classes=classes._replace(
            n_units=classes.n_units[None], B=classes.B[None], G=classes.G[None]
        ),
        links=links._replace(
            parent=links.parent[None], n_children=links.n_children[None], C=links.C[None]
        ),
        roots=roots._replace(n_units=roots.n_units[None], Bx=roots.Bx[None]),
    )


def units_per_level(tree: Tree) -> Floats:
    """Number of units of every level, innermost level first; of every tree of a stack."""
    classes = tree.classes
    once = classes.n_units[..., :: tree.model.width]
    return np.add.reduceat(once, classes.level_start[:-1], axis=-1)


def with_columns(tree: Tree, b: int, A: Floats) -> Tree:
    """The tree with the columns of a block times A, in the same bits for every lane.

    What is a sum of columns may meet any other.
    """
    classes, depth = tree.classes, int(tree.blocks.level[b])
    block = slice(int(tree.blocks.first[b]), int(tree.blocks.first[b]) + len(A))
    start, end = (classes.level_start[depth : depth + 2] * tree.model.width).tolist()
    B, G = classes.B.copy(), classes.G
    B[:, block, start:end] = 0.0
    for m, row in enumerate(A):
        B[:, block, start:end] += classes.B[:, None, block.start + m, start:end] * row[:, None]
    if depth == 0:
        G = np.zeros_like(G)
        for row in B[:, :, start:end]:
            G += row[:, None] * row[None, :]
    meets = tree.blocks.meets.copy()
    meets[b] = True
    blocks = tree.blocks._replace(meets=meets)
    return tree._replace(classes=classes._replace(B=B, G=G), blocks=blocks)
