"""Worker processes of this machine, which run a function over tasks.

A worker that dies is replaced and its task given out once more; a task that kills two workers is
lost.
"""

import contextlib
import functools
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from mcsim.errors import McsimError
from mcsim.study.workers.executor import (
    Executor,
    OnLost,
    R,
    T,
    TaskQueue,
    instead_of,
    opened,
    outcome,
)
from mcsim.study.workers.signals import STOP_SIGNALS
from mcsim.study.workers.threads import ONE_THREAD

HAS_FORK_SERVER = "forkserver" in multiprocessing.get_all_start_methods()
OF_WORKERS = ONE_THREAD | {"PYTHONSAFEPATH": "1"}  # no folder stands for a package of its name
PATIENCE_S = 2.0  # for the workers to end before they are killed
TASKS_PER_WORKER = 2  # one in hand, one waiting while the parent is busy with results
STARTS, START_AGAIN_S = 10, 0.2  # tries to start a worker
DEATHS_PER_TASK = 2  # the first may be chance, such as another program that took the memory


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_early(module: str) -> None:
    """Begin to start workers that will need `module`, while this process does something else.

    They are forked from a process of one thread that has imported it.
    """
    if HAS_FORK_SERVER:
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload([module])  # no matter if the server is there
        with _one_thread_each():
            forkserver.ensure_running()


class _Worker:
    """A process at the other end of a pipe, and the tasks sent to it: the first is in hand."""

    def __init__(self, context: Any, payload: bytes) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(payload, theirs), daemon=True)
        self.tasks: deque[Any] = deque()
        self.deaths = 0  # before this worker, at the task in hand
        with _one_thread_each(), _without_main():
            _start(self.process)
        theirs.close()

    def give(self, tasks: Iterable[Any]) -> None:
        for task in tasks:
            message = pickle.dumps(task)
            self.tasks.append(task)
            with contextlib.suppress(OSError):  # it is dead, which its sentinel tells
                self.connection.send_bytes(message)

    def receive(self) -> bytes | None:
        """A message, or None from a dead worker; to be called when there is either."""
        with contextlib.suppress(EOFError, OSError):
            if self.connection.poll():  # a child of a dead worker may hold the pipe open
                return bytes(self.connection.recv_bytes())
        return None


def _start(process: BaseProcess) -> None:
    """Start a process; again where the fork server is dying and does not look so yet."""
    for left in reversed(range(STARTS)):
        try:
            process.start()
            return
        except (EOFError, OSError) as error:
            if not left:
                why = getattr(error, "strerror", None) or "the process that starts them has ended"
                raise McsimError(
                    f"no worker process can be started: {why}. Was there no memory left?"
                    " What was finished is safe; use fewer workers and repeat the command"
                ) from error
            time.sleep(START_AGAIN_S)


class ProcessExecutor(Executor):
    """Worker processes with one thread each."""

    def __init__(self, n_workers: int) -> None:
        self._context = multiprocessing.get_context("forkserver" if HAS_FORK_SERVER else "spawn")
        self._n_workers = n_workers
        self._workers: list[_Worker] = []

    def map_unordered(
        self, function: Callable[[T], R], tasks: Iterable[T], *, on_lost: OnLost | None = None
    ) -> Iterator[R]:
        """Results as they arrive; errors as of `Executor`."""
        payload = pickle.dumps(function)
        start_early(function.__module__)
        queue = TaskQueue(tasks)
        try:
            for task in queue.take(self._n_workers):
                self._start(payload, [task])
            for worker in self._workers:  # a second task only after everybody has the first
                worker.give(queue.take(TASKS_PER_WORKER - 1))
            while busy := [worker for worker in self._workers if worker.tasks]:
                for worker in _wait_for_any(busy):
                    if (message := worker.receive()) is not None:
                        task, worker.deaths = worker.tasks.popleft(), 0
                        worker.give(queue.take(1))
                        yield opened(message, task)
                    else:
                        deaths = self._put_back_tasks(worker, queue, on_lost)
                        new = self._start(payload, queue.take(TASKS_PER_WORKER))
                        new.deaths = deaths
        finally:
            self.close()

    def _start(self, payload: bytes, tasks: Iterable[Any]) -> _Worker:
        self._workers.append(_Worker(self._context, payload))
        self._workers[-1].give(tasks)
        return self._workers[-1]

    def _put_back_tasks(self, dead: _Worker, queue: TaskQueue, on_lost: OnLost | None) -> int:
        """Put the tasks of a dead worker back; returns the deaths at the first of them."""
        self._workers.remove(dead)
        _end([dead])
        if dead.deaths + 1 < DEATHS_PER_TASK:
            queue.put_back(dead.tasks)
            return dead.deaths + 1
        lost = dead.tasks.popleft()
        queue.put_back(dead.tasks)
        how = f"twice (exit code {dead.process.exitcode})"
        queue.put_back(instead_of(lost, on_lost, how))
        return 0

    def close(self) -> None:
        """End all workers at once."""
        _end(self._workers)
        self._workers.clear()


def _wait_for_any(workers: list[_Worker]) -> list[_Worker]:
    """Those of the workers that have a message or are dead."""
    handles = [(worker.connection, worker.process.sentinel) for worker in workers]
    ready = set(wait(itertools.chain.from_iterable(handles)))
    return [worker for worker, pair in zip(workers, handles, strict=True) if ready & {*pair}]


def _end(workers: list[_Worker]) -> None:
    """Ask all first, then wait for all: PATIENCE_S in sum, not for each."""
    for worker in workers:
        worker.process.terminate()
        worker.connection.close()
    deadline = time.monotonic() + PATIENCE_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()  # nothing happens to one that has ended
        worker.process.join()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Python and numerical libraries read these variables when the worker loads them."""
    before = {name: os.environ[name] for name in OF_WORKERS if name in os.environ}
    os.environ.update(OF_WORKERS)
    try:
        yield
    finally:
        for name in OF_WORKERS:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """A worker needs nothing of the script that started it, and would run one without a guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(payload: bytes, connection: Connection) -> None:
    """Main of a worker: tasks in, results out, until the parent closes the pipe or is gone."""
    gc.freeze()  # what the fork server has imported stays
    for number in STOP_SIGNALS:  # they may reach the whole group; the parent acts, by SIGTERM
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.update(ONE_THREAD)  # a fork server that was there before has another environment
    load = functools.cache(pickle.loads)  # at the first task, so that its error travels too
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(outcome(load, payload, connection.recv_bytes()))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
