"""Residuals of which any two of a unit have the same correlation."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.residuals.structure import LEAST, ResidualRows, ResidualStructure, UnitRows

U = np.uint64


class Exchangeable(ResidualStructure):
    """Correlation rho of any two rows: nlme's corCompSymm.

    R is 1 - rho across the mean of a unit of n rows, and 1 + (n - 1) rho along it. rho lies between
    its least value, -1 / (largest n - 1), and 1, at the share sin^2 z of the way.
    """

    parameters = ("rho",)
    is_even = True
    n_forms, by_size, is_angle = 2, True, True

    def __init__(self, unit: Ints, rows: ResidualRows) -> None:
        self._unit = unit
        sizes, n_units = np.unique(np.bincount(unit), return_counts=True)
        self._n, self._n_units = sizes.astype(np.float64), n_units.astype(np.float64)  # of groups
        self._least = -1.0 / max(1.0, self._n.max() - 1.0)

    def correlate(self, draws: Floats, values: Floats) -> Floats:
        """By the symmetric root of R; the rows of a unit stand together.

        A unit's mean is stretched by sqrt(1 + (n - 1) rho), the deviations from it by
        sqrt(1 - rho).
        """
        rho, n = float(values[0]), np.bincount(self._unit)
        starts = np.flatnonzero(np.diff(self._unit, prepend=-1))
        means = np.add.reduceat(draws, starts, axis=1) / n
        stretch = np.sqrt(np.maximum(1.0 + (n - 1) * rho, 0.0)) - np.sqrt(1.0 - rho)
        return np.asarray(np.sqrt(1.0 - rho) * draws + (stretch * means)[:, self._unit])

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """Deviations from the mean, and the mean."""
        mean = np.broadcast_to(Q.mean(axis=0), Q.shape)
        return [Q - mean, mean.copy()]

    def sum_forms(self, e: Floats, units: UnitRows, sums: Floats) -> None:
        """Squares of the deviations from the mean, and of the mean."""
        _sum_forms(e, units, sums)

    def _share(self, z: Floats) -> tuple[Floats, Floats]:
        """Place of rho on its way, and that from the other end: never zero."""
        total = 1.0 + 2.0 * LEAST
        return (np.sin(z) ** 2 + LEAST) / total, (np.cos(z) ** 2 + LEAST) / total

    def _variances(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        """1 - rho, 1 + (n - 1) rho, both (n, n_groups), and the derivative of rho."""
        (share, rest), width = self._share(z), 1.0 - self._least
        across = width * rest * np.ones_like(self._n)
        along = 1.0 + (self._n - 1.0) * self._least + (self._n - 1.0) * width * share
        return across, along, width * np.sin(2.0 * z) / (1.0 + 2.0 * LEAST)

    def weights(self, z: Floats) -> Floats:
        """One over both variances."""
        across, along, _ = self._variances(z)
        return np.stack([1.0 / across, 1.0 / along], axis=1)

    def slopes(self, z: Floats) -> Floats:
        """Their derivatives."""
        across, along, slope = self._variances(z)
        return np.stack([slope / across**2, -slope * (self._n - 1.0) / along**2], axis=1)[:, None]

    def log_determinant(self, z: Floats) -> tuple[Floats, Floats]:
        """log(1 - rho) n - 1 times, and log(1 + (n - 1) rho)."""
        across, along, slope = self._variances(z)
        n_across = self._n_units * (self._n - 1.0)
        value = n_across * np.log(across) + self._n_units * np.log(along)
        change = n_across * slope * (1.0 / along - 1.0 / across)
        return value.sum(axis=1), change.sum(axis=1, keepdims=True)

    def curvature(self, z: Floats) -> Floats:
        """Sum of the squared relative changes of the variances."""
        across, along, slope = self._variances(z)
        n_across = self._n_units * (self._n - 1.0)
        squares = (slope / across) ** 2 + (self._n - 1.0) * (slope / along) ** 2
        return np.asarray((n_across * squares).sum(axis=1, keepdims=True))

    def values(self, z: Floats) -> tuple[Floats, Floats]:
        """Rho."""
        rho = self._least + (1.0 - self._least) * self._share(z)[0]
        return rho, self._variances(z)[2][:, :, None]

    def grid(self) -> Floats:
        """Rho from near its least value to 0.95."""
        rho = np.array([0.8 * self._least, 0.4 * self._least, 0.0, 0.2, 0.4, 0.6, 0.8, 0.95])
        return np.asarray(np.arcsin(np.sqrt((rho - self._least) / (1.0 - self._least))))[:, None]


@lean_kernel
def _sum_forms(e, units, sums):
    for r in range(len(e)):
        for unit in range(U(len(units.class_of_unit))):
            c, first, last = units.class_of_unit[unit], units.start[unit], units.start[unit + U(1)]
            _add_mean(sums[r], c, e[r], first, last)


@step
def _add_mean(sums, c, e, first, last):
    """Squares of the deviations from the mean, and of the mean."""
    mean = 0.0
    for row in range(first, last):
        mean += e[row]
    mean /= last - first
    for row in range(first, last):
        sums[0, c] += (e[row] - mean) * (e[row] - mean)
        sums[1, c] += mean * mean
