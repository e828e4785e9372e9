"""Study folders on a real disk: complete parts, resumption, refusal, messages."""

import errno
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
from hypothesis import given
from hypothesis import strategies as st

from mcsim.errors import DataError, ExitCode, McsimError, StudyMismatchError
from mcsim.store import (
    ESTIMATES_SCHEMA,
    FITS_SCHEMA,
    Chunk,
    Store,
    StudyDescription,
    cut,
    encode,
    format_ranges,
    merge,
    parse_ranges,
    subtract,
)

KEY = "0123456789ab"
IDENTITY = {"design.levels.animal.count": 25, "seed": 7, "truth.sigma": 0.5, "sets": (1, 2)}
RANGES = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 20)).map(lambda one: (one[0], sum(one))),
    max_size=6,
)


def describe(identity=IDENTITY, replicates=100):
    return StudyDescription(
        identity=identity,
        manifest={"replicates": replicates, "conditions": {"all": KEY + "cdef"}},
        scenario_text="seed = 7\n",
        conditions=pa.table({"condition": ["all"], "truth": [0.5]}),
    )


def chunk_of(first, last):
    return Chunk("all", KEY, first, last)


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


def commit(store, first, last, failed=()):
    chunk = chunk_of(first, last)
    store.commit_chunk(chunk, encode(*tables(chunk, failed)))
    return chunk


def files(folder):
    """Contents by name of everything below a folder."""
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
    assert manifest["format"] == 1
    assert manifest["identity"] == IDENTITY | {"sets": [1, 2]}
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
    part = pq.ParquetFile(store.directory / "estimates" / chunk_of(1, 3).part)
    assert part.schema_arrow.equals(ESTIMATES_SCHEMA)
    assert part.metadata.row_group(0).column(0).compression == "ZSTD"
    assert part.read()["df"].null_count == 6


def test_the_same_content_has_the_same_bytes_however_it_was_put_together(store):
    chunk = chunk_of(1, 6)
    estimates, fits = tables(chunk, failed=[4])
    store.commit_chunk(chunk, encode(estimates, fits))
    before = files(store.directory)
    pieces = [tables(chunk_of(*one), failed=[4]) for one in ((1, 1), (2, 4), (5, 6))]
    # dictionaries in another order, and with a name that no row has
    odd = pa.DictionaryArray.from_arrays(
        pa.array([2, 0] * 6, pa.int32()), pa.array(["diagonal", "unused", "general"])
    )
    position = ESTIMATES_SCHEMA.get_field_index("method")
    odd_estimates = pa.concat_tables([one for one, _ in pieces]).set_column(position, "method", odd)
    store.commit_chunk(chunk, encode(odd_estimates, pa.concat_tables([one for _, one in pieces])))
    assert files(store.directory) == before


def test_rows_of_another_shape_are_not_written(store):
    chunk = chunk_of(1, 2)
    estimates, fits = tables(chunk)
    with pytest.raises(ValueError, match="schema"):
        store.commit_chunk(chunk, encode(estimates.drop_columns("df"), fits))
    assert store.committed() == {}


def test_a_chunk_broken_off_between_its_two_parts_is_missing_and_its_repetition_the_same(
    store, monkeypatch
):
    reference = Store.open(store.directory.with_name("undisturbed"), describe())
    commit(reference, 1, 50)
    replace = Path.replace

    def die_before_the_mark(self, target):
        if target.parent.name == "fits":
            raise SystemExit
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # noqa: PT012
        patch.setattr(Path, "replace", die_before_the_mark)
        commit(store, 1, 50)
    assert len(list(store.directory.glob("estimates/*"))) == 1
    assert store.committed() == {}
    assert store.missing_replicates(KEY, [(1, 100)]) == ((1, 100),)
    commit(Store.open(store.directory, describe()), 1, 50)
    assert files(store.directory) == files(reference.directory)


def test_estimates_without_their_mark_never_double_rows(store):
    # a run of -n 20 was killed between the parts of its chunk; then comes one of -n 100
    for first, last in ((1, 20), (51, 60)):
        commit(store, first, last)
        (store.directory / "fits" / chunk_of(first, last).part).unlink()
    commit(store, 1, 50)
    replicates = pd.read_parquet(store.directory / "estimates")["replicate"]
    assert replicates.tolist() == [one for one in range(1, 61) for _ in range(2)]


def test_a_finished_part_is_never_removed_for_another(store):
    for first, last in ((1, 20), (11, 30)):
        commit(store, first, last)
    assert len(list(store.directory.glob("estimates/*"))) == 2
    assert store.committed() == {KEY: ((1, 30),)}


COMMITTER = """
import sys
from pathlib import Path
from tests.test_store import commit, describe
from mcsim.store import Store

store = Store.open(Path(sys.argv[1]), describe())
for first in range(1, 100_000, 5):
    commit(store, first, first + 4)
    print("committed", flush=True)
"""


def test_every_visible_part_of_a_killed_run_is_complete(tmp_path):
    folder = tmp_path / "study"
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", COMMITTER, folder], stdout=subprocess.PIPE, cwd=root
    ) as process:
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    ((_, last),) = Store(folder).committed()[KEY]
    for path in folder.glob("*/part-*.parquet"):
        assert pq.read_table(path).num_rows == 10
    frame = pd.read_parquet(folder / "fits")
    assert frame["replicate"].tolist() == [one for one in range(1, last + 1) for _ in range(2)]


def test_the_same_study_goes_on_and_keeps_its_date(store):
    commit(store, 1, 50)
    path = store.directory / "manifest.json"
    path.write_text(path.read_text().replace(datetime.now(UTC).date().isoformat(), "2020-02-02"))
    again = Store.open(store.directory, describe(replicates=200))
    assert again.committed() == {KEY: ((1, 50),)}
    manifest = json.loads(path.read_text())
    assert (manifest["created"], manifest["replicates"]) == ("2020-02-02", 200)


def test_another_study_is_refused_with_the_keys_that_differ(store):
    commit(store, 1, 50)
    before = files(store.directory)
    other = {key: value for key, value in IDENTITY.items() if key != "seed"}
    other |= {"design.levels.animal.count": 30, "methods.general.df": None}
    with pytest.raises(StudyMismatchError) as caught:
        Store.open(store.directory, describe(other))
    assert str(caught.value) == (
        f"{store.directory} holds another study; these keys differ:\n"
        "  design.levels.animal.count is 25 there and 30 here\n"
        "  methods.general.df is absent there and null here\n"
        "  seed is 7 there and absent here\n"
        "Name another folder with -o, or replace the study with --overwrite."
    )
    assert caught.value.exit_code == ExitCode.OTHER_STUDY
    assert files(store.directory) == before


def test_a_study_of_a_later_format_is_refused(store):
    path = store.directory / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StudyMismatchError, match="format is 2 there and 1 here"):
        Store.open(store.directory, describe())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["scenario.toml", "manifest.json"])
def test_a_folder_with_files_but_no_study_is_left_alone(tmp_path, name, overwrite):
    (tmp_path / name).write_text('{"theirs": 1}')
    with pytest.raises(StudyMismatchError, match=f"holds files but no study \\({name}\\).* -o"):
        Store.open(tmp_path, describe(), overwrite=overwrite)
    assert files(tmp_path) == {name: b'{"theirs": 1}'}


def test_overwrite_replaces_the_study_and_nothing_else(store):
    commit(store, 1, 50)
    for name in ("notes.txt", "summary.xlsx", "estimates/mine.parquet"):
        (store.directory / name).write_text("mine")
    (store.directory / "summary.csv").write_text("old")
    other = describe({"seed": 8})
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
    assert json.loads(left["manifest.json"])["identity"] == {"seed": 8}


@pytest.mark.parametrize("n_writes", range(3))
def test_a_run_killed_while_it_makes_the_folder_can_be_repeated(tmp_path, monkeypatch, n_writes):
    write, done = Store._write_bytes, []

    def die_later(self, content, target):
        if len(done) == n_writes:
            raise SystemExit
        done.append(target)
        write(self, content, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # noqa: PT012
        patch.setattr(Store, "_write_bytes", die_later)
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
    commit(store, 1, 50, failed=[3, 17])
    commit(store, 61, 70)
    (store.directory / "estimates" / chunk_of(61, 70).part).unlink()
    commit(store, 80, 80, failed=[80])
    (status,) = store.status()
    assert (status.n_planned, status.n_done, status.n_failed) == (100, 51, 6)
    assert status.missing == ((51, 79), (81, 100))
    assert str(status) == (
        "all: 100 planned, 51 done, 6 fits failed; missing: --replicates 51-79,81-100"
    )
    commit(store, 51, 79)
    commit(store, 81, 100)
    assert str(store.status()[0]) == "all: 100 planned, 100 done, 6 fits failed; complete"


def test_status_of_no_study_is_the_users_mistake(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="holds no study; mcsim run makes one"):
            Store(path).status()


def test_a_finished_study_of_2000_parts_is_scanned_in_no_time(store):
    for first, last in cut([(1, 100_000)], chunk_size=50):
        for folder in ("estimates", "fits"):
            (store.directory / folder / chunk_of(first, last).part).touch()
    started = time.perf_counter()
    assert store.missing_replicates(KEY, [(1, 100_001)]) == ((100_001, 100_001),)
    assert time.perf_counter() - started < 0.5


def test_foreign_files_among_the_parts_are_no_replicates(store):
    for name in ("part-x.parquet", "part-xyz-0000001-0000002.parquet", "notes.txt"):
        for folder in ("estimates", "fits"):
            (store.directory / folder / name).touch()
    assert store.committed() == {}


def numbers(ranges):
    return {one for first, last in ranges for one in range(first, last + 1)}


@given(wanted=RANGES, done=RANGES)
def test_missing_and_done_together_are_what_was_wanted(wanted, done):
    missing = subtract(wanted, done)
    assert numbers(missing) == numbers(wanted) - numbers(done)
    assert merge(missing) == missing


@given(ranges=RANGES.filter(bool))
def test_ranges_survive_being_written_and_read(ranges):
    assert parse_ranges(format_ranges(ranges)) == merge(ranges)
    assert numbers(merge(ranges)) == numbers(ranges)


@given(done=RANGES, chunk_size=st.none() | st.integers(1, 9))
def test_chunks_hold_every_missing_replicate_once(done, chunk_size):
    chunks = list(cut(subtract([(1, 80)], done), chunk_size))
    replicates = [one for first, last in chunks for one in range(first, last + 1)]
    assert sorted(replicates) == sorted(numbers([(1, 80)]) - numbers(done))
    assert all(last - first < (chunk_size or 50) for first, last in chunks)


@given(n=st.integers(1, 30_000), more=st.integers(0, 30_000))
def test_a_larger_n_changes_no_chunk_but_the_last(n, more):
    fewer, all_of_them = list(cut([(1, n)])), list(cut([(1, n + more)]))
    assert fewer[:-1] == all_of_them[: len(fewer) - 1]
    assert fewer[-1][0] == all_of_them[len(fewer) - 1][0]


def test_the_grid_has_small_chunks_first():
    chunks = list(cut([(1, 20_000)]))
    sizes = [last - first + 1 for first, last in chunks]
    assert sizes == [50] * 10 + [500] * 3 + [2000] * 9
    assert list(cut([(10_100, 12_500)])) == [(10_100, 12_000), (12_001, 12_500)]
    assert list(cut([(1, 20)], chunk_size=7)) == [(1, 7), (8, 14), (15, 20)]


@pytest.mark.parametrize(
    ("text", "ranges"),
    [("137", ((137, 137),)), (" 1201 - 1400 ,1500", ((1201, 1400), (1500, 1500)))],
)
def test_ranges_are_read_as_users_write_them(text, ranges):
    assert parse_ranges(text) == ranges


@pytest.mark.parametrize("text", ["", "0", "5-3", "1-", "a", "1;2", "1,,2", "-3"])
def test_what_is_no_range_is_named(text):
    with pytest.raises(McsimError, match="is no range of replicates; write 137, 1201-1400"):
        parse_ranges(text)
