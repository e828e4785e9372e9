"""Simulated data have the moments that the scenario states."""

import re

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import column, model_columns
from mcsim.errors import DataError, ScenarioError
from mcsim.formula import parse_formula, same_column
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import Parameter
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.true_values import truth_of
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import (
    draw_responses,
    prepare_simulator,
)

N_REPLICATES = 2000


@pytest.fixture
def simulator(small_scenario):
    scenario = load_scenario(small_scenario)
    return prepare_simulator(conditions(scenario)[0], scenario.seed)


def test_design_has_the_stated_units(simulator):
    frame = simulator.design.frame
    assert frame.groupby("diet", observed=True)["animal"].nunique().to_dict() == {
        "fasted": 4,
        "fed": 5,
    }
    assert len(frame) == 9 * 4 * 5
    assert frame.groupby("image", observed=True)["x"].apply(list).iloc[0] == [0, 0.25, 0.5, 0.75, 1]


def test_mean_and_covariance_of_the_data_equal_the_closed_form(simulator):
    # error probability: 4 Monte Carlo standard errors for each of 2 x 20 numbers, 0.3% in all
    y = draw_responses(simulator, range(1, N_REPLICATES + 1)).y
    frame = simulator.design.frame
    x, fed = frame["x"].to_numpy(), (frame["diet"] == "fed").to_numpy()
    expected = 1.0 + 0.5 * fed - x
    rows = np.arange(20)  # one animal: four images of five points
    X = x[rows]
    cross = 0.36 + 0.3 * 0.6 * 0.4 * (X[:, None] + X[None, :]) + 0.16 * np.outer(X, X)
    same_image = rows[:, None] // 5 == rows[None, :] // 5
    covariance = cross + 0.25 * same_image + 0.25 * np.eye(20)
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(y[:, rows].mean(axis=0) - expected[rows]) < 4 * sd / N_REPLICATES**0.5)
    observed = np.cov(y[:, rows], rowvar=False)
    mcse = np.sqrt((covariance**2 + np.outer(sd, sd) ** 2) / N_REPLICATES)
    assert np.all(np.abs(observed - covariance) < 5 * mcse)  # 210 numbers
    other_animal = np.cov(y[:, 0], y[:, 20])[0, 1]
    assert abs(other_animal) < 4 * sd[0] ** 2 / N_REPLICATES**0.5


def test_replicates_are_independent_of_each_other_and_of_the_block(simulator):
    together = draw_responses(simulator, range(1, 6)).y
    alone = draw_responses(simulator, [4]).y
    assert alone[0].tobytes() == together[3].tobytes()
    assert not np.array_equal(together[0], together[1])


def test_realized_variances_have_the_stated_mean(simulator):
    block = draw_responses(simulator, range(1, N_REPLICATES + 1))
    realized = realized_values(simulator, block.products)
    variance = realized[Parameter.read("animal.sd(x)")] ** 2
    mcse = variance.std() / N_REPLICATES**0.5
    assert abs(variance.mean() - 0.16) < 4 * mcse
    # a sample of m animals in g groups: SD(variance) = variance sqrt(2 / (m - g))
    assert variance.std() == pytest.approx(0.16 * np.sqrt(2 / 7), rel=0.1)


def test_balanced_one_way_estimates_equal_analysis_of_variance(small_scenario):
    overrides = [
        "design.levels.animal.count=6",
        "truth.random.animal.sd={Intercept=2.0}",
        "truth.random.animal.correlation=0.0",
    ]
    scenario = load_scenario(small_scenario, overrides=overrides)
    simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
    y = draw_responses(simulator, range(1, N_REPLICATES + 1)).y
    columns = model_columns(parse_formula("y ~ diet + (1 | animal)"), simulator.design.frame)
    method = prepare_method(columns, MethodSettings("reml", ("containment",), 0.95))
    rows = {
        b.parameter.name: b
        for b in method.analyse([method.take(y)], np.random.default_rng).estimates["containment"]
    }
    animals = y.reshape(N_REPLICATES, 2, 6, 20)
    within = animals.var(axis=3, ddof=1).mean(axis=(1, 2))
    between = 20 * animals.mean(axis=3).var(axis=2, ddof=1).mean(axis=1)
    inside = between > within
    assert rows["animal.var(Intercept)"].estimate[inside] == pytest.approx(
        ((between - within) / 20)[inside], rel=1e-6
    )
    assert rows["sigma"].estimate[inside] == pytest.approx(np.sqrt(within[inside]), rel=1e-7)
    assert np.all(rows["animal.var(Intercept)"].estimate[~inside] == 0.0)
    for name, truth in (("Intercept", 0.5), ("diet[T.fed]", 0.5)):  # x averages -0.5
        estimate = rows[name].estimate
        assert abs(estimate.mean() - truth) < 4 * estimate.std() / N_REPLICATES**0.5


@pytest.mark.parametrize("spelling", ["I(x**2)", "I(x ** 2)", "I( x**2 )"])
def test_the_truth_of_a_column_does_not_depend_on_its_spelling(small_scenario, spelling):
    overrides = [f'truth.fixed."{spelling}"=0.7', 'truth.fixed."x:diet[T.fed]"=0.3']
    scenario = load_scenario(small_scenario, overrides=overrides)
    simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
    formula = parse_formula("y ~ diet * x + I(x**2) + (1 | animal)")
    printed = model_columns(formula, simulator.design.frame).names
    truth = truth_of(scenario.truth.in_sds())
    assert [truth.of(Parameter.read(name)) for name in printed] == [1.0, 0.5, -1.0, 0.7, 0.3]


@pytest.mark.parametrize(
    ("key", "expression"),
    [
        ("poly(x,2)[2]", "poly(x, 2)"),
        ("poly(x)[1]:diet[T.fed]", "diet * poly(x)"),
        ("C(diet)[T.fed]", "C(diet)"),
        ("I(x**-2.)", "I(x ** -2.0)"),
    ],
)
def test_a_column_of_the_truth_is_that_of_the_formula(key, expression):
    # oracle: the formula library's own columns, found by their printed names
    frame = pd.DataFrame({"x": [0.5, 1.0, 2.0, 4.0], "diet": pd.Categorical(["fed", "no"] * 2)})
    frame["diet"] = frame["diet"].cat.reorder_categories(["no", "fed"])
    formula = parse_formula(f"y ~ {expression} + (1 | diet)")
    columns = model_columns(formula, frame)
    own = [same_column(name) for name in columns.names].index(same_column(key))
    assert column(frame, key).tolist() == columns.X[:, own].tolist()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("poly(x, 2)", r"'poly(x, 2)' makes 2 columns; name one of them: poly(x, 2)[1], "),
        ("poly(x, 2)[3]", r"'poly(x, 2)[3]' makes 0 columns; name one of them: poly(x, 2)[1], "),
        ("I(x)[0]", r"'I(x)[0]' makes 0 columns; name one of them: I(x)"),
        ("log(z)", "the formula names 'z', which is no column of the data. The data have: x"),
        ("C(x, 2)", "'C(x, 2)' is no name of a column: found '2' at character 6"),
        ("x.real", "the formula names 'x.real', which is no column"),
    ],
)
def test_a_column_that_cannot_be_made_is_refused(key, message):
    with pytest.raises(DataError, match=re.escape(message)):
        column(pd.DataFrame({"x": [0.5, 1.0, 2.0]}), key)


def test_a_column_that_is_given_twice_is_refused(small_scenario):
    twice = ['truth.fixed."x:diet[T.fed]"=0.3', 'truth.fixed."diet[T.fed]:x"=0.3']
    with pytest.raises(ScenarioError, match=r"is the column 'x:diet\[T.fed\]' once more"):
        load_scenario(small_scenario, overrides=twice)
