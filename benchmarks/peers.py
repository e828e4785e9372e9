"""Other programs that fit the general model of the seed scenario, to compare with.

A time is that of a whole call on one data frame, model matrices included: as a multiple of
mcsim's time per fit of a block of data sets it says what a study gains, not what one fit gains.
Log-likelihoods are as told: all these programs keep the constants, as R's logLik does.
"""

import math
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

FIXED, NESTED = "y ~ diet * x", "y ~ diet * x + (x | animal/image)"
APART = ["(1 + x | animal)", "(1 + x | image)"]  # the same, with labels that differ by animal
N_FITS = 3  # the smallest time counts, as for mcsim; the first fit warms up
SLOW_S = 5.0  # a fit longer than this is not repeated
R_CALLS = {"lme4": f"lmer({NESTED}, d)", "nlme": f"lme({FIXED}, d, random = ~ x | animal/image)"}
R_SCRIPT = """
library({package})
d <- read.csv(commandArgs(trailingOnly = TRUE)[1], stringsAsFactors = TRUE)
for (i in 1:2) seconds <- system.time(m <- {call})[["elapsed"]]
cat(sprintf("%.15g", c(as.numeric(logLik(m)), seconds)))
"""


@dataclass(frozen=True)
class PeerFit:
    """REML log-likelihood, None where it is not told; seconds, NaN and a reason after an error."""

    loglik: float | None
    seconds: float
    error: str = ""


Fit = Callable[[pd.DataFrame], PeerFit]


def fit_with_statsmodels(frame: pd.DataFrame) -> PeerFit:
    """MixedLM; it cannot correlate the effects of images, so it fits a smaller model."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    images = {"image": "0 + C(image)", "image_x": "0 + C(image):x"}
    design = {"groups": "animal", "re_formula": "~x", "vc_formula": images}
    result, seconds = timed(lambda: MixedLM.from_formula(FIXED, frame, **design).fit(reml=True))
    return PeerFit(float(result.llf), seconds)


def fit_with_glmm(frame: pd.DataFrame) -> PeerFit:
    """Without the degrees of freedom; its formulas nest intercepts only, so the terms are apart."""
    import glmm

    data, formula = labels_apart(frame), " + ".join([FIXED, *APART])
    result, seconds = timed(lambda: glmm.fit(data, formula, satterthwaite=False))
    return PeerFit(float(result.loglik), seconds)


def fit_with_mixedlm(frame: pd.DataFrame) -> PeerFit:
    """Its lmer."""
    import mixedlm

    result, seconds = timed(lambda: mixedlm.lmer(NESTED, frame))
    return PeerFit(float(result.logLik().value), seconds)


def fit_with_lme_python(frame: pd.DataFrame) -> PeerFit:
    """Its lmer, on a frame of polars, which it uses inside."""
    import lme_python
    import polars as pl

    data = pl.from_pandas(frame)
    result, seconds = timed(lambda: lme_python.lmer(NESTED, data, reml=True))
    return PeerFit(float(result.log_likelihood), seconds)


def fit_with_interlace(frame: pd.DataFrame) -> PeerFit:
    """Its fit, which warns that it is several times faster where scikit-sparse is installed."""
    import interlace

    data = labels_apart(frame)
    result, seconds = timed(lambda: interlace.fit(FIXED, data, random=APART))
    return PeerFit(float(result.llf), seconds)


def simulate_with_mcpower(frame: pd.DataFrame) -> PeerFit:
    """Processor time, as it uses all processors, per data set that it simulates and fits.

    The truth of the seed scenario in units of sigma and of the SD of x, which is uniform; only
    the ICC of animals is 0.05, the smallest that it takes, instead of 0.043.
    """
    from mcpower import MCPower

    n_points = frame.groupby(["animal", "image"]).size()
    n_images = n_points.groupby("animal").size()
    if n_points.nunique() > 1 or n_images.nunique() > 1:
        raise ValueError("mcpower simulates balanced designs only")
    model = MCPower("y = diet * x + (1 | animal/image)", family="lme")
    model.set_variable_type("diet=binary, x=uniform")
    model.set_effects("diet=2.35, x=-1.70, diet:x=0.68")
    slope: dict[str, Any] = {"random_slopes": ["x"], "slope_intercept_corr": 0.555}
    animals = slope | {"n_clusters": len(n_images), "cluster_level_vars": ["diet"]}
    images = slope | {"n_per_parent": int(n_images.iloc[0])}
    model.set_cluster("animal", ICC=0.05, slope_variance=0.0046, **animals)
    model.set_cluster("animal:image", ICC=0.42, slope_variance=0.074, **images)
    run = partial(model.find_power, len(frame), n_sims=50, progress_callback=False, verbose=False)
    return PeerFit(None, timed(run, clock=time.process_time)[1] / 50)


def fit_with_r(package: str, frame: pd.DataFrame) -> PeerFit:
    """The fit of an R package."""
    return run_r(package, R_CALLS[package], frame)


def run_r(package: str, call: str, frame: pd.DataFrame) -> PeerFit:
    """A call of R, the second of two in one R process."""
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder) / "fit.R", Path(folder) / "data.csv"
        script.write_text(R_SCRIPT.format(package=package, call=call))
        frame.to_csv(data, index=False)
        done = rscript(str(script), str(data))
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split()))
    loglik, seconds = map(float, done.stdout.split())
    return PeerFit(loglik, seconds)


PEERS: dict[str, Fit] = {  # the first word is the name of the distribution
    "statsmodels (images uncorrelated)": fit_with_statsmodels,
    "glmm": fit_with_glmm,
    "mixedlm": fit_with_mixedlm,
    "lme-python": fit_with_lme_python,
    "interlace-lme": fit_with_interlace,
    "mcpower (simulation and fit)": simulate_with_mcpower,
} | {package: partial(fit_with_r, package) for package in R_CALLS}
CANNOT: dict[str, str] = {
    "statsmodels 0.15.0": "its variance components are independent, so the intercept and slope of "
    "an image cannot be correlated; timed above is the model without that correlation. Units that "
    "cross it takes only as such components of one group that is the whole table, with matrices of "
    "its rows by its rows; it is not timed there.",
    "mcpower 1.4.1": "it fits nested slopes only to balanced data sets of its own simulation, and "
    "tells power but no likelihood; timed above are simulation and fit.",
    "mixedlm 1.3.0, interlace-lme 0.3.2": "of negative binomial counts they leave the dispersion "
    "at the 1 that they start from.",
    "lme-python 0.2.7, interlace-lme 0.3.2": "coefficients of counts are those of penalised least "
    "squares, as glmer's with nAGQ = 0, below the optimum of the likelihood.",
    "gpboost 1.8.0": "effects of a unit are independent, so it fits intercepts only; by itself it "
    "estimates determinants by chance, log-likelihoods 0.04 to 0.14 off; timed is Cholesky.",
    "statsmodels 0.15.0, counts": "BinomialBayesMixedGLM and PoissonBayesMixedGLM have the mode of "
    "effects and SDs together, at which SDs fall to zero; that is not maximum likelihood.",
    "glmer, negative binomial": "its Laplace approximation has the expected information where"
    " glmmTMB's and mcsim's have the observed one, so its log-likelihood is another function.",
    "plans in R": "times are estimates, since whole answers take hours. The loop is 5 fits times"
    " 800; mlpwr and SimSolve search with a test that costs nothing, and 20 of the designs that"
    " they tried are then fitted; powerCurve has one data set per size, times 1,000.",
}
DISTRIBUTIONS = ("glmm", "mixedlm", "lme-python", "interlace-lme", "mcpower")


def installed_peers() -> dict[str, Fit]:
    """The programs that are installed; an error of theirs becomes a PeerFit with the reason."""
    return {
        name: partial(fit_or_reason, fit)
        for name, fit in PEERS.items()
        if is_installed(name.split()[0])
    }


def is_installed(name: str) -> bool:
    """Whether a program is here, by the name of its distribution or its package in R."""
    if name in R_CALLS:
        return bool(shutil.which("Rscript")) and not rscript("-e", f"library({name})").returncode
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def fit_or_reason(fit: Fit, frame: pd.DataFrame) -> PeerFit:
    """A fit, or why there is none."""
    try:
        return fit(frame)
    except Exception as error:  # whatever another program raises: the benchmark goes on
        return PeerFit(None, math.nan, f"{type(error).__name__}: {error}")


def timed(
    fit: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[Any, float]:
    """What a fit returns, and the smallest of its times."""
    seconds: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on boundaries and optional packages
        while len(seconds) < N_FITS and max(seconds, default=0.0) < SLOW_S:
            started = clock()
            result = fit()
            seconds.append(clock() - started)
    return result, min(seconds)


def labels_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """The data with images whose labels differ by animal."""
    return frame.assign(image=frame["animal"] + "/" + frame["image"])


def rscript(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run R; a FileNotFoundError where it is not there."""
    command = [shutil.which("Rscript") or "Rscript", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
