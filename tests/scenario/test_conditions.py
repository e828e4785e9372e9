"""Conditions of a sweep, and the identities of conditions and of a study."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.scenario.checks import find_problems
from mcsim.scenario.conditions import conditions, study_identity
from mcsim.scenario.keys import plain_copy, put_value
from mcsim.scenario.records import Scenario
from tests.conftest import SMALL

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


def test_without_a_sweep_there_is_one_condition():
    (only,) = conditions(Scenario.model_validate(RAW))
    assert (only.label, only.values) == ("all", {})
    assert only.truth == Scenario.model_validate(RAW).truth.in_sds()


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
