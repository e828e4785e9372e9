"""What is damaged or missing in a study's folder, computed again."""

from collections.abc import Sequence
from dataclasses import replace

from mcsim.errors import DataError
from mcsim.results.folder import SCENARIO, TABLES, read_manifest
from mcsim.results.ranges import merge
from mcsim.results.store import Store
from mcsim.results.verify import Fault
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study


def repair_study(faults: Sequence[Fault], options: RunOptions) -> None:
    """Compute what is damaged or missing by the scenario of the study; foreign files stay.

    Raises
    ------
    DataError
        The scenario is damaged or missing, and the folder is older than the copy in its manifest;
        or the table of a design is.
    """
    directory = options.directory
    for table in (fault.where for fault in faults if fault.where.startswith(f"{TABLES}/")):
        advice = "put the file back, or repeat `mcsim run` of the scenario that it came with"
        raise DataError(f"{directory / table} cannot be computed again: {advice}")
    damaged = [fault.part for fault in faults if fault.part is not None]
    store = Store.read(directory)
    if any(fault.where == SCENARIO for fault in faults):
        store.restore_scenario()
    store.unmark(damaged)  # so that any run takes them for missing
    scenario = load_scenario(directory / SCENARIO)
    n_planned = int(read_manifest(directory)["replicates"])
    ranges = merge([(1, n_planned), *((part.first, part.last) for part in damaged)])
    run_study(scenario, replace(options, planned=n_planned, replicates=ranges))
