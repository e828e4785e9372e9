"""The optimum over theta and z, the parameters of Lam and of the residuals, of every replicate.

-2 logLik may have several minima: a strong correlation of neighbours looks like random effects. It
is taken at a grid of z, each with the MINQUE estimate of Psi for that z; a search over all
parameters begins at every local minimum along the grid (at the lowest points, where z are several),
and the best end counts.
"""

from collections.abc import Sequence

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.replicates import dot
from mcsim.engine.blocks import boundary_parameters
from mcsim.engine.likelihood import is_usable, points_at
from mcsim.engine.optimum.certificate import Certificate
from mcsim.engine.optimum.minque import Start, minque, plain_start
from mcsim.engine.optimum.search import Optima, Search, Status
from mcsim.engine.residuals.likelihood import ResidualLikelihood
from mcsim.engine.residuals.structure import LEAST

MAX_STARTS = 3
SMALL = 0.05  # angles so near a quarter turn are tried there ...
ZERO_COST = 1e-6  # ... and stay there where -2 logLik rises by no more than this
STEEP = 0.1  # rise of -2 logLik where that variance is doubled: it is no optimum
LONGER = 4.0  # times, is a step after one along which -2 logLik curves downwards
AT_ZERO = 1e4  # times, is the error of -2 logLik there
SAME = 1e-6  # of -2 logLik: a certified minimum is preferred to one that is so much lower


class ResidualSearch(Search):
    """A search whose theta ends with z."""

    def __init__(
        self, likelihood: ResidualLikelihood, replicates: Ints, theta: Floats, order: Ints
    ) -> None:
        super().__init__(likelihood, replicates, theta, order)
        self._structure, self._n_theta = likelihood.structure, likelihood.n_theta
        self._rise = np.zeros(len(theta))

    def on_boundary(self, rows: Ints) -> Flags:
        """Also an SD that is zero."""
        z = self.theta[rows, self._n_theta :]
        is_zero = (z == _quarter_turn(z)) & self._structure.is_angle
        return np.hstack([boundary_parameters(self._blocks, self.theta[rows]), is_zero])

    def optima(self) -> Optima:
        """Where it ended; with -2 logLik where a variance is zero, not LEAST."""
        found = super().optima()
        is_zero = found.is_held[:, self._n_theta :].any(axis=1)
        found.found.f[:] -= np.where(is_zero, self._rise, 0.0)
        return found

    def rounding(self, rows: Ints) -> Floats:
        """More where weights are large, since a variance is zero."""
        at_zero = self.on_boundary(rows)[:, self._n_theta :].any(axis=1)
        return np.where(at_zero, AT_ZERO, 1.0) * super().rounding(rows)

    def learned(self, inverse: Floats, change: Floats, bend: Floats) -> Floats:
        """Where the function curves downwards, the next step is longer."""
        is_down = dot(change, bend) <= 0.0
        found = super().learned(inverse, change, bend)
        return np.where(is_down[:, None, None], LONGER * inverse, found)

    def _first_inverse(self, rows: Ints) -> Floats:
        inverse = super()._first_inverse(rows)
        curvature = self._structure.curvature(self.theta[rows, self._n_theta :])
        for t in range(curvature.shape[1]):
            position = self._n_theta + t
            inverse[:, position, position] = 1.0 / np.maximum(curvature[:, t], 1e-3)
        return inverse

    def _snap(self, rows: Ints, cost: Floats) -> None:
        """Also small variances of the residuals at zero."""
        super()._snap(rows, cost)
        if not self._structure.is_angle:
            return
        for t in range(self._n_theta, self.theta.shape[1]):
            z = self.theta[rows, t]
            turn = _quarter_turn(z)
            is_small = (np.abs(z - turn) < SMALL) & (z != turn)
            if np.any(is_small):
                small, theta = rows[is_small], self.theta[rows[is_small]]
                theta[:, t] = turn[is_small]
                found = self._evaluate(small, theta, self.order[small])
                self._accept(small, theta, found, found.f - self.found.f[small] < ZERO_COST)

    def _certify(self, rows: Ints) -> Certificate:
        """Also the derivatives in z, which are of the order of the residual df away from it.

        Where a variance of the residuals is zero, -2 logLik is to rise in proportion to it: where
        it falls without end towards zero, by its logarithm, there is no optimum.
        """
        found = super()._certify(rows)
        change = np.abs(self.found.gradient[rows, self._n_theta :]).max(axis=1)
        violation = np.maximum(found.violation, change / (2.0 * self._nu(rows)))
        at_zero = np.flatnonzero(self.on_boundary(rows)[:, self._n_theta :].any(axis=1))
        if len(at_zero):
            here = rows[at_zero]
            theta = self.theta[here]
            z = theta[:, self._n_theta :]
            z += np.where(z == _quarter_turn(z), np.sqrt(LEAST), 0.0)  # twice the variance
            rise = self._evaluate(here, theta, self.order[here]).f - self.found.f[here]
            self._rise[here] = rise
            violation[at_zero] = np.maximum(violation[at_zero], np.abs(rise) > STEEP)
        self.violation[rows] = violation
        return Certificate(violation, found.lowest, found.block, found.direction)

    def _status(self, rows: Ints) -> Ints:
        """Not converged where z has reached the end of its range."""
        at_end = (np.abs(self.theta[rows, self._n_theta :]) > self._structure.edge).any(axis=1)
        return np.where(at_end, Status.NOT_CONVERGED, super()._status(rows))


def _quarter_turn(z: Floats) -> Floats:
    """The nearest one."""
    return np.asarray(0.5 * np.pi * np.round(z / (0.5 * np.pi)))


def residual_optima(likelihood: ResidualLikelihood, starts: Sequence[Start], n: int) -> Optima:
    """The best optimum of n replicates.

    Parameters
    ----------
    starts : from which a search may begin
    """
    theta, order, f = _starts(likelihood, starts, np.arange(n))
    at, replicates = np.nonzero(_is_start(f, is_line=likelihood.structure.n_parameters == 1))
    by_replicate = np.lexsort((at, replicates))
    at, replicates = at[by_replicate], replicates[by_replicate]
    search = ResidualSearch(likelihood, replicates, theta[at, replicates], order[at, replicates])
    search.run()
    ends = search.optima()
    usable = ends.status <= Status.BOUNDARY
    height = np.where(np.isfinite(ends.found.f), ends.found.f, np.inf) + np.where(usable, 0.0, SAME)
    ranked = np.lexsort((height, replicates))
    best = ranked[np.searchsorted(replicates[ranked], np.arange(n))]
    evaluations = np.bincount(replicates, weights=ends.evaluations, minlength=n).astype(np.int64)
    return Optima(
        ends.theta[best],
        ends.order[best],
        points_at(ends.found, best),
        points_at(ends.traces, best),
        ends.hessian[best],
        ends.violation[best],
        ends.status[best],
        evaluations + 2 * len(starts),
        ends.is_held[best],
    )


def _starts(
    likelihood: ResidualLikelihood, starts: Sequence[Start], everyone: Ints
) -> tuple[Floats, Ints, Floats]:
    """Theta (n_starts, n, n_theta), order (n_starts, n, ...) and -2 logLik (n_starts, n)."""
    found = [_start(likelihood, start, everyone) for start in starts]
    theta, order, f = (np.stack(part) for part in zip(*found, strict=True))
    return theta, order, f


def _start(
    likelihood: ResidualLikelihood, start: Start, everyone: Ints
) -> tuple[Floats, Ints, Floats]:
    """MINQUE where it can be evaluated, else Psi0."""
    own_z = np.tile(start.z, (len(everyone), 1))
    plain, order = plain_start(likelihood.blocks, len(everyone))
    theta = np.hstack([plain, own_z])
    found = likelihood.at(everyone, theta, order)
    better, better_order = minque(likelihood, start, everyone, found.D, found.r2)
    better = np.hstack([better, own_z])
    found_there = likelihood.at(everyone, better, better_order)
    usable = is_usable(found_there)
    theta[usable], order[usable] = better[usable], better_order[usable]
    return theta, order, np.where(usable, found_there.f, found.f)


def _is_start(f: Floats, *, is_line: bool) -> Flags:
    """At least one along the first axis, and no more than MAX_STARTS."""
    f = np.where(np.isfinite(f), f, np.inf)
    padded = np.pad(f, ((1, 1), (0, 0)), constant_values=np.inf)
    is_minimum = (f < padded[:-2]) & (f <= padded[2:]) | (not is_line)
    is_minimum[0] |= ~is_minimum.any(axis=0)
    rank = np.argsort(np.argsort(np.where(is_minimum, f, np.inf), axis=0, kind="stable"), axis=0)
    return np.asarray(is_minimum & (rank < MAX_STARTS))
