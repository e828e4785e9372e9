"""Innermost units whose residuals are not independent, as the elimination needs them.

The elimination knows residuals with covariance I. A unit with the covariance R and an orthonormal
basis Q of its columns has, with G = Q'R^-1 Q = K K', the basis R^-1/2 Q K'^-1: columns Q B become
K'B, and data t become K^-1 Q'R^-1 y. Since R^-1 is a weighted sum of known N_m, that is M u with

    u = (Q P)'y,   M = K^-1 sum w_m (Q'N_m Q, Q'N_m P),

where P completes a basis of all N_m Q. So the moments of u, taken once per replicate, give those of
t for every R. A uniform unit of an outer level has the basis of the innermost ones; all others keep
theirs, and only the links to them change. What lies outside the bases is

    sum e'R^-1 e - |M (0, P)'y|^2,   e = y - Q Q'y.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.basis import orthonormal_basis
from mcsim.engine.arithmetic.compiled import lean_kernel, step
from mcsim.engine.nested.classes import TreeBuilder, stacked
from mcsim.engine.nested.tree import Floats, Ints, Positions, Reduction, Tree
from mcsim.engine.residuals.structure import Residual

U = np.uint64


class Whitening(NamedTuple):
    """What a design has to say about any R; k is the largest rank of an innermost unit.

    Positions are those of the tree: a class (link, root group) per lane. Behind the classes of
    innermost units stands one whose K is I and whose M is zero: the leaf of all that R does not
    change.

    QN : (n_forms, k, k + k_P, positions) Q'N_m (Q, P)
    lacking : (k, positions) 1 for vectors that the basis of a class lacks
    group : (n_leaves,) which weights a class has
    leaf_of_class, leaf_of_link, leaf_of_root : position of the class whose basis they have
    B, C, Bx : of the tree where R is I
    """

    QN: Floats
    lacking: Floats
    group: Ints
    leaf_of_class: Positions
    leaf_of_link: Positions
    leaf_of_root: Positions
    B: Floats
    C: Floats
    Bx: Floats


class Forms(NamedTuple):
    """How the rows of a response become sums of e'N_m e, per class of innermost units."""

    kind: int
    n_forms: int
    k: int
    class_of_unit: Positions
    stratum: Positions  # (n_rows,)


@dataclass(frozen=True)
class ResidualDesign:
    """What a compiled design knows of its residuals.

    starts : points z from which a search may begin, each with the tree of its start
    """

    residual: Residual
    whitening: Whitening
    forms: Forms
    starts: tuple[tuple[Floats, Tree], ...] = ()


def residual_design(
    builder: TreeBuilder, tree: Tree, residual: Residual, stratum: Ints
) -> tuple[ResidualDesign, Floats]:
    """What R changes in a design, and the basis (k + k_P, n) that gives u of the innermost units.

    Parameters
    ----------
    stratum : (n_rows,) in the compiled order
    """
    leaves = builder.leaves
    k = max(leaf.Q.shape[1] for leaf in leaves)
    images = [residual.products(leaf.Q, leaf.stratum) for leaf in leaves]
    beside = [
        orthonormal_basis(np.hstack([leaf.Q, *image]))[0][:, leaf.Q.shape[1] :]
        for leaf, image in zip(leaves, images, strict=True)
    ]
    k_P = max(P.shape[1] for P in beside)
    products = np.zeros((residual.n_forms, k, k + k_P, len(leaves)))
    for c, (leaf, image, P) in enumerate(zip(leaves, images, beside, strict=True)):
        for m, NQ in enumerate(image):
            rank = NQ.shape[1]
            products[m, :rank, :rank, c] = NQ.T @ leaf.Q
            products[m, :rank, k : k + P.shape[1], c] = NQ.T @ P
    classes = [builder.kinds[kind].class_number for kind in builder.unit_kinds[0]]
    found = ResidualDesign(
        residual,
        _whitening(builder, tree, residual, products),
        Forms(residual.kind, residual.n_forms, k, _unsigned(classes), _unsigned(stratum)),
    )
    return found, np.vstack([stacked([leaf.Q for leaf in leaves], k), stacked(beside, k_P)])


def _whitening(builder: TreeBuilder, tree: Tree, residual: Residual, products: Floats) -> Whitening:
    width, n_leaves = tree.model.width, len(builder.leaves)
    sizes = np.array([len(leaf.Q) for leaf in builder.leaves])
    group = np.unique(sizes, return_inverse=True)[1] if residual.by_size else 0 * sizes
    rank = np.array([leaf.Q.shape[1] for leaf in builder.leaves])
    lacking = (np.arange(products.shape[1])[:, None] >= rank).astype(np.float64)
    of_class = _leaf_of_class(builder)
    of_link = [
        n_leaves if builder.classes[link.parent].is_uniform else of_class[link.child]
        for level in builder.links
        for link in level
    ]
    of_root = [of_class[root[0]] for root in builder.roots]
    return Whitening(
        np.repeat(products, width, axis=-1),
        np.repeat(lacking, width, axis=-1),
        group.astype(np.int64),
        _lanes(of_class, width),
        _lanes(of_link, width),
        _lanes(of_root, width),
        tree.classes.B,
        tree.links.C,
        tree.roots.Bx,
    )


def _leaf_of_class(builder: TreeBuilder) -> list[int]:
    n_leaves = len(builder.leaves)
    found = list(range(n_leaves)) + [n_leaves] * (len(builder.classes) - n_leaves)
    for level in builder.links:
        for link in level:
            if builder.classes[link.parent].is_uniform:
                found[link.parent] = found[link.child]
    return found


def _lanes(numbers: list[int], width: int) -> Positions:
    first = np.array(numbers, dtype=np.int64)[:, None] * width
    return _unsigned((first + np.arange(width)).ravel())


def _unsigned(values: Ints | list[int]) -> Positions:
    return np.asarray(values).astype(np.uint64)


def with_basis(reduction: Reduction, basis: Floats) -> Reduction:
    """The reduction of responses to moments of u."""
    old = reduction.leaf_columns
    columns = np.zeros((len(old), len(basis), old.shape[2]))
    n = min(old.shape[1], len(basis))  # what is left are zeros on either side
    columns[:, :n] = old[:, :n]
    return reduction._replace(basis=basis, leaf_columns=columns)


def sum_forms(design: ResidualDesign, reduction: Reduction, responses: Floats) -> Floats:
    """Sums of e'N_m e of responses in the compiled order: (n_replicates, n_forms x n_leaves)."""
    n_forms, n_leaves = design.forms.n_forms, len(design.whitening.group)
    sums = np.zeros((len(responses), n_forms, n_leaves))
    _sum_forms(design.forms, reduction, responses, sums, np.empty(responses.shape[1]))
    return sums.reshape(len(responses), n_forms * n_leaves)


@lean_kernel
def _sum_forms(forms, reduction, responses, sums, e):
    row_start, basis_start, basis = reduction.row_start, reduction.basis_start, reduction.basis
    for r in range(len(responses)):
        y = responses[r]
        for unit in range(U(len(basis_start))):
            first, last, base = row_start[unit], row_start[unit + U(1)], basis_start[unit]
            for row in range(first, last):
                e[row] = y[row]
            for i in range(forms.k):
                s = 0.0
                for row in range(first, last):
                    s += basis[i, base + row - first] * y[row]
                for row in range(first, last):
                    e[row] -= basis[i, base + row - first] * s
            c = forms.class_of_unit[unit]
            if forms.kind == 0:
                _add_steps(sums[r], c, e, first, last)
            elif forms.kind == 1:
                _add_mean(sums[r], c, e, first, last)
            else:
                for row in range(first, last):
                    sums[r, forms.stratum[row], c] += e[row] * e[row]


@step
def _add_steps(sums, c, e, first, last):
    """Squares, products of neighbours (twice, negative), and squares of rows between two others."""
    squares, products = 0.0, 0.0
    for row in range(first, last):
        squares += e[row] * e[row]
    for row in range(first + U(1), last):
        products += e[row] * e[row - U(1)]
    sums[0, c] += squares
    sums[1, c] -= 2.0 * products
    if last - first > U(1):
        sums[2, c] += squares - e[first] * e[first] - e[last - U(1)] * e[last - U(1)]
    else:
        sums[2, c] -= squares


@step
def _add_mean(sums, c, e, first, last):
    """Squares of the deviations from the mean, and of the mean."""
    mean = 0.0
    for row in range(first, last):
        mean += e[row]
    mean /= last - first
    for row in range(first, last):
        sums[0, c] += (e[row] - mean) * (e[row] - mean)
        sums[1, c] += mean * mean
