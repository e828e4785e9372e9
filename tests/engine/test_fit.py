"""Fits against stored optima, and what must hold for any fit."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_block
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError

REFERENCE = Path(__file__).parent.parent / "reference"
DATA = ("seed_1", "seed_5", "small_1", "small_2", "unbalanced_1")
NAMES = ("Intercept", "diet", "x", "diet:x")


def read_model(name, structure):
    frame = pd.read_csv(REFERENCE / f"{name}.csv")
    x, fed = frame["x"].to_numpy(), (frame["diet"] == "fed").to_numpy(dtype=float)
    X = np.column_stack([np.ones(len(x)), fed, x, fed * x])
    Z = np.column_stack([np.ones(len(x)), x])
    structures = (("general", 2),) if structure == "general" else (("general", 1),) * 2
    units = [pd.factorize(frame["animal"])[0], pd.factorize(frame["animal"] + frame["image"])[0]]
    levels = tuple(Level(unit, Z, structures, ("Intercept", "x")) for unit in units)
    return X, levels, frame["y"].to_numpy()


def fit(X, levels, y, *, is_reml=True):
    return fit_block(compile_design(X, levels, names=NAMES, is_reml=is_reml), y[None])


@pytest.mark.parametrize("criterion", ["REML", "ML"])
@pytest.mark.parametrize("structure", ["general", "diagonal"])
@pytest.mark.parametrize("name", DATA)
def test_fit_reaches_the_best_known_optimum(name, structure, criterion):
    # lme4::lmer(y ~ diet * x + (x | animal/image)), best of four optimizers and several starts
    stored = json.loads((REFERENCE / f"{name}.json").read_text())["models"][structure][criterion]
    X, levels, y = read_model(name, structure)
    result = fit(X, levels, y, is_reml=criterion == "REML")
    assert result.loglik[0] >= stored["logLik"] - 1e-6
    assert result.certificate[0] <= CERTIFICATE_TOLERANCE
    assert result.status[0] in (Status.OK, Status.BOUNDARY)
    assert (result.status[0] == Status.BOUNDARY) == stored["singular"]
    if not stored["singular"]:
        assert np.sqrt(result.scale[0]) == pytest.approx(stored["sigma"], rel=1e-4)
        for level, covariance in zip(("animal", "image"), result.covariances, strict=True):
            sd = np.sqrt(np.diag(covariance[0]))
            assert sd == pytest.approx(np.array(stored["levels"][level]["sd"]), rel=1e-4)
            if structure == "general":
                correlation = covariance[0, 0, 1] / sd.prod()
                assert correlation == pytest.approx(
                    stored["levels"][level]["corr"], rel=1e-4, abs=1e-5
                )
        assert result.coefficients[0] == pytest.approx(
            np.array(stored["satterthwaite"]["estimate"]), rel=1e-4
        )
        assert np.sqrt(np.diag(result.covariance[0])) == pytest.approx(
            np.array(stored["satterthwaite"]["se"]), rel=1e-4
        )


def sds(result):
    return np.concatenate([np.sqrt(np.diagonal(c[0])) for c in result.covariances])


@pytest.mark.parametrize("name", ["small_2", "unbalanced_1"])
def test_change_of_scale_and_location_of_y_transforms_the_estimates(name):
    X, levels, y = read_model(name, "general")
    shift = np.array([3.0, -1.0, 2.0, 0.5])
    before, after = fit(X, levels, y), fit(X, levels, 1000.0 * y + X @ shift)
    assert after.coefficients[0] == pytest.approx(1000.0 * before.coefficients[0] + shift, rel=1e-7)
    assert after.scale[0] == pytest.approx(1e6 * before.scale[0], rel=1e-7)
    assert sds(after) == pytest.approx(1000.0 * sds(before), rel=1e-7, abs=1e-9)
    assert after.status[0] == before.status[0]


def test_change_of_unit_and_origin_of_x_transforms_the_estimates():
    X, levels, y = read_model("small_2", "general")
    a, b = 365.25, 2001.0  # years to days, from year 0
    to_new = np.array([[1.0, b], [0.0, a]])  # (1, x) -> (1, a x + b)
    X_new = np.column_stack([X[:, :2], X[:, 2:] * a + X[:, :2] * b])
    levels_new = tuple(
        Level(level.unit_of_row, level.Z @ to_new, level.structures, level.names)
        for level in levels
    )
    before, after = fit(X, levels, y), fit(X_new, levels_new, y)
    assert after.scale[0] == pytest.approx(before.scale[0], rel=1e-7)
    for old, new in zip(before.covariances, after.covariances, strict=True):
        # u0 + u1 x = v0 + v1 (a x + b): Sigma of (1, x) from that of (1, a x + b)
        assert to_new @ new[0] @ to_new.T == pytest.approx(old[0], rel=1e-6, abs=1e-12)


def test_order_of_the_rows_does_not_matter():
    X, levels, y = read_model("unbalanced_1", "general")
    order = np.random.default_rng(1).permutation(len(y))
    shuffled = tuple(
        Level(level.unit_of_row[order], level.Z[order], level.structures, level.names)
        for level in levels
    )
    before, after = fit(X, levels, y), fit(X[order], shuffled, y[order])
    assert after.loglik[0] == pytest.approx(before.loglik[0], abs=1e-8)
    assert sds(after) == pytest.approx(sds(before), rel=1e-6, abs=1e-9)


def test_large_constant_does_not_cost_digits():
    X, levels, y = read_model("small_2", "general")
    before, after = fit(X, levels, y), fit(X, levels, y + 1e6)
    assert after.scale[0] == pytest.approx(before.scale[0], rel=1e-6)
    assert sds(after) == pytest.approx(sds(before), rel=1e-6)


def test_bits_do_not_depend_on_the_block():
    X, levels, y = read_model("small_2", "general")
    design = compile_design(X, levels, names=NAMES)
    generator = np.random.default_rng(7)
    responses = y + 0.01 * generator.normal(size=(5, len(y)))
    together = fit_block(design, responses)
    for row in range(5):
        alone = fit_block(design, responses[row : row + 1])
        assert alone.curvature.theta[0].tobytes() == together.curvature.theta[row].tobytes()
        assert alone.coefficients[0].tobytes() == together.coefficients[row].tobytes()


def test_dependent_columns_are_named():
    X, levels, _ = read_model("small_2", "general")
    with pytest.raises(DataError, match="'diet:x' is a combination of the columns before it"):
        compile_design(np.column_stack([X[:, :3], X[:, 1]]), levels, names=NAMES)


def test_data_without_residual_variation_fail_with_a_reason():
    X, levels, _ = read_model("small_2", "general")
    result = fit(X, levels, X @ np.ones(4))
    assert result.status[0] == Status.FAILED


def test_random_data_sets_are_certified():
    X, levels, _ = read_model("small_1", "general")
    design = compile_design(X, levels, names=NAMES)
    generator = np.random.default_rng(20240319)
    responses = 0.085 * generator.normal(size=(200, len(X)))  # all variances are zero in truth
    result = fit_block(design, responses)
    assert np.isin(result.status, (Status.OK, Status.BOUNDARY)).all()
    assert np.max(result.certificate) <= CERTIFICATE_TOLERANCE


@pytest.mark.parametrize("is_reml", [True, False])
@pytest.mark.parametrize("has_units", [True, False])
def test_without_random_effects_it_is_least_squares(has_units, is_reml):
    X, levels, y = read_model("small_2", "general")
    empty = Level(levels[1].unit_of_row, np.zeros((len(y), 0)), (), ())
    result = fit(X, (empty,) if has_units else (), y, is_reml=is_reml)
    n, p = X.shape
    beta, rss, *_ = np.linalg.lstsq(X, y)
    nu = n - p if is_reml else n
    sigma2 = rss[0] / nu
    # stats::logLik(lm(y ~ diet * x), REML = is_reml)
    loglik = -0.5 * nu * (np.log(2.0 * np.pi * sigma2) + 1.0)
    loglik -= 0.5 * np.linalg.slogdet(X.T @ X)[1] if is_reml else 0.0
    assert result.coefficients[0] == pytest.approx(beta, rel=1e-10)
    assert result.scale[0] == pytest.approx(sigma2, rel=1e-10)
    assert result.loglik[0] == pytest.approx(loglik, rel=1e-10)
    assert result.covariance[0] == pytest.approx(sigma2 * np.linalg.inv(X.T @ X), rel=1e-8)
    assert (result.status[0], result.certificate[0]) == (Status.OK, 0.0)
    assert result.covariances == ()


def test_level_without_random_effects_changes_nothing():
    X, levels, y = read_model("small_2", "general")
    rows = Level(np.arange(len(y)), np.zeros((len(y), 0)), (), ())
    before, after = fit(X, levels, y), fit(X, (*levels, rows), y)
    assert after.loglik[0] == pytest.approx(before.loglik[0], abs=1e-8)
    assert sds(after) == pytest.approx(sds(before), rel=1e-6)


def test_effects_that_never_meet_are_fitted_apart_and_are_exactly_zero():
    # (0 + diet + diet:x | animal), diet between animals: the same as a level of its own per diet
    X, (animal, image), y = read_model("small_2", "general")
    fed = X[:, 1:2]
    Z = np.hstack([(1.0 - fed), fed, (1.0 - fed) * X[:, 2:3], fed * X[:, 2:3]])
    together = Level(animal.unit_of_row, Z, (("general", 4),), ("a", "b", "a:x", "b:x"))
    apart = [
        Level(animal.unit_of_row, Z[:, own], (("general", 2),), ("1", "x"))
        for own in ([0, 2], [1, 3])
    ]
    generator = np.random.default_rng(3)
    responses = y + 0.05 * generator.normal(size=(60, len(y)))
    one, two = (
        fit_block(compile_design(X, (*levels, image), names=NAMES), responses)
        for levels in ([together], apart)
    )
    Psi = one.covariances[0]
    assert (np.diagonal(Psi, axis1=1, axis2=2) == 0.0).mean() > 0.05
    assert not Psi[:, [0, 0, 2, 2], [1, 3, 1, 3]].any()
    assert one.loglik == pytest.approx(two.loglik, abs=1e-7)
    for level, own in enumerate(([0, 2], [1, 3])):
        there = two.covariances[level]
        assert Psi[:, own][:, :, own] == pytest.approx(there, rel=1e-4, abs=1e-9)
        assert np.array_equal(Psi[:, own][:, :, own] == 0.0, there == 0.0)
    assert np.array_equal(one.status, two.status)
