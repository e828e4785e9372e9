"""Units that cross: the n x n definition, central differences, fits of the nested engine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsim.engine.blocks import n_parameters
from mcsim.engine.compile import Level, compile_design, crossed_design, likelihood_of
from mcsim.engine.crossed import inner
from mcsim.engine.crossed.large import LargeCrossedLikelihood
from mcsim.engine.crossed.likelihood import CrossedLikelihood
from mcsim.engine.fit import factor_slopes, fit_block, reduce_responses, weighted
from mcsim.engine.information import information
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError
from tests.oracles.dense import dense_deviance

STRUCTURES = ((("general", 2),), (("general", 1), ("general", 1)), (("identity", 2),),
              (("compound", 2),))  # fmt: skip


def draw_problem(seed):
    """X, levels and y of two to four levels, of which some cross, some pairs never met."""
    generator = np.random.default_rng(seed)
    n_subjects, n_items = (int(n) for n in generator.integers(3, 8, 2))
    pair = np.array([(s, i) for s in range(n_subjects) for i in range(n_items)])
    pair = np.repeat(pair[generator.random(len(pair)) < generator.uniform(0.5, 1.0)], 2, axis=0)
    pair = np.vstack([pair, [[s, s % n_items] for s in range(n_subjects)]])
    pair = np.vstack([pair, [[i % n_subjects, i] for i in range(n_items)]])
    subject, item = generator.permutation(pair).T
    n = len(pair)
    x = generator.normal(size=n)
    part = subject * 2 + generator.integers(0, 2, n)  # nested in subjects
    year = generator.integers(0, 3, n)
    others = [part] * (seed % 3 == 1) + [year] * (seed % 3 == 2)
    levels = []
    for unit in sorted([subject, item, *others], key=lambda one: int(one.max())):
        structure = STRUCTURES[generator.integers(0, 4)] if unit is not part else (("general", 1),)
        q = sum(size for _, size in structure)
        Z = np.column_stack([np.ones(n), x])[:, :q]
        levels.append(Level(unit, Z, structure, ("Intercept", "x")[:q]))
    X = np.column_stack([np.ones(n), x, generator.normal(size=n)])
    return X, tuple(levels), generator.normal(size=n) + x + generator.normal(size=9)[item]


def deviance(X, levels, y, design, theta, order):
    slopes = factor_slopes(design, order)
    Lams = [weighted(own, theta[None])[0] for own in slopes]
    given = [(level.unit_of_row, level.Z) for level in levels]
    return dense_deviance(X, given, y, Lams, is_reml=design.is_reml, is_crossed=True)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), is_reml=st.booleans())
def test_deviance_and_gradient_are_those_of_the_definition(seed, is_reml):
    X, levels, y = draw_problem(seed)
    design = crossed_design(X, levels, ("Intercept", "x", "z"), is_reml=is_reml)
    generator = np.random.default_rng(seed + 1)
    _, order = plain_start(design.blocks, 1)
    theta = generator.normal(size=n_parameters(design.blocks)) * (generator.random() < 0.9)
    moments = reduce_responses(design, np.stack([y, y[::-1]]))
    found = likelihood_of(design, moments).at(np.zeros(1, dtype=int), theta[None], order)
    expected, beta, sigma2 = deviance(X, levels, y, design, theta, order)
    assert found.f[0] == pytest.approx(expected, rel=1e-9, abs=1e-8)
    assert found.r2[0] / design.nu == pytest.approx(sigma2, rel=1e-9)
    fitted = np.linalg.solve(design.R, moments.beta[0] + found.beta[0])
    assert fitted == pytest.approx(beta, rel=1e-7, abs=1e-8)
    for t in range(len(theta)):
        step = np.zeros(len(theta))
        step[t] = 1e-5
        above, below = (
            deviance(X, levels, y, design, theta + sign * step, order)[0] for sign in (1, -1)
        )
        wanted = (above - below) / 2e-5
        assert found.gradient[0, t] == pytest.approx(wanted, rel=1e-5, abs=2e-4)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6), is_reml=st.booleans(), with_data=st.booleans(),
    dense=st.sampled_from([0.0, 2.0]),
)  # fmt: skip
def test_dense_products_and_single_blocks_give_the_numbers_of_the_lanes(
    seed, is_reml, with_data, dense
):
    X, levels, y = draw_problem(seed)
    design = crossed_design(X, levels, ("Intercept", "x", "z"), is_reml=is_reml)
    moments = reduce_responses(design, np.stack([y, y[::-1]]))
    theta, order = plain_start(design.blocks, 3)
    theta = np.random.default_rng(seed).normal(size=theta.shape)
    theta[2, ::2] = 0.0
    where = np.array([1, 0, 1]), theta, order
    lanes = CrossedLikelihood(design.tree, moments).at(*where, with_data=with_data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner, "DENSE", dense)
        large = LargeCrossedLikelihood(design.tree, moments).at(*where, with_data=with_data)
    assert large.results == pytest.approx(lanes.results, rel=1e-7, abs=1e-7)


def test_the_same_bits_in_any_lane_and_with_any_neighbours():
    X, levels, y = draw_problem(5)
    design = compile_design(X, levels, names=("Intercept", "x", "z"), are_crossed=True)
    responses = y + np.random.default_rng(1).normal(size=(11, len(y)))
    together = fit_block(design, responses)
    for row in (0, 3, 10):
        alone = fit_block(design, responses[row : row + 1])
        assert alone.loglik[0].tobytes() == together.loglik[row].tobytes()
        assert alone.coefficients[0].tobytes() == together.coefficients[row].tobytes()


def test_labels_of_nested_units_give_the_numbers_of_the_nested_engine():
    # years cross with nothing that varies: without columns they change nothing
    generator = np.random.default_rng(3)
    animal, image = np.repeat(np.arange(8), 12), np.repeat(np.arange(32), 3)
    x = generator.normal(size=96)
    X, Z = np.column_stack([np.ones(96), x]), np.column_stack([np.ones(96), x])
    levels = (
        Level(animal, Z, (("general", 2),), ("Intercept", "x")),
        Level(image, Z[:, :1], (("general", 1),), ("Intercept",)),
    )
    year = Level(np.arange(96) % 7, np.zeros((96, 0)), (), ())
    nested = compile_design(X, levels, names=("Intercept", "x"))
    crossed = compile_design(
        X, (levels[0], year, levels[1]), names=("Intercept", "x"), are_crossed=True
    )
    y = (
        generator.normal(size=(20, 8))[:, animal] + generator.normal(size=(20, 32))[:, image]
        + 0.5 * generator.normal(size=(20, 8))[:, animal] * x + generator.normal(size=(20, 96))
    )  # fmt: skip
    ours, theirs = fit_block(crossed, y), fit_block(nested, y)
    assert ours.loglik == pytest.approx(theirs.loglik, rel=1e-10)
    assert ours.coefficients == pytest.approx(theirs.coefficients, rel=1e-6, abs=1e-7)
    assert ours.covariances[0] == pytest.approx(theirs.covariances[0], rel=1e-5, abs=1e-6)
    both = [
        information(design, reduce_responses(design, y), fit)
        for design, fit in ((crossed, ours), (nested, theirs))
    ]
    assert both[0].adjusted_covariance == pytest.approx(both[1].adjusted_covariance, rel=1e-4)


def largest_gap(seeds):
    """Of -2 logLik at optima from its n x n definition, relative."""
    gaps = []
    for seed in seeds:
        X, levels, y = draw_problem(seed)
        names = ("Intercept", "x", "z")
        design = compile_design(X, levels, names=names, is_reml=bool(seed % 2), are_crossed=True)
        fit = fit_block(design, y[None])
        at = fit.curvature
        expected, *_ = deviance(X, levels, y, design, at.theta[0], at.order)
        gaps.append(abs(-2.0 * fit.loglik[0] - expected) / abs(expected))
    return max(gaps)


@pytest.mark.parametrize(
    "seeds", [range(8), pytest.param(range(1000, 1300), marks=pytest.mark.slow)], ids=["8", "300"]
)
def test_fits_of_random_designs_have_the_likelihood_of_the_definition(seeds):
    # crossed, partially crossed, with nested units or a third factor beside them
    assert largest_gap(seeds) < 1e-9


def test_too_many_columns_are_refused_with_their_number():
    units = np.random.default_rng(1).integers(0, 2100, (2, 9000))
    levels = tuple(Level(unit, np.ones((9000, 1)), (("general", 1),), ("a",)) for unit in units)
    with pytest.raises(DataError, match=r"have 2,\d\d\d random effects .* at most 2,000 can be"):
        crossed_design(np.ones((9000, 1)), levels, ("Intercept",))


def simulate(shape, sds, n, met):
    """Intercepts and slopes of a condition, dealt so that each pair is met in one condition."""
    generator = np.random.default_rng(7)
    subject, item = (one.ravel() for one in np.indices(shape))
    is_met = generator.permutation(len(subject)) < met * len(subject)
    subject, item = subject[is_met], item[is_met]
    x = (subject + item) % 2 - 0.5
    columns = np.column_stack([np.ones(len(x)), x])
    levels = tuple(
        Level(unit, columns, (("general", 2),), ("Intercept", "x")) for unit in (item, subject)
    )
    y = generator.normal(size=(n, len(x)))
    for unit, sd in ((subject, sds[:2]), (item, sds[2:])):
        for j in range(2):
            y += sd[j] * generator.normal(size=(n, unit.max() + 1))[:, unit] * columns[:, j]
    return compile_design(columns, levels, names=("Intercept", "x"), are_crossed=True), y


@pytest.mark.parametrize(
    ("shape", "sds", "n", "met"),
    [
        ((12, 8), (1.0, 0.3, 0.5, 0.2), 60, 0.9),
        pytest.param((36, 24), (0.8, 0.2, 0.5, 0.1), 2500, 1.0, marks=pytest.mark.slow),
        pytest.param((20, 6), (1.0, 0.0, 0.5, 0.0), 2500, 1.0, marks=pytest.mark.slow),
        pytest.param((8, 40), (0.2, 0.1, 2.0, 1.0), 2500, 1.0, marks=pytest.mark.slow),
        pytest.param((24, 12), (1.0, 0.4, 0.7, 0.0), 2500, 0.6, marks=pytest.mark.slow),
    ],
)
def test_every_fit_of_crossed_data_is_certified(shape, sds, n, met):
    design, y = simulate(shape, sds, n, met)
    fit = fit_block(design, y)
    assert np.all(fit.status <= Status.BOUNDARY)
    assert fit.certificate.max() < 1e-6
