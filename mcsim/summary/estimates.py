"""What a study's parts hold, by row of its conditions table: what measures are taken of.

A part is read once, and no text is compared row by row: a study may have millions of rows.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError, PartReplacedError
from mcsim.names import ROW
from mcsim.results.folder import (
    STATUSES,
    Part,
    count_rows,
    finished_parts,
    read_columns,
    read_parts,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUMBERS = ("estimate", "std_error", "ci_lower", "ci_upper", "p_value", "realized")
ESTIMATE_COLUMNS = (*ROW, "replicate", *NUMBERS)
FIT_COLUMNS = (*ROW[:2], "replicate", "status")
KEPT_NUMBERS = 4_000_000  # in memory at a time: 32 MB


class _Fits(NamedTuple):
    """Statuses of a part: (n_conditions, n_methods, n_replicates), -1 where there is none.

    conditions : numbers of those that the part has, sorted; first : its first replicate
    """

    conditions: Ints
    first: int
    status: NDArray[np.int8]

    def at(self, condition: Ints, method: Ints, replicate: Ints) -> Ints:
        """The status of every row of the estimates."""
        if not len(self.conditions):
            return np.full(len(condition), -1)
        step = replicate - self.first
        position = np.searchsorted(self.conditions, condition)
        position = np.minimum(position, len(self.conditions) - 1)
        is_inside = (step >= 0) & (step < self.status.shape[2])
        is_inside &= self.conditions[position] == condition
        found = self.status[position, method, np.where(is_inside, step, 0)]
        return np.where(is_inside, found, -1)


class _Kept:
    """Replicates and NUMBERS of a row, in one piece of memory for at most `n_most` replicates."""

    def __init__(self, n_most: int) -> None:
        self._replicates = np.empty(n_most, dtype=np.int64)
        self._values = np.empty((len(NUMBERS), n_most))
        self._n = 0

    def add(self, replicates: Ints, values: Floats) -> None:
        end = self._n + len(replicates)
        self._replicates[self._n : end], self._values[:, self._n : end] = replicates, values
        self._n = end

    def in_order(self) -> tuple[Ints, Floats]:
        replicates, values = self._replicates[: self._n], self._values[:, : self._n]
        if bool(np.all(replicates[1:] > replicates[:-1])):
            return replicates, values
        order = np.argsort(replicates, kind="stable")
        return replicates[order], values[:, order]


class Results:
    """Numbers of the fits of a study.

    conditions : its table, with the columns ROW; usable : statuses whose numbers count; n_most :
    replicates that a row can have
    """

    def __init__(self, conditions: pa.Table, usable: Sequence[str], n_most: int) -> None:
        keys = [tuple(row.values()) for row in conditions.select(ROW).to_pylist()]
        self._names = [
            {name: i for i, name in enumerate(dict.fromkeys(one))}
            for one in zip(*keys, strict=True)
        ]
        self._keys = [tuple(self._names[i][key[i]] for i in range(len(ROW))) for key in keys]
        self._row_of = np.full([len(names) for names in self._names], -1)
        for row, key in enumerate(self._keys):
            self._row_of[key] = row
        self._is_wanted = np.zeros(len(keys), dtype=bool)
        self._fits_of: dict[Part, _Fits] = {}
        self._usable = [STATUSES.index(status) for status in usable]
        self._n_fits = np.zeros((*self._row_of.shape[:2], len(STATUSES)), dtype=np.int64)
        self._n_most = n_most
        self._kept: dict[int, _Kept] = {}
        self._usable_fits: dict[tuple[int, ...], list[Ints]] = {key[:2]: [] for key in self._keys}

    def count_fits(self, row: int) -> list[int]:
        """Finished fits of a row's method, in the order of STATUSES."""
        return [int(count) for count in self._n_fits[self._keys[row][:2]]]

    def numbers(self, row: int) -> Floats:
        """NUMBERS of every usable fit of a row, in replicate order: (6, n)."""
        return self.numbered(row)[1]

    def numbered(self, row: int) -> tuple[Ints, Floats]:
        """Replicates of the usable fits of a row, in order, and their NUMBERS: (n,), (6, n)."""
        return self._kept.get(row, _Kept(0)).in_order()

    def method(self, row: int) -> str:
        """Name of the row's method."""
        return str(list(self._names[1])[self._keys[row][1]])

    def row_of(self, row: int, method: str) -> int | None:
        """The row of the same condition and parameter of another method; None if there is none."""
        condition, _, parameter = self._keys[row]
        if method not in self._names[1]:
            return None
        other = int(self._row_of[condition, self._names[1][method], parameter])
        return None if other < 0 else other

    def usable_by_all(self, row: int) -> Ints:
        """Replicates in which the fits of all methods of a row's condition are usable."""
        own = [
            np.concatenate([np.empty(0, dtype=np.int64), *fits])
            for key, fits in self._usable_fits.items()
            if key[0] == self._keys[row][0]
        ]
        return functools.reduce(np.intersect1d, own)

    def want(self, rows: Sequence[int]) -> None:
        """Keep the numbers of these rows from now on, and forget those of others."""
        self._is_wanted[:] = False
        self._is_wanted[list(rows)] = True
        self._kept = {}

    def has_fits(self, part: Part) -> bool:
        """Whether the statuses of a part were added."""
        return part in self._fits_of

    def add_estimates(self, part: Part, estimates: pa.Table) -> None:
        """Add the numbers of a finished part whose fits were added.

        Raises
        ------
        DataError
            The estimates hold what the conditions table does not list.
        """
        condition, method, parameter = (
            _codes(estimates[name], self._names[i]) for i, name in enumerate(ROW)
        )
        rows = self._row_of[condition, method, parameter]
        unlisted = np.flatnonzero(np.minimum.reduce([condition, method, parameter, rows]) < 0)
        if len(unlisted):
            found = estimates.select(ROW).slice(int(unlisted[0]), 1).to_pylist()[0]
            raise DataError(f"conditions.parquet does not list {found}, which estimates/ holds.")
        replicate = _integers(estimates["replicate"])
        status = self._fits_of[part].at(condition, method, replicate)
        kept = np.flatnonzero(self._is_wanted[rows] & np.isin(status, self._usable))
        order = kept[np.argsort(rows[kept], kind="stable")]
        values = np.stack([_floats(estimates[name])[order] for name in NUMBERS])
        bounds = np.flatnonzero(np.diff(rows[order], prepend=-1, append=-1))
        for start, end in itertools.pairwise(bounds):
            row = int(rows[order[start]])
            if row not in self._kept:
                self._kept[row] = _Kept(self._n_most)
            self._kept[row].add(replicate[order[start:end]], values[:, start:end])

    def add_fits(self, part: Part, fits: pa.Table) -> None:
        """Add the statuses of a finished part."""
        condition, method = (_codes(fits[name], self._names[i]) for i, name in enumerate(ROW[:2]))
        status = _codes(fits["status"], {name: i for i, name in enumerate(STATUSES)})
        replicate = _integers(fits["replicate"])
        first = int(replicate[0]) if len(replicate) else 1
        first, last = int(replicate.min(initial=first)), int(replicate.max(initial=first))
        known = (condition >= 0) & (method >= 0)
        own, position = np.unique(condition[known], return_inverse=True)
        status_of = np.full((len(own), self._row_of.shape[1], last - first + 1), -1, dtype=np.int8)
        status_of[position, method[known], (replicate - first)[known]] = status[known]
        np.add.at(self._n_fits, (condition[known], method[known], status[known]), 1)
        for number, one in enumerate(own.tolist()):
            for key, fits in self._usable_fits.items():
                if key[0] == one:
                    usable = np.isin(status_of[number, key[1]], self._usable)
                    fits.append(first + np.flatnonzero(usable))
        self._fits_of[part] = _Fits(own, first, status_of)


def read_results(
    study: Path, conditions: pa.Table, usable: Sequence[str]
) -> Iterator[tuple[list[int], Results]]:
    """Read the finished parts of a study, some rows of its conditions at a time to save memory.

    The rows that all methods have of one parameter of a condition come together.

    Raises
    ------
    DataError
        A part is damaged or does not fit the conditions.
    """
    parts, n_numbers = read_parts(study, lambda parts: (parts, _count_numbers(study, parts)))
    n_passes = 1 + n_numbers * len(NUMBERS) // KEPT_NUMBERS
    results = Results(conditions, usable, _span(parts))
    for rows in _portions(conditions, n_passes):
        results.want(rows)
        try:
            _add_parts(results, study, parts)
        except PartReplacedError:  # only now, so that all rows are of the same replicates
            parts = finished_parts(study)
            results = Results(conditions, usable, _span(parts))
            results.want(rows)
            _add_parts(results, study, parts)
        yield rows, results
        results.want(())  # the caller still holds them while the next are read


def _span(parts: Sequence[Part]) -> int:
    """Replicates from the first to the last of all parts."""
    last = max((part.last for part in parts), default=0)
    return last - min((part.first for part in parts), default=1) + 1


def _portions(conditions: pa.Table, n_portions: int) -> Iterator[list[int]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(conditions.select(ROW).to_pylist()):
        groups.setdefault((key["condition"], key["parameter"]), []).append(row)
    portion: list[int] = []
    for rows in groups.values():
        portion += rows
        if len(portion) * n_portions >= conditions.num_rows:
            yield portion
            portion = []
    if portion:
        yield portion


def _count_numbers(study: Path, parts: Sequence[Part]) -> int:
    return sum(count_rows(study / part.path("estimates")) for part in parts)


def _add_parts(results: Results, study: Path, parts: Sequence[Part]) -> None:
    for part, fits, estimates in _read_ahead(results, study, parts):
        if fits is not None:
            results.add_fits(part, fits.combine_chunks())
        results.add_estimates(part, estimates.combine_chunks())


def _read_ahead(
    results: Results, study: Path, parts: Sequence[Part]
) -> Iterator[tuple[Part, pa.Table | None, pa.Table]]:
    """Part, its fits if they are not known, and its estimates; the next is read meanwhile."""

    def read(part: Part) -> tuple[Part, pa.Table | None, pa.Table]:
        is_known = results.has_fits(part)
        fits = None if is_known else read_columns(study / part.path("fits"), FIT_COLUMNS)
        return part, fits, read_columns(study / part.path("estimates"), ESTIMATE_COLUMNS)

    with ThreadPoolExecutor(1) as pool:
        upcoming = [pool.submit(read, part) for part in parts[:1]]
        for following in [*parts[1:], None]:
            if not upcoming:
                return
            current = upcoming.pop().result()
            if following is not None:
                upcoming.append(pool.submit(read, following))
            yield current


def _codes(column: pa.ChunkedArray, numbers: dict[str, int]) -> Ints:
    """Number of every name, -1 for a name that has none."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names = [numbers.get(name, -1) for name in array.dictionary.to_pylist()]
    indices = np.asarray(array.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.array([*names, -1], dtype=np.int64)[indices]


def _integers(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)
