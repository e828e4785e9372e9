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
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions

LEAST = 1e-6  # variance, in units of the others, that stands for zero


@dataclass(frozen=True)
class ResidualRows:
    """What a model says of its residuals; innermost units are those of the innermost level.

    kind : one of kinds.KINDS
    along : (n_rows,) whole numbers: where a row stands in its unit, all different there; None for
        rows one step apart, in the order that they have
    stratum : (n_rows,) numbers from 0, the first being the one whose SD is sigma
    """

    kind: str
    along: Ints | None = None
    stratum: Ints | None = None


class UnitRows(NamedTuple):
    """Innermost units in the compiled order: where their rows start, and the class of each.

    stratum : (n_rows,) what tells rows apart: strata, or steps without a row before each
    """

    start: Positions  # (n_units + 1,)
    class_of_unit: Positions
    stratum: Positions


class ResidualStructure(ABC):
    """A structure of residuals for the units of a design.

    parameters : their names, where data do not name them
    is_even : whether any two rows of a unit have the same correlation
    is_ratio : whether ratios of SDs are reported, not correlations
    n_forms : number of the matrices N_m
    by_size : whether the weights depend on the number of rows of a unit
    is_angle : whether z are angles
    end : abs(z) is smaller; beyond `edge` a parameter has left its range
    """

    parameters: tuple[str, ...] = ()
    is_even = False
    is_ratio = False
    n_forms: int
    n_parameters: int = 1
    by_size = False
    is_angle = False
    end = edge = np.inf

    @abstractmethod
    def __init__(self, unit: Ints, rows: ResidualRows) -> None:
        """Prepare for the rows of some units.

        Parameters
        ----------
        unit : (n_rows,) innermost unit of every row, numbers from 0
        """

    def correlate(self, draws: Floats, values: Floats) -> Floats:
        """Residuals with these values of the parameters, (n_parameters,), from independent draws.

        As they are where only SDs differ, which a truth states by itself.

        Parameters
        ----------
        draws : (n_replicates, n_rows) of mean 0 and SD 1
        """
        return draws

    @abstractmethod
    def products(self, Q: Floats, stratum: Ints) -> list[Floats]:
        """N_m Q of a unit: n_forms times (n_rows, k)."""

    @abstractmethod
    def sum_forms(self, e: Floats, units: UnitRows, sums: Floats) -> None:
        """Add e'N_m e of every unit, e (n_replicates, n_rows), to the sums of its class.

        Parameters
        ----------
        sums : (n_replicates, n_forms, n_classes)
        """

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
