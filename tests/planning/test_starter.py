"""Scenarios to start from."""

import tomllib

import numpy as np
import pandas as pd
import pytest

from mcsim.errors import DataError
from mcsim.planning import KINDS
from mcsim.planning.starter import starter, starter_from_data
from mcsim.scenario.load import load_scenario
from mcsim.study.run import replicate_data
from tests.conftest import call_mcsim, run_mcsim

FORMULA = "y ~ diet * x + (x | animal) + (1 | animal:image)"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid_at_once_and_explains_itself(kind, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(starter(kind, "study"))
    assert load_scenario(path).replicates == 1000
    comments = [line for line in path.read_text().splitlines() if "#" in line]
    assert len(comments) > 8
    assert "mcsim run study.toml" in path.read_text()


def test_the_command_writes_a_scenario_that_runs_and_never_over_another(tmp_path):
    assert run_mcsim("init", "mine", "--kind", "two-level", cwd=tmp_path).returncode == 0
    done = run_mcsim("run", "mine.toml", "-n", 20, "-j", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "subject.icc" in done.stdout
    again = run_mcsim("init", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert "mine.toml is there already" in again.stderr
    alone = run_mcsim("init", "other", "--formula", "y ~ x", cwd=tmp_path)
    assert (alone.returncode, (tmp_path / "other.toml").exists()) == (2, False)


def test_a_scenario_from_data_has_their_design_and_their_fit(small_scenario, tmp_path):
    replicate_data(load_scenario(small_scenario), 1, None).to_csv(tmp_path / "p.csv", index=False)
    raw = tomllib.loads(starter_from_data(tmp_path / "p.csv", FORMULA, "p"))
    design, truth = raw["design"], raw["truth"]
    assert design["factors"] == {"diet": ["fasted", "fed"]}
    assert [level["count"] for level in design["levels"]] == [{"fasted": 4, "fed": 5}, 4]
    assert (design["observations"]["count"], design["covariates"]["x"]["grid"]) == (5, [0.0, 1.0])
    # 9 animals: within four standard errors of the truth that made the data
    assert truth["fixed"]["x"] == pytest.approx(-1.0, abs=1.0)
    assert truth["sigma"] == pytest.approx(0.5, abs=0.15)
    assert set(truth["random"]) == {"animal", "image"}
    (tmp_path / "again.toml").write_text(starter_from_data(tmp_path / "p.csv", FORMULA, "p"))
    frame = replicate_data(load_scenario(tmp_path / "again.toml"), 1, None)
    assert len(frame) == 9 * 4 * 5


def test_a_fit_on_the_boundary_is_said_to_be_no_truth_to_believe_in(tmp_path):
    x = np.tile([0.0, 0.5, 1.0], 6)
    frame = pd.DataFrame({"y": x + np.tile([0.1, -0.2, 0.1], 6), "x": x})
    frame["animal"] = np.repeat([*"abcdef"], 3)
    said = []
    for y, n in ((frame["y"], 1), (frame["y"] + np.repeat(np.arange(6.0), 3), 0)):
        frame.assign(y=y).to_csv(tmp_path / "p.csv", index=False)
        said.clear()
        starter_from_data(tmp_path / "p.csv", "y ~ x + (1 | animal)", "p", said.append)
        assert sum("on the boundary" in one for one in said) == n


def test_unequal_units_and_covariates_are_drawn(tmp_path):
    generator = np.random.default_rng(5)
    animal = np.repeat(np.arange(12), generator.integers(3, 9, 12))
    x = generator.uniform(2, 7, len(animal))
    y = generator.normal(0, 1, 12)[animal] + x + generator.normal(0, 1, len(x))
    pd.DataFrame({"animal": animal, "x": x, "y": y}).to_csv(tmp_path / "p.csv", index=False)
    design = tomllib.loads(starter_from_data(tmp_path / "p.csv", "y ~ x + (1 | animal)", "p"))[
        "design"
    ]
    counts = np.bincount(animal)
    expected = {"uniform": [int(counts.min()), int(counts.max())]}
    assert design["observations"]["count"] == expected
    assert design["levels"][0]["count"] == 12
    low, high = design["covariates"]["x"]["uniform"]
    assert (low, high) == pytest.approx((x.min(), x.max()), rel=1e-3)


def test_data_that_no_scenario_can_describe_are_refused(tmp_path):
    frame = pd.DataFrame(
        {"animal": np.repeat(range(5), 4), "arm": ["a", "b"] * 10, "y": np.arange(20.0) % 7}
    )
    frame.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match="'arm' varies within 'animal'"):
        starter_from_data(tmp_path / "p.csv", "y ~ arm + (1 | animal)", "p")


@pytest.fixture
def dogs(tmp_path):
    """Sides of dogs, whose labels repeat, and a dose in numbers."""
    i = np.arange(48)
    frame = pd.DataFrame({"day": i % 4, "side": i // 4 % 2, "dog": i // 8, "dose": i // 24 * 10})
    frame["y"] = 3 * np.sin(7 * frame["dog"]) + np.cos(i // 4 * 5) + np.sin(i**2)
    frame.to_csv(tmp_path / "dogs.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("random", ["(1 | dog) + (1 | side:dog)", "(1 | dog/side)"])
def test_every_spelling_of_a_level_makes_the_same_scenario_that_runs(dogs, random):
    formula = f"y ~ day +\n  C(dose) + {random}"
    done = call_mcsim("init", "s", "--from-data", "dogs.csv", "--formula", formula, cwd=dogs)
    assert done.returncode == 0, done.stderr
    raw = tomllib.loads((dogs / "s.toml").read_text())
    assert [level["name"] for level in raw["design"]["levels"]] == ["dog", "side"]
    assert raw["design"]["factors"] == {"dose": ["0", "10"]}
    assert raw["truth"]["random"].keys() == {"dog", "side"}
    assert "C(dose)[T.10]" in raw["truth"]["fixed"]
    done = call_mcsim("run", "s.toml", "-n", 2, "-j", 1, "--max-failures", 1, cwd=dogs)
    assert done.returncode == 0, done.stderr


def test_levels_by_labels_of_their_own_are_in_the_design(dogs):
    frame = pd.read_csv(dogs / "dogs.csv")
    frame.assign(side=frame["dog"] * 2 + frame["side"]).to_csv(dogs / "own.csv", index=False)
    formula = "y ~ 0 + (1 | side) + (1 | dog)"
    design = tomllib.loads(starter_from_data(dogs / "own.csv", formula, "s"))["design"]
    assert [(one["name"], one["count"]) for one in design["levels"]] == [("dog", 6), ("side", 2)]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ day", "has no random term, so no units to simulate"),
        ("y ~ C(day) + day + (1 | dog)", "'day' is a factor in C\\(\\) and a covariate elsewhere"),
        ("y ~ C(day) + (1 | dog)", "'day' varies within 'dog'"),
    ],
)
def test_formulas_that_no_scenario_is_made_of_are_refused(dogs, formula, message):
    with pytest.raises(DataError, match=message):
        starter_from_data(dogs / "dogs.csv", formula, "s")


def test_names_of_data_files_do_not_end_a_comment(dogs):
    (dogs / "a\nb.csv").write_bytes((dogs / "dogs.csv").read_bytes())
    text = starter_from_data(dogs / "a\nb.csv", "y ~ day + (1 | dog)", "s")
    assert tomllib.loads(text)["title"] == "Design and fit of a?b.csv"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' cannot name a scenario"),
        ("a\nb", "cannot name a scenario"),
        ("x" * 300, "name too long"),
    ],
)
def test_names_that_no_file_can_have_are_refused(tmp_path, name, message):
    done = call_mcsim("init", name, cwd=tmp_path)
    assert (done.returncode, message in done.stderr, list(tmp_path.iterdir())) == (2, True, [])


def test_a_name_keeps_its_dots(tmp_path):
    for name in ("study.v2", "other.toml"):
        assert call_mcsim("init", name, cwd=tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"study.v2.toml", "other.toml"}
