"""Responses of simulated replicates: the mean, random effects and residuals of a design's rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import Floats, Ints
from mcsim.design.from_table import design_of_table
from mcsim.design.units import Design, build_design
from mcsim.engine.arithmetic.arrays import Positions
from mcsim.engine.draws import Cells, add_effects, set_responses
from mcsim.formula import variables_of
from mcsim.scenario.conditions import Condition
from mcsim.scenario.design import TableDesignSpec
from mcsim.scenario.truth import RandomSpec
from mcsim.simulate.counts import Counts, counts_in
from mcsim.simulate.distributions import Draw, draw_of, normal
from mcsim.simulate.residuals import Residuals, residuals_in
from mcsim.simulate.streams import Words, go_to_stream, stream, stream_key


@dataclass(frozen=True)
class LevelEffects:
    """Random effects of one level as they are drawn.

    factor : (q, q), factor factor' is the covariance
    draw : independent draws of mean 0 and SD 1
    order : (n_rows,) rows unit by unit, None where they stand so; Z : (q, n_rows), so ordered
    unit_start : (n_units + 1,) where the rows of a unit begin in this order
    cells : factor cells, whose means the realized values leave out
    """

    level: str
    names: tuple[str, ...]
    factor: Floats
    draw: Draw
    order: Ints | None
    Z: Floats
    unit_start: Positions
    cells: Cells

    @property
    def Z_of_rows(self) -> Floats:
        """Z in the order of the rows, (n_rows, q)."""
        columns = np.empty_like(self.Z)
        columns[:, slice(None) if self.order is None else self.order] = self.Z
        return columns.T

    @property
    def n_draws(self) -> int:
        """Independent draws that the effects of one replicate need."""
        return len(self.cells.of_unit) * len(self.names)


@dataclass(frozen=True)
class Simulator:
    """All that the replicates of a condition share.

    residuals : None where they are independent and normal with the SD sigma
    counts : None where responses are normal; others are drawn given the sum of all effects
    """

    key: Words
    design: Design
    mean: Floats
    sigma: float
    effects: tuple[LevelEffects, ...]
    residuals: Residuals | None
    counts: Counts | None = None

    @property
    def n_draws(self) -> int:
        """Independent draws of effects and residuals that a replicate needs."""
        n_residuals = len(self.mean) if self.counts is None else 0
        return sum(effects.n_draws for effects in self.effects) + n_residuals

    @property
    def parts(self) -> list[tuple[slice, Draw]]:
        """Draws of a replicate, the effects level by level, then the residuals."""
        ends = np.cumsum([effects.n_draws for effects in self.effects], dtype=int).tolist()
        slices = map(slice, [0, *ends], [*ends, None])
        last = normal if self.residuals is None else self.residuals.draw
        return list(zip(slices, [*(one.draw for one in self.effects), last], strict=True))


@dataclass(frozen=True)
class ResponseBlock:
    """Responses of some replicates.

    y : (n_replicates, n_rows)
    products : per level (n_replicates, q, q), of the effects around the means of their cells
    """

    y: Floats
    products: tuple[Floats, ...]


def prepare_simulator(condition: Condition, seed: int, design: Design | None = None) -> Simulator:
    """Draw the design of a condition, unless it is there already, and evaluate its truth.

    Raises
    ------
    DataError
        The design gives some residual an infinite SD.
    """
    key = stream_key(seed, condition.identity)
    if design is None:
        return prepare_replicate(condition, key, 0)
    return simulator_of(condition, key, design)


def prepare_replicate(condition: Condition, key: Words, replicate: int) -> Simulator:
    """The simulator with the design of a replicate (0: of the condition itself).

    Parameters
    ----------
    key : of the condition's streams
    """
    if isinstance(condition.design, TableDesignSpec):
        design = design_of_table(condition.design, condition.table)
    else:
        design = build_design(condition.design, stream(key, replicate, "design"))
    return simulator_of(condition, key, design)


def simulator_of(condition: Condition, key: Words, design: Design) -> Simulator:
    """The simulator of the rows of a design; errors as of `prepare_simulator`."""
    mean = np.zeros(len(design.frame))
    for name, coefficient in condition.truth.fixed.items():
        mean += coefficient * design.columns((name,))[0]
    factors = factors_with_means(condition, design)
    effects = tuple(
        _level_effects(design, level.name, condition.truth.random[level.name], factors)
        for level in condition.design.levels
        if level.name in condition.truth.random
    )
    sigma, spec = condition.truth.sigma or 0.0, condition.truth.residual
    residuals = None if spec is None else residuals_in(design, mean, sigma, spec)
    counts = counts_in(design, condition.truth)
    return Simulator(key, design, mean, sigma, effects, residuals, counts)


def factors_with_means(condition: Condition, design: Design) -> list[str]:
    """Factors whose cells have means of their own: of a table, those of the fixed effects alone."""
    is_table = condition.table is not None
    used = {name for key in condition.truth.fixed for name in variables_of(key)}
    return [name for name in design.factors if name in used or not is_table]


def _level_effects(
    design: Design, level: str, spec: RandomSpec, factors: Sequence[str]
) -> LevelEffects:
    """Effects with the stated covariance: a root of it times independent draws.

    Where the draws are not normal it is the symmetric root: effects that are not correlated have
    exactly their shape, correlated ones are sums of draws and so a little nearer to the normal.
    """
    names = spec.columns
    sd = np.array([spec.standard_deviations[name] for name in names])
    correlation = np.array([[spec.correlation_of(a, b) for b in names] for a in names])
    cells = design.cell_of_unit(level, factors)
    values, vectors = np.linalg.eigh(correlation)  # a Cholesky factor needs full rank
    factor = sd[:, None] * vectors * np.sqrt(np.clip(values, 0.0, None))
    if spec.distribution != "normal":  # for normal effects, all roots are the same
        factor = factor @ vectors.T
    unit, Z, order = design.unit_of_row[level], design.columns(names), None
    if np.any(np.diff(unit) < 0):  # units that cross with those around whom the rows stand
        order = np.argsort(unit, kind="stable")
        unit, Z = unit[order], np.ascontiguousarray(Z[:, order])
    return LevelEffects(
        level=level,
        names=names,
        factor=factor,
        draw=draw_of(spec.distribution),
        order=order,
        Z=Z,
        unit_start=np.searchsorted(unit, np.arange(len(cells) + 1)).astype(np.uint64),
        cells=cells_of(cells),
    )


def cells_of(of_unit: Ints) -> Cells:
    """Cells as the compiled code takes them, from the cell of every unit (n_units,)."""
    return Cells(of_unit.astype(np.uint64), np.bincount(of_unit).astype(np.float64))


def new_room(simulator: Simulator, n_replicates: int) -> tuple[Floats, Floats]:
    """Memory for the draws and the responses of a block, to be used again for the next."""
    n_rows = len(simulator.mean)
    return np.empty((n_replicates, simulator.n_draws)), np.empty((n_replicates, n_rows))


def draw_responses(
    simulator: Simulator,
    replicates: Sequence[int],
    room: tuple[Floats, Floats] | None = None,
) -> ResponseBlock:
    """Simulate the given replicates (numbered from 1), each from its own stream, into `room`."""
    all_draws, all_y = room or new_room(simulator, len(replicates))
    draws, y = all_draws[: len(replicates)], all_y[: len(replicates)]
    generator, parts = np.random.Generator(np.random.SFC64(0)), simulator.parts
    for row, replicate in zip(draws, replicates, strict=True):
        go_to_stream(generator, simulator.key, replicate, "response")
        for own, draw in parts:
            draw(generator, row[own])
    if simulator.residuals is None and simulator.counts is None:
        set_responses(draws, parts[-1][0].start, simulator.sigma, simulator.mean, y)
    else:
        y[:] = simulator.mean
    products = []
    for effects, (own, _) in zip(simulator.effects, parts[:-1], strict=True):
        rows = y if effects.order is None else np.zeros_like(y)
        products.append(
            add_effects(
                draws,
                own.start,
                effects.factor,
                effects.Z,
                effects.unit_start,
                effects.cells,
                rows,
            )
        )
        if effects.order is not None:
            y[:, effects.order] += rows
    if simulator.residuals is not None:  # last, since their SD may depend on the mean
        simulator.residuals.add(draws[:, parts[-1][0]], y)
    if simulator.counts is not None:
        for row, replicate in zip(y, replicates, strict=True):
            go_to_stream(generator, simulator.key, replicate, "counts")
            simulator.counts.draw(generator, row)
    return ResponseBlock(y, tuple(products))
