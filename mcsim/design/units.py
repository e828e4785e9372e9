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
            self._cells[key] = self._cell_of_unit(level, key[1:])
        return self._cells[key]

    def _cell_of_unit(self, level: str, factors: Iterable[str]) -> Ints:
        unit = self.unit_of_row[level]
        first = np.unique(unit, return_index=True)[1]
        codes = (self.frame[name].cat.codes.to_numpy() for name in factors)
        own = [one[first] for one in codes if np.array_equal(one[first][unit], one)]
        cells = np.column_stack([*own, np.zeros(len(first), dtype=np.int64)])
        return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

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


def build_design(spec: DesignSpec, generator: np.random.Generator) -> Design:
    """The design of one condition; `generator` draws random counts and covariates."""
    places: dict[str, _Place] = {}
    cell = np.zeros(1, dtype=np.int64)
    counts = [*(level.count for level in spec.levels), spec.observations.count]
    for place, count in zip(spec.places, counts, strict=True):
        places[place] = _units(spec, place, count, cell, generator)
        if (met := _share_met(spec, place)) is not None:
            places[place] = _some_pairs(places[place], met, generator)
        cell = places[place].cell
    slot_of_row = _slots_of_rows(spec, places)
    unit_of_row = {
        level: np.unique(places[level].unit[slot], return_inverse=True)[1].astype(np.int64)
        if spec.crossed_levels
        else slot
        for level, slot in slot_of_row.items()
    }
    codes = _factor_codes(spec, places, slot_of_row, unit_of_row)
    frame = pd.DataFrame(index=pd.RangeIndex(len(cell)))
    for name, levels in spec.factor_levels.items():
        frame[name] = _categorical(codes[name], levels)
    for level in spec.level_names:
        frame[level] = _unit_labels(level, unit_of_row[level])
    design = Design(frame, unit_of_row)
    for name, covariate in spec.covariates.items():
        if covariate.starts is None:
            n_each = _units_in_each(spec, places, covariate.level)
            frame[name] = _draw_covariate(covariate, n_each, unit_of_row, generator)
    for name, covariate in spec.covariates.items():
        if covariate.starts is not None:
            level, along = covariate.starts.level, _ranks(frame[covariate.starts.along])
            cells = design.cell_of_unit(level, codes)
            frame[name] = _has_started(along, unit_of_row[level], cells)
    return design


def only_rows(design: Design, is_kept: Flags) -> Design:
    """The design with the rows (n_rows,) that are kept, and the units that have any."""
    unit_of_row = {
        level: np.unique(unit[is_kept], return_inverse=True)[1]
        for level, unit in design.unit_of_row.items()
    }
    return Design(design.frame[is_kept].reset_index(drop=True), unit_of_row)


def _units(
    spec: DesignSpec, place: str, count: object, outer: Ints, generator: np.random.Generator
) -> _Place:
    """The units of a place: those of each own cell in each unit above, whose cells are `outer`."""
    n_own = math.prod(map(len, spec.factors_of(place).values()))
    cells = (outer[:, None] * n_own + np.arange(n_own)).reshape(-1)
    if isinstance(count, Mapping):
        by_cell = [count[cell] for cell in cells_of(spec.factors_down_to(place))]
        n_each = np.array(by_cell, dtype=np.int64)[cells]
    else:
        n_each = _draw_counts(count, len(cells), generator)
    slot = np.repeat(np.arange(len(cells)), n_each)
    parent, unit = slot // n_own, np.arange(len(slot))
    if place in spec.crossed_levels:  # as many in every parent
        unit %= len(slot) // len(outer)
    return _Place(parent, slot % n_own, cells[slot], n_each, unit)


def _share_met(spec: DesignSpec, place: str) -> float | None:
    """The share of the pairs that meet, None for all."""
    return next((one.met for one in spec.levels if one.name == place), None)


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


def _slots_of_rows(spec: DesignSpec, places: Mapping[str, _Place]) -> dict[str, Ints]:
    """Unit of every row, or the pair where units cross, per level, outermost first."""
    found, slot = {}, places[spec.places[-1]].parent
    for level in reversed(spec.level_names):
        found[level] = slot
        slot = places[level].parent[slot]
    return dict(reversed(found.items()))


def _factor_codes(
    spec: DesignSpec,
    places: Mapping[str, _Place],
    slot_of_row: Mapping[str, Ints],
    unit_of_row: Mapping[str, Ints],
) -> dict[str, Ints]:
    """The level of every factor in every row (n_rows,), by number."""
    codes: dict[str, Ints] = {}
    for place, units in places.items():
        own_cell = units.own_cell[slot_of_row.get(place, slice(None))]
        for name, levels in reversed(spec.factors_of(place).items()):  # the last changes fastest
            own_cell, codes[name] = np.divmod(own_cell, len(levels))
    for name, of in spec.factor_places.items():
        if not isinstance(of, str):  # a Latin square
            first, second = ({**unit_of_row, **codes}[one] for one in of)
            codes[name] = (first + second) % len(spec.factor_levels[name])
    return codes


def _ranks(values: pd.Series) -> Ints:
    """Numbers from 0 of the values, in their order."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy().astype(np.int64)
    return np.unique(values.to_numpy(), return_inverse=True)[1].reshape(-1)


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
