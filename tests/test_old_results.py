"""A results folder of format 2 as an earlier version left it: read, continued, verified and shown.

tests/golden/format_2 is never written anew: it stands for the folders that users have.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest

from mcsim.names import Parameter
from mcsim.summary.records import OF_INTERVALS
from tests.conftest import call_mcsim

OLD = Path(__file__).parent / "golden" / "format_2"
FOLDERS = ("commits", "estimates", "fits")


@pytest.fixture
def study(tmp_path):
    return shutil.copytree(OLD, tmp_path / "study")


def call(*arguments, cwd):
    done = call_mcsim(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


def content_of(study):
    return {path: path.read_bytes() for name in FOLDERS for path in (study / name).iterdir()}


def numbers(rows):
    """Values by condition, method, parameter and column, where they are numbers."""
    found = {}
    for row in rows:
        key = row["condition"], row["method"], row["parameter"]
        found |= {(*key, name): float(value) for name, value in row.items() if is_number(value)}
    return found


OF_TESTS = ("expected_rejection", "type_s", "type_m", "mde", "equivalence")


def is_of_intervals(key):
    """Whether a number is of the intervals of an SD or a variance."""
    of_scale = Parameter.read(key[2]).is_scale
    return of_scale and key[3].removesuffix("_mcse") in (*OF_INTERVALS, "n_missing_interval")


def is_expected(key):
    """Whether a number is of what is known of an effect beside its estimate."""
    return key[3].removesuffix("_mcse") in ("n_expected", *OF_TESTS, "expected_coverage")


def is_number(text):
    return text.lstrip("-")[:1].isdigit()


def test_it_is_of_format_2():
    assert json.loads((OLD / "manifest.json").read_text())["format"] == 2


def test_it_is_summarized(study):
    rows = rows_of(call("summarize", study, "--format", "csv", cwd=study.parent))
    assert {row["condition"] for row in rows} == {"sigma=0.5", "sigma=1.0"}
    assert {row["method"] for row in rows} == {"right/satterthwaite", "right/z", "robust"}
    assert {"fed at 1", "animal.icc", "animal.sd(x)", "sigma"} <= {row["parameter"] for row in rows}
    # printed when the folder was made
    values = numbers(rows)
    intercept = "sigma=0.5", "right/satterthwaite", "Intercept"
    assert values[*intercept, "mean"] == pytest.approx(1.1646167910216896, rel=1e-12)
    assert values[*intercept, "coverage"] == 5 / 6
    assert values["sigma=1.0", "right/satterthwaite", "sigma", "truth"] == 1.0
    assert values["sigma=1.0", "robust", "x", "n"] == 6


def test_more_replicates_are_added_and_make_the_study_of_that_size(study):
    scenario, before = study / "scenario.toml", content_of(study)
    new = study.parent / "new"
    call("run", scenario, "-n", 10, "-j", 1, "-o", new, cwd=study.parent)
    call("run", scenario, "-n", 10, "-j", 1, "-o", study, cwd=study.parent)
    assert before.items() <= content_of(study).items()
    grown, whole = (rows_of((one / "summary.csv").read_text()) for one in (study, new))
    assert {row["n_replicates"] for row in grown} == {"10"}
    # parts keep their bytes, and with them intervals of SDs next to 0, which a fit of today lacks;
    # and what is expected of an effect they do not say
    grown_numbers, of_today = (
        {k: v for k, v in numbers(rows).items() if not (is_of_intervals(k) or is_expected(k))}
        for rows in (grown, whole)
    )
    assert grown_numbers == pytest.approx(of_today, rel=1e-9, abs=1e-12)


def test_nothing_is_missing_so_that_a_run_adds_nothing(study):
    before = content_of(study)
    call("run", study / "scenario.toml", "-o", study, cwd=study.parent)
    assert content_of(study) == before


def test_the_next_run_writes_it_in_the_present_format(study):
    call("run", study / "scenario.toml", "-o", study, cwd=study.parent)
    assert json.loads((study / "manifest.json").read_text())["format"] == 3
    call("report", study, cwd=study.parent)
    assert (
        "8 units of animal; 24 units of image, 3 per animal" in (study / "report.html").read_text()
    )


def test_it_is_verified_and_repaired(study):
    call("verify", study, cwd=study.parent)
    before = content_of(study)
    lost = min((study / "fits").iterdir())
    lost.unlink()
    assert call_mcsim("verify", study, cwd=study.parent).returncode == 2
    call("verify", study, "--repair", "-j", 1, cwd=study.parent)
    assert content_of(study).keys() == before.keys()
    call("verify", study, cwd=study.parent)


def test_it_is_reported(study):
    call("report", study, cwd=study.parent)
    page = (study / "report.html").read_text()
    for shown in ("A small study of format 2", "robust", "animal.sd(x)", "fed at 1"):
        assert shown in page


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("estimates", ["--method", "right*", "--parameter", "*.sd(*"]),
        ("zip", ["--method", "robust", "--parameter", "x"]),
        ("lollipop", ["--measure", "coverage"]),
        ("curves", ["--measure", "rmse", "--parameter", "x"]),
    ],
)
def test_it_is_plotted(study, kind, options):
    figure = study.parent / "figure.svg"
    call("plot", study, "--kind", kind, *options, "-o", figure, cwd=study.parent)
    assert figure.stat().st_size > 1000


def test_it_is_compared(study):
    text = call("compare", study, "--methods", "right/z", "robust", cwd=study.parent)
    assert "right/z" in text
