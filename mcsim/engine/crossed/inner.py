"""Inner units of a large crossing, for one point: what they take out of the rest, and their part.

Letters as in likelihood.py. One class where blocks touch most of the rest, in dense matrices, and
one where each touches little of it, block by block.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.crossed.crossing import Crossing

DENSE = 0.1  # share of R'W that is not 0, from which on it is held with its zeros

U = np.uint64


class Outer(NamedTuple):
    """The dense system of a point: Lam of all outer columns, sparse, L, and U = Lam L'^-1 h."""

    Lam: Any
    L: Floats
    Uh: Floats


class Inner(Protocol):
    """Inner units.

    inverse : B^-1 of the outer system, where the way back made it
    """

    inverse: Floats | None

    def take_out(self, H: list[Floats], wy: Floats, A: Floats) -> None:
        """Take R'W M W'[R, y] out of A (n_rest, n_rest + 1).

        Parameters
        ----------
        H : per group of blocks (n, b, b) K^-1/2 Lam'; wy : (n_inner,)
        """
        ...

    def way_back(self, outer: Outer) -> tuple[Floats, Floats]:
        """W'V^-1W of the blocks, as W'W stands in Crossing, and W'V^-1[X, y] (n_inner, p + 1)."""
        ...


class Group(NamedTuple):
    """Blocks of one size.

    numbers : (n,); columns : (n, b); places : (n, b, b) of W'W in Crossing; G : W'W
    weight : (n,)
    """

    numbers: Ints
    columns: Ints
    places: Ints
    G: Floats
    weight: Floats


def groups_of(crossing: Crossing) -> list[Group]:
    """The eliminated blocks."""
    first = crossing.inner.first[crossing.block_unit].astype(np.int64)
    sizes, found = np.diff(first), []
    for b in np.unique(sizes).tolist():
        own = np.flatnonzero(sizes == b)
        starts = crossing.G_start.astype(np.int64)[own, None, None]
        places = starts + np.arange(b * b).reshape(b, b)
        columns = first[own, None] + np.arange(b)
        found.append(Group(own, columns, places, crossing.G[places], crossing.weight[own]))
    return found


def inner_of(crossing: Crossing, groups: list[Group]) -> Inner:
    """The inner units of a crossing in the form that is faster."""
    share = len(crossing.C) / (len(crossing.rest) * float(crossing.inner.first[-1]))
    return (_Dense if share > DENSE else _BlockByBlock)(crossing, groups)


def _transposed(matrices: Floats) -> Floats:
    return np.swapaxes(matrices, 1, 2)


class _Dense:
    """R'W with its zeros: (n, n_rest, b) of every group."""

    def __init__(self, crossing: Crossing, groups: list[Group]) -> None:
        self._groups, self._n_outer = groups, int(crossing.outer.first[-1])
        self._shape = len(crossing.rest), int(crossing.inner.first[-1]), len(crossing.G)
        self._C = [np.zeros((len(one.numbers), self._shape[0], one.G.shape[1])) for one in groups]
        starts = crossing.touch_start.astype(np.int64)
        for group, own in zip(groups, self._C, strict=True):
            for one, block in enumerate(group.numbers.tolist()):
                touched = crossing.touch[starts[block] : starts[block + 1]].astype(np.int64)
                first = int(crossing.C_start[block])
                values = crossing.C[first : first + len(touched) * own.shape[2]]
                own[one, touched] = values.reshape(len(touched), -1)
        self.inverse: Floats | None = None

    def take_out(self, H: list[Floats], wy: Floats, A: Floats) -> None:
        self._H, self._wy = H, wy
        self._CH = [C @ _transposed(own) for C, own in zip(self._C, H, strict=True)]
        for group, CH, own in zip(self._groups, self._CH, H, strict=True):
            flat = np.ascontiguousarray(np.moveaxis(CH, 0, 1)).reshape(len(A), -1)
            A[:, :-1] -= flat @ flat.T
            A[:, -1] -= flat @ np.einsum("nij,nj->ni", own, wy[group.columns]).ravel()

    def way_back(self, outer: Outer) -> tuple[Floats, Floats]:
        n, V = self._n_outer, np.empty(self._shape[2])
        z = np.empty((self._shape[1], outer.Uh.shape[1]))
        for group, C, H, CH in zip(self._groups, self._C, self._H, self._CH, strict=True):
            HG, y = H @ group.G, self._wy[group.columns]
            E = C - CH @ HG
            flat = np.ascontiguousarray(np.moveaxis(E[:, :n], 0, 1)).reshape(n, -1)
            half = scipy.linalg.solve_triangular(
                outer.L, outer.Lam.T @ flat, lower=True, check_finite=False
            )
            half = np.ascontiguousarray(half.T).reshape(*group.columns.shape, n)
            V[group.places] = group.G - _transposed(HG) @ HG - half @ _transposed(half)
            own = np.empty((*group.columns.shape, z.shape[1]))
            own[:, :, :-1] = _transposed(E[:, n:])
            own[:, :, -1] = y - (_transposed(HG) @ (H @ y[:, :, None]))[:, :, 0]
            z[group.columns] = own - (flat.T @ outer.Uh).reshape(own.shape)
        return V, z


class _BlockByBlock:
    """R'W of the rows of the rest that a block touches."""

    def __init__(self, crossing: Crossing, groups: list[Group]) -> None:
        self._groups, self._crossing = groups, crossing
        first = crossing.inner.first[crossing.block_unit]
        self._where = (
            first, crossing.touch_start, crossing.touch, crossing.G_start, crossing.C_start
        )  # fmt: skip
        self._E, self._V = np.empty_like(crossing.C), np.empty_like(crossing.G)
        self._M, self._ey = np.empty_like(crossing.G), np.empty(int(first[-1]))
        self._k = np.empty(int(np.diff(first.astype(np.int64)).max()))
        self.inverse: Floats | None = None

    def take_out(self, H: list[Floats], wy: Floats, A: Floats) -> None:
        for group, own in zip(self._groups, H, strict=True):
            self._M[group.places] = _transposed(own) @ own
        _take_out(
            *self._where, self._crossing.G, self._crossing.C, self._M, wy, A, self._E, self._ey,
            self._V, self._k,
        )  # fmt: skip
        A[:, :-1] = _both_triangles(A[:, :-1])

    def way_back(self, outer: Outer) -> tuple[Floats, Floats]:
        self.inverse = _both_triangles(scipy.linalg.lapack.dpotri(outer.L, lower=1)[0])
        N = np.ascontiguousarray(outer.Lam @ (outer.Lam @ self.inverse).T)
        z = np.zeros((len(self._ey), outer.Uh.shape[1]))
        z[:, -1] = self._ey
        _way_back(*self._where, self._E, N, outer.Uh, self._V, z, self._k)
        return self._V, z


def _both_triangles(lower: Floats) -> Floats:
    return np.tril(lower) + np.tril(lower, -1).T


@lean_kernel
def _take_out(first, touch_start, touch, G_start, C_start, G, C, M, wy, A, E, ey, V, k):
    """Take out of A, and leave E = R'W - R'W M W'W, W'y - W'W M W'y and V = W'W - W'W M W'W."""
    y = U(A.shape[1]) - U(1)
    for s in range(U(len(G_start))):
        start, g, c = first[s], G_start[s], C_start[s]
        b, n = first[s + U(1)] - start, touch_start[s + U(1)] - touch_start[s]
        own = touch[touch_start[s] :]
        for i in range(b):
            ey[start + i] = wy[start + i]
            for j in range(b):
                V[g + i * b + j] = G[g + i * b + j]
        for i in range(b):  # rows of W'W M
            _times(k, G[g + i * b :], M[g:], b)
            for j in range(b):
                ey[start + i] -= k[j] * wy[start + j]
                for m in range(b):
                    V[g + i * b + j] -= k[m] * G[g + m * b + j]
        for r in range(n):
            _times(k, C[c + r * b :], M[g:], b)
            for i in range(b):
                E[c + r * b + i] = C[c + r * b + i]
                A[own[r], y] -= k[i] * wy[start + i]
                for m in range(b):
                    E[c + r * b + i] -= k[m] * G[g + m * b + i]
                for q in range(r + U(1)):
                    A[own[r], own[q]] -= k[i] * C[c + q * b + i]


@step
def _times(out, x, M, b):
    """Put x'M into out."""
    for j in range(b):
        out[j] = 0.0
        for m in range(b):
            out[j] += x[m] * M[m * b + j]


@lean_kernel
def _way_back(first, touch_start, touch, G_start, C_start, E, N, Uh, V, z, k):
    """Take E' N E out of V, add E_X' to z and take E_O' U out of it."""
    n_outer = U(len(N))
    for s in range(U(len(G_start))):
        start, g, c = first[s], G_start[s], C_start[s]
        b, n = first[s + U(1)] - start, touch_start[s + U(1)] - touch_start[s]
        own = touch[touch_start[s] :]
        for r in range(n):
            row = own[r]
            for i in range(b):
                e = E[c + r * b + i]
                if row >= n_outer:
                    z[start + i, row - n_outer] += e
                    continue
                for j in range(U(Uh.shape[1])):
                    z[start + i, j] -= e * Uh[row, j]
                k[i] = -0.5 * N[row, row] * e
                for q in range(r):
                    k[i] -= N[row, own[q]] * E[c + q * b + i]
            if row < n_outer:
                for i in range(b):
                    for j in range(b):
                        V[g + i * b + j] += E[c + r * b + i] * k[j] + k[i] * E[c + r * b + j]
