"""Rows of estimates/ and fits/: those that are asked for, of the finished parts of a study."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mcsim.results.folder import Part, contents_of, read_columns, read_manifest, read_parts
from mcsim.results.ranges import Range, parse_ranges
from mcsim.summary.estimates import MOST_REPLICATES


def read_rows(
    study: Path,
    folder: str,
    schema: pa.Schema,
    wanted: Mapping[str, Sequence[str]],
    replicates: str | None = None,
) -> pa.Table:
    """Rows with these names, by column, condition by condition, in replicate order.

    Raises
    ------
    DataError
        There is no study, a part of it is damaged, or `replicates` are no ranges.
    """
    manifest = read_manifest(study)
    conditions, contents = list(manifest["conditions"]), contents_of(manifest)
    ranges = [(1, sys.maxsize)] if replicates is None else parse_ranges(replicates, MOST_REPLICATES)

    def place(part: Part) -> tuple[int, int]:
        return conditions.index(contents[part.key].condition), part.first

    def read(parts: list[Part]) -> pa.Table:
        tables = [
            _chosen(read_columns(study / part.path(folder), schema.names), wanted, ranges)
            for part in sorted(parts, key=place)
            if any(first <= part.last and part.first <= last for first, last in ranges)
        ]
        return pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries()

    return read_parts(study, read)


def _chosen(
    table: pa.Table, wanted: Mapping[str, Sequence[str]], ranges: Sequence[Range]
) -> pa.Table:
    numbers = table["replicate"].to_numpy()
    is_wanted = np.zeros(len(numbers), dtype=bool)
    for first, last in ranges:
        is_wanted |= (numbers >= first) & (numbers <= last)
    for name, names in wanted.items():
        column = table[name].combine_chunks()
        known = column.dictionary.to_pylist()
        is_wanted &= np.isin(column.indices, np.flatnonzero(np.isin(known, names)))
    return table.filter(pa.array(is_wanted))
