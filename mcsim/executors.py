"""Run a function over tasks, here or in worker processes; knows nothing of statistics.

Results arrive in any order. A worker that dies is replaced and its task given out once more; a task
that kills its worker twice ends the run.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Protocol, Self, TypeVar

from mcsim.errors import KeyboardStoppedError, McsimError, StoppedError

Task = TypeVar("Task")
Result = TypeVar("Result")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
PATIENCE_S = 2.0  # for a worker to end before it is killed


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Executor(Protocol):
    """Where the tasks run."""

    def map_unordered(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """Results as they arrive; `tasks` is consumed as workers become free."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class SerialExecutor:
    """One task after the other in this process."""

    def __init__(self, n_workers: int = 1) -> None:
        assert n_workers == 1

    def map_unordered(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """Results in the order of the tasks."""
        return map(function, tasks)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    task: Any = None
    deaths: int = 0  # workers that the task in hand has killed


class ProcessExecutor:
    """Worker processes, each with one thread and one task in hand."""

    def __init__(self, n_workers: int) -> None:
        methods = multiprocessing.get_all_start_methods()
        name = "forkserver" if "forkserver" in methods else "spawn"
        self._context: Any = multiprocessing.get_context(name)
        self._n_workers = n_workers
        self._workers: list[_Worker] = []

    def map_unordered(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """Results as they arrive; raises what a task raised.

        Raises
        ------
        McsimError
            A task killed its worker twice.
        """
        payload = pickle.dumps(function)
        queue = iter(tasks)
        try:
            for task in queue:
                self._workers.append(self._start(payload, task, 0))
                if len(self._workers) == self._n_workers:
                    break
            while self._workers:
                yield from self._collect(payload, queue)
        finally:
            self.close()

    def _collect(self, payload: bytes, queue: Iterator[Task]) -> Iterator[Any]:
        """Wait for a result or a death, and keep the worker busy."""
        ready = wait([worker.connection for worker in self._workers])
        for worker in [one for one in self._workers if one.connection in ready]:
            try:
                succeeded, value = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                self._replace(worker, payload)
                continue
            if not succeeded:
                raise value
            self._give_next(worker, queue)
            yield value

    def _start(self, payload: bytes, task: object, deaths: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(payload, theirs), daemon=True)
        with _one_thread_each():
            process.start()
        theirs.close()
        ours.send(task)
        return _Worker(process, ours, task, deaths)

    def _give_next(self, worker: _Worker, queue: Iterator[Task]) -> None:
        for task in queue:
            worker.task, worker.deaths = task, 0
            worker.connection.send(task)
            return
        self._workers.remove(worker)
        _end(worker)

    def _replace(self, worker: _Worker, payload: bytes) -> None:
        self._workers.remove(worker)
        _end(worker)
        code = worker.process.exitcode
        if worker.deaths:
            raise McsimError(
                f"a worker process died twice (exit code {code}) at {worker.task}. Was it out of"
                " memory? What was finished is safe; use fewer workers (-j) and repeat the command"
            )
        self._workers.append(self._start(payload, worker.task, 1))

    def close(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


EXECUTORS: dict[str, Callable[[int], Executor]] = {
    "serial": SerialExecutor,
    "processes": ProcessExecutor,
}


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join(PATIENCE_S)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Numerical libraries read these variables when the worker loads them."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(payload: bytes, connection: Connection) -> None:
    """Main of a worker: tasks in, results out, until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent acts
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # a fork server has its own environment
    function = pickle.loads(payload)  # noqa: S301 - bytes of our own parent process
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(_outcome(function, task))


def _outcome(function: Callable[[Any], Any], task: object) -> tuple[bool, Any]:
    try:
        return True, function(task)
    except McsimError as error:
        return False, error
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return False, RuntimeError(f"at {task}, in a worker process:\n{text}")


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


class SignalGuard:
    """Turns signals into exceptions, but not while something must be finished."""

    def __init__(self) -> None:
        self._is_held = False
        self._pending: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handler: raise now, or when the guard is let go."""
        if self._is_held:
            self._pending = number
        else:
            self._raise(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep signals waiting while the body runs."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._pending is not None:
                self._raise(self._pending)

    @staticmethod
    def _raise(number: int) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGINT:
            raise KeyboardStoppedError("stopped by Ctrl-C")
        raise StoppedError(f"stopped by {name}")


@contextlib.contextmanager
def stop_on_signals() -> Iterator[SignalGuard]:
    """While the body runs, SIGINT, SIGTERM, SIGHUP and SIGUSR1 raise StoppedError."""
    guard = SignalGuard()
    numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, guard.receive) for number in numbers}
    try:
        yield guard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
