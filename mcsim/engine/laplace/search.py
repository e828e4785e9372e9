"""The optimum of the Laplace approximation, over covariances, dispersion and coefficients.

It begins at the coefficients of independent rows.
"""

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.replicates import apply, dot, inverse_positive
from mcsim.engine.blocks import boundary_parameters
from mcsim.engine.families.glm import fit_glm
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.quadrature import QuadratureLikelihood
from mcsim.engine.likelihood import ROUNDING
from mcsim.engine.optimum.certificate import Certificate
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.search import Optima, Search
from mcsim.engine.optimum.status import Status

OF_SMALL_COUNTS = 100.0  # terms of -2 logLik per row
OF_GRADIENT = 1e-5  # its rounding in the width of an optimum, beside that of -2 logLik
STILL_DOWN = 0.9  # of the slope along a step, the largest rise after it
START_DISPERSION = 0.25  # as an SD of 0.5 of an effect that every row has


class LaplaceSearch(Search):
    """A search whose theta ends with coefficients.

    information : (n, p, p) X'WX of independent rows
    inverse : (n, n_theta, n_theta) inverse curvature that is known, NaN where not
    """

    late_cost = 1e-7  # of -2 logLik where SDs are so large that modes do not tell it better

    def __init__(
        self,
        likelihood: LaplaceLikelihood,
        theta: Floats,
        order: Ints,
        information: Floats,
        inverse: Floats | None = None,
    ) -> None:
        super().__init__(likelihood, np.arange(len(theta)), theta, order)
        self._first, self._information = likelihood.n_covariances, information
        self._inverse = inverse

    def held(self, rows: Ints) -> Flags:
        """Parameters that stay where they are: none of the coefficients."""
        p = self.theta.shape[1] - self._first
        covariances = super().held(rows)[:, : self._first]
        return np.hstack([covariances, np.zeros((len(rows), p), dtype=bool)])

    def on_boundary(self, rows: Ints) -> Flags:
        """Those that are zero since a variance is."""
        p = self.theta.shape[1] - self._first
        found = boundary_parameters(self._blocks, self.theta[rows])
        return np.hstack([found, np.zeros((len(rows), p), dtype=bool)])

    def is_stiff(self, rows: Ints) -> Flags:
        """Large counts say far more of effects than units do of their variances."""
        size = self.rounding(rows) / (ROUNDING * self._nu(rows))
        return np.asarray(size > OF_SMALL_COUNTS)

    def _leads_down(self, rows: Ints, rise: Floats, predicted: Floats, turned: Floats) -> Flags:
        """Where -2 logLik cannot tell, its slope does (Hager & Zhang 2005)."""
        is_blind = self.is_stiff(rows) & (rise <= self.rounding(rows)) & (turned >= -STILL_DOWN)
        return np.asarray(super()._leads_down(rows, rise, predicted, turned) | is_blind)

    def _first_inverse(self, rows: Ints) -> Floats:
        inverse = super()._first_inverse(rows)
        found = self._evaluate(rows, self.theta[rows], self.order[rows], with_data=False)
        own = 0.5 * inverse_positive(found.T_inverse)
        is_known = np.isfinite(own).all(axis=(1, 2))
        own[~is_known] = np.eye(own.shape[1]) / self._likelihood.nu
        inverse[:, self._first :, self._first :] = own
        if self._inverse is not None:
            known = self._inverse[rows]
            return np.where(np.isfinite(known), known, inverse)
        return inverse

    def _difference(self, rows: Ints) -> Floats:
        """Of stiff functions by their curvature, so that no direction is rounding."""
        steps = super()._difference(rows)
        if len(stiff := np.flatnonzero(self.is_stiff(rows))):
            inverse = np.einsum("nii->ni", self._first_inverse(rows[stiff]))
            share = np.cbrt(OF_GRADIENT * self.rounding(rows[stiff]))
            steps[stiff] = share[:, None] * np.sqrt(np.maximum(inverse, 0.0))
        return steps

    def _certify(self, rows: Ints) -> Certificate:
        """Also the way that coefficients have to go, in standard errors."""
        found = super()._certify(rows)
        if self._information.shape[1] == 0:
            return found
        gradient = self.found.gradient[rows, self._first :]
        inverse = inverse_positive(self.traces.T_inverse[rows])
        way = 0.5 * np.sqrt(np.maximum(dot(gradient, apply(inverse, gradient)), 0.0))
        size = 2.0 * np.einsum("nii->ni", self._information[rows]).mean(axis=1)
        of_flat = np.abs(gradient).max(axis=1) / np.maximum(size, 1e-300)
        violation = np.maximum(found.violation, np.where(np.isfinite(way), way, of_flat))
        self.violation[rows] = violation
        return Certificate(violation, found.lowest, found.block, found.direction)


def laplace_optima(likelihood: LaplaceLikelihood) -> tuple[Optima, Floats]:
    """The optimum of every replicate; the information of independent rows in a coefficient.

    Quadrature begins at Laplace's optimum, with its curvature.
    """
    nest = likelihood.nest
    X = np.ascontiguousarray(nest.X.T)
    glm = fit_glm(
        likelihood.kind, X, likelihood.responses, nest.trials, nest.offset, START_DISPERSION
    )
    theta, order = plain_start(likelihood.blocks, len(likelihood.responses))
    theta = np.hstack([theta, np.where(np.isfinite(glm.beta), glm.beta, 0.0)])
    inverse, evaluations = None, np.zeros(len(theta), dtype=np.int64)
    if isinstance(likelihood, QuadratureLikelihood):
        first = LaplaceSearch(likelihood.laplace, theta.copy(), order.copy(), glm.information)
        first.run()
        is_usable = (first.status <= Status.BOUNDARY)[:, None]
        theta, evaluations = np.where(is_usable, first.theta, theta), first.evaluations
        inverse = np.where(is_usable[:, :, None], inverse_positive(_free(first.optima())), np.nan)
    search = LaplaceSearch(likelihood, theta, order, glm.information, inverse)
    search.run()
    search.evaluations += evaluations
    found = search.optima()
    is_curved = np.isfinite(inverse_positive(_free(found))).all(axis=(1, 2))
    is_usable = found.status <= Status.BOUNDARY
    found.status[is_usable & ~is_curved] = Status.NOT_CONVERGED
    p = max(1, glm.information.shape[1])
    return found, np.einsum("nii->n", glm.information) / p


def _free(found: Optima) -> Floats:
    """The Hessian with 1 on the diagonal of what is held."""
    size = found.hessian.shape[1]
    held = np.where(found.is_held, 1.0, 0.0)[:, :, None] * np.eye(size)
    return np.asarray(np.where(np.isfinite(found.hessian), found.hessian, -1.0) + held)
