"""Commands that read results; main.py holds the others."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mcsim.cli.complete import measures as measures_begun
from mcsim.cli.complete import names_of
from mcsim.cli.data import Share
from mcsim.errors import McsimError
from mcsim.scenario.limits import WIDTH, is_of_size

if TYPE_CHECKING:
    import pyarrow as pa

HANDLINGS = ("usable", "common", "fallback")  # of summary/summarize.py
FORMATS = (
    "table",
    "csv",
    "json",
    "markdown",
    "latex",
)  # of summary/printed.py, which is slow to import
DATA = ("csv", "json")  # formats to be worked with
PLOTS = (  # of plots/
    "estimates", "bias", "zip", "lollipop", "nested-loop", "curves", "power", "heatmap", "methods",
    "realized", "se", "plan", "data", "design",
)  # fmt: skip


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Options that choose rows, each of which may be repeated."""
    for name, example in (
        ("condition", "'animal.count=4*'"), ("parameter", "'*.sd(*'"), ("method", "'gen*'"),
    ):  # fmt: skip
        text = f"Only {name}s that match, such as {example}. May be repeated."
        option = click.option(
            f"--{name}", f"{name}s", multiple=True, default=("*",), help=text,
            shell_complete=names_of(name),
        )  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@_filters
@click.option("--only-regular", is_flag=True, help="Leave out fits on the boundary.")
@click.option("--missing", type=click.Choice(HANDLINGS), default="usable", show_default=True,
              help="Replicates whose fits are not usable: each method by itself, only those that "
              "all methods have, or with the method's fallback in its place.")  # fmt: skip
@click.option("--measure", "measures", multiple=True, shell_complete=measures_begun,
              help="Some measures, methods side by side: coverage, power (the same as rejection),"
              " rmse,bias... May be repeated.")  # fmt: skip
@click.option("--columns", multiple=True, metavar="NAME,NAME,...",
              help="Columns of the table, such as truth,relative_bias,rmse,power,n.")  # fmt: skip
@click.option(
    "--by",
    metavar="NAME",
    help="What stands side by side: a swept key such as animal.count, parameter (a line per"
    " condition and method), or method. With --measure; default: rmse,coverage,power.",
)
@click.option("--effects", metavar="D,D,...",
              help="Power of the fixed effects if they were of these sizes.")  # fmt: skip
def summarize(results: tuple[Path, ...], form: str, **options: Any) -> None:
    """Print performance measures with their Monte Carlo standard errors.

    Works on a study that is still running, and on a folder of studies. Of a sweep that would fill
    screens: a line per condition and method, for what tells the most; --parameter '*' prints all.

    Examples: mcsim summarize results/stain_profile --parameter '*.sd(*'

    mcsim summarize results/coverage --measure power,coverage --condition animal.count=4

    mcsim summarize results/coverage --parameter 'diet*:x' --effects 0.05,0.1,0.2

    mcsim summarize results/coverage --measure rmse,coverage --by animal.count

    mcsim summarize results/coverage --columns truth,bias,rmse,coverage --format latex
    """
    from mcsim.summary import effects, printed
    from mcsim.summary import summarize as summary
    from mcsim.summary.selection import filter_summary
    from mcsim.summary.side_by_side import MEASURES, METHOD

    sizes = read_effects(options["effects"])
    _refuse_pairs(form, **options)
    if sizes:
        table = effects.along_effects(results, sizes)
    else:
        table = summary.summarize(
            list(results), only_regular=options["only_regular"], missing=options["missing"]
        )
    table = filter_summary(
        table,
        methods=options["methods"],
        parameters=options["parameters"],
        conditions=options["conditions"],
    )
    width = terminal_width()
    if sizes and form in printed.DRAWN:
        rows = effects.to_rows(table)
        click.echo(printed.print_drawn(rows, [effects.NOTE], form, 3, width), nl=False)
    elif sizes:
        click.echo(printed.FORMATS[form](table), nl=False)
    elif options["measures"] or options["by"]:
        there = [name for name in MEASURES if table[name].null_count < table.num_rows]
        measures = printed.measures_named(options["measures"] or there)
        by = options["by"] or METHOD
        click.echo(printed.print_measures(table, measures, form, width, by), nl=False)
    else:
        columns = printed.columns_named(options["columns"], table)
        click.echo(printed_study(table, results, form, columns), nl=form == "table")


def printed_study(
    table: "pa.Table", results: Sequence[Path], form: str, columns: Sequence[str] = ()
) -> str:
    """A summary as it is printed, of a large sweep only what matters most, unless all was asked."""
    from mcsim.report.answer import telling
    from mcsim.summary.overview import Page, print_study
    from mcsim.summary.printed import print_summary
    from mcsim.summary.selection import Selection, shown_rows

    context, width = click.get_current_context(), terminal_width()
    if is_given("parameters"):
        return print_summary(table, form, columns, width)
    words = ["mcsim", "summarize", *map(str, results)]
    for name in ("condition", "method"):
        given = [one for one in context.params.get(f"{name}s", ()) if one != "*"]
        words += [word for one in given for word in (f"--{name}", one)]
    page = Page(form, columns, width, shlex.join(words))
    all_shown = (shown_rows(one, Selection()) for one in results)
    return print_study(table, page, lambda: [name for one in all_shown for name in telling(one)])


def is_given(option: str) -> bool:
    """Whether an option of the command that runs was given."""
    source = click.get_current_context().get_parameter_source(option)
    return source is ParameterSource.COMMANDLINE


def _refuse_pairs(form: str, **options: Any) -> None:
    """Raise an error for options that do not go together."""
    if options["columns"] and (options["effects"] or options["measures"] or options["by"]):
        raise McsimError(
            "--columns chooses from the table; it does not go with --measure, --by, --effects"
        )
    if options["by"] and (options["effects"] or form in DATA):
        raise McsimError(
            f"--by is of tables to be read, not of --effects or --format {' or '.join(DATA)}"
        )


def terminal_width() -> int | None:
    """Characters of a line of the terminal; None where the text goes elsewhere."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def read_effects(text: str | None) -> list[float]:
    """The sizes that `--effects` names; none if it is not there."""
    try:
        found = [float(one) for one in text.split(",")] if text else []
    except ValueError:
        found = [float("nan")]
    if not all(map(is_of_size, found)):
        raise McsimError(f"--effects {text!r}: write numbers, such as 0,0.05,0.1")
    return found


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--methods",
    nargs=2,
    required=True,
    shell_complete=names_of("method"),
    metavar="A B",
    help="B is compared with A.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
def compare(results: Path, methods: tuple[str, str], form: str) -> None:
    """Compare two methods on the same data sets: differences with their Monte Carlo errors.

    Example: mcsim compare results/stain_profile --methods general diagonal
    """
    from mcsim.summary import compare as comparison
    from mcsim.summary import printed

    table = comparison.compare(results, *methods)
    if form not in printed.DRAWN:
        click.echo(printed.FORMATS[form](table), nl=False)
        return
    notes = comparison.notes_on(table, *methods)
    rows = comparison.to_rows(table)
    click.echo(printed.print_drawn(rows, notes, form, 1, terminal_width()), nl=False)


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--observed", required=True, type=click.Path(path_type=Path),
              help="TOML with a table [estimates], or the JSON of mcsim fit.")  # fmt: skip
@click.option("--method", multiple=True, shell_complete=names_of("method"),
              help="Method of the study; default: the one that the file names.")  # fmt: skip
@click.option("--condition", multiple=True, shell_complete=names_of("condition"),
              help="Label of the condition, where the scenario has a sweep.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table",
              show_default=True)  # fmt: skip
def locate(results: Path, observed: Path, form: str, **options: Any) -> None:
    """Say where observed estimates lie among the simulated ones.

    Example: mcsim locate results/stain_profile --observed configs/observed/model1.toml
    """
    from mcsim.summary import locate as location

    located = location.locate(results, location.read_observed(observed), **options)
    click.echo(location.FORMATS[form](located))


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(PLOTS),
              help="What to draw; default: what suits the study.")  # fmt: skip
@click.option("-o", "out", required=True, type=click.Path(path_type=Path),
              help="File to write: .png, .svg or .pdf.")  # fmt: skip
@_filters
@click.option("--measure", "measures", multiple=True, shell_complete=measures_begun,
              help="Of lollipop, nested-loop, curves, power, heatmap: rmse...")  # fmt: skip
@click.option("--replicate", type=click.IntRange(1), help="Of data; default: the first.")
@click.option("--width", type=Share(*WIDTH), metavar="MM",
              help="Of the figure, such as 89 or 183: one and two columns of a page; default: as"
              " wide as it needs.")  # fmt: skip
def plot(
    results: Path,
    kind: str | None,
    out: Path,
    measures: tuple[str, ...],
    replicate: int | None,
    width: float | None,
    **options: Any,
) -> None:
    """Draw a figure of a study, or of a folder of studies, with its Monte Carlo error.

    Without --kind: curves over a sweep, estimates of one condition, the plan of mcsim plan.
    Without --parameter: those that tell the most; --parameter '*' draws all.

    Examples: mcsim plot results/stain_profile -o estimates.png

    mcsim plot results/coverage --kind lollipop --measure rejection -o rejection.svg
    """
    from mcsim.plots.kinds import write
    from mcsim.report.figures import chosen_figure
    from mcsim.summary.selection import Selection

    if len(measures) > 1:
        raise McsimError(f"a figure shows one --measure, not {', '.join(measures)}: draw several")
    if not is_given("parameters"):
        options["parameters"] = None
    selection = Selection(**options, measure=measures[0] if measures else None)
    kind, draw = chosen_figure(results, kind, selection, replicate)
    write(out, draw, width)
    click.echo(f"Wrote {out} (--kind {kind})", err=True)


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("-o", "out", type=click.Path(path_type=Path),
              help="File to write; default: report.html in the folder.")  # fmt: skip
@click.option("--open", "is_opened", is_flag=True, help="Show it in the browser.")
def report(results: Path, out: Path | None, *, is_opened: bool) -> None:
    """Write one self-contained HTML page on a study, or on a folder of studies.

    What was done, what was found in sentences, figures, numbers, failures, how to do it again.

    Example: mcsim report results/stain_profile --open
    """
    import webbrowser

    from mcsim.report.page import write_report

    path = write_report(results, out)
    click.echo(f"Wrote {path}", err=True)
    if is_opened and not webbrowser.open(path.resolve().as_uri()):
        raise McsimError(f"no browser can be opened here; the page is {path}")


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("-o", "out", required=True, type=click.Path(path_type=Path),
              help="File to write: .csv.")  # fmt: skip
@click.option("--wide", is_flag=True, help="A column per parameter, not a row.")
@click.option("--columns", multiple=True, metavar="NAME,NAME,...",
              help="Columns of estimates/; default: all, and with --wide estimate.")  # fmt: skip
@click.option("--replicates", help="Only these, such as 137 or 1201-1400.")
@_filters
def export(results: Path, out: Path, columns: tuple[str, ...], **options: Any) -> None:
    """Write the estimates of every replicate as CSV, for programs that read no Parquet.

    Example: mcsim export results/stain_profile --wide --method general -o estimates.csv
    """
    from mcsim.summary.export import export as write

    named = [one.strip() for text in columns for one in text.split(",")]
    n = write(results, out, columns=named, **options)
    click.echo(f"Wrote {n:,} rows into {out}", err=True)


COMMANDS = (summarize, export, compare, locate, plot, report)
