"""Residuals that are correlated, or whose SD is not the same everywhere, within innermost units.

In units of sigma^2 the covariance R of a unit's residuals has an inverse that is a sum of known
matrices, with weights that depend on the parameters z alone:

    R^-1 = sum w_m(z) N_m.

z is unbounded. Arguments of all functions: z (n, n_parameters), one point each. Units of one group
have the same weights.

Variances that may be zero are squares of sines and cosines of angles z: at every quarter turn one
is zero, and -2 logLik has a minimum or a maximum like any other. For R to have an inverse, LEAST is
added to them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mcsim.engine.nested.tree import Floats, Ints

LEAST = 1e-6  # variance, in units of the others, that stands for zero


@dataclass(frozen=True)
class ResidualRows:
    """What a model says of its residuals; innermost units are those of the innermost level.

    kind : ar1, exchangeable or strata
    along : (n_rows,) orders the rows of a unit for ar1, None for the order that they have
    stratum : (n_rows,) numbers from 0, the first being the one whose SD is sigma
    """

    kind: str
    along: Floats | None = None
    stratum: Ints | None = None


class Residual(ABC):
    """A structure of residuals for the units of a design.

    kind : number by which compiled code knows it; n_forms : number of the matrices N_m
    by_size : whether the weights depend on the number of rows of a unit
    is_angle : whether z are angles
    end : abs(z) is smaller; beyond `edge` a parameter has left its range
    """

    kind: int
    n_forms: int
    n_parameters: int = 1
    by_size = False
    is_angle = False
    end = edge = np.inf

    @abstractmethod
    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """N_m Q of a unit: n_forms times (n_rows, k)."""

    @abstractmethod
    def weights(self, z: Floats) -> Floats:
        """The weights w: (n, n_forms, n_groups)."""

    @abstractmethod
    def slopes(self, z: Floats) -> Floats:
        """Derivatives of w: (n, n_parameters, n_forms, n_groups)."""

    @abstractmethod
    def log_determinant(self, z: Floats) -> tuple[Floats, Floats]:
        """Sum of log|R| over all units (n,), and its derivatives (n, n_parameters)."""

    @abstractmethod
    def curvature(self, z: Floats) -> Floats:
        """About the second derivatives of -2 logLik, without random effects: (n, n_parameters)."""

    @abstractmethod
    def values(self, z: Floats) -> tuple[Floats, Floats]:
        """What is reported, (n, n_parameters), and its derivatives, the last axis being that of z.

        Of ratios of SDs the derivatives are those of the logarithm.
        """

    def scale(self, z: Floats) -> tuple[Floats, Floats]:
        """The SD that is reported in units of sigma (n,), and derivatives of its logarithm."""
        return np.ones(len(z)), np.zeros_like(z)

    @abstractmethod
    def grid(self) -> Floats:
        """Points from which a search may begin: (n_points, n_parameters); in order if it is one."""


class Autoregressive(Residual):
    """Correlation phi ** distance, phi = tanh z: nlme's corAR1.

    R^-1 = (I - phi S + phi^2 D) / (1 - phi^2): S joins neighbours, D is 1 but for both ends.

    n_steps : rows that have one before them, over all units
    """

    kind, n_forms = 0, 3
    end, edge = 6.0, 5.0

    def __init__(self, n_steps: int) -> None:
        self._n_steps = n_steps

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """Q, -S Q and D Q; a unit of one row has D = -1, so that R is 1."""
        S, D = np.zeros_like(Q), Q.copy()
        S[1:] -= Q[:-1]
        S[:-1] -= Q[1:]
        D[[0, -1]] = 0.0 if len(Q) > 1 else -Q
        return [Q, S, D]

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


class Exchangeable(Residual):
    """Correlation rho of any two rows: nlme's corCompSymm.

    R is 1 - rho across the mean of a unit of n rows, and 1 + (n - 1) rho along it. rho lies between
    its least value, -1 / (largest n - 1), and 1, at the share sin^2 z of the way.

    sizes, n_units : (n_groups,) number of rows of the units of a group, and of such units
    """

    kind, n_forms, by_size, is_angle = 1, 2, True, True

    def __init__(self, sizes: Ints, n_units: Ints) -> None:
        self._n, self._n_units = sizes.astype(np.float64), n_units.astype(np.float64)
        self._least = -1.0 / (self._n.max() - 1.0)

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """Deviations from the mean, and the mean."""
        mean = np.broadcast_to(Q.mean(axis=0), Q.shape)
        return [Q - mean, mean.copy()]

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


class Strata(Residual):
    """An SD of its own in every stratum: nlme's varIdent.

    The variances are n_strata times the squares of a unit vector with the angles z, so that their
    mean is sigma^2.

    n_rows : (n_strata,) over all units
    """

    kind, is_angle = 2, True

    def __init__(self, n_rows: Ints) -> None:
        self._n_rows = n_rows.astype(np.float64)
        self.n_forms, self.n_parameters = len(n_rows), len(n_rows) - 1

    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """The rows of each stratum."""
        return [np.where((stratum == m)[:, None], Q, 0.0) for m in range(self.n_forms)]

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


def residual_of(kind: str, sizes: Ints, stratum: Ints) -> Residual:
    """The structure called `kind`.

    Parameters
    ----------
    sizes : (n_units,) rows of every innermost unit
    stratum : (n_rows,) numbers from 0
    """
    if kind == "ar1":
        return Autoregressive(int(sizes.sum()) - len(sizes))
    if kind == "exchangeable":
        return Exchangeable(*np.unique(sizes, return_counts=True))
    return Strata(np.bincount(stratum))
