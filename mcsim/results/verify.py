"""A study's folder checked against its records, file by file. Reads only."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcsim.errors import DataError
from mcsim.results.folder import (
    CONDITIONS,
    KINDS,
    SCENARIO,
    SUFFIXES,
    TABLES,
    Part,
    damage_of,
    digest,
    list_parts,
    read_conditions,
    read_content,
    read_manifest,
    record,
    recorded_digests,
    tables_of,
)
from mcsim.results.identity import PartContents
from mcsim.results.ranges import format_ranges
from mcsim.results.store import Store

NO_FILE = "missing, or no file of its own: a folder or a link"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file or a condition.

    part : what must be computed again, if any; is_damage : whether it is more than not being done
    """

    where: str
    what: str
    part: Part | None = None
    is_damage: bool = True

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
        *_unreadable_descriptions(directory),
        *itertools.chain.from_iterable(faults),
        *(Fault(str(one), "its replicates are in a larger part too") for one in listing.redundant),
        *(Fault(str(path), "foreign: no part of this study") for path in listing.foreign),
        *(
            Fault(label, f"missing: --replicates {format_ranges(ranges)}", is_damage=False)
            for label, ranges in store.missing().items()
            if ranges
        ),
    ]


def _unreadable_descriptions(directory: Path) -> Iterator[Fault]:
    """Of the files that say what the study is; studies of before have no digests of them."""
    manifest = read_manifest(directory)
    digests = manifest.get("files", {})
    tables = (f"{TABLES}/{name}" for name in tables_of(manifest))
    for name in (SCENARIO, CONDITIONS, *tables):
        if not _is_file(directory / name):
            yield Fault(name, NO_FILE)
        elif name in digests:
            if digests[name] != digest((directory / name).read_bytes())[1]:
                yield Fault(name, "corrupted: not what was written (SHA-256)")
        elif name == CONDITIONS:
            try:
                read_conditions(directory)
            except DataError as error:
                yield Fault(name, f"damaged: {error.__cause__}")


def _damages(directory: Path, part: Part, contents: PartContents) -> Iterator[Fault]:
    if no_files := [one for one in map(part.path, SUFFIXES) if not _is_file(directory / one)]:
        yield from (Fault(str(one), NO_FILE, part) for one in no_files)
        return
    mark = read_content(directory / part.path("commits"))
    recorded = recorded_digests(mark)
    if not recorded or record(part, contents, recorded) != mark:
        yield Fault(str(part.path("commits")), "damaged: not the record of this part", part)
        return
    for kind in KINDS:
        if damage := damage_of(read_content(directory / part.path(kind)), recorded[kind]):
            yield Fault(str(part.path(kind)), damage, part)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _gaps(directory: Path, part: Part) -> Iterator[Fault]:
    absent = [folder for folder in SUFFIXES if not (directory / part.path(folder)).exists()]
    if "commits" in absent:
        what = "not finished: its run was stopped, or is going on"
        yield Fault(str(part), what, part, is_damage=False)
    else:
        for folder in absent:
            yield Fault(str(part.path(folder)), "missing, but recorded as finished", part)
