"""The same likelihood where many units cross: one point at a time, sparse matrices and LAPACK.

Letters as in likelihood.py. What is held for all points is W'W by blocks of equal size, and R'W,
which is sparse where units meet few others.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import entries, entry
from mcsim.engine.crossed.crossing import Crossing, Units
from mcsim.engine.crossed.room import result_shapes
from mcsim.engine.likelihood import Likelihood, Points, places_of, points_of
from mcsim.engine.nested.moments import Moments

DENSE = 0.1  # share of R'W that is not 0, from which on it is held with its zeros
LARGE = 160  # outer columns, from which on one point at a time is faster than lanes


class _Levels(NamedTuple):
    """Columns of the units of each level, (n_units, q), where the level has any."""

    columns: dict[int, Ints]

    @classmethod
    def of(cls, units: Units) -> "_Levels":
        first, level = units.first.astype(np.int64), units.level.astype(np.int64)
        sizes = np.diff(first)
        return cls({
            one: first[:-1][level == one][:, None] + np.arange(sizes[level == one][0])
            for one in np.unique(level).tolist()
        })  # fmt: skip

    def factor(self, Lam: Floats, n: int) -> sparse.csr_array:
        """Lam of every unit, block diagonal, (n, n)."""
        rows, columns, values = [], [], []
        for level, own in self.columns.items():
            q = own.shape[1]
            rows.append(np.repeat(own, q, axis=1).ravel())
            columns.append(np.tile(own, (1, q)).ravel())
            values.append(np.tile(Lam[level, :q, :q].ravel(), len(own)))
        where = np.concatenate(rows), np.concatenate(columns)
        return sparse.csr_array((np.concatenate(values), where), shape=(n, n))


def _with_zeros(matrix: Floats | sparse.csr_array) -> Floats:
    return matrix if isinstance(matrix, np.ndarray) else np.asarray(matrix.toarray())


class LargeCrossedLikelihood(Likelihood):
    """The likelihood of random effects that cross, of many units."""

    def __init__(self, crossing: Crossing, moments: Moments) -> None:
        self.blocks, self.nu, self.n_units = crossing.blocks, crossing.model.nu, crossing.n_units
        self._crossing, self._moments = crossing, moments
        self._shapes = result_shapes(crossing)
        self._n_inner, self._n_outer = int(crossing.inner.first[-1]), int(crossing.outer.first[-1])
        self._inner, self._outer = _Levels.of(crossing.inner), _Levels.of(crossing.outer)
        first = crossing.inner.first[crossing.block_unit].astype(np.int64)
        sizes = np.diff(first)
        self._groups = [  # blocks of one size: their columns (n, b) and W'W (n, b, b)
            (first[:-1][sizes == b][:, None] + np.arange(b), self._own(sizes == b, b))
            for b in np.unique(sizes).tolist()
        ]
        self._G = self._block_diagonal([G for _, G in self._groups])
        self._C = self._cross(sizes)

    def _own(self, chosen: np.ndarray, b: int) -> Floats:
        starts = self._crossing.G_start.astype(np.int64)[chosen]
        own: Floats = self._crossing.G[starts[:, None] + np.arange(b * b)]
        return own.reshape(-1, b, b)

    def _block_diagonal(self, stacks: list[Floats]) -> sparse.csr_array:
        rows = [np.repeat(own, own.shape[1], axis=1).ravel() for own, _ in self._groups]
        columns = [np.tile(own, (1, own.shape[1])).ravel() for own, _ in self._groups]
        values = np.concatenate([one.ravel() for one in stacks])
        where = np.concatenate(rows), np.concatenate(columns)
        return sparse.csr_array((values, where), shape=(self._n_inner, self._n_inner))

    def _cross(self, sizes: Ints) -> Floats | sparse.csr_array:
        """R'W without y, (n_rest, n_inner)."""
        touch = self._crossing.touch.astype(np.int64)
        start = self._crossing.touch_start.astype(np.int64)
        n_touched = start[1:] - start[:-1]
        width = np.repeat(sizes, n_touched)  # of the block of each touched row
        first = np.repeat(np.cumsum(sizes) - sizes, n_touched)
        rows = np.repeat(touch, width)
        step = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
        where = rows, np.repeat(first, width) + step
        shape = len(self._crossing.rest), self._n_inner
        C = sparse.csr_array((self._crossing.C, where), shape=shape)
        return C if C.nnz < DENSE * shape[0] * shape[1] else np.asarray(C.toarray())

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
        found = points_of(results, self._shapes)
        for point, replicate in enumerate(replicates.tolist()):
            one = points_of(results[point : point + 1], self._shapes)
            self._evaluate(one, replicate, theta[point], order[point], float(weight[point]))
        return found

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

    def _evaluate(
        self, found: Points, replicate: int, theta: Floats, order: Ints, weight: float
    ) -> None:
        factor, n, model = self._factors(theta, order), self._n_outer, self._crossing.model
        Lam = self._crossing.turn @ factor
        data, yy = self._moments.values[replicate], float(self._moments.rss[replicate])
        wy = data[: self._n_inner]
        M, log_det = self._inverse(self._inner.factor(Lam, self._n_inner))
        CM = self._C @ M
        A = self._crossing.rest - _with_zeros(CM @ self._C.T)
        a = np.concatenate([data[self._n_inner :], np.zeros(len(A) - n)]) - CM @ wy
        A, yy = np.column_stack([A, a]), yy - float(wy @ (M @ wy))
        Lo = self._outer.factor(Lam, n)
        F = np.ascontiguousarray((Lo.T @ A[:n, :n]).T)
        L = linalg.cholesky(np.eye(n) + Lo.T @ F, lower=True, overwrite_a=True, check_finite=False)
        log_det += 2.0 * float(np.log(np.diag(L)).sum())
        h = linalg.solve_triangular(L, Lo.T @ A[:n, n:], lower=True, check_finite=False)
        T = A[n:, n:] - h[:, :-1].T @ h
        X, y = T[:, :-1], T[:, -1]
        C = linalg.cholesky(X, lower=True) if len(X) else X
        beta = linalg.cho_solve((C, True), y) if len(X) else y
        found.T_inverse[0] = linalg.cho_solve((C, True), np.eye(len(X))) if len(X) else X
        found.beta[0] = beta
        r2 = yy - float(h[:, -1] @ h[:, -1]) - float(y @ beta)
        if model.is_reml:
            log_det += 2.0 * float(np.log(np.diag(C)).sum()) + model.log_constant
        found.r2[0] = r2
        found.f[0] = log_det + model.nu * (1.0 + np.log(2.0 * np.pi * r2 / model.nu))
        kappa = model.nu / r2 if np.isnan(weight) else weight
        self._outer_parts(found, A, F, L, h, kappa)
        inverse = linalg.cho_solve((L, True), np.eye(n), check_finite=False)
        Uh = Lo @ linalg.solve_triangular(L, h, lower=True, trans=1, check_finite=False)
        self._inner_parts(found, M, CM, Lo @ (Lo @ inverse).T, Uh, wy, kappa)
        self._set_gradient(found, factor, order)

    def _inverse(self, L: sparse.csr_array) -> tuple[sparse.csr_array, float]:
        """M = Lam K^-1 Lam', block diagonal, and log|K|."""
        stacks, log_det = [], 0.0
        for own, G in self._groups:
            b = own.shape[1]
            Lam = L[own[:, :, None].repeat(b, 2).ravel(), own[:, None].repeat(b, 1).ravel()]
            Lam = np.asarray(Lam).reshape(-1, b, b)
            K = np.eye(b) + np.swapaxes(Lam, 1, 2) @ G @ Lam
            stacks.append(Lam @ np.linalg.solve(K, np.swapaxes(Lam, 1, 2)))
            log_det += float(np.linalg.slogdet(K)[1].sum())
        return self._block_diagonal(stacks), log_det

    def _outer_parts(
        self, found: Points, A: Floats, F: Floats, L: Floats, h: Floats, kappa: float
    ) -> None:
        S = linalg.solve_triangular(L, F.T, lower=True, check_finite=False)
        z = A[: len(F), len(F) :] - S.T @ h
        for level, own in self._outer.columns.items():
            of_unit = S[:, own]
            V = A[own[:, :, None], own[:, None, :]] - np.einsum("kui,kuj->uij", of_unit, of_unit)
            self._add(found, level, V, z[own], kappa)

    def _inner_parts(
        self,
        found: Points,
        M: sparse.csr_array,
        CM: Floats | sparse.csr_array,
        N: Floats,
        Uh: Floats,
        wy: Floats,
        kappa: float,
    ) -> None:
        n = len(N)
        E = self._C - CM @ self._G
        GM = self._G @ M
        V, ey = self._G - GM @ self._G, wy - GM @ wy
        Eo = _with_zeros(E[:n])
        NE = N @ Eo
        z = np.column_stack([_with_zeros(E[n:]).T, ey]) - Eo.T @ Uh
        for level, own in self._inner.columns.items():
            q = own.shape[1]
            rows = own[:, :, None].repeat(q, 2).ravel(), own[:, None].repeat(q, 1).ravel()
            of_unit = np.asarray(V[rows]).reshape(-1, q, q)
            of_unit = of_unit - np.einsum("rui,ruj->uij", Eo[:, own], NE[:, own])
            self._add(found, level, of_unit, z[own], kappa)

    def _add(self, found: Points, level: int, V: Floats, z: Floats, kappa: float) -> None:
        """Z'PZ - kappa (Z'Py)(Z'Py)' of the units (n, q, q), from Z'V^-1Z and Z'V^-1 [X, y]."""
        q = V.shape[1]
        x, of_y = z[:, :, :-1], z[:, :, -1] - z[:, :, :-1] @ found.beta[0]
        found.scale[0, level, :q] = np.einsum("uii->i", V)
        D = V.sum(axis=0) - kappa * of_y.T @ of_y
        if self._crossing.model.is_reml:
            D -= np.einsum("uia,ab,ujb->ij", x, found.T_inverse[0], x, optimize=True)
        found.D[0, level, :q, :q] = 0.5 * (D + D.T)

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
