"""What of a scenario can be read: all of a sound one, and all but the faults of another."""

import tomllib
from pathlib import Path

import pytest

from mcsim.scenario.checks.draft import numbered, read_condition, read_scenario
from mcsim.scenario.keys import plain_copy, put_value
from mcsim.scenario.records import Scenario
from tests.conftest import SMALL

RAW = tomllib.loads(SMALL)
CONFIGS = Path(__file__).parents[3] / "configs"


def changed(values):
    raw = plain_copy(RAW)
    for key, value in values.items():
        put_value(raw, key, value)
    return raw


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_of_a_sound_scenario_all_can_be_read(path):
    raw = tomllib.loads(path.read_text())
    draft = read_scenario(raw)
    assert draft.scenario == Scenario.model_validate(raw)
    assert draft.names is draft.scenario.design
    assert not draft.faulty
    assert not draft.findings


def test_faulty_and_missing_values_are_none_and_all_others_are_read():
    raw = changed(
        {
            "truth.sigma": -1, "truth.random.animal.sd.x": "much", "truth.sgima": 1,
            "design.levels.image.count": {"uniform": [3, 1]}, "methods.diagonal.df": "zed",
        }
    )  # fmt: skip
    del raw["design"]["observations"], raw["methods"][0]["name"]
    draft = read_scenario(raw)
    design, truth, methods = draft.scenario.design, draft.scenario.truth, draft.scenario.methods
    assert (truth.sigma, design.observations) == (None, None)
    assert truth.random["animal"].sd == {"Intercept": 0.6, "x": None}
    assert truth.random["image"].variance == {"Intercept": 0.25}
    assert design.levels[1].count.uniform is None
    assert [method.name for method in methods] == [None, "diagonal"]
    assert methods[0].df == ("containment", "z")
    assert draft.names.level_names == ("animal", "image")
    assert len(draft.findings) == 7


def test_what_is_faulty_is_known_with_the_tables_around_it():
    draft = read_scenario(changed({"truth.random.animal.sd.x": -1}))
    path = ("truth", "random", "animal", "sd", "x")
    assert draft.faulty == {path[:depth] for depth in range(6)}


def test_what_is_no_table_at_all_is_none():
    draft = read_scenario(changed({"design": 3, "methods": [3, RAW["methods"][0]]}))
    assert (draft.scenario.design, draft.names) == (None, None)
    assert list(numbered(draft.scenario.methods)) == [1]
    assert numbered(None) == {}


def test_one_faulty_name_of_the_design_hides_all_of_them():
    assert read_scenario(changed({"design.factors.diet": ["fed"]})).names is None
    assert read_scenario(changed({"design.levels.image.name": "sigma"})).names is None
    assert read_scenario(changed({"design.covariates.x": 3})).names is not None


def test_a_faulty_key_hides_no_table_beside_it():
    draft = read_scenario(changed({"design.covariates. z": {"grid": [0, 1]}}))
    assert draft.scenario.design.covariates["x"].grid == (0, 1)
    assert (draft.names, len(draft.findings)) == (None, 1)


def test_of_a_condition_design_and_truth_alone_are_read_again():
    before = read_scenario(changed({"seed": "x", "truth.sigma": -1}))
    draft = read_condition(changed({"seed": "y", "truth.sigma": 2}), before)
    assert (draft.scenario.truth.sigma, draft.findings) == (2.0, ())
    assert draft.scenario.methods is before.scenario.methods
