"""Small matrices, many at a time: one per position of a shared last axis.

Positions are unsigned: the compiler then knows that an index cannot count from the end of the
axis, and uses vector instructions. An argument `x0` is the position where operand x begins.
"""

import numpy as np

from mcsim.engine.compiled import kernel

PARTIAL_SUMS = 8  # running sums per lane, so that no addition waits for the one before it


@kernel
def multiply(out, o0, P, p0, Q, q0, n):  # type: ignore[no-untyped-def]
    """Put P Q into out."""
    inner = P.shape[1]
    for i in range(P.shape[0]):
        for j in range(Q.shape[1]):
            if inner == 1:
                for c in range(n):
                    out[i, j, o0 + c] = P[i, 0, p0 + c] * Q[0, j, q0 + c]
            else:
                for c in range(n):
                    out[i, j, o0 + c] = (
                        P[i, 0, p0 + c] * Q[0, j, q0 + c] + P[i, 1, p0 + c] * Q[1, j, q0 + c]
                    )
            for m in range(2, inner):
                for c in range(n):
                    out[i, j, o0 + c] += P[i, m, p0 + c] * Q[m, j, q0 + c]


@kernel
def multiply_transposed(out, o0, P, p0, Q, q0, n):  # type: ignore[no-untyped-def]
    """Put P' Q into out."""
    inner = P.shape[0]
    for i in range(P.shape[1]):
        for j in range(Q.shape[1]):
            if inner == 1:
                for c in range(n):
                    out[i, j, o0 + c] = P[0, i, p0 + c] * Q[0, j, q0 + c]
            else:
                for c in range(n):
                    out[i, j, o0 + c] = (
                        P[0, i, p0 + c] * Q[0, j, q0 + c] + P[1, i, p0 + c] * Q[1, j, q0 + c]
                    )
            for m in range(2, inner):
                for c in range(n):
                    out[i, j, o0 + c] += P[m, i, p0 + c] * Q[m, j, q0 + c]


@kernel
def multiply_by_transpose(out, o0, P, p0, Q, q0, n):  # type: ignore[no-untyped-def]
    """Put P Q' into out."""
    inner = P.shape[1]
    for i in range(P.shape[0]):
        for j in range(Q.shape[0]):
            if inner == 1:
                for c in range(n):
                    out[i, j, o0 + c] = P[i, 0, p0 + c] * Q[j, 0, q0 + c]
            else:
                for c in range(n):
                    out[i, j, o0 + c] = (
                        P[i, 0, p0 + c] * Q[j, 0, q0 + c] + P[i, 1, p0 + c] * Q[j, 1, q0 + c]
                    )
            for m in range(2, inner):
                for c in range(n):
                    out[i, j, o0 + c] += P[i, m, p0 + c] * Q[j, m, q0 + c]


@kernel
def apply(out, o0, P, p0, v, v0, n):  # type: ignore[no-untyped-def]
    """Put P v into out; v is a vector per position."""
    for i in range(P.shape[0]):
        for c in range(n):
            out[i, o0 + c] = P[i, 0, p0 + c] * v[0, v0 + c]
        for m in range(1, P.shape[1]):
            for c in range(n):
                out[i, o0 + c] += P[i, m, p0 + c] * v[m, v0 + c]


@kernel
def apply_transposed(out, o0, P, p0, v, v0, n):  # type: ignore[no-untyped-def]
    """Put P' v into out; v is a vector per position."""
    for i in range(P.shape[1]):
        for c in range(n):
            out[i, o0 + c] = P[0, i, p0 + c] * v[0, v0 + c]
        for m in range(1, P.shape[0]):
            for c in range(n):
                out[i, o0 + c] += P[m, i, p0 + c] * v[m, v0 + c]


@kernel
def inner_product(out, o0, P, p0, Q, q0, n):  # type: ignore[no-untyped-def]
    """Put sum P_ij Q_ij into out."""
    for c in range(n):
        out[o0 + c] = 0.0
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(n):
                out[o0 + c] += P[i, j, p0 + c] * Q[i, j, q0 + c]


@kernel
def factorise(K, k0, n):  # type: ignore[no-untyped-def]
    """Lower Cholesky factor of K, in place."""
    for j in range(K.shape[0]):
        for i in range(j, K.shape[0]):
            for m in range(j):
                for c in range(n):
                    K[i, j, k0 + c] -= K[i, m, k0 + c] * K[j, m, k0 + c]
            if i == j:
                for c in range(n):
                    K[i, j, k0 + c] = np.sqrt(K[i, j, k0 + c])
            else:
                for c in range(n):
                    K[i, j, k0 + c] /= K[j, j, k0 + c]


@kernel
def substitute(L, l0, X, x0, n):  # type: ignore[no-untyped-def]
    """Put L^-1 X into X, for lower triangular L."""
    for j in range(X.shape[1]):
        for i in range(L.shape[0]):
            for m in range(i):
                for c in range(n):
                    X[i, j, x0 + c] -= L[i, m, l0 + c] * X[m, j, x0 + c]
            for c in range(n):
                X[i, j, x0 + c] /= L[i, i, l0 + c]


@kernel
def gather(out, o0, P, at, n):  # type: ignore[no-untyped-def]
    """Copy the matrices of P that stand at `at`, from o0 on."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(n):
                out[i, j, o0 + c] = P[i, j, at[o0 + c]]


@kernel
def scatter_add(out, P, p0, at, n):  # type: ignore[no-untyped-def]
    """Add the matrices of P from p0 on to those of out that stand at `at`."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(n):
                out[i, j, at[p0 + c]] += P[i, j, p0 + c]


@kernel
def spread(out, o0, small, n_repeats):  # type: ignore[no-untyped-def]
    """Repeat a row with one value per lane for every class, link or root group from o0 on."""
    width = np.uint64(len(small))
    if width == 1:
        for c in range(n_repeats):
            out[o0 + c] = small[0]
        return
    for c in range(n_repeats):
        for lane in range(width):
            out[o0 + c * width + lane] = small[lane]


@kernel
def add_up(out, values, v0, n, sums):  # type: ignore[no-untyped-def]
    """Add values to out, lane by lane, in an order that depends on the design alone."""
    width = np.uint64(len(out))
    if n <= np.uint64(PARTIAL_SUMS) * width:
        for c in range(np.uint64(0), n, width):
            for lane in range(width):
                out[lane] += values[v0 + c + lane]
        return
    stride = np.uint64(PARTIAL_SUMS) * width
    for c in range(stride):
        sums[c] = values[v0 + c]
    for base in range(stride, n, stride):
        for c in range(min(stride, n - base)):
            sums[c] += values[v0 + base + c]
    for part in range(np.uint64(0), stride, width):
        for lane in range(width):
            out[lane] += sums[part + lane]
