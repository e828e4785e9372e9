"""Times, each beside that of drawing standard normals in the same run: machines are noisy."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.scenarios import SEED
from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments
from mcsim.formula import parse_formula
from mcsim.methods.likelihood import LikelihoodMethod, Reducers
from mcsim.methods.method import MethodSettings
from mcsim.methods.one_file import fit_file
from mcsim.methods.registry import prepare_method
from mcsim.results.store import Chunk
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import draw_responses, prepare_simulator
from mcsim.study.analyse import ChunkAnalyser
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import replicate_data

# in a small process: a child's largest memory counts that of the process that it was forked from
MEASURE = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, capture_output=True)
seconds = time.perf_counter() - started
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
N_NORMALS = 5000  # observations of the seed scenario
NEEDED = (  # by a run
    *("numba", "pandas", "pyarrow.parquet", "formulaic", "scipy.special", "pydantic", "click"),
    "tqdm",
)


def normals_us(n: int = N_NORMALS, n_times: int = 400) -> float:
    """Microseconds that numpy needs to draw n standard normals: the median of some runs."""
    generator = np.random.default_rng(1)
    times = [_timed(lambda: generator.standard_normal(n)) for _ in range(n_times)]
    return 1e6 * float(np.median(times))


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def run_study(
    n_replicates: int, n_workers: int, overrides: Sequence[str] = (), *, cache: Path | None = None
) -> tuple[float, float]:
    """Seconds of `mcsim run`, start to end, and the largest memory of its processes in MB."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "seed.toml"
        scenario.write_text(SEED)
        command = [sys.executable, "-m", "mcsim", "run", str(scenario), "-n", str(n_replicates)]
        command += ["-j", str(n_workers), "-o", str(Path(folder) / "out")]
        for override in overrides:
            command += ["--set", override]
        environment = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
        # an installed program has its bytecode
        environment = {k: v for k, v in environment.items() if k != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-c", MEASURE, *command]
        done = subprocess.run(command, check=True, capture_output=True, env=environment, text=True)
    seconds, kilobytes = done.stdout.split()[-2:]
    return float(seconds), float(kilobytes) / 1024


def help_seconds() -> float:
    """Seconds of `mcsim --help`, the smallest of five."""
    command = [str(Path(sys.executable).parent / "mcsim"), "--help"]
    return min(
        _timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(5)
    )


def import_seconds(*names: str) -> float:
    """Seconds of a process that imports these, the smallest of five."""
    command = [sys.executable, "-c", f"import {', '.join(names)}"]
    return min(_timed(lambda: subprocess.run(command, check=True)) for _ in range(5))


def fit_us(overrides: Sequence[str], n_replicates: int, n_times: int = 3) -> tuple[float, float]:
    """Microseconds per fit of the general model, simulation excluded, the smallest of some runs;
    and the mean number of evaluations of the likelihood.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.toml"
        path.write_text(SEED)
        scenario = load_scenario(path, overrides=overrides)
    simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
    columns = model_columns(scenario.methods[0].parsed, simulator.design.frame)
    settings = MethodSettings("reml", ("containment",), 0.95)
    method = LikelihoodMethod(columns, settings, Reducers(), is_reml=True)
    moments = method.take(draw_responses(simulator, range(1, n_replicates + 1)).y)
    fit_moments(method.design, moments)
    seconds = min(_timed(lambda: fit_moments(method.design, moments)) for _ in range(n_times))
    evaluations = fit_moments(method.design, moments).evaluations
    return 1e6 * seconds / n_replicates, float(np.mean(evaluations))


def df_ratio(n_replicates: int = 1000, n_times: int = 5) -> float:
    """Time of a replicate with Satterthwaite and Kenward-Roger df, over that with containment."""
    seconds = dict.fromkeys((("containment",), ("satterthwaite", "kenward-roger")), np.inf)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.toml"
        path.write_text(SEED)
        scenario = load_scenario(path)
    label = conditions(scenario)[0].label
    chunk = Chunk(label, "", 1, n_replicates)
    for _ in range(n_times):
        for df in seconds:
            methods = tuple(one.model_copy(update={"df": df}) for one in scenario.methods)
            study = PreparedStudy(scenario.model_copy(update={"methods": methods}))
            study.condition(label)
            taken = _timed(partial(ChunkAnalyser(study).files, chunk))
            seconds[df] = min(seconds[df], taken)
    plain, both = seconds.values()
    return both / plain


def replicate_ms(overrides: Sequence[str], n_replicates: int = 256, text: str = SEED) -> float:
    """Milliseconds of a replicate, simulated, fitted by all methods and as rows of files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.toml"
        path.write_text(text)
        study = PreparedStudy(load_scenario(path, overrides=overrides))
    (label,) = study.conditions
    analyser = ChunkAnalyser(study)
    analyser.files(Chunk(label, "", 1, 2))
    return 1e3 * _timed(partial(analyser.files, Chunk(label, "", 1, n_replicates))) / n_replicates


def single_fit_seconds() -> float:
    """Seconds that a fit of one data frame takes with its design, the smallest of five."""
    frame, _ = one_data_set([])
    frame["diet"] = pd.Categorical(frame["diet"])
    formula = parse_formula("y ~ diet * x + (x | animal/image)")
    settings = MethodSettings("reml", ("containment",), 0.95)

    def fit() -> None:
        method = prepare_method(model_columns(formula, frame), settings)
        method.analyse([method.take(frame["y"].to_numpy()[None])], np.random.default_rng)

    return min(_timed(fit) for _ in range(5))


def one_data_set(overrides: Sequence[str]) -> tuple[pd.DataFrame, float]:
    """A data set, labels as text, and the log-likelihood that mcsim finds for the general model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.toml"
        path.write_text(SEED)
        frame = replicate_data(load_scenario(path, overrides=overrides), 1, None)
        data = Path(folder) / "one.csv"
        frame.to_csv(data, index=False)
        found = fit_file(data, "y ~ diet * x + (x | animal/image)")
    assert found.loglik is not None
    return frame.astype(dict.fromkeys(("diet", "animal", "image"), str)), found.loglik
