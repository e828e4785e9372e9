"""The decorator of all compiled functions: one cache per machine and version of the sources."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_OPT", "2")  # compiles in 15% less time than 3, runs no slower
os.environ.setdefault("NUMBA_SLP_VECTORIZE", "1")  # lanes that are written out, together

import numba as _numba  # reads the variables

from mcsim.engine.arithmetic.cache import cache_folder

numba: Any = _numba  # its type hints do not know every option


def _source_hash() -> str:
    """Names the cache: numba does not notice that a function called from another file changed."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))  # of the whole engine
    text = b"".join(source.read_bytes() for source in sources)
    options = f"{numba.__version__} {numba.config.BOUNDSCHECK}"
    return hashlib.sha256(text + options.encode()).hexdigest()[:16]


CACHE, WHY_NOT_KEPT = cache_folder(f"kernels-{_source_hash()}")


def lean_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` at its first call, or take it from the cache; it makes no arrays.

    References to those that it gets are not counted: most of the code, where records hold many.
    """
    return _compile(function, _nrt=False)


def step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function`, which makes no arrays and which only other kernels call."""
    return _compile(function, _nrt=False, no_cpython_wrapper=True)


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` as a part of the one kernel that calls it."""
    return _compile(function, inline="always")


def _compile(function: Callable[..., Any], **options: str | bool) -> Callable[..., Any]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE)  # read when the function is decorated
    try:
        compiled: Callable[..., Any] = numba.njit(
            cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options
        )(function)
    finally:
        numba.config.CACHE_DIR = before
    _keep_if_there_is_room(compiled)
    return compiled


def _keep_if_there_is_room(compiled: Any) -> None:
    """Have what is compiled used though it cannot be written: the disk may fill up meanwhile."""
    cache = compiled._cache  # numba has no other way to say so
    save = cache.save_overload

    def save_or_go_on(signature: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            save(signature, data)

    cache.save_overload = save_or_go_on


def is_cold(part: str) -> bool:
    """Whether a part of the engine was not compiled on this machine yet, which takes long."""
    return not (CACHE / part).exists()


def note_complete(part: str) -> None:
    """Remember that all of a part is in the cache."""
    with contextlib.suppress(OSError):  # a disk that is full by now
        (CACHE / part).touch()
