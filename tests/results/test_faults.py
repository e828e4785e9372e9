"""Folders that cannot be written, full disks and runs at the same time: nothing is lost."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from mcsim.errors import McsimError
from mcsim.results.store import Store
from mcsim.results.verify import find_faults
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.printed import to_csv
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL
from tests.results.test_store import commit, describe, files
from tests.study.test_extend import SMALLER, parts, rows

NOBODY = 65534
OWN_MOUNTS = ["unshare", "--map-root-user", "--mount"]
RUN = f"{sys.executable} -m mcsim run small.toml -j 1 -o disk/study"


def can_mount():
    command = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"]
    has_unshare = shutil.which("unshare") is not None
    return has_unshare and subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs mounts of one's own")


def run_script(text, folder):
    """Run a shell script that may mount what it likes."""
    command = [*OWN_MOUNTS, "sh", "-c", text]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


@pytest.fixture
def folder(small_scenario):
    """A folder with a scenario, and a mount point."""
    (small_scenario.parent / "disk").mkdir()
    return small_scenario.parent


def scenario_of(text, folder, replicates):
    path = folder / "any.toml"
    path.write_text(text)
    return load_scenario(path, replicates=replicates)


@needs_mounts
def test_a_full_disk_ends_a_run_with_a_message_and_the_next_goes_on(folder):
    run_script(
        f"""
        mount -t tmpfs -o size=300k none disk
        {RUN} -n 300 2> message; echo $? > code
        cp -r disk/study half
        mount -o remount,size=50m disk
        {RUN} -n 300 2> again || exit
        cp -r disk/study whole
        """,
        folder,
    )
    assert (folder / "code").read_text() == "2\n"
    said = (folder / "message").read_text().splitlines()
    assert [line for line in said if not line.startswith("Compiling the engine")] == [
        "cannot write to disk/study: No space left on device. What was finished is safe;"
        " free space and repeat the command"
    ]
    (status,) = Store.read(folder / "half").status().conditions
    assert 0 < status.n_done < 300
    assert list((folder / "half" / ".tmp").iterdir()) == []
    fresh = run_study(
        scenario_of(SMALL, folder, 300), RunOptions(folder / "fresh", n_workers=1)
    ).directory
    assert parts(folder / "whole") == parts(fresh)


@needs_mounts
def test_a_read_only_folder_is_named_and_can_still_be_read(folder):
    mcsim = f"{sys.executable} -m mcsim"
    run_script(
        f"""
        mount -t tmpfs none disk
        {RUN} -n 30 || exit
        mount -o remount,ro disk
        {RUN} -n 60 2> message; echo $? > code
        {mcsim} summarize disk/study --format csv > summary.csv || exit
        {mcsim} verify disk/study 2> verified || exit
        mount -o remount,rw disk
        {RUN} -n 60 || exit
        {mcsim} status disk/study > status
        """,
        folder,
    )
    assert (folder / "code").read_text() == "2\n"
    assert (folder / "message").read_text() == (
        "cannot write to disk/study: Read-only file system. What was finished is safe;"
        " make it writable or name another folder with -o, and repeat the command\n"
    )
    assert pd.read_csv(folder / "summary.csv")["n_replicates"].eq(30).all()
    assert (folder / "verified").read_text() == "disk/study: nothing is wrong\n"
    assert (folder / "status").read_text() == "all: 60 planned, 60 done, 0 fits failed; complete\n"


def test_a_folder_of_somebody_else_is_named_and_left_as_it_was():
    with tempfile.TemporaryDirectory() as name:
        study = Path(name) / "study"
        commit(Store.open(study, describe()), 1, 32)
        before = files(study)
        folders = [Path(name), study, *(path for path in study.iterdir() if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # whom no mode stops
            os.seteuid(NOBODY)
        try:
            with pytest.raises(McsimError, match=r"cannot write to .*Permission denied"):
                Store.open(study, describe())
        finally:
            os.seteuid(user)
            for folder in folders:
                folder.chmod(0o755)
        assert files(study) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((SMALL, 60, None), (SMALL, 60, None)),
        ((SMALL, 60, None), (SMALL, 100, None)),
        ((SMALL, 100, None), (SMALL, 60, None)),
        ((SMALL, 100, None), (SMALL, 100, [(35, 90)])),
        ((SMALL, 100, None), (SMALL + SMALLER, 60, None)),
    ],
    ids=["same", "larger", "smaller", "range", "method"],
)
def test_a_run_amid_another_doubles_and_loses_nothing(tmp_path, first, second):
    study, has_begun = tmp_path / "study", []

    def run_second(_):
        if not has_begun:
            has_begun.append(True)
            start(*second)

    def start(text, n, ranges, **options):
        scenario = scenario_of(text, tmp_path, n)
        run_study(scenario, RunOptions(study, n_workers=1, replicates=ranges, **options))

    start(*first, advance=run_second)
    text, n = second[0], max(first[1], second[1])
    assert not rows(study, "fits").duplicated(["replicate", "method"]).any()
    start(text, n, None)  # the smaller of two may have been the last to say how many
    assert find_faults(study) == []
    fresh = tmp_path / "fresh"
    run_study(scenario_of(text, tmp_path, n), RunOptions(fresh, n_workers=1))
    for kind in ("estimates", "fits"):
        pd.testing.assert_frame_equal(rows(study, kind), rows(fresh, kind), check_exact=True)
    assert to_csv(summarize([study])) == to_csv(summarize([fresh]))


def test_commands_at_the_same_time_end_in_one_study(folder):
    command = [sys.executable, "-m", "mcsim", "run", "small.toml", "-j", "1", "-o", "study", "-n"]
    arguments = [["1500"], ["1000"], ["1500", "--replicates", "200-1300"]]
    running = [
        subprocess.Popen([*command, *one], cwd=folder, stdout=subprocess.DEVNULL)
        for one in arguments
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    run_study(scenario_of(SMALL, folder, 1500), RunOptions(folder / "study", n_workers=1))
    assert find_faults(folder / "study") == []
    fresh = run_study(scenario_of(SMALL, folder, 1500), RunOptions(folder / "fresh", n_workers=1))
    frames = [rows(one) for one in (folder / "study", fresh.directory)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
