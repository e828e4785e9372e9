"""Small matrices, many at a time: one per position of a shared last axis.

Positions are unsigned: the compiler then knows that an index cannot count from the end of the
axis, and uses vector instructions. An argument `x0` is the position where operand x begins.
"""

import numpy as np

from mcsim.engine.arithmetic.compiled import step

PARTIAL_SUMS = 8  # running sums per lane, so that no addition waits for the one before it


@step
def multiply(out, o0, P, p0, Q, q0, n):
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


@step
def multiply_transposed(out, o0, P, p0, Q, q0, n):
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


@step
def multiply_by_transpose(out, o0, P, p0, Q, q0, n):
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


@step
def apply(out, o0, P, p0, v, v0, n):
    """Put P v into out; v is a vector per position."""
    for i in range(P.shape[0]):
        for c in range(n):
            out[i, o0 + c] = P[i, 0, p0 + c] * v[0, v0 + c]
        for m in range(1, P.shape[1]):
            for c in range(n):
                out[i, o0 + c] += P[i, m, p0 + c] * v[m, v0 + c]


@step
def apply_transposed(out, o0, P, p0, v, v0, n):
    """Put P' v into out; v is a vector per position."""
    for i in range(P.shape[1]):
        for c in range(n):
            out[i, o0 + c] = P[0, i, p0 + c] * v[0, v0 + c]
        for m in range(1, P.shape[0]):
            for c in range(n):
                out[i, o0 + c] += P[m, i, p0 + c] * v[m, v0 + c]


@step
def inner_product(out, start, sign, P, Q, n):
    """Put sign times sum P_ij Q_ij into out."""
    for c in range(n):
        out[start + c] = 0.0
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(n):
                out[start + c] += sign * P[i, j, start + c] * Q[i, j, start + c]


@step
def inner_product_of_vectors(out, start, sign, v, w, n):
    """Put sign times v'w into out."""
    for c in range(n):
        out[start + c] = 0.0
    for i in range(v.shape[0]):
        for c in range(n):
            out[start + c] += sign * v[i, start + c] * w[i, start + c]


@step
def factorise(K, k0, n):
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


@step
def substitute(L, l0, X, x0, n):
    """Put L^-1 X into X, for lower triangular L."""
    for j in range(X.shape[1]):
        for i in range(L.shape[0]):
            for m in range(i):
                for c in range(n):
                    X[i, j, x0 + c] -= L[i, m, l0 + c] * X[m, j, x0 + c]
            for c in range(n):
                X[i, j, x0 + c] /= L[i, i, l0 + c]


@step
def substitute_back(L, X, n):
    """Put L'^-1 X into X, for lower triangular L."""
    for j in range(X.shape[1]):
        for i in range(L.shape[0] - 1, -1, -1):
            for m in range(i + 1, L.shape[0]):
                for c in range(n):
                    X[i, j, c] -= L[m, i, c] * X[m, j, c]
            for c in range(n):
                X[i, j, c] /= L[i, i, c]


@step
def gather(out, o0, P, at, n, in_order):
    """Copy the matrices of P that stand at `at`, from o0 on; `in_order` if one after the other."""
    first = at[o0]
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            if in_order:
                for c in range(n):
                    out[i, j, o0 + c] = P[i, j, first + c]
            else:
                for c in range(n):
                    out[i, j, o0 + c] = P[i, j, at[o0 + c]]


@step
def scatter_add(out, P, p0, at, n, in_order):
    """Add the matrices of P from p0 on to those of out that stand at `at`."""
    first = at[p0]
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            if in_order:
                for c in range(n):
                    out[i, j, first + c] += P[i, j, p0 + c]
            else:
                for c in range(n):
                    out[i, j, at[p0 + c]] += P[i, j, p0 + c]


@step
def spread(out, o0, small, n_repeats):
    """Repeat matrices, one per lane, for every class, link or root group from o0 on."""
    for i in range(small.shape[0]):
        for j in range(small.shape[1]):
            _repeat(out[i, j, o0:], small[i, j], n_repeats)


@step
def spread_vectors(out, small, n_repeats):
    """Repeat vectors, one per lane."""
    for i in range(len(small)):
        _repeat(out[i], small[i], n_repeats)


@step
def spread_row(out, small):
    """Repeat numbers, one per lane, as often as there is room."""
    _repeat(out, small, np.uint64(len(out)) // np.uint64(len(small)))


@step
def _repeat(out, small, n_repeats):
    width = np.uint64(len(small))
    if width == 1:
        for c in range(n_repeats):
            out[c] = small[0]
        return
    for c in range(n_repeats):
        for lane in range(width):
            out[c * width + lane] = small[lane]


@step
def add_up(out, values, v0, n, sums):
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


@step
def fill(out, o0, value, n):
    """Put one number into the vectors (k, positions) from o0 on."""
    for i in range(out.shape[0]):
        for c in range(n):
            out[i, o0 + c] = value


@step
def fill_matrices(out, o0, value, n):
    """Put one number into all entries of the matrices from o0 on."""
    for i in range(out.shape[0]):
        fill(out[i], o0, value, n)


@step
def times(P, p0, weights, n):
    """Multiply each matrix of P by the weight at its position."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(n):
                P[i, j, p0 + c] *= weights[p0 + c]


@step
def take_from_identity(out, P, start, n):
    """Put I - P into out."""
    for i in range(P.shape[0]):
        for j in range(P.shape[0]):
            one = 1.0 if i == j else 0.0
            for c in range(n):
                out[i, j, start + c] = one - P[i, j, start + c]


@step
def take_from(out, v, start, n):
    """Put v - out into out."""
    for i in range(out.shape[0]):
        for c in range(n):
            out[i, start + c] = v[i, start + c] - out[i, start + c]


@step
def add_at(out, o0, v, at, n):
    """Add the vectors of v that stand at `at` to out, from o0 on."""
    for i in range(out.shape[0]):
        for c in range(n):
            out[i, o0 + c] += v[i, at[o0 + c]]


@step
def add_to(out, v, weights, at, v0, n):
    """Add the vectors of v, weighted, from v0 on to those of out that stand at `at`."""
    for i in range(out.shape[0]):
        for c in range(n):
            out[i, at[v0 + c]] += weights[v0 + c] * v[i, v0 + c]


@step
def add_vectors(out, v, start, n):
    """Add v to out."""
    for i in range(v.shape[0]):
        for c in range(n):
            out[i, start + c] += v[i, start + c]


@step
def subtract(out, a, b, start, n):
    """Put a - b into out: numbers."""
    for c in range(n):
        out[start + c] = a[start + c] - b[start + c]


@step
def weigh(out, P, weights, n):
    """Put each matrix of P times the weight at its position into out."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(n):
                out[i, j, c] = weights[c] * P[i, j, c]


@step
def add_difference(out, a, P, b, Q, start, n):
    """Add a P - b Q to out, with a weight per position."""
    for i in range(P.shape[0]):
        for j in range(P.shape[1]):
            for c in range(start, start + n):
                out[i, j, c] += a[c] * P[i, j, c] - b[c] * Q[i, j, c]


@step
def add_square(out, v, weights, start, n):
    """Add v v', weighted, to out."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for c in range(start, start + n):
                out[i, j, c] += weights[c] * v[i, c] * v[j, c]
