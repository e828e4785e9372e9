"""The summary of a study as its files are, computed only where it was not made from the same ones.

To repeat a finished command then costs little, however large the study.
"""

import hashlib
import io
import json
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mcsim import names
from mcsim.measures import counted, expected, sample, tails
from mcsim.results.folder import (
    KINDS,
    contents_of,
    finished_parts,
    is_older,
    list_parts,
    read_manifest,
    read_parquet,
    read_recorded,
)
from mcsim.results.ranges import Range, merge
from mcsim.results.whole_files import write_whole, writing
from mcsim.summary import estimates, summarize
from mcsim.summary.printed import to_csv

CODE = (  # what the numbers depend on beside the files
    *(counted, expected, sample, tails),
    *(names, estimates, summarize),
)


def latest_summary(directory: Path) -> pa.Table:
    """The summary of a study, which is then in its folder too; errors as of `summarize`."""
    written = _written_summary(directory)
    if written is not None and (directory / "summary.csv").exists():
        return written
    return new_summary(directory)


def new_summary(directory: Path) -> pa.Table:
    """The summary computed anew and written into the folder."""
    state = _state(directory)  # before, so that what another run adds meanwhile makes it old
    table = summarize.summarize([directory])
    table = table.replace_schema_metadata({**table.schema.metadata, "state": state})
    with writing(directory):
        write_summary(directory, table)
    return table


def known_summary(results: Path) -> pa.Table:
    """The summary of a study, or of the studies in a folder; nothing is written.

    Errors are those of `summarize`.
    """
    studies = summarize.studies_in(results)
    tables = {}
    for study in studies:
        written = _written_summary(study)
        tables[study] = summarize.summarize([study]) if written is None else written
    return summarize.join_summaries(tables)


def write_summary(directory: Path, table: pa.Table) -> None:
    """Write `summary.parquet` and `summary.csv`, each whole or not at all."""
    parquet = io.BytesIO()
    pq.write_table(table, parquet, compression="zstd", write_page_checksum=True)
    files = {"summary.csv": to_csv(table).encode(), "summary.parquet": parquet.getvalue()}
    write_whole({directory / name: content for name, content in files.items()}, is_durable=False)


def _written_summary(directory: Path) -> pa.Table | None:
    """The one in the folder if it was made from the files that are there now."""
    with suppress(OSError, pa.ArrowException):
        path = directory / "summary.parquet"
        written, time_ns = read_parquet(path), path.stat().st_mtime_ns
        if (written.schema.metadata or {}).get(b"state") == _state(directory).encode():
            _refuse_damaged(directory, time_ns)
            return written
    return None


def _refuse_damaged(directory: Path, time_ns: int) -> None:
    """Raise a DataError for a part that was damaged after the summary was made."""
    for part in finished_parts(directory):
        for path in (directory / part.path(kind) for kind in KINDS):
            if not is_older(path, time_ns):
                read_recorded(path)


def _state(directory: Path) -> str:
    """A hash of what a summary is made from: the study, its finished replicates, our code."""
    manifest = read_manifest(directory)
    contents = contents_of(manifest)
    done: dict[str, list[Range]] = {}
    for part in list_parts(directory, contents).finished:
        for method in contents[part.key].methods:
            name = json.dumps([contents[part.key].condition, method])
            done.setdefault(name, []).append((part.first, part.last))
    ranges = sorted((name, merge(found)) for name, found in done.items())
    state = hashlib.sha256(json.dumps([manifest["identity_hash"], ranges]).encode())
    state.update((directory / "conditions.parquet").read_bytes())
    for module in CODE:
        state.update(Path(str(module.__file__)).read_bytes())
    return state.hexdigest()
