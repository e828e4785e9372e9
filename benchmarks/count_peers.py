"""Programs of Python that fit counts and proportions with nested random effects, as in peers.py."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers import FIXED, PeerFit, is_installed, labels_apart, timed

TERMS = {  # by the random effects, terms whose labels are told apart
    "(1 | animal/image)": ("(1 | animal)", "(1 | image)"),
    "(x | animal) + (1 | animal:image)": ("(1 + x | animal)", "(1 | image)"),
}
Fit = Callable[[pd.DataFrame, str, str], PeerFit]  # of the data, the family and the formula


def _terms(formula: str) -> tuple[str, ...]:
    return TERMS[formula.removeprefix(f"{FIXED} + ")]


def fit_with_glmm(frame: pd.DataFrame, family: str, formula: str) -> PeerFit:
    """Without degrees of freedom."""
    import glmm

    text, own = " + ".join([FIXED, *_terms(formula)]), {"nbinom": "negativebinomial"}
    fit = partial(glmm.fit, frame, text, own.get(family, family), satterthwaite=False)
    result, seconds = timed(fit)
    return PeerFit(float(result.loglik), seconds)


def fit_with_mixedlm(frame: pd.DataFrame, family: str, formula: str) -> PeerFit:
    """Its glmer, or glmer_nb, which keeps the dispersion that it starts from."""
    import mixedlm
    from mixedlm import families

    text = " + ".join([FIXED, *_terms(formula)])
    if family == "nbinom":
        fit = partial(mixedlm.glmer_nb, text, frame)
    else:
        own = {"binomial": families.Binomial, "poisson": families.Poisson}[family]
        fit = partial(mixedlm.glmer, text, frame, family=own())
    result, seconds = timed(fit)
    return PeerFit(float(result.logLik().value), seconds)


def fit_with_lme_python(frame: pd.DataFrame, family: str, formula: str) -> PeerFit:
    """Its glmer; of Poisson counts its log-likelihood is that less a saturated model's."""
    import lme_python
    import polars as pl

    data, text = pl.from_pandas(frame), " + ".join([FIXED, *_terms(formula)])
    result, seconds = timed(lambda: lme_python.glmer(text, data, family))
    y = frame["y"].to_numpy()
    saturated = np.sum(_log_poisson(y)) if family == "poisson" else 0.0
    return PeerFit(float(result.log_likelihood + saturated), seconds)


def _log_poisson(y: Any) -> Any:
    """Log of the probability of counts that are as expected."""
    from scipy.special import gammaln, xlogy

    return xlogy(y, y) - y - gammaln(y + 1.0)


def fit_with_interlace(frame: pd.DataFrame, family: str, formula: str) -> PeerFit:
    """Its glmer."""
    import interlace

    own = {"nbinom": "negativebinomial"}.get(family, family)
    fit = partial(interlace.glmer, FIXED, frame, own, random=[*_terms(formula)])
    result, seconds = timed(fit)
    return PeerFit(float(result.llf), seconds)


def fit_with_gpboost(frame: pd.DataFrame, family: str, formula: str) -> PeerFit:
    """With exact determinants: without, its log-likelihoods are of chance, 0.1 apart."""
    import gpboost

    if "(x | animal)" in formula:
        raise ValueError("its intercepts and slopes are independent")
    is_fed, x = (frame["diet"] == "fed").to_numpy(float), frame["x"].to_numpy()
    X = np.column_stack([np.ones(len(x)), is_fed, x, is_fed * x])
    own = {"binomial": "bernoulli_logit", "nbinom": "negative_binomial"}.get(family, family)
    units, y = frame[["animal", "image"]].to_numpy(), frame["y"].to_numpy(float)

    def fit() -> Any:
        model = gpboost.GPModel(
            group_data=units, likelihood=own, matrix_inversion_method="cholesky"
        )
        return model.fit(y=y, X=X)

    result, seconds = timed(fit)
    return PeerFit(-float(result.get_current_neg_log_likelihood()), seconds)


def fit_with_statsmodels(frame: pd.DataFrame, family: str, formula: str) -> PeerFit:
    """The posterior mode of all effects and SDs together, which is another thing."""
    from statsmodels.genmod import bayes_mixed_glm as bayes

    if family == "nbinom" or "(x | animal)" in formula:
        raise ValueError("it has no such model")
    of_family = {"binomial": bayes.BinomialBayesMixedGLM, "poisson": bayes.PoissonBayesMixedGLM}
    parts = {"animal": "0 + C(animal)", "image": "0 + C(image)"}
    model = partial(of_family[family].from_formula, FIXED, parts, frame)
    result, seconds = timed(lambda: model().fit_map())
    sds = " and ".join(f"{sd:.2f}" for sd in np.exp(result.vcp_mean))
    return PeerFit(None, seconds, f"none: a posterior mode, SDs {sds}")


PEERS: dict[str, Fit] = {  # the first word is the name of the distribution
    "glmm": fit_with_glmm,
    "mixedlm": fit_with_mixedlm,
    "lme-python": fit_with_lme_python,
    "interlace-lme": fit_with_interlace,
    "gpboost": fit_with_gpboost,
    "statsmodels (posterior mode)": fit_with_statsmodels,
}


def installed_peers(family: str, formula: str) -> dict[str, Callable[[pd.DataFrame], PeerFit]]:
    """The programs that are installed, each a fit of a data frame."""
    text = dict.fromkeys(("diet", "animal", "image"), str)  # not every program knows categories
    return {
        name: lambda frame, fit=fit: fit(labels_apart(frame.astype(text)), family, formula)
        for name, fit in PEERS.items()
        if is_installed(name.split()[0])
    }
