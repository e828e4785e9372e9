"""A design that is a user's table, its units repeated as often as the scenario says."""

import itertools
import math
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from mcsim.design.units import Design, Ints
from mcsim.errors import DataError
from mcsim.scenario.design import TableDesignSpec
from mcsim.scenario.design_table import DesignTable
from mcsim.scenario.values import OBSERVATION


def design_of_table(spec: TableDesignSpec, table: DesignTable | None) -> Design:
    """The rows of the table, those of a unit together; units and rows in their order there.

    Raises
    ------
    DataError
        The table was not read: the scenario does not come from a file.
    """
    if table is None:
        raise DataError(f"the table {spec.table!r} was not read; use load_scenario")
    columns = table.columns(spec.level_names, spec.factor_levels, spec.crossed_levels)
    rows, copy_of = _copied(table.n_rows, spec)
    unit_of_row = _units(columns.unit_of_row, rows, copy_of, spec.crossed_levels)
    nested = [level for level in spec.level_names if level not in spec.crossed_levels]
    order = np.argsort(unit_of_row[nested[-1]], kind="stable")
    unit_of_row = {level: unit[order] for level, unit in unit_of_row.items()}
    rows, copy_of = rows[order], {level: copy[order] for level, copy in copy_of.items()}
    labels = _labels(columns.units, rows, copy_of, unit_of_row, spec.crossed_levels)
    others = {**columns.factors, **columns.covariates}
    frame = {}
    for name in table.names:
        if name in labels:
            frame[name] = labels[name]
        elif name in others and name != spec.response:
            frame[name] = others[name].iloc[rows].reset_index(drop=True)
    return Design(pd.DataFrame(frame), unit_of_row)


def _copied(n_rows: int, spec: TableDesignSpec) -> tuple[Ints, dict[str, Ints]]:
    """Rows of the table, repeated; and by level which copy of its unit each of them is of."""
    copies = {level: spec.copies.get(level, 1) for level in (*spec.level_names, OBSERVATION)}
    n_all = math.prod(copies.values())
    numbers = np.indices([*copies.values()]).reshape(len(copies), n_all)
    copy_of = {level: np.repeat(own, n_rows) for level, own in zip(copies, numbers, strict=True)}
    return np.tile(np.arange(n_rows), n_all), copy_of


def _units(
    unit_of_row: Mapping[str, Ints],
    rows: Ints,
    copy_of: Mapping[str, Ints],
    crossed: Collection[str],
) -> dict[str, Ints]:
    """The unit of every repeated row, per level, numbered as units of the level above are."""
    found = {}
    nothing = outer = np.zeros(len(rows), dtype=np.int64)
    for level, unit in unit_of_row.items():
        around = nothing if level in crossed else outer
        pairs = np.column_stack([around, unit[rows], copy_of[level]])
        found[level] = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        outer = outer if level in crossed else found[level]
    return found


def _labels(
    units: Mapping[str, "pd.Series[str]"],
    rows: Ints,
    copy_of: Mapping[str, Ints],
    unit_of_row: Mapping[str, Ints],
    crossed: Collection[str],
) -> dict[str, "pd.Series[str]"]:
    """Labels of units that tell them apart: those of the table where they do."""
    found: dict[str, pd.Series[str]] = {}
    above = None
    for level, unit in unit_of_row.items():
        first = np.unique(unit, return_index=True)[1]
        own, copy = units[level].to_numpy()[rows[first]], copy_of[level][first]
        for dots in itertools.count(1):  # a label may look like that of a copy
            labels = [f"{a}{'.' * dots}{n + 1}" if n else a for a, n in zip(own, copy, strict=True)]
            if above is not None and len({*labels}) < len(labels):
                labels = [f"{a}:{b}" for a, b in zip(above[first], labels, strict=True)]
            if len({*labels}) == len(labels):
                break
        if level not in crossed:
            above = np.array(labels, dtype=object)[unit]
        found[level] = pd.Series(pd.Categorical.from_codes(unit, categories=pd.Index(labels)))
    return found
