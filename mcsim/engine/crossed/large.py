"""The same likelihood where many units cross: one point at a time, and LAPACK for the rest.

Letters as in likelihood.py; what inner units do is in inner.py.
"""

from typing import NamedTuple

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import entries, entry
from mcsim.engine.crossed.crossing import Crossing, Units
from mcsim.engine.crossed.inner import Outer, groups_of, inner_of
from mcsim.engine.crossed.likelihood import CrossedLikelihood
from mcsim.engine.likelihood import Points, points_of
from mcsim.engine.nested.moments import Moments

LARGE = 160  # outer columns, from which on one point at a time is faster than lanes
CLEAR = 1e-3  # of 1, what is left of it in I - B^-1: its digits are good


class _Columns(NamedTuple):
    """Of the units of one level: (n, q) columns, weights (n,), places of Lam (n, q, q)."""

    columns: Ints
    weight: Floats
    places: Ints


def _inner_columns(crossing: Crossing) -> dict[int, _Columns]:
    """Per level; the places are those of W'W."""
    first, level = crossing.inner.first.astype(np.int64), crossing.inner.level
    of_block = crossing.block_unit.astype(np.int64)
    block = np.repeat(np.arange(len(of_block) - 1), np.diff(of_block))
    start, found = first[of_block[:-1]], {}
    size = np.diff(first[of_block])
    for one in np.unique(level).tolist():
        own = np.flatnonzero(level == one)
        step = np.arange(first[own[0] + 1] - first[own[0]])
        at, b = first[own] - start[block[own]], size[block[own]]
        row = at[:, None, None] + step[:, None]
        places = crossing.G_start.astype(np.int64)[block[own], None, None]
        places = places + row * b[:, None, None] + at[:, None, None] + step
        found[one] = _Columns(first[own, None] + step, crossing.weight[block[own]], places)
    return found


def _outer_columns(outer: Units) -> dict[int, Ints]:
    """Columns (n, q) of the units of each level."""
    first, found = outer.first.astype(np.int64), {}
    for one in np.unique(outer.level).tolist():
        own = np.flatnonzero(outer.level == one)
        found[one] = first[own, None] + np.arange(first[own[0] + 1] - first[own[0]])
    return found


class LargeCrossedLikelihood(CrossedLikelihood):
    """The likelihood of random effects that cross, of many units."""

    def __init__(self, crossing: Crossing, moments: Moments) -> None:
        super().__init__(crossing, moments)
        self._n_inner, self._n_outer = int(crossing.inner.first[-1]), int(crossing.outer.first[-1])
        self._inner, self._outer = _inner_columns(crossing), _outer_columns(crossing.outer)
        self._groups = groups_of(crossing)
        self._units = inner_of(crossing, self._groups)

    def _evaluate(
        self, replicates: Ints, theta: Floats, order: Ints, weight: Floats, results: Floats
    ) -> None:
        for point, replicate in enumerate(replicates.tolist()):
            one = points_of(results[point : point + 1], self._shapes)
            self._evaluate_one(one, replicate, theta[point], order[point], float(weight[point]))

    def _factors(self, theta: Floats, order: Ints) -> Floats:
        blocks, turn = self.blocks, self._crossing.turn
        factor = np.zeros_like(turn)
        for b, i, j in entries(blocks):
            level, first = int(blocks.level[b]), int(blocks.first[b])
            value = theta[entry(blocks, b, i, j)]
            if blocks.is_matrix[b]:
                factor[level, first + order[b, i], first + j] = value
            else:
                factor[level] += value * blocks.Q[b]
        return factor

    def _evaluate_one(
        self, found: Points, replicate: int, theta: Floats, order: Ints, weight: float
    ) -> None:
        factor, n, model = self._factors(theta, order), self._n_outer, self._crossing.model
        Lam = self._crossing.turn @ factor
        data, yy = self._moments.values[replicate], float(self._moments.rss[replicate])
        wy = data[: self._n_inner]
        H, log_det = self._halves(Lam)
        A = np.zeros((len(self._crossing.rest), len(self._crossing.rest) + 1))
        A[:, :-1], A[:n, -1] = self._crossing.rest, data[self._n_inner :]
        self._units.take_out(H, wy, A)
        for half, group in zip(H, self._groups, strict=True):
            yy -= float(np.sum((half @ wy[group.columns][:, :, None]) ** 2))
        Lo = self._outer_factor(Lam)
        F = np.ascontiguousarray((Lo.T @ A[:n, :n]).T)
        L = scipy.linalg.cholesky(
            np.eye(n) + Lo.T @ F, lower=True, overwrite_a=True, check_finite=False
        )
        log_det += 2.0 * float(np.log(np.diag(L)).sum())
        h = scipy.linalg.solve_triangular(L, Lo.T @ A[:n, n:], lower=True, check_finite=False)
        T = A[n:, n:] - h[:, :-1].T @ h
        X, y = T[:, :-1], T[:, -1]
        C = scipy.linalg.cholesky(X, lower=True) if len(X) else X
        beta = scipy.linalg.cho_solve((C, True), y) if len(X) else y
        found.T_inverse[0] = scipy.linalg.cho_solve((C, True), np.eye(len(X))) if len(X) else X
        found.beta[0] = beta
        r2 = yy - float(h[:, -1] @ h[:, -1]) - float(y @ beta)
        if model.is_reml:
            log_det += 2.0 * float(np.log(np.diag(C)).sum()) + model.log_constant
        found.r2[0] = r2
        found.f[0] = log_det + model.nu * (1.0 + np.log(2.0 * np.pi * r2 / model.nu))
        kappa = model.nu / r2 if np.isnan(weight) else weight
        back = scipy.linalg.solve_triangular(L, h, lower=True, trans=1, check_finite=False)
        V, z_inner = self._units.way_back(Outer(Lo, L, Lo @ back))
        for level, own in self._inner.items():
            of_units = own.weight[:, None, None] * V[own.places]
            self._add(found, level, of_units, z_inner[own.columns], kappa)
        self._outer_parts(found, A, F, L, Lam, A[:n, n:] - F @ back, kappa)
        self._set_gradient(found, factor, order)

    def _halves(self, Lam: Floats) -> tuple[list[Floats], float]:
        """H = K^-1/2 Lam' of the blocks, and log|K|."""
        factors, found, log_det = np.zeros_like(self._crossing.G), [], 0.0
        for level, own in self._inner.items():
            q = own.columns.shape[1]
            factors[own.places] = Lam[level, :q, :q]
        for group in self._groups:
            turned = np.swapaxes(factors[group.places], 1, 2)
            K = np.eye(turned.shape[1]) + turned @ group.G @ factors[group.places]
            half = np.linalg.cholesky(K)
            found.append(np.linalg.solve(half, turned))
            log_det += 2.0 * float(group.weight @ np.log(np.einsum("nii->ni", half)).sum(axis=1))
        return found, log_det

    def _outer_factor(self, Lam: Floats) -> "scipy.sparse.csr_array":
        """Lam of all outer columns, block diagonal."""
        rows, columns, values = [], [], []
        for level, own in self._outer.items():
            q = own.shape[1]
            rows.append(np.repeat(own, q, axis=1).ravel())
            columns.append(np.tile(own, (1, q)).ravel())
            values.append(np.tile(Lam[level, :q, :q].ravel(), len(own)))
        if not rows:
            return scipy.sparse.csr_array((0, 0))
        where = np.concatenate(rows), np.concatenate(columns)
        shape = self._n_outer, self._n_outer
        return scipy.sparse.csr_array((np.concatenate(values), where), shape=shape)

    def _outer_parts(
        self, found: Points, A: Floats, F: Floats, L: Floats, Lam: Floats, z: Floats, kappa: float
    ) -> None:
        for level, own in self._outer.items():
            V = self._from_inverse(own, Lam[level])
            if V is None:
                S = scipy.linalg.solve_triangular(
                    L, F[own.ravel()].T, lower=True, check_finite=False
                )
                S = np.ascontiguousarray(S.T).reshape(*own.shape, -1)
                V = A[own[:, :, None], own[:, None, :]] - S @ np.swapaxes(S, 1, 2)
            self._add(found, level, V, z[own], kappa)

    def _from_inverse(self, own: Ints, Lam: Floats) -> Floats | None:
        """O'V^-1O of units, Lam'^-1 (I - B^-1) Lam^-1, where that has its digits."""
        inverse, q = self._units.inverse, own.shape[1]
        if inverse is None:
            return None
        V: Floats = np.eye(q) - inverse[own[:, :, None], own[:, None, :]]
        if np.linalg.eigvalsh(V).min() < CLEAR or abs(np.diag(Lam)[:q]).min() == 0.0:
            return None
        half = np.linalg.solve(Lam[:q, :q].T, V)
        return np.swapaxes(np.linalg.solve(Lam[:q, :q].T, np.swapaxes(half, 1, 2)), 1, 2)

    def _add(self, found: Points, level: int, V: Floats, z: Floats, kappa: float) -> None:
        """Z'PZ - kappa (Z'Py)(Z'Py)' of the units (n, q, q), from Z'V^-1Z and Z'V^-1 [X, y]."""
        q = V.shape[1]
        x, of_y = z[:, :, :-1], z[:, :, -1] - z[:, :, :-1] @ found.beta[0]
        found.scale[0, level, :q] += np.einsum("uii->i", V)
        D = V.sum(axis=0) - kappa * of_y.T @ of_y
        if self._crossing.model.is_reml:
            D -= np.einsum("uia,ab,ujb->ij", x, found.T_inverse[0], x, optimize=True)
        found.D[0, level, :q, :q] += 0.5 * (D + D.T)

    def _set_gradient(self, found: Points, factor: Floats, order: Ints) -> None:
        blocks, turn = self.blocks, self._crossing.turn
        found.D[0] = np.swapaxes(turn, 1, 2) @ found.D[0] @ turn
        found.scale[0] = np.einsum("lmi,lm->li", turn**2, found.scale[0])
        for b, i, j in entries(blocks):
            level, first = int(blocks.level[b]), int(blocks.first[b])
            slope = 2.0 * found.D[0, level] @ factor[level]
            at = entry(blocks, b, i, j)
            if blocks.is_matrix[b]:
                found.gradient[0, at] = slope[first + order[b, i], first + j]
            else:
                found.gradient[0, at] = float((slope * blocks.Q[b]).sum())
