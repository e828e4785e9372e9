"""Commands that turn results into figures and pages; cli.py holds the others."""

from pathlib import Path
from typing import Any

import click

PLOTS = ("estimates", "bias", "zip", "lollipop", "nested-loop", "curves", "methods", "se")  # plots/


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--kind", required=True, type=click.Choice(PLOTS), help="What to draw.")
@click.option("-o", "out", required=True, type=click.Path(path_type=Path),
              help="File to write: .png, .svg or .pdf.")  # fmt: skip
@click.option("--method", "methods", default="*", help="Only methods that match, such as 'gen*'.")
@click.option("--parameter", "parameters", default="*",
              help="Only parameters that match, such as '*.sd(*'.")  # fmt: skip
@click.option("--condition", "conditions", default="*",
              help="Only conditions whose label matches, such as 'animal.count=4*'.")  # fmt: skip
@click.option("--measure", help="For lollipop, nested-loop and curves: coverage, rmse...")
def plot(results: Path, kind: str, out: Path, **options: Any) -> None:
    """Draw a figure of a study, or of a folder of studies, with its Monte Carlo error.

    Examples: mcsim plot results/stain_profile --kind estimates -o estimates.png

    mcsim plot results/coverage --kind lollipop --measure rejection -o rejection.svg
    """
    from mcsim import plots

    path = plots.plot(results, kind, plots.Selection(**options), out)
    click.echo(f"Wrote {path}", err=True)
