"""Damaged, foreign and missing files of a study are named."""

import contextlib
import json
import re
import shutil

import pytest

from mcsim.errors import DataError, McsimError
from mcsim.results.folder import OWN_NAMES, SUFFIXES, Part, checksum, read_columns
from mcsim.results.merge import merge_studies
from mcsim.results.ranges import cut
from mcsim.results.store import Store
from mcsim.results.verify import find_faults
from tests.results.test_store import KEY, chunk_of, commit, describe, files

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
@pytest.mark.parametrize("end", [-10, None])
def test_a_study_with_a_part_of_another_size_is_not_complete(store, folder, end):
    path = path_of(store, folder)
    path.write_bytes(path.read_bytes()[:end] + b"more"[: 0 if end else 4])
    message = rf"{path.name} is damaged: .*`mcsim verify .* --repair` computes it again"
    with pytest.raises(DataError, match=message):
        store.status()


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
    assert store.status().conditions[0].n_done == N


def test_no_study_is_the_users_mistake(tmp_path):
    with pytest.raises(DataError, match="holds no study"):
        find_faults(tmp_path)


def test_every_flipped_byte_of_a_manifest_is_told(store):
    path = store.directory / "manifest.json"
    content = path.read_bytes()
    end = content.index(b'"checksum"')  # the name of the number cannot vouch for itself
    for at in range(0, end, 7):
        flip_a_bit(path, at)
        with pytest.raises(McsimError, match=r"manifest\.json is|holds a study of format"):
            find_faults(store.directory)
        path.write_bytes(content)
    assert faults_of(store) == []


@pytest.mark.parametrize("name", ["scenario.toml", "conditions.parquet"])
def test_a_changed_file_of_the_study_is_told(store, name):
    path = store.directory / name
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    said = [fault for fault in faults_of(store) if name in fault]
    assert len(said) == 1
    assert re.match(f"{name}: (corrupted: not what was written|damaged or missing)", said[0])


def test_a_folder_in_place_of_the_scenario_is_told(store):
    (store.directory / "scenario.toml").unlink()
    (store.directory / "scenario.toml").mkdir()
    assert faults_of(store) == ["scenario.toml: missing, or no file of its own: a folder or a link"]


def put_folder(path):
    path.unlink()
    path.mkdir()


def put_full_folder(path):
    put_folder(path)
    (path / "mine").write_text("mine")


def put_link(path):
    path.rename(path.with_name(".elsewhere"))
    path.symlink_to(path.with_name(".elsewhere"))


def put_dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def put_link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


IN_PLACE = [put_folder, put_full_folder, put_link, put_dangling_link, put_link_to_itself]


@pytest.mark.parametrize("put", IN_PLACE)
@pytest.mark.parametrize("folder", ["commits", "estimates", "fits"])
def test_what_stands_in_place_of_a_part_is_told_and_gives_way(store, folder, put):
    path = path_of(store, folder)
    put(path)
    name = path.relative_to(store.directory)
    assert f"{name}: missing, or no file of its own: a folder or a link" in faults_of(store)
    with pytest.raises(DataError, match="damaged"):
        read_columns(path, ["replicate"])
    store.unmark([fault.part for fault in find_faults(store.directory) if fault.part])
    commit(store, 1, 32)
    rest = [fault for fault in faults_of(store) if "mine" not in fault]
    assert all("foreign" in fault for fault in rest)
    assert len(rest) == (put == put_full_folder)  # what it holds is not lost


@pytest.mark.parametrize("name", OWN_NAMES)
def test_nothing_is_read_or_written_through_a_link(store, tmp_path, name):
    path, elsewhere = store.directory / name, tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    path.symlink_to(elsewhere)
    for use in (
        lambda: find_faults(store.directory),
        lambda: Store.open(store.directory, describe()),
        lambda: merge_studies([store.directory], tmp_path / "out", print),
    ):
        with pytest.raises(DataError, match=re.escape(f"{path} is a link")):
            use()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": {"../../x": {"condition": "all", "methods": []}}},
        {"parts": {"/etc/x": {"condition": "/etc", "methods": ["../../x"]}}},
        {"parts": []},
        {"parts": {KEY: 5}},
        {"conditions": ["all"]},
        {"replicates": "many"},
        {"replicates": 0},
        {"identity": []},
        {"identity": {}},
        {"versions": [], "format": 9},
        {"files": {"../../secret": "0"}},
    ],
)
def test_a_crafted_manifest_reaches_nothing_outside(store, tmp_path, changes):
    path, outside = store.directory / "manifest.json", files(tmp_path)
    manifest = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(manifest | {"checksum": checksum(manifest)}))
    with contextlib.suppress(McsimError):
        find_faults(store.directory)
    with contextlib.suppress(McsimError):
        merge_studies([store.directory], tmp_path / "study" / "out", print)
    outside["study/manifest.json"] = path.read_bytes()
    now = files(tmp_path)
    assert {name: now[name] for name in outside} == outside
    assert all(name.startswith("study/") for name in now)


def test_a_damaged_manifest_is_made_again_by_the_same_scenario(store):
    path = store.directory / "manifest.json"
    for damaged in (
        b"",
        b"{}",
        path.read_bytes().replace(b'"replicates": 100', b'"replicates": "1"'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"manifest\.json is"):
            Store.read(store.directory)
        Store.open(store.directory, describe())
        assert faults_of(store) == []
