"""A study's folder checked against its records, file by file. Reads only."""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mcsim.errors import DataError
from mcsim.results.folder import (
    KINDS,
    SUFFIXES,
    Part,
    digest,
    list_parts,
    read_conditions,
    read_content,
    record,
)
from mcsim.results.identity import PartContents
from mcsim.results.ranges import format_ranges
from mcsim.results.store import Store


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file or a condition; `part` is what must be computed again, if any."""

    where: str
    what: str
    part: Part | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def find_faults(directory: Path) -> list[Fault]:
    """All that is wrong with a study: its parts, files that are not its own, what is missing.

    Raises
    ------
    DataError
        The folder holds no study.
    StudyMismatchError
        Another version of mcsim wrote it.
    """
    store = Store.read(directory)
    listing = list_parts(directory, store.contents)
    marked = sorted([*listing.finished, *listing.redundant])
    faults = [_damages(directory, part, store.contents[part.key]) for part in marked]
    faults += [_gaps(directory, part) for part in listing.unfinished]
    return [
        *_unreadable_conditions(directory),
        *itertools.chain.from_iterable(faults),
        *(Fault(str(one), "its replicates are in a larger part too") for one in listing.redundant),
        *(Fault(str(path), "foreign: no part of this study") for path in listing.foreign),
        *(
            Fault(label, f"missing: --replicates {format_ranges(ranges)}")
            for label, ranges in store.missing().items()
            if ranges
        ),
    ]


def _unreadable_conditions(directory: Path) -> Iterator[Fault]:
    try:
        read_conditions(directory)
    except DataError as error:
        yield Fault("conditions.parquet", f"damaged or missing: {error.__cause__}")


def _damages(directory: Path, part: Part, contents: PartContents) -> Iterator[Fault]:
    mark = read_content(directory / part.path("commits"))
    recorded = _recorded_digests(mark)
    if not recorded or record(part, contents, recorded) != mark:
        yield Fault(str(part.path("commits")), "damaged: not the record of this part", part)
        return
    for kind in KINDS:
        found, expected = digest(read_content(directory / part.path(kind))), recorded[kind]
        if found[0] < expected[0]:
            yield Fault(str(part.path(kind)), f"truncated: {found[0]} of {expected[0]} bytes", part)
        elif found != expected:
            yield Fault(str(part.path(kind)), "corrupted: not what was written (SHA-256)", part)


def _recorded_digests(mark: bytes) -> Mapping[str, tuple[int, str]]:
    """Bytes and SHA-256 by kind; empty where a record cannot be read."""
    with suppress(ValueError, TypeError, KeyError):
        found = json.loads(mark)
        return {kind: (int(found[kind]["bytes"]), found[kind]["sha256"]) for kind in KINDS}
    return {}


def _gaps(directory: Path, part: Part) -> Iterator[Fault]:
    absent = [folder for folder in SUFFIXES if not (directory / part.path(folder)).exists()]
    if "commits" in absent:
        what = "not finished: its run was stopped, or is going on"
        yield Fault(str(part), what, part)
    else:
        for folder in absent:
            yield Fault(str(part.path(folder)), "missing, but recorded as finished", part)
