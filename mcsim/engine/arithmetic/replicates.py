"""Small matrices, one per replicate along the first axis.

Every replicate's numbers come from the same sequence of elementwise operations, so that their bits
do not depend on how many replicates there are (a library for matrices does not promise that).
"""

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats

ROUNDING = 1e-14  # of a diagonal entry: a pivot below this is none
NULL = 1e-6  # beside the largest: an eigenvalue of zero, to the error of differences
NEXT_TO_NONE = 1e-8  # of the largest: a smaller diagonal entry may be an error of differences


def product(P: Floats, Q: Floats) -> Floats:
    """P Q: (n, i, m) and (n, m, j)."""
    if P.shape[2] == 0:
        return np.zeros((len(P), P.shape[1], Q.shape[2]))
    total = P[:, :, 0, None] * Q[:, None, 0, :]
    for m in range(1, P.shape[2]):
        total += P[:, :, m, None] * Q[:, None, m, :]
    return total


def apply(P: Floats, v: Floats) -> Floats:
    """P v: (n, i, m) and (n, m)."""
    return product(P, v[:, :, None])[:, :, 0]


def dot(v: Floats, w: Floats) -> Floats:
    """v'w: (n, m) and (n, m)."""
    total = v[:, 0] * w[:, 0]
    for m in range(1, v.shape[1]):
        total += v[:, m] * w[:, m]
    return total


def transpose(P: Floats) -> Floats:
    """P' of every replicate."""
    return np.swapaxes(P, 1, 2)


def semidefinite_factor(Psi: Floats, held: Flags | None = None) -> Floats:
    """Lower triangular factor; its columns `held` (n, m) and those without a pivot are zero."""
    L = np.zeros_like(Psi)
    for j in range(Psi.shape[1]):
        pivot = Psi[:, j, j].copy()
        for m in range(j):
            pivot -= L[:, j, m] ** 2
        usable = (pivot > ROUNDING * Psi[:, j, j]) & (pivot > 0.0)
        if held is not None:
            usable &= ~held[:, j]
        L[:, j, j] = np.sqrt(np.where(usable, pivot, 0.0))
        divisor = np.where(usable, L[:, j, j], 1.0)
        for i in range(j + 1, Psi.shape[1]):
            rest = Psi[:, i, j].copy()
            for m in range(j):
                rest -= L[:, i, m] * L[:, j, m]
            L[:, i, j] = np.where(usable, rest / divisor, 0.0)
    return L


def forward_substitution(L: Floats, X: Floats) -> Floats:
    """L^-1 X for lower triangular L: (n, m, m) and (n, m, k)."""
    X = X.copy()
    for i in range(L.shape[1]):
        for m in range(i):
            X[:, i] -= L[:, i, m, None] * X[:, m]
        X[:, i] /= L[:, i, i, None]
    return X


def back_substitution(L: Floats, X: Floats) -> Floats:
    """L'^-1 X for lower triangular L."""
    X = X.copy()
    for i in range(L.shape[1] - 1, -1, -1):
        for m in range(i + 1, L.shape[1]):
            X[:, i] -= L[:, m, i, None] * X[:, m]
        X[:, i] /= L[:, i, i, None]
    return X


def solve_positive(H: Floats, g: Floats) -> tuple[Floats, Flags]:
    """H^-1 g, and whether H is positive definite; zero where it is not."""
    L = semidefinite_factor(H)
    is_positive = np.all(np.einsum("nii->ni", L) > 0.0, axis=1)
    L = np.where(is_positive[:, None, None], L, np.eye(H.shape[1]))
    solution = back_substitution(L, forward_substitution(L, g[:, :, None]))[:, :, 0]
    return np.where(is_positive[:, None], solution, 0.0), is_positive


def inverse_positive(H: Floats) -> Floats:
    """H^-1, NaN where H is not positive definite."""
    n, size = H.shape[:2]
    L = semidefinite_factor(H)
    is_positive = np.all(np.einsum("nii->ni", L) > 0.0, axis=1)[:, None, None]
    half = forward_substitution(
        np.where(is_positive, L, np.eye(size)), np.tile(np.eye(size), (n, 1, 1))
    )
    return np.where(is_positive, product(transpose(half), half), np.nan)


def generalized_inverse(H: Floats) -> Floats:
    """A generalized inverse of a positive semi-definite H, whose null vectors are left out.

    What does not depend on them has the same variance by any (Rao 1973, section 4a.4).
    """
    size = np.abs(np.einsum("nii->ni", H))
    scale = np.sqrt(np.maximum(size, NEXT_TO_NONE * size.max(axis=1, keepdims=True)))
    scales = scale[:, :, None] * scale[:, None, :]
    return np.asarray(np.linalg.pinv(H / scales, rcond=NULL, hermitian=True) / scales)


def symmetric_eigen(A: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues and eigenvectors (columns), by Jacobi rotations; exact enough for q <= 10."""
    n, size = A.shape[:2]
    A = A.copy()
    V = np.tile(np.eye(size), (n, 1, 1))
    for _ in range(1 if size == 2 else 12):
        for p in range(size):
            for q in range(p + 1, size):
                angle = 0.5 * np.arctan2(2.0 * A[:, p, q], A[:, q, q] - A[:, p, p])[:, None]
                c, s = np.cos(angle), np.sin(angle)
                A[:, :, p], A[:, :, q] = (
                    c * A[:, :, p] - s * A[:, :, q],
                    s * A[:, :, p] + c * A[:, :, q],
                )
                A[:, p], A[:, q] = c * A[:, p] - s * A[:, q], s * A[:, p] + c * A[:, q]
                V[:, :, p], V[:, :, q] = (
                    c * V[:, :, p] - s * V[:, :, q],
                    s * V[:, :, p] + c * V[:, :, q],
                )
    return np.einsum("nii->ni", A).copy(), V
