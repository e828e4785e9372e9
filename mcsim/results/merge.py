"""Folders of one study joined: the parts that its shards wrote, each copied as it is."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcsim.errors import DataError, StudyMismatchError
from mcsim.results.folder import (
    KINDS,
    TABLES,
    Part,
    contents_of,
    digest,
    find_manifest,
    finished_parts,
    read_conditions,
    read_content,
    read_manifest,
    record,
    tables_of,
)
from mcsim.results.identity import Identity, PartContents, changed_keys, first_of, grow
from mcsim.results.ranges import subtract
from mcsim.results.store import Chunk, PartFiles, Store, StudyDescription


def merge_studies(folders: Sequence[Path], out: Path, report: Callable[[str], None]) -> Store:
    """The study in `out`, with all finished parts of the folders; those that it has stay.

    Raises
    ------
    StudyMismatchError
        The folders hold different studies, or different results of one; nothing was touched.
    DataError
        A folder holds no study, or a damaged part.
    """
    manifests = {folder: read_manifest(folder) for folder in folders}
    if find_manifest(out):
        manifests |= {out: read_manifest(out)}
    largest = max(
        manifests, key=lambda one: (manifests[one]["replicates"], manifests[one]["format"])
    )
    _refuse_different_studies(manifests)
    _refuse_other_parts(manifests, out)
    parts = {folder: finished_parts(folder) for folder in manifests}
    _refuse_different_results(parts)
    store = Store.open(out, _description(largest, manifests[largest]))
    n_copied = sum(_copy_parts(folder, parts[folder], store) for folder in folders)
    store.tidy()
    report(f"Copied {n_copied} parts of {len(folders)} folders into {out}")
    return store


def _identity(manifest: Mapping[str, Any]) -> Identity:
    return Identity(manifest["identity"], manifest["conditions"])


def _refuse_different_studies(manifests: Mapping[Path, Mapping[str, Any]]) -> None:
    (first, manifest), *others = manifests.items()
    one = _identity(manifest)
    for folder, other in others:
        two = _identity(other)
        keys = sorted({*changed_keys(one, two), *changed_keys(two, one)})
        if keys:
            raise StudyMismatchError(
                f"{first} and {folder} hold different studies; these keys differ:"
                f" {', '.join(first_of(keys))}. Only shards of one study can be joined"
            )


def _refuse_other_parts(manifests: Mapping[Path, Mapping[str, Any]], out: Path) -> None:
    """A study that got its methods one after the other has other parts than one that began so."""
    of_out = contents_of(find_manifest(out))
    for folder, manifest in manifests.items():
        if not contents_of(manifest).keys() <= grow(of_out, _identity(manifest)).keys():
            raise StudyMismatchError(
                f"{folder} got its methods one after the other, so that its parts are others than"
                f" those of {out}. Join into a folder that grew alike, such as -o {folder}"
            )


def _refuse_different_results(parts: Mapping[Path, Iterable[Part]]) -> None:
    records: dict[Part, tuple[Path, bytes]] = {}
    for folder, found in parts.items():
        for part in found:
            mark = read_content(folder / part.path("commits"))
            first, known = records.setdefault(part, (folder, mark))
            if known != mark:
                raise StudyMismatchError(
                    f"{part} differs between {first} and {folder}: of two versions of mcsim or its"
                    " libraries, or of two kinds of machines? Join only those that were run alike"
                )


def _description(folder: Path, manifest: Mapping[str, Any]) -> StudyDescription:
    return StudyDescription(
        identity=_identity(manifest),
        manifest={
            key: value for key, value in manifest.items() if key not in ("created", "format")
        },
        scenario_text=(folder / "scenario.toml").read_text(encoding="utf-8"),
        conditions=read_conditions(folder),
        tables={name: _table(folder, name, manifest) for name in tables_of(manifest)},
    )


def _table(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    """The file of a design, which must be the one that was written."""
    path = folder / TABLES / name
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if digest(content)[1] != manifest["files"][f"{TABLES}/{name}"]:
        raise DataError(f"{path} is damaged or missing; `mcsim run` of the study writes it again")
    return content


def _copy_parts(folder: Path, parts: Iterable[Part], store: Store) -> int:
    """Copy what the store lacks; returns how many parts."""
    done, n_copied = store.committed(), 0
    for part in parts:
        if subtract([(part.first, part.last)], done.get(part.key, ())):
            contents = store.contents[part.key]
            chunk = Chunk(contents.condition, part.key, part.first, part.last, contents.methods)
            store.commit([(chunk, _read_files(folder, part, contents))])
            n_copied += 1
    return n_copied


def _read_files(folder: Path, part: Part, contents: PartContents) -> PartFiles:
    """The files of a part, which must be those that its record tells of."""
    files = {kind: read_content(folder / part.path(kind)) for kind in KINDS}
    digests = {kind: digest(content) for kind, content in files.items()}
    if record(part, contents, digests) != read_content(folder / part.path("commits")):
        mend = f"mcsim verify {shlex.quote(str(folder))} --repair"
        raise DataError(f"{part} in {folder} is damaged; mend it: {mend}")
    return PartFiles(**files, n_fits=0, n_failed=0, digests=digests)  # only runs count them
