"""A Dask cluster of processes on this machine, for tests."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Processes:
    """A scheduler and its workers, each with its nanny in a session of its own."""

    def __init__(self, folder, *options):
        self.file, self.all = folder / "scheduler.json", []
        self._folder, self._options = folder, options
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_until(self.file.exists)

    def start(self, kind, *options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        command += ["--scheduler-file", self.file, *self._options, *options]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        }
        with (self._folder / f"{kind}-{len(self.all)}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.all.append(process)
        return process

    def start_worker(self, *options):
        return self.start("worker", "--nthreads", "1", "--host", "127.0.0.1", *options)

    def end(self):
        for process in reversed(self.all):
            kill_all_of(process)


def kill_all_of(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@contextmanager
def processes(folder, *options):
    started = Processes(folder, *options)
    try:
        yield started
    finally:
        started.end()
