"""Likelihood-ratio tests between the methods of a scenario."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError
from mcsim.methods.method import Analysis, FitOutcomes
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.study.likelihood_ratio import with_likelihood_ratios
from mcsim.study.prepared import prepare_condition
from mcsim.summary.printed import FORMATS
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL

METHODS = """
[[methods]]
name = "full"
formula = "y ~ diet * x + (x | animal) + (1 | animal:image)"
estimator = "ml"
df = ["containment", "z"]
likelihood_ratio = "reduced"
[[methods]]
name = "reduced"
formula = "y ~ x + (x | animal) + (1 | animal:image)"
estimator = "ml"
"""


def run(tmp_path, methods):
    path = tmp_path / "lr.toml"
    path.write_text(SMALL[: SMALL.index("[[methods]]")] + methods)
    options = study.RunOptions(tmp_path / "out", n_workers=1)
    return study.run_study(load_scenario(path, replicates=30), options).directory


def why(tmp_path, larger, smaller, truth=""):
    """What is said of two methods, keys beside the formula after a semicolon."""
    named = [("larger", f"{larger}; likelihood_ratio = 'smaller'"), ("smaller", smaller)]
    methods = ""
    for name, text in named:
        formula, *keys = text.split("; ")
        methods += f"[[methods]]\nname = '{name}'\nformula = 'y ~ {formula}'\n" + "\n".join(keys)
        methods += "\n"
    text = SMALL[: SMALL.index("[[methods]]")]
    if truth:
        text = re.sub(r"sigma = .*", truth, text)
    (tmp_path / "lr.toml").write_text(text + methods)
    try:
        scenario = load_scenario(tmp_path / "lr.toml")
        prepare_condition(scenario, conditions(scenario)[0])
    except DataError as error:
        return str(error).partition("names no smaller model: ")[2]
    return None


ML = "; estimator = 'ml'"


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        (f"diet * x + (x | animal){ML}", f"x + (x | animal){ML}"),
        (f"poly(x, 2) + (1 | animal){ML}", f"x + (1 | animal){ML}"),
        (f"diet + (1 | animal){ML}", f"0 + diet{ML}"),
        (f"0 + diet:x + diet + (1 | animal){ML}", f"x + (1 | animal){ML}"),
        ("x + (x | animal/image)", "1 + x + (x || animal/image)"),
        ("diet + x + (x | animal)", "x + diet + (1 | animal)"),
        ("x + (1 | animal/image)", "x"),
        ("x + (0 + diet || animal)", "x + (1 | animal)"),
        ("x + (x | animal); residual = 'by:diet'", "x + (x | animal)"),
        ("x + (x | animal); residual = 'ar1(x)'", "x + (1 | animal); residual = 'ar1(x)'"),
        (
            "x + (x | animal); residual = { correlation = 'exchangeable', within = 'image' }",
            "x + (1 | animal/image)",
        ),
        ("x + (x | animal)", "x + (x | animal); structure = { animal = 'identity' }"),
        (
            "x + (1 + x + I(x**2) | animal)",
            "x + (1 + x + I(x**2) | animal); structure = { animal = 'compound' }",
        ),
    ],
)
def test_special_cases_are_told(tmp_path, larger, smaller):
    assert why(tmp_path, larger, smaller) is None


FIXED = "REML likelihoods of other fixed effects, or of the same in another coding"


@pytest.mark.parametrize(
    ("larger", "smaller", "message"),
    [
        (
            f"diet * x + (1 | animal){ML}",
            f"I(x**2) + (1 | animal){ML}",
            "the larger one lacks: I(x",
        ),
        (f"x + I(x**2){ML}", f"diet{ML}", "it has what the larger one lacks: diet[T.fed]"),
        ("I(2 * x) + (x | animal)", "x + (1 | animal)", FIXED),
        ("x + (x | animal)", "x + (1 | image:animal)", "its random effects of image are none"),
        ("x + (x || animal)", "x + (1 + x | animal)", "its random effects of animal are none"),
        (
            "x + (x || animal/image)",
            "x + (x | animal/image); structure = { image = 'compound' }",
            "its random effects of animal are none",
        ),
        ("x + (x | animal)", "x + (1 | animal); residual = 'ar1'", "its residuals are others"),
        ("x + (x | animal); residual = 'ar1'", "x; residual = 'by:diet'", "its residuals are ot"),
    ],
)
def test_models_that_are_no_special_cases_are_refused(tmp_path, larger, smaller, message):
    assert message in (why(tmp_path, larger, smaller) or "")


@pytest.mark.parametrize(
    ("larger", "smaller", "message"),
    [
        ("family = 'nbinom'", "family = 'poisson'", None),
        ("family = 'poisson'", "family = 'nbinom'", "its family is 'nbinom', not 'poisson'"),
        ("quadrature = 9", "quadrature = 9", None),
        ("quadrature = 9", "quadrature = 5", "by quadrature = 5, not 9; give both the same"),
    ],
)
def test_likelihoods_of_counts_that_do_not_compare_are_refused(tmp_path, larger, smaller, message):
    random = "(1 | animal)"
    found = why(tmp_path, f"diet * x + {random}; {larger}", f"x + {random}; {smaller}",
                "family = 'poisson'")  # fmt: skip
    assert found == message or message in found


def test_another_link_is_another_model(tmp_path):
    found = why(tmp_path, "x + (1 | animal)", "1; link = 'probit'", "family = 'binomial'")
    assert "its link is 'probit', not 'logit'" in found


def test_no_ratio_rests_on_a_fit_that_is_not_usable():
    def analysis(status, loglik):
        none = np.full(3, np.nan)
        fits = FitOutcomes(np.array(status), np.array(loglik), none, none, [None] * 3)
        return Analysis({"z": []}, fits)

    methods = {"a": SimpleNamespace(n_parameters=3), "b": SimpleNamespace(n_parameters=2)}
    specs = [SimpleNamespace(name="a", likelihood_ratio="b")]
    large = analysis([Status.OK] * 3, [2.0, 3.0, 3.0])
    small = analysis([Status.OK, Status.NOT_CONVERGED, Status.FAILED], [1.0] * 3)
    (test,) = with_likelihood_ratios(specs, methods, {"a": large, "b": small})["a"].estimates["z"]
    assert test.estimate[0] == 2.0
    assert test.p_value[0] == pytest.approx(stats.chi2.sf(2.0, 1))
    assert np.isnan([*test.estimate[1:], *test.p_value[1:], *test.df[1:]]).all()


def test_twice_the_difference_of_the_log_likelihoods_against_chi_squared(tmp_path):
    directory = run(tmp_path, METHODS)
    rows = pq.read_table(directory / "estimates").to_pandas()
    fits = pq.read_table(directory / "fits").to_pandas()
    loglik = fits.pivot_table(index="replicate", columns="method", values="loglik", observed=True)
    expected = 2 * (loglik["full/z"] - loglik["reduced"])
    tests = rows[rows["parameter"] == "LR(reduced)"].set_index("replicate")
    assert set(tests["method"]) == {"full/containment", "full/z"}
    assert set(tests["component"]) == {"terms"}
    for _, own in tests.groupby("method", observed=True):
        assert own["estimate"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)
        assert (own["df"] == 2).all()  # diet and diet:x
        p = stats.chi2.sf(own["estimate"], 2)
        assert own["p_value"].to_numpy() == pytest.approx(p, rel=1e-9)
    conditions = pq.read_table(directory / "conditions.parquet").to_pylist()
    (row,) = [r for r in conditions if r["method"] == "full/z" and r["parameter"] == "LR(reduced)"]
    assert (row["truth"], row["numerator_df"]) == (None, 2)
    summary = [r for r in summarize([directory]).to_pylist() if r["parameter"] == "LR(reduced)"]
    assert all(r["n"] == 30 and r["bias"] is None and r["rejection"] is not None for r in summary)
    json.dumps(summary, allow_nan=False)
    assert {row["numerator_df"] for row in summary} == {2}
    assert "numerator_df" not in FORMATS["table"](summarize([directory]))


def test_the_smaller_model_must_be_smaller(tmp_path):
    twice = METHODS.replace('formula = "y ~ x +', 'formula = "y ~ diet * x +')
    with pytest.raises(DataError, match="no more parameters than 'reduced'"):
        run(tmp_path, twice)
    assert not (tmp_path / "out").exists()


def test_swept_tables_and_lists_are_columns_of_text(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        SMALL
        + """
[sweep]
"design.levels.image.count" = [4, { uniform = [3, 5] }]
"truth.random.animal.distribution" = ["normal", { mixture = [0.2, 4] }]
"truth.sigma" = [0.5, 1]
"""
    )
    scenario = load_scenario(path, replicates=4)
    store = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1))
    table = pq.read_table(store.directory / "conditions.parquet").to_pandas()
    counts, shapes = "design.levels.image.count", "truth.random.animal.distribution"
    assert set(table[counts]) == {"4", "{uniform = [3, 5]}"}
    assert set(table[shapes]) == {"normal", "{mixture = [0.2, 4]}"}
    assert set(table["truth.sigma"]) == {0.5, 1.0}
    text = FORMATS["table"](summarize([store.directory]))
    heading = "image.count={uniform = [3, 5]}, "
    assert heading + "random.animal.distribution=normal, sigma=0.5\n" in text


POOLED = """
[[methods]]
name = "pooled"
formula = "y ~ diet * x + (1 | image)"
truth = {{ "image.sd(Intercept)" = {target!r} }}
"""


def test_a_declared_truth_is_that_of_the_parameter_and_its_square(tmp_path):
    path = tmp_path / "pooled.toml"
    path.write_text(SMALL + POOLED.format(target="total.sd(Intercept)"))
    scenario = load_scenario(path, replicates=6)
    store = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1))
    table = pq.read_table(store.directory / "conditions.parquet").to_pandas()
    truth = table.set_index(["method", "parameter"])["truth"]
    assert truth["pooled", "image.sd(Intercept)"] == pytest.approx((0.6**2 + 0.25) ** 0.5)
    assert truth["pooled", "image.var(Intercept)"] == pytest.approx(0.6**2 + 0.25)
    assert truth["diagonal", "image.sd(Intercept)"] == pytest.approx(0.5)
    rows = pq.read_table(store.directory / "estimates").to_pandas()
    rows = rows.astype({"method": str, "parameter": str})
    realized = rows.pivot(index="replicate", columns=["method", "parameter"], values="realized")
    animal, image = (
        realized["diagonal", f"{level}.sd(Intercept)"] for level in ("animal", "image")
    )
    for kind, power in (("sd", 0.5), ("var", 1.0)):
        found = realized["pooled", f"image.{kind}(Intercept)"]
        assert found.to_numpy() == pytest.approx(((animal**2 + image**2) ** power).to_numpy())


@pytest.mark.parametrize(
    ("target", "message"), [("total.sd(z)", "unknown: 'total.sd"), ("totl", "unknown: 'totl'")]
)
def test_a_declared_truth_that_there_is_not_is_refused(tmp_path, target, message):
    path = tmp_path / "pooled.toml"
    path.write_text(SMALL + POOLED.format(target=target))
    scenario = load_scenario(path, replicates=6)
    with pytest.raises(DataError, match=message):
        study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1))
    assert not (tmp_path / "out").exists()
