"""Counts and proportions: mcsim's processor time per fit, and programs that fit the same model.

20 animals with 5 images of 10 rows, four fixed effects. Times of the others are of one call on one
data frame, as in peers.py; mcsim's are per fit of a block of data sets.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm

from benchmarks import count_peers
from benchmarks.peers import PeerFit, fit_or_reason, run_r, timed
from benchmarks.scenarios import COUNTS
from mcsim.design.columns import model_columns
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.conditions import conditions
from mcsim.scenario.families import family_model
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import draw_responses, prepare_simulator

SIZE = [
    "replicates=100",
    "seed=20240319",
    "design.levels.animal.count=10",
    "design.levels.image.count=5",
    "design.observations.count=10",
    "design.covariates={ x = { grid = [0.0, 1.0] } }",
    'truth.fixed={ Intercept = 0.2, "diet[T.fed]" = 0.5, x = 0.5, "diet[T.fed]:x" = 0.3 }',
]
NESTED = "y ~ diet * x + (1 | animal/image)"
SLOPES = "y ~ diet * x + (x | animal) + (1 | animal:image)"
CASES = {  # family, what else the truth says, formula, milliseconds that are wanted
    "binary, nested intercepts": ("binomial", "", NESTED, "1 ms"),
    "Poisson, nested intercepts": ("poisson", "", NESTED, "1 ms"),
    "negative binomial, nested intercepts": ("nbinom", "dispersion = 2.0", NESTED, "2.5 ms"),
    "binary, slopes": ("binomial", "", SLOPES, "4 ms"),
    "Poisson, slopes": ("poisson", "", SLOPES, "4 ms"),
}
N_FITS = 200
R_CALLS = {
    "glmer": {"nbinom": "lme4::glmer.nb({0}, d)", "": "lme4::glmer({0}, d, family = {1})"},
    "glmmTMB": {
        "nbinom": "glmmTMB::glmmTMB({0}, d, family = glmmTMB::nbinom2)",
        "": "glmmTMB::glmmTMB({0}, d, family = {1})",
    },
}
Row = tuple[str, ...]


def counts_rows() -> list[Row]:
    """A row per case and program: milliseconds, times mcsim's, its log-likelihood less mcsim's."""
    rows: list[Row] = []
    for name, (family, more, formula, wanted) in CASES.items():
        frame, responses = data_of(family, more, formula)
        ours, loglik = own_fits(frame, responses, family, formula, "laplace", "containment")
        rows.append((f"mcsim, {name}", f"{ours:.2f}, wanted {wanted}", "1", ""))
        peers = _programs_of_r(family, formula) | count_peers.installed_peers(family, formula)
        for program, fit in peers.items():
            found = fit_or_reason(fit, frame)
            gap = found.error or f"{(found.loglik or np.nan) - loglik:+.6f}"
            rows.append((f"{program}, {name}", *_times(found, ours), gap.replace("|", "/")))
        if formula == NESTED:  # which no other of these programs can
            found_ms, _ = own_fits(frame, responses, family, formula, "laplace", "containment", 9)
            cells = f"{found_ms:.2f}, wanted 10 times Laplace", f"{found_ms / ours:.1f}", ""
            rows.append((f"mcsim, {name}, 9 points of quadrature", *cells))
    frame, responses = data_of("poisson", "", NESTED)
    ours, _ = own_fits(frame, responses, "poisson", NESTED, "gee", "robust")
    rows.append(("mcsim, estimating equations, Poisson", f"{ours:.2f}", "1", ""))
    found = fit_or_reason(_gee_of_statsmodels, frame)
    rows.append(("statsmodels, the same", *_times(found, ours), found.error or "not told"))
    return rows


def _programs_of_r(family: str, formula: str) -> dict[str, Callable[[pd.DataFrame], PeerFit]]:
    if not shutil.which("Rscript"):
        return {}
    calls = {
        name: own.get(family, own[""]).format(formula, family) for name, own in R_CALLS.items()
    }
    return {name: partial(run_r, "lme4", call) for name, call in calls.items()}


def _times(found: PeerFit, ours: float) -> tuple[str, str]:
    return f"{1e3 * found.seconds:,.0f}", f"{1e3 * found.seconds / ours:,.0f}"


def data_of(family: str, more: str, formula: str) -> tuple[pd.DataFrame, np.ndarray]:
    """One data set, and the responses of many (n, n_rows)."""
    size = [*SIZE, "truth.random.animal.sd.x=0.4"] if formula == SLOPES else SIZE
    truth = f'family = "{family}"\n{more}'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.toml"
        path.write_text(COUNTS.format(truth=truth, more="", method="", n=100))
        scenario = load_scenario(path, overrides=size)
    simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
    responses = draw_responses(simulator, range(1, N_FITS + 1)).y
    return simulator.design.frame.assign(y=responses[0]), responses


def own_fits(
    frame: pd.DataFrame,
    responses: np.ndarray,
    family: str,
    formula: str,
    estimator: str,
    df: str,
    n_points: int | None = None,
) -> tuple[float, float]:
    """Milliseconds of processor per fit, the smallest of three; the first log-likelihood."""
    model = family_model(family, quadrature=n_points)
    settings = MethodSettings(estimator, (df,), 0.95, family=model)
    method = prepare_method(model_columns(parse_formula(formula), frame), settings)
    taken, spent = [method.take(responses)], []
    found = method.analyse(taken, np.random.default_rng)
    for _ in range(3):
        started = time.process_time()
        method.analyse(taken, np.random.default_rng)
        spent.append(time.process_time() - started)
    return 1e3 * min(spent) / len(responses), float(found.fits.loglik[0])


def _gee_of_statsmodels(frame: pd.DataFrame) -> PeerFit:
    """GEE, exchangeable within animals, with the sandwich as it is."""
    correlation, family = sm.cov_struct.Exchangeable(), sm.families.Poisson()
    model = partial(
        sm.GEE.from_formula, "y ~ diet * x", "animal", frame, family=family, cov_struct=correlation
    )
    return PeerFit(None, timed(lambda: model().fit())[1])
