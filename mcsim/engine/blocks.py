"""Blocks of Psi = Lam Lam' for one lane: read from theta, changed, and written back."""

import numpy as np

from mcsim.engine.compiled import kernel
from mcsim.engine.matrices import semidefinite_factor, times_transpose


@kernel
def entry(blocks, b, i, j):  # type: ignore[no-untyped-def]
    """Number of the parameter in row i and column j <= i of a block's factor."""
    return blocks.theta[b] + j * blocks.size[b] - (j * (j - 1)) // 2 + i - j


@kernel
def covariance(blocks, order, theta, b):  # type: ignore[no-untyped-def]
    """Psi of one block, rows in the order of the data's columns."""
    size = blocks.size[b]
    L = np.zeros((size, size))
    for j in range(size):
        for i in range(j, size):
            L[order[b, i], j] = theta[entry(blocks, b, i, j)]
    return times_transpose(L)


@kernel
def set_block(blocks, order, theta, b, Psi, held):  # type: ignore[no-untyped-def]
    """Factor Psi into theta; columns `held` of the factor, counted in its order, are zero."""
    size = blocks.size[b]
    in_order = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            in_order[i, j] = Psi[order[b, i], order[b, j]]
    L = semidefinite_factor(in_order, held)
    for j in range(size):
        for i in range(j, size):
            theta[entry(blocks, b, i, j)] = L[i, j]


@kernel
def put_largest_pivots_first(blocks, order, b, Psi):  # type: ignore[no-untyped-def]
    """Order the factor of a block by its pivots: where a leading pivot is nearly zero, the entries
    below it and the next pivot are two names for one thing, and steps get lost between them.
    """
    size = blocks.size[b]
    rest = Psi.copy()
    for i in range(size):
        order[b, i] = i
    for j in range(size):
        largest = j
        for i in range(j + 1, size):
            if rest[order[b, i], order[b, i]] > rest[order[b, largest], order[b, largest]]:
                largest = i
        first = order[b, j]
        order[b, j] = order[b, largest]
        order[b, largest] = first
        row = order[b, j]
        pivot = rest[row, row]
        if pivot <= 0.0:
            break
        column = rest[:, row].copy()
        for i in range(size):
            for m in range(size):
                rest[i, m] -= column[i] * column[m] / pivot


@kernel
def active_entries(blocks, theta):  # type: ignore[no-untyped-def]
    """Parameters whose column of the factor has a pivot; the others are held at zero."""
    active = np.zeros(len(theta), dtype=np.bool_)
    for b in range(len(blocks.size)):
        for j in range(blocks.size[b]):
            has_pivot = theta[entry(blocks, b, j, j)] != 0.0
            for i in range(j, blocks.size[b]):
                active[entry(blocks, b, i, j)] = has_pivot
    return active


@kernel
def block_of(blocks, b, D):  # type: ignore[no-untyped-def]
    """What a derivative in Psi, by level, is for the Psi of one block."""
    level, first, size = blocks.level[b], blocks.first[b], blocks.size[b]
    part = np.zeros((size, size))
    if blocks.is_matrix[b]:
        for i in range(size):
            for j in range(size):
                part[i, j] = D[level, first + i, first + j]
    else:
        for i in range(D.shape[1]):
            for j in range(D.shape[1]):
                part[0, 0] += blocks.Q[b, i, j] * D[level, i, j]
    return part
