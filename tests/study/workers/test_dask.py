"""Runs on a real Dask cluster of processes on this machine."""

import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from mcsim import __version__
from mcsim.errors import McsimError
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.study.run import RunOptions, run_study
from mcsim.study.workers.dask import Cluster, DaskExecutor, refuse_other_versions
from tests.clusters import kill_all_of, processes, wait_until
from tests.conftest import SMALL, run_mcsim
from tests.study.test_crashes import Deadly
from tests.study.test_extend import parts, rows
from tests.study.workers.test_processes import fail, fail_as_users_do, square

pytest.importorskip("distributed")

LONG = ("small.toml", "-n", 4000)  # some seconds of two processes
OTHER_VERSION = "import mcsim\nmcsim.__version__ = '0.0.1'\n"


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with processes(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(2):
            cluster.start_worker()
        yield cluster


@pytest.fixture
def own_cluster(tmp_path):
    """A cluster to break."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with processes(folder) as cluster:
        yield cluster


@pytest.fixture
def executor(two_workers):
    with DaskExecutor(Cluster(scheduler_file=two_workers.file), lambda _: None) as executor:
        wait_until(lambda: len(executor._client.nthreads()) == 2)
        yield executor


def begin(folder, cluster, *arguments):
    """Start a run on the cluster; returns when it has its first part."""
    command = [sys.executable, "-m", "mcsim", "run", *arguments, "-o", "out"]
    running = subprocess.Popen(
        [*map(str, command), "--scheduler-file", cluster.file],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    marks = folder / "out" / "commits"
    wait_until(lambda: running.poll() is not None or any(marks.glob("part-*")))
    assert running.poll() is None, running.communicate()
    return running


def whole(folder):
    assert run_mcsim("run", *LONG, "-o", "whole", cwd=folder).returncode == 0
    return parts(folder / "whole")


def test_every_result_arrives_and_few_tasks_are_taken_ahead(executor):
    taken = []
    tasks = (taken.append(number) or number for number in range(40))
    results = executor.map_unordered(square, tasks)
    found = []
    for result in results:
        found.append(result)
        assert len(taken) <= len(found) + 8  # two workers with two tasks each, and their results
    assert sorted(found) == [number * number for number in range(40)]
    assert list(executor.map_unordered(square, [])) == []


def test_errors_come_back_as_from_the_pool(executor):
    with pytest.raises(ZeroDivisionError, match="three is not for dividing") as caught:
        list(executor.map_unordered(fail, range(6)))
    assert caught.value.__notes__[0].startswith("At 3, in a worker process:\nTraceback")
    with pytest.raises(McsimError) as caught:
        list(executor.map_unordered(fail_as_users_do, [1]))
    assert str(caught.value) == "a.toml:1:2: one\na.toml:3:4: two"


def test_a_cluster_writes_the_bytes_of_one_machine(two_workers, small_scenario, tmp_path):
    address = json.loads(two_workers.file.read_text())["address"]
    arguments = ("run", "small.toml", "-n", 300)
    done = run_mcsim(*arguments, "-o", "dask", "--scheduler", address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Dask scheduler {address}: 2 workers at the start" in done.stderr
    local = run_mcsim(*arguments, "-o", "local", cwd=tmp_path)
    assert done.stdout == local.stdout
    assert parts(tmp_path / "dask") == parts(tmp_path / "local")
    summaries = [(tmp_path / name / "summary.csv").read_bytes() for name in ("dask", "local")]
    assert summaries[0] == summaries[1]


def test_a_signal_ends_a_run_and_leaves_the_cluster_to_the_next(
    two_workers, small_scenario, tmp_path
):
    running = begin(tmp_path, two_workers, *LONG)
    running.send_signal(signal.SIGTERM)
    output, message = running.communicate(timeout=5)
    assert (running.returncode, output) == (75, "")
    assert message.endswith(
        "stopped by SIGTERM; what is done is safe. Repeat the command to go on.\n"
    )
    again = begin(tmp_path, two_workers, *LONG)
    _, message = again.communicate(timeout=120)
    assert again.returncode == 0, message
    assert parts(tmp_path / "out") == whole(tmp_path)


def test_a_worker_killed_in_mid_run_changes_no_byte(own_cluster, small_scenario, tmp_path):
    first, _ = own_cluster.start_worker(), own_cluster.start_worker()
    running = begin(tmp_path, own_cluster, *LONG)
    kill_all_of(first)
    _, message = running.communicate(timeout=120)
    assert running.returncode == 0, message
    assert parts(tmp_path / "out") == whole(tmp_path)


def test_a_scheduler_that_is_gone_ends_the_run_and_the_next_goes_on(
    own_cluster, small_scenario, tmp_path
):
    own_cluster.start_worker()
    running = begin(tmp_path, own_cluster, *LONG)
    kill_all_of(own_cluster.all[0])
    _, message = running.communicate(timeout=60)
    assert running.returncode == 2
    assert "is gone. What was finished is safe; repeat the command when it is back" in message
    assert "Traceback" not in message
    assert run_mcsim("run", *LONG, "-o", "out", cwd=tmp_path).returncode == 0
    assert parts(tmp_path / "out") == whole(tmp_path)


def test_workers_of_another_version_are_refused_also_those_that_come_late(
    own_cluster, small_scenario, tmp_path
):
    preload = tmp_path / "other_version.py"
    preload.write_text(OTHER_VERSION)
    arguments = ("run", "small.toml", "-o", "out", "--scheduler-file", own_cluster.file)
    early = subprocess.Popen(
        [sys.executable, "-m", "mcsim", *map(str, arguments)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert early.stderr.readline().endswith(": no workers at the start\n")
    time.sleep(1)  # it has asked all workers, and now waits for the first
    own_cluster.start_worker("--preload", str(preload))
    _, message = early.communicate(timeout=60)
    for code, words in (
        (early.returncode, message),
        (lambda done: (done.returncode, done.stderr))(run_mcsim(*arguments, cwd=tmp_path)),
    ):
        assert code == 2
        assert "mcsim is 0.0.1 on tcp://127.0.0.1:" in words
        assert f" and {__version__} here\nInstall the same versions there, or" in words
    assert not any((tmp_path / "out" / "commits").iterdir())


def test_all_differing_versions_are_named_and_missing_packages():
    expected = {"mcsim": "1.0", "numpy": "2.0"}
    refuse_other_versions({"tcp://a:1": expected}, expected)
    found = {
        "tcp://b:1": {"mcsim": None, "numpy": "2.0"},
        "tcp://a:1": {"mcsim": "1.0", "numpy": "1.9"},
    }
    with pytest.raises(McsimError) as caught:
        refuse_other_versions(found, expected)
    assert str(caught.value).splitlines()[1:3] == [
        "  numpy is 1.9 on tcp://a:1 and 2.0 here",
        "  mcsim is absent on tcp://b:1 and 1.0 here",
    ]


@pytest.mark.slow
def test_a_replicate_that_ends_its_workers_is_failed(own_cluster, tmp_path, monkeypatch):
    own_cluster.start_worker()
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    scenario = load_scenario(path, replicates=9)
    fresh = run_study(scenario, RunOptions(tmp_path / "fresh", n_workers=1)).directory
    monkeypatch.setattr(study, "ChunkAnalyser", partial(Deadly, culprits=(7,)))
    cluster = Cluster(scheduler_file=own_cluster.file)
    out = run_study(scenario, RunOptions(tmp_path / "out", cluster=cluster)).directory
    fits = rows(out, "fits")
    assert set(fits["replicate"][fits["status"] == "failed"]) == {7}
    kept = fits["replicate"] != 7
    assert (fits[kept]["loglik"] == rows(fresh, "fits")[kept]["loglik"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheduler", "nowhere"], "no Dask scheduler answers at nowhere: missing port number"),
        (["--scheduler-file", "none.json"], "answers at none.json: [Errno 2] No such file"),
        (["--scheduler", "tls://127.0.0.1:1"], "are the --tls options those of the cluster?"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_named(small_scenario, tmp_path, arguments, message):
    done = run_mcsim("run", "small.toml", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "results").exists()
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
def test_a_cluster_with_tls_is_reached_with_the_certificate_and_not_without(
    small_scenario, tmp_path
):
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=cluster"]
    subprocess.run(
        [*make, "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    tls = ("--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    arguments = ("run", "small.toml", "-o", "out")
    with processes(tmp_path, *tls, "--protocol", "tls") as cluster:
        cluster.start_worker()
        address = json.loads(cluster.file.read_text())["address"]
        assert address.startswith("tls://")
        plain = run_mcsim(*arguments, "--scheduler", address, cwd=tmp_path)
        assert plain.returncode == 2
        done = run_mcsim(*arguments, "--scheduler", address, *tls, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "60 replicates, 0 failed" in done.stdout
