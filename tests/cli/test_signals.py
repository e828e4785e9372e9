"""Commands that are told to stop, or killed, at any moment: exit codes, haste, and no orphans."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcsim.results.ranges import format_ranges
from mcsim.results.store import Store
from mcsim.results.verify import find_faults
from tests.conftest import SMALL
from tests.study.workers.test_processes import alive_in_session, needs_proc, wait_for_empty_session

SLOW = """
[[methods]]
name = "slow"
formula = "y ~ diet * x + (1 | animal)"
estimator = "statsmodels"
"""
LIMIT_S = 5.0
pytestmark = needs_proc


@pytest.fixture
def begin(tmp_path):
    """Starts a run of minutes with a slow estimator, in a session of its own."""
    started = []
    (tmp_path / "slow.toml").write_text(SMALL + SLOW)

    def start(n_workers):
        command = [sys.executable, "-m", "mcsim", "run", "slow.toml", "-n", "2000", "-o", "study"]
        process = subprocess.Popen(
            [*command, "-j", str(n_workers)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        wait_until_it_listens(process)
        return process

    yield start
    for process in started:
        with process:
            for pid in alive_in_session(process.pid):
                os.kill(int(pid), signal.SIGKILL)


def wait_until_it_listens(process):
    """Until the process catches SIGTERM: the interpreter itself cannot be told before."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught & 1 << (signal.SIGTERM - 1):
            return
        time.sleep(0.01)
    pytest.fail("the command never listened")


# imports come first; workers start after about 2 s, and then fit with the slow estimator
@pytest.mark.parametrize(
    ("n_workers", "name", "delay", "code"),
    [
        (2, "SIGINT", 0.0, 130),
        (2, "SIGHUP", 0.7, 75),
        (2, "SIGUSR1", 1.5, 75),
        (2, "SIGTERM", 2.0, 75),
        (2, "SIGINT", 4.0, 130),
        (1, "SIGTERM", 0.7, 75),
        (1, "SIGUSR1", 3.0, 75),
    ],
)
def test_a_signal_ends_a_run_in_time_whatever_it_is_doing(begin, n_workers, name, delay, code):
    process = begin(n_workers)
    time.sleep(delay)
    sent = time.monotonic()
    process.send_signal(signal.Signals[name])
    output, message = process.communicate(timeout=60)
    assert time.monotonic() - sent < LIMIT_S
    cause = "Ctrl-C" if name == "SIGINT" else name
    assert (process.returncode, output) == (code, "")
    assert message == f"stopped by {cause}; what is done is safe. Repeat the command to go on.\n"
    assert wait_for_empty_session(process.pid, LIMIT_S)


@pytest.mark.parametrize("delay", [0.7, 1.5, 2.0, 3.0])
def test_nothing_survives_a_command_killed_with_9(begin, delay):
    process = begin(2)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert wait_for_empty_session(process.pid, LIMIT_S)


def test_what_was_done_before_the_signal_is_safe(begin, tmp_path):
    process = begin(2)
    marks = tmp_path / "study" / "commits"
    while not list(marks.glob("part-*")):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    (status,) = Store.read(tmp_path / "study").status().conditions
    assert 0 < status.n_done < 2000
    (fault,) = find_faults(tmp_path / "study")
    assert fault.what == f"missing: --replicates {format_ranges(status.missing)}"
