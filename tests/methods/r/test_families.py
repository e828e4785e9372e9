"""Counts and proportions by lme4's glmer and by glmmTMB: the numbers that R gives."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.r.call import r_call
from mcsim.methods.registry import prepare_method
from mcsim.scenario.families import FamilyModel

REFERENCE = Path(__file__).parents[2] / "reference" / "families"
CBPP = FamilyModel("binomial", "logit", "size")
NBINOM = FamilyModel("nbinom", "log")


def columns_of(name, formula, response):
    frame = pd.read_csv(REFERENCE / f"{name}.csv").astype({response: float})
    frame = frame.assign(**{one: frame[one].astype("category") for one in frame.select_dtypes(str)})
    return model_columns(parse_formula(formula), frame), frame[response].to_numpy()


def estimates(estimator, family, name, formula, response):
    columns, y = columns_of(name, formula, response)
    df = ("containment",) if estimator == "laplace" else ("z",)
    method = prepare_method(columns, MethodSettings(estimator, df, 0.95, family=family))
    found = method.analyse([method.take(y[None])], np.random.default_rng)
    return found.fits.loglik[0], {
        one.parameter.name: (one.estimate[0], one.std_error[0]) for one in found.estimates[df[0]]
    }


@pytest.mark.parametrize(
    ("estimator", "family", "call"),
    [
        ("glmer", CBPP, 'glmer(cbind(y, size - y) ~ x + (1 | herd), data = data, family ='
         ' binomial(link = "logit"))'),
        ("glmer", FamilyModel("binomial", "probit", 10.0, 9), "glmer(cbind(y, 10 - y) ~ x +"
         ' (1 | herd), data = data, family = binomial(link = "probit"), nAGQ = 9)'),
        ("glmer", NBINOM, "glmer.nb(y ~ x + (1 | herd), data = data)"),
        ("glmmTMB", NBINOM, 'glmmTMB(y ~ x + (1 | herd), data = data, family = nbinom2(link ='
         ' "log"))'),
    ],
)  # fmt: skip
def test_the_call_is_the_one_that_a_user_of_r_writes(estimator, family, call):
    frame = pd.DataFrame({"y": [1.0, 2, 3, 4], "x": [0.0, 1, 0, 2], "herd": list("aabb")})
    assert r_call(model_columns(parse_formula("y ~ x + (1 | herd)"), frame), estimator, family) == (
        call
    )


@pytest.mark.r
@pytest.mark.parametrize("estimator", ["glmer", "glmmTMB"])
def test_r_and_the_own_engine_agree(estimator):
    given = (CBPP, "cbpp", "incidence ~ period + (1 | herd)", "incidence")
    loglik, own = estimates("laplace", *given)
    other_loglik, other = estimates(estimator, *given)
    nearer = 1.0 if estimator == "glmmTMB" else 100.0  # glmer stops short of its optimum
    assert other_loglik == pytest.approx(loglik, abs=1e-5 * nearer)
    assert other_loglik < loglik + 1e-6
    for name, (estimate, std_error) in other.items():
        assert estimate == pytest.approx(own[name][0], abs=2e-4 * nearer)
        if not np.isnan(std_error):
            assert std_error == pytest.approx(own[name][1], rel=2e-4 * nearer)


@pytest.mark.r
def test_glmmtmb_gives_a_dispersion():
    given = (NBINOM, "nbinom_1", "y ~ diet * x + (1 | animal/image)", "y")
    _, own = estimates("laplace", *given)
    _, other = estimates("glmmTMB", *given)
    assert other["dispersion"][0] == pytest.approx(own["dispersion"][0], rel=1e-4)
    assert other["animal.sd(Intercept)"][0] == pytest.approx(0.5029980, abs=1e-5)
