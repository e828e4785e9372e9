"""Paired differences between methods and their Monte Carlo errors."""

import csv
import io
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcsim.errors import DataError
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary.compare import _mean, _relative_precision, _score, compare, without_rounding
from tests.conftest import SMALL, call_mcsim


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    (folder / "s.toml").write_text(SMALL)
    scenario = load_scenario(folder / "s.toml", replicates=120)
    return study.run_study(scenario, study.RunOptions(folder / "out", n_workers=1)).directory


def test_scores_of_known_numbers():
    numbers = np.array(
        [[1.0, 2.0, np.nan], [1, 1, 1], [0.0, 1.5, np.nan], [2.0, 2.5, 1.0], [0.04, 0.2, np.nan]]
    )
    numbers = np.vstack([numbers, numbers[0]])
    expected = {
        "bias": [0.0, 1.0],
        "mse": [0.0, 1.0],
        "coverage": [1.0, 0.0],
        "rejection": [1.0, 0.0],
        "ci_width": [2.0, 1.0],
    }
    for measure, values in expected.items():
        scores = _score(measure, numbers, 1.0, 0.05)
        assert scores[:2].tolist() == values
        assert math.isnan(scores[2])
    assert np.isnan(_score("coverage", numbers, math.nan, 0.05)).all()


def test_errors_of_paired_differences_are_those_of_repeated_studies():
    # 2,000 studies of 100 correlated pairs: SDs are known to 1.6%, so 8% is five standard errors
    generator = np.random.default_rng(4)
    A = generator.standard_normal((2000, 100))
    B = 0.8 * A + 0.3 * generator.standard_normal((2000, 100)) + 0.1
    found = np.array(
        [[*_mean(b - a), *_relative_precision(a, b)] for a, b in zip(A, B, strict=True)]
    )
    for value, mcse in ((0, 1), (2, 3)):
        assert found[:, mcse].mean() == pytest.approx(found[:, value].std(ddof=1), rel=0.08)
    assert found[:, 0].mean() == pytest.approx(0.1, abs=0.01)
    assert found[:, 2].mean() == pytest.approx(1 / (0.64 + 0.09) - 1, abs=0.05)


def test_rounding_is_no_difference():
    A = np.array([[1.0, 2.0, 0.0, np.nan, np.inf], [0.5, 0.25, 0.0, 1.0, 1.0]])
    B = A + np.array([3e-15, -4e-12, 1e-16, 0.0, 0.0])
    assert without_rounding(A, B).tobytes() == A.tobytes()
    apart = A * (1 + 1e-8)
    assert without_rounding(A, apart)[0, 0] == apart[0, 0]


def test_methods_that_estimate_the_same_do_not_differ():
    assert _relative_precision(np.arange(9.0), np.arange(9.0)) == (0.0, 0.0)
    assert _relative_precision(np.zeros(9), np.arange(9.0)) == (None, None)
    assert _mean(np.array([np.nan])) == (None, None)


def test_differences_are_those_of_the_estimates(directory):
    estimates = pq.read_table(directory / "estimates").to_pandas()
    limits = estimates[estimates["parameter"] == "animal.sd(x)"].pivot_table(
        index="replicate", columns="method", values="ci_upper", observed=True
    )
    own = estimates[estimates["parameter"] == "animal.sd(x)"].pivot_table(
        index="replicate", columns="method", values="estimate", observed=True
    )
    rows = {row["parameter"]: row for row in compare(directory, "right/z", "diagonal").to_pylist()}
    difference = own["diagonal"] - own["right/z"]
    row = rows["animal.sd(x)"]
    n_intervals = len(limits[["diagonal", "right/z"]].dropna())
    assert (row["n"], row["n_missing_interval"]) == (120, 120 - n_intervals)
    assert rows["x"]["n_missing_interval"] == 0
    assert row["bias_difference"] == pytest.approx(difference.mean())
    assert row["bias_difference_mcse"] == pytest.approx(difference.std() / 120**0.5)
    errors = (own - 0.4) ** 2
    expected = (errors["diagonal"] - errors["right/z"]).mean()
    assert row["mse_difference"] == pytest.approx(expected)
    assert row["rejection_difference"] is None
    assert "animal.cor(Intercept,x)" not in rows  # the diagonal model has none
    assert "image.sd(x)" not in rows


def test_the_command_prints_all_formats(directory, tmp_path):
    arguments = ["compare", directory, "--methods", "right/z", "diagonal"]
    table = call_mcsim(*arguments, cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "Method diagonal less method right/z" in table.stdout
    assert max(map(len, table.stdout.splitlines())) < 140
    assert "/120: so many of the estimates have an interval; coverage" in table.stdout
    records = json.loads(call_mcsim(*arguments, "--format", "json", cwd=tmp_path).stdout)
    lines = csv.DictReader(
        io.StringIO(call_mcsim(*arguments, "--format", "csv", cwd=tmp_path).stdout)
    )
    assert [line["parameter"] for line in lines] == [row["parameter"] for row in records]


def test_unknown_methods_and_folders_are_refused(directory, tmp_path):
    with pytest.raises(DataError, match=r"no method matches 'diagnal'.*Did you mean 'diagonal'"):
        compare(directory, "right/z", "diagnal")
    with pytest.raises(DataError, match=r"compared with itself; .* right/containment, diagonal"):
        compare(directory, "right/z", "right/z")
    with pytest.raises(DataError, match="holds no study"):
        compare(tmp_path, "a", "b")
