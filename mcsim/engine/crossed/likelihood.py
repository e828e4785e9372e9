"""The profiled deviance of a mixed model whose units cross, and its derivatives, by elimination.

With W the inner columns, block by block, and R the rest (outer columns O, then X, then y):

    K = I + Lam' W'W Lam,   M = Lam K^-1 Lam',   A = R'R - R'W M W'R        (every block of its own)
    B = I + Lam' A_OO Lam = L L',   S = L^-1 Lam' A_OO,   h = L^-1 Lam' A_O.
    X'V^-1X = A_XX - h_X' h_X, and so for y

and on the way back, with U = Lam L'^-1 h, N = Lam B^-1 Lam' and E = R'W - R'W M W'W,

    O'V^-1O = A_OO - S'S,   O'V^-1X = A_OX - S' h_X
    W'V^-1W = W'W - W'W M W'W - E_O' N E_O,   W'V^-1X = E_X' - E_O' U_X

of which blocks of one unit make D = sum Z'PZ - kappa (Z'Py)(Z'Py)', kappa = nu / y'Py.
"""

from functools import cached_property

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel
from mcsim.engine.crossed.crossing import LANES, Crossing
from mcsim.engine.crossed.derivatives import (
    differentiate_inner,
    differentiate_outer,
    set_gradient,
)
from mcsim.engine.crossed.elimination import (
    eliminate_inner,
    eliminate_outer,
    set_factors,
    solve_fixed_effects,
)
from mcsim.engine.crossed.room import Block, Room, System, lane_points, new_room, result_shapes
from mcsim.engine.likelihood import Likelihood, Points, places_of, points_of
from mcsim.engine.nested.moments import Moments
from mcsim.engine.nested.steps import load_lane, load_order, store_lane


class CrossedLikelihood(Likelihood):
    """The likelihood of random effects that cross, and independent residuals with one SD."""

    def __init__(self, crossing: Crossing, moments: Moments) -> None:
        self.blocks, self.nu, self.n_units = crossing.blocks, crossing.model.nu, crossing.n_units
        self._crossing, self._moments = crossing, moments
        self._shapes = result_shapes(crossing)

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; the replicates are rows of the moments."""
        weight = np.full(len(replicates), np.nan if with_data else 0.0)
        weight = weight if inverse_sigma2 is None else inverse_sigma2
        results = np.zeros((len(replicates), places_of(self._shapes)[-1].stop))
        self._evaluate(replicates, theta, order, weight, results)
        return points_of(results, self._shapes)

    @cached_property
    def _lanes(self) -> tuple[Room, System, Block, Points]:
        return *new_room(self._crossing), lane_points(self._shapes)

    def _evaluate(
        self, replicates: Ints, theta: Floats, order: Ints, weight: Floats, results: Floats
    ) -> None:
        """Fill the results (n, n_results); weight : (n,) of the data, NaN for nu / y'Py."""
        evaluate_points(
            *self._crossing, *self._lanes, self._moments.values, self._moments.rss, replicates,
            theta, order, weight, results,
        )  # fmt: skip


@lean_kernel
def evaluate_points(
    model, blocks, n_units, turn, inner, outer, block_unit, weight_of_block, touch_start, touch,
    G_start, G, C_start, C, rest, room, system, block, found, values, rss, replicates, theta, order,
    weight, results
):  # fmt: skip
    """Evaluate all points, as many at a time as there are lanes."""
    n = len(replicates)
    for first in range(0, n, LANES):
        for lane in range(LANES):
            point = min(first + lane, n - 1)  # lanes that are left over repeat the last point
            room.numbers[0, lane] = weight[point]
            room.numbers[2, lane] = rss[replicates[point]]
            load_lane(room.data, values, replicates[point], lane)
            load_lane(room.theta, theta, point, lane)
            load_order(room.order, order, point, lane)
        set_factors(blocks, turn, room)
        eliminate_inner(
            inner,
            block_unit,
            weight_of_block,
            touch_start,
            touch,
            G_start,
            G,
            C_start,
            C,
            rest,
            room,
            system,
            block,
        )
        eliminate_outer(outer, room, system)
        solve_fixed_effects(model, room, system, found)
        found.D[:] = 0.0
        found.scale[:] = 0.0
        differentiate_outer(outer, model.is_reml, room, system, found)
        differentiate_inner(
            inner, block_unit, weight_of_block, touch_start, touch, G_start, G, C_start, C,
            model.is_reml, room, system, block, found,
        )  # fmt: skip
        set_gradient(blocks, turn, room, found)
        for lane in range(min(LANES, n - first)):
            store_lane(results, found.results, first + lane, lane)
