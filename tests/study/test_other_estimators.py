"""Studies with estimators other than likelihood: the same numbers however the work is shared."""

import pandas as pd
import pytest

from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL

METHODS = """
[[methods]]
name = "rows"
formula = "y ~ diet * x"
estimator = "ols"
[[methods]]
name = "robust"
formula = "y ~ diet * x + (1 | animal)"
estimator = "ols-cluster"
df = ["cr1", "cr2"]
[[methods]]
name = "equations"
formula = "y ~ diet * x + (1 | animal)"
estimator = "gee"
[[methods]]
name = "slopes"
formula = "y ~ diet * x + (x | animal/image)"
estimator = "two-stage"
[[methods]]
name = "means"
formula = "y ~ diet + (1 | animal)"
estimator = "image-means"
"""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL + METHODS)
    return load_scenario(path, replicates=100)


def rows(directory):
    """All estimates, as their files hold them, in one order."""
    frame = pd.read_parquet(directory / "estimates")
    names = ["condition", "method", "parameter", "component"]
    frame = frame.astype(dict.fromkeys(names, str))
    return frame.sort_values(["replicate", "method", "parameter"], ignore_index=True)


def test_workers_and_ranges_give_the_same_numbers(scenario, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SERIAL_ROWS", 0)
    study.run_study(scenario, study.RunOptions(tmp_path / "two", n_workers=2))
    for ranges in ([(1, 7)], [(8, 61)], None):
        options = study.RunOptions(tmp_path / "one", n_workers=1, replicates=ranges)
        study.run_study(scenario, options)
    pd.testing.assert_frame_equal(rows(tmp_path / "two"), rows(tmp_path / "one"), rtol=0, atol=0)


def test_the_summary_has_a_row_for_what_a_method_estimates(scenario, tmp_path):
    study.run_study(scenario, study.RunOptions(tmp_path / "s", n_workers=1))
    found = {
        (row["method"], row["parameter"]): row
        for row in summarize([tmp_path / "s"]).to_pylist()
    }  # fmt: skip
    names = {method: [p for m, p in found if m == method] for method, _ in found}
    fixed = ["Intercept", "diet[T.fed]", "x", "diet[T.fed]:x"]
    assert names["rows"] == [*fixed, "sigma"]
    for method in ("robust/cr1", "robust/cr2", "equations", "slopes"):
        assert names[method] == fixed
    assert names["means"] == ["Intercept", "diet[T.fed]"]
    assert {row["n_failed"] for row in found.values()} == {0}
    # animals differ, so that intervals from rows are far too narrow
    assert found["slopes", "Intercept"]["coverage"] > 0.8 > found["rows", "Intercept"]["coverage"]


def test_lost_observations_change_no_parameters(tmp_path):
    # means of x differ between animals only where observations are lost: x stays left out
    path = tmp_path / "lost.toml"
    lost = "[truth.missing]\nobservations = 0.2\n[truth.random.animal]"
    text = SMALL.replace("[truth.random.animal]", lost) + METHODS
    path.write_text(text.replace('"y ~ diet + (1 | animal)"', '"y ~ diet * x + (1 | animal)"'))
    said = []
    options = study.RunOptions(tmp_path / "s", n_workers=1, report=said.append)
    study.run_study(load_scenario(path, replicates=5), options)
    found = summarize([tmp_path / "s"]).to_pylist()
    means = [row for row in found if row["method"] == "means"]
    assert [row["parameter"] for row in means] == ["Intercept", "diet[T.fed]"]
    assert {(row["n_failed"], row["n"]) for row in found} == {(0, 5)}
    assert "Method 'means' leaves out x, diet[T.fed]:x: the columns before determine it." in said
