"""Fits that were once wrong or stopped short, by the values of R: see reference/README.md."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.design.table import read_table
from mcsim.engine import dense
from mcsim.errors import LikelihoodError
from mcsim.formula import parse_formula
from mcsim.interface import read_fits
from mcsim.methods.method import MethodSettings
from mcsim.methods.one_file import fit_file, fit_frame
from mcsim.methods.registry import prepare_method
from mcsim.scenario.load import load_scenario
from mcsim.scenario.residuals import ResidualModel
from mcsim.study.run import RunOptions, run_study

REFERENCE = Path(__file__).parent.parent / "reference"
STORED = json.loads((REFERENCE / "hard_fits.json").read_text())


FITS = [
    (data, formula, estimator, loglik)
    for data, formula, *logliks in STORED["fits"]
    for estimator, loglik in zip(("reml", "ml"), logliks, strict=True)
    if loglik is not None
]


@pytest.mark.parametrize(("data", "formula", "estimator", "loglik"), FITS)
def test_loglik_is_the_best_that_lme4_finds(data, formula, estimator, loglik):
    # diet varies between animals: its SD and its correlation cannot be told apart
    path = REFERENCE / f"{data}.csv"
    found = fit_file(path, formula, estimator=estimator, df="z", identifiable=False)
    assert found.status in ("ok", "boundary")
    assert -1e-6 <= found.loglik - loglik <= 1e-3  # above: lme4 stopped early


@pytest.mark.parametrize(("df", "rel"), [("satterthwaite", 1e-3), ("kenward-roger", 1e-5)])
def test_df_and_standard_errors_are_those_of_lmertest_and_pbkrtest(df, rel):
    stored = STORED["df"]
    fit = fit_file(REFERENCE / f"{stored['data']}.csv", stored["formula"], df=df)
    rows = {one.parameter: (one.std_error, one.df) for one in fit.parameters}
    for name, (std_error, value) in stored[df].items():
        assert rows[name][0] == pytest.approx(std_error, rel=1e-5)
        assert rows[name][1] == pytest.approx(value, rel=rel)


def prepared(residual):
    path = REFERENCE / "constant_columns_1.csv"
    formula = "y ~ diet * x + (0 + diet:x | animal)"
    columns = model_columns(parse_formula(formula), read_table(path, formula).frame)
    settings = MethodSettings("reml", ("z",), 0.95, residual=residual)
    return prepare_method(columns, settings), columns.frame["y"].to_numpy()


@pytest.mark.parametrize(
    "residual",
    [
        None,
        ResidualModel(correlation="ar1", within="animal"),
        ResidualModel(correlation="exchangeable", within="animal"),
        ResidualModel(by="diet"),
    ],
    ids=["independent", "ar1", "exchangeable", "by diet"],
)
def test_a_likelihood_that_is_not_that_of_its_definition_is_an_error(residual, monkeypatch):
    method, y = prepared(residual)
    method.check_against_dense(y)
    check = dense.check_against_dense

    def wrong(*arguments):
        fit = replace(arguments[-1], loglik=arguments[-1].loglik + 1e-2)
        check(*arguments[:-1], fit)

    monkeypatch.setattr("mcsim.methods.likelihood.check_against_dense", wrong)
    with pytest.raises(LikelihoodError, match="a fault of mcsim"):
        method.check_against_dense(y)


def test_more_rows_than_a_dense_matrix_may_have_are_not_checked(monkeypatch):
    method, y = prepared(None)
    monkeypatch.setattr(dense, "MAX_ROWS", len(y) - 1)
    monkeypatch.setattr(dense, "_covariance", lambda *_: pytest.fail("it was checked"))
    method.check_against_dense(np.asarray(y))


EFFECTS_OF_A_DIET = """
replicates = 200
seed = 5
[design]
response = "y"
factors = { diet = ["fasted", "fed"] }
[[design.levels]]
name = "animal"
count = 8
[[design.levels]]
name = "image"
count = 5
[design.observations]
count = 8
[design.covariates]
x = { grid = [0.0, 1.0] }
[truth]
sigma = 0.3
[truth.fixed]
Intercept = 1.0
[truth.random.animal]
sd = { Intercept = 0.3, x = 0.3 }
[truth.random.image]
sd = { Intercept = 0.3 }
[truth.missing]
observations = 0.05
[[methods]]
name = "dietx"
formula = "y ~ diet * x + (0 + diet + x | animal) + (1 | animal:image)"
[[methods]]
name = "bydiet"
formula = "y ~ diet * x + (0 + diet + diet:x | animal) + (1 | animal:image)"
"""


def test_effects_that_are_constant_within_animals_are_fitted_where_rows_are_lost(tmp_path):
    # every fit of these had failed; the last replicate ended where the likelihood is flat
    (tmp_path / "diet.toml").write_text(EFFECTS_OF_A_DIET)
    scenario = load_scenario(tmp_path / "diet.toml")
    options = RunOptions(tmp_path / "out", n_workers=1, replicates=[(171, 200)])
    run_study(scenario, options)
    fits = read_fits(tmp_path / "out")
    assert len(fits) == 60
    assert set(fits["status"]) <= {"ok", "boundary"}


@pytest.mark.parametrize("sigma", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-9])
def test_a_fit_whose_sds_are_far_apart_is_right_or_says_that_it_is_not(sigma):
    # balanced: the variance between units is (MS between - MS within) / 10
    rng = np.random.default_rng(8)
    effects, e = 3.0 * rng.normal(size=12), sigma * rng.normal(size=(12, 10))
    x = np.tile(np.linspace(0.0, 1.0, 10), (12, 1))
    y = effects[:, None] + 0.5 * x + e
    unit = np.repeat([f"u{i}" for i in range(12)], 10)
    frame = pd.DataFrame({"y": y.ravel(), "x": x.ravel(), "unit": unit})
    found = fit_frame(frame, "y ~ x + (1 | unit)", df="z")
    if found.status == "ok":
        between = 10 * np.var(y.mean(axis=1), ddof=1)
        within = e - e.mean(axis=1, keepdims=True)
        slope = np.sum(within * (x - 0.5)) / np.sum((x - 0.5) ** 2)
        ms = np.sum((within - slope * (x - 0.5)) ** 2) / (120 - 12 - 1)
        expected = np.sqrt((between - ms) / 10)
        assert found.table.loc["unit.sd(Intercept)", "estimate"] == pytest.approx(expected, 1e-4)
    else:
        assert sigma < 1e-3
        assert "times sigma: numbers of 16 digits hardly tell" in found.message
