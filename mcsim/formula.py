"""Text of a model formula, read without evaluating any of it.

`y ~ diet * x + (x || animal/image)` becomes a response, a fixed part that the formula library may
see, and random terms. Knows no data: whether a column or a level exists is asked elsewhere.
"""

import builtins
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from mcsim.errors import FormulaError, nearest_name

FORMULA_FUNCTIONS = ("C", "I", "center", "exp", "log", "log10", "poly", "scale", "sqrt")
MAX_LENGTH = 2000  # characters: reading and expanding stay instant
MAX_PARENTHESES = 50  # far below the depth at which Python gives up

_POWERS = tuple("123456789")  # (a + b) ** 9 holds every interaction of nine columns
_PRODUCT = ("*", "/", ":")
_SUM = ("+", "-", *_PRODUCT)
_ARITHMETIC = ("+", "-", "*", "/")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<operator>\*\*|\|\||[-+*/:^()|~,])|(?P<end>\Z)|(?P<other>.))",
    re.ASCII | re.DOTALL,
)
_CALL_SPACING = re.compile(r"\s+(?![^\[]*\])")  # blanks inside a factor's level are part of it
_COLUMN_PIECE = re.compile(r"(?:\[[^\]]*\]|\([^:]*\)|[^:])+")


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
    """A formula taken apart; the random terms stand outermost first."""

    text: str
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


@lru_cache(maxsize=256)
def parse_formula(text: str) -> Formula:
    """Take the lme4 formula `text` apart.

    Raises
    ------
    FormulaError
        Where the text holds anything but names, numbers, operators and `FORMULA_FUNCTIONS`.
    """
    reader = _Reader(text)
    response = reader.take("name", "the name of one column first, the response, as in 'y ~ x'")
    reader.take("~", "'~' after the response, which is the name of one column")
    fixed, random = reader.right_hand_side()
    _check_one_chain(random)
    return Formula(text, response, fixed, tuple(sorted(random, key=lambda term: len(term.group))))


@lru_cache(maxsize=256)
def variable_names(expression: str) -> tuple[str, ...]:
    """Names of the variables in a right-hand side such as `diet * log(x)`, each once.

    Raises
    ------
    FormulaError
        Where the expression cannot be read.
    """
    reader = _Reader(expression)
    names = reader.terms()
    reader.take("end", "an operator or the end")
    return _unique(names)


def is_name(text: str) -> bool:
    """Whether a formula can name a column `text`."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) is not None
    return plain and not keyword.iskeyword(text) and not text.startswith("__")


def split_column(name: str) -> tuple[str, ...]:
    """Split a column's name: `diet[T.fed]:x` gives `diet[T.fed]` and `x`."""
    return tuple(piece.strip() for piece in _COLUMN_PIECE.findall(name))


@lru_cache(maxsize=1024)
def same_column(name: str) -> str:
    """One spelling for all names of a column: `x:I(z**2)` and `I(z ** 2):x` are the same."""
    return ":".join(sorted(_CALL_SPACING.sub("", piece) for piece in split_column(name)))


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Reader:
    """Recursive descent over the tokens; methods that read an expression return its names."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH or text.count("(") > MAX_PARENTHESES:
            limits = f"{MAX_LENGTH} characters and {MAX_PARENTHESES} parentheses"
            raise FormulaError(f"the formula is too long: at most {limits}")
        self.text = text
        self.tokens = [_read_token(match) for match in _TOKEN.finditer(text)]
        self.index = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.index]

    def take(self, wanted: str, expected: str) -> str:
        token = self.next
        if wanted not in (token.kind, token.text):
            raise _refusal(self.text, token, f"expected {expected}")
        self.index += 1
        return token.text

    def accept(self, *texts: str) -> str:
        text = self.next.text
        self.index += text in texts
        return text if text in texts else ""

    def source(self, start: _Token) -> str:
        return self.text[start.start : self.tokens[self.index - 1].end]

    def right_hand_side(self) -> tuple[str, list[RandomTerm]]:
        """Text of the fixed part, and the random terms in the order of the text."""
        fixed: list[str] = []
        random: list[RandomTerm] = []
        sign = self.accept("+", "-") or "+"
        while sign:
            start = self.next
            if not self.at_random_term():
                self.expression(_PRODUCT)
                fixed += [sign, self.source(start)]
            elif sign == "+":
                random += self.random_terms()
            else:
                raise _refusal(self.text, start, "a random term is added with '+', not taken away")
            sign = self.accept("+", "-")
        self.take("end", "'+' and another term, or the end")
        return " ".join(fixed).removeprefix("+ ") or "1", random

    def at_random_term(self) -> bool:
        """Whether a parenthesis opens here that holds a bar of its own."""
        depth = 0
        for token in self.tokens[self.index :]:
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0 or (depth == 1 and token.text in ("|", "||")):
                return depth == 1
        return False

    def random_terms(self) -> list[RandomTerm]:
        """One term per level of `(columns | a/b)`."""
        self.take("(", "'('")
        start = self.next
        self.terms()
        columns = self.source(start)
        bar = self.accept("|") or self.take("||", "'|' or '||' and a level, as in '(x | animal)'")
        groups = self.groups()
        self.take(")", "')' after the grouping levels, which are joined with '/' or ':'")
        return [
            RandomTerm(columns, path, "general" if bar == "|" else "diagonal") for path in groups
        ]

    def groups(self) -> list[tuple[str, ...]]:
        """Paths of `a/b:c`: ("a",) and ("a", "b", "c")."""
        paths: list[tuple[str, ...]] = []
        path: tuple[str, ...] = ()
        joint = ":"
        while joint:
            start = self.next
            path += (self.take("name", "a grouping level, as in '(x | animal/image)'"),)
            if start.text in path[:-1]:
                raise _refusal(self.text, start, "a level stands once in a path like animal/image")
            joint = self.accept("/", ":")
            if joint != ":":
                paths.append(path)
        return paths

    def terms(self) -> list[str]:
        self.accept("+", "-")
        return self.expression(_SUM)

    def expression(self, operators: tuple[str, ...]) -> list[str]:
        operand = self.operand if operators is _ARITHMETIC else self.term
        names = operand()
        while self.accept(*operators):
            names += operand()
        return names

    def term(self) -> list[str]:
        """Read an operand outside any call, where operators build sets of columns."""
        if self.accept("("):
            names = self.terms()
            self.take(")", "')'; a random term such as (x | animal) stands by itself after a '+'")
        elif self.accept("0", "1"):
            names = []
        else:
            names = self.variable_or_call("a column, a function, '(', 0 or 1 (arithmetic: I(...))")
        if self.accept("**", "^") and not self.accept(*_POWERS):
            raise _refusal(self.text, self.next, "a power is a whole number from 1 to 9")
        return names

    def operand(self) -> list[str]:
        """Read an operand inside a call, where operators are those of arithmetic."""
        self.accept("+", "-")
        start = self.next
        names: list[str] = []
        if self.accept("("):
            names = self.expression(_ARITHMETIC)
            self.take(")", "')' or one of + - * / ** inside a call")
        elif start.kind == "number":
            self.index += 1
        else:
            names = self.variable_or_call("a column, a number, a function or '('")
        if names == [start.text] and hasattr(builtins, start.text):
            raise _refusal(self.text, start, "inside a call this is a word of Python; rename it")
        if self.accept("**"):
            self.accept("-")
            self.take("number", "a number as the power")
            if not names:  # powers of constants could keep Python busy for ever
                raise _refusal(self.text, start, "a power inside a call is that of a column")
        return names

    def variable_or_call(self, expected: str) -> list[str]:
        start = self.next
        name = self.take("name", expected)
        if not self.accept("("):
            return [name]
        if name not in FORMULA_FUNCTIONS:
            near = nearest_name(name, FORMULA_FUNCTIONS)
            allowed = f"the functions of a formula are {', '.join(FORMULA_FUNCTIONS)}.{near}"
            raise _refusal(self.text, start, allowed)
        names = self.expression(_ARITHMETIC)
        while self.accept(","):
            names += self.expression(_ARITHMETIC)
        self.take(")", "')', ',' or one of + - * / ** inside a call")
        return names


def _read_token(match: re.Match[str]) -> _Token:
    kind = str(match.lastgroup)
    token = _Token(kind, match[kind], match.start(kind), match.end())
    if kind == "other":
        allowed = f"+ - * / : ** ^ ( ) | || ~ , and {', '.join(FORMULA_FUNCTIONS)}"
        raise _refusal(match.string, token, f"a formula holds only names, numbers, {allowed}")
    if kind == "name" and not is_name(token.text):
        raise _refusal(match.string, token, "this cannot name a column; rename it")
    return token


def _refusal(text: str, token: _Token, advice: str) -> FormulaError:
    found = repr(token.text) if token.text else "the end"
    where = f"at character {token.start + 1} of {text!r}"
    return FormulaError(f"found {found} {where}; {advice}", token.start)


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
