"""Units that cross: what a replicate costs, and what lme4 needs for the same data set."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers import rscript
from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments
from mcsim.formula import parse_formula
from mcsim.methods.likelihood import LikelihoodMethod, Reducers
from mcsim.methods.method import MethodSettings
from mcsim.methods.one_file import fit_file
from mcsim.planning.starter import starter
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import draw_responses, prepare_simulator
from mcsim.study.run import replicate_data

SLOPES = "y ~ condition + (condition | subject) + (condition | item)"
INTERCEPTS = "y ~ condition + (1 | subject) + (1 | item)"
PAIRS = f"{INTERCEPTS} + (1 | subject:item)"
LARGE = ["design.levels.subject.count=200", "design.levels.item.count=100"]
BOTH = ["design.factors.condition.dealt='all'"]
SOME = ["design.levels.item.met=0.8"]
DESIGNS = {  # formula, changes of the scenario, replicates, and the milliseconds that are wanted
    "36 subjects by 24 items, slopes": (SLOPES, [], 400, 3.0),
    "... intercepts": (INTERCEPTS, [], 400, 0.5),
    "... slopes, each pair in both conditions": (SLOPES, BOTH, 400, 0.2),
    "... intercepts also of pairs": (PAIRS, BOTH, 400, 0.2),
    "... slopes, a fifth of the pairs not met": (SLOPES, SOME, 200, 3.0),
    "200 subjects by 100 items, slopes": (SLOPES, LARGE, 40, 40.0),
    "... a fifth of the pairs not met": (SLOPES, LARGE + SOME, 4, 160.0),
}
INSTEVAL = "y ~ service + (1 | s) + (1 | d)"
FIT_IN_R = """
suppressMessages(library(lme4))
d <- read.csv(commandArgs(trailingOnly = TRUE)[1], stringsAsFactors = TRUE)
for (i in 1:2) seconds <- system.time(m <- lmer({formula}, d))[["elapsed"]]
cat(sprintf("%.15g", c(as.numeric(logLik(m)), seconds)))
"""
WRITE_INSTEVAL = """
suppressMessages(library(lme4))
d <- InstEval[c("y", "s", "d", "service")]
write.csv(d, commandArgs(trailingOnly = TRUE)[1], row.names = FALSE)
"""


def replicate_ms(formula: str, changes: Sequence[str], n_replicates: int) -> tuple[float, float]:
    """Milliseconds to simulate and fit a replicate, the smallest of three; mean evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = load_scenario(_written(folder), overrides=changes)
    simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
    columns = model_columns(parse_formula(formula), simulator.design.frame)
    settings = MethodSettings("reml", ("satterthwaite",), 0.95)
    method = LikelihoodMethod(columns, settings, Reducers(), is_reml=True)
    seconds = []
    for _ in range(4):  # the first compiles
        started = time.perf_counter()
        moments = method.take(draw_responses(simulator, range(1, n_replicates + 1)).y)
        fit = fit_moments(method.design, moments)
        seconds.append(time.perf_counter() - started)
    return 1e3 * min(seconds[1:]) / n_replicates, float(np.mean(fit.evaluations))


def lme4_ms(formula: str, changes: Sequence[str]) -> float | None:
    """Milliseconds of lmer for the first data set, the second of two fits; None without R."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.csv"
        scenario = load_scenario(_written(folder), overrides=changes)
        replicate_data(scenario, 1, None).to_csv(data, index=False)
        found = _in_r(FIT_IN_R.format(formula=formula), data)
    return None if found is None else 1e3 * float(found.split()[1])


def insteval_seconds() -> tuple[float, float, float, float] | None:
    """Of a fit with mcsim, with z and with Satterthwaite's df, and with lmer, and the gain in
    log-likelihood; None without R.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "insteval.csv"
        if _in_r(WRITE_INSTEVAL, data) is None:
            return None
        ours = []
        for df in ("z", "satterthwaite"):
            started = time.perf_counter()
            loglik = fit_file(data, INSTEVAL, df=df).loglik
            ours.append(time.perf_counter() - started)
        found = _in_r(FIT_IN_R.format(formula=INSTEVAL), data)
    assert found is not None
    assert loglik is not None
    theirs, seconds = map(float, found.split())
    return ours[0], ours[1], seconds, loglik - theirs


def _written(folder: str) -> Path:
    path = Path(folder) / "items.toml"
    path.write_text(starter("subjects-items", "items"))
    return path


def _in_r(script: str, data: Path) -> str | None:
    """What a script prints that has the path of the data; None where R or lme4 is not there."""
    path = data.with_suffix(".R")
    path.write_text(script)
    try:
        done: subprocess.CompletedProcess[str] = rscript(str(path), str(data))
    except FileNotFoundError:
        return None
    return done.stdout or "written" if done.returncode == 0 else None
