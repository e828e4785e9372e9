"""Profile intervals of counts: beside lme4's, and by what they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import mcsim
from mcsim.engine.compile import Level, collapse_design
from mcsim.engine.families.kinds import NBINOM
from mcsim.engine.laplace.fit import fit_laplace, likelihood_of_counts
from mcsim.engine.laplace.nest import nest_of
from mcsim.engine.profile.components import Deviation
from mcsim.engine.profile.intervals import profile_intervals
from mcsim.engine.profile.laplace import Counted, CountedSurface, Dispersion, Effect

REFERENCE = Path(__file__).parents[2] / "reference" / "families"


def test_intervals_are_those_of_lme4():
    # m <- glmer(cbind(incidence, size - incidence) ~ factor(period) + (1 | herd), cbpp, binomial,
    #            control = glmerControl(tolPwrss = 1e-12)); confint(m, method = "profile")
    formula = "incidence ~ factor(period) + (1 | herd)"
    options = {"family": "binomial", "trials": "size", "interval": "profile", "df": "z"}
    found = mcsim.fit(REFERENCE / "cbpp.csv", formula, **options).table
    expected = {  # which lme4 interpolates
        "herd.sd(Intercept)": (0.34609447, 1.09988172),
        "Intercept": (-1.90115607, -0.94779455),
        "factor(period)[T.2]": (-1.61667889, -0.40784027),
        "factor(period)[T.3]": (-1.80091773, -0.51161021),
        "factor(period)[T.4]": (-2.50060070, -0.80083105),
    }
    for name, limits in expected.items():
        assert tuple(found.loc[name, ["ci_lower", "ci_upper"]]) == pytest.approx(limits, abs=2e-4)


OF_GLMMTMB = {  # confint(glmmTMB(...), method = "profile"), effects in the order of the formula
    "cbpp": (
        "incidence ~ factor(period) + (1 | herd)", "binomial", (
            (-1.90124093, -0.94778676), (-1.61676925, -0.40777566),
            (-1.80101558, -0.51154789), (-2.50085184, -0.80075734)),
        {"herd": (-1.06116337, 0.09527177)},
    ),
    "binary_small_1": (  # where glmmTMB finds no interval of SDs that may be 0
        "y ~ diet * x + (1 | animal)", "binomial", (
            (-1.56756326, 0.88151982), (-1.42081143, 2.03507470),
            (-1.75089091, 2.00555069), (-2.35432772, 2.94440443)),
        {},
    ),
    "binomial_1": (
        "y ~ diet * x + (1 | animal/image)", "binomial", (
            (-0.78721037, 0.07273600), (-0.08180547, 1.13681892),
            (-0.26078324, 0.87091162), (-0.76800230, 0.84474945)),
        {},
    ),
    "poisson_1": (
        "y ~ diet * x + (1 | animal/image)", "poisson", (
            (-0.70480422, 0.00004069), (-0.13615023, 0.84241382),
            (0.28861978, 0.83665153), (-0.58558102, 0.13104802)),
        {"animal": (-1.14394541, -0.39819503), "image": (-1.85761019, -1.02584268)},
    ),
    "nbinom_1": (
        "y ~ diet * x + (1 | animal)", "nbinom", (
            (-1.06504430, -0.25035744), (0.15092335, 1.27139048),
            (0.53844316, 1.28787420), (-0.79129647, 0.19206198)),
        {"animal": (-1.01328857, -0.29901670)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_GLMMTMB)
def test_intervals_are_those_of_glmmtmb(name):
    # its limits are interpolated, some as far out as -2 logLik = 3.848 in the place of 3.841
    formula, family, effects, log_sds = OF_GLMMTMB[name]
    trials = "size" if name == "cbpp" else None
    path, options = REFERENCE / f"{name}.csv", {"family": family, "trials": trials, "df": "z"}
    found = mcsim.fit(path, formula, interval="profile", **options).table
    limits = [*found[found["component"] == "fixed"][["ci_lower", "ci_upper"]].to_numpy()]
    for level in log_sds:
        row = found.loc[f"{level}.sd(Intercept)", ["ci_lower", "ci_upper"]]
        limits.append(np.log(row.to_numpy(dtype=float)))
    for own, expected in zip(limits, [*effects, *log_sds.values()], strict=True):
        width = expected[1] - expected[0]
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-3 * width)


def test_effects_with_df_keep_their_t_intervals():
    frame = pd.read_csv(REFERENCE / "nbinom_1.csv")
    plain, profiled = (
        mcsim.fit(frame, "y ~ x + (1 | animal)", family="nbinom", interval=one).table
        for one in ("wald", "profile")
    )
    pd.testing.assert_frame_equal(plain[:2], profiled[:2])
    assert profiled.loc["animal.sd(Intercept)", "ci_lower"] > 0.2
    limits = profiled.loc["dispersion", ["ci_lower", "ci_upper"]]
    assert limits["ci_lower"] < profiled.loc["dispersion", "estimate"] < limits["ci_upper"]


@pytest.mark.parametrize("n_points", [1, 5])
def test_a_limit_is_where_the_minimum_over_the_others_reaches_the_quantile(n_points):
    counted, fit = overdispersed(n_points)
    targets = [Deviation(((0, 0),)), Dispersion(), Effect((0.0, 1.0))]
    found = profile_intervals(
        lambda target: CountedSurface(counted, target), fit, targets, confidence=0.95
    )
    likelihood = likelihood_of_counts(*counted[:3], counted.responses, n_points)
    order, one = fit.order[:1], np.zeros(1, dtype=np.int64)
    to_coefficients = np.linalg.inv(counted.design.R)
    values = [  # of theta: the SD, the root of tau, the coefficient of x
        lambda theta: abs(theta[0]),
        lambda theta: abs(theta[1]),
        lambda theta: to_coefficients[1] @ theta[2:],
    ]
    for number, value in enumerate(values):
        for limit in (found.lower[0, number], found.upper[0, number]):
            lowest = minimum_where(value, limit, likelihood, fit.theta[0], (one, order))
            assert lowest == pytest.approx(-2 * fit.loglik[0] + chi2.ppf(0.95, 1), abs=1e-6)


def overdispersed(n_points):
    animal, x = np.repeat(np.arange(10), 12), np.tile(np.linspace(0, 1, 12), 10)
    generator = np.random.default_rng(2)
    mean = np.exp(1.0 + 0.5 * x + 0.6 * generator.normal(size=10)[animal])
    y = generator.poisson(mean * generator.gamma(3.0, 1 / 3, len(x))).astype(float)
    X = np.column_stack([np.ones_like(x), x])
    levels = (Level(animal, np.ones((len(x), 1)), (("general", 1),), ("1 | animal",)),)
    design = collapse_design(X, levels, names=("Intercept", "x"), is_reml=False)
    nest = nest_of(design, X, levels, np.zeros(len(x)), np.ones(len(x)))
    fit = fit_laplace(design, nest, NBINOM, y[None], n_points)
    return Counted(design, nest, NBINOM, n_points, y[None, design.order]), fit


def minimum_where(value, limit, likelihood, start, at):
    def deviance(theta):
        found = likelihood.at(at[0], theta[None], at[1])
        return found.f[0], found.gradient[0]

    constraint = {"type": "eq", "fun": lambda theta: value(theta) - limit}
    options = {"ftol": 1e-13, "maxiter": 500}
    return minimize(
        deviance, start, jac=True, method="SLSQP", constraints=[constraint], options=options
    ).fun
