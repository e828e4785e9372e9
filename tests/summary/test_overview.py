"""A sweep is printed as a line per condition and method; what fits a screen is printed whole."""

import re
import shutil
import subprocess

import pytest

from mcsim.summary.overview import SCREEN
from mcsim.summary.text import MAX_WIDTH, aligned, booktabs, told, wrapped
from tests.conftest import SMALL, call_mcsim

SWEEP = '[sweep]\n"design.levels.image.count" = [2, 3]\n"truth.sigma" = [0.5, 1, 2.0]\n'


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a sweep")
    (folder / "small.toml").write_text(SMALL + SWEEP)
    done = call_mcsim("run", "small.toml", "-n", 3, "-j", 1, "-o", "my study", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def summarize(folder, *options):
    done = call_mcsim("summarize", "my study", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sweep_has_a_line_per_condition_and_method(printed):
    folder, text = printed
    assert text.count("\n") <= SCREEN
    header, *lines = text.split("diet[T.fed]:x:\n\n")[1].split("\n\n")[0].splitlines()
    assert header.split()[:6] == ["image.count", "sigma", "method", "truth", "bias", "RMSE"]
    assert header.split()[-4:] == ["coverage", "power/type", "I", "n"]
    methods = ["right/containment", "right/z", "diagonal"]
    wanted = [[n, s, m] for n in "23" for s in ("0.5", "1", "2") for m in methods]
    assert [line.split()[:3] for line in lines] == wanted
    assert "right: 18 replicates, 0 failed, " in text
    assert summarize(folder) == text


def test_it_says_how_to_see_the_others(printed):
    folder, text = printed
    assert re.search(r"^1 of \d+ parameters in 6 conditions\.", text, re.MULTILINE)
    commands = re.findall(r"^    mcsim summarize 'my study' (.+)$", text, re.MULTILINE)
    assert commands[0] == "--parameter '*'"
    whole = summarize(folder, "--parameter", "*")
    assert whole.count("\nimage.count=2, sigma=2\n") == 1
    assert whole.count("animal.sd(x)") > 6


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex, with booktabs")
def test_latex_makes_a_page_of_every_table(printed, tmp_path):
    folder, _ = printed
    tables = [
        summarize(folder, *options, "--format", "latex")
        for options in (
            (), ("--parameter", "*"), ("--measure", "rmse,power"), ("--by", "sigma"),
            ("--columns", "truth,relative_bias"), ("--effects", "0.1,1"),
        )
    ]  # fmt: skip
    names = ("--methods", "right/z", "diagonal")
    tables.append(call_mcsim("compare", "my study", *names, "--format", "latex", cwd=folder).stdout)
    odd = [["a_b", "50% & more"], ["{x}^2 #1 ~ $", r"-1 \ <|>"], ["[x]", "-"]]
    body = "\n\n".join([*tables, booktabs(odd, n_left=1)])
    text = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    )
    (tmp_path / "a.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_commands_that_are_advised_can_be_pasted(printed):
    folder, _ = printed
    made = call_mcsim("init", "my start", cwd=folder)
    assert "mcsim run 'my start.toml' --dry-run" in made.stderr
    assert "mcsim run 'my start.toml' --dry-run" in (folder / "my start.toml").read_text()
    shard = ("--shard", "1/2", "-n", 4, "-j", 1, "-o", "my shard")
    done = call_mcsim("run", "small.toml", *shard, cwd=folder)
    assert "`mcsim status 'my shard'` says" in done.stderr
    done = call_mcsim("status", "my shard", "--check", cwd=folder)
    assert "`mcsim run 'my shard/scenario.toml' -o 'my shard'` does" in done.stderr


def test_what_fits_a_screen_and_what_programs_read_is_whole(printed):
    folder, _ = printed
    few = summarize(folder, "--condition", "image.count=2, sigma=1", "--method", "diagonal")
    assert "diagonal animal.sd(x)" in " ".join(few.split())
    rows = summarize(folder, "--format", "csv").splitlines()
    assert sum(",animal.sd(x)," in row for row in rows) == 6 * 3


@pytest.mark.parametrize("label", ["sigma=2.0*", "*sigma=2", "image.count=3*, truth.sigma = 2.0"])
def test_a_whole_number_is_found_however_it_is_written(printed, label):
    folder, _ = printed
    by = summarize(folder, "--measure", "rmse", "--by", "sigma").splitlines()[0]
    assert re.findall(r"sigma=\S+", by) == ["sigma=0.5", "sigma=1", "sigma=2"]
    glob = label if label.startswith(("*", "image")) else f"*{label}"
    assert "sigma=2: " in summarize(folder, "--measure", "rmse", "--condition", glob) or (
        "image.count" in label
    )


@pytest.mark.parametrize("width", [40, 60, 80])
def test_tables_and_notes_fit_a_narrow_terminal(width):
    names = ["a_method_with_a_long_name", "random.animal.sd.Intercept=0.5, fixed.x=-1.25"]
    rows = [["method", "parameter", "bias", "coverage"], [*names, "0.0010 (0.0012)", "95.0 (2.8)"]]
    lines = aligned(rows, n_left=2, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert {line.rfind(")") for line in lines if line.endswith(")")} == {
        len(line) - 1 for line in lines if line.endswith(("bias", "coverage"))
    }
    assert any("-1.25" in line for line in lines)
    notes = ["words of a note that goes on " * 5, "    mcsim summarize " + "x" * 90]
    note = told(notes, "table", width)
    *folded, command = note.splitlines()
    assert max(map(len, folded)) <= width
    assert len(command) == 110
    assert aligned(rows, n_left=2, width=MAX_WIDTH) == aligned(rows, n_left=2)


def test_labels_break_at_spaces_and_joints_never_in_a_value():
    assert wrapped("fixed.x=-1, b=1e-05", 11) == "fixed.x=-1,\nb=1e-05"
    long = "image.count={uniform = [5, 15]}, observations.count={uniform = [3, 17]}"
    assert wrapped(long, 30).split("\n") == [
        "image.count=", "{uniform = [5, 15]},", "observations.count=", "{uniform = [3, 17]}",
    ]  # fmt: skip
