"""One measure as a table, with methods, parameters or the values of a swept key side by side."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa

from mcsim.errors import DataError, nearest_name
from mcsim.measures import SHARES
from mcsim.names import plain_label, shown_labels
from mcsim.summary.records import (
    OF_INTERVALS,
    Record,
    fit_of,
    has_effect,
    has_gaps,
    n_in_words,
    one_per_fit,
    unique,
    without_variances,
)
from mcsim.summary.summarize import swept_in, value_text
from mcsim.summary.text import percent, with_mcse

POWER = "power/type I"
METHOD, PARAMETER = "method", "parameter"
MEASURES = ("rmse", "coverage", "rejection")  # unless some are named

Rows = list[list[str]]  # the header first


class Sides(NamedTuple):
    """What stands side by side: the column that a record belongs to, and the words of its row."""

    column: Callable[[Record], str]
    row: Callable[[Record], str]


def side_by_side(table: pa.Table, measure: str, by: str = METHOD) -> Rows:
    """Rows of text, whatever `by` names side by side.

    Raises
    ------
    DataError
        `by` is neither method, nor parameter, nor a swept key.
    """
    records = without_variances(table.to_pylist())
    sides = _sides(table, records, by)
    if by != METHOD:  # in lines of their own, those of a fit that agree are said once
        places = [r | {"place": (r.get("study"), r["condition"])} for r in records]
        records = one_per_fit(places, [measure])
    cells: dict[str, dict[str, str]] = {}
    for record in records:
        cells.setdefault(sides.row(record), {})[sides.column(record)] = _cell(record, measure)
    columns = unique(map(sides.column, records))
    rows = [[_heading(measure, records), *columns]]
    rows += [
        [label, *(own.get(column, "-") for column in columns)]
        for label, own in cells.items()
        if any(cell != "-" for cell in own.values())
    ]
    return _with_shared_columns(rows) if by == METHOD else rows


def _sides(table: pa.Table, records: list[Record], by: str) -> Sides:
    swept = swept_in(table)
    names = {METHOD: METHOD, PARAMETER: PARAMETER, **{name: key for key, name in swept.items()}}
    wanted = plain_label(by)
    if wanted not in names:
        raise DataError(
            f"--by {by!r}: side by side stand {', '.join(names)}.{nearest_name(wanted, names)}"
        )
    key = names[wanted]
    rest = {one: name for one, name in swept.items() if one != key}
    several = len(unique((r.get("study"), r["condition"]) for r in records)) > 1
    shown = shown_labels(r["condition"] for r in records)
    values = shown_labels(value_text(r[one]) for one in swept for r in records)

    def place(record: Record) -> str:
        if key not in swept:
            return shown[record["condition"]] if several else ""
        return ", ".join(f"{name}={values[value_text(record[one])]}" for one, name in rest.items())

    def row(record: Record) -> str:
        parameter = record["parameter"] if key != PARAMETER else ""
        method = record["shown_as"] if key != METHOD else ""
        return ": ".join(filter(None, [record.get("study"), place(record), parameter, method]))

    def column(record: Record) -> str:
        return f"{wanted}={values[value_text(record[key])]}" if key in swept else str(record[key])

    return Sides(column, row)


def _heading(measure: str, records: list[Record]) -> str:
    """The measure; of tests, what their rejections are."""
    words = measure
    if measure == "rejection":
        of_effects = [has_effect(r) for r in records if r[measure] is not None]
        words = "power" if all(of_effects) else POWER if any(of_effects) else "type I error"
    return f"{words} in %" if measure in SHARES else words


def _cell(record: Record, measure: str) -> str:
    show = percent if measure in SHARES else with_mcse
    said = show(record[measure], record[f"{measure}_mcse"])
    is_part = measure in OF_INTERVALS and record[measure] is not None and has_gaps(record)
    return f"{said} of {n_in_words(record)}" if is_part else said


def _with_shared_columns(rows: Rows) -> Rows:
    """One column for the df methods of a fit where they agree."""
    labels, *columns = zip(*rows, strict=True)
    kept = [labels]
    for fit, own in itertools.groupby(columns, lambda column: fit_of(column[0])):
        found = list(own)
        agree = len(found) > 1 and len({column[1:] for column in found}) == 1
        kept += [(fit, *found[0][1:])] if agree else found
    return [list(row) for row in zip(*kept, strict=True)]
