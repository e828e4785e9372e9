"""Variance components, and the design in which each is easy to hold.

The columns of a level are rotated so that the component's own come first: few entries of Lam then
make up its variance, whatever the other columns do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import covariance, set_block
from mcsim.engine.compile import CompiledDesign, turned
from mcsim.engine.profile.coordinates import (
    Angle,
    Coordinates,
    Mixture,
    Radius,
    Residual,
    Weights,
    between,
)


@dataclass(frozen=True)
class Deviation:
    """Root of the sum of the variances of effects (level, column); sigma where there are none.

    Levels are counted from the outermost.
    """

    effects: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Share:
    """Share of the first effect's variance in that of all of them and the residual."""

    effects: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Correlation:
    """Correlation of two columns of a level."""

    level: int
    i: int
    j: int


Target = Deviation | Share | Correlation


@dataclass(frozen=True)
class Rotation:
    """A design whose blocks b begin with chosen columns.

    A[b] : the old columns times A are the new ones; T[b] : T Lam is in the columns' own scale
    """

    design: CompiledDesign
    A: dict[int, Floats]
    T: dict[int, Floats]

    def points(self, theta: Floats, order: Ints) -> tuple[Floats, Ints]:
        """Theta and order of the points that are theta and order in the design as it was."""
        theta, order, blocks = theta.copy(), order.copy(), self.design.blocks
        for b, A in self.A.items():
            Psi = between(A, covariance(blocks, order, theta, b))
            order[:, b, : len(A)] = np.arange(len(A))
            set_block(blocks, order, theta, b, 0.5 * (Psi + np.swapaxes(Psi, 1, 2)))
        return theta, order


def coordinates_of(design: CompiledDesign, target: Target) -> tuple[Rotation, Coordinates]:
    """The rotated design and the coordinates of a target."""
    if isinstance(target, Correlation):
        return _of_correlation(design, target)
    rotation = _rotated(design, [(level, [column]) for level, column in target.effects])
    blocks = rotation.design.blocks
    parts = [_weights(design, rotation, level, column) for level, column in target.effects]
    if not parts:
        return rotation, Residual()
    total = _joined(parts)
    if isinstance(target, Share):
        return rotation, Radius(blocks, parts[0], _joined(parts[1:]))
    return rotation, Radius(blocks, total, None)


def _of_correlation(design: CompiledDesign, target: Correlation) -> tuple[Rotation, Coordinates]:
    blocks, own = design.blocks, _blocks_of(design, target.level, target.i)
    is_matrix = bool(blocks.is_matrix[own[0]])
    is_own = target.i != target.j and own == _blocks_of(design, target.level, target.j)
    if not is_own or (len(own) == 1 and not is_matrix):
        raise ValueError(f"the model has no parameter for {target!r}")
    rotation = _rotated(design, [(target.level, [target.i, target.j])])
    if is_matrix:
        return rotation, Angle(blocks, own[0], rotation.T[own[0]])
    return rotation, Mixture(blocks, *own)


def _blocks_of(design: CompiledDesign, level: int, column: int) -> list[int]:
    """The blocks that the variance of a column depends on."""
    blocks, depth = design.blocks, len(design.scales) - 1 - level
    return [
        b
        for b in np.flatnonzero(blocks.level == depth).tolist()
        if (blocks.is_matrix[b] and 0 <= column - blocks.first[b] < blocks.size[b])
        or blocks.Q[b, column, column] > 0.0
    ]


def _weights(design: CompiledDesign, rotation: Rotation, level: int, column: int) -> Weights:
    blocks, own = rotation.design.blocks, _blocks_of(design, level, column)
    if blocks.is_matrix[own[0]]:
        roots = [float(rotation.T[own[0]][0, 0])]
    else:
        scale = design.scales[level][column, column]
        roots = [float(scale * np.sqrt(blocks.Q[b, column, column])) for b in own]
    return Weights(tuple(int(blocks.theta[b]) for b in own), tuple(roots), tuple(own))


def _joined(parts: Sequence[Weights]) -> Weights:
    joined = Weights(
        tuple(t for part in parts for t in part.parameters),
        tuple(root for part in parts for root in part.roots),
        tuple(b for part in parts for b in part.blocks),
    )
    if len(set(joined.blocks)) < len(joined.blocks):
        raise ValueError("the effects of a sum of variances must be independent of each other")
    return joined


def _rotated(design: CompiledDesign, chosen: Sequence[tuple[int, list[int]]]) -> Rotation:
    """The design with the chosen columns of some levels first in their blocks."""
    blocks, rotations, scales = design.blocks, {}, {}
    for level, columns in chosen:
        b = _blocks_of(design, level, columns[0])[0]
        if not blocks.is_matrix[b]:
            continue
        first, size = int(blocks.first[b]), int(blocks.size[b])
        rows = [column - first for column in columns]
        rows += [row for row in range(size) if row not in rows]
        S = design.scales[level][first : first + size, first : first + size]
        Q, R = np.linalg.qr(S[rows].T)
        sign = np.where(np.diag(R) < 0.0, -1.0, 1.0)
        rotations[b], scales[b] = Q * sign, R.T * sign
        design = turned(design, b, rotations[b])
    return Rotation(design, rotations, scales)
