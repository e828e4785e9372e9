"""The summary of a study as its files are, computed only where it was not made from the same ones.

To repeat a finished command then costs little, however large the study.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from mcsim import measures
from mcsim.results.folder import contents_of, list_parts, read_manifest, read_parquet, writing
from mcsim.results.ranges import Range, merge
from mcsim.summary import estimates as results
from mcsim.summary import summarize as summary

CODE = (measures, results, summary)  # what the numbers of a summary depend on beside the files


def latest_summary(directory: Path) -> pa.Table:
    """The summary of a study, which is then in its folder too; errors as of `summarize`."""
    with suppress(OSError, pa.ArrowException):
        written = read_parquet(directory / "summary.parquet")
        state = (written.schema.metadata or {}).get(b"state")
        if state == _state(directory).encode() and (directory / "summary.csv").exists():
            return written
    return new_summary(directory)


def new_summary(directory: Path) -> pa.Table:
    """The summary computed anew and written into the folder."""
    state = _state(directory)  # before, so that what another run adds meanwhile makes it old
    table = summary.summarize([directory])
    table = table.replace_schema_metadata({**table.schema.metadata, "state": state})
    with writing(directory):
        summary.write_summary(directory, table)
    return table


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
