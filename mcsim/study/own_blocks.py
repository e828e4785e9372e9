"""Blocks of simulated replicates that each have rows of their own, as arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from mcsim.design.units import Design, Flags, Floats, Ints
from mcsim.engine.nested.forest import OwnRows
from mcsim.errors import DataError
from mcsim.names import Parameter
from mcsim.scenario.conditions import Condition
from mcsim.simulate.data_set import draw_data_set, without_lost_units
from mcsim.simulate.drawn_designs import draw_designs
from mcsim.simulate.missing import kept_rows
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import Simulator, draw_responses
from mcsim.simulate.streams import stream

Realized = dict[Parameter, Floats]

BLOCK_VALUES = 200_000  # of responses at a time


@dataclass(frozen=True)
class RowsKey:
    """What trees are grown of: names of the levels with their columns, and of the fixed effects."""

    levels: tuple[tuple[str, tuple[str, ...]], ...]
    X: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, each once, in the order in which they join a basis."""
        all_names = (*(name for _, names in self.levels for name in names), *self.X)
        return tuple(dict.fromkeys(all_names))

    def rows(self, block: "OwnBlock") -> OwnRows:
        """The rows of a block."""
        place = {name: number for number, name in enumerate(self.names)}
        n_levels = max(1, len(self.levels))
        is_first = np.zeros((n_levels, len(block.y)), dtype=np.bool_)
        is_first[:, block.start[:-1][np.diff(block.start) > 0]] = True
        for number, (level, _) in enumerate(self.levels):
            unit = block.unit_of_row[level]
            is_first[number:, 1:] |= unit[1:] != unit[:-1]
        Z = [np.array([place[name] for name in names], dtype=np.int64) for _, names in self.levels]
        X = np.array([place[name] for name in self.X], dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        columns = np.stack([block.column(name) for name in self.names])
        return OwnRows(block.start, is_first, columns, tuple(Z) or (none,), X)


@dataclass(frozen=True)
class OwnBlock:
    """Replicates with the rows that they have, one replicate after the other.

    start : (n + 1,) first row of each; y, mean : (n_rows,)
    unit_of_row : by level (n_rows,); column : values by name
    realized : values (n,)
    """

    start: Ints
    y: Floats
    mean: Floats
    unit_of_row: Mapping[str, Ints]
    column: Callable[[str], Floats]
    realized: Realized


def draw_blocks(
    condition: Condition,
    simulator: Simulator,
    columns: Mapping[str, Floats],
    replicates: Sequence[int],
) -> Iterator[tuple[slice, OwnBlock]]:
    """Simulated replicates, so many at a time that their rows fit in a processor's cache.

    Those are left out of which one cannot be simulated.

    Parameters
    ----------
    columns : of the condition's design, by name
    """
    size = max(1, BLOCK_VALUES // len(simulator.mean))
    for first in range(0, len(replicates), size):
        positions = slice(first, first + size)
        with suppress(DataError):
            some = condition, simulator, replicates[positions]
            if condition.design.redraw:
                yield positions, block_of_designs(*some)
            else:
                yield positions, block_with_losses(*some, columns)


def block_with_losses(
    condition: Condition,
    simulator: Simulator,
    replicates: Sequence[int],
    columns: Mapping[str, Floats],
) -> OwnBlock:
    """Replicates of one design that lose rows; `columns` are those of the design, by name."""
    design, missing = simulator.design, condition.truth.missing
    assert missing is not None
    drawn = draw_responses(simulator, replicates)
    is_kept = np.stack(
        [
            kept_rows(
                design.unit_of_row,
                design.covariate,
                missing,
                stream(simulator.key, replicate, "missing"),
            )
            for replicate in replicates
        ]
    )
    realized = realized_values(simulator, drawn.products)
    for place in np.flatnonzero(_lose_units(simulator, is_kept)).tolist():
        left = without_lost_units(simulator, is_kept[place])
        again = draw_responses(left, [replicates[place]])
        for name, value in realized_values(left, again.products).items():
            realized[name][place] = value[0]
    flat, n_kept = np.flatnonzero(is_kept), np.count_nonzero(is_kept, axis=1)
    which = flat - np.repeat(np.arange(len(n_kept)) * len(simulator.mean), n_kept)
    return OwnBlock(
        np.concatenate([[0], np.cumsum(n_kept)]),
        drawn.y.reshape(-1)[flat],
        simulator.mean[which],
        {level: unit[which] for level, unit in design.unit_of_row.items()},
        lambda name: columns[name][which],
        realized,
    )


def _lose_units(simulator: Simulator, is_kept: Flags) -> Flags:
    """Whether a replicate loses all rows of some unit with random effects: (n,)."""
    found = np.zeros(len(is_kept), dtype=np.bool_)
    for effects in simulator.effects:
        own = is_kept if effects.order is None else is_kept[:, effects.order]
        any_row = np.logical_or.reduceat(own, effects.unit_start[:-1].astype(np.int64), axis=1)
        found |= ~any_row.all(axis=1)
    return found


def block_of_designs(
    condition: Condition, simulator: Simulator, replicates: Sequence[int]
) -> OwnBlock:
    """Replicates that draw their designs anew; simulated as arrays where all rows are alike."""
    residuals = simulator.residuals
    if simulator.counts is not None or not (residuals is None or residuals.is_plain):
        return _block_of_data_sets(condition, simulator, replicates)
    drawn = draw_designs(condition, simulator, replicates)
    return OwnBlock(**vars(drawn))


def _block_of_data_sets(
    condition: Condition, simulator: Simulator, replicates: Sequence[int]
) -> OwnBlock:
    data = [draw_data_set(condition, simulator, replicate) for replicate in replicates]
    designs: list[Design] = [one.design for one in data]

    def column(name: str) -> Floats:
        return np.concatenate([one.columns((name,))[0] for one in designs])

    y = np.concatenate([one.y for one in data])
    return OwnBlock(
        np.concatenate([[0], np.cumsum([len(one.y) for one in data])]),
        y,
        sum((b * column(name) for name, b in condition.truth.fixed.items()), np.zeros(len(y))),
        {
            level: np.concatenate([one.unit_of_row[level] for one in designs])
            for level in simulator.design.unit_of_row
        },
        column,
        {name: np.concatenate([one.realized[name] for one in data]) for name in data[0].realized},
    )
