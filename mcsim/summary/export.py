"""The estimates of every replicate as one CSV file, a row per parameter or a column."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from mcsim.errors import DataError, McsimError, nearest_name
from mcsim.results.folder import read_conditions
from mcsim.results.store import ESTIMATES_SCHEMA
from mcsim.results.whole_files import refuse_place, write_beside
from mcsim.summary.printed import to_csv
from mcsim.summary.records import Globs, Record, chosen, unique
from mcsim.summary.rows import read_rows
from mcsim.summary.summarize import studies_in

LABELS = ("condition", "replicate", "method", "parameter")
COLUMNS = tuple(name for name in ESTIMATES_SCHEMA.names if name not in LABELS)


def export(
    results: Path,
    out: Path,
    *,
    wide: bool = False,
    columns: Sequence[str] = (),
    replicates: str | None = None,
    methods: Globs = "*",
    parameters: Globs = "*",
    conditions: Globs = "*",
) -> int:
    """Write the estimates of a study, or of the studies in a folder; how many rows there are.

    wide : a row per replicate and method, with a column per parameter: `x`, or with several
    columns `x.estimate`, `x.std_error`

    Raises
    ------
    McsimError
        There is no study, nothing matches, there is no such column, or the file cannot be written.
    """
    if out.suffix.lower() != ".csv":
        raise McsimError(f"{out}: the estimates are written as .csv; name such a file")
    for name in columns:
        if name not in COLUMNS:
            raise DataError(
                f"no column {name!r}. There are: {', '.join(COLUMNS)}.{nearest_name(name, COLUMNS)}"
            )
    globs = {"condition": conditions, "method": methods, "parameter": parameters}
    studies = studies_in(results)
    known = {study: read_conditions(study) for study in studies}
    names = {
        name: chosen(
            name, glob, [one for table in known.values() for one in table[name].to_pylist()]
        )
        for name, glob in globs.items()
    }
    refuse_place(out)
    tables = []
    for study in studies:
        rows = read_rows(study, "estimates", ESTIMATES_SCHEMA, names, replicates)
        rows = rows.select([*LABELS, *(columns or COLUMNS)])
        label = pa.array([study.name] * rows.num_rows, pa.string())
        tables.append(rows.add_column(0, "study", label) if len(studies) > 1 else rows)
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise McsimError(f"{results} has no replicates {replicates}; nothing was written")
    table = _widened(table, list(columns or ["estimate"])) if wide else table
    write_beside(out, to_csv(table).encode())
    return int(table.num_rows)


def _widened(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """A row per replicate and method, a column per parameter and value."""
    labels = [name for name in table.column_names if name in ("study", *LABELS[:3])]
    found: dict[tuple[object, ...], Record] = {}
    parameters = unique(table["parameter"].to_pylist())
    for row in table.select([*labels, "parameter", *columns]).to_pylist():
        own = found.setdefault(tuple(row[name] for name in labels), {})
        for name in columns:
            own[_header(row["parameter"], name, columns)] = row[name]
    headers = [_header(one, name, columns) for one in parameters for name in columns]
    keys = [dict(zip(labels, key, strict=True)) for key in found]
    arrays = [pa.array([key[name] for key in keys]) for name in labels]
    arrays += [pa.array([own.get(header) for own in found.values()]) for header in headers]
    return pa.table(arrays, [*labels, *headers])


def _header(parameter: str, name: str, columns: Sequence[str]) -> str:
    is_plain = len(columns) == 1 and parameter not in ("study", *LABELS[:3])
    return parameter if is_plain else f"{parameter}.{name}"
