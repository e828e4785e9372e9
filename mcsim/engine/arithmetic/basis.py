"""Orthonormal bases, compiled."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.compiled import lean_kernel

RANK_TOLERANCE = 1e-10  # share of a column's length that must be new for it to join the basis


def orthonormal_basis(W: Floats) -> tuple[Floats, Floats]:
    """Q (n, rank) and coefficients (rank, m) with W = Q coefficients, columns taken in order."""
    Q = np.zeros((min(W.shape), len(W)))
    coefficients = np.zeros((len(Q), W.shape[1]))
    rank = np.zeros(1, dtype=np.int64)
    columns = np.array(W.T, order="C")  # one signature, also of what is only to be read
    _orthonormalise(columns, Q, coefficients, rank, np.empty(len(W)))
    return np.ascontiguousarray(Q[: rank[0]].T), coefficients[: rank[0]]


@lean_kernel
def _orthonormalise(columns, Q, coefficients, rank, rest):
    """Gram-Schmidt, twice (Giraud et al. 2005: twice is enough)."""
    n = np.uint64(len(rest))
    for j in range(len(columns)):
        length = 0.0
        for row in range(n):
            rest[row] = columns[j, row]
            length += rest[row] * rest[row]
        for _ in range(2):
            for i in range(rank[0]):
                s = 0.0
                for row in range(n):
                    s += Q[i, row] * rest[row]
                coefficients[i, j] += s
                for row in range(n):
                    rest[row] -= s * Q[i, row]
        left = 0.0
        for row in range(n):
            left += rest[row] * rest[row]
        if left > RANK_TOLERANCE * RANK_TOLERANCE * length and rank[0] < len(Q):
            scale = np.sqrt(left)
            for row in range(n):
                Q[rank[0], row] = rest[row] / scale
            coefficients[rank[0], j] = scale
            rank[0] += 1
