"""The files of a study's folder: its manifest, its parts, and which of them are finished.

A part is a chunk of replicates: a file in estimates/, one in fits/, and a record in commits/, which
is written last and marks it as finished. Which files a study has is the business of store.py; how
a file is written, whole or not at all, is said here.
"""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from re import compile as pattern
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError, McsimError, PartReplacedError, StudyMismatchError
from mcsim.names import Parameter, condition_in_words
from mcsim.results.identity import PartContents
from mcsim.results.ranges import Range, outermost

T = TypeVar("T")

FORMAT = 3  # of a study's folder
READABLE = (2, FORMAT)  # format 2 lacks some columns of the table of conditions
KINDS = ("estimates", "fits")
STATUSES = tuple(status.name.lower() for status in Status)  # as fits/ names them
SUFFIXES = {"commits": ".json", "estimates": ".parquet", "fits": ".parquet"}
FLUSHED_TOGETHER = 8  # files: a disk makes them durable in little more time than one of them
NAME = pattern(r"part-([0-9a-f]+)-(\d+)-(\d+)")


@dataclass(frozen=True, order=True)
class Part:
    """Replicates `first` to `last` of what `key` stands for."""

    key: str
    first: int
    last: int

    def path(self, folder: str) -> Path:
        """Its file in `estimates`, `fits` or `commits`, relative to the study."""
        name = f"part-{self.key}-{self.first:07d}-{self.last:07d}{SUFFIXES[folder]}"
        return Path(folder) / name

    def __str__(self) -> str:
        return f"part-{self.key}-{self.first:07d}-{self.last:07d}"


@dataclass(frozen=True)
class Listing:
    """The files of a study's folder, sorted.

    redundant : finished parts that lie within another; unfinished : parts that lack a file;
    foreign : paths of files that are no part of this study
    """

    finished: list[Part]
    redundant: list[Part]
    unfinished: list[Part]
    foreign: list[Path]


def find_manifest(directory: Path) -> dict[str, Any]:
    """The study's manifest; empty where there is none, or one of another program."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        manifest = json.loads((directory / "manifest.json").read_bytes())
        if isinstance(manifest, dict) and {"format", "identity"} <= manifest.keys():
            return manifest
    return {}


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the study in a folder.

    Raises
    ------
    DataError
        There is no study.
    StudyMismatchError
        Another version of mcsim wrote it, with other files.
    """
    manifest = find_manifest(directory)
    if not manifest:
        raise DataError(f"{directory} holds no study; mcsim run makes one")
    refuse_other_format(directory, manifest)
    return manifest


def refuse_other_format(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raise a StudyMismatchError for a study whose files are laid out in another way."""
    if manifest["format"] not in READABLE:
        version = manifest.get("versions", {}).get("mcsim", "?")
        raise StudyMismatchError(
            f"{directory} holds a study of format {manifest['format']}, written by mcsim {version};"
            f" this mcsim reads and writes format {FORMAT}. Name another folder with -o, or replace"
            " the study with --overwrite."
        )


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
    for folder in SUFFIXES:  # commits first: whatever arrives in between has its files
        for path in sorted((directory / folder).glob("[!.]*")):
            part = _part(path)
            if part is None or part.key not in keys or part.path(folder).name != path.name:
                foreign.append(Path(folder) / path.name)
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
    path = directory / "conditions.parquet"
    try:
        table = read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. Repeat `mcsim run` of this study, which writes it"
            " again"
        ) from error
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
    """Columns of a part's file; DataError where it is damaged, PartReplacedError where gone."""
    with _reading(path):
        return read_parquet(path, columns).select(columns)


def read_parquet(source: Path | pa.BufferReader, columns: Sequence[str] | None = None) -> pa.Table:
    """Table of a file whose pages have checksums; errors are those of pyarrow.

    One thread reads: one of pyarrow's that is still starting when the process ends aborts it
    (github.com/apache/arrow/issues/34314).
    """
    file = pq.ParquetFile(source, page_checksum_verification=True)
    return file.read(columns, use_threads=False)


def read_content(path: Path) -> bytes:
    """All bytes of a part's file; errors as of `read_columns`."""
    with _reading(path):
        return path.read_bytes()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise PartReplacedError(f"{path} was replaced by another run; repeat the command") from None
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        study = path.parent.parent
        raise DataError(
            f"{path} is damaged: {error}. `mcsim verify {study} --repair` computes it again"
        ) from error


def write_whole(
    contents: Mapping[Path, bytes], temporary: Path | None = None, *, is_durable: bool = True
) -> None:
    """Write files, each complete or not at all; all of them are durable at the end, if wanted.

    Parameters
    ----------
    temporary : folder on the same disk for what is not complete; unless given, that of the file
    """
    started = {
        path: (temporary or path.parent) / f".{uuid.uuid4().hex}-{path.name}" for path in contents
    }
    try:
        write = partial(_write_new, is_durable=is_durable)
        if is_durable:
            with ThreadPoolExecutor(FLUSHED_TOGETHER) as pool:
                list(pool.map(write, started.values(), contents.values()))
        else:
            list(map(write, started.values(), contents.values()))
        for path, unfinished in started.items():
            unfinished.replace(path)
    except BaseException:
        for unfinished in started.values():  # on a full disk, half a file is in the way
            unfinished.unlink(missing_ok=True)
        raise
    if is_durable:
        for folder in {path.parent for path in contents}:
            _flush_folder(folder)


def write_beside(path: Path, content: bytes) -> None:
    """Write what is made of a study, and its folder if need be; a McsimError where that fails."""
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole({path: content}, is_durable=False)


def _write_new(path: Path, content: bytes, *, is_durable: bool) -> None:
    with path.open("xb") as file:
        file.write(content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn what the system says when a file cannot be written into a McsimError."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free space" if is_full else "make it writable or name another folder with -o,"
        raise McsimError(
            f"cannot write to {directory}: {error.strerror or error}. What was finished is safe;"
            f" {advice} and repeat the command"
        ) from error


def _part(path: Path) -> Part | None:
    match = NAME.fullmatch(path.stem)
    return Part(match[1], int(match[2]), int(match[3])) if match else None


def _outermost_parts(parts: Collection[Part]) -> set[Part]:
    ranges: dict[str, list[Range]] = {}
    for part in parts:
        ranges.setdefault(part.key, []).append((part.first, part.last))
    return {Part(key, *one) for key, found in ranges.items() for one in outermost(found)}
