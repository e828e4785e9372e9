"""A model formula or a column's name taken apart, without evaluating any of it.

`y ~ diet * x + (x || animal/image)` becomes a response, a fixed part that the formula library may
see, and random terms; `diet[T.fed]:x` becomes its factors. Knows no data: whether a column or a
level exists is asked elsewhere.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from mcsim.errors import FormulaError
from mcsim.formula.expression import (
    Call,
    Expression,
    Name,
    has_number_inside,
    terms_of,
    variables,
    walk,
    write,
)
from mcsim.formula.grammar import (
    COLUMN_TOKEN,
    FORMULA_FUNCTIONS,
    OF_ALL_ROWS,
    Reader,
    is_name,
    refuse_long,
)

__all__ = [
    "FORMULA_FUNCTIONS", "ColumnPiece", "Formula", "RandomTerm", "is_name", "is_of_all_rows",
    "n_columns", "parse_formula", "read_column", "same_column", "variable_names", "written_anew",
]  # fmt: skip

_ONE: frozenset[Expression] = frozenset()  # the term of the intercept
_BLANKS = re.compile(r"\s+(?![^\[]*\])")  # those inside a factor's level are part of it


@dataclass(frozen=True)
class RandomTerm:
    """Effects of `columns` that vary between the units of one group, a path of level names."""

    columns: str
    group: tuple[str, ...]
    structure: Literal["general", "diagonal"]

    @property
    def level(self) -> str:
        """Level that the effects belong to: the innermost name of the path."""
        return self.group[-1]


@dataclass(frozen=True)
class Formula:
    """A formula taken apart; the random terms stand outermost first.

    text : as the user wrote it, for messages; written : anew, from what was read, as are `fixed`
        and the columns of the random terms
    """

    text: str
    written: str
    response: str
    fixed: str
    random: tuple[RandomTerm, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the data columns on the right-hand side, grouping columns left out."""
        expressions = (self.fixed, *(term.columns for term in self.random))
        return _unique(name for text in expressions for name in variable_names(text))

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
        expressions = (self.fixed, *(term.columns for term in self.random))
        return any(has_number_inside(_read_terms(text)) for text in expressions)

    @property
    def labels(self) -> tuple[str, ...]:
        """Data columns that stand in C() and nowhere else: factors, whatever they hold."""
        expressions = (self.fixed, *(term.columns for term in self.random))
        found, others = [], []
        for one in itertools.chain.from_iterable(walk(_read_terms(text)) for text in expressions):
            match one:
                case Call("C", (Name(name),)):
                    found.append(name)
                case Name(name):
                    others.append(name)
        return tuple(name for name in _unique(found) if found.count(name) == others.count(name))

    def outermost_first(self, depth: Callable[[str], int]) -> "Formula":
        """The formula with every group as a path from the outermost name, of depth 0, inwards.

        Names of equal depth keep their order.
        """
        terms = (replace(one, group=tuple(sorted(one.group, key=depth))) for one in self.random)
        return replace(self, random=tuple(terms))


@dataclass(frozen=True)
class ColumnPiece:
    """One factor of a column's name, such as `x`, `diet[T.fed]`, `I(x ** 2)` or `poly(x, 2)[1]`.

    label : what stands in brackets, None without any
    """

    base: Name | Call
    label: str | None

    def __str__(self) -> str:
        label = "" if self.label is None else f"[{self.label}]"
        return f"{write(self.base)}{label}"

    @property
    def level(self) -> str:
        """The label without the mark of a contrast, `fed` of `T.fed`."""
        return (self.label or "").removeprefix("T.")


@lru_cache(maxsize=256)
def parse_formula(text: str) -> Formula:
    """Take the lme4 formula `text` apart.

    Raises
    ------
    FormulaError
        Where the text holds anything but names, numbers, operators and `FORMULA_FUNCTIONS`.
    """
    refuse_long(text)
    reader = _FormulaReader(text)
    response = reader.take("name", "the name of one column first, the response, as in 'y ~ x'")
    reader.take("~", "'~' after the response, which is the name of one column")
    reader.right_hand_side()
    _check_one_chain(reader.random)
    found = Formula(
        text,
        f"{response} ~ {_joined(reader.pieces)}",
        response,
        _joined(reader.fixed) or "1",
        _with_one_spelling(sorted(reader.random, key=lambda term: len(term.group))),
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
    return _unique(variables(_read_terms(expression)))


def written_anew(expression: str) -> str:
    """A right-hand side written from what was read: the text that the formula library may get.

    Raises
    ------
    FormulaError
        Where the expression cannot be read as a whole.
    """
    return write(_read_terms(expression))


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
    return sum(math.prod(map(width, term)) for term in terms_of(_read_terms(expression)) | {_ONE})


@lru_cache(maxsize=1024)
def read_column(name: str) -> tuple[ColumnPiece, ...]:
    """Factors of a column's name: `diet[T.fed]:x` gives `diet[T.fed]` and `x`.

    Raises
    ------
    FormulaError
        Where the name is none that the formula library prints.
    """
    refuse_long(name)
    reader = _ColumnReader(name, COLUMN_TOKEN)
    pieces = [reader.piece()]
    while reader.accept(":"):
        pieces.append(reader.piece())
    reader.take("end", "':' and another column, or the end")
    return tuple(pieces)


@lru_cache(maxsize=1024)
def same_column(name: str) -> str:
    """One spelling for all names of a column: `x:I(z**2)` and `I(z ** 2):x` are the same.

    Other names, as a user's estimators may have, differ by more than blanks.
    """
    try:
        return ":".join(sorted(map(str, read_column(name))))
    except FormulaError:
        return _BLANKS.sub("", name)


def is_of_all_rows(column: str) -> bool:
    """Whether the values of a column change with the other rows of the data, as poly's do."""
    parts = itertools.chain.from_iterable(walk(piece.base) for piece in read_column(column))
    return any(isinstance(one, Call) and one.function in OF_ALL_ROWS for one in parts)


class _FormulaReader(Reader):
    """Collects the right-hand side: pieces with their signs, fixed ones, random terms."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.pieces: list[str] = []
        self.fixed: list[str] = []
        self.random: list[RandomTerm] = []

    def right_hand_side(self) -> None:
        sign = self.accept("+", "-") or "+"
        while sign:
            start = self.next
            if not self._at_random_term():
                text = write(self.products())
                self.fixed += [sign, text]
            elif sign == "+":
                text = self._random_terms()
            else:
                raise self.refusal(start, "a random term is added with '+', not taken away")
            self.pieces += [sign, text]
            sign = self.accept("+", "-")
        self.take("end", "'+' and another term, or the end")

    def _at_random_term(self) -> bool:
        """Whether a parenthesis opens here that holds a bar of its own."""
        depth = 0
        for token in self.tokens[self.index :]:
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0 or (depth == 1 and token.text in ("|", "||")):
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
            joint = self.accept("/", ":")
            text += start.text + joint
            if joint != ":":
                paths.append(path)
        return text, paths


class _ColumnReader(Reader):
    """Reads the factors of a column's name; brackets follow at once, without a blank."""

    def piece(self) -> ColumnPiece:
        base = self.variable_or_call("a column or a function")
        end = self.tokens[self.index - 1].end
        if self.next.kind != "label" or self.next.start != end:
            return ColumnPiece(base, None)
        return ColumnPiece(base, self.take("label", "a level in brackets")[1:-1])


def _read_terms(expression: str) -> Expression:
    reader = Reader(expression)
    terms = reader.terms()
    reader.take("end", "an operator or the end")
    return terms


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
