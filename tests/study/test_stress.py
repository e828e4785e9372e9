"""Whatever happens to a study, and however its work is shared: the same bytes, the same summary.

By default a few kills and a part of the matrix; all of it with `-m stress`.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pandas as pd
import pytest

from mcsim.errors import StoppedError
from mcsim.results.folder import finished_parts
from mcsim.results.store import Store
from mcsim.results.verify import find_faults
from mcsim.scenario.load import load_scenario
from mcsim.study import chunks
from mcsim.study import run as study
from mcsim.study.run import RunOptions, run_study
from mcsim.study.shards import Shard
from mcsim.study.workers.dask import Cluster
from mcsim.summary.cache import new_summary
from tests.clusters import processes, wait_until
from tests.conftest import SMALL
from tests.study.test_extend import SWEEP, parts, rows
from tests.study.workers.test_processes import alive_in_session

# small chunks in two processes: many moments at which to be killed
COMMAND = """
from mcsim.study import chunks, run
chunks.LARGEST_BLOCK, chunks.BATCH_CHUNKS, run.SERIAL_ROWS = 32, 2, 0
from mcsim.cli.main import main
main()
"""
LONGEST_WORK_S = 0.3  # between a new part and the kill


def start(folder, name, n_replicates):
    arguments = ["run", "sweep.toml", "-o", name, "-n", str(n_replicates), "-j", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def n_marks(folder):
    return len(list((folder / "commits").glob("part-*")))


def kill_in_mid_run(process, folder, chance):
    """Kill the command, or all its processes, a little after a new part; whether it was alive."""
    before = n_marks(folder)
    wait_until(lambda: process.poll() is not None or n_marks(folder) > before)
    time.sleep(chance.uniform(0.0, LONGEST_WORK_S))
    was_alive = process.poll() is None
    if chance.random() < 0.5:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return was_alive


@pytest.mark.parametrize(
    ("n_kills", "n_replicates"),
    [(4, 1000), pytest.param(50, 15_000, marks=pytest.mark.stress)],
)
def test_random_kills_and_the_same_command_end_in_the_same_bytes(tmp_path, n_kills, n_replicates):
    (tmp_path / "sweep.toml").write_text(SMALL + SWEEP)
    chance = random.Random(20240319)
    killed = tmp_path / "killed"
    for _ in range(n_kills):
        process = start(tmp_path, "killed", n_replicates)
        assert kill_in_mid_run(process, killed, chance), "the study is too short for the kills"
        wait_until(lambda process=process: not alive_in_session(process.pid), 5)
    assert any(Store.read(killed).missing().values())
    for name in ("killed", "undisturbed"):
        process = start(tmp_path, name, n_replicates)
        _, message = process.communicate()
        assert process.returncode == 0, message
    assert parts(killed) == parts(tmp_path / "undisturbed")
    assert find_faults(killed) == []
    for name in ("summary.csv", "summary.parquet"):
        assert (killed / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


JOBS, CHUNKS, SHARDS = (1, 2), (7, 100, None), (1, 3)
HISTORIES = ("fresh", "resumed", "extended")
WAYS = list(itertools.product(JOBS, CHUNKS, SHARDS, HISTORIES))
PART_OF_THEM = [
    (1, 100, 3, "resumed"),
    (1, 7, 1, "fresh"),
    (2, 100, 1, "resumed"),
    (2, None, 3, "extended"),
]
N_REPLICATES = 400
LARGEST = {7: 4, 100: 64, None: 128}  # replicates of a chunk; None: 128 are left after 256


class Stop:
    """Ends a run after some chunks, as a signal would."""

    def __init__(self, n_chunks):
        self.n_left = n_chunks

    def __call__(self, progress):
        self.n_left -= 1
        if not self.n_left:
            raise StoppedError("stopped")


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Run the study in some way; returns its folder, with a summary."""
    monkeypatch.setattr(study, "SERIAL_ROWS", 0)
    monkeypatch.setattr(chunks, "BATCH_CHUNKS", 2)  # so that there is work for two
    (tmp_path / "scenario.toml").write_text(SMALL + SWEEP)
    folder = tmp_path / "study"

    def run_in_shards(n_replicates, n_shards, **options):
        scenario = load_scenario(tmp_path / "scenario.toml", replicates=n_replicates)
        for number in range(1, n_shards + 1):
            shard = Shard(number, n_shards) if n_shards > 1 else None
            run_study(scenario, RunOptions(folder, shard=shard, **options))

    def run(chunk, n_shards, history, **options):
        monkeypatch.setattr(chunks, "LARGEST_BLOCK", chunk or chunks.LARGEST_BLOCK)
        if history == "resumed":
            run_in_shards(N_REPLICATES, n_shards, replicates=[(20, 45), (300, 300)], **options)
            with pytest.raises(StoppedError):
                run_in_shards(N_REPLICATES, n_shards, advance=Stop(2), **options)
        if history == "extended":
            run_in_shards(150, n_shards, **options)
        run_in_shards(N_REPLICATES, n_shards, **options)
        new_summary(folder)
        sizes = {part.last - part.first + 1 for part in finished_parts(folder)}
        assert max(sizes) == LARGEST[chunk] or history != "fresh"
        return folder

    return run


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The study as one process does it at once."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "scenario.toml").write_text(SMALL + SWEEP)
    scenario = load_scenario(folder / "scenario.toml", replicates=N_REPLICATES)
    store = run_study(scenario, RunOptions(folder / "study", n_workers=1))
    new_summary(store.directory)
    return store.directory


def assert_same(folder, plain):
    for kind in ("estimates", "fits"):
        pd.testing.assert_frame_equal(rows(folder, kind), rows(plain, kind), check_exact=True)
    for name in ("summary.csv", "summary.parquet"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()
    assert find_faults(folder) == []


def check_pool(shared, plain, way):
    n_workers, *others = way
    assert_same(shared(*others, n_workers=n_workers), plain)


@pytest.mark.parametrize("way", PART_OF_THEM, ids=str)
def test_the_way_of_sharing_the_work_changes_nothing(shared, plain, way):
    check_pool(shared, plain, way)


@pytest.mark.stress
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_way_of_sharing_the_work_changes_anything(shared, plain, way):
    check_pool(shared, plain, way)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Dask clusters by their number of workers."""
    folders = [tmp_path_factory.mktemp(f"cluster-{n_workers}") for n_workers in JOBS]
    with processes(folders[0]) as one, processes(folders[1]) as two:
        for cluster in (one, two, two):
            cluster.start_worker()
        yield dict(zip(JOBS, (one, two), strict=True))


@pytest.mark.stress
@pytest.mark.skipif(find_spec("distributed") is None, reason="needs Dask")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_way_of_sharing_the_work_on_a_cluster_changes_anything(shared, plain, clusters, way):
    n_workers, *others = way
    cluster = Cluster(scheduler_file=clusters[n_workers].file)
    assert_same(shared(*others, cluster=cluster), plain)
