"""Least squares with the true covariance of the responses, which no analysis knows.

Letters: X fixed effects, V = R + Z Z' the covariance, R that of the residuals, Z the columns of the
random effects times a root of their covariance. V^-1 by Woodbury's identity: level by level where
units nest, with sparse Z where they cross.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import Floats, Ints
from mcsim.engine.arithmetic.unit_sums import weighted_sums
from mcsim.engine.crossed.partitions import units_that_cross
from mcsim.simulate.responses import Simulator

ROUNDING = 1e-7  # of the columns of X, in units of residuals: how far V V^-1 X may be from them


@dataclass(frozen=True, eq=False)
class TrueLeastSquares:
    """Generalized least squares of contrasts of the fixed effects, with the true covariance.

    weights : (k, n_rows) of the responses; of_offset : (k,) what is taken off again
    mean, std_error : (k,) of the estimates
    """

    weights: Floats
    of_offset: Floats
    mean: Floats
    std_error: Floats

    def of(self, responses: Floats) -> Floats:
        """Estimates from responses (n_replicates, n_rows): (n_replicates, k)."""
        return weighted_sums(responses, self.weights) - self.of_offset


def true_least_squares(
    simulator: Simulator, X: Floats, L: Floats, offset: Floats | float = 0.0
) -> TrueLeastSquares | None:
    """Least squares of L beta, L (k, p); None where rounding leaves nothing of it.

    The responses are to be normal, and their covariance the same for any mean.

    Parameters
    ----------
    offset : (n_rows,) part of the responses that is no effect
    """
    scale = np.abs(X).max(axis=0)
    root, contrasts = _Root(simulator), L / scale
    if not root.sd.all():
        return None
    try:
        of_rows, information = _inverse_times(root, simulator, X / scale)
        covariance = np.linalg.inv(information)
    except np.linalg.LinAlgError:
        return None
    weights = of_rows @ (covariance @ contrasts.T)
    variance = np.einsum("ki,ij,kj->k", contrasts, covariance, contrasts)
    if not (variance > 0.0).all():
        return None
    weights = np.ascontiguousarray(weights.T)
    of_offset = weights @ (offset + np.zeros(len(X)))
    mean = weights @ simulator.mean - of_offset
    return TrueLeastSquares(weights, of_offset, mean, np.sqrt(variance))


def _inverse_times(root: "_Root", simulator: Simulator, X: Floats) -> tuple[Floats, Floats]:
    """V^-1 X and X'V^-1 X; a LinAlgError where rounding leaves nothing of them."""
    white = root.solve(X)
    levels = [
        _Level(root.solve(one.Z_of_rows @ one.factor), simulator.design.unit_of_row[one.level])
        for one in simulator.effects
    ]
    do_cross = units_that_cross([one.unit for one in levels])
    rest = _without_crossed(levels, white) if do_cross else _without_nested(levels, white)
    again = sum((one.times(one.transposed_times(rest)) for one in levels), rest)
    error = np.abs(again - white).max(axis=0)
    if (error > ROUNDING * np.abs(white).max(axis=0)).any():
        raise np.linalg.LinAlgError
    return root.solve(rest, is_transposed=True), white.T @ rest


def variances_of_units(simulator: Simulator, weights: Floats, unit: Ints) -> Floats:
    """Of the weighted sums (weights (n_rows,)) of the responses of units (n_rows,): (n_units,).

    The units are to hold those of all random effects, and residuals to be independent.
    """
    variances = np.bincount(unit, (weights * simulator.sigma) ** 2)
    for one in simulator.effects:
        level = _Level(one.Z_of_rows @ one.factor, simulator.design.unit_of_row[one.level])
        squares = np.sum(level.transposed_times(weights[:, None]) ** 2, axis=(1, 2))
        of_unit = unit[np.unique(level.unit, return_index=True)[1]]
        variances += np.bincount(of_unit, squares, minlength=len(variances))
    return np.asarray(variances)


class _Level:
    """The effects of a level, of variance one.

    Z : (n_rows, q), the columns of the row's own unit; unit : (n_rows,)
    """

    def __init__(self, Z: Floats, unit: Ints) -> None:
        self.Z, self.unit = Z, unit
        self._order = np.argsort(unit, kind="stable") if np.any(np.diff(unit) < 0) else slice(None)
        self._start = np.flatnonzero(np.diff(unit[self._order], prepend=-1))

    def transposed_times(self, columns: Floats) -> Floats:
        """Z_u' columns (n_rows, k) of every unit u: (n_units, q, k)."""
        products = self.Z[:, :, None] * columns[:, None, :]
        return np.add.reduceat(products[self._order], self._start)

    def times(self, effects: Floats, Z: Floats | None = None) -> Floats:
        """Z, or another matrix of its shape, times effects (n_units, q, k): (n_rows, k)."""
        return np.asarray(np.einsum("nq,nqk->nk", self.Z if Z is None else Z, effects[self.unit]))


def _without_nested(levels: Sequence[_Level], columns: Floats) -> Floats:
    """The inverse of I + Z Z' times columns (n_rows, k), of levels outermost first.

    From the innermost level outwards: what is inverted so far, times the columns and the Z of the
    levels that are left, has rows that stay within the units of these.
    """
    done = np.concatenate([columns, *(one.Z for one in levels)], axis=1)
    for level in reversed(levels):
        q = level.Z.shape[1]
        rest, own = done[:, :-q], done[:, -q:]
        products = level.transposed_times(done)
        A, B = np.eye(q) + products[..., -q:], products[..., :-q]
        effects = np.linalg.solve(A, B).astype(np.float64, copy=False)
        done = rest - level.times(effects, own)
    return done


def _without_crossed(levels: Sequence[_Level], columns: Floats) -> Floats:
    """As `_without_nested`, of any levels."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    blocks = []
    for one in levels:
        (n_rows, q), n_units = one.Z.shape, int(one.unit.max()) + 1
        places = np.repeat(np.arange(n_rows), q), (one.unit[:, None] * q + np.arange(q)).ravel()
        blocks.append(sparse.csr_array((one.Z.ravel(), places), (n_rows, n_units * q)))
    Z = sparse.hstack(blocks, format="csr")
    inner = sparse.eye_array(Z.shape[1], format="csc") + (Z.T @ Z).tocsc()
    return np.asarray(columns - Z @ splu(inner, permc_spec="MMD_AT_PLUS_A").solve(Z.T @ columns))


class _Root:
    """A root of the covariance of the residuals, whose blocks are the innermost units.

    sd : (n_rows,)
    """

    def __init__(self, simulator: Simulator) -> None:
        residuals, n_rows = simulator.residuals, len(simulator.mean)
        self.sd = np.full(n_rows, simulator.sigma) if residuals is None else residuals.sd
        self._blocks: list[tuple[slice, Floats]] = []
        if residuals is not None and residuals.correlate is not None:
            unit = list(simulator.design.unit_of_row.values())[-1]
            ends = [*np.flatnonzero(np.diff(unit, prepend=-1)).tolist(), n_rows]
            place = np.arange(n_rows) - np.array(ends)[unit]
            probes = (place == np.arange(place.max() + 1)[:, None]).astype(np.float64)
            roots = residuals.correlate(probes)  # column k of every block
            for first, last in itertools.pairwise(ends):
                rows = slice(first, last)
                self._blocks.append((rows, roots[: last - first, rows].T))

    def solve(self, columns: Floats, *, is_transposed: bool = False) -> Floats:
        """The inverse of the root, or of its transpose, times columns (n_rows, k)."""
        if not self._blocks:
            return columns / self.sd[:, None]
        found = columns / (1.0 if is_transposed else self.sd[:, None])
        for rows, block in self._blocks:
            found[rows] = np.linalg.solve(block.T if is_transposed else block, found[rows])
        return found / (self.sd[:, None] if is_transposed else 1.0)
