"""Residuals with one correlation: closed forms and other models."""

import numpy as np
import pytest

from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_block
from mcsim.engine.residuals.exchangeable import Exchangeable
from mcsim.engine.residuals.structure import ResidualRows
from tests.engine.residuals.test_structure import (
    balanced_units,
    reported,
    seed_design,
    without_effects,
)


def test_exchangeable_residuals_of_a_one_way_layout_have_a_closed_form():
    generator = np.random.default_rng(2)
    unit, y = balanced_units(generator, 12, 5, 0.0)
    y -= 0.9 * y.reshape(12, 5).mean(axis=1)[unit]  # less variance between units than by chance
    level = Level(unit, np.zeros((60, 0)), (), ())
    design = compile_design(
        np.ones((60, 1)), (level,), names=("a",), residual=ResidualRows("exchangeable")
    )
    fit = fit_block(design, y[None])
    means = y.reshape(12, 5).mean(axis=1)
    between = 5 * np.sum((means - means.mean()) ** 2) / 11  # 1 + 4 rho, times sigma^2
    within = np.sum((y - means[unit]) ** 2) / 48  # 1 - rho
    sigma2 = (between + 4 * within) / 5
    assert fit.scale[0] == pytest.approx(sigma2, rel=1e-6)
    assert reported(fit)[0, 0] == pytest.approx(1.0 - within / sigma2, rel=1e-6)
    assert reported(fit)[0, 0] < -0.1
    assert fit.covariance[0, 0, 0] == pytest.approx(between / 60, rel=1e-6)


def test_exchangeable_residuals_are_a_random_intercept_where_rho_is_positive():
    X, levels = seed_design(8, 3, 6)
    generator = np.random.default_rng(5)
    y = generator.normal(size=len(X)) + generator.normal(size=24)[levels[1].unit_of_row]
    intercept = Level(levels[1].unit_of_row, levels[0].Z, (("general", 1),), ("Intercept",))
    animal = levels[0]
    names = tuple("abcd")
    one = fit_block(compile_design(X, (animal, intercept), names=names), y[None])
    other = fit_block(
        compile_design(
            X, (animal, without_effects(intercept)), names=names,
            residual=ResidualRows("exchangeable"),
        ),
        y[None],
    )  # fmt: skip
    total = one.scale[0] + one.covariances[1][0, 0, 0]
    assert other.loglik[0] == pytest.approx(one.loglik[0], abs=1e-7)
    assert other.scale[0] == pytest.approx(total, rel=1e-5)
    assert reported(other)[0, 0] == pytest.approx(one.covariances[1][0, 0, 0] / total, rel=1e-5)
    assert other.covariance[0] == pytest.approx(one.covariance[0], rel=1e-5)


def test_exchangeable_units_of_any_size():
    unit = np.array([0, 1, 1, 1, 2, 2])
    pairs = Exchangeable(unit, ResidualRows("exchangeable"))
    weights = pairs.correlate(np.eye(6), np.array([0.4]))
    same = unit[:, None] == unit
    assert weights.T @ weights == pytest.approx(np.where(np.eye(6) > 0, 1.0, 0.4 * same))
