"""Records, conditions and identities of a scenario, and the checks between its parts."""

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
from mcsim.scenario.keys import plain_copy, put_value
from mcsim.scenario.records import Scenario, conditions, scenario_schema, study_identity
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


def swept(sweep):
    raw = {**RAW, "sweep": sweep}
    assert find_problems(raw) == []
    return conditions(Scenario.model_validate(raw))


def identity(raw):
    return conditions(Scenario.model_validate(raw))[0].identity


def shuffled(value, draw):
    """`value` with the keys of every table in another order, the factors excepted."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


def test_a_scenario_is_its_parts_with_every_default():
    scenario = Scenario.model_validate(RAW)
    assert (scenario.confidence, scenario.design.response, scenario.sweep) == (0.95, "y", {})
    assert scenario.methods[0].df == ("containment", "z")
    assert (scenario.methods[1].df, scenario.methods[1].estimator) == (("containment",), "reml")
    assert scenario.design.level_names == ("animal", "image")
    assert scenario.design.cells == ("fasted", "fed")
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


def test_without_a_sweep_there_is_one_condition():
    (only,) = conditions(Scenario.model_validate(RAW))
    assert (only.label, only.values) == ("all", {})
    assert only.truth == Scenario.model_validate(RAW).truth


def test_every_combination_is_a_condition_in_file_order():
    found = swept({"truth.sigma": [0.5, 1], "design.levels.image.count": [4, 2]})
    assert [condition.label for condition in found] == [
        "sigma=0.5, image.count=4",
        "sigma=0.5, image.count=2",
        "sigma=1, image.count=4",
        "sigma=1, image.count=2",
    ]
    assert found[3].values == {"truth.sigma": 1, "design.levels.image.count": 2}
    assert (found[3].truth.sigma, found[3].design.levels[1].count) == (1.0, 2)


def test_keys_with_dots_tables_and_numbers_can_be_swept():
    found = swept(
        {
            "truth.fixed.diet[T.fed]": [0, 0.1],
            'truth.fixed."x"': [-1],
            "design.levels.0.count": [{"fasted": 3, "fed": 2}, {"uniform": [2, 4]}],
        }
    )
    assert found[0].label == 'fixed.diet[T.fed]=0, fixed."x"=-1, 0.count={fasted = 3, fed = 2}'
    assert found[2].truth.fixed["diet[T.fed]"] == 0.1
    assert found[1].design.levels[0].count.uniform == (2, 4)


def test_labels_keep_their_beginning_where_they_would_collide():
    raw = changed(design__levels__animal={"name": "factors", "count": 3}, truth__random={})
    raw["design"]["factors"]["count"] = ["few", "many"]
    raw["methods"] = [{"name": "fixed", "formula": "y ~ x"}]
    raw["sweep"] = {"design.levels.factors.count": [3], "design.factors.count": [["low", "high"]]}
    assert find_problems(raw) == []
    (condition,) = conditions(Scenario.model_validate(raw))
    assert condition.label == "design.levels.factors.count=3, design.factors.count=['low', 'high']"


@given(st.data())
def test_the_order_of_keys_changes_neither_identity_nor_data(data):
    raw = shuffled(RAW, data.draw)
    one, other = (conditions(Scenario.model_validate(it))[0] for it in (RAW, raw))
    assert one.identity == other.identity
    assert list(one.truth.fixed) == list(other.truth.fixed)
    assert list(one.design.covariates) == list(other.design.covariates)
    assert one.truth.random["animal"].columns == other.truth.random["animal"].columns


@given(st.permutations([1, 2, 3, 8]), st.sampled_from([float, int]))
def test_position_in_the_sweep_changes_no_identity(counts, number):
    found = swept({"design.levels.image.count": [number(count) for count in counts]})
    assert {condition.design.levels[1].count: condition.identity for condition in found} == {
        count: identity(changed(design__levels__image__count=count)) for count in counts
    }


@given(
    st.fixed_dictionaries(
        {
            "title": st.text(),
            "replicates": st.integers(1, 10**6),
            "seed": st.integers(0, 2**70),
            "confidence": st.floats(0.5, 0.99),
            "methods": st.sampled_from([RAW["methods"], RAW["methods"][:1]]),
        }
    )
)
def test_what_does_not_make_the_data_changes_no_identity(values):
    assert identity(RAW | values) == identity(RAW)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("truth__sigma", 0.6),
        ("truth__random__animal__correlation", 0.31),
        ("design__levels__image__count", 5),
        ("design__response", "w"),
        ("design__covariates__x", {"grid": [0, 2]}),
    ],
)
def test_what_makes_the_data_changes_the_identity(key, value):
    assert identity(changed(**{key: value})) != identity(RAW)


def test_the_order_of_factors_is_part_of_the_identity():
    one, other = {"a": ["x", "y"], "b": ["u", "v"]}, {"b": ["u", "v"], "a": ["x", "y"]}
    raw = changed(design__levels__animal__count=3)
    assert identity(raw | {"design": raw["design"] | {"factors": one}}) != identity(
        raw | {"design": raw["design"] | {"factors": other}}
    )


def test_a_written_default_is_the_default():
    raw = changed(truth__random__image__correlation=0.0, design__response="y")
    assert identity(raw) == identity(RAW)


def test_a_study_is_told_from_another_by_its_keys():
    one = study_identity(Scenario.model_validate(RAW))
    other = study_identity(
        Scenario.model_validate(
            changed(truth__sigma=0.6, methods__right__df="z", replicates=9, title="Other", seed=7.0)
        )
    )
    assert {key for key in one if one[key] != other[key]} == {"truth.sigma", "methods.right.df"}
    assert one["design.levels.animal.count.fed"] == 5
    assert one["design.levels.names"] == ["animal", "image"]
    assert json.loads(json.dumps(one)) == one


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
        "design.factors", "design.factors.diet", "design.levels", "design.levels.0",
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
    marks = ("Input should", "pydantic", "<number>", "<range>", "<table>", "<name>")
    assert not any(mark in message for _, message in problems for mark in marks)
    if not problems:
        assert conditions(Scenario.model_validate(raw))
