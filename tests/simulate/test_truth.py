"""Truths that the models do not know have the moments that the scenario states.

Every moment is an average per data set, compared with its closed form within 4 Monte Carlo standard
errors over 2,000 data sets: each comparison fails by chance with probability 6e-5, all of them
together (fewer than 200) with 1%. The seed is fixed.
"""

import numpy as np
import pytest

from mcsim.errors import DataError
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import draw_responses, prepare_simulator
from tests.conftest import SMALL

N_REPLICATES = 2000
ONLY_RESIDUALS = ("truth.random={}", "truth.fixed={}", "truth.sigma=2")


@pytest.fixture
def simulated(small_scenario):
    """Frame and responses of data sets of the small scenario with other values."""

    def simulate(*overrides):
        scenario = load_scenario(small_scenario, overrides=overrides)
        simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
        return simulator.design.frame, draw_responses(simulator, range(1, N_REPLICATES + 1)).y

    return simulate


def assert_agrees(per_data_set, expected):
    """The mean over data sets, the first axis, is `expected` within 4 MCSE."""
    mcse = per_data_set.std(axis=0, ddof=1) / len(per_data_set) ** 0.5
    assert np.all(mcse > 0)
    assert np.all(np.abs(per_data_set.mean(axis=0) - expected) < 4 * mcse)


def products_within(frame, y):
    """Products of residuals of the same image, averaged over the images: (replicates, 5, 5)."""
    e = y.reshape(len(y), -1, 5)  # five observations in each image
    assert frame["image"].nunique() == e.shape[1]
    return np.einsum("rui,ruj->rij", e, e) / e.shape[1]


def test_autoregressive_residuals_follow_the_order_of_a_covariate(simulated):
    values = [0.7, 0.1, 5.0, 0.2, 0.1]  # ranks 3, 0, 4, 2, 1: of equal ones the first row is first
    frame, y = simulated(
        *ONLY_RESIDUALS,
        f"design.covariates.x={{values={values}}}",
        'truth.residual={correlation="ar1", phi=-0.6, along="x"}',
    )
    ranks = np.array([3, 0, 4, 2, 1])
    expected = 4 * (-0.6) ** np.abs(ranks[:, None] - ranks)
    assert_agrees(products_within(frame, y), expected)
    assert_agrees(y.mean(axis=1), 0.0)
    e = y.reshape(len(y), -1, 5)
    assert_agrees((e[:, 1:, 1] * e[:, :-1, 2]).mean(axis=1), 0.0)  # the last and the next first


def test_autoregressive_residuals_count_the_steps_of_a_covariate(simulated):
    frame, y = simulated(
        *ONLY_RESIDUALS,
        "design.covariates.x={values=[1.0, 0.0, 0.5, 2.5, 1.5]}",
        'truth.residual={correlation="ar1", phi=-0.9, along="x"}',
    )
    steps = np.array([2, 0, 1, 5, 3])
    assert_agrees(products_within(frame, y), 4 * (-0.9) ** np.abs(steps[:, None] - steps))


def test_autoregressive_residuals_follow_the_order_of_the_rows_by_default(simulated):
    frame, y = simulated(*ONLY_RESIDUALS, 'truth.residual={correlation="ar1", phi=0.9}')
    ranks = np.arange(5)
    assert_agrees(products_within(frame, y), 4 * 0.9 ** np.abs(ranks[:, None] - ranks))


@pytest.mark.parametrize("rho", [0.3, -0.25])
def test_exchangeable_residuals_have_one_correlation(simulated, rho):
    frame, y = simulated(
        *ONLY_RESIDUALS, f'truth.residual={{correlation="exchangeable", rho={rho}}}'
    )
    expected = 4 * np.where(np.eye(5) > 0, 1.0, rho)
    if rho == -0.25:  # the least that five can have: their sum is 0
        assert np.abs(y.reshape(len(y), -1, 5).sum(axis=2)).max() < 1e-12
    assert_agrees(products_within(frame, y), expected)


def test_the_residual_sd_differs_between_levels_of_a_factor(simulated):
    frame, y = simulated(*ONLY_RESIDUALS, "truth.residual.sd_by={diet={fed=1.5}}")
    fed = (frame["diet"] == "fed").to_numpy()
    assert_agrees((y[:, fed] ** 2).mean(axis=1), 9.0)
    assert_agrees((y[:, ~fed] ** 2).mean(axis=1), 4.0)


def test_the_residual_sd_grows_with_a_power_of_a_covariate(simulated):
    frame, y = simulated(
        *ONLY_RESIDUALS,
        "design.covariates.x={values=[-2, 0.5, 1, 3, 4]}",
        'truth.residual.power={of="x", exponent=0.5}',
    )
    squares = np.diagonal(products_within(frame, y), axis1=1, axis2=2)
    assert_agrees(squares, 4 * np.array([2, 0.5, 1, 3, 4]))


def test_the_residual_sd_grows_with_the_mean_of_the_observation(simulated):
    # given the animal's effect u the SD is sigma |mu + u|: the variance is s2 + sigma2 (mu2 + s2)
    frame, y = simulated(
        "truth.random={animal={sd={Intercept=0.6}}}",
        "truth.fixed={Intercept=1.0, x=-3.0}",
        'truth.residual.power={of="mean", exponent=1}',
    )
    mu = 1.0 - 3.0 * frame["x"].to_numpy()[:5]
    e = (y - (1.0 - 3.0 * frame["x"].to_numpy())).reshape(N_REPLICATES, -1, 5)
    assert_agrees((e**2).mean(axis=1), 0.36 + 0.25 * (mu**2 + 0.36))
    assert_agrees(e.mean(axis=1), 0.0)


def test_correlation_and_sds_of_the_residuals_combine(simulated):
    frame, y = simulated(
        *ONLY_RESIDUALS,
        'truth.residual={correlation="ar1", phi=0.6, sd_by={diet={fed=0.5}}}',
        'truth.residual.power={of="x", exponent=1}',
        "design.covariates.x={values=[1, 2, 3, 4, 5]}",
    )
    x = np.arange(1, 6)
    fed = (frame["diet"] == "fed").to_numpy()
    expected = 0.6 ** np.abs(x[:, None] - x) * np.outer(x, x)
    e = y[:, fed].reshape(len(y), -1, 5)
    assert_agrees(np.einsum("rui,ruj->rij", e, e) / e.shape[1], expected)


def shapes(name, shape):
    """Skewness and excess kurtosis, in closed form."""
    if name == "t":
        return 0.0, 6 / (shape - 4)
    if name == "gamma":
        return 2 / shape**0.5, 6 / shape
    if name == "skew_normal":
        m = shape / np.sqrt(1 + shape**2) * np.sqrt(2 / np.pi)
        return (4 - np.pi) / 2 * m**3 / (1 - m**2) ** 1.5, 2 * (np.pi - 3) * (
            m**2 / (1 - m**2)
        ) ** 2
    share, distance = shape
    p, d2 = share * (1 - share), distance**2
    variance = 1 + p * d2
    third, fourth = distance**3 * p * (1 - 2 * share), 3 + 6 * p * d2 + d2**2 * p * (1 - 3 * p)
    return third / variance**1.5, fourth / variance**2 - 3


SHAPES = [
    ("t", 14), ("skew_normal", 5), ("skew_normal", -2), ("gamma", 2), ("mixture", [0.2, 3])
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_residuals_have_the_stated_sd_and_only_another_shape(simulated, name, shape):
    _, y = simulated(*ONLY_RESIDUALS, f"truth.residual.distribution={{{name}={shape}}}")
    skewness, excess = shapes(name, shape)
    for power, expected in enumerate((0.0, 1.0, skewness, 3.0 + excess), start=1):
        assert_agrees(((y / 2) ** power).mean(axis=1), expected)


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_random_effects_have_the_stated_sds_and_correlation(simulated, name, shape):
    # correlated effects are sums of draws: A z, where A A is the correlation matrix
    _, y = simulated(
        "truth.sigma=1e-9",
        "truth.fixed={}",
        "truth.random={animal={sd={Intercept=2, x=3}, correlation=0.6, "
        f"distribution={{{name}={shape}}}}}}}",
    )
    animals = y.reshape(len(y), 9, 20)
    intercept, slope = animals[:, :, 0], animals[:, :, 4] - animals[:, :, 0]
    assert_agrees((intercept * slope).mean(axis=1), 0.6 * 2 * 3)
    values, vectors = np.linalg.eigh([[1, 0.6], [0.6, 1]])
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    skewness, excess = shapes(name, shape)
    for effect, weights in ((intercept / 2, root[0]), (slope / 3, root[1])):
        moments = (0.0, 1.0, skewness * np.sum(weights**3), 3 + excess * np.sum(weights**4))
        for power, expected in enumerate(moments, start=1):
            assert_agrees((effect**power).mean(axis=1), expected)


def test_effects_that_are_not_correlated_have_exactly_the_shape(simulated):
    _, y = simulated(
        "truth.sigma=1e-9",
        "truth.fixed={}",
        "truth.random={image={sd={Intercept=1, x=1}, distribution={gamma=1}}}",
    )
    intercept = y.reshape(len(y), 36, 5)[:, :, 0]
    assert intercept.min() > -1.0 - 1e-6  # an exponential less its mean
    assert_agrees((intercept**3).mean(axis=1), 2.0)


def test_skewed_draws_lose_skewness_along_a_series(simulated):
    # e_k = phi e_(k-1) + c z_k: the third moment is phi^3 times the last one plus c^3 that of z
    _, y = simulated(
        *ONLY_RESIDUALS,
        'truth.residual={correlation="ar1", phi=0.6, distribution={gamma=4}}',
    )
    third = [1.0]  # 2 / sqrt(4)
    for _ in range(4):
        third.append(0.6**3 * third[-1] + 0.8**3)
    e = y.reshape(len(y), -1, 5) / 2
    assert_agrees((e**3).mean(axis=1), np.array(third))
    assert_agrees((e**2).mean(axis=1), 1.0)


def test_every_level_has_its_own_distribution(simulated):
    _, y = simulated(
        "truth.sigma=1e-9",
        "truth.fixed={}",
        "truth.random.animal={sd={Intercept=2}, distribution={gamma=1}}",
        "truth.random.image={sd={Intercept=1}}",
    )
    images = y.reshape(len(y), 9, 4, 5)[..., 0]
    total = 4.0 + 1.0
    assert_agrees((images**2).mean(axis=(1, 2)), total)
    assert_agrees((images**3).mean(axis=(1, 2)), 2.0 * 2.0**3)
    assert_agrees((images[:, :, 0] * images[:, :, 1]).mean(axis=1), 4.0)


def test_random_effects_do_not_depend_on_how_the_residuals_are_made(small_scenario):
    # SDs of 1e-9 leave the effects alone
    products = []
    for residual in ("{}", '{correlation="ar1", phi=0.6}'):
        scenario = load_scenario(
            small_scenario, overrides=["truth.sigma=1e-9", f"truth.residual={residual}"]
        )
        simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
        products.append(draw_responses(simulator, range(1, N_REPLICATES + 1)).products[0])
    degrees = 9 - 2
    expected = [[0.36, 0.072], [0.072, 0.16]]
    for one in products:
        assert_agrees(one / degrees, np.array(expected))


def test_an_infinite_sd_is_refused(small_scenario):
    for of in ("x", "mean"):
        scenario = load_scenario(
            small_scenario,
            overrides=[
                f'truth.residual.power={{of="{of}", exponent=-1}}',
                "truth.fixed={x=1}",
            ],
        )
        with pytest.raises(DataError, match=f"power: '{of}' is 0 in some observations"):
            prepare_simulator(conditions(scenario)[0], 1)


def test_the_data_of_a_truth_without_these_options_stay_as_they_were(tmp_path):
    # oracle: what was drawn before there were any
    path = tmp_path / "s.toml"
    path.write_text(SMALL)
    scenario = load_scenario(path)
    (condition,) = conditions(scenario)
    assert condition.identity == "b68517842979b8eed143f247054c1a6dd751348878aa5742213ea93b0ecc2e71"
    y = draw_responses(prepare_simulator(condition, scenario.seed), [3]).y[0]
    assert y[0] == pytest.approx(-0.2484910460562323, rel=1e-12)
    assert y[-1] == pytest.approx(float.fromhex("-0x1.8fcb228686122p-1"), rel=1e-12)


def test_a_truth_that_states_nothing_new_is_the_same_condition(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(SMALL)
    plain = conditions(load_scenario(path))[0]
    assert plain.truth.is_standard
    for override in (
        "truth.residual={}",
        "truth.residual={sd_by={}, distribution='normal'}",
        "truth.random.animal.distribution=normal",
    ):
        assert conditions(load_scenario(path, overrides=[override]))[0].identity == plain.identity
    other = load_scenario(path, overrides=['truth.residual={correlation="ar1", phi=0}'])
    assert not conditions(other)[0].truth.is_standard
