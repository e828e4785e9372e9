"""The likelihood of models whose residuals are correlated, or have more than one SD."""

import math
from dataclasses import replace

import numpy as np

from mcsim.engine.nested.likelihood import evaluate_points
from mcsim.engine.nested.tree import (
    Floats,
    Ints,
    Moments,
    Points,
    Tree,
    n_parameters,
    new_workspace,
    points_of,
    result_shapes,
)
from mcsim.engine.optimum.minque import no_data, with_start
from mcsim.engine.residuals.classes import ResidualDesign
from mcsim.engine.residuals.whitening import differentiate, new_lanes, whiten


class ResidualLikelihood:
    """The likelihood of some replicates, at any points (theta, z).

    replicates : (n,) the replicate that each row stands for
    """

    def __init__(
        self, tree: Tree, design: ResidualDesign, moments: Moments, replicates: Ints
    ) -> None:
        classes = tree.classes._replace(B=tree.classes.B.copy(), G=tree.classes.G.copy())
        links = tree.links._replace(C=tree.links.C.copy())
        roots = tree.roots._replace(Bx=tree.roots.Bx.copy())
        self.tree = tree._replace(classes=classes, links=links, roots=roots)
        self.residual, self.moments = design.residual, moments
        self._whitening, self._replicates = design.whitening, replicates
        self._workspace, width = new_workspace(tree), tree.model.width
        self._lanes = new_lanes(design.whitening, tree)
        self._values = np.zeros((width, len(self._workspace.lanes.data)))
        self._rss = np.zeros(width)
        self._shapes = result_shapes(tree)
        self._n_theta = n_parameters(tree)

    def at(
        self,
        rows: Ints,
        theta: Floats,
        order: Ints,
        *,
        with_data: bool = True,
        inverse_sigma2: Floats | None = None,
    ) -> Points:
        """Evaluate, as `Likelihood.at` does; f and r2 are NaN where z is outside its range.

        Parameters
        ----------
        theta : (n, n_theta + n_parameters of the residuals)
        """
        end, z = self.residual.end, theta[:, self._n_theta :]
        is_outside = np.any(~(np.abs(z) < end), axis=1)
        z = np.where(is_outside[:, None], 0.0, z)
        weight = np.full(len(rows), np.nan if with_data else 0.0)
        weight = weight if inverse_sigma2 is None else inverse_sigma2
        weights = np.ascontiguousarray(self.residual.weights(z))
        results = np.empty((len(rows), sum(math.prod(shape) for shape in self._shapes)))
        slopes = np.empty(weights.shape)
        width = self.tree.model.width
        for first in range(0, len(rows), width):
            some = slice(first, first + width)
            self._evaluate(
                self._replicates[rows[some]], theta[some, : self._n_theta].copy(), order[some],
                weight[some], weights[some], results[some], slopes[some],
            )  # fmt: skip
        log_det, gradient = self.residual.log_determinant(z)
        products = slopes[:, None] * self.residual.slopes(z)
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
        _, classes, links, roots, _ = self.tree[:5]
        lanes, _, found, matrices, _, vectors = self._workspace
        whiten(
            *self._lanes, classes.B, classes.G, links.C, roots.Bx, self.moments.values,
            self.moments.forms, replicates, weights, self._values, self._rss,
        )  # fmt: skip
        evaluate_points(
            *self.tree[:5], *self._workspace, self._values, self._rss,
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
        end = 2 + self._n_theta
        parts = [results[:, :end], gradient, results[:, end:]]
        shapes = (*self._shapes[:2], (end - 2 + gradient.shape[1],), *self._shapes[3:])
        return points_of(np.hstack(parts), shapes)


def with_starts(tree: Tree, design: ResidualDesign) -> ResidualDesign:
    """The design with the starts of its searches."""
    starts = [(z, _start(tree, design, z)) for z in design.residual.grid()]
    return replace(design, starts=tuple(starts))


def _start(tree: Tree, design: ResidualDesign, z: Floats) -> Tree:
    lanes = new_lanes(design.whitening, tree)
    n_values, n_forms = len(lanes.given.u), len(lanes.given.form_rows)

    def at(theta: Floats, order: Ints) -> Points:
        everyone = np.arange(len(theta))
        moments = no_data(n_values, len(tree.roots.Bx[0]), len(theta), n_forms)
        likelihood = ResidualLikelihood(tree, design, moments, everyone)
        points = np.hstack([theta, np.tile(z, (len(theta), 1))])
        return likelihood.at(everyone, points, order, with_data=False)

    return with_start(tree, at)
