"""Who is measured, and where: the units, factors and covariates of a condition, row by row."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.design.columns import column
from mcsim.scenario.records import CovariateSpec, DesignSpec
from mcsim.scenario.values import UniformCount

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Design:
    """The units and rows of a condition.

    frame : one row per observation: factors, unit labels, covariates
    unit_of_row : per level (n_rows,), 0 .. n_units - 1
    cell_of_unit : per level (n_units,), the factor cell that each unit belongs to
    """

    frame: pd.DataFrame
    unit_of_row: Mapping[str, Ints]
    cell_of_unit: Mapping[str, Ints]
    _columns: dict[tuple[str, ...], Floats] = field(default_factory=dict, repr=False, compare=False)

    def columns(self, names: tuple[str, ...]) -> Floats:
        """The columns with these names (n_names, n_rows), made once; errors as of `column`."""
        if names not in self._columns:
            self._columns[names] = np.stack([column(self.frame, name) for name in names])
        return self._columns[names]


def is_drawn(spec: DesignSpec) -> bool:
    """Whether random numbers make a part of the design: two conditions then have two of it."""
    counts = [*(level.count for level in spec.levels), spec.observations.count]
    are_drawn = (one.uniform or one.normal for one in spec.covariates.values())
    return any(isinstance(count, UniformCount) for count in counts) or any(are_drawn)


def build_design(spec: DesignSpec, generator: np.random.Generator) -> Design:
    """The design of one condition; `generator` draws random counts and covariates."""
    cells = list(itertools.product(*spec.factors.values()))
    cell_of_outer = np.repeat(np.arange(len(cells)), _outermost_counts(spec, cells, generator))
    parents = [cell_of_outer]
    for level in spec.levels[1:]:
        counts = _draw_counts(level.count, len(parents[-1]), generator)
        parents.append(np.repeat(np.arange(len(counts)), counts))
    n_points = _draw_counts(spec.observations.count, len(parents[-1]), generator)
    unit_of_row, cell_of_unit = _resolve_units(spec, parents, n_points)
    frame = pd.DataFrame(index=pd.RangeIndex(int(n_points.sum())))
    cell_of_row = cell_of_outer[unit_of_row[spec.levels[0].name]]
    for position, (name, levels) in enumerate(spec.factors.items()):
        codes = np.array([levels.index(cell[position]) for cell in cells])
        frame[name] = _categorical(codes[cell_of_row], levels)
    for level in spec.levels:
        frame[level.name] = _unit_labels(level.name, unit_of_row[level.name])
    for name, covariate in spec.covariates.items():
        frame[name] = _draw_covariate(covariate, n_points, unit_of_row, generator)
    return Design(frame, unit_of_row, cell_of_unit)


def only_rows(design: Design, is_kept: Flags) -> Design:
    """The design with the rows (n_rows,) that are kept, and the units that have any."""
    unit_of_row, cell_of_unit = {}, {}
    for level, unit in design.unit_of_row.items():
        left, unit_of_row[level] = np.unique(unit[is_kept], return_inverse=True)
        cell_of_unit[level] = design.cell_of_unit[level][left]
    return Design(design.frame[is_kept].reset_index(drop=True), unit_of_row, cell_of_unit)


def _outermost_counts(
    spec: DesignSpec, cells: Sequence[tuple[str, ...]], generator: np.random.Generator
) -> Ints:
    count = spec.levels[0].count
    if isinstance(count, Mapping):
        return np.array([count[":".join(cell)] for cell in cells], dtype=np.int64)
    return _draw_counts(count, len(cells), generator)


def _draw_counts(count: object, n_units: int, generator: np.random.Generator) -> Ints:
    if isinstance(count, UniformCount):
        lowest, highest = count.uniform
        return generator.integers(lowest, highest, size=n_units, endpoint=True)
    assert isinstance(count, int)
    return np.full(n_units, count, dtype=np.int64)


def _resolve_units(
    spec: DesignSpec, parents: Sequence[Ints], n_points: Ints
) -> tuple[dict[str, Ints], dict[str, Ints]]:
    """Unit of every row and factor cell of every unit, per level."""
    unit_of_row, cell_of_unit = {}, {}
    unit = np.repeat(np.arange(len(n_points)), n_points)
    for depth in range(len(parents) - 1, -1, -1):
        unit_of_row[spec.levels[depth].name] = unit
        unit = parents[depth][unit]
    cell = parents[0]
    for depth, level in enumerate(spec.levels):
        cell_of_unit[level.name] = cell
        if depth + 1 < len(parents):
            cell = cell[parents[depth + 1]]
    return {level.name: unit_of_row[level.name] for level in spec.levels}, cell_of_unit


def _categorical(codes: Ints, categories: Sequence[str]) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(categories)))


def _unit_labels(name: str, unit_of_row: Ints) -> pd.Series:
    n_units = int(unit_of_row.max()) + 1
    width = len(str(n_units))
    labels = [f"{name}{number:0{width}d}" for number in range(1, n_units + 1)]
    return _categorical(unit_of_row, labels)


def _draw_covariate(
    covariate: CovariateSpec,
    n_points: Ints,
    unit_of_row: Mapping[str, Ints],
    generator: np.random.Generator,
) -> Floats:
    if covariate.grid is not None:
        lowest, highest = covariate.grid
        grids = {n: np.linspace(lowest, highest, n) for n in np.unique(n_points).tolist()}
        return np.concatenate([grids[n] for n in n_points.tolist()])
    if covariate.values is not None:
        return np.tile(np.asarray(covariate.values, dtype=np.float64), len(n_points))
    by_unit = None if covariate.level is None else unit_of_row[covariate.level]
    n_draws = int(n_points.sum()) if by_unit is None else int(by_unit.max()) + 1
    if covariate.uniform is not None:
        drawn = generator.uniform(*covariate.uniform, size=n_draws)
    else:
        assert covariate.normal is not None
        drawn = generator.normal(*covariate.normal, size=n_draws)
    return drawn if by_unit is None else drawn[by_unit]
