"""Whole plans, and what the same question costs elsewhere."""

import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.plan_peers import answers
from benchmarks.scenarios import SEED
from mcsim.interface import load_scenario, run_study, summarize
from mcsim.planning.control import CONTROL, Control, law_of, with_control
from mcsim.planning.measured import Told, value_of
from mcsim.planning.plan import PlanOptions, make_plan
from mcsim.planning.search import ERROR
from mcsim.planning.sequence import radius, share_of_error
from mcsim.planning.values import first_replicates
from mcsim.results.folder import STATUSES, read_conditions
from mcsim.scenario.plan import Goal
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import RunOptions
from mcsim.study.run import run_study as run_scenario
from mcsim.summary.estimates import read_results
from mcsim.summary.summarize import Described, alpha_of

QUESTION = Path(__file__).parents[1] / "configs" / "how_many_animals.toml"
BALANCED = ['plan.methods=["general"]']
UNEVEN = [  # images of every animal drawn once for each design, points searched in their place
    *BALANCED,
    "design.levels.image.count={uniform=[4,12]}",
    'plan.search={"design.levels.animal.count"={from=3,to=60},'
    '"design.observations.count"={from=5,to=60}}',
]
PILOT = [*BALANCED, "plan.truth.draws=64"]
EFFECT = "diet[T.fed]:x"
UNEVEN_COUNTS = [
    "design.levels.image.count={uniform=[2,6]}",
    "design.observations.count={uniform=[4,8]}",
]
RATIOS = """
replicates = 4000
seed = 3
[design]
factors = { diet = ["fasted", "fed"] }
levels = [{ name = "animal", count = 4 }, { name = "image", count = 4 }]
observations = { count = 10 }
covariates = { x = { grid = [0.0, 1.0] } }
[truth]
sigma = 0.085
fixed = { Intercept = 1.0, "diet[T.fed]:x" = 0.12 }
[truth.random]
animal = { sd = { Intercept = 0.015, x = 0.02 } }
image = { sd = { Intercept = 0.06, x = 0.08 } }
""" + "".join(
    f"""
[[methods]]
name = "{estimator}"
estimator = "{estimator}"
formula = "y ~ diet * x{random}"
{df}
"""
    for estimator, random, df in [
        (
            "reml",
            " + (x | animal/image)",
            'df = ["satterthwaite", "kenward-roger", "containment", "z"]',
        ),
        ("ml", " + (x | animal/image)", ""),
        ("two-stage", " + (1 | animal)", ""),
        ("ols", "", ""),
        ("ols-cluster", " + (1 | animal)", ""),
        ("gee", " + (1 | animal)", ""),
    ]
)


def plan_seconds(overrides: Sequence[str]) -> float:
    """Processor seconds of `mcsim plan` for the question of the seed, start to end; least of 3."""
    return min(_cpu_seconds(overrides) for _ in range(3))


def _cpu_seconds(overrides: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mcsim", "plan", str(QUESTION), "-o", f"{folder}/plan"]
        for override in overrides:
            command += ["--set", override]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def share_of_sweep() -> float:
    """Replicates of the plan, over those that tell all designs as well by counted tests."""
    scenario = load_scenario(QUESTION, overrides=BALANCED)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(scenario, PlanOptions(Path(folder) / "plan"))
    (goal,) = plan.goals
    look = next(one for one in plan.chosen.looks if one.design == plan.chosen.design)
    found = look.values[goal]
    half = (found.upper - found.lower) / 2.0
    counted = found.estimate * (1.0 - found.estimate)  # the variance of one
    spread = half / radius(found.n, share_of_error(ERROR, 1))
    return plan.n_replicates / (len(plan.designs.cost) * found.n * counted / spread**2)


def variance_ratios(*, is_balanced: bool) -> dict[str, float]:
    """By method, the variance of counted power over that by probabilities, with the control."""
    overrides = [] if is_balanced else UNEVEN_COUNTS
    goal, samples = Goal("rejection", EFFECT, 0.8), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratios.toml"
        path.write_text(RATIOS)
        scenario = load_scenario(path, overrides=overrides)
        out = run_scenario(with_control(scenario), RunOptions(Path(folder) / "out", 1)).directory
        table = read_conditions(out)
        rows, described = table.to_pylist(), Described(table, alpha_of(out))
        for own, results in read_results(out, table, STATUSES[:2]):
            for row in (row for row in own if rows[row]["parameter"] == EFFECT):
                numbers = first_replicates(scenario.replicates, *results.numbered(row))
                samples[rows[row]["method"]] = described.sample([row], [numbers])
    exact, law = samples.pop(CONTROL), None
    if not is_balanced:
        (condition,) = PreparedStudy(with_control(scenario)).all_conditions()
        law = law_of(condition, EFFECT)
    control = Control(exact, law)
    found = {name: value_of(goal, Told({}, one, control)) for name, one in samples.items()}
    return {name: x.value * (1 - x.value) / max(x.spread, 1e-6) ** 2 for name, x in found.items()}


def curve_ratio() -> float:
    """Time of a study with a curve of power over 100 effects, over that with one; least of 8."""
    seconds = {1: math.inf, 100: math.inf}
    for n in [*seconds] * 8:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "seed.toml"
            path.write_text(SEED.replace("replicates = 100", "replicates = 2000"))
            effects = np.linspace(0.01, 0.2, n).tolist()
            started = time.perf_counter()
            run_study(path, Path(folder) / "out", n_workers=1, progress=False)
            summarize(Path(folder) / "out", effects=effects)
            seconds[n] = min(seconds[n], time.perf_counter() - started)
    return seconds[100] / seconds[1]


def _least(ratios: Mapping[str, float]) -> str:
    name = min(ratios, key=lambda one: ratios[one])
    return f"{ratios[name]:.1f} ({name})"


def plan_rows() -> list[tuple[str, ...]]:
    """What is measured, and what is wanted of it."""
    seed = plan_seconds(BALANCED)
    uneven, even = (variance_ratios(is_balanced=one) for one in (False, True))
    return [
        ("plan of 3,306 designs, processor time, start included", f"{seed:.1f} s", "3 s"),
        ("... with random numbers of images", f"{plan_seconds(UNEVEN):.1f} s", "60 s"),
        ("... averaged over 64 truths", f"{plan_seconds(PILOT):.1f} s", "60 s"),
        *((*elsewhere, "1,000 times") for elsewhere in answers(seed)),
        ("... its replicates, of a sweep as precise by counts", f"{share_of_sweep():.2g}", "0.001"),
        ("variance of counted power, over that by probabilities", _least(uneven), "5"),
        ("... in a balanced design of 8 animals", _least(even), "40"),
        ("power at 100 effects, times that at one", f"{curve_ratio():.2f}", "at most 1.1"),
    ]
