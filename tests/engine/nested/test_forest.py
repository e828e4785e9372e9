"""Trees that are grown together fit as designs that are compiled one by one."""

import numpy as np
import pytest

from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_block, fit_moments
from mcsim.engine.nested.forest import OwnRows, grow, join_forests
from mcsim.engine.own_rows import least_squares_at, own_designs

PSI = np.array([[2.0, 0.3], [0.3, 1.0]])
SIGMA = 0.5


def random_rows(rng, n_animals, n_images, n_each):
    """Animal, image, X, Z and y of the rows that are left of a design."""
    animal = np.repeat(np.arange(n_animals), n_images * n_each)
    image = np.repeat(np.arange(n_animals * n_images), n_each)
    x, group = rng.uniform(size=len(animal)), animal % 2
    ones = np.ones(len(x))
    X, Z = np.column_stack([ones, group, x, group * x]), np.column_stack([ones, x])
    y = 1e3 + rng.normal(size=n_animals)[animal] + x * rng.normal(size=image[-1] + 1)[image]
    left = rng.random(len(x)) > 0.2
    return [one[left] for one in (animal, image, X, Z, y + SIGMA * rng.normal(size=len(x)))]


@pytest.fixture(scope="module")
def replicates():
    rng = np.random.default_rng(5)
    return [random_rows(rng, *sizes) for sizes in ((6, 4, 5), (8, 3, 4), (5, 6, 3))]


@pytest.fixture(scope="module")
def designs(replicates):
    """Designs of all replicates, which are grown in two parts."""
    forests = []
    for some in (replicates[:2], replicates[2:]):
        start = np.cumsum([0] + [len(one[4]) for one in some])
        is_first = [np.diff(one[:2], axis=1, prepend=-1) != 0 for one in some]
        columns = np.ascontiguousarray(np.concatenate([one[2] for one in some]).T)
        Z = np.array([0, 2]), np.array([0, 2])
        rows = OwnRows(start, np.hstack(is_first), columns, Z, np.arange(4))
        # k that is too small is mended
        forests.append(grow(rows, np.concatenate([one[4] for one in some]), 1))
    structures = [(("general", 2),)] * 2
    return own_designs(join_forests(forests), rows, structures, is_reml=True)


def test_fits_are_those_of_one_design_each(replicates, designs):
    fit = fit_moments(designs.design, designs.moments)
    for number, (animal, image, X, Z, y) in enumerate(replicates):
        levels = tuple(Level(unit, Z, (("general", 2),), ("1", "x")) for unit in (animal, image))
        one = fit_block(compile_design(X, levels, names=("1", "g", "x", "gx")), y[None])
        assert fit.status[number] == one.status[0]
        assert fit.loglik[number] == pytest.approx(one.loglik[0], abs=1e-9)
        assert fit.coefficients[number] == pytest.approx(one.coefficients[0], rel=1e-8)
        assert fit.covariance[number] == pytest.approx(one.covariance[0], rel=1e-6, abs=1e-9)
        for all_psi, psi in zip(fit.covariances, one.covariances, strict=True):
            assert all_psi[number] == pytest.approx(psi[0], rel=1e-6, abs=1e-7)


def test_least_squares_at_given_covariances(replicates, designs):
    # oracle: the n x n covariance
    found, covariance = least_squares_at(designs, [PSI, np.eye(2)], SIGMA)
    for number, (animal, image, X, Z, y) in enumerate(replicates):
        V = SIGMA**2 * np.eye(len(y)) + (animal[:, None] == animal) * (Z @ PSI @ Z.T)
        V += (image[:, None] == image) * (Z @ Z.T)
        C = np.linalg.inv(X.T @ np.linalg.solve(V, X))
        assert covariance[number] == pytest.approx(C, rel=1e-9)
        assert found[number] == pytest.approx(C @ X.T @ np.linalg.solve(V, y), rel=1e-9)


def test_rows_that_are_in_doubt_are_left_out():
    rng = np.random.default_rng(1)
    animal = np.repeat([0, 1, 2, 3], 3)
    is_first = np.tile(np.diff(animal, prepend=-1) != 0, (1, 3))
    good = np.column_stack([np.ones(12), rng.normal(size=12)])
    twice, alone = good[:, [0, 0]], good[::3]  # a column twice; one row of each animal
    columns = np.concatenate([good, twice, np.repeat(alone, 3, axis=0)]).T.copy()
    is_first[0, 24:] = True
    rows = OwnRows(
        np.array([0, 12, 24, 28]),
        is_first[:, :28],
        columns[:, :28],
        (np.zeros(1, int),),
        np.arange(2),
    )
    forest = grow(rows, rng.normal(size=28), 2)
    assert forest.is_sure.tolist() == [True, False, True]
    assert own_designs(forest, rows, [(("general", 1),)], is_reml=True).chosen.tolist() == [0]
    assert forest.stratum.tolist() == [[1, 2], [1, 1], [1, 1]]
