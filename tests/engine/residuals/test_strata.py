"""Residuals with an SD per stratum: closed forms and boundaries."""

import numpy as np
import pytest
from scipy.optimize import minimize

from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_block
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import Status
from mcsim.engine.residuals.structure import ResidualRows
from tests.engine.residuals.test_structure import (
    reported,
)
from tests.oracles.dense import dense_deviance


@pytest.mark.parametrize("is_reml", [True, False])
def test_strata_with_means_of_their_own_have_their_own_sds(is_reml):
    generator = np.random.default_rng(3)
    stratum = np.repeat([0, 1, 2], [10, 15, 20])
    y = np.array([1.0, 3.0, 0.2])[stratum] * generator.normal(size=45)
    X = np.eye(3)[stratum]
    design = compile_design(
        X, (), names=tuple("abc"), is_reml=is_reml, residual=ResidualRows("strata", stratum=stratum)
    )
    fit = fit_block(design, y[None])
    sds = np.array([y[stratum == k].std(ddof=1 if is_reml else 0) for k in range(3)])
    sigma = np.sqrt(fit.scale[0]) * fit.curvature.residual.sd[0]
    assert sigma == pytest.approx(sds[0], rel=1e-6)
    assert reported(fit)[0] == pytest.approx(sds[1:] / sds[0], rel=1e-6)
    expected = sds**2 / np.array([10, 15, 20])
    assert np.diag(fit.covariance[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("zero", [0, 1])
def test_stratum_without_residuals_is_a_boundary(zero):
    # two methods measure every unit once; the covariance is larger than one of the variances
    unit, stratum = np.repeat(np.arange(20), 2), np.tile([0, 1], 20)
    generator = np.random.default_rng(6)
    common = generator.normal(size=20)
    y = np.where(stratum == zero, common[unit], 1.5 * common[unit] + generator.normal(size=40))
    level = Level(unit, np.ones((40, 1)), (("general", 1),), ("Intercept",))
    X = np.column_stack([np.ones(40), stratum])
    rows = ResidualRows("strata", stratum=stratum)
    design = compile_design(X, (level,), names=("a", "b"), residual=rows)
    fit = fit_block(design, y[None])
    assert fit.status[0] == Status.BOUNDARY
    assert fit.certificate[0] <= CERTIFICATE_TOLERANCE
    sd = np.sqrt(fit.scale[0]) * fit.curvature.residual.sd[0]
    if zero == 1:
        assert reported(fit)[0, 0] == 0.0
        assert sd > 0.5
    else:
        assert sd == 0.0
        assert np.isnan(reported(fit)[0, 0])

    def deviance(point):  # an SD of 0.003 is as good as none
        own = np.where(stratum == zero, 0.003, np.exp(point[0]))
        factor = np.exp(point[1]) * np.eye(1)
        return dense_deviance(X, [(unit, level.Z)], y, [factor], is_reml=True, R=np.diag(own**2))[0]

    best = minimize(deviance, np.zeros(2), method="Nelder-Mead", options={"fatol": 1e-9})
    assert -2.0 * fit.loglik[0] == pytest.approx(best.fun, abs=1e-3)


def test_stratum_that_the_fixed_effects_fit_exactly_has_no_optimum():
    stratum = np.repeat([0, 1], [20, 2])
    y = np.random.default_rng(7).normal(size=(1, 22))
    X = np.column_stack([np.ones(22), stratum, np.append(np.zeros(21), 1.0)])
    rows = ResidualRows("strata", stratum=stratum)
    design = compile_design(X, (), names=tuple("abc"), is_reml=False, residual=rows)
    assert fit_block(design, y).status[0] >= Status.NOT_CONVERGED
