"""Methods for counts that allow for units without random effects: sandwich, GEE, unit summaries."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import linalg, stats

import mcsim
from mcsim.errors import DataError

REFERENCE = Path(__file__).parent.parent / "reference" / "families"
FORMULA = "y ~ diet * x + (1 | animal)"
BINARY, COUNTS = (pd.read_csv(REFERENCE / f"{name}_1.csv") for name in ("binomial", "poisson"))
FAMILIES = {"binomial": sm.families.Binomial(), "poisson": sm.families.Poisson()}
NAMES = ["Intercept", "diet[T.fed]", "x", "diet[T.fed]:x"]


def data(family):
    """Response, columns and animals, of which some have lost half of their rows."""
    frame = BINARY if family == "binomial" else COUNTS
    index = frame.index
    frame = frame.drop(index=index[(index % 2 == 0) & (index // 50 % 3 == 0)])
    fed = (frame["diet"] == "fed").to_numpy(dtype=float)
    x = frame["x"].to_numpy()
    X = np.column_stack([np.ones(len(x)), fed, x, fed * x])
    return frame, frame["y"].to_numpy(dtype=float), X, frame["animal"].to_numpy()


def effects(frame, family, estimator, df, formula=FORMULA, **options):
    return mcsim.fit(frame, formula, family=family, estimator=estimator, df=df, **options).table


@pytest.mark.parametrize("family", FAMILIES)
def test_cr1_is_that_of_statsmodels(family):
    frame, y, X, animal = data(family)
    other = sm.GLM(y, X, FAMILIES[family]).fit(
        cov_type="cluster", cov_kwds={"groups": animal, "use_correction": True}
    )
    found = effects(frame, family, "glm-cluster", "cr1").loc[NAMES]
    np.testing.assert_allclose(found["estimate"], other.params, rtol=1e-6)
    np.testing.assert_allclose(found["std_error"], other.bse, rtol=1e-6)
    assert (found["df"] == len(np.unique(animal)) - 1).all()


def test_cr2_is_its_definition():
    # residuals of an animal times the inverse root of I - its block of the hat matrix
    frame, y, X, animal = data("poisson")
    found = effects(frame, "poisson", "glm-cluster", "cr2").loc[NAMES]
    mean = np.exp(X @ found["estimate"].to_numpy())
    Xs, e = np.sqrt(mean)[:, None] * X, (y - mean) / np.sqrt(mean)
    M, meat = np.linalg.inv(Xs.T @ Xs), 0.0
    for one in np.unique(animal):
        own = Xs[animal == one]
        root = linalg.inv(linalg.sqrtm(np.eye(len(own)) - own @ M @ own.T).real)
        score = own.T @ root @ e[animal == one]
        meat = meat + np.outer(score, score)
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(M @ meat @ M)), rtol=1e-6)


@pytest.mark.parametrize(("df", "kind"), [("robust", "robust"), ("mancl-derouen", "bias_reduced")])
@pytest.mark.parametrize("family", FAMILIES)
def test_estimating_equations_are_those_of_statsmodels(family, df, kind):
    frame, y, X, animal = data(family)
    model = sm.GEE(y, X, animal, family=FAMILIES[family], cov_struct=sm.cov_struct.Exchangeable())
    other = model.fit(cov_type=kind, ctol=1e-9, maxiter=500)
    found = effects(frame, family, "gee", df).loc[NAMES]
    np.testing.assert_allclose(found["estimate"], other.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found["std_error"], other.bse, rtol=1e-6)
    if df == "mancl-derouen":
        assert (found["df"] == len(np.unique(animal)) - 4).all()


CORRECTIONS = {  # what scores of a unit are multiplied by; H = C B^-1 is its share
    "kauermann-carroll": lambda H: linalg.fractional_matrix_power(np.eye(len(H)) - H, -0.5),
    "fay-graubard": lambda H: np.diag((1 - np.minimum(np.diag(H), 0.75)) ** -0.5),
}


@pytest.mark.parametrize("df", CORRECTIONS)
def test_other_corrections_for_few_units_are_their_definition(df):
    # Kauermann & Carroll (2001), Fay & Graubard (2001), by dense matrices of every animal
    frame, y, X, animal = data("binomial")
    found = effects(frame, "binomial", "gee", df).loc[NAMES]
    p = 1 / (1 + np.exp(-X @ found["estimate"].to_numpy()))
    model = sm.GEE(y, X, animal, family=FAMILIES["binomial"],
                   cov_struct=sm.cov_struct.Exchangeable())  # fmt: skip
    alpha = model.fit(ctol=1e-9, maxiter=500).model.cov_struct.dep_params
    informations, scores = [], []
    for one in np.unique(animal):
        own = animal == one
        root = np.sqrt(p[own] * (1 - p[own]))
        V = root[:, None] * ((1 - alpha) * np.eye(own.sum()) + alpha) * root
        D = (root**2)[:, None] * X[own]
        informations.append(D.T @ np.linalg.solve(V, D))
        scores.append(D.T @ np.linalg.solve(V, y[own] - p[own]))
    bread = np.linalg.inv(sum(informations))
    adjusted = [CORRECTIONS[df](C @ bread) @ s for C, s in zip(informations, scores, strict=True)]
    covariance = bread @ sum(np.outer(s, s) for s in adjusted) @ bread
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(covariance)), rtol=1e-5)
    assert (found["df"] == len(np.unique(animal)) - 4).all()


def test_a_sum_of_trials_is_so_many_rows_but_for_their_correlation():
    # without a covariate that varies within animals the estimates are those of single cells
    single = BINARY.assign(cells=1)
    summed = single.groupby(["diet", "animal", "image"], as_index=False)[["y", "cells"]].sum()
    one, other = (
        effects(frame, "binomial", "glm-cluster", "cr1", "y ~ diet + (1 | animal)", trials="cells")
        for frame in (single, summed)
    )
    np.testing.assert_allclose(one["estimate"], other["estimate"], rtol=1e-8)


@pytest.mark.parametrize("estimator", ["two-stage", "image-means"])
def test_summaries_of_animals_are_compared_by_a_t_test(estimator):
    # t.test of log odds with half a success and half a failure added
    totals = BINARY.groupby(["diet", "animal"])["y"].agg(["sum", "size"]).reset_index()
    odds = np.log((totals["sum"] + 0.5) / (totals["size"] - totals["sum"] + 0.5))
    fasted, fed = (odds[totals["diet"] == diet] for diet in ("fasted", "fed"))
    other = stats.ttest_ind(fed, fasted)
    formula = "y ~ diet + (1 | animal)"
    found = effects(BINARY, "binomial", estimator, "residual", formula).loc["diet[T.fed]"]
    assert found["estimate"] == pytest.approx(fed.mean() - fasted.mean(), rel=1e-12)
    assert found["p_value"] == pytest.approx(other.pvalue, rel=1e-9)
    assert found["df"] == 18


def test_counts_are_summarised_as_rates():
    frame = COUNTS.assign(area=2.0)
    totals = frame.groupby(["diet", "animal"])["y"].agg(["sum", "size"]).reset_index()
    rate = np.log((totals["sum"] + 0.5) / (2.0 * totals["size"]))
    formula = "y ~ diet + offset(log(area)) + (1 | animal)"
    found = effects(frame, "poisson", "two-stage", "residual", formula)["estimate"]
    assert found["Intercept"] == pytest.approx(rate[totals["diet"] == "fasted"].mean(), rel=1e-12)


def test_rows_alike_are_summed_before_the_regressions_of_animals():
    frame = BINARY.assign(x=BINARY["x"].round(0))
    totals = frame.groupby(["diet", "animal", "x"])["y"].agg(["sum", "size"]).reset_index()
    odds = np.log((totals["sum"] + 0.5) / (totals["size"] - totals["sum"] + 0.5))
    slopes = [np.polyfit(totals["x"][own], odds[own], 1)[0]
              for own in totals.groupby("animal").groups.values()]  # fmt: skip
    formula = "y ~ x + (1 | animal)"
    found = effects(frame, "binomial", "two-stage", "residual", formula).loc["x"]
    assert found["estimate"] == pytest.approx(np.mean(slopes), rel=1e-9)
    assert found["std_error"] == pytest.approx(stats.sem(slopes), rel=1e-9)


@pytest.mark.parametrize("estimator", ["gee", "glm-cluster"])
def test_separated_rows_are_named_and_negative_binomial_ones_refused(estimator):
    df = "robust" if estimator == "gee" else "cr2"
    frame = BINARY.assign(y=(BINARY["diet"] == "fed").astype(float))
    found = mcsim.fit(frame, FORMULA, family="binomial", estimator=estimator, df=df)
    assert found.status == "failed"
    assert found.message.startswith("separated")
    with pytest.raises(DataError, match="is not for family 'nbinom'; leave it out, for 'laplace'"):
        effects(COUNTS, "nbinom", estimator, df)
