"""Risk differences, rate ratios and odds ratios: true values, estimates, errors, refusals."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import special, stats

import mcsim
from mcsim.design.columns import model_columns
from mcsim.errors import DataError, ScenarioError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.plots.measure_axes import words_of
from mcsim.report.page import write_report
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.families import FamilyModel
from mcsim.scenario.load import load_scenario
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import replicate_data
from mcsim.summary.printed import print_summary
from mcsim.summary.selection import Selection, shown_rows
from mcsim.summary.summarize import summarize
from tests.methods.test_laplace import REFERENCE

SCENARIO = """
replicates = {n}
seed = 11
[design]
factors = {{ dose = ["none", "low", "high"], sex = ["f", "m"] }}
[[design.levels]]
name = "animal"
count = {animals}
[design.observations]
count = 4
[design.covariates]
x = {{ grid = [0.0, 1.0] }}
{more}
[truth]
{truth}
[truth.fixed]
Intercept = -0.4
"sex[T.m]" = 0.7
"sex[T.m]:x" = {interaction}
x = 0.5
{random}
[[methods]]
name = "main"
{method}
formula = "{formula}"
"""
RANDOM = "[truth.random.animal]\nsd = { Intercept = 0.8, x = 0.5 }\ncorrelation = 0.3"
ESTIMAND = '\n[[estimands]]\nname = "sexes"\n{0} = "sex"\n'
RD, RR, OR = (ESTIMAND.format(kind) for kind in ("risk_difference", "rate_ratio", "odds_ratio"))
FIXED = np.array([-0.4, 0.7, 0.5, -0.3])  # of 1, male, x and their product
XS = np.linspace(0.0, 1.0, 4)


@pytest.fixture
def load(tmp_path):
    def load(
        truth, estimands, *, random=RANDOM, method="", more="", n=20, animals=2,
        formula="y ~ sex * x + (1 | animal)",
    ):  # fmt: skip
        path = tmp_path / "means.toml"
        text = SCENARIO.format(
            truth=truth, random=random, method=method, more=more, n=n, animals=animals,
            formula=formula, interaction=FIXED[3],
        )  # fmt: skip
        path.write_text(text + estimands)
        return load_scenario(path)

    return load


def truth_of(scenario, name="sexes"):
    rows = PreparedStudy(scenario).table.to_pylist()
    (truth,) = {row["truth"] for row in rows if row["parameter"] == name}
    return truth


def predictors(male):
    return FIXED @ [np.ones(4), np.full(4, male), XS, male * XS]


VARIANCE = 0.8**2 + 2 * 0.3 * 0.8 * 0.5 * XS + 0.5**2 * XS**2  # of the random effects at XS


def test_true_values_have_closed_forms_for_probit_and_log(load):
    shares = [np.mean(stats.norm.cdf(predictors(k) / np.sqrt(1 + VARIANCE))) for k in (0, 1)]
    probit = 'family = "binomial"\nlink = "probit"'
    assert truth_of(load(probit, RD)) == pytest.approx(shares[1] - shares[0], rel=1e-12)
    odds = [share / (1 - share) for share in shares]
    assert truth_of(load(probit, OR)) == pytest.approx(odds[1] / odds[0], rel=1e-12)
    # zeros that are more than the family's make events rarer, not the difference another one
    inflated = load(f"{probit}\nzero_inflation = 0.25", RD)
    assert truth_of(inflated) == pytest.approx(0.75 * (shares[1] - shares[0]), rel=1e-12)
    rates = [np.mean(np.exp(predictors(k) + VARIANCE / 2)) for k in (0, 1)]
    nbinom = 'family = "nbinom"\ndispersion = 1.5'
    assert truth_of(load(nbinom, RR)) == pytest.approx(rates[1] / rates[0], rel=1e-12)
    poisson = load('family = "poisson"\nzero_inflation = 0.25', RR + 'levels = ["m", "f"]')
    assert truth_of(poisson) == pytest.approx(rates[0] / rates[1], rel=1e-12)


@pytest.mark.parametrize("link", ["logit", "cloglog"])
def test_true_values_are_means_of_simulated_probabilities(load, link):
    # within 4 Monte Carlo errors: by chance in 1 of 16,000
    scenario = load(f'family = "binomial"\nlink = "{link}"\ntrials = 3', RD)
    rng, n = np.random.default_rng(3), 400_000
    root = np.linalg.cholesky([[0.64, 0.12], [0.12, 0.25]])
    effects = rng.standard_normal((n, 2)) @ root.T
    x = rng.choice(XS, n)
    u = effects[:, 0] + effects[:, 1] * x
    share = special.expit if link == "logit" else lambda eta: -np.expm1(-np.exp(eta))
    of_men, of_women = (share(FIXED @ [np.ones(n), k + 0 * x, x, k * x] + u) for k in (1, 0))
    found = of_men - of_women
    assert truth_of(scenario) == pytest.approx(found.mean(), abs=4 * found.std() / np.sqrt(n))


def test_without_random_effects_it_is_standardisation_by_hand(load):
    shares = [np.mean(special.expit(predictors(k))) for k in (0, 1)]
    scenario = load('family = "binomial"', RD, random="", method='estimator = "glm"')
    assert truth_of(scenario) == pytest.approx(shares[1] - shares[0], rel=1e-14)


def test_effects_of_another_shape_have_no_true_mean(load):
    random = RANDOM + "\ndistribution = { gamma = 2.0 }"
    assert truth_of(load('family = "binomial"', RD, random=random)) is None


def analyse(frame, formula, family, estimator, kinds, df, link="logit", **more):
    estimands = tuple(EstimandSpec(name=kind, **{kind: "diet"}) for kind in kinds)
    model = FamilyModel(family, link, **more)
    settings = MethodSettings(estimator, (df,), 0.95, estimands, family=model)
    method = prepare_method(model_columns(parse_formula(formula), frame), settings)
    y = method.take(frame["y"].to_numpy(dtype=np.float64)[None])
    found = method.analyse([y], np.random.default_rng)
    assert [one.parameter for one in found.estimates[df]] == method.parameters()
    return {one.parameter.name: one for one in found.estimates[df]}


def data(name):
    frame = pd.read_csv(REFERENCE / f"{name}.csv")
    return frame.assign(diet=pd.Categorical(frame["diet"], categories=["fasted", "fed"]))


@pytest.mark.parametrize(("estimator", "df"), [("glm", "z"), ("glm-cluster", "cr1")])
def test_models_of_means_are_standardised_as_by_hand(estimator, df):
    frame, rng = data("binomial_1"), np.random.default_rng(5)
    frame["cells"] = rng.integers(1, 6, len(frame)).astype(float)
    frame["y"] = rng.binomial(frame["cells"].astype(int), 0.3 + 0.2 * frame["x"])
    kinds, formula = ("risk_difference", "odds_ratio"), "y ~ diet * x + offset(x) + (1 | animal)"
    found = analyse(frame, formula, "binomial", estimator, kinds, df, trials="cells")
    x, fed = frame["x"].to_numpy(), (frame["diet"] == "fed").to_numpy(dtype=float)

    def columns(fed):
        return np.column_stack([x * 0 + 1, x * 0 + fed, x, x * fed])

    clusters = {"cov_type": "cluster", "cov_kwds": {"groups": pd.factorize(frame["animal"])[0]}}
    y = np.column_stack([frame["y"], frame["cells"] - frame["y"]])
    model = sm.GLM(y, columns(fed), sm.families.Binomial(), offset=x)
    fit = model.fit(tol=1e-13, **(clusters if estimator == "glm-cluster" else {}))

    def value(kind, beta):
        first, second = (np.mean(special.expit(columns(k) @ beta + x)) for k in (0, 1))
        if kind == "risk_difference":
            return second - first
        return special.logit(second) - special.logit(first)

    for kind in kinds:
        one, scale = found[kind], 1.0
        expected = value(kind, fit.params)
        slopes = [
            (value(kind, fit.params + h) - value(kind, fit.params - h)) / 2e-6
            for h in 1e-6 * np.eye(4)
        ]
        std_error = np.sqrt(slopes @ fit.cov_params() @ slopes)
        z = expected / std_error
        if kind == "odds_ratio":
            expected = scale = np.exp(expected)
        assert one.estimate[0] == pytest.approx(expected, rel=1e-7)
        assert one.std_error[0] == pytest.approx(scale * std_error, rel=1e-5)
        if estimator == "glm":
            assert one.p_value[0] == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-4)
            assert np.isnan(one.df[0])
        else:
            assert one.df[0] == frame["animal"].nunique() - 1


# fit <- glmmTMB(y ~ diet * x + (1 | animal/image), d, family = binomial(link)), and poisson() with
# (x | animal) + (1 | image); value(p), p <- c(fixef(fit)$cond, getME(fit, "theta")): the mean over
# rows of integrate(function(u) linkinv(eta + s * u) * dnorm(u), -9, 9), of fed and of fasted;
# g <- numDeriv::grad(value, p); sqrt(g %*% vcov(fit, full = TRUE) %*% g)
OF_GLMMTMB = {  # value, a log of a ratio, and its standard error
    "logit": ((0.12826954, 0.05275076), (0.51647462, 0.21476396)),
    "probit": ((0.12809431, 0.05281377), (0.51575073, 0.21500837)),
    "cloglog": ((0.12751786, 0.05218706), (0.51338864, 0.21252562)),
    "log": (0.23139441, 0.21911996),
}


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_mixed_models_of_proportions_are_averaged_as_glmmtmb_says(link):
    kinds = ("risk_difference", "odds_ratio")
    formula = "y ~ diet * x + (1 | animal/image)"
    found = analyse(data("binomial_1"), formula, "binomial", "laplace", kinds, "z", link)
    for kind, (expected, std_error) in zip(kinds, OF_GLMMTMB[link], strict=True):
        one = found[kind]
        value = one.estimate[0] if kind == "risk_difference" else np.log(one.estimate[0])
        scale = 1.0 if kind == "risk_difference" else one.estimate[0]
        assert value == pytest.approx(expected, abs=2e-5)
        assert one.std_error[0] / scale == pytest.approx(std_error, rel=1e-3)


def test_mixed_models_of_counts_with_slopes_are_averaged_as_glmmtmb_says():
    formula = "y ~ diet * x + (x | animal) + (1 | animal:image)"
    found = analyse(
        data("poisson_1"), formula, "poisson", "laplace", ("rate_ratio",), "containment", "log"
    )
    one, (expected, std_error) = found["rate_ratio"], OF_GLMMTMB["log"]
    assert np.log(one.estimate[0]) == pytest.approx(expected, abs=2e-5)
    assert one.std_error[0] / one.estimate[0] == pytest.approx(std_error, rel=1e-3)
    # t with the df of the diet, which animals are the units of; the interval by the logarithm
    assert one.df[0] == found["diet[T.fed]"].df[0]
    half = stats.t.ppf(0.975, one.df[0]) * std_error
    limits = np.log([one.ci_lower[0], one.ci_upper[0]])
    np.testing.assert_allclose(limits, [expected - half, expected + half], atol=2e-3 * half)
    assert one.p_value[0] == pytest.approx(
        2 * stats.t.sf(abs(expected) / std_error, one.df[0]), rel=5e-3
    )


def test_a_covariance_on_the_boundary_counts_as_known():
    frame = data("binomial_1").assign(y=lambda one: np.arange(len(one)) % 2)  # no animal differs
    formula = "y ~ diet + (1 | animal)"
    mixed, plain = (
        analyse(frame, formula, "binomial", estimator, ("risk_difference",), "z")
        for estimator in ("laplace", "glm")
    )
    assert mixed["animal.sd(Intercept)"].estimate[0] == 0.0
    for name in ("estimate", "std_error"):
        expected = getattr(plain["risk_difference"], name)[0]
        assert getattr(mixed["risk_difference"], name)[0] == pytest.approx(expected, abs=1e-9)


METHODS = """
[[methods]]
name = "{0}"
estimator = "{0}"
formula = "y ~ sex * x + (1 | animal)"
"""


def test_a_study_reports_means_with_words_and_measures(load, tmp_path):
    other = ESTIMAND.replace("sexes", "doses") + 'levels = ["none", "high"]'
    other = other.format("odds_ratio").replace('"sex"', '"dose"')
    method = 'df = ["z", "containment"]'
    normal = 'family = "gaussian"\ntruth = { "sex[T.m]" = "sexes" }\n'
    estimands = "".join(map(METHODS.format, ("glm", "two-stage", "ols"))) + normal + RD + other
    formula = "y ~ sex * x + dose + (1 | animal)"
    scenario = load('family = "binomial"', estimands, method=method, n=30, formula=formula)
    study = mcsim.run_study(scenario, tmp_path / "out", progress=False)
    summary = study.summary().set_index(["method", "parameter"])
    reported = {name for name, one in summary.index if one == "sexes"}
    assert reported == {"main/z", "main/containment", "glm"}  # not: two-stage
    assert {name for name, one in summary.index if one == "doses"} == reported - {"glm"}
    own = summary.loc["main/z", "sexes"]
    assert summary.loc["ols", "sex[T.m]"]["truth"] == own["truth"]  # as its method declares
    assert own["component"] == "risk_difference"
    assert own["bias"] == pytest.approx(own["mean"] - own["truth"])
    assert 0.5 < own["coverage"] <= 1.0
    # no dose has an effect: the ratio is 1, and rejections are errors, whose sign cannot be wrong
    of_doses = summary.loc["main/z", "doses"]
    assert of_doses["truth"] == 1.0
    record = shown_rows(tmp_path / "out", Selection("main/z", "doses")).records[0]
    assert words_of(record, "rejection") == "type I error, %"
    printed = print_summary(summarize([tmp_path / "out"]), "table")
    assert "odds ratios compare mean responses, averaged over the design's observations" in printed
    page = write_report(tmp_path / "out").read_text()
    assert "difference of mean probabilities" in page
    assert "odds ratio of mean probabilities" in page
    conditions = pd.read_parquet(tmp_path / "out" / "conditions.parquet")
    kinds = conditions.set_index("parameter")["kind"]
    assert {*kinds[["sexes"]]} == {"risk_difference"}


def test_replicates_with_rows_of_their_own_are_averaged_over_those_of_the_design(load, tmp_path):
    # one drawn covariate per animal: the truth is of the design's animals, and lost rows do not
    # move it; the rows of a replicate alone would miss it by chance
    more = """
[design.covariates.age]
normal = [0, 2]
level = "animal"
[truth.missing]
observations = 0.3
"""
    glm = 'estimator = "glm"'
    options = {"random": "", "method": glm, "more": more, "n": 3, "animals": 5}
    scenario = load('family = "binomial"', RD, formula="y ~ sex * x + age", **options)
    study = mcsim.run_study(scenario, tmp_path / "out", progress=False)
    estimates = study.estimates().set_index(["replicate", "parameter"])["estimate"]
    frame = replicate_data(scenario, 1, ())
    condition = PreparedStudy(scenario).condition("all")
    age = condition.simulator.design.frame["age"].to_numpy()
    x = condition.simulator.design.frame["x"].to_numpy()
    assert len(frame) < len(age)
    for replicate in (1, 2, 3):
        b = estimates[replicate]
        base = b["Intercept"] + b["x"] * x + b["age"] * age
        of_men = special.expit(base + b["sex[T.m]"] + b["sex[T.m]:x"] * x).mean()
        assert b["sexes"] == pytest.approx(of_men - special.expit(base).mean(), abs=1e-9)
    moving = load('family = "binomial"', RD, formula="y ~ sex * scale(x) + age", **options)
    with pytest.raises(DataError, match=r"averaged over the rows of the design, but 'scale\(x\)'"):
        truth_of(moving)


BINOMIAL, POISSON = 'family = "binomial"', 'family = "poisson"'


@pytest.mark.parametrize(
    ("truth", "estimand", "message"),
    [
        (BINOMIAL, RR, "'rate_ratio' is of family 'poisson' or 'nbinom', not of 'binomial'; use "
                       "risk_difference or odds_ratio"),
        (POISSON, RD, "'risk_difference' is of family 'binomial', not of 'poisson'; use rate_rat"),
        ("sigma = 1.0", OR, "'odds_ratio' is of family 'binomial', not of 'gaussian'; means "
                            "of normal responses are compared by `fixed`"),
        (BINOMIAL, RD.replace('"sex"', '"sx"'), "unknown factor 'sx'. .* Did you mean 'sex'"),
        (BINOMIAL, RD.replace('"sex"', '"x"'), "unknown factor 'x'"),
        (BINOMIAL, RD.replace('"sex"', '"dose"'), "'dose' has 3 levels; say which two, such as "
                                                  r"levels = \['none', 'low'\]"),
        (BINOMIAL, RD + 'levels = ["f", "x"]', "unknown level 'x'. 'sex' has: f, m"),
        (BINOMIAL, RD + 'levels = ["f", "f"]', "two different levels"),
        (BINOMIAL, RD + 'levels = "m"', "two different levels"),
        (BINOMIAL, RD + 'odds_ratio = "sex"', "has 'risk_difference' too; leave one out"),
        (BINOMIAL, RD + "equivalence = [-0.1, 0.1]", "`equivalence` is of a sum"),
        (BINOMIAL, ESTIMAND.format("term") + 'levels = ["f", "m"]', "`levels` are those that one"),
        (BINOMIAL, RD.replace("sexes", "animal.icc"), "'animal.icc' is made of variances"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_where_it_stands(load, truth, estimand, message):
    with pytest.raises(ScenarioError, match=message):
        load(truth, estimand)


def test_a_comparison_that_no_method_can_make_is_refused(load):
    scenario = load(BINOMIAL, RD.replace('"sex"', '"dose"') + 'levels = ["none", "low"]')
    message = r"no method reports the estimand 'sexes': .* 'dose', family"
    with pytest.raises(DataError, match=message):
        truth_of(scenario)


def test_intervals_of_a_model_of_means_cover(load, tmp_path):
    # 1,000 replicates without random effects; within 4 binomial SDs: by chance in 1 of 16,000
    glm = 'estimator = "glm"'
    scenario = load(
        BINOMIAL, RD + OR.replace("sexes", "odds"), random="", method=glm, n=1000, animals=20
    )
    summary = mcsim.run_study(scenario, tmp_path / "out", progress=False).summary()
    own = summary.set_index("parameter").loc[["sexes", "odds"]]
    assert (own["n"] == 1000).all()
    assert (abs(own["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)).all()
    assert (abs(own["relative_error_se"]) < 4 * own["relative_error_se_mcse"]).all()
    assert abs(own.loc["sexes", "bias"]) < 4 * own.loc["sexes", "bias_mcse"]


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "estimand"), [(BINOMIAL, RD), (BINOMIAL, OR), (POISSON, RR)])
def test_intervals_of_mixed_models_cover(load, tmp_path, truth, estimand):
    # 2,000 replicates of 240 animals; within 4 binomial SDs: by chance in 1 of 16,000
    formula = "y ~ sex * x + (x | animal)" if truth == POISSON else "y ~ sex * x + (1 | animal)"
    random = RANDOM if truth == POISSON else "[truth.random.animal]\nsd = { Intercept = 0.8 }"
    options = {"random": random, "method": 'df = "z"', "formula": formula}
    scenario = load(truth, estimand, n=2000, animals=40, **options)
    summary = mcsim.run_study(scenario, tmp_path / "out", progress=False).summary()
    own = summary.set_index("parameter").loc["sexes"]
    assert own["n"] > 1950
    assert abs(own["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / own["n"])
