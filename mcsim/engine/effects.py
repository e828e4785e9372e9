"""Random effects of simulated replicates, compiled."""

from typing import NamedTuple

import numpy as np

from mcsim.engine.compiled import lean_kernel
from mcsim.engine.tree import Floats, Positions

U = np.uint64


class Cells(NamedTuple):
    """Factor cells of the units of a level."""

    of_unit: Positions
    n_units: Floats


def add_effects(
    normals: Floats,
    factor: Floats,
    Z: Floats,
    unit_start: Positions,
    cells: Cells,
    responses: Floats,
) -> Floats:
    """Add the effects of one level to responses (n_replicates, n_rows), in place.

    Parameters
    ----------
    normals : (n_replicates, n_units x q or more) standard normals, unit by unit
    factor : (q, q), factor factor' is the covariance
    Z : (q, n_rows)
    unit_start : (n_units + 1,) the rows of a unit stand together

    Returns
    -------
    (n_replicates, q, q) sums of squares and products of the effects around their cells' means
    """
    q, n_units = len(factor), len(cells.of_unit)
    products = np.zeros((len(responses), q, q))
    _add_effects(
        normals, factor, Z, unit_start, cells, responses, products,
        np.empty((q, n_units)), np.empty((q, len(cells.n_units))),
    )  # fmt: skip
    return products


@lean_kernel
def _add_effects(normals, factor, Z, unit_start, cells, responses, products, u, means):
    q, n_units = U(len(factor)), U(len(cells.of_unit))
    for r in range(U(len(responses))):
        for i in range(q):
            for cell in range(U(len(cells.n_units))):
                means[i, cell] = 0.0
            for unit in range(n_units):
                s = 0.0
                for m in range(q):
                    s += factor[i, m] * normals[r, unit * q + m]
                u[i, unit] = s
                means[i, cells.of_unit[unit]] += s
            for cell in range(U(len(cells.n_units))):
                means[i, cell] /= cells.n_units[cell]
        for i in range(U(0), q - q % U(2), U(2)):
            for unit in range(n_units):
                first, second = u[i, unit], u[i + U(1), unit]
                for row in range(unit_start[unit], unit_start[unit + U(1)]):
                    responses[r, row] += Z[i, row] * first + Z[i + U(1), row] * second
        for i in range(q - q % U(2), q):
            for unit in range(n_units):
                for row in range(unit_start[unit], unit_start[unit + U(1)]):
                    responses[r, row] += Z[i, row] * u[i, unit]
        for i in range(q):
            for j in range(i + U(1)):
                s = 0.0
                for unit in range(n_units):
                    cell = cells.of_unit[unit]
                    s += (u[i, unit] - means[i, cell]) * (u[j, unit] - means[j, cell])
                products[r, i, j] = s
                products[r, j, i] = s
