"""The one door to a likelihood: what its search, its certificate, information and profiles know.

A likelihood is a function of theta, the parameters of Lam in their blocks (blocks.py), and of what
may follow them; the fixed effects and the scale are profiled out. D is its derivative in Psi.
"""

import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.blocks import Blocks

Shape = tuple[int, ...]

ROUNDING = 1e-13  # of -2 logLik, relative to its terms


class Points(NamedTuple):
    """What was found at some points: the columns of `results`, or its rows with a lane each."""

    results: Floats  # (n, n_results), all that follows
    f: Floats  # (n,) -2 logLik, profiled over beta and sigma
    r2: Floats  # (n,) y'Py
    gradient: Floats  # (n, n_theta)
    D: Floats  # (n, n_levels, q, q) derivative in Psi; without data sum Z'PZ
    scale: Floats  # (n, n_levels, q) diagonal of sum Z'V^-1Z, V without the outer levels
    beta: Floats  # (n, p)
    T_inverse: Floats  # (n, p, p) inverse of X'V^-1X


class Likelihood(Protocol):
    """The likelihood of some replicates, at any points.

    blocks : where the parameters of Lam stand in theta, which may end with others
    nu : degrees of freedom of the scale, y'Py / nu; (n,) where each replicate has its own design
    n_units : (n_levels,) innermost level first; then (n, n_levels)
    """

    blocks: Blocks
    nu: float | Floats
    n_units: Floats

    def nu_of(self, replicates: Ints) -> Any:
        """Nu of some replicates: (n,), or one number for all."""
        return self.nu if isinstance(self.nu, float) else self.nu[replicates]

    def n_units_of(self, replicates: Ints) -> Floats:
        """Units of the designs of some replicates, (n, n_levels)."""
        own = self.n_units if self.n_units.ndim == 2 else self.n_units[None]
        return own[replicates] if len(own) > 1 else np.tile(own, (len(replicates), 1))

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; f and r2 are NaN where that is not possible.

        Parameters
        ----------
        replicates : (n,) the replicate of each point
        theta : (n, n_theta)
        order : (n, n_blocks, q) row of a block's factor that stands first, second, ...
        with_data : False for D = sum Z'PZ, the gradient and T^-1, which the design alone tells; f,
            r2 and beta are then of no use
        inverse_sigma2 : (n,) for derivatives where sigma is given, in place of nu / y'Py
        """
        ...

    def rounding(self, f: Floats, replicates: Ints) -> Floats:
        """Error of -2 logLik f: it is a sum of terms of the size of nu, and may be near zero."""
        return np.asarray(ROUNDING * (np.abs(f) + self.nu_of(replicates)))


def is_usable(found: Points) -> Flags:
    """Points at which there is a likelihood."""
    return np.asarray((found.r2 > 0.0) & np.isfinite(found.f))


def points_of(results: Floats, shapes: tuple[Shape, ...]) -> Points:
    """Name the columns of `results`."""
    views = [
        results[:, own].reshape(len(results), *shape)
        for own, shape in zip(places_of(shapes), shapes, strict=True)
    ]
    return Points(results, *views)


@lru_cache(maxsize=64)
def places_of(shapes: tuple[Shape, ...]) -> list[slice]:
    """Where arrays of these shapes stand, one after the other."""
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes))
    return list(map(slice, [0, *ends], ends))


def points_at(points: Points, rows: Ints) -> Points:
    """Some of the points."""
    return points_of(points.results[rows], tuple(part.shape[1:] for part in points[1:]))
