"""The records that the compiled code works on: a design in classes, a replicate's moments.

The engine works on several replicates at a time, one per lane. A position of a last axis is
class x width + lane (or link, or root group, in place of class).
"""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Positions = NDArray[np.uint64]
Shape = tuple[int, ...]

LANE_POSITIONS = 128  # classes x lanes that are worked on together: they stay in the first cache
MAX_WIDTH = 64


class Blocks(NamedTuple):
    """Where the parameters theta of Lam stand: a block is a cone of its own.

    A matrix block is a lower triangular factor of `size` consecutive columns, by columns. A scalar
    block is theta times a projection Q: the columns share one variance.
    """

    level: Ints  # innermost level first
    first: Ints  # first column of a matrix block
    size: Ints
    theta: Ints  # first of its parameters
    is_matrix: NDArray[np.bool_]
    Q: Floats  # (n_blocks, q, q)


class Model(NamedTuple):
    """Numbers that the likelihood needs of a model."""

    width: int  # lanes
    nu: float  # n - p (REML) or n (ML)
    is_reml: bool
    log_constant: float  # 2 log|R| of X = X~ R for REML, else 0


class Classes(NamedTuple):
    """Classes of identical units, innermost level first, each repeated for every lane."""

    level_start: Ints  # (n_levels + 1,) first class of each level
    has_uniform: NDArray[np.bool_]  # (n_levels,) whether any class of the level is uniform
    has_mixed: NDArray[np.bool_]
    n_units: Floats  # (n_classes x width,)
    B: Floats  # (k, q, n_classes x width)
    G: Floats  # (q, q, n_leaf_classes x width) B'B of the innermost level


class Links(NamedTuple):
    """Which classes the units of a class have as children, each repeated for every lane."""

    start: Ints  # (n_levels,) first link into level l; links into level 0 do not exist
    in_order: NDArray[np.bool_]  # (n_levels,) whether the children stand one after the other
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
    start_inverse: Floats  # (n_theta + 1, n_theta + 1) of the normal equations of the start
    start_traces: Floats  # (n_levels, q, q) sum Z'PZ at the start


class Reduction(NamedTuple):
    """How the rows of one response become moments.

    Units are numbered innermost level first; neighbours with the same columns and the same parent
    are a run.
    """

    n_classes: int
    n_links: int
    n_roots: int
    row_start: Positions  # (n_leaves + 1,) rows of each innermost unit
    basis_start: Positions  # (n_leaves,) where the unit's basis begins in `basis`
    basis: Floats  # (k, n_rows_of_distinct_units)
    leaf_columns: Floats  # (n_kinds, k, p) X~ = basis leaf_columns, with X~'X~ = n I
    leaf_kind: Positions  # (n_leaf_runs,)
    run_start: Positions  # (n_runs + 1,) first unit of each run
    class_of_run: Positions
    parent_of_run: Ints  # unit number; -1 at the outermost level
    share: Floats  # (n_runs,) 1 / sqrt(number of siblings): weight of t in a uniform parent's t
    taker_of_run: Ints  # link or root group that takes the units' t, -1 if a uniform parent does


class Moments(NamedTuple):
    """The data of replicates as the elimination needs them.

    values : (n_replicates, n_values) one row per replicate, holding S (k, k, n_classes), the sum of
        t t' over the units of each uniform class; the sum of t over the children of each link
        (k, n_links); and over the units of each root group (k, n_roots)
    beta : (n_replicates, p) least-squares fit that was taken out
    rss : (n_replicates,) sum of squares outside the bases of the innermost units
    forms : (n_replicates, n) sums of e'N_m e, where the residuals have a structure
    """

    values: Floats
    beta: Floats
    rss: Floats
    forms: Floats


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


class Points(NamedTuple):
    """What was found at some points: the columns of `results`, or its rows with a lane each."""

    results: Floats  # (n, n_results), all that follows
    f: Floats  # (n,) -2 logLik, profiled over beta and sigma
    r2: Floats  # (n,) y'Py
    gradient: Floats  # (n, n_theta)
    D: Floats  # (n, n_levels, q, q) derivative in Psi; without data sum Z'PZ
    scale: Floats  # (n, n_levels, q) diagonal of sum Z'V^-1Z, V without the outer levels
    beta: Floats  # (n, p)
    T_inverse: Floats  # (n, p, p) inverse of X'V^-1X


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


def n_parameters(tree: Tree) -> int:
    """Number of parameters in Lam."""
    return len(tree.start_inverse) - 1


def points_of(results: Floats, shapes: tuple[Shape, ...]) -> Points:
    """Name the columns of `results`."""
    views = [
        results[:, own].reshape(len(results), *shape)
        for own, shape in zip(_slices(shapes), shapes, strict=True)
    ]
    return Points(results, *views)


@lru_cache(maxsize=64)
def _slices(shapes: tuple[Shape, ...]) -> list[slice]:
    """Where arrays of these shapes stand, one after the other."""
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    return list(map(slice, [0, *ends], ends))


def points_at(points: Points, rows: Ints) -> Points:
    """Some of the points."""
    return points_of(points.results[rows], tuple(part.shape[1:] for part in points[1:]))


def result_shapes(tree: Tree) -> tuple[Shape, ...]:
    """Shapes of what is found at a point, in the order of Points."""
    n_levels, q, p = len(tree.classes.has_mixed), tree.classes.B.shape[1], tree.roots.Bx.shape[1]
    return (), (), (n_parameters(tree),), (n_levels, q, q), (n_levels, q), (p,), (p, p)


def new_workspace(tree: Tree) -> Workspace:
    """Arrays of the sizes that `tree` needs."""
    width, blocks = tree.model.width, tree.blocks
    k, q, N = tree.classes.B.shape
    n_links, (_, p, n_roots) = tree.links.C.shape[2], tree.roots.Bx.shape
    M = max(N, n_links, n_roots)
    lanes = Lanes(
        theta=np.zeros((n_parameters(tree), width)),
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
    slices = _slices(shapes)
    results = np.zeros((slices[-1].stop, width))
    views = [results[own].reshape(*shape, width) for own, shape in zip(slices, shapes, strict=True)]
    return Points(results, *views)
