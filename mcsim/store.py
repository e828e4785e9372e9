"""A study's folder: schemas, complete parts, what is done and missing; refuses another study.

The only module that writes result files. A chunk is written under another name, flushed and
renamed, its estimates first; the part in fits/ marks it as finished.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mcsim.errors import DataError, McsimError, StudyMismatchError

Range = tuple[int, int]  # first and last replicate

NAME = pa.dictionary(pa.int32(), pa.string())
ESTIMATES_SCHEMA = pa.schema(
    [
        ("condition", NAME),
        ("replicate", pa.int32()),
        ("method", NAME),
        ("parameter", NAME),
        ("component", NAME),
        *[
            (name, pa.float64())
            for name in (
                "estimate",
                "std_error",
                "df",
                "ci_lower",
                "ci_upper",
                "p_value",
                "realized",
            )
        ],
    ]
)
FITS_SCHEMA = pa.schema(
    [
        ("condition", NAME),
        ("replicate", pa.int32()),
        ("method", NAME),
        ("status", NAME),
        ("loglik", pa.float64()),
        ("evaluations", pa.int32()),
        ("certificate", pa.float64()),
        ("message", pa.string()),
    ]
)
FORMAT = 1
KEY_LENGTH = 12  # digits of a condition's identity in the names of its parts
PART = re.compile(r"part-([0-9a-f]+)-(\d+)-(\d+)\.parquet")
GRID = ((1_000, 50), (10_000, 250))  # up to this replicate, chunks of this size
LAST_CHUNK_SIZE = 2_000
STALE_S = 3600.0  # a temporary file this old belongs to a run that is gone


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


def chunk_end(first: int) -> int:
    """Last replicate of the grid cell that `first` lies in; the same for every study."""
    for end, size in GRID:
        if first <= end:
            return first + size - 1 - (first - 1) % size
    start = GRID[-1][0]
    return first + LAST_CHUNK_SIZE - 1 - (first - 1 - start) % LAST_CHUNK_SIZE


def cut(ranges: Sequence[Range]) -> Iterator[Range]:
    """Cut ranges at the ends of the grid's cells."""
    for first, last in ranges:
        while first <= last:
            end = min(last, chunk_end(first))
            yield first, end
            first = end + 1


def parse_ranges(text: str) -> tuple[Range, ...]:
    """Read `137` or `1201-1400` or several with commas.

    Raises
    ------
    McsimError
        The text is something else.
    """
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
    missing = []
    for first, last in merge(wanted):
        for start, end in merge(done):
            if start <= last and end >= first:
                if first < start:
                    missing.append((first, start - 1))
                first = end + 1
        if first <= last:
            missing.append((first, last))
    return tuple(missing)


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
            if overwrite:
                store.remove()
            else:
                store._refuse_another_study(description.identity)
            for folder in ("estimates", "fits", ".tmp"):
                (directory / folder).mkdir(parents=True, exist_ok=True)
            store._remove_stale_files()
            store._describe(description)
        return store

    def remove(self) -> None:
        """Remove a study's own files; any other file stays."""
        if not (self.directory / "manifest.json").exists():
            return
        for folder in ("estimates", "fits", ".tmp"):
            shutil.rmtree(self.directory / folder, ignore_errors=True)
        for name in ("scenario.toml", "conditions.parquet", "summary.parquet", "summary.csv"):
            (self.directory / name).unlink(missing_ok=True)
        (self.directory / "report.html").unlink(missing_ok=True)
        (self.directory / "manifest.json").unlink()

    def commit_chunk(self, chunk: Chunk, estimates: pa.Table, fits: pa.Table) -> None:
        """Make a finished chunk visible, complete or not at all."""
        with _writing(self.directory):
            self._write_table(estimates, Path("estimates") / chunk.part)
            self._write_table(fits, Path("fits") / chunk.part)

    def committed(self) -> dict[str, tuple[Range, ...]]:
        """Finished replicates by condition key, from the names of the parts alone."""
        estimates = {path.name for path in (self.directory / "estimates").glob("part-*.parquet")}
        done: dict[str, list[Range]] = {}
        for path in (self.directory / "fits").glob("part-*.parquet"):
            match = PART.fullmatch(path.name)
            if match and path.name in estimates:
                done.setdefault(match[1], []).append((int(match[2]), int(match[3])))
        return {key: merge(ranges) for key, ranges in done.items()}

    def status(self) -> list[str]:
        """A line per condition: planned, done, failed fits and missing replicates.

        Raises
        ------
        DataError
            The folder holds no study.
        """
        path = self.directory / "manifest.json"
        if not path.exists():
            raise DataError(f"{self.directory} holds no study; mcsim run makes one")
        manifest, done = json.loads(path.read_text()), self.committed()
        planned = int(manifest["replicates"])
        lines = []
        for label, identity in manifest["conditions"].items():
            key = identity[:KEY_LENGTH]
            missing = subtract([(1, planned)], done.get(key, ()))
            n_missing = sum(last - first + 1 for first, last in missing)
            rest = f"missing: --replicates {format_ranges(missing)}" if missing else "complete"
            lines.append(
                f"{label}: {planned} planned, {planned - n_missing} done,"
                f" {self._count_failed(key)} fits failed; {rest}"
            )
        return lines

    def _count_failed(self, key: str) -> int:
        parts = sorted((self.directory / "fits").glob(f"part-{key}-*.parquet"))
        return sum(
            status in ("failed", "not_converged")
            for part in parts
            for status in pq.read_table(part, columns=["status"])["status"].to_pylist()
        )

    def _refuse_another_study(self, identity: Mapping[str, object]) -> None:
        path = self.directory / "manifest.json"
        if not path.exists():
            names = (
                [one.name for one in self.directory.iterdir()] if self.directory.exists() else []
            )
            if set(names) - {".tmp"}:
                raise StudyMismatchError(
                    f"{self.directory} holds files but no study ({', '.join(sorted(names)[:3])});"
                    " name another folder with -o"
                )
            return
        there = json.loads(path.read_text())["identity"]
        here = json.loads(json.dumps(dict(identity)))
        if there != here:
            lines = "\n".join(f"  {line}" for line in _differences(there, here))
            raise StudyMismatchError(
                f"{self.directory} holds another study; these keys differ:\n{lines}\n"
                "Name another folder with -o, or replace the study with --overwrite."
            )

    def _describe(self, description: StudyDescription) -> None:
        identity = json.loads(json.dumps(dict(description.identity)))
        text = json.dumps(identity, sort_keys=True)
        manifest = {
            "format": FORMAT,
            "identity_hash": hashlib.sha256(text.encode()).hexdigest(),
            **description.manifest,
            "identity": identity,
        }
        self._write_bytes(description.scenario_text.encode(), Path("scenario.toml"))
        self._write_table(description.conditions, Path("conditions.parquet"))
        self._write_bytes((json.dumps(manifest, indent=2) + "\n").encode(), Path("manifest.json"))

    def _write_table(self, table: pa.Table, target: Path) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        self._write_bytes(buffer.getvalue(), target)

    def _write_bytes(self, content: bytes | pa.Buffer, target: Path) -> None:
        temporary = self.directory / ".tmp" / f"{uuid.uuid4().hex}-{target.name}"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        final = self.directory / target
        temporary.replace(final)
        _flush_folder(final.parent)

    def _remove_stale_files(self) -> None:
        for path in (self.directory / ".tmp").iterdir():
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink(missing_ok=True)


def _differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    lines = []
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            old = json.dumps(there[key]) if key in there else "absent"
            new = json.dumps(here[key]) if key in here else "absent"
            lines.append(f"{key} is {old} there and {new} here")
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
        raise McsimError(
            f"cannot write to {directory}: {error.strerror or error}. What was finished is safe;"
            " free space or name another folder with -o, and repeat the command"
        ) from error
