"""Studies of counts and proportions: what they report, and what is true of it."""

import numpy as np
import pytest

import mcsim
from benchmarks.scenarios import COUNTS
from mcsim.plots.measure_axes import words_of
from mcsim.report.findings import typical_error
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.study.run import replicate_data
from mcsim.summary.printed import print_summary
from mcsim.summary.selection import Selection, shown_rows
from mcsim.summary.summarize import summarize

BINOMIAL = 'family = "binomial"\ntrials = "cells"'
NBINOM = 'family = "nbinom"\ndispersion = 2.0'
NORMAL_TOO = """
[[methods]]
name = "normal"
family = "gaussian"
formula = "y ~ diet * x + (1 | animal/image)"
"""


@pytest.fixture
def load(tmp_path):
    def load(truth, more="", method="", n=20):
        path = tmp_path / "counts.toml"
        path.write_text(COUNTS.format(truth=truth, more=more, method=method, n=n))
        return load_scenario(path)

    return load


@pytest.fixture
def run(load, tmp_path):
    def run(*given, **options):
        study = mcsim.run_study(load(*given, **options), tmp_path / "out", progress=False)
        return study, study.summary().set_index(["method", "parameter"])

    return run


def test_a_study_of_proportions_reports_what_is_true_on_the_scale_of_the_link(run, tmp_path):
    study, summary = run(BINOMIAL, method='df = ["containment", "z"]' + NORMAL_TOO)
    own = summary.loc["laplace/containment"]
    assert own["truth"].to_dict() == {
        "Intercept": 0.3, "diet[T.fed]": 0.0, "x": 0.4, "diet[T.fed]:x": 0.0,
        "animal.sd(Intercept)": 0.5, "image.sd(Intercept)": 0.3,
        "animal.var(Intercept)": 0.25, "image.var(Intercept)": 0.09,
    }  # fmt: skip
    assert (own["n"] == 20).all()
    # of a normal model only what the mean does not depend on is known: it is 0 on any scale
    normal = summary.loc["normal"]["truth"].dropna()
    assert normal.to_dict() == {"diet[T.fed]": 0.0, "diet[T.fed]:x": 0.0}
    estimates = study.estimates(parameter="animal.sd(Intercept)")
    has_realized = estimates.groupby("method", observed=True)["realized"].count()
    assert has_realized.to_dict() == {"laplace/containment": 20, "laplace/z": 20, "normal": 0}
    folder = tmp_path / "out"
    printed = print_summary(summarize([folder]), "table")
    assert "Truths of effects and SDs are on the scale of the link, log odds; exp() of" in printed
    record, of_normal = (
        shown_rows(folder, Selection(method, "diet[[]T.fed]")).records[0]
        for method in ("laplace/z", "normal")
    )
    assert words_of(record, "rmse") == "RMSE, log odds"
    assert words_of(record, "coverage") == "coverage, %"
    assert words_of(of_normal, "rmse") == "RMSE"
    assert typical_error(record).text.endswith("log odds)")


def test_a_negative_binomial_truth_may_be_taken_for_poisson(run):
    poisson = NORMAL_TOO.replace("normal", "poisson").replace("gaussian", "poisson")
    _, summary = run('family = "nbinom"\ndispersion = 1.5', method=poisson)
    assert summary.loc["laplace", "dispersion"]["truth"] == 1.5
    assert summary.loc["poisson", "x"]["truth"] == 0.4
    assert "dispersion" not in summary.loc["poisson"].index


def test_trials_may_be_swept_and_rows_lost(run):
    sweep = '[sweep]\n"truth.trials" = [1, "cells"]\n[truth.missing]\nobservations = 0.2\n'
    study, summary = run('family = "binomial"', more=sweep, n=6)
    assert len(summary) == 2 * 8
    assert set(study.fits()["status"]) <= {"ok", "boundary", "failed"}
    separated = study.fits().query("status == 'failed'")["message"]
    assert separated.str.startswith("separated").all()


def test_an_offset_of_the_method_is_not_taken_from_the_counts(tmp_path):
    # the truth's exposure: log(cells) with a coefficient of 1
    text = COUNTS.format(truth='family = "poisson"', more="", method="", n=100)
    text = text.replace("x = 0.4", 'x = 0.4\n"log(cells)" = 1.0').replace("* x +", "* x + OFFSET +")
    path = tmp_path / "exposure.toml"
    path.write_text(text.replace("OFFSET", "offset(log(cells))"))
    summary = mcsim.run_study(path, tmp_path / "out", progress=False).summary()
    row = summary.set_index("parameter").loc["Intercept"]
    assert row["truth"] == pytest.approx(0.3)
    assert abs(row["bias"]) < 4 * row["bias_mcse"]  # by chance in 1 of 16,000


def test_data_of_a_replicate_are_counts_and_can_be_fitted(load):
    scenario = load(BINOMIAL)
    frame = replicate_data(scenario, 3, ())
    assert ((frame["y"] >= 0) & (frame["y"] <= frame["cells"]) & (frame["y"] % 1 == 0)).all()
    formula = "y ~ diet * x + (1 | animal/image)"
    found = mcsim.fit(frame, formula, family="binomial", trials="cells")
    assert found.status in ("ok", "boundary")


def test_keys_at_their_defaults_are_the_same_condition(load):
    plain = load('family = "binomial"')
    spelt = load('family = "binomial"\nlink = "logit"\ntrials = 1\nzero_inflation = 0.0')
    other = load('family = "binomial"\nlink = "probit"')
    one, two, three = (conditions(each)[0].identity for each in (plain, spelt, other))
    assert one == two != three


def test_smaller_models_are_tested_by_the_likelihood_ratio(run):
    smaller = NORMAL_TOO.replace('family = "gaussian"\n', "").replace("diet * x", "x")
    _, summary = run('family = "poisson"', method='likelihood_ratio = "normal"' + smaller, n=200)
    rejected = summary.loc["laplace", "LR(normal)"]["rejection"]
    # 12 animals: the chi-squared test is liberal; 4 MCSE around 0.03 to 0.13
    assert 0.0 < rejected < 0.13 + 4 * np.sqrt(0.1 * 0.9 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [BINOMIAL, 'family = "poisson"', NBINOM])
def test_intervals_of_fixed_effects_with_200_animals_hold_what_they_promise(load, tmp_path, truth):
    # 4 effects of 3 families within 3 MCSE: by chance outside in 1 of 30 such tests
    load(truth, n=800)
    path = tmp_path / "large.toml"
    path.write_text((tmp_path / "counts.toml").read_text().replace("count = 6", "count = 100"))
    summary = mcsim.run_study(path, tmp_path / "out", progress=False).summary()
    fixed = summary[summary["component"] == "fixed"]
    assert len(fixed) == 4
    assert (abs(fixed["coverage"] - 0.95) < 3.0 * np.sqrt(0.95 * 0.05 / 800)).all()


CROSSED = """
replicates = 12
seed = 5
[[design.levels]]
name = "subject"
count = 12
[[design.levels]]
name = "item"
count = 8
crossed = true
[design.observations]
count = 2
[design.factors]
condition = { levels = ["a", "b"], of = ["subject", "item"], dealt = "latin" }
[truth]
family = "nbinom"
dispersion = 4.0
[truth.fixed]
Intercept = 1.5
"condition[T.b]" = 0.4
[truth.random.subject]
sd = { Intercept = 0.6 }
[truth.random.item]
sd = { Intercept = 0.4 }
[[methods]]
name = "laplace"
formula = "y ~ condition + (1 | subject) + (1 | item)"
[[methods]]
name = "subjects-only"
formula = "y ~ condition + (1 | subject)"
"""


def test_counts_of_subjects_and_items_are_simulated_and_fitted(tmp_path):
    (tmp_path / "s.toml").write_text(CROSSED)
    scenario = load_scenario(tmp_path / "s.toml")
    assert [one.df for one in scenario.methods] == [("z",), ("containment",)]
    study = mcsim.run_study(scenario, tmp_path / "out", progress=False)
    summary = study.summary().set_index(["method", "parameter"]).loc["laplace"]
    assert (summary["n"] == 12).all()
    truth = {"condition[T.b]": 0.4, "subject.sd(Intercept)": 0.6, "item.sd(Intercept)": 0.4}
    assert summary["truth"][list(truth)].to_dict() == truth
    for name in truth:  # by chance in 1 of 1,000
        assert abs(summary.loc[name, "bias"]) < 4 * summary.loc[name, "bias_mcse"] + 0.05
    fits = study.fits()
    assert set(fits["status"]) <= {"ok", "boundary"}
    likelihoods = fits.set_index(["method", "replicate"])["loglik"].unstack("method")
    assert (likelihoods["laplace"] > likelihoods["subjects-only"]).mean() > 0.9
