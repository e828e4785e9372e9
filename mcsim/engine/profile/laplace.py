"""-2 logLik of counts and proportions at a given value of one parameter.

As deviance.py has it of normal responses, whose sigma, in the last place of u, is 1 here. Fixed
effects stand in u too, since they are not profiled out.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import Blocks
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.families.kinds import NBINOM
from mcsim.engine.laplace.crossing import Cross, turned_cross
from mcsim.engine.laplace.fit import LaplaceFit, likelihood_of_counts
from mcsim.engine.laplace.nest import Nest, turned_nest
from mcsim.engine.likelihood import Points
from mcsim.engine.optimum.certificate import certify
from mcsim.engine.profile.components import Deviation, Target, coordinates_of
from mcsim.engine.profile.coordinates import Coordinates, Radius, Weights, pin_to_zero
from mcsim.engine.profile.deviance import Heights, Places, Surface


@dataclass(frozen=True)
class Effect:
    """A linear combination c of the fixed effects: (p,), as a tuple."""

    c: tuple[float, ...]


@dataclass(frozen=True)
class Dispersion:
    """Root of the negative binomial's tau."""


class Counted(NamedTuple):
    """What is fitted: the model, and responses whose rows are sorted."""

    design: CompiledDesign
    nest: Nest | Cross
    kind: int
    n_points: int
    responses: Floats


class Linear(Coordinates):
    """Fixed effects turned so that the first is the combination x, whose place is spare."""

    lower, upper, is_open = -np.inf, np.inf, (True, True)
    own: tuple[int, ...] = ()

    def __init__(self, first: int, c: Floats) -> None:
        self._places, self._length = slice(first, first + len(c)), float(np.sqrt(c @ c))
        Q, R = np.linalg.qr(np.column_stack([c, np.eye(len(c))]))
        self._first, self._Q = first, Q * np.where(R[0, 0] < 0.0, -1.0, 1.0)

    def find(self, theta: Floats, log_sigma: Floats) -> tuple[Floats, Floats]:
        """U and x."""
        u = np.column_stack([theta, log_sigma])
        u[:, self._places] = theta[:, self._places] @ self._Q
        x = self._length * u[:, self._first]
        u[:, self._first] = 0.0
        return u, x

    def place(self, u: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Theta and log sigma."""
        theta = u[:, :-1].copy()
        theta[:, self._first] = x / self._length
        theta[:, self._places] = theta[:, self._places] @ self._Q.T
        return theta, u[:, -1].copy()

    def pull(self, u: Floats, x: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Gradients in u and x."""
        g_u = g.copy()
        g_u[:, self._places] = g[:, self._places] @ self._Q
        slope = g_u[:, self._first] / self._length
        g_u[:, self._first] = 0.0
        return g_u, slope

    def pin(self, u: Floats) -> tuple[Floats, Floats]:
        """The spare place is zero."""
        return pin_to_zero(u, self._first)

    def with_multiplier(self, u: Floats, x: Floats, g: Floats, D: Floats) -> Floats:
        """Psi is free."""
        return D

    def value(self, x: Floats) -> Floats:
        """The combination."""
        return x


def turned_columns(nest: Nest | Cross, blocks: Blocks, b: int, A: Floats) -> Nest | Cross:
    """Rows and units with the columns of a block times A."""
    if isinstance(nest, Cross):
        return turned_cross(nest, blocks, b, A)
    return turned_nest(nest, blocks, b, A)


class CountedSurface(Surface):
    """-2 logLik of counts as a function of u and x."""

    def __init__(self, counted: Counted, target: Target | Effect | Dispersion) -> None:
        design, nest = counted.design, counted.nest
        of_psi = target if not isinstance(target, Effect | Dispersion) else Deviation(())
        self._rotation, self.coordinates = coordinates_of(design, of_psi)
        for b, A in self._rotation.A.items():
            nest = turned_columns(nest, design.blocks, b, A)
        own = self.likelihood = likelihood_of_counts(
            self._rotation.design, nest, counted.kind, counted.responses, counted.n_points
        )
        self._nu, self._blocks, self._first = float(nest.X.shape[1]), own.blocks, own.n_covariances
        if isinstance(target, Effect):
            c = np.linalg.solve(design.R.T, np.array(target.c))
            self.coordinates = Linear(self._first, c)
        self._is_dispersion = isinstance(target, Dispersion)
        if self._is_dispersion:
            assert counted.kind == NBINOM
            weights = Weights((own.n_lam,), (1.0,), (len(self._blocks.size) - 1,))
            self.coordinates = Radius(self._blocks, weights, None)

    def optima(self, fit: LaplaceFit, rows: Ints) -> Places:  # type: ignore[override]
        """Where some replicates were fitted."""
        self._information = fit.information
        theta, order = self._rotation.points(fit.theta[rows], fit.order[rows])
        u, x = self.coordinates.find(theta, np.zeros(len(rows)))
        return Places(rows, order, u, x)

    def at(self, places: Places) -> Heights:
        """Evaluate; sigma stays where it is."""
        found = super().at(places)
        found.g[:, -1] = 0.0
        return found

    def _evaluate(self, places: Places) -> tuple[Points, Floats, Floats]:
        """What is found; 1; the gradient in theta, and 0."""
        theta, _ = self.coordinates.place(places.u, places.x)
        found = self.likelihood.at(places.rows, theta, places.order)
        none = np.zeros(len(theta))
        return found, none + 1.0, np.column_stack([found.gradient, none])

    def violation(self, places: Places) -> Floats:
        """Relative violation of the first-order conditions over u."""
        found, _, g = self._evaluate(places)
        theta, _ = self.coordinates.place(places.u, places.x)
        N = self.likelihood.at(places.rows, theta, places.order, with_data=False).D
        D, n = found.D.copy(), int(self._rotation.design.blocks.level.max(initial=-1)) + 1
        if self._is_dispersion:
            n = D.shape[1]
        D[:, :n] = self.coordinates.with_multiplier(places.u, places.x, g, D[:, :n])
        in_psi = certify(self._blocks, self._nu, places.order, theta, D, N).violation
        g_u = self.coordinates.pull(places.u, places.x, g)[0][:, self._first : -1]
        size = 2.0 * self._information[places.rows]
        in_beta = np.abs(g_u).max(axis=1, initial=0.0) / np.maximum(size, 1e-300)
        return np.asarray(np.maximum(in_psi, in_beta))
