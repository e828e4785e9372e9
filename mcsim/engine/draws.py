"""Simulated responses: residuals and random effects, compiled."""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Positions
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.arithmetic.unit_sums import sum_of_products

U = np.uint64


class Cells(NamedTuple):
    """Factor cells of the units of a level."""

    of_unit: Positions
    n_units: Floats


def set_responses(
    normals: Floats, first: int, sigma: float, mean: Floats, responses: Floats
) -> None:
    """Put mean (n_rows,) + sigma normals into responses (n_replicates, n_rows).

    Parameters
    ----------
    normals : (n_replicates, first + n_rows or more), contiguous; from column `first` on
    """
    _set_responses(normals, first, sigma, mean, responses)


def add_effects(
    normals: Floats,
    first: int,
    factor: Floats,
    Z: Floats,
    unit_start: Positions,
    cells: Cells,
    responses: Floats,
) -> Floats:
    """Add the effects of one level to responses (n_replicates, n_rows), in place.

    Parameters
    ----------
    normals : (n_replicates, first + n_units x q or more) standard normals, unit by unit,
        contiguous; from column `first` on
    factor : (q, q), factor factor' is the covariance
    Z : (q, n_rows)
    unit_start : (n_units + 1,) the rows of a unit stand together

    Returns
    -------
    (n_replicates, q, q) sums of squares and products of the effects around their cells' means
    """
    products = np.zeros((len(responses), len(factor), len(factor)))
    _add(normals, first, factor, Z, unit_start, cells, responses, products)
    return products


def add_effects_of_units(
    normals: Floats,
    factor: Floats,
    Z: Floats,
    unit_start: Positions,
    cells: Cells,
    responses: Floats,
) -> Floats:
    """The same of one long response (n_rows,); returns the effects (q, n_units) around the means.

    Parameters
    ----------
    normals : (n_units x q,)
    """
    products = np.zeros((1, len(factor), len(factor)))
    return _add(normals[None], 0, factor, Z, unit_start, cells, responses[None], products)


def _add(
    normals: Floats,
    first: int,
    factor: Floats,
    Z: Floats,
    unit_start: Positions,
    cells: Cells,
    responses: Floats,
    products: Floats,
) -> Floats:
    """The effects of the last response are left."""
    q = len(factor)
    u, means = np.empty((q, len(cells.of_unit))), np.empty((q, len(cells.n_units)))
    _add_effects(normals, first, factor, Z, unit_start, cells, responses, products, u, means)
    return u


@lean_kernel
def _set_responses(normals, first, sigma, mean, responses):
    for r in range(U(len(responses))):
        for row in range(U(len(mean))):
            responses[r, row] = mean[row] + sigma * normals[r, U(first) + row]


@lean_kernel
def _add_effects(normals, first, factor, Z, unit_start, cells, responses, products, u, means):
    q, n_units = U(len(factor)), U(len(cells.of_unit))
    for r in range(U(len(responses))):
        for i in range(q):
            for unit in range(n_units):
                s = 0.0
                for m in range(q):
                    s += factor[i, m] * normals[r, U(first) + unit * q + m]
                u[i, unit] = s
        _add_to_rows(u, Z, unit_start, responses[r])
        for i in range(q):
            _centre(u[i], cells, means[i])
            for j in range(i + U(1)):
                products[r, i, j] = products[r, j, i] = sum_of_products(u[i], u[j])


@step
def _add_to_rows(u, Z, unit_start, y):
    """Add the effects of every unit to its rows, two columns at a time."""
    q, n_units = U(len(u)), U(len(unit_start) - 1)
    for i in range(U(0), q - q % U(2), U(2)):
        for unit in range(n_units):
            one, other = u[i, unit], u[i + U(1), unit]
            for row in range(unit_start[unit], unit_start[unit + U(1)]):
                y[row] += Z[i, row] * one + Z[i + U(1), row] * other
    for i in range(q - q % U(2), q):
        for unit in range(n_units):
            for row in range(unit_start[unit], unit_start[unit + U(1)]):
                y[row] += Z[i, row] * u[i, unit]


@step
def _centre(u, cells, means):
    """Subtract the mean of its cell from the effect of every unit; most cells stand together."""
    of_unit, n_units = cells.of_unit, U(len(cells.of_unit))
    for cell in range(len(means)):
        means[cell] = 0.0
    first = U(0)
    while first < n_units:
        end = _run_end(of_unit, first)
        means[of_unit[first]] += _sum(u, first, end)
        first = end
    for cell in range(len(means)):
        means[cell] /= cells.n_units[cell]
    first = U(0)
    while first < n_units:
        end, mean = _run_end(of_unit, first), means[of_unit[first]]
        for unit in range(first, end):
            u[unit] -= mean
        first = end


@step
def _run_end(of_unit, first):
    """Where the units from `first` on that share a cell end."""
    end = first + U(1)
    while end < U(len(of_unit)) and of_unit[end] == of_unit[first]:
        end += U(1)
    return end


@step
def _sum(x, first, end):
    """Sum of x[first:end]; no addition waits for the one before it."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = end - (end - first) % U(4)
    for i in range(first, whole, U(4)):
        s0 += x[i]
        s1 += x[i + U(1)]
        s2 += x[i + U(2)]
        s3 += x[i + U(3)]
    for i in range(whole, end):
        s0 += x[i]
    return (s0 + s1) + (s2 + s3)
