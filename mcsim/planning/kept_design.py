"""A user's table that is a design itself, row by row."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsim.design.columns import ModelColumns, model_columns
from mcsim.design.table import Table
from mcsim.engine.crossed.partitions import is_within
from mcsim.errors import DataError
from mcsim.planning.seen_design import crossed_levels, labels_of, levels_of
from mcsim.scenario.design_table import DesignTable, read_design_table


def kept_design(table: Table, name: str) -> dict[str, Any]:
    """The design that is the table itself."""
    frame, formula = table.frame, table.formula
    factors = {
        one: labels_of(frame[one], one)
        for one in formula.columns
        if isinstance(frame[one].dtype, pd.CategoricalDtype)
    }
    columns = model_columns(formula, frame)
    levels, crossed = levels_of(columns), crossed_levels(columns)
    for level in crossed:
        _check_labels(columns, level)
    return {
        "table": name,
        "levels": [
            {"name": level} | ({"crossed": True} if level in crossed else {}) for level in levels
        ],
        "factors": factors,
    }


def _check_labels(columns: ModelColumns, level: str) -> None:
    """Refuse a level that crosses, where its label alone is not one unit: it would be there."""
    labels = np.asarray(columns.frame.groupby(level, observed=True).ngroup(), dtype=np.int64)
    for term in columns.formula.random:
        if term.group[-1] != level or len(term.group) == 1:
            continue
        (own,) = (one for one in columns.levels if one.level == term.level)
        if not is_within(labels, own.unit_of_row):
            raise DataError(
                f"the labels of {level!r} repeat in {':'.join(term.group[:-1])}, and its units"
                " cross with those of another level: a scenario takes a label that crosses for the"
                f" same unit everywhere. Give {level!r} labels that differ, such as"
                f" {'.'.join(f'{name}1' for name in term.group)}, and write (... | {level})"
            )


def rows_of(table: Table) -> str:
    """The text of its file, without the response."""
    return str(table.frame.drop(columns=table.formula.response).to_csv(index=False))


def as_read(text: str, name: str) -> DesignTable:
    """The table that a file with this text would be."""
    with tempfile.TemporaryDirectory(prefix="mcsim-init-") as folder:
        (Path(folder) / name).write_text(text, encoding="utf-8")
        return read_design_table(Path(folder) / name)
