"""The standard streams of the program, whatever they were when it was started."""

import io
import os
import sys
from typing import Any


class _Messages(io.FileIO):
    """A file of what is said in passing: what cannot be written there stops nothing."""

    def write(self, text: Any) -> int:
        """Write, or lose it: a log on a full disk is no reason to end a run."""
        try:
            return super().write(text)
        except OSError:
            return len(text)


def ready_streams() -> None:
    """Let streams that are closed lead nowhere, and none stop at a name that it cannot show."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file would be printed into
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        messages = io.BufferedWriter(_Messages(2, "w", closefd=False))
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(
            messages, encoding=encoding, errors="backslashreplace", line_buffering=True
        )
