"""Residuals whose correlation falls with every step."""

from functools import cached_property

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.residuals.structure import ResidualRows, ResidualStructure, UnitRows

U = np.uint64


class Autoregressive(ResidualStructure):
    """Correlation phi ** distance, phi = tanh z: nlme's corAR1.

    R^-1 = (I - phi S + phi^2 D) / (1 - phi^2): S joins neighbours, D is 1 but for both ends.
    """

    parameters = ("phi",)
    n_forms = 3
    end, edge = 6.0, 5.0

    def __init__(self, unit: Ints, rows: ResidualRows) -> None:
        self._unit, self._along = unit, rows.along
        self._n_steps = len(unit) - len(np.bincount(unit))  # rows that have one before them

    def correlate(self, draws: Floats, values: Floats) -> Floats:
        """e_1 = z_1, e_k = phi e_(k-1) + sqrt(1 - phi^2) z_k within a unit.

        Draws that are not normal make e_1 of their shape, and later ones, which are sums of draws,
        nearer to the normal.
        """
        found, phi = draws.copy(), float(values[0])
        for before, after in self._steps:
            found[:, after] = phi * found[:, before] + np.sqrt(1.0 - phi**2) * draws[:, after]
        return found

    @cached_property
    def _steps(self) -> list[tuple[Ints, Ints]]:
        """First, second, ... of every unit: rows, and those one after."""
        unit = self._unit
        along = np.arange(len(unit)) if self._along is None else self._along
        order = np.lexsort((along, unit))  # stable: equal values keep the order of the rows
        starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
        position = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        steps = [np.flatnonzero(position == k) for k in range(1, int(position.max()) + 1)]
        return [(order[here - 1], order[here]) for here in steps]

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """Q, -S Q and D Q; a unit of one row has D = -1, so that R is 1."""
        S, D = np.zeros_like(Q), Q.copy()
        S[1:] -= Q[:-1]
        S[:-1] -= Q[1:]
        D[[0, -1]] = 0.0 if len(Q) > 1 else -Q
        return [Q, S, D]

    def sum_forms(self, e: Floats, units: UnitRows, sums: Floats) -> None:
        """Squares, products of neighbours, and squares of rows between two others."""
        _sum_forms(e, units, sums)

    def weights(self, z: Floats) -> Floats:
        """1, phi and phi^2 over 1 - phi^2."""
        return np.stack([np.cosh(z) ** 2, 0.5 * np.sinh(2.0 * z), np.sinh(z) ** 2], axis=1)

    def slopes(self, z: Floats) -> Floats:
        """Their derivatives."""
        S = np.sinh(2.0 * z)
        return np.stack([S, np.cosh(2.0 * z), S], axis=1)[:, None]

    def log_determinant(self, z: Floats) -> tuple[Floats, Floats]:
        """log(1 - phi^2) for every step."""
        return -2.0 * self._n_steps * np.log(np.cosh(z[:, 0])), -2.0 * self._n_steps * np.tanh(z)

    def curvature(self, z: Floats) -> Floats:
        """2 (1 - phi^2) for every step."""
        return 2.0 * self._n_steps / np.cosh(z) ** 2

    def values(self, z: Floats) -> tuple[Floats, Floats]:
        """Phi."""
        return np.tanh(z), 1.0 / np.cosh(z)[:, :, None] ** 2

    def grid(self) -> Floats:
        """Phi from -0.8 to 0.97: near 1 a little more of it changes a lot."""
        phi = [-0.8, -0.5, -0.2, 0.1, 0.3, 0.5, 0.65, 0.76, 0.84, 0.9, 0.94, 0.97]
        return np.asarray(np.arctanh(phi))[:, None]


@lean_kernel
def _sum_forms(e, units, sums):
    for r in range(len(e)):
        for unit in range(U(len(units.class_of_unit))):
            c, first, last = units.class_of_unit[unit], units.start[unit], units.start[unit + U(1)]
            _add_steps(sums[r], c, e[r], first, last)


@step
def _add_steps(sums, c, e, first, last):
    """Squares, products of neighbours (twice, negative), and squares of rows between two others."""
    squares, products = 0.0, 0.0
    for row in range(first, last):
        squares += e[row] * e[row]
    for row in range(first + U(1), last):
        products += e[row] * e[row - U(1)]
    sums[0, c] += squares
    sums[1, c] -= 2.0 * products
    if last - first > U(1):
        sums[2, c] += squares - e[first] * e[first] - e[last - U(1)] * e[last - U(1)]
    else:
        sums[2, c] -= squares
