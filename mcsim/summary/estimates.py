"""What a study's parts hold, by row of its conditions table: what measures are taken of.

A part is read once, and no text is compared row by row: a study may have millions of rows.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError, PartReplacedError
from mcsim.names import AT_TRUTH, ROW
from mcsim.results.folder import (
    STATUSES,
    Part,
    contents_of,
    finished_parts,
    read_columns,
    read_manifest,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Parts = tuple[Part, ...]
T = TypeVar("T", int, Ints)

NUMBERS = (
    *("estimate", "std_error", "ci_lower", "ci_upper", "p_value", "realized", "df"),
    *AT_TRUTH,
)
ESTIMATE_COLUMNS = (*ROW, "replicate", *NUMBERS)
FIT_COLUMNS = (*ROW[:2], "replicate", "status")
KEPT_NUMBERS = 4_000_000  # in memory at a time: 32 MB
READ_TOGETHER = 2_000  # replicates of small parts: what a part costs beside its rows is paid once
N_READERS = 2
MOST_REPLICATES = 2**40  # more than any study has


class _Fits(NamedTuple):
    """Statuses of fits, by the number of condition, method and replicate (`_fit`), in order."""

    fit: Ints
    status: NDArray[np.int8]

    def of(self, fit: Ints) -> Ints:
        """Statuses of these fits, -1 where there is none."""
        if not len(self.fit):
            return np.full(len(fit), -1)
        place = np.minimum(np.searchsorted(self.fit, fit), len(self.fit) - 1)
        return np.where(self.fit[place] == fit, self.status[place], -1)


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
        self._row_of[tuple(zip(*self._keys, strict=True))] = np.arange(len(keys))
        self._is_wanted = np.zeros(len(keys), dtype=bool)
        self._fits_of: dict[Parts, _Fits] = {}
        self._usable = [STATUSES.index(status) for status in usable]
        self._n_fits = np.zeros((*self._row_of.shape[:2], len(STATUSES)), dtype=np.int64)
        self._n_most = n_most
        self._kept: dict[int, _Kept] = {}

    def count_fits(self, row: int) -> list[int]:
        """Finished fits of a row's method, in the order of STATUSES."""
        return [int(count) for count in self._n_fits[self._keys[row][:2]]]

    def numbers(self, row: int) -> Floats:
        """NUMBERS of every usable fit of a row, in replicate order: (9, n)."""
        return self.numbered(row)[1]

    def numbered(self, row: int) -> tuple[Ints, Floats]:
        """Replicates of the usable fits of a row, in order, and their NUMBERS: (n,), (9, n)."""
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
        condition = self._keys[row][0]
        methods = {key[1] for key in self._keys if key[0] == condition}
        return functools.reduce(
            np.intersect1d, [self._usable_replicates(condition, one) for one in methods]
        )

    def _usable_replicates(self, condition: int, method: int) -> Ints:
        ends = [self._fit(condition, method, replicate) for replicate in (0, MOST_REPLICATES)]
        found = [np.empty(0, dtype=np.int64)]
        for fits in self._fits_of.values():
            own = slice(*np.searchsorted(fits.fit, ends))
            found.append(fits.fit[own][np.isin(fits.status[own], self._usable)] - ends[0])
        return np.concatenate(found)

    def want(self, rows: Sequence[int]) -> None:
        """Keep the numbers of these rows from now on, and forget those of others."""
        self._is_wanted[:] = False
        self._is_wanted[list(rows)] = True
        self._kept = {}

    def has_fits(self, parts: Parts) -> bool:
        """Whether the statuses of some parts were added."""
        return parts in self._fits_of

    def add_estimates(self, parts: Parts, estimates: pa.Table) -> None:
        """Add the numbers of finished parts whose fits were added.

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
        status = self._fits_of[parts].of(self._fit(condition, method, replicate))
        kept = np.flatnonzero(self._is_wanted[rows] & np.isin(status, self._usable))
        order = kept[np.argsort(rows[kept], kind="stable")]
        values = np.stack([_floats(estimates[name])[order] for name in NUMBERS])
        replicate = replicate[order]
        starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        bounds = itertools.pairwise([*starts.tolist(), len(order)])
        for row, (start, end) in zip(rows[order][starts].tolist(), bounds, strict=True):
            if row not in self._kept:
                self._kept[row] = _Kept(self._n_most)
            self._kept[row].add(replicate[start:end], values[:, start:end])

    def add_fits(self, parts: Parts, fits: pa.Table) -> None:
        """Add the statuses of finished parts."""
        condition, method = (_codes(fits[name], self._names[i]) for i, name in enumerate(ROW[:2]))
        status = _codes(fits["status"], {name: i for i, name in enumerate(STATUSES)})
        known = (condition >= 0) & (method >= 0)
        condition, method, status = condition[known], method[known], status[known]
        np.add.at(self._n_fits, (condition, method, status), 1)
        fit = self._fit(condition, method, _integers(fits["replicate"])[known])
        order = np.argsort(fit, kind="stable")
        self._fits_of[parts] = _Fits(fit[order], status[order].astype(np.int8))

    def _fit(self, condition: T, method: T, replicate: T) -> T:
        """The number that stands for a fit."""
        fit: T = (condition * self._row_of.shape[1] + method) * MOST_REPLICATES + replicate
        return fit


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
    parts = finished_parts(study)
    n_passes = 1 + _count_numbers(study, parts, conditions) // KEPT_NUMBERS
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


def _count_numbers(study: Path, parts: Sequence[Part], conditions: pa.Table) -> int:
    """How many numbers there are if every fit has all its parameters."""
    contents = contents_of(read_manifest(study))
    keys = zip(*(conditions[name].to_pylist() for name in ROW[:2]), strict=True)
    n_rows = Counter(keys)
    n_rows_of = {
        key: sum(n_rows[one.condition, method] for method in one.methods)
        for key, one in contents.items()
    }
    return sum(_n_replicates(part) * n_rows_of[part.key] for part in parts) * len(NUMBERS)


def _n_replicates(part: Part) -> int:
    return part.last - part.first + 1


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


def _add_parts(results: Results, study: Path, parts: Sequence[Part]) -> None:
    for together, fits, estimates in _read_ahead(results, study, list(_bundles(parts))):
        if fits is not None:
            results.add_fits(together, fits)
        results.add_estimates(together, estimates)


def _bundles(parts: Sequence[Part]) -> Iterator[Parts]:
    """Parts that are read together."""
    bundle: list[Part] = []
    room = READ_TOGETHER
    for part in parts:
        room -= _n_replicates(part)
        if bundle and room < 0:
            yield tuple(bundle)
            bundle, room = [], READ_TOGETHER - _n_replicates(part)
        bundle.append(part)
    if bundle:
        yield tuple(bundle)


def _read_ahead(
    results: Results, study: Path, bundles: Sequence[Parts]
) -> Iterator[tuple[Parts, pa.Table | None, pa.Table]]:
    """Parts, their fits if they are not known, and estimates; the next are read meanwhile."""
    with ThreadPoolExecutor(N_READERS) as pool:

        def start(parts: Parts) -> list[Iterator[pa.Table]]:
            of_fits = () if results.has_fits(parts) else parts
            return [
                pool.map(lambda one: read_columns(study / one.path("fits"), FIT_COLUMNS), of_fits),
                pool.map(
                    lambda one: read_columns(study / one.path("estimates"), ESTIMATE_COLUMNS), parts
                ),
            ]

        upcoming = [start(parts) for parts in bundles[:1]]
        for parts, following in itertools.zip_longest(bundles, bundles[1:]):
            fits, estimates = (list(tables) for tables in upcoming.pop())
            upcoming += [start(following)] if following else []
            yield parts, _joined(fits) if fits else None, _joined(estimates)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


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
