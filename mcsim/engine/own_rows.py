"""Designs of replicates that each have rows of their own: one stack of trees, fitted in one go."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.arithmetic.replicates import apply, product, transpose
from mcsim.engine.blocks import blocks_of, set_block
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.nested.forest import SURE, Forest, OwnRows, some_trees
from mcsim.engine.nested.likelihood import NestedLikelihood
from mcsim.engine.nested.moments import Moments
from mcsim.engine.nested.tree import Classes, Links, Model, Roots, Tree
from mcsim.engine.optimum.minque import plain_start, start_of

Structures = Sequence[tuple[tuple[str, int], ...]]  # per level, outermost first


class OwnDesigns(NamedTuple):
    """Designs of some of the replicates, and their moments.

    forest, chosen : of those replicates; numbers of them
    """

    design: CompiledDesign
    moments: Moments
    forest: Forest
    chosen: Ints


def sure_designs(
    forest: Forest, rows: OwnRows, structures: Structures, *, is_reml: bool
) -> OwnDesigns:
    """The designs, without those that would be refused, or nearly so.

    All columns of a level are to have rows in common.
    """
    chosen = np.flatnonzero(forest.is_sure & _are_sure(forest, structures))
    return _designs(forest, rows, chosen, structures, is_reml=is_reml)


def own_designs(
    forest: Forest, rows: OwnRows, structures: Structures, *, is_reml: bool
) -> OwnDesigns:
    """The same with starts of searches, without those that leave parameters open."""
    found = sure_designs(forest, rows, structures, is_reml=is_reml)
    chosen = found.chosen
    if not len(chosen):
        return found
    start = start_of(
        NestedLikelihood(_tree(found.design), found.moments), np.zeros(0), is_rough=True
    )
    is_told = np.flatnonzero([len(one) == 0 for one in start.flat])
    if len(is_told) < len(chosen):
        found = _designs(forest, rows, chosen[is_told], structures, is_reml=is_reml)
        own = start.inverse[is_told], start.traces[is_told]
        flat = tuple(start.flat[number] for number in is_told)
        start = replace(start, inverse=own[0], traces=own[1], flat=flat)
    return found._replace(design=replace(found.design, starts=(start,)))


def with_data(found: OwnDesigns, forest: Forest) -> OwnDesigns:
    """The designs with other data: a forest of the same rows."""
    own = some_trees(forest, found.chosen)
    no_forms = np.zeros((len(own.rss), 0))
    moments = Moments(_values(own, _tree(found.design)), own.beta, own.rss, no_forms)
    return found._replace(moments=moments)


def least_squares_at(
    found: OwnDesigns, covariances: Sequence[Floats], sigma: float
) -> tuple[Floats, Floats]:
    """Generalized least squares with given covariances of the random effects, outermost first.

    Returns
    -------
    Coefficients (n, p) and their covariance (n, p, p)
    """
    design, n = found.design, len(found.chosen)
    sizes = [own.shape[-1] for own in design.scales]
    meets = [np.ones((size, size), dtype=np.bool_) for size in reversed(sizes)]
    general = [(("general", size),) if size else () for size in reversed(sizes)]
    blocks = blocks_of(general, meets)
    theta, order = plain_start(blocks, n)
    innermost_first = [
        (S, Sigma) for S, Sigma in zip(design.scales, covariances, strict=True) if len(Sigma)
    ][::-1]
    for b, (S, Sigma) in enumerate(innermost_first):
        inverse = np.linalg.inv(S).astype(np.float64)
        Psi = np.broadcast_to(Sigma / sigma**2, S.shape)
        set_block(blocks, order, theta, b, product(product(inverse, Psi), transpose(inverse)))
    likelihood = NestedLikelihood(_tree(design)._replace(blocks=blocks), found.moments)
    at = likelihood.at(np.arange(n), theta, order)
    to_original = np.linalg.inv(design.R).astype(np.float64)
    covariance = product(product(to_original, at.T_inverse), transpose(to_original))
    return apply(to_original, found.moments.beta + at.beta), sigma**2 * covariance


def _tree(design: CompiledDesign) -> Tree:
    assert isinstance(design.tree, Tree)
    return design.tree


def _are_sure(forest: Forest, structures: Structures) -> Flags:
    """Whether no random effect is nearly a combination of the others of its block."""
    sure = np.ones(len(forest.n_rows), dtype=np.bool_)
    for R, level in zip(forest.R_of_level, reversed(structures), strict=True):
        for block, own in _blocks(R, level):
            if block == "general":
                length = np.sqrt(np.sum(own**2, axis=1))
                pivots = np.abs(np.einsum("nii->ni", np.linalg.qr(own, mode="r")))
                sure &= np.all(pivots > SURE * length, axis=1)
            else:
                sure &= np.any(own, axis=(1, 2))
    return sure


def _blocks(R: Floats, level: Sequence[tuple[str, int]]) -> list[tuple[str, Floats]]:
    """Structure and columns (n, q, size) of every block."""
    ends = np.cumsum([size for _, size in level], dtype=int).tolist()
    return [
        (structure, R[:, :, end - size : end])
        for (structure, size), end in zip(level, ends, strict=True)
    ]


def _scales(R: Floats, level: Sequence[tuple[str, int]]) -> Floats:
    """S (n, q, q) of a level, as compile.py makes it of its columns."""
    S, first = np.zeros(R.shape), 0
    for structure, own in _blocks(R, level):
        size = own.shape[2]
        block = slice(first, first + size)
        if structure == "general":
            inverse = np.linalg.inv(np.linalg.qr(own, mode="r")).astype(np.float64)
            S[:, block, block] = np.linalg.cholesky(product(inverse, transpose(inverse)))
        else:
            length = np.sqrt(np.sum(own**2, axis=(1, 2)))
            S[:, block, block] = np.eye(size) * (np.sqrt(size) / length)[:, None, None]
        first += size
    return S


def _designs(
    forest: Forest, rows: OwnRows, chosen: Ints, structures: Structures, *, is_reml: bool
) -> OwnDesigns:
    forest = some_trees(forest, chosen)
    p, n_levels = len(rows.X), len(rows.Z)
    is_reml = is_reml and p > 0
    scales = [
        _scales(R, level) for R, level in zip(forest.R_of_level, reversed(structures), strict=True)
    ]
    meets = [np.ones((len(own), len(own)), dtype=np.bool_) for own in reversed(rows.Z)]
    logs = np.log(np.abs(np.einsum("nii->ni", forest.R))).sum(axis=1)
    model = Model(
        1,
        (forest.n_rows - (p if is_reml else 0)).astype(np.float64),
        is_reml,
        2.0 * logs if is_reml else np.zeros(len(chosen)),
    )
    classes = _classes(forest, rows, scales)
    blocks = blocks_of([*reversed(structures)], meets)
    tree = Tree(model, classes, _links(forest), _roots(forest, rows), blocks)
    moments = Moments(_values(forest, tree), forest.beta, forest.rss, np.zeros((len(chosen), 0)))
    none = np.zeros(0, dtype=np.int64)
    design = CompiledDesign(tree, None, none, tuple(reversed(scales)), forest.R, 0)
    assert len(scales) == n_levels
    return OwnDesigns(design, moments, forest, chosen)


def _combined(coefficients: Floats, which: Ints, weights: Floats) -> Floats:
    """Columns (n, k, n_columns, n_units) times weights (n, m, m): (n, k, m, n_units)."""
    n, k, _, n_units = coefficients.shape
    found = np.zeros((n, k, weights.shape[2], n_units))
    for i, column in enumerate(which.tolist()):
        for j in range(weights.shape[2]):
            found[:, :, j] += coefficients[:, :, column] * weights[:, i, j, None, None]
    return found


def _there(forest: Forest, depth: int) -> Floats:
    """1 for every unit of a level that there is: (n, n_units)."""
    numbers = np.arange(forest.coefficients[depth].shape[3])
    return (numbers < forest.n_units[:, depth, None]).astype(np.float64)


def _classes(forest: Forest, rows: OwnRows, scales: Sequence[Floats]) -> Classes:
    n_levels, sizes = len(scales), [one.shape[3] for one in forest.coefficients]
    level_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    n, k = forest.t.shape[:2]
    B = np.zeros((n, k, max(1, *map(len, rows.Z)), int(level_start[-1])))
    for depth, (which, S) in enumerate(zip(reversed(rows.Z), scales, strict=True)):
        own = slice(int(level_start[depth]), int(level_start[depth + 1]))
        B[:, :, : len(which), own] = _combined(forest.coefficients[depth], which, S)
    leaves = B[..., : sizes[0]]
    G = np.zeros((n, B.shape[2], B.shape[2], sizes[0]))
    for i in range(k):
        G += leaves[:, i, :, None] * leaves[:, i, None, :]
    is_leaf = np.arange(n_levels) == 0
    n_units = np.hstack([_there(forest, depth) for depth in range(n_levels)])
    never = np.zeros(n_levels, dtype=np.bool_)
    return Classes(level_start, is_leaf, ~is_leaf, never, n_units, B, G)


def _links(forest: Forest) -> Links:
    """Every unit but the outermost is the one child of a link, which has its number."""
    sizes = [one.shape[3] for one in forest.coefficients]
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    n, last = len(forest.t), int(start[-1])
    parents = [
        (own + first).astype(np.uint64) for own, first in zip(forest.parent, start[1:], strict=True)
    ]
    there = [_there(forest, depth) for depth in range(len(sizes) - 1)]
    return Links(
        start,
        np.arange(len(sizes)) > 0,
        np.arange(last).astype(np.uint64),
        np.hstack([np.zeros((n, 0), dtype=np.uint64), *parents]),
        np.hstack([np.zeros((n, 0)), *there]),
        np.ones(last),
        (np.arange(last) >= sizes[0]).astype(np.float64),
        np.concatenate([np.zeros((n, *forest.t.shape[1:2] * 2, 0)), *forest.C], axis=3),
    )


def _roots(forest: Forest, rows: OwnRows) -> Roots:
    """Every outermost unit by itself."""
    outermost = forest.coefficients[-1]
    numbers = np.arange(outermost.shape[3])
    first = sum(one.shape[3] for one in forest.coefficients[:-1])
    is_mixed = np.full(len(numbers), float(len(forest.coefficients) > 1))
    return Roots(
        True,
        (first + numbers).astype(np.uint64),
        _there(forest, len(forest.coefficients) - 1),
        is_mixed,
        _combined(outermost, rows.X, np.linalg.inv(forest.R).astype(np.float64)),
    )


def _values(forest: Forest, tree: Tree) -> Floats:
    """What `Moments.values` holds."""
    n, k, n_leaves = forest.t.shape
    t, last = forest.t, tree.links.C.shape[3]
    S = np.zeros((n, k, k, tree.classes.B.shape[3]))
    S[..., :n_leaves] = t[:, :, None] * t[:, None, :]
    link_t = np.zeros((n, k, last))
    link_t[:, :, : min(n_leaves, last)] = t[:, :, :last]
    root_t = np.zeros((n, k, tree.roots.Bx.shape[3]))
    if last == 0:
        root_t[:] = t
    return np.hstack([one.reshape(n, math.prod(one.shape[1:])) for one in (S, link_t, root_t)])
