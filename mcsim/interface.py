"""The Python interface: what the commands do, with pandas frames in place of printed tables.

Names that a user may import from `mcsim` stand in `mcsim/__init__.py`.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd
import pyarrow as pa

from mcsim.errors import DataError
from mcsim.methods.one_file import FileFit, fit_file, fit_frame
from mcsim.results.folder import read_conditions, read_manifest
from mcsim.results.store import ESTIMATES_SCHEMA, FITS_SCHEMA, Store
from mcsim.scenario.families import family_model
from mcsim.scenario.limits import LARGEST, MOST_PROCESSES, MOST_REPLICATES, WIDTH, number_in
from mcsim.scenario.load import load_scenario
from mcsim.scenario.records import Scenario
from mcsim.summary import compare as comparison
from mcsim.summary import summarize as summary
from mcsim.summary.effects import along_effects
from mcsim.summary.records import MATCH, Globs, globs_of, matching
from mcsim.summary.rows import read_rows
from mcsim.summary.selection import Selection, filter_summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("condition", "method", "parameter", "truth", "mean", "bias", "rmse", "coverage", "n")
PAGE_STYLE = "width: 100%; height: 45em; border: 1px solid #ccc"  # of a page in a notebook


class Report(type(Path())):  # type: ignore[misc] # Path itself cannot be the base in Python 3.11
    """The path of a page, as the last value of a cell of a notebook the page itself."""

    def _repr_html_(self) -> str | None:
        if not self.is_file():
            return None
        page = html.escape(self.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="{PAGE_STYLE}"></iframe>'


@dataclass(frozen=True)
class Study:
    """A study in its folder; a notebook shows its progress and its summary."""

    directory: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))  # text is a path too

    def summary(self, **options: Any) -> pd.DataFrame:
        """Performance measures; options as of `summarize`."""
        return summarize(self.directory, **options)

    def estimates(self, **options: Any) -> pd.DataFrame:
        """Estimates of every replicate; options as of `read_estimates`."""
        return read_estimates(self.directory, **options)

    def fits(self, **options: Any) -> pd.DataFrame:
        """How every fit ended; options as of `read_fits`."""
        return read_fits(self.directory, **options)

    def compare(self, first: str, second: str) -> pd.DataFrame:
        """Paired differences of two methods; as `compare`."""
        return compare(self.directory, first, second)

    def plot(self, kind: str | None = None, **options: Any) -> "Figure":
        """A figure; options as of `plot`."""
        return plot(self.directory, kind, **options)

    def report(self, out: Path | str | None = None) -> "Report":
        """Write the HTML page on the study, and return where it is; a notebook shows the page."""
        from mcsim.report.page import write_report

        return Report(write_report(self.directory, None if out is None else Path(out)))

    def __str__(self) -> str:
        return str(Store.read(self.directory).status())

    def _repr_html_(self) -> str:
        title = read_manifest(self.directory).get("title") or self.directory.name
        table = self.summary()
        shown = table[[name for name in SHOWN if name in table]].to_html(index=False, na_rep="-")
        return f"<h4>{html.escape(title)}</h4><pre>{html.escape(str(self))}</pre>{shown}"


def run_study(
    scenario: Scenario | Path | str,
    directory: Path | str | None = None,
    *,
    n_workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> Study:
    """Run what is missing of a study into its folder, and return the study.

    Parameters
    ----------
    scenario : as of `load_scenario`, or a file
    directory : default `results/<name of the file>`; needed where `scenario` is no file
    n_workers : processes; default all CPUs
    progress : whether to show a bar, in a notebook as in a terminal
    report : takes what there is to say; default prints it to stderr

    Raises
    ------
    ScenarioError
        With every problem of the file.
    StudyMismatchError
        The folder holds another study.
    DataError
        A method cannot be fitted to a design of the scenario.
    """
    from mcsim.cli.progress import ProgressBar
    from mcsim.study.run import RunOptions
    from mcsim.study.stopping import run_until_precise
    from mcsim.summary.cache import latest_summary

    if not isinstance(scenario, Scenario):
        directory = directory or Path("results") / Path(scenario).stem
        scenario = load_scenario(scenario)
    if directory is None:
        raise DataError("run_study needs a directory for the results of a scenario that is no file")
    n_workers = None if n_workers is None else _workers(n_workers)
    say = report or partial(click.echo, err=True)
    with ProgressBar(say, is_shown=progress) as bar:
        options = RunOptions(
            Path(directory), n_workers, overwrite, report=say, start=bar.start, advance=bar.advance
        )
        run_until_precise(scenario, options)
    latest_summary(Path(directory))
    return Study(Path(directory))


def summarize(
    results: Path | str | Sequence[Path | str],
    *,
    method: Globs = "*",
    parameter: Globs = "*",
    condition: Globs = "*",
    only_regular: bool = False,
    missing: str = "usable",
    effects: Sequence[float] = (),
) -> pd.DataFrame:
    """Performance measures with their Monte Carlo errors, a row per condition, method, parameter.

    Parameters
    ----------
    results : a study's folder, a folder of studies, or several
    method, parameter, condition : globs, such as "*.sd(*", one or a list
    only_regular : leave out fits on the boundary
    missing : "usable", "common" or "fallback", as of `mcsim summarize --missing`
    effects : sizes at which to tell the power of fixed effects instead, from the same fits

    Raises
    ------
    DataError
        There is no study, or a glob matches nothing.
    """
    folders = [results] if isinstance(results, Path | str) else results
    paths = list(map(Path, folders))
    if np.size(effects):
        sizes = (number_in("an effect", one, -LARGEST, LARGEST) for one in np.atleast_1d(effects))
        table = along_effects(paths, [*sizes])
    else:
        table = summary.summarize(paths, only_regular=only_regular, missing=missing)
    table = filter_summary(table, methods=method, parameters=parameter, conditions=condition)
    return _frame(table)


@dataclass(frozen=True)
class Plan:
    """What `plan` found.

    answer : the design that was chosen, what it costs and reaches; None where none reaches it
    designs : a row per design that was looked at; told : all of it, as `mcsim plan --format json`
    """

    answer: dict[str, Any] | None
    is_certified: bool
    designs: pd.DataFrame
    told: dict[str, Any]
    text: str

    def __str__(self) -> str:
        return self.text


def plan(
    scenario: Scenario | Path | str,
    directory: Path | str | None = None,
    *,
    n_workers: int = 1,
    max_replicates: int = 65_536,
    report: Callable[[str], None] | None = None,
) -> Plan:
    """Find the cheapest design that reaches the target of a scenario's `[plan]`.

    Parameters
    ----------
    scenario, directory : as of `run_study`; default `results/<name of the file>-plan`
    max_replicates : of a design
    report : takes what there is to say on every design; default prints it to stderr

    Raises
    ------
    DataError
        The scenario has no plan, or no design can reach its target.
    """
    from mcsim.planning.plan import PlanOptions, as_json, make_plan
    from mcsim.planning.printed import FORMATS

    if not isinstance(scenario, Scenario):
        directory = directory or Path("results") / f"{Path(scenario).stem}-plan"
        scenario = load_scenario(scenario)
    if directory is None:
        raise DataError("plan needs a directory for the designs of a scenario that is no file")
    say = report or partial(click.echo, err=True)
    most = int(number_in("max_replicates", max_replicates, 2, MOST_REPLICATES, is_whole=True))
    made = make_plan(scenario, PlanOptions(Path(directory), _workers(n_workers), most, say))
    told = as_json(made)
    rows = [{**row["design"], **row} for row in told["designs"]]
    text = FORMATS["table"](made, str(directory))
    return Plan(
        told["answer"], told["certified"], pd.DataFrame(rows).drop(columns="design"), told, text
    )


def read_estimates(
    results: Path | str,
    *,
    condition: Globs = "*",
    method: Globs = "*",
    parameter: Globs = "*",
    replicates: str | None = None,
) -> pd.DataFrame:
    """Estimates of every finished replicate: the columns of estimates/, names as categories.

    Parameters
    ----------
    condition, method, parameter : globs, one or a list
    replicates : such as "137" or "1-100,201-300"; default all

    Raises
    ------
    DataError
        There is no study, or a part of it is damaged.
    """
    globs = {"condition": condition, "method": method, "parameter": parameter}
    return _read(Path(results), "estimates", ESTIMATES_SCHEMA, globs, replicates)


def read_fits(
    results: Path | str,
    *,
    condition: Globs = "*",
    method: Globs = "*",
    replicates: str | None = None,
) -> pd.DataFrame:
    """How every finished fit ended: the columns of fits/; as `read_estimates`."""
    globs = {"condition": condition, "method": method}
    return _read(Path(results), "fits", FITS_SCHEMA, globs, replicates)


def fit(
    data: pd.DataFrame | Path | str,
    formula: str,
    *,
    reference: Mapping[str, str] | None = None,
    family: str = "gaussian",
    link: str | None = None,
    trials: str | int | None = None,
    quadrature: int | None = None,
    **options: Any,
) -> FileFit:
    """Fit one model to a data frame, or to a file with a table; text columns are factors.

    Parameters
    ----------
    reference : levels that the others of a factor are compared with, such as {"diet": "fed"};
        unless given, the first
    family, link : "binomial", "poisson" or "nbinom", for counts and proportions
    trials : of a binomial response, their column or one number; unless given 1
    quadrature : points per random effect; unless given 1, Laplace's approximation
    options : estimator ("reml" or what its family has), df, interval, confidence and
        identifiable, as `mcsim fit` has them

    Raises
    ------
    DataError
        The data, a column or the formula cannot be used.
    """
    model = family_model(family, link, trials, quadrature)
    options["model"] = model
    if isinstance(data, pd.DataFrame):
        return fit_frame(data, formula, reference, **options)
    return fit_file(Path(data), formula, reference, **options)


def compare(results: Path | str, first: str, second: str) -> pd.DataFrame:
    """Two methods on the same data sets: `second` less `first`, with Monte Carlo errors.

    Raises
    ------
    DataError
        There is no such study or method.
    """
    return _frame(comparison.compare(Path(results), first, second))


def plot(
    results: Path | str,
    kind: str | None = None,
    *,
    method: Globs = "*",
    parameter: Globs | None = None,
    condition: Globs = "*",
    measure: str | None = None,
    replicate: int | None = None,
    width: float | None = None,
) -> "Figure":
    """A figure of a study, or of a folder of studies; kinds as of `mcsim plot`.

    kind : unless given, what suits the study
    parameter : unless given, those that tell the most; "*" for all
    replicate : that kind "data" shows; unless given, the first
    width : in mm, such as 89 or 183, one and two columns of a page; unless given, as needed

    Raises
    ------
    DataError
        There is no study, or it cannot give this figure.
    """
    from mcsim.plots.drawing import style
    from mcsim.report.figures import chosen_figure

    chosen = Selection(method, parameter, condition, measure)
    if replicate is not None:
        replicate = int(number_in("replicate", replicate, 1, MOST_REPLICATES, is_whole=True))
    if width is not None:
        width = number_in("width", width, *WIDTH)
    with style(width):
        return chosen_figure(Path(results), kind, chosen, replicate)[1]()


def _workers(number: int) -> int:
    return int(number_in("n_workers", number, 1, MOST_PROCESSES, is_whole=True))


def _read(
    study: Path, folder: str, schema: pa.Schema, globs: dict[str, Globs], replicates: str | None
) -> pd.DataFrame:
    known = read_conditions(study)
    wanted = {
        name: [
            one
            for glob in globs_of(own)
            for one in MATCH.get(name, matching)(known[name].unique().to_pylist(), glob)
        ]
        for name, own in globs.items()
    }
    return _frame(read_rows(study, folder, schema, wanted, replicates))


def _frame(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    return frame
