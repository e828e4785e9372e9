"""Oracles: dense generalized least squares, indicators of many replicates, the noncentral t.

Statistical tests have fixed seeds; z beyond 3.5 happens to a right program once in 2,000 times, and
to the largest of all z here (some 40) once in 50.
"""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import integrate, special, stats

from mcsim.interface import summarize
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import draw_responses
from mcsim.study.analyse import analyse_replicates
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.effects import along_effects
from tests.conftest import call_mcsim
from tests.samples import write_part

UNBALANCED = """
replicates = 6000
seed = 11
[design]
factors = { diet = ["fasted", "fed"] }
[[design.levels]]
name = "animal"
count = 5
[[design.levels]]
name = "image"
count = { uniform = [2, 5] }
[design.observations]
count = { uniform = [3, 7] }
[design.covariates]
x = { uniform = [0, 1] }
[truth]
sigma = 0.085
[truth.fixed]
Intercept = 1.0
"diet[T.fed]:x" = 0.1
[truth.random.animal]
sd = { Intercept = 0.015, x = 0.02 }
[truth.random.image]
sd = { Intercept = 0.06, x = 0.08 }
[[methods]]
name = "general"
formula = "y ~ diet * x + (x | animal/image)"
df = ["satterthwaite", "kenward-roger"]
[[methods]]
name = "ml"
formula = "y ~ diet * x + (x || animal/image)"
estimator = "ml"
[[methods]]
name = "two-stage"
formula = "y ~ diet * x + (x | animal)"
estimator = "two-stage"
[[methods]]
name = "cluster"
formula = "y ~ diet * x + (x | animal)"
estimator = "ols-cluster"
[[methods]]
name = "gee"
formula = "y ~ diet * x + (1 | animal)"
estimator = "gee"
[[methods]]
name = "ols"
formula = "y ~ diet * x"
estimator = "ols"
[[estimands]]
name = "slope of fed"
fixed = { x = 1, "diet[T.fed]:x" = 1 }
equivalence = [-0.2, 0.25]
"""
BALANCED = UNBALANCED.replace("{ uniform = [2, 5] }", "4").replace("{ uniform = [3, 7] }", "6")
BALANCED = BALANCED.replace("{ uniform = [0, 1] }", "{ grid = [0, 1] }").replace("6000", "1500")


def prepared(directory, text, replace=("", "")):
    path = directory / "scenario.toml"
    path.write_text(text.replace(*replace))
    return PreparedStudy(load_scenario(path)).condition("all")


def rows_of(condition, n=40):
    return analyse_replicates(condition, range(1, n + 1))[0].to_pandas()


def covariance(simulator):
    residuals = simulator.residuals
    n = len(simulator.mean)
    root = np.eye(n) * simulator.sigma
    if residuals is not None:
        correlate = residuals.correlate or (lambda draws: draws)
        root = residuals.sd[:, None] * correlate(np.eye(n)).T
    V = root @ root.T
    for one in simulator.effects:
        unit, Z = simulator.design.unit_of_row[one.level], one.Z.T @ one.factor
        V += (Z @ Z.T) * (unit[:, None] == unit)
    return V


TRUTHS = {
    "independent residuals": "",
    "ar1": '[truth.residual]\ncorrelation = "ar1"\nphi = 0.6\nsd_by = { diet = { fed = 1.5 } }\n',
    "exchangeable": '[truth.residual]\ncorrelation = "exchangeable"\nrho = 0.3\n',
    "power of a covariate": '[truth.residual]\npower = { of = "x", exponent = 0.5 }\n',
}


@pytest.mark.parametrize("residual", TRUTHS.values(), ids=TRUTHS)
def test_true_se_and_shift_are_those_of_dense_least_squares(tmp_path, residual):
    condition = prepared(tmp_path, UNBALANCED, ("[truth.fixed]", f"{residual}[truth.fixed]"))
    V, X = covariance(condition.simulator), condition.columns["general"].X
    C = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    at_truth = condition.at_truth["general"].least_squares
    L = np.vstack([np.eye(4), [[0, 0, 1, 1]]])
    assert at_truth.std_error == pytest.approx(np.sqrt(np.diag(L @ C @ L.T)), rel=1e-9)
    y = np.random.default_rng(1).normal(size=(3, len(X)))
    expected = y @ np.linalg.solve(V, X) @ C @ L.T
    assert at_truth.of(y) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    rows = rows_of(condition, 5)
    assert (rows.loc[rows.component == "fixed", "true_se"] > 0).all()
    assert rows.loc[rows.component != "fixed", ["shift", "true_se"]].isna().all(axis=None)


NOT_KNOWN = {
    "t effects": ("[truth.random.image]\n", "[truth.random.image]\ndistribution = { t = 5 }\n"),
    "t residuals": ("[truth.fixed]", "[truth.residual]\ndistribution = { t = 5 }\n[truth.fixed]"),
    "SDs that depend on the mean": (
        "[truth.fixed]",
        '[truth.residual]\npower = { of = "mean", exponent = 0.5 }\n[truth.fixed]',
    ),
    "a residual SD of 0": (
        "x = { uniform = [0, 1] }",
        'x = { values = [0.0, 0.5, 1.0] }\n[truth.residual]\npower = { of = "x", exponent = 1 }',
    ),
}


@pytest.mark.parametrize("change", NOT_KNOWN.values(), ids=NOT_KNOWN)
def test_nothing_is_said_where_the_truth_is_not_normal(tmp_path, change):
    text = UNBALANCED.replace("count = { uniform = [3, 7] }", "count = 3")
    rows = rows_of(prepared(tmp_path, text, change), 3)
    assert rows[["shift", "true_se"]].isna().all(axis=None)


def test_nothing_is_said_of_effects_whose_truth_the_model_cannot_hold(tmp_path):
    """The truth has an interaction: without it, x estimates a mean of two slopes."""
    text = UNBALANCED.replace('formula = "y ~ diet * x"', 'formula = "y ~ diet + x"')
    rows = rows_of(prepared(tmp_path, text), 3)
    assert rows.loc[(rows.method == "ols") & (rows.parameter == "x"), "true_se"].isna().all()
    assert rows.loc[(rows.method == "gee") & (rows.parameter == "x"), "true_se"].notna().all()


def test_a_declared_truth_counts_only_if_it_is_what_is_estimated(tmp_path):
    text = UNBALANCED.replace('"ols"\n', '"ols"\ntruth = { x = "diet[T.fed]:x" }\n', 1)
    assert text != UNBALANCED
    rows = rows_of(prepared(tmp_path, text), 3).query("method == 'ols'").set_index("parameter")
    assert rows.true_se["x"].isna().all()
    assert rows.true_se["diet[T.fed]:x"].notna().all()


def test_an_offset_is_no_part_of_the_effects(tmp_path):
    """Balanced: least squares of the responses less the offset, whatever the covariance."""
    text = BALANCED.replace('formula = "y ~ diet * x', 'formula = "y ~ diet * x + offset(2 * x)')
    rows = rows_of(prepared(tmp_path, text), 5).query("method == 'general/satterthwaite'")
    known = rows.dropna(subset="true_se")
    assert set(known.parameter) == {
        "Intercept",
        "diet[T.fed]",
        "x",
        "diet[T.fed]:x",
        "slope of fed",
    }
    assert (known["shift"] == 0).all()


def test_numbers_do_not_depend_on_how_replicates_are_put_together(tmp_path):
    condition = prepared(tmp_path, UNBALANCED)
    together, _ = analyse_replicates(condition, range(1, 8))
    alone = [analyse_replicates(condition, range(k, k + 1))[0] for k in range(1, 8)]
    for name in ("shift", "true_se"):
        expected = [value for one in alone for value in one[name].to_pylist()]
        assert together[name].to_pylist() == expected


def test_replicates_with_rows_of_their_own_have_their_own_true_se(tmp_path):
    missing = "[truth.missing]\nobservations = 0.2\nunits = { animal = 0.1 }\n[truth.fixed]"
    text = BALANCED.replace("[truth.fixed]", missing)
    rows = rows_of(prepared(tmp_path, text), 30)
    own = rows[(rows.method == "general/satterthwaite") & (rows.parameter == "x")].dropna(
        subset="true_se"
    )
    assert own.true_se.nunique() > 25
    z = (own.estimate - own["shift"]) / own.true_se  # standard normal: chi-squared within 3.5 SD
    assert abs(np.sum(z**2) - len(z)) < 3.5 * np.sqrt(2 * len(z))
    correlated = text.replace(
        "[truth.fixed]", '[truth.residual]\ncorrelation = "ar1"\nphi = 0.5\n[truth.fixed]'
    )
    assert rows_of(prepared(tmp_path, correlated), 2).true_se.isna().all()


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Folders of an unbalanced study and a balanced one."""
    found = {}
    for name, text in (("unbalanced", UNBALANCED), ("balanced", BALANCED)):
        directory = tmp_path_factory.mktemp(name)
        (directory / "scenario.toml").write_text(text)
        found[name] = directory / "study"
        run_study(load_scenario(directory / "scenario.toml"), RunOptions(found[name], 1))
    return found


@pytest.mark.parametrize("kind", ["unbalanced", "balanced"])
def test_expected_shares_are_those_of_counts_with_a_fifth_of_the_variance(studies, kind):
    rows = summarize(studies[kind]).query("component == 'fixed'").set_index(["method", "parameter"])
    assert (rows.n_expected == rows.n).all()
    for measure in ("rejection", "coverage"):
        counted, expected = rows[measure], rows[f"expected_{measure}"]
        errors = rows[f"{measure}_mcse"], rows[f"expected_{measure}_mcse"]
        inside = counted.between(0.005, 0.995)  # else the MCSE of a count is itself not known
        z = ((counted - expected) / np.sqrt(errors[0] ** 2 + errors[1] ** 2))[inside]
        assert len(z) > 20
        assert abs(z).max() < 3.5, z
    of_interaction = rows.xs("diet[T.fed]:x", level="parameter")
    ratio = (of_interaction.expected_coverage_mcse / of_interaction.coverage_mcse) ** 2
    assert (ratio[["general/satterthwaite", "general/kenward-roger", "ml"]] < 1 / 5).all(), ratio


def exact_power(D, se, df, alpha=0.05):
    t = stats.t.ppf(1 - alpha / 2, df)
    return stats.nct.sf(t, df, D / se) + stats.nct.cdf(-t, df, D / se)


def test_expected_power_is_the_noncentral_t_where_that_is_exact(studies):
    """Two stages, balanced: an exact t test on 8 df; so is its equivalence test."""
    rows = summarize(studies["balanced"], method="two-stage").set_index("parameter")
    one = rows.loc["diet[T.fed]:x"]
    # SE of a difference of slopes: animals, images and points; nothing is simulated
    points = np.linspace(0, 1, 6)
    of_image = 0.08**2 + 0.085**2 / np.sum((points - 0.5) ** 2)
    se = np.sqrt(2 / 5 * (0.02**2 + of_image / 4))
    assert one.expected_rejection == pytest.approx(
        exact_power(0.1, se, 8), abs=3.5 * one.expected_rejection_mcse
    )
    assert exact_power(one.mde, se, 8) == pytest.approx(0.8, abs=0.02)
    curve = along_effects([studies["balanced"]], [0.0, 0.05, 0.2]).to_pandas()
    curve = curve.query("method == 'two-stage' and parameter == 'diet[T.fed]:x'")
    for point in curve.itertuples():
        z = (point.expected_rejection - exact_power(point.effect, se, 8)) / (
            point.expected_rejection_mcse
        )
        assert abs(z) < 3.5
    slope = rows.loc["slope of fed"]

    def shown(s):  # given the SE, s times the true one
        q, v = stats.t.ppf(0.95, 8) * s * se / np.sqrt(2), se / np.sqrt(2)
        inside = special.ndtr((0.25 - q - 0.1) / v) - special.ndtr((-0.2 + q - 0.1) / v)
        return max(0.0, inside) * stats.chi.pdf(s * np.sqrt(8), 8) * np.sqrt(8)

    exact, _ = integrate.quad(shown, 0, 6)
    assert slope.equivalence == pytest.approx(exact, abs=3.5 * slope.equivalence_mcse)


def test_intervals_stay_as_wide_where_an_effect_is_added(tmp_path):
    """What all this rests on, for every method that claims it; lme4 and plugins do not."""
    condition = prepared(tmp_path, UNBALANCED)
    y = draw_responses(condition.simulator, range(1, 30)).y
    added = 0.3 * condition.columns["general"].X[:, 3]
    assert set(condition.at_truth) == set(condition.ready)
    for name, one in condition.ready.items():
        before, after = (
            one.method.analyse([one.method.take(responses)], None).estimates
            for responses in (y, y + added)
        )
        for df, blocks in before.items():
            for block, moved in zip(blocks, after[df], strict=True):
                if block.parameter.kind == "fixed" and block.parameter.name == "diet[T.fed]:x":
                    assert moved.estimate == pytest.approx(block.estimate + 0.3, abs=1e-7), name
                    assert moved.std_error == pytest.approx(block.std_error, rel=1e-6), name
                    assert moved.df == pytest.approx(block.df, rel=1e-5, nan_ok=True), name


def test_folders_from_before_know_it_of_balanced_designs(studies):
    """Without the columns `shift` and `true_se` of its parts, a study is measured as with them."""
    known = summarize(studies["balanced"])
    paths = sorted(studies["balanced"].glob("estimates/*.parquet"))
    kept = [(path, pq.read_table(path)) for path in paths]
    try:
        for path, table in kept:
            write_part(path, table.drop_columns(["shift", "true_se"]))
        old = summarize(studies["balanced"])
    finally:
        for path, table in kept:
            write_part(path, table)
    of_general = [frame[frame.method.str.startswith("general")] for frame in (known, old)]
    for name in ("n_expected", "expected_rejection", "expected_coverage", "mde", "equivalence"):
        before, after = (frame[name].to_numpy(dtype=float) for frame in of_general)
        assert after == pytest.approx(before, rel=1e-6, nan_ok=True), name
    assert (old[old.method == "gee"].n_expected == 0).all()


def test_the_command_prints_power_along_effects(studies):
    folder = studies["balanced"]
    one_method = ("--method", "ols", "--parameter", "x")
    done = call_mcsim("summarize", folder, "--effects", "0,0.1", *one_method, cwd=folder)
    header, *rows = [line.split() for line in done.stdout.partition("\n\n")[0].splitlines()]
    assert header[:5] == ["condition", "method", "parameter", "effect", "power"]
    assert [row[1:4] for row in rows] == [["ols", "x", "0"], ["ols", "x", "0.1"]]
    form = ("--format", "json", "--parameter", "diet*:x")
    done = call_mcsim("summarize", folder, "--effects", "0.1", *form, cwd=folder)
    assert {row["effect"] for row in json.loads(done.stdout)} == {0.1}
    done = call_mcsim("summarize", folder, "--effects", "0.1,big", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--effects '0.1,big': write numbers, such as 0,0.05,0.1" in done.stderr
