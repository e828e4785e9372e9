"""Small runs of all scenarios in configs/ give the numbers of tests/golden/same_numbers.csv.

Commands and files alone are used, so that the code behind them may be moved. After a change that is
meant to change numbers: `python tests/regenerate.py --only same_numbers`, and read the diff.
"""

import csv
import io
import re
from pathlib import Path

import pytest

from tests.conftest import call_mcsim

GOLDEN = Path(__file__).parent / "golden" / "same_numbers.csv"
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
N_REPLICATES = 8
NEEDS_R = re.compile(r'estimator = "(nlme|lme4)"')
LABELS = ("condition", "method", "parameter", "component")
NUMBERS = (  # of these the other columns of a summary are made
    *("truth", "numerator_df", "theory_emp_se", "theory_df", "theory_rejection"),
    *("n", "n_failed", "n_boundary", "n_missing_interval"),
    *("mean", "median", "emp_se", "rmse_mcse", "rmse_estimation", "model_se"),
    *("coverage", "be_coverage", "rejection", "ci_width", "share_at_zero"),
)


def golden_numbers(directory):
    """The text of the golden file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("config", *LABELS, *NUMBERS))
    for config in CONFIGS:
        for row in summary_of(config, directory):
            numbers = (row[name] and f"{float(row[name]):.11g}" for name in NUMBERS)
            writer.writerow((config.stem, *(row[name] for name in LABELS), *numbers))
    return text.getvalue()


def summary_of(config, directory):
    """Rows of summary.csv of a small run, without the methods that need R."""
    tables = re.split(r"(?m)^(?=\[)", config.read_text())
    scenario = directory / config.name
    scenario.write_text("".join(table for table in tables if not NEEDS_R.search(table)))
    out = directory / config.stem
    done = call_mcsim("run", scenario, "-n", N_REPLICATES, "-j", 1, "-o", out, cwd=directory)
    assert done.returncode == 0, done.stderr
    with (out / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def golden():
    with GOLDEN.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_small_run_gives_the_stored_numbers(config, golden, tmp_path):
    stored = [row for row in golden if row["config"] == config.stem]
    found = summary_of(config, tmp_path)
    assert [labels_of(row) for row in found] == [labels_of(row) for row in stored]
    for name in NUMBERS:
        # the smallest numbers, of designs in units of 1, are SDs of 0.001: 1e-11 is rounding
        assert numbers(found, name) == pytest.approx(
            numbers(stored, name), rel=1e-9, abs=1e-11, nan_ok=True
        ), name


def labels_of(row):
    return tuple(row[name] for name in LABELS)


def numbers(rows, name):
    """A column; NaN where the summary has no number, and where it lacks the column."""
    return [float(row.get(name) or "nan") for row in rows]
