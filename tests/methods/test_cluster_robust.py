"""Cluster-robust standard errors and df, against statsmodels, textbook formulas, closed forms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import linalg, stats
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from mcsim.design.columns import model_columns
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import ESTIMATES
from tests.estimators import FULL, analyse, responses, table, unbalanced_frame

BOTH = MethodSettings("ols-cluster", ("cr1", "cr2"), 0.95)
CLOSE = 1e-8  # two ways to solve the same equations


@pytest.fixture(scope="module")
def frame():
    return unbalanced_frame()


class Dense:
    """CR2 as it is written in Bell & McCaffrey (2002): matrices of all rows."""

    def __init__(self, X, units, y):
        self.X, self.M = X, np.linalg.inv(X.T @ X)
        self.rest = np.eye(len(X)) - X @ self.M @ X.T
        e = self.rest @ y
        self.members = [np.flatnonzero(units == unit) for unit in np.unique(units)]
        self.A = []
        for rows in self.members:
            values, vectors = np.linalg.eigh(self.rest[np.ix_(rows, rows)])
            inverse = np.where(values > 1e-9, 1.0 / np.sqrt(np.maximum(values, 1e-9)), 0.0)
            self.A.append((vectors * inverse) @ vectors.T)
        scores = [
            self.M @ X[rows].T @ A @ e[rows]
            for rows, A in zip(self.members, self.A, strict=True)
        ]  # fmt: skip
        self.V = sum(np.outer(score, score) for score in scores)

    def p(self, c):
        """Columns (I - H)_g' A_g X_g M c: the sum of their squared products with y is c'Vc."""
        return np.column_stack(
            [
                self.rest[:, rows] @ A @ self.X[rows] @ self.M @ c
                for rows, A in zip(self.members, self.A, strict=True)
            ]
        )

    def df(self, c):
        values = np.linalg.eigvalsh(self.p(c).T @ self.p(c))
        return values.sum() ** 2 / (values**2).sum()

    def eta(self, L):
        """2 over the mean variance of the entries of the standardised L V L', as a Wishart's."""
        T = np.real(linalg.sqrtm(np.linalg.inv(L @ self.M @ L.T))) @ L
        p, size = [self.p(t) for t in T], len(L)
        total = 0.0
        for i in range(size):
            for j in range(size):
                Q = p[i] @ p[j].T
                total += 0.5 * np.sum((Q + Q.T) ** 2)  # 2 tr(Q Q) of the symmetric part
        return size * (size + 1) / total


def test_cr1_equals_statsmodels(frame):
    y, columns = responses(frame), model_columns(parse_formula(FULL), frame)
    rows = analyse(frame, y, FULL, BOTH)["cr1"]
    for replicate, response in enumerate(y):
        fit = sm.OLS(response, columns.X).fit(
            cov_type="cluster", cov_kwds={"groups": frame["animal"].to_numpy()}, use_t=True
        )
        numbers = [fit.params, fit.bse, np.full(6, 9.0), *fit.conf_int().T, fit.pvalues]
        found = table(rows, list(columns.names), replicate)
        assert found == pytest.approx(np.column_stack(numbers), rel=CLOSE)
        test = fit.f_test(np.eye(6)[1:3])
        assert rows["dose"].estimate[replicate] == pytest.approx(test.fvalue, rel=CLOSE)
        assert rows["dose"].p_value[replicate] == pytest.approx(test.pvalue, rel=1e-7)


@pytest.mark.parametrize(
    "formula",
    [
        FULL,
        "y ~ dose * x + (1 | image)",
        "y ~ x + I(animal == 4) + (1 | animal)",
    ],
)
def test_cr2_equals_the_textbook(frame, formula):
    # in the last formula an animal has a column of its own, so that I - H_gg is singular
    frame = frame.assign(only=np.where(frame["animal"] == 4, 1.0, 0.0))
    formula = formula.replace("I(animal == 4)", "only")
    columns, y = model_columns(parse_formula(formula), frame), responses(frame)
    units = columns.levels[0].unit_of_row
    rows = analyse(frame, y, formula, BOTH)["cr2"]
    for replicate, response in enumerate(y):
        dense = Dense(columns.X, units, response)
        for j, name in enumerate(columns.names):
            c = np.eye(len(columns.names))[j]
            std_error = np.sqrt(dense.V[j, j])
            if std_error < 1e-12:
                assert rows[name].std_error[replicate] < 1e-12
                continue
            assert rows[name].std_error[replicate] == pytest.approx(std_error, rel=CLOSE)
            assert rows[name].df[replicate] == pytest.approx(dense.df(c), rel=1e-7)
            t = rows[name].estimate[replicate] / std_error
            p_value = 2.0 * stats.t.sf(abs(t), dense.df(c))
            assert rows[name].p_value[replicate] == pytest.approx(p_value, rel=1e-6)


def test_a_term_of_several_columns_has_hotellings_test(frame):
    # Pustejovsky & Tipton (2018): (eta - q + 1) / (eta q) Q has the F distribution
    y, columns = responses(frame), model_columns(parse_formula(FULL), frame)
    found = analyse(frame, y, FULL, BOTH)["cr2"]["dose:x"]
    L = np.eye(6)[4:]
    for replicate, response in enumerate(y):
        dense = Dense(columns.X, frame["animal"].to_numpy(), response)
        eta = dense.eta(L)
        beta = np.linalg.lstsq(columns.X, response, rcond=None)[0]
        Q = (L @ beta) @ np.linalg.solve(L @ dense.V @ L.T, L @ beta)
        F = (eta - 1.0) / (2.0 * eta) * Q
        assert found.df[replicate] == pytest.approx(eta - 1.0, rel=1e-7)
        assert found.estimate[replicate] == pytest.approx(F, rel=1e-7)
        assert found.p_value[replicate] == pytest.approx(stats.f.sf(F, 2, eta - 1.0), rel=1e-6)


def test_with_one_row_per_unit_cr2_is_hc2(frame):
    frame = frame.assign(row=np.arange(len(frame)))
    columns, y = model_columns(parse_formula("y ~ dose * x"), frame), responses(frame)
    rows = analyse(frame, y, "y ~ dose * x + (1 | row)", BOTH)["cr2"]
    wanted = sm.OLS(y[2], columns.X).fit(cov_type="HC2").bse
    assert table(rows, list(columns.names), 2)[:, 1] == pytest.approx(wanted, rel=CLOSE)


def test_groups_of_equal_units_are_compared_as_by_welch():
    # CR2 of a difference of groups: s_1^2 / m_1 + s_2^2 / m_2 of the means of the units
    frame = pd.DataFrame({"unit": np.repeat(np.arange(7), 4)})
    frame["group"] = np.where(frame["unit"] < 3, "a", "b")
    y = np.random.default_rng(2).standard_normal((1, len(frame)))
    rows = analyse(frame, y, "y ~ group + (1 | unit)", BOTH)["cr2"]
    means = y.reshape(7, 4).mean(axis=1)
    test = stats.ttest_ind(means[3:], means[:3], equal_var=False)
    found = rows["group[T.b]"]
    assert found.estimate[0] / found.std_error[0] == pytest.approx(test.statistic, rel=CLOSE)
    # for groups of 3 and 4 with one variance: (1/3 + 1/4)^2 / (1/3^2/2 + 1/4^2/3)
    assert found.df[0] == pytest.approx((1 / 3 + 1 / 4) ** 2 / (1 / 18 + 1 / 48), rel=CLOSE)


def test_blocks_of_any_size_give_the_same_bits(frame):
    y = responses(frame, 7)
    one, other = (analyse(frame, y, FULL, BOTH, block=n) for n in (1, 7))
    for df, rows in one.items():
        for name, block in rows.items():
            for key in ESTIMATES:
                assert getattr(block, key).tobytes() == getattr(other[df][name], key).tobytes()


def test_one_unit_is_refused(frame):
    columns = model_columns(parse_formula("y ~ x + (1 | animal)"), frame[frame["animal"] == 1])
    with pytest.raises(DataError, match="'animal' has one unit; a covariance needs two"):
        prepare_method(columns, BOTH)


@pytest.mark.parametrize("data", ["crossed_1", "crossed_gaps_1"])
def test_units_that_cross_give_two_way_clusters(data):
    frame = pd.read_csv(Path(__file__).parents[1] / "reference" / "crossed" / f"{data}.csv")
    frame = frame.astype({"item": "category", "subject": "category"})
    settings = MethodSettings("ols-cluster", ("cr1",), 0.95)
    formula = "y ~ cond * age + (1 | subject) + (1 | item)"
    rows = analyse(frame, frame[["y"]].to_numpy().T, formula, settings)["cr1"]
    columns = model_columns(parse_formula(formula), frame)
    fit = sm.OLS(frame["y"], columns.X).fit()
    codes = [frame[name].cat.codes.to_numpy() for name in ("item", "subject")]
    values, vectors = np.linalg.eigh(cov_cluster_2groups(fit, *codes)[0])
    assert (values.min() < 0.0) == (data == "crossed_gaps_1")  # is a difference, no covariance
    variances = vectors**2 @ np.maximum(values, 0.0)
    found = table(rows, list(columns.names), 0)
    assert found[:, 1] == pytest.approx(np.sqrt(variances), rel=CLOSE)
    assert found[:, 2] == pytest.approx(min(one.max() for one in codes))  # fewest units - 1
