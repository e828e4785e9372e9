"""Counts and proportions: moments of the draws against those of scipy's distributions."""

import numpy as np
import pytest
from scipy import stats

from mcsim.errors import DataError
from mcsim.simulate.counts import LARGEST_MEAN, Counts

N = 40_000  # draws; every check below fails by chance in 1 of 16,000 (4 SEs)
ETA = 0.4
P = {"logit": 1 / (1 + np.exp(-ETA)), "probit": stats.norm.cdf(ETA),
     "cloglog": -np.expm1(-np.exp(ETA))}  # fmt: skip
MU = np.exp(ETA)
CASES = [
    *((("binomial", link, 5.0, None), stats.binom(5, p)) for link, p in P.items()),
    (("binomial", "logit", 1.0, None), stats.bernoulli(P["logit"])),
    (("poisson", "log", 1.0, None), stats.poisson(MU)),
    (("nbinom", "log", 1.0, 1.7), stats.nbinom(1.7, 1.7 / (1.7 + MU))),
]


def draw(family, link, trials, dispersion, zero_inflation=0.0):
    y = np.full(N, ETA)
    counts = Counts(family, link, np.full(N, trials), dispersion, zero_inflation)
    counts.draw(np.random.default_rng(17), y)
    return y


@pytest.mark.parametrize(("case", "distribution"), CASES, ids=lambda case: str(case)[:30])
def test_draws_have_the_moments_of_their_distribution(case, distribution):
    y = draw(*case)
    mean, variance, kurtosis = map(float, distribution.stats("mvk"))
    assert y.mean() == pytest.approx(mean, abs=4 * (variance / N) ** 0.5)
    error = variance * ((kurtosis + 2.0) / N) ** 0.5
    assert y.var() == pytest.approx(variance, abs=4 * error)
    zero = distribution.pmf(0)
    assert np.mean(y == 0) == pytest.approx(zero, abs=4 * (zero * (1 - zero) / N) ** 0.5)


@pytest.mark.parametrize(("case", "distribution"), CASES, ids=lambda case: str(case)[:30])
def test_expected_responses_are_the_means(case, distribution):
    family, link, trials, dispersion = case
    counts = Counts(family, link, np.array([trials]), dispersion, 0.25)
    expected = 0.75 * float(distribution.mean())
    assert counts.expected(np.array([ETA]))[0] == pytest.approx(expected, rel=1e-12)


def test_inflation_adds_zeros():
    zero = 0.3 + 0.7 * stats.poisson(MU).pmf(0)
    y = draw("poisson", "log", 1.0, None, 0.3)
    assert np.mean(y == 0) == pytest.approx(zero, abs=4 * (zero * (1 - zero) / N) ** 0.5)


def test_a_mean_that_nobody_can_count_is_refused():
    eta = np.array([0.0, np.log(LARGEST_MEAN) + 1.0])
    with pytest.raises(DataError, match="more than 1e"):
        Counts("poisson", "log", np.ones(2), None, 0.0).draw(np.random.default_rng(1), eta)
