"""The designs of a search: their counts, what they cost, and the scenario of each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.design.units import Design, is_drawn
from mcsim.errors import DataError
from mcsim.names import short_names
from mcsim.scenario.conditions import conditions
from mcsim.scenario.plan import FIXED_COST, OBSERVATION, OBSERVATIONS, PlanSpec
from mcsim.scenario.records import Scenario
from mcsim.simulate.responses import prepare_simulator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_DESIGNS = 1_000_000  # each is a row of some arrays


@dataclass(frozen=True)
class Designs:
    """The designs that a plan chooses from, in the order of the keys.

    counts : (n_designs, n_keys); cost : (n_designs,); n_outermost : (n_designs,) units in all,
    of n_cells kinds; ends : by key the largest count of the search, whatever the budget buys
    """

    keys: tuple[str, ...]
    counts: Ints
    cost: Floats
    n_outermost: Floats
    n_cells: int
    ends: tuple[int, ...] = ()

    def values(self, design: int) -> dict[str, int]:
        """The counts of a design by key."""
        return dict(zip(self.keys, self.counts[design].tolist(), strict=True))

    def name(self, design: int) -> str:
        """The design in few words, which name its folder: `animal.count=11, image.count=18`."""
        short = short_names(list(self.keys))
        return ", ".join(f"{short[key]}={count}" for key, count in self.values(design).items())

    def scenario(self, scenario: Scenario, design: int, n_replicates: int = 1) -> Scenario:
        """The study of one design."""
        return one_design(scenario, self.values(design), n_replicates)

    def below(self, design: int) -> NDArray[np.bool_]:
        """Designs none of whose counts is larger: (n_designs,)."""
        return np.asarray((self.counts <= self.counts[design]).all(axis=1))

    def maximal(self, designs: Ints) -> Ints:
        """Those of some designs that are below no other of them."""
        ordered = designs[np.argsort(-self.counts[designs].sum(axis=1), kind="stable")]
        found: list[int] = []
        for one in ordered.tolist():
            if not (self.counts[found] >= self.counts[one]).all(axis=1).any():
                found.append(one)
        return np.array(found, dtype=np.int64)


def one_design(scenario: Scenario, counts: Mapping[str, int], n_replicates: int = 1) -> Scenario:
    """The study of one design: what is searched is swept over one value, beside truths."""
    sweep = {**scenario.sweep, **{key: (count,) for key, count in counts.items()}}
    changes = {"sweep": sweep, "plan": None, "report": None, "replicates": n_replicates}
    return scenario.model_copy(update=changes).with_tables({})  # that of a pilot is the plan's


def designs_of(plan: PlanSpec, scenario: Scenario) -> Designs:
    """Every combination of the counts; with a budget, those that it buys.

    Raises
    ------
    DataError
        There are too many, or the budget buys none.
    """
    n = np.prod([float(len(values)) for values in plan.search.values()])
    if n > MOST_DESIGNS:
        raise DataError(f"plan.search makes {n:,.0f} designs; at most {MOST_DESIGNS:,}")
    grid = np.meshgrid(*plan.search.values(), indexing="ij")
    counts = np.stack([one.ravel() for one in grid], axis=1)
    cost, n_outermost, n_cells = _costs(scenario, plan, counts)
    kept = np.full(len(cost), True) if plan.budget is None else cost <= plan.budget
    if not kept.any():
        raise DataError(
            f"plan.budget: {plan.budget:g} buys no design; the cheapest costs {cost.min():g}"
        )
    ends = tuple(counts.max(axis=0).tolist())
    return Designs(tuple(plan.search), counts[kept], cost[kept], n_outermost[kept], n_cells, ends)


def _costs(scenario: Scenario, plan: PlanSpec, counts: Ints) -> tuple[Floats, Floats, int]:
    """Cost of every design, and units of the outermost level with the number of their cells.

    Counted in one design: numbers of units are in proportion to the counts. Where counts are drawn
    it is the largest, whose draw is next to the average.
    """
    levels = [level.name for level in scenario.design.levels]
    crossed = scenario.design.crossed_levels
    keys = dict(zip(plan.search, counts.T, strict=True))
    largest = is_drawn(scenario.design)
    base = {key: int(values.max() if largest else values.min()) for key, values in keys.items()}
    design = _design_of(scenario, base)
    total, n_units = np.full(len(counts), plan.cost.get(FIXED_COST, 0.0)), np.ones(len(counts))
    ratio, n_outermost = np.ones(len(counts)), n_units
    for depth, name in enumerate([*levels, OBSERVATION]):
        key = OBSERVATIONS if depth == len(levels) else f"design.levels.{name}.count"
        own = keys[key] / base[key] if key in keys else 1.0
        ratio = ratio * own
        is_row = depth == len(levels)
        known = len(design.frame) if is_row else int(design.unit_of_row[name].max()) + 1
        n_units = known * (np.ones(len(counts)) * own if name in crossed else ratio)
        total = total + plan.cost.get(name, 0.0) * n_units
        n_outermost = n_units if depth == 0 else n_outermost
    cells = design.cell_of_unit(levels[0], design.factors)
    return total, n_outermost, len(np.unique(cells))


def _design_of(scenario: Scenario, counts: Mapping[str, int]) -> Design:
    (condition,) = conditions(one_design(scenario, counts))
    return prepare_simulator(condition, scenario.seed).design
