"""Likelihood-ratio tests between the methods of a scenario."""

import json

import pyarrow.parquet as pq
import pytest
from scipy import stats

from mcsim.errors import DataError
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
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
