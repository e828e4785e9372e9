"""GEE against statsmodels; statsmodels is asked for a solution far more exact than its default."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.genmod.cov_struct import Exchangeable

from mcsim.design.columns import model_columns
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import ESTIMATES
from tests.estimators import FULL, analyse, responses, table, unbalanced_frame

BOTH = MethodSettings("gee", ("mancl-derouen", "robust"), 0.95)
CLOSE = 1e-7  # statsmodels' estimating equations hold to 1e-9


@pytest.fixture(scope="module")
def frame():
    return unbalanced_frame()


def fitted(y, X, groups, kind):
    model = sm.GEE(y, X, groups=groups, cov_struct=Exchangeable())
    return model.fit(cov_type=kind, ctol=1e-9, maxiter=500)


@pytest.mark.parametrize("formula", [FULL, "y ~ x + (1 | image)"])
def test_the_sandwich_equals_statsmodels(frame, formula):
    y, columns = responses(frame), model_columns(parse_formula(formula), frame)
    units, names = columns.levels[0].unit_of_row, list(columns.names)
    rows = analyse(frame, y, formula, BOTH)["robust"]
    for replicate, response in enumerate(y):
        fit = fitted(response, columns.X, units, "robust")
        numbers = [fit.params, fit.bse, np.full(len(names), np.nan), *fit.conf_int().T, fit.pvalues]
        wanted = np.column_stack(numbers)
        found = table(rows, names, replicate)
        assert found == pytest.approx(wanted, rel=CLOSE, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("formula", [FULL, "y ~ x + (1 | image)"])
def test_the_correction_equals_statsmodels_and_has_a_t_test(frame, formula):
    y, columns = responses(frame), model_columns(parse_formula(formula), frame)
    units, names = columns.levels[0].unit_of_row, list(columns.names)
    rows = analyse(frame, y, formula, BOTH)["mancl-derouen"]
    df = units.max() + 1 - len(names)
    for replicate, response in enumerate(y):
        fit = fitted(response, columns.X, units, "bias_reduced")
        found = table(rows, names, replicate)
        assert found[:, 1] == pytest.approx(fit.bse, rel=CLOSE)
        assert (found[:, 2] == df).all()
        p_values = 2.0 * stats.t.sf(np.abs(fit.params / fit.bse), df)
        assert found[:, 5] == pytest.approx(p_values, rel=1e-5, abs=1e-12)


def test_of_equal_units_without_covariates_it_is_the_mean():
    # one observation mean per unit: robust variance of the mean, and (K / (K - 1))^2 times that
    generator = np.random.default_rng(3)
    frame = unbalanced_frame().iloc[:0].reindex(range(24))
    frame["animal"] = np.repeat(np.arange(6), 4)
    y = generator.standard_normal((1, 24))
    rows = analyse(frame[["animal"]], y, "y ~ 1 + (1 | animal)", BOTH)
    means = y.reshape(6, 4).mean(axis=1)
    variance = np.sum((means - means.mean()) ** 2) / 36
    assert rows["robust"]["Intercept"].estimate[0] == pytest.approx(means.mean())
    assert rows["robust"]["Intercept"].std_error[0] ** 2 == pytest.approx(variance)
    corrected = rows["mancl-derouen"]["Intercept"].std_error[0] ** 2
    assert corrected == pytest.approx(variance * (6 / 5) ** 2)


def test_what_a_unit_alone_tells_has_no_residuals_and_is_left_out():
    """Dense, with pseudo-inverses, as of CR2: one animal is all that there is of group c."""
    generator, kinds = np.random.default_rng(8), ("mancl-derouen", "kauermann-carroll")
    animal, group = np.repeat(np.arange(11), 4), np.repeat(list("aaaaabbbbbc"), 4)
    frame = pd.DataFrame({"animal": animal, "group": group, "x": generator.standard_normal(44)})
    y = generator.standard_normal((3, 44)) + generator.standard_normal((3, 11))[:, animal]
    formula = "y ~ group + x + (1 | animal)"
    found = analyse(frame, y, formula, MethodSettings("gee", kinds, 0.95))
    columns = model_columns(parse_formula(formula), frame)
    for replicate, response in enumerate(y):
        fit = fitted(response, columns.X, animal, "robust")
        alpha, own = float(fit.model.cov_struct.dep_params), np.eye(4)
        values, vectors = np.linalg.eigh((1.0 - alpha) * own + alpha)
        white = (vectors / np.sqrt(values)) @ vectors.T  # of a unit
        X = np.einsum("ij,gjp->gip", white, columns.X.reshape(11, 4, 4))
        e = (response - columns.X @ fit.params).reshape(11, 4) @ white
        bread = np.linalg.inv(np.einsum("gip,giq->pq", X, X))
        for kind, power in zip(kinds, (-1.0, -0.5), strict=True):
            total = np.zeros((4, 4))
            for X_g, e_g in zip(X, e, strict=True):
                left, Q = np.linalg.eigh(own - X_g @ bread @ X_g.T)
                root = np.where(left > 1e-8, np.maximum(left, 1e-8) ** power, 0.0)
                v = bread @ X_g.T @ (Q * root @ (Q.T @ e_g))
                total += np.outer(v, v)
            given = table(found[kind], list(columns.names), replicate)[:, 1]
            assert given == pytest.approx(np.sqrt(total.diagonal()), rel=1e-6)


def test_blocks_of_any_size_give_the_same_bits(frame):
    y = responses(frame, 7)
    one, other = (analyse(frame, y, FULL, BOTH, block=n) for n in (1, 7))
    alone = analyse(frame, y[2:3], FULL, BOTH)
    for df, rows in one.items():
        for name, block in rows.items():
            for key in ESTIMATES:
                values = getattr(block, key)
                assert values.tobytes() == getattr(other[df][name], key).tobytes()
                assert values[2:3].tobytes() == getattr(alone[df][name], key).tobytes()


def test_with_as_many_effects_as_units_there_is_no_t_test(frame):
    few = frame[frame["animal"] < 6].reset_index(drop=True)
    rows = analyse(few, responses(few), FULL, BOTH)
    assert np.isnan(rows["mancl-derouen"]["x"].ci_lower).all()
    assert np.isfinite(rows["robust"]["x"].ci_lower).all()


def test_an_impossible_correlation_is_a_failed_fit():
    # pairs that cancel: the residuals of each unit sum to zero, the moment estimate is below -1
    frame = unbalanced_frame()[["x"]].iloc[:12].assign(unit=np.repeat(np.arange(6), 2))
    y = np.tile([1.0, -1.0], 6)[None] + 1e-9 * np.arange(12)
    method = prepare_method(model_columns(parse_formula("y ~ 1 + (1 | unit)"), frame), BOTH)
    analysis = method.analyse([method.take(y)], np.random.default_rng)
    assert analysis.fits.status[0] == Status.FAILED
    assert "the working correlation -1" in str(analysis.fits.message[0])
    assert np.isnan(analysis.estimates["robust"][0].estimate[0])


def test_units_of_one_row_have_no_correlation(frame):
    frame = frame.assign(row=np.arange(len(frame)))
    columns = model_columns(parse_formula("y ~ x + (1 | row)"), frame)
    with pytest.raises(DataError, match="'row' have too few observations to estimate their corr"):
        prepare_method(columns, BOTH)
