"""A user's table that is a design itself, row by row."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from mcsim.design.columns import model_columns
from mcsim.design.table import Table
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
    crossed = crossed_levels(columns)
    return {
        "table": name,
        "levels": [
            {"name": level} | ({"crossed": True} if level in crossed else {})
            for level in levels_of(columns)
        ],
        "factors": factors,
    }


def rows_of(table: Table) -> str:
    """The text of its file, without the response."""
    return str(table.frame.drop(columns=table.formula.response).to_csv(index=False))


def as_read(text: str, name: str) -> DesignTable:
    """The table that a file with this text would be."""
    with tempfile.TemporaryDirectory(prefix="mcsim-init-") as folder:
        (Path(folder) / name).write_text(text, encoding="utf-8")
        return read_design_table(Path(folder) / name)
