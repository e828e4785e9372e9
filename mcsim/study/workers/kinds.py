"""The executors that there are, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from mcsim.study.workers.dask import Cluster, DaskExecutor
from mcsim.study.workers.executor import Executor, SerialExecutor
from mcsim.study.workers.processes import ProcessExecutor


@dataclass(frozen=True)
class Place:
    """Where tasks may run: so many processes here, or a cluster; `report` hears what it says."""

    n_workers: int = 1
    cluster: Cluster | None = None
    report: Callable[[str], None] = lambda message: None


EXECUTORS: dict[str, Callable[[Place], Executor]] = {
    "serial": lambda _place: SerialExecutor(),
    "processes": lambda place: ProcessExecutor(place.n_workers),
    "dask": lambda place: DaskExecutor(place.cluster or Cluster(), place.report),
}
