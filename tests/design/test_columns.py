"""Columns of plain variables are made here once the formula library has shown what they are."""

import numpy as np
import pandas as pd
import pytest

from mcsim.design import columns
from mcsim.design.columns import _matrix, library_matrix, model_columns
from mcsim.errors import DataError
from mcsim.formula import parse_formula


def frame_of(seed, n=40, levels=("low", "mid", "high")):
    generator = np.random.default_rng(seed)
    codes = np.append(np.arange(len(levels)), generator.integers(len(levels), size=n - len(levels)))
    return pd.DataFrame(
        {
            "dose": pd.Categorical.from_codes(codes, categories=list(levels)),
            "diet": pd.Categorical.from_codes(codes[::-1] % 2, categories=["fasted", "fed:late"]),
            "x": generator.normal(size=n),
            "z": generator.normal(size=n),
            "w": generator.normal(size=n),
        }
    )


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(columns, "_known", {})


@pytest.fixture
def asked(monkeypatch):
    """Right-hand sides that the formula library was asked for."""
    found = []

    def ask(frame, written):
        found.append(written)
        return library_matrix(frame, written)

    monkeypatch.setattr(columns, "library_matrix", ask)
    return found


PLAIN = [
    "1", "x", "0 + x", "dose", "0 + dose", "dose * x", "diet * dose * x", "x:z:dose", "diet:x - 1",
    "dose + x - dose", "diet:dose",
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_other_data_of_the_same_kinds_get_the_bits_of_the_library(asked, text):
    _matrix(frame_of(1), text)
    for seed in (2, 3):
        other = frame_of(seed, n=30 + seed)
        values, *labels = _matrix(other, text)
        expected, *others = library_matrix(other, asked[0])
        assert (values.tobytes(), values.shape, labels) == (
            expected.tobytes(), expected.shape, others
        )  # fmt: skip
    assert len(asked) == 1


@pytest.mark.parametrize(
    "text", ["log(size)", "center(x)", "poly(x, 2)", "(x + z) * dose", "C(dose)", "x:z:w"]
)
def test_the_library_is_asked_again_where_more_than_the_kinds_of_data_counts(asked, text):
    for seed in (1, 2):
        frame = frame_of(seed).assign(size=lambda one: one["x"].abs())
        _matrix(frame, text)
    assert len(asked) == 2


def test_data_of_another_kind_are_another_question(asked):
    first = frame_of(1)
    others = [
        frame_of(1, levels=("low", "high")),
        first[first["dose"] != "mid"],  # the library leaves out what is not there
        first.assign(x=first["x"].astype(np.float32)),
        first.assign(dose=first["dose"].astype(str)),
        first.assign(dose=first["dose"].cat.as_ordered()),
    ]
    for frame in (first, *others):
        values, *labels = _matrix(frame, "dose * x")
        expected, *same = library_matrix(frame, "dose * x")
        np.testing.assert_array_equal(values, expected)
        assert labels == same
    assert len(asked) == 1 + len(others)


def blocks(formula, structures=None):
    frame = frame_of(1).assign(g=np.arange(40) % 5, h=np.arange(40) % 10)
    (level,) = model_columns(parse_formula(f"y ~ 1 + {formula}"), frame, structures).levels
    return level.names, level.structures


@pytest.mark.parametrize(
    ("formula", "names", "sizes"),
    [  # lmer(y ~ 1 + (x * diet || g))@cnms in R, and so on
        ("(x || g)", "Intercept x", (1, 1)),
        ("(diet || g)", "Intercept diet[fasted] diet[fed:late]", (1, 2)),
        ("(0 + diet || g)", "diet[fasted] diet[fed:late]", (2,)),
        ("(x - 1 || g)", "x", (1,)),
        ("(poly(x, 2) || g)", "Intercept poly(x, 2)[1] poly(x, 2)[2]", (1, 2)),
        (
            "(x * diet || g)",
            "Intercept x diet[fasted] diet[fed:late] x:diet[fasted] x:diet[fed:late]",
            (1, 1, 2, 2),
        ),
    ],
)
def test_two_bars_make_a_block_of_every_term(formula, names, sizes):
    found, structures = blocks(formula)
    assert " ".join(found) == names
    assert structures == tuple(("general", size) for size in sizes)


def test_a_structure_of_a_term_with_one_bar_is_of_its_columns():
    names, structures = blocks("(diet | g)", {"g": "diagonal"})
    assert (names, structures) == (("Intercept", "diet[T.fed:late]"), (("general", 1),) * 2)
    with pytest.raises(DataError, match="goes with one bar"):
        blocks("(diet || g)", {"g": "diagonal"})


def test_groups_of_the_same_units_are_one_level():
    formula = parse_formula("y ~ (1 | h) + (0 + x | g:h)").outermost_first("gh".index)
    frame = frame_of(1).assign(g=np.arange(40) % 5, h=np.arange(40) % 10)
    (level,) = model_columns(formula, frame).levels
    assert (level.level, level.names) == ("h", ("Intercept", "x"))
    other = frame.assign(h=np.arange(40) // 8)  # crossed with g
    levels = model_columns(formula, other).levels
    assert [(one.level, one.names) for one in levels] == [("h", ("Intercept",)), ("g:h", ("x",))]


@pytest.mark.parametrize("formula", ["y ~ log(x)", "y ~ sqrt(x - 2)", "y ~ exp(1000 * x)"])
def test_what_is_no_number_is_refused_in_our_words_without_warnings(formula):
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match="infinite, or not a number"):
        _matrix(frame, formula.removeprefix("y ~ "))
