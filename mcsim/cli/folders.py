"""Commands on the folders of studies: how far they are, whether they are sound, several joined."""

from pathlib import Path
from shlex import quote

import click

from mcsim.errors import IncompleteError, McsimError
from mcsim.scenario.limits import MOST_PROCESSES

_as_json = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
_is_checked = click.option(
    "--check", is_flag=True, help="Exit code 5 unless all planned replicates are done."
)


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@_is_checked
@_as_json
def status(results: Path, form: str, *, check: bool) -> None:
    """Print planned, done, failed and missing replicates per condition.

    Examples: mcsim status results/stain_profile

    mcsim status results/stain_profile --check --format json
    """
    from mcsim.results.store import Store

    found = Store.read(results).status()
    click.echo(found.to_json() if form == "json" else found)
    if check and not found.is_complete:
        raise IncompleteError(f"{results} is not complete; {_how_to_go_on(results)}")


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Compute again what is damaged or missing.")
@click.option("-j", "n_workers", type=click.IntRange(1, MOST_PROCESSES),
              help="Processes; default: all CPUs.")  # fmt: skip
@_as_json
def verify(results: Path, form: str, *, repair: bool, n_workers: int | None) -> None:
    """Check a study's files: truncated, corrupted, foreign or missing ones.

    Exit code 0 if there is nothing wrong, 5 if replicates are missing and nothing else is wrong,
    2 otherwise. Foreign files are never removed.

    Example: mcsim verify results/stain_profile --repair
    """
    from mcsim.results.verify import find_faults
    from mcsim.study.repair import repair_study
    from mcsim.summary.cache import new_summary

    faults = find_faults(results)
    if repair and faults:
        from mcsim.cli.progress import ProgressBar, log
        from mcsim.study.run import RunOptions

        with ProgressBar(log) as bar:
            options = RunOptions(
                results, n_workers, report=log, start=bar.start, advance=bar.advance
            )
            repair_study(faults, options)
        new_summary(results)
        faults = find_faults(results)
    if form == "json":
        import json

        rows = [{"where": one.where, "what": one.what, "damage": one.is_damage} for one in faults]
        click.echo(json.dumps({"sound": not faults, "faults": rows}, indent=2))
    else:
        for fault in faults:
            click.echo(fault)
    if faults and not any(one.is_damage for one in faults):
        raise IncompleteError(f"{results} is sound, but not complete; {_how_to_go_on(results)}")
    if faults:
        advice = "move foreign files away" if repair else "`--repair` mends all but foreign files"
        raise McsimError(f"{results}: {len(faults)} found wrong; {advice}")
    click.echo(f"{results}: nothing is wrong", err=True)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "out", required=True, type=click.Path(path_type=Path), help="Results folder.")
@_as_json
def merge(folders: tuple[Path, ...], out: Path, form: str) -> None:
    """Join the folders of shards of one study, and print how far it is.

    Parts are copied as they are; what OUT holds already stays. Exit code 5 if some are missing.

    Example: mcsim merge results/shard-1 results/shard-2 -o results/whole
    """
    from mcsim.results.merge import merge_studies
    from mcsim.summary.cache import latest_summary

    store = merge_studies(folders, out, lambda line: click.echo(line, err=True))
    found = store.status()
    click.echo(found.to_json() if form == "json" else found)
    if not found.is_complete:
        raise IncompleteError(f"{out} is not complete; {_how_to_go_on(out)}")
    latest_summary(out)
    click.echo(f"Complete: `mcsim summarize {quote(str(out))}` prints the summary.", err=True)


def _how_to_go_on(results: Path) -> str:
    scenario, folder = quote(str(results / "scenario.toml")), quote(str(results))
    return f"`mcsim run {scenario} -o {folder}` does what is missing"


COMMANDS = (status, verify, merge)
