"""Whole plans, and what the same question costs elsewhere.

mlpwr takes 4,000 evaluations of a function that simulates a data set and tests it; timed is one
such evaluation by lmerTest, which mlpwr and simr would call, so both times are known without them.
"""

import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers import rscript
from benchmarks.scenarios import SEED
from mcsim.interface import run_study, summarize

QUESTION = Path(__file__).parents[1] / "configs" / "how_many_animals.toml"
BALANCED = ['plan.methods=["general"]']
UNEVEN = [  # images of every animal drawn once for each design, points searched in their place
    *BALANCED,
    "design.levels.image.count={uniform=[4,12]}",
    'plan.search={"design.levels.animal.count"={from=3,to=60},'
    '"design.observations.count"={from=5,to=60}}',
]
PILOT = [*BALANCED, "plan.truth.draws=64"]
N_EVALUATIONS = 4_000  # of mlpwr, unless told
IN_R = """
suppressMessages(library(lmerTest))
d <- expand.grid(x = seq(0, 1, length.out = 20), image = factor(1:15), animal = factor(1:12))
d$diet <- factor(as.integer(d$animal) > 6)
one <- function() {
  a <- as.integer(d$animal); i <- (a - 1) * 15 + as.integer(d$image)
  slopes <- rnorm(12, 0, 0.02)[a] + rnorm(180, 0, 0.08)[i] + 0.06 * (d$diet == "TRUE")
  heights <- 1 + rnorm(12, 0, 0.015)[a] + rnorm(180, 0, 0.06)[i]
  d$y <- heights + slopes * d$x + rnorm(nrow(d), 0, 0.085)
  m <- suppressMessages(lmer(y ~ diet * x + (x | animal/image), d))
  coef(summary(m))["dietTRUE:x", "Pr(>|t|)"] < 0.05
}
one()
cat(system.time(for (k in 1:5) one())[["elapsed"]] / 5)
"""


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


def curve_ratio() -> float:
    """Time of a study with a curve of power over 100 effects, over that with one effect."""
    seconds = {1: math.inf, 100: math.inf}
    for n in (*seconds, *seconds, *seconds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "seed.toml"
            path.write_text(SEED.replace("replicates = 100", "replicates = 2000"))
            effects = np.linspace(0.01, 0.2, n).tolist()
            started = time.perf_counter()
            run_study(path, Path(folder) / "out", n_workers=1, progress=False)
            summarize(Path(folder) / "out", effects=effects)
            seconds[n] = min(seconds[n], time.perf_counter() - started)
    return seconds[100] / seconds[1]


def r_seconds() -> float | None:
    """Seconds of one evaluation by lmerTest; None where it is not here."""
    try:
        done = rscript("-e", IN_R)
    except FileNotFoundError:
        return None
    return None if done.returncode else float(done.stdout.split()[-1])


def plan_rows() -> list[tuple[str, ...]]:
    """What is measured, and what is wanted of it."""
    seed, one = plan_seconds(BALANCED), r_seconds()
    elsewhere = "not here"
    if one is not None:
        elsewhere = f"{N_EVALUATIONS * one:,.0f} s, {N_EVALUATIONS * one / seed:,.0f} times"
    return [
        ("plan of 3,306 designs, processor time, start included", f"{seed:.1f} s", "3 s"),
        ("... of 3,248 with random numbers of images", f"{plan_seconds(UNEVEN):.1f} s", "60 s"),
        ("... averaged over 64 truths", f"{plan_seconds(PILOT):.1f} s", "60 s"),
        ("... 4,000 evaluations by lmerTest, as mlpwr has", elsewhere, "1,000 times"),
        ("power at 100 effects, times that at one", f"{curve_ratio():.2f}", "at most 1.1"),
    ]
