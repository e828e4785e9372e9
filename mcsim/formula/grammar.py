"""Text of formulas and of column names to trees: the tokens and the expressions of both.

A text is read as a whole or refused, and none of it is evaluated. Knows no data.
"""

import builtins
import keyword
import math
import re
from collections.abc import Callable
from typing import NamedTuple

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula.expression import (
    PRECEDENCE,
    Call,
    Chain,
    Expression,
    Group,
    Name,
    Number,
    Power,
    Signed,
    variables,
)

FORMULA_FUNCTIONS = ("C", "I", "center", "exp", "log", "log10", "poly", "scale", "sqrt")
OF_ALL_ROWS = ("center", "poly", "scale")  # a value of theirs depends on every row of the data
MAX_LENGTH = 2000  # characters: reading and expanding stay instant
MAX_PARENTHESES = 50  # far below the depth at which Python gives up

PRODUCT = ("*", "/", ":")
SUM = ("+", "-", *PRODUCT)
_KINDS = ("name", "number", "label", "end")
_ARITHMETIC = ("+", "-", "*", "/")
_POWERS = tuple("123456789")  # (a + b) ** 9 holds every interaction of nine columns
_PIECES = (
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<operator>\*\*|\|\||[-+*/:^()|~,]){more}"
    r"|(?P<end>\Z)|(?P<other>.))"
)
# a level of a factor may hold any sign, also ]: it ends where the column or its factor does
_LABEL = r"|(?P<label>\[(?:[^\]]|\](?!\s*(?::|\Z)))*\](?=\s*(?::|\Z)))"
FORMULA_TOKEN = re.compile(_PIECES.format(more=""), re.ASCII | re.DOTALL)
COLUMN_TOKEN = re.compile(_PIECES.format(more=_LABEL), re.ASCII | re.DOTALL)


def is_name(text: str) -> bool:
    """Whether a formula can name a column `text`."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) is not None
    return plain and not keyword.iskeyword(text) and not text.startswith("__")


def refuse_long(text: str) -> None:
    """Refuse a user's text that is too long; what is written from one that is not may be longer."""
    if len(text) > MAX_LENGTH or text.count("(") > MAX_PARENTHESES:
        limits = f"{MAX_LENGTH} characters and {MAX_PARENTHESES} parentheses"
        raise FormulaError(f"the formula is too long: at most {limits}")


class Token(NamedTuple):
    """A piece of the text: its kind (a group of the pattern), and where it stands."""

    kind: str
    text: str
    start: int
    end: int


class Reader:
    """Recursive descent over the tokens of a text."""

    def __init__(self, text: str, pattern: re.Pattern[str] = FORMULA_TOKEN) -> None:
        self.text = text
        self.tokens = [_read_token(match) for match in pattern.finditer(text)]
        self.index = 0

    @property
    def next(self) -> Token:
        """The token that is read next."""
        return self.tokens[self.index]

    def take(self, wanted: str, expected: str) -> str:
        """Text of the next token, which must be of the kind or have the text that is wanted."""
        token = self.next
        if wanted != (token.kind if wanted in _KINDS else token.text):  # a column may be named end
            raise self.refusal(token, f"expected {expected}")
        self.index += 1
        return token.text

    def accept(self, *texts: str) -> str:
        """The next token's text if it is one of these; else empty, and nothing is taken."""
        text = self.next.text
        self.index += text in texts
        return text if text in texts else ""

    def refusal(self, token: Token, advice: str) -> FormulaError:
        """What was found, where, and what to do."""
        return _refusal(self.text, token, advice)

    def terms(self) -> Expression:
        """Terms of a model: columns, and operators that build sets of them."""
        sign = self.accept("+", "-")
        return self.chain(self._term, SUM, sign=sign)

    def products(self) -> Expression:
        """One term of a model, in which sums stand in parentheses."""
        return self.chain(self._term, PRODUCT)

    def chain(
        self,
        operand: Callable[[], Expression],
        operators: tuple[str, ...],
        loosest: int = 1,
        sign: str = "",
    ) -> Expression:
        """Operands and operators between them, the tightest ones innermost; a sign at the start."""
        if loosest > max(PRECEDENCE[one] for one in operators):
            return Signed(sign, operand()) if sign else operand()
        start = self.next
        first = self.chain(operand, operators, loosest + 1, sign)
        own = [one for one in operators if PRECEDENCE[one] == loosest]
        rest = []
        while joint := self.accept(*own):
            rest.append((joint, self.chain(operand, operators, loosest + 1)))
        is_product = rest and loosest > 1 and operand == self._term
        if is_product and any(
            isinstance(one, Number) for one in (first, *(one for _, one in rest))
        ):
            raise self.refusal(start, "0 and 1 stand alone, after + or -, not in a product")
        return Chain(first, tuple(rest)) if rest else first

    def variable_or_call(self, expected: str) -> Name | Call:
        """A name, or a function and what it is called with."""
        start = self.next
        name = self.take("name", expected)
        if not self.accept("("):
            return Name(name)
        if name not in FORMULA_FUNCTIONS:
            near = nearest_name(name, FORMULA_FUNCTIONS)
            allowed = f"the functions of a formula are {', '.join(FORMULA_FUNCTIONS)}.{near}"
            raise self.refusal(start, allowed)
        arguments = [self._arithmetic()]
        while self.accept(","):
            arguments.append(self._arithmetic())
        self.take(")", "')', ',' or one of + - * / ** inside a call")
        self._check_arguments(start, arguments)
        return Call(name, tuple(arguments))

    def _check_arguments(self, call: Token, arguments: list[Expression]) -> None:
        match call.text, arguments:
            case (_, [_]):
                return
            case "poly", [_, Number(int(degree))] if degree > 0:
                return
            case "poly", _:
                advice = "write poly(x, 2): a column, and a whole number from 1 on"
            case _:
                advice = f"{call.text}() takes one argument"
        raise self.refusal(call, advice)

    def _term(self) -> Expression:
        """Read an operand outside any call, where operators build sets of columns."""
        found: Expression
        if self.accept("("):
            found = Group(self.terms())
            self.take(")", "')'; a random term such as (x | animal) stands by itself after a '+'")
        elif digit := self.accept("0", "1"):
            found = Number(int(digit))
        else:
            found = self.variable_or_call("a column, a function, '(', 0 or 1 (arithmetic: I(...))")
        operator = self.accept("**", "^")
        if not operator:
            return found
        power = self.accept(*_POWERS)
        if not power:
            raise self.refusal(self.next, "a power is a whole number from 1 to 9")
        return Power(found, operator, Number(int(power)))

    def _arithmetic(self) -> Expression:
        return self.chain(self._operand, _ARITHMETIC)

    def _operand(self) -> Expression:
        """Read an operand inside a call, where operators are those of arithmetic."""
        sign = self.accept("+", "-")
        start = self.next
        found: Expression
        if self.accept("("):
            found = self._arithmetic()
            self.take(")", "')' or one of + - * / ** inside a call")
        elif start.kind == "number":
            found = self._number()
        else:
            found = self.variable_or_call("a column, a number, a function or '('")
        if isinstance(found, Name) and hasattr(builtins, found.text):
            raise self.refusal(start, "inside a call this is a word of Python; rename it")
        if self.accept("**"):
            found = Power(found, "**", self._exponent())
            if not any(variables(found)):  # powers of constants could keep Python busy for ever
                raise self.refusal(start, "a power inside a call is that of a column")
        return Signed(sign, found) if sign else found

    def _exponent(self) -> Number | Signed:
        """A number, or a negative one, which the formula library prints in parentheses."""
        is_enclosed = self.accept("(")
        sign = self.accept("-")
        number = self._number("a number as the power")
        if is_enclosed:
            self.take(")", "')' after the power")
        return Signed(sign, number) if sign else number

    def _number(self, expected: str = "a number") -> Number:
        token = self.next
        text = self.take("number", expected)
        value = int(text) if text.isdecimal() else float(text)
        if not math.isfinite(value):
            raise self.refusal(token, "no number is so large; write one below 1e308")
        return Number(value)


def _read_token(match: re.Match[str]) -> Token:
    kind = str(match.lastgroup)
    token = Token(kind, match[kind], match.start(kind), match.end())
    if kind == "other":
        allowed = f"+ - * / : ** ^ ( ) | || ~ , and {', '.join(FORMULA_FUNCTIONS)}"
        if token.text in ("`", "."):
            advice = "a formula names columns by letters, digits and _; rename others in the table"
            raise _refusal(match.string, token, advice)
        raise _refusal(match.string, token, f"a formula holds only names, numbers, {allowed}")
    if kind == "name" and not is_name(token.text):
        raise _refusal(
            match.string, token, "a formula cannot name this column; rename it in the table"
        )
    return token


def _refusal(text: str, token: Token, advice: str) -> FormulaError:
    found = repr(token.text) if token.text else "the end"
    where = f"at character {token.start + 1} of {text!r}"
    return FormulaError(f"found {found} {where}; {advice}", token.start)
