"""The folder of what is compiled: what lies there is run, so it must be ours alone."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcsim.engine.arithmetic.cache import cache_folder

NAME = "kernels-0123"


@pytest.fixture
def usual(tmp_path, monkeypatch):
    """The usual folder, not made yet, below a home of ours."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    return tmp_path / "cache" / "mcsim" / NAME


def mode(path):
    return path.stat().st_mode & 0o777


def test_folders_that_are_made_are_ours_alone(usual):
    before = os.umask(0)
    try:
        assert cache_folder(NAME) == (usual, "")
    finally:
        os.umask(before)
    assert {mode(one) for one in (usual, usual.parent, usual.parent.parent)} == {0o700}
    usual.chmod(0o755)  # to look at is no harm
    assert cache_folder(NAME) == (usual, "")


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("where", [".", "./compiled"])
def test_a_folder_that_others_can_write_to_is_not_used(usual, where, bits):
    (usual / where).mkdir(parents=True, exist_ok=True)
    (usual / where).chmod(bits)
    folder, reason = cache_folder(NAME)
    assert usual not in (folder, *folder.parents)
    assert (mode(folder), list(folder.iterdir())) == (0o700, [])
    assert reason == f"others can write to {usual / where}; remove it"


@pytest.mark.parametrize("bits", [0o770, 0o777])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_nor_one_that_others_can_replace(usual, depth, bits):
    usual.mkdir(parents=True)
    parent = usual.parents[depth]
    parent.chmod(bits)
    folder, reason = cache_folder(NAME)
    assert folder != usual
    assert reason == f"others can write to {parent}; run chmod go-w {parent}"
    parent.chmod(bits | 0o1000)  # as /tmp: others cannot move what is ours
    assert cache_folder(NAME) == (usual, "")


@pytest.mark.parametrize("depth", [None, 0])
def test_nor_one_of_another_user(usual, monkeypatch, depth):
    usual.mkdir(parents=True)
    one = usual if depth is None else usual.parents[depth]
    lstat = Path.lstat

    def of_another(path):
        state = lstat(path)
        return os.stat_result([*state[:4], state.st_uid + 1, *state[5:]]) if path == one else state

    monkeypatch.setattr(Path, "lstat", of_another)
    folder, reason = cache_folder(NAME)
    assert folder != usual
    assert reason.startswith(f"{one} belongs to another user; ")


def test_a_link_is_followed_once(usual, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    usual.parent.parent.symlink_to(tmp_path / "elsewhere")
    assert cache_folder(NAME) == (tmp_path / "elsewhere" / "mcsim" / NAME, "")
    (tmp_path / "elsewhere").chmod(0o777)
    assert cache_folder(NAME)[0] != tmp_path / "elsewhere" / "mcsim" / NAME


def test_a_file_in_its_place_is_said(usual):
    usual.parent.mkdir(parents=True)
    usual.touch()
    folder, reason = cache_folder(NAME)
    assert folder != usual
    assert reason == f"{usual} cannot be used: File exists"


def test_code_in_a_cache_that_all_can_write_to_is_not_run(usual, tmp_path):
    # the index of numba's cache is a pickle: reading a poisoned one runs code
    code = "from mcsim.engine.arithmetic import compiled; print(compiled.CACHE)"
    environment = os.environ | {"XDG_CACHE_HOME": str(usual.parents[1]), "TMPDIR": str(tmp_path)}

    def cache_of_a_process():
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return Path(done.stdout.strip())

    own = cache_of_a_process()
    assert own.parent == usual.parent
    own.chmod(0o777)
    assert cache_of_a_process().parent == tmp_path


def test_a_full_disk_is_not_used(usual, monkeypatch):
    def is_full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", is_full)
    folder, reason = cache_folder(NAME)
    assert folder != usual
    assert reason == f"{usual} cannot be used: No space left on device"
    (usual / "compiled").mkdir(mode=0o700)  # what is there needs no room
    assert cache_folder(NAME) == (usual, "")
