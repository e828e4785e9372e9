"""Commands on a user's own table: `fit`, and `init`, which may start from one."""

import os
import shlex
from pathlib import Path
from typing import Any

import click

from mcsim.errors import McsimError, TooManyFailuresError
from mcsim.planning import KINDS
from mcsim.scenario.estimators import estimators_with, offered
from mcsim.scenario.families import ALL_LINKS, FAMILIES, GAUSSIAN, MOST_POINTS, family_model
from mcsim.scenario.limits import CONFIDENCE

FITTED = estimators_with(lambda facts: facts.likelihood)
DF_METHODS = offered(lambda facts: facts.df, FITTED)
INTERVALS = offered(lambda facts: facts.intervals, FITTED)
_reference_option = click.option(
    "--reference", "references", multiple=True, metavar="FACTOR=LEVEL",
    help="Level that others are compared with, such as diet=fed; default: the first of the"
    " alphabet. May be repeated.",
)  # fmt: skip
_family_option = click.option(
    "--family", type=click.Choice(FAMILIES), default=GAUSSIAN, show_default=True,
    help="Of the response: counts and proportions are none of the normal.",
)  # fmt: skip
_link_option = click.option(
    "--link", type=click.Choice(ALL_LINKS), help="Default: the family's first."
)
_trials_option = click.option(
    "--trials", metavar="COLUMN", help="Of a binomial response; default: one a row."
)


def _say(message: str) -> None:
    click.echo(message, err=True)


class Share(click.FloatRange):
    """A number of a range; unlike click's, not one that is NaN."""

    def convert(self, value: Any, param: click.Parameter | None, context: Any) -> Any:
        """The number; click's error where it is none."""
        found = super().convert(value, param, context)
        return self.fail(f"{value!r} is no number", param, context) if found != found else found


@click.command()
@click.argument("name", default="study")
@click.option("--kind", type=click.Choice(KINDS), default="nested", show_default=True,
              help="Design to start from.")  # fmt: skip
@click.option("--from-data", "data", type=click.Path(path_type=Path),
              help="Table whose design to use, with a fit as the truth: .csv ...")  # fmt: skip
@click.option("--formula", help="With --from-data: 'y ~ x + (x | animal/image)', as in lme4.")
@_family_option
@_link_option
@_trials_option
@_reference_option
@click.option("--keep-design", is_flag=True,
              help="With --from-data: the rows as they are, in a table.")  # fmt: skip
def init(
    name: str, kind: str, data: Path | None, formula: str | None, references: tuple[str, ...],
    *, keep_design: bool, **of_family: Any,
) -> None:  # fmt: skip
    """Write a commented scenario to start from, NAME.toml.

    Examples: mcsim init mystudy --kind longitudinal

    mcsim init mystudy --from-data pilot.csv --formula 'y ~ diet * x + (x | animal/image)'
    """
    from mcsim.design.table import parse_references
    from mcsim.planning.columns_in_words import formula_wanted
    from mcsim.planning.starter import Start, starter, starter_from_data
    from mcsim.results.whole_files import write_beside

    model = family_model(**of_family)
    if data is None and (formula or references or keep_design or model):
        raise McsimError(
            "--formula, --family, --reference and --keep-design go with --from-data TABLE"
        )
    if data is not None and formula is None:
        raise McsimError(formula_wanted(data))
    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    if not path.name.removesuffix(".toml").strip(". ") or not path.name.isprintable():
        raise McsimError(f"{name!r} cannot name a scenario; write letters, such as mystudy")
    stem = path.name.removesuffix(".toml")
    table = path.with_name(f"{stem}.csv")
    for one in (path, table) if keep_design else (path,):
        if os.path.lexists(one):
            raise McsimError(f"{one} is there already; name another file, or remove it first")
    made = Start(starter(kind, stem))
    if data is not None:
        made = starter_from_data(
            data, str(formula), stem, _say, parse_references(references), model,
            keep_design=keep_design, folder=path.parent,
        )  # fmt: skip
    if made.table is not None:
        write_beside(table, made.table.encode())
        _say(f"Wrote {table}, the rows of the design")
    write_beside(path, made.text.encode())
    _say(f"Wrote {path}. Look at it, then: mcsim run {shlex.quote(str(path))} --dry-run")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--formula", required=True, help="As in lme4: 'y ~ x + (x | animal/image)'.")
@_family_option
@_link_option
@_trials_option
@click.option("--quadrature", type=click.IntRange(1, MOST_POINTS), metavar="POINTS",
              help="Per random effect, of counts and proportions; default: 1, Laplace's"
              " approximation.")  # fmt: skip
@click.option("--estimator", type=click.Choice(FITTED),
              help="Default: reml, or laplace for counts and proportions.")  # fmt: skip
@click.option("--df", type=click.Choice(DF_METHODS),
              help="Default: containment, or satterthwaite where units cross.")  # fmt: skip
@click.option("--interval", type=click.Choice(INTERVALS), default="wald", show_default=True,
              help="Intervals of the variance components.")  # fmt: skip
@click.option("--confidence", default=0.95, show_default=True, type=Share(*CONFIDENCE))
@_reference_option
@click.option("--not-identifiable", "identifiable", flag_value=False, default=True,
              help="Go on where the data cannot tell SDs apart, and leave them out.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table",
              show_default=True)  # fmt: skip
def fit(data: Path, formula: str, form: str, references: tuple[str, ...], **options: Any) -> None:
    """Fit one model to a table: .csv, .tsv, .txt, .xlsx or .parquet.

    Example: mcsim fit data.csv --formula 'y ~ diet * x + (x | animal/image)'
    """
    from mcsim.design.table import parse_references
    from mcsim.methods import one_file as datafile
    from mcsim.study.warm_up import compile_engine, parts_for_table

    choice = (options.pop(name) for name in ("family", "link", "trials", "quadrature"))
    model = options["model"] = family_model(*choice)
    table = datafile.table_for(data, formula, parse_references(references), model)
    for note in table.notes:
        _say(note)
    compile_engine(_say, parts_for_table(table, model))
    result = datafile.fit_table(table, **options)
    click.echo(datafile.FORMATS[form](result))
    if result.message:
        raise TooManyFailuresError(f"No usable fit ({result.status}): {result.message}")
