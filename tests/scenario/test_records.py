"""Records of a scenario, their schema, and the configs that must fit both."""

import json
import math
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcsim.scenario.checks import find_problems
from mcsim.scenario.conditions import conditions, study_identity
from mcsim.scenario.design import cells_of
from mcsim.scenario.keys import canonical, plain_copy, put_value
from mcsim.scenario.records import Scenario, scenario_schema
from mcsim.scenario.truth import RandomSpec
from tests.conftest import SMALL

CONFIGS = Path(__file__).parents[2] / "configs"
RAW = tomllib.loads(SMALL)


def changed(**values):
    """The small scenario with other values at dotted keys, `__` for the dots."""
    raw = plain_copy(RAW)
    for key, value in values.items():
        put_value(raw, key.replace("__", "."), value)
    return raw


def test_a_scenario_is_its_parts_with_every_default():
    scenario = Scenario.model_validate(RAW)
    assert (scenario.confidence, scenario.design.response, scenario.sweep) == (0.95, "y", {})
    assert scenario.methods[0].df == ("containment", "z")
    assert (scenario.methods[1].df, scenario.methods[1].estimator) == (("containment",), "reml")
    assert scenario.design.level_names == ("animal", "image")
    assert cells_of(scenario.design.factors_down_to("image")) == ("fasted", "fed")
    assert scenario.methods[1].parsed.random[1].group == ("animal", "image")


def test_a_record_cannot_be_changed():
    scenario = Scenario.model_validate(RAW)
    with pytest.raises(ValidationError):
        scenario.seed = 8


def test_spreads_come_as_sd_or_variance_and_correlations_as_number_or_table():
    number = RandomSpec.model_validate({"sd": {"Intercept": 2, "x": 3}, "correlation": 0.3})
    assert number.standard_deviations == {"Intercept": 2.0, "x": 3.0}
    assert number.correlation_of("x", "Intercept") == 0.3
    table = RandomSpec.model_validate(
        {
            "variance": {"Intercept": 0.25, "x": 2, "poly(x, 2)[2]": 1},
            "correlation": {"poly(x, 2)[2], Intercept": -0.5},
        }
    )
    assert table.columns == ("Intercept", "x", "poly(x, 2)[2]")
    assert table.standard_deviations == {
        "Intercept": 0.5, "x": math.sqrt(2), "poly(x, 2)[2]": 1.0
    }  # fmt: skip
    assert table.correlation_of("Intercept", "poly(x, 2)[2]") == -0.5
    assert table.correlation_of("Intercept", "x") == 0.0
    assert table.correlation_of("x", "x") == 1.0


def test_the_committed_schema_is_that_of_the_records():
    # to renew it, write json.dumps(scenario_schema(), indent=2) and a line break to the file
    text = (CONFIGS / "scenario.schema.json").read_text()
    assert text == json.dumps(scenario_schema(), indent=2) + "\n"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_is_sound_and_fits_the_schema(path):
    text = path.read_text()
    raw = tomllib.loads(text)
    assert text.startswith("#:schema ./scenario.schema.json\n")
    assert find_problems(raw) == []
    jsonschema.Draft202012Validator(scenario_schema()).validate(raw)


def test_the_schema_knows_the_other_ways_to_write_a_count_and_refuses_unknown_keys():
    validator = jsonschema.Draft202012Validator(scenario_schema())
    raw = changed(design__levels__image__count={"uniform": [2, 3]}, methods__diagonal__df="z")
    assert validator.is_valid(raw)
    assert not validator.is_valid(raw | {"replicats": 3})
    assert not validator.is_valid(raw | {"methods": []})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "count", "uniform", "sd", "x", ""]), inner)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "replicates", "seed", "confidence", "title", "design", "truth", "methods", "sweep",
        "design.factors", "design.factors.diet", "design.factors.stain.levels",
        "design.factors.stain.of", "design.covariates.x.starts.level", "design.table",
        "design.copies", "design.copies.animal",
        "design.levels", "design.levels.0",
        "design.levels.0.count", "design.levels.1.count", "design.levels.1.name",
        "design.observations", "design.observations.count", "design.covariates",
        "design.covariates.x", "design.covariates.x.values", "design.covariates.x.level",
        "truth.fixed", "truth.fixed.x", "truth.random", "truth.random.animal",
        "truth.random.animal.sd", "truth.random.animal.correlation", "truth.residual",
        "truth.residual.correlation", "truth.residual.phi", "truth.residual.rho",
        "truth.residual.along", "truth.residual.sd_by", "truth.residual.sd_by.diet",
        "truth.residual.distribution", "truth.residual.distribution.t",
        "truth.residual.distribution.mixture", "truth.random.animal.distribution",
        "truth.missing", "truth.missing.observations", "truth.missing.units",
        "truth.missing.units.animal", "truth.missing.dropout", "truth.missing.dropout.level",
        "truth.missing.dropout.along", "design.redraw",
        "truth.residual.power", "truth.residual.power.of", "methods.0",
        "methods.0.name", "methods.0.formula", "methods.1.df", "sweep.key",
    ]
)  # fmt: skip


@given(KEYS, JSON)
def test_no_value_anywhere_ends_in_anything_but_plain_sentences(key, value):
    raw = plain_copy(RAW)
    put_value(raw, key, value)
    problems = find_problems(raw)
    marks = (
        "Input should",
        "pydantic",
        "<number>",
        "<range>",
        "<table>",
        "<name>",
        "<levels>",
        "<factor>",
    )
    assert not any(mark in message for _, message in problems for mark in marks)
    if not problems:
        assert conditions(Scenario.model_validate(raw))


def test_a_key_may_be_swept_over_tables():
    residuals = [{"correlation": "ar1", "phi": 0.4}, {"sd_by": {"diet": {"fed": 2.0}}}]
    scenario = Scenario.model_validate(RAW | {"sweep": {"truth.residual": residuals}})
    assert study_identity(scenario)["sweep.truth.residual"] == canonical(residuals)
