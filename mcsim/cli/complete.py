"""What the shell offers where a command is typed: names that the results, or a scenario, have."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click

from mcsim.errors import McsimError

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def names_of(column: str) -> Complete:
    """Methods, parameters or conditions of the results, or of the scenario, that are named."""

    def complete(context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
        try:
            names = dict.fromkeys(_names(column, context))
        except (McsimError, OSError):
            return []  # the command says what is wrong
        return [name for name in names if name.startswith(begun)]

    return complete


def measures(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """Names of the measures."""
    from mcsim.measures import MEASURES

    return [name for name in (*MEASURES, "power") if name.startswith(begun)]


def _names(column: str, context: click.Context) -> Iterator[str]:
    from mcsim.names import plain_label, shown_labels
    from mcsim.results.folder import read_conditions
    from mcsim.scenario.conditions import conditions
    from mcsim.scenario.load import load_scenario
    from mcsim.summary.summarize import studies_in

    for path in _paths(context):
        if path.is_dir():
            tables = [read_conditions(study) for study in studies_in(path)]
            names = [str(name) for table in tables for name in table[column].to_pylist()]
        else:
            names = [one.label for one in conditions(load_scenario(path))]
        if column == "condition":
            names = [plain_label(one) for one in shown_labels(names).values()]
        yield from names


def _paths(context: click.Context) -> list[Path]:
    """What stands before; click leaves it among the others where an option lacks its value."""
    found = context.params.get("results") or context.params.get("scenario") or context.args
    return [Path(one) for one in ([found] if isinstance(found, Path) else found)]
