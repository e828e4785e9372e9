"""Files written whole or not at all, and what is said where that fails."""

import errno
import fcntl
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from mcsim.errors import McsimError

FLUSHED_TOGETHER = 8  # files: a disk makes them durable in little more time than one of them
NAME_END = 40  # letters of a name that its unfinished file keeps: names may be as long as can be


def write_whole(
    contents: Mapping[Path, bytes], temporary: Path | None = None, *, is_durable: bool = True
) -> None:
    """Write files, each complete or not at all; all of them are durable at the end, if wanted.

    Parameters
    ----------
    temporary : folder on the same disk for what is not complete; unless given, that of the file
    """
    started = {
        path: (temporary or path.parent) / f".{uuid.uuid4().hex}-{path.name[-NAME_END:]}"
        for path in contents
    }
    try:
        write = partial(_write_new, is_durable=is_durable)
        if is_durable:
            with ThreadPoolExecutor(FLUSHED_TOGETHER) as pool:
                list(pool.map(write, started.values(), contents.values()))
        else:
            list(map(write, started.values(), contents.values()))
        for path, unfinished in started.items():
            unfinished.replace(path)
    except BaseException:
        for unfinished in started.values():  # on a full disk, half a file is in the way
            unfinished.unlink(missing_ok=True)
        raise
    if is_durable:
        for folder in {path.parent for path in contents}:
            _flush_folder(folder)


def write_beside(path: Path, content: bytes) -> None:
    """Write what a user names, and its folder if need be; a McsimError where that fails.

    What stands there and is no file of its own, such as a link or /dev/null, is written through.
    """
    refuse_place(path)
    with writing(path), new_folder(path.parent):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(content)
        else:
            write_whole({path: content}, is_durable=False)


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder and those above, if need be; where what follows fails, nothing is left."""
    new = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    for one in new:
        with suppress(FileNotFoundError):
            (new[-1].parent / one.name).lstat()  # refuses names that are too long
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for one in new:
            with suppress(OSError):  # there is something in it
                one.rmdir()
        raise


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Be the only process here, of those that ask for it; where a disk knows no locks, one of all.

    A process that dies lets go of it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_room(path: Path, *, is_kept: bool) -> None:
    """Make room for a file; one that is there may be kept until it is replaced."""
    if path.is_symlink() or (path.exists() and not path.is_dir() and not is_kept):
        path.unlink()
    elif path.is_dir():
        try:
            path.rmdir()
        except OSError:
            path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex}"))


def refuse_place(path: Path, endings: Collection[str] = ()) -> None:
    """Raise a McsimError where a file that a user names cannot be: before what it is to hold.

    Parameters
    ----------
    endings : of names that say what is written; a name may have none
    """
    if endings and path.suffix.lower() not in ("", *endings):
        raise McsimError(f"{path}: what is written is {' or '.join(endings)}; name such a file")
    if path.is_dir() or path.name == "..":
        raise McsimError(f"{path} is a folder; name a file, such as {path / 'name'}")
    if ".." in path.parts and not path.parent.exists():
        raise McsimError(f"there is no folder {path.parent}; name one without ..")
    with writing(path):
        there = next(one for one in path.absolute().parents if os.path.lexists(one))
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with suppress(FileNotFoundError):
            (there / path.name).lstat()  # refuses a name that is too long
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _write_new(path: Path, content: bytes, *, is_durable: bool) -> None:
    with path.open("xb") as file:
        file.write(content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn what the system says when a file cannot be written into a McsimError."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free space" if is_full else "make it writable or name another folder with -o,"
        raise McsimError(
            f"cannot write to {directory}: {error.strerror or error}. What was finished is safe;"
            f" {advice} and repeat the command"
        ) from error
