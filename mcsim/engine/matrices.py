"""Small matrices, compiled: one at a time, or one per class along a shared last axis."""

import numpy as np

from mcsim.engine.compiled import kernel

RANK_TOLERANCE = 1e-10  # share of a column's length that must be new for it to join the basis


@kernel
def multiply(out, P, Q, start, stop):  # type: ignore[no-untyped-def]
    """Put P Q into out, class by class."""
    for i in range(P.shape[0]):
        for j in range(Q.shape[1]):
            for c in range(start, stop):
                out[i, j, c] = P[i, 0, c] * Q[0, j, c]
            for m in range(1, P.shape[1]):
                for c in range(start, stop):
                    out[i, j, c] += P[i, m, c] * Q[m, j, c]


@kernel
def multiply_transposed(out, P, Q, start, stop):  # type: ignore[no-untyped-def]
    """Put P' Q into out, class by class."""
    for i in range(P.shape[1]):
        for j in range(Q.shape[1]):
            for c in range(start, stop):
                out[i, j, c] = P[0, i, c] * Q[0, j, c]
            for m in range(1, P.shape[0]):
                for c in range(start, stop):
                    out[i, j, c] += P[m, i, c] * Q[m, j, c]


@kernel
def add_cross_product(R, C, child, out, parent, count):  # type: ignore[no-untyped-def]
    """Add count C' R C of one child to its parent."""
    k = C.shape[0]
    for i in range(C.shape[1]):
        for m in range(k):
            s = C[0, i] * R[0, m, child]
            for j in range(1, k):
                s += C[j, i] * R[j, m, child]
            s *= count
            for j in range(C.shape[1]):
                out[i, j, parent] += s * C[m, j]


@kernel
def orthonormal_basis(W, n_wanted):  # type: ignore[no-untyped-def]
    """Q and coefficients with W = Q coefficients for the span of W, columns taken in order.

    Gram-Schmidt, twice (Giraud et al. 2005: twice is enough); `n_wanted` bounds the rank.
    """
    n, m = W.shape
    Q = np.zeros((n, n_wanted))
    coefficients = np.zeros((n_wanted, m))
    rank = 0
    for j in range(m):
        rest = W[:, j].copy()
        length = np.sqrt(np.sum(rest * rest))
        for _ in range(2):
            for i in range(rank):
                s = np.sum(Q[:, i] * rest)
                coefficients[i, j] += s
                rest -= s * Q[:, i]
        left = np.sqrt(np.sum(rest * rest))
        if left > RANK_TOLERANCE * length and rank < n_wanted:
            Q[:, rank] = rest / left
            coefficients[rank, j] = left
            rank += 1
    return Q, coefficients, rank


@kernel
def times_transpose(L):  # type: ignore[no-untyped-def]
    """L L'."""
    product = np.zeros((L.shape[0], L.shape[0]))
    for i in range(L.shape[0]):
        for j in range(L.shape[0]):
            for m in range(L.shape[1]):
                product[i, j] += L[i, m] * L[j, m]
    return product


@kernel
def semidefinite_factor(Psi, held):  # type: ignore[no-untyped-def]
    """Lower triangular factor of Psi, its columns `held` (and those without a pivot) zero."""
    n = len(Psi)
    L = np.zeros((n, n))
    for j in range(n):
        pivot = Psi[j, j]
        for m in range(j):
            pivot -= L[j, m] * L[j, m]
        if held[j] or pivot <= 1e-14 * Psi[j, j] or pivot <= 0.0:
            continue
        L[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            s = Psi[i, j]
            for m in range(j):
                s -= L[i, m] * L[j, m]
            L[i, j] = s / L[j, j]
    return L


@kernel
def forward_substitution(L, b):  # type: ignore[no-untyped-def]
    """Solve L x = b."""
    x = b.copy()
    for i in range(len(x)):
        for m in range(i):
            x[i] -= L[i, m] * x[m]
        x[i] /= L[i, i]
    return x


@kernel
def solve_factored(L, b):  # type: ignore[no-untyped-def]
    """Solve L L' x = b."""
    x = b.copy()
    for i in range(len(x)):
        for m in range(i):
            x[i] -= L[i, m] * x[m]
        x[i] /= L[i, i]
    for i in range(len(x) - 1, -1, -1):
        for m in range(i + 1, len(x)):
            x[i] -= L[m, i] * x[m]
        x[i] /= L[i, i]
    return x


@kernel
def symmetric_eigen(A):  # type: ignore[no-untyped-def]
    """Eigenvalues and eigenvectors (columns) by Jacobi rotations; exact enough for q <= 10."""
    n = len(A)
    A = A.copy()
    V = np.eye(n)
    for _ in range(60):
        largest = 0.0
        for p in range(n):
            for q in range(p + 1, n):
                largest = max(largest, abs(A[p, q]))
                if abs(A[p, q]) < 1e-300:
                    continue
                angle = 0.5 * np.arctan2(2.0 * A[p, q], A[q, q] - A[p, p])
                c, s = np.cos(angle), np.sin(angle)
                for i in range(n):
                    A[i, p], A[i, q] = c * A[i, p] - s * A[i, q], s * A[i, p] + c * A[i, q]
                for i in range(n):
                    A[p, i], A[q, i] = c * A[p, i] - s * A[q, i], s * A[p, i] + c * A[q, i]
                for i in range(n):
                    V[i, p], V[i, q] = c * V[i, p] - s * V[i, q], s * V[i, p] + c * V[i, q]
        if largest <= 1e-16 * np.max(np.abs(A)):
            break
    return np.diag(A).copy(), V
