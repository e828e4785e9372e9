"""A model formula or a column's name taken apart, without evaluating any of it.

`y ~ diet * x + (x || animal/image)` becomes a response, a fixed part that the formula library may
see, and random terms; `diet[T.fed]:x` becomes its factors. Knows no data: whether a column or a
level exists is asked elsewhere.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from mcsim.errors import FormulaError
from mcsim.formula.expression import Call, Expression, Name, variables, write
from mcsim.formula.grammar import COLUMN_TOKEN, FORMULA_FUNCTIONS, Reader, is_name, refuse_long

__all__ = [
    "FORMULA_FUNCTIONS", "ColumnPiece", "Formula", "RandomTerm", "is_name", "parse_formula",
    "read_column", "same_column", "variable_names", "written_anew",
]  # fmt: skip

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
        groups = (name for term in self.random for name in term.group)
        return _unique((self.response, *self.columns, *groups))


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
    return Formula(
        text,
        f"{response} ~ {_joined(reader.pieces)}",
        response,
        _joined(reader.fixed) or "1",
        tuple(sorted(reader.random, key=lambda term: len(term.group))),
    )


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
    longest = max((term.group for term in random), key=len, default=())
    for path in (term.group for term in random):
        # a name alone may stand for a nested level with labels of its own: the data decide
        if len(path) > 1 and longest[: len(path)] != path:
            groups = f"{'/'.join(longest)} and {'/'.join(path)}"
            advice = "each level must lie within the one before, as in animal/image"
            raise FormulaError(f"the groups {groups} do not form one chain; {advice}")


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
