"""Profile intervals of what methods report."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments
from mcsim.engine.profile.components import Correlation, Deviation, Share
from mcsim.engine.profile.deviance import Surface
from mcsim.engine.profile.intervals import profile_intervals
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.estimand import EstimandSpec
from tests.conftest import run_mcsim

REFERENCE = Path(__file__).parents[2] / "reference"
GENERAL, DIAGONAL = "y ~ diet * x + (x | animal/image)", "y ~ diet * x + (x || animal/image)"


def analyse(name, formula, estimator="reml", estimands=()):
    frame = pd.read_csv(REFERENCE / f"{name}.csv")
    frame["diet"] = pd.Categorical(frame["diet"], categories=["fasted", "fed"])
    wanted = tuple(EstimandSpec(name=one) for one in estimands)
    settings = MethodSettings(estimator, ("z",), 0.95, wanted, interval="profile")
    method = prepare_method(model_columns(parse_formula(formula), frame), settings)
    moments = method.take(frame["y"].to_numpy()[None])
    rows = method.analyse([moments], np.random.default_rng).estimates["z"]
    return method.design, moments, {one.parameter.name: one for one in rows}


def interval(row):
    return row.ci_lower[0], row.ci_upper[0]


@pytest.mark.parametrize("name", ["small_1", "small_2"])
def test_intervals_equal_those_of_lme4(name):
    # lme4::confint(profile(...)), ML; 1e-4 by its splines, 1e-2 where it warns of a bad one
    stored = json.loads((REFERENCE / f"{name}.profile.json").read_text())["models"]["diagonal"]
    rows = analyse(name, DIAGONAL, "ml")[2]
    labels = {"animal": "animal", "image": "animal:image"}
    for level, group in labels.items():
        for column, effect in (("Intercept", "(Intercept)"), ("x", "x")):
            label = f"sd_{effect}|{group}"
            at = stored["names"].index(label)
            expected = stored["lower"][at], stored["upper"][at]
            is_rough = any(f"bad spline fit for {label}:" in text for text in stored["warnings"])
            sd, variance = (rows[f"{level}.{kind}({column})"] for kind in ("sd", "var"))
            assert interval(sd) == pytest.approx(expected, rel=1e-2 if is_rough else 1e-4)
            assert interval(variance) == pytest.approx([limit**2 for limit in interval(sd)])


def test_every_parameter_has_the_interval_of_its_own_profile():
    estimands = ["total.sd(x)", "total.var(x)", "image.icc"]
    design, moments, rows = analyse("small_2", GENERAL, estimands=estimands)
    targets = {
        "animal.sd(Intercept)": Deviation(((0, 0),)),
        "image.sd(x)": Deviation(((1, 1),)),
        "animal.cor(Intercept,x)": Correlation(0, 0, 1),
        "image.cor(Intercept,x)": Correlation(1, 0, 1),
        "sigma": Deviation(),
        "total.sd(x)": Deviation(((0, 1), (1, 1))),
        "image.icc": Share(((1, 0), (0, 0))),
    }
    fit = fit_moments(design, moments)
    surface = partial(Surface, design, moments)
    limits = profile_intervals(surface, fit, list(targets.values()), confidence=0.95)
    for position, name in enumerate(targets):
        expected = limits.lower[0, position], limits.upper[0, position]
        assert interval(rows[name]) == pytest.approx(expected, rel=1e-6), name
        assert expected[0] < rows[name].estimate[0] < expected[1]
    squares = [limit**2 for limit in interval(rows["total.sd(x)"])]
    assert interval(rows["total.var(x)"]) == pytest.approx(squares)
    assert np.isfinite([interval(row) for row in rows.values()]).all()


def test_an_sd_of_zero_has_an_interval_from_zero():
    rows = analyse("small_1", GENERAL)[2]
    zero = [row for name, row in rows.items() if ".sd(" in name and row.estimate[0] == 0.0]
    assert zero
    for row in zero:
        assert row.ci_lower[0] == 0.0 < row.ci_upper[0]


def test_the_command_prints_them(tmp_path):
    options = ("--formula", GENERAL, "--format", "json")
    data = REFERENCE / "small_2.csv"
    shown = [
        json.loads(run_mcsim("fit", data, *options, "--interval", kind, cwd=tmp_path).stdout)
        for kind in ("profile", "wald")
    ]
    profile, wald = (
        {row["parameter"]: (row["ci_lower"], row["ci_upper"]) for row in one["parameters"]}
        for one in shown
    )
    rows = analyse("small_2", GENERAL)[2]
    for name in ("animal.sd(x)", "sigma"):
        assert profile[name] == pytest.approx(interval(rows[name]))
        assert profile[name] != pytest.approx(wald[name], rel=1e-3)
    assert profile["x"] == wald["x"]
