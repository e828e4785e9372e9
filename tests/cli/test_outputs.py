"""Every command that writes, with every kind of place to write to."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from mcsim.cli.main import main
from mcsim.cli.progress import ProgressBar
from mcsim.errors import ExitCode
from mcsim.study.run import Progress
from tests.conftest import SMALL, call_mcsim, run_mcsim
from tests.odd_inputs import files

COMMANDS = {  # what is written, a file or a folder
    "run": (["run", "small.toml", "-n", 2, "-j", 1, "-o"], "folder"),
    "merge": (["merge", "done", "-o"], "folder"),
    "simulate": (["simulate", "small.toml", "--replicate", 1, "-o"], "file"),
    "plot": (["plot", "done", "--kind", "realized", "-o"], "file"),
    "export": (["export", "done", "-o"], "file"),
    "init": (["init"], "file"),
}
ENDINGS = {"plot": ".png", "export": ".csv", "init": ".toml"}  # that a name needs
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(SMALL)
    done = call_mcsim("run", "small.toml", "-n", 5, "-j", 1, "-o", "done", cwd=folder)
    assert done.returncode == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def make_file(path):
    path.write_text("mine")


def make_full_folder(path):
    path.mkdir()
    (path / "mine").write_text("mine")


def make_sealed(path):
    path.parent.mkdir()
    path.parent.chmod(0o500)


def nothing(_path):
    pass


# name of the place, what stands there before, whether a file and whether a folder can be written
PLACES = {
    "new": ("new", nothing, True, True),
    "relative": ("./a/../new", lambda path: path.parents[1].mkdir(), True, True),
    "deep": ("a/b/c/new", nothing, True, True),
    "unicode": ("né \u202e\U0001f400", nothing, True, True),
    "not-utf-8": ("\udcff", nothing, True, True),
    "spaces": (" a b ", nothing, True, True),
    "newline": ("a\nb", nothing, True, True),
    "dash": ("./-a", nothing, True, True),
    "long": ("x" * 255, nothing, True, True),
    "too-long": ("x" * 300, nothing, False, False),
    "below-a-file": ("small.toml/new", nothing, False, False),
    "a-file": ("mine", make_file, True, False),
    "an-empty-folder": ("mine", lambda path: path.mkdir(), False, True),
    "a-full-folder": ("mine", make_full_folder, False, False),
    "a-link-to-itself": ("mine", lambda path: path.symlink_to(path.name), False, False),
    "sealed": ("sealed/new", make_sealed, False, False),
    "full": ("/dev/full", nothing, False, False),
    "null": ("/dev/null", nothing, True, False),
}
UNPRINTABLE = ("unicode", "not-utf-8", "newline")  # what a scenario cannot be called


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_written_is_whole_or_nothing(folder, command, place):
    name, make, takes_file, takes_folder = PLACES[place]
    arguments, kind = COMMANDS[command]
    if place == "sealed" and IS_ROOT:
        pytest.skip("no mode stops root")
    if command in ENDINGS:
        if name.startswith("/dev"):
            pytest.skip("its name has no ending")
        name = name[: 255 - 4 - len(ENDINGS[command])] if place == "long" else name
        name += ENDINGS[command]
    path = folder / name
    make(path)
    can = takes_folder if kind == "folder" else takes_file
    if command == "init":  # which replaces nothing
        can = can and place not in ("a-file", *UNPRINTABLE)
    before = files(folder)
    done = call_mcsim(*arguments, name, cwd=folder)
    if can:
        assert done.returncode == 0, done.stderr
        assert path.exists()
    else:
        assert done.returncode in (ExitCode.BAD_INPUT, ExitCode.OTHER_STUDY)
        assert len(done.stderr.strip().splitlines()) == 1 or place == "newline"
        assert files(folder) == before
    if name.startswith("/dev"):
        assert stat.S_ISCHR(Path(name).stat().st_mode)


@pytest.mark.parametrize(
    "arguments",
    [
        ["summarize", "done"],
        ["simulate", "small.toml", "--replicate", "1"],
        ["--version"],
    ],
)
def test_a_full_disk_behind_what_is_printed_is_told(folder, arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mcsim", *arguments],
            cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    message = "what is printed: cannot be read or written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize(
    ("streams", "is_printed", "is_said"),
    [(">&-", False, True), ("2>&-", True, False), ("2>/dev/full", True, False)],
)
def test_a_run_ends_as_it_does_where_nobody_can_read_what_it_says(
    folder, streams, is_printed, is_said
):
    run = f"{sys.executable} -m mcsim run small.toml -n 2 -j 1 -o new {streams}"
    done = subprocess.run(
        ["sh", "-c", run], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("coverage" in done.stdout, "Results are in new" in done.stderr) == (is_printed, is_said)
    assert call_mcsim("status", "new", "--check", cwd=folder).returncode == 0


def test_signs_that_a_terminal_cannot_show_are_replaced(tmp_path):
    text = SMALL.replace("fed =", '"fed" =').replace("fed", "\u6570")
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    done = run_mcsim(
        "simulate", "s.toml", "--replicate", 1, cwd=tmp_path, env={"PYTHONIOENCODING": "latin-1"}
    )
    assert done.returncode == 0, done.stderr
    assert "\\u6570" in done.stdout


def test_a_folder_of_results_stands_for_no_package(folder):
    for name in ("coverage", "numpy", "mcsim"):
        (folder / name).mkdir()
    done = run_mcsim("run", "small.toml", "-n", 2, "-j", 1, "-o", "tqdm", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert run_mcsim("status", "tqdm", cwd=folder).returncode == 0


def test_quiet_prints_nothing_and_progress_names_the_condition(tmp_path):
    (tmp_path / "s.toml").write_text(SMALL)
    done = call_mcsim("run", "s.toml", "-n", "2", "-j", "1", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = call_mcsim("run", "none.toml", "--quiet", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.toml" in done.stderr
    lines = []
    with ProgressBar(lines.append, is_shown=False) as bar:
        bar.start(10)
        bar._last_line -= 100  # as if nothing had been said for so long
        bar.advance(Progress(4, 1, "animal.count=4"))
    (line,) = lines
    assert "4/10" in line
    assert line.endswith("1 failed, animal.count=4]")


@pytest.mark.parametrize(("columns", "is_named"), [(60, False), (120, True)])
def test_a_bar_names_the_condition_where_it_has_room(monkeypatch, capsys, columns, is_named):
    monkeypatch.setenv("COLUMNS", str(columns))
    with ProgressBar(print, is_shown=True) as bar:
        bar.start(10)
        bar.advance(Progress(4, 0, "random.animal.sd.x=2.0"))
    drawn = capsys.readouterr().err.replace("\n", "\r").split("\r")
    last = drawn[-1 if drawn[-1] else -2]
    assert last.endswith("0 failed, random.animal.sd.x=2]" if is_named else ", 0 failed]")
    assert len(last) <= columns


def test_a_report_is_opened_in_the_browser_or_said_where_it_is(folder, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) or len(opened) == 1)
    monkeypatch.setattr("mcsim.report.page.page", lambda _results: "<!DOCTYPE html>")
    assert call_mcsim("report", "done", "--open", cwd=folder).returncode == 0
    assert opened == [(folder / "done" / "report.html").as_uri()]
    done = call_mcsim("report", "done", "--open", cwd=folder)
    assert done.returncode == 2
    assert "no browser can be opened here; the page is done/report.html" in done.stderr


def test_the_shell_is_offered_the_names_of_the_results(folder):
    def offered(*arguments, begun=""):
        done = ShellComplete(main, {}, "mcsim", "_MCSIM_COMPLETE")
        with contextlib.chdir(folder):
            return [one.value for one in done.get_completions(list(arguments), begun)]

    assert offered("summarize", "done", "--method") == ["right/containment", "right/z", "diagonal"]
    assert offered("compare", "done", "--methods", begun="d") == ["diagonal"]
    assert offered("plot", "done", "--parameter", begun="diet") == ["diet[T.fed]", "diet[T.fed]:x"]
    assert offered("plot", "done", "--measure", begun="po") == ["power"]
    assert offered("simulate", "small.toml", "--condition") == ["all"]
    assert offered("export", "none", "--condition") == []


def test_filters_may_be_repeated(folder):
    options = ["--method", "diagonal", "--method", "right/z", "--parameter", "sigma"]
    csv = call_mcsim("summarize", "done", *options, "--format", "csv", cwd=folder).stdout
    methods = [line.split(",")[1] for line in csv.splitlines()[1:]]
    assert methods == ["right/z", "diagonal"]
    (folder / "seen.toml").write_text("[estimates]\nsigma = 0.5\n")
    done = call_mcsim("locate", "done", "--observed", "seen.toml", *options[:4], cwd=folder)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "'diagonal' and 'right/z' is several: name one of them" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["report", "done", "-o"],
        ["plot", "done", "--kind", "bias", "-o"],
        ["simulate", "small.toml", "--replicate", 1, "-o"],
    ],
)
@pytest.mark.parametrize("place", ["folder", "small.toml/a"])
def test_a_place_that_cannot_be_is_refused_before_the_work(folder, command, place, monkeypatch):
    place += {"report": ".html", "plot": ".png", "simulate": ".csv"}[command[0]]
    if place.startswith("folder"):
        (folder / place).mkdir()
    for name in ("report.page.page", "plots.kinds.figure", "study.run.replicate_data"):
        monkeypatch.setattr(f"mcsim.{name}", lambda *_: pytest.fail("worked in vain"))
    done = call_mcsim(*command, place, cwd=folder)
    assert done.returncode == ExitCode.BAD_INPUT
    said = f"{place} is a folder; name a file", f"cannot write to {place}: "
    assert said[place.startswith("small")] in done.stderr
