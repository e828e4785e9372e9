"""What `mcsim run` does around the study: workers that start early, and the summary."""

import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcsim.cli.progress import ProgressBar, Say
from mcsim.scenario.records import Scenario
from mcsim.study.workers.dask import Cluster
from mcsim.study.workers.processes import start_early, usable_cpus

if TYPE_CHECKING:
    from mcsim.study.run import RunOptions

MANY_REPLICATES = 1_000  # so many are likely to need workers
HOW_TO_GO_ON = (
    "Shard {shard} is done, but not the whole study: `mcsim status {directory}` says what is"
    " missing there. Shards in folders of their own are joined by `mcsim merge FOLDER... -o OUT`"
)


def run_and_summarize(
    scenario: Scenario, directory: Path, options: Mapping[str, Any], *, say: Say
) -> None:
    """Run what is missing of a study, print its summary, and check how many fits failed.

    Parameters
    ----------
    options : of `mcsim run`

    Raises
    ------
    TooManyFailuresError
        The share of failed fits exceeds what the options allow.
    """
    has_workers = usable_cpus() > 1 if options["n_workers"] is None else options["n_workers"] > 1
    if has_workers and scenario.replicates >= MANY_REPLICATES and not directory.exists():
        start_early("mcsim.study.run")  # imports take a second
    import pyarrow as pa

    from mcsim.cli.read import printed_study
    from mcsim.study.failures import check_failures
    from mcsim.study.stopping import run_until_precise
    from mcsim.summary.cache import latest_summary

    pa.set_memory_pool(pa.system_memory_pool())  # the default one gives little back
    with ProgressBar(say, is_shown=False if options["quiet"] else None) as bar:
        how = run_options(directory, options)
        how = replace(how, report=say, start=bar.start, advance=bar.advance)
        store = run_until_precise(scenario, how)
    if (shard := options["shard"]) and any(store.missing().values()):
        say(HOW_TO_GO_ON.format(shard=shard, directory=shlex.quote(str(directory))))
        return
    table = latest_summary(directory)
    if not options["quiet"]:
        form = options["form"]
        click.echo(printed_study(table, [directory], form), nl=form == "table")
    say(f"Results are in {directory}")
    check_failures(table, options["max_failures"])


def run_options(directory: Path, options: Mapping[str, Any]) -> "RunOptions":
    """How to run, as far as the options of the command say it."""
    from mcsim.results.ranges import parse_ranges
    from mcsim.scenario.limits import MOST_REPLICATES
    from mcsim.study.run import RunOptions
    from mcsim.study.shards import parse_shard

    ranges, shard = options["ranges"], options["shard"]
    return RunOptions(
        directory=directory,
        n_workers=options["n_workers"],
        overwrite=options["overwrite"],
        replicates=None if ranges is None else parse_ranges(ranges, MOST_REPLICATES),
        shard=None if shard is None else parse_shard(shard),
        cluster=_cluster(options),
        max_failures=options["max_failures"],
    )


def _cluster(options: Mapping[str, Any]) -> Cluster | None:
    """The Dask cluster that the options name."""
    cluster = Cluster(**{one.name: options[one.name] for one in fields(Cluster)})
    if cluster.scheduler is None and cluster.scheduler_file is None:
        return None
    return cluster
