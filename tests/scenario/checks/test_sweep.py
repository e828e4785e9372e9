"""Checks of a sweep: each condition once, no more than what a swept value changes."""

import tomllib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.scenario import checks
from mcsim.scenario.checks import find_problems, sweep
from mcsim.scenario.checks.sweep import MAX_CONDITIONS
from mcsim.scenario.conditions import conditions
from mcsim.scenario.records import Scenario
from tests.conftest import SMALL

RAW = tomllib.loads(SMALL)


def swept(**values):
    """The small scenario with a sweep, `__` for the dots of its keys."""
    return RAW | {"sweep": {key.replace("__", "."): value for key, value in values.items()}}


@pytest.fixture
def calls(monkeypatch):
    """How often a scenario or a condition is read, expanded and checked."""
    found = Counter()

    def counted(function):
        def count(*given):
            found[function.__name__] += 1
            return function(*given)

        return count

    for module, names in (
        (checks, ("read_scenario",)),
        (sweep, ("read_condition", "expand_sweep", "conditions")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, counted(getattr(module, name)))
    for name in ("OF_DATA", "OF_ANALYSES"):
        wrapped = tuple(map(counted, getattr(sweep, name)))
        for module in (checks, sweep):
            monkeypatch.setattr(module, name, wrapped)
    return found


@pytest.mark.parametrize("n", [1, 30])
def test_a_sweep_is_expanded_once_and_its_methods_are_checked_once(calls, n):
    raw = swept(truth__sigma=[1 + i for i in range(n)], design__levels__image__count=[2, 3])
    assert find_problems(raw) == []
    assert calls == {
        "read_scenario": 1,
        "expand_sweep": 1,
        "read_condition": 2 * n,
        "design_problems": 1 + 2 * n,
        "truth_problems": 1 + 2 * n,
        "family_problems": 1 + 2 * n,
        "method_problems": 1,
        "estimand_problems": 1,
    }


def test_methods_are_checked_again_where_names_of_the_design_change(calls):
    raw = swept(design__covariates=[RAW["design"]["covariates"], {"z": {"grid": [0, 1]}}])
    shown = "with design.covariates = {z = {grid = [0, 1]}}: unknown"
    messages = {message for _, message in find_problems(raw)}
    assert f"{shown} variable 'x'. The design has: diet, z." in messages
    assert calls["method_problems"] == 2


def test_what_is_wrong_without_the_sweep_is_said_once(calls):
    raw = swept(truth__sigma=[1, 2]) | {"confidence": 2}
    raw["truth"] = raw["truth"] | {"fixed": {"z": 1}}
    assert [path for path, _ in find_problems(raw)] == [("confidence",), ("truth", "fixed", "z")]
    assert calls["conditions"] == 0


def test_a_sweep_may_give_what_the_file_lacks_and_what_it_misspells_is_said_once():
    raw = {key: value for key, value in swept(truth__fixed__x=[1, 2]).items() if key != "design"}
    assert [path for path, _ in find_problems(raw | {"desing": 1})] == [("desing",)]
    lacking = swept(truth__sigma=[1, 2]) | {"truth": {}}
    assert [message for _, message in find_problems(lacking)] == [
        "missing key 'sigma' in truth; add it: standard deviation of the residuals;"
        " or total_variance, or total_sd"
    ]


def test_a_condition_knows_what_is_faulty_in_the_rest_of_the_file():
    raw = swept(design__response=["w"]) | {"estimands": [{"name": "slope", "fixed": 3}]}
    assert [message for path, message in find_problems(raw) if path[0] == "sweep"] == [
        "with design.response = 'w': the response of the formula is 'y', but design.response is 'w'"
    ]


def test_more_conditions_than_anybody_means_are_not_looked_at(calls):
    raw = swept(truth__sigma=[1 + i for i in range(MAX_CONDITIONS // 2 + 1)])
    raw["sweep"]["design.levels.image.count"] = [2, 3]
    assert find_problems(raw) == [(("sweep",), "the sweep makes 10002 conditions; at most 10000")]
    assert calls["read_condition"] == 0


ALIKE = st.sampled_from(
    [0, 0.0, -0.0, 1, 1.0, {"grid": [0, 1]}, {"grid": [-0.0, 1.0]}, {"values": [0, 1, 2, 3, 4]}]
)


@given(st.lists(ALIKE, min_size=2, max_size=4))
def test_twins_are_the_conditions_of_one_identity(values):
    key = "truth.fixed.x" if isinstance(values[0], int | float) else "design.covariates.x"
    values = [value for value in values if isinstance(value, dict) == isinstance(values[0], dict)]
    raw = RAW | {"sweep": {key: values}}
    identities = [one.identity for one in conditions(Scenario.model_validate(raw))]
    found = find_problems(raw)
    assert bool(found) == (len(set(identities)) < len(identities))
    assert all("are the same condition" in message for _, message in found)
