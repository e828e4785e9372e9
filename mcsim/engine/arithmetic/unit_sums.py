"""Weighted sums of responses over the rows of each unit, compiled."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step

U = np.uint64  # an index that cannot be negative needs no check


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
    n_rows, k = U(len(weights)), U(weights.shape[1])
    for r in range(U(len(responses))):
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
    for r in range(U(len(responses))):
        for j in range(U(len(weights))):
            sums[r, j] = sum_of_products(responses[r], weights[j])


@step
def sum_of_products(r, x):
    """The sum of r x, in four parts: an addition need not wait for the one before."""
    n, a, b, c, d = U(len(r)), 0.0, 0.0, 0.0, 0.0
    whole = n - n % U(4)
    for row in range(U(0), whole, U(4)):
        a += r[row] * x[row]
        b += r[row + U(1)] * x[row + U(1)]
        c += r[row + U(2)] * x[row + U(2)]
        d += r[row + U(3)] * x[row + U(3)]
    for row in range(whole, n):
        a += r[row] * x[row]
    return (a + b) + (c + d)
