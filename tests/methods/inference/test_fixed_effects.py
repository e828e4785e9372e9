"""Standard errors, df and intervals against nlme's stored values."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings, constant_df
from mcsim.methods.registry import prepare_method
from tests.oracles.dense import dense_deviance

REFERENCE = Path(__file__).parents[2] / "reference"
FORMULAS = {
    "general": "y ~ diet * x + (x | animal/image)",
    "diagonal": "y ~ diet * x + (x || animal/image)",
}
NAMES = ["Intercept", "diet[T.fed]", "x", "diet[T.fed]:x"]


def analyse(name, structure, estimator="reml"):
    frame = pd.read_csv(REFERENCE / f"{name}.csv")
    frame["diet"] = pd.Categorical(frame["diet"], categories=["fasted", "fed"])
    columns = model_columns(parse_formula(FORMULAS[structure]), frame)
    method = prepare_method(columns, MethodSettings(estimator, ("containment",), 0.95))
    blocks = method.analyse(
        [method.take(frame["y"].to_numpy()[None])], np.random.default_rng
    ).estimates["containment"]
    return {block.parameter.name: block for block in blocks}


def stored(name, structure, criterion="REML"):
    text = (REFERENCE / f"{name}.json").read_text()
    return json.loads(text)["models"][structure][criterion]


@pytest.mark.parametrize("structure", ["general", "diagonal"])
@pytest.mark.parametrize("name", ["seed_1", "seed_5", "small_1", "small_2", "unbalanced_1"])
def test_containment_df_equal_those_of_nlme(name, structure):
    # nlme::lme, df by the inner-outer rule
    nlme = stored(name, structure)["nlme_fit"]
    if "df" not in nlme:
        pytest.fail(f"the reference {name} lacks nlme's df")
    rows = analyse(name, structure)
    assert [rows[parameter].df[0] for parameter in NAMES] == nlme["df"]


@pytest.mark.parametrize(
    ("fixed", "df"),
    [
        ("x", {"Intercept": 719, "x": 719}),
        ("0 + x", {"x": 720}),
        ("0 + diet", {"diet[fasted]": 6, "diet[fed]": 6}),
        ("0 + diet * x", {"diet[fasted]": 6, "diet[fed]": 6, "x": 719, "diet[T.fed]:x": 719}),
        ("0 + diet:x", {"diet[fasted]:x": 719, "diet[fed]:x": 719}),
        ("0 + age", {"age": 7}),
        ("0 + age + w + x", {"age": 7, "w": 72, "x": 720}),
        ("w", {"Intercept": 720, "w": 71}),
    ],
)
def test_containment_df_without_an_intercept_equal_those_of_nlme(fixed, df):
    # lme(y ~ ..., random = ~ 1 | animal/image)$fixDF$X, nlme 3.1-162; age differs between animals,
    # w between images
    frame = pd.read_csv(REFERENCE / "small_2.csv")
    animal, image = (pd.factorize(frame[one])[0] for one in ("animal", "image"))
    frame["age"], frame["w"] = (animal + 1) ** 1.3, (100.0 * animal + image + 1) ** 1.1
    columns = model_columns(parse_formula(f"y ~ {fixed} + (1 | animal/image)"), frame)
    found = constant_df(columns, "containment")
    assert dict(zip(columns.names, found, strict=True)) == df


@pytest.mark.parametrize("structure", ["general", "diagonal"])
@pytest.mark.parametrize("name", ["seed_1", "small_2"])
def test_intervals_of_fixed_effects_equal_those_of_nlme(name, structure):
    # nlme::intervals(lme(...)), which = "fixed". Its intervals of the SDs rest on a numeric Hessian
    # that is off by up to 20%; see the next test for those
    fixed = stored(name, structure)["nlme_fit"]["intervals"]["fixed"]
    rows = analyse(name, structure)
    assert [rows[p].ci_lower[0] for p in NAMES] == pytest.approx(fixed["lower"], rel=1e-4)
    assert [rows[p].ci_upper[0] for p in NAMES] == pytest.approx(fixed["upper"], rel=1e-4)


def dense_restricted_deviance(frame, structure, eta):
    """-2 REML logLik at log SDs, Fisher z's (general) and log sigma; levels animal, image."""
    x, fed = frame["x"].to_numpy(), (frame["diet"] == "fed").to_numpy(dtype=float)
    X = np.column_stack([np.ones(len(x)), fed, x, fed * x])
    Z = np.column_stack([np.ones(len(x)), x])
    units = [pd.factorize(frame["animal"])[0], pd.factorize(frame["animal"] + frame["image"])[0]]
    sigma = np.exp(eta[-1])
    size = 3 if structure == "general" else 2
    factors = []
    for level in range(2):
        part = eta[size * level : size * (level + 1)]
        r = np.tanh(part[2]) if structure == "general" else 0.0
        correlation = np.array([[1.0, 0.0], [r, np.sqrt(1 - r * r)]])
        factors.append(np.exp(part[:2])[:, None] * correlation / sigma)
    profiled, _, sigma2 = dense_deviance(
        X, [(unit, Z) for unit in units], frame["y"].to_numpy(), factors, is_reml=True
    )
    nu = len(x) - 4
    return profiled + nu * (np.log(sigma**2 / sigma2) + sigma2 / sigma**2 - 1)


@pytest.mark.parametrize("structure", ["general", "diagonal"])
def test_intervals_of_components_equal_the_dense_information(structure):
    # central second differences of the dense deviance: 1% of the standard error
    frame = pd.read_csv(REFERENCE / "small_2.csv")
    rows = analyse("small_2", structure)
    names = ["sd(Intercept)", "sd(x)"] + ["cor(Intercept,x)"] * (structure == "general")
    parameters = [f"{level}.{name}" for level in ("animal", "image") for name in names]
    parameters.append("sigma")
    scales = [np.arctanh if ".cor" in p else np.log for p in parameters]
    eta = np.array([float(f(rows[p].estimate[0])) for f, p in zip(scales, parameters, strict=True)])
    steps = 1e-3 * np.eye(len(eta))
    hessian = np.zeros((len(eta), len(eta)))
    for i in range(len(eta)):
        for j in range(i + 1):
            values = [
                dense_restricted_deviance(frame, structure, eta + a * steps[i] + b * steps[j])
                for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))
            ]
            hessian[i, j] = hessian[j, i] = (values[0] - values[1] - values[2] + values[3]) / 4e-6
    std_errors = np.sqrt(np.diag(2.0 * np.linalg.inv(hessian)))
    for position, parameter in enumerate(parameters):
        row, f = rows[parameter], scales[position]
        half_width = 0.5 * (f(row.ci_upper[0]) - f(row.ci_lower[0]))
        assert half_width == pytest.approx(1.959964 * std_errors[position], rel=0.01)


def test_components_on_the_boundary_have_no_interval_and_the_others_have():
    rows = analyse("small_1", "diagonal")
    assert rows["animal.sd(Intercept)"].estimate[0] == 0.0
    assert np.isnan(rows["animal.sd(Intercept)"].ci_lower[0])
    assert rows["image.sd(x)"].ci_lower[0] > 0.0


def test_statsmodels_and_the_engine_agree():
    # statsmodels 0.14+ MixedLM, REML; its optimizer stops earlier: 5e-3
    ours, theirs = analyse("small_2", "diagonal"), analyse("small_2", "diagonal", "statsmodels")
    for parameter in [*NAMES, "animal.sd(x)", "image.sd(Intercept)", "image.sd(x)", "sigma"]:
        assert theirs[parameter].estimate[0] == pytest.approx(ours[parameter].estimate[0], rel=5e-3)


@pytest.mark.parametrize("interval", ["wald", "profile", "bootstrap"])
def test_model_without_random_effects_is_least_squares_in_every_df_method(interval):
    frame = pd.read_csv(REFERENCE / "small_2.csv")
    frame["diet"] = pd.Categorical(frame["diet"], categories=["fasted", "fed"])
    columns = model_columns(parse_formula("y ~ diet * x"), frame)
    names = ("containment", "satterthwaite", "kenward-roger")
    method = prepare_method(columns, MethodSettings("reml", names, 0.95, interval=interval))
    taken = [method.take(frame["y"].to_numpy()[None])]
    estimates = method.analyse(taken, np.random.default_rng).estimates
    # nlme::gls(y ~ diet * x), summary()$tTable and intervals()
    std_error = [0.01144745052, 0.01618913978, 0.01929873552, 0.02729253351]
    for name in names:
        rows = {one.parameter.name: one for one in estimates[name]}
        assert [rows[p].df[0] for p in NAMES] == pytest.approx([796.0] * 4, rel=1e-6)
        assert [rows[p].std_error[0] for p in NAMES] == pytest.approx(std_error, rel=1e-8)
        assert rows["diet[T.fed]"].p_value[0] == pytest.approx(5.246057328e-10, rel=1e-6)
        sigma = rows["sigma"]
        assert sigma.estimate[0] == pytest.approx(0.1231808879, rel=1e-6)
        if interval == "profile":  # -2 logLik = nu (log s^2 + sigma^2 / s^2) + constant
            for limit in (sigma.ci_lower[0], sigma.ci_upper[0]):
                ratio = (sigma.estimate[0] / limit) ** 2
                assert 796.0 * (ratio - 1.0 - np.log(ratio)) == pytest.approx(3.841459, abs=1e-4)
        else:  # 200 resamples know a limit to 0.19 standard errors: beyond 0.6 in 1 of 300
            wald = sigma.estimate[0] * np.exp([-1.959964 / 1592**0.5, 1.959964 / 1592**0.5])
            found = [sigma.ci_lower[0], sigma.ci_upper[0]]
            width = 0.6 if interval == "bootstrap" else 1e-5
            assert found == pytest.approx(wald, abs=width * sigma.std_error[0])
