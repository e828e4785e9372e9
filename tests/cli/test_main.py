"""The command line in processes of its own."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

import mcsim
from mcsim.cli.main import main
from tests.conftest import run_mcsim

REFERENCE = Path(__file__).parents[1] / "reference"


def estimates(folder):
    table = ds.dataset(folder / "estimates").to_table().to_pandas()
    keys = ["condition", "replicate", "method", "parameter"]
    return table.sort_values(keys).reset_index(drop=True)


def test_run_writes_the_study_and_prints_the_summary(small_scenario, tmp_path):
    done = run_mcsim("run", small_scenario, "-o", "out", "-j", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60 replicates, 0 failed" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "scenario.toml", "manifest.json", "conditions.parquet", "estimates", "fits",
        "summary.parquet", "summary.csv",
    }  # fmt: skip
    frame = estimates(tmp_path / "out")
    assert set(frame["method"]) == {"right/containment", "right/z", "diagonal"}
    assert frame.groupby("method", observed=True)["replicate"].nunique().eq(60).all()
    again = run_mcsim("run", "out/scenario.toml", "-o", "again", "-j", 1, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(estimates(tmp_path / "again"), frame)


def test_workers_resumption_and_extension_change_no_bit(small_scenario, tmp_path):
    whole = run_mcsim("run", small_scenario, "-o", "whole", "-n", 120, "-j", 1, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    for arguments in (["-n", 30], ["-n", 70, "--replicates", "35-40"], ["-n", 120, "-j", 2]):
        step = run_mcsim("run", small_scenario, "-o", "steps", *arguments, cwd=tmp_path)
        assert step.returncode == 0, step.stderr
    pd.testing.assert_frame_equal(estimates(tmp_path / "steps"), estimates(tmp_path / "whole"))
    summaries = [(tmp_path / name / "summary.csv").read_bytes() for name in ("steps", "whole")]
    assert summaries[0] == summaries[1]


def test_another_study_in_the_folder_is_refused_and_kept(small_scenario, tmp_path):
    run_mcsim("run", small_scenario, "-o", "out", "-n", 10, cwd=tmp_path)
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    other = run_mcsim(
        "run", small_scenario, "-o", "out", "-n", 10, "--set", "truth.sigma=0.6", cwd=tmp_path
    )
    assert other.returncode == 4
    assert "truth.sigma is 0.5 there and 0.6 here" in other.stderr
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_status_names_missing_ranges(small_scenario, tmp_path):
    run_mcsim("run", small_scenario, "-o", "out", "--replicates", "1-20,31", cwd=tmp_path)
    status = run_mcsim("status", "out", cwd=tmp_path)
    assert status.stdout == (
        "all: 60 planned, 21 done, 0 fits failed; missing: --replicates 21-30,32-60\n"
    )


def test_simulated_data_fit_like_the_study(small_scenario, tmp_path):
    run_mcsim("run", small_scenario, "-o", "out", "-n", 5, cwd=tmp_path)
    run_mcsim("simulate", small_scenario, "--replicate", 3, "-o", "three.csv", cwd=tmp_path)
    formula = "y ~ diet * x + (x || animal/image)"
    fit = run_mcsim("fit", "three.csv", "--formula", formula, "--format", "json", cwd=tmp_path)
    assert fit.returncode == 0, fit.stderr
    result = json.loads(fit.stdout)
    study = estimates(tmp_path / "out")
    study = study[(study["replicate"] == 3) & (study["method"] == "diagonal")]
    by_name = dict(zip(study["parameter"], study["estimate"], strict=True))
    for one in result["parameters"]:
        assert one["estimate"] == pytest.approx(by_name[one["parameter"]], rel=1e-6, abs=1e-9)


def test_fit_reports_what_nlme_reports(tmp_path):
    # nlme: lme(y ~ diet*x, random = ~ x | animal/image), df by the inner-outer rule; intervals()
    stored = json.loads((REFERENCE / "small_2.json").read_text())["models"]["general"]["REML"]
    formula = "y ~ diet*x + (x | animal/image)"
    fit = run_mcsim(
        "fit", REFERENCE / "small_2.csv", "--formula", formula, "--format", "json", cwd=tmp_path
    )
    result = json.loads(fit.stdout)
    assert result["loglik"] == pytest.approx(stored["logLik"], abs=1e-6)
    assert result["n_obs"] == 800
    rows = {row["parameter"]: row for row in result["parameters"]}
    nlme = stored["nlme_fit"]
    names = ["Intercept", "diet[T.fed]", "x", "diet[T.fed]:x"]
    assert [rows[name]["df"] for name in names] == nlme["df"]
    assert [rows[name]["p_value"] for name in names] == pytest.approx(nlme["p"], rel=1e-3)


def test_help_imports_no_numpy():
    code = "import sys, mcsim.cli.main; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("sigma = 0.5", "sigma = -1", "truth.sigma is -1; it must be a number above 0"),
        ("replicates = 60", "replicats = 60", "unknown key 'replicats'"),
        ("random.image]", "random.imgae]", "unknown level 'imgae' in truth.random"),
        ("correlation = 0.3", "correlation = 1.3", "it must be a number from -1 to 1"),
        ("x = -1.0", "z = -1.0", "unknown column 'z'"),
        ("(x | animal)", "(x | anmal)", "unknown level 'anmal'"),
        ("fed = 5", "fat = 5", "no count for the cell 'fed'"),
        ("grid = [0.0, 1.0]", "grid = [0.0]", "it must be a list of two numbers"),
        ("diet * x + (x ||", "diet * __import__('os') + (x ||", "found '__import__' at"),
    ],
)
def test_a_mistake_in_the_scenario_is_named_and_nothing_is_written(
    small_scenario, tmp_path, before, after, message
):
    small_scenario.write_text(small_scenario.read_text().replace(before, after))
    done = run_mcsim("run", small_scenario.name, "-o", "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_alone_says_what_to_type_first(tmp_path):
    done = run_mcsim(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    commands = [
        line.split("  ")[2].strip() for line in done.stdout.splitlines() if line[:4] == "    "
    ]
    assert commands == [
        "mcsim init study",
        "mcsim run study.toml --dry-run",
        "mcsim run study.toml",
    ]
    for command in commands:
        typed = command.split()[1:] + (["-n", "10"] if command.endswith("study.toml") else [])
        assert run_mcsim(*typed, cwd=tmp_path).returncode == 0


def test_versions_that_matter_are_printed(tmp_path):
    text = run_mcsim("--version", cwd=tmp_path).stdout
    assert f"numpy {np.__version__}" in text
    assert f"pandas {pd.__version__}" in text
    assert text.startswith(f"mcsim {mcsim.__version__} (Python {sys.version.split()[0]}")


def test_nothing_is_coloured_or_redrawn_where_no_terminal_is(small_scenario, tmp_path):
    done = run_mcsim("run", small_scenario, "-o", "out", "-n", 10, cwd=tmp_path)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_a_terminal_gets_no_colour_with_no_color(small_scenario, tmp_path):
    parent, child = pty.openpty()
    environment = os.environ | {"NO_COLOR": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "mcsim", "run", small_scenario, "-n", "10", "-j", "1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    written = b""
    with contextlib.suppress(OSError):  # how a closed terminal ends
        while chunk := os.read(parent, 4096):
            written += chunk
    assert process.wait() == 0
    assert b"replicates" in written
    written = written.removesuffix(b"\x1b[0m")  # colorama, where it is installed, as it ends
    assert re.search(rb"\x1b\[[0-9;]*m", written) is None


def test_shells_complete_commands_and_options(tmp_path):
    script = run_mcsim(cwd=tmp_path, env={"_MCSIM_COMPLETE": "bash_source"}).stdout
    assert "_mcsim_completion" in script
    words = {"_MCSIM_COMPLETE": "bash_complete", "COMP_WORDS": "mcsim summarize --mea"}
    found = run_mcsim(cwd=tmp_path, env=words | {"COMP_CWORD": "2"}).stdout
    assert found.strip() == "plain,--measure"


@pytest.mark.parametrize("asked", [[], ["error"]])
def test_warnings_of_libraries_are_shown_only_where_python_is_asked_to(monkeypatch, asked, capsys):
    monkeypatch.setattr(sys, "warnoptions", asked)
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(sys, "argv", ["mcsim"])
        with pytest.raises(SystemExit):
            main()
        with contextlib.nullcontext() if not asked else pytest.raises(UserWarning):
            warnings.warn("of a library", stacklevel=1)
    assert os.environ.pop("PYTHONWARNINGS", None) == (None if asked else "ignore")  # for workers
    assert capsys.readouterr().err == ""
