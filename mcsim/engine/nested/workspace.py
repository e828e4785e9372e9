"""What an evaluation reads of the lanes, keeps and leaves; positions are those of tree.py."""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import n_parameters
from mcsim.engine.likelihood import Points, Shape, places_of
from mcsim.engine.nested.tree import Tree


def split_values(
    values: Floats, k: int, sizes: tuple[int, int, int]
) -> tuple[Floats, Floats, Floats]:
    """S and the two sums of t in an array whose first axis is that of `Moments.values`."""
    n_classes, n_links, n_roots = sizes
    ends = np.cumsum([k * k * n_classes, k * n_links, k * n_roots])
    rest = values.shape[1:]
    width = rest[0] if rest else 1
    return (
        values[: ends[0]].reshape(k, k, n_classes * width),
        values[ends[0] : ends[1]].reshape(k, n_links * width),
        values[ends[1] :].reshape(k, n_roots * width),
    )


class Lanes(NamedTuple):
    """The points to be evaluated, a lane each, and numbers per lane."""

    theta: Floats  # (n_theta, width)
    order: Ints  # (n_blocks, q, width) row of a block's factor that stands first, second, ...
    data: Floats  # (n_values, width) Moments.values of the lanes
    weight: Floats  # (width,) of the data in the derivative: 0, 1 / sigma^2, or NaN for nu / y'Py
    rss: Floats  # (width,)
    log_det: Floats  # (width,)
    kappa: Floats  # (width,) the weight that is taken
    T: Floats  # (p, p, width) Cholesky factor of X'V^-1X
    Lam: Floats  # (n_levels, q, q, width)


class Data(NamedTuple):
    """Views of Lanes.data."""

    S: Floats  # (k, k, positions)
    link_t: Floats  # (k, positions)
    root_t: Floats


class Matrices(NamedTuple):
    """Of an evaluation: (k, k, positions) each."""

    A: Floats
    J: Floats
    F: Floats
    E: Floats
    slope: Floats  # derivative in E
    k1: Floats
    k2: Floats
    k3: Floats


class Columns(NamedTuple):
    """Of an evaluation, in columns of random and fixed effects."""

    L: Floats  # (q, q, positions), as K and H
    K: Floats
    H: Floats
    EB: Floats  # (k, q, positions), as b1
    b1: Floats
    p1: Floats  # (k, p, positions)
    p3: Floats  # (p, positions)
    pp: Floats  # (p, p, positions)
    ZPy: Floats  # (q, positions) of mixed units; q > k where columns vary between units only


class Vectors(NamedTuple):
    """Of an evaluation: (k, positions), and from kappas on (positions,)."""

    a: Floats
    e: Floats
    w: Floats
    v1: Floats
    v2: Floats
    kappas: Floats
    c1: Floats
    sums: Floats


class Workspace(NamedTuple):
    """What an evaluation reads of the lanes, keeps, and leaves.

    The records are small, since the compiler takes very long for a record of many arrays.
    """

    lanes: Lanes
    data: Data
    found: Points  # with the lanes last
    matrices: Matrices
    columns: Columns
    vectors: Vectors


def result_shapes(tree: Tree) -> tuple[Shape, ...]:
    """Shapes of what is found at a point, in the order of Points."""
    n_levels, q, p = len(tree.classes.has_mixed), tree.classes.B.shape[-2], tree.roots.Bx.shape[-2]
    return (), (), (n_parameters(tree.blocks),), (n_levels, q, q), (n_levels, q), (p,), (p, p)


def new_workspace(tree: Tree) -> Workspace:
    """Arrays of the sizes that `tree`, or a stack of trees, needs."""
    width, blocks = tree.model.width, tree.blocks
    k, q, N = tree.classes.B.shape[-3:]
    n_links, (p, n_roots) = tree.links.C.shape[-1], tree.roots.Bx.shape[-2:]
    M = max(N, n_links, n_roots)
    lanes = Lanes(
        theta=np.zeros((n_parameters(tree.blocks), width)),
        order=np.zeros((len(blocks.size), q, width), dtype=np.int64),
        data=np.zeros(((k * k * N + k * n_links + k * n_roots) // width, width)),
        weight=np.zeros(width),
        rss=np.zeros(width),
        log_det=np.zeros(width),
        kappa=np.zeros(width),
        T=np.zeros((p, p, width)),
        Lam=np.zeros((len(tree.classes.has_mixed), q, q, width)),
    )
    a, e, w, v1, v2 = np.zeros((5, k, M))
    shapes = [(q, q, N)] * 3 + [(k, q, N)] * 2 + [(k, p, n_roots), (p, n_roots), (p, p, n_roots)]
    shapes += [(q, N)]
    return Workspace(
        lanes,
        Data(*split_values(lanes.data, k, (N // width, n_links // width, n_roots // width))),
        _lane_points(tree),
        Matrices(*np.zeros((8, k, k, M))),
        Columns(*[np.zeros(shape) for shape in shapes]),
        Vectors(a, e, w, v1, v2, np.zeros(M), np.zeros(M), np.zeros(8 * width)),
    )


def _lane_points(tree: Tree) -> Points:
    """Room for what is found in the lanes."""
    shapes, width = result_shapes(tree), tree.model.width
    slices = places_of(shapes)
    results = np.zeros((slices[-1].stop, width))
    views = [results[own].reshape(*shape, width) for own, shape in zip(slices, shapes, strict=True)]
    return Points(results, *views)
