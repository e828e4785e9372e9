"""Names that are printed are accepted, and beginnings that say enough."""

import math
import re

import pytest

from mcsim.errors import DataError
from mcsim.names import Parameter
from mcsim.summary.records import (
    chosen,
    matching,
    matching_conditions,
    note_on_intervals,
    the_one,
)
from tests.samples import measured, sample_of_one

METHODS = ["general/z", "general/containment", "diagonal"]
LABELS = ["Mouse.count=12, sigma=0.5", "Mouse.count=120, sigma=0.5", "Mouse.count=7, sigma=1.0"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("general", METHODS[:2]),  # as tables print what the df methods share
        ("general/z", METHODS[:1]),
        ("dia", METHODS[2:]),
        ("gen", METHODS[:2]),
        ("*z", METHODS[:1]),
        ("", []),
        ("nothing", []),
        ("general/containment and general/z", [METHODS[1], METHODS[0]]),  # as tables name them
        ("general/z and nothing", []),
    ],
)
def test_methods_are_found_by_glob_by_fit_and_by_beginning(wanted, found):
    assert matching(METHODS, wanted) == found


def test_the_beginning_of_several_is_not_enough():
    assert matching(["slope", "slopes", "sum"], "slope") == ["slope"]
    with pytest.raises(DataError, match=r"no parameter matches 's'.*3 begin so"):
        chosen("parameter", "s", ["slope", "slopes", "sum"])


@pytest.mark.parametrize(
    "wanted",
    [
        "Mouse.count=12, sigma=0.5",
        "design.levels.Mouse.count = 12, truth.sigma = 0.5",
        "Mouse.count = 12,sigma = 0.5",
        "Mouse.count=12,*",
    ],
)
def test_conditions_are_found_under_every_name_that_is_printed(wanted):
    assert matching_conditions(LABELS, wanted) == LABELS[:1]


@pytest.mark.parametrize("wanted", ["sigma=0.3", "truth.sigma = 0.30000000000000004"])
def test_conditions_are_found_by_their_short_and_by_their_whole_values(wanted):
    labels = [f"sigma={value}" for value in (0.1 + 0.2, 1 / 3, 0.3001)]
    assert matching_conditions(labels, wanted) == labels[:1]
    assert matching_conditions(labels, "sigma=0.3333") == labels[1:2]
    near = [*labels, "sigma=0.3"]  # then those two are shown in all their digits
    assert matching_conditions(near, "sigma=0.3") == near[-1:]
    assert matching_conditions(near, near[0]) == near[:1]


def test_conditions_with_lists_are_found():
    labels = ["count={uniform = [1, 3]}", "count={uniform = [1, 9]}"]
    assert matching_conditions(labels, labels[0]) == labels[:1]


def test_one_of_several_is_to_be_named():
    with pytest.raises(DataError, match="there are 3 conditions: name one of them"):
        the_one("condition", None, LABELS)
    assert the_one("condition", "Mouse.count=7", LABELS) == LABELS[2]
    assert the_one("condition", None, LABELS[:1]) == LABELS[0]
    message = re.escape(f"{LABELS[0]!r} and {LABELS[2]!r} is several: name one of them: ")
    with pytest.raises(DataError, match=message):
        the_one("condition", (LABELS[0], LABELS[2]), LABELS)


def test_of_several_globs_any_may_match_and_each_must():
    assert chosen("method", ("dia*", "general/z"), METHODS) == [METHODS[0], METHODS[2]]
    with pytest.raises(DataError, match="no method matches 'none'"):
        chosen("method", ("dia*", "none"), METHODS)


def coverage_of(truth, lower):
    ones = [1.0, 1.0, 1.0]
    sample = sample_of_one(truth, True, 0.05, ones, ones, lower, [2.0, 2.0, 2.0], ones, ones)
    return measured("coverage", sample).value


def test_an_sd_of_zero_has_a_coverage_only_where_intervals_can_hold_it():
    assert coverage_of(0.0, [0.5, 0.1, 1e-9]) is None  # Wald on the log scale
    assert coverage_of(0.0, [0.0, 0.0, 0.1]) == pytest.approx(2 / 3)  # profile
    assert coverage_of(0.1, [0.5, 0.2, math.nan]) == 0.0  # none holds it, and could


@pytest.mark.parametrize(
    ("name", "truth", "is_at_edge"),
    [
        ("animal.sd(x)", 0.0, True),
        ("animal.var(x)", 0.0, True),
        ("animal.icc", 0.0, True),
        ("animal.cor(Intercept,x)", 1.0, True),
        ("animal.cor(Intercept,x)", 0.0, False),
        ("x", 0.0, False),
        ("animal.sd(x)", 0.1, False),
    ],
)
def test_edges_are_those_of_scales_shares_and_correlations(name, truth, is_at_edge):
    assert Parameter.read(name).is_at_edge(truth) == is_at_edge


def test_the_note_on_missing_intervals_names_the_condition_as_tables_do():
    row = {"condition": "truth.dispersion=1.0", "parameter": "x", "n": 4, "n_missing_interval": 1}
    assert note_on_intervals([row])[0].endswith("At worst 25.0% lack one: truth.dispersion=1, x.")
