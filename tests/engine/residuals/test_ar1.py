"""Residuals whose correlation falls with every step: other models, the best of many searches."""

import numpy as np
import pytest

from mcsim.engine.compile import Level, compile_design, with_starts
from mcsim.engine.fit import fit_block
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import Status
from mcsim.engine.residuals import search as residual_search
from mcsim.engine.residuals.ar1 import Autoregressive
from mcsim.engine.residuals.structure import ResidualRows
from tests.engine.residuals.test_structure import (
    balanced_units,
    reported,
    seed_design,
    serial,
)


@pytest.mark.parametrize("phi", [-0.4, 0.3, 0.85])
def test_optimum_is_the_best_of_searches_from_a_dense_grid(phi, monkeypatch):
    X, levels = seed_design(6, 4, 8)
    generator = np.random.default_rng(int(100 * (phi + 1)))
    responses = serial(generator, 60, levels[1].unit_of_row, phi)
    responses += generator.normal(size=(60, 24))[:, levels[1].unit_of_row]
    responses += generator.normal(size=(60, 24))[:, levels[1].unit_of_row] * X[:, 2]
    design = compile_design(X, levels, names=tuple("abcd"), residual=ResidualRows("ar1"))
    fit = fit_block(design, responses)
    assert np.max(fit.certificate) <= CERTIFICATE_TOLERANCE
    structure = design.residual.structure
    monkeypatch.setattr(structure, "grid", lambda: np.linspace(-2.0, 2.5, 31)[:, None])
    monkeypatch.setattr(
        residual_search, "_is_start", lambda f, is_line: np.ones(f.shape, dtype=bool)
    )
    from_everywhere = fit_block(with_starts(design), responses)
    assert fit.loglik == pytest.approx(from_everywhere.loglik, abs=1e-8)


def test_ar1_in_pairs_is_exchangeable():
    generator = np.random.default_rng(8)
    unit, y = balanced_units(generator, 30, 2, 0.5)
    level, X = Level(unit, np.zeros((60, 0)), (), ()), np.ones((60, 1))
    fits = [
        fit_block(compile_design(X, (level,), names=("a",), residual=ResidualRows(kind)), y[None])
        for kind in ("ar1", "exchangeable")
    ]
    assert fits[0].loglik[0] == pytest.approx(fits[1].loglik[0], abs=1e-8)
    assert reported(fits[0])[0] == pytest.approx(reported(fits[1])[0], rel=1e-6)


def test_order_of_a_covariate_is_the_order_of_the_rows():
    X, levels = seed_design(6, 4, 8)
    generator = np.random.default_rng(4)
    y = serial(generator, 1, levels[1].unit_of_row, 0.6)[0]
    names, order = tuple("abcd"), generator.permutation(len(y))
    shuffled = tuple(
        Level(one.unit_of_row[order], one.Z[order], one.structures, one.names) for one in levels
    )
    plain = fit_block(compile_design(X, levels, names=names, residual=ResidualRows("ar1")), y[None])
    by_x = compile_design(
        X[order], shuffled, names=names, residual=ResidualRows("ar1", along=order)
    )
    ordered = fit_block(by_x, y[None, order])
    unordered = fit_block(
        compile_design(X[order], shuffled, names=names, residual=ResidualRows("ar1")),
        y[None, order],
    )
    assert ordered.loglik[0] == pytest.approx(plain.loglik[0], abs=1e-8)
    assert reported(ordered)[0] == pytest.approx(reported(plain)[0], rel=1e-6)
    assert unordered.loglik[0] < plain.loglik[0] - 1.0


def test_residuals_that_never_return_have_no_optimum():
    # a random walk is AR1 with phi = 1, and an infinite sigma
    generator = np.random.default_rng(1)
    y = np.cumsum(generator.normal(size=(4, 200)), axis=1)
    level = Level(np.zeros(200, dtype=int), np.zeros((200, 0)), (), ())
    design = compile_design(np.ones((200, 1)), (level,), names=("a",), residual=ResidualRows("ar1"))
    fit = fit_block(design, 1e3 * y)
    for status, phi in zip(fit.status, reported(fit)[:, 0], strict=True):
        assert status == (Status.NOT_CONVERGED if phi > 0.9999 else Status.OK)
    assert np.any(fit.status == Status.NOT_CONVERGED)


def test_units_of_any_size_are_a_stationary_series():
    # oracle: the correlation matrix of the whole series, unit by unit
    unit = np.array([0, 1, 1, 1, 2, 2])
    same, places = unit[:, None] == unit, np.array([0, 2, 1, 5, 3, 7])
    series = Autoregressive(unit, ResidualRows("ar1", along=places))
    for phi in (0.5, -0.8):
        weights = series.correlate(np.eye(6), np.array([phi]))  # rows: draws, columns: residuals
        expected = same * phi ** np.abs(places[:, None] - places)
        assert weights.T @ weights == pytest.approx(expected)
