"""Designs whose units cross: who meets whom, in which condition, and what is simulated."""

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.design.words import design_in_words
from mcsim.planning.starter import starter
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.simulate.at_truth import true_least_squares
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import draw_responses, prepare_simulator
from mcsim.study.run import replicate_data
from tests.conftest import call_mcsim

TEXT = starter("subjects-items", "s").split('[[methods]]\nname = "intercepts"')[0]
N_REPLICATES = 4000


@pytest.fixture
def load(tmp_path):
    def load_changed(*changes):
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "s.toml").write_text(text)
        return load_scenario(tmp_path / "s.toml")

    return load_changed


def simulator_of(scenario):
    [condition] = conditions(scenario)
    return condition, prepare_simulator(condition, scenario.seed)


def test_every_subject_meets_every_item_and_conditions_are_counterbalanced(load):
    for replicate in (1, 2):
        frame = replicate_data(load(), replicate, None)
        assert len(frame.groupby(["subject", "item"], observed=True)) == len(frame) == 36 * 24
        for name, n in (("subject", 12), ("item", 18)):
            table = pd.crosstab(frame[name], frame["condition"])
            assert (table.to_numpy() == n).all()


@pytest.mark.parametrize("met", ["# met = 0.5 ", "met = 0.5 "])
def test_each_pair_is_met_in_all_conditions_that_are_dealt_to_all(load, met):
    redrawn = "[design.factors]", "[design]\nredraw = true\n[design.factors]"
    scenario = load(('dealt = "latin"', 'dealt = "all"'), ("# met = 0.5 ", met), redrawn)
    for replicate in (1, 2, 3):
        frame = replicate_data(scenario, replicate, None)
        pairs = frame.groupby(["subject", "item"], observed=True)["condition"]
        assert (pairs.nunique() == 2).all()
        assert (pairs.size() == 2).all()
        assert len(pairs) == 36 * 24 * (0.5 if met.startswith("met") else 1.0)


def test_df_that_need_nesting_are_not_the_usual_ones(load):
    methods = load(('df = "satterthwaite"\n', "")).methods
    assert [one.df[0] for one in methods] == ["satterthwaite", "satterthwaite", "containment"]
    robust = 'df = "satterthwaite"\n', 'estimator = "ols-cluster"\n'
    assert load(robust).methods[0].df == ("cr1",)


def test_points_of_units_are_the_same_wherever_these_are_met(load):
    covariates = '[design.covariates]\nage = { grid = [20, 55], level = "subject" }\n'
    covariates += 'trial = { grid = [0, 1], level = "item" }\n\n[truth.fixed]'
    frame = replicate_data(load(("[truth.fixed]", covariates)), 1, None)
    ages = frame.groupby("subject", observed=True)["age"].unique()
    assert [one.tolist() for one in ages] == [[20.0 + number] for number in range(36)]
    trials = frame.groupby("item", observed=True)["trial"].unique()
    assert np.concatenate([*trials]) == pytest.approx(np.linspace(0, 1, 24))
    assert len(frame) == 36 * 24


def test_factors_of_items_and_counts_per_pair(load):
    subject = '\n[[design.levels]]\nname = "subject"'
    word = f'word = {{ levels = ["short", "long"], of = "item" }}\n{subject}'
    scenario = load(
        (subject, word), ("count = 24", "count = 5"),
        ("count = 36", "count = 7"), ("count = 1 ", "count = 3 "),
    )  # fmt: skip
    _, simulator = simulator_of(scenario)
    frame = simulator.design.frame
    assert len(frame) == 7 * 10 * 3
    assert frame.groupby("item", observed=True)["word"].nunique().eq(1).all()
    assert frame.groupby("word", observed=True)["item"].nunique().tolist() == [5, 5]
    assert design_in_words(simulator.design).startswith(
        "7 units of subject; 10 units of item, each meets 7 units of subject; 210 observations"
    )


def test_some_pairs_meet_and_another_draw_has_others(load):
    scenario = load(("# met = 0.5 ", "met = 0.5 "))
    frame = replicate_data(scenario, 1, None)
    assert len(frame) == 36 * 24 // 2
    assert not frame.duplicated(["subject", "item"]).any()
    assert frame.equals(replicate_data(scenario, 1, None))
    redrawn = load(
        ("# met = 0.5 ", "met = 0.5 "),
        ("[design.factors]", "[design]\nredraw = true\n[design.factors]"),
    )
    frames = [replicate_data(redrawn, k, None) for k in (1, 2)]
    pairs = [{*zip(one["subject"], one["item"], strict=True)} for one in frames]
    assert pairs[0] != pairs[1]


def test_the_moments_of_simulated_pairs_are_those_of_their_sums(load):
    # error probability: 4 Monte Carlo standard errors for 5 numbers, 0.03% in all; fixed seed
    scenario = load(("count = 36", "count = 4"), ("count = 24", "count = 4"))
    _, simulator = simulator_of(scenario)
    frame = simulator.design.frame
    block = draw_responses(simulator, range(1, N_REPLICATES + 1))
    y = block.y - simulator.mean
    b = (frame["condition"] == "b").to_numpy()
    subject, item = (simulator.design.unit_of_row[name] for name in ("subject", "item"))

    def covariance(first, second):
        products = y[:, first] * y[:, second]
        return products.mean(), products.std() / N_REPLICATES**0.5

    def rows(same_subject, same_item, conditions):
        pairs = [
            (i, j)
            for i in range(len(b))
            for j in range(i + 1)
            if (subject[i] == subject[j]) == same_subject
            and (item[i] == item[j]) == same_item
            and (b[i], b[j]) == conditions
        ]
        return pairs[0]

    expected = {
        (True, True, (False, False)): 0.8**2 + 0.5**2 + 1.0,
        (True, True, (True, True)): 0.8**2 + 0.2**2 + 0.5**2 + 0.1**2 + 1.0,
        (True, False, (True, True)): 0.8**2 + 0.2**2,
        (False, True, (True, True)): 0.5**2 + 0.1**2,
        (False, False, (True, True)): 0.0,
    }
    for key, value in expected.items():
        found, mcse = covariance(*rows(*key))
        assert abs(found - value) < 4 * mcse
    realized = realized_values(simulator, block.products)
    sds = {one.name: values for one, values in realized.items()}
    for name, sd in (("item.sd(Intercept)", 0.5), ("subject.sd(condition[T.b])", 0.2)):
        squares = sds[name] ** 2
        assert abs(squares.mean() - sd**2) < 4 * squares.std() / N_REPLICATES**0.5


def test_lost_units_of_both_kinds_leave_the_others(load):
    lost = "[truth.missing]\nunits = { item = 0.3, subject = 0.3 }\n\n"
    scenario = load(('[[methods]]\nname = "maximal"', f'{lost}[[methods]]\nname = "maximal"'))
    condition, simulator = simulator_of(scenario)
    data = draw_data_set(condition, simulator, 1)
    units = data.design.unit_of_row
    n_subjects, n_items = (int(units[one].max()) + 1 for one in ("subject", "item"))
    assert 10 < n_subjects < 36
    assert 5 < n_items < 24
    assert len(data.y) == n_subjects * n_items


def test_a_crossed_table_repeats_subjects_and_keeps_items(load, tmp_path):
    replicate_data(load(), 1, None).drop(columns="y").to_csv(tmp_path / "d.csv", index=False)
    design = TEXT.index("[design.factors]"), TEXT.index("[truth]")
    table = (
        '[design]\ntable = "d.csv"\ncopies = { subject = 2 }\n[[design.levels]]\nname = "subject"\n'
        '[[design.levels]]\nname = "item"\ncrossed = true\n\n'
    )
    (tmp_path / "t.toml").write_text(TEXT[: design[0]] + table + TEXT[design[1] :])
    frame = replicate_data(load_scenario(tmp_path / "t.toml"), 1, None)
    assert (frame["subject"].nunique(), frame["item"].nunique(), len(frame)) == (72, 24, 2 * 864)
    done = call_mcsim("run", "t.toml", "-n", 4, "-j", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


NO_INNERMOST = "innermost units, which there are none of where units cross, as those of 'item'"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("count = 24", "count = { uniform = [2, 5] }"),
            "same units for all: write a whole number",
        ),
        (("crossed = true ", "met = 0.5 "), "`met` goes with crossed = true"),
        (("# met = 0.5 ", "met = 0 "), "it must be a number above 0 and at most 1"),
        (("count = 36", "count = 36\ncrossed = true"), "the first level has nothing before it"),
        (("crossed = true ", "crossed = 1 "), "it must be true or false"),
        (('df = "satterthwaite"', 'estimator = "two-stage"'), "needs nested units"),
        (
            ("sigma = 1.0", "sigma = 1.0\nresidual = { correlation = 'ar1', phi = 0.5 }"),
            NO_INNERMOST,
        ),
        (
            ("sigma = 1.0", "sigma = 1.0\nresidual = { correlation = 'exchangeable', rho = 0.3 }"),
            NO_INNERMOST,
        ),
    ],
)
def test_what_cannot_cross_is_refused(tmp_path, change, message):
    (tmp_path / "s.toml").write_text(TEXT.replace(*change))
    done = call_mcsim("run", "s.toml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def test_least_squares_at_the_truth_know_both_kinds_of_units(load):
    scenario = load(("count = 36", "count = 6"), ("count = 24", "count = 5"))
    _, simulator = simulator_of(scenario)
    X = model_columns(scenario.methods[0].parsed, simulator.design.frame).X
    found = true_least_squares(simulator, X, np.eye(2))
    V = np.eye(30)
    for level in ("subject", "item"):
        unit = simulator.design.unit_of_row[level]
        sds = np.array([0.8, 0.2] if level == "subject" else [0.5, 0.1])
        V += (unit[:, None] == unit) * ((X * sds**2) @ X.T)
    covariance = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    assert found.std_error == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-9)
    assert found.weights @ X == pytest.approx(np.eye(2), abs=1e-9)
