"""Residuals with an SD of their own in every stratum."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel
from mcsim.engine.residuals.structure import LEAST, ResidualRows, ResidualStructure, UnitRows

U = np.uint64


class Strata(ResidualStructure):
    """An SD of its own in every stratum: nlme's varIdent.

    The variances are n_strata times the squares of a unit vector with the angles z, so that their
    mean is sigma^2.
    """

    is_ratio = True
    is_angle = True

    def __init__(self, unit: Ints, rows: ResidualRows) -> None:
        assert rows.stratum is not None
        n_rows = np.bincount(rows.stratum)
        self._n_rows = n_rows.astype(np.float64)  # (n_strata,) over all units
        self.n_forms, self.n_parameters = len(n_rows), len(n_rows) - 1

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """The rows of each stratum."""
        return [np.where((stratum == m)[:, None], Q, 0.0) for m in range(self.n_forms)]

    def sum_forms(self, e: Floats, units: UnitRows, sums: Floats) -> None:
        """Squares of the rows of each stratum."""
        _sum_forms(e, units, sums)

    def _variances(self, z: Floats) -> tuple[Floats, Floats]:
        """Variances (n, n_strata), and their derivatives (n, n_parameters, n_strata)."""
        n, n_strata = len(z), self.n_forms
        sine, cosine = np.sin(z), np.cos(z)
        value, slope = np.ones((n, n_strata)), np.ones((n, self.n_parameters, n_strata))
        for k in range(n_strata):
            for j in range(self.n_parameters):
                if j < k:  # a factor of all that follow
                    own, change = sine[:, j], cosine[:, j]
                elif j == k:
                    own, change = cosine[:, j], -sine[:, j]
                else:
                    own, change = np.ones(n), np.zeros(n)
                value[:, k] *= own
                for i in range(self.n_parameters):
                    slope[:, i, k] *= change if i == j else own
        return n_strata * value**2 + LEAST, 2.0 * n_strata * value[:, None] * slope

    def weights(self, z: Floats) -> Floats:
        """One over the variances."""
        return (1.0 / self._variances(z)[0])[:, :, None]

    def slopes(self, z: Floats) -> Floats:
        """Their derivatives."""
        value, slope = self._variances(z)
        return np.asarray(-slope / value[:, None] ** 2)[:, :, :, None]

    def log_determinant(self, z: Floats) -> tuple[Floats, Floats]:
        """Log variance of every row."""
        value, slope = self._variances(z)
        change = self._n_rows * slope / value[:, None]
        return (self._n_rows * np.log(value)).sum(axis=1), change.sum(axis=2)

    def curvature(self, z: Floats) -> Floats:
        """Squared relative change of the variance of every row, less what sigma takes up."""
        value, slope = self._variances(z)
        change = slope / value[:, None]
        mean = (self._n_rows * change).sum(axis=2) / self._n_rows.sum()
        return np.asarray((self._n_rows * (change - mean[:, :, None]) ** 2).sum(axis=2))

    def values(self, z: Floats) -> tuple[Floats, Floats]:
        """Ratios of the SDs to that of the first stratum; not a number where that is zero."""
        sd, log_slope = self._deviations(z)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = sd[:, 1:] / sd[:, :1]
        change = log_slope[:, :, 1:] - log_slope[:, :, :1]
        return np.where(np.isfinite(ratio), ratio, np.nan), np.swapaxes(change, 1, 2)

    def scale(self, z: Floats) -> tuple[Floats, Floats]:
        """The SD of the first stratum."""
        sd, log_slope = self._deviations(z)
        return sd[:, 0], log_slope[:, :, 0]

    def _deviations(self, z: Floats) -> tuple[Floats, Floats]:
        """SDs, zero for those that count as zero, and the derivatives of their logarithms."""
        value, slope = self._variances(z)
        is_zero = value < 1.5 * LEAST
        sd = np.where(is_zero, 0.0, np.sqrt(value))
        return sd, np.where(is_zero[:, None], 0.0, 0.5 * slope / value[:, None])

    def grid(self) -> Floats:
        """Equal SDs, and one that is larger or smaller than the others."""
        if self.n_forms == 2:
            return np.asarray(np.arctan([0.15, 0.4, 1.0, 2.5, 6.0]))[:, None]
        sds = [np.ones(self.n_forms)]
        for k in range(self.n_forms):
            sds += [np.where(np.arange(self.n_forms) == k, ratio, 1.0) for ratio in (0.3, 3.0)]
        return np.stack([self._angles(sd) for sd in sds])

    def _angles(self, sd: Floats) -> Floats:
        rest = np.sqrt(np.cumsum(sd[::-1] ** 2)[::-1])
        return np.arctan2(rest[1:], sd[:-1])


@lean_kernel
def _sum_forms(e, units, sums):
    for r in range(len(e)):
        for unit in range(U(len(units.class_of_unit))):
            c = units.class_of_unit[unit]
            for row in range(units.start[unit], units.start[unit + U(1)]):
                sums[r, units.stratum[row], c] += e[r, row] * e[r, row]
