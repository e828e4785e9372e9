"""A user's own functions as estimators, by the command and in process."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.load import load_scenario
from mcsim.scenario.plugin_file import Plugin, function_of, load_functions, read_plugin
from mcsim.study.run import RunOptions, run_study
from tests.conftest import SMALL, call_mcsim, run_mcsim

MEDIANS = """
import numpy as np
from mcsim.plugins import estimator

@estimator("x", "animal.sd(Intercept)")
def medians(data):
    print("this is not a result")
    means = data.groupby("animal", observed=True)["y"].mean()
    return {"x": data["y"].median(), "animal.sd(Intercept)": means.std()}
"""
METHOD = """
[[methods]]
name = "own"
formula = "y ~ diet * x + (1 | animal)"
estimator = "plugin:medians"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study.toml").write_text(SMALL + METHOD)
    (tmp_path / "own.py").write_text(MEDIANS)
    return tmp_path


def parts(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*/part-*.parquet")}


def test_the_function_gets_every_data_set(folder):
    done = run_mcsim(
        "run", "study.toml", "--plugin", "own.py", "-n", 70, "-j", 2, "-o", "two", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "this is not a result" not in done.stdout
    run_mcsim("run", "study.toml", "--plugin", "own.py", "-n", 70, "-j", 1, "-o", "one", cwd=folder)
    assert parts(folder / "two") == parts(folder / "one")
    found = pd.read_parquet(folder / "two" / "estimates")
    assert set(found.loc[found["parameter"] == "x", "method"]) > {"own"}
    own = found[(found["method"] == "own") & (found["replicate"] == 66)].set_index("parameter")
    simulated = run_mcsim("simulate", "study.toml", "--replicate", 66, "-o", "66.csv", cwd=folder)
    assert simulated.returncode == 0, simulated.stderr  # the data need no plugin
    data = pd.read_csv(folder / "66.csv")
    assert own.loc["x", "estimate"] == pytest.approx(data["y"].median(), rel=1e-12)
    spread = data.groupby("animal")["y"].mean().std()
    assert own.loc["animal.sd(Intercept)", "estimate"] == pytest.approx(spread, rel=1e-12)
    assert dict(own["component"]) == {"x": "fixed", "animal.sd(Intercept)": "animal"}


def test_a_scenario_alone_loads_nothing(folder):
    (folder / "own.py").write_text(MEDIANS + "\nopen('was_run', 'w').close()\n")
    (folder / "medians.py").write_text("open('was_run', 'w').close()\n")
    done = run_mcsim("run", "study.toml", cwd=folder)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert (
        "'plugin:medians' needs the file that has it: repeat the command with --plugin"
        in done.stderr
    )
    assert not (folder / "was_run").exists()
    script = call_mcsim("slurm", "study.toml", "--array", 2, cwd=folder)
    assert (script.returncode, script.stdout) == (2, "")
    assert "'plugin:medians' needs the file that has it" in script.stderr


def test_another_text_is_another_study(folder):
    run_mcsim("run", "study.toml", "--plugin", "own.py", "-o", "r", cwd=folder)
    (folder / "own.py").write_text(MEDIANS + "# changed\n")
    done = run_mcsim("run", "study.toml", "--plugin", "own.py", "-o", "r", cwd=folder)
    assert done.returncode == 4
    identity = json.loads((folder / "r" / "manifest.json").read_text())["identity"]
    digest = Plugin("own.py", MEDIANS).digest
    assert {key: identity[key] for key in identity if "plugin" in key} == {
        "methods.own.plugin": digest
    }
    assert re.findall(r"^  (\S+) is", done.stderr, re.MULTILINE) == ["methods.own.plugin"]


PLAN = """
import numpy as np
from mcsim.plugins import estimator

@estimator("x")
def slope(data):
    x = data["x"] - data["x"].mean()
    b = (x * data["y"]).sum() / (x**2).sum()
    rest = data["y"] - data["y"].mean() - b * x
    se = np.sqrt((rest**2).sum() / (len(x) - 2) / (x**2).sum())
    return {"x": {"estimate": b, "std_error": se, "df": len(x) - 2}}
"""
QUESTION = """
[[methods]]
name = "own"
formula = "y ~ diet * x + (1 | animal)"
estimator = "plugin:slope"
[plan]
cost = { animal = 1 }
target = { rejection = "x", at_least = 0.5 }
method = "own"
[plan.search]
"design.levels.animal.count" = [2, 3]
"""


def test_a_plan_tries_designs_with_functions_of_ones_own(tmp_path):
    (tmp_path / "s.toml").write_text(SMALL + QUESTION)
    (tmp_path / "own.py").write_text(PLAN)
    command = ["plan", "s.toml", "--max-replicates", 256]
    done = call_mcsim(*command, "-o", "one", cwd=tmp_path)
    message = (
        "estimator 'plugin:slope' needs the file that has it: repeat the command with --plugin FILE"
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, message)
    assert not (tmp_path / "one").exists()
    command += ["--plugin", "own.py", "-o"]
    one = call_mcsim(*command, "one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    # the slope is -1, its SD in 4 animals of 2 images of 4 points below 0.3
    assert "animal.count=2 reaches" in one.stdout
    two = call_mcsim(*command, "two", "-j", 2, cwd=tmp_path)
    plans = [(tmp_path / name / "plan.json").read_bytes() for name in ("one", "two")]
    assert plans[0] == plans[1], two.stderr
    made = parts(tmp_path / "one" / "animal.count=2")
    again = call_mcsim(*command, "one", cwd=tmp_path)
    assert (again.stdout, parts(tmp_path / "one" / "animal.count=2")) == (one.stdout, made)
    (tmp_path / "own.py").write_text(PLAN + "# changed\n")
    other = call_mcsim(*command, "one", cwd=tmp_path)
    assert other.returncode == 4
    digest = Plugin("own.py", PLAN).digest
    assert f'methods.own.plugin is "{digest[:49]} ... there' in other.stderr


def analyse(text, y, *, confidence=0.95):
    """Analysis by the function `own` of the text `own.py`."""
    plugin = Plugin("own.py", "from mcsim.plugins import estimator\n" + text)
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    settings = MethodSettings("plugin:own", ("own",), confidence, plugin=plugin)
    method = prepare_method(model_columns(parse_formula("y ~ x"), frame), settings)
    return method.analyse(
        [method.take(one[None]) for one in y], lambda row: np.random.default_rng(row)
    )


def test_what_a_function_raises_is_the_message_of_a_failed_fit():
    text = """
@estimator("a")
def own(data):
    if data["y"][0] > 0:
        raise RuntimeError("no luck")
    return {"a": 7}
"""
    analysis = analyse(text, np.array([[-1.0, 0, 0], [1.0, 0, 0]]))
    assert list(analysis.fits.status) == [Status.OK, Status.FAILED]
    assert analysis.fits.message == [None, "own.py:6: RuntimeError: no luck"]
    estimate = analysis.estimates["own"][0].estimate
    assert (estimate[0], np.isnan(estimate[1])) == (7.0, True)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "own.py: TypeError: must return a dict of estimates, not NoneType"),
        ("{'b': 1}", "own.py: ValueError: 'b' is none of what @estimator names"),
        ("{'a': {'sd': 1}}", "own.py: ValueError: 'sd' of 'a'; allowed are estimate, std_error,"),
        ("{'a': 'much'}", "own.py: ValueError: could not convert string to float: 'much'"),
        ("{}", "own.py: ValueError: there is no estimate"),
        ("{'a': None}", "own.py: ValueError: there is no estimate"),
        ("{'a': float('nan')}", "own.py: ValueError: estimate of 'a' is nan; it must be a finite"),
        ("{'a': float('inf')}", "own.py: ValueError: estimate of 'a' is inf; it must be a finite"),
        (
            "{'a': {'estimate': 1, 'std_error': -1}}",
            "own.py: ValueError: std_error of 'a' is -1; it must be a finite number of at least 0",
        ),
        (
            "{'a': {'estimate': 1, 'p_value': 5}}",
            "own.py: ValueError: p_value of 'a' is 5; it must be a number from 0 to 1",
        ),
        (
            "{'a': {'estimate': 1, 'std_error': 1, 'df': -3}}",
            "own.py: ValueError: df of 'a' is -3; it must be a number above 0",
        ),
        (
            "{'a': {'estimate': 1, 'ci_lower': 2, 'ci_upper': 1}}",
            "own.py: ValueError: ci_lower of 'a' lies above its ci_upper",
        ),
        (
            "{'a': {'estimate': 1, 'ci_lower': float('nan')}}",
            "own.py: ValueError: ci_lower of 'a' is nan; it must be a number",
        ),
    ],
)
def test_a_result_that_cannot_be_read_is_a_failed_fit(returned, message):
    analysis = analyse(f"@estimator('a')\ndef own(data): return {returned}", np.zeros((1, 3)))
    assert str(analysis.fits.message[0]).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sys.exit(0)", "SystemExit: 0"),
        ("raise Silent()", "Silent: (its text cannot be had)"),
        ("raise ValueError('\\udcff' + 'a' * 5000)", "ValueError: \\udcff" + "a" * 1994 + "..."),
        ("raise DataError('no fit')", "DataError: no fit"),
    ],
)
def test_nothing_that_a_function_raises_ends_the_run(tmp_path, line, message):
    raising = """
import sys
from mcsim.errors import DataError

class Silent(Exception):
    def __str__(self):
        raise self
"""
    analysis = analyse(f"{raising}\n@estimator('a')\ndef own(data):\n    {line}", np.zeros((1, 3)))
    assert (analysis.fits.status[0], analysis.fits.message[0]) == (
        Status.FAILED,
        f"own.py:12: {message}",
    )
    (tmp_path / "own.py").write_text(f"{raising}\n{line}")
    with pytest.raises(DataError) as refusal:
        read_plugin(tmp_path / "own.py")
    assert str(refusal.value) == f"--plugin own.py:9: {message}"


def test_intervals_follow_from_the_standard_error():
    text = """
@estimator("t", "z", "given", "alone", "absent")
def own(data):
    return {
        "t": {"estimate": 2.0, "std_error": 0.5, "df": 4},
        "z": {"estimate": 2.0, "std_error": 0.5},
        "given": {"estimate": 2.0, "std_error": 0.5, "ci_lower": 1.0, "p_value": None},
        "alone": 2.0,
    }
"""
    blocks = {
        one.parameter.name: one
        for one in analyse(text, np.zeros((1, 3)), confidence=0.9).estimates["own"]
    }  # fmt: skip
    limits = stats.t(4).interval(0.9)
    assert blocks["t"].ci_lower[0] == pytest.approx(2.0 + 0.5 * limits[0])
    assert blocks["t"].ci_upper[0] == pytest.approx(2.0 + 0.5 * limits[1])
    assert blocks["t"].p_value[0] == pytest.approx(2.0 * stats.t.sf(4.0, 4))
    assert blocks["z"].ci_upper[0] == pytest.approx(2.0 + 0.5 * stats.norm.ppf(0.95))
    assert blocks["z"].p_value[0] == pytest.approx(2.0 * stats.norm.sf(4.0))
    assert (blocks["given"].ci_lower[0], np.isnan(blocks["given"].ci_upper[0])) == (1.0, True)
    assert np.isnan([blocks["alone"].std_error[0], blocks["absent"].estimate[0]]).all()


def test_a_function_may_take_the_formula_and_random_numbers():
    text = """
@estimator("length", "draw")
def own(generator, formula, data):
    data["x"] += 1.0  # its own copy
    return {"length": len(formula) + data["x"][0], "draw": generator.uniform()}
"""
    length, draw = analyse(text, np.zeros((3, 3))).estimates["own"]
    assert list(length.estimate) == [6.0, 6.0, 6.0]
    assert list(draw.estimate) == [np.random.default_rng(row).uniform() for row in range(3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def own(data): pass", "marks no function as an estimator; write `from mcsim"),
        ("x = (", "--plugin own.py:1: SyntaxError: '(' was never closed"),
        ("\nimport nothing_like_it", "--plugin own.py:2: ModuleNotFoundError: No module named"),
        ("@estimator('a')\ndef own(frame): pass", "own takes 'frame'; it may take: data, formula"),
        ("@estimator()\ndef own(data): pass", 'must name what it estimates, such as @estimator("x'),
        ("@estimator('a', 'a')\ndef own(data): pass", "own names a parameter twice: a, a"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "own.py"
    path.write_text(text.replace("@est", "from mcsim.plugins import estimator\n@est"))
    with pytest.raises(DataError) as refusal:
        read_plugin(path)
    assert message in str(refusal.value)


def test_a_missing_file_and_a_missing_function_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.py: cannot be read"):
        read_plugin(tmp_path / "nowhere.py")
    plugin = Plugin("own.py", MEDIANS)
    assert list(load_functions(plugin)) == ["medians"]
    with pytest.raises(DataError, match=r"no estimator 'median'. It marks: medians. Did you mean"):
        function_of(plugin, "plugin:median")


def test_a_function_that_ends_its_process_makes_a_failed_row_however_little_there_is_to_do(folder):
    text = MEDIANS.replace("    print", "    __import__('os')._exit(3)\n    print")
    (folder / "own.py").write_text(text)
    scenario = load_scenario(folder / "study.toml", replicates=1)
    options = RunOptions(folder / "out", n_workers=2)
    run_study(scenario.with_plugin(read_plugin(folder / "own.py")), options)
    fits = pd.read_parquet(folder / "out" / "fits").set_index("method")
    assert fits.loc["own", "status"] == "failed"
