"""The resolved copy of a scenario: every default, and what loads back to an equal one."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.scenario.conditions import conditions
from mcsim.scenario.keys import put_value
from mcsim.scenario.load import load_scenario
from mcsim.scenario.records import Scenario
from mcsim.scenario.write import dump_scenario
from tests.conftest import SMALL

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_resolved_copy_of_a_config_loads_back(path, tmp_path):
    scenario = load_scenario(path, overrides=["confidence=0.9"], replicates=7, seed=2**80)
    (tmp_path / "copy.toml").write_text(dump_scenario(scenario))
    copy = load_scenario(tmp_path / "copy.toml")
    assert copy == scenario
    assert [one.identity for one in conditions(copy)] == [
        one.identity for one in conditions(scenario)
    ]


def test_the_resolved_copy_shows_every_default():
    text = dump_scenario(Scenario.model_validate(tomllib.loads(SMALL)))
    for line in ("confidence = 0.95", 'response = "y"', 'estimator = "reml"', "[sweep]"):
        assert line in text.splitlines()


LEVEL = st.text(st.characters(codec="utf-8", exclude_characters=":,[]\r\n"), min_size=1)


@given(
    st.text(),
    st.floats(1e-12, 1e12),
    st.dictionaries(LEVEL, st.integers(1, 99), min_size=2, max_size=4),
)
def test_any_text_and_number_survives_the_resolved_copy(title, sigma, cells):
    raw = tomllib.loads(SMALL)
    for key, value in (("title", title), ("truth.sigma", sigma)):
        put_value(raw, key, value)
    raw["design"] |= {"factors": {"dose": list(cells)}}
    raw["design"]["levels"][0]["count"] = cells
    scenario = Scenario.model_validate(raw)
    assert Scenario.model_validate(tomllib.loads(dump_scenario(scenario))) == scenario
