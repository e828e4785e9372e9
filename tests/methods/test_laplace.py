"""Fits of counts and proportions against glmer and glmmTMB."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import mcsim
from mcsim.design.columns import model_columns
from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.families import FamilyModel

REFERENCE = Path(__file__).parent.parent / "reference" / "families"
FITS = json.loads((REFERENCE / "fits.json").read_text())
MODELS = {  # data: formula, family, trials
    "binomial_1": ("y ~ diet * x + (1 | animal/image)", "binomial", None),
    "binary_small_1": ("y ~ diet * x + (1 | animal)", "binomial", None),
    "poisson_1": ("y ~ diet * x + (x | animal) + (1 | animal:image)", "poisson", None),
    "nbinom_1": ("y ~ diet * x + (1 | animal/image)", "nbinom", None),
    "cbpp": ("incidence ~ factor(period) + (1 | herd)", "binomial", "size"),
}


def fit(name, **options):
    formula, family, trials = MODELS[name]
    return mcsim.fit(REFERENCE / f"{name}.csv", formula, family=family, trials=trials, **options)


@pytest.mark.parametrize("name", MODELS)
def test_fit_reaches_the_better_of_glmer_and_glmmtmb(name):
    found, expected = fit(name), FITS[name]["glmmTMB"]
    assert found.status == "ok"
    assert found.loglik > expected["loglik"] - 1e-6
    if name != "nbinom_1":  # where glmer's approximation is another one
        assert found.loglik > FITS[name]["glmer"]["loglik"] - 1e-6
    p = len(expected["coef"])
    fixed = found.table[:p]
    np.testing.assert_allclose(fixed["estimate"], expected["estimate"], atol=1e-4)
    np.testing.assert_allclose(fixed["std_error"], expected["std_error"], rtol=1e-3)
    for level, sds in expected["sd"].items():
        own = found.table[found.table["component"] == level]["estimate"]
        np.testing.assert_allclose(own[: len(np.atleast_1d(sds))], sds, atol=1e-4)
    if name == "nbinom_1":
        assert found.table["estimate"]["dispersion"] == pytest.approx(1.6976938918, rel=1e-4)


CROSSED = {  # glmmTMB(formula, data, family): log-likelihood, effects, SEs, SDs (items first)
    "binomial": (  # family = binomial; the SD of items is 0, by glmer too
        "(1 | subject) + (1 | item)", -186.799726831, [0.4483460, 0.5925504],
        [0.2210382, 0.2569945], [0.0, 0.5660875],
    ),
    "poisson": (  # family = poisson
        "(condition | subject) + (1 | item)", -580.421259863, [0.5183653, 0.4625649],
        [0.2487167, 0.1626101], [0.5708099, 0.6641174, 0.5804824],
    ),
    "nbinom": (  # family = nbinom2; its sigma comes last
        "(1 | subject) + (1 | item)", -636.158312271, [0.6085649, 0.3929530],
        [0.2420739, 0.1110224], [0.4973643, 0.6897080, 2.4169424],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", CROSSED)
def test_fit_of_subjects_and_items_is_that_of_glmmtmb(family):
    random, loglik, effects, std_errors, others = CROSSED[family]
    formula = f"{family} ~ condition + {random}"
    found = mcsim.fit(REFERENCE / "crossed.csv", formula, family=family)
    assert found.status == ("boundary" if 0.0 in others else "ok")
    assert found.df == "z"
    assert found.loglik == pytest.approx(loglik, abs=1e-6)
    table = found.table
    np.testing.assert_allclose(table["estimate"][:2], effects, atol=1e-4)
    np.testing.assert_allclose(table["std_error"][:2], std_errors, rtol=1e-3)
    is_wanted = table.index.str.contains("sd") | (table.index == "dispersion")
    np.testing.assert_allclose(table["estimate"][is_wanted], others, atol=1e-4)


@pytest.mark.parametrize("points", [9, 25])
@pytest.mark.parametrize("name", ["cbpp", "binary_small_1"])
def test_quadrature_is_that_of_glmer(name, points):
    # glmer(..., nAGQ = 9): estimates to its tolerance; its log-likelihood lacks a constant
    found, expected = fit(name, quadrature=points), FITS[name][f"agq{points}"]
    p = len(expected["estimate"])
    np.testing.assert_allclose(found.table["estimate"][:p], expected["estimate"], atol=1e-4)
    sds = found.table["estimate"][found.table.index.str.endswith(".sd(Intercept)")]
    assert sds.iloc[0] == pytest.approx(expected["theta"], abs=1e-4)
    assert found.quadrature == points


def test_quadrature_of_slopes_is_refused():
    with pytest.raises(DataError, match="quadrature is for random intercepts"):
        fit("poisson_1", quadrature=9)


def test_fixed_effects_have_between_within_or_normal_tests():
    # t with animals less diets, and observations; z
    within = fit("binomial_1").table["df"]
    assert within["diet[T.fed]"] == 18.0
    assert within["x"] == 898.0
    normal = fit("binomial_1", df="z").table.loc["x"]
    z = normal["estimate"] / normal["std_error"]
    assert pd.isna(normal["df"])
    assert normal["p_value"] == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_models_without_fixed_or_random_effects_are_fitted():
    # glm(y ~ x, poisson) as statsmodels has it; glmer(y ~ 0 + (1 | animal)) has no fixed effect
    frame = pd.read_csv(REFERENCE / "poisson_1.csv")
    other = sm.GLM(frame["y"], sm.add_constant(frame["x"]), sm.families.Poisson()).fit()
    found = mcsim.fit(frame, "y ~ x", family="poisson")
    assert found.loglik == pytest.approx(other.llf, abs=1e-8)
    assert mcsim.fit(frame, "y ~ 0 + (1 | animal)", family="poisson").status == "ok"


def test_effects_of_single_rows_say_more_of_counts_than_poisson_does():
    frame = pd.read_csv(REFERENCE / "nbinom_1.csv").assign(row=lambda one: np.arange(len(one)))
    plain = mcsim.fit(frame, "y ~ x + (1 | animal/image)", family="poisson")
    rows = mcsim.fit(frame, "y ~ x + (1 | animal/image/row)", family="poisson")
    assert rows.status == "ok"
    assert rows.loglik > plain.loglik + 20.0


def test_observations_of_their_own_are_the_rows_that_tests_have_df_of():
    # as of y ~ diet * x + (1 | animal/image) by lme, whose innermost stratum is that of the rows
    frame = pd.read_csv(REFERENCE / "nbinom_1.csv").assign(row=lambda one: np.arange(len(one)))
    formula = "y ~ diet * x + (1 | animal/image)"
    rows = mcsim.fit(frame, formula.replace("image", "image/row"), family="poisson")
    plain = mcsim.fit(frame, formula, family="poisson")
    pd.testing.assert_series_equal(rows.table["df"][:4], plain.table["df"][:4])
    assert rows.table["ci_lower"][:4].notna().all()


REMARKS = [
    ("log odds; exp() of an effect is an odds ratio", {"family": "binomial"}),
    ("log hazard; exp() of an effect is a hazard ratio", {"family": "binomial", "link": "cloglog"}),
    ("link, probits.\n", {"family": "binomial", "link": "probit"}),
    ("log rate; exp() of an effect is a rate ratio", {"family": "poisson"}),
    ("QUADRATURE with 7 points per random effect, poisson", {"family": "poisson", "quadrature": 7}),
    ("by the normal distribution, without df", {"family": "poisson", "df": "z"}),
    ("animal.sd(Intercept): an estimate at the edge of what can be", {"family": "poisson"}),
    ("dispersion: the counts vary no more than Poisson's", {"family": "nbinom"}),
]


@pytest.mark.parametrize(("words", "options"), REMARKS)
def test_a_fit_says_what_its_numbers_are_and_why_some_are_not_there(words, options):
    columns = {"y": [1, 0, 1, 0, 1, 1, 0, 1], "diet": list("aaaabbbb"), "animal": list("ccddeeff")}
    frame = pd.DataFrame(columns)
    assert words in str(mcsim.fit(frame, "y ~ diet + (1 | animal)", **options)) + "\n"


@pytest.mark.parametrize("name", ["binomial_1", "nbinom_1"])
def test_bootstrap_intervals_are_of_data_sets_like_the_fit(name):
    # where the SD is 5 of its standard errors from 0, both kinds of them agree
    wald, found = (fit(name, interval=one).table for one in ("wald", "bootstrap"))
    parameters = ["animal.sd(Intercept)"] + ["dispersion"] * (name == "nbinom_1")
    for one in parameters:
        ratio = found.loc[one, "std_error"] / wald.loc[one, "std_error"]
        assert 0.75 < ratio < 1.35  # 200 resamples: its own error is 0.05
        assert found.loc[one, "ci_lower"] < found.loc[one, "estimate"] < found.loc[one, "ci_upper"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quadrature": 9}, "quadrature is for random intercepts"),
        ({"estimator": "gee"}, "estimators for these are laplace, glmer, glmmTMB, glm"),
        ({"df": "containment"}, "write df = 'z'"),
    ],
)
def test_what_only_nested_units_have_is_refused_of_others(options, message):
    frame = pd.read_csv(REFERENCE / "crossed.csv")
    with pytest.raises(DataError, match=message):
        mcsim.fit(
            frame, "poisson ~ condition + (1 | subject) + (1 | item)", family="poisson", **options
        )


def test_swapping_successes_and_failures_changes_signs():
    frame = pd.read_csv(REFERENCE / "cbpp.csv", dtype={"herd": str, "period": str})
    formula = "y ~ period + (1 | herd)"
    one, other = (
        mcsim.fit(frame.assign(y=y), formula, family="binomial", trials="size").table["estimate"]
        for y in (frame["incidence"], frame["size"] - frame["incidence"])
    )
    np.testing.assert_allclose(one[:2], -other[:2], atol=1e-7)
    assert one["herd.sd(Intercept)"] == pytest.approx(other["herd.sd(Intercept)"], rel=1e-7)


def test_exposure_is_an_offset():
    # a Poisson count of twice the area at half the rate
    frame = pd.read_csv(REFERENCE / "poisson_1.csv").assign(area=2.0)
    formula = "y ~ x + offset(log(area)) + (1 | animal)"
    plain = mcsim.fit(frame, "y ~ x + (1 | animal)", family="poisson").table["estimate"]
    found = mcsim.fit(frame, formula, family="poisson").table["estimate"]
    assert found["Intercept"] == pytest.approx(plain["Intercept"] - np.log(2.0), abs=1e-7)
    assert found["x"] == pytest.approx(plain["x"], abs=1e-7)


BAD = [
    ("no more successes than trials; these are 'n'", "1 3 0 1", "binomial", {"trials": "n"}),
    ("row 2: 'y' is -3", "1 -3 0 1", "poisson", {}),
    ("whole numbers from 0 up", "1 1.5 0 1", "nbinom", {}),
    ("row 2: 'y' is 0.5; the response is the number of successes", "1 .5 0 1", "binomial", {}),
    ("'nbinom' has no link 'logit'. It has: log", "1 0 0 1", "nbinom", {"link": "logit"}),
    ("there is no family 'binomal'", "1 0 0 1", "binomal", {}),
    ("trials go with family 'binomial'", "1 0 0 1", "poisson", {"trials": "n"}),
    ("'reml' is not for family 'poisson'", "1 0 0 1", "poisson", {"estimator": "reml"}),
    ("leave it out, for 'laplace'", "1 0 0 1", "poisson", {"estimator": "ml"}),
    ("or name the family of the counts", "1 0 0 1", "gaussian", {"estimator": "laplace"}),
    ("does not give df 'kenward-roger'", "1 0 0 1", "poisson", {"df": "kenward-roger"}),
    ("'laplace' is not for family 'gaussian'", "1 0 0 1", "gaussian", {"estimator": "laplace"}),
    ("quadrature is for counts", "1 0 0 1", "gaussian", {"quadrature": 9}),
]


@pytest.mark.parametrize(("message", "y", "family", "options"), BAD)
def test_what_is_no_count_is_refused_where_it_stands(message, y, family, options):
    frame = pd.DataFrame({"y": list(map(float, y.split())), "n": 2, "animal": list("aabb")})
    with pytest.raises(DataError) as error:
        mcsim.fit(frame, "y ~ 1 + (1 | animal)", family=family, **options)
    assert message in str(error.value)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_independent_rows_are_those_of_statsmodels(link):
    frame = pd.read_csv(REFERENCE / "cbpp.csv").assign(herd="h", period=lambda one: one["period"])
    links = {"logit": "Logit", "probit": "Probit", "cloglog": "CLogLog"}
    family = sm.families.Binomial(getattr(sm.families.links, links[link])())
    y = np.column_stack([frame["incidence"], frame["size"] - frame["incidence"]])
    other = sm.GLM(y, sm.add_constant(frame["period"]), family=family).fit(tol=1e-12)
    found = glm("incidence ~ period", frame, FamilyModel("binomial", link, "size"), "incidence")
    assert found.fits.loglik[0] == pytest.approx(other.llf, abs=1e-8)
    estimates = [one.estimate[0] for one in found.estimates["z"]]
    np.testing.assert_allclose(estimates, other.params, rtol=1e-7)
    if link == "logit":  # else statsmodels has the expected information
        errors = [one.std_error[0] for one in found.estimates["z"]]
        np.testing.assert_allclose(errors, other.bse, rtol=1e-7)


def test_independent_counts_have_an_exposure():
    frame = pd.read_csv(REFERENCE / "poisson_1.csv").assign(area=lambda one: 1.0 + one["x"])
    other = sm.GLM(
        frame["y"], sm.add_constant(frame["x"]), sm.families.Poisson(), exposure=frame["area"]
    ).fit(tol=1e-12)
    found = glm("y ~ x + offset(log(area))", frame, FamilyModel("poisson", "log"), "y")
    estimates = [one.estimate[0] for one in found.estimates["z"]]
    np.testing.assert_allclose(estimates, other.params, rtol=1e-7)


def test_separated_rows_are_a_named_failure():
    frame = pd.DataFrame({"y": [0.0, 0, 0, 1, 1, 1], "x": [0.0, 1, 2, 3, 4, 5]})
    fits = glm("y ~ x", frame, FamilyModel("binomial", "logit"), "y").fits
    assert fits.status[0] == Status.FAILED
    assert fits.message[0].startswith("separated: no finite estimate of 'Intercept', 'x'")


def glm(formula, frame, family, response):
    columns = model_columns(parse_formula(formula), frame.astype({response: float}))
    method = prepare_method(columns, MethodSettings("glm", ("z",), 0.95, family=family))
    y = frame[response].to_numpy(dtype=float)
    return method.analyse([method.take(y[None])], np.random.default_rng)
