"""Signals that stop a run: raised as errors, but not while something must be finished."""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

from mcsim.errors import KeyboardStoppedError, StoppedError

STOP_SIGNALS = [one for one in signal.Signals if one.name[3:] in ("INT", "TERM", "HUP", "USR1")]


class SignalGuard:
    """Turns signals into StoppedError, but not while something must be finished.

    If a library swallows the error, the next `held` raises it again: before the results of a task
    that was broken off are kept.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._received: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handler: raise now, or when the guard is let go."""
        self._received = number
        if not self._is_held:
            self._raise_received()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep signals waiting while the body runs."""
        self._raise_received()
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        self._raise_received()  # unless the body has raised: that goes first

    def _raise_received(self) -> None:
        if self._received == signal.SIGINT:
            raise KeyboardStoppedError("stopped by Ctrl-C")
        if self._received is not None:
            raise StoppedError(f"stopped by {signal.Signals(self._received).name}")


_guard: ContextVar[SignalGuard | None] = ContextVar("guard", default=None)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[SignalGuard]:
    """While the body runs, STOP_SIGNALS raise StoppedError in it, if this is the main thread.

    Within another such body, its guard goes on: what it has received is not forgotten.
    """
    outer = _guard.get()
    if outer is not None:
        yield outer
        return
    guard = SignalGuard()
    token, before = _guard.set(guard), dict[int, Any]()
    if threading.current_thread() is threading.main_thread():  # no other thread gets signals
        before = {number: signal.signal(number, guard.receive) for number in _not_under_nohup()}
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_tell_unraisable, hook)
    try:
        yield guard
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        _guard.reset(token)


def _tell_unraisable(hook: Callable[[Any], object], unraisable: Any) -> None:
    """Tell what a callback could not raise, but for signals: their guard remembers them."""
    if not isinstance(unraisable.exc_value, StoppedError):
        hook(unraisable)


def _not_under_nohup() -> list[signal.Signals]:
    """The signals to stop on, but for a hangup that the user wants ignored."""
    ignored = [one for one in STOP_SIGNALS if signal.getsignal(one) == signal.SIG_IGN]
    return [one for one in STOP_SIGNALS if one.name != "SIGHUP" or one not in ignored]
