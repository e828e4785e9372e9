"""Units that are alike: strata give what the elimination of every unit gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsim.engine.compile import Level, compile_design, crossed_design, likelihood_of
from mcsim.engine.crossed import crossing
from mcsim.engine.crossed.alike import Alike
from mcsim.engine.crossed.large import LargeCrossedLikelihood
from mcsim.engine.fit import fit_block, reduce_responses
from mcsim.engine.information import covariance_slopes, information
from mcsim.engine.optimum.minque import plain_start
from mcsim.engine.optimum.status import Status

N_SUBJECTS, N_ITEMS = 10, 8
s, i, c = (one.ravel() for one in np.indices((N_SUBJECTS, N_ITEMS, 2)))
x = c - 0.5
KEPT = np.arange(len(s)) != 7
is_first = c == 0
word = i % 2 - 0.5


def level(unit, *columns, structure="general"):
    Z = np.column_stack([np.ones(len(unit)), *columns])
    q = Z.shape[1]
    structures = (("general", 1),) * q if structure == "diagonal" else ((structure, q),)
    return Level(unit, Z, structures, ("Intercept", "x")[:q])


def latin(*levels):
    """One row per pair, in one of two conditions."""
    x = (s + i) % 2 - 0.5
    return x[is_first], tuple(one(s[is_first], i[is_first], x[is_first]) for one in levels)


DESIGNS = {  # covariate, levels
    "(1 | s) + (1 | i)": (x, (level(i), level(s))),
    "(x | s) + (x | i)": (x, (level(i, x), level(s, x))),
    "(x || s) + (x | i)": (x, (level(i, x), level(s, x, structure="diagonal"))),
    "compound": (x, (level(i), level(s, x, structure="compound"))),
    "(1 | s) + (1 | i) + (1 | s:i)": (x, (level(i), level(s), level(s * N_ITEMS + i))),
    "(x | s) + (1 | i) + (x | s:i)": (x, (level(i), level(s, x), level(s * N_ITEMS + i, x))),
    "(x | s/part) + (1 | year)": (x, (level(i // 2), level(s, x), level(s * 2 + i % 2))),
    "(word | s) + (1 | i)": (word, (level(i), level(s, word))),
    "three factors": (x, (level(i // 2, x), level(i % 2), level(s))),
    "Latin square, intercepts": latin(lambda _s, i, _x: level(i), lambda s, _i, _x: level(s)),
    "Latin square, slopes": latin(lambda _s, i, x: level(i, x), lambda s, _i, x: level(s, x)),
    "a row is lost": (x[KEPT], (level(i[KEPT], x[KEPT]), level(s[KEPT], x[KEPT]))),
}  # fmt: skip


def compiled(name, monkeypatch, *, is_reml=True, as_strata=True):
    """The design; X has a column that varies in all strata."""
    covariate, levels = DESIGNS[name]
    noise = np.random.default_rng(2).normal(size=len(covariate))
    X = np.column_stack([np.ones(len(covariate)), covariate, noise])
    with monkeypatch.context() as patch:
        if not as_strata:
            patch.setattr(crossing, "units_alike", each_alone)
        return compile_design(X, levels, names=("a", "b", "c"), is_reml=is_reml, are_crossed=True)


def each_alone(units, _columns, _G):
    return Alike(tuple(np.arange(int(own.max()) + 1) for own in units), ())


def responses(name, n, seed=3):
    covariate, levels = DESIGNS[name]
    generator = np.random.default_rng(seed)
    y = generator.normal(size=(n, len(covariate)))
    for one in levels:
        effects = generator.normal(size=(n, one.Z.shape[1], int(one.unit_of_row.max()) + 1))
        y += np.einsum("rqn,nq->rn", effects[:, :, one.unit_of_row], one.Z)
    return y


@pytest.mark.parametrize("is_reml", [True, False])
@pytest.mark.parametrize("name", DESIGNS)
def test_strata_give_the_likelihood_of_every_unit_on_its_own(name, is_reml, monkeypatch):
    strata, units = (
        compiled(name, monkeypatch, is_reml=is_reml, as_strata=own) for own in (True, False)
    )
    y = responses(name, 2)
    columns_of_block = np.diff(strata.tree.inner.first[strata.tree.block_unit].astype(int))
    n_outer, n_units = int(strata.tree.outer.first[-1]), reduce_responses(units, y).values.shape[1]
    assert strata.tree.weight @ columns_of_block + n_outer == pytest.approx(n_units)
    assert strata.tree.weight.max() > 1.0
    theta, order = plain_start(strata.blocks, 3)
    theta = np.random.default_rng(5).normal(size=theta.shape)
    theta[2, ::2] = 0.0
    where = np.array([1, 0, 1]), theta, order
    expected = likelihood_of(units, reduce_responses(units, y)).at(*where).results
    moments = reduce_responses(strata, y)
    found = likelihood_of(strata, moments).at(*where).results
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    if n_outer:
        found = LargeCrossedLikelihood(strata.tree, moments).at(*where).results
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def draw_typed(seed):
    """Units of a few types, which decide how often two meet, and with which covariate."""
    generator = np.random.default_rng(seed)
    n_units = generator.integers(5, 10, 2)
    types = [generator.integers(0, generator.integers(1, 4), n) for n in n_units]
    counts, shift = generator.integers(0, 3, (3, 3)), generator.integers(0, 2, (3, 3))
    counts[0], counts[:, 0] = 2, 2
    s, i = (one.ravel() for one in np.indices(n_units))
    s, i = (np.repeat(one, counts[types[0][s], types[1][i]]) for one in (s, i))
    x = np.arange(len(s)) % 2 + shift[types[0][s], types[1][i]] - 0.7
    names = ["general", "diagonal", "identity", "compound"]
    levels = [level(unit, x, structure=generator.choice(names)) for unit in (s, i)]
    levels += [level(s * 10 + i)] * (seed % 3 == 0)
    X = np.column_stack([np.ones(len(s)), x, generator.normal(size=len(s))])
    p = 3 * (seed % 5 > 0)  # or no fixed effects
    return X[:, :p], tuple(levels), generator.normal(size=(1, len(s))) + types[0][s]


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), is_reml=st.booleans())
def test_units_of_a_few_types_give_the_likelihood_of_every_unit(seed, is_reml):
    X, levels, y = draw_typed(seed)
    found = []
    for rule in (crossing.units_alike, each_alone):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(crossing, "units_alike", rule)
            design = crossed_design(X, levels, ("a", "b", "c")[: X.shape[1]], is_reml=is_reml)
        theta, order = plain_start(design.blocks, 1)
        theta = np.random.default_rng(seed).normal(size=theta.shape)
        likelihood = likelihood_of(design, reduce_responses(design, y))
        found.append(likelihood.at(np.zeros(1, dtype=int), theta, order).results)
    assert found[0] == pytest.approx(found[1], rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("name", ["(x | s) + (x | i)", "Latin square, slopes", "three factors"])
def test_fits_and_df_of_strata_are_those_of_every_unit_on_its_own(name, monkeypatch):
    y = responses(name, 40)
    found = []
    for as_strata in (True, False):
        design = compiled(name, monkeypatch, as_strata=as_strata)
        fit, moments = fit_block(design, y), reduce_responses(design, y)
        told = information(design, moments, fit)
        found.append((fit, told, covariance_slopes(design, moments, fit)))
    (ours, told, slopes), (theirs, expected, their_slopes) = found
    assert np.array_equal(ours.status, theirs.status)
    assert {Status.OK, Status.BOUNDARY} == set(ours.status)
    assert ours.certificate.max() < 1e-6
    assert ours.loglik == pytest.approx(theirs.loglik, rel=1e-9)
    assert ours.coefficients == pytest.approx(theirs.coefficients, rel=1e-6, abs=1e-8)
    for own, other in zip(ours.covariances, theirs.covariances, strict=True):
        assert own == pytest.approx(other, rel=1e-4, abs=1e-6)
        assert np.array_equal(own == 0.0, other == 0.0)  # exact zeros
    assert slopes == pytest.approx(their_slopes, rel=1e-3, abs=1e-5)
    assert told.adjusted_covariance == pytest.approx(expected.adjusted_covariance, rel=1e-3)


def test_mean_squares_of_a_balanced_design_give_its_estimates(monkeypatch):
    # (1 | s) + (1 | i) + (1 | s:i): inside the cone REML is analysis of variance
    name = "(1 | s) + (1 | i) + (1 | s:i)"
    _, levels = DESIGNS[name]
    X = np.ones((len(s), 1))
    fit = fit_block(compile_design(X, levels, names=("a",), are_crossed=True), responses(name, 60))
    cells = responses(name, 60).reshape(-1, N_SUBJECTS, N_ITEMS, 2)
    pair, subject, item = cells.mean(3), cells.mean((2, 3)), cells.mean((1, 3))
    mean = cells.mean((1, 2, 3))
    of_subjects = 2 * N_ITEMS * np.sum((subject - mean[:, None]) ** 2, 1) / (N_SUBJECTS - 1)
    of_items = 2 * N_SUBJECTS * np.sum((item - mean[:, None]) ** 2, 1) / (N_ITEMS - 1)
    rest = pair - subject[:, :, None] - item[:, None] + mean[:, None, None]
    of_pairs = 2 * np.sum(rest**2, (1, 2)) / ((N_SUBJECTS - 1) * (N_ITEMS - 1))
    sigma2 = np.sum((cells - pair[..., None]) ** 2, (1, 2, 3)) / (N_SUBJECTS * N_ITEMS)
    expected = [(of_items - of_pairs) / (2 * N_SUBJECTS), (of_subjects - of_pairs) / (2 * N_ITEMS),
                (of_pairs - sigma2) / 2]  # fmt: skip
    is_inside = np.min(expected, axis=0) > 0.0
    assert is_inside.sum() > 30
    for own, variance in zip(fit.covariances, expected, strict=True):
        assert own[is_inside, 0, 0] == pytest.approx(variance[is_inside], rel=1e-6)
    assert fit.scale[is_inside] == pytest.approx(sigma2[is_inside], rel=1e-6)


def test_a_slope_of_a_covariate_that_nobody_shares_leaves_every_unit_alone():
    z = np.random.default_rng(1).normal(size=len(s))
    X, levels = np.column_stack([np.ones(len(s)), z]), (level(i, z), level(s, z))
    design = crossed_design(X, levels, ("a", "b"))
    assert design.n_values == 2 * (N_SUBJECTS + N_ITEMS)
    assert design.tree.weight.max() == 1.0
