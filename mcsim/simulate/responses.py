"""Responses of simulated replicates: the mean, random effects and residuals of a design's rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.design.columns import Floats, Ints
from mcsim.design.from_table import design_of_table
from mcsim.design.units import Design, build_design
from mcsim.engine.arithmetic.arrays import Positions
from mcsim.engine.draws import Cells, add_effects, set_responses
from mcsim.scenario.conditions import Condition
from mcsim.scenario.records import TableDesignSpec
from mcsim.scenario.truth import RandomSpec
from mcsim.simulate.counts import Counts, counts_in
from mcsim.simulate.distributions import Draw, draw_of, normal
from mcsim.simulate.residuals import Residuals, residuals_in
from mcsim.simulate.streams import Words, go_to_stream, stream, stream_key


@dataclass(frozen=True)
class LevelEffects:
    """Random effects of one level as they are drawn.

    factor : (q, q), factor factor' is the covariance; Z : (q, n_rows)
    draw : independent draws of mean 0 and SD 1
    unit_start : (n_units + 1,) the rows of a unit stand together
    cells : factor cells, whose means the realized values leave out
    """

    level: str
    names: tuple[str, ...]
    factor: Floats
    draw: Draw
    Z: Floats
    unit_start: Positions
    cells: Cells

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
    return _simulator(condition, key, design)


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
    return _simulator(condition, key, design)


def _simulator(condition: Condition, key: Words, design: Design) -> Simulator:
    mean = np.zeros(len(design.frame))
    for name, coefficient in condition.truth.fixed.items():
        mean += coefficient * design.columns((name,))[0]
    effects = tuple(
        _level_effects(design, level.name, condition.truth.random[level.name])
        for level in condition.design.levels
        if level.name in condition.truth.random
    )
    sigma, spec = condition.truth.sigma or 0.0, condition.truth.residual
    residuals = None if spec is None else residuals_in(design, mean, sigma, spec)
    counts = counts_in(design, condition.truth)
    return Simulator(key, design, mean, sigma, effects, residuals, counts)


def _level_effects(design: Design, level: str, spec: RandomSpec) -> LevelEffects:
    """Effects with the stated covariance: a root of it times independent draws.

    Where the draws are not normal it is the symmetric root: effects that are not correlated have
    exactly their shape, correlated ones are sums of draws and so a little nearer to the normal.
    """
    names = spec.columns
    sd = np.array([spec.standard_deviations[name] for name in names])
    correlation = np.array([[spec.correlation_of(a, b) for b in names] for a in names])
    cells = design.cell_of_unit[level]
    values, vectors = np.linalg.eigh(correlation)  # a Cholesky factor needs full rank
    factor = sd[:, None] * vectors * np.sqrt(np.clip(values, 0.0, None))
    if spec.distribution != "normal":  # for normal effects, all roots are the same
        factor = factor @ vectors.T
    return LevelEffects(
        level=level,
        names=names,
        factor=factor,
        draw=draw_of(spec.distribution),
        Z=design.columns(names),
        unit_start=np.searchsorted(design.unit_of_row[level], np.arange(len(cells) + 1)).astype(
            np.uint64
        ),
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
        set_responses(draws[:, parts[-1][0]], simulator.sigma, simulator.mean, y)
    else:
        y[:] = simulator.mean
    products = []
    for effects, (own, _) in zip(simulator.effects, parts[:-1], strict=True):
        products.append(
            add_effects(
                draws[:, own], effects.factor, effects.Z, effects.unit_start, effects.cells, y
            )
        )
    if simulator.residuals is not None:  # last, since their SD may depend on the mean
        simulator.residuals.add(draws[:, parts[-1][0]], y)
    if simulator.counts is not None:
        for row, replicate in zip(y, replicates, strict=True):
            go_to_stream(generator, simulator.key, replicate, "counts")
            simulator.counts.draw(generator, row)
    return ResponseBlock(y, tuple(products))
