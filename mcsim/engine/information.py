"""How the covariance of the fixed effects changes with the covariance parameters.

In units of sigma, V = I + sum Z Psi Z', and in the coordinates of the tree, until the end. T is
X'V^-1X. Derivatives are differences of what one elimination gives: no n x n matrix is formed.
"""

from dataclasses import dataclass

import numpy as np

from mcsim.engine.batched import Flags, inverse_positive, product, semidefinite_factor, transpose
from mcsim.engine.blocks import block_of, covariance, entries, entry, held_parameters, set_block
from mcsim.engine.collapse import CompiledDesign
from mcsim.engine.optimise import Evaluates
from mcsim.engine.reml import FitBlock, likelihood_of
from mcsim.engine.tree import Floats, Ints, Moments, Points, Tree

STEP = 1e-5  # of theta, for first derivatives; error about 1e-10 relative
SECOND_STEP = 1e-3  # of a standard error of theta, for second derivatives; error about 1e-6
SMALL = 1e-4  # a pivot that stands for zero; Psi is off by its square
ONE_SIDED_STEP = 1e-5  # along a positive semi-definite change of Psi


@dataclass(frozen=True)
class Information:
    """What small-sample corrections need; parameters theta, log sigma^2.

    slopes : (n, n_theta + 1, p, p) derivatives of T^-1, the last T^-1 itself
    W : (n, n_theta + 1, n_theta + 1) inverse of the expected information, NaN where it is not
        positive definite
    adjusted_covariance : (n, p, p) of beta
    """

    slopes: Floats
    W: Floats
    adjusted_covariance: Floats


def covariance_slopes(design: CompiledDesign, moments: Moments, fit: FitBlock) -> Floats:
    """Derivatives of T^-1 in theta and, the last, of sigma^2 T^-1 in log sigma^2, in its unit."""
    return _at_optima(design, moments, fit).all_slopes()


def _at_optima(design: CompiledDesign, moments: Moments, fit: FitBlock) -> "_Differences":
    likelihood, everyone = likelihood_of(design, moments), np.arange(len(fit.theta))
    return _Differences(design.tree, likelihood, everyone, fit.theta, fit.order, fit.is_held)


def information(design: CompiledDesign, moments: Moments, fit: FitBlock) -> Information:
    """Expected information of REML, and beta's covariance adjusted for what W says.

    Kenward & Roger (1997). With P_r = dT/dtheta_r and Q_rs their adjusted covariance is
    C + 2 C [sum W_rs (Q_rs - P_r C P_s)] C, which is C - sum W_rs d2C/dpsi_r dpsi_s in parameters
    psi that V is linear in; log sigma^2 drops out of it.

    A variance of zero is no reason to be sure of it: W and the slopes count it, from a point just
    inside the boundary. Only the adjustment leaves it out.
    """
    differences = _at_optima(design, moments, fit)
    slopes, W = differences.all_slopes(), differences.inverse_information()
    change = differences.curvature(W)
    rows = np.flatnonzero(fit.is_held.any(axis=1))
    inside = _without_zeros(design.tree, fit.theta[rows])
    held = held_parameters(design.tree.blocks, inside)
    differences = _Differences(
        design.tree, likelihood_of(design, moments), rows, inside, fit.order[rows], held
    )
    slopes[rows], W[rows] = differences.all_slopes(), differences.inverse_information()
    to_given = np.tile(np.linalg.inv(design.R), (len(change), 1, 1))
    change = product(product(to_given, change), transpose(to_given))
    return Information(slopes, W, fit.beta_covariance - fit.sigma2[:, None, None] * change)


def _without_zeros(tree: Tree, theta: Floats) -> Floats:
    """Theta with SMALL in place of the pivots that are zero."""
    theta = theta.copy()
    for t, (_, i, j) in enumerate(entries(tree.blocks)):
        if i == j:
            theta[:, t] = np.where(theta[:, t] == 0.0, SMALL, theta[:, t])
    return theta


class _Differences:
    """Evaluations around a point: T^-1 and N = Z'PZ."""

    def __init__(
        self,
        tree: Tree,
        likelihood: Evaluates,
        rows: Ints,
        theta: Floats,
        order: Ints,
        held: Flags,
    ) -> None:
        self._tree, self._likelihood, self._rows = tree, likelihood, rows
        self._theta, self._order, self._held = theta, order, held
        self._centre = self._at(theta)
        self._slopes, self._N_slopes = [], []
        for t in range(theta.shape[1]):
            width = STEP * np.maximum(1.0, np.abs(theta[:, t]))
            step = np.zeros_like(theta)
            step[:, t] = np.where(self._held[:, t], 0.0, width)
            above, below = self._at(theta + step), self._at(theta - step)
            self._slopes.append((above.T_inverse - below.T_inverse) / (2.0 * width[:, None, None]))
            self._N_slopes.append((above.D - below.D) / (2.0 * width[:, None, None, None]))

    def _at(self, theta: Floats, order: Ints | None = None) -> Points:
        order = self._order if order is None else order
        return self._likelihood.at(self._rows, theta, order, with_data=False)

    def all_slopes(self) -> Floats:
        """Derivatives of T^-1, and T^-1 itself: (n, n_theta + 1, p, p)."""
        return np.stack([*self._slopes, self._centre.T_inverse], axis=1)

    def inverse_information(self) -> Floats:
        """W; I_rs = tr(P V_r P V_s) / 2 = -<dN/dtheta_s, dPsi/dtheta_r> / 2."""
        n, n_theta = self._theta.shape
        full = np.zeros((n, n_theta + 1, n_theta + 1))
        full[:, :-1, -1] = full[:, -1, :-1] = 0.5 * self._along_psi(self._centre.D)
        full[:, -1, -1] = 0.5 * self._tree.model.nu
        for t, change in enumerate(self._N_slopes):
            full[:, t, :-1] = -0.5 * self._along_psi(change)
        full = 0.5 * (full + transpose(full))
        held = np.hstack([self._held, np.zeros((n, 1), dtype=bool)])
        outside = held[:, :, None] | held[:, None, :]
        full[outside] = 0.0
        full[held[:, :, None] & np.eye(n_theta + 1, dtype=bool)] = 1.0
        return np.where(outside, 0.0, inverse_positive(full))

    def _along_psi(self, D: Floats) -> Floats:
        """<D, d(Lam Lam')/dtheta_t> for every t: 2 D Lam in Lam's free entries, (n, n_theta)."""
        blocks, everyone = self._tree.blocks, np.arange(len(D))
        gradient = np.zeros_like(self._theta)
        for t, (b, i, j) in enumerate(entries(blocks)):
            own, row = block_of(blocks, b, D), self._order[:, b, i]
            for m in range(j, int(blocks.size[b])):
                factor = self._theta[:, entry(blocks, b, m, j)]
                gradient[:, t] += 2.0 * own[everyone, row, self._order[:, b, m]] * factor
        return gradient

    def curvature(self, W: Floats) -> Floats:
        """Sum of W_rs times the second derivatives of T^-1, as if Psi were linear in theta."""
        factor = semidefinite_factor(np.where(np.isfinite(W), W, 0.0)[:, :-1, :-1])
        total = -self._slope_along(factor)
        for k in range(factor.shape[2]):
            step = SECOND_STEP * factor[:, :, k]
            sides = self._at(self._theta + step).T_inverse + self._at(self._theta - step).T_inverse
            total += (sides - 2.0 * self._centre.T_inverse) / SECOND_STEP**2
        return np.where(np.isfinite(W[:, :1, :1]), total, np.nan)

    def _slope_along(self, factor: Floats) -> Floats:
        """Derivative of T^-1 in the direction sum_rs W_rs d2Psi / dtheta_r dtheta_s.

        With factor = chol W that is 2 sum_k (dLam along column k)(dLam along column k)', which is
        positive semi-definite: Psi can go there from the boundary too.
        """
        near, far = (self._moved(step * ONE_SIDED_STEP, factor).T_inverse for step in (1.0, 2.0))
        return (4.0 * near - far - 3.0 * self._centre.T_inverse) / (2.0 * ONE_SIDED_STEP)

    def _moved(self, length: float, factor: Floats) -> Points:
        """Evaluation at Psi + length x that direction."""
        blocks, order = self._tree.blocks, self._order.copy()
        theta = self._theta.copy()
        for b in range(len(blocks.size)):
            Psi = covariance(blocks, order, theta, b)
            for k in range(factor.shape[2]):
                Psi = Psi + 2.0 * length * covariance(blocks, order, factor[:, :, k], b)
            set_block(blocks, order, theta, b, Psi)
        return self._at(theta, order)
