"""Tables as people have them: what is read, what is left out and said, what is refused."""

import re
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.design.table import first_label, parse_references, read_table, table_of
from mcsim.errors import DataError

FORMULA = "y ~ x + (1 | animal)"
HEAD = "y,x,animal"
ROWS = ("1.5,0.1,a1", "2.5,0.2,a1", "3.5,0.3,a2")


@pytest.fixture
def read(tmp_path):
    """Reads lines as a CSV file."""

    def read_lines(*lines, formula=FORMULA, encoding="utf-8"):
        path = tmp_path / "data.csv"
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return read_table(path, formula)

    return read_lines


@pytest.mark.parametrize("head", [HEAD, f"{HEAD},", f"{HEAD},,", " y, x , animal "])
@pytest.mark.parametrize("commas", ["", ",", ",,"])
def test_commas_at_the_end_of_every_line_shift_no_column(read, head, commas):
    table = read(head, *(row + commas for row in ROWS))
    assert table.frame["y"].tolist() == [1.5, 2.5, 3.5]
    assert table.frame["x"].tolist() == [0.1, 0.2, 0.3]
    assert table.frame["animal"].tolist() == ["a1", "a1", "a2"]
    assert bool(table.notes) == bool(commas)
    assert all("after the last name of the head: it is empty" in one for one in table.notes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEAD, *(f"{row},7" for row in ROWS)), "line 2 has 4 fields, but the head has 3 names"),
        ((HEAD, ROWS[0], "1,2", ROWS[1]), "line 3 has 2 fields, but the head has 3 names"),
        ((HEAD, ROWS[0], "", "1,2,3,4"), "line 4 has 4 fields, but the head has 3 names"),
        ((HEAD, ROWS[0], "1,2,3,"), "line 3 has 4 fields, but the head has 3 names"),
        ((HEAD, '"1,2,3'), "cannot be read: unexpected end of data"),
        ((HEAD,), "has no rows"),
        (("",), "the first line holds no names of columns"),
        ((HEAD, "NA,1,a"), "has no rows with a value in every column"),
        (
            ("y x animal", "1 2 3"),
            "separate the columns by commas, semicolons or tabs; the head is",
        ),
        (("y,x,x,animal", "1,2,3,4"), "has 2 columns 'x'"),
        ((HEAD, *ROWS, "inf,1,a2"), "line 5: 'y' is inf; it must be a number below 1e"),
        ((HEAD, *ROWS, "1,1,a1", "-1e200,1,a2"), "line 6: 'y' is -1e"),
        ((HEAD, *ROWS, "1,-inf,a2"), "line 5: 'x' is -inf"),
        (
            (HEAD, *ROWS, "low,1,a2"),
            r"'y' has .* \(the response must be numbers\): line 5 'low'. Mend",
        ),
        ((HEAD, *ROWS, "1,see note,a2"), "most cells are numbers.: line 5 'see note'.*factor.x."),
        ((HEAD, *ROWS, '1,"1,5",a2', "2,~3,a2"), "line 5 '1,5', line 6 '~3'. Mend them"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(read, lines, message):
    with pytest.raises(DataError, match=message):
        read(*lines)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("2.763;0,5;a", "763;0,7;a"), "'y' has numbers such as 2.763, thousands or decimals"),
        (("2.763;0,5;a", "763,5;0,7;a"), "'y' has .* others are such as 763,5; write both with"),
        (("2,763;0.5;a", "763;0.7;a"), "'y' has numbers such as 2,763, .* such as 0.5"),
        (("2.763;0.5;a", "763;0.7;a"), None),  # one sign: decimals
        (("2,763;0,5;a", "763;0,7;a"), None),
        (("2.5;0,5;a", "2.763;0,7;a"), None),  # typed in both ways
    ],
)
def test_a_point_that_may_part_thousands_is_refused(read, rows, message):
    lines = ("y;x;animal", *rows)
    if message is None:
        assert read(*lines).frame["y"].iloc[0] < 3
        return
    with pytest.raises(DataError, match=message):
        read(*lines)


def test_rows_without_a_value_are_left_out_and_counted(read):
    # R: nrow(model.frame(y ~ x, d)); animal is a grouping factor, other columns do not count
    lines = ["y,other,x,animal", "1,NA,1,a", "NA,1,2,a", "3,1,,b", "4,1,,NA", "5,NA,5,b"]
    table = read(*lines)
    assert table.frame["y"].tolist() == [1.0, 5.0]
    (note,) = table.notes
    assert note.endswith("left out 3 of 5 rows, which lack a value: y (1), x (2), animal (1)")


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(read):
    assert read(HEAD, *ROWS, encoding="utf-8-sig").frame["y"].tolist() == [1.5, 2.5, 3.5]


def test_long_identifiers_stay_apart(read, tmp_path):
    ids = [10**16 + number for number in range(12)]
    frame = pd.DataFrame({"y": np.arange(12.0), "x": np.arange(12.0), "animal": ids})
    frame.to_parquet(tmp_path / "data.parquet")
    tables = [
        read(HEAD, *(f"{one.y},{one.x},{one.animal}" for one in frame.itertuples())),
        read_table(tmp_path / "data.parquet", FORMULA),
        table_of(frame, FORMULA),
    ]
    assert [table.frame["animal"].nunique() for table in tables] == [12, 12, 12]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, object])
@pytest.mark.parametrize("name", ["x", "y"])
def test_complex_numbers_are_refused(name, dtype):
    frame = pd.DataFrame({"y": range(3), "x": range(3), "animal": ["a", "b", "c"]})
    frame[name] = pd.Series([1.0 + 2.0j, 2.0, 3.0], dtype=dtype)
    with pytest.raises(DataError, match=rf"{name}' holds complex numbers: row 1 \(1\+2j\)\. Give"):
        table_of(frame, "y ~ x + (1 | animal)")


def test_labels_that_are_a_covariate_too_are_not_merged_as_numbers():
    frame = pd.DataFrame({"y": range(3), "x": [2**53, 2**53 + 1, 1]})
    with pytest.raises(DataError, match="'x' is a covariate and a group"):
        table_of(frame, "y ~ x + (1 | x)")


def test_factors_keep_the_order_that_their_maker_or_their_numbers_have(read, tmp_path):
    lines = ("y,dose,arm,site", "1,10,b,x_1", "2,9,a,1_2", "3,10,b,x_1", "4,0,None,1_2")
    table = read(*lines, formula="y ~ C(dose) + arm + site")
    orders = {name: list(own.cat.categories) for name, own in table.frame.items() if name != "y"}
    assert orders == {
        "dose": ["0", "9", "10"], "arm": ["None", "a", "b"], "site": ["1_2", "x_1"]
    }  # fmt: skip
    size = pd.Categorical(["mid", "low", "high"], categories=["low", "mid", "high", "huge"])
    frame = pd.DataFrame({"y": range(3), "size": size, "dose": [2.0, 10.0, 1.0], "is": [True] * 3})
    frame.to_parquet(tmp_path / "data.parquet")
    read_back = read_table(tmp_path / "data.parquet", "y ~ size + C(dose)").frame
    assert list(read_back["size"].cat.categories) == ["low", "mid", "high"]
    assert list(read_back["dose"].cat.categories) == ["1", "2", "10"]


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    pd.DataFrame({"y": pd.Series(dtype=float)}).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match="has no rows"):
        read_table(tmp_path / "data.parquet", "y ~ 1")
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "data.parquet", "y ~ 1")


@pytest.mark.parametrize(
    ("image", "formula", "groups"),
    [
        (["1", "2", "3", "4"], "(1 | image:animal)", ["animal/image"]),
        (["1", "2", "3", "4"], "(1 | image) + (0 + x | image:animal)", ["image", "animal/image"]),
        (["1", "2", "1", "2"], "(1 | image:animal)", ["image/animal"]),
        (["1", "1", "1", "1"], "(1 | animal/image)", ["animal", "animal/image"]),
        (["1", "2", "1", "2"], "(1 | animal) + (1 | image:animal)", ["animal", "animal/image"]),
        (["1", "2", "1", "2"], "(1 | animal:image:lab)", ["lab/animal/image"]),
        (["1", "2", "1", "2"], "(1 | lab) + (1 | image:lab:animal)", ["lab", "lab/image/animal"]),
    ],
)
def test_labels_tell_which_units_lie_within_others(read, image, formula, groups):
    rows = [f"1,1,{animal},{own},l" for animal, own in zip("aabb", image, strict=True)]
    table = read("y,x,animal,image,lab", *rows, formula=f"y ~ x + {formula}")
    assert ["/".join(term.group) for term in table.formula.random] == groups


@pytest.mark.parametrize(
    ("random", "shown"),
    [
        ("(1 | image:animal)", "(... | image:animal) is called 'animal'"),
        ("(1 | lab) + (1 | image:animal:lab)", "(... | lab:image:animal) is called 'animal'"),
        ("(1 | animal) + (1 | image:animal)", ""), ("(1 | animal/image)", ""),
        ("(1 | animal:lab)", ""), ("(1 | image) + (1 | animal) + (1 | image:animal)", ""),
    ],
)  # fmt: skip
def test_a_level_that_its_last_name_does_not_tell_is_said(read, random, shown):
    rows = [f"{i},{animal},{i % 2},l" for i, animal in enumerate("aaaabbbb")]
    notes = read("y,animal,image,lab", *rows, formula=f"y ~ 1 + {random}").notes
    said = [note for note in notes if "its last name, but its units are" in note]
    assert [shown in note for note in said] == [True] * bool(shown)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ MouseID", r"no column 'MouseID'. It has: y, Mouse.ID, `Distance \(um\)`, yield"),
        ("y ~ Mouse_ID", r"Did you mean 'Mouse.ID'\?"),
        ("y ~ Distance", r"Did you mean '`Distance \(um\)`'\?"),
        ("y ~ Distance..um.", r"Did you mean '`Distance \(um\)`'\?"),
    ],
)
def test_a_name_is_suggested_as_a_formula_has_it(read, formula, message):
    with pytest.raises(DataError, match=message):
        read("y,Mouse.ID,Distance (um),yield", "1,a,2,3", formula=formula)


def test_a_reference_level_comes_first(tmp_path):
    frame = pd.DataFrame({"y": [1.0, 2, 3], "diet": ["fed", "none", "high"], "C": ["1", "2", "10"]})
    table = table_of(frame, "y ~ diet + C(C)", parse_references(["diet=none", "C = 2"]))
    assert table.frame["diet"].cat.categories.tolist() == ["none", "fed", "high"]
    assert table.frame["C"].cat.categories.tolist() == ["2", "1", "10"]
    frame.to_csv(tmp_path / "data.csv", index=False)
    read_back = read_table(tmp_path / "data.csv", "y ~ diet + C(C)", {"diet": "none", "C": "2"})
    assert read_back.frame.equals(table.frame)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (["diet"], "--reference 'diet': write FACTOR=LEVEL once per factor"),
        (["diet=a", "diet=b"], "--reference 'diet=b': write FACTOR=LEVEL once per factor"),
        (["x=1"], "names 'x', which is no factor of the formula. Its factors: diet."),
        (["diet=fad"], "'diet' has no level 'fad'. It has: fed, none. Did you mean 'fed'?"),
    ],
)
def test_a_reference_that_is_none_is_refused(reference, message):
    frame = pd.DataFrame({"y": [1.0, 2.0], "diet": ["fed", "none"], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match=re.escape(message)):
        table_of(frame, "y ~ diet + x", parse_references(reference))


def test_the_first_label_is_that_of_a_table_without_order():
    assert first_label(["none", "fed"]) == "fed"
    assert first_label(["10", "9"]) == "9"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ C(size, Treatment('Low'))", "'size' has no such level. It has: high, low. Did you"),
        ("y ~ C(dose, Treatment('3'))", "'dose' has no such level. It has: 1, 2"),
    ],
)
def test_a_reference_level_that_is_not_there_is_answered_by_those_that_are(read, formula, message):
    table = read("y,size,dose", "1,low,1", "2,high,2", formula=formula)
    with pytest.raises(DataError, match=message):
        model_columns(table.formula, table.frame)


def test_a_file_that_is_not_there_is_answered_by_the_nearest(tmp_path):
    (tmp_path / "Oats.csv").write_text("y\n1\n")
    with pytest.raises(DataError, match=r"there is no file .*oats.csv'. Did you mean 'Oats.csv'"):
        read_table(tmp_path / "oats.csv", "y ~ 1")


LABELS = ("1", "1", "2", "2")


@pytest.mark.parametrize(
    ("mouse", "diet", "note"),
    [
        (LABELS * 2, "aaaabbbb", "'mouse' 1, 2 has rows in several levels of 'diet'"),
        (("m1", "m2", "m1", "m3"), "aabb", "'mouse' m1 has rows in several levels of 'diet'"),
        (("m1", "m2", "m1", "m2"), "aabb", None),
        ((*LABELS, "3", "3", "4", "4"), "aaaabbbb", None),
    ],
)  # fmt: skip
def test_a_label_that_recurs_in_several_groups_is_said(read, mouse, diet, note):
    rows = [f"{n},{one},{group}" for n, (one, group) in enumerate(zip(mouse, diet, strict=True))]
    table = read("y,mouse,diet", *rows, formula="y ~ diet + (1 | mouse)")
    assert len(table.notes) == bool(note)
    assert all(note in one and "(... | diet:mouse)" in one for one in table.notes)


def test_rows_without_random_term_are_counted_as_independent(read):
    assert (
        read(HEAD, *ROWS, formula="y ~ x")
        .notes[0]
        .endswith("no random term: its 3 rows are taken as independent")
    )


def test_a_column_that_looks_like_the_intercept_is_refused(read):
    table = read("y,Intercept,animal", "1,2,a", "2,3,a", "3,5,b", formula="y ~ Intercept")
    with pytest.raises(DataError, match="called 'Intercept' cannot be told from the intercept"):
        model_columns(table.formula, table.frame)


def test_quotes_within_text_are_answered_with_their_line(read):
    with pytest.raises(DataError, match=r"line 3: cannot be read: .* are doubled \(in R: qmethod"):
        read("y,x,animal", "1,2,a", r'2,3,"it\"s"')


def test_a_factor_of_rows_is_no_sign_of_repeated_labels(read):
    rows = [f"{n},{animal},{image},{'ab'[n % 2]}" for n, (animal, image) in enumerate(
        (animal, image) for animal in "12" for image in "12" for _ in range(4))]  # fmt: skip
    formula = "y ~ stain + (1 | animal/image)"
    assert read("y,animal,image,stain", *rows, formula=formula).notes == ()


def test_empty_lines_above_the_head_are_nothing(read):
    table = read("", "y;x;animal", "1,5;0,1;a1", "2,5;0,2;a2")
    assert table.frame["y"].tolist() == [1.5, 2.5]


def test_a_title_above_a_sheet_is_said_to_be_in_the_way(tmp_path):
    path = tmp_path / "data.xlsx"
    rows = [["Results of 2024", None, None], HEAD.split(","), [1.5, 0.1, "a1"]]
    pd.DataFrame(rows).to_excel(path, header=False, index=False)
    with pytest.raises(DataError, match="has one cell, 'Results of 2024'; take out what stands"):
        read_table(path, FORMULA)


def test_dates_of_a_sheet_are_labels_without_a_time(tmp_path):
    path, days = tmp_path / "data.xlsx", [datetime(2026, 1, 10), datetime(2026, 1, 11)]
    rows = [[1.5, days[0], "a1"], [2.5, days[1], "a1"], [3.5, days[0], "a2"], [4.5, days[1], "a2"]]
    pd.DataFrame(rows, columns=["y", "day", "animal"]).to_excel(path, index=False)
    table = read_table(path, "y ~ day + (1 | animal)")
    assert list(table.frame["day"].cat.categories) == ["2026-01-10", "2026-01-11"]


def test_rows_that_all_lack_a_value_name_the_columns(read):
    with pytest.raises(DataError, match=r"rows that lack one: x \(2\)"):
        read(HEAD, "1,,a1", "2,NA,a2")


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["2020-05-17", "2020-06-01", "2021-01-02"], "holds dates"),
        (["17.5.20", "1.6.20", "2.1.21"], "holds dates"),
        ([f"plot {i}" for i in range(21)], "is text: a factor of 21 levels"),
        ([f"plot {i}" for i in range(20)], None),
        (["fed", "fasted"], None),
    ],
)
def test_text_that_may_be_meant_as_a_covariate_is_named(read, labels, note):
    rows = [f"{i % 7},{label},a{i % 4}" for i, label in enumerate(labels * 3)]
    notes = read("y,day,animal", *rows, formula="y ~ day + (1 | animal)").notes
    said = [one for one in notes if "For a trend write its numbers" in one]
    assert len(said) == (note is not None)
    assert all(note in one for one in said)
