"""Weighted sums of fixed effects, and quantities made of several variances."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments, weighted
from mcsim.errors import ScenarioError
from mcsim.formula import parse_formula
from mcsim.methods.inference.components import component_covariance
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import SIGMA, Parameter
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.load import load_scenario
from mcsim.scenario.true_values import derived_value
from mcsim.study import run as study
from tests.methods.inference.test_df import REFERENCE

ESTIMANDS = """
[[estimands]]
name = "diet at 0.5"
fixed = { "diet[T.fed]" = 1.0, "diet[T.fed]:x" = 0.5 }
[[estimands]]
name = "total.sd(x)"
[[estimands]]
name = "total.var(Intercept)"
[[estimands]]
name = "animal.icc"
"""
DF = ("satterthwaite", "kenward-roger", "containment")


def analyse(formula, estimands=(), estimator="reml"):
    frame = pd.read_csv(REFERENCE / "small_2.csv")
    frame["diet"] = pd.Categorical(frame["diet"], categories=["fasted", "fed"])
    df = DF if estimator == "reml" else DF[2:]
    settings = MethodSettings(estimator, df, 0.95, tuple(estimands))
    method = prepare_method(model_columns(parse_formula(formula), frame), settings)
    moments = method.take(frame["y"].to_numpy()[None])
    estimates = method.analyse([moments], np.random.default_rng).estimates
    rows = {df: {one.parameter.name: one for one in blocks} for df, blocks in estimates.items()}
    assert [one.name for one in method.parameters()] == list(rows["containment"])
    return method, moments, rows


def test_a_weighted_sum_is_the_coefficient_of_a_shifted_covariate():
    one = EstimandSpec(name="diet at 0.5", fixed={"diet[T.fed]": 1.0, "x:diet[T.fed]": 0.5})
    ours = analyse("y ~ diet * x + (x | animal/image)", [one])[2]
    shifted = analyse("y ~ diet * I(x - 0.5) + (x | animal/image)")[2]
    for df in DF:
        expected = shifted[df]["diet[T.fed]"]
        for measure in ("estimate", "std_error", "df", "ci_lower", "ci_upper", "p_value"):
            found = getattr(ours[df]["diet at 0.5"], measure)
            assert found == pytest.approx(getattr(expected, measure), rel=1e-6), (df, measure)


def test_a_sum_counts_columns_that_the_model_lacks_as_zero_and_needs_one():
    estimands = [
        EstimandSpec(name="half", fixed={"x": 0.5, "diet[T.fed]": 3.0}),
        EstimandSpec(name="none", fixed={"diet[T.fed]": 1.0}),
        EstimandSpec(name="image.icc"),
        EstimandSpec(name="total.sd(x)"),
    ]
    rows = analyse("y ~ x + (x | animal)", estimands)[2]["containment"]
    assert rows["half"].estimate == pytest.approx(0.5 * rows["x"].estimate)
    assert "none" not in rows
    assert "image.icc" not in rows
    # with one level, the total is that level's
    assert rows["total.sd(x)"].ci_lower == pytest.approx(rows["animal.sd(x)"].ci_lower)


def quantity(name, fit, theta, log_sigma2):
    """A derived quantity as a function of the parameters."""
    values = {SIGMA: np.exp(0.5 * log_sigma2)}
    for level, slopes in zip(("animal", "image"), fit.curvature.slopes, strict=True):
        Lam = weighted(slopes, theta)
        sd = np.sqrt(np.einsum("nij,nij->ni", Lam, Lam)) * values[SIGMA][:, None]
        for column, one in zip(("Intercept", "x"), sd.T, strict=True):
            values[Parameter.of_level("sd", level, column)] = one
    return derived_value(Parameter.read(name), values)


@pytest.mark.parametrize(
    ("name", "scale", "back"),
    [
        ("total.sd(x)", np.log, np.exp),
        ("total.var(Intercept)", np.log, np.exp),
        ("animal.icc", lambda p: np.log(p / (1 - p)), lambda z: 1 / (1 + np.exp(-z))),
    ],
)
def test_intervals_of_derived_quantities_are_those_of_the_delta_method(name, scale, back):
    method, moments, rows = analyse("y ~ diet * x + (x | animal/image)", [EstimandSpec(name=name)])
    fit = fit_moments(method.design, moments)
    theta, log_sigma2 = fit.curvature.theta, np.log(fit.scale)
    gradient = []
    for step in 1e-5 * np.eye(theta.shape[1] + 1):
        sides = [
            scale(
                quantity(name, fit, fit.curvature.theta + s * step[:-1], log_sigma2 + s * step[-1])
            )
            for s in (1, -1)
        ]
        gradient.append((sides[0] - sides[1])[0] / 2e-5)
    covariance = component_covariance(fit.curvature)[0]
    half = stats.norm.ppf(0.975) * np.sqrt(gradient @ covariance @ gradient)
    row = rows["containment"][name]
    centre = quantity(name, fit, theta, log_sigma2)
    assert row.estimate == pytest.approx(centre, rel=1e-9)
    assert row.ci_lower == pytest.approx(back(scale(centre) - half), rel=1e-6)
    assert row.ci_upper == pytest.approx(back(scale(centre) + half), rel=1e-6)


def test_statsmodels_gives_the_same_derived_estimates():
    # its optimizer stops earlier: 5e-3
    estimands = [EstimandSpec(name=name) for name in ("total.sd(x)", "animal.icc")]
    formula = "y ~ diet * x + (x || animal/image)"
    ours, theirs = (
        analyse(formula, estimands, estimator)[2]["containment"]
        for estimator in ("reml", "statsmodels")
    )
    for one in estimands:
        assert theirs[one.name].estimate == pytest.approx(ours[one.name].estimate, rel=5e-3)


def test_a_study_reports_estimands_with_their_truth(small_scenario, tmp_path):
    small_scenario.write_text(small_scenario.read_text() + ESTIMANDS)
    scenario = load_scenario(small_scenario, replicates=20)
    store = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1))
    conditions = pq.read_table(store.directory / "conditions.parquet").to_pylist()
    truth = {row["parameter"]: row["truth"] for row in conditions if row["method"] == "diagonal"}
    assert truth["diet at 0.5"] == 0.5
    assert truth["total.sd(x)"] == pytest.approx(0.4)
    assert truth["total.var(Intercept)"] == pytest.approx(0.36 + 0.25)
    assert truth["animal.icc"] == pytest.approx(0.36 / (0.36 + 0.25 + 0.25))
    estimates = pq.read_table(store.directory / "estimates").to_pandas()
    counts = estimates.groupby("parameter", observed=True).size()
    # two methods, one of them with two df methods
    assert {counts[name] for name in ("diet at 0.5", "total.sd(x)", "animal.icc")} == {60}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "total.icc",
            "needs `fixed`, `term`, .*, or one of the names: total.sd.COLUMN.; .* image.icc",
        ),
        ("slope", "needs `fixed`, `term`"),
        ("cell.icc", "unknown level 'cell'"),
        ("total.sd(w)", "unknown column 'w'"),
    ],
)
def test_an_estimand_without_weights_has_the_name_of_a_derived_quantity(
    small_scenario, name, message
):
    small_scenario.write_text(small_scenario.read_text() + f'[[estimands]]\nname = "{name}"\n')
    with pytest.raises(ScenarioError, match=message):
        load_scenario(small_scenario)
