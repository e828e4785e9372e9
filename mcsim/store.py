"""A study's folder: schemas, complete parts, what is done and missing; refuses another study.

The only module that writes result files. A chunk is written under another name, flushed and
renamed, its estimates first; the part in fits/ marks it as finished.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcsim.errors import DataError, McsimError, StudyMismatchError

Range = tuple[int, int]  # first and last replicate

NAME = pa.dictionary(pa.int32(), pa.string())
MEASURES = ("estimate", "std_error", "df", "ci_lower", "ci_upper", "p_value", "realized")
ROW = [("condition", NAME), ("replicate", pa.int32()), ("method", NAME)]
ESTIMATES_SCHEMA = pa.schema(
    [*ROW, ("parameter", NAME), ("component", NAME), *[(name, pa.float64()) for name in MEASURES]]
)
FITS_SCHEMA = pa.schema(
    [
        *[*ROW, ("status", NAME), ("loglik", pa.float64()), ("evaluations", pa.int32())],
        *[("certificate", pa.float64()), ("message", pa.string())],
    ]
)
FORMAT = 1
KEY_LENGTH = 12  # digits of a condition's identity in the names of its parts
PART = re.compile(r"part-([0-9a-f]+)-(\d+)-(\d+)\.parquet")
GRID = ((500, 50), (2_000, 500))  # up to this replicate, chunks of this size
LAST_CHUNK_SIZE = 2_000
STALE_S = 3600.0  # a temporary file this old belongs to a run that is gone
FAILED = pa.array(["failed", "not_converged"])
OWN_FILES = (  # marks go before what they vouch for; manifest.json stays to claim the folder
    *("fits/part-*.parquet", "estimates/part-*.parquet", ".tmp/*", "scenario.toml"),
    *("conditions.parquet", "summary.parquet", "summary.csv", "report.html"),
)


@dataclass(frozen=True)
class Chunk:
    """Replicates `first` to `last` of one condition; `key` stands for its content."""

    condition: str
    key: str
    first: int
    last: int

    @property
    def part(self) -> str:
        """Name of its files."""
        return f"part-{self.key}-{self.first:07d}-{self.last:07d}.parquet"


def chunk_end(first: int, chunk_size: int | None = None) -> int:
    """Last replicate of the cell that `first` lies in: of the grid, the same for every study."""
    size = chunk_size or next((size for end, size in GRID if first <= end), LAST_CHUNK_SIZE)
    return first + size - 1 - (first - 1) % size


def cut(ranges: Sequence[Range], chunk_size: int | None = None) -> Iterator[Range]:
    """Cut ranges at the ends of the grid's cells, or of cells of `chunk_size`."""
    for first, last in ranges:
        while first <= last:
            end = min(last, chunk_end(first, chunk_size))
            yield first, end
            first = end + 1


def parse_ranges(text: str) -> tuple[Range, ...]:
    """Read `137` or `1201-1400` or several with commas; McsimError for any other text."""
    ranges = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise McsimError(
                f"{text!r} is no range of replicates; write 137, 1201-1400 or 1-50,101-150,"
                " counting from 1"
            )
        ranges.append((first, last))
    return merge(ranges)


def format_ranges(ranges: Sequence[Range]) -> str:
    """`1-50,137`: what `parse_ranges` reads."""
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def merge(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Sorted, without overlaps, neighbours joined."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def subtract(wanted: Sequence[Range], done: Sequence[Range]) -> tuple[Range, ...]:
    """What of `wanted` is not in `done`."""
    missing, done = [], merge(done)
    for first, last in merge(wanted):
        for start, end in done:
            if start <= last and end >= first:
                if first < start:
                    missing.append((first, start - 1))
                first = end + 1
        if first <= last:
            missing.append((first, last))
    return tuple(missing)


@dataclass(frozen=True)
class Parts:
    """The files of a chunk, ready to be written."""

    estimates: bytes
    fits: bytes
    n_failed: int


def encode(estimates: pa.Table, fits: pa.Table) -> Parts:
    """The files of a chunk; the tables need the columns of the schemas."""
    n_failed = pc.sum(pc.is_in(fits["status"], FAILED)).as_py() or 0
    return Parts(
        _parquet(estimates.cast(ESTIMATES_SCHEMA)), _parquet(fits.cast(FITS_SCHEMA)), n_failed
    )


@dataclass(frozen=True)
class StudyDescription:
    """What identifies a study and what a reader of its folder wants to know.

    identity : what determines the numbers, flat, dotted key to value
    """

    identity: Mapping[str, object]
    manifest: Mapping[str, object]
    scenario_text: str
    conditions: pa.Table


@dataclass(frozen=True)
class ConditionStatus:
    """How far a condition is, in replicates, and how many fits failed. As text, one line."""

    condition: str
    n_planned: int
    n_done: int
    n_failed: int
    missing: tuple[Range, ...]

    def __str__(self) -> str:
        ranges = format_ranges(self.missing)
        rest = f"missing: --replicates {ranges}" if ranges else "complete"
        return (
            f"{self.condition}: {self.n_planned} planned, {self.n_done} done,"
            f" {self.n_failed} fits failed; {rest}"
        )


@dataclass(frozen=True)
class Store:
    """An open study folder."""

    directory: Path

    @classmethod
    def open(
        cls, directory: Path, description: StudyDescription, *, overwrite: bool = False
    ) -> "Store":
        """Create the folder, or go on with the same study.

        Raises
        ------
        StudyMismatchError
            The folder holds something else; nothing was touched.
        """
        store = cls(directory)
        with _writing(directory):
            before = store._manifest_or_refusal()
            if before and not overwrite:
                store._refuse_another_study(before, description.identity)
            if overwrite:
                store._remove(OWN_FILES)
                before = {}
            (directory / ".tmp").mkdir(parents=True, exist_ok=True)
            store._remove([".tmp/*"], written_before=time.time() - STALE_S)
            store._describe(description, before)
            for folder in ("estimates", "fits"):
                (directory / folder).mkdir(exist_ok=True)
        return store

    def commit_chunk(self, chunk: Chunk, parts: "Parts") -> None:
        """Make a finished chunk visible, complete or not at all."""
        with _writing(self.directory):
            self._remove_unmarked(chunk)
            self._write_bytes(parts.estimates, Path("estimates") / chunk.part)
            self._write_bytes(parts.fits, Path("fits") / chunk.part)

    def committed(self) -> dict[str, tuple[Range, ...]]:
        """Finished replicates by condition key, from the names of the parts alone."""
        done: dict[str, list[Range]] = {}
        for _, key, replicates in self._finished_parts():
            done.setdefault(key, []).append(replicates)
        return {key: merge(ranges) for key, ranges in done.items()}

    def missing_replicates(self, key: str, wanted: Sequence[Range]) -> tuple[Range, ...]:
        """What of `wanted` the condition with this key lacks."""
        return subtract(wanted, self.committed().get(key, ()))

    def status(self) -> list[ConditionStatus]:
        """How far every planned condition is; DataError where the folder holds no study."""
        manifest = self._manifest()
        if not manifest:
            raise DataError(f"{self.directory} holds no study; mcsim run makes one")
        done, n_failed, lines = self.committed(), self._count_failed(), []
        n_planned = int(manifest["replicates"])
        for label, identity in manifest["conditions"].items():
            key = identity[:KEY_LENGTH]
            missing = subtract([(1, n_planned)], done.get(key, ()))
            n_done = n_planned - sum(last - first + 1 for first, last in missing)
            lines.append(ConditionStatus(label, n_planned, n_done, n_failed[key], missing))
        return lines

    def _finished_parts(self) -> Iterator[tuple[str, str, Range]]:
        """Name, condition key and replicates of each part in fits/ that has its estimates."""
        # fits first: whatever arrives in between has its estimates
        marks = sorted(path.name for path in self.directory.glob("fits/part-*.parquet"))
        estimates = {path.name for path in self.directory.glob("estimates/part-*.parquet")}
        for name in marks:
            match = PART.fullmatch(name)
            if match and name in estimates:
                yield name, match[1], (int(match[2]), int(match[3]))

    def _count_failed(self) -> Counter[str]:
        n_failed: Counter[str] = Counter()
        for name, key, _ in self._finished_parts():
            status = pq.ParquetFile(self.directory / "fits" / name).read(["status"])["status"]
            n_failed[key] += pc.sum(pc.is_in(status, FAILED)).as_py() or 0
        return n_failed

    def _manifest(self) -> dict[str, Any]:
        """The study's manifest; empty where there is none, or one of another program."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            manifest = json.loads((self.directory / "manifest.json").read_bytes())
            if isinstance(manifest, dict) and {"format", "identity"} <= manifest.keys():
                return manifest
        return {}

    def _manifest_or_refusal(self) -> dict[str, Any]:
        """The manifest; empty for a folder that is free."""
        manifest = self._manifest()
        names = {path.name for path in self.directory.glob("*")} - {".tmp"}
        if names and not manifest:
            raise StudyMismatchError(
                f"{self.directory} holds files but no study ({', '.join(sorted(names)[:3])});"
                " name another folder with -o"
            )
        return manifest

    def _refuse_another_study(
        self, manifest: Mapping[str, Any], identity: Mapping[str, object]
    ) -> None:
        there = {"format": manifest["format"]} | _as_read(manifest["identity"])
        if lines := _differences(there, {"format": FORMAT} | _as_read(identity)):
            raise StudyMismatchError(
                f"{self.directory} holds another study; these keys differ:\n{lines}"
                "Name another folder with -o, or replace the study with --overwrite."
            )

    def _describe(self, description: StudyDescription, before: Mapping[str, object]) -> None:
        identity = _as_read(description.identity)
        manifest = {
            "format": FORMAT,
            "identity_hash": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
            "created": before.get("created", datetime.now(UTC).date().isoformat()),
            **description.manifest,
            "identity": identity,
        }
        # the manifest first: whoever is killed in between has claimed the folder
        self._write_bytes((json.dumps(manifest, indent=2) + "\n").encode(), Path("manifest.json"))
        self._write_bytes(description.scenario_text.encode(), Path("scenario.toml"))
        self._write_bytes(_parquet(description.conditions), Path("conditions.parquet"))

    def _remove_unmarked(self, chunk: Chunk) -> None:
        """Remove what a killed run left in estimates/ without its mark, if it would double ours."""
        for path in self.directory.glob(f"estimates/part-{chunk.key}-*.parquet"):
            match = PART.fullmatch(path.name)
            overlaps = match and int(match[2]) <= chunk.last and int(match[3]) >= chunk.first
            mark = self.directory / "fits" / path.name
            if overlaps and path.name != chunk.part and not mark.exists():
                path.unlink(missing_ok=True)

    def _remove(self, patterns: Iterable[str], *, written_before: float = math.inf) -> None:
        for path in itertools.chain.from_iterable(map(self.directory.glob, patterns)):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                if path.stat().st_mtime < written_before:
                    path.unlink()

    def _write_bytes(self, content: bytes, target: Path) -> None:
        temporary = self.directory / ".tmp" / f"{uuid.uuid4().hex}-{target.name}"
        final = self.directory / target
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)  # on a full disk, half a file is in the way
            raise
        _flush_folder(final.parent)


def _parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pq.write_table(_canonical(table), buffer, compression="zstd", use_dictionary=names)
    return bytes(buffer.getvalue())


def _canonical(table: pa.Table) -> pa.Table:
    """Same content, same bytes: one chunk per column, dictionaries in order of appearance."""
    columns = [
        _in_order_of_appearance(column) if pa.types.is_dictionary(column.type) else column
        for column in table.combine_chunks().columns
    ]
    return pa.table(columns, schema=table.schema)


def _in_order_of_appearance(column: pa.ChunkedArray) -> pa.Array:
    if column.null_count or column.num_chunks != 1:
        return column.cast(pa.string()).combine_chunks().dictionary_encode()
    codes, names = column.chunk(0).indices, column.chunk(0).dictionary
    present = pc.unique(codes)
    new_codes = pc.index_in(codes, present)
    return pa.DictionaryArray.from_arrays(new_codes, names.take(present))


def _as_read(identity: Mapping[str, object]) -> dict[str, Any]:
    """As it comes back from the manifest: keys in order, lists for tuples."""
    return dict(json.loads(json.dumps(dict(identity), sort_keys=True)))


def _differences(there: Mapping[str, object], here: Mapping[str, object]) -> str:
    lines = ""
    for key in sorted(there.keys() | here.keys()):
        old, new = (json.dumps(one[key]) if key in one else "absent" for one in (there, here))
        lines += f"  {key} is {old} there and {new} here\n" if old != new else ""
    return lines


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free space" if is_full else "make it writable or name another folder with -o,"
        raise McsimError(
            f"cannot write to {directory}: {error.strerror or error}. What was finished is safe;"
            f" {advice} and repeat the command"
        ) from error
