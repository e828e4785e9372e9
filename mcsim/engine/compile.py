"""A design, compiled once: its classes of identical units, and the moments that replace the rows.

Chooses the likelihood of a design. Knows arrays only; how classes are found is the business of
nested/classes.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats, Ints
from mcsim.engine.blocks import Blocks, blocks_of, n_parameters
from mcsim.engine.crossed.crossing import Crossing, crossing_of, turned_crossing
from mcsim.engine.crossed.large import LARGE, LargeCrossedLikelihood
from mcsim.engine.crossed.likelihood import CrossedLikelihood
from mcsim.engine.crossed.sums import CrossedReduction
from mcsim.engine.likelihood import Likelihood
from mcsim.engine.nested.classes import TreeBuilder
from mcsim.engine.nested.likelihood import NestedLikelihood
from mcsim.engine.nested.moments import Moments, Reduction, n_moments
from mcsim.engine.nested.tree import Model, Tree, with_columns
from mcsim.engine.optimum.minque import Start, start_of
from mcsim.engine.residuals.classes import ResidualDesign, residual_design
from mcsim.engine.residuals.kinds import KINDS
from mcsim.engine.residuals.likelihood import ResidualLikelihood
from mcsim.engine.residuals.structure import ResidualRows
from mcsim.errors import DataError

TOO_FEW = "{} observations cannot estimate {} fixed effects; add observations"


@dataclass(frozen=True)
class Level:
    """The random effects of one grouping level, outermost level first.

    unit_of_row : (n_rows,) any integers; units are nested within those of the level above, or have
        numbers of their own where levels cross
    Z : (n_rows, q), q may be 0
    structures : general, identity or compound, and the number of columns, of blocks of consecutive
        columns; blocks are independent of each other
    """

    unit_of_row: Ints
    Z: Floats
    structures: tuple[tuple[str, int], ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class CompiledDesign:
    """What the engine needs of a design; `order` sorts the rows so that units are contiguous.

    Of replicates that each have rows of their own (own_rows.py) trees are stacked, scales and R
    have a first axis, and there is no reduction: the moments come with the design.

    residual : None where residuals are independent with one SD
    starts : from which a search may begin
    """

    tree: Tree | Crossing
    reduction: Reduction | CrossedReduction | None
    order: Ints
    scales: tuple[Floats, ...]  # per level S: Lam of the original columns is S Lam
    R: Floats  # (p, p) X = X~ R
    n_rows: int
    residual: ResidualDesign | None = None
    starts: tuple[Start, ...] = ()

    @property
    def blocks(self) -> Blocks:
        """Where the parameters of Lam stand in theta."""
        return self.tree.blocks

    @property
    def nu(self) -> Any:
        """Degrees of freedom of sigma^2: n - p (REML) or n (ML)."""
        return self.tree.model.nu

    @property
    def is_reml(self) -> bool:
        """Whether the criterion is REML's."""
        return self.tree.model.is_reml

    @property
    def n_parameters(self) -> int:
        """Number of parameters theta, those of the residuals included."""
        own = 0 if self.residual is None else self.residual.structure.n_parameters
        return n_parameters(self.blocks) + own

    @property
    def n_values(self) -> int:
        """Numbers in the moments of a replicate, beside the least-squares fit and rss."""
        if isinstance(self.reduction, CrossedReduction):
            return self.reduction.n_columns
        assert self.reduction is not None
        return n_moments(self.reduction) + self.n_forms

    @property
    def n_forms(self) -> int:
        """Sums of quadratic forms among these, where the residuals have a structure."""
        if self.residual is None:
            return 0
        return self.residual.structure.n_forms * len(self.residual.whitening.group)


@dataclass(frozen=True)
class Collapsed:
    """Rows as classes of identical units: what designs share that differ in their structures.

    order, stratum, innermost : (n_rows,) the sorting order and, sorted, what the SD of residuals
        goes by, or steps without a row, and, as given, the innermost unit
    R : (p, p) X = X~ R
    """

    builder: TreeBuilder
    reduction: Reduction
    order: Ints
    stratum: Ints
    innermost: Ints
    R: Floats


Known = list[tuple[list[Floats | Ints], Collapsed]]  # beside the arrays that determine it


def compile_design(
    X: Floats,
    levels: tuple[Level, ...],
    *,
    names: tuple[str, ...],
    is_reml: bool = True,
    residual: ResidualRows | None = None,
    known: Known | None = None,
    are_crossed: bool = False,
) -> CompiledDesign:
    """Compile a design, with the start of the search.

    Parameters
    ----------
    X : (n_rows, p) fixed-effect columns, called `names`
    levels : outermost first; without any, all rows are one unit
    residual : how the residuals of an innermost unit are correlated, or whose SD they have
    known : of other designs; gains that of this one
    are_crossed : whether units of some levels lie in several of another

    Raises
    ------
    DataError
        A column is zero or nearly a combination of those before it, or too few rows.
    """
    if are_crossed:
        return with_starts(crossed_design(X, levels, names, is_reml=is_reml))
    design = collapse_design(
        X, levels, names=names, is_reml=is_reml, residual=residual, known=known
    )
    return with_starts(design)


def with_starts(design: CompiledDesign) -> CompiledDesign:
    """The design with the starts of its searches."""
    grid = np.zeros((1, 0)) if design.residual is None else design.residual.structure.grid()
    likelihood = likelihood_of(design, no_data(design))
    return replace(design, starts=tuple(start_of(likelihood, z) for z in grid))


def likelihood_of(design: CompiledDesign, moments: Moments) -> Likelihood:
    """The likelihood of all replicates."""
    if isinstance(design.tree, Crossing):
        if int(design.tree.outer.first[-1]) >= LARGE:
            return LargeCrossedLikelihood(design.tree, moments)
        return CrossedLikelihood(design.tree, moments)
    if design.residual is None:
        return NestedLikelihood(design.tree, moments)
    return ResidualLikelihood(design.tree, design.residual, moments)


def turned(design: CompiledDesign, b: int, A: Floats) -> CompiledDesign:
    """The design with the columns of a block times A."""
    if isinstance(design.tree, Crossing):
        return replace(design, tree=turned_crossing(design.tree, b, A))
    return replace(design, tree=with_columns(design.tree, b, A))


def no_data(design: CompiledDesign) -> Moments:
    """A replicate whose data are nowhere in the span of the design."""
    forms = np.ones((1, design.n_forms))
    values = np.zeros((1, design.n_values - design.n_forms))
    return Moments(values, np.zeros((1, len(design.R))), np.ones(1), forms)


def collapse_design(
    X: Floats,
    levels: tuple[Level, ...],
    *,
    names: tuple[str, ...],
    is_reml: bool = True,
    residual: ResidualRows | None = None,
    known: Known | None = None,
) -> CompiledDesign:
    """Classes of identical units, and how responses reduce to their moments."""
    n, p = X.shape
    if n <= p:
        raise DataError(TOO_FEW.format(n, p))
    is_reml = is_reml and p > 0  # without fixed effects both are the same
    levels = levels or (Level(np.zeros(n, dtype=np.int64), np.zeros((n, 0)), (), ()),)
    rows = _collapsed(X, levels, names, residual, [] if known is None else known)
    R, reduction = rows.R, rows.reduction
    meets = _meeting_columns(levels)
    scales = tuple(map(_scale_of_level, levels, meets))
    log_constant = 2.0 * float(np.sum(np.log(np.abs(np.diag(R))))) if is_reml else 0.0
    model = Model(0, float(n - p if is_reml else n), is_reml, log_constant)
    blocks = blocks_of([level.structures for level in reversed(levels)], meets[::-1])
    tree = rows.builder.tree(blocks, scales, model)
    design = CompiledDesign(tree, reduction, rows.order, scales, R, n)
    if residual is None:
        return design
    structure = KINDS[residual.kind](rows.innermost, residual)
    own, reduction = residual_design(rows.builder, tree, structure, reduction, rows.stratum)
    return replace(design, reduction=reduction, residual=own)


def crossed_design(
    X: Floats, levels: tuple[Level, ...], names: tuple[str, ...], *, is_reml: bool = True
) -> CompiledDesign:
    """Cross-products of all columns, where units cross; without the starts of its searches."""
    n, p = X.shape
    if n <= p:
        raise DataError(TOO_FEW.format(n, p))
    is_reml = is_reml and p > 0
    X_tilde, R = _orthonormalise(X, names)
    meets = _meeting_columns(levels)
    scales = tuple(map(_scale_of_level, levels, meets))
    log_constant = 2.0 * float(np.sum(np.log(np.abs(np.diag(R))))) if is_reml else 0.0
    model = Model(0, float(n - p if is_reml else n), is_reml, log_constant)
    innermost_first = [*zip(levels, scales, strict=True)][::-1]
    crossing, reduction = crossing_of(
        [_numbered(level.unit_of_row) for level, _ in innermost_first],
        [_combine(level.Z, S) for level, S in innermost_first],
        X_tilde,
        blocks_of([level.structures for level, _ in innermost_first], meets[::-1]),
        model,
    )
    return CompiledDesign(crossing, reduction, np.arange(n), scales, R, n)


def _collapsed(
    X: Floats,
    levels: tuple[Level, ...],
    names: tuple[str, ...],
    residual: ResidualRows | None,
    known: Known,
) -> Collapsed:
    """The rows as classes, taken from what is known where all that determines them is the same."""
    along, stratum = (None, None) if residual is None else (residual.along, residual.stratum)
    parts = [X, *(part for level in levels for part in (level.unit_of_row, level.Z))]
    parts += [np.zeros(0) if part is None else part for part in (along, stratum)]
    for own, found in known:
        if len(own) == len(parts) and all(map(np.array_equal, own, parts)):
            return found
    units, order = _nested_units(levels, along)
    X_tilde, R = _orthonormalise(X, names)
    W = np.ascontiguousarray(np.hstack([*(level.Z for level in levels), X_tilde])[order])
    builder = TreeBuilder([level.Z.shape[1] for level in levels], X.shape[1])
    if along is not None:
        stratum = _gaps(along[order], units[-1][order])
    else:
        stratum = np.zeros(len(X), dtype=np.int64) if stratum is None else stratum[order]
    reduction = builder.build(W, units[:, order], stratum)
    known.append((parts, Collapsed(builder, reduction, order, stratum, units[-1], R)))
    return known[-1][1]


def _gaps(along: Ints, unit: Ints) -> Ints:
    """Steps that have no row, before every row and after the one before it in its unit."""
    is_first = np.diff(unit, prepend=-1) != 0
    return np.where(is_first, 0, np.diff(along, prepend=0) - 1)


def _nested_units(levels: tuple[Level, ...], along: Ints | None) -> tuple[Ints, Ints]:
    """Unit numbers per level (outermost first), nested by construction, and the sorting order."""
    units = []
    outer = np.zeros(len(levels[0].unit_of_row), dtype=np.int64)
    for level in levels:
        unit = _numbered(level.unit_of_row)
        outer = _numbered(outer * (int(unit.max()) + 1) + unit)
        units.append(outer)
    keys = (outer,) if along is None else (along, outer)
    order = np.lexsort(keys).astype(np.int64)  # rows that are equal keep their order
    return np.array(units), order


def _numbered(values: Ints) -> Ints:
    """Position of every value among those that there are, in their order."""
    steps = np.diff(values, prepend=values[:1])
    if np.all(steps >= 0):  # as units mostly stand: no need to sort
        return np.cumsum(steps > 0)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _orthonormalise(
    X: Floats, names: tuple[str, ...], kind: str = "fixed effect"
) -> tuple[Floats, Floats]:
    """X = X~ R with X~'X~ = n I; refuses a column that the others already determine."""
    n = len(X)
    length = np.linalg.norm(X, axis=0)
    factor = np.linalg.qr(X / np.where(length > 0, length, 1.0), mode="r")
    R = np.asarray(factor, dtype=np.float64)
    for j, name in enumerate(names):
        if abs(R[j, j]) < 1e-9 or length[j] == 0:
            before = ", ".join(names[:j]) or "none"
            if length[j] == 0:
                raise DataError(f"the {kind} {name!r} is zero in every row; leave it out")
            raise DataError(
                f"the {kind} {name!r} is a combination of the columns before it ({before}), or too"
                " nearly one for 16 digits. Leave it out of the formula or, if it is made of a"
                " covariate far from 0, such as a year, centre or scale that; for its powers,"
                " write poly(year, 3)"
            )
    R = R * length / np.sqrt(n)
    return _combine(X, np.linalg.inv(R).astype(np.float64)), R


def _combine(columns: Floats, weights: Floats) -> Floats:
    """Columns @ weights, where equal rows give equal bits (BLAS does not promise that)."""
    product = np.zeros((len(columns), weights.shape[1]))
    for i, row in enumerate(weights):
        product += columns[:, i : i + 1] * row
    return product


def _meeting_columns(levels: tuple[Level, ...]) -> list[Flags]:
    """Per level (q, q) whether two columns have rows in one unit, or both do with others."""
    units: Ints | None = None
    found = []
    for number, level in enumerate(levels):
        is_there = level.Z != 0.0
        meets = np.ones((level.Z.shape[1],) * 2, dtype=bool)
        if len(meets) > 1 and not is_there.all(axis=1).any():
            units = _nested_units(levels, None)[0] if units is None else units
            in_unit = np.stack([np.bincount(units[number], one) for one in is_there.T]) > 0.0
            meets = np.linalg.matrix_power(in_unit @ in_unit.T, len(meets))
        found.append(meets)
    return found


def _scale_of_level(level: Level, meets: Flags) -> Floats:
    """Lower triangular S, one block per block of the level, such that Z S has unit scale.

    Exactly 0 between columns that never meet.
    """
    S = np.zeros((level.Z.shape[1], level.Z.shape[1]))
    start = 0
    for structure, size in level.structures:
        block = slice(start, start + size)
        Z = level.Z[:, block]
        if structure == "general":
            _, R = _orthonormalise(Z, level.names[block], "random effect")
            R = np.where(meets[block, block], R, 0.0)
            inverse = np.linalg.inv(R)  # Z R^-1 has Z'Z = n I; S = chol(R^-1 R^-T) spans the same
            S[block, block] = np.linalg.cholesky(inverse @ inverse.T)
        else:  # one number, so that the columns keep their common variance
            length = float(np.linalg.norm(Z))
            if length == 0.0:
                raise DataError(f"the random effects {', '.join(level.names[block])} are all zero")
            S[block, block] = np.eye(size) * np.sqrt(Z.size) / length
        start += size
    return S
