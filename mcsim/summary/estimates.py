"""What a study's parts hold, by row of its conditions table: what measures are taken of.

A part is read once, and no text is compared row by row: a study may have millions of rows. What
memory should not hold waits in a temporary file, from where it is taken some rows at a time.
"""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.names import AT_TRUTH, ROW
from mcsim.results.folder import (
    STATUSES,
    Part,
    read_columns,
    read_parts,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
T = TypeVar("T", int, Ints)

NUMBERS = (
    *("estimate", "std_error", "ci_lower", "ci_upper", "p_value", "realized", "df"),
    *AT_TRUTH,
)
KEPT = ("replicate", *NUMBERS)
COLUMNS = {"estimates": (*ROW, *KEPT), "fits": (*ROW[:2], "replicate", "status")}
MOST_IN_MEMORY = 32_000_000  # bytes at a time
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


@contextmanager
def _temporary_file() -> Iterator[None]:
    """Say which file it is that cannot be written or read: it has no name."""
    try:
        yield
    except OSError as error:
        raise DataError(
            "a summary of many replicates needs a temporary file, which cannot be written:"
            f" {error.strerror}. Free space there, or name another folder: TMPDIR=FOLDER"
        ) from error


class _Pieces:
    """Numbers of rows in a file, piece by piece as they were read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._file.seek(0)
        self._places: dict[int, list[tuple[int, int]]] = {}  # of the pieces, and replicates in each
        self.n_bytes = 0

    def add(self, row: int, numbers: Floats) -> None:
        """Add the next piece of a row: replicates and their NUMBERS, (10, n)."""
        self._places.setdefault(row, []).append((self.n_bytes, numbers.shape[1]))
        with _temporary_file():
            self.n_bytes += self._file.write(numbers.tobytes())

    def of(self, row: int) -> Floats:
        """All that was added to a row, replicates in order: (10, n)."""
        found = np.empty((len(KEPT), sum(n for _, n in self._places.get(row, ()))))
        end = 0
        for place, n in self._places.get(row, ()):
            with _temporary_file():
                self._file.seek(place)
                piece = self._file.read(len(KEPT) * n * found.itemsize)
            found[:, end : end + n] = np.frombuffer(piece).reshape(len(KEPT), n)
            end += n
        if bool(np.all(found[0, 1:] > found[0, :-1])):
            return found
        return found[:, np.argsort(found[0], kind="stable")]


class Results:
    """Numbers of the fits of a study.

    conditions : its table, with the columns ROW; usable : statuses whose numbers count; file : for
    the numbers, as long as they are asked for
    """

    def __init__(self, conditions: pa.Table, usable: Sequence[str], file: IO[bytes]) -> None:
        keys = [tuple(row.values()) for row in conditions.select(ROW).to_pylist()]
        self._names = [
            {name: i for i, name in enumerate(dict.fromkeys(one))}
            for one in zip(*keys, strict=True)
        ]
        self._keys = [tuple(self._names[i][key[i]] for i in range(len(ROW))) for key in keys]
        self._row_of = np.full([len(names) for names in self._names], -1)
        self._row_of[tuple(zip(*self._keys, strict=True))] = np.arange(len(keys))
        self._fits: list[_Fits] = []
        self._usable = [STATUSES.index(status) for status in usable]
        self._n_fits = np.zeros((*self._row_of.shape[:2], len(STATUSES)), dtype=np.int64)
        self._pieces = _Pieces(file)

    def count_fits(self, row: int) -> list[int]:
        """Finished fits of a row's method, in the order of STATUSES."""
        return [int(count) for count in self._n_fits[self._keys[row][:2]]]

    def numbers(self, row: int) -> Floats:
        """NUMBERS of every usable fit of a row, in replicate order: (9, n)."""
        return self.numbered(row)[1]

    def numbered(self, row: int) -> tuple[Ints, Floats]:
        """Replicates of the usable fits of a row, in order, and their NUMBERS: (n,), (9, n)."""
        found = self._pieces.of(row)
        return found[0].astype(np.int64), found[1:]

    @property
    def n_bytes(self) -> int:
        """How much is kept."""
        return self._pieces.n_bytes

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
        return reduce(np.intersect1d, [self._usable_replicates(condition, one) for one in methods])

    def _usable_replicates(self, condition: int, method: int) -> Ints:
        ends = [self._fit(condition, method, replicate) for replicate in (0, MOST_REPLICATES)]
        found = [np.empty(0, dtype=np.int64)]
        for fits in self._fits:
            own = slice(*np.searchsorted(fits.fit, ends))
            found.append(fits.fit[own][np.isin(fits.status[own], self._usable)] - ends[0])
        return np.concatenate(found)

    def add(self, fits: pa.Table, estimates: pa.Table) -> None:
        """Add the statuses and the numbers of finished parts.

        Raises
        ------
        DataError
            The estimates hold what the conditions table does not list.
        """
        self._fits.append(self._statuses(fits))
        condition, method, parameter = (
            _codes(estimates[name], self._names[i]) for i, name in enumerate(ROW)
        )
        rows = self._row_of[condition, method, parameter]
        unlisted = np.flatnonzero(np.minimum.reduce([condition, method, parameter, rows]) < 0)
        if len(unlisted):
            found = estimates.select(ROW).slice(int(unlisted[0]), 1).to_pylist()[0]
            raise DataError(f"conditions.parquet does not list {found}, which estimates/ holds.")
        replicate = _integers(estimates["replicate"])
        status = self._fits[-1].of(self._fit(condition, method, replicate))
        kept = np.flatnonzero(np.isin(status, self._usable))
        order = kept[_stable_order(rows[kept], self._row_of.size)]
        numbers = np.stack([_floats(estimates[name])[order] for name in KEPT])
        starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        bounds = itertools.pairwise([*starts.tolist(), len(order)])
        for row, (start, end) in zip(rows[order][starts].tolist(), bounds, strict=True):
            self._pieces.add(row, numbers[:, start:end])

    def _statuses(self, fits: pa.Table) -> _Fits:
        condition, method = (_codes(fits[name], self._names[i]) for i, name in enumerate(ROW[:2]))
        status = _codes(fits["status"], {name: i for i, name in enumerate(STATUSES)})
        known = (condition >= 0) & (method >= 0)
        condition, method, status = condition[known], method[known], status[known]
        np.add.at(self._n_fits, (condition, method, status), 1)
        fit = self._fit(condition, method, _integers(fits["replicate"])[known])
        order = np.argsort(fit, kind="stable")
        return _Fits(fit[order], status[order].astype(np.int8))

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
    with tempfile.SpooledTemporaryFile(MOST_IN_MEMORY) as file:

        def read(parts: Sequence[Part]) -> Results:
            results = Results(conditions, usable, file)
            for fits, estimates in _read_ahead(study, list(_bundles(parts))):
                results.add(fits, estimates)
            return results

        results = read_parts(study, read)
        for rows in _portions(conditions, 1 + results.n_bytes // MOST_IN_MEMORY):
            yield rows, results


def _n_replicates(part: Part) -> int:
    return part.last - part.first + 1


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


def _bundles(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts that are read together."""
    bundle: list[Part] = []
    room = READ_TOGETHER
    for part in parts:
        room -= _n_replicates(part)
        if bundle and room < 0:
            yield bundle
            bundle, room = [], READ_TOGETHER - _n_replicates(part)
        bundle.append(part)
    if bundle:
        yield bundle


def _read_ahead(
    study: Path, bundles: Sequence[Sequence[Part]]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Fits and estimates of parts that are read together; the next are read meanwhile."""
    with ThreadPoolExecutor(N_READERS) as pool:

        def start(parts: Sequence[Part]) -> list[Iterator[pa.Table]]:
            return [pool.map(partial(_read, study, kind), parts) for kind in ("fits", "estimates")]

        upcoming = [start(parts) for parts in bundles[:1]]
        for _, following in itertools.zip_longest(bundles, bundles[1:]):
            fits, estimates = map(_joined, upcoming.pop())
            upcoming += [start(following)] if following else []
            yield fits, estimates


def _read(study: Path, kind: str, part: Part) -> pa.Table:
    return read_columns(study / part.path(kind), COLUMNS[kind])


def _joined(tables: Iterator[pa.Table]) -> pa.Table:
    return pa.concat_tables(list(tables)).combine_chunks()


def _codes(column: pa.ChunkedArray, numbers: dict[str, int]) -> Ints:
    """Number of every name, -1 for a name that has none."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names = [numbers.get(name, -1) for name in array.dictionary.to_pylist()]
    indices = np.asarray(array.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.array([*names, -1], dtype=np.int64).take(indices)


def _stable_order(values: Ints, end: int) -> Ints:
    """Order of whole numbers below `end`; numpy sorts those of 16 bits by counting."""
    is_small = end <= np.iinfo(np.int16).max
    return np.argsort(values.astype(np.int16) if is_small else values, kind="stable")


def _integers(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)
