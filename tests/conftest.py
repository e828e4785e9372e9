"""Shared fixtures: a small scenario, and the command as a process of its own."""

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner

from mcsim.cli.main import main

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests run in two processes on two cores
hypothesis.settings.register_profile("any speed", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("any speed")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the commands of hundreds of tests start sooner

SMALL = """
title = "Small"
replicates = 60
seed = 7
[design]
factors = { diet = ["fasted", "fed"] }
[[design.levels]]
name = "animal"
count = { fasted = 4, fed = 5 }
[[design.levels]]
name = "image"
count = 4
[design.observations]
count = 5
[design.covariates]
x = { grid = [0.0, 1.0] }
[truth]
sigma = 0.5
[truth.fixed]
Intercept = 1.0
"diet[T.fed]" = 0.5
x = -1.0
[truth.random.animal]
sd = { Intercept = 0.6, x = 0.4 }
correlation = 0.3
[truth.random.image]
variance = { Intercept = 0.25 }
[[methods]]
name = "right"
formula = "y ~ diet * x + (x | animal) + (1 | animal:image)"
df = ["containment", "z"]
[[methods]]
name = "diagonal"
formula = "y ~ diet * x + (x || animal/image)"
"""


@pytest.fixture
def small_scenario(tmp_path: Path) -> Path:
    """A scenario that runs in a second."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def call_mcsim(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in this process, which saves the second that a process takes to start."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    gc.unfreeze()  # as before: a run keeps what it has made
    gc.enable()
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def run_mcsim(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; `env` is added to the environment."""
    return subprocess.run(
        [sys.executable, "-m", "mcsim", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process is left with one when the others are done."""
    items.sort(key=lambda item: item.path.stem not in ("test_docs", "test_stress"))
