"""Residuals whose correlation falls with every step."""

from functools import cached_property

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.residuals.structure import ResidualRows, ResidualStructure, UnitRows

U = np.uint64


class Autoregressive(ResidualStructure):
    """Correlation phi ** distance, phi = tanh z: nlme's corAR1.

    Neighbours at the distance d have the correlation r = phi ** d = tanh z_d, and

        R^-1 = I + sum_d (r S_d + r^2 D_d) / (1 - r^2):

    -S_d is 1 for those neighbours, D_d counts how many of them a row has. D_1, of rows one step
    apart, stands as D_1 - I. The stratum of a row is how many steps before it have no row: d - 1.
    """

    parameters = ("phi",)
    end, edge = 6.0, 5.0

    def __init__(self, unit: Ints, rows: ResidualRows) -> None:
        along = np.arange(len(unit)) if rows.along is None else rows.along
        self._order = np.lexsort((along, unit))
        position = along if rows.along is not None else np.argsort(self._order)
        is_next = np.diff(unit[self._order], prepend=-1) == 0
        steps = np.where(is_next, np.diff(position[self._order], prepend=0), 0)
        self._starts = np.flatnonzero(~is_next)
        self._distances = np.union1d([1], steps[is_next])
        self._form = np.searchsorted(self._distances, steps)  # of sorted rows
        self._n_steps = np.bincount(self._form[is_next], minlength=len(self._distances))
        self.n_forms = 1 + 2 * len(self._distances)

    def correlate(self, draws: Floats, values: Floats) -> Floats:
        """e_1 = z_1, e_k = r e_(k-1) + sqrt(1 - r^2) z_k within a unit.

        Draws that are not normal make e_1 of their shape, and later ones, which are sums of draws,
        nearer to the normal.
        """
        by_distance = [float(values[0]) ** distance for distance in self._distances.tolist()]
        r = np.array(by_distance)[self._form]
        own = np.sqrt([1.0 - one**2 for one in by_distance])[self._form]
        found = draws.copy()
        for here in self._later:
            before, after = self._order[here - 1], self._order[here]
            found[:, after] = r[here] * found[:, before] + own[here] * draws[:, after]
        return found

    @cached_property
    def _later(self) -> list[Ints]:
        """Second, third, ... of every unit, among the sorted rows."""
        n_rows = np.diff(self._starts, append=len(self._order))
        place = np.arange(len(self._order)) - np.repeat(self._starts, n_rows)
        return [np.flatnonzero(place == k) for k in range(1, int(place.max()) + 1)]

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """Q and, for every distance, S_d Q and D_d Q."""
        found = [Q]
        for distance in self._distances:
            is_step = (stratum[1:, None] + 1 == distance).astype(np.float64)
            S, n_neighbours = np.zeros_like(Q), np.zeros((len(Q), 1))
            S[1:] -= is_step * Q[:-1]
            S[:-1] -= is_step * Q[1:]
            n_neighbours[1:] += is_step
            n_neighbours[:-1] += is_step
            found += [S, (n_neighbours - (distance == 1)) * Q]
        return found

    def sum_forms(self, e: Floats, units: UnitRows, sums: Floats) -> None:
        """Squares and, for every distance, products of neighbours and their squares."""
        distance = units.stratum.astype(np.int64) + 1
        form = np.searchsorted(self._distances, distance).astype(np.uint64)
        _sum_forms(e, units, form, sums)

    def _by_distance(self, z: Floats) -> tuple[Floats, Floats]:
        """z_d (n, n_distances), and the derivatives in z."""
        d, phi = self._distances, np.tanh(z)
        z_d = np.where(d == 1, z, np.arctanh(phi**d))
        return z_d, d * phi ** (d - 1) * (np.cosh(z_d) / np.cosh(z)) ** 2

    def weights(self, z: Floats) -> Floats:
        """Those of I, S_d and D_d: 1, r and r^2 over 1 - r^2; of D_1 - I as I has 1 / (1 - r^2)."""
        z_d, _ = self._by_distance(z)
        parts = np.stack([0.5 * np.sinh(2.0 * z_d), np.sinh(z_d) ** 2], axis=2)
        return np.hstack([np.cosh(z) ** 2, parts.reshape(len(z), self.n_forms - 1)])[:, :, None]

    def slopes(self, z: Floats) -> Floats:
        """Their derivatives."""
        z_d, change = self._by_distance(z)
        parts = np.stack([np.cosh(2.0 * z_d) * change, np.sinh(2.0 * z_d) * change], axis=2)
        found = np.hstack([np.sinh(2.0 * z), parts.reshape(len(z), self.n_forms - 1)])
        return found[:, None, :, None]

    def log_determinant(self, z: Floats) -> tuple[Floats, Floats]:
        """log(1 - r^2) for every step."""
        z_d, change = self._by_distance(z)
        slope = self._n_steps * np.tanh(z_d) * change
        return (
            -2.0 * (self._n_steps * np.log(np.cosh(z_d))).sum(axis=1),
            -2.0 * slope.sum(axis=1, keepdims=True),
        )

    def curvature(self, z: Floats) -> Floats:
        """2 (1 - r^2) for every step, by z_d."""
        z_d, change = self._by_distance(z)
        own = self._n_steps * change**2 / np.cosh(z_d) ** 2
        return np.asarray(2.0 * own.sum(axis=1, keepdims=True))

    def values(self, z: Floats) -> tuple[Floats, Floats]:
        """Phi."""
        return np.tanh(z), 1.0 / np.cosh(z)[:, :, None] ** 2

    def grid(self) -> Floats:
        """Phi from -0.8 to 0.97: near 1 a little more of it changes a lot."""
        phi = [-0.8, -0.5, -0.2, 0.1, 0.3, 0.5, 0.65, 0.76, 0.84, 0.9, 0.94, 0.97]
        return np.asarray(np.arctanh(phi))[:, None]


@lean_kernel
def _sum_forms(e, units, form, sums):
    for r in range(len(e)):
        for unit in range(U(len(units.class_of_unit))):
            c, first, last = units.class_of_unit[unit], units.start[unit], units.start[unit + U(1)]
            _add_steps(sums[r], c, e[r], form, first, last)


@step
def _add_steps(sums, c, e, form, first, last):
    """Squares, products of neighbours (twice, negative), and squares of neighbours.

    Those of rows one step apart are counted once less: squares of rows between two others.
    """
    squares, products = 0.0, 0.0
    for row in range(first, last):
        squares += e[row] * e[row]
    for row in range(first + U(1), last):
        if form[row] == U(0):
            products += e[row] * e[row - U(1)]
    sums[0, c] += squares
    sums[1, c] -= 2.0 * products
    if last - first > U(1):
        sums[2, c] += squares - e[first] * e[first] - e[last - U(1)] * e[last - U(1)]
    else:
        sums[2, c] -= squares
    for row in range(first + U(1), last):
        if form[row] != U(0):
            both = e[row] * e[row] + e[row - U(1)] * e[row - U(1)]
            sums[2, c] -= both
            sums[U(2) * form[row] + U(1), c] -= 2.0 * e[row] * e[row - U(1)]
            sums[U(2) * form[row] + U(2), c] += both
