"""Study folders on a real disk: complete parts, resumption, refusal, messages."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcsim.errors import DataError, ExitCode, McsimError, StudyMismatchError
from mcsim.results import store as store_file
from mcsim.results.folder import FORMAT, KINDS, SUFFIXES
from mcsim.results.identity import Identity, grow
from mcsim.results.merge import merge_studies
from mcsim.results.ranges import cut
from mcsim.results.store import (
    ESTIMATES_SCHEMA,
    FITS_SCHEMA,
    Chunk,
    Store,
    StudyDescription,
    encode,
)

VALUES = {
    "design.levels.animal.count": 25,
    "methods.diagonal.df": ["z"],
    "methods.general.df": ["z"],
    "methods.names": ["general", "diagonal"],
    "seed": 7,
    "truth.sigma": 0.5,
}
CONDITIONS = {"all": "cdef"}
(KEY,) = grow({}, Identity(VALUES, CONDITIONS))


def describe(values=VALUES, conditions=CONDITIONS, replicates=100):
    return StudyDescription(
        identity=Identity(values, conditions),
        manifest={"replicates": replicates, "confidence": 0.95},
        scenario_text="seed = 7\n",
        conditions=pa.table({"condition": list(conditions), "truth": [0.5] * len(conditions)}),
    )


def chunk_of(first, last, key=KEY):
    return Chunk("all", key, first, last)


def tables(chunk, failed=()):
    """Estimates and fits of two methods; the numbers depend on the replicate alone."""
    replicates = [one for one in range(chunk.first, chunk.last + 1) for _ in range(2)]
    shared = {
        "condition": [chunk.condition] * len(replicates),
        "replicate": replicates,
        "method": ["general", "diagonal"] * (len(replicates) // 2),
    }
    estimates = [
        row | {"parameter": "x", "component": "fixed", "estimate": row["replicate"] / 7, "df": None}
        for row in pa.table(shared).to_pylist()
    ]
    status = ["failed" if one in failed else "ok" for one in replicates]
    fits = pa.table(shared | {"status": status}).to_pylist()
    return (
        pa.Table.from_pylist(estimates, schema=ESTIMATES_SCHEMA),
        pa.Table.from_pylist(fits, schema=FITS_SCHEMA),
    )


def commit(store, first, last, failed=(), key=KEY):
    chunk = chunk_of(first, last, key)
    store.commit([(chunk, encode(*tables(chunk, failed)))])
    return chunk


def files(folder):
    """PartContents by name of everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "study", describe())


def test_a_new_study_says_what_it_is(store):
    manifest = json.loads((store.directory / "manifest.json").read_text())
    assert manifest["format"] == FORMAT
    assert manifest["identity"] == VALUES
    assert manifest["conditions"] == CONDITIONS
    assert manifest["parts"] == {KEY: {"condition": "all", "methods": ["general", "diagonal"]}}
    assert len(manifest["identity_hash"]) == 64
    assert manifest["replicates"] == 100
    assert manifest["created"] == datetime.now(UTC).date().isoformat()
    assert (store.directory / "scenario.toml").read_text() == "seed = 7\n"
    assert pq.read_table(store.directory / "conditions.parquet")["truth"].to_pylist() == [0.5]


def test_parts_are_read_by_others_with_names_numbers_and_nulls(store):
    commit(store, 1, 3)
    commit(store, 4, 5)
    frame = pd.read_parquet(store.directory / "estimates")
    assert list(frame.columns) == ESTIMATES_SCHEMA.names
    assert frame["replicate"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert set(frame["method"]) == {"general", "diagonal"}
    assert frame["estimate"].tolist() == [one / 7 for one in frame["replicate"]]
    part = pq.ParquetFile(store.directory / chunk_of(1, 3).part.path("estimates"))
    assert part.schema_arrow.equals(ESTIMATES_SCHEMA)
    assert part.metadata.row_group(0).column(0).compression == "ZSTD"
    assert part.read()["df"].null_count == 6


def test_the_same_content_has_the_same_bytes_however_it_was_put_together(store):
    chunk = chunk_of(1, 6)
    estimates, fits = tables(chunk, failed=[4])
    store.commit([(chunk, encode(estimates, fits))])
    before = files(store.directory)
    pieces = [tables(chunk_of(*one), failed=[4]) for one in ((1, 1), (2, 4), (5, 6))]
    # dictionaries in another order, and with a name that no row has
    odd = pa.DictionaryArray.from_arrays(
        pa.array([2, 0] * 6, pa.int32()), pa.array(["diagonal", "unused", "general"])
    )
    position = ESTIMATES_SCHEMA.get_field_index("method")
    odd_estimates = pa.concat_tables([one for one, _ in pieces]).set_column(position, "method", odd)
    odd_files = encode(odd_estimates, pa.concat_tables([one for _, one in pieces]))
    store.commit([(chunk, odd_files)])
    assert files(store.directory) == before


def test_rows_of_another_shape_are_not_written(store):
    chunk = chunk_of(1, 2)
    estimates, fits = tables(chunk)
    with pytest.raises(ValueError, match="schema"):
        store.commit([(chunk, encode(estimates.drop_columns("df"), fits))])
    assert store.committed() == {}


def test_a_finished_part_has_a_record_of_what_it_holds(store):
    part = commit(store, 1, 32).part
    record = json.loads((store.directory / part.path("commits")).read_text())
    files = {kind: (store.directory / part.path(kind)).read_bytes() for kind in KINDS}
    assert record == {
        "condition": "all",
        "methods": ["general", "diagonal"],
        "first": 1,
        "last": 32,
    } | {
        kind: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for kind, content in files.items()
    }


@pytest.mark.parametrize("folder", ["estimates", "fits", "commits"])
def test_a_chunk_broken_off_between_its_files_is_missing_and_its_repetition_the_same(
    store, monkeypatch, folder
):
    reference = Store.open(store.directory.with_name("undisturbed"), describe())
    commit(reference, 1, 32)
    replace = Path.replace

    def die_before(self, target):
        if target.parent.name == folder:
            raise SystemExit
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # noqa: PT012
        patch.setattr(Path, "replace", die_before)
        commit(store, 1, 32)
    assert store.committed() == {}
    commit(Store.open(store.directory, describe()), 1, 32)
    assert files(store.directory) == files(reference.directory)


@pytest.mark.parametrize("folder", ["estimates", "fits", "commits"])
def test_a_part_that_lacks_a_file_is_missing(store, folder):
    commit(store, 1, 32)
    (store.directory / commit(store, 33, 64).part.path(folder)).unlink()
    assert store.committed() == {KEY: ((1, 32),)}


@pytest.mark.parametrize(("left", "done"), [((1, 16), (1, 32)), ((1, 32), (1, 16))])
def test_what_a_killed_run_left_never_doubles_rows(store, left, done):
    # the record is missing; the next run was started with another -n
    (store.directory / commit(store, *left).part.path("commits")).unlink()
    (store.directory / commit(store, 65, 96).part.path("commits")).unlink()
    commit(store, *done)
    store.tidy()
    replicates = pd.read_parquet(store.directory / "estimates")["replicate"]
    expected = [*range(done[0], done[1] + 1), *range(65, 97)]  # of the latter there are no others
    assert replicates.tolist() == [one for one in expected for _ in range(2)]
    assert store.committed() == {KEY: (done,)}


@pytest.mark.parametrize("order", [1, -1])
def test_replicates_that_two_runs_committed_count_once_and_the_larger_part_stays(store, order):
    for first, last in [(33, 48), (33, 64), (41, 48)][::order]:
        commit(store, first, last, failed=[34, 42])
    (status,) = store.status().conditions
    assert (status.n_done, status.n_failed) == (32, 4)
    again = Store.open(store.directory, describe())
    replicates = pd.read_parquet(store.directory / "fits")["replicate"]
    assert replicates.tolist() == [one for one in range(33, 65) for _ in range(2)]
    assert again.committed() == {KEY: ((33, 64),)}
    assert len(files(store.directory)) == 3 + 3


def test_files_taken_for_leftovers_before_they_had_their_mark_are_written_again(store, monkeypatch):
    write, part = Store._write, chunk_of(1, 32).part

    def with_another_run_in_between(self, contents):
        if part.path("commits") in contents:
            assert (self.directory / part.path("estimates")).exists()
            commit(store, 9, 16)
            store.tidy()
            assert not (self.directory / part.path("estimates")).exists()
        write(self, contents)

    reference = Store.open(store.directory.with_name("undisturbed"), describe())
    commit(reference, 1, 32)
    monkeypatch.setattr(Store, "_write", with_another_run_in_between)
    commit(store, 1, 32)
    store.tidy()
    assert files(store.directory) == files(reference.directory)


COMMITTER = """
import sys
from pathlib import Path
from tests.results.test_store import commit, describe
from mcsim.results.store import Store

store = Store.open(Path(sys.argv[1]), describe())
for first in range(1, 100_000, 4):
    commit(store, first, first + 3)
    print("committed", flush=True)
"""


def test_no_record_is_written_before_all_that_it_vouches_for(store, monkeypatch):
    moved, replace, flush = [], Path.replace, os.fsync

    def note(self, target):
        moved.append(target)
        return replace(self, target)

    def note_flush(descriptor):
        moved.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        flush(descriptor)

    monkeypatch.setattr(Path, "replace", note)
    monkeypatch.setattr(os, "fsync", note_flush)
    chunks = [chunk_of(1, 32), chunk_of(33, 64), chunk_of(65, 66)]
    store.commit([(chunk, encode(*tables(chunk))) for chunk in chunks])
    marks = [place for place, path in enumerate(moved) if path.name.endswith(".json")]
    data = [place for place, path in enumerate(moved) if path.name.endswith(".parquet")]
    folders = [moved.index(store.directory / kind) for kind in KINDS]
    assert max([*data, *folders]) < min(marks)
    assert (len(marks), len(data)) == (2 * 3, 2 * 6)  # each made durable, then renamed
    assert moved[-1] == store.directory / "commits"
    assert store.committed() == {KEY: ((1, 66),)}


def test_every_visible_part_of_a_killed_run_is_complete(tmp_path):
    folder = tmp_path / "study"
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", COMMITTER, folder], stdout=subprocess.PIPE, cwd=root
    ) as process:
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    ((_, last),) = Store.read(folder).committed()[KEY]
    for path in folder.glob("*/part-*.parquet"):
        assert pq.read_table(path).num_rows == 8
    replicates = [one for one in range(1, last + 1) for _ in range(2)]
    assert pd.read_parquet(folder / "fits")["replicate"].tolist()[: 2 * last] == replicates


def test_the_same_study_goes_on_and_keeps_its_date(store):
    commit(store, 1, 32)
    path = store.directory / "manifest.json"
    path.write_text(path.read_text().replace(datetime.now(UTC).date().isoformat(), "2020-02-02"))
    again = Store.open(store.directory, describe(replicates=200))
    assert again.committed() == {KEY: ((1, 32),)}
    manifest = json.loads(path.read_text())
    assert (manifest["created"], manifest["replicates"]) == ("2020-02-02", 200)


def test_another_study_is_refused_with_the_keys_that_differ(store):
    commit(store, 1, 50)
    before = files(store.directory)
    other = {key: value for key, value in VALUES.items() if key != "seed"}
    other |= {"design.levels.animal.count": 30, "methods.general.interval": None}
    with pytest.raises(StudyMismatchError) as caught:
        Store.open(store.directory, describe(other, {"all": "0123"}))
    assert str(caught.value) == (
        f"{store.directory} holds another study; these keys differ:\n"
        "  design.levels.animal.count is 25 there and 30 here\n"
        "  methods.general.interval is absent there and null here\n"
        "  seed is 7 there and absent here\n"
        "Name another folder with -o, or replace the study with --overwrite."
    )
    assert caught.value.exit_code == ExitCode.OTHER_STUDY
    assert files(store.directory) == before


@pytest.mark.parametrize("number", [1, FORMAT + 1])
def test_a_study_of_another_format_is_refused_but_can_be_replaced(store, number):
    path = store.directory / "manifest.json"
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {number}'))
    message = f"holds a study of format {number}, .* this mcsim reads and writes format {FORMAT}"
    for opened in (lambda: Store.open(store.directory, describe()), lambda: read(store)):
        with pytest.raises(StudyMismatchError, match=message):
            opened()
    Store.open(store.directory, describe(), overwrite=True)
    assert read(store).committed() == {}


def read(store):
    return Store.read(store.directory)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["scenario.toml", "manifest.json"])
def test_a_folder_with_files_but_no_study_is_left_alone(tmp_path, name, overwrite):
    (tmp_path / name).write_text('{"theirs": 1}')
    with pytest.raises(StudyMismatchError, match=f"holds files but no study \\({name}\\).* -o"):
        Store.open(tmp_path, describe(), overwrite=overwrite)
    assert files(tmp_path) == {name: b'{"theirs": 1}'}


def test_a_run_that_begins_at_the_same_moment_is_no_stranger(tmp_path, monkeypatch):
    read = store_file.find_manifest

    def before_the_other(directory):
        manifest = read(directory)
        monkeypatch.setattr(store_file, "find_manifest", read)
        Store.open(directory, describe())
        return manifest

    monkeypatch.setattr(store_file, "find_manifest", before_the_other)
    assert Store.open(tmp_path / "out", describe()).committed() == {}


def test_overwrite_replaces_the_study_and_nothing_else(store):
    commit(store, 1, 50)
    for name in ("notes.txt", "summary.xlsx", "estimates/mine.parquet"):
        (store.directory / name).write_text("mine")
    (store.directory / "summary.csv").write_text("old")
    other = describe(VALUES | {"seed": 8})
    again = Store.open(store.directory, other, overwrite=True)
    assert again.committed() == {}
    left = files(store.directory)
    assert set(left) == {
        "conditions.parquet",
        "estimates/mine.parquet",
        "manifest.json",
        "notes.txt",
        "scenario.toml",
        "summary.xlsx",
    }
    assert json.loads(left["manifest.json"])["identity"] == VALUES | {"seed": 8}


@pytest.mark.parametrize("n_writes", range(3))
def test_a_run_killed_while_it_makes_the_folder_can_be_repeated(tmp_path, monkeypatch, n_writes):
    replace, done = Path.replace, []

    def die_later(self, target):
        if len(done) == n_writes:
            raise SystemExit
        done.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # noqa: PT012
        patch.setattr(Path, "replace", die_later)
        Store.open(tmp_path / "study", describe())
    Store.open(tmp_path / "study", describe())
    reference = Store.open(tmp_path / "reference", describe())
    assert files(tmp_path / "study") == files(reference.directory)


def test_temporary_files_of_runs_long_gone_are_removed(store):
    old, young = (store.directory / ".tmp" / name for name in ("old", "young"))
    for path in (old, young):
        path.touch()
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    Store.open(store.directory, describe())
    assert (old.exists(), young.exists()) == (False, True)


def test_a_full_disk_has_a_clear_message_and_leaves_no_half_file(store, monkeypatch):
    commit(store, 1, 50)
    before = files(store.directory)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(McsimError) as caught:
        commit(store, 51, 100)
    assert str(caught.value) == (
        f"cannot write to {store.directory}: No space left on device. What was finished is safe;"
        " free space and repeat the command"
    )
    assert files(store.directory) == before


def test_a_folder_that_cannot_be_made_has_a_clear_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(McsimError, match=r"cannot write to .*Not a directory.*another folder"):
        Store.open(tmp_path / "file" / "study", describe())


def test_status_counts_done_failed_and_missing(store):
    commit(store, 1, 32, failed=[3, 17])
    (store.directory / commit(store, 33, 36).part.path("estimates")).unlink()
    commit(store, 80, 80, failed=[80])
    (status,) = store.status().conditions
    assert (status.n_planned, status.n_done, status.n_failed) == (100, 33, 6)
    assert status.missing == ((33, 79), (81, 100))
    assert str(store.status()) == (
        "all: 100 planned, 33 done, 6 fits failed; missing: --replicates 33-79,81-100"
    )
    for first, last in cut(status.missing):
        commit(store, first, last)
    assert str(store.status()) == "all: 100 planned, 100 done, 6 fits failed; complete"


def test_replicates_that_only_some_methods_have_are_missing(store):
    commit(store, 1, 32)
    values = VALUES | {"methods.names": ["general", "diagonal", "ml"], "methods.ml.df": ["z"]}
    grown = Store.open(store.directory, describe(values))
    (new,) = grown.contents.keys() - {KEY}
    commit(grown, 9, 16, key=new)
    assert grown.status().conditions[0].missing == ((1, 8), (17, 100))
    assert grown.status() == Store.read(store.directory).status()


def test_status_of_no_study_is_the_users_mistake(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="holds no study; mcsim run makes one"):
            Store.read(path)


def test_a_finished_study_of_2000_parts_is_scanned_in_no_time(store):
    for first, last in cut([(1, 64_000)], at_most=32):
        for folder in SUFFIXES:
            (store.directory / chunk_of(first, last).part.path(folder)).touch()
    started = time.process_time()
    assert store.committed() == {KEY: ((1, 64_000),)}
    assert time.process_time() - started < 0.5


def test_foreign_files_among_the_parts_are_no_replicates(store):
    stems = ("part-x", "part-xyz-0000001-0000002", "part-0123-0000001-0000002", "notes")
    for folder, suffix in SUFFIXES.items():
        for stem in (*stems, f"part-{KEY}-1-2"):
            (store.directory / folder / f"{stem}{suffix}").touch()
    assert store.committed() == {}


def test_of_many_keys_that_differ_ten_are_named(store, tmp_path):
    many = {f"truth.random.animal.sd.x{number:02}": 1.0 for number in range(14)}
    named = ", ".join(list(many)[:10])
    with pytest.raises(StudyMismatchError) as caught:
        Store.open(store.directory, describe(VALUES | many, {"all": "0123"}))
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-2]) == (13, "  and 4 more")
    other = Store.open(tmp_path / "other", describe(VALUES | many, {"all": "0123"})).directory
    with pytest.raises(StudyMismatchError, match=f"differ: {named}, and 4 more. Only shards"):
        merge_studies([store.directory, other], tmp_path / "out", print)
