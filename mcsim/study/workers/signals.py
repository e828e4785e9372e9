"""Signals that stop a run: raised as errors, but not while something must be finished.

Nor within an import: libraries take an error there for a module that is not there, and go on. Nor
within what binds LLVM, which may then free memory twice when the process ends.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

from mcsim.errors import KeyboardStoppedError, StoppedError

AGAIN_S = 0.05  # until a signal that came where none is raised comes again
LLVM = f"{os.sep}llvmlite{os.sep}"  # in the names of its files
STOP_SIGNALS = [one for one in signal.Signals if one.name[3:] in ("INT", "TERM", "HUP", "USR1")]


class SignalGuard:
    """Turns signals into StoppedError, but not while something must be finished.

    If a library swallows the error, the next `held` raises it again: before the results of a task
    that was broken off are kept.

    body : the frame that the guarded body is in
    """

    def __init__(self, body: FrameType) -> None:
        self._is_held = False
        self._received: int | None = None
        self._body: FrameType | None = body
        self._again: threading.Timer | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handler: raise now, after what must not be broken off, or when the guard is let go."""
        self._received = number
        if self._is_held:
            return
        if self._is_delicate(frame) and hasattr(signal, "pthread_kill"):  # not on Windows
            if self._again is not None:
                self._again.cancel()
            main = threading.main_thread().ident
            self._again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, number))
            self._again.daemon = True
            self._again.start()
            return
        self._raise_received()

    def end(self) -> None:
        """Nothing comes again."""
        self._body = None
        if self._again is not None:
            self._again.cancel()

    def _is_delicate(self, frame: FrameType | None) -> bool:
        """Whether an import, or a call of LLVM, is under way that began in the body."""
        while frame is not None and frame is not self._body:
            name = frame.f_code.co_filename
            if name.startswith("<frozen importlib") or LLVM in name:
                return True
            frame = frame.f_back
        return False

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
    guard = SignalGuard(sys._getframe(2))  # that of the `with`, beyond contextlib's
    token, before = _guard.set(guard), dict[int, Any]()
    if threading.current_thread() is threading.main_thread():  # no other thread gets signals
        before = {number: signal.signal(number, guard.receive) for number in _not_under_nohup()}
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_tell_unraisable, hook)
    try:
        yield guard
    finally:
        sys.unraisablehook = hook
        guard.end()
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
