"""Real processes, real signals: what must hold whatever happens to a worker or its parent."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mcsim.errors import McsimError, Problem, ScenarioError
from mcsim.study.workers import processes
from mcsim.study.workers.executor import SerialExecutor
from mcsim.study.workers.kinds import EXECUTORS, Place
from mcsim.study.workers.processes import (
    TASKS_PER_WORKER,
    ProcessExecutor,
    usable_cpus,
)
from mcsim.study.workers.threads import ONE_THREAD


def square(number):
    return number * number


def fail(number):
    if number == 3:
        raise ZeroDivisionError("three is not for dividing")
    return number


def fail_as_users_do(number):
    raise ScenarioError([Problem("a.toml", 1, 2, "one"), Problem("a.toml", 3, 4, "two")])


def unpicklable_result(number):
    return lambda: number


def kill_self_once(marks, number):
    """Ends its first worker in mid-task; a file tells the second one."""
    mark = marks / f"died-{number}"
    if number in (2, 3) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kill_self_always(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kill_self_later(number):
    """Ends the worker when it has sent its result and waits for another task."""
    if number == 0:
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGKILL]).start()
    return number


def signal_self(name):
    os.kill(os.getpid(), signal.Signals[name])
    return name


def leave_a_child_behind(number):
    """Ends the worker while a child of it holds the pipe open."""
    if number == 1 and os.fork() > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    elif number == 1:
        time.sleep(5)
        os._exit(0)
    return number


def environment(_):
    return os.getpid(), {name: os.environ[name] for name in ONE_THREAD}


class LoadedOncePerProcess:
    """Counts in the worker how often it was unpickled there."""

    n_loaded = 0

    def __setstate__(self, state):
        type(self).n_loaded += 1

    def __getstate__(self):
        return {"something": 1}

    def __call__(self, _):
        return os.getpid(), self.n_loaded


class BreaksInTheWorker:
    def __call__(self, _):
        return 1

    def __setstate__(self, state):
        raise RuntimeError("cannot be unpickled")

    def __getstate__(self):
        return {"something": 1}


@pytest.mark.parametrize("name", sorted(EXECUTORS.keys() - {"dask"}))
def test_every_executor_returns_every_result(name):
    with EXECUTORS[name](Place(1)) as executor:
        assert sorted(executor.map_unordered(square, range(20))) == [n * n for n in range(20)]
        assert list(executor.map_unordered(square, [])) == []


def test_more_workers_than_tasks_and_fewer():
    for n_workers, n_tasks in ((3, 2), (2, 9)):
        with ProcessExecutor(n_workers) as executor:
            results = list(executor.map_unordered(square, range(n_tasks)))
        assert sorted(results) == [n * n for n in range(n_tasks)]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_killed_in_mid_task_are_replaced_and_nothing_is_missing(tmp_path, n_workers):
    function = functools.partial(kill_self_once, tmp_path)
    with ProcessExecutor(n_workers) as executor:
        assert sorted(executor.map_unordered(function, range(8))) == list(range(8))
    assert {path.name for path in tmp_path.iterdir()} == {"died-2", "died-3"}


def test_a_task_that_always_kills_its_worker_is_named():
    with (
        ProcessExecutor(1) as executor,
        pytest.raises(McsimError, match=r"died twice \(exit code -9\) at 2\. Was it out of memory"),
    ):
        list(executor.map_unordered(kill_self_always, range(4)))


def test_others_that_the_caller_names_take_the_place_of_a_lost_task():
    with ProcessExecutor(1) as executor:
        results = list(
            executor.map_unordered(kill_self_always, range(5), on_lost=lambda task: [10, 20, 30])
        )
    assert sorted(results) == [0, 1, 3, 4, 10, 20, 30]


def test_a_worker_that_dies_while_it_waits_is_replaced():
    def late_tasks():
        yield 0
        yield 1
        time.sleep(0.3)  # the worker is dead when this task is sent
        yield 2

    with ProcessExecutor(1) as executor:
        assert sorted(executor.map_unordered(kill_self_later, late_tasks())) == [0, 1, 2]


class Unstarted:
    """A process whose start fails some times, as where the fork server has just been killed."""

    def __init__(self, n_failing):
        self.n_failing, self.n_tries = n_failing, 0

    def start(self):
        self.n_tries += 1
        if self.n_tries <= self.n_failing:
            raise EOFError


def test_a_worker_is_started_again_where_the_fork_server_is_dying(monkeypatch):
    monkeypatch.setattr(processes, "START_AGAIN_S", 0.0)
    process = Unstarted(2)
    processes._start(process)
    assert process.n_tries == 3
    message = "no worker process can be started: the process that starts them has ended.*is safe"
    with pytest.raises(McsimError, match=message):
        processes._start(Unstarted(processes.STARTS))


def test_a_death_is_noticed_though_a_child_of_the_worker_holds_the_pipe():
    started = time.monotonic()
    with ProcessExecutor(1) as executor:
        results = executor.map_unordered(leave_a_child_behind, [1, 2], on_lost=lambda task: [-task])
        assert sorted(results) == [-1, 2]
    assert time.monotonic() - started < 4  # the children live for 5 s


def test_an_error_keeps_its_type_and_shows_the_workers_traceback():
    with ProcessExecutor(2) as executor, pytest.raises(ZeroDivisionError) as caught:
        list(executor.map_unordered(fail, range(6)))
    assert str(caught.value) == "three is not for dividing"
    (note,) = caught.value.__notes__
    assert note.startswith("At 3, in a worker process:\nTraceback")
    assert "in fail" in note


def test_an_error_that_pickling_garbles_keeps_its_words_and_stays_the_users():
    with ProcessExecutor(1) as executor, pytest.raises(McsimError) as caught:
        list(executor.map_unordered(fail_as_users_do, [1]))
    assert str(caught.value) == "a.toml:1:2: one\na.toml:3:4: two"


@pytest.mark.parametrize(
    ("function", "message"),
    [(unpicklable_result, "pickle"), (BreaksInTheWorker(), "cannot be unpickled")],
)
def test_what_cannot_travel_is_an_error_and_no_death(function, message):
    with ProcessExecutor(1) as executor, pytest.raises(Exception, match=message) as caught:
        list(executor.map_unordered(function, [1]))
    assert not isinstance(caught.value, McsimError)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_tasks_are_taken_only_as_workers_become_free(n_workers):
    taken = []
    tasks = (taken.append(number) or number for number in range(1000))
    with ProcessExecutor(n_workers) as executor:
        results = executor.map_unordered(square, tasks)
        for n_results in range(1, 30):
            next(results)
            assert len(taken) <= n_results + TASKS_PER_WORKER * n_workers
        results.close()
    with SerialExecutor() as serial:
        next(serial.map_unordered(square, tasks))


def test_the_second_task_is_given_after_every_worker_has_its_first():
    # otherwise two long tasks would queue up at one worker, with the other idle
    started = time.monotonic()
    with ProcessExecutor(2) as executor:
        list(executor.map_unordered(time.sleep, [1.0, 1.0]))
    assert time.monotonic() - started < 1.9


def test_workers_have_one_thread_and_the_parent_keeps_its_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with ProcessExecutor(1) as executor:
        ((pid, variables),) = executor.map_unordered(environment, [0])
    assert pid != os.getpid()
    assert variables == ONE_THREAD
    assert dict(os.environ) == before


OLD_SERVER = """
import multiprocessing, os, time
from mcsim.study.workers.processes import ProcessExecutor
from tests.study.workers.test_processes import environment

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "7"
    other = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(0,))
    other.start()
    other.join()
    with ProcessExecutor(1) as executor:
        print([one["OMP_NUM_THREADS"] for _, one in executor.map_unordered(environment, [0])])
"""


def test_workers_have_one_thread_also_from_a_fork_server_that_was_there_before(tmp_path):
    script = tmp_path / "old_server.py"
    script.write_text(OLD_SERVER)
    environment_of_script = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, script], env=environment_of_script, capture_output=True, check=True
    )
    assert done.stdout == b"['1']\n"


def test_workers_leave_the_signals_of_the_group_to_the_parent():
    # SIGTERM excepted: the parent ends them by it
    names = ["SIGINT", "SIGHUP", "SIGUSR1"]
    with ProcessExecutor(1) as executor:
        assert sorted(executor.map_unordered(signal_self, names)) == sorted(names)


def test_the_function_travels_once_per_worker():
    with ProcessExecutor(2) as executor:
        results = list(executor.map_unordered(LoadedOncePerProcess(), range(12)))
    assert {n_loaded for _, n_loaded in results} == {1}


def test_close_ends_workers_in_long_tasks_at_once():
    started = time.monotonic()
    with ProcessExecutor(2) as executor:
        results = executor.map_unordered(time.sleep, [0.0, 60.0, 60.0])
        next(results)
        processes = [worker.process for worker in executor._workers]
    assert time.monotonic() - started < 3
    assert [process.exitcode for process in processes] == [-signal.SIGTERM] * 2
    executor.close()  # again, harmless


def test_usable_cpus_respects_the_affinity():
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        code = (
            "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
            "from mcsim.study.workers.processes import usable_cpus; print(usable_cpus())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout == b"1\n"


PARENT = """
import signal, sys, time
from mcsim.errors import StoppedError
from mcsim.study.workers.processes import ProcessExecutor
from mcsim.study.workers.signals import stop_on_signals

if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop_on_signals() as guard, ProcessExecutor(2) as executor:
            for _ in executor.map_unordered(time.sleep, [0, 0, *[30] * 8]):
                with guard.held():
                    print("committed", flush=True)
    except StoppedError as error:
        sys.exit(error.exit_code)
"""


def alive_in_session(session):
    """Processes of the session that are no zombies (field 3: state, 6: session)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(path.parent.name)
    return found


@pytest.fixture
def parent(tmp_path):
    """A run of its own session with two finished tasks and two long ones in hand."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert [process.stdout.readline() for _ in range(2)] == ["committed\n"] * 2
        yield process
        for pid in alive_in_session(process.pid):
            os.kill(int(pid), signal.SIGKILL)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def wait_for_empty_session(session, seconds):
    deadline = time.monotonic() + seconds
    while (alive := alive_in_session(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive


@needs_proc
def test_no_orphan_survives_a_parent_killed_with_9(parent):
    assert len(alive_in_session(parent.pid)) >= 3
    parent.kill()
    parent.wait()
    assert wait_for_empty_session(parent.pid, 5)


@needs_proc
@pytest.mark.parametrize("to_whole_group", [True, False])
@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGHUP", 75), ("SIGUSR1", 75)]
)
def test_a_signal_ends_a_run_with_its_exit_code_and_without_noise(
    parent, name, code, to_whole_group
):
    send_to = os.killpg if to_whole_group else os.kill  # a terminal signals the whole group
    send_to(parent.pid, signal.Signals[name])
    output, noise = parent.communicate(timeout=5)
    assert (parent.returncode, output, noise) == (code, "", "")
    assert wait_for_empty_session(parent.pid, 5)
