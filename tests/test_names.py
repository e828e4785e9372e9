"""Names of parameters: written and read, and equal where they mean the same."""

import csv
import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.names import (
    FIXED,
    RESIDUAL,
    SIGMA,
    TERMS,
    TOTAL,
    Parameter,
    condition_in_words,
    derived_names,
    short_names,
    show_number,
    show_value,
    shown_label,
    shown_labels,
    split_pair,
)

LEVELS = st.sampled_from(["animal", "image", "level_2", TOTAL])
LABELS = st.text(st.characters(categories=("L", "N"), include_characters=" ()-+*."), min_size=1)
FACTORS = st.one_of(
    st.sampled_from(["x", "I(x ** 2)", "poly(x, 2)[1]", "log(z)", "poly(log(x), 2)[2]"]),
    LABELS.map(lambda label: f"diet[T.{label}]"),
)
COLUMNS = st.lists(FACTORS, min_size=1, max_size=3).map(":".join) | st.just("Intercept")

# every name that the tables of conditions of configs/ hold, and those of what configs/ lack
NAMES = [
    ("Intercept", "fixed", "fixed", None, ("Intercept",)),
    ("x", "fixed", "fixed", None, ("x",)),
    ("diet[T.fed]", "fixed", "fixed", None, ("diet[T.fed]",)),
    ("diet[T.fed]:x", "fixed", "fixed", None, ("diet[T.fed]:x",)),
    ("animal.sd(Intercept)", "animal", "sd", "animal", ("Intercept",)),
    ("animal.sd(x)", "animal", "sd", "animal", ("x",)),
    ("image.sd(Intercept)", "image", "sd", "image", ("Intercept",)),
    ("image.sd(x)", "image", "sd", "image", ("x",)),
    ("animal.var(Intercept)", "animal", "variance", "animal", ("Intercept",)),
    ("animal.var(x)", "animal", "variance", "animal", ("x",)),
    ("image.var(Intercept)", "image", "variance", "image", ("Intercept",)),
    ("image.var(x)", "image", "variance", "image", ("x",)),
    ("animal.cor(Intercept,x)", "animal", "correlation", "animal", ("Intercept", "x")),
    ("image.cor(Intercept,x)", "image", "correlation", "image", ("Intercept", "x")),
    ("total.sd(Intercept)", "total", "sd", "total", ("Intercept",)),
    ("total.sd(x)", "total", "sd", "total", ("x",)),
    ("sigma", "residual", "sigma", None, ()),
    ("phi", "residual", "residual", None, ()),
    ("rho", "residual", "residual", None, ()),
    ("sd_ratio(diet[T.fed])", "residual", "residual", None, ()),
    ("diet", "terms", "term", None, ()),
    ("LR(smaller)", "terms", "term", None, ()),
    ("total.var(poly(x, 2)[1])", "total", "variance", "total", ("poly(x, 2)[1]",)),
    ("animal.icc", "animal", "icc", "animal", ("Intercept",)),
    ("diet at 0.5", "fixed", "own", None, ()),
    ("median", "fixed", "fixed", None, ("median",)),  # as a column may be called
    ("animal.sd(x)", "fixed", "own", None, ()),  # a weighted sum under a misleading name
    ("phi", "fixed", "fixed", None, ("phi",)),  # a covariate
]


@pytest.mark.parametrize(("name", "component", "kind", "level", "columns"), NAMES)
def test_a_name_and_its_component_say_what_is_estimated(name, component, kind, level, columns):
    read = Parameter.read(name, component)
    assert dataclasses.astuple(read) == (name, kind, component, level, columns, None)
    assert str(read) == name


@pytest.mark.parametrize(("name", "component"), [one[:2] for one in NAMES[:17]])
def test_names_of_most_kinds_say_their_component_too(name, component):
    assert Parameter.read(name).component == component


def test_configs_hold_no_other_names():
    with (Path(__file__).parent / "golden" / "same_numbers.csv").open(newline="") as file:
        found = {(row["parameter"], row["component"]) for row in csv.DictReader(file)}
    others = found - {one[:2] for one in NAMES}
    assert [one for one in others if Parameter.read(*one).kind == "own"] == []
    assert all(Parameter.read(name).component in (component, "fixed") for name, component in others)


@given(st.sampled_from(["sd", "variance"]), LEVELS, COLUMNS)
def test_scales_come_back_from_their_names(kind, level, column):
    written = Parameter.of_level(kind, level, column)
    assert dataclasses.astuple(Parameter.read(written.name)) == dataclasses.astuple(written)
    assert written.as_sd.as_variance == written.as_variance
    assert written.as_sd.kind == "sd"
    assert written.is_scale
    assert written.is_variance == (kind == "variance")
    assert written.is_derived == (level == TOTAL)


@given(LEVELS, COLUMNS, COLUMNS)
def test_correlations_come_back_from_their_names_in_either_order(level, first, second):
    written = Parameter.of_level("correlation", level, first, second)
    assert dataclasses.astuple(Parameter.read(written.name)) == dataclasses.astuple(written)
    turned = Parameter.of_level("correlation", level, second, first)
    assert turned == written
    assert hash(turned) == hash(written)


@given(LEVELS)
def test_shares_come_back_from_their_names(level):
    written = Parameter.of_level("icc", level)
    assert dataclasses.astuple(Parameter.read(written.name)) == dataclasses.astuple(written)
    assert written.is_derived == (level != TOTAL)


@given(COLUMNS)
def test_fixed_effects_come_back_from_their_names(column):
    read = Parameter.read(column, FIXED)
    assert read == Parameter.read(":".join(reversed(column.split(":"))))
    assert read.is_of_column(column)
    assert not read.is_scale
    assert not read.is_derived


@given(LABELS, st.integers(1, 9))
def test_tests_and_parameters_of_residuals_come_back_from_their_names(label, n):
    for written in (Parameter.term(label, n), Parameter.likelihood_ratio(label, n)):
        assert written.numerator_df == n
        assert written == Parameter.read(written.name, TERMS)
        assert written != Parameter.read(written.name, FIXED)
    ratio = Parameter.sd_ratio("diet", label)
    assert ratio == Parameter.read(ratio.name, RESIDUAL)
    assert Parameter.read("sigma", RESIDUAL) is Parameter.read("sigma") is SIGMA


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x:I(z**2)", "I(z ** 2):x"),
        ("animal.cor(x,Intercept)", "animal.cor(Intercept,x)"),
        ("animal.cor(x, I(z**2))", "animal.cor(I(z ** 2),x)"),
        ("animal.sd(x:z)", "animal.sd(z:x)"),
        ("total.var(I(x**2))", "total.var(I( x ** 2 ))"),
    ],
)
def test_names_that_mean_the_same_are_equal(one, other):
    assert {Parameter.read(one): 1}[Parameter.read(other)] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("animal.sd(x)", "animal.var(x)"),
        ("animal.sd(x)", "image.sd(x)"),
        ("animal.cor(x,z)", "animal.sd(x:z)"),
        ("x", "z"),
        ("fed at 1", "fed at 2"),
    ],
)
def test_names_that_mean_something_else_are_not_equal(one, other):
    assert Parameter.read(one) != Parameter.read(other)
    assert Parameter.read(one) != one


def test_a_parameter_travels_between_processes():
    one = Parameter.read("animal.cor(x,Intercept)")
    assert {one: 1}[pickle.loads(pickle.dumps(one))] == 1


def test_pairs_are_split_outside_brackets_alone():
    assert split_pair("Intercept, x") == ("Intercept", "x")
    assert split_pair("poly(x, 2)[1],f(a, g(b, c))") == ("poly(x, 2)[1]", "f(a, g(b, c))")
    assert split_pair("diet[T.a)],x") == ("diet[T.a)]", "x")


def test_names_of_derived_quantities_for_a_message():
    assert derived_names(["animal"]) == ["total.sd(COLUMN)", "total.var(COLUMN)", "animal.icc"]


def test_values_and_conditions_read_as_a_user_writes_them():
    assert show_value({"uniform": [1, 2.5], "b": True}) == "{uniform = [1, 2.5], b = true}"
    swept = {"design.levels.animal.count": 5, "truth.residual.correlation": "ar1"}
    assert condition_in_words(swept) == "animal.count = 5, residual.correlation = ar1"
    assert condition_in_words({}) == ""
    alike = ["design.x", "truth.x"]
    assert short_names(alike) == dict(zip(alike, alike, strict=True))


def test_numbers_next_to_one_are_not_written_as_one():
    values = (-0.9999984, 0.99999, 1.0, -1.0, 1.0000002)
    shown = [show_number(one, ".4g") for one in values]
    assert shown == ["-0.9999984", "0.99999", "1", "-1", "1"]
    assert show_number(0.9, ".0f") == "1"


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("sigma=0.30000000000000004, x=2.0", "sigma=0.3, x=2"),
        ("x=-0.3333333333333333", "x=-0.3333"),
        ("count={uniform = [1.0000000000000002, 2.5]}", "count={uniform = [1, 2.5]}"),
        ("x=12345.678901", "x=12345.7"),
        ("x=1.2345678e-07", "x=1.235e-07"),
        ("x=0.123456, file=pilot0.30.csv, version=1.10.0", None),
    ],
)
def test_values_in_labels_are_short(label, shown):
    assert shown_label(label) == (shown or label)


def test_labels_that_would_look_alike_are_shown_whole():
    labels = ["sigma=0.3", "sigma=0.30000000000000004", "sigma=1.0"]
    assert list(shown_labels(labels).values()) == [*labels[:2], "sigma=1"]
