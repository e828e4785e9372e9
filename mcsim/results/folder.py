"""The files of a study's folder: its manifest, its parts, and which of them are finished.

A part is a chunk of replicates: a file in estimates/, one in fits/, and a record in commits/, which
is written last and marks it as finished. Which files a study has is the business of store.py, how
a file is written that of whole_files.py.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from re import compile as pattern
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError, model_validator

from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError, PartReplacedError, StudyMismatchError
from mcsim.names import AT_TRUTH, Parameter, condition_in_words
from mcsim.results.identity import PartContents
from mcsim.results.ranges import Range, outermost

T = TypeVar("T")

FORMAT = 3  # of a study's folder
READABLE = (2, FORMAT)  # format 2 lacks some columns of the table of conditions
KINDS = ("estimates", "fits")
STATUSES = tuple(status.name.lower() for status in Status)  # as fits/ names them
SUFFIXES = {"commits": ".json", "estimates": ".parquet", "fits": ".parquet"}
MANIFEST, CHECKSUM, TABLES = "manifest.json", "checksum", "tables"
SCENARIO, CONDITIONS = "scenario.toml", "conditions.parquet"
PLAN = "plan.json"  # of a folder of such folders
OWN_NAMES = (  # of what a folder holds beside its parts
    *(MANIFEST, SCENARIO, CONDITIONS, "report.html", ".tmp", TABLES),
    *SUFFIXES,
)
WRITTEN_AGAIN = "Repeat `mcsim run`, or `plan`, of this study, which writes it again"
NAME = pattern(r"part-([0-9a-f]+)-(\d+)-(\d+)")


class _Contents(BaseModel):
    condition: str
    methods: list[str]


class _Manifest(BaseModel):
    """What is read of a manifest, which has more."""

    identity: dict[str, Any]
    conditions: dict[str, str]
    replicates: int = Field(ge=1)
    confidence: float = Field(gt=0, lt=1)
    parts: dict[str, _Contents] = {}
    fallbacks: dict[str, str] = {}
    files: dict[str, str] = {}
    versions: dict[str, str] = {}
    title: str = ""
    scenario: str | None = None
    created: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = {one.condition for one in self.parts.values()} <= self.conditions.keys()
        if not known or not isinstance(self.identity.get("methods.names"), list):
            raise ValueError("parts of no condition, or no methods")
        return self


@dataclass(frozen=True, order=True)
class Part:
    """Replicates `first` to `last` of what `key` stands for."""

    key: str
    first: int
    last: int

    def path(self, folder: str) -> Path:
        """Its file in `estimates`, `fits` or `commits`, relative to the study."""
        return Path(folder) / f"{self}{SUFFIXES[folder]}"

    def __str__(self) -> str:
        return f"part-{self.key}-{self.first:07d}-{self.last:07d}"


@dataclass(frozen=True)
class Listing:
    """The files of a study's folder, sorted.

    redundant : finished parts that lie, or begin, within another
    unfinished : parts that lack a file; foreign : paths of files that are no part of this study
    """

    finished: list[Part]
    redundant: list[Part]
    unfinished: list[Part]
    foreign: list[Path]


def find_manifest(directory: Path) -> dict[str, Any]:
    """The study's manifest; empty where there is none, or one of another program.

    Raises
    ------
    DataError
        It cannot be read or lacks what every manifest has, or a link stands in the folder.
    """
    refuse_links(directory)
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    except OSError as error:  # a folder or a link to itself in its place
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(manifest, dict) or not {"format", "identity"} <= manifest.keys():
        return {}
    if manifest["format"] in READABLE:
        _refuse_other_shape(path, manifest)
    return manifest


def refuse_links(directory: Path) -> None:
    """Raise a DataError for what leads out of the folder: nothing there is read or written."""
    for path in (directory / name for name in OWN_NAMES):
        if path.is_symlink():
            raise DataError(f"{path} is a link; replace it by what it leads to")


def _refuse_other_shape(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise a DataError for a manifest that no mcsim has written so."""
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "parts"
        raise DataError(f"{path} is damaged at {where!r}. {WRITTEN_AGAIN}") from None


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the study in a folder.

    Raises
    ------
    DataError
        There is no study, or its manifest is damaged.
    StudyMismatchError
        Another version of mcsim wrote it, with other files.
    """
    manifest = find_manifest(directory)
    path = directory / MANIFEST
    if not manifest and os.path.lexists(path):
        raise DataError(f"{path} is none of a study, or damaged: mcsim cannot read it")
    if not manifest and (directory / PLAN).is_file():
        raise DataError(f"{directory} holds a plan; the folders in it are studies, one per design")
    if not manifest:
        raise DataError(f"{directory} holds no study; mcsim run makes one")
    refuse_other_format(directory, manifest)
    if not is_as_written(manifest):
        raise DataError(f"{path} is damaged: not what was written (SHA-256). {WRITTEN_AGAIN}")
    return manifest


def is_as_written(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest has its checksum; those of before have none."""
    return manifest.get(CHECKSUM) in (None, checksum(manifest))


def checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, but for this number itself."""
    said = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return digest(json.dumps(said, sort_keys=True).encode())[1]


def refuse_other_format(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raise a StudyMismatchError for a study whose files are laid out in another way."""
    if manifest["format"] not in READABLE:
        versions = manifest.get("versions")
        version = versions.get("mcsim", "?") if isinstance(versions, dict) else "?"
        raise StudyMismatchError(
            f"{directory} holds a study of format {manifest['format']}, written by mcsim {version};"
            f" this mcsim reads and writes format {FORMAT}. Make it again, in another folder."
        )


def tables_of(manifest: Mapping[str, Any]) -> list[str]:
    """Files of the tables of a study's designs, by names in its folder TABLES."""
    files = map(PurePosixPath, manifest.get("files", {}))
    return [one.name for one in files if one.parts == (TABLES, one.name)]


def contents_of(manifest: Mapping[str, Any]) -> dict[str, PartContents]:
    """What the parts of a study hold, by key."""
    return {
        key: PartContents(one["condition"], tuple(one["methods"]))
        for key, one in manifest.get("parts", {}).items()
    }


def list_parts(directory: Path, keys: Collection[str]) -> Listing:
    """Tell parts with one of the keys apart from other files, by their names alone."""
    found: dict[Part, int] = {}
    foreign = []
    for folder, suffix in SUFFIXES.items():  # commits first: what comes in between has its files
        for name in sorted(path.name for path in (directory / folder).glob("[!.]*")):
            part = _part(name.removesuffix(suffix))
            if part is None or part.key not in keys or name != f"{part}{suffix}":
                foreign.append(Path(folder) / name)
            else:
                found[part] = found.get(part, 0) + 1
    finished = [part for part, n_files in found.items() if n_files == len(SUFFIXES)]
    kept = _outermost_parts(finished)
    return Listing(
        finished=sorted(kept),
        redundant=sorted(part for part in finished if part not in kept),
        unfinished=sorted(part for part, n_files in found.items() if n_files < len(SUFFIXES)),
        foreign=foreign,
    )


def finished_parts(directory: Path) -> list[Part]:
    """Finished parts of the study in a folder, every replicate once."""
    return list_parts(directory, contents_of(read_manifest(directory))).finished


def read_parts(directory: Path, read: Callable[[list[Part]], T]) -> T:
    """What `read` makes of the finished parts, once more if a run has replaced some meanwhile."""
    try:
        return read(finished_parts(directory))
    except PartReplacedError:
        return read(finished_parts(directory))


def record(part: Part, contents: PartContents, files: Mapping[str, tuple[int, str]]) -> bytes:
    """What commits/ holds of a part.

    files : bytes and SHA-256, by kind
    """
    described = {
        "condition": contents.condition,
        "methods": contents.methods,
        "first": part.first,
        "last": part.last,
    } | {kind: {"bytes": files[kind][0], "sha256": files[kind][1]} for kind in KINDS}
    return (json.dumps(described, ensure_ascii=False) + "\n").encode()


def recorded_digests(mark: bytes) -> Mapping[str, tuple[int, str]]:
    """Bytes and SHA-256 by kind; empty where a record cannot be read."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        found = json.loads(mark)
        return {kind: (int(found[kind]["bytes"]), found[kind]["sha256"]) for kind in KINDS}
    return {}


def damage_of(content: bytes, recorded: tuple[int, str]) -> str:
    """What is wrong with a file's content, given what its record says; empty for nothing."""
    found = digest(content)
    if found[0] < recorded[0]:
        return f"truncated: {found[0]} of {recorded[0]} bytes"
    return "" if found == recorded else "corrupted: not what was written (SHA-256)"


def digest(content: bytes) -> tuple[int, str]:
    """Bytes and SHA-256 of a file's content."""
    return len(content), hashlib.sha256(content).hexdigest()


def read_conditions(directory: Path) -> pa.Table:
    """The conditions, methods and parameters of the study in a folder, in the columns of FORMAT.

    Raises
    ------
    DataError
        There is no study, or its table of conditions cannot be read.
    """
    read_manifest(directory)
    path = directory / CONDITIONS
    try:
        table = read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. {WRITTEN_AGAIN}") from error
    is_of_format_2 = "parameter" in table.column_names and "kind" not in table.column_names
    return _as_of_format_3(table) if is_of_format_2 else table


def _as_of_format_3(table: pa.Table) -> pa.Table:
    """A table of format 2 with the columns that it lacks, null for the words of a design."""
    names = zip(table["parameter"].to_pylist(), table["component"].to_pylist(), strict=True)
    parameters = [Parameter.read(*one) for one in names]
    words = [condition_in_words(json.loads(one)) for one in table["swept"].to_pylist()]
    added = {
        "kind": [one.kind for one in parameters],
        "level": [one.level for one in parameters],
        "condition_in_words": words,
        "design_in_words": [None] * len(words),
    }
    for name, values in added.items():
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a part's file; DataError where it is damaged, PartReplacedError where gone.

    Those of AT_TRUTH are null in a part that was written before there were any.
    """
    content = read_recorded(path)
    with _reading(path):
        table = read_parquet(pa.BufferReader(content), columns)
        for name in set(AT_TRUTH) & set(columns) - set(table.column_names):
            table = table.append_column(name, pa.nulls(table.num_rows, pa.float64()))
        return table.select(columns)


def read_recorded(path: Path) -> bytes:
    """All bytes of a part's file, which are those of its record; errors as of `read_columns`."""
    content = read_content(path)
    if damage := damage_of(content, _recorded(path)):
        raise _damaged(path, damage)
    return content


def refuse_other_size(path: Path) -> None:
    """Raise a DataError for a part's file that is shorter or longer than its record says."""
    with _reading(path):
        size = path.stat().st_size
    recorded, _ = _recorded(path)
    if size != recorded:
        raise _damaged(path, f"{size} of {recorded} bytes")


def is_older(path: Path, time_ns: int) -> bool:
    """Whether a part's file was last written before a time, and has the size of its record."""
    state = path.stat()
    return state.st_mtime_ns < time_ns and _recorded(path)[0] == state.st_size


def _recorded(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a part's file by its record."""
    mark = path.parent.parent / "commits" / f"{path.stem}{SUFFIXES['commits']}"
    recorded = recorded_digests(read_content(mark))
    if not recorded:
        raise _damaged(path, "no sound record")
    return recorded[path.parent.name]


def read_parquet(source: Path | pa.BufferReader, columns: Sequence[str] | None = None) -> pa.Table:
    """Table of a file whose pages have checksums; errors are those of pyarrow.

    One thread reads: one of pyarrow's that is still starting when the process ends aborts it
    (github.com/apache/arrow/issues/34314).
    """
    if isinstance(source, Path):  # pyarrow opens no name that is not UTF-8
        source = pa.BufferReader(source.read_bytes())
    file = pq.ParquetFile(source, page_checksum_verification=True)
    return file.read(columns, use_threads=False)


def read_content(path: Path) -> bytes:
    """All bytes of a part's file; errors as of `read_columns`."""
    with _reading(path):
        return path.read_bytes()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if path.is_symlink():
        raise _damaged(path, "a link stands in its place")
    try:
        yield
    except FileNotFoundError:
        raise PartReplacedError(f"{path} was replaced by another run; repeat the command") from None
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from error


def _damaged(path: Path, what: str) -> DataError:
    advice = f"`mcsim verify {shlex.quote(str(path.parent.parent))} --repair` computes it again"
    return DataError(f"{path} is damaged: {what}. {advice}")


def _part(name: str) -> Part | None:
    match = NAME.fullmatch(name)
    return Part(match[1], int(match[2]), int(match[3])) if match else None


def _outermost_parts(parts: Collection[Part]) -> set[Part]:
    ranges: dict[str, list[Range]] = {}
    for part in parts:
        ranges.setdefault(part.key, []).append((part.first, part.last))
    return {Part(key, *one) for key, found in ranges.items() for one in outermost(found)}
