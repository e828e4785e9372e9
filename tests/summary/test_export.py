"""Estimates as CSV: the rows of estimates/, long and wide; tables in blocks, LaTeX and columns."""

import shutil
import subprocess

import pandas as pd
import pytest

from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary.cache import known_summary
from mcsim.summary.printed import FORMATS
from mcsim.summary.text import aligned, booktabs, piped
from tests.conftest import SMALL, call_mcsim

SWEPT = '\n[sweep]\n"design.levels.image.count" = [2, 3]\n'


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    (folder / "any.toml").write_text(SMALL + SWEPT)
    scenario = load_scenario(folder / "any.toml", replicates=6)
    return study.run_study(scenario, study.RunOptions(folder / "study", n_workers=1)).directory


def exported(folder, *options):
    done = call_mcsim("export", "study", *options, "-o", "out.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "out.csv")


def test_the_long_file_has_the_rows_of_the_study(small):
    rows = pd.read_parquet(small / "estimates")
    found = exported(small.parent)
    assert set(found.columns) == set(rows.columns)
    key = ["condition", "replicate", "method", "parameter"]
    rows = rows.astype(dict.fromkeys(("condition", "method", "parameter", "component"), str))
    rows, found = (one.sort_values(key).reset_index(drop=True) for one in (rows, found))
    pd.testing.assert_frame_equal(found[rows.columns], rows, check_dtype=False, rtol=0, atol=0)


def test_the_wide_file_has_a_column_per_parameter(small):
    rows = pd.read_parquet(small / "estimates")
    options = ("--method", "diagonal", "--parameter", "animal.sd*", "--replicates", "2-4")
    found = exported(small.parent, "--wide", *options)
    assert list(found.columns) == [
        "condition", "replicate", "method", "animal.sd(Intercept)", "animal.sd(x)",
    ]  # fmt: skip
    assert found["replicate"].tolist() == [2, 3, 4] * 2
    for _, one in found.iterrows():
        own = rows[(rows["condition"] == one["condition"]) & (rows["method"] == one["method"])]
        own = own[(own["replicate"] == one["replicate"]) & (own["parameter"] == "animal.sd(x)")]
        assert own["estimate"].item() == one["animal.sd(x)"]
    both = exported(small.parent, "--wide", *options, "--columns", "estimate,std_error")
    assert list(both.columns[3:5]) == [
        "animal.sd(Intercept).estimate", "animal.sd(Intercept).std_error",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "a.txt"), "a.txt: the estimates are written as .csv"),
        (("-o", "a.csv", "--columns", "estimates"), "no column 'estimates'. There are: component"),
        (("-o", "a.csv", "--method", "none"), "no method matches 'none'"),
        (("-o", "a.csv", "--replicates", "x"), "'x'"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_written(small, options, message):
    done = call_mcsim("export", small, *options, cwd=small.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not (small.parent / options[1]).exists()


def test_a_column_called_as_a_label_is_another_one(tmp_path):
    text = SMALL.replace("x = {", "replicate = { normal = [0, 1] }\nx = {", 1)
    text += '[[methods]]\nname = "odd"\nformula = "y ~ replicate"\nestimator = "ols"\n'
    (tmp_path / "any.toml").write_text(text)
    scenario = load_scenario(tmp_path / "any.toml", replicates=2)
    study.run_study(scenario, study.RunOptions(tmp_path / "study", n_workers=1))
    found = exported(tmp_path, "--wide", "--method", "odd")
    assert [*found.columns] == [
        "condition", "replicate", "method", "Intercept", "replicate.estimate", "sigma",
    ]  # fmt: skip
    assert found["replicate"].tolist() == [1, 2]


def test_a_bar_in_a_name_is_no_column_of_markdown():
    assert piped([["name", "n"], ["diet[T.a|b]", "3"]], n_left=1).split("\n")[2] == (
        r"| diet[T.a\|b] | 3 |"
    )


def test_a_wide_table_goes_on_below_with_its_labels():
    rows = [["name", "first", "second", "third"], ["a", "1", "2", "3"]]
    assert aligned(rows, n_left=1, width=19) == (
        "name  first  second\na         1       2\n\nname  third\na         3"
    )
    assert aligned(rows, n_left=1, width=1).count("name") == 3  # one column at least
    assert aligned(rows, n_left=1, width=26) == aligned(rows, n_left=1)


def test_latex_has_rules_and_prints_every_letter():
    rows = [["a_b", "at 0"], ["[x] 5% ~ y | $", "-0.5 (0.1)"], ["-", "-"]]
    assert booktabs(rows, n_left=1).split("\n") == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & at 0 \\",
        r"\midrule",
        r"{[x] 5\% \textasciitilde{} y \textbar{} \$} & $-$0.5 (0.1) \\",
        r"-- & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_summary_in_latex_is_tables_and_comments(small):
    lines = FORMATS["latex"](known_summary(small)).splitlines()
    assert lines.count(r"\begin{tabular}{llrrrrrrrr}") == 2
    inside = False
    for line in filter(None, lines):
        inside = inside or line.startswith(r"\begin")
        assert inside or line.startswith("% ")
        inside = inside and line != r"\end{tabular}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_latex_compiles(small, tmp_path):
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}"
    table = FORMATS["latex"](known_summary(small))
    letters = booktabs([["a_b", "c"], ["[x] 5% ~ y | $ < > ^ \\ { } # &", "-1 (0)"]], n_left=1)
    (tmp_path / "a.tex").write_text(f"{head}\n{table}\n{letters}\n\\end{{document}}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "a.pdf").exists()


def test_columns_of_the_table_are_those_that_are_named(small):
    options = ("--columns", "truth,rmse", "--columns", "power,n_boundary")
    done = call_mcsim("summarize", small, *options, cwd=small.parent)
    header = next(line for line in done.stdout.splitlines() if " method " in line)
    wanted = ["method", "truth", "RMSE", "power/type", "I", "n_boundary"]  # a line per condition
    assert header.split()[-6:] == wanted
    done = call_mcsim("summarize", small, *options, "--format", "csv", cwd=small.parent)
    assert done.stdout.split("\n")[0].split(",")[2:] == [
        *("method", "parameter", "component", "truth", "n_boundary"),
        *("rmse", "rmse_mcse", "rejection", "rejection_mcse"),
    ]
    done = call_mcsim("summarize", small, *options, "--measure", "bias", cwd=small.parent)
    assert done.returncode == 2
    assert "it does not go with --measure" in done.stderr
