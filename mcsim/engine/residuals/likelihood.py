"""The likelihood of models whose residuals are correlated, or have more than one SD."""

import math

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import n_parameters
from mcsim.engine.likelihood import Likelihood, Points, points_of
from mcsim.engine.nested.likelihood import evaluate_points
from mcsim.engine.nested.moments import Moments
from mcsim.engine.nested.tree import Tree, stacked, units_per_level
from mcsim.engine.nested.workspace import new_workspace, result_shapes
from mcsim.engine.residuals.classes import ResidualDesign
from mcsim.engine.residuals.whitening import differentiate, new_lanes, whiten


class ResidualLikelihood(Likelihood):
    """The likelihood where residuals have a structure; theta ends with z.

    n_theta : number of the parameters of Lam, before z
    """

    def __init__(self, tree: Tree, design: ResidualDesign, moments: Moments) -> None:
        self.blocks, self.nu, self.n_units = tree.blocks, tree.model.nu, units_per_level(tree)
        self.structure, self.n_theta = design.structure, n_parameters(tree.blocks)
        classes = tree.classes._replace(B=tree.classes.B.copy(), G=tree.classes.G.copy())
        links = tree.links._replace(C=tree.links.C.copy())
        roots = tree.roots._replace(Bx=tree.roots.Bx.copy())
        self._tree = tree._replace(classes=classes, links=links, roots=roots)
        self._stack = stacked(self._tree)
        self._moments, self._workspace = moments, new_workspace(tree)
        self._lanes = new_lanes(design.whitening, tree)
        self._values = np.zeros((tree.model.width, len(self._workspace.lanes.data)))
        self._rss = np.zeros(tree.model.width)
        self._shapes = result_shapes(tree)

    def at(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate; f and r2 are NaN where z is outside its range."""
        end, z = self.structure.end, theta[:, self.n_theta :]
        is_outside = np.any(~(np.abs(z) < end), axis=1)
        z = np.where(is_outside[:, None], 0.0, z)
        weight = np.full(len(replicates), np.nan if with_data else 0.0)
        weight = weight if inverse_sigma2 is None else inverse_sigma2
        weights = np.ascontiguousarray(self.structure.weights(z))
        results = np.empty((len(replicates), sum(math.prod(shape) for shape in self._shapes)))
        slopes = np.empty(weights.shape)
        width = self._tree.model.width
        for first in range(0, len(replicates), width):
            some = slice(first, first + width)
            self._evaluate(
                replicates[some], theta[some, : self.n_theta].copy(), order[some],
                weight[some], weights[some], results[some], slopes[some],
            )  # fmt: skip
        log_det, gradient = self.structure.log_determinant(z)
        products = slopes[:, None] * self.structure.slopes(z)
        gradient = gradient + products.sum(axis=(2, 3))
        results[:, 0] += log_det
        results[is_outside, :2] = np.nan
        return self._with_gradient(results, gradient)

    def _evaluate(
        self,
        replicates: Ints,
        theta: Floats,
        order: Ints,
        weight: Floats,
        weights: Floats,
        results: Floats,
        slopes: Floats,
    ) -> None:
        """No more points than there are lanes."""
        _, classes, links, roots, _ = self._tree
        lanes, _, found, matrices, _, vectors = self._workspace
        whiten(
            *self._lanes, classes.B, classes.G, links.C, roots.Bx, self._moments.values,
            self._moments.forms, replicates, weights, self._values, self._rss,
        )  # fmt: skip
        evaluate_points(
            *self._stack, *self._workspace, self._values, self._rss,
            np.arange(len(replicates)), theta, order, weight, results,
        )  # fmt: skip
        own = self._lanes
        differentiate(
            own.whitening, own.given, own.turned, own.room, (links.C, roots.Bx),
            (links.child, links.parent, roots.child),
            (matrices.A, matrices.J, matrices.E, matrices.slope), (vectors.w, found.beta),
            lanes.kappa, classes.n_units, slopes,
        )  # fmt: skip

    def _with_gradient(self, results: Floats, gradient: Floats) -> Points:
        """Results where the derivatives in z follow those in theta."""
        end = 2 + self.n_theta
        parts = [results[:, :end], gradient, results[:, end:]]
        shapes = (*self._shapes[:2], (end - 2 + gradient.shape[1],), *self._shapes[3:])
        return points_of(np.hstack(parts), shapes)
