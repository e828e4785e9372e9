"""Residuals with a structure: the n x n definition, closed forms, and the best of many searches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mcsim.engine.blocks import n_parameters
from mcsim.engine.compile import Level, compile_design, likelihood_of
from mcsim.engine.fit import fit_block, reduce_responses
from mcsim.engine.information import covariance_slopes
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.search import Status
from mcsim.engine.residuals.structure import ResidualRows
from tests.engine.nested.test_likelihood import draw_problem, factors_at
from tests.oracles.dense import dense_deviance, residual_covariance

KINDS = ["ar1", "exchangeable", "strata"]


def units_of(levels):
    """Innermost unit of every row."""
    codes = np.column_stack([level.unit_of_row for level in levels])
    return np.unique(codes, axis=0, return_inverse=True)[1].ravel()


def reported(fit):
    """Correlations or ratios of SDs of the residuals."""
    return fit.curvature.residual.values


def without_effects(level):
    return Level(level.unit_of_row, np.zeros((len(level.unit_of_row), 0)), (), ())


def rows_of(kind, levels, generator, *, is_within):
    """What a model says of its residuals: strata within units, or between the outermost ones."""
    n = len(levels[0].unit_of_row)
    if kind == "ar1":
        # gaps of one to eight steps, the rows of a unit anywhere
        places = np.cumsum(generator.choice([1, 1, 1, 2, 3, 8], size=n))
        return ResidualRows("ar1", generator.permutation(places) if is_within else None)
    if kind == "exchangeable":
        return ResidualRows("exchangeable")
    if is_within:
        stratum = generator.permutation(np.arange(n) % 3)
        return ResidualRows("strata", stratum=stratum)
    outer = np.unique(levels[0].unit_of_row, return_inverse=True)[1]
    return ResidualRows("strata", stratum=outer % 2)


class Problem:
    """A random design and a point (theta, z), by the engine and by the n x n definition."""

    def __init__(self, seed, kind, n_levels, *, is_balanced, is_reml):
        generator = np.random.default_rng(seed)
        self.X, self.levels, self.y = draw_problem(seed, n_levels, is_balanced)
        if seed % 3 == 0:
            self.levels = (*self.levels[:-1], without_effects(self.levels[-1]))
        self.rows = rows_of(kind, self.levels, generator, is_within=bool(seed % 2))
        self.is_reml = is_reml
        self.design = compile_design(
            self.X, self.levels, names=tuple("abcd"), is_reml=is_reml, residual=self.rows
        )
        self.likelihood = likelihood_of(self.design, reduce_responses(self.design, self.y[None]))
        self.structure = self.design.residual.structure
        self.n_theta = n_parameters(self.design.blocks)
        theta = generator.uniform(0.3, 1.0, size=self.n_theta)
        self.point = np.append(
            theta, generator.uniform(0.15, 1.4, size=self.structure.n_parameters)
        )
        if kind == "ar1" and seed % 5 == 0:
            self.point[-1] *= -1.0

    def at(self, point, **options):
        _, order = plain_start(self.design.blocks, 1)
        return self.likelihood.at(np.zeros(1, dtype=int), point[None], order, **options)

    def dense(self):
        z = self.point[None, self.n_theta :]
        values, scale = self.structure.values(z)[0][0], self.structure.scale(z)[0][0]
        R = residual_covariance(
            self.rows.kind, units_of(self.levels), values,
            along=self.rows.along, stratum=self.rows.stratum,
        )  # fmt: skip
        groups = [(one.unit_of_row, one.Z) for one in self.levels if one.Z.shape[1]]
        theta = np.append(self.point[: self.n_theta], np.zeros(len(self.point) - self.n_theta))
        factors = factors_at(self.design, theta)
        return dense_deviance(self.X, groups, self.y, factors, is_reml=self.is_reml, R=scale**2 * R)


many_problems = given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    n_levels=st.integers(1, 4),
    is_balanced=st.booleans(),
    is_reml=st.booleans(),
)


@settings(max_examples=60)
@many_problems
def test_deviance_equals_the_dense_definition(seed, kind, n_levels, is_balanced, is_reml):
    problem = Problem(seed, kind, n_levels, is_balanced=is_balanced, is_reml=is_reml)
    if len(problem.X) <= problem.X.shape[1] + 2:
        return
    value, beta, sigma2 = problem.dense()
    found = problem.at(problem.point)
    assert found.f[0] == pytest.approx(value, abs=1e-8)
    assert found.r2[0] / problem.design.nu == pytest.approx(sigma2, rel=1e-9)
    moments = reduce_responses(problem.design, problem.y[None])
    own = np.linalg.solve(problem.design.R, moments.beta[0] + found.beta[0])
    assert own == pytest.approx(beta, rel=1e-7, abs=1e-9)


@settings(max_examples=30)
@many_problems
def test_gradient_equals_central_differences(seed, kind, n_levels, is_balanced, is_reml):
    problem = Problem(seed, kind, n_levels, is_balanced=is_balanced, is_reml=is_reml)
    if len(problem.X) <= problem.X.shape[1] + 2:
        return
    for with_data in (True, False):  # without data it is that of log|V| + log|X'V^-1X|
        found = problem.at(problem.point, with_data=with_data).gradient[0]
        numeric = []
        for step in 1e-5 * np.eye(len(problem.point)):
            above, below = problem.at(problem.point + step), problem.at(problem.point - step)
            change = above.f[0] - below.f[0]
            if not with_data:
                change -= problem.design.nu * np.log(above.r2[0] / below.r2[0])
            numeric.append(change / 2e-5)
        scale = 1.0 + np.abs(numeric).max()
        assert found == pytest.approx(np.array(numeric), rel=1e-6, abs=1e-6 * scale)


def simulate(generator, kind, levels, values, *, rows):
    """A response with random intercepts at every level and the residuals that are meant."""
    unit = units_of(levels)
    R = residual_covariance(kind, unit, values, along=rows.along, stratum=rows.stratum)
    y = np.linalg.cholesky(R) @ generator.normal(size=len(unit))
    for level in levels:
        y += 0.6 * generator.normal(size=level.unit_of_row.max() + 1)[level.unit_of_row]
    return y


TRUTHS = {"ar1": [0.5], "exchangeable": [0.25], "strata": [2.0]}


@pytest.mark.parametrize("is_reml", [True, False])
@pytest.mark.parametrize("is_balanced", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_fit_is_the_best_that_a_general_optimiser_finds(kind, is_balanced, is_reml):
    generator = np.random.default_rng([11, is_balanced, is_reml, KINDS.index(kind)])
    X, levels, _ = draw_problem(7 if is_balanced else 18, 2, is_balanced)
    X = X[:, :3]
    levels = (levels[0], levels[1]) if kind == "ar1" else (levels[0], without_effects(levels[1]))
    rows = rows_of(kind, levels, generator, is_within=False)
    y = simulate(generator, kind, levels, TRUTHS[kind], rows=rows)
    design = compile_design(X, levels, names=tuple("abc"), is_reml=is_reml, residual=rows)
    fit = fit_block(design, y[None])
    n_theta, structure = n_parameters(design.blocks), design.residual.structure
    groups = [(level.unit_of_row, level.Z) for level in levels if level.Z.shape[1]]

    def deviance(point):
        values, scale = (
            structure.values(point[None, n_theta:])[0][0],
            structure.scale(point[None, n_theta:])[0][0],
        )
        R = residual_covariance(kind, units_of(levels), values, stratum=rows.stratum)
        factors = factors_at(design, np.append(point[:n_theta], 0.0))
        return dense_deviance(X, groups, y, factors, is_reml=is_reml, R=scale**2 * R)[0]

    best = min(
        (
            minimize(deviance, np.append(np.full(n_theta, a), z), method="BFGS")
            for a in (0.3, 1.0)
            for z in (0.1, 0.8, 1.4)
        ),
        key=lambda one: one.fun,
    )
    assert fit.status[0] in (Status.OK, Status.BOUNDARY)
    assert fit.certificate[0] <= CERTIFICATE_TOLERANCE
    assert -2.0 * fit.loglik[0] == pytest.approx(best.fun, abs=1e-6)
    assert -2.0 * fit.loglik[0] <= best.fun + 1e-8
    expected = structure.values(np.array(best.x[None, n_theta:]))[0][0]
    assert reported(fit)[0] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def seed_design(n_outer, n_inner, n_points):
    """Animals, images and points, as in the seed scenario."""
    n = n_outer * n_inner * n_points
    outer, inner = np.arange(n) // (n_inner * n_points), np.arange(n) // n_points
    x = np.tile(np.linspace(0.0, 1.0, n_points), n_outer * n_inner)
    fed = (outer % 2).astype(float)
    X = np.column_stack([np.ones(n), fed, x, fed * x])
    one, line = np.ones((n, 1)), np.column_stack([np.ones(n), x])
    levels = (
        Level(outer, one, (("general", 1),), ("Intercept",)),
        Level(inner, line, (("general", 2),), ("Intercept", "x")),
    )
    return X, levels


def serial(generator, n_replicates, inner, phi):
    """AR1 residuals of units whose rows stand together."""
    e = generator.normal(size=(n_replicates, len(inner)))
    for row in range(1, len(inner)):
        if inner[row] == inner[row - 1]:
            e[:, row] = phi * e[:, row - 1] + np.sqrt(1.0 - phi**2) * e[:, row]
    return e


def balanced_units(generator, n_units, n_rows, rho):
    unit = np.repeat(np.arange(n_units), n_rows)
    y = np.sqrt(1.0 - rho) * generator.normal(size=len(unit))
    return unit, y + np.sqrt(max(rho, 0.0)) * generator.normal(size=n_units)[unit]


def numbers_of(fit):
    at = fit.curvature
    return at.theta, at.hessian, reported(fit), fit.coefficients, fit.loglik, fit.certificate


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_the_block(kind):
    X, levels = seed_design(6, 4, 5)
    generator = np.random.default_rng(9)
    levels = (levels[0], without_effects(levels[1]))
    rows = rows_of(kind, levels, generator, is_within=False)
    design = compile_design(X, levels, names=tuple("abcd"), residual=rows)
    responses = serial(generator, 5, levels[1].unit_of_row, 0.4)
    together = fit_block(design, responses)
    for row in range(5):
        alone = fit_block(design, responses[row : row + 1])
        for one, every in zip(numbers_of(alone), numbers_of(together), strict=True):
            assert one[0].tobytes() == every[row].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_change_of_scale_and_location_of_y_transforms_the_estimates(kind):
    X, levels = seed_design(6, 4, 5)
    generator = np.random.default_rng(10)
    levels = (levels[0], without_effects(levels[1]))
    rows = rows_of(kind, levels, generator, is_within=True)
    design = compile_design(X, levels, names=tuple("abcd"), residual=rows)
    y = serial(generator, 1, levels[1].unit_of_row, 0.4)
    y += generator.normal(size=6)[levels[0].unit_of_row]
    shift = np.array([3.0, -1.0, 2.0, 0.5])
    before, after = fit_block(design, y), fit_block(design, 1000.0 * y + X @ shift + 1e5)
    assert reported(after)[0] == pytest.approx(reported(before)[0], rel=1e-6)
    assert after.scale[0] == pytest.approx(1e6 * before.scale[0], rel=1e-7)
    assert after.coefficients[0, 1:] == pytest.approx(
        1000.0 * before.coefficients[0, 1:] + shift[1:], rel=1e-6
    )
    assert after.covariances[0][0] == pytest.approx(1e6 * before.covariances[0][0], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_random_data_sets_are_certified(kind):
    X, levels = seed_design(5, 3, 6)
    generator = np.random.default_rng(20240319)
    if kind == "exchangeable":
        slope = Level(levels[1].unit_of_row, X[:, 2:3], (("general", 1),), ("x",))
        levels = (levels[0], slope)
    rows = rows_of(kind, levels, generator, is_within=True)
    design = compile_design(X, levels, names=tuple("abcd"), residual=rows)
    fit = fit_block(design, generator.normal(size=(200, len(X))))
    usable = fit.status <= Status.BOUNDARY
    assert np.mean(usable) >= 0.99  # the others say so
    assert np.max(fit.certificate[usable]) <= CERTIFICATE_TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_of_the_covariance_equal_differences_of_the_dense_definition(kind):
    problem = Problem(2 if kind == "strata" else 4, kind, 2, is_balanced=True, is_reml=True)
    responses = problem.y[None]
    fit = fit_block(problem.design, responses)
    slopes = covariance_slopes(problem.design, reduce_responses(problem.design, responses), fit)
    held, centre = fit.curvature.is_held[0], fit.curvature.theta[0]

    def T_inverse(point):
        problem.point = point
        z = point[None, problem.n_theta :]
        values = problem.structure.values(z)[0][0]
        R = problem.structure.scale(z)[0][0] ** 2 * residual_covariance(
            kind, units_of(problem.levels), values,
            along=problem.rows.along, stratum=problem.rows.stratum,
        )  # fmt: skip
        V = R
        theta = np.append(point[: problem.n_theta], np.zeros(len(point) - problem.n_theta))
        factors = factors_at(problem.design, theta)
        inside = np.ones_like(R, dtype=bool)
        groups = [one for one in problem.levels if one.Z.shape[1]]
        for one, Lam in zip(groups, factors, strict=True):
            inside = inside & (one.unit_of_row[:, None] == one.unit_of_row[None, :])
            V = V + np.where(inside, one.Z @ Lam @ Lam.T @ one.Z.T, 0.0)
        X = problem.X @ np.linalg.inv(problem.design.R)
        return np.linalg.inv(X.T @ np.linalg.solve(V, X))

    for t, step in enumerate(1e-5 * np.eye(len(centre))):
        if held[t]:
            continue
        numeric = (
            T_inverse(fit.curvature.theta[0] + step) - T_inverse(fit.curvature.theta[0] - step)
        ) / 2e-5
        scale = np.abs(numeric).max()
        assert slopes[0, t] == pytest.approx(numeric, rel=1e-4, abs=1e-5 * scale)
