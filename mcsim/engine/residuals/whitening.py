"""Put designs and moments into the lanes, each with an R of its own; derivatives in its weights.

Notation of classes.py and nested/likelihood.py. Given K and M, -2 logLik is a function of the
columns K'B and the moments of M u. With the slopes H = d / dM of its data part, and A the
cross-products I of a whitened basis,

    d / d G = K'^-1 (E slope E + n J - H M' + kappa M S_P M') K^-1,
    d / d (Q'R^-1 (Q, P)) = K'^-1 (H - 2 kappa M S_P),   d / d w_m = sum of both times Q'N_m (Q, P),

and kappa e'N_m e; S_P = sum (0, P)'y y'(0, P).
"""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.arithmetic.lanes import (
    PARTIAL_SUMS,
    add_at,
    add_up,
    apply,
    factorise,
    fill,
    fill_matrices,
    gather,
    inner_product,
    multiply,
    multiply_by_transpose,
    multiply_transposed,
    scatter_add,
    spread_row,
    spread_vectors,
    substitute,
    substitute_back,
)
from mcsim.engine.nested.steps import load_lane, store_lane
from mcsim.engine.nested.tree import Tree
from mcsim.engine.nested.workspace import Data, split_values
from mcsim.engine.residuals.classes import Whitening

U = np.uint64


class Given(NamedTuple):
    """Moments of u and sums of forms, a lane each; rows of arrays, and views of the same."""

    u: Floats
    forms: Floats  # (n_forms, positions)
    form_rows: Floats
    S: Floats  # (k + k_P, k + k_P, positions)
    link_u: Floats  # (k + k_P, positions)
    root_u: Floats


class Turned(NamedTuple):
    """Of the lanes: weights (n_forms, positions), K and M, and the derivatives H in M."""

    weights: Floats
    K: Floats  # (k, k, positions)
    M: Floats  # (k, k + k_P, positions)
    slopes: Floats


class Room(NamedTuple):
    """Room to work in; positions of classes, links or root groups."""

    K: Floats  # (k, k, positions)
    M: Floats  # (k, k + k_P, positions), as one and two
    one: Floats
    two: Floats
    square: Floats  # (k, k, positions), as other
    other: Floats
    E: Floats  # (k_tree, k_tree, positions)
    v1: Floats  # (k_tree, positions), as v2 and v3
    v2: Floats
    v3: Floats
    p1: Floats  # (p, positions)
    kappas: Floats  # (positions,), as c1
    c1: Floats
    sums: Floats


class Lanes(NamedTuple):
    """What whitening and its derivatives work on."""

    whitening: Whitening
    given: Given
    out: Data  # the moments of t, views of out_rows
    out_rows: Floats
    turned: Turned
    room: Room


def new_lanes(whitening: Whitening, tree: Tree) -> Lanes:
    """Arrays of the sizes that are needed."""
    width, n_leaves = tree.model.width, len(whitening.group)
    n_forms, k, kk, n = whitening.QN.shape
    sizes = [tree.classes.B.shape[2], tree.links.C.shape[2], tree.roots.Bx.shape[2]]
    per_lane = sizes[0] // width, sizes[1] // width, sizes[2] // width
    k_tree, p = tree.roots.Bx.shape[:2]
    u = np.zeros((kk * (kk * per_lane[0] + per_lane[1] + per_lane[2]), width))
    out = np.zeros((k_tree * (k_tree * per_lane[0] + per_lane[1] + per_lane[2]), width))
    forms, N = np.zeros((n_forms * n_leaves, width)), max(sizes)
    K = np.zeros((k, k, n + width))
    K[np.arange(k), np.arange(k), n:] = 1.0
    M, slopes = np.zeros((2, k, kk, n + width))
    squares, rectangles = np.zeros((3, k, k, N)), np.zeros((3, k, kk, N))
    v1, v2, v3 = np.zeros((3, k_tree, N))
    return Lanes(
        whitening,
        Given(u, forms.reshape(n_forms, n), forms, *split_values(u, kk, per_lane)),
        Data(*split_values(out, k_tree, per_lane)),
        out,
        Turned(np.zeros((n_forms, n)), K, M, slopes),
        Room(
            squares[0], rectangles[0], rectangles[1], rectangles[2], squares[1], squares[2],
            np.zeros((k_tree, k_tree, N)), v1, v2, v3, np.zeros((p, N)), np.zeros(N), np.zeros(N),
            np.zeros(PARTIAL_SUMS * width),
        ),
    )  # fmt: skip


@lean_kernel
def whiten(w, given, out, out_rows, turned, room, B, G, C, Bx, values, forms, rows, weights,
           lane_values, rss):  # fmt: skip
    """Put the design and the moments into the lanes, each with the weights of its point.

    B, G, C, Bx : of the tree; values, forms : of the replicates; rows : those of the points
    weights : (n_points, n_forms, n_groups)
    lane_values, rss : of the lanes, a row each
    """
    width, zero, k = len(rss), U(0), len(turned.K)
    for lane in range(width):
        point = min(lane, len(rows) - 1)  # lanes that are left over repeat the last point
        load_lane(given.u, values, rows[point], lane)
        load_lane(given.form_rows, forms, rows[point], lane)
        _load_weights(turned.weights, weights[point], w.group, lane, width)
    _factorise_leaves(w, turned, U(w.QN.shape[3]))
    _turn_columns(B, w.B, room.K, turned.K, w.leaf_of_class, k)
    _turn_columns(C, w.C, room.K, turned.K, w.leaf_of_link, k)
    _turn_columns(Bx, w.Bx, room.K, turned.K, w.leaf_of_root, k)
    multiply_transposed(G, zero, B, zero, B, zero, U(G.shape[2]))
    N = U(len(w.leaf_of_class))
    gather(room.M, zero, turned.M, w.leaf_of_class, N, False)
    multiply(room.one, zero, room.M, zero, given.S, zero, N)
    multiply_by_transpose(out.S[:k, :k], zero, room.one, zero, room.M, zero, N)
    _turn_vectors(out.link_t[:k], given.link_u, room.M, turned.M, w.leaf_of_link)
    _turn_vectors(out.root_t[:k], given.root_u, room.M, turned.M, w.leaf_of_root)
    _sum_of_rest(w, given, turned, room, rss)
    for lane in range(width):
        store_lane(lane_values, out_rows, lane, lane)


@step
def _load_weights(out, weights, group, lane, width):
    for m in range(len(out)):
        for c in range(len(group)):
            out[m, c * width + lane] = weights[m, group[c]]


@step
def _factorise_leaves(w, turned, n):
    """K and M of the classes of innermost units."""
    K, M, weights = turned.K, turned.M, turned.weights
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            for c in range(n):
                M[i, j, c] = weights[0, c] * w.QN[0, i, j, c]
            for m in range(1, len(weights)):
                for c in range(n):
                    M[i, j, c] += weights[m, c] * w.QN[m, i, j, c]
        for c in range(n):
            M[i, i, c] += w.lacking[i, c]
        for j in range(M.shape[0]):
            for c in range(n):
                K[i, j, c] = M[i, j, c]
    factorise(K, U(0), n)
    for i in range(K.shape[0]):
        for j in range(i + 1, K.shape[0]):
            for c in range(n):
                K[i, j, c] = 0.0
    substitute(K, U(0), M, U(0), n)


@step
def _turn_columns(out, columns, room, K, leaf, k):
    """Put K' times columns into out: the first k rows, the others are those of outer levels."""
    n = U(len(leaf))
    if n == 0:
        return
    gather(room, U(0), K, leaf, n, False)
    multiply_transposed(out[:k], U(0), room, U(0), columns[:k], U(0), n)


@step
def _turn_vectors(out, u, room, M, leaf):
    """Put M times sums of u into out."""
    n = U(len(leaf))
    if n == 0:
        return
    gather(room, U(0), M, leaf, n, False)
    apply(out, U(0), room, U(0), u, U(0), n)


@step
def _sum_of_rest(w, given, turned, room, rss):
    """Sum of squares outside the bases."""
    n, k = U(w.QN.shape[3]), len(turned.K)
    for c in range(n):
        room.c1[c] = 0.0
    for m in range(len(turned.weights)):
        for c in range(n):
            room.c1[c] += turned.weights[m, c] * given.forms[m, c]
    if turned.M.shape[1] > k:
        rest = turned.M[:, k:]
        multiply(room.one[:, k:], U(0), rest, U(0), given.S[k:, k:], U(0), n)
        inner_product(room.kappas, U(0), 1.0, room.one[:, k:], rest, n)
        for c in range(n):
            room.c1[c] -= room.kappas[c]
    rss[:] = 0.0
    add_up(rss, room.c1, U(0), n, room.sums)


@lean_kernel
def differentiate(w, given, turned, room, tree, at, matrices, predicted, kappa, n_units, slopes):
    """Derivatives of -2 logLik in the weights, after an evaluation of the lanes.

    tree : C and Bx; at : where the children and parents of links, and the children of root groups
    stand; matrices : A, J, E and slope; predicted : of the units of every class by the outer
    levels, and the fixed effects; kappa, n_units : per lane, and of the classes
    slopes : (n_points, n_forms, n_groups), gets them
    """
    (C, Bx), (child, parent, child_of_root), (A, J, E, slope) = tree, at, matrices
    wanted, beta = predicted
    zero, k, n = U(0), len(turned.K), U(w.QN.shape[3])
    width, N, n_links, n_roots = (
        len(kappa),
        U(len(w.leaf_of_class)),
        U(len(child)),
        U(len(Bx[0, 0])),
    )
    spread_row(room.kappas, kappa)
    fill_matrices(turned.slopes, zero, 0.0, n + U(width))
    _slopes_of_squares(room.square, room.other, A, J, E, room.kappas, n, N, k)
    gather(room.M, zero, turned.M, w.leaf_of_class, N, False)
    multiply(room.one, zero, room.M, zero, given.S, zero, N)
    multiply(room.two, zero, room.square, zero, room.one, zero, N)
    scatter_add(turned.slopes, room.two, zero, w.leaf_of_class, N, False)
    fill(room.v1, zero, 0.0, n_links)
    add_at(room.v1, zero, wanted, parent, n_links)
    apply(room.v2, zero, C, zero, room.v1, zero, n_links)
    _add_slopes_of_sums(turned.slopes, room, E, child, given.link_u, w.leaf_of_link, n_links)
    spread_vectors(room.p1, beta, n_roots // U(width))
    apply(room.v2, zero, Bx, zero, room.p1, zero, n_roots)
    _add_slopes_of_sums(turned.slopes, room, E, child_of_root, given.root_u, w.leaf_of_root,
                        n_roots)  # fmt: skip
    _slopes_of_columns(given, turned, room, E, slope, n_units, n, k)
    for m in range(slopes.shape[1]):
        inner_product(room.c1, zero, 1.0, room.square, w.QN[m, :, :k], n)
        inner_product(room.v1[0], zero, 1.0, turned.slopes, w.QN[m], n)
        for c in range(n):
            room.c1[c] += room.v1[0, c] + room.kappas[c] * given.forms[m, c]
        for lane in range(len(slopes)):
            for g in range(slopes.shape[2]):
                slopes[lane, m, g] = 0.0
            for c in range(len(w.group)):
                slopes[lane, m, w.group[c]] += room.c1[c * width + lane]


@step
def _slopes_of_squares(out, other, A, J, E, kappas, n_leaf, n, k):
    """Twice the derivatives in the moments S: kappa E, or -kappa A J A of an outer level."""
    for i in range(k):
        for j in range(k):
            for c in range(n_leaf):
                out[i, j, c] = 2.0 * kappas[c] * E[i, j, c]
    multiply(other, n_leaf, A[:k, :k], n_leaf, J[:k, :k], n_leaf, n - n_leaf)
    multiply(out, n_leaf, other, n_leaf, A[:k, :k], n_leaf, n - n_leaf)
    for i in range(k):
        for j in range(k):
            for c in range(n_leaf, n):
                out[i, j, c] *= -2.0 * kappas[c]


@step
def _add_slopes_of_sums(slopes, room, E, child, u, leaf, n):
    """Add what the sums of u do, given what is predicted of their units: room.v2."""
    if n == 0:
        return
    gather(room.E, U(0), E, child, n, False)
    apply(room.v3, U(0), room.E, U(0), room.v2, U(0), n)
    for i in range(slopes.shape[0]):
        for j in range(slopes.shape[1]):
            for c in range(n):
                slopes[i, j, leaf[c]] -= 2.0 * room.kappas[c] * room.v3[i, c] * u[j, c]


@step
def _slopes_of_columns(given, turned, room, E, slope, n_units, n, k):
    """Derivatives in Q'R^-1 Q, without that of the next: room.square; in all: turned.slopes."""
    M, H, X, other, zero = turned.M, turned.slopes, room.square, room.other, U(0)
    multiply(other, zero, E[:k, :k], zero, slope[:k, :k], zero, n)
    multiply(X, zero, other, zero, E[:k, :k], zero, n)
    multiply_by_transpose(other, zero, H, zero, M, zero, n)
    for i in range(k):
        for j in range(k):
            one = 1.0 if i == j else 0.0
            for c in range(n):
                X[i, j, c] += n_units[c] * (one - E[i, j, c]) - other[i, j, c]
    if M.shape[1] > k:
        multiply(room.one[:, k:], zero, M[:, k:], zero, given.S[k:, k:], zero, n)
        multiply_by_transpose(other, zero, room.one[:, k:], zero, M[:, k:], zero, n)
        for i in range(k):
            for j in range(k):
                for c in range(n):
                    X[i, j, c] += room.kappas[c] * other[i, j, c]
            for j in range(k, M.shape[1]):
                for c in range(n):
                    H[i, j, c] -= 2.0 * room.kappas[c] * room.one[i, j, c]
    substitute_back(turned.K, H, n)
    for i in range(k):  # the derivative in a symmetric matrix is symmetric
        for j in range(k):
            for c in range(n):
                other[i, j, c] = 0.5 * (X[i, j, c] + X[j, i, c])
    substitute_back(turned.K, other, n)
    for i in range(k):
        for j in range(k):
            for c in range(n):
                X[i, j, c] = other[j, i, c]
    substitute_back(turned.K, X, n)
