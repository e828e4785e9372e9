"""Parametric bootstrap intervals."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.inference.bootstrap import Bootstrap, NormalModel
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study


@pytest.fixture(scope="module")
def data():
    """30 units of 4 observations in a shuffled order, and a slope."""
    generator = np.random.default_rng(3)
    animal = generator.permutation(np.repeat(np.arange(30), 4))
    x = generator.uniform(0, 1, 120)
    y = 1.0 + 2.0 * x + generator.normal(0, 0.7, 30)[animal] + generator.normal(0, 0.5, 120)
    return pd.DataFrame({"animal": animal, "x": x, "y": y})


def fitted(data, n_resamples, interval="bootstrap"):
    settings = MethodSettings("reml", ("z",), 0.9, interval=interval, resamples=n_resamples)
    columns = model_columns(parse_formula("y ~ x + (x | animal)"), data)
    method = prepare_method(columns, settings)
    moments = method.take(data["y"].to_numpy()[None])
    return columns, method, moments


def test_resamples_have_the_moments_of_the_fit(data):
    # 4,000 resamples: a mean of products is off by 5 standard errors with probability 6e-7
    columns, method, moments = fitted(data, 4000)
    fit = fit_moments(method.design, moments)
    bootstrap = Bootstrap(columns, method.design.order, 4000, NormalModel(method.design))
    y = bootstrap._draw(fit, 0, np.empty((4000, len(data))), np.random.default_rng(1))
    order = method.design.order
    X, Z, unit = columns.X[order], columns.levels[0].Z[order], columns.levels[0].unit_of_row[order]
    same = unit[:, None] == unit[None, :]
    V = same * (Z @ fit.covariances[0][0] @ Z.T) + fit.scale[0] * np.eye(len(X))
    residual = y - X @ fit.coefficients[0]
    found = residual.T @ residual / len(y)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / len(y))
    assert np.abs((found - V) / error).max() < 6.0
    assert np.abs(residual.mean(axis=0) / np.sqrt(np.diag(V) / len(y))).max() < 6.0


def test_intervals_are_quantiles_of_the_resampled_estimates(data):
    _, method, moments = fitted(data, 300)
    rows = method.analyse([moments], np.random.default_rng).estimates["z"]
    wald = fitted(data, 300, "wald")[1].analyse([moments], np.random.default_rng).estimates["z"]
    for ours, other in zip(rows, wald, strict=True):
        assert ours.estimate == other.estimate
        if ours.parameter.component == "fixed":
            assert ours.ci_lower == other.ci_lower
    by_name = {one.parameter.name: one for one in rows}
    sd, variance = by_name["animal.sd(Intercept)"], by_name["animal.var(Intercept)"]
    assert sd.ci_lower[0] ** 2 == pytest.approx(variance.ci_lower[0], rel=0.02)
    assert sd.ci_lower[0] < sd.estimate[0] < sd.ci_upper[0]
    # sigma has 88 df or more: the interval is close to that of chi-squared
    sigma = by_name["sigma"]
    assert sigma.std_error[0] == pytest.approx(sigma.estimate[0] / np.sqrt(2 * 70), rel=0.25)


def test_numbers_depend_on_the_replicate_alone(small_scenario, tmp_path):
    text = small_scenario.read_text().replace(
        'name = "diagonal"', 'name = "diagonal"\ninterval = "bootstrap"\nresamples = 20'
    )
    small_scenario.write_text(text)
    scenario = load_scenario(small_scenario, replicates=6)
    found = []
    for name, ranges in (("whole", [(1, 6)]), ("parts", [(4, 6), (1, 3)])):
        for one in ranges:
            options = study.RunOptions(tmp_path / name, n_workers=1, replicates=[one])
            store = study.run_study(scenario, options)
        table = pq.read_table(store.directory / "estimates").to_pandas()
        found.append(table.sort_values(["replicate", "method", "parameter"], ignore_index=True))
    pd.testing.assert_frame_equal(found[0], found[1], check_exact=True)
    intervals = found[0].query("method == 'diagonal' and parameter == 'sigma'")["ci_lower"]
    assert intervals.nunique() == 6


def test_statsmodels_has_no_bootstrap(data):
    columns = model_columns(parse_formula("y ~ x + (1 | animal)"), data)
    settings = MethodSettings("statsmodels", ("z",), 0.9, interval="bootstrap")
    with pytest.raises(DataError, match="gives no interval"):
        prepare_method(columns, settings)
