"""Structures of random effects against the best that a general optimiser finds with the dense
likelihood, and what must hold of a certificate on many designs."""

import numpy as np
import pytest
from scipy.optimize import minimize

from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_block
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import Status
from tests.oracles.dense import dense_deviance

N_UNITS, N_ROWS = 8, 9


def one_level(structure, generator):
    """Three treatments within every unit: random effects that are the levels of a factor."""
    unit = np.repeat(np.arange(N_UNITS), N_ROWS)
    Z = np.tile(np.eye(3), (N_UNITS * N_ROWS // 3, 1))
    X = np.column_stack([np.ones(len(unit)), Z[:, 1:]])
    level = Level(unit, Z, ((structure, 3),), ("a", "b", "c"))
    u = generator.normal(size=(N_UNITS, 1)) + 0.7 * generator.normal(size=(N_UNITS, 3))
    y = np.sum(Z * u[unit], axis=1) + generator.normal(size=len(unit))
    return X, level, y


def factor_of(structure, parameters):
    if structure == "identity":
        return parameters[0] * np.eye(3)
    along = np.full((3, 3), 1.0 / 3.0)
    return parameters[0] * (np.eye(3) - along) + parameters[1] * along


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("structure", "size"), [("identity", 1), ("compound", 2)])
def test_structures_reach_the_optimum_of_the_dense_likelihood(structure, size, seed):
    X, level, y = one_level(structure, np.random.default_rng(seed))

    def deviance(parameters):
        Lam = factor_of(structure, parameters)
        return dense_deviance(X, [(level.unit_of_row, level.Z)], y, [Lam], is_reml=True)[0]

    best = minimize(deviance, np.ones(size), method="Nelder-Mead", options={"fatol": 1e-10})
    fit = fit_block(compile_design(X, (level,), names=("Intercept", "b", "c")), y[None])
    assert fit.certificate[0] <= CERTIFICATE_TOLERANCE
    assert -2.0 * fit.loglik[0] == pytest.approx(best.fun, abs=1e-6)
    covariance = fit.covariances[0][0]
    diagonal, off = np.diag(covariance), covariance[np.triu_indices(3, 1)]
    assert diagonal == pytest.approx(np.full(3, diagonal[0]), rel=1e-10)
    expected = np.zeros(3) if structure == "identity" else np.full(3, off[0])
    assert off == pytest.approx(expected, rel=1e-10, abs=1e-14)


def nested_units(generator, n_levels, smallest, largest):
    """Unit numbers (n_rows, n_levels), outermost level first."""
    units = np.arange(2 * int(generator.integers(3, 8)))[:, None]
    for _ in range(n_levels):
        counts = generator.integers(smallest, largest + 1, size=len(units))
        last = np.arange(counts.sum())[:, None]
        units = np.hstack([np.repeat(units, counts, axis=0), last])
    return units[:, :-1]


DESIGNS = {  # levels, smallest and largest number of units in a unit, structures per level
    "balanced slopes": (2, 4, 4, [(("general", 2),), (("general", 2),)]),
    "unbalanced slopes": (2, 2, 6, [(("general", 2),), (("general", 2),)]),
    "one level": (1, 3, 9, [(("general", 2),)]),
    "three levels": (3, 2, 3, [(("general", 1),), (("compound", 2),), (("general", 1),) * 2]),
    "four levels": (4, 2, 3, [(("general", 1),), (("identity", 2),), *[(("general", 1),)] * 2]),
}


def certify(name, n_designs, n_each):
    generator = np.random.default_rng(20240319)
    n_levels, smallest, largest, structures = DESIGNS[name]
    for _ in range(n_designs):
        units = nested_units(generator, n_levels, smallest, largest)
        n = len(units)
        x = generator.uniform(size=n)
        X = np.column_stack([np.ones(n), units[:, 0] % 2, x])
        columns = np.column_stack([np.ones(n), x])
        levels = tuple(
            Level(units[:, depth], columns[:, : sum(size for _, size in one)], one, ("1", "x"))
            for depth, one in enumerate(structures)
        )
        y = generator.normal(size=(n_each, n))
        for depth, level in enumerate(levels):  # variances from none to large
            sd = generator.choice([0.0, 0.1, 0.3, 1.0, 10.0], size=(n_each, 1))
            for j in range(level.Z.shape[1]):
                effects = generator.normal(size=(n_each, int(units[:, depth].max()) + 1))
                y += sd * effects[:, units[:, depth]] * level.Z[:, j]
        fit = fit_block(compile_design(X, levels, names=("Intercept", "group", "x")), y)
        assert np.isin(fit.status, (Status.OK, Status.BOUNDARY)).all(), fit.status
        assert np.max(fit.certificate) <= CERTIFICATE_TOLERANCE


@pytest.mark.parametrize("name", DESIGNS)
def test_every_fit_is_certified(name):
    certify(name, n_designs=2, n_each=50)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_every_fit_of_ten_thousand_is_certified(name):
    certify(name, n_designs=20, n_each=100)
