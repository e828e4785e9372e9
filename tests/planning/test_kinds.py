"""Starter scenarios of classical designs, each against what is known of it in closed form."""

import re

import numpy as np
import pytest
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.planning.designs import designs_of
from mcsim.planning.screen import expected_values
from mcsim.planning.starter import starter
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.plan import Goal
from mcsim.simulate.responses import prepare_simulator
from mcsim.study.run import RunOptions, replicate_data, run_study
from mcsim.summary.summarize import summarize

N_REPLICATES = 400


def hussey_and_hughes(cluster, sigma, n_clusters, n_periods, n):
    """Variance of the effect in a stepped wedge: Hussey & Hughes (2007), formula (8)."""
    steps = 1 + np.arange(n_clusters) * (n_periods - 1) // n_clusters
    X = np.arange(n_periods) >= steps[:, None]
    U, W, V = X.sum(), (X.sum(axis=0) ** 2).sum(), (X.sum(axis=1) ** 2).sum()
    s2, t2, i, t = sigma**2 / n, cluster**2, n_clusters, n_periods
    return i * s2 * (s2 + t * t2) / ((i * U - W) * s2 + (U**2 + i * t * U - t * W - i * V) * t2)


def design_effect(total, icc, n_clusters, size):
    """Variance of a difference of two arms whose patients come in clusters."""
    return 2 * total * (1 + (size - 1) * icc) / (n_clusters * size)


ICC = 0.2431**2 / (0.2431**2 + 0.97**2)
# kind: parameter, true value, variance of its estimates, df of its exact t test
KNOWN = {
    "split-plot": [
        ("variety[T.B]", 1.0, 2 * 1.0**2 / 6, 20),
        ("wet less dry", 5 / 3, 2 * (1.5**2 + 1.0**2 / 3) / 6, 10),
    ],
    "cross-over": [
        ("treatment[T.B]", 1.5, 2 * 2.0**2 / 20, 18),
        ("period[T.second]", -1.0, 2 * 2.0**2 / 20, 18),
    ],
    "repeated-measures": [
        ("time[T.t1]", 0.5, 2 * 1.0**2 / 10, 54),
        ("group[T.treated]:time[T.t3]", 1.0, 4 * 1.0**2 / 10, 54),
    ],
    "cluster-randomised": [
        ("arm[T.treated]", 0.3, design_effect(0.2431**2 + 0.97**2, ICC, 10, 20), 18),
    ],
    "stepped-wedge": [("treated", 0.3, hussey_and_hughes(0.3, 1.0, 12, 5, 10), None)],
    "two-factors": [
        ("region[T.central]", -0.3, 2 * (0.2**2 / 4 + 0.3**2 / 20) / 6, 82),
        ("diet[T.fed]:region[T.central]", 0.2, 4 * (0.2**2 / 4 + 0.3**2 / 20) / 6, 82),
        ("fed less fasted", 0.3, 2 * (0.25**2 + 0.2**2 / 8 + 0.3**2 / 40) / 6, 10),
    ],
    "regions": [
        ("region[T.central]", 0.3, (0.2**2 + 2 * (0.15**2 / 5 + 0.3**2 / 20)) / 8, 7),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["stepped-wedge", "regions"])
def test_known_variances_are_those_of_generalised_least_squares(kind, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(starter(kind, "s"))
    scenario = load_scenario(path)
    [condition] = conditions(scenario)
    design = prepare_simulator(condition, 1).design
    X = model_columns(scenario.methods[0].parsed, design.frame)
    V = condition.truth.sigma**2 * np.eye(len(X.X))
    for level, spec in condition.truth.random.items():
        sds = [*spec.standard_deviations.values()]
        r = [[spec.correlation_of(a, b) for b in spec.columns] for a in spec.columns]
        Z, unit = design.columns(spec.columns).T, design.unit_of_row[level]
        V += (unit[:, None] == unit) * (Z @ (np.outer(sds, sds) * r) @ Z.T)
    C = np.linalg.inv(X.X.T @ np.linalg.solve(V, X.X))
    for parameter, _, variance, _ in KNOWN[kind]:
        j = X.names.index(parameter)
        assert C[j, j] == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("kind", KNOWN)
def test_a_classical_design_has_its_known_variances_df_and_power(kind, tmp_path):
    tables = re.split(r"(?m)^(?=\[)", starter(kind, kind))
    first = next(n for n, one in enumerate(tables) if one.startswith("[[methods]]"))
    kept = [one for n, one in enumerate(tables) if n == first or "[[methods]]" not in one]
    path = tmp_path / "s.toml"
    path.write_text("".join(one for one in kept if not one.startswith("[sweep]")))
    scenario = load_scenario(path, replicates=N_REPLICATES)
    directory = run_study(scenario, RunOptions(tmp_path / "out", 1)).directory
    rows = {row["parameter"]: row for row in reversed(summarize([directory]).to_pylist())}
    for parameter, value, variance, df in KNOWN[kind]:
        row, se = rows[parameter], np.sqrt(variance)
        assert row["truth"] == pytest.approx(value)
        # error probability: 4 Monte Carlo standard errors, three times for 13 numbers, 0.3% in all
        assert abs(row["bias"]) < 4 * se / N_REPLICATES**0.5
        assert abs(row["emp_se"] - se) < 4 * se / np.sqrt(2 * N_REPLICATES)
        if df is None:
            continue
        quantile, shifted = stats.t.ppf(0.975, df), stats.nct(df, value / se)
        power = shifted.sf(quantile) + shifted.cdf(-quantile)
        mcse = np.sqrt(power * (1 - power) / N_REPLICATES)
        assert abs(row["rejection"] - power) < 4 * mcse + 1 / N_REPLICATES
        if kind != "regions":  # a slope at one level alone: the closed forms do not know it
            assert row["theory_emp_se"] == pytest.approx(se, rel=1e-9)
            assert row["theory_df"] == df
            assert row["theory_rejection"] == pytest.approx(power, rel=1e-6)


def test_half_of_the_subjects_of_a_cross_over_get_each_treatment_first(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(starter("cross-over", "s"))
    frame = replicate_data(load_scenario(path), 1, None)
    first = frame[frame["period"] == "first"]
    assert first["treatment"].value_counts().tolist() == [10, 10]
    assert frame.groupby("subject", observed=True)["treatment"].nunique().unique().tolist() == [2]


def test_a_plan_of_clusters_that_start_in_turn_is_screened_by_the_formula(tmp_path):
    text = starter("stepped-wedge", "s")
    plan = """
[plan]
cost = { cluster = 10 }
target = { rejection = "treated", at_least = 0.8 }
[plan.search]
"design.levels.cluster.count" = [12, 14, 20, 24]
"""
    (tmp_path / "s.toml").write_text(text + plan)
    scenario = load_scenario(tmp_path / "s.toml")
    designs = designs_of(scenario.plan, scenario)
    found = expected_values(
        scenario, designs, Goal("ci_width", "treated", 1.0), scenario.methods[0]
    )
    formula = np.array([hussey_and_hughes(0.3, 1.0, n, 5, 10) for n in designs.counts[:, 0]])
    df = designs.counts[:, 0] - 1
    assert found / (2 * stats.t.ppf(0.975, df)) == pytest.approx(np.sqrt(formula), rel=1e-6)


def test_power_of_a_factor_within_units_is_expected_with_its_own_df(tmp_path):
    """Three machines of every worker: (3 - 1) (n - 1) df, not those of the workers, n - 1."""
    text = """
replicates = 10
seed = 1
[design.factors]
machine = { levels = ["a", "b", "c"], of = "place" }
[[design.levels]]
name = "worker"
count = 4
[[design.levels]]
name = "place"
count = 1
[design.observations]
count = 2
[truth]
sigma = 1.0
[truth.fixed]
Intercept = 50.0
"machine[T.b]" = 14.0
[truth.random.worker]
sd = { Intercept = 5.0 }
[truth.random.place]
sd = { Intercept = 4.0 }
[[methods]]
name = "mixed"
formula = "y ~ machine + (1 | worker/place)"
[plan]
cost = { worker = 1 }
target = { rejection = "machine[T.b]", at_least = 0.8 }
[plan.search]
"design.levels.worker.count" = { from = 3, to = 8 }
"""
    (tmp_path / "s.toml").write_text(text)
    scenario = load_scenario(tmp_path / "s.toml")
    designs = designs_of(scenario.plan, scenario)
    found = expected_values(scenario, designs, scenario.plan.target.goal, scenario.methods[0])
    n = designs.counts[:, 0]
    df, shift = 2 * (n - 1), 14.0 / np.sqrt(2 * (4.0**2 + 1.0 / 2) / n)
    t = stats.t.ppf(0.975, df)
    assert found == pytest.approx(stats.nct.sf(t, df, shift) + stats.nct.cdf(-t, df, shift))
