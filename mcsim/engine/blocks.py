"""Blocks of Psi = Lam Lam', one per replicate: read from theta, changed, and written back.

Arguments of all functions: theta (n, n_theta); order (n, n_blocks, q), the row of a block's factor
that stands first, second, ...
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.replicates import product, semidefinite_factor, transpose


class Blocks(NamedTuple):
    """Where the parameters theta of Lam stand: a block is a cone of its own.

    A matrix block is a lower triangular factor of `size` consecutive columns, by columns. A scalar
    block is theta times a projection Q: the columns share one variance. Effects that never meet,
    not even through others, are uncorrelated: no data tell another value.
    """

    level: Ints  # innermost level first
    first: Ints  # first column of a matrix block
    size: Ints
    theta: Ints  # first of its parameters
    is_matrix: Flags
    Q: Floats  # (n_blocks, q, q)
    meets: Flags  # (n_blocks, q, q) whether two columns of a matrix block do


def n_parameters(blocks: Blocks) -> int:
    """Number of parameters in Lam."""
    return sum(size * (size + 1) // 2 for size in blocks.size.tolist())


def entry(blocks: Blocks, b: int, i: int, j: int) -> int:
    """Number of the parameter in row i and column j <= i of a block's factor."""
    return int(blocks.theta[b]) + j * int(blocks.size[b]) - (j * (j - 1)) // 2 + i - j


def entries(blocks: Blocks) -> list[tuple[int, int, int]]:
    """Block, row and column of every parameter."""
    return [
        (b, i, j) for b, size in enumerate(blocks.size) for j in range(size) for i in range(j, size)
    ]


def covariance(blocks: Blocks, order: Ints, theta: Floats, b: int) -> Floats:
    """Psi of one block, rows in the order of the data's columns: (n, size, size)."""
    size, everyone = int(blocks.size[b]), np.arange(len(theta))
    L = np.zeros((len(theta), size, size))
    for j in range(size):
        for i in range(j, size):
            L[everyone, order[:, b, i], j] = theta[:, entry(blocks, b, i, j)]
    return product(L, transpose(L))


def set_block(
    blocks: Blocks, order: Ints, theta: Floats, b: int, Psi: Floats, held: Flags | None = None
) -> None:
    """Factor Psi into theta, exactly 0 between effects that never meet; columns `held` (n, size),
    counted in its order, are zero.
    """
    size = int(blocks.size[b])
    Psi = Psi * blocks.meets[b, :size, :size]
    own = order[:, b, :size]
    everyone = np.arange(len(theta))[:, None, None]
    L = semidefinite_factor(Psi[everyone, own[:, :, None], own[:, None, :]], held)
    for j in range(size):
        for i in range(j, size):
            theta[:, entry(blocks, b, i, j)] = L[:, i, j]


def put_largest_pivots_first(blocks: Blocks, order: Ints, b: int, Psi: Floats) -> None:
    """Order the factor of a block by its pivots: where a leading pivot is nearly zero, the entries
    below it and the next pivot are two names for one thing, and steps get lost between them.
    """
    size, everyone = int(blocks.size[b]), np.arange(len(Psi))
    rest = Psi.copy()
    order[:, b, :size] = np.arange(size)
    for j in range(size):
        diagonal = rest[everyone[:, None], order[:, b, j:size], order[:, b, j:size]]
        largest = j + np.argmax(diagonal, axis=1)
        row = order[everyone, b, largest]
        order[everyone, b, largest] = order[:, b, j]
        order[:, b, j] = row
        pivot = rest[everyone, row, row]
        column = rest[everyone, :, row]
        divisor = np.where(pivot > 0.0, pivot, np.inf)[:, None, None]
        rest -= column[:, :, None] * column[:, None, :] / divisor


def pivots(blocks: Blocks, theta: Floats, b: int) -> Floats:
    """Diagonal of a block's factor: (n, size)."""
    return theta[:, [entry(blocks, b, j, j) for j in range(blocks.size[b])]]


def parted_parameters(blocks: Blocks, order: Ints) -> Flags:
    """Parameters between effects that never meet: they stay at zero. (n, n_theta)."""
    meets = np.ones((len(order), n_parameters(blocks)), dtype=bool)
    for t, (b, i, j) in enumerate(entries(blocks)):
        meets[:, t] = blocks.meets[b, order[:, b, i], order[:, b, j]]
    return ~meets


def boundary_parameters(blocks: Blocks, theta: Floats) -> Flags:
    """Parameters whose column of the factor has no pivot: they stay at zero. (n, n_theta)."""
    columns = np.array([entry(blocks, b, j, j) for b, _, j in entries(blocks)], dtype=np.int64)
    return np.asarray(theta[:, columns] == 0.0)


def block_of(blocks: Blocks, b: int, D: Floats) -> Floats:
    """What a derivative in Psi, (n, n_levels, q, q), is for the Psi of one block."""
    level, first, size = blocks.level[b], int(blocks.first[b]), int(blocks.size[b])
    if blocks.is_matrix[b]:
        return D[:, level, first : first + size, first : first + size]
    total = np.zeros((len(D), 1, 1))
    for i, j in np.argwhere(blocks.Q[b]):
        total[:, 0, 0] += blocks.Q[b, i, j] * D[:, level, i, j]
    return total


def blocks_of(structures: Sequence[Sequence[tuple[str, int]]], meets: Sequence[Flags]) -> Blocks:
    """The parameters of Lam; the structures of every level, innermost level first.

    Parameters
    ----------
    meets : per level (q, q) whether two columns do
    """
    q = max(1, *(sum(size for _, size in level) for level in structures))
    rows, projections, together = [], [], []
    n_theta = 0
    for depth, level in enumerate(structures):
        first = 0
        for structure, size in level:
            for Q in _projections(structure, size):
                block_size = size if Q is None else 1
                rows.append((depth, first, block_size, n_theta, Q is None))
                projection = np.zeros((q, q))
                if Q is not None:
                    projection[first : first + size, first : first + size] = Q
                projections.append(projection)
                own = np.ones((q, q), dtype=bool)
                if Q is None:
                    columns = slice(first, first + size)
                    own[:size, :size] = meets[depth][columns, columns]
                together.append(own)
                n_theta += block_size * (block_size + 1) // 2
            first += size
    numbers = np.array(rows, dtype=np.int64).reshape(-1, 5).T.copy()
    level_of, first_of, size_of, theta_of, is_matrix = numbers
    Q = np.array(projections).reshape(-1, q, q)
    all_meets = np.array(together, dtype=np.bool_).reshape(-1, q, q)
    return Blocks(level_of, first_of, size_of, theta_of, is_matrix.astype(np.bool_), Q, all_meets)


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
