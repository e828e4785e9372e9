"""The command that searches for a design."""

import gc
from pathlib import Path

import click

from mcsim.cli.plugin import plugin_option, with_plugin
from mcsim.scenario.limits import MOST_PROCESSES, MOST_REPLICATES

FORMATS = (
    "table",
    "csv",
    "json",
    "markdown",
    "latex",
)  # of planning/printed.py, which is slow to import


@click.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Change a key of the scenario, such as plan.target.at_least=0.9.")  # fmt: skip
@click.option("--seed", type=int, help="Change the seed.")
@click.option("-o", "directory", type=click.Path(path_type=Path),
              help="Folder of all designs; default results/NAME-plan.")  # fmt: skip
@click.option("-j", "n_workers", type=click.IntRange(1, MOST_PROCESSES), default=1,
              show_default=True, help="Processes.")  # fmt: skip
@click.option("--max-replicates", type=click.IntRange(2, MOST_REPLICATES), default=65_536,
              show_default=True, help="Most replicates of a design.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@plugin_option
@click.option("--dry-run", is_flag=True,
              help="Say what would be searched, and what closed forms expect.")  # fmt: skip
def plan(
    scenario: Path, overrides: tuple[str, ...], seed: int | None, *, directory: Path | None,
    n_workers: int, max_replicates: int, form: str, plugin: Path | None, dry_run: bool,
) -> None:  # fmt: skip
    """Find the cheapest design that reaches a target, or the best for a budget.

    The scenario says in [plan] what units cost, what is to be reached, and which counts to search.
    Repeating the command goes on; a larger search uses what is there.

    Example: mcsim plan configs/how_many_animals.toml
    """
    from mcsim.planning.plan import PlanOptions, expected_plan, make_plan
    from mcsim.planning.printed import FORMATS as PRINTED
    from mcsim.scenario.load import load_scenario

    gc.freeze()  # what the imports have made stays
    gc.enable()
    loaded = with_plugin(load_scenario(scenario, overrides=overrides, seed=seed), plugin)
    if dry_run:
        click.echo(expected_plan(loaded))
        return
    folder = directory or Path("results") / f"{scenario.stem}-plan"
    options = PlanOptions(
        folder, n_workers, max_replicates, report=lambda line: click.echo(line, err=True)
    )
    click.echo(PRINTED[form](make_plan(loaded, options), str(folder)), nl=False)
