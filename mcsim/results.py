"""What a study's parts hold, by row of its conditions table: what measures are taken of.

A part is read once, and no text is compared row by row: a study may have millions of rows.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError, PartReplacedError
from mcsim.parts import Part, count_rows, finished_parts, read_columns, read_parts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROW = ("condition", "method", "parameter")
NUMBERS = ("estimate", "std_error", "ci_lower", "ci_upper", "p_value", "realized")
ESTIMATE_COLUMNS = (*ROW, "replicate", *NUMBERS)
FIT_COLUMNS = (*ROW[:2], "replicate", "status")
KEPT_NUMBERS = 4_000_000  # in memory at a time: 32 MB
STATUSES = ("ok", "boundary", "not_converged", "failed")  # the first two are usable


class Results:
    """Numbers of the fits of a study.

    conditions : its table, with the columns ROW; usable : statuses whose numbers count
    rows : of the table, whose numbers are kept
    """

    def __init__(self, conditions: pa.Table, usable: Sequence[str], rows: Sequence[int]) -> None:
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
        self._is_wanted[rows] = True
        self._usable = [STATUSES.index(status) for status in usable]
        self._n_fits = np.zeros((*self._row_of.shape[:2], len(STATUSES)), dtype=np.int64)
        self._pieces: list[list[tuple[Ints, Floats]]] = [[] for _ in keys]
        self._usable_fits: dict[tuple[int, ...], list[Ints]] = {key[:2]: [] for key in self._keys}

    def count_fits(self, row: int) -> list[int]:
        """Finished fits of a row's method, in the order of STATUSES."""
        return [int(count) for count in self._n_fits[self._keys[row][:2]]]

    def numbers(self, row: int) -> Floats:
        """NUMBERS of every usable fit of a row, in replicate order: (6, n)."""
        return self.numbered(row)[1]

    def numbered(self, row: int) -> tuple[Ints, Floats]:
        """Replicates of the usable fits of a row, in order, and their NUMBERS: (n,), (6, n)."""
        pieces = self._pieces[row]
        if not pieces:
            return np.empty(0, dtype=np.int64), np.empty((len(NUMBERS), 0))
        replicates = np.concatenate([piece[0] for piece in pieces])
        values = np.concatenate([piece[1] for piece in pieces], axis=1)
        if bool(np.all(replicates[1:] > replicates[:-1])):
            return replicates, values
        order = np.argsort(replicates, kind="stable")
        return replicates[order], values[:, order]

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

    def forget_numbers(self) -> None:
        """Give their memory back."""
        self._pieces = [[] for _ in self._keys]

    def add_part(self, fits: pa.Table, estimates: pa.Table) -> None:
        """Add a finished part.

        Raises
        ------
        DataError
            The estimates hold what the conditions table does not list.
        """
        status_of, first = self._add_fits(fits)
        condition, method, parameter = (
            _codes(estimates[name], self._names[i]) for i, name in enumerate(ROW)
        )
        rows = self._row_of[condition, method, parameter]
        unlisted = np.flatnonzero(np.minimum.reduce([condition, method, parameter, rows]) < 0)
        if len(unlisted):
            found = estimates.select(ROW).slice(int(unlisted[0]), 1).to_pylist()[0]
            raise DataError(f"conditions.parquet does not list {found}, which estimates/ holds.")
        replicate = _integers(estimates["replicate"])
        step = replicate - first
        is_inside = (step >= 0) & (step < status_of.shape[2])
        status = np.where(is_inside, status_of[condition, method, np.where(is_inside, step, 0)], -1)
        kept = np.flatnonzero(self._is_wanted[rows] & np.isin(status, self._usable))
        order = kept[np.argsort(rows[kept], kind="stable")]
        values = np.stack([_floats(estimates[name])[order] for name in NUMBERS])
        bounds = np.flatnonzero(np.diff(rows[order], prepend=-1, append=-1))
        for start, end in itertools.pairwise(bounds):
            piece = replicate[order[start:end]], values[:, start:end]
            self._pieces[rows[order[start]]].append(piece)

    def _add_fits(self, fits: pa.Table) -> tuple[Ints, int]:
        """Status by condition, method and replicate, -1 where there is none; first replicate."""
        condition, method = (_codes(fits[name], self._names[i]) for i, name in enumerate(ROW[:2]))
        status = _codes(fits["status"], {name: i for i, name in enumerate(STATUSES)})
        replicate = _integers(fits["replicate"])
        first = int(replicate[0]) if len(replicate) else 1
        first, last = int(replicate.min(initial=first)), int(replicate.max(initial=first))
        status_of = np.full((*self._row_of.shape[:2], last - first + 1), -1)
        known = (condition >= 0) & (method >= 0)
        place = condition[known], method[known], (replicate - first)[known]
        status_of[place] = status[known]
        np.add.at(self._n_fits, (*place[:2], status[known]), 1)
        for key, fits in self._usable_fits.items():
            fits.append(first + np.flatnonzero(np.isin(status_of[key], self._usable)))
        return status_of, first


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
    for rows in _portions(conditions, n_passes):
        results = Results(conditions, usable, rows)
        try:
            _add_parts(results, study, parts)
        except PartReplacedError:  # only now, so that all rows are of the same replicates
            parts, results = finished_parts(study), Results(conditions, usable, rows)
            _add_parts(results, study, parts)
        yield rows, results
        results.forget_numbers()  # the caller still holds them while the next are read


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
    for part in parts:
        fits = read_columns(study / part.path("fits"), FIT_COLUMNS)
        estimates = read_columns(study / part.path("estimates"), ESTIMATE_COLUMNS)
        results.add_part(fits.combine_chunks(), estimates.combine_chunks())


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
