"""Replicates that each have rows of their own, fitted together as far as their rows allow.

Their trees are grown from arrays, and a method fits all of them in one go. Replicates whose rows
are in doubt (a column nearly lost, a level that tells nothing) are asked one by one, as are
methods that have no such fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import Floats, Ints, ModelColumns, without_aliased
from mcsim.engine.arithmetic.replicates import dot
from mcsim.engine.nested.forest import Forest, OwnRows, grow, join_forests, some_trees
from mcsim.engine.own_rows import (
    OwnDesigns,
    Structures,
    least_squares_at,
    own_designs,
    sure_designs,
    with_data,
)
from mcsim.errors import DataError
from mcsim.formula.column_names import is_of_all_rows
from mcsim.methods.inference.df import quadratic
from mcsim.methods.likelihood import LikelihoodMethod
from mcsim.methods.method import Analysis, containment_of, fixed_contrasts
from mcsim.names import FIXED, Parameter
from mcsim.simulate.responses import Simulator
from mcsim.study.at_truth import ROUNDING, is_known_at_truth, true_value_in, with_shift
from mcsim.study.own_blocks import OwnBlock, RowsKey, block_of_designs, block_with_losses
from mcsim.study.prepared import PreparedCondition
from mcsim.study.ready import ReadyMethod

BLOCK_VALUES = 200_000  # of responses at a time
LARGEST_RATIO = 1e8  # of a response's variances, times rows: rounding leaves all there is to know


@dataclass(frozen=True)
class TruthOfRows:
    """How a method's fixed effects are estimated at the truth.

    key : of the truth's random effects, with those that the method has beside them
    covariances : (q, q) of each level, outermost first
    parameters, L : (k, p) contrasts; value : (k,) what is true of them, NaN where nothing is
    is_whole : whether the method has all fixed effects, and so their truth as its mean
    """

    key: RowsKey
    covariances: tuple[Floats, ...]
    parameters: tuple[Parameter, ...]
    L: Floats
    value: Floats
    is_whole: bool


@dataclass(frozen=True)
class MethodOfRows:
    """A method whose fits are made together."""

    ready: ReadyMethod
    method: LikelihoodMethod
    columns: ModelColumns
    key: RowsKey
    structures: Structures
    truth: TruthOfRows | None


@dataclass(frozen=True)
class Together:
    """What of a condition is fitted together.

    columns : of the condition's design, by name
    """

    methods: Mapping[str, MethodOfRows]
    columns: Mapping[str, Floats]

    @property
    def keys(self) -> set[RowsKey]:
        """What trees are grown of."""
        of_methods = {one.key for one in self.methods.values()}
        return of_methods | {one.truth.key for one in self.methods.values() if one.truth}


def fitted_together(condition: PreparedCondition) -> Together:
    """The methods of a condition whose replicates can be fitted together, and their columns."""
    return condition.once("together", _fitted_together)


def _fitted_together(condition: PreparedCondition) -> Together:
    methods, columns = {}, dict[str, Floats]()
    if not _can_stack(condition):
        return Together({}, {})
    for name, ready in condition.ready.items():
        one = _method_of_rows(condition, name, ready)
        if one is None:
            continue
        of_truth = [effects.names for effects in condition.simulator.effects] * bool(one.truth)
        own = _columns_of(one.columns) | {
            each: condition.simulator.design.columns((each,))[0]
            for names in of_truth
            for each in names
        }
        if all(np.array_equal(columns.setdefault(each, x), x) for each, x in own.items()):
            methods[name] = one
    return Together(methods, columns)


def _can_stack(condition: PreparedCondition) -> bool:
    """Whether units nest, and their rows stand together."""
    is_outer_new = np.zeros(len(condition.simulator.mean), dtype=np.bool_)
    for unit in condition.simulator.design.unit_of_row.values():
        is_new = np.diff(unit, prepend=-1) != 0
        if np.any(np.diff(unit) < 0) or not is_new[is_outer_new].all():
            return False
        is_outer_new = is_new
    return True


def _columns_of(columns: ModelColumns) -> dict[str, Floats]:
    found = dict(zip(columns.names, columns.X.T, strict=True))
    for level in columns.levels:
        found |= dict(zip(level.names, level.Z.T, strict=True))
    return found


def _method_of_rows(
    condition: PreparedCondition, name: str, ready: ReadyMethod
) -> MethodOfRows | None:
    method, design = ready.method, condition.simulator.design
    if not isinstance(method, LikelihoodMethod) or ready.undetermined:
        return None
    columns, _ = ready.columns.once("aliased", without_aliased)
    structures = method.structures
    units = design.unit_of_row
    is_one = all(
        level.level in units and np.array_equal(level.unit_of_row, units[level.level])
        for level in columns.levels
    )
    if structures is None or not is_one or any(map(is_of_all_rows, _columns_of(columns))):
        return None
    key = RowsKey(tuple((one.level, one.names) for one in columns.levels), columns.names)
    try:
        truth = _truth_of_rows(condition, name, columns, key)
    except LookupError:
        return None
    return MethodOfRows(ready, method, columns, key, structures, truth)


def _truth_of_rows(
    condition: PreparedCondition, name: str, columns: ModelColumns, key: RowsKey
) -> TruthOfRows | None:
    """None where nothing is known at the truth; a LookupError where it is not the same for all."""
    truth, ready, simulator = condition.condition.truth, condition.ready[name], condition.simulator
    if not is_known_at_truth(condition.condition):
        return None
    at_truth, residual = condition.at_truth.get(name), truth.residual
    own = {Parameter.read(one, FIXED) for one in columns.names}
    stated = {Parameter.read(one, FIXED) for one, value in truth.fixed.items() if value}
    has_one_sd = residual is None or not (residual.sd_by or residual.power)
    names = (*truth.fixed, *(name for one in simulator.effects for name in one.names))
    if any(map(is_of_all_rows, names)) or not has_one_sd or not _is_told(simulator):
        raise LookupError(name)
    if at_truth is None:
        raise LookupError(name)
    contrasts = fixed_contrasts(columns, ready.settings)
    contrasts = [one for one in contrasts if one.parameter.kind != "term"]
    true_value = true_value_in(condition.condition, simulator, ready)
    values = [true_value(one.parameter) for one in contrasts]
    effects = {one.level: one for one in simulator.effects}
    in_model = dict(key.levels)
    is_within = all(
        set(one.names) <= set(in_model.get(level, ())) for level, one in effects.items()
    )
    if not is_within:
        levels = tuple((level, one.names) for level, one in effects.items())
        key = RowsKey(levels, key.X)
    covariances = []
    for level, names in key.levels:
        Sigma = np.zeros((len(names), len(names)))
        if level in effects:
            at = [names.index(one) for one in effects[level].names]
            Sigma[np.ix_(at, at)] = effects[level].factor @ effects[level].factor.T
        covariances.append(Sigma)
    none = np.zeros((0, 0))
    return TruthOfRows(
        key,
        tuple(covariances) or (none,),
        tuple(one.parameter for one in contrasts),
        np.concatenate([one.L for one in contrasts]),
        np.array([np.nan if one is None else one for one in values]),
        stated <= own,
    )


def _is_told(simulator: Simulator) -> bool:
    """Whether the residuals are not lost to rounding beside the random effects."""
    size = sum(
        float(np.abs(one.factor).max() * np.abs(one.Z).max()) ** 2 for one in simulator.effects
    )
    return size * len(simulator.mean) < LARGEST_RATIO * simulator.sigma**2


@dataclass(frozen=True)
class Grown:
    """Trees of some replicates, the rows whose names they have, and the strata of the effects.

    of_mean : the same trees, with the means of the responses in their place
    """

    forest: Forest
    rows: OwnRows
    stratum: Ints
    of_mean: Forest | None


def draw_blocks(
    condition: PreparedCondition, together: Together, replicates: Sequence[int]
) -> Iterator[tuple[slice, OwnBlock]]:
    """Simulated replicates, so many at a time that their rows fit in a processor's cache.

    Those are left out of which one cannot be simulated.
    """
    size = max(1, BLOCK_VALUES // len(condition.simulator.mean))
    for first in range(0, len(replicates), size):
        positions = slice(first, first + size)
        with suppress(DataError):
            some = condition.condition, condition.simulator, replicates[positions]
            if condition.condition.design.redraw:
                yield positions, block_of_designs(*some)
            else:
                yield positions, block_with_losses(*some, together.columns)


def grown(together: Together, blocks: Sequence[OwnBlock]) -> dict[RowsKey, Grown]:
    """Trees of all replicates of a block, for every key."""
    found = {}
    for key in together.keys:
        parts, means, strata = [], [], []
        truths = (one.truth for one in together.methods.values())
        needs_mean = any(one and one.key == key and not one.is_whole for one in truths)
        for block in blocks:
            rows = key.rows(block)
            parts.append(grow(rows, block.y, 2))
            if needs_mean:
                means.append(grow(rows, block.mean, 2))
            strata.append(_strata(rows))
        of_mean = join_forests(means) if needs_mean else None
        found[key] = Grown(join_forests(parts), rows, np.concatenate(strata), of_mean)
    return found


def _strata(rows: OwnRows) -> Ints:
    """Where the fixed effects of every replicate vary, (n, p), as of `stratum_of`."""
    X = rows.columns[rows.X]
    changes = np.zeros((len(X), X.shape[1] + 1), dtype=np.int64)
    stratum = np.ones((len(rows.start) - 1, len(X)), dtype=np.int64)
    for is_first in rows.is_first:
        within = (X[:, 1:] != X[:, :-1]) & ~is_first[1:]
        np.cumsum(within, axis=1, out=changes[:, 2:])
        stratum += (np.diff(changes[:, rows.start], axis=1) > 0).T
    return stratum


def analyses_together(
    together: Together, trees: Mapping[RowsKey, Grown], sigma: float
) -> dict[str, tuple[Ints, Analysis]]:
    """By method the replicates that were fitted together, and their analysis."""
    found = {}
    for name, one in together.methods.items():
        tree, chosen = trees[one.key], np.arange(len(trees[one.key].stratum))
        if one.truth is not None and one.truth.key != one.key:
            chosen = _at_truth(one.truth, trees[one.truth.key], chosen).chosen
        own = own_designs(
            some_trees(tree.forest, chosen), tree.rows, one.structures,
            is_reml=one.method.design.is_reml,
        )  # fmt: skip
        chosen = chosen[own.chosen]
        if not len(chosen):
            continue
        analysis = one.method.analyse_own(own, _containment(one, own, tree.stratum[chosen]))
        if one.truth is not None:
            at = own
            if one.truth.key != one.key:
                at = _at_truth(one.truth, trees[one.truth.key], chosen)
            at = at._replace(chosen=chosen)
            analysis = _with_shifts(analysis, one.truth, at, trees[one.truth.key], sigma)
        found[name] = chosen, analysis
    return found


def _with_shifts(
    analysis: Analysis, truth: TruthOfRows, at: OwnDesigns, tree: Grown, sigma: float
) -> Analysis:
    """The analysis with what is known at the truth of those effects that have it as their mean."""
    beta, C = least_squares_at(at, truth.covariances, sigma)
    of_truth = _contrasts(truth.L, beta)
    with np.errstate(invalid="ignore"):
        true_se = np.sqrt(np.stack([quadratic(c, C) for c in truth.L], axis=1))
    if tree.of_mean is not None and not truth.is_whole:
        mean, _ = least_squares_at(with_data(at, tree.of_mean), truth.covariances, sigma)
        missed = np.abs(_contrasts(truth.L, mean) - truth.value)
        is_own = missed <= ROUNDING * (true_se + np.abs(truth.value))
        true_se = np.where(is_own, true_se, np.nan)
        of_truth = np.where(is_own, of_truth, np.nan)
    known = np.flatnonzero(np.isfinite(truth.value)).tolist()
    place = {truth.parameters[number]: number for number in known}
    return with_shift(analysis, place, of_truth, true_se)


def _contrasts(L: Floats, beta: Floats) -> Floats:
    """L beta of every replicate: (n, k)."""
    return np.stack([dot(np.tile(c, (len(beta), 1)), beta) for c in L], axis=1)


def _at_truth(truth: TruthOfRows, tree: Grown, chosen: Ints) -> OwnDesigns:
    """Designs of some replicates, less those that are in doubt, with the truth's effects."""
    structures = [(("general", len(names)),) for _, names in truth.key.levels] or [()]
    found = sure_designs(some_trees(tree.forest, chosen), tree.rows, structures, is_reml=True)
    return found._replace(chosen=chosen[found.chosen])


def _containment(one: MethodOfRows, own: OwnDesigns, stratum: Ints) -> Floats:
    forest = own.forest
    sizes = np.column_stack([forest.n_units[:, ::-1], forest.n_rows])
    if not one.columns.levels:  # all rows are one unit
        sizes, stratum = sizes[:, 1:], np.ones_like(stratum)
    return containment_of(one.columns, stratum, sizes)
