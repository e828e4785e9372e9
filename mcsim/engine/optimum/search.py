"""The optimum of every replicate.

The problem is minimisation of -2 logLik over positive semi-definite Psi = Lam Lam'. From the start
(minque.py), BFGS in Lam comes near; small pivots are set to zero where that costs nothing; Newton
steps with the Hessian finish; then the first-order conditions in Psi are checked. Where D has a
negative eigenvalue the point is a false zero: step along its eigenvector and go on.

All replicates go through these stages together, and no number of one enters that of another.
"""

from typing import Any, NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.bfgs import updated_inverse
from mcsim.engine.arithmetic.replicates import apply, dot, solve_positive, transpose
from mcsim.engine.blocks import (
    boundary_parameters,
    covariance,
    entries,
    entry,
    n_parameters,
    parted_parameters,
    pivots,
    put_largest_pivots_first,
    set_block,
)
from mcsim.engine.likelihood import Likelihood, Points, is_usable, points_at
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE, Certificate, certify
from mcsim.engine.optimum.minque import Start, minque
from mcsim.engine.optimum.status import Status as Status

PREDICTED_DECREASE = 1e-10  # in -2 logLik, where BFGS hands over to Newton
NEWTON_DECREASE = 1e-16  # in -2 logLik, where Newton stops
SNAP_PIVOT = 0.05  # pivots below this are tried at zero ...
SNAP_COST = 1e-9  # ... and stay there where -2 logLik rises by no more than this
TINY_PIVOT = 1e-6  # -2 logLik does not tell it from zero
JUMP_COST = 1e-2  # the same where BFGS cannot finish
MAX_EVALUATIONS = 1000
MAX_ROUNDS = 20
HASTY_ROUNDS = 5  # that leave false zeros before Newton has polished the rest
MAX_NEWTON_STEPS = 12
NEARER = 0.25  # of the predicted decrease is left after a step that is taken for that alone
LONGEST_STEP = 2.0  # of BFGS, of the largest parameter, or of 1 where that is smaller
SMALLEST = 1e-200  # a number by which may be divided
SHORTEST_STEP = 1e-10  # of an escape or a line search, relative to the first
HESSIAN_STEP = 1e-6  # of Lam in columns of unit scale; error about 1e-6 relative
FLAT = (1e-6, 1e-5, 1e-4)  # of the largest second derivative: along less, no step is taken


class Optima(NamedTuple):
    """Where searches ended, what was found there, and the parameters that were held."""

    theta: Floats
    order: Ints
    found: Points
    traces: Points
    hessian: Floats
    violation: Floats
    status: Ints
    evaluations: Ints
    is_held: Flags


class Search:
    """The best points found so far: one row per task, and what was found there.

    A task is a replicate, and may be one of several for it.

    replicates : (n,) of the tasks
    theta, order : the point; found : the evaluation there; traces : the same without data, whose D
    is sum Z'PZ; hessian : of -2 logLik, zero in parameters that are held at zero; violation : of
    the first-order conditions
    """

    late_cost = SNAP_COST  # of smaller gradients, where most rounds have passed

    def __init__(
        self, likelihood: Likelihood, replicates: Ints, theta: Floats, order: Ints
    ) -> None:
        n, n_theta = theta.shape
        self._likelihood, self._blocks, self._replicates = likelihood, likelihood.blocks, replicates
        self.theta, self.order = theta, order
        self.evaluations = np.zeros(n, dtype=np.int64)
        self.found = self._evaluate(np.arange(n), self.theta, self.order)
        self.traces = points_at(self.found, np.arange(n))
        self.traces.results[:] = np.nan
        self.hessian = np.full((n, n_theta, n_theta), np.nan)
        self.violation = np.full(n, np.nan)
        self.status = np.full(n, Status.FAILED, dtype=np.int64)

    def optima(self) -> Optima:
        """Where it ended."""
        return Optima(
            self.theta, self.order, self.found, self.traces, self.hessian, self.violation,
            self.status, self.evaluations, self.held(np.arange(len(self.theta))),
        )  # fmt: skip

    def begin(self, start: Start) -> None:
        """Go to the MINQUE estimates, but where those are too far out to be evaluated."""
        if self.theta.shape[1] == 0:
            return
        rows = np.flatnonzero(is_usable(self.found))
        D, r2 = self.found.D[rows], self.found.r2[rows]
        theta, order = minque(self._likelihood, start, self._replicates[rows], D, r2)
        found = self._evaluate(rows, theta, order)
        usable = is_usable(found)
        self.order[rows[usable]] = order[usable]
        self._accept(rows, theta, found, usable)

    def run(self) -> None:
        """Find the optimum of every task."""
        rows = np.flatnonzero(is_usable(self.found))
        self.status[rows] = Status.NOT_CONVERGED
        if self.theta.shape[1] == 0:
            self._certify(rows)
            self.status[rows], self.hessian[rows] = Status.OK, 0.0
            return
        snap_cost = np.full(len(self.theta), SNAP_COST)
        for number in range(MAX_ROUNDS):
            self._descend(rows)
            self._snap(rows, snap_cost)
            is_inside = ~np.any(self.on_boundary(rows), axis=1)
            if number >= HASTY_ROUNDS:  # a step from a point that is not polished may lead back
                is_inside[:] = True
            false_zeros = self._escape(*self._check(rows[~is_inside]))
            others = rows[~np.isin(rows, false_zeros)]
            self._polish(others, SNAP_COST if number < HASTY_ROUNDS else self.late_cost)
            certificate = self._certify(others)
            done = certificate.violation <= CERTIFICATE_TOLERANCE
            self.status[others] = np.where(done, self._status(others), Status.NOT_CONVERGED)
            is_negative = ~done & (certificate.lowest < 0.0)
            self._escape(others[is_negative], _some(certificate, is_negative))
            stuck = others[~done & ~is_negative]
            self._reorder(stuck)
            snap_cost[rows] = 0.0  # what it cost to leave a false zero must not lead back to it
            snap_cost[stuck] = JUMP_COST
            rows = np.sort(np.concatenate([false_zeros, others[~done]]))
            rows = rows[self.evaluations[rows] < MAX_EVALUATIONS]
            if len(rows) == 0:
                break

    def _evaluate(
        self, rows: Ints, theta: Floats, order: Ints, *, with_data: bool = True
    ) -> Points:
        self.evaluations[rows] += 1
        return self._likelihood.at(self._replicates[rows], theta, order, with_data=with_data)

    def _accept(self, rows: Ints, theta: Floats, found: Points, chosen: Flags) -> None:
        """Go to those of the points that are chosen."""
        self.theta[rows[chosen]] = theta[chosen]
        self.found.results[rows[chosen]] = found.results[chosen]

    def _status(self, rows: Ints) -> Ints:
        return np.where(np.any(self.on_boundary(rows), axis=1), Status.BOUNDARY, Status.OK)

    def held(self, rows: Ints) -> Flags:
        """Parameters that stay where they are: (n, n_theta)."""
        found = self.on_boundary(rows)
        n_theta = n_parameters(self._blocks)
        found[:, :n_theta] |= parted_parameters(self._blocks, self.order[rows])
        return found

    def on_boundary(self, rows: Ints) -> Flags:
        """Those that are zero since a variance is: (n, n_theta)."""
        return boundary_parameters(self._blocks, self.theta[rows])

    def rounding(self, rows: Ints) -> Floats:
        """Error of -2 logLik."""
        return self._likelihood.rounding(self.found.f[rows], self._replicates[rows])

    def _nu(self, rows: Ints) -> Any:
        return self._likelihood.nu_of(self._replicates[rows])

    def is_stiff(self, rows: Ints) -> Flags:
        """Whether second derivatives differ so much in size that they need two differences."""
        return np.zeros(len(rows), dtype=bool)

    def _descend(self, rows: Ints) -> None:
        """BFGS; stops at a small predicted decrease or a failed search along a line."""
        inverse = self._first_inverse(rows)
        step, slope = np.zeros_like(self.theta[rows]), np.zeros(len(rows))
        length = np.ones(len(rows))
        is_new = np.ones(len(rows), dtype=bool)
        busy = np.arange(len(rows))
        while len(busy):
            new = busy[is_new[busy]]
            g = self.found.gradient[rows[new]]
            step[new] = -apply(inverse[new], g)
            slope[new] = dot(step[new], g)
            largest = np.maximum(np.abs(step[new]).max(axis=1), SMALLEST)
            reach = LONGEST_STEP * np.maximum(1.0, np.abs(self.theta[rows[new]]).max(axis=1))
            length[new] = np.minimum(1.0, reach / largest)
            goes_on = (-0.5 * slope >= PREDICTED_DECREASE) & (length >= SHORTEST_STEP)
            busy = busy[goes_on[busy] & (self.evaluations[rows[busy]] < MAX_EVALUATIONS)]
            here = rows[busy]
            trial = self.theta[here] + length[busy, None] * step[busy]
            found = self._evaluate(here, trial, self.order[here])
            rise = found.f - self.found.f[here]
            predicted = length[busy] * slope[busy]
            turned = dot(step[busy], found.gradient) / slope[busy]
            accepted = (found.r2 > 0.0) & self._leads_down(here, rise, predicted, turned)
            is_new[busy] = accepted
            change = (length[busy, None] * step[busy])[accepted]
            bend = (found.gradient - self.found.gradient[here])[accepted]
            inverse[busy[accepted]] = self.learned(inverse[busy[accepted]], change, bend)
            self._accept(here, trial, found, accepted)
            curvature = rise - predicted
            with np.errstate(divide="ignore", invalid="ignore"):
                shrink = np.where(curvature > 0.0, -0.5 * predicted / curvature, 0.25)
            length[busy] *= np.where(accepted, 1.0, np.clip(shrink, 0.1, 0.5))

    def _leads_down(self, rows: Ints, rise: Floats, predicted: Floats, _turned: Floats) -> Flags:
        """Whether steps are taken by BFGS, whose new slopes are so many of the old ones."""
        return np.asarray(rise <= 1e-4 * predicted)

    def learned(self, inverse: Floats, change: Floats, bend: Floats) -> Floats:
        """The inverse curvature after a step `change` that changed the gradient by `bend`."""
        return updated_inverse(inverse, change, bend)

    def _first_inverse(self, rows: Ints) -> Floats:
        """Inverse curvature of independent effects."""
        blocks, scale = self._blocks, self.found.scale[rows]
        inverse = np.zeros((len(rows), self.theta.shape[1], self.theta.shape[1]))
        everyone = np.arange(len(rows))
        for t, (b, i, _) in enumerate(entries(blocks)):
            own = scale[:, blocks.level[b]]
            if blocks.is_matrix[b]:
                curvature = own[everyone, blocks.first[b] + self.order[rows, b, i]]
            else:
                curvature = dot(own, np.tile(np.diag(blocks.Q[b]), (len(rows), 1)))
            inverse[:, t, t] = 0.5 / np.maximum(curvature, 1e-8)
        return inverse

    def _snap(self, rows: Ints, cost: Floats) -> None:
        """Non-negative pivots, and small ones at exactly zero where -2 logLik rises little."""
        blocks = self._blocks
        self._make_pivots_positive(rows)
        for b, size in enumerate(blocks.size.tolist()):
            for j in range(size - 1, -1, -1):
                pivot = pivots(blocks, self.theta[rows], b)
                small = rows[(pivot[:, j] > 0.0) & (pivot[:, j] < SNAP_PIVOT)]
                if len(small) == 0:
                    continue
                theta, order = self.theta[small], self.order[small]
                held = pivots(blocks, theta, b) == 0.0
                held[:, j] = True
                set_block(blocks, order, theta, b, covariance(blocks, order, theta, b), held)
                is_tiny = pivots(blocks, self.theta[small], b)[:, j] < TINY_PIVOT
                found = self._evaluate(small, theta, order)
                f = self.found.f[small]
                allowed = np.where(is_tiny, self.rounding(small), cost[small])
                self._accept(small, theta, found, (found.r2 > 0.0) & (found.f - f < allowed))

    def _make_pivots_positive(self, rows: Ints) -> None:
        """Change signs of columns of Lam, which changes nothing else."""
        blocks = self._blocks
        for t, (b, _, j) in enumerate(entries(blocks)):
            if t == entry(blocks, b, j, j):
                sign = np.where(self.theta[rows, t] < 0.0, -1.0, 1.0)
            self.theta[rows, t] *= sign
            self.found.gradient[rows, t] *= sign

    def _check(self, rows: Ints) -> tuple[Ints, Certificate]:
        """Those of the points that are false zeros."""
        certificate = self._certify(rows)
        is_false = certificate.lowest < 0.0
        return rows[is_false], _some(certificate, is_false)

    def _certify(self, rows: Ints) -> Certificate:
        traces = self._evaluate(rows, self.theta[rows], self.order[rows], with_data=False)
        self.traces.results[rows] = traces.results
        certificate = certify(
            self._blocks, self._nu(rows), self.order[rows], self.theta[rows], self.found.D[rows],
            traces.D,
        )  # fmt: skip
        self.violation[rows] = certificate.violation
        return certificate

    def _polish(self, rows: Ints, cost: float) -> None:
        """Newton steps among parameters that are not held, to smaller gradients at that cost."""
        self._differentiate(rows)
        for _ in range(MAX_NEWTON_STEPS):
            step, decrease, is_positive = self._newton(rows, self.found.gradient[rows])
            goes_on = is_positive & (decrease >= NEWTON_DECREASE)
            rows, step, decrease = rows[goes_on], step[goes_on], decrease[goes_on]
            if len(rows) == 0:
                break
            trial = self.theta[rows] - step
            found = self._evaluate(rows, trial, self.order[rows])
            rise = found.f - self.found.f[rows]
            _, left, _ = self._newton(rows, found.gradient)
            # where the change of -2 logLik is lost in its rounding, its gradient tells
            is_nearer = (rise <= cost) & (left < NEARER * decrease)
            accepted = (found.r2 > 0.0) & ((rise <= self.rounding(rows)) | is_nearer)
            self._accept(rows, trial, found, accepted)
            self._differentiate(rows[accepted & (decrease > PREDICTED_DECREASE)])
            rows = rows[accepted]

    def _newton(self, rows: Ints, gradient: Floats) -> tuple[Floats, Floats, Flags]:
        """Newton's step at a gradient, the decrease that it predicts, and whether it leads down."""
        held = self.held(rows)
        H = self.hessian[rows] + np.where(held, 1.0, 0.0)[:, :, None] * np.eye(held.shape[1])
        g = np.where(held, 0.0, gradient)
        step, is_positive = _newton_step(H, g)
        return step, 0.5 * dot(step, g), is_positive

    def _differentiate(self, rows: Ints) -> None:
        """Second derivatives of -2 logLik, by differences of the gradient."""
        held = self.held(rows)
        at, t = np.nonzero(~held)
        centre, order = self.theta[rows[at]], self.order[rows[at]]
        step = np.zeros_like(centre)
        everyone = np.arange(len(at))
        step[everyone, t] = self._difference(rows)[at, t]
        replicates, length = self._replicates[rows[at]], step[everyone, t, None]
        beyond = self._likelihood.at(replicates, centre + step, order).gradient
        self.evaluations[rows] += np.count_nonzero(~held, axis=1)
        H = np.zeros((len(rows), held.shape[1], held.shape[1]))
        H[at, t] = (beyond - self.found.gradient[rows[at]]) / length
        two = np.flatnonzero(self.is_stiff(rows)[at])
        if len(two):
            behind = self._likelihood.at(replicates[two], (centre - step)[two], order[two]).gradient
            H[at[two], t[two]] = (beyond[two] - behind) / (2.0 * length[two])
        H = np.where(held[:, None, :], 0.0, H)
        self.hessian[rows] = 0.5 * (H + transpose(H))

    def _difference(self, rows: Ints) -> Floats:
        """How far apart gradients are whose difference gives second derivatives."""
        return np.asarray(HESSIAN_STEP * np.maximum(1.0, np.abs(self.theta[rows])))

    def _escape(self, rows: Ints, certificate: Certificate) -> Ints:
        """Leave false zeros: add a multiple of the direction's square to Psi.

        Returns those that were left; at the others nothing that can be told from rounding is won.
        """
        before, stuck = rows, rows[:0]
        blocks = self._blocks
        level = blocks.level[certificate.block]
        n_units = self._likelihood.n_units_of(self._replicates[rows])
        length = -certificate.lowest * n_units[np.arange(len(rows)), level]
        shortest = SHORTEST_STEP * length
        while len(rows):
            theta, order = self.theta[rows], self.order[rows]
            for b, size in enumerate(blocks.size.tolist()):
                own = np.flatnonzero(certificate.block == b)
                part_order = order[own]
                Psi = covariance(blocks, part_order, theta[own], b)
                v = certificate.direction[own, :size]
                Psi = Psi + length[own, None, None] * v[:, :, None] * v[:, None, :]
                put_largest_pivots_first(blocks, part_order, b, Psi)
                part = theta[own]
                set_block(blocks, part_order, part, b, Psi)
                theta[own], order[own] = part, part_order
            found = self._evaluate(rows, theta, order)
            f = self.found.f[rows]
            accepted = (found.r2 > 0.0) & (found.f <= f + self.rounding(rows))
            self.order[rows[accepted]] = order[accepted]
            self._accept(rows, theta, found, accepted)
            length = 0.25 * length
            left = ~accepted & (length >= shortest)
            stuck = np.concatenate([stuck, rows[~accepted & ~left]])
            rows, length, shortest = rows[left], length[left], shortest[left]
            certificate = _some(certificate, left)
        return before[~np.isin(before, stuck)]

    def _reorder(self, rows: Ints) -> None:
        """Write the same points with the largest pivots first."""
        theta, order = self.theta[rows], self.order[rows]
        for b in range(len(self._blocks.size)):
            Psi = covariance(self._blocks, order, theta, b)
            put_largest_pivots_first(self._blocks, order, b, Psi)
            set_block(self._blocks, order, theta, b, Psi)
        self.order[rows] = order
        self._accept(
            rows, theta, self._evaluate(rows, theta, order), np.ones(len(rows), dtype=bool)
        )


def _newton_step(H: Floats, g: Floats) -> tuple[Floats, Flags]:
    """H^-1 g, and where it leads down: not where H is negative beyond its rounding."""
    step, is_positive = solve_positive(H, g)
    for share in FLAT:
        flat = np.flatnonzero(~is_positive)
        if len(flat):
            ridge = share * np.einsum("nii->ni", H[flat]).max(axis=1)
            lifted = H[flat] + ridge[:, None, None] * np.eye(H.shape[1])
            step[flat], is_positive[flat] = solve_positive(lifted, g[flat])
    return step, is_positive


def _some(certificate: Certificate, chosen: Flags) -> Certificate:
    return Certificate(
        certificate.violation[chosen],
        certificate.lowest[chosen],
        certificate.block[chosen],
        certificate.direction[chosen],
    )
