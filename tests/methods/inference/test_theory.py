"""Closed forms of balanced designs: against the dense expected information, and simulation."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.planning.starter import starter
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.true_values import truth_of
from mcsim.simulate.responses import draw_responses, prepare_simulator
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.printed import FORMATS
from mcsim.summary.summarize import summarize

SCENARIO = """
title = "Theory"
replicates = 3000
seed = 7
[design]
response = "y"
factors = {{ diet = ["fasted", "fed"] }}
[[design.levels]]
name = "animal"
count = {animals}
[[design.levels]]
name = "image"
count = 4
[design.observations]
count = 5
[design.covariates]
x = {x}
[truth]
sigma = 0.5
[truth.fixed]
Intercept = 1.0
"diet[T.fed]" = 0.6
x = 0.2
[truth.random.animal]
sd = {{ Intercept = 0.5, x = 0.7 }}
{correlation}
[truth.random.image]
sd = {{ Intercept = 0.4, x = 0.6 }}
[[methods]]
name = "model"
formula = "{formula}"
df = ["containment", "kenward-roger", "z"]
"""
GRID, CENTRED = "{ grid = [0.0, 1.0] }", "{ grid = [-1.0, 1.0] }"
CORRELATED = 'correlation = { "Intercept,x" = 0.4 }'
GENERAL = "y ~ diet * x + (x | animal/image)"
REGION = 'design.factors.region={ levels = ["a", "b"], of = "image" }'  # each has 4 images of both


def scenario(tmp_path, formula=GENERAL, *, animals="6", x=GRID, correlation=CORRELATED):
    path = tmp_path / "theory.toml"
    path.write_text(SCENARIO.format(formula=formula, animals=animals, x=x, correlation=correlation))
    return path


def prepared(path, *overrides):
    loaded = load_scenario(path, overrides=overrides)
    [condition] = conditions(loaded)
    simulator, spec = prepare_simulator(condition, loaded.seed), loaded.methods[0]
    columns = model_columns(spec.parsed, simulator.design.frame)
    method = prepare_method(columns, MethodSettings(spec.estimator, spec.df, 0.95))
    theory = method.theory(truth_of(condition.truth))
    by_name = {df: {one.name: form for one, form in own.items()} for df, own in theory.items()}
    return simulator, columns, method, by_name


def changes(level, i, j):
    """Derivative of V in entry i, j of a level's Psi."""
    same = level.unit_of_row[:, None] == level.unit_of_row[None, :]
    product = np.outer(level.Z[:, i], level.Z[:, j])
    return same * (product if i == j else product + product.T)


def dense_theory(columns, truth, *, is_diagonal):
    """SD of the variances and sigma^2 by REML's expected information, and covariance of beta."""
    names, parts, values = [], [], []
    for level in columns.levels:
        spec = truth.random[level.level]
        sds = [spec.standard_deviations[name] for name in level.names]
        for i, first in enumerate(level.names):
            for j, second in enumerate(level.names[: i + 1]):
                if i == j or not is_diagonal:
                    correlation = 1.0 if i == j else spec.correlation_of(first, second)
                    names.append(f"{level.level}.var({first})" if i == j else None)
                    parts.append(changes(level, i, j))
                    values.append(sds[i] * sds[j] * correlation)
    names.append("sigma2")
    parts.append(np.eye(len(columns.X)))
    values.append(truth.sigma**2)
    V = sum(value * part for value, part in zip(values, parts, strict=True))
    inverse, X = np.linalg.inv(V), columns.X
    C = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ C @ X.T @ inverse
    turned = [P @ part for part in parts]
    information = [[0.5 * np.sum(a * b.T) for b in turned] for a in turned]
    sds = np.sqrt(np.diag(np.linalg.inv(information)))
    return {name: sd for name, sd in zip(names, sds, strict=True) if name}, C


@pytest.mark.parametrize(
    ("formula", "design"),
    [
        (GENERAL, {}),
        ("y ~ diet + (x || animal/image)", {"x": CENTRED, "correlation": ""}),
        ("y ~ diet * x + (x || animal/image)", {"x": CENTRED, "correlation": ""}),
        (GENERAL, {"animals": "{ fasted = 4, fed = 7 }"}),
        (GENERAL, {"x": "{ grid = [1e-6, 3e-6] }"}),
        ("y ~ diet * x * region + (x | animal/image)", {"animals": "4"}),
        ("y ~ diet * x + region + (x || animal/image)", {"x": CENTRED, "correlation": ""}),
    ],
)
def test_sds_equal_the_dense_expected_information(tmp_path, formula, design):
    path = scenario(tmp_path, formula, **design)
    overrides = [] if "* x" in formula else ["truth.fixed.x=0.0"]
    overrides += [REGION] * ("region" in formula)
    _, columns, _, theory = prepared(path, *overrides)
    truth = conditions(load_scenario(path, overrides=overrides))[0].truth
    expected, C = dense_theory(columns, truth, is_diagonal="||" in formula)
    sigma2_sd = expected.pop("sigma2")
    for found in theory.values():
        for name, sd in expected.items():
            assert found[name].emp_se == pytest.approx(sd, rel=1e-6)
        for j, name in enumerate(columns.names):
            assert found[name].emp_se == pytest.approx(np.sqrt(C[j, j]), rel=1e-6)
    df = 2.0 * truth.sigma**4 / sigma2_sd**2
    chi = stats.chi(df, scale=truth.sigma / np.sqrt(df))
    assert theory["z"]["sigma"].emp_se == pytest.approx(chi.std(), rel=1e-6)


def test_exact_df_are_those_of_kenward_and_roger_whatever_the_data(tmp_path):
    # an effect within images, between animals with a slope, and between animals without
    formulas = [GENERAL, "y ~ diet * x + (1 | animal/image)", "y ~ diet + x + (1 | animal)"]
    expected = [(10, 10, 10, 10), (None, None, 190, 190), (None, 10, 227)]
    for formula, df in zip(formulas, expected, strict=True):
        path = scenario(tmp_path, formula)
        if formula is not GENERAL:
            text = path.read_text().replace(", x = 0.7", "").replace(", x = 0.6", "")
            text = text.replace(CORRELATED, "")
            if "/image" not in formula:
                text = text.replace("[truth.random.image]\nsd = { Intercept = 0.4 }\n", "")
            path.write_text(text)
        simulator, columns, method, theory = prepared(path)
        exact = theory["kenward-roger"]
        assert tuple(exact[name].df for name in columns.names) == df, formula
        y = draw_responses(simulator, range(1, 6)).y
        analysis = method.analyse([method.take(y)], np.random.default_rng)
        assert (analysis.fits.status == 0).all()
        for row in analysis.estimates["kenward-roger"][: len(df)]:
            if exact[row.parameter.name].df is not None:
                assert row.df == pytest.approx(np.full(5, exact[row.parameter.name].df), rel=1e-6)


def test_a_factor_between_images_has_the_df_of_their_stratum(tmp_path):
    formula = "y ~ diet * x * region + (x | animal/image)"
    simulator, columns, method, theory = prepared(scenario(tmp_path, formula), REGION)
    exact = theory["kenward-roger"]
    # 12 animals; 96 images, less the animals, less region and diet:region
    df = {name: 82 if "region" in name else None for name in columns.names}
    assert {name: exact[name].df for name in columns.names} == df
    y = draw_responses(simulator, range(1, 6)).y
    analysis = method.analyse([method.take(y)], np.random.default_rng)
    assert (analysis.fits.status == 0).all()
    rows = {one.parameter.name: one for one in analysis.estimates["kenward-roger"]}
    assert rows["diet[T.fed]:region[T.b]"].df == pytest.approx(np.full(5, 82), rel=1e-6)


def test_power_is_that_of_the_noncentral_t(tmp_path):
    theory = prepared(scenario(tmp_path))[-1]
    one = theory["kenward-roger"]["diet[T.fed]"]
    quantile, shifted = stats.t.ppf(0.975, 10), stats.nct(10, 0.6 / one.emp_se)
    expected = shifted.sf(quantile) + shifted.cdf(-quantile)
    assert one.rejection == pytest.approx(expected, rel=1e-7)
    absent = "diet[T.fed]:x"
    assert theory["kenward-roger"][absent].rejection == pytest.approx(0.05, rel=1e-9)
    # the statistic has 10 df, its quantile those of containment: 240 - 48 - 2
    quantile = stats.t.ppf(0.975, 190)
    assert theory["containment"][absent].rejection == pytest.approx(2 * stats.t.sf(quantile, 10))
    assert theory["z"][absent].rejection == pytest.approx(2 * stats.t.sf(stats.norm.ppf(0.975), 10))


def test_power_of_an_effect_that_none_can_miss_is_1(tmp_path):
    for effect in np.geomspace(5.0, 500.0, 20):
        theory = prepared(scenario(tmp_path), f"truth.fixed.x={effect}")[-1]
        assert theory["kenward-roger"]["x"].rejection == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("formula", "design"),
    [
        ("y ~ diet + x + (x | animal/image)", {}),  # least squares is not best
        ("y ~ diet * x + (x || animal/image)", {"correlation": ""}),  # columns not orthogonal
        ("y ~ diet * x + (x || animal/image)", {"x": CENTRED}),  # correlated in truth
        ("y ~ x + (x | animal/image)", {}),  # the truth has another fixed effect
        ("y ~ diet * x + (1 | animal/image)", {}),  # and slopes
        ("y ~ diet * x + (x | image)", {}),  # and animals
        ("y ~ diet * x + (1 | animal) + (x | image)", {}),  # levels differ
        (GENERAL, {"x": "{ uniform = [0.0, 1.0] }"}),
        (GENERAL, {"animals": "{ uniform = [4, 7] }"}),
    ],
)
def test_there_is_none_elsewhere(tmp_path, formula, design):
    theory = prepared(scenario(tmp_path, formula, **design))[-1]
    assert (theory == {}) != ("animals" in design)  # how many animals does not matter


def test_images_that_differ_in_number_have_none(tmp_path):
    path = scenario(tmp_path)
    assert prepared(path, "design.levels.image.count={ uniform = [2, 6] }")[-1] == {}
    assert prepared(path, "design.observations.count={ uniform = [4, 6] }")[-1] == {}


@pytest.mark.parametrize(
    "override", ["truth.residual.distribution={ t = 5 }", "design.redraw=true"]
)
def test_a_truth_that_is_not_standard_has_none(tmp_path, override):
    path = scenario(tmp_path)
    loaded = load_scenario(path, overrides=[override], replicates=2)
    store = run_study(loaded, RunOptions(tmp_path / "out", n_workers=1))
    stored = pq.read_table(store.directory / "conditions.parquet")
    assert stored["theory_emp_se"].null_count == len(stored)


def test_many_fits_on_the_boundary_are_told_beside_the_closed_forms(tmp_path):
    loaded = load_scenario(scenario(tmp_path, animals="2"), replicates=30)
    store = run_study(loaded, RunOptions(tmp_path / "out", n_workers=1))
    table = summarize([store.directory])
    share = max(row["n_boundary"] for row in table.to_pylist()) / 30
    assert share > 0.2  # of 4 animals; the closed forms say nothing of it
    text = FORMATS["table"](table)
    assert f"Here {share:.0%} of the fits are on the boundary: the closed forms can be off" in text


def test_simulation_holds_to_theory(tmp_path):
    # 60 animals: the boundary is rare. 12 SDs and 12 rejections within 4 MCSE: false alarm 0.15%
    path = scenario(tmp_path, animals="30")
    store = run_study(load_scenario(path), RunOptions(tmp_path / "out", n_workers=1))
    table = summarize([store.directory])
    rows = table.to_pylist()
    known = [row for row in rows if row["theory_emp_se"] is not None]
    assert {row["parameter"] for row in known} == {
        *("Intercept", "diet[T.fed]", "x", "diet[T.fed]:x", "sigma"),
        *(f"{level}.var({name})" for level in ("animal", "image") for name in ("Intercept", "x")),
    }
    assert max(row["n_boundary"] for row in rows) < 0.01 * 3000
    for row in known:
        assert row["emp_se"] == pytest.approx(row["theory_emp_se"], abs=4 * row["emp_se_mcse"])
        if row["theory_rejection"] is not None:
            error = np.sqrt(row["theory_rejection"] * (1 - row["theory_rejection"]) / 3000)
            assert row["rejection"] == pytest.approx(row["theory_rejection"], abs=4 * error)
    text = FORMATS["table"](table)
    assert "df are exact or, where units cross, Satterthwaite's" in text
    assert "the closed forms can be off" not in text
    assert sum("animal.var(x)" in line for line in text.splitlines()) == 1  # for all df methods
    stored = pq.read_table(store.directory / "conditions.parquet")
    assert stored["theory_df"].null_count < len(stored)


def crossed(tmp_path, *changes):
    """A scenario of 6 subjects and 5 items in balance, with the changes."""
    text = starter("subjects-items", "s").split('[[methods]]\nname = "subjects-only"')[0]
    for old, new in (("count = 36", "count = 6"), ("count = 24", "count = 5"), *changes):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "crossed.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("terms", ["(condition | {})", "(1 | {})"])
def test_sds_of_crossed_designs_equal_the_dense_expected_information(tmp_path, terms):
    formula = f"y ~ condition + {terms.format('subject')} + {terms.format('item')}"
    path = crossed(
        tmp_path,
        ('dealt = "latin"', 'dealt = "all"'),
        ("y ~ condition + (condition | subject) + (condition | item)", formula),
    )
    sds = [
        "truth.random.subject.sd={ Intercept = 0.8 }",
        "truth.random.item.sd={ Intercept = 0.5 }",
    ]
    overrides = sds if terms.startswith("(1") else []
    _, columns, _, theory = prepared(path, *overrides)
    truth = conditions(load_scenario(path, overrides=overrides))[0].truth
    expected, C = dense_theory(columns, truth, is_diagonal=False)
    sigma2_sd, found = expected.pop("sigma2"), theory["satterthwaite"]
    for name, sd in expected.items():
        assert found[name].emp_se == pytest.approx(sd, rel=1e-5)
    for j, name in enumerate(columns.names):
        assert found[name].emp_se == pytest.approx(np.sqrt(C[j, j]), rel=1e-8)
    df = 2.0 * truth.sigma**4 / sigma2_sd**2
    chi = stats.chi(df, scale=truth.sigma / np.sqrt(df))
    assert found["sigma"].emp_se == pytest.approx(chi.std(), rel=1e-5)


def test_satterthwaites_df_of_crossed_designs_are_those_of_the_mean_squares(tmp_path):
    path = crossed(tmp_path, ('dealt = "latin"', 'dealt = "all"'))
    found = prepared(path)[3]["satterthwaite"]["condition[T.b]"]
    # differences between conditions of 6 subjects and of 5 items, each with mean square M
    parts = np.array([(0.2**2 + 2.0 / 5) / 6, (0.1**2 + 2.0 / 6) / 5, -2.0 / 30])
    df = parts.sum() ** 2 / np.sum(parts**2 / [5, 4, 40])
    assert found.emp_se == pytest.approx(np.sqrt(parts.sum()), rel=1e-8)
    assert found.df == pytest.approx(df, rel=1e-5)
    tails = stats.nct(df, 0.2 / found.emp_se), stats.t(df).ppf(0.975)
    assert found.rejection == pytest.approx(
        tails[0].sf(tails[1]) + tails[0].cdf(-tails[1]), rel=1e-4
    )


def test_simulated_crossed_data_agree_with_their_closed_forms(tmp_path):
    # error probability: 4 Monte Carlo standard errors for 5 numbers, 0.03% in all; fixed seed
    path = crossed(tmp_path, ('condition[T.b]" = 0.2', 'condition[T.b]" = 0.8'))
    overrides = ["design.levels.subject.count=16", "design.levels.item.count=12"]
    simulator, _, method, theory = prepared(
        path, *overrides, 'methods.maximal.df=["satterthwaite", "z"]'
    )
    n = 4000
    analysis = method.analyse([method.take(draw_responses(simulator, range(1, n + 1)).y)], None)
    for name in ("Intercept", "condition[T.b]"):
        form = theory["z"][name]
        [own] = [one for one in analysis.estimates["z"] if one.parameter.name == name]
        spread = own.estimate.std(ddof=1)
        assert abs(spread - form.emp_se) < 4 * spread / np.sqrt(2 * (n - 1))
    assert not {"subject.var(Intercept)", "sigma"} & theory["z"].keys()  # mean squares are shared


def test_pairs_that_do_not_all_meet_have_no_theory(tmp_path):
    assert prepared(crossed(tmp_path, ("# met = 0.5 ", "met = 0.5 ")))[3] == {}
