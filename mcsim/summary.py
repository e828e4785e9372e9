"""A study folder -> one row per condition, method and parameter; and how that is printed.

Works from the files alone, also of a study that still runs: `fits/part-X.parquet` is the mark
that `estimates/part-X.parquet` is complete. A cell is one method in one condition.
"""

import csv
import fnmatch
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mcsim.errors import DataError, nearest_name
from mcsim.measures import MEASURES, Sample

Record = dict[str, Any]

CELL = ("condition", "method")
LABELS = (*CELL, "parameter")
NUMBERS = ("estimate", "std_error", "ci_lower", "ci_upper", "p_value", "realized")
COUNTS = ("n_replicates", "n", "n_failed", "n_boundary", "n_missing_interval")
FIT_SCHEMA = pa.schema([*((label, pa.string()) for label in (*CELL, "status"))]).append(
    pa.field("replicate", pa.int32())
)
ESTIMATE_SCHEMA = pa.schema(
    [*((label, pa.string()) for label in LABELS), *((name, pa.float64()) for name in NUMBERS)]
).append(pa.field("replicate", pa.int32()))
RESULT_SCHEMA = pa.schema(
    [*((name, pa.int64()) for name in COUNTS)]
    + [(name + suffix, pa.float64()) for name in MEASURES for suffix in ("", "_mcse")]
)
NOT_SWEPT = {"study", *LABELS, "component", "truth", *RESULT_SCHEMA.names}
USABLE = ("ok", "boundary")
SCALE = re.compile(r"sigma$|.*\.(sd|var)\(")  # names of standard deviations and variances

HEADER = ("method", "parameter", "truth", "mean", "bias", "RMSE", "coverage", "n", "at 0")
MAX_WIDTH = 119  # characters of a printed line; wider rows get narrower gaps
MAX_DECIMALS = 9  # smaller numbers are written with a power of ten

SENTENCES = {
    "none": "{method}: no replicate finished yet",
    "fits": "{method}: {n_replicates} replicate(s), {n_failed} failed, {n_boundary} on the boundary",
    "kept": " (a variance of 0 or a correlation of +-1: a valid result)",
    "left out": " (a variance of 0 or a correlation of +-1: left out of the table)",
    "failed": "  why fits failed: the column message of fits/part-*.parquet",
    "undefined": "  no estimate (a correlation is undefined where an SD is 0): {}",
    "interval": "  no interval (the information matrix is not positive definite): {}",
    "mcse": "In parentheses: Monte Carlo standard errors. Coverage in percent, of nominal {}% intervals.",
    "at 0": "at 0: share of estimates that are exactly 0.",
    "variance": "Variances, such as {}, are left out here: see summary.csv or summary.parquet.",
}


class _Block(NamedTuple):
    """What is printed on one condition."""

    heading: str
    sentences: list[str]
    rows: list[tuple[str, ...]]


def summarize(directories: Sequence[Path], *, only_regular: bool = False) -> pa.Table:
    """One row per condition, method and parameter, in the order of `conditions.parquet`.

    Parameters
    ----------
    directories
        Study folders, or folders that hold study folders. The column `study` names the folder,
        where there are several.
    only_regular
        Leave boundary fits out of all but `n_boundary`.

    Returns
    -------
    pa.Table
        Labels, swept values, truth; of `n_replicates` finished ones, `n_failed` failed or did not
        converge, `n_boundary` are on the boundary, `n` have a usable estimate, of which
        `n_missing_interval` have no interval; each measure and its MCSE, null where undefined.
        The metadata tell the confidence level and whether boundary fits were left out.

    Raises
    ------
    DataError
        A folder is no study, or holds results that its `conditions.parquet` does not list.
    """
    studies = [study for directory in directories for study in _studies_in(directory)]
    usable = USABLE[:1] if only_regular else USABLE
    tables = [_summarize_study(study, usable) for study in dict.fromkeys(studies)]
    table = _concatenate(tables) if len(tables) > 1 else tables[0].drop_columns("study")
    labels = [name for name in ("study", "condition") if name in table.column_names]
    swept = [name for name in table.column_names if name not in NOT_SWEPT]
    rest = [name for name in table.column_names if name not in {*labels, *swept}]
    confidences = sorted({_confidence(study) for study in studies})
    return table.select([*labels, *swept, *rest]).replace_schema_metadata(
        {"confidence": json.dumps(confidences), "boundary": "left out" if only_regular else "kept"}
    )


def filter_summary(table: pa.Table, *, methods: str = "*", parameters: str = "*") -> pa.Table:
    """The rows whose method and parameter match the globs; brackets in names need no escape.

    Raises
    ------
    DataError
        Nothing matches.
    """
    for label, glob in (("method", methods), ("parameter", parameters)):
        names = table[label].unique().to_pylist()
        patterns = (glob, glob.replace("[", "[[]"))  # diet[T.fed]* means the bracket
        found = [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
        if not found:
            raise DataError(
                f"no {label} matches {glob!r}. The results have: {', '.join(sorted(names))}."
                + nearest_name(glob, names)
            )
        table = table.filter(pc.is_in(table[label], pa.array(found)))
    return table


def write_summary(directory: Path, table: pa.Table) -> tuple[Path, Path]:
    """Write `summary.parquet` and `summary.csv` into the folder, whole or not at all."""
    parquet = io.BytesIO()
    pq.write_table(table, parquet, compression="zstd")
    return (
        _replace(directory / "summary.parquet", parquet.getvalue()),
        _replace(directory / "summary.csv", to_csv(table).encode()),
    )


def to_text(table: pa.Table) -> str:
    """What a reader needs first, in aligned columns."""
    parts = [
        "\n".join([*filter(None, [heading]), *sentences, *_align([HEADER, *rows])])
        for heading, sentences, rows in _blocks(table)
    ]
    return "\n\n".join([*parts, "\n".join(_notes(table))]) + "\n"


def to_markdown(table: pa.Table) -> str:
    """The same as `to_text`, as Markdown tables."""
    parts = []
    for heading, sentences, rows in _blocks(table):
        cells = [HEADER, ("---", "---", *["---:"] * (len(HEADER) - 2)), *rows]
        pipes = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in cells]
        items = [f"- {sentence.strip()}" for sentence in sentences]
        parts += [*([f"### {heading}"] if heading else []), "\n".join(items), "\n".join(pipes)]
    return "\n\n".join([*parts, *_notes(table)]) + "\n"


def to_csv(table: pa.Table) -> str:
    """All columns; an empty field where undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return text.getvalue()


def to_json(table: pa.Table) -> str:
    """All columns, one object per row."""
    return json.dumps(table.to_pylist(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[pa.Table], str]] = {
    "table": to_text,
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
}


def _studies_in(directory: Path) -> list[Path]:
    marks = ("manifest.json", "conditions.parquet")
    folders = [directory, *sorted(directory.glob("*/"))]
    studies = [path for path in folders if all((path / mark).exists() for mark in marks)]
    if not studies:
        raise DataError(
            f"{directory}: no study found. Give a folder that mcsim run wrote, or a folder of such."
        )
    return studies


def _confidence(directory: Path) -> float:
    return float(json.loads((directory / "manifest.json").read_text())["confidence"])


def _summarize_study(directory: Path, usable: Sequence[str]) -> pa.Table:
    conditions = pq.read_table(directory / "conditions.parquet").drop_columns("swept")
    parts = sorted(path.name for path in (directory / "fits").glob("part-*.parquet"))
    fits = _read_parts(directory / "fits", parts, FIT_SCHEMA)
    estimates = _read_parts(directory / "estimates", parts, ESTIMATE_SCHEMA)

    cells = _keys(conditions, CELL).unique()
    cell_of_row = _locate(_keys(conditions, CELL), cells)
    cell_of_fit = _locate(_keys(fits, CELL), cells)
    row_of_estimate = _locate(_keys(estimates, LABELS), _keys(conditions, LABELS))
    is_usable = pc.is_in(fits["status"], pa.array(usable)).to_numpy()
    usable_fits = _fit_numbers(fits, cell_of_fit)[is_usable]
    kept = np.isin(_fit_numbers(estimates, cell_of_row[row_of_estimate]), usable_fits)

    alpha = round(1 - _confidence(directory), 12)
    samples = _samples(conditions, estimates.filter(kept), row_of_estimate[kept], alpha)
    results = _count_fits(fits, cell_of_fit, len(cells)).take(cell_of_row)
