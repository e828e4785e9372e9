"""What a formula says, as a tree of names, numbers, calls and operators, and the text of a tree.

The text is made from the tree alone, so nothing gets into it that was not read.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from mcsim.errors import FormulaError

BARE = r"(?:[^\W\d]|\.(?![0-9]))[\w.]*"  # a name that needs no backticks, as in R
MAX_TERMS = 500
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, ":": 3, "%in%": 3}  # of operators that make a Chain
_SIGN, _POWER, _ATOM = 4, 5, 6


@dataclass(frozen=True)
class Name:
    """A variable."""

    text: str


@dataclass(frozen=True)
class Number:
    """A number of at least 0, finite."""

    value: int | float


@dataclass(frozen=True)
class Contrast:
    """How C() codes a factor, in the user's word for it; `reference` is a level."""

    word: str
    reference: str | None


@dataclass(frozen=True)
class Option:
    """An argument with a name, `raw = TRUE`."""

    name: str
    value: str


@dataclass(frozen=True)
class Call:
    """A function and what it is called with."""

    function: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True)
class Signed:
    """A plus or a minus before an operand."""

    sign: str
    operand: "Expression"


@dataclass(frozen=True)
class Power:
    """An operand raised to a number, by `**` or `^`."""

    base: "Expression"
    operator: str
    exponent: "Number | Signed"


@dataclass(frozen=True)
class Chain:
    """Operands joined by operators that bind equally: `a - b + c` is one, not one in another."""

    first: "Expression"
    rest: tuple[tuple[str, "Expression"], ...]


@dataclass(frozen=True)
class Group:
    """Parentheses around columns; those of arithmetic are not kept but written where needed."""

    inner: "Expression"


Expression: TypeAlias = Name | Number | Contrast | Option | Call | Signed | Power | Chain | Group
Term: TypeAlias = frozenset[Expression]  # of a model: names and calls that are multiplied


def written_name(name: str) -> str:
    """A column's name as a formula has it: in backticks where it is not plain."""
    return name if re.fullmatch(BARE, name) and name != "." else f"`{name}`"


def write(expression: Expression, named: Callable[[str], str] = written_name) -> str:
    """Text of a tree; `named` writes the names."""
    again = partial(write, named=named)
    match expression:
        case Name(text):
            return named(text)
        case Contrast(word, reference):
            quote = "'" if '"' in str(reference) else '"'
            return word if reference is None else f"{word}({quote}{reference}{quote})"
        case Option(name, value):
            return f"{name} = {value}"
        case Number(value):
            return repr(value)
        case Call(function, arguments):
            return f"{function}({', '.join(map(again, arguments))})"
        case Group(inner):
            return f"({again(inner)})"
        case Signed(sign, operand):
            return f"{sign}{_within(operand, _POWER, again)}"
        case Power(base, operator, exponent):
            base_text, power = (_within(one, _ATOM, again) for one in (base, exponent))
            return f"{base_text} {operator} {power}"
        case Chain(first, rest):
            loosest = _precedence(expression)
            later = (f"{_spaced(sign)}{_within(one, loosest + 1, again)}" for sign, one in rest)
            return "".join([_within(first, loosest, again), *later])


def variables(expression: Expression) -> Iterator[str]:
    """Names of the variables, in the order of the text; functions are none."""
    for one in walk(expression):
        if isinstance(one, Name):
            yield one.text


def walk(expression: Expression) -> Iterator[Expression]:
    """The tree and all trees within it, in the order of the text."""
    yield expression
    match expression:
        case Call(_, arguments):
            parts = arguments
        case Signed(_, one) | Power(one, _, _) | Group(one):
            parts = (one,)
        case Chain(first, rest):
            parts = (first, *(operand for _, operand in rest))
        case _:
            parts = ()
    for part in parts:
        yield from walk(part)


def changed(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The tree with every part changed, the innermost first."""
    again = partial(changed, change=change)
    match expression:
        case Call(function, arguments):
            expression = Call(function, tuple(map(again, arguments)))
        case Signed(sign, operand):
            expression = Signed(sign, again(operand))
        case Power(base, operator, exponent):
            expression = Power(again(base), operator, exponent)
        case Chain(first, rest):
            later = tuple((sign, again(operand)) for sign, operand in rest)
            expression = Chain(again(first), later)
        case Group(inner):
            expression = Group(again(inner))
    return change(expression)


def factors_of(expression: Expression) -> Iterator["Name | Call"]:
    """Names and calls that terms are made of, in the order of the text."""
    match expression:
        case Name() | Call():
            yield expression
        case Signed(_, one) | Power(one, _, _) | Group(one):
            yield from factors_of(one)
        case Chain(first, rest):
            for one in (first, *(operand for _, operand in rest)):
                yield from factors_of(one)


def terms_of(expression: Expression) -> frozenset[Term]:
    """Terms of a model, each a set of names and calls; that of the intercept is empty.

    Raises
    ------
    FormulaError
        There are more than `MAX_TERMS`.
    """
    match expression:
        case Number(value):
            return frozenset([frozenset()] if value else [])
        case Group(inner):
            return terms_of(inner)
        case Signed(sign, operand):
            return terms_of(operand) if sign == "+" else frozenset()
        case Power(base, _, Number(int(exponent))):
            found = one = terms_of(base)
            for _ in range(exponent - 1):
                found = _products(found, one) | one
            return found
        case Chain(first, rest):
            found = terms_of(first)
            for operator, operand in rest:
                found = _joined(found, operator, terms_of(operand))
            return found
    return frozenset([frozenset([expression])])


def has_number_inside(expression: Expression) -> bool:
    """Whether 0 or 1, which mean the intercept, stand in parentheses or in a product."""
    operands = [expression]
    if isinstance(expression, Chain) and expression.rest[0][0] in ("+", "-"):
        operands = [expression.first, *(operand for _, operand in expression.rest)]
    return any(
        isinstance(part, Number)
        for one in operands
        if not isinstance(one, Number)
        for part in _outside_calls(one)
    )


def _outside_calls(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Signed(_, Number()) | Call():
            return
        case Signed(_, one) | Power(one, _, _) | Group(one):
            yield from _outside_calls(one)
        case Chain(first, rest):
            for one in (first, *(operand for _, operand in rest)):
                yield from _outside_calls(one)
        case _:
            yield expression


def _joined(left: frozenset[Term], operator: str, right: frozenset[Term]) -> frozenset[Term]:
    match operator:
        case "+":
            found = left | right
        case "-":
            found = left - right
        case ":":
            found = _products(left, right)
        case "*":
            found = left | right | _products(left, right)
        case _:  # a / b is a + a:b
            every: Term = frozenset().union(*left)
            found = left | _products(frozenset([every]), right)
    if len(found) > MAX_TERMS:
        raise FormulaError(f"the formula has more than {MAX_TERMS} terms; leave some out")
    return found


def _products(left: frozenset[Term], right: frozenset[Term]) -> frozenset[Term]:
    if len(left) * len(right) > MAX_TERMS**2:
        raise FormulaError(f"the formula has more than {MAX_TERMS} terms; leave some out")
    return frozenset(one | other for one in left for other in right)


def _within(expression: Expression, loosest: int, written: Callable[[Expression], str]) -> str:
    text = written(expression)
    return text if _precedence(expression) >= loosest else f"({text})"


def _precedence(expression: Expression) -> int:
    match expression:
        case Chain(_, rest):
            return PRECEDENCE[rest[0][0]]
        case Signed():
            return _SIGN
        case Power():
            return _POWER
        case _:
            return _ATOM


def _spaced(operator: str) -> str:
    return operator if operator == ":" else f" {operator} "
