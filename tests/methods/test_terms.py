"""Tests of terms of types II and III against R's lmerTest, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mcsim.design.columns import model_columns
from mcsim.errors import DataError, ScenarioError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings, fixed_contrasts
from mcsim.methods.registry import prepare_method
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from tests.conftest import SMALL

REFERENCE = Path(__file__).parents[1] / "reference"
# anova(lmer(y ~ ... + (1 | block)), type = 2 or 3, ddf = "Kenward-Roger"): NumDF, DenDF, F by term;
# lme4 1.1-31, lmerTest 3.1-3; terms.csv is unbalanced, so that all types differ
R = {
    ("variety*nitro", "type 2"): {
        "variety": (2, 207.16035, 3.3091301),
        "nitro": (2, 207.40944, 2.0710181),
        "variety:nitro": (4, 207.31310, 1.1234805),
    },
    ("variety*nitro", "type 3"): {
        "variety": (2, 207.15161, 3.2718662),
        "nitro": (2, 207.40947, 2.0670488),
        "variety:nitro": (4, 207.31310, 1.1234805),
    },
    ("variety*nitro + x*variety", "type 2"): {
        "variety": (2, 204.11620, 2.22679100),  # not contained in variety:x, which has a covariate
        "x": (1, 204.11555, 27.21636121),
        "variety:x": (2, 204.88983, 3.03583287),
    },
    ("variety*nitro + x*variety", "type 3"): {
        "variety": (2, 204.11429, 2.23726867),
        "x": (1, 204.11160, 28.81551863),
        "variety:x": (2, 204.88983, 3.03583287),
    },
    ("variety*nitro*sex + x", "type 2"): {
        "sex": (1, 197.65650, 0.26638371),
        "nitro:sex": (2, 197.11460, 2.25573352),
        "variety:nitro:sex": (4, 197.23759, 0.64059293),
    },
    ("variety*nitro*sex + x", "type 3"): {
        "sex": (1, 197.67173, 0.40367229),
        "nitro:sex": (2, 197.13042, 2.17135338),
        "variety:nitro:sex": (4, 197.23759, 0.64059293),
    },
}


@pytest.fixture(scope="module")
def frame():
    found = pd.read_csv(REFERENCE / "terms.csv")
    factors = ("block", "variety", "nitro", "sex")
    return found.assign(**{name: pd.Categorical(found[name]) for name in factors})


def settings(terms, test):
    tested = tuple(EstimandSpec(name=f"test of {one}", term=one, test=test) for one in terms)
    return MethodSettings("reml", ("kenward-roger",), 0.95, tested)


@pytest.mark.parametrize(("fixed", "test"), R)
def test_types_ii_and_iii_equal_those_of_lmertest(frame, fixed, test):
    columns = model_columns(parse_formula(f"y ~ {fixed} + (1 | block)"), frame)
    method = prepare_method(columns, settings(R[fixed, test], test))
    found = method.analyse([method.take(frame["y"].to_numpy()[None])], np.random.default_rng)
    rows = {one.parameter.name: one for one in found.estimates["kenward-roger"]}
    for term, (numerator_df, df, F) in R[fixed, test].items():
        one = rows[f"test of {term}"]
        assert one.parameter.numerator_df == numerator_df
        assert one.df[0] == pytest.approx(df, rel=1e-5)
        assert one.estimate[0] == pytest.approx(F, rel=1e-4 if F < 1 else 1e-6)


@pytest.mark.parametrize("coded", ["C(nitro) * variety", "variety * nitro"])
def test_the_type_iii_test_of_a_largest_term_is_marginal(frame, coded):
    columns = model_columns(parse_formula(f"y ~ {coded} + (1 | block)"), frame)
    largest = columns.terms[-1]
    *_, tested = fixed_contrasts(columns, settings([largest], "type 3"))
    others = np.array(columns.term_of_column) != len(columns.terms) - 1
    assert np.abs(tested.L[:, others]).max() < 1e-9
    assert np.linalg.matrix_rank(tested.L) == 4


def test_a_term_whose_parts_are_missing_has_no_type_iii_test(frame):
    columns = model_columns(parse_formula("y ~ variety:nitro + (1 | block)"), frame)
    with pytest.raises(DataError, match="use test = 'type 2'"):
        fixed_contrasts(columns, settings(["variety:nitro"], "type 3"))


ESTIMAND = "[[estimands]]\nname = 'diet on average'\nterm = 'diet'\n"


def study_of(text, folder):
    path = folder / "s.toml"
    path.write_text(text)
    return run_study(load_scenario(path, replicates=4), RunOptions(folder / "out", n_workers=1))


def test_a_study_has_the_test_beside_its_parameters(tmp_path):
    store = study_of(SMALL + ESTIMAND, tmp_path)
    conditions = pq.read_table(store.directory / "conditions.parquet").to_pylist()
    [row, *_] = [one for one in conditions if one["parameter"] == "diet on average"]
    assert (row["component"], row["kind"], row["numerator_df"]) == ("terms", "term", 1)
    assert row["truth"] is None
    estimates = pq.read_table(store.directory / "estimates").to_pandas()
    tests = estimates[estimates["parameter"] == "diet on average"]
    assert tests["p_value"].between(0.0, 1.0).all()
    # diet on average over x, not at x = 0, is the diet's effect at the mean of x in a balanced grid
    assert tests["std_error"].isna().all()


@pytest.mark.parametrize(
    ("estimand", "message"),
    [
        ("name = 'a'\ntest = 'type 2'", "`test` is of a term"),
        ("name = 'a'\nterm = 'diet'\nfixed = { x = 1 }", "leave one out"),
        ("name = 'a'\nterm = 'diet'\ntest = 'III'", "it must be one of: type 2, type 3"),
        ("name = 'a'\nterm = 'dose'", "which no method's formula has"),
        ("name = 'total.sd(x)'\nterm = 'diet'", "give the estimand another name"),
    ],
)
def test_what_is_no_test_of_a_term_is_refused(tmp_path, estimand, message):
    with pytest.raises((DataError, ScenarioError)) as refused:
        study_of(f"{SMALL}[[estimands]]\n{estimand}\n", tmp_path)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("test", ["type 2", "type 3"])
def test_terms_of_means_of_images_have_an_f(tmp_path, test):
    path = tmp_path / "s.toml"
    path.write_text(
        SMALL[: SMALL.index("[[methods]]")]
        + '[[methods]]\nname = "means"\nformula = "y ~ diet + (1 | animal/image)"\n'
        'estimator = "image-means"\n'
        f'[[estimands]]\nname = "F diet"\nterm = "diet"\ntest = "{test}"\n'
    )
    options = RunOptions(tmp_path / "out", n_workers=1)
    study = run_study(load_scenario(path, replicates=3), options).directory
    rows = pq.read_table(study / "estimates").to_pandas().set_index(["replicate", "parameter"])
    for replicate in (1, 2, 3):  # of two levels: the square of t
        diet = rows.loc[(replicate, "diet[T.fed]")]
        f = rows.loc[(replicate, "F diet"), "estimate"]
        assert f == pytest.approx((diet["estimate"] / diet["std_error"]) ** 2, rel=1e-9)
