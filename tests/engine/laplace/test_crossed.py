"""The Laplace approximation where units cross, against its definition with dense matrices."""

import numpy as np
import pytest
from scipy import stats

from mcsim.engine.compile import Level, collapse_design, crossed_design
from mcsim.engine.families.kinds import LOGIT, NBINOM, POISSON
from mcsim.engine.laplace.crossed_likelihood import CrossedLaplaceLikelihood
from mcsim.engine.laplace.crossing import cross_of
from mcsim.engine.laplace.fit import fit_laplace
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.nest import nest_of
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.status import Status

N_SUBJECTS, N_ITEMS, TRIALS = 9, 6, 3.0
_PAIRS = np.flatnonzero(np.arange(2 * N_SUBJECTS * N_ITEMS) % 7 != 3)  # some are not met
SUBJECT = _PAIRS // (2 * N_ITEMS)
ITEM = _PAIRS // 2 % N_ITEMS
SITE = SUBJECT // 3
CONDITION = _PAIRS % 2 - 0.5
X = np.column_stack([np.ones(len(_PAIRS)), CONDITION])
ONES = X[:, :1]
UNITS = {"subject": SUBJECT, "item": ITEM, "site": SITE}


def level(name, Z, structures):
    return Level(UNITS[name], Z, structures, tuple(f"{name}{j}" for j in range(Z.shape[1])))


INTERCEPTS = (level("subject", ONES, (("general", 1),)), level("item", ONES, (("general", 1),)))
DESIGNS = {
    "intercepts": INTERCEPTS,
    "slopes": (level("subject", X, (("general", 2),)), level("item", X, (("identity", 2),))),
    "a nested level too": (level("site", ONES, (("general", 1),)), *INTERCEPTS[::-1]),
}


def likelihood_of(kind, levels, y):
    design = crossed_design(X, levels, ("Intercept", "condition"), is_reml=False)
    design, cross = cross_of(design, X, levels, 0.1 * CONDITION, TRIALS * np.ones(len(X)))
    ordered = np.ascontiguousarray(np.atleast_2d(y)[:, design.order])
    return design, cross, CrossedLaplaceLikelihood(cross, design.blocks, kind, ordered)


def counts(kind, n=1, seed=3, sd=0.7):
    generator = np.random.default_rng(seed)
    subjects, items = (generator.normal(0, sd, (n, m)) for m in (N_SUBJECTS, N_ITEMS))
    eta = 0.2 + 0.5 * CONDITION + subjects[:, SUBJECT] + items[:, ITEM]
    if kind == LOGIT:
        return generator.binomial(int(TRIALS), 1 / (1 + np.exp(-eta))).astype(float)
    extra = generator.gamma(2.0, 0.5, eta.shape) if kind == NBINOM else 1.0
    return generator.poisson(np.exp(eta) * extra).astype(float)


def by_definition(kind, y, levels, scales, factors, tau, fixed):
    """-2 logLik by the mode and the determinant of dense second derivatives."""
    Z = np.hstack([
        np.einsum("nu,nq->nuq", np.eye(one.unit_of_row.max() + 1)[one.unit_of_row], one.Z @ S @ L)
        .reshape(len(y), -1)
        for one, S, L in zip(levels, scales, factors, strict=True)
    ])  # fmt: skip
    u = np.zeros(Z.shape[1])
    for _ in range(50):
        eta = fixed + Z @ u
        if kind == LOGIT:
            p = 1 / (1 + np.exp(-eta))
            terms = stats.binom.logpmf(y, TRIALS, p)
            r, w = y - TRIALS * p, TRIALS * p * (1 - p)
        else:
            mu = np.exp(eta)
            share = 1 / (1 + tau * mu)
            own = stats.poisson(mu) if kind == POISSON else stats.nbinom(1 / tau, share)
            terms = own.logpmf(y)
            r, w = (y - mu) * share, mu * (1 + tau * y) * share**2
        H = np.eye(len(u)) + Z.T @ (w[:, None] * Z)
        step = np.linalg.solve(H, Z.T @ r - u)
        u = u + step / max(1.0, np.abs(step).max())
    assert np.abs(step).max() < 1e-13
    return -2 * terms.sum() + u @ u + np.linalg.slogdet(H)[1]


def factors_of(name, theta):
    if name == "slopes":  # that of the last level comes first
        return np.array([[theta[1], 0.0], [theta[2], theta[3]]]), theta[0] * np.eye(2)
    n = len(DESIGNS[name])
    return [theta[[t]][:, None] for t in range(n)][::-1]


@pytest.mark.parametrize("kind", [LOGIT, POISSON, NBINOM])
@pytest.mark.parametrize("name", DESIGNS)
def test_deviance_is_its_definition_and_the_gradient_its_derivative(name, kind):
    levels, y = DESIGNS[name], counts(kind)[0]
    design, cross, likelihood = likelihood_of(kind, levels, y)
    size = likelihood.n_covariances
    theta = np.append(np.linspace(0.9, 0.4, size), [0.3, 0.2])[None]
    order = np.tile(np.arange(likelihood.blocks.Q.shape[1]), (1, len(likelihood.blocks.size), 1))
    one = np.zeros(1, dtype=np.int64)
    found = likelihood.at(one, theta, order)
    fixed = np.empty(len(y))
    fixed[design.order] = cross.X.T @ theta[0, size:] + cross.offset
    tau = theta[0, size - 1] ** 2 if kind == NBINOM else 0.0
    factors = factors_of(name, theta[0])
    expected = by_definition(kind, y, levels, design.scales, factors, tau, fixed)
    assert found.f[0] == pytest.approx(expected, abs=1e-8)
    for t in range(theta.shape[1]):
        change = 1e-5 * np.eye(theta.shape[1])[t]
        up, down = (likelihood.at(one, theta + s * change, order).f[0] for s in (1, -1))
        assert found.gradient[0, t] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=2e-6)


@pytest.mark.parametrize("at_zero", [0, 1])  # an outer level, an inner one
def test_derivative_at_zero_variance_is_that_in_the_variance(at_zero):
    *_, likelihood = likelihood_of(LOGIT, INTERCEPTS, counts(LOGIT))
    theta, order = np.array([[0.5, 0.6, 0.1, 0.4]]), np.zeros((1, 2, 1), dtype=np.int64)
    theta[0, at_zero] = 0.0
    one, psi = np.zeros(1, dtype=np.int64), 1e-7
    found = likelihood.at(one, theta, order)
    beside = likelihood.at(one, theta + psi**0.5 * np.eye(4)[at_zero], order)
    assert found.gradient[0, at_zero] == 0.0
    slope = (beside.f[0] - found.f[0]) / psi
    assert found.D[0, at_zero, 0, 0] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("kind", [LOGIT, NBINOM])
def test_nested_units_give_the_numbers_of_the_nested_engine(kind):
    levels = level("site", ONES, (("general", 1),)), level("subject", X, (("general", 2),))
    y = counts(kind)
    *_, likelihood = likelihood_of(kind, levels, y)
    nested = collapse_design(X, levels, names=("Intercept", "condition"), is_reml=False)
    nest = nest_of(nested, X, levels, 0.1 * CONDITION, TRIALS * np.ones(len(X)))
    other = LaplaceLikelihood(nest, nested.blocks, kind, y[:, nested.order])
    theta = np.append(np.linspace(0.9, 0.4, likelihood.n_covariances), [0.3, 0.2])[None]
    order = np.tile([1, 0], (1, len(likelihood.blocks.size), 1))
    one = np.zeros(1, dtype=np.int64)
    for with_data in (True, False):
        first = likelihood.at(one, theta, order, with_data=with_data)
        second = other.at(one, theta, order, with_data=with_data)
        np.testing.assert_allclose(first.results, second.results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [LOGIT, POISSON, NBINOM])
def test_every_fit_is_certified_or_named_whatever_the_order_of_levels(kind):
    y = counts(kind, n=40, seed=8, sd=0.3)
    fits = []
    for levels in (INTERCEPTS, INTERCEPTS[::-1]):
        design, cross, _ = likelihood_of(kind, levels, y)
        fits.append(fit_laplace(design, cross, kind, y))
    fit, other = fits
    is_named = fit.runaway.any(axis=1) | (fit.runaway_level >= 0)
    is_usable = fit.status <= Status.BOUNDARY
    assert np.all(is_usable | is_named)
    assert fit.certificate[is_usable].max() < CERTIFICATE_TOLERANCE
    np.testing.assert_allclose(fit.loglik[is_usable], other.loglik[is_usable], atol=1e-8)
    np.testing.assert_allclose(fit.covariances[0], other.covariances[1], atol=1e-5)
    at_zero = (fit.covariances[1][:, 0, 0] == 0.0) & is_usable
    assert 0 < np.count_nonzero(at_zero) < 40
    np.testing.assert_array_equal(fit.status[at_zero], Status.BOUNDARY)


def test_units_of_one_kind_each_are_named():
    y = TRIALS * (ITEM % 2.0)
    design, cross, _ = likelihood_of(LOGIT, INTERCEPTS, y)
    fit = fit_laplace(design, cross, LOGIT, y[None])
    assert fit.status[0] == Status.FAILED
    assert fit.runaway_level[0] == 1  # the items
