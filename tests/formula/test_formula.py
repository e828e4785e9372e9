"""Formulas as text: what lme4 says they mean, and what must never reach an evaluator."""

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.errors import FormulaError
from mcsim.formula import (
    FORMULA_FUNCTIONS,
    RandomTerm,
    is_name,
    n_columns,
    parse_formula,
    read_column,
    read_terms,
    same_column,
    variable_names,
)
from mcsim.formula.expression import write
from mcsim.formula.grammar import MAX_LENGTH

NAMES = st.sampled_from(["x", "diet", "time_1", "z"])


def written(text):
    return write(read_terms(text))


def random(text):
    return [(term.columns, "/".join(term.group), term.structure) for term in text.random]


def test_the_parts_of_a_formula():
    formula = parse_formula("y ~ diet * x + (x || animal/image)")
    assert (formula.response, formula.fixed) == ("y", "diet * x")
    assert formula.random == (
        RandomTerm("x", ("animal",), "diagonal"),
        RandomTerm("x", ("animal", "image"), "diagonal"),
    )
    assert [term.level for term in formula.random] == ["animal", "image"]
    assert formula.names == ("y", "diet", "x", "animal", "image")
    assert formula.columns == ("diet", "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ x", []),
        ("y ~ (1 | g)", [("1", "g", "general")]),
        ("y ~ (0 + x | g)", [("0 + x", "g", "general")]),
        ("y ~ (x | a:b)", [("x", "a/b", "general")]),
        ("y ~ (x | a/b)", [("x", "a", "general"), ("x", "a/b", "general")]),
        ("y ~ (1 | a:b/c)", [("1", "a/b", "general"), ("1", "a/b/c", "general")]),
        ("y ~ (1 | a:b) + x + (x || a)", [("x", "a", "diagonal"), ("1", "a/b", "general")]),
        ("y ~ (1 | a) + (1 | b:a)", [("1", "a", "general"), ("1", "a/b", "general")]),
        ("y ~ (1 | b:a) + (x | a:b)", [("1", "b/a", "general"), ("x", "b/a", "general")]),
        (
            "y ~ (1 | c:b:a) + (1 | a) + (1 | b:a)",
            [("1", "a", "general"), ("1", "a/b", "general"), ("1", "a/b/c", "general")],
        ),
        ("y ~ (1 | animal) + (1 | image)", [("1", "animal", "general"), ("1", "image", "general")]),
        ("y ~ (1 + I(x ** 2) | g)", [("1 + I(x ** 2)", "g", "general")]),
    ],
)  # fmt: skip
def test_random_terms_are_those_of_lme4_outermost_first(text, expected):
    assert random(parse_formula(text)) == expected


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("y ~ (1 | g)", "1"),
        ("y ~ 0 + x + (1 | g)", "0 + x"),
        ("y ~ (1 | g) + x - 1", "x - 1"),
        ("y ~ -1 + x", "- 1 + x"),
        ("y~(a + b)^2 + (1|g)+I(x**2)", "(a + b) ^ 2 + I(x ** 2)"),
        ("y ~ a : b + poly(x,2)*log(z+1)", "a:b + poly(x, 2) * log(z + 1)"),
        ("y ~ ((a))", "((a))"),
        ("y ~ end + number", "end + number"),
        ("y ~ (-1+a/b:c)**2*d", "(-1 + a / b:c) ** 2 * d"),
    ],
)
def test_the_fixed_part_is_what_the_user_wrote_spelt_anew(text, fixed):
    assert parse_formula(text).fixed == fixed


def test_a_formula_is_written_anew_with_its_random_terms_in_place():
    formula = parse_formula("y~(1||a)+x*z -1+( I(x**2)|a/b:c )")
    assert formula.written == "y ~ (1 || a) + x * z - 1 + (I(x ** 2) | a/b:c)"
    again = parse_formula(formula.written)
    assert (again.fixed, again.random) == (formula.fixed, formula.random)


@pytest.mark.parametrize(
    ("text", "position", "found"),
    [
        ("y ~ __import__('os').system('true')", 4, "'__import__'"),
        ("y ~ {__import__('os')}", 4, "'{'"),
        ("y ~ exec(x)", 4, "'exec'"),
        ("y ~ eval(x)", 4, "'eval'"),
        ("y ~ I(getattr(x, x))", 6, "'getattr'"),
        ("y ~ x[0]", 5, "'['"),
        ("y ~ `x", 4, "'`'"),
        ("y ~ ``", 4, "''"),
        ("y ~ ` x`", 4, "' x'"),
        ("y ~ .", 4, "'.'"),
        ("y ~ I('a')", 6, "'a'"),
        ('y ~ "a"', 4, "'a'"),
        ("y ~ C(x, 3)", 9, "'3'"),
        ("y ~ C(x, open('a'))", 9, "'open'"),
        ("y ~ C(x, contr.sum(2))", 9, "'contr.sum'"),
        ("y ~ C(x, Treatment(a))", 19, "'a'"),
        ("y ~ poly(x, 2, raw = 3)", 21, "'3'"),
        ("y ~ poly(x, 2, row = TRUE)", 15, "'row'"),
        ("y ~ x + `log`(x)", 13, "'('"),
        ("y ~ log(x, base=2)", 4, "'log'"),
        ("y ~ x; import os", 5, "';'"),
        ("y ~ x\\\n", 5, r"'\\'"),
        ("y ~ I(x:z)", 7, "':'"),
        ("y ~ I(9 ** 9)", 6, "'9'"),
        ("y ~ I(x ** 9 ** 9)", 13, "'**'"),
        ("y ~ (x + z) ** 99", 15, "'99'"),
        ("y ~ I((9)**x)", 11, "'x'"),
        ("y ~ I(x ** number)", 11, "'number'"),
        ("y ~ I(x * 1e999)", 10, "'1e999'"),
        ("y ~ x end", 6, "'end'"),
        ("y ~ log(x, 2)", 4, "'log'"),
        ("y ~ poly(x, 2.5)", 4, "'poly'"),
        ("y ~ poly(x, 0)", 4, "'poly'"),
        ("y ~ poly(x, z)", 4, "'poly'"),
        ("y ~ x:1", 4, "'x'"),
        ("y ~ z + 0 * x", 8, "'0'"),
        ("y ~ \u200bx", 4, r"'\u200b'"),
    ],
)
def test_code_is_refused_where_it_stands(text, position, found):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert caught.value.position == position
    assert f"found {found} at character {position + 1}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write the response first"),
        ("x", "'~' after the response"),
        ("y + z ~ x", "the response is one column"),
        ("1 ~ x", "the response is one column"),
        ("scale(y) ~ x", "scale() of a response is not known"),
        ("y ~ x, random = ~ x | animal/image", "write y ~ x + (x | animal/image)"),
        ("y ~ x, random = list(animal = pdDiag(~x))", "as in y ~ x + (x || animal)"),
        ("y ~ x - offset(z)", "an offset is added"),
        ("y ~ x:offset(z)", "an offset stands by itself"),
        ("y ~ (1 + offset(z) | g)", "an offset stands by itself"),
        ("cbind(y, n - y) ~ x", "write y ~ ... and name n as the trials (--trials"),
        ("cbind(y, lost) ~ x", "write y ~ ... and name a column of y + lost as the trials"),
        ("I(y / n) ~ x", "write y ~ ... and name n as the trials"),
        ("y ~ as.factor(x)", "write factor(g)"),
        ("y ~ C(x, Sun)", "Did you mean 'Sum'?"),
        ('y ~ C(x, "a")', 'write Treatment("a")'),
        ("y ~ relevel(x, 'a')", "write C(g, Treatment("),
        ("y ~ factor(x, levels)", "for the reference: C(g, Treatment("),
        ("y ~ x^2", "write I(x^2)"),
        ("y ~ x + 1 | g", "stands in parentheses, as in (1 | animal)"),
        ("y ~ x + (1 | Mouse ID)", "stands in backticks, as in `Mouse ID`"),
        ("Distance (um) ~ x", "stands in backticks, as in `Mouse ID`"),
        ("y ~ x + Error(block/plot)", "write (1 | block/plot)"),
        ("y ~ \u201cx\u201d", "columns stand in backticks"),
        ("y ~ x \u00d7 z", "write * or :"),
        ("lme(y ~ x, random = ~ 1 | g)", "write y ~ x + (1 | g)"),
        ("y ~ ( 1 | g) + . ", "name every column"),
        ("y ~", "found the end at character 4"),
        ("y ~ x +", "expected a column"),
        ("y ~ x z", "expected '+' and another term"),
        ("y ~ x ~ z", "expected '+' and another term"),
        ("y ~ x | g", "expected '+' and another term"),
        ("y ~ x * (1 | g)", "stands by itself after a '+'"),
        ("y ~ ((1 | g))", "stands by itself after a '+'"),
        ("y ~ x - (1 | g)", "added with '+', not taken away"),
        ("y ~ ( | g)", "expected a column"),
        ("y ~ (x | )", "expected a grouping level"),
        ("y ~ (x | a + b)", "joined with '/' or ':'"),
        ("y ~ (x | a/a)", "a level stands once"),
        ("y ~ (x | a/b) + (x | b/c)", "do not form one chain"),
        ("y ~ (x | a:b) + (x | a:c)", "do not form one chain"),
        ("y ~ 2 * x", "0 or 1 (arithmetic: I(...))"),
        ("y ~ lgo(x)", "Did you mean 'log'?"),
        ("y ~ I()", "expected a column, a number"),
        ("y ~ I(x", "expected ')'"),
        ("y ~ " + "(" * 100 + "x" + ")" * 100, "too long"),
        ("y ~ " + "x + " * 1000 + "x", "too long"),
    ],
)
def test_a_mistake_says_what_is_allowed(text, advice):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert advice in str(caught.value)


@given(st.text(alphabet="yxI1~+-*/:^()|, .{}['`_$", max_size=25))
def test_any_text_parses_or_is_refused(text):
    try:
        formula = parse_formula(f"y ~ {text}")
    except FormulaError:
        return
    assert not set(re.sub("`[^`]+`", "", formula.fixed)) & set("|{}['$~")
    assert all(name in text for name in formula.names if name != "y")
    again = parse_formula(formula.written)
    assert (again.fixed, again.random) == (formula.fixed, formula.random)


@given(NAMES, NAMES, st.sampled_from(["+", "*", ":", "/"]), st.sampled_from(FORMULA_FUNCTIONS))
def test_names_are_variables_not_functions(first, second, operator, function):
    expression = f"{first} {operator} {function}({second})"
    assert variable_names(expression) == tuple(dict.fromkeys((first, second)))


def test_names_that_a_formula_can_use():
    assert all(map(is_name, ("x", "2x", "x y", "lambda", "Mouse.ID", "é", "a:b", "log(y)", "µm²")))
    assert not any(map(is_name, ("", " x", "x ", "a\nb", "a`b", "a\u200bb", ".")))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("yield ~ class * lambda + (1 | None)", ("yield", "class", "lambda", "None")),
        ("y ~ Mouse.ID + .x + (1 | Sujet_é)", ("y", "Mouse.ID", ".x", "Sujet_é")),
        ("`a b` ~ `Distance (um)` + (`+` | `[x]:y`)", ("a b", "Distance (um)", "+", "[x]:y")),
        ("y ~ exec + __x__ + I(open * C)", ("y", "exec", "__x__", "open", "C")),
        ("y ~ e\u0301", ("y", "é")),
    ],
)
def test_any_column_has_a_name(text, names):
    formula = parse_formula(text)
    assert formula.names == names
    assert parse_formula(formula.written).names == names


def test_a_function_of_the_response_and_an_offset():
    formula = parse_formula("log(y + 1) ~ x + offset(2 * z) + (1 | g)")
    assert (formula.response, formula.measured, formula.offsets) == ("y", "log(y + 1)", ("2 * z",))
    assert (formula.fixed, formula.columns) == ("x", ("x", "z"))
    assert formula.written == "log(y + 1) ~ x + offset(2 * z) + (1 | g)"


def test_factors_that_a_formula_makes():
    formula = parse_formula(
        "y ~ factor(a) + C(b, contr.sum) * b + C(d, Treatment('x')) + offset(d)"
    )
    assert formula.made_factors == ("a", "b", "d")
    assert formula.labels == ("a",)


def test_r_words_for_products():
    assert parse_formula("y ~ a %in% b + c").fixed == "a:b + c"


@pytest.mark.parametrize(
    ("column", "pieces"),
    [
        ("Intercept", ("Intercept",)),
        ("diet[T.fed]:x", ("diet[T.fed]", "x")),
        (" I(x**2) : poly(x,2)[1]", ("I(x ** 2)", "poly(x, 2)[1]")),
        ("C(diet)[T.a b]:diet[T.(0.5, 1]]:x", ("C(diet)[T.a b]", "diet[T.(0.5, 1]]", "x")),
        ("I(x)[a:b]:z", ("I(x)[a:b]", "z")),
        ("`a:b`[T.c]:x.y", ("`a:b`[T.c]", "x.y")),
        ("C(g,Treatment('b'))[T.a]", ('C(g, Treatment("b"))[T.a]',)),
    ],
)
def test_columns_split_at_colons(column, pieces):
    assert tuple(map(str, read_column(column))) == pieces


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("", "the end"),
        ("x:", "the end"),
        ("2", "'2'"),
        ("x + z", "'+'"),
        ("diet [T.fed]", "'[T.fed]'"),
        ("diet[T.fed]x", "'['"),
        ("diet[T.fed][0]", None),
        ("I(x)[0].real", "'['"),
        ("I(x)[0](x)", "'['"),
        ("I(x[0])", "'['"),
        ("I(x).real", "'.real'"),
        ("I(x) end", "'end'"),
        ("system(x)", "'system'"),
        ("x y", "'y'"),
    ],
)
def test_a_column_is_read_whole_or_refused(column, found):
    if found is None:  # brackets within brackets are the name of a level, and no more than that
        assert [piece.label for piece in read_column(column)] == ["T.fed][0"]
        return
    with pytest.raises(FormulaError, match=re.escape(f"found {found} at character")):
        read_column(column)


@pytest.mark.parametrize(
    "spellings",
    [
        ("I(x ** 2):z", "z : I( x**2 )", "z:I((x) ** 2)"),
        ("I(x * z + 1.0)", "I((x*z) + 1.)"),
        ("I(x ** (-2))", "I(x**-2)", "I(x^-2)"),
        ("factor(g)[T.2]", "C(g)[T.2]"),
        ("C(g, contr.sum)[S.a]", "C(g, Sum)[S.a]"),
        ("`x`:z", "z:x"),
        ("diet[T.a b]", " diet[T.a b] "),
        ("a user's parameter", "auser'sparameter"),
    ],
)
def test_spellings_of_one_column_are_the_same(spellings):
    assert len(set(map(same_column, spellings))) == 1


def test_what_is_written_from_a_long_formula_is_read_again():
    formula = parse_formula("y~x" + "+x" * 900 + "+I(" + "(" * 40 + "x**-1" + ")" * 41)
    assert len(formula.fixed) > MAX_LENGTH
    assert written(formula.fixed) == formula.fixed
    assert formula.columns == ("x",)


def test_blanks_within_a_level_are_part_of_it():
    assert same_column("diet[T.a b]") != same_column("diet[T.ab]")


def arithmetic(inner):
    pairs = st.tuples(inner, st.sampled_from([" + ", "-", "*", "/ "]), inner)
    return st.one_of(
        pairs.map("".join),
        inner.map("({})".format),
        st.tuples(st.sampled_from(FORMULA_FUNCTIONS), inner).map("{0[0]}({0[1]})".format),
        st.tuples(inner, st.sampled_from("123")).map("(x + {0[0]})**{0[1]}".format),
        inner.map("(-{})".format),
    )


@given(st.recursive(st.sampled_from(["x", "z_1", "2", "0.5", "1e-3"]), arithmetic, max_leaves=8))
def test_a_call_is_spelt_as_python_prints_it(text):
    # oracle: ast.unparse, by which the formula library names its columns
    found, printed = written(f"I({text})"), ast.unparse(ast.parse(f"I({text})"))
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(printed))
    assert found == printed or "--" in printed  # a second sign in its parentheses
    assert written(found) == found


def test_the_response_does_not_explain_itself():
    for text in ("y ~ x + y", "y ~ x + (y | g)", "y ~ x + (1 | g/y)", "y ~ log(y)"):
        with pytest.raises(FormulaError, match="the response 'y' stands on the right-hand side"):
            parse_formula(text)


def test_paths_are_ordered_by_depth():
    formula = parse_formula("y ~ (1 | c:a:b) + (1 | c)").outermost_first("abc".index)
    assert [term.group for term in formula.random] == [("c",), ("a", "b", "c")]


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("1", 1), ("0", 1), ("x", 2), ("x * z", 4), ("f", 4), ("f * x", 8), ("f:g + x", 14),
        ("(x + z + f) ** 2 - x:z", 12), ("x / f", 5), ("(x + z) / f", 6), ("f - f", 1),
        ("(x + z) ** 9", 4), ("log(x) + x + x", 3),
    ],
)  # fmt: skip
def test_columns_are_counted_before_they_are_made(text, n):
    # x, z: numbers, f: 3 levels, g: 4; at most, since contrasts have one column less
    width = {"f": 3, "g": 4}
    assert n_columns(text, lambda one: width.get(write(one), 1)) == n


def test_terms_without_number_are_refused_at_once():
    with pytest.raises(FormulaError, match="more than 500 terms"):
        n_columns(f"({' + '.join(f'x{i}' for i in range(60))}) ** 9", lambda _: 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x - 1", False), ("0 + x + (1 | g)", False), ("-1 + I(x + 1)", False),
        ("(1 + x):diet", True), ("(x + 1) ** 2", True), ("x + (x + (1) | g)", True),
    ],
)  # fmt: skip
def test_an_intercept_in_parentheses_is_found(text, expected):
    assert parse_formula(f"y ~ {text}").has_number_inside is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C(x) * z", ("x",)),
        ("C(x) + x", ()),
        ("z + (C(x) | g)", ("x",)),
        ("C(I(x)) + C(z)", ("z",)),
    ],
)
def test_variables_that_are_labels_alone(text, expected):
    assert parse_formula(f"y ~ {text}").labels == expected
