"""The folder of what is compiled, which is run as it is found: one that nobody else can write to.

Knows folders, their owners and modes only.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOM = 2**23  # bytes: four times what is compiled for all kinds of fits


def cache_folder(name: str) -> tuple[Path, str]:
    """A folder to keep what is compiled in; if it is not the usual one, the reason why.

    Where the usual one cannot be written to, or others can, it is a new private one.
    """
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser().absolute() / "mcsim" / name
    try:
        for one in (*reversed(folder.parents), folder):
            one.mkdir(mode=0o700, exist_ok=True)
        folder = folder.resolve(strict=True)  # once: links may be led elsewhere later
        reason = "; ".join(_doubts(folder))
        if not reason:
            _refuse_full_disk(folder)
            return folder, ""
    except OSError as error:  # a read-only home, or a full one
        reason = f"{folder} cannot be used: {error.strerror}"
    return Path(tempfile.mkdtemp(prefix="mcsim-kernels-")), reason


def _refuse_full_disk(folder: Path) -> None:
    """Raise an OSError where nothing can be written, or not all that is to be compiled."""
    is_new = not any(folder.iterdir())
    with tempfile.TemporaryFile(dir=folder) as file:
        if is_new and hasattr(os, "posix_fallocate"):  # not on macOS and Windows
            os.posix_fallocate(file.fileno(), 0, ROOM)


def _doubts(folder: Path) -> Iterator[str]:
    """How others could put files into the folder, now or later, and what to do about it."""
    if not hasattr(os, "getuid"):  # Windows, where a profile's folders are its user's own
        return
    for one in (folder, *(entry for entry in folder.iterdir() if entry.is_dir())):
        state = one.lstat()
        if state.st_uid != os.getuid():
            yield f"{one} belongs to another user; remove it"
        elif _is_open(state):
            yield f"others can write to {one}; remove it"
    for one in _parents(folder):
        state = one.lstat()
        if state.st_uid not in (0, os.getuid()):
            yield f"{one} belongs to another user; set XDG_CACHE_HOME to a folder of your own"
        elif _is_open(state) and not state.st_mode & stat.S_ISVTX:  # as /tmp: none moves another's
            yield f"others can write to {one}; run chmod go-w {one}"


def _parents(folder: Path) -> Iterator[Path]:
    """Folders whose owners could put another in the place of this one, up to the home."""
    home = Path.home().resolve()
    for one in folder.parents:
        yield one
        if one == home:
            return


def _is_open(state: os.stat_result) -> bool:
    """Whether a group or all can write there."""
    return bool(state.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
