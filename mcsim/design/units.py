"""Who is measured, and where: the units, factors and covariates of a condition, row by row."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.design.columns import column
from mcsim.scenario.design import CovariateSpec, DesignSpec, TableDesignSpec, cells_of
from mcsim.scenario.values import UniformCount

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Design:
    """The units and rows of a condition.

    frame : one row per observation: factors, unit labels, covariates
    unit_of_row : per level (n_rows,), 0 .. n_units - 1
    """

    frame: pd.DataFrame
    unit_of_row: Mapping[str, Ints]
    _columns: dict[tuple[str, ...], Floats] = field(default_factory=dict, repr=False, compare=False)
    _cells: dict[tuple[str, ...], Ints] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """The levels of every factor."""
        return {
            str(name): tuple(map(str, values.cat.categories))
            for name, values in self.frame.items()
            if name not in self.unit_of_row and isinstance(values.dtype, pd.CategoricalDtype)
        }

    def cell_of_unit(self, level: str, factors: Iterable[str]) -> Ints:
        """The cell of every unit (n_units,): of those factors that are the same in all its rows."""
        key = (level, *factors)
        if key not in self._cells:
            codes = (self.frame[name].cat.codes.to_numpy().astype(np.int64) for name in key[1:])
            self._cells[key] = _cell_of_unit(self.unit_of_row[level], codes)
        return self._cells[key]

    def covariate(self, name: str) -> Floats:
        """The values of a column of the frame (n_rows,)."""
        return self.frame[name].to_numpy()

    def columns(self, names: tuple[str, ...]) -> Floats:
        """The columns with these names (n_names, n_rows), made once; errors as of `column`."""
        if names not in self._columns:
            self._columns[names] = np.stack([column(self.frame, name) for name in names])
        return self._columns[names]


def is_drawn(spec: DesignSpec | TableDesignSpec) -> bool:
    """Whether random numbers make a part of the design: two conditions then have two of it."""
    if isinstance(spec, TableDesignSpec):
        return False
    counts = [*(level.count for level in spec.levels), spec.observations.count]
    if any(level.met is not None for level in spec.levels):
        return True
    are_drawn = (one.uniform or one.normal for one in spec.covariates.values())
    return any(isinstance(count, UniformCount) for count in counts) or any(are_drawn)


@dataclass(frozen=True)
class _Place:
    """The units of a level, or the observations: parent (n,) above and own cell (n,) of each.

    Of a level that crosses with those before they are pairs: a unit and what it meets.

    n_each : (n_parents x n_own_cells,) how many there are; cell : (n,) of all factors down to here
    unit : (n,) number of the unit
    """

    parent: Ints
    own_cell: Ints
    cell: Ints
    n_each: Ints
    unit: Ints


@dataclass(frozen=True)
class DrawnRows:
    """The rows of a design as arrays.

    codes : of factors (n_rows,), the level by number; values : of covariates (n_rows,)
    unit_of_row : per level (n_rows,), 0 .. n_units - 1
    """

    n_rows: int
    codes: dict[str, Ints]
    values: dict[str, Floats]
    unit_of_row: dict[str, Ints]

    def frame(self, factor_levels: Mapping[str, Sequence[str]]) -> pd.DataFrame:
        """Factors and covariates, without the units."""
        factors = {
            name: _categorical(self.codes[name], levels) for name, levels in factor_levels.items()
        }
        return pd.DataFrame(factors | self.values, index=pd.RangeIndex(self.n_rows))


@dataclass(frozen=True)
class _PlannedPlace:
    """What a design says of the units of a level, or of observations.

    factors : their numbers of levels; by_cell : counts, where each cell has its own
    met : the share of the pairs that meet, None for all
    """

    count: object
    factors: dict[str, int]
    by_cell: Ints | None
    met: float | None
    is_crossed: bool


class RowPlan:
    """What all designs of a scenario have in common; read once, rows are drawn many times."""

    def __init__(self, spec: DesignSpec) -> None:
        self.spec, self.levels = spec, spec.level_names
        met = {level.name: level.met for level in spec.levels}
        counts = [*(level.count for level in spec.levels), spec.observations.count]
        self.places = {
            place: _PlannedPlace(
                count,
                {name: len(levels) for name, levels in spec.factors_of(place).items()},
                _by_cell(spec, place, count),
                met.get(place),
                place in spec.crossed_levels,
            )
            for place, count in zip(spec.places, counts, strict=True)
        }
        self.dealt = {
            name: (of, len(spec.factor_levels[name]))
            for name, of in spec.factor_places.items()
            if not isinstance(of, str)
        }


def _by_cell(spec: DesignSpec, place: str, count: object) -> Ints | None:
    if not isinstance(count, Mapping):
        return None
    cells = cells_of(spec.factors_down_to(place))
    return np.array([count[cell] for cell in cells], dtype=np.int64)


def draw_rows(plan: RowPlan, generator: np.random.Generator) -> DrawnRows:
    """The rows of one design; `generator` draws random counts and covariates."""
    spec, places = plan.spec, dict[str, _Place]()
    cell = np.zeros(1, dtype=np.int64)
    for name, planned in plan.places.items():
        places[name] = _units(planned, cell, generator)
        if planned.met is not None:
            places[name] = _some_pairs(places[name], planned.met, generator)
        cell = places[name].cell
    slot_of_row = _slots_of_rows(plan, places)
    is_crossed = any(one.is_crossed for one in plan.places.values())
    unit_of_row = {
        level: np.unique(places[level].unit[slot], return_inverse=True)[1].astype(np.int64)
        if is_crossed
        else slot
        for level, slot in slot_of_row.items()
    }
    codes = _factor_codes(plan, places, slot_of_row, unit_of_row)
    values: dict[str, Floats] = {}
    for name, covariate in spec.covariates.items():
        if covariate.starts is None:
            n_each = _units_in_each(spec, places, covariate.level)
            values[name] = _draw_covariate(covariate, n_each, unit_of_row, generator)
    for name, covariate in spec.covariates.items():
        if covariate.starts is not None:
            level, along = covariate.starts.level, covariate.starts.along
            step = codes[along] if along in codes else _ranks(values[along])
            unit = unit_of_row[level]
            cells = _cell_of_unit(unit, codes.values())
            values[name] = _has_started(step, unit, cells)
    return DrawnRows(len(cell), codes, values, unit_of_row)


def build_design(spec: DesignSpec, generator: np.random.Generator) -> Design:
    """The design of one condition; `generator` draws random counts and covariates."""
    rows = draw_rows(RowPlan(spec), generator)
    frame = rows.frame(spec.factor_levels)
    for number, level in enumerate(spec.level_names):
        labels = _unit_labels(level, rows.unit_of_row[level])
        frame.insert(len(spec.factor_levels) + number, level, labels)
    return Design(frame, rows.unit_of_row)


def only_rows(design: Design, is_kept: Flags) -> Design:
    """The design with the rows (n_rows,) that are kept, and the units that have any."""
    unit_of_row = {
        level: np.unique(unit[is_kept], return_inverse=True)[1]
        for level, unit in design.unit_of_row.items()
    }
    return Design(design.frame[is_kept].reset_index(drop=True), unit_of_row)


def _units(place: _PlannedPlace, outer: Ints, generator: np.random.Generator) -> _Place:
    """The units of a place: those of each own cell in each unit above, whose cells are `outer`."""
    n_own = math.prod(place.factors.values())
    cells = (outer[:, None] * n_own + np.arange(n_own)).reshape(-1)
    if place.by_cell is not None:
        n_each = place.by_cell[cells]
    else:
        n_each = _draw_counts(place.count, len(cells), generator)
    slot = np.repeat(np.arange(len(cells)), n_each)
    unit = np.arange(len(slot))
    if place.is_crossed:  # as many in every parent
        unit %= len(slot) // len(outer)
    if n_own == 1:
        return _Place(slot, np.zeros_like(slot), cells[slot], n_each, unit)
    return _Place(slot // n_own, slot % n_own, cells[slot], n_each, unit)


def _some_pairs(place: _Place, met: float, generator: np.random.Generator) -> _Place:
    """A share of the pairs, at random."""
    n = len(place.unit)
    kept = np.sort(generator.permutation(n)[: max(1, round(met * n))])
    n_parents, n_own = int(place.parent.max()) + 1, int(place.own_cell.max()) + 1
    slots = place.parent[kept] * n_own + place.own_cell[kept]
    n_each = np.bincount(slots, minlength=n_parents * n_own)
    return _Place(
        place.parent[kept], place.own_cell[kept], place.cell[kept], n_each, place.unit[kept]
    )


def _draw_counts(count: object, n_units: int, generator: np.random.Generator) -> Ints:
    if isinstance(count, UniformCount):
        lowest, highest = count.uniform
        return generator.integers(lowest, highest, size=n_units, endpoint=True)
    assert isinstance(count, int)
    return np.full(n_units, count, dtype=np.int64)


def _slots_of_rows(plan: RowPlan, places: Mapping[str, _Place]) -> dict[str, Ints]:
    """Unit of every row, or the pair where units cross, per level, outermost first."""
    found, slot = {}, places[[*places][-1]].parent
    for level in reversed(plan.levels):
        found[level] = slot
        slot = places[level].parent[slot]
    return dict(reversed(found.items()))


def _factor_codes(
    plan: RowPlan,
    places: Mapping[str, _Place],
    slot_of_row: Mapping[str, Ints],
    unit_of_row: Mapping[str, Ints],
) -> dict[str, Ints]:
    """The level of every factor in every row (n_rows,), by number."""
    codes: dict[str, Ints] = {}
    for place, units in places.items():
        own_cell, factors = units.own_cell, plan.places[place].factors
        own: dict[str, Ints] = {}
        for name, n_levels in reversed(factors.items()):  # the last changes fastest
            own_cell, own[name] = np.divmod(own_cell, n_levels)
        of_row = slot_of_row.get(place, slice(None))
        codes |= {name: one[of_row] for name, one in own.items()}
    for name, (of, n_levels) in plan.dealt.items():  # a Latin square
        first, second = ({**unit_of_row, **codes}[one] for one in of)
        codes[name] = (first + second) % n_levels
    return codes


def _cell_of_unit(unit: Ints, codes: Iterable[Ints]) -> Ints:
    """The cell of every unit: of those factors that are the same in all its rows."""
    first = np.unique(unit, return_index=True)[1]
    own = [one[first] for one in codes if np.array_equal(one[first][unit], one)]
    cells = np.column_stack([*own, np.zeros(len(first), dtype=np.int64)])
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _ranks(values: Floats) -> Ints:
    """Numbers from 0 of the values, in their order."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _has_started(step: Ints, unit: Ints, cell_of_unit: Ints) -> Floats:
    """1 from the step on at which the unit starts, in order within its factor cell."""
    started = np.empty(len(cell_of_unit))
    for cell in range(int(cell_of_unit.max()) + 1):
        own = np.flatnonzero(cell_of_unit == cell)
        started[own] = 1 + np.arange(len(own)) * int(step.max()) // len(own)
    return np.asarray(step >= started[unit], dtype=np.float64)


def _categorical(codes: Ints, categories: Sequence[str]) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(categories)))


def _unit_labels(name: str, unit_of_row: Ints) -> pd.Series:
    n_units = int(unit_of_row.max()) + 1
    width = len(str(n_units))
    labels = [f"{name}{number:0{width}d}" for number in range(1, n_units + 1)]
    return _categorical(unit_of_row, labels)


def _units_in_each(spec: DesignSpec, places: Mapping[str, _Place], level: str | None) -> Ints:
    """Units of a level, or the observations, that stand together: in a unit above, of a cell."""
    if level is None or level not in spec.crossed_levels:
        return places[spec.places[-1] if level is None else level].n_each
    n_own = math.prod(map(len, spec.factors_of(level).values()))
    return np.full(n_own, next(one.count for one in spec.levels if one.name == level))


def _draw_covariate(
    covariate: CovariateSpec,
    n_each: Ints,
    unit_of_row: Mapping[str, Ints],
    generator: np.random.Generator,
) -> Floats:
    by_unit = None if covariate.level is None else unit_of_row[covariate.level]
    n_draws = int(n_each.sum()) if by_unit is None else int(by_unit.max()) + 1
    if covariate.grid is not None:
        lowest, highest = covariate.grid
        grids = {n: np.linspace(lowest, highest, n) for n in np.unique(n_each).tolist()}
        drawn = np.concatenate([grids[n] for n in n_each.tolist()])
    elif covariate.values is not None:
        drawn = np.tile(np.asarray(covariate.values, dtype=np.float64), len(n_each))
    elif covariate.uniform is not None:
        drawn = generator.uniform(*covariate.uniform, size=n_draws)
    else:
        assert covariate.normal is not None
        drawn = generator.normal(*covariate.normal, size=n_draws)
    return drawn if by_unit is None else drawn[by_unit]
