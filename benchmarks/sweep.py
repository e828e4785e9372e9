"""What a condition of a sweep costs beyond its fits.

Overhead of a condition: the slope of the command's time between 100 and 300 conditions, less the
time that drawing and fitting the replicates of one takes. Start-up and imports are in neither.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scenarios import SEED
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import draw_responses
from mcsim.study.prepared import PreparedStudy

FEW, MANY = 100, 300  # conditions
N_REPLICATES = 2
REPORTED = 200  # replicates of a condition of a report
SWEPT = {  # by key, the value of a condition by its number
    "truth.sigma": lambda number: round(0.05 + 0.0005 * number, 6),
    "design.covariates.x.grid": lambda number: [0.0, round(0.5 + 0.01 * number, 6)],
}


def overhead_ms(key: str, *options: str, n_rounds: int = 3) -> float:
    """Milliseconds per condition of `mcsim run` with these options, a key swept; least of some."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.toml"
        slopes = []
        for _ in range(n_rounds):
            seconds = [_seconds(_written(path, key, n), options) for n in (FEW, MANY)]
            slopes.append((seconds[1] - seconds[0]) / (MANY - FEW))
        # a dry run tries as many conditions of a larger sweep
        fits = 0.0 if "--dry-run" in options else _fit_seconds(_written(path, key, FEW))
    return 1e3 * (min(slopes) - fits)


def _written(path: Path, key: str, n_conditions: int) -> Path:
    values = [SWEPT[key](number) for number in range(n_conditions)]
    text = SEED.replace("replicates = 100", f"replicates = {N_REPLICATES}")
    path.write_text(f'{text}[sweep]\n"{key}" = {values}\n')
    return path


def report_seconds(n_conditions: int) -> float:
    """Processor time of `mcsim report`: two methods, so many conditions of few replicates."""
    with tempfile.TemporaryDirectory() as folder:
        path = _written(Path(folder) / "sweep.toml", "truth.sigma", n_conditions)
        mcsim, out = [sys.executable, "-m", "mcsim"], f"{folder}/out"
        run = [*mcsim, "run", str(path), "-o", out, "-n", str(REPORTED), "-j", "1", "--quiet"]
        subprocess.run(run, check=True, capture_output=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*mcsim, "report", out], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _seconds(path: Path, options: tuple[str, ...]) -> float:
    """Of the command, start to end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "mcsim",
            "run",
            str(path),
            "-o",
            f"{folder}/out",
            "-j",
            "1",
        ]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        started = time.perf_counter()
        subprocess.run([*command, *options], check=True, capture_output=True, env=environment)
        return time.perf_counter() - started


def _fit_seconds(path: Path) -> float:
    """Of drawing and fitting the replicates of one condition: the median of all."""
    seconds = []
    for condition in PreparedStudy(load_scenario(path)).all_conditions():
        started = time.perf_counter()
        block = draw_responses(condition.simulator, range(1, N_REPLICATES + 1))
        for method in condition.methods.values():
            method.analyse([method.take(block.y)], np.random.default_rng)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


if __name__ == "__main__":
    for swept in SWEPT:
        for options in ((), ("--dry-run",)):
            print(swept, *options, f"{overhead_ms(swept, *options, n_rounds=1):.1f} ms")
