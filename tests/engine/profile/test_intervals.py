"""Profile-likelihood limits against lme4, closed forms, and minima that scipy finds without the
engine."""

import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import chi2

from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_moments, reduce_responses
from mcsim.engine.optimum.search import Status
from mcsim.engine.profile.components import Correlation, Deviation, Share
from mcsim.engine.profile.deviance import Surface
from mcsim.engine.profile.intervals import profile_intervals
from tests.engine.test_fit import read_model
from tests.oracles.dense import dense_deviance
from tests.oracles.profiles import AnimalDeviance, OneWay

REFERENCE = Path(__file__).parents[2] / "reference"
CUTOFF = chi2.ppf(0.95, 1)
SDS = [Deviation(((level, column),)) for level in (0, 1) for column in (0, 1)]
CORRELATIONS = [Correlation(0, 0, 1), Correlation(1, 0, 1)]
SIGMA = Deviation()


def fitted(X, levels, responses, *, is_reml=True):
    names = tuple(f"x{j}" for j in range(X.shape[1]))
    design = compile_design(X, levels, names=names, is_reml=is_reml)
    moments = reduce_responses(design, np.atleast_2d(responses))
    return design, moments, fit_moments(design, moments)


def profiled(X, levels, responses, targets, *, is_reml=True):
    design, moments, fit = fitted(X, levels, responses, is_reml=is_reml)
    return profile_intervals(partial(Surface, design, moments), fit, targets, confidence=0.95)


def simulated(X, levels, n, sds, seed):
    """Responses with independent effects of SDs (n_levels, n_columns), and sigma 0.085."""
    generator = np.random.default_rng(seed)
    y = 0.085 * generator.normal(size=(n, len(X)))
    for level, own in zip(levels, sds, strict=True):
        for column, sd in zip(level.Z.T, own, strict=True):
            effects = generator.normal(size=(n, int(level.unit_of_row.max()) + 1))
            y += sd * effects[:, level.unit_of_row] * column
    return y


# --- lme4 ---


@pytest.mark.parametrize("name", ["small_1", "small_2"])
def test_limits_equal_those_of_lme4(name):
    # lme4::confint(profile(lmer(y ~ diet * x + (x || animal/image)))), always on the ML deviance.
    # It interpolates with splines: 1e-4; with straight lines where it warns of a bad spline: 1e-2
    stored = json.loads((REFERENCE / f"{name}.profile.json").read_text())["models"]["diagonal"]
    theirs = ["sd_(Intercept)|animal", "sd_x|animal", "sd_(Intercept)|animal:image"]
    theirs += ["sd_x|animal:image", "sigma"]
    X, levels, y = read_model(name, "diagonal")
    ours = profiled(X, levels, y, [*SDS, SIGMA], is_reml=False)
    for position, label in enumerate(theirs):
        at = stored["names"].index(label)
        assert not stored["suspect"][at]
        is_rough = any(f"bad spline fit for {label}:" in text for text in stored["warnings"])
        tolerance = 1e-2 if is_rough else 1e-4
        assert ours.lower[0, position] == pytest.approx(stored["lower"][at], rel=tolerance)
        assert ours.upper[0, position] == pytest.approx(stored["upper"][at], rel=tolerance)


# --- minima that scipy finds ---


def test_deviance_by_animal_equals_the_dense_one():
    X, levels, y = read_model("small_1", "general")
    oracle = AnimalDeviance(X, levels, y, is_reml=True)
    Lams = [np.array([[0.3, 0.0], [0.1, 0.2]]), np.array([[0.5, 0.0], [-0.2, 0.9]])]
    pairs = [(level.unit_of_row, level.Z) for level in levels]
    expected, _, sigma2 = dense_deviance(X, pairs, y, Lams, is_reml=True)
    covariances = [sigma2 * Lam @ Lam.T for Lam in Lams]
    assert oracle.at(covariances, 0.5 * np.log(sigma2)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["small_1", "small_2"])
def test_limits_are_where_the_lowest_deviance_that_scipy_finds_reaches_the_cutoff(name):
    # general structure; the estimate of small_1 is on the boundary, where lme4's profile fails
    X, levels, y = read_model(name, "general")
    stored = json.loads((REFERENCE / f"{name}.json").read_text())["models"]["general"]["REML"]
    goal = -2.0 * stored["logLik"] + CUTOFF
    targets = [SDS[0], SDS[1], SDS[3], CORRELATIONS[1], SIGMA]
    found = profiled(X, levels, y, targets)
    oracle = AnimalDeviance(X, levels, y, is_reml=True)
    generator = np.random.default_rng(1)
    starts = [np.append(s, np.log(0.085)) for s in generator.normal(0.0, 0.7, size=(4, 6))]
    for position, held in enumerate((0, 1, 4, 5, 6)):
        scale = {5: np.arcsin, 6: np.log}.get(held, lambda sd: 10.0 * sd)
        for limit in (found.lower[0, position], found.upper[0, position]):
            lowest = oracle.lowest(held, scale(limit), starts)
            if limit in (0.0, 1.0):
                assert lowest <= goal
            else:  # -2 logLik changes by 2 or more when a limit changes by e: 1e-5 relative
                assert lowest == pytest.approx(goal, abs=2e-5)


def test_limits_of_compound_symmetry_are_where_the_dense_minimum_reaches_the_cutoff():
    generator = np.random.default_rng(4)
    unit = np.repeat(np.arange(8), 9)
    Z = np.tile(np.eye(3), (24, 1))
    X = np.column_stack([np.ones(72), Z[:, 1:]])
    y = generator.normal(size=8)[unit] + 0.3 * generator.normal(size=72)
    y += np.sum(Z * generator.normal(size=(8, 3))[unit], axis=1)
    level = Level(unit, Z, (("compound", 3),), ("a", "b", "c"))
    targets = [Deviation(((0, 2),)), Correlation(0, 0, 2)]
    found = profiled(X, (level,), y, targets)

    def deviance(sd, correlation, sigma):
        R = np.full((3, 3), correlation) + (1.0 - correlation) * np.eye(3)
        Lam = np.linalg.cholesky(R) * sd / sigma
        profiled, _, sigma2 = dense_deviance(X, [(unit, Z)], y, [Lam], is_reml=True)
        ratio = sigma2 / sigma**2
        return profiled + 69 * (ratio - 1.0 - np.log(ratio))

    def at_sd(sd):
        return lambda free: deviance(sd, -0.5 + 1.499 / (1.0 + np.exp(-free[0])), np.exp(free[1]))

    def at_correlation(r):
        return lambda free: deviance(np.exp(free[0]), r, np.exp(free[1]))

    fit = fitted(X, (level,), y)[2]
    goal = -2.0 * fit.loglik[0] + CUTOFF
    assert found.upper[0, 1] < 1.0
    assert found.lower[0, 1] > -0.5
    for position, at in enumerate((at_sd, at_correlation)):
        for limit in (found.lower[0, position], found.upper[0, position]):
            best = minimize(at(limit), [0.0, 0.0], method="BFGS", options={"gtol": 1e-6})
            assert best.fun == pytest.approx(goal, abs=1e-5)


def test_upper_limit_is_where_the_lower_of_two_minima_reaches_the_cutoff():
    # one minimum has intercepts that rise with the slope, the other one intercepts that fall
    generator = np.random.default_rng(5)
    unit, x = np.repeat(np.arange(6), 6), generator.uniform(size=36)
    X, y = np.column_stack([np.ones(36), x]), generator.normal(size=(200, 36))[85]
    level = Level(unit, X, (("general", 2),), ("1", "x"))
    design, moments, fit = fitted(X, (level,), y)
    found = profile_intervals(
        partial(Surface, design, moments), fit, [Deviation(((0, 1),))], confidence=0.95
    )

    def deviance(free):
        first, second, log_sigma = free
        Lam = np.array([[first, second], [found.upper[0, 0], 0.0]]) / np.exp(log_sigma)
        profiled, _, sigma2 = dense_deviance(X, [(unit, X)], y, [Lam], is_reml=True)
        ratio = sigma2 / np.exp(2.0 * log_sigma)
        return profiled + 34 * (ratio - 1.0 - np.log(ratio))

    minima = [
        minimize(deviance, [side, 0.3, 0.0], method="BFGS", options={"gtol": 1e-6}).fun
        for side in (-0.6, 0.6)
    ]
    assert min(minima) == pytest.approx(-2.0 * fit.loglik[0] + CUTOFF, abs=1e-5)
    assert max(minima) > min(minima) + 1e-3


# --- closed forms ---


@pytest.mark.parametrize(("sd", "seed"), [(2.0, 1), (0.4, 2), (0.0, 3)])
def test_limits_of_the_one_way_layout_are_the_roots_of_its_closed_form(sd, seed):
    generator = np.random.default_rng(seed)
    y = sd * generator.normal(size=(9, 1)) + generator.normal(size=(9, 4))
    exact = OneWay(y)
    level = Level(np.repeat(np.arange(9), 4), np.ones((36, 1)), (("general", 1),), ("1",))
    targets = [Deviation(((0, 0),)), SIGMA, Share(((0, 0),))]
    found = profiled(np.ones((36, 1)), (level,), y.ravel(), targets)
    sigma, middle = np.sqrt(exact.within / 27), np.sqrt(max(exact.between / 8, 0.1) / 4)
    for position, (height, centre, ends) in enumerate(
        (
            (exact.at_sd, middle, (0.0, 50.0)),
            (exact.at_sigma, sigma, (0.1 * sigma, 10.0 * sigma)),
            (exact.at_share, middle**2 / (middle**2 + sigma**2), (0.0, 0.9999)),
        )
    ):

        def excess(value, height=height):
            return height(value) - exact.lowest() - CUTOFF

        assert excess(centre) < 0.0
        expected = [0.0 if excess(end) < 0.0 else brentq(excess, centre, end) for end in ends]
        assert [found.lower[0, position], found.upper[0, position]] == pytest.approx(
            expected, rel=1e-6, abs=1e-12
        )


# --- what must hold for any data ---

DESIGNS = {  # structures per level, outermost first
    "slopes": [(("general", 2),), (("general", 2),)],
    "diagonal": [(("general", 1),) * 2, (("general", 1),) * 2],
    "three columns": [(("general", 1),), (("general", 3),)],
    "compound": [(("identity", 2),), (("compound", 3),)],
}


def unbalanced(name, seed):
    """A small unbalanced design, and every component of its model."""
    generator = np.random.default_rng(seed)
    structures = DESIGNS[name]
    inner = np.repeat(np.arange(18), generator.integers(4, 8, size=18))
    x, w = generator.uniform(size=len(inner)), generator.normal(size=len(inner))
    X = np.column_stack([np.ones(len(inner)), x])
    columns, levels, targets = np.column_stack([X, w]), [], [SIGMA]
    for depth, structure in enumerate(structures):
        q = sum(size for _, size in structure)
        units = inner // 3 if depth == 0 else inner
        levels.append(Level(units, columns[:, :q], structure, ("1", "x", "w")[:q]))
        targets += [Deviation(((depth, column),)) for column in range(q)]
        if structure[0][0] != "identity" and structure[0][1] > 1:
            targets += [Correlation(depth, i, j) for i, j in itertools.combinations(range(q), 2)]
    both = ((0, 0), (1, 0))
    return X, tuple(levels), [*targets, Deviation(both), Share(both), Share(both[::-1])]


@pytest.mark.parametrize("name", DESIGNS)
def test_derivatives_in_all_coordinates_equal_central_differences(name):
    X, levels, targets = unbalanced(name, 5)
    sds = [np.full(level.Z.shape[1], 0.1) for level in levels]
    design, moments, fit = fitted(X, levels, simulated(X, levels, 3, sds, 6))
    for target in targets:
        surface = Surface(design, moments, target)
        places = surface.optima(fit, np.arange(3))
        shift = np.random.default_rng(7).normal(0.0, 0.1, size=places.u.shape)
        places = places._replace(u=places.u + shift, x=places.x * 0.9 + 0.01)
        found = surface.at(places)
        point = np.column_stack([places.u, places.x])
        expected = np.column_stack([found.g, found.slope])

        def height(point, surface=surface, places=places):
            return surface.at(places._replace(u=point[:, :-1], x=point[:, -1].copy())).f

        for t in range(point.shape[1]):
            step = np.zeros_like(point)
            step[:, t] = 1e-5 * np.minimum(1.0, np.abs(point[:, t]))
            change = (height(point + step) - height(point - step)) / (2.0 * step[:, t])
            assert change == pytest.approx(expected[:, t], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_limit_is_certain_and_on_its_side_of_the_estimate(name):
    X, levels, targets = unbalanced(name, 8)
    for scale in (0.0, 0.05, 0.3):
        sds = [np.full(level.Z.shape[1], scale) for level in levels]
        design, moments, fit = fitted(X, levels, simulated(X, levels, 40, sds, 9))
        found = profile_intervals(partial(Surface, design, moments), fit, targets, confidence=0.95)
        assert np.isfinite(found.lower).all()
        assert np.isfinite(found.upper).all()
        for position, target in enumerate(targets):
            if isinstance(target, Deviation):
                variance = sum(fit.covariances[level][:, i, i] for level, i in target.effects)
                sd = np.sqrt(variance if target.effects else fit.scale)
                assert np.all(found.lower[:, position] <= sd)
                assert np.all(sd < found.upper[:, position])


def test_conditions_fail_away_from_the_minimum():
    X, levels, targets = unbalanced("three columns", 8)
    sds = [np.full(level.Z.shape[1], 0.3) for level in levels]
    design, moments, fit = fitted(X, levels, simulated(X, levels, 5, sds, 9))
    for target in targets:
        surface = Surface(design, moments, target)
        places = surface.optima(fit, np.arange(5))
        places = places._replace(x=np.maximum(places.x, 0.05))
        u = places.u.copy()
        u[:, [t for t in range(u.shape[1] - 1) if t not in surface.coordinates.own]] += 0.01
        assert np.all(surface.violation(places._replace(u=u)) > 1e-4)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_change_of_scale_of_y_scales_the_limits(factor):
    X, levels, y = read_model("small_2", "general")
    targets = [*SDS, SIGMA, *CORRELATIONS]
    before, after = profiled(X, levels, y, targets), profiled(X, levels, factor * y, targets)
    factors = np.array([factor] * 5 + [1.0] * 2)
    assert after.lower / factors == pytest.approx(before.lower, rel=1e-7, abs=1e-12)
    assert after.upper / factors == pytest.approx(before.upper, rel=1e-7)


def test_change_of_unit_and_origin_of_x_scales_the_limits_of_its_effects():
    X, levels, _ = read_model("small_1", "general")
    y = simulated(X, levels, 20, ((0.02, 0.03), (0.06, 0.08)), 3)
    a, b = 9.0, 2001.0
    to_new = np.array([[1.0, b], [0.0, a]])  # (1, x) -> (1, a x + b)
    X_new = np.column_stack([X[:, :2], X[:, 2:] * a + X[:, :2] * b])
    levels_new = tuple(
        Level(level.unit_of_row, level.Z @ to_new, level.structures, level.names)
        for level in levels
    )
    targets = [SDS[1], SDS[3], SIGMA]
    before, after = profiled(X, levels, y, targets), profiled(X_new, levels_new, y, targets)
    factors = np.array([1.0 / a, 1.0 / a, 1.0])
    assert after.lower / factors == pytest.approx(before.lower, rel=1e-6, abs=1e-9)
    assert after.upper / factors == pytest.approx(before.upper, rel=1e-6)


def test_bits_do_not_depend_on_the_block_or_the_other_targets():
    X, levels, _ = read_model("small_1", "general")
    y = simulated(X, levels, 7, ((0.02, 0.03), (0.06, 0.08)), 2)
    targets = [*SDS, SIGMA, *CORRELATIONS]
    together = profiled(X, levels, y, targets)
    for row in range(7):
        alone = profiled(X, levels, y[row], targets)
        assert alone.lower[0].tobytes() == together.lower[row].tobytes()
        assert alone.upper[0].tobytes() == together.upper[row].tobytes()
    others = profiled(X, levels, y, targets[::-1])
    assert others.lower[:, ::-1].tobytes() == together.lower.tobytes()


def test_correlation_can_be_anything_where_an_sd_can_be_zero():
    X, levels, y = read_model("small_2", "general")
    found = profiled(X, levels, y, [SDS[0], CORRELATIONS[0]])
    assert found.lower[0, 0] == 0.0
    assert (found.lower[0, 1], found.upper[0, 1]) == (-1.0, 1.0)


def test_fits_that_failed_have_no_limits():
    X, levels, y = read_model("small_2", "general")
    exact = X @ np.ones(4)
    design, moments, fit = fitted(X, levels, np.stack([y, exact]))
    assert fit.status[1] == Status.FAILED
    found = profile_intervals(
        partial(Surface, design, moments), fit, [SDS[0], SIGMA], confidence=0.9
    )
    assert np.isfinite(found.upper[0]).all()
    assert np.isnan(found.lower[1]).all()
    assert np.isnan(found.upper[1]).all()
    assert found.evaluations[1] == 0


def test_a_fit_that_is_no_optimum_has_no_limits():
    X, levels, y = read_model("small_2", "general")
    design, moments, fit = fitted(X, levels, y)
    fit.loglik[0] -= 0.01
    found = profile_intervals(partial(Surface, design, moments), fit, [SDS[2]], confidence=0.95)
    assert np.isnan(found.lower).all() or np.isnan(found.upper).all()


@pytest.mark.parametrize(
    ("structure", "target"),
    [("diagonal", Correlation(0, 0, 1)), ("general", Share(((0, 0), (0, 1))))],
)
def test_components_that_the_model_does_not_have_are_refused(structure, target):
    X, levels, y = read_model("small_2", structure)
    with pytest.raises(ValueError, match=r"no parameter for|must be independent"):
        profiled(X, levels, y, [target])
