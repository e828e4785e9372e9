"""First-order conditions in Psi: D Psi = 0 and D >= 0, in the metric of sum Z'PZ."""

from dataclasses import dataclass

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.replicates import (
    back_substitution,
    forward_substitution,
    product,
    semidefinite_factor,
    symmetric_eigen,
    transpose,
)
from mcsim.engine.blocks import Blocks, block_of, covariance

CERTIFICATE_TOLERANCE = 1e-6  # relative violation of the first-order conditions
NEGLIGIBLE = 1e-4  # size of Psi in this metric: what it can change in -2 logLik
LARGE = 1e4  # size of Psi, SDs a hundred times sigma: the ridge hides what the data say of it
ROUGHLY = 1e-3  # so that a large Psi may be off by a thousandth of itself: rounding moves it
RIDGE = 1e-9  # of the residual degrees of freedom, for directions that the data say nothing of


@dataclass(frozen=True)
class Certificate:
    """How far points are from the first-order conditions.

    violation : (n,) relative; lowest : (n,) the most negative eigenvalue of D, 0 where none is
        more than rounding; block : (n,) where that is
    direction : (n, q) its eigenvector v within the block, with v'Nv = 1 for N = sum Z'PZ
    """

    violation: Floats
    lowest: Floats
    block: Ints
    direction: Floats


def certify(
    blocks: Blocks, nu: float | Floats, order: Ints, theta: Floats, D: Floats, N: Floats
) -> Certificate:
    """Judge the points theta (n, n_theta) by D and N = sum Z'PZ there, (n, n_levels, q, q)."""
    n, ridge = len(theta), RIDGE * np.reshape(nu, (-1, 1, 1)) * np.ones((len(theta), 1, 1))
    violation, lowest = np.zeros(n), np.zeros(n)
    worst, direction = np.zeros(n, dtype=np.int64), np.zeros((n, blocks.Q.shape[1]))
    for b, size in enumerate(blocks.size.tolist()):
        own_D, own_N = block_of(blocks, b, D), block_of(blocks, b, N)
        Psi = covariance(blocks, order, theta, b)
        C, scaled, share = _scaled(own_D, own_N + ridge * np.eye(size), Psi)
        values, vectors = symmetric_eigen(scaled)
        smallest = np.argmin(values, axis=1)
        eigenvalue = values[np.arange(n), smallest]
        violation = np.maximum(violation, np.maximum(share, -eigenvalue))
        if len(large := np.flatnonzero(_norm(Psi) > LARGE)):
            small_ridge = ridge[large] * _inverse(np.eye(size) + Psi[large])
            *_, in_its_measure = _scaled(own_D[large], own_N[large] + small_ridge, Psi[large])
            violation[large] = np.maximum(violation[large], ROUGHLY * in_its_measure)
        is_worst = (eigenvalue < lowest) & (eigenvalue < -CERTIFICATE_TOLERANCE)
        vector = back_substitution(C, vectors[np.arange(n), :, smallest][:, :, None])[:, :, 0]
        lowest[is_worst], worst[is_worst] = eigenvalue[is_worst], b
        direction[is_worst] = 0.0
        direction[is_worst, :size] = vector[is_worst]
    return Certificate(violation, lowest, worst, direction)


def _scaled(D: Floats, N: Floats, Psi: Floats) -> tuple[Floats, Floats, Floats]:
    """Root C of N, C^-1 D C^-T, and how far D Psi is from 0, relative to Psi in this metric."""
    C = semidefinite_factor(N)
    half = forward_substitution(C, D)
    scaled = forward_substitution(C, transpose(half))
    scaled = 0.5 * (scaled + transpose(scaled))
    root = product(transpose(C), semidefinite_factor(Psi))
    in_metric = product(root, transpose(root))
    size = np.maximum(_norm(in_metric), NEGLIGIBLE)
    return C, scaled, _norm(product(scaled, in_metric)) / size


def _inverse(A: Floats) -> Floats:
    root = semidefinite_factor(A)
    half = forward_substitution(root, np.tile(np.eye(A.shape[1]), (len(A), 1, 1)))
    return product(transpose(half), half)


def _norm(P: Floats) -> Floats:
    total = np.zeros(len(P))
    for i in range(P.shape[1]):
        for j in range(P.shape[2]):
            total += P[:, i, j] ** 2
    return np.sqrt(total)
