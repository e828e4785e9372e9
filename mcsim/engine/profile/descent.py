"""Minima over u for many tasks together; no number of one enters that of another."""

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.bfgs import updated_inverse
from mcsim.engine.arithmetic.replicates import apply, dot
from mcsim.engine.optimum.search import MAX_EVALUATIONS, SHORTEST_STEP
from mcsim.engine.profile.deviance import Heights, Places, Surface

LEAST_DECREASE = 1e-15  # predicted, in -2 logLik, where a descent ends at the goal ...
ROUGH = 1e-3, 1e-2  # ... and away from it: these times its distance squared, and its distance


class Descent:
    """Where the tasks are, and what was found there.

    places : one task each; goal : (n,) the -2 logLik around which it must be exact
    heights : at the places; inverse : (n, n_theta + 1, n_theta + 1) about the inverse Hessian
    """

    def __init__(self, surface: Surface, places: Places, inverse: Floats, goal: Floats) -> None:
        self._surface, self.places, self.goal = surface, places, goal
        self.inverse = inverse
        n = len(goal)
        self.heights = Heights(np.full(n, np.nan), np.full_like(places.u, np.nan), np.zeros(n))
        self.evaluations = np.zeros(n, dtype=np.int64)

    def miss(self, tasks: Ints) -> Floats:
        """How far above the goal."""
        return self.heights.f[tasks] - self.goal[tasks]

    def begin(self, tasks: Ints) -> None:
        """Evaluate, at lifted pivots."""
        self.places.u[tasks] = self._surface.lifted(self.places.u[tasks])
        self._accept(tasks, self.places.u[tasks], self._at(tasks, self.places.u[tasks]))

    def descend(self, tasks: Ints) -> None:
        """BFGS; ends at a small predicted decrease or a failed search along a line."""
        places, heights = self.places, self.heights
        busy = tasks[np.isfinite(heights.f[tasks])]
        step, slope, length = (
            np.zeros_like(places.u),
            np.zeros(len(places.x)),
            np.ones(len(places.x)),
        )
        is_new = np.ones(len(places.x), dtype=bool)
        while len(busy):
            new = busy[is_new[busy]]
            step[new] = -apply(self.inverse[new], heights.g[new])
            slope[new] = dot(step[new], heights.g[new])
            length[new] = np.minimum(1.0, 1.0 / np.maximum(np.abs(step[new]).max(axis=1), 1e-300))
            goes_on = (-0.5 * slope[busy] >= self._enough(busy)) & (length[busy] >= SHORTEST_STEP)
            busy = busy[goes_on & (self.evaluations[busy] < MAX_EVALUATIONS)]
            trial = places.u[busy] + length[busy, None] * step[busy]
            found = self._at(busy, trial)
            rise, predicted = found.f - heights.f[busy], length[busy] * slope[busy]
            rounding = self._surface.likelihood.rounding(heights.f[busy], places.rows[busy])
            accepted = rise <= 1e-4 * predicted + rounding
            is_new[busy] = accepted
            self._learn(busy[accepted], trial[accepted], found.g[accepted])
            self._accept(busy[accepted], trial[accepted], _some(found, accepted))
            curvature = rise - predicted
            with np.errstate(divide="ignore", invalid="ignore"):
                shrink = np.where(curvature > 0.0, -0.5 * predicted / curvature, 0.25)
            length[busy] *= np.where(accepted, 1.0, np.clip(shrink, 0.1, 0.5))

    def _enough(self, tasks: Ints) -> Floats:
        miss = np.abs(self.miss(tasks))
        return np.maximum(LEAST_DECREASE, np.minimum(ROUGH[0] * miss**2, ROUGH[1] * miss))

    def _at(self, tasks: Ints, u: Floats) -> Heights:
        self.evaluations[tasks] += 1
        return self._surface.at(self.places.some(tasks)._replace(u=u))

    def _learn(self, tasks: Ints, u: Floats, g: Floats) -> None:
        change, bend = u - self.places.u[tasks], g - self.heights.g[tasks]
        self.inverse[tasks] = updated_inverse(self.inverse[tasks], change, bend)

    def _accept(self, tasks: Ints, u: Floats, found: Heights) -> None:
        self.places.u[tasks] = u
        for kept, part in zip(self.heights, found, strict=True):
            kept[tasks] = part


def _some(found: Heights, chosen: Flags) -> Heights:
    return Heights(*(part[chosen] for part in found))
