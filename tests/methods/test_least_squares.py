"""OLS on rows and on means of units, against statsmodels, scipy and closed forms."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import ESTIMATES
from mcsim.scenario.estimators import facts_of
from tests.estimators import FULL, analyse, responses, table, unbalanced_frame

OLS = MethodSettings("ols", ("residual",), 0.9)
MEANS = MethodSettings("image-means", ("residual",), 0.95)
NAMES = ["Intercept", "dose[T.low]", "dose[T.high]", "x", "dose[T.low]:x", "dose[T.high]:x"]
CLOSE = 1e-9  # two ways to solve the same equations


@pytest.fixture(scope="module")
def frame():
    return unbalanced_frame()


def expected(fit, df, confidence):
    """The same numbers from a fit of statsmodels."""
    limits = fit.conf_int(alpha=1.0 - confidence).to_numpy()
    numbers = [fit.params, fit.bse, np.full(len(fit.params), df), *limits.T, fit.pvalues]
    return pd.DataFrame(np.column_stack(numbers), fit.params.index).loc[NAMES].to_numpy()


@pytest.mark.parametrize("formula", [FULL, "y ~ dose * x"])
def test_ols_equals_statsmodels(frame, formula):
    y = responses(frame)
    rows = analyse(frame, y, formula, OLS)["residual"]
    for replicate, response in enumerate(y):
        fit = smf.ols("y ~ dose * x", frame.assign(y=response)).fit()
        wanted = expected(fit, fit.df_resid, 0.9)
        assert table(rows, NAMES, replicate) == pytest.approx(wanted, rel=CLOSE)
        test = fit.f_test("dose[T.low], dose[T.high]")
        assert rows["dose"].estimate[replicate] == pytest.approx(test.fvalue, rel=CLOSE)
        assert rows["dose"].p_value[replicate] == pytest.approx(test.pvalue, rel=1e-7)
        assert rows["sigma"].estimate[replicate] == pytest.approx(fit.scale**0.5, rel=CLOSE)


def test_the_interval_of_sigma_is_that_of_the_chi_squared_distribution(frame):
    sigma = analyse(frame, responses(frame), FULL, OLS)["residual"]["sigma"]
    df = len(frame) - 6
    for limit, share in ((sigma.ci_lower, 0.95), (sigma.ci_upper, 0.05)):
        squares = df * sigma.estimate**2
        assert limit == pytest.approx(np.sqrt(squares / stats.chi2.ppf(share, df)), rel=CLOSE)


@pytest.mark.parametrize("settings", [OLS, MEANS], ids=lambda one: one.estimator)
def test_blocks_of_any_size_give_the_same_bits(frame, settings):
    y = responses(frame, 7)
    one, other = (analyse(frame, y, FULL, settings, block=n)["residual"] for n in (1, 7))
    for name, block in one.items():
        for key in ESTIMATES:
            assert getattr(block, key).tobytes() == getattr(other[name], key).tobytes()


def test_image_means_are_least_squares_on_the_means(frame):
    y = responses(frame)
    rows = analyse(frame, y, FULL, MEANS)["residual"]
    assert "sigma" not in rows
    for replicate, response in enumerate(y):
        means = frame.assign(y=response).groupby("image").agg(
            {"dose": "first", "x": "mean", "y": "mean"}
        )  # fmt: skip
        fit = smf.ols("y ~ dose * x", means).fit()
        wanted = expected(fit, fit.df_resid, 0.95)
        assert table(rows, NAMES, replicate) == pytest.approx(wanted, rel=1e-7)


def test_means_of_animals_of_two_groups_are_compared_by_the_t_test(frame):
    two = frame[frame["dose"] != "high"].reset_index(drop=True)
    two["dose"] = two["dose"].cat.remove_unused_categories()
    y = responses(two)
    rows = analyse(two, y, "y ~ dose + (1 | animal)", MEANS)["residual"]
    means = two.assign(y=y[0]).groupby("animal").agg({"dose": "first", "y": "mean"})
    groups = [means.loc[means["dose"] == dose, "y"] for dose in ("low", "none")]
    test = stats.ttest_ind(*groups)
    found = rows["dose[T.low]"]
    assert found.p_value[0] == pytest.approx(test.pvalue, rel=CLOSE)
    assert found.estimate[0] / found.std_error[0] == pytest.approx(test.statistic, rel=CLOSE)
    assert found.df[0] == test.df == len(means) - 2


def test_means_leave_out_effects_of_what_is_the_same_in_every_unit(frame):
    frame = frame[["dose", "animal", "image"]].merge(pd.DataFrame({"x": [0.0, 0.1, 0.2]}), "cross")
    rows = analyse(frame, responses(frame), FULL, MEANS)["residual"]
    assert list(rows) == [*NAMES[:3], "dose"]


@pytest.mark.parametrize("estimator", ["image-means", "ols-cluster"])
def test_units_must_be_named(frame, estimator):
    columns = model_columns(parse_formula("y ~ dose"), frame)
    settings = MethodSettings(estimator, facts_of(estimator).df, 0.95)
    with pytest.raises(DataError, match=f"'{estimator}' needs the units; name them by a random"):
        prepare_method(columns, settings)


def test_too_few_rows_are_refused(frame):
    columns = model_columns(parse_formula("y ~ dose * x"), frame.iloc[:6])
    with pytest.raises(DataError, match="6 observations cannot estimate 6 fixed effects"):
        prepare_method(columns, OLS)


def test_intervals_of_variance_components_are_refused(frame):
    columns = model_columns(parse_formula(FULL), frame)
    settings = MethodSettings("ols", ("residual",), 0.95, interval="profile")
    with pytest.raises(DataError, match="'ols' gives no interval 'profile' of a variance"):
        prepare_method(columns, settings)
