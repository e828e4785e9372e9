"""The `mcsim` command: parse, call one function, print, map errors to exit codes."""

import gc
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mcsim import __version__
from mcsim.cli import folders
from mcsim.cli import read as commands
from mcsim.cli.complete import names_of
from mcsim.cli.data import Share, fit, init
from mcsim.cli.plan import plan
from mcsim.cli.plugin import plugin_option, with_plugin
from mcsim.cli.streams import ready_streams
from mcsim.errors import ExitCode, McsimError, StoppedError
from mcsim.scenario.limits import MOST_PROCESSES, MOST_REPLICATES, MOST_SHARDS, is_of_size
from mcsim.study.workers.signals import stop_on_signals
from mcsim.study.workers.threads import ONE_THREAD

MAX_FAILURES = 0.01
REFERENCE = (
    "CSV has no order of levels: for the parameters of this scenario, fit it with"
    " --reference {} (in R: relevel(factor({}), {!r}))"
)
NUMBERS = (
    "In CSV the levels of {0} look like numbers: write C({0}) in the formula of mcsim fit"
    " (in R: factor({0}))"
)
NOTHING = "In CSV the level {1!r} of {0} is read as a missing value: give it another name"
LIBRARIES = ("numpy", "scipy", "numba", "pandas", "pyarrow", "formulaic", "pydantic")
FIRST_STEPS = """\
mcsim simulates data of a nested design thousands of times, fits models to them, and says how far
the estimates are from the truth: bias, RMSE, coverage, power, each with its Monte Carlo error.

    mcsim init study                 write study.toml, a commented scenario; change it
    mcsim run study.toml --dry-run   what it would do, and how long it takes
    mcsim run study.toml             do it, and print the summary

mcsim --help lists all commands; mcsim run --help says more of one."""


class _Commands(click.Group):
    """A group whose commands end with the exit code of their error, without a traceback."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As a program, workers included: no warnings of libraries, and one thread of theirs.

        Unless asked for otherwise. Replicates are what is shared between processors; threads of a
        library wait for each other where there is other work. Imports and tables make many objects
        and no garbage; where many replicates are fitted, it is collected again.
        """
        ready_streams()
        gc.disable()  # a tenth of the time of what does not take long
        for name, number in ONE_THREAD.items():
            os.environ.setdefault(name, number)
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            os.environ["PYTHONWARNINGS"] = "ignore"
        return super().__call__(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        try:
            with stop_on_signals():
                return super().invoke(context)
        except StoppedError as error:
            _say(f"{error}; what is done is safe. Repeat the command to go on.")
            sys.exit(error.exit_code)
        except McsimError as error:
            _say(str(error))
            sys.exit(error.exit_code)

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            where = ascii(str(error.filename))[1:-1] if error.filename else "what is printed"
            _say(f"{where}: cannot be read or written: {error.strerror or error}")
        except MemoryError:
            _say("not enough memory; use smaller data sets or fewer workers, -j")
        sys.exit(ExitCode.BAD_INPUT)


def _say(message: str) -> None:
    click.echo(message, err=True)


def _print_versions(context: click.Context, _option: object, is_asked: bool) -> None:
    if is_asked:
        import platform
        from importlib import metadata

        found = [f"Python {platform.python_version()}"]
        found += [f"{name} {metadata.version(name)}" for name in LIBRARIES]
        click.echo(f"mcsim {__version__} ({', '.join(found)})")
        context.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False,
              callback=_print_versions, help="Print the versions that matter.")  # fmt: skip
@click.pass_context
def main(context: click.Context) -> None:
    """Run Monte Carlo studies of nested mixed-effects designs.

    Exit codes: 0 done; 1 a bug; 2 bad input; 3 too many fits failed; 4 the folder holds another
    study; 5 replicates are missing; 75 stopped by a signal, repeat the command to go on; 130 the
    same after Ctrl-C.
    """
    if context.invoked_subcommand is None:
        click.echo(FIRST_STEPS)


def _scenario_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that change the scenario before it is checked."""
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Change a key of the scenario, such as truth.sigma=0.1."),
        click.option("--seed", type=int, help="Change the seed."),
        click.argument("scenario", type=click.Path(path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return command


def _cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that name a Dask cluster."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--tls-key", type=path, help="Key of the certificate."),
        click.option("--tls-cert", type=path, help="Certificate to show to the cluster."),
        click.option("--tls-ca-file", type=path, help="Certificates to trust, of the cluster."),
        click.option("--scheduler-file", type=path, help="The same, by the scheduler's file."),
        click.option("--scheduler", metavar="ADDRESS",
                     help="Use the workers of this Dask cluster, not processes here."),
    ):  # fmt: skip
        command = option(command)
    return command


_workers_option = click.option(
    "-j", "n_workers", type=click.IntRange(1, MOST_PROCESSES), help="Processes; default: all CPUs."
)
_max_failures_option = click.option(
    "--max-failures", default=MAX_FAILURES, show_default=True, type=Share(0, 1),
    help="Share of fits that may fail: more in the first tenth of a condition end the run, more at"
    " its end make the exit code 3.",
)  # fmt: skip


@main.command()
@_scenario_options
@click.option("-o", "directory", type=click.Path(path_type=Path), help="Results folder.")
@_workers_option
@click.option("-n", "n_replicates", type=int, help="Replicates in all.")
@click.option("--replicates", "ranges", help="Only these, such as 137 or 1201-1400.")
@click.option("--shard", metavar="K/N", help="Only the Kth of N shares, for jobs of a batch queue.")
@click.option("--overwrite", is_flag=True, help="Replace the study in the folder.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and how long it takes.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--format", "form", type=click.Choice(commands.FORMATS), default="table",
              show_default=True, help="Of the summary; json of --dry-run too.")  # fmt: skip
@click.option("--target-mcse", "targets", multiple=True, metavar="MEASURE=MCSE",
              help="With --dry-run: replicates needed for this precision, such as "
              "coverage=0.005 or 'bias(x)=0.001'.")  # fmt: skip
@_max_failures_option
@plugin_option
@_cluster_options
def run(scenario: Path, overrides: tuple[str, ...], seed: int | None, **options: Any) -> None:
    """Run a study and print its summary.

    Repeating the command does only what is missing; a larger -n adds replicates.

    Example: mcsim run configs/stain_profile.toml -n 200
    """
    from mcsim.scenario.load import load_scenario

    loaded = load_scenario(
        scenario, overrides=overrides, replicates=options.pop("n_replicates"), seed=seed
    )
    loaded = with_plugin(loaded, options["plugin"])
    directory = options["directory"] or Path("results") / scenario.stem
    if options["dry_run"] or options["targets"]:
        from mcsim.cli.run import run_options
        from mcsim.planning.dry_run import describe_plan

        targets = dict(_read_target(one) for one in options["targets"])
        found = describe_plan(loaded, run_options(directory, options), targets)
        click.echo(found.to_json() if options["form"] == "json" else found)
    else:
        from mcsim.cli.progress import log
        from mcsim.cli.run import run_and_summarize

        say = (lambda _line: None) if options["quiet"] else log
        run_and_summarize(loaded, directory, options, say=say)


def _read_target(text: str) -> tuple[str, float]:
    key, _, number = text.rpartition("=")
    try:
        mcse = float(number)
    except ValueError:
        mcse = 0.0
    if not key or not mcse > 0.0 or not is_of_size(mcse):
        raise McsimError(f"--target-mcse {text!r}: write MEASURE=MCSE, such as coverage=0.005")
    return key, mcse


@main.command()
@_scenario_options
@click.option("--array", "n_shards", required=True, type=click.IntRange(1, MOST_SHARDS),
              help="Jobs.")  # fmt: skip
@click.option("--cpus", "n_cpus", default=1, show_default=True,
              type=click.IntRange(1, MOST_PROCESSES),
              help="Processes of each job.")  # fmt: skip
@click.option("--time", "time_limit", default="01:00:00", show_default=True, help="Of each job.")
@click.option("-o", "directory", type=click.Path(path_type=Path), help="Results folder.")
@click.option("-n", "n_replicates", type=int, help="Replicates in all.")
@_max_failures_option
@plugin_option
def slurm(scenario: Path, overrides: tuple[str, ...], seed: int | None, **options: Any) -> None:
    """Print a job script for SLURM: the study as an array of jobs.

    Example: mcsim slurm configs/stain_profile.toml --array 10 -n 100000 > job.slurm
    """
    from mcsim.cli.slurm import Job, slurm_script
    from mcsim.scenario.load import load_scenario

    if not re.fullmatch(r"(\d{1,3}-)?\d{1,6}(:\d{1,2}){0,2}", options["time_limit"], re.ASCII):
        raise McsimError(f"--time {options['time_limit']!r}: write HH:MM:SS or D-HH:MM:SS")
    names = ("directory", "n_replicates", "max_failures", "plugin")
    directory, n_replicates, max_failures, plugin = (options.pop(name) for name in names)
    loaded = load_scenario(scenario, overrides=overrides, replicates=n_replicates, seed=seed)
    with_plugin(loaded, plugin).refuse_lacking_functions()
    arguments = [("-o", directory), ("-n", n_replicates), ("--seed", seed), ("--plugin", plugin)]
    arguments += [("--max-failures", max_failures)] * (max_failures != MAX_FAILURES)
    arguments += [("--set", override) for override in overrides]
    given = [str(one) for pair in arguments if pair[1] is not None for one in pair]
    command = ("mcsim", "run", str(scenario), *given)
    click.echo(slurm_script(Job(f"mcsim-{scenario.stem}", command, **options)), nl=False)


@main.command()
@_scenario_options
@click.option("--replicate", required=True, type=click.IntRange(1, MOST_REPLICATES),
              help="Number of the replicate.")  # fmt: skip
@click.option("--condition", multiple=True, shell_complete=names_of("condition"),
              help="Label of the condition, where the scenario has a sweep.")  # fmt: skip
@click.option("-o", "output", type=click.Path(path_type=Path), help="File; default: print.")
def simulate(scenario: Path, overrides: tuple[str, ...], seed: int | None, **options: Any) -> None:
    """Write the data set of one replicate as CSV.

    Example: mcsim simulate configs/stain_profile.toml --replicate 1 -o replicate1.csv
    """
    import pandas as pd

    from mcsim.design.table import first_label
    from mcsim.formula import written_name
    from mcsim.results.whole_files import refuse_place, write_beside
    from mcsim.scenario.load import load_scenario
    from mcsim.study.run import replicate_data
    from mcsim.table_file import MISSING, as_numbers

    loaded = load_scenario(scenario, overrides=overrides, seed=seed)
    if options["output"] is not None:
        refuse_place(options["output"], (".csv", ".txt"))
    frame = replicate_data(loaded, options["replicate"], options["condition"])
    text = frame.to_csv(index=False)
    if options["output"] is None:
        click.echo(text, nl=False)
    else:
        write_beside(options["output"], text.encode())
    factors = frame.drop(columns=list(loaded.design.level_names)).select_dtypes("category")
    for name, values in ((str(name), values) for name, values in factors.items()):
        labels, written = [*values.cat.categories], written_name(name)
        for label in (one for one in labels if one.strip() in MISSING):
            _say(NOTHING.format(written, label))
        if as_numbers(pd.Series(labels)) is not None:
            _say(NUMBERS.format(written))
        if first_label(labels) != labels[0]:
            _say(REFERENCE.format(shlex.quote(f"{name}={labels[0]}"), written, labels[0]))


for command in (*commands.COMMANDS, *folders.COMMANDS, plan, fit, init):
    main.add_command(command)
