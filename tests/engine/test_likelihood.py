"""Deviance and gradient against the n x n definition and against central differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsim.engine.collapse import Level, compile_design
from mcsim.engine.kernels import deviance, gradient
from mcsim.engine.moments import reduce_response
from mcsim.engine.reml import relative_factors
from mcsim.engine.tree import Moments, new_workspace
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
    """X, levels and y; the middle level has one column, the others two, correlated or not."""
    generator = np.random.default_rng(seed)
    units = draw_units(generator, n_levels, is_balanced)
    n = len(units)
    x = np.tile(np.linspace(0, 1, 4), n)[:n] if is_balanced else generator.normal(size=n)
    group = units[:, 0] % 2
    X = np.column_stack([np.ones(n), group, x, generator.normal(size=n)])
    levels = []
    for depth in range(n_levels):
        q = 1 if depth == 1 else 2
        sizes = {0: (2,), 1: (1,), 2: (1, 1)}[depth]
        Z = np.column_stack([np.ones(n), x])[:, :q]
        levels.append(Level(units[:, depth], Z, sizes, ("Intercept", "x")[:q]))
    return X, tuple(levels), generator.normal(size=n) + x


def evaluate(design, y, theta):
    tree = design.tree
    k = tree.B.shape[0]
    S = np.zeros((k, k, len(tree.n_units)))
    link_t, root_t = np.zeros((k, len(tree.link_child))), np.zeros((k, len(tree.root_child)))
    beta = np.zeros(tree.Bx.shape[1])
    rss = reduce_response(design.reduction, y[design.order], (S, link_t, root_t), beta)
    moments, workspace = Moments(rss, S, link_t, root_t), new_workspace(tree)
    value, r2 = deviance(tree, moments, workspace, theta)
    gradient(tree, moments, workspace, r2)
    beta = np.linalg.solve(design.R, beta + workspace.beta)
    return value, r2 / tree.nu, beta, workspace.gradient.copy()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_levels=st.integers(1, 3),
    is_balanced=st.booleans(),
    is_reml=st.booleans(),
)
def test_deviance_beta_and_sigma_equal_the_dense_definition(seed, n_levels, is_balanced, is_reml):
    X, levels, y = draw_problem(seed, n_levels, is_balanced)
    if len(X) <= X.shape[1] + 2:
        return
    design = compile_design(X, levels, names=("a", "b", "c", "d"), is_reml=is_reml)
    theta = np.random.default_rng(seed).normal(size=len(design.tree.free))
    value, sigma2, beta, _ = evaluate(design, y, theta)
    factors = [Lam[0] for Lam in relative_factors(design, theta[None])]
    expected = dense_deviance(
        X, [(level.unit_of_row, level.Z) for level in levels], y, factors, is_reml=is_reml
    )
    assert value == pytest.approx(expected[0], rel=1e-9, abs=1e-9)
    assert beta == pytest.approx(expected[1], rel=1e-7, abs=1e-9)
    assert sigma2 == pytest.approx(expected[2], rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_levels=st.integers(1, 3),
    is_balanced=st.booleans(),
    is_reml=st.booleans(),
)
def test_gradient_equals_central_differences(seed, n_levels, is_balanced, is_reml):
    X, levels, y = draw_problem(seed, n_levels, is_balanced)
    if len(X) <= X.shape[1] + 2:
        return
    design = compile_design(X, levels, names=("a", "b", "c", "d"), is_reml=is_reml)
    theta = np.random.default_rng(seed).uniform(0.3, 1.0, size=len(design.tree.free))
    _, _, _, slope = evaluate(design, y, theta)
    numeric = []
    for t in range(len(theta)):
        step = np.zeros(len(theta))
        step[t] = 1e-5
        above, below = evaluate(design, y, theta + step)[0], evaluate(design, y, theta - step)[0]
        numeric.append((above - below) / 2e-5)
    assert slope == pytest.approx(np.array(numeric), rel=1e-6, abs=1e-6 * (1 + len(X) / 100))
