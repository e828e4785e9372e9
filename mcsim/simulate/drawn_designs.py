"""Replicates that draw their designs anew, simulated as arrays: one replicate after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mcsim.design.columns import column
from mcsim.design.units import DrawnRows, Flags, Floats, Ints, RowPlan, draw_rows
from mcsim.engine.draws import Cells, add_effects_of_units
from mcsim.names import Parameter
from mcsim.scenario.conditions import Condition
from mcsim.scenario.design import DesignSpec
from mcsim.simulate.missing import kept_rows
from mcsim.simulate.realized import realized_of_level
from mcsim.simulate.responses import LevelEffects, Simulator, factors_with_means
from mcsim.simulate.streams import go_to_stream, stream

Columns = Callable[[str], Floats]


@dataclass(frozen=True)
class DrawnDesigns:
    """Replicates with the rows that they have.

    start : (n + 1,) first row of each; y, mean : (n_rows,)
    unit_of_row : by level (n_rows,), numbers within a replicate; column : values by name
    realized : values (n,)
    """

    start: Ints
    y: Floats
    mean: Floats
    unit_of_row: Mapping[str, Ints]
    column: Columns
    realized: dict[Parameter, Floats]


@dataclass(frozen=True)
class _Rows:
    """All rows that were planned, of all replicates, as of `DrawnDesigns`; codes of factors."""

    start: Ints
    unit_of_row: dict[str, Ints]
    codes: dict[str, Ints]
    column: Columns
    is_kept: Flags


def draw_designs(
    condition: Condition, simulator: Simulator, replicates: Sequence[int]
) -> DrawnDesigns:
    """Simulate replicates whose residuals are independent and have one SD.

    Parameters
    ----------
    simulator : of the condition itself
    """
    assert isinstance(condition.design, DesignSpec)
    rows = _draw_rows(condition, condition.design, simulator, replicates)
    mean = np.zeros(rows.start[-1])
    for name, coefficient in condition.truth.fixed.items():
        mean += coefficient * rows.column(name)
    y = mean.copy()
    draws, residuals = _draws(simulator, rows, replicates)
    is_normal = simulator.residuals is None
    if is_normal:
        y += simulator.sigma * residuals
    realized: dict[Parameter, Floats] = {}
    for effects, own in zip(simulator.effects, draws, strict=True):
        realized |= _add_effects(condition, simulator, effects, rows, own, y)
    if not is_normal:
        y += simulator.sigma * residuals
    kept = np.concatenate([[0], np.cumsum(rows.is_kept)])
    which = np.flatnonzero(rows.is_kept)
    return DrawnDesigns(
        kept[rows.start],
        y[which],
        mean[which],
        {level: unit[which] for level, unit in rows.unit_of_row.items()},
        lambda name: rows.column(name)[which],
        realized,
    )


def _draw_rows(
    condition: Condition, spec: DesignSpec, simulator: Simulator, replicates: Sequence[int]
) -> _Rows:
    plan = RowPlan(spec)
    drawn = [draw_rows(plan, stream(simulator.key, one, "design")) for one in replicates]
    codes, values, units = (
        {name: np.concatenate([getattr(one, part)[name] for one in drawn]) for name in names}
        for part, names in (
            ("codes", drawn[0].codes), ("values", drawn[0].values),
            ("unit_of_row", drawn[0].unit_of_row),
        )
    )  # fmt: skip
    start = np.concatenate([[0], np.cumsum([one.n_rows for one in drawn])])
    frame = DrawnRows(int(start[-1]), codes, values, units).frame(spec.factor_levels)
    is_kept = np.ones(start[-1], dtype=np.bool_)
    if (missing := condition.truth.missing) is not None:
        for replicate, first, one in zip(replicates, start, drawn, strict=False):
            generator = stream(simulator.key, replicate, "missing")
            own = kept_rows(one.unit_of_row, one.values.__getitem__, missing, generator)
            is_kept[first : first + one.n_rows] = own
    return _Rows(
        start, units, codes, lru_cache(maxsize=None)(lambda name: column(frame, name)), is_kept
    )


def _draws(
    simulator: Simulator, rows: _Rows, replicates: Sequence[int]
) -> tuple[list[Floats], Floats]:
    """Draws of every level and of the residuals, each replicate from its own stream."""
    n_units = [
        [
            int(unit[first:end].max()) + 1
            for first, end in zip(rows.start, rows.start[1:], strict=False)
        ]
        for unit in (rows.unit_of_row[effects.level] for effects in simulator.effects)
    ]
    sizes = [
        np.array(n) * len(one.names) for n, one in zip(n_units, simulator.effects, strict=True)
    ]
    sizes.append(np.diff(rows.start))
    ends = [np.cumsum(size) for size in sizes]
    draws = [np.empty(end[-1]) for end in ends]
    generator = np.random.Generator(np.random.SFC64(0))
    fills = [draw for _, draw in simulator.parts]
    for number, replicate in enumerate(replicates):
        go_to_stream(generator, simulator.key, replicate, "response")
        for out, size, end, fill in zip(draws, sizes, ends, fills, strict=True):
            fill(generator, out[end[number] - size[number] : end[number]])
    return draws[:-1], draws[-1]


def _add_effects(
    condition: Condition,
    simulator: Simulator,
    effects: LevelEffects,
    rows: _Rows,
    draws: Floats,
    y: Floats,
) -> dict[Parameter, Floats]:
    """Add the effects of a level to y; what they realized, of the units that have rows left."""
    unit = rows.unit_of_row[effects.level]
    is_first = np.diff(unit, prepend=-1) != 0
    is_first[rows.start[:-1]] = True
    first = np.flatnonzero(is_first)
    of_replicate = np.searchsorted(first, rows.start)  # first unit of every replicate
    Z = np.stack([rows.column(name) for name in effects.names])
    cells = _cells(factors_with_means(condition, simulator.design), rows, is_first, of_replicate)
    n_left = np.add.reduceat(rows.is_kept.astype(np.int64), first)
    lost = np.flatnonzero(n_left == 0)
    cells[lost] = cells.max() + 1 + np.arange(len(lost))  # a cell of its own: as far from its mean
    cells = np.unique(cells, return_inverse=True)[1].reshape(-1)
    start = np.append(first, len(unit)).astype(np.uint64)
    in_cells = Cells(cells.astype(np.uint64), np.bincount(cells).astype(np.float64))
    u = add_effects_of_units(draws, effects.factor, Z, start, in_cells, y)
    products = u[:, None] * u[None, :]
    sums = np.moveaxis(np.add.reduceat(products, of_replicate[:-1], axis=2), 2, 0)
    is_new = np.zeros(len(cells), dtype=np.int64)
    is_new[np.unique(cells, return_index=True)[1]] = 1
    degrees = np.diff(of_replicate) - np.add.reduceat(is_new, of_replicate[:-1])
    return realized_of_level(effects, sums, degrees)


def _cells(factors: Sequence[str], rows: _Rows, is_first: Flags, of_replicate: Ints) -> Ints:
    """Numbers that units share in a replicate if they share the factors that units do not mix."""
    first = np.flatnonzero(is_first)
    replicate = np.repeat(np.arange(len(of_replicate) - 1), np.diff(of_replicate))
    cells = np.zeros(len(first), dtype=np.int64)
    n_rows = len(is_first)
    for name in factors:
        codes = rows.codes[name]
        changes = np.zeros(n_rows, dtype=np.int64)
        changes[1:] = (codes[1:] != codes[:-1]) & ~is_first[1:]
        is_own = np.add.reduceat(changes, rows.start[:-1]) == 0
        own = np.where(is_own[replicate], codes[first], 0)
        cells = cells * (int(codes.max()) + 1) + own
    return np.asarray(replicate * (int(cells.max()) + 1) + cells)
