"""The Python interface: the same numbers and files as the commands, in frames."""

import operator
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import mcsim
from mcsim.errors import DataError, McsimError, ScenarioError

SCENARIO = """
title = "A & B"
replicates = 6
seed = 3
[design]
response = "y"
factors = { group = ["a", "b"] }
[[design.levels]]
name = "animal"
count = 4
[design.observations]
count = 5
[design.covariates]
x = { grid = [0.0, 1.0] }
[truth]
sigma = 0.5
[truth.random.animal]
sd = { Intercept = 0.4 }
[[methods]]
name = "full"
formula = "y ~ group * x + (1 | animal)"
[[methods]]
name = "flat"
formula = "y ~ group * x"
estimator = "ols"
[sweep]
"truth.sigma" = [0.5, 1.0]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interface")
    (folder / "own.toml").write_text(SCENARIO)
    scenario = mcsim.load_scenario(folder / "own.toml")
    return mcsim.run_study(scenario, folder / "out", n_workers=1, progress=False, report=print)


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "mcsim", *map(str, arguments)], check=True)


def test_files_are_those_of_the_command(study, tmp_path):
    command("run", study.directory.parent / "own.toml", "-o", tmp_path / "out", "-j", "1")
    for kind in ("estimates", "fits", "commits"):
        ours = {path.name: path.read_bytes() for path in (study.directory / kind).iterdir()}
        theirs = {path.name: path.read_bytes() for path in (tmp_path / "out" / kind).iterdir()}
        assert ours == theirs


def test_summary_is_that_of_the_folder(study):
    written = pd.read_csv(study.directory / "summary.csv")
    found = study.summary()
    assert found["rmse"].to_numpy() == pytest.approx(written["rmse"].to_numpy(), nan_ok=True)
    assert set(mcsim.summarize([study.directory], method="full")["method"]) == {"full"}
    with pytest.raises(DataError, match="no parameter matches 'z'"):
        mcsim.summarize(study.directory, parameter="z")


def test_replicates_come_condition_by_condition_and_filtered(study):
    every = study.estimates()
    assert list(dict.fromkeys(every["condition"])) == ["sigma=0.5", "sigma=1.0"]
    one = mcsim.read_estimates(
        study.directory,
        condition="*=1.0",
        method="full",
        parameter="group[T.b]*",
        replicates="2-3,6",
    )
    assert one["replicate"].tolist() == [2, 2, 3, 3, 6, 6]
    assert set(one["parameter"]) == {"group[T.b]", "group[T.b]:x"}
    fits = mcsim.read_fits(study.directory, replicates="1")
    assert fits[["condition", "method"]].astype(str).to_numpy().tolist() == [
        ["sigma=0.5", "full"], ["sigma=0.5", "flat"], ["sigma=1.0", "full"], ["sigma=1.0", "flat"],
    ]  # fmt: skip
    assert mcsim.read_estimates(study.directory, method="none").empty


def test_two_methods_are_compared(study):
    found = study.compare("full", "flat")
    assert {"bias_difference", "relative_precision_mcse"} <= set(found.columns)
    with pytest.raises(DataError, match="no method matches 'flt'"):
        mcsim.compare(study.directory, "full", "flt")


def test_a_frame_is_fitted_like_its_file(study, tmp_path):
    path = tmp_path / "one.csv"
    command("simulate", study.directory.parent / "own.toml", "--replicate", "1", "--condition",
            "sigma=0.5", "-o", path)  # fmt: skip
    formula = "y ~ group * x + (1 | animal)"
    frame = pd.read_csv(path)
    of_frame, of_file = mcsim.fit(frame, formula), mcsim.fit(path, formula)
    assert of_frame == of_file
    assert of_frame.table.loc["x", "estimate"] == of_frame.parameters[2].estimate
    frame["group"] = pd.Categorical(frame["group"], categories=["b", "a", "unused"])
    assert "group[T.a]" in mcsim.fit(frame, formula).table.index  # the order of its maker
    with pytest.raises(DataError, match="the data frame has no column 'w'"):
        mcsim.fit(frame, "y ~ w + (1 | animal)")


def test_a_figure_is_matplotlibs(study):
    figure = study.plot("estimates", parameter="x")
    assert figure.axes
    with pytest.raises(McsimError, match="no kind 'estimate'"):
        study.plot("estimate")


def test_a_notebook_shows_studies_and_fits(study):
    page = study._repr_html_()
    assert "A &amp; B" in page
    assert "6 planned, 6 done" in page
    assert page.count("<tr") == 1 + len(study.summary())
    assert study.report(study.directory.parent / "page.html").read_text().startswith("<!DOCTYPE")


def test_what_cannot_be_run_says_why(tmp_path):
    with pytest.raises(ScenarioError, match="there is no such file"):
        mcsim.run_study(tmp_path / "none.toml")
    (tmp_path / "own.toml").write_text(SCENARIO)
    with pytest.raises(DataError, match="needs a directory"):
        mcsim.run_study(mcsim.load_scenario(tmp_path / "own.toml"))
    with pytest.raises(AttributeError, match="no attribute 'simulate_all'"):
        operator.attrgetter("simulate_all")(mcsim)


def test_public_names_load_nothing_before_they_are_used():
    code = "import mcsim, sys; dir(mcsim); print('numpy' in sys.modules, mcsim.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")
    assert all(hasattr(mcsim, name) for name in mcsim.__all__)


def test_a_script_without_a_guard_may_use_several_processes(tmp_path):
    slow = SCENARIO.replace("replicates = 6", "replicates = 64")  # two pieces: two processes
    slow = slow.replace('| animal)"\n', '| animal)"\ninterval = "bootstrap"\nresamples = 20\n')
    (tmp_path / "own.toml").write_text(slow)
    script = tmp_path / "script.py"
    script.write_text(
        "import mcsim\nprint('once')\n"
        "mcsim.run_study('own.toml', n_workers=2, progress=False)\nprint('done')\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["once", "done"], done.stderr


COUNTED = pd.DataFrame({"y": [0, 1, 2, 1, 0, 2] * 4, "a": [*range(8)] * 3})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: mcsim.summarize([]), "no folder of results is named"),
        (lambda study: study.summary(missing="all"), "must be usable, common, fallback"),
        (lambda study: study.plot("histogram"), "There are: estimates, .*, plan, data, design"),
        (lambda _: counted(trials=2.5), "trials is 2.5; it must be a whole number from 1 up"),
        (lambda _: counted(trials=0), "trials is 0; it must be a whole number from 1 up"),
        (
            lambda _: counted(trials=2, quadrature=0),
            "quadrature is 0; it must be a whole number from 1 to",
        ),
        (lambda _: counted(trials=True), "trials is True; it must be a whole number from 1 up"),
        (lambda _: counted(trials=2, quadrature=True), "quadrature is True; it must be a whole"),
        (lambda _: normal(confidence=95), "confidence is 95; it must be a number from 0.01 to 0.9"),
        (lambda _: normal(confidence=1.0), "confidence is 1.0; it must be a number from 0.01 to"),
        (lambda _: normal(confidence=float("nan")), "confidence is nan; it must be a number"),
        (lambda _: normal(confidence="0.9"), "confidence is '0.9'; it must be a number from 0.01"),
        (lambda _: normal(estimator="lme"), "there is no estimator 'lme'. There are: reml, ml, .*"),
        (lambda _: normal(reference={"g": 3}), "'g' has no level '3'. It has: 1, 2"),
        (lambda study: study.summary(effects=[0.1, float("nan")]), "an effect is nan; it must be"),
        (lambda study: study.summary(effects=[float("inf")]), "an effect is inf; it must be a"),
        (lambda study: study.summary(effects="a"), "an effect is .*'a'.*; it must be a number"),
        (lambda study: study.summary(parameter=[]), "no parameter is named; leave the empty list"),
        (lambda study: study.plot(width=float("nan")), "width is nan; it must be a number from 40"),
        (
            lambda study: study.plot("data", replicate=0),
            "replicate is 0; it must be a whole number",
        ),
        (lambda study: again(study, n_workers=0), "n_workers is 0; it must be a whole number from"),
        (lambda study: again(study, n_workers=-1), "n_workers is -1; it must be a whole number"),
        (lambda study: again(study, n_workers=1.5), "n_workers is 1.5; it must be a whole number"),
    ],
)
def test_a_wrong_argument_is_answered_in_words(study, call, message):
    with pytest.raises(McsimError, match=message):
        call(study)


def test_numbers_of_numpy_and_text_of_a_path_are_taken(study):
    assert counted(trials=np.int64(2)).table.equals(counted(trials=2).table)
    one = study.summary(effects=[0.1, 0.2])
    pd.testing.assert_frame_equal(study.summary(effects=np.array([0.1, 0.2])), one)
    pd.testing.assert_frame_equal(study.summary(effects=0.1), study.summary(effects=[0.1]))
    assert str(mcsim.Study(str(study.directory))) == str(study)
    assert normal(reference={"g": 2}).parameters[1].parameter == "C(g)[T.1]"


def again(study, **options):
    return mcsim.run_study(study.directory / "scenario.toml", study.directory, **options)


def normal(**options):
    return mcsim.fit(COUNTED.assign(g=[1, 2] * 12), "y ~ C(g) + (1 | a)", **options)


def counted(**options):
    return mcsim.fit(COUNTED, "y ~ 1 + (1 | a)", family="binomial", **options)
