"""The Laplace approximation against its definition, and where there is no optimum."""

import numpy as np
import pytest
from scipy import optimize, stats

from mcsim.engine.compile import Level, collapse_design
from mcsim.engine.families.kinds import (
    CLOGLOG,
    KINDS,
    LOGIT,
    NBINOM,
    POISSON,
    PROBIT,
    log_constants,
)
from mcsim.engine.families.means import MEANS
from mcsim.engine.families.nbinom import log_rising
from mcsim.engine.laplace.fit import fit_laplace
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.nest import nest_of
from mcsim.engine.laplace.quadrature import QuadratureLikelihood
from mcsim.engine.laplace.search import laplace_optima
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.status import Status

N_ANIMALS, N_IMAGES, N_POINTS = 6, 3, 4
ANIMAL = np.repeat(np.arange(N_ANIMALS), N_IMAGES * N_POINTS)
IMAGE = np.repeat(np.arange(N_ANIMALS * N_IMAGES), N_POINTS)
X_VALUES = np.tile(np.linspace(-0.5, 0.7, N_POINTS), N_ANIMALS * N_IMAGES)
ONES = np.ones(len(ANIMAL))
DISTRIBUTIONS = {  # of y given the predictor and tau, by scipy
    "logit": lambda y, m, eta, tau: stats.binom.logpmf(y, m, 1 / (1 + np.exp(-eta))),
    "probit": lambda y, m, eta, tau: stats.binom.logpmf(y, m, stats.norm.cdf(eta)),
    "cloglog": lambda y, m, eta, tau: stats.binom.logpmf(y, m, -np.expm1(-np.exp(eta))),
    "poisson": lambda y, m, eta, tau: stats.poisson.logpmf(y, np.exp(eta)),
    "nbinom": lambda y, m, eta, tau: stats.nbinom.logpmf(y, 1 / tau, 1 / (1 + tau * np.exp(eta))),
}


def level(unit, Z, structures):
    return Level(unit, Z, structures, tuple(f"z{j}" for j in range(Z.shape[1])))


def intercepts(*units):
    return tuple(level(unit, ONES[:, None], (("general", 1),)) for unit in units)


def with_slopes():
    Z = np.column_stack([ONES, X_VALUES])
    animals = level(ANIMAL, Z, (("general", 2),))
    return animals, level(IMAGE, Z, (("identity", 2),))


def laplace_of(kind, levels, responses, trials=1.0):
    X = np.column_stack([ONES, X_VALUES])
    design = collapse_design(X, levels, names=("Intercept", "x"), is_reml=False)
    nest = nest_of(design, X, levels, 0.1 * X_VALUES, trials * ONES)
    sorted_responses = np.ascontiguousarray(np.atleast_2d(responses)[:, design.order])
    return design, nest, LaplaceLikelihood(nest, design.blocks, kind, sorted_responses)


def counts(kind, trials=3, n=1, seed=11):
    generator = np.random.default_rng(seed)
    effects = generator.normal(size=(n, N_ANIMALS))[:, ANIMAL]
    eta = 0.3 + 0.5 * X_VALUES + effects
    if kind in (POISSON, NBINOM):
        return generator.poisson(np.exp(eta) * generator.gamma(2.0, 0.5, eta.shape)).astype(float)
    return generator.binomial(trials, 1 / (1 + np.exp(-eta))).astype(float)


def points(likelihood, n, seed=5):
    """Values of theta, with another order of the factor's rows in every second."""
    q = likelihood.blocks.Q.shape[1]
    order = np.tile(np.arange(q), (n, len(likelihood.blocks.size), 1))
    size = int(likelihood.blocks.size.max())
    order[1::2, likelihood.blocks.size == size, :size] = np.arange(size)[::-1]
    theta = np.random.default_rng(seed).normal(0.3, 0.3, (n, likelihood.n_covariances + 2))
    return theta, order


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
@pytest.mark.parametrize("levels", [intercepts(ANIMAL, IMAGE), with_slopes()])
def test_gradient_is_that_of_the_deviance(name, kind, levels):
    _, _, likelihood = laplace_of(kind, levels, counts(kind), trials=3.0)
    theta, order = points(likelihood, 2)
    replicates, step = np.zeros(2, dtype=np.int64), 1e-5
    found = likelihood.at(replicates, theta, order).gradient
    for t in range(theta.shape[1]):
        change = step * np.eye(theta.shape[1])[t]
        up, down = (likelihood.at(replicates, theta + s * change, order).f for s in (1, -1))
        np.testing.assert_allclose(found[:, t], (up - down) / (2 * step), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_deviance_is_its_definition(name, kind):
    # -2 log integral by the mode and the determinant of the dense matrix of second derivatives
    levels = with_slopes()
    y = counts(kind)[0]
    design, nest, likelihood = laplace_of(kind, levels, y, trials=3.0)
    theta, order = points(likelihood, 1)
    found = likelihood.at(np.zeros(1, dtype=np.int64), theta, order).f[0]
    animals = np.array([[theta[0, 1], 0.0], [theta[0, 2], theta[0, 3]]])
    factors = (design.scales[0] @ animals, design.scales[1] * theta[0, 0])
    Z = np.hstack([
        np.einsum("nu,nq->nuq", np.eye(unit.max() + 1)[unit], one.Z @ factor).reshape(len(ONES), -1)
        for unit, one, factor in zip((ANIMAL, IMAGE), levels, factors, strict=True)
    ])  # fmt: skip
    tau = theta[0, 4] ** 2 if kind == NBINOM else 0.0
    fixed = nest.X.T @ theta[0, likelihood.n_covariances :] + nest.offset
    logpmf = DISTRIBUTIONS[name[1] if name[0] == "binomial" else name[0]]

    def terms(eta):
        return logpmf(y, 3.0, eta, tau)

    def derivatives(eta, step=1e-4):
        low, middle, high = terms(eta - step), terms(eta), terms(eta + step)
        return (high - low) / (2 * step), -(high - 2 * middle + low) / step**2

    u = np.zeros(Z.shape[1])
    for _ in range(30):  # Newton on the dense problem
        r, w = derivatives(fixed + Z @ u)
        H = np.eye(len(u)) + Z.T @ (w[:, None] * Z)
        u = u + np.linalg.solve(H, Z.T @ r - u)
    expected = -2.0 * terms(fixed + Z @ u).sum() + u @ u + np.linalg.slogdet(H)[1]
    assert found == pytest.approx(expected, abs=1e-5)  # the error of the differences


def test_derivative_at_zero_variance_is_that_in_the_variance():
    _, _, likelihood = laplace_of(LOGIT, intercepts(ANIMAL, IMAGE), counts(LOGIT), trials=3.0)
    theta = np.array([[0.4, 0.0, 0.1, 0.5]])
    order, one = np.zeros((1, 2, 1), dtype=np.int64), np.zeros(1, dtype=np.int64)
    at_zero = likelihood.at(one, theta, order)
    psi = 1e-7
    beside = likelihood.at(one, theta + np.array([0.0, psi**0.5, 0.0, 0.0]), order)
    assert at_zero.gradient[0, 1] == 0.0  # in the SD it says nothing
    slope = (beside.f[0] - at_zero.f[0]) / psi
    assert at_zero.D[0, 1, 0, 0] == pytest.approx(slope, rel=1e-4)


def test_sign_of_a_standard_deviation_changes_nothing():
    _, _, likelihood = laplace_of(POISSON, intercepts(ANIMAL, IMAGE), counts(POISSON))
    theta = np.array([[0.4, 0.7, 0.1, 0.5], [-0.4, -0.7, 0.1, 0.5]])
    found = likelihood.at(np.zeros(2, dtype=np.int64), theta, np.zeros((2, 2, 1), dtype=np.int64))
    assert found.f[0] == pytest.approx(found.f[1], abs=1e-11)


def test_negative_binomial_without_dispersion_is_poisson():
    y = counts(POISSON)
    _, _, poisson = laplace_of(POISSON, intercepts(ANIMAL), y)
    _, _, nbinom = laplace_of(NBINOM, intercepts(ANIMAL), y)
    one = np.zeros(1, dtype=np.int64)
    first = poisson.at(one, np.array([[0.5, 0.2, 0.3]]), np.zeros((1, 1, 1), dtype=np.int64))
    second = nbinom.at(one, np.array([[0.5, 0.0, 0.2, 0.3]]), np.zeros((1, 2, 1), dtype=np.int64))
    assert first.f[0] == pytest.approx(second.f[0], abs=1e-11)


@pytest.mark.parametrize("kind", [LOGIT, POISSON, NBINOM])
def test_every_fit_of_small_data_is_certified_or_named(kind):
    responses = counts(kind, trials=1, n=200)
    levels = intercepts(ANIMAL, IMAGE)
    design, nest, _ = laplace_of(kind, levels, responses)
    fit = fit_laplace(design, nest, kind, responses)
    is_named = fit.runaway.any(axis=1) | (fit.runaway_level >= 0)
    is_usable = fit.status <= Status.BOUNDARY
    assert np.all(is_usable | is_named)
    assert fit.certificate[is_usable].max() < CERTIFICATE_TOLERANCE
    variances = np.array([one[:, 0, 0] for one in fit.factors])
    at_zero = (variances == 0.0).any(axis=0) | ((kind == NBINOM) & (fit.dispersion == 0.0))
    np.testing.assert_array_equal(at_zero[is_usable], (fit.status == Status.BOUNDARY)[is_usable])
    assert 20 < np.count_nonzero(at_zero) < 190  # both kinds are there


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LOGIT, CLOGLOG, POISSON, NBINOM])
@pytest.mark.parametrize("levels", [intercepts(ANIMAL, IMAGE), with_slopes()])
def test_of_ten_thousand_fits_each_is_certified_or_named(kind, levels):
    responses = counts(kind, trials=1, n=1250, seed=23)  # 8 times
    design, nest, _ = laplace_of(kind, levels, responses)
    fit = fit_laplace(design, nest, kind, responses)
    is_named = fit.runaway.any(axis=1) | (fit.runaway_level >= 0)
    assert np.all((fit.status <= Status.BOUNDARY) | is_named)


def test_an_optimum_whose_sds_are_a_hundred_is_certified():
    # effects separate the responses of most units; -2 logLik is told to 1e-9 there, not better
    responses = counts(LOGIT, trials=1, n=1250, seed=103)[994:995]
    design, nest, _ = laplace_of(LOGIT, with_slopes(), responses)
    fit = fit_laplace(design, nest, LOGIT, responses)
    assert fit.status == Status.BOUNDARY
    assert fit.certificate < CERTIFICATE_TOLERANCE
    assert fit.theta.max() > 100.0


@pytest.mark.parametrize("kind", [POISSON, NBINOM])
def test_large_counts_are_fitted_as_exactly_as_small_ones(kind):
    # of ten million and more, whose rounding must not hide the optimum
    generator = np.random.default_rng(4)
    mean = 16.1 + 1.5 * generator.normal(size=(10, N_ANIMALS))[:, ANIMAL]
    mean = np.exp(mean + generator.normal(size=(10, N_ANIMALS * N_IMAGES))[:, IMAGE])
    extra = generator.gamma(2.0, 0.5, mean.shape) if kind == NBINOM else 1.0
    levels = intercepts(ANIMAL, IMAGE)
    responses = generator.poisson(mean * extra).astype(float)
    design, nest, _ = laplace_of(kind, levels, responses)
    fit = fit_laplace(design, nest, kind, responses)
    assert np.all(fit.status <= Status.BOUNDARY)
    assert fit.certificate.max() < CERTIFICATE_TOLERANCE
    if kind == POISSON:  # logarithms are then normal, whose estimates are mean squares
        of_image = np.log(responses.reshape(10, N_ANIMALS, N_IMAGES, N_POINTS).sum(axis=3))
        of_animal = of_image.mean(axis=2)
        within = of_image.var(axis=2).mean(axis=1) * N_IMAGES / (N_IMAGES - 1)
        between = of_animal.var(axis=1) - within / N_IMAGES
        found = np.array([one[:, 0, 0] for one in fit.covariances])
        is_inside = between > 0.0
        assert np.count_nonzero(is_inside) > 5
        np.testing.assert_allclose(found[1, is_inside], within[is_inside], rtol=1e-3)
        np.testing.assert_allclose(found[0, is_inside], between[is_inside], rtol=1e-2)


def test_no_other_optimizer_finds_a_higher_likelihood():
    y = counts(LOGIT, n=3, trials=3)
    _, _, likelihood = laplace_of(LOGIT, intercepts(ANIMAL, IMAGE), y, trials=3.0)
    optima, _ = laplace_optima(likelihood)
    order = np.zeros((1, 2, 1), dtype=np.int64)
    for row in range(3):
        at = np.array([row])

        def deviance(theta, at=at):
            return likelihood.at(at, theta[None], order).f[0]

        other = optimize.minimize(deviance, [0.3, 0.3, 0.0, 0.0], method="Nelder-Mead",
                                  options={"fatol": 1e-10, "maxfev": 4000})  # fmt: skip
        assert optima.found.f[row] < other.fun + 1e-7


def test_numbers_of_a_replicate_do_not_depend_on_the_others():
    responses, levels = counts(NBINOM, n=5), intercepts(ANIMAL, IMAGE)
    design, nest, _ = laplace_of(NBINOM, levels, responses)
    together = fit_laplace(design, nest, NBINOM, responses)
    alone = fit_laplace(design, nest, NBINOM, responses[3:4])
    assert together.coefficients[3].tobytes() == alone.coefficients[0].tobytes()
    assert together.covariance[3].tobytes() == alone.covariance[0].tobytes()


def test_columns_that_tell_successes_apart_are_named():
    y = (X_VALUES > 0.0).astype(float)
    design, nest, _ = laplace_of(LOGIT, intercepts(ANIMAL), y)
    fit = fit_laplace(design, nest, LOGIT, y[None])
    assert fit.status[0] == Status.FAILED
    assert fit.runaway[0, 1] > 0.0


def test_units_of_one_kind_each_are_named():
    y = (ANIMAL % 2).astype(float)
    design, nest, _ = laplace_of(LOGIT, intercepts(ANIMAL, IMAGE), y)
    fit = fit_laplace(design, nest, LOGIT, y[None])
    assert fit.status[0] == Status.FAILED
    assert fit.runaway_level[0] == 0


def test_constants_are_those_of_the_distributions():
    y, m = np.array([[0.0, 2.0, 3.0]]), np.array([1.0, 5.0, 3.0])
    expected = stats.binom.logpmf(y[0], m, 0.3) - y[0] * np.log(0.3) - (m - y[0]) * np.log(0.7)
    assert log_constants(LOGIT, y, m)[0] == pytest.approx(expected.sum(), abs=1e-12)


def by_points(kind, levels, y, n_points, trials=3.0):
    design, nest, laplace = laplace_of(kind, levels, y, trials=trials)
    return nest, QuadratureLikelihood(nest, design.blocks, kind, laplace.responses, n_points)


QUADRATURES = [intercepts(ANIMAL), intercepts(ANIMAL, IMAGE)]


@pytest.mark.parametrize("levels", QUADRATURES, ids=["one level", "two"])
@pytest.mark.parametrize("kind", [LOGIT, POISSON, NBINOM])
def test_gradient_of_quadrature_is_that_of_its_deviance(kind, levels):
    _, likelihood = by_points(kind, levels, counts(kind), 3)
    theta = np.full((1, likelihood.n_covariances + 2), 0.6)
    one, order = np.zeros(1, dtype=np.int64), np.zeros((1, len(likelihood.blocks.size), 1), int)
    found, step = likelihood.at(one, theta, order).gradient[0], 1e-5
    for t in range(theta.shape[1]):
        change = step * np.eye(theta.shape[1])[t]
        up, down = (likelihood.at(one, theta + s * change, order).f[0] for s in (1, -1))
        assert found[t] == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("kind", [LOGIT, NBINOM])
def test_one_point_is_laplace(kind):
    levels, y = intercepts(ANIMAL, IMAGE), counts(kind)
    _, likelihood = by_points(kind, levels, y, 1)
    _, _, laplace = laplace_of(kind, levels, y, trials=3.0)
    theta = np.full((1, likelihood.n_covariances + 2), 0.6)
    one, order = np.zeros(1, dtype=np.int64), np.zeros((1, len(likelihood.blocks.size), 1), int)
    first, second = likelihood.at(one, theta, order), laplace.at(one, theta, order)
    assert first.f[0] == pytest.approx(second.f[0], abs=1e-9)
    np.testing.assert_allclose(first.gradient, second.gradient, atol=1e-8)
    np.testing.assert_allclose(first.D, second.D, atol=1e-7)


@pytest.mark.parametrize("levels", QUADRATURES, ids=["one level", "two"])
def test_quadrature_is_the_integral(levels):
    # 120 x 120 plain Gauss-Hermite points per animal
    y = counts(LOGIT)
    nest, likelihood = by_points(LOGIT, levels, y, 25)
    sds = (0.8, 0.6)[: len(levels)]
    theta = np.array([[*sds, 0.2, 0.4]])
    one, order = np.zeros(1, dtype=np.int64), np.zeros((1, len(levels), 1), dtype=np.int64)
    found = likelihood.at(one, theta, order).f[0]
    fixed = nest.X.T @ theta[0, -2:] + nest.offset
    z, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / weight.sum()
    inner, outer = (theta[0, 0], theta[0, 1]) if len(levels) == 2 else (0.0, theta[0, 0])
    total = 0.0
    for animal in range(N_ANIMALS):
        of_node = np.zeros(120)
        for image in np.unique(IMAGE[animal == ANIMAL]):
            rows = image == IMAGE
            eta = fixed[rows][:, None, None] + outer * z[None, :, None] + inner * z[None, None, :]
            terms = DISTRIBUTIONS["logit"](y[0][rows][:, None, None], 3.0, eta, 0.0).sum(axis=0)
            of_node += np.log(np.exp(terms) @ weight)
        total += np.log(np.exp(of_node) @ weight)
    assert found == pytest.approx(-2.0 * total, abs=1e-8)


def test_fits_by_quadrature_of_small_data_are_certified():
    responses, levels = counts(LOGIT, trials=3, n=20), intercepts(ANIMAL, IMAGE)
    design, nest, _ = laplace_of(LOGIT, levels, responses, trials=3.0)
    fit = fit_laplace(design, nest, LOGIT, responses, 9)
    assert np.all(fit.status <= Status.BOUNDARY)
    assert fit.certificate.max() < CERTIFICATE_TOLERANCE
    finer = fit_laplace(design, nest, LOGIT, responses, 15)
    np.testing.assert_allclose(fit.coefficients, finer.coefficients, atol=1e-4)


@pytest.mark.parametrize("tau", [0.0, 1e-9, 1e-5, 2e-3, 0.3, 40.0])
def test_sums_of_large_counts_are_those_of_their_terms(tau):
    y = np.array([0.0, 3.0, 64.0, 65.0, 400.0, 20_000.0])
    j = [np.arange(one) for one in y]
    above = np.array([[float((y > one).sum()) for one in range(64)]])[0]
    total, slope = log_rising.py_func(above, y, tau)
    assert total == pytest.approx(sum(np.log1p(one * tau).sum() for one in j), rel=1e-12)
    assert slope == pytest.approx(sum((one / (1 + one * tau)).sum() for one in j), rel=1e-11)


EXTREMES = {  # kind, intercept, effect of x, trials: means of 1e6, of 0.05, no successes in a cell
    "counts of a million": (POISSON, 12.5, 0.5, 1.0),
    "overdispersed counts of a million": (NBINOM, 12.5, 0.5, 1.0),
    "hardly any counts": (POISSON, -3.0, 0.5, 1.0),
    "none in most rows": (POISSON, -14.0, -30.0, 1.0),
    "a million trials": (LOGIT, 0.0, 0.5, 1e6),
    "a million trials, by probit": (PROBIT, 0.0, 0.5, 1e6),
    "a million trials, rare": (CLOGLOG, -11.0, 0.5, 1e6),
}


def fit_of_extreme(name, levels, n):
    kind, intercept, effect, trials = EXTREMES[name]
    generator = np.random.default_rng(3)
    effects = generator.normal(0, 0.5, (n, N_ANIMALS))[:, ANIMAL]
    eta = intercept + effect * X_VALUES + effects
    eta = eta + generator.normal(0, 0.3, (n, N_ANIMALS * N_IMAGES))[:, IMAGE]
    if kind in (POISSON, NBINOM):
        extra = generator.gamma(2.0, 0.5, eta.shape) if kind == NBINOM else 1.0
        y = generator.poisson(np.exp(eta) * extra)
    else:
        link = next(link for (_, link), number in KINDS.items() if number == kind)
        y = generator.binomial(int(trials), MEANS[link](eta))
    design, nest, _ = laplace_of(kind, levels, y.astype(float), trials=trials)
    return fit_laplace(design, nest, kind, y.astype(float))


def assert_certified_or_named(fit):
    is_named = fit.runaway.any(axis=1) | (fit.runaway_level >= 0)
    is_usable = fit.status <= Status.BOUNDARY
    assert np.all(is_usable | is_named)
    assert fit.certificate[is_usable].max(initial=0.0) <= CERTIFICATE_TOLERANCE


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_counts_are_fitted_or_named(name):
    for levels in (intercepts(ANIMAL, IMAGE), with_slopes()):
        assert_certified_or_named(fit_of_extreme(name, levels, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTREMES)
def test_of_two_hundred_extreme_fits_each_is_certified_or_named(name):
    assert_certified_or_named(fit_of_extreme(name, intercepts(ANIMAL, IMAGE), 200))
