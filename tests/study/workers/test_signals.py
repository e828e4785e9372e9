"""Real signals: when they stop a run, and when they wait."""

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time

import pytest

from mcsim.errors import KeyboardStoppedError, StoppedError
from mcsim.study.workers.signals import SignalGuard, stop_on_signals


def send(name):
    os.kill(os.getpid(), signal.Signals[name])
    time.sleep(0.01)  # the handler runs before the next instruction


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_raises_at_once_and_the_old_handler_comes_back(name):
    previous = signal.signal(signal.Signals[name], print)
    try:
        with pytest.raises(StoppedError, match=f"stopped by {name}"), stop_on_signals():
            send(name)
        assert signal.getsignal(signal.Signals[name]) is print
    finally:
        signal.signal(signal.Signals[name], previous)


def test_ctrl_c_has_its_own_error():
    with pytest.raises(KeyboardStoppedError), stop_on_signals():
        send("SIGINT")


def test_a_held_signal_waits_until_the_body_is_done():
    steps = []
    with pytest.raises(StoppedError), stop_on_signals() as guard:  # noqa: PT012 - the order counts
        with guard.held():
            send("SIGTERM")
            steps.append("committed")
        steps.append("next")
    assert steps == ["committed"]


def test_an_error_in_a_held_body_is_not_hidden_by_the_signal():
    def commit():
        with stop_on_signals() as guard, guard.held():
            send("SIGTERM")
            raise ValueError("disk")

    with pytest.raises(ValueError, match="disk"):
        commit()


def test_a_swallowed_signal_stops_before_the_next_commit():
    committed = []
    with pytest.raises(StoppedError), stop_on_signals() as guard:  # noqa: PT012 - as in a run
        try:
            send("SIGTERM")
        except Exception:  # what numerical libraries do
            result = "a fit that failed because of the signal"
        with guard.held():
            committed.append(result)
    assert committed == []


@pytest.mark.parametrize(("name", "told"), [("SIGTERM", []), (None, ["no signal"])])
def test_a_signal_in_a_callback_of_a_library_is_remembered_and_not_printed(monkeypatch, name, told):
    # llvmlite calls back while it loads the engine; ctypes can only print what is raised there
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: found.append(str(one.exc_value)))

    @ctypes.CFUNCTYPE(None)
    def callback():
        if name is None:
            raise ValueError("no signal")
        send(name)

    ends = pytest.raises(StoppedError) if name else contextlib.nullcontext()
    with ends, stop_on_signals() as guard:
        callback()
        with guard.held():
            pass
    assert found == told


def test_a_run_under_nohup_ignores_the_hangup():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            send("SIGHUP")
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_signal_that_was_swallowed_is_remembered_in_bodies_within():
    committed = []
    with pytest.raises(StoppedError), stop_on_signals():  # noqa: PT012 - as in a run
        with contextlib.suppress(Exception):  # what some imports do
            send("SIGTERM")
        with stop_on_signals() as guard, guard.held():
            committed.append("chunk")
    assert committed == []


def test_the_inner_of_two_bodies_leaves_the_handlers_to_the_outer():
    with pytest.raises(StoppedError), stop_on_signals():  # noqa: PT012 - the order counts
        with stop_on_signals():
            pass
        send("SIGTERM")


def test_another_thread_than_the_main_one_leaves_signals_alone():
    guards = []

    def body():
        with stop_on_signals() as guard, guard.held():
            guards.append(guard)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert isinstance(guards[0], SignalGuard)


IMPORTED = """
import os, signal, time
swallowed = None
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
except BaseException as error:
    swallowed = error
"""


def test_a_signal_within_an_import_is_raised_after_it(tmp_path, monkeypatch):
    (tmp_path / "takes_a_signal.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(tmp_path)
    started = time.monotonic()
    with pytest.raises(StoppedError), stop_on_signals():  # noqa: PT012 - as in a run
        module = importlib.import_module("takes_a_signal")
        time.sleep(30)
    assert module.swallowed is None  # a library would take it for a module that is not there
    assert time.monotonic() - started < 10


def test_a_script_that_is_itself_imported_is_stopped_at_once(tmp_path, monkeypatch):
    (tmp_path / "is_stopped.py").write_text(
        "import os, signal, time\n"
        "from mcsim.study.workers.signals import stop_on_signals\n"
        "with stop_on_signals():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(30)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    started = time.monotonic()
    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        importlib.import_module("is_stopped")
    assert time.monotonic() - started < 10


def test_no_signal_comes_again_after_the_end(tmp_path, monkeypatch):
    (tmp_path / "takes_one_late.py").write_text(IMPORTED.replace("time.sleep(0.2)", "pass"))
    monkeypatch.syspath_prepend(tmp_path)
    with stop_on_signals():
        importlib.import_module("takes_one_late")
    time.sleep(0.2)  # the default of SIGTERM would end this process


def test_a_signal_within_the_bindings_of_llvm_is_raised_after_them():
    source = "def call():\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(0.2)\n"
    names = {"os": os, "signal": signal, "time": time}
    exec(compile(source, os.sep + "llvmlite" + os.sep + "ffi.py", "exec"), names)
    finished = []
    with pytest.raises(StoppedError), stop_on_signals():  # noqa: PT012 - as in a run
        names["call"]()
        finished.append(True)
        time.sleep(30)
    assert finished  # not broken off
