"""-2 logLik at a given value of one variance component: its derivatives and its minima.

With sigma given,

    -2 logLik = log|V| + [REML: log|X'V^-1X|] + nu log(2 pi sigma^2) + y'Py / sigma^2,

V and P in units of sigma^2.
"""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.replicates import apply, dot, inverse_positive, transpose
from mcsim.engine.blocks import entries, entry
from mcsim.engine.compile import CompiledDesign, likelihood_of
from mcsim.engine.fit import Fit
from mcsim.engine.likelihood import Points
from mcsim.engine.nested.moments import Moments
from mcsim.engine.optimum.certificate import certify
from mcsim.engine.optimum.minque import START
from mcsim.engine.profile.components import Target, coordinates_of

LEAST = 0.02  # pivot from which a search begins: at zero there is no slope
STEP = 1e-6  # of u and x, for second derivatives, which only guide the search
FLAT = 1e-8  # a second derivative below this is none


class Places(NamedTuple):
    """Points of replicates `rows` (n,): u (n, n_theta + 1) and x (n,) of the coordinates."""

    rows: Ints
    order: Ints
    u: Floats
    x: Floats

    def some(self, chosen: Ints) -> "Places":
        """Those that are chosen."""
        return Places(self.rows[chosen], self.order[chosen], self.u[chosen], self.x[chosen])


class Heights(NamedTuple):
    """-2 logLik (n,), its gradient in u (n, n_theta + 1), and its derivative in x (n,)."""

    f: Floats
    g: Floats
    slope: Floats


class Surface:
    """-2 logLik of replicates as a function of u and x."""

    def __init__(self, design: CompiledDesign, moments: Moments, target: Target) -> None:
        self._rotation, self.coordinates = coordinates_of(design, target)
        self.likelihood = likelihood_of(self._rotation.design, moments)
        self._nu, self._blocks = design.nu, self.likelihood.blocks

    def optima(self, fit: Fit, rows: Ints) -> Places:
        """Where some replicates were fitted."""
        theta, order = self._rotation.points(fit.curvature.theta[rows], fit.curvature.order[rows])
        u, x = self.coordinates.find(theta, 0.5 * np.log(fit.scale[rows]))
        return Places(rows, order, u, x)

    def lifted(self, u: Floats) -> Floats:
        """U without zeros among the pivots."""
        u = self.coordinates.lifted(u, LEAST)
        for t, (_, i, j) in enumerate(entries(self._blocks)):
            if i == j and t not in self.coordinates.own:
                u[:, t] = np.where(np.abs(u[:, t]) < LEAST, np.copysign(LEAST, u[:, t]), u[:, t])
        return u

    def rivals(self, u: Floats) -> list[tuple[Floats, Floats]]:
        """Other u from which a minimum may be lower, and 1 or -1 (n_theta + 1,) for changed signs.

        Beside the component: the same SDs with covariances of the other sign, and effects that are
        independent and not small.
        """
        mirror, plain = np.ones(u.shape[1]), self.coordinates.lifted(u, 1.0)
        for t, (b, i, j) in enumerate(entries(self._blocks)):
            if t in self.coordinates.own:
                continue
            if i != j:
                mirror[t], plain[:, t] = -1.0, 0.0
            else:
                row = [u[:, entry(self._blocks, b, i, m)] for m in range(i + 1)]
                plain[:, t] = np.maximum(np.sqrt(sum(part**2 for part in row)), START)
        rivals = [(plain, np.ones(u.shape[1]))]
        return rivals if np.all(mirror > 0.0) else [(u * mirror, mirror), *rivals]

    def at(self, places: Places) -> Heights:
        """Evaluate; f is not finite where that is not possible."""
        found, ratio, g = self._evaluate(places)
        with np.errstate(invalid="ignore", divide="ignore"):
            f = found.f + self._nu * (ratio - 1.0 - np.log(ratio))
        (pin, pin_slope), pull = self.coordinates.pin(places.u), self.coordinates.pull
        g_u, slope = pull(places.u, places.x, g)
        return Heights(f + pin, g_u + pin_slope, slope)

    def _evaluate(self, places: Places) -> tuple[Points, Floats, Floats]:
        """What is found; y'Py / (nu sigma^2); the gradient in theta and log sigma."""
        theta, log_sigma = self.coordinates.place(places.u, places.x)
        inverse = np.exp(-2.0 * log_sigma)
        found = self.likelihood.at(places.rows, theta, places.order, inverse_sigma2=inverse)
        ratio = found.r2 * inverse / self._nu
        return found, ratio, np.column_stack([found.gradient, 2.0 * self._nu * (1.0 - ratio)])

    def curvature(self, places: Places) -> tuple[Floats, Floats]:
        """Inverse Hessian in u, and the second derivative in x of the minimum over u.

        By differences, from n_theta + 3 evaluations.
        """
        n, m = places.u.shape
        unit = np.maximum(self.coordinates.unit(places.u[:, -1].copy()), places.x)
        step = STEP * np.column_stack([np.maximum(1.0, np.abs(places.u)), unit])
        moved = places.some(np.repeat(np.arange(n), m + 2))
        first = np.arange(n) * (m + 2)
        for t in range(m):
            moved.u[first + t, t] += step[:, t]
        moved.x[first + m] += step[:, m]
        found = self.at(moved)
        g = np.column_stack([found.g, found.slope]).reshape(n, m + 2, m + 1)
        H = (g[:, :-1] - g[:, -1:]) / step[:, :, None]
        H = 0.5 * (H + transpose(H))
        inverse, cross = _positive_inverse(H[:, :m, :m]), H[:, :m, m]
        return inverse, H[:, m, m] - dot(cross, apply(inverse, cross))

    def violation(self, places: Places) -> Floats:
        """Relative violation of the first-order conditions over u."""
        found, _, g = self._evaluate(places)
        theta, _ = self.coordinates.place(places.u, places.x)
        N = self.likelihood.at(places.rows, theta, places.order, with_data=False).D
        D = self.coordinates.with_multiplier(places.u, places.x, g, found.D)
        in_psi = certify(self._blocks, self._nu, places.order, theta, D, N).violation
        in_sigma = self.coordinates.pull(places.u, places.x, g)[0][:, -1]
        return np.asarray(np.maximum(in_psi, np.abs(in_sigma) / (2.0 * self._nu)))


def _positive_inverse(H: Floats) -> Floats:
    """H^-1, or that of its diagonal where H is not positive definite."""
    diagonal = np.einsum("nii->ni", H)
    scale = np.sqrt(np.where(diagonal > FLAT, diagonal, 1.0))
    scales = scale[:, :, None] * scale[:, None, :]
    inverse = inverse_positive(H / scales + FLAT * np.eye(H.shape[1]))
    return np.asarray(np.where(np.isfinite(inverse), inverse, np.eye(H.shape[1])) / scales)
