"""The designs of a search: their counts, what they cost, and the scenario of each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.names import short_names
from mcsim.scenario.plan import FIXED_COST, OBSERVATION, OBSERVATIONS, PlanSpec
from mcsim.scenario.records import DesignSpec, Scenario
from mcsim.scenario.values import UniformCount

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_DESIGNS = 1_000_000  # each is a row of some arrays


@dataclass(frozen=True)
class Designs:
    """The designs that a plan chooses from, in the order of the keys.

    counts : (n_designs, n_keys); cost : (n_designs,); n_outermost : (n_designs,) units in all
    """

    keys: tuple[str, ...]
    counts: Ints
    cost: Floats
    n_outermost: Floats

    def values(self, design: int) -> dict[str, int]:
        """The counts of a design by key."""
        return dict(zip(self.keys, self.counts[design].tolist(), strict=True))

    def name(self, design: int) -> str:
        """The design in few words, which name its folder: `animal.count=11, image.count=18`."""
        short = short_names(list(self.keys))
        return ", ".join(f"{short[key]}={count}" for key, count in self.values(design).items())

    def scenario(self, scenario: Scenario, design: int, n_replicates: int = 1) -> Scenario:
        """The study of one design: what is searched is swept over one value."""
        sweep = {key: (count,) for key, count in self.values(design).items()}
        changes = {"sweep": sweep, "plan": None, "replicates": n_replicates}
        return scenario.model_copy(update=changes)

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


def designs_of(plan: PlanSpec, design: DesignSpec) -> Designs:
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
    by_key = dict(zip(plan.search, counts.T, strict=True))
    cost, n_outermost = _costs(plan, design, by_key)
    kept = np.full(len(cost), True) if plan.budget is None else cost <= plan.budget
    if not kept.any():
        raise DataError(
            f"plan.budget: {plan.budget:g} buys no design; the cheapest costs {cost.min():g}"
        )
    return Designs(tuple(plan.search), counts[kept], cost[kept], n_outermost[kept])


def _costs(
    plan: PlanSpec, design: DesignSpec, searched: Mapping[str, Ints]
) -> tuple[Floats, Floats]:
    """Cost of every design, and units of the outermost level."""
    n_units = np.full(len(next(iter(searched.values()))), float(len(design.cells)))
    total, n_outermost = np.full(len(n_units), plan.cost.get(FIXED_COST, 0.0)), n_units
    for depth, level in enumerate(design.levels):
        key = f"design.levels.{level.name}.count"
        if key not in searched and isinstance(level.count, Mapping):
            n_units = np.full(len(n_units), float(sum(level.count.values())))
        else:
            n_units = n_units * searched.get(key, _mean(level.count))
        total = total + plan.cost.get(level.name, 0.0) * n_units
        n_outermost = n_units if depth == 0 else n_outermost
    n_rows = n_units * searched.get(OBSERVATIONS, _mean(design.observations.count))
    return total + plan.cost.get(OBSERVATION, 0.0) * n_rows, n_outermost


def _mean(count: object) -> float:
    """How many units there are on average, of one count or of a range that is drawn from."""
    if isinstance(count, UniformCount):
        return sum(count.uniform) / 2
    return float(count) if isinstance(count, int) else 1.0
