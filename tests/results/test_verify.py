"""Damaged, foreign and missing files of a study are named."""

import shutil

import pytest

from mcsim.errors import DataError
from mcsim.results.folder import SUFFIXES, Part
from mcsim.results.ranges import cut
from mcsim.results.store import Store
from mcsim.results.verify import find_faults
from tests.results.test_store import KEY, chunk_of, commit, describe

N = 100


@pytest.fixture
def store(tmp_path):
    """A finished study of 100 replicates, its numbers made up."""
    store = Store.open(tmp_path / "study", describe())
    for first, last in cut([(1, N)]):
        commit(store, first, last)
    return store


def path_of(store, folder, first=1, last=32):
    return store.directory / chunk_of(first, last).part.path(folder)


def faults_of(store):
    return [str(fault) for fault in find_faults(store.directory)]


def flip_a_bit(path, at=100):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_nothing_is_wrong_with_a_finished_study(store):
    assert faults_of(store) == []


@pytest.mark.parametrize("folder", ["estimates", "fits"])
def test_a_truncated_file_is_named_with_its_sizes(store, folder):
    path = path_of(store, folder)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-10])
    where = f"{folder}/part-{KEY}-0000001-0000032.parquet"
    assert faults_of(store) == [f"{where}: truncated: {size - 10} of {size} bytes"]


@pytest.mark.parametrize("folder", ["estimates", "fits"])
def test_one_flipped_bit_is_found(store, folder):
    flip_a_bit(path_of(store, folder))
    where = f"{folder}/part-{KEY}-0000001-0000032.parquet"
    assert faults_of(store) == [f"{where}: corrupted: not what was written (SHA-256)"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"first": 1}', None])
def test_a_damaged_record_is_named(store, content):
    path = path_of(store, "commits")
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    where = f"commits/part-{KEY}-0000001-0000032.json"
    assert faults_of(store) == [f"{where}: damaged: not the record of this part"]


def test_a_part_under_the_name_of_another_is_found(store):
    for folder in SUFFIXES:
        path_of(store, folder).replace(path_of(store, folder, 33, 64))
    found = faults_of(store)
    assert found[0].startswith(f"commits/part-{KEY}-0000033-0000064.json: damaged")
    assert found[1:] == ["all: missing: --replicates 1-32"]


@pytest.mark.parametrize("folder", ["estimates", "fits"])
def test_a_file_that_a_record_speaks_of_is_missing(store, folder):
    path_of(store, folder).unlink()
    assert faults_of(store) == [
        f"{folder}/part-{KEY}-0000001-0000032.parquet: missing, but recorded as finished",
        "all: missing: --replicates 1-32",
    ]


def test_a_part_without_its_record_is_not_finished(store):
    path_of(store, "commits").unlink()
    assert faults_of(store) == [
        f"part-{KEY}-0000001-0000032: not finished: its run was stopped, or is going on",
        "all: missing: --replicates 1-32",
    ]


def test_a_part_within_another_is_found(store):
    commit(store, 9, 16)
    assert faults_of(store) == [
        f"part-{KEY}-0000009-0000016: its replicates are in a larger part too"
    ]


def test_foreign_files_are_named_and_count_for_nothing(store):
    (store.directory / "estimates" / "mine.parquet").write_bytes(b"mine")
    stranger = Part("fedcba987654", 1, 32)  # of a study with another seed, say
    for folder in SUFFIXES:
        shutil.copy(path_of(store, folder), store.directory / stranger.path(folder))
    assert faults_of(store) == [
        f"commits/{stranger}.json: foreign: no part of this study",
        "estimates/mine.parquet: foreign: no part of this study",
        f"estimates/{stranger}.parquet: foreign: no part of this study",
        f"fits/{stranger}.parquet: foreign: no part of this study",
    ]
    assert store.status()[0].n_done == N


def test_no_study_is_the_users_mistake(tmp_path):
    with pytest.raises(DataError, match="holds no study"):
        find_faults(tmp_path)
