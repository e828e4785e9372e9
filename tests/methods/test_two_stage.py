"""Regressions per animal, then tests on their coefficients, against scipy and statsmodels."""

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
from mcsim.scenario.estimand import EstimandSpec
from tests.estimators import FULL, analyse, responses, table, unbalanced_frame

TWO_STAGE = MethodSettings("two-stage", ("residual",), 0.95)
CLOSE = 1e-8  # two ways to solve the same equations


@pytest.fixture(scope="module")
def frame():
    return unbalanced_frame()


def lines(frame, y):
    """Intercept and slope of every animal, and its dose."""
    data = frame.assign(y=y)
    found = {
        animal: (*np.polyfit(own["x"], own["y"], 1)[::-1], own["dose"].iloc[0])
        for animal, own in data.groupby("animal")
    }
    table = pd.DataFrame.from_dict(found, "index", columns=["start", "slope", "dose"])
    return table.astype({"dose": frame["dose"].dtype})


def same_as(rows, fit, names, replicate):
    """Compare with a fit of statsmodels to the coefficients."""
    limits = fit.conf_int().to_numpy().T
    numbers = [fit.params, fit.bse, np.full(len(names), fit.df_resid), *limits, fit.pvalues]
    assert table(rows, names, replicate) == pytest.approx(np.column_stack(numbers), rel=CLOSE)


def test_fixed_effects_are_those_of_the_coefficients(frame):
    y = responses(frame)
    rows = analyse(frame, y, FULL, TWO_STAGE)["residual"]
    doses = ["dose[T.low]", "dose[T.high]"]
    for replicate, response in enumerate(y):
        found = lines(frame, response)
        starts, slopes = (smf.ols(f"{one} ~ dose", found).fit() for one in ("start", "slope"))
        same_as(rows, starts, ["Intercept", *doses], replicate)
        same_as(rows, slopes, ["x", *(f"{dose}:x" for dose in doses)], replicate)
        test = slopes.f_test(np.eye(3)[1:])
        assert rows["dose:x"].estimate[replicate] == pytest.approx(test.fvalue, rel=CLOSE)
        assert rows["dose:x"].p_value[replicate] == pytest.approx(test.pvalue, rel=1e-7)


def test_without_interaction_x_is_the_mean_slope(frame):
    y = responses(frame)
    rows = analyse(frame, y, "y ~ dose + x + (1 | animal/image)", TWO_STAGE)["residual"]
    slopes = lines(frame, y[1])["slope"]
    test = stats.ttest_1samp(slopes, 0.0)
    assert rows["x"].estimate[1] == pytest.approx(slopes.mean(), rel=CLOSE)
    assert rows["x"].p_value[1] == pytest.approx(test.pvalue, rel=CLOSE)
    assert rows["x"].df[1] == test.df == 9.0


def test_an_interaction_is_the_t_test_between_two_groups(frame):
    two = frame[frame["dose"] != "low"].reset_index(drop=True)
    two["dose"] = two["dose"].cat.remove_unused_categories()
    y = responses(two)
    rows = analyse(two, y, FULL, TWO_STAGE)["residual"]
    found = lines(two, y[0])
    test = stats.ttest_ind(*(found.loc[found["dose"] == one, "slope"] for one in ("high", "none")))
    assert rows["dose[T.high]:x"].p_value[0] == pytest.approx(test.pvalue, rel=CLOSE)
    assert rows["dose[T.high]:x"].df[0] == test.df


def test_a_sum_of_both_stages_is_tested_by_the_same_sum_of_every_animal(frame):
    # the group difference at x = 0.5: the test of start + slope / 2 of every animal
    y = responses(frame)
    half = EstimandSpec(name="half", fixed={"dose[T.low]": 1.0, "dose[T.low]:x": 0.5})
    settings = MethodSettings("two-stage", ("residual",), 0.95, (half,))
    rows = analyse(frame, y, FULL, settings)["residual"]
    found = lines(frame, y[3])
    fit = smf.ols("I(start + slope / 2) ~ dose", found).fit()
    assert rows["half"].estimate[3] == pytest.approx(fit.params["dose[T.low]"], rel=CLOSE)
    assert rows["half"].std_error[3] == pytest.approx(fit.bse["dose[T.low]"], rel=CLOSE)
    assert rows["half"].p_value[3] == pytest.approx(fit.pvalues["dose[T.low]"], rel=CLOSE)


def test_stages_with_different_columns_have_an_unbiased_covariance(frame):
    # animals' starts and slopes with covariance c: brute force, 4 standard errors (p = 6e-5)
    generator = np.random.default_rng(5)
    effects = generator.multivariate_normal([0, 0], [[1.0, 0.6], [0.6, 1.0]], (4000, 10))
    animal, x = frame["animal"].to_numpy(), frame["x"].to_numpy()
    y = effects[:, animal, 0] + effects[:, animal, 1] * x
    both = EstimandSpec(name="both", fixed={"Intercept": 1.0, "x": 1.0})
    settings = MethodSettings("two-stage", ("residual",), 0.95, (both,))
    columns = model_columns(parse_formula("y ~ dose + x + (1 | animal)"), frame)
    method = prepare_method(columns, settings)
    rows = method.analyse([method.take(y)], np.random.default_rng).estimates["residual"]
    found = next(one for one in rows if one.parameter.name == "both")
    variance = found.std_error**2
    truth = found.estimate.var()
    error = np.hypot(variance.std() / np.sqrt(4000), truth * np.sqrt(2 / 4000))
    assert abs(variance.mean() - truth) < 4 * error


def test_blocks_of_any_size_give_the_same_bits(frame):
    y = responses(frame, 7)
    one, other = (analyse(frame, y, FULL, TWO_STAGE, block=n)["residual"] for n in (1, 7))
    for name, block in one.items():
        for key in ESTIMATES:
            assert getattr(block, key).tobytes() == getattr(other[name], key).tobytes()


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ dose * x", "'two-stage' needs the units"),
        ("y ~ 0 + dose:x + (1 | animal)", r"leave some out; write dose \* x, not dose:x$"),
        ("y ~ x + shifted + (1 | animal)", "'shifted' changes several coefficients"),
        ("y ~ dose * x + (1 | image)", "within units: a constant, x. .* leave some out$"),
    ],
)
def test_what_cannot_be_fitted_in_two_stages_is_refused(frame, formula, message):
    frame = frame.assign(x=frame["x"].mask(frame["image"] == 40, 1.5))
    frame["shifted"] = 2.0 * frame["x"] + frame["animal"]
    with pytest.raises(DataError, match=message):
        prepare_method(model_columns(parse_formula(formula), frame), TWO_STAGE)


def test_there_must_be_more_units_than_effects(frame):
    three = frame[frame["animal"] < 3].reset_index(drop=True)
    with pytest.raises(DataError, match="3 units of 'animal' cannot estimate 3 fixed effects"):
        prepare_method(model_columns(parse_formula(FULL), three), TWO_STAGE)
