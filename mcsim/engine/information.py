"""How the covariance of the fixed effects changes with the covariance parameters.

In units of sigma, V = I + sum Z Psi Z', and in the coordinates of the tree, until the end. T is
X'V^-1X. Derivatives are differences of what one elimination gives: no n x n matrix is formed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.replicates import (
    inverse_positive,
    product,
    semidefinite_factor,
    symmetric_eigen,
    transpose,
)
from mcsim.engine.blocks import (
    Blocks,
    block_of,
    covariance,
    entries,
    entry,
    set_block,
)
from mcsim.engine.compile import CompiledDesign, likelihood_of, no_data
from mcsim.engine.fit import Fit, inverse_of_R
from mcsim.engine.likelihood import Likelihood, Points
from mcsim.engine.nested.moments import Moments

STEP = 1e-5  # of theta, for first derivatives; error about 1e-10 relative
SECOND_STEP = 3e-4  # of a standard error of Psi, for second derivatives; error about 1e-8, and 1e-5
# where a variance is nearly zero
SMALL = 1e-4  # a pivot that stands for zero; Psi is off by its square


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


class Expected(NamedTuple):
    """What a design says at given parameters, theta just inside the boundary; as in Information.

    T_inverse : (n, p, p) covariance of beta in units of sigma
    """

    theta: Floats
    T_inverse: Floats
    slopes: Floats
    W: Floats


def expected_information(design: CompiledDesign, theta: Floats, order: Ints) -> Expected:
    """The covariance of beta and the information at parameters (n, n_theta)."""
    likelihood, theta = likelihood_of(design, no_data(design)), _inside(design.blocks, theta)
    anyone = np.zeros(len(theta), dtype=np.int64)
    held = np.zeros(theta.shape, dtype=bool)
    differences = _Differences(likelihood, anyone, theta, order, held)
    W = differences.inverse_information(inverse_positive)
    slopes = differences.all_slopes()
    return Expected(theta, slopes[:, -1], slopes, W)


def covariance_slopes(design: CompiledDesign, moments: Moments, fit: Fit) -> Floats:
    """Derivatives of T^-1 in theta and, the last, of sigma^2 T^-1 in log sigma^2, in its unit."""
    at = fit.curvature
    everyone = np.arange(len(at.theta))
    likelihood = likelihood_of(design, moments)
    return _Differences(likelihood, everyone, at.theta, at.order, at.is_held).all_slopes()


def information(design: CompiledDesign, moments: Moments, fit: Fit) -> Information:
    """Expected information of REML, and beta's covariance adjusted for what W says.

    Kenward & Roger (1997). With P_r = dT/dtheta_r and Q_rs their adjusted covariance is
    C + 2 C [sum W_rs (Q_rs - P_r C P_s)] C, which is C - sum W_rs d2C/dpsi_r dpsi_s in parameters
    psi that V is linear in; log sigma^2 drops out of it.

    A variance of zero is no reason to be sure of it: all is seen from a point just inside the
    boundary.
    """
    at, everyone = fit.curvature, np.arange(len(fit.scale))
    likelihood, theta = likelihood_of(design, moments), _inside(design.blocks, at.theta)
    held = np.zeros(theta.shape, dtype=bool)
    differences = _Differences(likelihood, everyone, theta, at.order, held)
    slopes, W = differences.all_slopes(), differences.inverse_information(at.inverse)
    to_given = inverse_of_R(design, len(W))
    change = product(product(to_given, differences.curvature(W)), transpose(to_given))
    return Information(slopes, W, fit.covariance - fit.scale[:, None, None] * change)


def _inside(blocks: Blocks, theta: Floats) -> Floats:
    """Theta with SMALL in place of smaller pivots."""
    theta = theta.copy()
    for t, (_, i, j) in enumerate(entries(blocks)):
        if i == j:
            is_small = np.abs(theta[:, t]) < SMALL
            theta[:, t] = np.where(is_small, np.copysign(SMALL, theta[:, t]), theta[:, t])
    return theta


class _Differences:
    """Evaluations around a point: T^-1 and N = Z'PZ."""

    def __init__(
        self,
        likelihood: Likelihood,
        rows: Ints,
        theta: Floats,
        order: Ints,
        held: Flags,
    ) -> None:
        self._likelihood, self._blocks, self._rows = likelihood, likelihood.blocks, rows
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

    def _at(self, theta: Floats) -> Points:
        return self._likelihood.at(self._rows, theta, self._order, with_data=False)

    def all_slopes(self) -> Floats:
        """Derivatives of T^-1, and T^-1 itself: (n, n_theta + 1, p, p)."""
        return np.stack([*self._slopes, self._centre.T_inverse], axis=1)

    def inverse_information(self, inverse: Callable[[Floats], Floats]) -> Floats:
        """W; I_rs = tr(P V_r P V_s) / 2 = -<dN/dtheta_s, dPsi/dtheta_r> / 2."""
        n, n_theta = self._theta.shape
        full = np.zeros((n, n_theta + 1, n_theta + 1))
        full[:, :-1, -1] = full[:, -1, :-1] = 0.5 * self._along_psi(self._centre.D)
        full[:, -1, -1] = 0.5 * self._likelihood.nu_of(self._rows)
        for t, change in enumerate(self._N_slopes):
            full[:, t, :-1] = -0.5 * self._along_psi(change)
        full = 0.5 * (full + transpose(full))
        held = np.hstack([self._held, np.zeros((n, 1), dtype=bool)])
        outside = held[:, :, None] | held[:, None, :]
        full[outside] = 0.0
        full[held[:, :, None] & np.eye(n_theta + 1, dtype=bool)] = 1.0
        return np.where(outside, 0.0, inverse(full))

    def _along_psi(self, D: Floats) -> Floats:
        """<D, d(Lam Lam')/dtheta_t> for every t: 2 D Lam in Lam's free entries, (n, n_theta)."""
        blocks, everyone = self._blocks, np.arange(len(D))
        gradient = np.zeros_like(self._theta)
        for t, (b, i, j) in enumerate(entries(blocks)):
            own, row = block_of(blocks, b, D), self._order[:, b, i]
            for m in range(j, int(blocks.size[b])):
                factor = self._theta[:, entry(blocks, b, m, j)]
                gradient[:, t] += 2.0 * own[everyone, row, self._order[:, b, m]] * factor
        return gradient

    def curvature(self, W: Floats) -> Floats:
        """Sum of W_rs times the second derivatives of T^-1, as if Psi were linear in theta.

        Where a step would leave the positive semi-definite matrices, all Psi are lifted above it,
        and by twice as much: what they say is extrapolated to Psi itself.
        """
        factor = semidefinite_factor(np.where(np.isfinite(W), W, 0.0)[:, :-1, :-1])
        changes, lift = [], np.zeros(len(W))
        for k in range(factor.shape[2]):
            own, needed = self._change(SECOND_STEP * factor[:, :, k])
            changes.append(own)
            lift = np.maximum(lift, needed)
        everyone = np.arange(len(lift))
        total = self._second_differences(everyone, changes, lift)
        rows = np.flatnonzero(lift > 0.0)
        if len(rows):
            total[rows] = 2.0 * total[rows] - self._second_differences(rows, changes, 2.0 * lift)
        return np.where(np.isfinite(W[:, :1, :1]), total, np.nan)

    def _change(self, step: Floats) -> tuple[list[Floats], Floats]:
        """The change of Psi to which a step of theta leads, per block, and the lift it needs."""
        blocks, changes, needed = self._blocks, [], np.zeros(len(step))
        for b, size in enumerate(blocks.size.tolist()):
            below, Psi, above = (
                covariance(blocks, self._order, self._theta + sign * step, b)
                for sign in (-1.0, 0.0, 1.0)
            )
            changes.append(0.5 * (above - below))
            least = symmetric_eigen(Psi)[0].min(axis=1)
            needed = np.maximum(needed, size * np.abs(changes[b]).max(axis=(1, 2)) - least)
        return changes, needed

    def _second_differences(self, rows: Ints, changes: list[list[Floats]], lift: Floats) -> Floats:
        """Sum over the changes of Psi, at the lifted Psi: (n_rows, p, p)."""
        centre, total = self._centre.T_inverse[rows], np.zeros_like(self._centre.T_inverse[rows])
        if np.any(lift[rows] > 0.0):
            lifted = self._near(rows, [], lift)
            centre = np.where(lift[rows, None, None] > 0.0, lifted, centre)
        for own in changes:
            below, above = (
                self._near(rows, [sign * change for change in own], lift) for sign in (-1.0, 1.0)
            )
            total += (above + below - 2.0 * centre) / SECOND_STEP**2
        return total

    def _near(self, rows: Ints, changes: list[Floats], lift: Floats) -> Floats:
        """T^-1 at the lifted Psi, plus a change of every block if there is one."""
        blocks, theta, order = self._blocks, self._theta[rows], self._order[rows]
        for b, size in enumerate(blocks.size.tolist()):
            Psi = covariance(blocks, order, theta, b) + lift[rows, None, None] * np.eye(size)
            if changes:
                Psi = Psi + changes[b][rows]
            set_block(blocks, order, theta, b, Psi)
        return self._likelihood.at(self._rows[rows], theta, order, with_data=False).T_inverse
