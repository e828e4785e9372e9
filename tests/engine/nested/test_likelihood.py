"""Deviance and gradient against the n x n definition and against central differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsim.engine.blocks import n_parameters
from mcsim.engine.compile import Level, compile_design, likelihood_of
from mcsim.engine.fit import factor_slopes, reduce_responses, weighted
from mcsim.engine.optimum.minque import plain_start
from tests.oracles.dense import dense_deviance


def draw_units(generator, n_levels, is_balanced):
    """Unit codes (n_rows, n_levels) of a random nested design."""
    rows = []

    def descend(prefix):
        m = 3 if is_balanced else int(generator.integers(1, 4))
        if len(prefix) == n_levels:
            rows.extend([prefix] * (m + 1))
            return
        for unit in range(m + (2 if not prefix else 0)):
            descend((*prefix, unit))

    descend(())
    return np.array(rows)


def draw_problem(seed, n_levels, is_balanced):
    """X, levels and y; the second level has one column, the others two, in every structure."""
    generator = np.random.default_rng(seed)
    units = draw_units(generator, n_levels, is_balanced)
    n = len(units)
    x = np.tile(np.linspace(0, 1, 4), n)[:n] if is_balanced else generator.normal(size=n)
    group = units[:, 0] % 2
    X = np.column_stack([np.ones(n), group, x, generator.normal(size=n)])
    levels = []
    for depth in range(n_levels):
        q = 1 if depth == 1 else 2
        pair = ("general", 2), ("identity", 2), ("compound", 2)
        structures = {
            0: (pair[seed % 3],),
            1: (("general", 1),),
            2: (("general", 1), ("general", 1)),
            3: (pair[(seed + 1) % 3],),
        }[depth]
        Z = np.column_stack([np.ones(n), x])[:, :q]
        levels.append(Level(units[:, depth], Z, structures, ("Intercept", "x")[:q]))
    return X, tuple(levels), generator.normal(size=n) + x


def evaluate(design, y, theta):
    moments = reduce_responses(design, y[None])
    _, order = plain_start(design.blocks, 1)
    found = likelihood_of(design, moments).at(np.zeros(1, dtype=int), theta[None], order)
    beta = np.linalg.solve(design.R, moments.beta[0] + found.beta[0])
    return found.f[0], found.r2[0] / design.nu, beta, found.gradient[0]


def factors_at(design, theta):
    _, order = plain_start(design.blocks, 1)
    return [weighted(slopes, theta[None])[0] for slopes in factor_slopes(design, order)]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_levels=st.integers(1, 4),
    is_balanced=st.booleans(),
    is_reml=st.booleans(),
)
def test_deviance_beta_and_sigma_equal_the_dense_definition(seed, n_levels, is_balanced, is_reml):
    X, levels, y = draw_problem(seed, n_levels, is_balanced)
    if len(X) <= X.shape[1] + 2:
        return
    design = compile_design(X, levels, names=("a", "b", "c", "d"), is_reml=is_reml)
    theta = np.random.default_rng(seed).normal(size=n_parameters(design.blocks))
    value, sigma2, beta, _ = evaluate(design, y, theta)
    factors = factors_at(design, theta)
    expected = dense_deviance(
        X, [(level.unit_of_row, level.Z) for level in levels], y, factors, is_reml=is_reml
    )
    assert value == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
    assert beta == pytest.approx(expected[1], rel=1e-7, abs=1e-9)
    assert sigma2 == pytest.approx(expected[2], rel=1e-9)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_levels=st.integers(1, 4),
    is_balanced=st.booleans(),
    is_reml=st.booleans(),
)
def test_gradient_equals_central_differences(seed, n_levels, is_balanced, is_reml):
    X, levels, y = draw_problem(seed, n_levels, is_balanced)
    if len(X) <= X.shape[1] + 2:
        return
    design = compile_design(X, levels, names=("a", "b", "c", "d"), is_reml=is_reml)
    theta = np.random.default_rng(seed).uniform(0.3, 1.0, size=n_parameters(design.blocks))
    _, _, _, slope = evaluate(design, y, theta)
    numeric = []
    for t in range(len(theta)):
        step = np.zeros(len(theta))
        step[t] = 1e-5
        above, below = evaluate(design, y, theta + step)[0], evaluate(design, y, theta - step)[0]
        numeric.append((above - below) / 2e-5)
    assert slope == pytest.approx(np.array(numeric), rel=1e-6, abs=1e-6 * (1 + len(X) / 100))


def test_units_may_span_more_than_their_parts_do():
    # two rows per inner unit, three varying columns: the basis of an outer unit is the larger one
    generator = np.random.default_rng(1)
    inner = np.repeat(np.arange(19), 2)
    outer = np.repeat(np.arange(5), [6, 8, 10, 6, 8])
    n = len(inner)
    x = np.tile([0.0, 1.0], 19)
    X = np.column_stack([np.ones(n), x, generator.normal(size=(n, 2))])
    levels = (
        Level(outer, X[:, :2], (("general", 2),), ("Intercept", "x")),
        Level(inner, X[:, :1], (("general", 1),), ("Intercept",)),
    )
    y = generator.normal(size=n)
    design = compile_design(X, levels, names=("a", "b", "c", "d"))
    theta = np.full(n_parameters(design.blocks), 0.7)
    groups = [(level.unit_of_row, level.Z) for level in levels]
    expected = dense_deviance(X, groups, y, factors_at(design, theta), is_reml=True)
    assert evaluate(design, y, theta)[0] == pytest.approx(expected[0], rel=1e-9)
