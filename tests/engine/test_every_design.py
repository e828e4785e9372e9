"""Every kind of design against the n x n definition of the likelihood."""

import numpy as np
import pytest

from mcsim.engine.blocks import n_parameters
from mcsim.engine.compile import compile_design
from mcsim.engine.fit import fit_block
from tests.engine.nested.test_likelihood import evaluate, factors_at
from tests.oracles.dense import dense_deviance
from tests.oracles.designs import draw_design

N_DESIGNS, N_PARTS = 2000, 20


def compiled(drawn, seed):
    return compile_design(drawn.X, drawn.levels, names=drawn.names, is_reml=bool(seed % 3))


def dense(drawn, factors, seed):
    groups = [group for group in drawn.groups if group[1].shape[1]]
    return dense_deviance(drawn.X, groups, drawn.y, factors, is_reml=bool(seed % 3))


@pytest.mark.parametrize("part", range(N_PARTS))
def test_likelihood_equals_the_dense_one(part):
    n_wide = 0
    for seed in range(part, N_DESIGNS, N_PARTS):
        drawn = draw_design(seed)
        design = compiled(drawn, seed)
        k, q, _ = design.tree.classes.B.shape
        n_wide += q > k
        theta = np.random.default_rng(seed).normal(size=n_parameters(design.blocks))
        value, sigma2, beta, _ = evaluate(design, drawn.y, theta)
        expected = dense(drawn, factors_at(design, theta), seed)
        assert value == pytest.approx(expected[0], rel=1e-9, abs=1e-8), seed
        assert sigma2 == pytest.approx(expected[2], rel=1e-8), seed
        assert beta == pytest.approx(expected[1], rel=1e-6, abs=1e-7), seed
    assert n_wide >= 15  # more random columns than any unit has vectors: about a quarter


def likelihood_at_the_estimates(seeds):
    for seed in seeds:
        drawn = draw_design(seed)
        fit = fit_block(compiled(drawn, seed), drawn.y[None])
        expected = -0.5 * dense(drawn, [factor[0] for factor in fit.curvature.factors], seed)[0]
        largest = max([1.0, *(np.abs(factor).max() for factor in fit.curvature.factors)])
        # 16 digits, less those that a variance of `largest` squared times sigma^2 takes
        allowed = max(1e-8, 1e-15 * len(drawn.y) * largest**2)
        assert fit.loglik[0] == pytest.approx(expected, rel=1e-9, abs=allowed), seed


@pytest.mark.parametrize("part", range(4))
def test_likelihood_at_the_estimates_equals_the_dense_one(part):
    likelihood_at_the_estimates(range(part, 200, 4))


@pytest.mark.slow
def test_likelihood_at_the_estimates_of_many_equals_the_dense_one():
    likelihood_at_the_estimates(range(N_DESIGNS))
