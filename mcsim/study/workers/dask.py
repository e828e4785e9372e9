"""Tasks on a Dask cluster that is there already; knows nothing of statistics.

Workers return results, this process keeps them: the cluster needs no common folder. A worker that
dies is Dask's to replace; the scheduler says when a task has ended too many of them.
"""

import asyncio
import functools
import json
import logging
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
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

PACKAGES = ("mcsim", "numpy")  # that must be the same on all workers
TASKS_PER_WORKER = 2  # one in hand, one waiting
Versions = Mapping[str, str | None]

CONNECT_S = 10.0
CLOSE_S = 2.0

_one_at_a_time = threading.Lock()  # a worker may have several threads, our functions want one


@dataclass(frozen=True)
class Cluster:
    """How to reach a Dask scheduler: by its address, or by the file that it has written."""

    scheduler: str | None = None
    scheduler_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


@dataclass
class _Run:
    """Tasks of a run: not sent yet, to be sent one at a time, and sent.

    running : by future, the task and whether it is alone on the cluster
    """

    queue: TaskQueue
    arriving: Any
    suspects: deque[Any] = field(default_factory=deque)
    running: dict[Any, tuple[Any, bool]] = field(default_factory=dict)

    def next_tasks(self, n_wanted: int) -> Iterator[Any]:
        """Up to `n_wanted` tasks in flight; but suspects only when nothing else is."""
        if not self.suspects:
            return self.queue.take(max(0, n_wanted - len(self.running)))
        return iter([] if self.running else [self.suspects.popleft()])


class DaskExecutor(Executor):
    """The workers of a Dask cluster; a task in each, and another that waits.

    Raises
    ------
    McsimError
        Dask is not installed, no scheduler answers, or a worker has another version of PACKAGES.
    """

    def __init__(self, cluster: Cluster, report: Callable[[str], None]) -> None:
        self._client, self._address = _connect(cluster)
        try:
            with self._answering():
                n_workers = len(self._client.nthreads())
                found = self._client.run(_versions_by_value())
            refuse_other_versions(found, versions_here())
        except BaseException:
            self.close()
            raise
        report(f"Dask scheduler {self._address}: {n_workers or 'no'} workers at the start")

    def map_unordered(
        self, function: Callable[[T], R], tasks: Iterable[T], *, on_lost: OnLost | None = None
    ) -> Iterator[R]:
        """Results as they arrive; errors as of `Executor`.

        Dask blames a death on all tasks that its worker had. So those that it gives up are tried
        again, each alone.

        Raises
        ------
        McsimError
            A worker that came later has another version of PACKAGES, or the scheduler is gone.
        """
        from distributed import KilledWorker, as_completed

        payload = pickle.dumps((versions_here(), pickle.dumps(function)))
        # results travel while others are waited for
        arriving = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)
        run = _Run(TaskQueue(tasks), arriving)
        self._submit(payload, run)
        for batch in arriving.batches():
            done = []
            for future, found in batch:
                task, was_alone = run.running.pop(future)
                try:
                    with self._answering():
                        done.append((_result(future, found), task))
                except KilledWorker as error:
                    how = f"{error.allowed_failures + 1} times"
                    again = instead_of(task, on_lost, how) if was_alone else [task]
                    run.suspects.extendleft(reversed(again))
            self._submit(payload, run)  # before the results are written
            for message, task in done:
                yield opened(message, task)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what Dask says when the scheduler is gone into a McsimError."""
        try:
            yield
        except (CancelledError, OSError) as error:
            raise McsimError(
                f"the Dask scheduler {self._address} is gone. What was finished is safe; repeat the"
                " command when it is back"
            ) from error

    def _submit(self, payload: bytes, run: _Run) -> None:
        """Send tasks until every worker has TASKS_PER_WORKER; two where none has come yet."""
        is_alone = bool(run.suspects)
        with self._answering():
            n_wanted = TASKS_PER_WORKER * max(1, len(self._client.nthreads()))
        for task in run.next_tasks(n_wanted):
            future = self._client.submit(_work, payload, pickle.dumps(task), pure=False)
            run.running[future] = task, is_alone
            run.arriving.add(future)

    def close(self) -> None:
        """Leave the cluster, which drops the tasks that are not done."""
        self._client.close(CLOSE_S)


def versions_here() -> Versions:
    """Versions of PACKAGES in this process."""
    return _versions_by_value()()


def refuse_other_versions(found: Mapping[str, Versions], expected: Versions) -> None:
    """Raise a McsimError where a worker has other versions than this process.

    Parameters
    ----------
    found : by worker's address, then by package
    """
    lines = [
        f"  {package} is {version or 'absent'} on {worker} and {expected[package]} here"
        for worker, versions in sorted(found.items())
        for package, version in versions.items()
        if version != expected[package]
    ]
    if lines:
        raise McsimError(
            "the workers would not give the same numbers:\n" + "\n".join(lines) + "\n"
            "Install the same versions there, or run without --scheduler"
        )


def _versions_by_value() -> Callable[[], Versions]:
    """A function that needs no mcsim where it runs: being nested, it travels as code."""
    packages = PACKAGES

    def versions() -> dict[str, str | None]:
        import importlib

        found = dict[str, str | None]()
        for name in packages:
            try:
                found[name] = importlib.import_module(name).__version__
            except ImportError:
                found[name] = None
        return found

    return versions


def _connect(cluster: Cluster) -> tuple[Any, str]:
    """A client of the scheduler, and its address."""
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise McsimError("a Dask cluster needs Dask: pip install 'mcsim[dask]'") from error
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we say ourselves what is wrong
    tls = {
        "tls_ca_file": cluster.tls_ca_file,
        "tls_client_cert": cluster.tls_cert,
        "tls_client_key": cluster.tls_key,
    }
    given = {name: str(path) for name, path in tls.items() if path is not None}
    try:
        security = Security(require_encryption=True, **given) if given else Security()
        address = _address(cluster)
        asyncio.run(_knock(address, security))
        client = Client(address, security=security, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        where = cluster.scheduler_file if cluster.scheduler is None else cluster.scheduler
        raise McsimError(
            f"no Dask scheduler answers at {where}: {error}."
            " Is it running, and are the --tls options those of the cluster?"
        ) from error
    return client, address


def _address(cluster: Cluster) -> str:
    if cluster.scheduler is not None:
        return cluster.scheduler
    assert cluster.scheduler_file is not None
    return str(json.loads(cluster.scheduler_file.read_text(encoding="utf-8"))["address"])


async def _knock(address: str, security: Any) -> None:
    """Whether anybody answers; a client that cannot connect would try for long to say goodbye."""
    from distributed.comm import connect

    connection = await connect(address, timeout=CONNECT_S, **security.get_connection_args("client"))
    await connection.close()


def _result(future: Any, found: Any) -> bytes:
    """What `as_completed` has found: a worker's message, or the error, raised."""
    if future.status == "finished":
        return bytes(found)
    raise found[1] if isinstance(found, tuple) else CancelledError


def _work(payload: bytes, message: bytes) -> bytes:
    """On a worker: the outcome of a task, as a worker of the pool sends it."""
    with _one_at_a_time:
        return outcome(_load, payload, message)


@functools.lru_cache(maxsize=1)
def _load(payload: bytes) -> Callable[[Any], Any]:
    """The function of a run; again the versions, as this worker may have come late."""
    from distributed import get_worker

    expected, function = pickle.loads(payload)  # noqa: S301 - from our own client
    refuse_other_versions({get_worker().address: versions_here()}, expected)
    loaded: Callable[[Any], Any] = pickle.loads(function)  # noqa: S301 - from our own client
    return loaded
