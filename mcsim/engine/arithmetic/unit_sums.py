"""Weighted sums of responses over the rows of each unit, compiled."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel


def unit_sums(responses: Floats, weights: Floats, unit_of_row: Ints, n_units: int) -> Floats:
    """Sums over the rows of a unit of response times weights: (n_replicates, n_units, k).

    The rows are added one by one, so that the bits do not depend on how many replicates there are.

    Parameters
    ----------
    responses : (n_replicates, n_rows)
    weights : (n_rows, k)
    unit_of_row : (n_rows,) 0 .. n_units - 1
    """
    sums = np.zeros((len(responses), n_units, weights.shape[1]))
    _add(
        np.ascontiguousarray(responses),
        np.ascontiguousarray(weights),
        unit_of_row.astype(np.uint64),
        sums,
    )
    return sums


@lean_kernel
def _add(responses, weights, unit_of_row, sums):
    n_rows, k = np.uint64(len(weights)), np.uint64(weights.shape[1])
    for r in range(np.uint64(len(responses))):
        for row in range(n_rows):
            unit, response = unit_of_row[row], responses[r, row]
            for j in range(k):
                sums[r, unit, j] += response * weights[row, j]


def weighted_sums(responses: Floats, weights: Floats) -> Floats:
    """Sums over all rows of response times weights: (n_replicates, k).

    The bits do not depend on how many replicates there are.

    Parameters
    ----------
    responses : (n_replicates, n_rows)
    weights : (k, n_rows)
    """
    sums = np.zeros((len(responses), len(weights)))
    _add_all(np.ascontiguousarray(responses), np.ascontiguousarray(weights), sums)
    return sums


@lean_kernel
def _add_all(responses, weights, sums):
    """Four sums at a time: an addition need not wait for the one before."""
    n_rows, four = np.uint64(weights.shape[1]), np.uint64(4)
    n_fours = n_rows // four
    for r in range(np.uint64(len(responses))):
        for j in range(np.uint64(len(weights))):
            a, b, c, d = 0.0, 0.0, 0.0, 0.0
            for step in range(n_fours):
                row = step * four
                a += responses[r, row] * weights[j, row]
                b += responses[r, row + np.uint64(1)] * weights[j, row + np.uint64(1)]
                c += responses[r, row + np.uint64(2)] * weights[j, row + np.uint64(2)]
                d += responses[r, row + np.uint64(3)] * weights[j, row + np.uint64(3)]
            for last in range(n_fours * four, n_rows):
                a += responses[r, last] * weights[j, last]
            sums[r, j] = (a + b) + (c + d)
