"""Progress of a run: a bar where somebody watches, now and then a line where nobody does."""

import gc
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import click

from mcsim.names import shown_label

if TYPE_CHECKING:
    from mcsim.study.run import Progress

Say = Callable[[str], None]

ONLY_CONDITION = "all"  # label where nothing is swept
METER = 70  # columns of a bar with its counts and times
NARROW = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining}{postfix}]"  # where fewer are
LOG_INTERVAL_S = 30.0  # between lines of progress where no one watches


def log(line: str) -> None:
    """Say what happens in a run: with the time where nobody watches."""
    at = "" if sys.stderr.isatty() else f"{datetime.now():%Y-%m-%d %H:%M:%S} "
    click.echo(f"{at}{line}", err=True)


class ProgressBar:
    """Progress of a run: a bar on a terminal or in a notebook, now and then a line in a log.

    Parameters
    ----------
    say : takes the lines
    is_shown : whether there is a bar; default: on a terminal
    """

    def __init__(self, say: Say, *, is_shown: bool | None = None) -> None:
        self._say = say
        self._is_shown = sys.stderr.isatty() if is_shown is None else is_shown

    def __enter__(self) -> Self:
        self._bar: Any = None
        self._n_failed = 0
        self._last_line = time.monotonic()
        return self

    def start(self, n_replicates: int) -> None:
        """Show the bar, now that it is known how much there is to do."""
        from tqdm.auto import tqdm  # that of a notebook in a notebook

        if self._bar is not None:
            self._bar.close()
        gc.freeze()  # what the imports have made stays
        gc.enable()
        is_shown = n_replicates > 0 and self._is_shown
        form = NARROW if shutil.get_terminal_size().columns < METER else None
        self._bar = tqdm(
            total=n_replicates, unit=" replicates", disable=not is_shown, bar_format=form
        )
        self._n_replicates, self._n_done = n_replicates, 0
        self._started = time.monotonic()

    def advance(self, progress: "Progress") -> None:
        """Count a finished chunk."""
        self._n_failed += progress.n_failed
        self._n_done += progress.n_replicates
        where = f", {shown_label(progress.condition)}" * (progress.condition != ONLY_CONDITION)
        room = shutil.get_terminal_size().columns - METER
        where *= self._bar.disable or len(where) <= room
        said = f"{self._n_failed:,} failed{where}"
        self._bar.set_postfix_str(said, refresh=False)
        self._bar.update(progress.n_replicates)
        if self._bar.disable and time.monotonic() - self._last_line >= LOG_INTERVAL_S:
            self._last_line = time.monotonic()
            self._say(
                self._bar.format_meter(
                    self._n_done,
                    self._n_replicates,
                    self._last_line - self._started,
                    ncols=0,  # without a bar
                    unit=" replicates",
                    postfix=said,
                )
            )

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
