"""Scenario files: every mistake with its place, YAML as TOML, and options."""

import math
import tomllib
from pathlib import Path

import pytest
import yaml

from mcsim.errors import ScenarioError
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.yaml_core import CoreLoader
from tests.conftest import SMALL

CONFIGS = Path(__file__).parents[2] / "configs"
TOO_MANY_ALIASES = (
    "the aliases (*name) of this file repeat too much: at most 10,000 entries may be repeated so;"
    " write the tables out"
)
# each line is ten of the line before: 10 ** 9 entries in all
MULTIPLYING = "a0: &a0 [lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGING = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)
BROKEN = [
    path for path in (Path(__file__).parents[1] / "broken").iterdir() if path.suffix != ".txt"
]


def message_of(path, **options):
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path, **options)
    return str(caught.value)


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="s.toml"):
        data = text if isinstance(text, bytes) else text.encode()
        Path(name).write_bytes(data)
        return name

    return write


@pytest.mark.parametrize("path", sorted(BROKEN), ids=lambda path: path.stem)
def test_a_broken_scenario_is_answered_by_its_message(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert message_of(path.name) + "\n" == path.with_suffix(".txt").read_text()


def test_every_config_loads():
    sweeps = {path.stem: conditions(load_scenario(path)) for path in CONFIGS.glob("*.toml")}
    assert [condition.label for condition in sweeps["animals"]] == [
        f"animal.count={count}" for count in (4, 10, 25, 250)
    ]
    # the middle condition is the scenario without a sweep: the same data
    assert sweeps["animals"][2].identity == sweeps["stain_profile"][0].identity


def test_yaml_is_toml_in_other_clothes(write):
    expected = load_scenario(write(SMALL))
    raw = tomllib.loads(SMALL)
    assert load_scenario(write(yaml.safe_dump(raw), "s.yaml")) == expected
    assert load_scenario(write(yaml.safe_dump(raw, default_flow_style=True), "s.yml")) == expected


def test_yaml_aliases_merges_and_exponents(write):
    text = yaml.safe_dump(tomllib.loads(SMALL)).replace("sigma: 0.5", "sigma: 5e-1")
    start = text.index("  covariates:")
    text = text[:start] + "  covariates:\n    x: &x {grid: [0, 1]}\n    z: *x\n" + text[
        text.index("  factors:") :
    ]  # fmt: skip
    scenario = load_scenario(write(text, "s.yaml"), overrides=["design.covariates.z.grid=[0, 2]"])
    assert scenario.truth.sigma == 0.5
    assert scenario.design.covariates["x"].grid == (0, 1)
    assert scenario.design.covariates["z"].grid == (0, 2)


def test_line_ends_and_marks_of_windows_do_no_harm(write):
    expected = load_scenario(write(SMALL))
    path = write(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_scenario(path) == expected
    broken = write(SMALL.replace("replicates = 60", "replicates = 0").replace("\n", "\r\n"))
    assert message_of(broken).startswith("s.toml:3:1: replicates is 0;")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("truth.sigma=0.25", lambda s: s.truth.sigma == 0.25),
        ("title=Two words", lambda s: s.title == "Two words"),
        ("title='quoted'", lambda s: s.title == "quoted"),
        ("title=1 = 2", lambda s: s.title == "1 = 2"),
        ("title=1\nseed = 3", lambda s: (s.title, s.seed) == ("1\nseed = 3", 7)),
        ("truth.fixed.diet[T.fed]=2", lambda s: s.truth.fixed["diet[T.fed]"] == 2),
        ('truth.fixed."diet[T.fed]" = 2', lambda s: s.truth.fixed["diet[T.fed]"] == 2),
        ("design.levels.animal.count=6", lambda s: s.design.levels[0].count == 6),
        ("design.levels.1.count={ uniform = [2, 3] }",
         lambda s: s.design.levels[1].count.uniform == (2, 3)),
        ("methods.diagonal.df=z", lambda s: s.methods[1].df == ("z",)),
        ('sweep."truth.sigma"=[1, 2]', lambda s: len(conditions(s)) == 2),
        ("confidence=0.9", lambda s: s.confidence == 0.9),
    ],
)  # fmt: skip
def test_an_option_changes_one_value(write, override, expected):
    assert expected(load_scenario(write(SMALL), overrides=[override]))


def test_the_last_option_counts_and_numbers_have_their_own(write):
    options = ["truth.sigma=1", "truth.sigma=2", "replicates=3", "seed=4"]
    scenario = load_scenario(write(SMALL), overrides=options, replicates=5, seed=6)
    assert (scenario.truth.sigma, scenario.replicates, scenario.seed) == (2, 5, 6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("truth.sigma=-1", "--set truth.sigma: truth.sigma is -1; it must be a number above 0"),
        ("truth.sgima=1", "--set truth.sgima: unknown key 'sgima'. Allowed here: "
         "dispersion, family, fixed, icc, link, missing, random, residual, sigma, total_sd, "
         "total_variance, trials, zero_inflation. Did you mean 'sigma'?"),
        ("desing.response=w", "--set desing.response: unknown key 'desing'. Allowed here: "
         "confidence, design, estimands, methods, plan, replicates, report, seed, sweep, "
         "target_mcse, title, truth. Did you mean 'design'?"),
        ("design.levels.imgae.count=3", "--set design.levels.imgae.count: the key leads nowhere "
         "at 'imgae'. There are: animal, image. Did you mean 'image'?"),
        ("seed.x=1", "--set seed.x: the key leads nowhere at 'x'. Nothing lies below it."),
        ("truth.sigma", "--set truth.sigma: write --set KEY=VALUE, such as --set truth.sigma=0.1"),
        ("seed=many", "--set seed: seed is 'many'; it must be a whole number of at least 0"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named_instead_of_a_line(write, override, message):
    assert message_of(write(SMALL), overrides=[override]) == message


def test_options_and_file_are_reported_together(write):
    path = write(SMALL.replace("sigma = 0.5", "sigma = 0"))
    found = message_of(path, overrides=["seed=-1", "a"], replicates=0)
    assert found.splitlines() == [
        "--set a: write --set KEY=VALUE, such as --set truth.sigma=0.1",
        "--set seed: seed is -1; it must be a whole number of at least 0",
        "-n: replicates is 0; it must be a whole number of at least 1",
        "s.toml:18:1: truth.sigma is 0; it must be a number above 0",
    ]


def test_a_swept_key_cannot_be_set_to_no_effect():
    key = "design.levels.animal.count"
    found = message_of(CONFIGS / "animals.toml", overrides=[f"{key}=6"])
    assert found == (
        f"--set {key}: the sweep gives this key its values; "
        f"change them with --set 'sweep.\"{key}\"=[...]'"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.json", "{}", "s.json: a scenario ends in .toml, .yaml, .yml, not in '.json'"),
        ("s.toml", b"title = '\xff'", "s.toml: the file is not text in UTF-8; save it as UTF-8"),
        ("s.toml", "a = " + "[" * 5000, "s.toml: tables and lists lie too deep within each other"),
        ("s.yaml", "a: &a [*a]", f"s.yaml: {TOO_MANY_ALIASES}"),
        ("s.yaml", MULTIPLYING, f"s.yaml: {TOO_MANY_ALIASES}"),
        ("s.yaml", MERGING, f"s.yaml: {TOO_MANY_ALIASES}"),
        ("s.yaml", "a: !!int x", "s.yaml:1:4: this is not YAML: 'x' cannot be read as int"),
        ("s.yaml", "- 1", "s.yaml: the file holds no keys; `mcsim init` writes one to start from"),
    ],
)
def test_a_file_that_is_no_scenario(write, name, content, message):
    assert message_of(write(content, name)) == message


def test_a_missing_file_names_its_neighbour(write):
    write(SMALL, "stain.toml")
    assert message_of("stian.toml") == (
        "stian.toml: there is no such file. Did you mean 'stain.toml'?"
    )
    Path("folder.toml").mkdir()
    assert message_of("folder.toml") == "folder.toml: the file cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("title = Small", "no value; numbers are written 0.5, text stands in quotes"),
        ("seed =", "no value"),
        ("sigma = 0,5", "0.5 and not 0,5"),
        ("confidence = 95%", "a share and not a percentage"),
        ("diet[T.fed] = 0.5", "stands in quotes"),
        ("sigma: 0.5", "a key without = and a value"),
        ("sd = { Intercept = 0.6,\n x = 0.4 }", "a table in braces stays in one line"),
        ("[truth.fixed", "a table's name without its ]"),
        ("grid = [0.0, 1.0", "a list that begins with [ has no ]"),
        ('title = "Small', "text that begins with a quote has no end"),
        ("title = 'Small", "text that begins with a quote has no end"),
        ("just words", "a key without = and a value"),
    ],
)
def test_what_is_no_toml_is_said_in_plain_words(tmp_path, line, words):
    (tmp_path / "a.toml").write_text(f"replicates = 3\n{line}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(tmp_path / "a.toml")
    assert words in str(caught.value)


LARGE = "a data set has up to {} rows; at most 2,000,000: lower the counts"
SIZE = "it must be of a size between 1e-50 and 1e+50, or 0"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("design.levels.image.count=1000000000", LARGE.format("45,000,000,000")),
        ("design.levels.animal.count={ fasted = 1e20, fed = 1 }", LARGE.format("2.0e+21")),
        ("design.observations.count={ uniform = [1, 50000000000] }",
         LARGE.format("1,800,000,000,000")),
        ("design.factors.diet=[" + ",".join(f"'{i}'" for i in range(501)) + "]",
         "at most 500 cells may have counts of their own; write one number"),
        ("truth.sigma=1e200", f"truth.sigma is 1e+200; {SIZE}"),
        ("truth.random.animal.sd.x=1e200", f"truth.random.animal.sd.x is 1e+200; {SIZE}"),
        ("truth.sigma=1e-200", f"truth.sigma is 1e-200; {SIZE}"),
        ("design.covariates.x.grid=[0, 1e99]", f"design.covariates.x.grid is [0, 1e+99]; {SIZE}"),
        ("truth.sigma=inf", "truth.sigma is inf; it must be a number above 0"),
        ("replicates=3000000000", "replicates is 3000000000; it must be at most 10,000,000"),
        ("methods.right.resamples=1e6", "resamples is 1000000.0; it must be at most 100,000"),
        ("seed=" + "9" * 5000, "it must be a whole number of at least 0"),
        ("seed=0x" + "f" * 5000, f"seed is 0x{'f' * 55}...; {SIZE}"),
        ("truth.sigma=" + "[" * 5000, "it must be a number above 0"),
        ("estimands=0.5", "estimands is 0.5; it must be a list of tables, each under double"),
        ("estimands.0.name=1", "it must be a list of tables, each under double brackets"),
        ("sweep=5", "sweep is 5; it must be a table"),
        ("sweep={'design.levels.animal.count'=[4, 1000000000]}",
         f"with design.levels.animal.count = 1000000000: {LARGE.format('40,000,000,000')}"),
        ("sweep={'design.levels'=[[{count=3}]]}", "missing key 'name' in design.levels.0"),
    ],
)  # fmt: skip
def test_what_is_too_large_is_told_before_anything_is_built(write, override, message):
    found = message_of(write(SMALL), overrides=[override])
    assert message in found
    if "cells" not in message:
        assert found.startswith(f"--set {override.partition('=')[0]}: ")


def test_an_option_after_a_faulty_sweep_is_read(write):
    found = message_of(write(SMALL), overrides=["sweep=5", "truth.sigma=0"])
    assert found.splitlines() == [
        "--set sweep: sweep is 5; it must be a table",
        "--set truth.sigma: truth.sigma is 0; it must be a number above 0",
    ]


def test_a_whole_number_of_thousands_of_digits_is_refused(write):
    path = write(SMALL.replace("seed = 7", "seed = " + "9" * 5000))
    assert message_of(path) == "s.toml: a whole number has thousands of digits"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7), ("1e3", 1000.0),
        (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("20:30", "20:30"), ("1_000", "1_000"),
        ("0b11", "0b11"), ("2024-01-01", "2024-01-01"), ("yes", "yes"), ("no", "no"), ("on", "on"),
        ("true", True), ("FALSE", False), ("~", None), ("null", None), ("", None), ("=", "="),
        ("'010'", "010"), ("!!str 010", "010"), ("!!int '12'", 12), ("!!float 3", 3.0),
    ],
)  # fmt: skip
def test_plain_values_of_yaml_are_those_of_its_core_schema(written, read):
    # the table of YAML 1.2.2, section 10.3.2
    found = yaml.load(f"a: {written}", CoreLoader)["a"]
    assert (type(found), found) == (type(read), read)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("!!bool maybe", "s.yaml:1:4: this is not YAML: 'maybe' cannot be read as bool"),
        ("!!timestamp x", "s.yaml:1:4: this is not YAML: could not determine a constructor for"),
        ("!!set {1}", "s.yaml:1:4: this is not YAML: could not determine a constructor for"),
        ("\0", "s.yaml: this is not YAML: unacceptable character #x0000"),
        ("9" * 5000, f"s.yaml:1:4: this is not YAML: '{'9' * 40}' cannot be read as int"),
    ],
)
def test_other_values_of_yaml_are_refused(write, written, message):
    assert message_of(write(f"a: {written}", "s.yaml")).startswith(message)


def test_a_table_that_stands_twice_is_said_in_plain_words(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[[methods]]\nname = 'a'\n[methods]\nname = 'b'\n")
    with pytest.raises(ScenarioError, match=r"a.toml:3:.*table \[methods\] stands twice"):
        load_scenario(path)


@pytest.mark.parametrize("weights", ["{ x = 0 }", "{}"])
def test_an_estimand_without_weights_is_refused(write, weights):
    text = f'{SMALL}[[estimands]]\nname = "a"\nfixed = {weights}\n'
    assert "no weight but 0, so nothing to estimate: write { x = 1 }" in message_of(write(text))
