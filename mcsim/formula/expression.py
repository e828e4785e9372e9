"""What a formula says, as a tree of names, numbers, calls and operators, and the text of a tree.

The text is made from the tree alone, so nothing gets into it that was not read. Inside a call it
is spelt as the formula library prints names: `I(x ** 2)`, `poly(x, 2)`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mcsim.errors import FormulaError

MAX_TERMS = 500
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, ":": 3}  # of operators that make a Chain
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
class Call:
    """A function of the formula library and what it is called with."""

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


Expression: TypeAlias = Name | Number | Call | Signed | Power | Chain | Group
Term: TypeAlias = frozenset[Expression]  # of a model: names and calls that are multiplied


def write(expression: Expression) -> str:
    """Text of a tree: the only text that the formula library gets."""
    match expression:
        case Name(text):
            return text
        case Number(value):
            return repr(value)
        case Call(function, arguments):
            return f"{function}({', '.join(map(write, arguments))})"
        case Group(inner):
            return f"({write(inner)})"
        case Signed(sign, operand):
            return f"{sign}{_operand(operand, _POWER)}"
        case Power(base, operator, exponent):
            return f"{_operand(base, _ATOM)} {operator} {_operand(exponent, _ATOM)}"
        case Chain(first, rest):
            loosest = _precedence(expression)
            later = (f"{_spaced(sign)}{_operand(one, loosest + 1)}" for sign, one in rest)
            return "".join([_operand(first, loosest), *later])


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


def _operand(expression: Expression, loosest: int) -> str:
    text = write(expression)
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
