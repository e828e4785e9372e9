"""What a user writes is data: none of it is evaluated, wherever it stands."""

import builtins
import contextlib
import itertools
import re
import shutil
import sys
import tomllib
import unicodedata
from pathlib import Path
from random import Random

import formulaic
import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import ModelFrame, column, model_columns
from mcsim.design.residual_rows import residual_columns
from mcsim.errors import McsimError
from mcsim.formula import FORMULA_FUNCTIONS
from mcsim.methods.one_file import fit_file
from mcsim.methods.r.call import r_call
from mcsim.planning.starter import starter_from_data
from mcsim.scenario.checks import find_problems
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.records import Scenario
from mcsim.scenario.residuals import residual_model
from mcsim.scenario.write import dump_scenario
from mcsim.simulate.responses import prepare_simulator
from tests.conftest import call_mcsim

N_EXPRESSIONS = 5000
SEED = 20240319
BASE = """
replicates = 10
seed = 7
[design]
factors = { diet = ["fasted", "fed"] }
levels = [{ name = "animal", count = 4 }]
observations = { count = 5 }
covariates = { x = { grid = [0.1, 1.0] }, w = { uniform = [1, 2] } }
[truth]
sigma = 0.5
fixed = { Intercept = 1.0, x = -1.0 }
random = { animal = { sd = { Intercept = 0.6, x = 0.4 } } }
[[methods]]
name = "m"
formula = "y ~ diet * x + (1 | animal)"
"""
# parts of a scenario with @ where the text goes
PLACES = {
    "truth.fixed": {"truth": {"fixed": {"@": 0.1}}},
    "product": {"truth": {"fixed": {"x:@": 0.1}}},
    "sd": {"truth": {"random": {"animal": {"sd": {"Intercept": 1, "@": 0.1}}}}},
    "variance": {"truth": {"random": {"animal": {"sd": None, "variance": {"@": 0.1}}}}},
    "correlation": {"truth": {"random": {"animal": {"correlation": {"Intercept,@": 0.1}}}}},
    "correlated": {
        "truth": {
            "random": {"animal": {"sd": {"w": 1, "@": 1}, "correlation": {"w,@": 0.1}}},
        }
    },
    "random": {"truth": {"random": {"@": {"sd": {"Intercept": 1}}}}},
    "along": {"truth": {"residual": {"correlation": "ar1", "phi": 0.5, "along": "@"}}},
    "power": {"truth": {"residual": {"power": {"of": "@", "exponent": 1}}}},
    "sd_by": {"truth": {"residual": {"sd_by": {"@": {"fed": 1.5}}}}},
    "sd_by level": {"truth": {"residual": {"sd_by": {"diet": {"@": 1.5}}}}},
    "missing": {"truth": {"missing": {"units": {"@": 0.1}}}},
    "sweep key": {"sweep": {"truth.fixed.@": [0.1, 0.2]}},
    "quoted sweep key": {"sweep": {'truth.fixed."@"': [0.1, 0.2]}},
    "sweep of sd": {"sweep": {'truth.random.animal.sd."@"': [0.1, 0.2]}},
    "sweep value": {"sweep": {"truth.random.animal.sd": [{"@": 0.1}]}},
    "swept levels": {"sweep": {"design.factors.diet": [["fasted", "@"]]}},
    "estimand": {"estimands": [{"name": "e", "fixed": {"@": 1}}]},
    "total": {"estimands": [{"name": "total.sd(@)"}]},
    "icc": {"estimands": [{"name": "@.icc"}]},
    "formula": {"methods": [{"name": "m", "formula": "y ~ @ + (1 | animal)"}]},
    "random part": {"methods": [{"name": "m", "formula": "y ~ x + (@ | animal)"}]},
    "group": {"methods": [{"name": "m", "formula": "y ~ x + (x | @)"}]},
    "response": {"methods": [{"name": "m", "formula": "@ ~ x + (x | animal)"}]},
    "call": {"methods": [{"name": "m", "formula": "y ~ I(@) + (1 | animal)"}]},
    "target": {"methods": [{"name": "m", "formula": "y ~ x", "truth": {"@": "x"}}]},
    "targeted": {"methods": [{"name": "m", "formula": "y ~ x", "truth": {"x": "@"}}]},
    "structure": {
        "methods": [{"name": "m", "formula": "y ~ (x | animal)", "structure": {"@": "diagonal"}}]
    },
    "residual": {"methods": [{"name": "m", "formula": "y ~ (1 | animal)", "residual": "ar1(@)"}]},
    "by": {"methods": [{"name": "m", "formula": "y ~ (1 | animal)", "residual": "by:@"}]},
    "residual by": {
        "methods": [{"name": "m", "formula": "y ~ (1 | animal)", "residual": {"by": "@"}}]
    },
    "residual along": {
        "methods": [
            {
                "name": "m",
                "formula": "y ~ (1 | animal)",
                "residual": {"correlation": "ar1", "along": "@"},
            }
        ]
    },
    "estimator": {"methods": [{"name": "m", "formula": "y ~ x", "estimator": "plugin:@"}]},
    "df": {"methods": [{"name": "m", "formula": "y ~ x", "df": "@"}]},
    "factor": {"design": {"factors": {"@": ["a", "b"]}}},
    "factor level": {"design": {"factors": {"diet": ["fasted", "@"]}}},
    "covariate": {"design": {"covariates": {"@": {"grid": [0, 1]}}}},
    "level": {"design": {"levels": [{"name": "@", "count": 4}]}},
    "design.response": {"design": {"response": "@"}},
    "level of a covariate": {"design": {"covariates": {"w": {"uniform": [0, 1], "level": "@"}}}},
    "target_mcse": {"target_mcse": {"bias(@)": 0.1}},
    "title": {"title": "@"},
}
PAYLOADS = (
    "canary()", "(canary())", "[canary() for _ in (1,)]", "{canary()}", "{canary(): 1}",
    "(lambda: canary())()", "lambda: canary()", "(x := canary())", "f'{canary()}'",
    "`canary()`", "`x` + canary()", "__import__('canary')", "__import__('os').system('canary')",
    "canary.__call__()", "getattr(canary, '__call__')()", "().__class__.__base__, canary()",
    "x if canary() else x", "*canary()", "**canary()", "canary()[0]", "eval('canary()')",
    "exec('canary()')", "'canary()'", '"canary()"', "x\ncanary()", "x;canary()", "x # canary()",
    "\\canary()", "np.canary()", "x.real, canary()", "%canary()%", "canary() ~ x", "x | canary()",
    "x @ canary()", "x and canary()", "not canary()", "x == canary()", "x, key=canary()",
    "await canary()", "(yield canary())", "b'canary()'", "...", "!canary()", "$(canary())",
    "1 .__class__(canary())", "x__class__[canary()]", "0xcanary()", "1e5canary()",
    "\uff43\uff41\uff4e\uff41\uff52\uff59()",  # full width: Python reads these as canary()
    "\U0001d41canary()", "\u1d9canary()", "can\u00adary()", "canary\u200b()", "c\u0430nary()",
    "canary\uff08\uff09", "x\u2028canary()", "\u00a0canary()", "canary()\x00", "x\rcanary()",
    "\x0ccanary()", "\u2215canary()", "\u037ecanary()",
)  # fmt: skip
CARRIERS = (
    "@", "I(x)[@]", "I(x)[0][@]", "I(@)", "I(x + @)", "I(x)@", "I(x).@", "I(x)[0].@", "C(diet)[@]",
    "C(diet)[T.@]", "C(@)", "C(x)[@]", "log(x)@", "log(@)[1]", "exp(x)(@)", "exp(x)[0](@)",
    "poly(x, @)", "poly(x, 2)[@]", "poly(x, 2)[1][@]", "poly(x, degree=@)", "scale(x)[@:]",
    "center(x)[@]:x", "sqrt(x)[(@)]", "log10(x)[{@}]", "x:@", "@:x", "diet[T.fed]:I(x)[@]",
    "diet[@]", "diet[T.@]", "diet[T.fed][@]", "diet[T.fed].@", "@(x)", "x[@]", "(x)[@]", "(x)(@)",
    "x ** @", "I(x ** @)", "I(x ** (@))", "I(x ** number)[@]", "x end @", "I(x) end @",
    "I(x) end [@]", "`@`", "{@}", "{x}[@]", "I({@})", "I(x){@}", "Q('@')", "I(x)['@']",
    "C(diet, contr.@)", "C(diet, Treatment(@))", "offset(@)", "bs(x, df=@)", "x + @", "@ + x",
    "0 + @", "(x + @) ** 2", "Intercept[@]", "Intercept:I(x)[@]", "1[@]", "(1)[@]", "x %in% @",
    "I(I(x)[@])", "I((x)[@])", "log(x)[@](x)", "I(x)[\n@]", "I(x)[@]\n", "I (x) [@]", "I(x)[@]]",
)  # fmt: skip
HARMLESS = (
    "x", "w", "I(x ** 2)", "I(x**-1)", "I((x + w)*2)", "poly(x, 2)[1]", "poly(w,3)[3]:x", "log(w)",
    "C(diet)[T.fed]", "C(diet)[fed]", "diet[T.fed]:log(w)", "x:w", "diet", "diet * w", "C(diet)",
    "poly(x, 2)", "I(x)[0]", "scale(x)", "center(x - w)", "(x + w) ** 2", "C(x)", "C(x, 2)",
    "Intercept", "exp(x)/w", "I(diet)[T.fed]", "scale(poly(x, 2))[0]", "I(+x)", "log(I(x))[1]",
)  # fmt: skip


def expression(random):
    """A text that would run if it were evaluated, or, one in ten, a harmless one."""
    if random.random() < 0.1:
        return random.choice(HARMLESS)
    text = random.choice(PAYLOADS)
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3))):
        text = random.choice(CARRIERS).replace("@", text)
    if random.random() < 0.2:
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(" \t\n()[]{}`'\"\\:,.+*|~_#@%\u200b") + text[at:]
    return text


class Watch:
    """Notes everything that is evaluated, and what the formula library gets."""

    def __init__(self):
        self.is_armed = False
        self.found = []

    def canary(self, *_arguments, **_options):
        self.found.append("the canary was called")
        return 1.0

    def hook(self, event, arguments):
        if not self.is_armed:
            return
        if event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"):
            self.found.append(f"{event}{arguments}")
        if event == "compile" and "canary" in unicodedata.normalize("NFKC", str(arguments[0])):
            self.found.append(f"compiled: {arguments[0]!r}")

    def formula(self, text):
        """In the place of the formula library's class."""
        names = re.findall(r"[A-Za-z_]\w*(?![\w.]*\()", text)
        known = {"diet", "x", "w", "animal"}
        called = set(re.findall(r"(\w+)\(", text))
        signs = r"(?:[A-Za-z_]\w*|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\*\*|[-+*/:^(), ])*"
        is_strict = re.fullmatch(signs, text, re.ASCII) and "__" not in text
        if not is_strict or not set(names) <= known or not called <= {*FORMULA_FUNCTIONS}:
            self.found.append(f"the formula library got {text!r}")
        return FORMULA(text)

    @contextlib.contextmanager
    def armed(self, *what):
        self.is_armed = True
        try:
            yield
        finally:
            self.is_armed = False
        assert not self.found, (*what, self.found)


FORMULA = formulaic.Formula
WATCH = Watch()
sys.addaudithook(WATCH.hook)  # stays until the process ends, and looks away unless armed


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(formulaic, "Formula", WATCH.formula)
    monkeypatch.setattr(builtins, "canary", WATCH.canary, raising=False)
    WATCH.found.clear()
    return WATCH


def with_text(value, text):
    """A part of a scenario with the text in the place of every @."""
    if isinstance(value, dict):
        return {with_text(key, text): with_text(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [with_text(one, text) for one in value]
    return value.replace("@", text) if isinstance(value, str) else value


def merged(raw, change):
    """The tables of two scenarios in one; None removes a key."""
    if not isinstance(raw, dict) or not isinstance(change, dict):
        return change
    both = raw | {key: merged(raw.get(key), one) for key, one in change.items()}
    return {key: one for key, one in both.items() if one is not None}


def prepare(scenario):
    """Build all columns that a run of the scenario builds, and the calls of R."""
    for condition in conditions(scenario):
        frame = ModelFrame(prepare_simulator(condition, scenario.seed).design.frame)
        for spec in scenario.methods:
            columns = model_columns(spec.parsed, frame, spec.structure)
            if spec.residual is not None:
                residual_columns(residual_model(spec.residual), columns)
            with contextlib.suppress(McsimError):
                assert "canary" not in r_call(columns, "lme4") + r_call(columns, "nlme")


def offer_in_a_scenario(place, text):
    raw = merged(tomllib.loads(BASE), with_text(PLACES[place], text))
    if not find_problems(raw):
        prepare(Scenario.model_validate(raw))


def offer_as_option(key, text):
    prepare(load_scenario("base.toml", overrides=[with_text(key, text)]))


def offer_in_a_folder(_, text):
    """As report and `verify --repair` read the scenario of a results folder."""
    key = text.replace("\\", "\\\\").replace('"', '\\"')
    Path("scenario.toml").write_text(BASE.replace("{ Intercept = 1.0,", f'{{ "{key}" = 1,'))
    prepare(load_scenario("scenario.toml"))


def offer_as_column(_, text):
    column(FRAME, text)


def offer_to_the_library(_, text):
    ModelFrame(FRAME).matrix(text)


WAYS = [
    *((offer_in_a_scenario, place) for place in PLACES),
    *((offer_as_option, key) for key in ("truth.fixed.@=1", 'truth.fixed."@"=1', "@=1")),
    (offer_as_option, "methods.m.formula=y ~ @ + (1 | animal)"),
    (offer_as_option, 'truth.random.animal.sd={ "@" = 1 }'),
    (offer_in_a_folder, None),
    (lambda _, text: fit_file(Path("data.csv"), f"y ~ {text} + (1 | animal)"), "fit"),
    (lambda _, text: fit_file(Path("data.csv"), f"y ~ x + ({text} | animal)"), "fit"),
    (lambda _, text: starter_from_data(Path("data.csv"), f"y ~ {text} + (x | animal)", "s"), "i"),
]
FRAME = pd.DataFrame(
    {
        "diet": pd.Categorical(["fasted", "fed"] * 20),
        "x": np.linspace(0.1, 1.0, 40),
        "w": np.linspace(1.0, 2.0, 40) ** 2,
        "animal": pd.Categorical([f"a{number // 5}" for number in range(40)]),
    }
)


def test_nothing_that_a_user_writes_is_evaluated(watch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.toml").write_text(BASE)
    y = np.random.default_rng(1).normal(size=len(FRAME))
    FRAME.assign(y=y).to_csv("data.csv", index=False)
    random, n_accepted = Random(SEED), 0
    for (offer, where), _ in zip(itertools.cycle(WAYS), range(N_EXPRESSIONS), strict=False):
        text = expression(random)
        directly = () if text in HARMLESS else (offer_as_column, offer_to_the_library)
        for one in (offer, *directly):
            with watch.armed(where, text), contextlib.suppress(McsimError):
                one(where, text)
                n_accepted += one is offer
    assert n_accepted > N_EXPRESSIONS / 50  # the harmless ones, of which columns were made


def test_the_canary_sings(watch):
    # the oracle of this file: an evaluation is noticed, by whichever way it comes
    for run in (lambda: eval("canary()"), lambda: watch.formula("x + I(x)[canary()]")):
        with pytest.raises(AssertionError, match="canary"), watch.armed():
            run()
        watch.found.clear()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study, whose scenario somebody changed and of which a part is gone."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "base.toml").write_text(BASE)
    done = call_mcsim("run", "base.toml", "-o", "out", "-j", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    next((folder / "out" / "fits").iterdir()).unlink()
    return folder


@pytest.mark.parametrize("key", ["I(x)[canary()]", "C(diet)[canary()]", "poly(x, 2)[canary()]"])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "bad.toml", "--dry-run"],
        ["run", "bad.toml", "-j", 1],
        ["simulate", "bad.toml", "--replicate", 1],
        ["slurm", "bad.toml", "--array", 2],
        ["simulate", "base.toml", "--replicate", 1, "--set", 'truth.fixed."@"=1'],
        ["simulate", "base.toml", "--replicate", 1, "--set", 'truth.random.animal.sd={"@"=1}'],
        ["run", "base.toml", "--dry-run", "--set", 'sweep."truth.fixed.@"=[1,2]'],
        ["fit", "data.csv", "--formula", "y ~ @ + (1 | animal)"],
        ["init", "new", "--from-data", "data.csv", "--formula", "y ~ @ + (1 | animal)"],
        ["verify", "out", "--repair"],
    ],
    ids=lambda command: " ".join(map(str, command[:2])),
)
def test_no_command_evaluates_the_name_of_a_column(watch, finished, tmp_path, command, key):
    change_scenario(finished, tmp_path, key)
    with watch.armed(command, key):
        done = call_mcsim(*(str(one).replace("@", key) for one in command), cwd=tmp_path)
    if command[0] != "verify":  # which brings back what was run
        assert done.returncode == 2, done.stderr
        assert "canary()" in done.stderr


def change_scenario(finished, folder, key):
    """Copy the study, and give its scenario a truth for a column."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    for path in ("bad.toml", "out/scenario.toml"):
        (folder / path).write_text(BASE.replace("fixed = {", f'fixed = {{ "{key}" = 1,'))
    FRAME.assign(y=FRAME["x"]).to_csv(folder / "data.csv", index=False)


def test_a_report_does_not_evaluate_the_name_of_a_column(watch, finished, tmp_path):
    change_scenario(finished, tmp_path, "I(x)[canary()]")
    with watch.armed():
        done = call_mcsim("report", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "This version of mcsim cannot read the scenario" in page


def test_a_level_may_look_like_code_and_is_only_a_label(watch, tmp_path):
    text = BASE.replace('"fed"', '"canary() + 1"').replace("x = -1.0", '"diet[T.canary() + 1]" = 1')
    (tmp_path / "level.toml").write_text(text)
    with watch.armed():
        scenario = load_scenario(tmp_path / "level.toml")
        prepare(scenario)
    assert "canary() + 1" in dump_scenario(scenario)
