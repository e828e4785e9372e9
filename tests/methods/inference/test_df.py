"""Degrees of freedom, adjusted standard errors and F tests against R's and a dense computation."""

import json
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments, weighted
from mcsim.engine.information import information
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.inference.df import KenwardRoger, Satterthwaite
from mcsim.methods.method import MethodSettings, constant_df, fixed_contrasts
from mcsim.methods.registry import prepare_method
from mcsim.scenario.load import load_scenario
from mcsim.study.run import replicate_data

REFERENCE = Path(__file__).parents[2] / "reference"
CONFIGS = Path(__file__).parents[3] / "configs"
FORMULAS = {
    "general": "y ~ diet * x + (x | animal/image)",
    "diagonal": "y ~ diet * x + (x || animal/image)",
}
NAMES = ["Intercept", "diet[T.fed]", "x", "diet[T.fed]:x"]
SETTINGS = MethodSettings("reml", ("satterthwaite", "kenward-roger", "containment", "z"), 0.95)


def analyse(name, structure):
    frame = pd.read_csv(REFERENCE / f"{name}.csv")
    frame["diet"] = pd.Categorical(frame["diet"], categories=["fasted", "fed"])
    method = prepare_method(model_columns(parse_formula(FORMULAS[structure]), frame), SETTINGS)
    estimates = method.analyse(
        [method.take(frame["y"].to_numpy()[None])], np.random.default_rng
    ).estimates
    return {
        df: {
            block.parameter.name: block for block in blocks if block.parameter.component == "fixed"
        }
        for df, blocks in estimates.items()
    }


def stored(name, structure):
    text = (REFERENCE / f"{name}.json").read_text()
    return json.loads(text)["models"][structure]["REML"]


def column(rows, measure):
    return [float(getattr(rows[name], measure)[0]) for name in NAMES]


@pytest.mark.parametrize("structure", ["general", "diagonal"])
@pytest.mark.parametrize("name", ["seed_1", "seed_5", "small_2"])
def test_satterthwaite_equals_lmertest_in_the_interior(name, structure):
    # summary(lmerTest::lmer(...)); its numeric derivatives are the larger error
    reference = stored(name, structure)["satterthwaite"]
    rows = analyse(name, structure)["satterthwaite"]
    assert column(rows, "df") == pytest.approx(reference["df"], rel=1e-3)
    assert column(rows, "std_error") == pytest.approx(reference["se"], rel=1e-4)
    assert column(rows, "p_value") == pytest.approx(reference["p"], rel=1e-2)


@pytest.mark.parametrize("structure", ["general", "diagonal"])
@pytest.mark.parametrize("name", ["small_1", "small_2"])
def test_kenward_roger_equals_pbkrtest(name, structure):
    # summary(..., ddf = "Kenward-Roger"), pbkrtest; small_1 lies on the boundary
    reference = stored(name, structure)["kenward_roger"]
    rows = analyse(name, structure)["kenward-roger"]
    assert column(rows, "df") == pytest.approx(reference["df"], rel=1e-5)
    assert column(rows, "std_error") == pytest.approx(reference["se"], rel=1e-5)
    # p of 1e-5 and less magnify what is left of t
    assert column(rows, "p_value") == pytest.approx(reference["p"], rel=1e-3)


@pytest.fixture(scope="module")
def unbalanced():
    """A factor of three levels between animals, few and unequal images, correlated slopes."""
    generator = np.random.default_rng(20)
    rows = []
    for animal in range(12):
        slope = generator.normal(0, 0.8, 2)
        for image in range(generator.integers(2, 5)):
            level = generator.normal(0, 0.5)
            for x in generator.uniform(0, 1, generator.integers(2, 5)):
                y = 0.3 * (animal % 3) + slope[0] + slope[1] * x + level + generator.normal(0, 0.4)
                rows.append((f"d{animal % 3}", f"a{animal}", f"i{image}", x, y))
    frame = pd.DataFrame(rows, columns=["dose", "animal", "image", "x", "y"])
    frame["dose"] = pd.Categorical(frame["dose"])
    columns = model_columns(
        parse_formula("y ~ dose * x + (x | animal) + (1 | animal:image)"), frame
    )
    method = prepare_method(columns, SETTINGS)
    moments = method.take(frame["y"].to_numpy()[None])
    fit = fit_moments(method.design, moments)
    assert np.linalg.eigvalsh(fit.covariances[0][0]).min() > 1e-3
    return columns, method, moments, fit


def dense_parts(columns, fit):
    """V, and its derivatives in the entries of the covariance matrices and sigma^2."""
    directions = []
    V = fit.scale[0] * np.eye(len(columns.X))
    for level, covariance in zip(columns.levels, fit.covariances, strict=True):
        same = level.unit_of_row[:, None] == level.unit_of_row[None, :]
        V = V + same * (level.Z @ covariance[0] @ level.Z.T)
        q = level.Z.shape[1]
        block = np.repeat(np.arange(len(level.structures)), [size for _, size in level.structures])
        for i in range(q):
            for j in np.flatnonzero(block[: i + 1] == block[i]):
                E = np.zeros((q, q))
                E[i, j] = E[j, i] = 1.0
                directions.append(same * (level.Z @ E @ level.Z.T))
    return V, [*directions, np.eye(len(columns.X))]


@pytest.fixture(scope="module")
def dense(unbalanced):
    columns, _, _, fit = unbalanced
    return dense_kenward_roger(columns, fit)


def dense_kenward_roger(columns, fit):
    """Phi, adjusted Phi, P, and W as Kenward & Roger (1997) define them, from n x n matrices."""
    V, directions = dense_parts(columns, fit)
    inverse, X = np.linalg.inv(V), columns.X
    Phi = np.linalg.inv(X.T @ inverse @ X)
    P = [-X.T @ inverse @ D @ inverse @ X for D in directions]
    projector = inverse - inverse @ X @ Phi @ X.T @ inverse
    half = [projector @ D for D in directions]
    W = np.linalg.inv([[0.5 * np.sum(a * b.T) for b in half] for a in half])
    middle = np.zeros_like(Phi)
    for r, first in enumerate(directions):
        for s, second in enumerate(directions):
            Q = X.T @ inverse @ first @ inverse @ second @ inverse @ X
            middle += W[r, s] * (Q - P[r] @ Phi @ P[s])
    return Phi, Phi + 2 * Phi @ middle @ Phi, P, W


def df_methods(unbalanced):
    _, method, moments, fit = unbalanced
    return method._df_methods(method.design, fit, moments, partial(constant_df, method._columns))


def test_adjusted_covariance_equals_the_dense_one(unbalanced, dense):
    adjusted = df_methods(unbalanced)["kenward-roger"].covariance[0]
    Phi, expected = dense[:2]
    assert np.abs(expected / Phi - 1).max() > 0.01  # there is something to get right
    assert adjusted == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pivot", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9])
def test_adjustment_equals_the_dense_one_up_to_the_boundary(unbalanced, pivot):
    # whatever the factor's second pivot is; below 1e-4 the engine's Psi is off by 1e-8
    columns, method, moments, fit = unbalanced
    theta = fit.curvature.theta.copy()
    assert theta.shape == (1, 4)  # the image's, then the animal's by columns
    theta[:, 3] = pivot
    factors = [weighted(slope, theta)[0] for slope in fit.curvature.slopes]
    covariances = tuple(fit.scale[0] * (Lam @ Lam.T)[None] for Lam in factors)
    around = copy(fit.curvature)
    around.theta = theta
    there = replace(fit, curvature=around, covariances=covariances)
    told = information(method.design, moments, there)
    Phi, expected = dense_kenward_roger(columns, there)[:2]
    adjustment = told.adjusted_covariance[0] - fit.covariance[0]
    assert np.abs(expected / Phi - 1).max() > 0.01
    scale = np.sqrt(np.outer(np.diag(Phi), np.diag(Phi)))
    assert np.abs((adjustment - (expected - Phi)) / scale).max() < 2e-5


def small_unbalanced(seed):
    """Few animals, images and points, and nothing but noise: most optima lie on the boundary."""
    generator, rows = np.random.default_rng(seed), []
    for animal in range(generator.integers(6, 12)):
        for image in range(generator.integers(2, 5)):
            X = generator.uniform(0, 1, generator.integers(3, 6)).tolist()
            own = (f"d{animal % 2}", f"a{animal}", f"i{image}")
            rows += [(*own, x, generator.normal()) for x in X]
    frame = pd.DataFrame(rows, columns=["dose", "animal", "image", "x", "y"])
    frame["dose"] = pd.Categorical(frame["dose"])
    return frame


def test_standard_errors_of_singular_fits_equal_the_dense_ones():
    n_singular = 0
    for seed in range(20):
        frame = small_unbalanced(seed)
        for random in ("(x | animal/image)", "(x || animal/image)", "(1 | animal/image)"):
            columns = model_columns(parse_formula(f"y ~ dose * x + {random}"), frame)
            method = prepare_method(columns, SETTINGS)
            moments = method.take(frame["y"].to_numpy()[None])
            fit = fit_moments(method.design, moments)
            if fit.status[0] != 1:
                continue
            n_singular += 1
            found = information(method.design, moments, fit).adjusted_covariance[0]
            Phi, expected = dense_kenward_roger(columns, fit)[:2]
            scale = np.sqrt(np.outer(np.diag(Phi), np.diag(Phi)))
            assert np.abs((found - expected) / scale).max() < 5e-5, (seed, random)
    assert n_singular >= 50


def test_kenward_roger_of_a_singular_fit_equals_pbkrtest():
    # lmer(y ~ diet * x + (x | animal/image)), summary(m, ddf = "Kenward-Roger"); lme4 1.1-31,
    # pbkrtest 0.5.2: no variance between images, a correlation of 1 between animals
    frame = pd.read_csv(REFERENCE / "tiny.csv")
    frame["diet"] = pd.Categorical(frame["diet"])
    method = prepare_method(model_columns(parse_formula(FORMULAS["general"]), frame), SETTINGS)
    found = method.analyse([method.take(frame["y"].to_numpy()[None])], np.random.default_rng)
    assert found.fits.status[0] == 1
    rows = {block.parameter.name: block for block in found.estimates["kenward-roger"]}
    names = ["Intercept", "diet[T.g1]", "x", "diet[T.g1]:x"]
    errors = [rows[name].std_error[0] for name in names]
    # lme4 stops within 1e-4 of the optimum
    assert errors == pytest.approx([0.23152251, 0.29566274, 0.54437760, 0.77753438], rel=1e-4)
    df = [rows[name].df[0] for name in names]
    assert df == pytest.approx([2.9871271, 2.0600848, 2.4577067, 1.6616445], rel=1e-4)


def test_standard_errors_next_to_a_correlation_of_one_equal_those_of_pbkrtest():
    # pbkrtest 0.5.2; the correlation between animals is 1 to six digits, and not on the boundary
    scenario = load_scenario(CONFIGS / "ar1.toml")
    frame = replicate_data(scenario, 28, "residual.phi=0.6")
    method = prepare_method(model_columns(parse_formula(FORMULAS["general"]), frame), SETTINGS)
    found = method.analyse([method.take(frame["y"].to_numpy()[None])], np.random.default_rng)
    assert found.fits.status[0] == 0
    rows = {block.parameter.name: block for block in found.estimates["kenward-roger"]}
    expected = [0.01748322, 0.02472501, 0.02191947, 0.03099882]
    assert column(rows, "std_error") == pytest.approx(expected, rel=1e-5)
    assert column(rows, "df") == pytest.approx([10.0] * 4, rel=1e-5)


def test_kenward_roger_of_terms_equals_the_dense_one(unbalanced, dense):
    columns, _, _, _ = unbalanced
    Phi, _, P, W = dense
    found = df_methods(unbalanced)["kenward-roger"]
    assert isinstance(found, KenwardRoger)
    terms = [
        one for one in fixed_contrasts(columns, SETTINGS) if one.parameter.component == "terms"
    ]
    assert [one.parameter.name for one in terms] == ["dose", "dose:x"]
    for one in terms:
        L, size = one.L, len(one.L)
        Theta = L.T @ np.linalg.inv(L @ Phi @ L.T) @ L
        traces = [np.trace(Theta @ Phi @ A @ Phi) for A in P]
        A1 = np.einsum("rs,r,s->", W, traces, traces)
        A2 = sum(
            W[r, s] * np.trace(Theta @ Phi @ P[r] @ Phi @ Theta @ Phi @ P[s] @ Phi)
            for r in range(len(P))
            for s in range(len(P))
        )
        B, g = (A1 + 6 * A2) / (2 * size), ((size + 1) * A1 - (size + 4) * A2) / ((size + 2) * A2)
        c = np.array([g, size - g, size + 2 - g]) / (3 * size + 2 * (1 - g))
        mean = 1 / (1 - A2 / size)
        variance = 2 / size * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
        df = 4 + (size + 2) / (size * variance / (2 * mean**2) - 1)
        ours, scale = found.of_term(L)
        assert ours[0] == pytest.approx(df, rel=1e-5)
        assert scale[0] == pytest.approx(df / (mean * (df - 2)), rel=1e-5)


def test_satterthwaite_of_contrasts_and_terms_equals_the_dense_slopes(unbalanced, dense):
    columns, _, _, _ = unbalanced
    Phi, _, P, W = dense
    # with the expected information, so that both sides have the same W
    found = df_methods(unbalanced)["kenward-roger"]
    found = Satterthwaite(found.covariance, found.sensitivity, found.W)

    def df_of(c):
        g = np.array([-c @ Phi @ A @ Phi @ c for A in P])
        return 2 * (c @ Phi @ c) ** 2 / (g @ W @ g)

    for one in fixed_contrasts(columns, SETTINGS):
        if len(one.L) == 1:
            assert found.of_contrast(one.L[0])[0] == pytest.approx(df_of(one.L[0]), rel=1e-5)
            continue
        _, vectors = np.linalg.eigh(one.L @ Phi @ one.L.T)
        parts = np.array([df_of(c) for c in vectors.T @ one.L])
        expected = np.sum(parts / (parts - 2))
        ours, scale = found.of_term(one.L)
        assert ours[0] == pytest.approx(2 * expected / (expected - len(parts)), rel=1e-5)
        assert scale[0] == 1.0


def test_terms_have_the_f_test_of_their_columns(unbalanced):
    columns, method, moments, fit = unbalanced
    rows = {
        b.parameter.name: b
        for b in method.analyse([moments], np.random.default_rng).estimates["containment"]
    }
    L = next(one.L for one in fixed_contrasts(columns, SETTINGS) if one.parameter.name == "dose")
    beta, C = fit.coefficients[0], fit.covariance[0]
    F = (L @ beta) @ np.linalg.solve(L @ C @ L.T, L @ beta) / 2
    assert rows["dose"].estimate[0] == pytest.approx(F)
    assert rows["dose"].df[0] == 9.0  # 12 animals in 3 groups
    assert rows["dose"].p_value[0] == pytest.approx(stats.f.sf(F, 2, 9))
    z = {
        b.parameter.name: b for b in method.analyse([moments], np.random.default_rng).estimates["z"]
    }
    assert np.isnan(z["dose"].df[0])
    assert z["dose"].p_value[0] == pytest.approx(stats.chi2.sf(2 * F, 2))


@pytest.mark.parametrize(
    ("estimator", "df"), [("ml", "kenward-roger"), ("statsmodels", "satterthwaite")]
)
def test_df_that_an_estimator_does_not_give_are_refused(estimator, df):
    frame = pd.read_csv(REFERENCE / "small_2.csv")
    columns = model_columns(parse_formula("y ~ x + (1 | animal)"), frame)
    with pytest.raises(DataError, match=f"'{estimator}' does not give df '{df}'"):
        prepare_method(columns, MethodSettings(estimator, (df,), 0.95))
