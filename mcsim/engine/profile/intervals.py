"""Profile-likelihood intervals of variance components.

D(s) is the minimum of -2 logLik over all other parameters where the component is s. The interval
holds the s with D(s) - D(estimate) <= the quantile of chi-squared with one df. Where D stays below
that up to the end of the component's range (an SD of 0, a correlation of +-1), the limit is that
end. Any other limit is reported only if its point misses neither the height nor the first-order
conditions of the minimum; else it is NaN.

From the estimate outwards: a minimum at a value of x, then a step of x by Newton's method for the
root of D(x) - D(estimate), whose derivative comes with the minimum. Every descent begins at the
last minimum inside the interval, so that none begins in a corner where an SD has vanished. D may
have other minima beside the one that is followed: a limit stands only if descents from two more
points (`Surface.rivals`) do not lead lower.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import special

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import MAX_EVALUATIONS, Status
from mcsim.engine.profile.components import Correlation, Deviation
from mcsim.engine.profile.descent import Descent
from mcsim.engine.profile.deviance import Places, Surface

MISS_TOLERANCE = 1e-7  # of D(limit), in -2 logLik
LOWER_OPTIMUM = 1e-6  # below that of the fit, in -2 logLik: it was no optimum of these data
JUMP = 50.0  # -2 logLik above the limit: a step that leads there is halved
MAX_HALVINGS = 8
CLOSE = 1e-2  # of the distance to the estimate: from there a value outside is believed
MAX_POINTS = 40  # minima on the way to a limit
CHALLENGES = 3  # times that rivals may refute a limit
RIVAL = 30.0  # -2 logLik above the limit, up to which a rival is worth a descent


@dataclass(frozen=True)
class ProfileIntervals:
    """Limits (n_replicates, n_targets), NaN where none is certain; evaluations (n_replicates,)."""

    lower: Floats
    upper: Floats
    evaluations: Ints


class Fitted(Protocol):
    """How fits of some replicates ended."""

    @property
    def status(self) -> Ints:
        """Of `Status`: (n_replicates,)."""
        ...

    @property
    def loglik(self) -> Floats:
        """(n_replicates,)."""
        ...


def profile_intervals(
    surface_of: Callable[[Any], Surface],
    fit: Fitted,
    targets: Sequence[Any],
    *,
    confidence: float,
) -> ProfileIntervals:
    """Profile-likelihood intervals by the criterion, REML or ML, of the design.

    Parameters
    ----------
    surface_of : what makes the surface of a target
    fit : without an optimum there are no limits
    targets : SDs, sums of them, sigma, shares of variance and correlations, and what else there
        are surfaces of

    Raises
    ------
    ValueError
        A correlation that the model does not have, or a total of correlated effects.
    """
    cutoff = float(special.chdtri(1.0, 1.0 - confidence))
    profiles = _Profiles(surface_of, fit, cutoff)
    limits = np.array([profiles.limits(target) for target in targets])
    limits = limits.reshape(len(targets), 2, len(fit.status))
    return ProfileIntervals(limits[:, 0].T.copy(), limits[:, 1].T.copy(), profiles.evaluations)


class _Profiles:
    """The profiles of a block of fits."""

    def __init__(self, surface_of: Callable[[Any], Surface], fit: Fitted, cutoff: float) -> None:
        self._fit: Any = fit
        self._surface_of, self._cutoff = surface_of, cutoff
        self._fitted = np.flatnonzero(fit.status <= Status.BOUNDARY)
        self._may_vanish: dict[tuple[int, int], Flags] = {}
        self.evaluations = np.zeros(len(fit.status), dtype=np.int64)

    def limits(self, target: Any) -> Floats:
        """Lower and upper limits (2, n_replicates)."""
        limits = np.full((2, len(self._fit.status)), np.nan)
        rows = self._fitted
        surface = self._surface_of(target)
        if isinstance(target, Correlation):  # without the effects it can be anything
            is_free = self._vanishes(target.level, target.i) | self._vanishes(
                target.level, target.j
            )
            ends = np.array([surface.coordinates.lower, surface.coordinates.upper])
            limits[:, is_free] = surface.coordinates.value(ends)[:, None]
            rows = rows[~is_free[rows]]
        search = self._search(surface, rows)
        search.find()
        self._note(target, search)
        limits[:, rows] = search.limits().reshape(2, -1)
        np.add.at(self.evaluations, search.descent.places.rows, search.descent.evaluations)
        return limits

    def _search(self, surface: Surface, rows: Ints) -> "_Search":
        optima = surface.optima(self._fit, rows)
        return _Search(surface, optima, -2.0 * self._fit.loglik[rows], self._cutoff)

    def _note(self, target: Any, search: "_Search") -> None:
        """Keep whether the interval of an SD begins at zero."""
        if isinstance(target, Deviation) and len(target.effects) == 1:
            is_zero = np.zeros(len(self._fit.status), dtype=bool)
            is_zero[self._fitted] = search.is_end[: len(self._fitted)]
            self._may_vanish[target.effects[0]] = is_zero

    def _vanishes(self, level: int, column: int) -> Flags:
        if (level, column) not in self._may_vanish:
            target = Deviation(((level, column),))
            search = self._search(self._surface_of(target), self._fitted)
            search.try_ends()
            self._note(target, search)
            np.add.at(self.evaluations, search.descent.places.rows, search.descent.evaluations)
        return self._may_vanish[level, column]


class _Search:
    """Limits of one component: the lower ones of all replicates, then the upper ones.

    near, far : x between which the limit is; `u_near`, `inverse_near` : of the minimum at near
    is_sure : far was found to be outside from close by; lowest : -2 logLik that was met
    """

    def __init__(self, surface: Surface, optima: Places, best: Floats, cutoff: float) -> None:
        f, start = surface.at(optima).f, optima._replace(u=surface.lifted(optima.u))
        inverse, curvature = surface.curvature(start)
        n, m = start.u.shape
        self._surface, self._best, self._cutoff = surface, np.tile(best, 2), cutoff
        both = np.tile(np.arange(n), 2)
        self.descent = Descent(surface, start.some(both), inverse[both], self._best + cutoff)
        self.descent.evaluations[:n] += m + 3
        self._side = np.repeat([-1.0, 1.0], n)
        with np.errstate(divide="ignore", invalid="ignore"):
            self._wald = (start.x + np.sqrt(2.0 * cutoff / curvature) * [[-1.0], [1.0]]).ravel()
        coordinates = surface.coordinates
        self._end = np.repeat([coordinates.lower, coordinates.upper], n)
        self._is_open = np.repeat(coordinates.is_open, n)
        self._unit = coordinates.unit(self.descent.places.u[:, -1].copy())
        self._start, self._near, self._far = start.x[both], start.x[both], self._end.copy()
        self._u_near, self._inverse_near = start.u[both], inverse[both]
        self._is_sure = np.zeros(2 * n, dtype=bool)
        self._lowest = np.tile(np.where(f <= best + LOWER_OPTIMUM, f, -np.inf), 2)
        self.is_end, self._is_found = np.zeros(2 * n, dtype=bool), np.zeros(2 * n, dtype=bool)

    def find(self) -> None:
        """Find all limits."""
        self.try_ends()
        tasks = np.flatnonzero(~self.is_end)
        self._go_to(tasks, self._wald[tasks])
        for _ in range(CHALLENGES):
            self._approach(tasks)
            tasks = self._refuted(tasks[self._is_found[tasks]])
        self._approach(tasks)

    def try_ends(self) -> None:
        """Whether the interval reaches the end of the range; any point that is low enough tells."""
        tasks = np.flatnonzero(~self._is_open)
        self.descent.places.x[tasks] = self._end[tasks]
        self.descent.begin(tasks)
        self.descent.descend(tasks)
        self.is_end[tasks] = self.descent.miss(tasks) <= 0.0
        self._note_lowest(tasks)
        self._go_back(tasks)

    def limits(self) -> Floats:
        """The limits that are certain, NaN for the others."""
        places, coordinates = self.descent.places, self._surface.coordinates
        tasks = np.flatnonzero(self._is_found)
        self.descent.evaluations[tasks] += 2
        holds = self._surface.violation(places.some(tasks)) <= CERTIFICATE_TOLERANCE
        certain = self.is_end.copy()
        certain[tasks[holds]] = True
        certain &= self._lowest >= self._best - LOWER_OPTIMUM
        x = np.where(self.is_end, self._end, places.x)
        limits = np.full(len(x), np.nan)
        limits[certain] = coordinates.value(x[certain])
        return limits

    def _approach(self, tasks: Ints) -> None:
        """Minima further and further out, until one is at the goal."""
        for _ in range(MAX_POINTS):
            if len(tasks) == 0:
                break
            self.descent.begin(tasks)
            self._shorten(tasks)
            self.descent.descend(tasks)
            tasks = self._judge(tasks)
            self._go_to(tasks, self._newton(tasks))

    def _shorten(self, tasks: Ints) -> None:
        """Halve the steps of x that lead too far up."""
        x = self.descent.places.x
        for _ in range(MAX_HALVINGS):
            tasks = tasks[~(self.descent.miss(tasks) < JUMP)]
            if len(tasks) == 0:
                break
            x[tasks] = 0.5 * (self._near[tasks] + x[tasks])
            self.descent.begin(tasks)

    def _judge(self, tasks: Ints) -> Ints:
        """Narrow the bracket; returns the tasks that go on."""
        x, miss = self.descent.places.x, self.descent.miss(tasks)
        self._note_lowest(tasks)
        self._is_found[tasks] = np.abs(miss) <= MISS_TOLERANCE
        self.is_end[tasks] = (miss <= 0.0) & (x[tasks] == self._end[tasks])
        goes_on = ~(self._is_found[tasks] | self.is_end[tasks])
        goes_on &= self.descent.evaluations[tasks] < MAX_EVALUATIONS
        inside = tasks[goes_on & (miss <= 0.0)]
        outside = tasks[goes_on & ~(miss <= 0.0)]
        step, distance = np.abs(x - self._near), np.abs(x - self._start)
        self._is_sure[outside] = (step <= CLOSE * distance)[outside]
        self._far[outside] = x[outside]
        self._go_back(outside)
        self._forget_far(inside[x[inside] == self._far[inside]])
        self._keep(inside)
        return tasks[goes_on]

    def _newton(self, tasks: Ints) -> Floats:
        """Where the root of D(x) - D(estimate) reaches its goal if it is a straight line."""
        heights, x = self.descent.heights, self.descent.places.x
        root = np.sqrt(np.maximum(heights.f[tasks] - self._best[tasks], 0.0))
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            step = (np.sqrt(self._cutoff) - root) * 2.0 * root / heights.slope[tasks]
        return np.asarray(x[tasks] + step)

    def _go_to(self, tasks: Ints, x: Floats) -> None:
        """Go to x where that is within the bracket; else halve the bracket, or reach out."""
        near, far, side = self._near[tasks], self._far[tasks], self._side[tasks]
        start, is_bounded = self._start[tasks], np.isfinite(self._far[tasks])
        reach = 3.0 * np.abs(near - start) + 0.5 * self._unit[tasks]
        with np.errstate(invalid="ignore"):
            else_to = np.where(is_bounded, 0.5 * (near + far), near + side * reach)
            is_within = (side * (x - near) > 0.0) & (side * (far - x) > 0.0)
            is_narrow = np.abs(far - near) <= CLOSE * np.abs(far - start)
        x = np.where(is_within, x, else_to)
        x = np.where(is_bounded, x, side * np.minimum(side * x, side * near + reach))
        is_doubtful = is_narrow & ~self._is_sure[tasks]
        is_doubtful &= ~(self._is_open[tasks] & (far == self._end[tasks]))
        self.descent.places.x[tasks] = np.where(is_doubtful, far, x)

    def _refuted(self, tasks: Ints) -> Ints:
        """Limits at which a rival leads to a lower point: they are inside."""
        refuted = [tasks[:0]]
        for rival, signs in self._surface.rivals(self.descent.places.u[tasks]):
            left = ~np.isin(tasks, np.concatenate(refuted))
            refuted.append(self._challenge(tasks[left], rival[left], signs))
        return np.sort(np.concatenate(refuted))

    def _challenge(self, tasks: Ints, rival: Floats, signs: Floats) -> Ints:
        """Limits that a minimum from `rival` refutes; the others stay as they are."""
        descent = self.descent
        kept = [descent.places.u, descent.inverse, *descent.heights]
        saved = [part[tasks] for part in kept]
        descent.places.u[tasks] = rival
        descent.inverse[tasks] *= signs[:, None] * signs
        descent.begin(tasks)
        descent.descend(tasks[descent.miss(tasks) < RIVAL])
        is_lower = descent.miss(tasks) < -10.0 * MISS_TOLERANCE
        refuted = tasks[is_lower]
        for part, before in zip(kept, saved, strict=True):
            part[tasks[~is_lower]] = before[~is_lower]
        self._note_lowest(refuted)
        self._is_found[refuted] = False
        self._forget_far(refuted)
        self._keep(refuted)
        self._go_to(refuted, self._newton(refuted))
        return refuted

    def _note_lowest(self, tasks: Ints) -> None:
        self._lowest[tasks] = np.fmin(self._lowest[tasks], self.descent.heights.f[tasks])

    def _forget_far(self, tasks: Ints) -> None:
        self._far[tasks], self._is_sure[tasks] = self._end[tasks], False

    def _keep(self, tasks: Ints) -> None:
        """The last minimum inside."""
        self._near[tasks] = self.descent.places.x[tasks]
        self._u_near[tasks] = self.descent.places.u[tasks]
        self._inverse_near[tasks] = self.descent.inverse[tasks]

    def _go_back(self, tasks: Ints) -> None:
        """To the last minimum inside; x stays."""
        self.descent.places.u[tasks] = self._u_near[tasks]
        self.descent.inverse[tasks] = self._inverse_near[tasks]
