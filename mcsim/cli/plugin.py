"""The option that names a file of one's own estimators, of every command that fits with them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mcsim.scenario.records import Scenario

plugin_option = click.option(
    "--plugin", type=click.Path(path_type=Path),
    help="Python file with your own estimators: plugin:NAME.",
)  # fmt: skip


def with_plugin(scenario: "Scenario", path: Path | None) -> "Scenario":
    """The scenario with the functions of a file, if one is named."""
    if path is None:
        return scenario
    from mcsim.scenario.plugin_file import read_plugin

    return scenario.with_plugin(read_plugin(path))
