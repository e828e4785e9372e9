"""Methods whose residuals have a structure: from the scenario to the estimates.

Statistical comparisons are within 4 Monte Carlo standard errors: each fails by chance with
probability 6e-5. Seeds are fixed.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from mcsim.design.columns import model_columns
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.conditions import conditions
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.load import load_scenario
from mcsim.scenario.residuals import ResidualModel, residual_model
from mcsim.scenario.write import dump_scenario
from mcsim.simulate.responses import draw_responses
from mcsim.study.analyse import analyse_replicates
from mcsim.study.conditions_table import Planned, conditions_table
from mcsim.study.prepared import prepare_condition
from tests.oracles.dense import dense_deviance, residual_covariance

N_ANIMALS, N_IMAGES, N_POINTS = 8, 3, 6
UNIT = np.repeat(np.arange(N_ANIMALS * N_IMAGES), N_POINTS)


@pytest.fixture(scope="module")
def frame():
    """8 animals x 3 images x 6 points; AR1 residuals, twice as large in the fed animals."""
    generator = np.random.default_rng(12)
    animal = UNIT // N_IMAGES
    e = generator.normal(size=len(UNIT))
    for row in range(1, len(UNIT)):
        if UNIT[row] == UNIT[row - 1]:
            e[row] = 0.6 * e[row - 1] + 0.8 * e[row]
    e *= np.where(animal % 2, 2.0, 1.0)
    return pd.DataFrame(
        {
            "animal": pd.Categorical([f"a{i}" for i in animal]),
            "image": pd.Categorical([f"i{i}" for i in UNIT]),
            "spot": pd.Categorical([f"s{i}" for i in UNIT % N_IMAGES]),
            "batch": pd.Categorical([f"b{i}" for i in animal // 4]),
            "diet": pd.Categorical(np.where(animal % 2, "fed", "fasted")),
            "sort": pd.Categorical(["one"] * len(UNIT)),
            "x": np.tile(np.linspace(0.0, 1.0, N_POINTS), N_ANIMALS * N_IMAGES),
            "y": e + generator.normal(size=N_ANIMALS)[animal],
        }
    )


def analyse(frame, formula, residual, *, estimator="reml", df=("containment",), **options):
    columns = model_columns(parse_formula(formula), frame)
    settings = MethodSettings(estimator, df, 0.95, residual=residual_model(residual), **options)
    method = prepare_method(columns, settings)
    analysis = method.analyse([method.take(frame["y"].to_numpy()[None])], np.random.default_rng)
    for blocks in analysis.estimates.values():
        assert [one.parameter for one in blocks] == method.parameters()
    return method, analysis


def by_name(analysis, df="containment") -> dict[str, ParameterBlock]:
    return {one.parameter.name: one for one in analysis.estimates[df]}


def test_a_text_stands_for_a_table():
    assert residual_model("ar1") == ResidualModel(correlation="ar1")
    assert residual_model("ar1(x)") == ResidualModel(correlation="ar1", along="x")
    assert residual_model("exchangeable") == ResidualModel(correlation="exchangeable")
    assert residual_model("by:diet") == ResidualModel(by="diet")
    assert residual_model(None) is None


@pytest.mark.parametrize(
    ("formula", "residual", "name"),
    [
        ("y ~ diet * x + (x | animal/image)", "ar1", "phi"),
        ("y ~ diet * x + (x | animal/image)", "ar1(x)", "phi"),
        ("y ~ x + (1 | animal)", ResidualModel(correlation="exchangeable", within="image"), "rho"),
        ("y ~ x + (1 | animal)", ResidualModel(correlation="exchangeable", within="spot"), "rho"),
        ("y ~ x", ResidualModel(correlation="ar1", within="image", along="x"), "phi"),
        ("y ~ x + (1 | animal/image)", "by:diet", "sd_ratio(diet[T.fed])"),
        ("y ~ x", "by:diet", "sd_ratio(diet[T.fed])"),
    ],
)
@pytest.mark.parametrize("estimator", ["reml", "ml"])
def test_parameters_of_the_residuals_are_reported(frame, formula, residual, name, estimator):
    df = ("containment", "satterthwaite", "z")
    method, analysis = analyse(frame, formula, residual, estimator=estimator, df=df)
    for one in df:
        found = by_name(analysis, one)
        assert found[name].parameter.component == "residual"
        assert found[name].ci_lower[0] < found[name].estimate[0] < found[name].ci_upper[0]
        assert np.isfinite([found["x"].std_error[0], found["sigma"].std_error[0]]).all()
    assert by_name(analysis, "satterthwaite")["x"].df[0] > 1.0
    plain, _ = analyse(frame, formula, None, estimator=estimator)
    assert method.n_parameters == plain.n_parameters + 1


def test_within_an_image_it_does_not_matter_how_images_are_labelled(frame):
    found = [
        by_name(
            analyse(frame, "y ~ x + (1 | animal)", ResidualModel(correlation="ar1", within=w))[1]
        )
        for w in ("image", "spot")
    ]
    assert found[0]["phi"].estimate[0] == found[1]["phi"].estimate[0]


@pytest.mark.parametrize(
    ("formula", "residual", "message"),
    [
        ("y ~ x", "ar1", "the formula has no grouping, so say within which units"),
        ("y ~ x", "by:diett", "residual names 'diett', which is no column of the data"),
        ("y ~ x", "by:x", "needs a factor; 'x' is a number"),
        ("y ~ x", "by:sort", "has one SD, since all observations have sort = 'one'"),
        ("y ~ x + (1 | image)", "ar1(diet)", "needs a covariate to order by; 'diet' is a factor"),
        ("y ~ x + (1 | image)", "exchangeable", "are the same thing; leave one of them out"),
        ("y ~ x + (x | image)", "exchangeable", "are the same thing; leave one of them out"),
        (
            "y ~ x + (1 | image)",
            ResidualModel(correlation="ar1", within="animal"),
            "'animal' holds several; use within = 'image'",
        ),
        (
            "y ~ x + (1 | animal)",
            ResidualModel(correlation="ar1", within="batch"),
            "'batch' holds several; use within = 'animal'",
        ),
    ],
)
def test_what_the_data_cannot_tell_is_refused(frame, formula, residual, message):
    with pytest.raises(DataError, match=message):
        analyse(frame, formula, residual)


def test_single_observations_have_no_correlation(frame):
    with pytest.raises(DataError, match="no two observations share a unit"):
        analyse(frame[::N_POINTS], "y ~ 1", ResidualModel(correlation="ar1", within="image"))


def test_ar1_in_pairs_beside_a_random_intercept_is_refused(frame):
    pairs = frame[frame["x"] < 0.3]
    for residual in ("ar1", "ar1(x)"):
        with pytest.raises(DataError, match="are the same thing"):
            analyse(pairs, "y ~ x + (1 | image)", residual)


def test_pairs_at_several_distances_tell_ar1_from_a_random_intercept(frame):
    place = np.arange(len(frame)) % N_POINTS
    pairs = frame[(place == 0) | (place == 1 + UNIT % (N_POINTS - 1))]
    _, analysis = analyse(pairs, "y ~ x + (1 | image)", "ar1(x)")
    assert -1.0 < by_name(analysis)["phi"].estimate[0] < 1.0


def test_a_covariate_may_not_have_the_name_of_a_parameter(frame):
    with pytest.raises(DataError, match="'phi' has the name of a parameter"):
        analyse(frame.assign(phi=frame["x"]), "y ~ phi + (1 | image)", "ar1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"df": ("kenward-roger",)}, "use df 'satterthwaite', 'containment' or 'z'"),
        ({"interval": "profile"}, "interval 'profile' is for residuals that are independent"),
        ({"interval": "bootstrap"}, "interval 'bootstrap' is for residuals that are independent"),
        ({"estimator": "statsmodels"}, "estimator 'statsmodels' has residuals that are indep"),
    ],
)
def test_what_is_not_known_for_such_residuals_is_refused(frame, options, message):
    with pytest.raises(DataError, match=message):
        analyse(frame, "y ~ x + (1 | image)", "ar1", **options)


@pytest.mark.parametrize(
    ("kind", "residual", "name"),
    [
        ("ar1", ResidualModel(correlation="ar1", within="image"), "phi"),
        ("exchangeable", ResidualModel(correlation="exchangeable", within="image"), "rho"),
        ("strata", ResidualModel(by="diet"), "sd_ratio(diet[T.fed])"),
    ],
)
def test_standard_errors_are_those_of_the_observed_information(frame, kind, residual, name):
    _, analysis = analyse(frame, "y ~ diet * x", residual)
    found = by_name(analysis)
    value, sigma = found[name].estimate[0], found["sigma"].estimate[0]
    fed = (frame["diet"] == "fed").to_numpy(dtype=int)
    x = frame["x"].to_numpy()
    X = np.column_stack([np.ones(len(x)), fed, x, fed * x])
    nu = len(x) - 4

    def deviance(value, log_sigma):
        R = residual_covariance(kind, UNIT, [value], stratum=fed)
        profiled, _, best = dense_deviance(X, [], frame["y"].to_numpy(), [], is_reml=True, R=R)
        ratio = best / np.exp(2.0 * log_sigma)
        return profiled + nu * (ratio - 1.0 - np.log(ratio))

    at, h = np.array([value, np.log(sigma)]), 1e-4
    H = np.empty((2, 2))
    for i, a in enumerate(np.eye(2) * h):
        for j, b in enumerate(np.eye(2) * h):
            corners = deviance(*(at + a + b)) + deviance(*(at - a - b))
            H[i, j] = (corners - deviance(*(at + a - b)) - deviance(*(at - a + b))) / (4 * h * h)
    se = np.sqrt(np.diag(2.0 * np.linalg.inv(H)))
    assert found[name].std_error[0] == pytest.approx(se[0], rel=1e-4)
    assert found["sigma"].std_error[0] == pytest.approx(sigma * se[1], rel=1e-4)
    quantile = special.ndtri(0.975)
    if kind == "strata":
        limits = value * np.exp(np.array([-1.0, 1.0]) * quantile * se[0] / value)
    else:
        limits = np.tanh(
            np.arctanh(value) + np.array([-1.0, 1.0]) * quantile * se[0] / (1.0 - value**2)
        )
    assert [found[name].ci_lower[0], found[name].ci_upper[0]] == pytest.approx(limits, rel=1e-4)


def test_a_share_is_of_the_residual_variance_of_the_first_level(frame):
    share = (EstimandSpec(name="animal.icc"), EstimandSpec(name="total.var(Intercept)"))
    _, analysis = analyse(frame, "y ~ x + (1 | animal)", "by:diet", estimands=share)
    found = by_name(analysis)
    value, se = found["animal.icc"].estimate[0], found["animal.icc"].std_error[0]
    # m <- lme(y ~ x, random = ~1 | animal, weights = varIdent(form = ~1 | diet)); VarCorr(m)
    r = {"animal.sd(Intercept)": 1.2195736, "sigma": 0.8739453}
    for name, expected in r.items():
        assert found[name].estimate[0] == pytest.approx(expected, rel=1e-6)
    assert value == pytest.approx(1.2195736**2 / (1.2195736**2 + 0.8739453**2), rel=1e-6)
    assert found["total.var(Intercept)"].estimate[0] == pytest.approx(1.2195736**2, rel=1e-6)

    y, x = frame["y"].to_numpy(), frame["x"].to_numpy()
    X, is_fed = np.column_stack([np.ones(len(x)), x]), (frame["diet"] == "fed").to_numpy()
    same = np.equal.outer(UNIT // N_IMAGES, UNIT // N_IMAGES)

    def deviance(logs):
        sd, sigma, ratio = np.exp(logs)
        V = sd**2 * same + np.diag((sigma * np.where(is_fed, ratio, 1.0)) ** 2)
        solved = np.linalg.solve(V, np.column_stack([X, y]))
        A = X.T @ solved[:, :-1]
        beta = np.linalg.solve(A, X.T @ solved[:, -1])
        rest = (y - X @ beta) @ (solved[:, -1] - solved[:, :-1] @ beta)
        return np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + rest

    names, h = ("animal.sd(Intercept)", "sigma", "sd_ratio(diet[T.fed])"), 1e-3
    at, steps = np.log([found[name].estimate[0] for name in names]), h * np.eye(3)
    H = [
        [
            deviance(at + a + b) + deviance(at - a - b)
            - deviance(at + a - b) - deviance(at - a + b)
            for b in steps
        ]
        for a in steps
    ]  # fmt: skip
    slopes = np.array([2.0, -2.0, 0.0])  # of the logit in log SDs
    logit_se = np.sqrt(slopes @ np.linalg.inv(np.array(H) / (8.0 * h * h)) @ slopes)
    assert se == pytest.approx(value * (1.0 - value) * logit_se, rel=1e-4)


RESIDUALS = """
[[methods]]
name = "serial"
formula = "y ~ diet * x + (x | animal) + (1 | animal:image)"
residual = "ar1(x)"
[[methods]]
name = "even"
formula = "y ~ diet * x + (x | animal)"
residual = { correlation = "exchangeable", within = "image" }
[[methods]]
name = "by"
formula = "y ~ diet * x + (x | animal/image)"
residual = "by:diet"
likelihood_ratio = "diagonal"
"""


@pytest.fixture
def scenario_with(small_scenario):
    """The small scenario with methods that model the residuals, and other values."""

    def load(*overrides):
        text = small_scenario.read_text().replace("[[methods]]", RESIDUALS + "[[methods]]", 1)
        small_scenario.write_text(text)
        return load_scenario(small_scenario, overrides=overrides)

    return load


def truths(scenario):
    condition = conditions(scenario)[0]
    ready = prepare_condition(scenario, condition)
    planned = Planned(
        condition, ready.simulator.design, ready.methods, ready.columns, ready.undetermined
    )
    table = conditions_table(scenario, [planned]).to_pylist()
    return {(row["method"], row["parameter"]): row["truth"] for row in table}


@pytest.mark.parametrize(
    ("residual", "phi", "rho", "ratio", "first"),
    [
        ("{distribution='normal'}", 0.0, 0.0, 1.0, 1.0),
        ("{correlation='ar1', phi=0.4}", 0.4, None, 1.0, 1.0),
        ("{correlation='exchangeable', rho=0.3}", None, 0.3, 1.0, 1.0),
        ("{sd_by={diet={fasted=2.0, fed=3.0}}}", 0.0, 0.0, 1.5, 2.0),
        ("{sd_by={diet={fed=3.0}}}", 0.0, 0.0, 3.0, 1.0),
    ],
)
def test_truth_of_the_residuals(scenario_with, residual, phi, rho, ratio, first):
    found = truths(scenario_with(f"truth.residual={residual}", "estimands=[{name='animal.icc'}]"))
    assert found["serial", "phi"] == phi
    assert found["even", "rho"] == rho
    assert found["by", "sd_ratio(diet[T.fed])"] == ratio
    scale = {"by": first, "serial": 1.0, "diagonal": 1.0}  # stated: before sd_by
    for method, times in scale.items():
        variances = [found[method, f"{level}.var(Intercept)"] for level in ("animal", "image")]
        share = variances[0] / (sum(variances) + (0.5 * times) ** 2)
        assert found[method, "sigma"] == 0.5 * times
        assert found[method, "animal.icc"] == pytest.approx(share, rel=1e-12)


def test_a_scenario_keeps_what_it_says_of_residuals(scenario_with, tmp_path):
    scenario = scenario_with()
    again = tmp_path / "again.toml"
    again.write_text(dump_scenario(scenario))
    assert load_scenario(again) == scenario


def test_replicates_with_lost_rows_are_fitted(scenario_with):
    scenario = scenario_with(
        "truth.missing={observations=0.3}", "truth.residual={correlation='ar1', phi=0.4}"
    )
    condition = prepare_condition(scenario, conditions(scenario)[0])
    for replicate in (1, 2, 3):
        estimates, fits = analyse_replicates(condition, range(replicate, replicate + 1))
        assert set(fits["status"].to_pylist()) <= {"ok", "boundary"}
        rows = estimates.to_pylist()
        phi = [row["estimate"] for row in rows if row["parameter"] == "phi"]
        assert len(phi) == 1
        assert -1.0 < phi[0] < 1.0


def test_intervals_cover_the_truth(scenario_with):
    scenario = scenario_with(
        "design.levels.animal.count=20", "design.observations.count=12",
        "truth.residual={correlation='ar1', phi=0.5}",
    )  # fmt: skip
    condition = prepare_condition(scenario, conditions(scenario)[0])
    method = condition.methods["serial"]
    block = draw_responses(condition.simulator, range(1, 801))
    analysis = method.analyse([method.take(block.y)], np.random.default_rng)
    found = by_name(analysis)
    for name, truth in (("phi", 0.5), ("sigma", 0.5), ("x", -1.0)):
        one = found[name]
        covers = (one.ci_lower <= truth) & (truth <= one.ci_upper)
        # nominal but for terms of the order of 1 / 160 images
        assert abs(covers.mean() - 0.95) < 4.0 * np.sqrt(0.95 * 0.05 / 800)
