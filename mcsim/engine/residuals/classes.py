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

from mcsim.engine.arithmetic.arrays import Floats, Ints, Positions
from mcsim.engine.arithmetic.basis import orthonormal_basis
from mcsim.engine.arithmetic.compiled import lean_kernel
from mcsim.engine.nested.classes import TreeBuilder, stacked
from mcsim.engine.nested.moments import Reduction
from mcsim.engine.nested.tree import Tree
from mcsim.engine.residuals.structure import ResidualStructure, UnitRows

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


@dataclass(frozen=True)
class ResidualDesign:
    """What a compiled design knows of its residuals."""

    structure: ResidualStructure
    whitening: Whitening
    units: UnitRows

    @property
    def k(self) -> int:
        """Largest rank of an innermost unit."""
        return len(self.whitening.QN[0])


def residual_design(
    builder: TreeBuilder,
    tree: Tree,
    structure: ResidualStructure,
    reduction: Reduction,
    stratum: Ints,
) -> tuple[ResidualDesign, Reduction]:
    """What R changes in a design, and the reduction of responses to moments of u.

    Parameters
    ----------
    reduction : to moments of t
    stratum : (n_rows,) in the compiled order
    """
    leaves = builder.leaves
    k = max(leaf.Q.shape[1] for leaf in leaves)
    images = [structure.products(leaf.Q, leaf.stratum) for leaf in leaves]
    beside = [
        orthonormal_basis(np.hstack([leaf.Q, *image]))[0][:, leaf.Q.shape[1] :]
        for leaf, image in zip(leaves, images, strict=True)
    ]
    k_P = max(P.shape[1] for P in beside)
    products = np.zeros((structure.n_forms, k, k + k_P, len(leaves)))
    for c, (leaf, image, P) in enumerate(zip(leaves, images, beside, strict=True)):
        for m, NQ in enumerate(image):
            rank = NQ.shape[1]
            products[m, :rank, :rank, c] = NQ.T @ leaf.Q
            products[m, :rank, k : k + P.shape[1], c] = NQ.T @ P
    classes = [builder.kinds[kind].class_number for kind in builder.unit_kinds[0]]
    units = UnitRows(reduction.row_start, _unsigned(classes), _unsigned(stratum))
    found = ResidualDesign(structure, _whitening(builder, tree, structure, products), units)
    basis = np.vstack([stacked([leaf.Q for leaf in leaves], k), stacked(beside, k_P)])
    return found, _with_basis(reduction, basis)


def _whitening(
    builder: TreeBuilder, tree: Tree, structure: ResidualStructure, products: Floats
) -> Whitening:
    width, n_leaves = tree.model.width, len(builder.leaves)
    sizes = np.array([len(leaf.Q) for leaf in builder.leaves])
    group = np.unique(sizes, return_inverse=True)[1] if structure.by_size else 0 * sizes
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


def _with_basis(reduction: Reduction, basis: Floats) -> Reduction:
    """The reduction to moments of u by the basis (k + k_P, n) of the innermost units."""
    old = reduction.leaf_columns
    columns = np.zeros((len(old), len(basis), old.shape[2]))
    n = min(old.shape[1], len(basis))  # what is left are zeros on either side
    columns[:, :n] = old[:, :n]
    return reduction._replace(basis=basis, leaf_columns=columns)


def sum_forms(design: ResidualDesign, reduction: Reduction, responses: Floats) -> Floats:
    """Sums of e'N_m e of responses in the compiled order: (n_replicates, n_forms x n_leaves)."""
    n_forms, n_leaves = design.structure.n_forms, len(design.whitening.group)
    sums, e = np.zeros((len(responses), n_forms, n_leaves)), responses.copy()
    _take_out_bases(design.k, reduction, responses, e)
    design.structure.sum_forms(e, design.units, sums)
    return sums.reshape(len(responses), n_forms * n_leaves)


@lean_kernel
def _take_out_bases(k, reduction, responses, e):
    """Leave of every innermost unit what lies outside the first k vectors of its basis."""
    row_start, basis_start, basis = reduction.row_start, reduction.basis_start, reduction.basis
    for r in range(len(responses)):
        y, rest = responses[r], e[r]
        for unit in range(U(len(basis_start))):
            first, last, base = row_start[unit], row_start[unit + U(1)], basis_start[unit]
            for i in range(k):
                s = 0.0
                for row in range(first, last):
                    s += basis[i, base + row - first] * y[row]
                for row in range(first, last):
                    rest[row] -= basis[i, base + row - first] * s
