"""Odd values, and changes at random, for tests with inputs that nobody would write."""

import contextlib
import copy
import resource
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcsim.errors import ExitCode
from tests.conftest import call_mcsim

N_DEFAULT, N_SLOW = 50, 20_000  # cases of each of the six kinds
MOST_S, MOST_BYTES = 20, 2 * 2**30
ENDS = (ExitCode.DONE, ExitCode.BAD_INPUT, ExitCode.TOO_MANY_FAILURES, ExitCode.OTHER_STUDY)

NAMES = ["Intercept", "x", "y", "animal", "image", "diet[T.fed]", "diet", "sigma", "a.b", "", " "]
NAMES += ["total.sd(Intercept)x", "animal.sd(x)", "é\u202e", "[", '"', "a,b", "Intercept,x", "x:x"]
NUMBERS = [0, 1, 2, 3, -1, 0.5, 1.0, 1e-9, 1e9, 10**9, 1e200, 1e-200, 1e308, 5e-324, -0.0]
NUMBERS += [10**20, 10**400, float("nan"), float("inf"), float("-inf"), 2**31, 2**63, 0.999999999]
TEXTS = [*NAMES, "y ~ x", "y ~ 0 + (1 | animal)", "y ~ x + (x || animal/image)", "ml", "z", "gee"]
TEXTS += ["profile", "ar1", "mean", "x" * 300, "\n", "\x1b[31m", "2024-01-01", "010", "1e5", "~"]
ODD = [*NUMBERS, *TEXTS, True, None, [], {}, [[]], [{}], {"uniform": [1, 5 * 10**10]}]
ODD += [
    {"uniform": [1, 3]},
    {"uniform": [3, 1]},
    {"t": 5},
    {"sd": {"x": 1}},
    [0.0, 1.0],
    ["a", "b"],
]


def cases(strategy, n=N_DEFAULT):
    """Run a test for some drawn cases; for many more under the mark `slow`."""

    def decorate(test):
        def run_many(study, n_cases):
            limits = settings(
                max_examples=n_cases,
                derandomize=n_cases == n,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            limits(given(strategy)(lambda case: test(study, case)))()

        slow = pytest.param(N_SLOW, marks=pytest.mark.slow)
        run_many.__name__, run_many.__doc__ = test.__name__, test.__doc__
        return pytest.mark.parametrize("n_cases", [n, slow])(run_many)

    return decorate


@contextlib.contextmanager
def limited():
    """Break off what takes too long, or too much memory."""

    def too_long(_number, _frame):
        raise AssertionError(f"took more than {MOST_S} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    numbers = (signal.SIGPROF, signal.SIGALRM)
    handlers = {number: signal.signal(number, too_long) for number in numbers}
    signal.setitimer(signal.ITIMER_PROF, MOST_S)  # others may keep the machine busy
    signal.alarm(10 * MOST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def files(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def check(*arguments, folder, watched=None):
    """Run a command; its end must be one of those that are allowed."""
    before = files(watched or folder)
    with limited():
        done = call_mcsim(*arguments, cwd=folder)
    assert done.returncode in ENDS, done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode == ExitCode.BAD_INPUT:
        assert done.stderr.strip()
        assert files(watched or folder) == before, done.stderr
    return done


@contextlib.contextmanager
def empty_folder():
    with tempfile.TemporaryDirectory(prefix="mcsim-fuzz-") as name:
        yield Path(name)


def places(value, path=()):
    """Paths to all that lies in tables and lists."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


@st.composite
def mutated(draw, originals):
    """One of the originals with one to three changes."""
    value = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        if not value:
            break
        paths = st.sampled_from([one for one in places(value) if one])
        (*table, key), other = draw(paths), draw(paths)
        here = at(value, table)
        odd = draw(st.sampled_from(ODD))
        match draw(st.sampled_from(["odd", "number", "number", "drop", "add", "other", "wrap"])):
            case "odd":
                new = odd
            case "number":
                new = draw(st.sampled_from([0, 1, 2, 0.5, -0.5, 1e-9, 7]))
            case "drop":
                del here[key]
                continue
            case "add" if isinstance(here, dict):
                key, new = draw(st.sampled_from(NAMES)), odd
            case "other" | "add":
                new = at(value, other)
            case "wrap":
                new = [here[key], odd]
        here[key] = copy.deepcopy(new)
    if isinstance(value, dict) and draw(st.booleans()) and draw(st.booleans()):
        keys = ["design.levels.animal.count", "truth.sigma", "design.levels", "truth.random"]
        values = st.lists(st.sampled_from([*ODD, 3, 4]), min_size=1, max_size=3)
        value["sweep"] = copy.deepcopy(draw(st.dictionaries(st.sampled_from(keys), values)))
    return value


@st.composite
def scratched(draw, text):
    """A text with some characters gone, doubled or changed."""
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, max(0, len(text) - 1)))
        new = draw(
            st.sampled_from(["", "", '"', "[", "]", "{", "=", "\n", "0", "\0", "\t", "é", "#"])
        )
        text = text[:i] + new + text[i + draw(st.integers(0, 2)) :]
    return text
