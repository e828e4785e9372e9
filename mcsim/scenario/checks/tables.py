"""What is wrong with a design that is a table, and with the columns that a scenario uses of it."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcsim.scenario.checks.columns import DESIGN, lacking
from mcsim.scenario.checks.draft import Draft, columns_of, numbered
from mcsim.scenario.design import TableDesignSpec
from mcsim.scenario.design_table import DesignTable, TableColumns
from mcsim.scenario.keys import Finding
from mcsim.scenario.limits import MOST_ROWS
from mcsim.scenario.records import Scenario
from mcsim.scenario.values import OBSERVATION


def table_problems(design: TableDesignSpec, draft: Draft) -> Iterator[Finding]:
    """Columns that the table lacks or that cannot be what they are used as, and its size."""
    table = draft.tables.get(design.table)
    if table is None:
        return
    has = f"{table.name} has"
    for number, level in numbered(design.levels).items():
        path = ("design", "levels", number, "name")
        yield from lacking(path, "column", level.name, table.names, has, " in design.levels")
    for name in design.factors or ():
        where = " in design.factors"
        yield from lacking(("design", "factors", name), "column", name, table.names, has, where)
    if not {("design", "levels"), ("design", "factors"), ("design", "copies")} & draft.faulty:
        yield from _name_problems(design)
        yield from _copies_problems(design, table)
        columns = columns_of(design, draft.tables)
        yield from _unusable(design, columns, table.name, draft.scenario)


def _name_problems(design: TableDesignSpec) -> Iterator[Finding]:
    taken = {design.response}
    for number, name in enumerate(design.level_names):
        if name in taken:
            message = f"{name!r} stands twice: the response and every level are different columns"
            yield ("design", "levels", number, "name"), message
        taken.add(name)
    for name in design.factors:
        if name in taken:
            message = f"{name!r} is the response or a level; a factor is another column"
            yield ("design", "factors", name), message


def _copies_problems(design: TableDesignSpec, table: DesignTable) -> Iterator[Finding]:
    known, where = (*design.level_names, OBSERVATION), " in design.copies"
    for name in design.copies:
        yield from lacking(("design", "copies", name), "level", name, known, DESIGN, where)
    n_rows = table.n_rows * math.prod(design.copies.values())
    if n_rows > MOST_ROWS:
        blamed = ("design", "copies" if design.copies else "table")
        yield blamed, f"a data set has {n_rows:,} rows; at most {MOST_ROWS:,}"


def _unusable(
    design: TableDesignSpec, columns: TableColumns, file: str, scenario: Scenario
) -> Iterator[Finding]:
    """Columns that are used and cannot be what they are used as."""
    if not columns.unusable:
        return
    raw = scenario.model_dump(include={"truth", "methods", "estimands"}, warnings=False)
    used = "\n".join(_texts(raw))
    for name, reason in columns.unusable.items():
        message = f"column {name!r} of {file} {reason}"
        if name in design.level_names:
            yield ("design", "levels", design.level_names.index(name), "name"), message
        elif name in design.factors:
            yield ("design", "factors", name), message
        elif name != design.response and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", used):
            yield ("design", "table"), message


def _texts(value: Any) -> Iterator[str]:
    """All that could name a column: keys and texts, but for the names of methods and estimands."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item if key != "name" else None)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
