"""A study's folder, written: complete parts, what is done and missing; refuses another study.

The only module that writes results. Every file is written under another name, flushed and renamed;
a part's record in commits/ comes last and marks it as finished.
"""

import contextlib
import hashlib
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError, LargerStudyError, StudyMismatchError
from mcsim.names import AT_TRUTH, ESTIMATES
from mcsim.results.folder import (
    CHECKSUM,
    FORMAT,
    KINDS,
    MANIFEST,
    READABLE,
    STATUSES,
    SUFFIXES,
    TABLES,
    WRITTEN_AGAIN,
    Listing,
    Part,
    checksum,
    contents_of,
    digest,
    find_manifest,
    is_as_written,
    list_parts,
    read_columns,
    read_manifest,
    read_parts,
    record,
    refuse_links,
    refuse_other_format,
    refuse_other_size,
)
from mcsim.results.identity import Identity, PartContents, changed_keys, first_of, grow
from mcsim.results.parquet import parquet
from mcsim.results.ranges import Range, merge, subtract
from mcsim.results.status import ConditionStatus, StudyStatus
from mcsim.results.whole_files import alone_in, make_room, new_folder, write_whole, writing

NAME = pa.dictionary(pa.int32(), pa.string())
KEYS = [("condition", NAME), ("replicate", pa.int32()), ("method", NAME)]
_ESTIMATED = [(name, pa.float64()) for name in (*ESTIMATES, "realized", *AT_TRUTH)]
ESTIMATES_SCHEMA = pa.schema([*KEYS, ("parameter", NAME), ("component", NAME), *_ESTIMATED])
FITS_SCHEMA = pa.schema(
    [
        *[*KEYS, ("status", NAME), ("loglik", pa.float64()), ("evaluations", pa.int32())],
        *[("certificate", pa.float64()), ("message", pa.string())],
    ]
)
RESPELT = (
    "The conditions are the same, written otherwise: write swept values as {}/scenario.toml has."
)
OVERWRITE = "Name another folder with -o, or replace the study with --overwrite."
STALE_S = 3600.0  # a temporary file this old belongs to a run that is gone
FAILED = tuple(STATUSES[one] for one in (Status.FAILED, Status.NOT_CONVERGED))
OWN_FILES = (  # marks go before what they vouch for; manifest.json stays to claim the folder
    *("commits/part-*.json", "fits/part-*.parquet", "estimates/part-*.parquet", ".tmp/*"),
    *("scenario.toml", "conditions.parquet", "summary.parquet", "summary.csv", "report.html"),
    f"{TABLES}/*",
)


@dataclass(frozen=True)
class Chunk:
    """Replicates `first` to `last` of one condition, by some methods; none named: by all.

    is_lost : whether it is one replicate that ended its workers, so that its fits have failed
    """

    condition: str
    key: str
    first: int
    last: int
    methods: tuple[str, ...] = ()
    is_lost: bool = field(default=False, repr=False)

    @property
    def part(self) -> Part:
        """The files that it becomes."""
        return Part(self.key, self.first, self.last)


@dataclass(frozen=True)
class PartFiles:
    """The files of a chunk, ready to be written, and the SHA-256 of each."""

    estimates: bytes
    fits: bytes
    n_fits: int
    n_failed: int
    digests: dict[str, tuple[int, str]]


def encode(estimates: pa.Table, fits: pa.Table) -> PartFiles:
    """The files of a chunk; the tables need the columns of the schemas."""
    n_failed = _n_failed(fits["status"])
    files = parquet(estimates.cast(ESTIMATES_SCHEMA)), parquet(fits.cast(FITS_SCHEMA))
    return PartFiles(
        *files, fits.num_rows, n_failed, dict(zip(KINDS, map(digest, files), strict=True))
    )


@dataclass(frozen=True)
class StudyDescription:
    """What identifies a study and what a reader of its folder wants to know.

    conditions : its table; tables : contents of the files of its designs, by name
    """

    identity: Identity
    manifest: Mapping[str, object]
    scenario_text: str
    conditions: pa.Table
    tables: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """An open study folder.

    contents : what its parts hold, by key; is_kept : whether files must outlive a power failure
    """

    directory: Path
    contents: Mapping[str, PartContents] = field(repr=False)
    is_kept: bool = True

    @classmethod
    def open(
        cls,
        directory: Path,
        description: StudyDescription,
        *,
        overwrite: bool = False,
        is_kept: bool = True,
    ) -> "Store":
        """Create the folder, or go on with the same study, which may have grown.

        Raises
        ------
        StudyMismatchError
            The folder holds something else; nothing was touched.
        LargerStudyError
            Another process made the study larger than the description says.
        """
        with writing(directory):
            _before(directory, description, overwrite)  # refuses before there is a folder
            with new_folder(directory / ".tmp"), alone_in(directory):
                kept = _before(directory, description, overwrite)
                store = cls(directory, grow(contents_of(kept), description.identity), is_kept)
                if overwrite:
                    store._remove(OWN_FILES)
                store._remove([".tmp/*"], written_before=time.time() - STALE_S)
                store._describe(description, created=kept.get("created"))
                for folder in SUFFIXES:
                    (directory / folder).mkdir(exist_ok=True)
                store.tidy()
        return store

    @classmethod
    def read(cls, directory: Path) -> "Store":
        """The study in a folder; errors as of `read_manifest`."""
        return cls(directory, contents_of(read_manifest(directory)))

    def commit(self, done: Sequence[tuple[Chunk, PartFiles]]) -> None:
        """Make finished chunks visible, each complete or not at all.

        What their records vouch for is durable before the first of these is written.
        """
        files: dict[Path, bytes] = {}
        marks: dict[Path, bytes] = {}
        for chunk, of_chunk in done:
            files |= {chunk.part.path(kind): getattr(of_chunk, kind) for kind in KINDS}
            mark = record(chunk.part, self.contents[chunk.key], of_chunk.digests)
            marks[chunk.part.path("commits")] = mark
        with writing(self.directory):
            self._write(files)
            self._write(marks)
            # another run took them for leftovers before they had their mark
            gone = {path for path in files if not (self.directory / path).exists()}
            self._write({path: files[path] for path in gone})

    def committed(self) -> dict[str, tuple[Range, ...]]:
        """Finished replicates by key, from the names of the files alone."""
        return _ranges_of(self._list().finished)

    def tidy(self) -> None:
        """Remove parts that double rows of others: of runs at the same time, and of killed ones."""
        listing = self._list()
        with writing(self.directory):
            for part in listing.redundant:
                self._remove_part(part)
            for part in listing.unfinished:
                if any(_overlap(part, finished) for finished in listing.finished):
                    self._remove_part(part)

    def unmark(self, parts: Iterable[Part]) -> None:
        """Take the marks off parts, so that they count as missing; and what is no file away.

        A folder that holds something is renamed, and then foreign.
        """
        with writing(self.directory):
            for part in parts:
                for folder in SUFFIXES:
                    make_room(self.directory / part.path(folder), is_kept=folder != "commits")

    def restore_scenario(self) -> None:
        """Write scenario.toml as it was; a DataError where the manifest is older than its copy."""
        path, text = Path("scenario.toml"), read_manifest(self.directory).get("scenario")
        if text is None:
            raise DataError(f"{self.directory / path} is damaged or missing. {WRITTEN_AGAIN}")
        with writing(self.directory):
            make_room(self.directory / path, is_kept=True)
            self._write({path: text.encode()})

    def status(self) -> StudyStatus:
        """How far every planned condition is."""
        n_planned = read_manifest(self.directory)["replicates"]
        n_failed, missing = read_parts(self.directory, self._count)
        found = []
        for label, ranges in missing.items():
            n_done = n_planned - sum(last - first + 1 for first, last in ranges)
            found.append(ConditionStatus(label, n_planned, n_done, n_failed[label], ranges))
        return StudyStatus(found)

    def missing(self) -> dict[str, tuple[Range, ...]]:
        """Planned replicates by condition that some method lacks."""
        return self._missing(self.committed())

    def _missing(self, done: Mapping[str, Sequence[Range]]) -> dict[str, tuple[Range, ...]]:
        manifest = read_manifest(self.directory)
        planned = [(1, manifest["replicates"])]
        ranges: dict[str, list[Range]] = {label: [] for label in manifest["conditions"]}
        for key, contents in self.contents.items():
            ranges[contents.condition] += subtract(planned, done.get(key, ()))
        return {label: merge(found) for label, found in ranges.items()}

    def _list(self) -> Listing:
        return list_parts(self.directory, self.contents)

    def _count(self, parts: Sequence[Part]) -> tuple[Counter[str], dict[str, tuple[Range, ...]]]:
        """Failed fits of finished parts by condition, and what is missing."""
        n_failed: Counter[str] = Counter()
        for part in parts:
            refuse_other_size(self.directory / part.path("estimates"))  # all of it is not read
            status = read_columns(self.directory / part.path("fits"), ["status"])["status"]
            label = self.contents[part.key].condition
            n_failed[label] += _n_failed(status)
        return n_failed, self._missing(_ranges_of(parts))

    def _describe(self, description: StudyDescription, *, created: str | None) -> None:
        identity = description.identity
        manifest = {
            "format": FORMAT,
            "identity_hash": hashlib.sha256(json.dumps(identity.values).encode()).hexdigest(),
            "created": created or datetime.now(UTC).date().isoformat(),
            **description.manifest,
            "scenario": description.scenario_text,
            "conditions": identity.conditions,
            "parts": {
                key: {"condition": one.condition, "methods": one.methods}
                for key, one in self.contents.items()
            },
            "identity": identity.values,
        }
        files = {
            Path("scenario.toml"): description.scenario_text.encode(),
            Path("conditions.parquet"): parquet(description.conditions),
            **{Path(TABLES) / name: content for name, content in description.tables.items()},
        }
        if description.tables:
            (self.directory / TABLES).mkdir(exist_ok=True)
        manifest["files"] = {one.as_posix(): digest(content)[1] for one, content in files.items()}
        manifest[CHECKSUM] = checksum(manifest)
        # the manifest first: whoever is killed in between has claimed the folder
        self._write({Path(MANIFEST): (json.dumps(manifest, indent=2) + "\n").encode()})
        self._write(files)

    def _remove_part(self, part: Part) -> None:
        for folder in SUFFIXES:  # its mark first
            (self.directory / part.path(folder)).unlink(missing_ok=True)

    def _remove(self, patterns: Iterable[str], *, written_before: float = math.inf) -> None:
        for path in itertools.chain.from_iterable(map(self.directory.glob, patterns)):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                if path.stat().st_mtime < written_before:
                    path.unlink()

    def _write(self, contents: Mapping[Path, bytes]) -> None:
        """Write files, whose paths are relative to the study."""
        whole = {self.directory / path: content for path, content in contents.items()}
        write_whole(whole, self.directory / ".tmp", is_durable=self.is_kept)


def _before(directory: Path, description: StudyDescription, overwrite: bool) -> dict[str, Any]:
    """What the folder says of the study that goes on; errors as of `Store.open`."""
    before = _manifest_or_refusal(directory, description)
    if overwrite or not before:
        return {}
    refuse_another_study(directory, before, description.identity)
    n_planned = description.manifest["replicates"]
    if is_as_written(before) and before["replicates"] > n_planned:
        raise LargerStudyError(directory)
    return before


def _manifest_or_refusal(directory: Path, description: StudyDescription) -> dict[str, Any]:
    """The manifest; empty for a folder that is free, or whose manifest is damaged.

    Of a study with the same scenario, the manifest can be made again.
    """
    refuse_links(directory)
    names = {path.name for path in directory.glob("*")} - {".tmp"}  # before another run begins
    scenario, text = directory / "scenario.toml", description.scenario_text.encode()
    is_ours = scenario.is_file() and scenario.read_bytes() == text
    try:
        manifest = find_manifest(directory)
    except DataError:
        if not is_ours:
            raise
        manifest = {}
    if is_ours:
        is_sound = is_as_written(manifest) or manifest["format"] not in READABLE
        return manifest if is_sound or manifest["identity"] == description.identity.values else {}
    if names and not manifest:
        raise StudyMismatchError(
            f"{directory} holds files but no study ({', '.join(sorted(names)[:3])});"
            " name another folder with -o"
        )
    return manifest


def refuse_another_study(
    directory: Path, manifest: Mapping[str, Any], here: Identity, *, advice: str = OVERWRITE
) -> None:
    """Raise a StudyMismatchError where the study in a folder cannot become this one."""
    refuse_other_format(directory, manifest)
    there = Identity(manifest["identity"], manifest["conditions"])
    found = []
    for key in changed_keys(there, here):
        old, new = (
            json.dumps(one.values[key]) if key in one.values else "absent" for one in (there, here)
        )
        found.append(f"{key} is {old} there and {new} here")
    if found:
        if _are_respelt(there.conditions, here.conditions):
            advice = f"{RESPELT.format(directory)} {advice}"
        lines = "".join(f"  {one}\n" for one in first_of(found))
        raise StudyMismatchError(
            f"{directory} holds another study; these keys differ:\n{lines}{advice}"
        )


def _are_respelt(there: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether conditions that are there are here too, under other labels."""
    kept = {label for label, identity in there.items() if here.get(label) == identity}
    return len(kept) < len(there) and {*there.values()} <= {*here.values()}


def failed_fits(fits: pa.Table) -> pa.Table:
    """The rows of fits that failed or did not converge."""
    return fits.filter(pc.is_in(fits["status"], pa.array(FAILED)))


def _n_failed(status: pa.ChunkedArray) -> int:
    # pc.is_in would need an array of names, and the first that is made loads pandas: 0.2 s
    counts = {one["values"]: int(one["counts"]) for one in pc.value_counts(status).to_pylist()}
    return sum(counts.get(name, 0) for name in FAILED)


def _ranges_of(parts: Iterable[Part]) -> dict[str, tuple[Range, ...]]:
    """Replicates by key."""
    found: dict[str, list[Range]] = {}
    for part in parts:
        found.setdefault(part.key, []).append((part.first, part.last))
    return {key: merge(ranges) for key, ranges in found.items()}


def _overlap(one: Part, other: Part) -> bool:
    return one.key == other.key and one.first <= other.last and other.first <= one.last
