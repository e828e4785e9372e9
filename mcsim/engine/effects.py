"""Random effects of simulated replicates, compiled."""

import numpy as np

from mcsim.engine.compiled import lean_kernel
from mcsim.engine.tree import Floats, Positions

U = np.uint64


def add_effects(
    normals: Floats,
    factor: Floats,
    Z: Floats,
    unit_start: Positions,
    cell_of_unit: Positions,
    responses: Floats,
) -> Floats:
    """Add the effects of one level to responses (n_replicates, n_rows), in place.

    Parameters
    ----------
    normals : (n_replicates, n_units x q or more) standard normals, unit by unit
    factor : (q, q), factor factor' is the covariance
    Z : (q, n_rows)
    unit_start : (n_units + 1,) the rows of a unit stand together
    cell_of_unit : (n_units,) factor cell

    Returns
    -------
    (n_replicates, q, q) sums of squares and products of the effects around their cells' means
    """
    q, n_units = len(factor), len(cell_of_unit)
    products = np.zeros((len(responses), q, q))
    n_in_cell = np.bincount(cell_of_unit.astype(np.int64)).astype(np.float64)
    _add_effects(
        normals, factor, Z, unit_start, cell_of_unit, n_in_cell, responses, products,
        np.empty((q, n_units)), np.empty((q, len(n_in_cell))),
    )  # fmt: skip
    return products


@lean_kernel
def _add_effects(
    normals, factor, Z, unit_start, cell_of_unit, n_in_cell, responses, products, u, means
):
    q, n_units = U(len(factor)), U(len(cell_of_unit))
    for r in range(U(len(responses))):
        for i in range(q):
            for cell in range(U(len(n_in_cell))):
                means[i, cell] = 0.0
            for unit in range(n_units):
                s = 0.0
                for m in range(q):
                    s += factor[i, m] * normals[r, unit * q + m]
                u[i, unit] = s
                means[i, cell_of_unit[unit]] += s
                for row in range(unit_start[unit], unit_start[unit + U(1)]):
                    responses[r, row] += Z[i, row] * s
            for cell in range(U(len(n_in_cell))):
                means[i, cell] /= n_in_cell[cell]
        for i in range(q):
            for j in range(i + U(1)):
                s = 0.0
                for unit in range(n_units):
                    cell = cell_of_unit[unit]
                    s += (u[i, unit] - means[i, cell]) * (u[j, unit] - means[j, cell])
                products[r, i, j] = s
                products[r, j, i] = s
