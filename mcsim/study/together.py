"""Replicates that each have rows of their own, analysed as far as that goes without data frames.

Their trees are grown from arrays, and the likelihood of all of them is fitted in one go; other
methods get the arrays of one replicate after the other. Replicates whose rows are in doubt (a
column nearly lost, a level that tells nothing) are left out.
"""

from dataclasses import dataclass, field

import numpy as np

from mcsim.design.columns import Floats, Ints
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
from mcsim.methods.inference.df import quadratic
from mcsim.methods.likelihood import LikelihoodMethod
from mcsim.methods.method import Analysis, containment_of
from mcsim.names import Parameter
from mcsim.simulate.streams import stream
from mcsim.study.at_truth import ROUNDING, with_shift
from mcsim.study.joined import Part, joined
from mcsim.study.own_blocks import OwnBlock, RowsKey, draw_blocks
from mcsim.study.own_columns import analyse_each
from mcsim.study.own_plan import MethodOfRows, Together, TruthOfRows
from mcsim.study.prepared import PreparedCondition


@dataclass(frozen=True)
class Grown:
    """Trees of some replicates, and the rows whose names they have.

    of_mean : the same trees, with the means of the responses in their place
    """

    forest: Forest
    rows: OwnRows
    of_mean: Forest | None


@dataclass
class _Parts:
    """What blocks gave of one key."""

    forests: list[Forest] = field(default_factory=list)
    of_means: list[Forest] = field(default_factory=list)

    def grown(self, rows: OwnRows) -> Grown:
        """The trees of all blocks."""
        of_mean = join_forests(self.of_means) if self.of_means else None
        return Grown(join_forests(self.forests), rows, of_mean)


@dataclass
class Simulated:
    """Simulated replicates: their trees, by key, and analyses of each, by method.

    positions : (n,) of the replicates; realized : values (n,)
    each : None where rows are in doubt
    """

    positions: Ints
    realized: dict[Parameter, Floats]
    trees: dict[RowsKey, Grown]
    each: dict[str, list[Analysis | None]]


def simulate(
    condition: PreparedCondition, together: Together, replicates: range
) -> Simulated | None:
    """Simulate block by block, so that few rows are in memory; None where no replicate can be."""
    simulator, methods = condition.simulator, together.methods
    blocks, positions = [], []
    parts: dict[RowsKey, _Parts] = {}
    rows: dict[RowsKey, OwnRows] = {}
    each: dict[str, list[Analysis | None]] = {
        name: [] for name, one in methods.items() if one.structures is None
    }
    for at, block in draw_blocks(condition.condition, simulator, together.columns, replicates):
        positions.append(np.arange(len(replicates))[at])
        blocks.append(block.realized)
        for key, needs_mean in together.keys.items():
            rows[key] = key.rows(block)
            _grow(parts.setdefault(key, _Parts()), rows[key], block, needs_mean=needs_mean)
        streams = [
            lambda _, replicate=replicate: stream(simulator.key, replicate, "bootstrap")
            for replicate in replicates[at]
        ]
        for name, found in each.items():
            one = methods[name]
            is_sure = parts[one.key].forests[-1].is_sure
            found += analyse_each(one.ready, one.columns, block, rows[one.key], is_sure, streams)
    if not blocks:
        return None
    return Simulated(
        np.concatenate(positions),
        {name: np.concatenate([one[name] for one in blocks]) for name in blocks[0]},
        {key: own.grown(rows[key]) for key, own in parts.items()},
        each,
    )


def _grow(parts: _Parts, rows: OwnRows, block: OwnBlock, *, needs_mean: bool) -> None:
    parts.forests.append(grow(rows, block.y, 2))
    if needs_mean:
        parts.of_means.append(grow(rows, block.mean, 2))


def analyses_of(together: Together, found: Simulated, sigma: float) -> dict[str, Part]:
    """By method the positions of replicates that were analysed, and their analysis."""
    analyses = {}
    for name, one in together.methods.items():
        chosen = np.arange(len(found.positions))
        truth, at = one.truth, None
        if truth is not None and (truth.key != one.key or one.structures is None):
            chosen = _at_truth(truth, found.trees[truth.key], chosen).chosen
        if one.structures is None:
            each = {k: own for k, own in enumerate(found.each[name]) if own is not None}
            chosen = np.array([k for k in chosen.tolist() if k in each], dtype=np.int64)
            parts = [(np.array([k]), each[k]) for k in chosen.tolist()]
            analysis = joined(one.ready.method.parameters(), parts) if parts else None
        else:
            chosen, at, analysis = _fit(one, found.trees[one.key], chosen)
        if analysis is None:
            continue
        if truth is not None:
            if at is None or truth.key != one.key:
                at = _at_truth(truth, found.trees[truth.key], chosen)
            analysis = _with_shifts(analysis, truth, at, found.trees[truth.key], sigma)
        analyses[name] = found.positions[chosen], analysis
    return analyses


def _fit(
    one: MethodOfRows, tree: Grown, chosen: Ints
) -> tuple[Ints, OwnDesigns | None, Analysis | None]:
    """Fit some replicates, but those that are in doubt, in one go."""
    method = one.ready.method
    assert isinstance(method, LikelihoodMethod)
    assert one.structures is not None
    some = some_trees(tree.forest, chosen)
    own = own_designs(some, tree.rows, one.structures, is_reml=method.design.is_reml)
    chosen = chosen[own.chosen]
    if not len(chosen):
        return chosen, None, None
    own = own._replace(chosen=chosen)
    return chosen, own, method.analyse_own(own, _containment(one, own.forest))


def _at_truth(truth: TruthOfRows, tree: Grown, chosen: Ints) -> OwnDesigns:
    """Designs of some replicates, less those that are in doubt, with the truth's effects."""
    structures: Structures = [(("general", len(names)),) for _, names in truth.key.levels]
    found = sure_designs(
        some_trees(tree.forest, chosen), tree.rows, structures or [()], is_reml=True
    )
    return found._replace(chosen=chosen[found.chosen])


def _containment(one: MethodOfRows, forest: Forest) -> Floats:
    sizes, stratum = np.column_stack([forest.n_units[:, ::-1], forest.n_rows]), forest.stratum
    if not one.columns.levels:  # all rows are one unit
        sizes, stratum = sizes[:, 1:], np.ones_like(stratum)
    return containment_of(one.columns, stratum, sizes)


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
