"""A model formula or a column's name taken apart, without evaluating any of it.

`y ~ diet * x + (x || animal/image)` becomes a response, a fixed part that the formula library may
see, and random terms; `diet[T.fed]:x` becomes its factors. Knows no data: whether a column or a
level exists is asked elsewhere.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeGuard

from mcsim.errors import FormulaError
from mcsim.formula.column_names import ColumnPiece, read_column, same_column, variables_of
from mcsim.formula.expression import (
    Call,
    Expression,
    Name,
    has_number_inside,
    terms_of,
    variables,
    walk,
    write,
    written_name,
)
from mcsim.formula.grammar import FORMULA_FUNCTIONS, Reader, is_name, refuse_long

__all__ = [
    "FORMULA_FUNCTIONS", "ColumnPiece", "Formula", "RandomTerm", "is_name", "n_columns",
    "parse_formula", "read_arithmetic", "read_column", "read_terms", "same_column",
    "variable_names", "variables_of", "written_name",
]  # fmt: skip

_ONE: frozenset[Expression] = frozenset()  # the term of the intercept
_SUCCESSES = re.compile(  # cbind(y, n - y), I(y / n)
    r"\s*(?:cbind\(\s*(?P<y>[^,()~]+?)\s*,\s*(?:(?P<n>[^()~]+?)\s*-\s*(?P=y)|(?P<m>[^()~]+?))\s*\)"
    r"|(?:I\(\s*)?(?P<of>[^()/~]+?)\s*/\s*(?P<in>[^\W\d`][^()/~]*?|`[^`]*`)\s*\)?)\s*~"
)
_OF_LME = re.compile(r",?\s*random\s*=\s*(?:~\s*(?P<term>[^|,]*\|[^|,)]*))?")


@dataclass(frozen=True)
class RandomTerm:
    """Effects of `columns` that vary between the units of one group, a path of level names.

    named : what the level is called, if not by the innermost name of the path
    """

    columns: str
    group: tuple[str, ...]
    structure: Literal["general", "diagonal"]
    named: str = ""

    @property
    def level(self) -> str:
        """Level that the effects belong to."""
        return self.named or self.group[-1]


@dataclass(frozen=True)
class Formula:
    """A formula taken apart; the random terms stand outermost first.

    text : as the user wrote it, for messages; written : anew, from what was read, as are `fixed`,
        the columns of the random terms and the following
    measured : what of the response is fitted, its name or `log(y)`
    offsets : what is added to the fixed part with a coefficient of 1
    """

    text: str
    written: str
    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    measured: str
    offsets: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the data columns on the right-hand side, grouping columns left out."""
        found = (variable_names(text) for text in self._right_hand_sides)
        return _unique([*itertools.chain(*found), *self.offset_names])

    @property
    def offset_names(self) -> tuple[str, ...]:
        """Names of the data columns in offsets."""
        trees = map(read_arithmetic, self.offsets)
        return _unique(itertools.chain.from_iterable(map(variables, trees)))

    @property
    def _right_hand_sides(self) -> tuple[str, ...]:
        return (self.fixed, *(term.columns for term in self.random))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of a data column: response, right-hand side, groups."""
        return _unique((self.response, *self.columns, *self.groups))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the grouping columns."""
        return _unique(name for term in self.random for name in term.group)

    @property
    def has_number_inside(self) -> bool:
        """Whether 0 or 1 stand in parentheses or in a product of columns."""
        return any(has_number_inside(read_terms(text)) for text in self._right_hand_sides)

    @property
    def made_factors(self) -> tuple[str, ...]:
        """Data columns that stand in C() or factor()."""
        return _unique(self._in_factors())

    @property
    def labels(self) -> tuple[str, ...]:
        """Data columns that stand in C() or factor() and nowhere else: never numbers."""
        found = [*self._in_factors()]
        trees = map(read_terms, self._right_hand_sides)
        others = [*itertools.chain.from_iterable(map(variables, trees))]
        others += self.offset_names
        return tuple(name for name in _unique(found) if found.count(name) == others.count(name))

    def _in_factors(self) -> Iterable[str]:
        trees = map(read_terms, self._right_hand_sides)
        for one in itertools.chain.from_iterable(map(walk, trees)):
            match one:
                case Call("C" | "factor", (Name(name), *_)):
                    yield name

    def with_groups(self, names: Mapping[str, str]) -> "Formula":
        """The formula with other names of grouping columns, its random terms as paths."""
        bars = {"general": "|", "diagonal": "||"}
        terms = [
            f"({one.columns} {bars[one.structure]} "
            f"{':'.join(written_name(names.get(group, group)) for group in one.group)})"
            for one in self.random
        ]
        fixed = [self.fixed, *(f"offset({one})" for one in self.offsets)]
        return parse_formula(f"{self.measured} ~ {' + '.join([*fixed, *terms])}")

    def outermost_first(self, depth: Callable[[str], int]) -> "Formula":
        """The formula with every group as a path from the outermost name, of depth 0, inwards.

        Names of equal depth keep their order.
        """
        terms = (replace(one, group=tuple(sorted(one.group, key=depth))) for one in self.random)
        return replace(self, random=tuple(terms))


@lru_cache(maxsize=256)
def parse_formula(text: str) -> Formula:
    """Take the lme4 formula `text` apart.

    Raises
    ------
    FormulaError
        Where the text holds anything but names, numbers, operators and `FORMULA_FUNCTIONS`.
    """
    refuse_long(text)
    _refuse_lme(text)
    _refuse_two_columns(text)
    reader = _FormulaReader(text)
    response, measured = reader.left_hand_side()
    reader.right_hand_side()
    _check_one_chain(reader.random)
    found = Formula(
        text,
        f"{measured} ~ {_joined(reader.pieces)}",
        response,
        _joined(reader.fixed) or "1",
        _with_one_spelling(sorted(reader.random, key=lambda term: len(term.group))),
        measured,
        tuple(reader.offsets),
    )
    if response in (*found.columns, *found.groups):
        raise FormulaError(f"the response {response!r} stands on the right-hand side, too")
    return found


@lru_cache(maxsize=256)
def variable_names(expression: str) -> tuple[str, ...]:
    """Names of the variables in a right-hand side such as `diet * log(x)`, each once.

    Raises
    ------
    FormulaError
        Where the expression cannot be read.
    """
    return _unique(variables(read_terms(expression)))


@lru_cache(maxsize=256)
def read_terms(expression: str) -> Expression:
    """The tree of a right-hand side.

    Raises
    ------
    FormulaError
        Where the expression cannot be read as a whole.
    """
    reader = Reader(expression)
    terms = reader.terms()
    reader.take("end", "an operator or the end")
    return terms


@lru_cache(maxsize=256)
def read_arithmetic(expression: str) -> Expression:
    """The tree of what stands inside a call, or is fitted as the response; errors as there."""
    reader = Reader(expression)
    found = reader.arithmetic()
    reader.take("end", "an operator of arithmetic or the end")
    return found


def n_columns(expression: str, width: Callable[[Expression], int]) -> int:
    """At most how many columns a right-hand side makes, told without making them.

    Parameters
    ----------
    width : columns that a name or a call makes by itself

    Raises
    ------
    FormulaError
        The expression cannot be read, or has more than `MAX_TERMS` terms.
    """
    return sum(math.prod(map(width, term)) for term in terms_of(read_terms(expression)) | {_ONE})


class _FormulaReader(Reader):
    """Collects the right-hand side: pieces with their signs, fixed ones, random terms."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.pieces: list[str] = []
        self.fixed: list[str] = []
        self.offsets: list[str] = []
        self.random: list[RandomTerm] = []

    def left_hand_side(self) -> tuple[str, str]:
        """The response's name, and what of it is fitted."""
        start = self.next
        if start.kind == "end":
            raise self.refusal(start, "write the response first, one column, as in 'y ~ x'")
        found = self.arithmetic()
        self.take("~", "'~' after the response, which is one column or a function of it")
        names = _unique(variables(found))
        if len(names) != 1:
            raise self.refusal(start, "the response is one column, as in y ~ x or log(y) ~ x")
        if bad := [one.function for one in walk(found) if _is_of_rows(one)]:
            raise self.refusal(start, f"{bad[0]}() of a response is not known; make it a column")
        return names[0], write(found)

    def right_hand_side(self) -> None:
        sign = self.accept("+", "-") or "+"
        while sign:
            start = self.next
            if self._accept_offset():
                if sign == "-":
                    raise self.refusal(start, "an offset is added with '+', not taken away")
                text = self._offset()
            elif not self._at_random_term():
                text = write(self.products())
                self.fixed += [sign, text]
            elif sign == "+":
                text = self._random_terms()
            else:
                raise self.refusal(start, "a random term is added with '+', not taken away")
            self.pieces += [sign, text]
            sign = self.accept("+", "-")
        self.take("end", "'+' and another term, or the end")

    def _accept_offset(self) -> bool:
        """Take `offset(`."""
        is_offset = self.next.text == "offset" and self.tokens[self.index + 1].text == "("
        self.index += 2 * is_offset
        return is_offset

    def _offset(self) -> str:
        text = write(self.arithmetic())
        self.take(")", "')' after the offset")
        self.offsets.append(text)
        return f"offset({text})"

    def _at_random_term(self) -> bool:
        """Whether a parenthesis opens here that holds a bar of its own."""
        depth = 0
        for token in self.tokens[self.index :]:
            sign = token.text if token.kind == "operator" else ""
            depth += (sign == "(") - (sign == ")")
            if depth == 0 or (depth == 1 and sign in ("|", "||")):
                return depth == 1
        return False

    def _random_terms(self) -> str:
        """Text of `(columns | a/b)`, which makes one term per level."""
        self.take("(", "'('")
        columns = write(self.terms())
        bar = self.accept("|") or self.take("||", "'|' or '||' and a level, as in '(x | animal)'")
        groups, paths = self._groups()
        self.take(")", "')' after the grouping levels, which are joined with '/' or ':'")
        structure: Literal["general", "diagonal"] = "general" if bar == "|" else "diagonal"
        self.random += [RandomTerm(columns, path, structure) for path in paths]
        return f"({columns} {bar} {groups})"

    def _groups(self) -> tuple[str, list[tuple[str, ...]]]:
        """Text and paths of `a/b:c`: ("a",) and ("a", "b", "c")."""
        text = ""
        paths: list[tuple[str, ...]] = []
        path: tuple[str, ...] = ()
        joint = ":"
        while joint:
            start = self.next
            path += (self.take("name", "a grouping level, as in '(x | animal/image)'"),)
            if start.text in path[:-1]:
                raise self.refusal(start, "a level stands once in a path like animal/image")
            joint = self.accept("/", ":", "%in%").replace("%in%", ":")
            text += written_name(start.text) + joint
            if joint != ":":
                paths.append(path)
        return text, paths


def _is_of_rows(one: Expression) -> TypeGuard[Call]:
    """Whether this is a function that looks at all rows, or makes several columns."""
    return isinstance(one, Call) and one.function in ("C", "center", "factor", "poly", "scale")


def _refuse_lme(text: str) -> None:
    """Answer nlme's way of writing with the form to write."""
    found = _OF_LME.search(text)
    if found:
        fixed, term = text[: found.start()].strip(), (found["term"] or "x || animal").strip()
        fixed = re.sub(r"^(?:nlme::)?lme\((?:fixed\s*=\s*)?", "", fixed)
        form = f"{fixed} + ({term})" if found["term"] else f"them as in {fixed} + ({term})"
        raise FormulaError(f"random terms stand in the formula itself; write {form}", found.start())


def _refuse_two_columns(text: str) -> None:
    """Answer R's ways of writing proportions with what to write."""
    found = _SUCCESSES.match(text)
    if not found:
        return
    successes, trials = found["y"] or found["of"], found["n"] or found["in"]
    column = f"a column of {successes} + {found['m']}" if trials is None else trials
    advice = (
        f"the response is one column; of proportions it is the successes: write {successes} ~ ..."
        f" and name {column} as the trials (--trials of mcsim fit, truth.trials of a scenario)"
    )
    if found["of"]:
        advice += "; any other ratio needs a column of its own"
    raise FormulaError(advice, found.start())


def _joined(pieces: Iterable[str]) -> str:
    return " ".join(pieces).removeprefix("+ ")


def _check_one_chain(random: list[RandomTerm]) -> None:
    # a name alone may stand for a nested level with labels of its own: the data decide
    paths = sorted((term.group for term in random if len(term.group) > 1), key=len)
    for shorter, longer in itertools.pairwise(paths):
        if not set(shorter) <= set(longer):
            groups = f"{'/'.join(longer)} and {'/'.join(shorter)}"
            advice = "each level must lie within the one before, as in animal/image"
            raise FormulaError(f"the groups {groups} do not form one chain; {advice}")


def _with_one_spelling(terms: Iterable[RandomTerm]) -> tuple[RandomTerm, ...]:
    """The terms, shortest groups first, with one path for all spellings of a group.

    The names of the largest group within a group stand first: `animal` and `image:animal` are
    `animal/image`.
    """
    paths: dict[frozenset[str], tuple[str, ...]] = {}
    found = []
    for term in terms:
        group = frozenset(term.group)
        if group not in paths:
            inner = max((one for one in paths if one < group), key=len, default=frozenset())
            rest = tuple(name for name in term.group if name not in inner)
            paths[group] = paths.get(inner, ()) + rest
        found.append(replace(term, group=paths[group]))
    return tuple(found)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
