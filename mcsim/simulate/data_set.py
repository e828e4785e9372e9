"""One replicate as a data set of its own: the rows that are observed, and what they realized."""

from dataclasses import dataclass, replace

import numpy as np

from mcsim.design.units import Design, Flags, Floats, only_rows
from mcsim.names import Parameter
from mcsim.scenario.conditions import Condition
from mcsim.simulate.missing import kept_rows
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import Simulator, cells_of, draw_responses, prepare_replicate
from mcsim.simulate.streams import stream


@dataclass(frozen=True)
class DataSet:
    """One replicate: the rows that are observed, y (n_rows,), and realized values (1,)."""

    design: Design
    y: Floats
    realized: dict[Parameter, Floats]


def draw_data_set(condition: Condition, simulator: Simulator, replicate: int) -> DataSet:
    """Simulate one replicate, with the rows that it has.

    Raises
    ------
    DataError
        A design that is drawn anew gives some residual an infinite SD.
    """
    if condition.design.redraw:
        simulator = prepare_replicate(condition, simulator.key, replicate)
    is_kept = np.ones(len(simulator.mean), dtype=np.bool_)
    if condition.truth.missing is not None:
        generator = stream(simulator.key, replicate, "missing")
        design, missing = simulator.design, condition.truth.missing
        is_kept = kept_rows(design.unit_of_row, design.covariate, missing, generator)
        simulator = without_lost_units(simulator, is_kept)
    block = draw_responses(simulator, [replicate])
    return DataSet(
        only_rows(simulator.design, is_kept),
        block.y[0, is_kept],
        realized_values(simulator, block.products),
    )


def without_lost_units(simulator: Simulator, is_kept: Flags) -> Simulator:
    """The simulator whose realized values leave out units without rows.

    Each of them becomes a cell of its own: it is as far from the cell's mean as nothing.
    """
    found = []
    for effects in simulator.effects:
        n_kept = np.bincount(simulator.design.unit_of_row[effects.level], weights=is_kept)
        own_cells = len(n_kept) + np.arange(len(n_kept))
        cells = np.where(n_kept > 0, effects.cells.of_unit, own_cells)
        found.append(replace(effects, cells=cells_of(np.unique(cells, return_inverse=True)[1])))
    return replace(simulator, effects=tuple(found))
