"""Residuals with a structure: the n x n definition, closed forms, and the best of many searches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mcsim.engine.blocks import n_parameters
from mcsim.engine.compile import Level, compile_design, likelihood_of, with_starts
from mcsim.engine.fit import fit_block, reduce_responses
from mcsim.engine.information import covariance_slopes
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.search import Status
from mcsim.engine.residuals import search as residual_search
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
        return ResidualRows("ar1", generator.normal(size=n) if is_within else None)
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


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=30, deadline=None)
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


def balanced_units(generator, n_units, n_rows, rho):
    unit = np.repeat(np.arange(n_units), n_rows)
    y = np.sqrt(1.0 - rho) * generator.normal(size=len(unit))
    return unit, y + np.sqrt(max(rho, 0.0)) * generator.normal(size=n_units)[unit]


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
        X[order], shuffled, names=names, residual=ResidualRows("ar1", along=X[order, 2])
    )
    ordered = fit_block(by_x, y[None, order])
    unordered = fit_block(
        compile_design(X[order], shuffled, names=names, residual=ResidualRows("ar1")),
        y[None, order],
    )
    assert ordered.loglik[0] == pytest.approx(plain.loglik[0], abs=1e-8)
    assert reported(ordered)[0] == pytest.approx(reported(plain)[0], rel=1e-6)
    assert unordered.loglik[0] < plain.loglik[0] - 1.0


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


def test_stratum_that_the_fixed_effects_fit_exactly_has_no_optimum():
    stratum = np.repeat([0, 1], [20, 2])
    y = np.random.default_rng(7).normal(size=(1, 22))
    X = np.column_stack([np.ones(22), stratum, np.append(np.zeros(21), 1.0)])
    rows = ResidualRows("strata", stratum=stratum)
    design = compile_design(X, (), names=tuple("abc"), is_reml=False, residual=rows)
    assert fit_block(design, y).status[0] >= Status.NOT_CONVERGED


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
