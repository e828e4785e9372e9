"""A user's own estimators: functions of a Python file that the option --plugin names.

The text of the file is read once and travels with the study to the workers, so that all of them run
the same functions. A scenario alone loads nothing.
"""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from mcsim.errors import DataError, StoppedError, nearest_name

F = TypeVar("F", bound=Callable[..., Any])

PREFIX = "plugin:"  # of an estimator in a scenario
ARGUMENTS = ("data", "formula", "generator")  # that a function may take, by name
LONGEST = 2_000  # letters of an error's text: it stands in a row of every failed fit
_MARK = "mcsim_parameters"


def estimator(*parameters: str) -> Callable[[F], F]:
    """Mark a function as an estimator of these parameters.

    Parameters
    ----------
    parameters : names in the results, such as "x" or "animal.sd(x)"
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, parameters)
        return function

    return mark


@dataclass(frozen=True)
class Plugin:
    """A plugin file: its name and its text."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class UserFunction:
    """A marked function, what it estimates, and which of ARGUMENTS it takes."""

    call: Callable[..., Any]
    parameters: tuple[str, ...]
    arguments: tuple[str, ...]


def read_plugin(path: Path) -> Plugin:
    """The plugin in a file; its functions are loaded, to see that they can be.

    Raises
    ------
    DataError
        The file cannot be read or run, or marks no function.
    """
    try:
        plugin = Plugin(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--plugin {path}: cannot be read: {error}") from None
    functions = load_functions(plugin)
    if not functions:
        raise DataError(
            f"--plugin {path}: marks no function as an estimator; write"
            ' `from mcsim.plugins import estimator` and, above a function, @estimator("x")'
        )
    return plugin


def function_of(plugin: Plugin | None, name: str) -> UserFunction:
    """The function that an estimator `plugin:NAME` stands for.

    Raises
    ------
    DataError
        There is no plugin, or it has no such function.
    """
    if plugin is None:
        raise DataError(
            f"estimator {name!r} needs the file that has it: repeat the command with --plugin FILE"
        )
    functions = load_functions(plugin)
    wanted = name.removeprefix(PREFIX)
    if wanted not in functions:
        raise DataError(
            f"{plugin.name} has no estimator {wanted!r}. It marks:"
            f" {', '.join(functions)}.{nearest_name(wanted, functions)}"
        )
    return functions[wanted]


@lru_cache(maxsize=4)
def load_functions(plugin: Plugin) -> dict[str, UserFunction]:
    """Run the text of a plugin, once per process; the functions that it marks.

    Raises
    ------
    DataError
        It cannot be run, or a marked function takes what no estimator gets.
    """
    module = ModuleType(f"mcsim_plugin_{plugin.digest[:12]}")
    module.__file__ = plugin.name
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(plugin.text, plugin.name, "exec"), vars(module))  # noqa: S102 - the user's
    except (StoppedError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever the user's lines raise, sys.exit() too
        raise DataError(f"--plugin {describe(error, plugin)}") from error
    marked = {
        name: found
        for name, found in vars(module).items()
        if inspect.isfunction(found) and hasattr(found, _MARK)
    }
    return {name: _read(found, plugin) for name, found in marked.items()}


def describe(error: BaseException, plugin: Plugin) -> str:
    """Where in the plugin, and what: `my_methods.py:12: ValueError: ...`."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == plugin.name]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    where = f"{plugin.name}:{lines[-1]}" if lines else plugin.name
    return f"{where}: {type(error).__name__}: {_text_of(error)}"


def _text_of(error: BaseException) -> str:
    """What an error says, as far as a file or a terminal can show it."""
    try:
        text = str(error)
    except Exception:  # the user's own __str__
        return "(its text cannot be had)"
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _read(function: Callable[..., Any], plugin: Plugin) -> UserFunction:
    arguments = tuple(inspect.signature(function).parameters)
    parameters = getattr(function, _MARK)
    where = f"--plugin {plugin.name}: {function.__name__}"
    _refuse_others(arguments, ARGUMENTS, f"{where} takes")
    if not parameters or not all(map(_is_name, parameters)):
        raise DataError(f'{where} must name what it estimates, such as @estimator("x")')
    if len(set(parameters)) < len(parameters):
        raise DataError(f"{where} names a parameter twice: {', '.join(parameters)}")
    return UserFunction(function, parameters, arguments)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != "" and name.isprintable()


def _refuse_others(names: Iterable[str], allowed: Iterable[str], where: str) -> None:
    for name in names:
        if name not in allowed:
            raise DataError(f"{where} {name!r}; it may take: {', '.join(allowed)}")
