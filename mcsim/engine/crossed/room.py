"""What an evaluation of crossed units reads, keeps and leaves; lanes are the last axis."""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import n_parameters
from mcsim.engine.crossed.crossing import LANES, Crossing
from mcsim.engine.likelihood import Points, Shape, places_of


class Room(NamedTuple):
    """What an evaluation reads of the lanes, which are the last axis, and keeps."""

    theta: Floats  # (n_theta,)
    order: Ints  # (n_blocks, q)
    data: Floats  # (n_columns,) W'y
    numbers: Floats  # (4,) weight of the data, log|V|, y'Py, kappa
    Lam: Floats  # (n_levels, q, q) times the turn
    factor: Floats  # (n_levels, q, q) as theta has it
    T: Floats  # (p, p)


class System(NamedTuple):
    """The dense system of an evaluation; lanes are the last axis."""

    A: Floats  # (n_rest + 1, n_rest + 1) lower triangle: outer columns, X, y
    F: Floats  # (n_outer, n_outer) A_OO Lam, becomes S'
    B: Floats  # (n_outer, n_outer) becomes its factor
    Q: Floats  # (n_outer, n_outer) L^-1 Lam' by rows
    N: Floats  # (n_outer, n_outer)
    h: Floats  # (n_outer, p + 1)
    U: Floats  # (n_outer, p + 1)
    z: Floats  # (q, p + 1) O'V^-1X of one unit, the last O'V^-1y and then O'Py
    V: Floats  # (q, q) O'V^-1O of one unit


class Block(NamedTuple):
    """Of one eliminated block; lanes are the last axis."""

    L: Floats  # (b, b) Lam
    K: Floats  # (b, b) becomes its factor
    H: Floats  # (b, b) K^-1/2 Lam'
    V: Floats  # (b, b) W'V^-1W
    E: Floats  # (m + 1, b) rows of R'W, then of E
    x: Floats  # (b, p + 1) W'V^-1X, W'V^-1y and then W'Py
    k: Floats  # (b,)


def result_shapes(crossing: Crossing) -> tuple[Shape, ...]:
    """Shapes of what is found at a point, in the order of Points."""
    n_levels, q = crossing.turn.shape[:2]
    p = len(crossing.rest) - int(crossing.outer.first[-1])
    return (), (), (n_parameters(crossing.blocks),), (n_levels, q, q), (n_levels, q), (p,), (p, p)


def lane_points(shapes: tuple[Shape, ...]) -> Points:
    """Room for what is found in the lanes."""
    places = places_of(shapes)
    results = np.zeros((places[-1].stop, LANES))
    views = [results[own].reshape(*shape, LANES) for own, shape in zip(places, shapes, strict=True)]
    return Points(results, *views)


def new_room(crossing: Crossing) -> tuple[Room, System, Block]:
    """Arrays of the sizes that a crossing needs."""
    n_rest, (n_levels, q) = len(crossing.rest), crossing.turn.shape[:2]
    n_outer = int(crossing.outer.first[-1])
    p, n_columns = n_rest - n_outer, int(crossing.inner.first[-1]) + n_outer
    first = crossing.inner.first[crossing.block_unit].astype(np.int64)
    b, m = int(np.diff(first).max()), int(np.diff(crossing.touch_start.astype(np.int64)).max())

    def zeros(*shape: int) -> Floats:
        return np.zeros((*shape, LANES))

    room = Room(
        zeros(n_parameters(crossing.blocks)),
        np.zeros((len(crossing.blocks.size), q, LANES), dtype=np.int64),
        zeros(n_columns), zeros(4), zeros(n_levels, q, q), zeros(n_levels, q, q), zeros(p, p),
    )  # fmt: skip
    F, B, Q, N = (zeros(n_outer, n_outer) for _ in range(4))
    h, Uh = zeros(n_outer, p + 1), zeros(n_outer, p + 1)
    A = zeros(n_rest + 1, n_rest + 1)
    system = System(A, F, B, Q, N, h, Uh, zeros(q, p + 1), zeros(q, q))
    L, K, H, V = (zeros(b, b) for _ in range(4))
    return room, system, Block(L, K, H, V, zeros(m + 1, b), zeros(b, p + 1), zeros(b))
