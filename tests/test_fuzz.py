"""Inputs that nobody would write: every command ends with 0, or with 2 or 3 and a message.

Scenarios, tables, observed estimates, options and names are changed at random. Nothing is written
where the end is 2; no traceback, no more than 20 s, no more than 2 GB.
"""

import io
import json
import tomllib
from pathlib import Path

import click
import pandas as pd
import pytest
import yaml
from hypothesis import strategies as st

from mcsim.cli.main import main
from mcsim.planning import dry_run
from tests.conftest import SMALL, call_mcsim
from tests.odd_inputs import (
    ODD,
    TEXTS,
    cases,
    check,
    empty_folder,
    mutated,
    places,
    scratched,
)

CONFIGS = Path(__file__).parents[1] / "configs"


def small(scenario):
    """The scenario with few units and without other programs, so that a replicate is quick."""
    for level in scenario["design"]["levels"]:
        level["count"] = 3
    scenario["design"]["observations"]["count"] = 3
    for key in ("sweep", "target_mcse"):
        scenario.pop(key, None)
    return scenario


SHIPPED = [tomllib.loads(SMALL)]
SHIPPED += [
    small(tomllib.loads(path.read_text()))
    for path in sorted(CONFIGS.glob("*.toml"))
    if path.stem != "against_nlme"
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with a finished study, its scenario and a data set."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(dry_run, "PILOT_S", 0.01)
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.toml").write_text(SMALL)
    for scenario in SHIPPED:  # what they need is compiled before anybody looks at the clock
        (folder / "s.yaml").write_text(yaml.safe_dump(scenario))
        options = ("-n", 1, "-j", 1, "-o", "s", "--overwrite", "--max-failures", 1)
        done = call_mcsim("run", "s.yaml", *options, cwd=folder)
        assert done.returncode == 0, done.stderr
    for command in (
        ("run", "small.toml", "-n", 5, "-j", 1, "-o", "done"),
        ("simulate", "small.toml", "--replicate", 1, "-o", "data.csv"),
    ):
        assert call_mcsim(*command, cwd=folder).returncode == 0
    yield folder
    monkeypatch.undo()


SCENARIOS = st.one_of(
    mutated(SHIPPED).map(lambda one: ("s.yaml", yaml.safe_dump(one, allow_unicode=True))),
    mutated(SHIPPED).map(lambda one: ("s.yaml", yaml.safe_dump(one, allow_unicode=True))),
    scratched(SMALL).map(lambda text: ("s.toml", text)),
    scratched(yaml.safe_dump(SHIPPED[1])).map(lambda text: ("s.yaml", text)),
)


@cases(SCENARIOS)
def test_a_changed_scenario(study, case):
    name, text = case
    with empty_folder() as folder:
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        check("run", name, "-n", 2, "-j", 1, "-o", "out", folder=folder)


KEYS = [".".join(map(str, path)) for path in places(SHIPPED[0]) if path and path[0] != "replicates"]
KEYS += [
    "",
    ".",
    "estimands.0.name",
    "sweep",
    "sweep.truth.sigma",
    "methods.right.truth.x",
    "a.b.c",
]
KEYS += ["design.levels.animal.count", "methods.right.interval", "methods.diagonal.estimator"]
KEYS += [
    "design.redraw",
    "truth.residual.distribution",
    "truth.missing.observations",
    "target_mcse",
]
SETTINGS = st.lists(
    st.builds(
        lambda key, value: f"{key}={value}",
        st.sampled_from(KEYS),
        st.one_of(
            st.sampled_from(ODD).map(lambda one: json.dumps(one).replace("NaN", "nan")),
            st.sampled_from(
                [*TEXTS, "9" * 5000, "0x" + "f" * 5000, "[" * 5000, "1e400", "{ t = 3 }"]
            ),
            st.text(max_size=8),
            st.sampled_from(["1", "2", "3", "0.5", "0", "[0.0, 2.0]", "{ uniform = [1, 3] }"]),
            st.sampled_from(["{ x = 0.5 }", "{ Intercept = 0.5, x = 1 }", "true", "4", "-0.5"]),
        ),
    ),
    min_size=1,
    max_size=2,
)


@cases(SETTINGS)
def test_changed_values_by_options(study, case):
    with empty_folder() as folder:
        given_ = [piece for one in case for piece in ("--set", one)]
        out = folder / "out"
        check("run", study / "small.toml", "-n", 2, "-j", 1, "-o", out, *given_, folder=folder)


def table_of(columns):
    text = io.StringIO()
    pd.DataFrame(columns).to_csv(text, index=False)
    return text.getvalue()


CELLS = st.one_of(
    st.integers(-2, 3),
    st.sampled_from(["a", "b", "", "NA", "inf", "1e400", "1e200", "é", '"', "9" * 400, "-", "0.1"]),
    st.floats(allow_nan=True),
)
COLUMNS = ("y", "x", "animal", "image")
TABLES = st.one_of(
    st.integers(0, 12).flatmap(
        lambda n: st.fixed_dictionaries(
            {name: st.lists(CELLS, min_size=n, max_size=n) for name in COLUMNS}
        )
    ).map(table_of),
    scratched(
        "y,x,animal,image\n1,0,a,1\n2,1,a,2\n4,0,b,1\n3,1,b,2\n"
    ),
)  # fmt: skip
FORMULAS = ["y ~ x", "y ~ x + (1 | animal)", "y ~ x + (x | animal/image)", "y ~ 0 + (1 | image)"]


@cases(st.tuples(TABLES, st.sampled_from(FORMULAS), st.sampled_from(["z", "containment"])))
def test_a_changed_table(study, case):
    table, formula, df = case
    with empty_folder() as folder:
        (folder / "t.csv").write_text(table, encoding="utf-8", errors="surrogatepass")
        check("fit", "t.csv", "--formula", formula, "--df", df, folder=folder)


def as_toml(value):
    pairs = value.items() if isinstance(value, dict) else {"x": value}.items()
    return "o.toml", "\n".join(f"{key} = {json.dumps(item)}" for key, item in pairs)


OBSERVED = [
    {"method": "diagonal", "estimates": {"Intercept": 1.0, "x": -1.0, "sigma": 0.5}},
    {"parameters": [{"parameter": "x", "estimate": 0.1}, {"parameter": "sigma", "estimate": None}]},
]


@cases(
    st.one_of(
        mutated(OBSERVED).map(lambda one: ("o.json", json.dumps(one))),
        mutated(OBSERVED).map(as_toml),
        scratched('method = "diagonal"\n[estimates]\nx = -1.0\nsigma = 0.5\n').map(
            lambda text: ("o.toml", text)
        ),
    )
)  # fmt: skip
def test_changed_observed_estimates(study, case):
    name, text = case
    with empty_folder() as folder:
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        arguments = ("locate", study / "done", "--observed", name, "--method", "right")
        check(*arguments, folder=folder)


USUAL = {  # a command line of every command that takes numbers, and runs in a moment
    "run": ["small.toml", "-n", "2", "-j", "1", "-o", "OUT"],
    "simulate": ["small.toml", "--replicate", "1"],
    "slurm": ["small.toml", "--array", "2"],
    "verify": ["done"],
    "fit": ["data.csv", "--formula", "y ~ x + (1 | animal)"],
}
NO_NUMBER = {
    "overrides",
    "scenario",
    "directory",
    "plugin",
    "output",
    "condition",
    "data",
    "formula",
}
NO_NUMBER |= {"scheduler", "scheduler_file", "tls_key", "tls_cert", "tls_ca_file", "results"}
OPTIONS = [
    (name, option.opts[0])
    for name, command in main.commands.items()
    if name in USUAL
    for option in command.params
    if option.name not in NO_NUMBER
    and not isinstance(option.type, click.Choice)
    and not getattr(option, "is_flag", False)
]
WRITTEN = [
    "0",
    "1",
    "2",
    "-1",
    "0.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-300",
    "3000000000",
    "",
    "x",
]
WRITTEN += [
    "9" * 20,
    "9" * 5000,
    "1-" + "9" * 20,
    "1/" + "9" * 11,
    "1/3",
    "3-1",
    "0/0",
    "2/1",
    "1,,2",
]
WRITTEN += ["coverage=0", "coverage=nan", "coverage=1e-300", "bias=inf", "bias(x)=" + "9" * 400]
WRITTEN += ["01:00:00", "99:99:99:99", "1\nrm -rf", "coverage=0.5", "0x10", "1_0", "٣"]


@cases(st.tuples(st.sampled_from(OPTIONS), st.sampled_from(WRITTEN)))
def test_numbers_of_every_command(study, case):
    (command, option), text = case
    with empty_folder() as folder:
        usual = [str(folder / "out") if one == "OUT" else one for one in USUAL[command]]
        dry = ["--dry-run"] if option == "--target-mcse" else []
        arguments = [command, *usual, *dry, f"{option}={text}"]
        if option in ("-n", "-j"):
            arguments = [command, *usual, option, text]
        if option == "-n":  # what is allowed may take days
            arguments.append("--dry-run") if command == "run" else None
        check(*arguments, folder=study, watched=folder)


PIECES = st.sampled_from(
    ["a", "é", "\n", " ", ".", "..", "-", "x" * 300, "%s", "*", "~", "\udcff", "="]
)
PATHS = st.lists(PIECES, min_size=1, max_size=4).map("".join) | st.lists(PIECES, max_size=3).map(
    "/".join
)
NAMED = [
    ("run", "SMALL", "-n", "1", "-j", "1", "-o", "NAME"),
    ("run", "NAME.toml", "-n", "1"),
    ("simulate", "SMALL", "--replicate", "1", "-o", "NAME.csv"),
    ("init", "NAME"),
    ("status", "NAME"),
    ("verify", "NAME"),
    ("merge", "DONE", "-o", "NAME"),
    ("merge", "NAME", "-o", "out"),
    ("report", "DONE", "-o", "NAME"),
    ("fit", "NAME", "--formula", "y ~ x"),
    ("locate", "DONE", "--observed", "NAME"),
    ("run", "SMALL", "-n", "1", "--plugin", "NAME", "-o", "out"),
]


@cases(st.tuples(st.sampled_from(NAMED), PATHS))
def test_names_of_files_and_folders(study, case):
    command, name = case
    with empty_folder() as outer:
        folder = outer / "1" / "2" / "3" / "4"  # so that .. stays within
        folder.mkdir(parents=True)
        words = {"SMALL": str(study / "small.toml"), "DONE": str(study / "done")}
        arguments = [words.get(one, one).replace("NAME", name) for one in command]
        check(*arguments, folder=folder, watched=outer)
