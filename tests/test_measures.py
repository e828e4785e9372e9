"""Oracles: plain loops over the published formulas. Are they right? test_study_of_studies.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mcsim.measures import MEASURES, Measure, Sample
from mcsim.measures.counted import _emp_se
from tests.samples import changed, measured, sample_of_one

UNDEFINED = Measure(None, None)
ARRAYS = ("estimates", "std_errors", "ci_lower", "ci_upper", "p_values", "realized")
ARRAYS += ("df", "shift", "true_se")
N_REPLICATES = 400
QUANTILES = [("q05", 0.05), ("q25", 0.25), ("q75", 0.75), ("q95", 0.95)]


def sample_of(estimates, **changes):
    T = np.asarray(estimates, dtype=float)
    V = 0.8 + 0.1 * np.cos(np.arange(T.size))
    columns = {
        "estimates": T,
        "std_errors": np.sqrt(V),
        "ci_lower": T - 1.96 * np.sqrt(V),
        "ci_upper": T + 1.96 * np.sqrt(V),
        "p_values": np.linspace(0, 0.2, T.size),
        "realized": 0.4 + 0.1 * np.sin(np.arange(T.size)),
        "df": np.where(np.arange(T.size) % 7, 9.0, np.nan),
        "shift": 0.1 * np.cos(np.arange(T.size)),
        "true_se": 0.9 + 0.2 * np.sin(np.arange(T.size)),
    } | changes
    truth, is_scale = columns.pop("truth", 0.5), columns.pop("is_scale", True)
    return sample_of_one(truth, is_scale, 0.05, *(columns[name] for name in ARRAYS))


def draw(rng, *, spiked):
    T = np.maximum(rng.normal(0.3, 1.0, N_REPLICATES), 0 if spiked else -np.inf)
    R = 0.5 + 0.6 * (T - 0.5) + rng.normal(0, 0.5, N_REPLICATES)
    SE = np.sqrt(rng.chisquare(12, N_REPLICATES) / 12)
    lower, upper, n = T - 1.96 * SE, T + 1.96 * SE, N_REPLICATES
    p = rng.uniform(0, 0.3, n)
    df, shift, true_se = rng.choice([4, 9, np.nan], n), rng.normal(0, 0.2, n), rng.uniform(1, 2, n)
    columns = T, SE, lower, upper, p, R, df, shift, true_se
    return sample_of_one(0.5, True, 0.05, *columns, limits=(-2.5, 3.0))


def naive_measures(s):
    """Each formula as it is printed, in plain loops; everything present, nothing degenerate."""
    T, SE, L, U, p_values, R = (getattr(s, name)[0].tolist() for name in ARRAYS[:6])
    theta, n = s.truth.item(), len(T)

    def average(x):
        return sum(x) / len(x)

    def sd(x):
        return math.sqrt(sum((v - average(x)) ** 2 for v in x) / (len(x) - 1))

    def mean_square(x):
        q = [v**2 for v in x]
        mse = average(q)
        return mse, math.sqrt(sum((v - mse) ** 2 for v in q) / (n * (n - 1)))

    def root(pair):
        return math.sqrt(pair[0]), pair[1] / (2 * math.sqrt(pair[0]))

    def share(hits):
        c = average([float(hit) for hit in hits])
        return c, math.sqrt(c * (1 - c) / n)

    S, Tbar = sd(T), average(T)
    k = sum((t - Tbar) ** 4 for t in T) / (n * S**4)
    V = [se**2 for se in SE]
    Vbar, VV = average(V), sd(V) ** 2
    model = math.sqrt(Vbar)
    g2 = k * (n / (n - 1)) ** 2 - 3
    g = max(g2, (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g2 + 6))
    emp_mcse = S / 2 * math.sqrt((k - 1) / n if n >= 100 else g / n + 2 / (n - 1))
    C = sum((v - Vbar) * (t - Tbar) ** 2 for v, t in zip(V, T, strict=True)) / (n - 1)
    relative_mcse = (model / S) * math.sqrt(
        VV / (4 * n * Vbar**2) + emp_mcse**2 / S**2 - C / (2 * n * Vbar * S**2)
    )

    def holds(point):
        return [float(low <= point <= u) for low, u in zip(L, U, strict=True)]

    step = 0.5 * S / n**0.2
    slope = (average(holds(Tbar + step)) - average(holds(Tbar - step))) / (2 * step)
    b = average(holds(Tbar))
    errors_of_b = [h - b + slope * (t - Tbar) for h, t in zip(holds(Tbar), T, strict=True)]
    width = [u - low for low, u in zip(L, U, strict=True)]
    c = round((n + 1) / 2 - 1.96 * math.sqrt(n / 4))
    ranked = sorted(T)
    errors = [t - theta for t in T]
    return {
        "mean": (Tbar, S / math.sqrt(n)),
        "bias": (Tbar - theta, S / math.sqrt(n)),
        "relative_bias": ((Tbar - theta) / theta, S / (abs(theta) * math.sqrt(n))),
        "median": (np.median(T), (ranked[n - c] - ranked[c - 1]) / (2 * 1.96)),
        "emp_se": (S, emp_mcse),
        "mse": mean_square(errors),
        "rmse": root(mean_square(errors)),
        "rmse_estimation": root(mean_square([t - r for t, r in zip(T, R, strict=True)])),
        "rmse_sample": root(mean_square([r - theta for r in R])),
        "model_se": (model, math.sqrt(VV / (4 * n * Vbar))),
        "relative_error_se": (model / S - 1, relative_mcse),
        "coverage": share(holds(theta)),
        "be_coverage": (b, math.sqrt(sum(e**2 for e in errors_of_b)) / n),
        "rejection": share([p < s.alpha for p in p_values]),
        "ci_width": (average(width), sd(width) / math.sqrt(n)),
        "share_at_zero": share([t == 0 for t in T]),
    }


def naive_expected(s):
    """Integrals of the normal density of the estimate given its interval, by a fine grid."""
    theta, (lower, upper), n = s.truth.item(), s.equivalence[0], s.estimates.shape[1]
    names = ("std_errors", "ci_lower", "ci_upper", "df", "shift", "true_se")
    SE, L, U, df, m, v = (getattr(s, name)[0] for name in names)
    h, z = (U - L) / 2, np.linspace(-9, 9, 20_001)

    def average(holds, of=np.ones_like):
        weights = stats.norm.pdf(z) * (z[1] - z[0])
        values = np.zeros(n)
        for i, shift in itertools.product(range(n), (1.0, -1.0)):  # and of the mirror image
            T = theta + shift * m[i] + v[i] * z
            values[i] += np.sum(weights * holds(T, i) * of(T)) / 2
        return values

    def with_mcse(values):
        return values.mean(), values.std(ddof=1) / math.sqrt(n)

    def ratio(x, y):
        r = x.mean() / y.mean()
        return r, np.std(x - r * y, ddof=1) / math.sqrt(n) / y.mean()

    rejected = average(lambda T, i: np.abs(T) > h[i])
    wrong = average(lambda T, i: (np.abs(T) > h[i]) & (T * theta < 0))
    size = average(lambda T, i: np.abs(T) > h[i], np.abs) / abs(theta)
    q = np.where(np.isnan(df), stats.norm.ppf(0.95), stats.t.ppf(0.95, df)) * SE
    return {
        "expected_coverage": with_mcse(average(lambda T, i: np.abs(T - theta) <= h[i])),
        "expected_rejection": with_mcse(rejected),
        "type_s": ratio(wrong, rejected),
        "type_m": ratio(size, rejected),
        "equivalence": with_mcse(average(lambda T, i: (T - q[i] > lower) & (T + q[i] < upper))),
    }


@pytest.mark.parametrize("n", [4, 5, 10, 20, 50, 100])
def test_the_error_of_an_sd_of_few_estimates_is_the_spread_of_such_sds(n):
    # 20,000 samples: the mean of the errors has itself an error of 1% at most
    T = np.random.default_rng(5).normal(size=(20_000, n))
    S, error = _emp_se(T, n)
    assert np.mean(error) == pytest.approx(np.std(S), rel=0.07)


@pytest.mark.parametrize("truth", [0.5, -2.0])
@pytest.mark.parametrize("name", naive_measures(sample_of([0.0, 1.0, 3.0] * 9)))
def test_measure_is_the_published_formula_in_a_plain_loop(name, truth):
    rng = np.random.default_rng(7)
    sample = changed(draw(rng, spiked=True), truth=truth)
    assert measured(name, sample) == pytest.approx(naive_measures(sample)[name], rel=1e-12)


@pytest.mark.parametrize("truth", [0.5, -2.0])
def test_expected_measures_are_integrals_over_the_estimate_given_its_interval(truth):
    sample = changed(draw(np.random.default_rng(7), spiked=True), truth=truth)
    few = {name: getattr(sample, name)[0, :40] for name in ARRAYS}
    sample = changed(sample, **few)
    for name, expected in naive_expected(sample).items():
        # a point of the grid, 0.001 of an SD, may lie on either side of where a test rejects
        assert measured(name, sample) == pytest.approx(expected, rel=2e-3), name
    effect, _ = measured("mde", sample)
    there = changed(sample, truth=math.copysign(effect, truth))
    assert measured("expected_rejection", there).value == pytest.approx(0.8, abs=1e-9)


def test_tests_are_counted_where_nothing_more_is_known_of_them():
    rng = np.random.default_rng(8)
    T, SE = rng.normal(0.4, 1.0, 3000), rng.uniform(0.4, 0.6, 3000)
    df = np.full(3000, 7.0)
    p = 2 * stats.t.sf(np.abs(T / SE), df)
    sample = sample_of_one(0.4, False, 0.05, T, SE, T - SE, T + SE, p, T, df, limits=(-1.5, 1.6))
    significant, q = p < 0.05, stats.t.ppf(0.95, 7) * SE
    assert measured("type_s", sample).value == pytest.approx((T[significant] < 0).mean())
    assert measured("type_m", sample).value == pytest.approx(np.abs(T[significant]).mean() / 0.4)
    shown = (T - q > -1.5) & (T + q < 1.6)
    assert measured("equivalence", sample).value == pytest.approx(shown.mean())
    ratios = sample_of_one(np.exp(0.4), False, 0.05, np.exp(T), SE, T - SE, T + SE, p)
    ratios = changed(ratios, no_effect=1.0)
    for name in ("type_s", "type_m"):
        assert measured(name, ratios) == pytest.approx(measured(name, sample))
    for name in ("expected_rejection", "expected_coverage", "mde"):
        assert measured(name, sample) == UNDEFINED


def test_mcse_of_be_coverage_of_symmetric_intervals_is_binomial():
    rng = np.random.default_rng(4)
    T = rng.normal(size=2000)
    T = np.concatenate([T, -T])  # as many intervals end as begin at any distance from the mean
    value, mcse = measured("be_coverage", sample_of(T, ci_lower=T - 1, ci_upper=T + 1))
    assert mcse == pytest.approx(math.sqrt(value * (1 - value) / T.size), rel=1e-12)


def test_mcse_of_relative_error_without_shared_error_is_the_published_one():
    # standard errors that are the same for estimates on both sides of the mean and all distances
    T = np.tile([-2.0, -1.0, 1.0, 2.0], 50)
    SE = np.repeat(np.sqrt([0.5, 1.5]), 100)
    _, mcse = measured("relative_error_se", sample_of(T, std_errors=SE))
    S, S_mcse = measured("emp_se", sample_of(T))
    first = np.var(SE**2, ddof=1) / (4 * 200 * 1.0**2)
    assert mcse == pytest.approx(1 / S * math.sqrt(first + (S_mcse / S) ** 2), rel=1e-12)


def test_mcse_of_quantiles_among_zeros():
    # 38% of the estimates are zero: no sample of as many would have a 5% quantile above that
    sample = draw(np.random.default_rng(5), spiked=True)
    assert measured("q05", sample) == Measure(0.0, 0.0)
    q25 = measured("q25", sample)
    assert q25.value == 0.0
    assert 0 < q25.mcse < 0.001


@pytest.mark.parametrize(("name", "p"), QUANTILES)
def test_mcse_of_a_quantile_of_evenly_spaced_estimates(name, p):
    # closed form: SD of the order statistic p (n + 1) of n uniform numbers on (0, n)
    n = 399
    value, mcse = measured(name, sample_of(np.arange(1, n + 1)))
    assert value == pytest.approx(np.quantile(np.arange(1, n + 1), p))
    assert mcse == pytest.approx(n * math.sqrt(p * (1 - p) / (n + 2)), rel=1e-4)


@pytest.mark.parametrize(("name", "p"), [("q05", 0.05), ("q25", 0.25), ("q95", 0.95)])
def test_mcse_of_a_quantile_is_its_sd_in_samples_drawn_from_the_estimates(name, p):
    # Maritz & Jarrett's weights are exact: 20,000 bootstrap samples know their SD to 0.5%, and
    # the rank (n + 1) p is a whole number, so that the sample quantile is one order statistic
    rng = np.random.default_rng(8)
    T = rng.gamma(3.0, size=199)
    drawn = np.sort(rng.choice(T, (20_000, T.size)), axis=1)[:, round(200 * p) - 1]
    assert measured(name, sample_of(T)).mcse == pytest.approx(drawn.std(ddof=1), rel=0.03)


def test_mcse_of_the_median_comes_from_two_ranks():
    # of the numbers 1..n, the k-th smallest is k: the MCSE shows the ranks
    n = 399
    half = 1.96 * math.sqrt(n / 4)
    value, mcse = measured("median", sample_of(np.arange(1, n + 1)))
    assert value == 200.0
    assert mcse == pytest.approx((round(200 + half) - round(200 - half)) / (2 * 1.96))


def test_quantiles_mirror_each_other():
    T = np.random.default_rng(3).exponential(size=301)
    for low, high in (("q05", "q95"), ("q25", "q75")):
        value, mcse = measured(low, sample_of(T))
        assert measured(high, sample_of(-T)) == pytest.approx((-value, mcse))


def test_mcse_of_a_quantile_is_undefined_beyond_the_ranks_of_the_sample():
    assert measured("q05", sample_of(np.arange(18.0))).mcse is None
    assert measured("q95", sample_of(np.arange(18.0))).mcse is None
    assert measured("q05", sample_of(np.arange(19.0))).mcse is not None
    assert measured("median", sample_of(np.arange(3.0))).mcse is None
    assert measured("median", sample_of(np.arange(4.0))).mcse is not None


def test_intervals_too_wide_to_be_added_have_no_mean_width():
    wide = sample_of([0.0, 1.0], ci_lower=np.zeros(2), ci_upper=np.full(2, 1.5e308))
    assert measured("ci_width", wide) == UNDEFINED
    assert measured("coverage", wide).value == 1.0


def test_median_ci_width_has_no_mcse():
    sample = sample_of(np.arange(9.0), ci_lower=np.zeros(9), ci_upper=np.arange(9.0) ** 2)
    assert measured("median_ci_width", sample) == Measure(16.0, None)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("n", [0, 5])
def test_nothing_present_is_undefined(name, n):
    nothing = {field: np.full(n, np.nan) for field in ARRAYS}
    assert measured(name, changed(sample_of(np.zeros(n)), **nothing)) == UNDEFINED


def test_one_replicate_has_a_mean_and_no_spread():
    one = {name: measured(name, sample_of([0.75])) for name in MEASURES}
    assert one["mean"] == Measure(0.75, None)
    assert one["bias"] == Measure(0.25, None)
    assert one["emp_se"] == UNDEFINED
    assert one["relative_error_se"] == UNDEFINED
    assert one["rmse"] == Measure(0.25, None)
    assert one["model_se"].mcse is None
    assert one["median"] == Measure(0.75, None)


def test_equal_estimates_have_no_spread_at_all():
    # 0.1 summed 49 times is not 4.9
    sample = sample_of(np.full(49, 0.1))
    assert measured("mean", sample) == Measure(0.1, 0.0)
    assert measured("emp_se", sample) == Measure(0.0, None)
    assert measured("relative_error_se", sample) == UNDEFINED
    exact = changed(sample, truth=0.1)
    assert measured("mse", exact) == Measure(0.0, 0.0)
    assert measured("rmse", exact) == Measure(0.0, None)


def test_two_estimates_say_nothing_about_the_error_of_their_spread():
    assert measured("emp_se", sample_of([0.0, 2.0])) == Measure(pytest.approx(math.sqrt(2)), None)


def test_relative_bias_is_undefined_where_the_truth_is_zero():
    assert measured("relative_bias", sample_of([1.0, 2.0], truth=0.0)) == UNDEFINED


@pytest.mark.parametrize(
    "name", ["bias", "relative_bias", "mse", "rmse", "rmse_sample", "coverage"]
)
def test_measures_against_the_truth_are_undefined_without_one(name):
    assert measured(name, sample_of([1.0, 2.0, 4.0], truth=None)) == UNDEFINED


def test_share_at_zero_is_of_standard_deviations_and_variances_only():
    estimates = [0.0, 0.0, 0.0, 1.0]
    assert measured("share_at_zero", sample_of(estimates)).value == 0.75
    assert measured("share_at_zero", sample_of(estimates, is_scale=False)) == UNDEFINED


def test_each_measure_uses_the_replicates_it_can():
    nan = math.nan
    sample = sample_of(
        [1.0, 2.0, 6.0, nan],
        std_errors=np.array([3.0, nan, 5.0, 1.0]),
        ci_lower=np.array([0.0, 1.0, nan, nan]),
        ci_upper=np.array([1.0, 2.0, 9.0, nan]),
        p_values=np.array([0.01, nan, nan, 0.5]),
    )
    assert measured("mean", sample).value == 3.0
    assert measured("model_se", sample).value == pytest.approx(math.sqrt((9 + 25 + 1) / 3))
    model, empirical = math.sqrt((9 + 25) / 2), math.sqrt(12.5)  # of replicates 1 and 3
    assert measured("relative_error_se", sample).value == pytest.approx(model / empirical - 1)
    assert measured("coverage", sample).value == 0.5
    assert measured("rejection", sample).value == 0.5
    assert measured("ci_width", sample).value == 1.0


def test_an_infinite_interval_covers_and_has_no_mean_width():
    sample = sample_of(
        [0.0, 1.0], ci_lower=np.array([-math.inf, 0.6]), ci_upper=np.full(2, math.inf)
    )
    assert measured("coverage", sample).value == 0.5
    assert measured("ci_width", sample) == UNDEFINED


@pytest.mark.parametrize("name", MEASURES)
def test_a_missing_replicate_changes_nothing(name):
    sample = draw(np.random.default_rng(11), spiked=True)
    gap = {field: np.insert(getattr(sample, field)[0], 17, math.nan) for field in ARRAYS}
    assert measured(name, changed(sample, **gap)) == measured(name, sample)


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(0, 12), truth=st.none() | st.sampled_from([0.0, 1.0, -3.0]))
def test_no_measure_is_ever_nan_nor_an_mcse_negative(data, n, truth):
    numbers = st.sampled_from([math.nan, 0.0, 1.0, 0.1]) | st.floats(-1e6, 1e6, width=32)
    columns = [data.draw(arrays(np.float64, n, elements=numbers)) for _ in ARRAYS]
    sample = sample_of_one(truth, True, 0.05, *columns)
    for name in MEASURES:
        value, mcse = measured(name, sample)
        assert value is None or math.isfinite(value), name
        assert mcse is None or (value is not None and 0 <= mcse < math.inf), name


@settings(max_examples=30)
@given(st.integers(0, 9), st.integers(0, 40), st.floats(0, 0.5))
def test_rows_that_are_measured_together_have_the_bits_of_each_alone(seed, n, share_missing):
    rng = np.random.default_rng(seed)
    columns = {name: np.maximum(rng.normal(size=(7, n)), -0.5) for name in ARRAYS}
    for values in columns.values():
        values[rng.uniform(size=values.shape) < share_missing] = math.nan
    truth, is_scale = np.array([0.0, 1.0, math.nan, 0.5, -2.0, 0.1, 3.0]), np.arange(7) % 2 == 0
    is_at_edge = is_scale & (truth == 0.0)
    limits = np.column_stack([truth - 1.0, truth + 2.0])
    together = Sample(truth, is_scale, is_at_edge, 0.05, **columns, equivalence=limits)
    for name in MEASURES:
        found = MEASURES[name](together)
        for row in range(7):
            own = {key: values[row : row + 1] for key, values in columns.items()}
            alone = Sample(
                *(one[row : row + 1] for one in (truth, is_scale, is_at_edge)),
                0.05,
                **own,
                equivalence=limits[row : row + 1],
            )
            for both, one in zip(found, MEASURES[name](alone), strict=True):
                assert both[row : row + 1].tobytes() == one.tobytes(), (name, row)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from(QUANTILES))
def test_quantiles_have_the_bits_of_numpy(estimates, name_and_p):
    name, p = name_and_p
    assert measured(name, sample_of(estimates)).value == np.quantile(estimates, p)
    assert measured("median", sample_of(estimates)).value == np.median(estimates)
