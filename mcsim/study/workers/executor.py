"""What runs a function over tasks, the one in this process, and what all executors share.

Results arrive in any order. A task that ends its workers is lost, unless the caller names others to
do in its place. Knows nothing of statistics.
"""

import contextlib
import itertools
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, Self, TypeVar

from mcsim.errors import McsimError

T = TypeVar("T")  # task
R = TypeVar("R")  # result
OnLost = Callable[[Any], Iterable[Any]]


class Executor(Protocol):
    """Where the tasks run; as a context manager, it is closed at the end."""

    def map_unordered(
        self, function: Callable[[T], R], tasks: Iterable[T], *, on_lost: OnLost | None = None
    ) -> Iterator[R]:
        """Results as they arrive; `tasks` is consumed as workers become free.

        Parameters
        ----------
        on_lost : names the tasks to do in the place of one that killed two workers; where it names
            none, or is not given, the run ends

        Raises
        ------
        McsimError
            For a lost task; and whatever a task raised.
        """
        ...

    def close(self) -> None:
        """End all workers at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class SerialExecutor(Executor):
    """One task after the other in this process, in their order."""

    def map_unordered(
        self, function: Callable[[T], R], tasks: Iterable[T], *, on_lost: OnLost | None = None
    ) -> Iterator[R]:
        """Results in the order of the tasks; one that kills kills this process."""
        return map(function, tasks)

    def close(self) -> None:
        """Nothing is open."""


class TaskQueue:
    """Tasks that no worker has yet; what is put back comes first."""

    def __init__(self, tasks: Iterable[Any]) -> None:
        self._tasks = iter(tasks)

    def take(self, n_tasks: int) -> Iterator[Any]:
        """At most so many of the next tasks."""
        return itertools.islice(self._tasks, n_tasks)

    def put_back(self, tasks: Iterable[Any]) -> None:
        """Have the tasks taken next."""
        self._tasks = itertools.chain(tasks, self._tasks)


def instead_of(lost: Any, on_lost: OnLost | None, how: str) -> list[Any]:
    """The tasks to do in the place of a lost one; McsimError where there are none."""
    tasks = [] if on_lost is None else list(on_lost(lost))
    if tasks:
        return tasks
    raise McsimError(
        f"a worker process died {how} at {lost}. Was it out of memory?"
        " What was finished is safe; use fewer workers and repeat the command"
    )


def opened(message: bytes, task: object) -> Any:
    """The result in a worker's message; or its error, raised."""
    succeeded, value, text = pickle.loads(message)  # noqa: S301 - from our own worker
    if succeeded:
        return value
    value.add_note(f"At {task}, in a worker process:\n{text}")
    raise value


def outcome(load: Callable[[bytes], Any], payload: bytes, message: bytes) -> bytes:
    """Whether the function succeeded, its result or error, the error's traceback."""
    try:
        task = pickle.loads(message)  # noqa: S301 - from our own parent
        return pickle.dumps((True, load(payload)(task), ""))
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return pickle.dumps((False, _portable(error), text))


def _portable(error: Exception) -> Exception:
    """The error, or where pickling would change it a plain one that says the same."""
    with contextlib.suppress(Exception):
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # noqa: S301 - made here
            return error
    if isinstance(error, McsimError):
        return McsimError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
