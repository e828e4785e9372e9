"""Text of formulas and of column names to trees: the tokens and the expressions of both.

A text is read as a whole or refused, and none of it is evaluated. Knows no data.
"""

import math
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from mcsim.errors import FormulaError, nearest_name
from mcsim.formula.expression import (
    BARE,
    PRECEDENCE,
    Call,
    Chain,
    Contrast,
    Expression,
    Group,
    Name,
    Number,
    Option,
    Power,
    Signed,
    variables,
    write,
)

FORMULA_FUNCTIONS = ("C", "I", "center", "exp", "factor", "log", "log10", "poly", "scale", "sqrt")
OF_ALL_ROWS = ("center", "poly", "scale")  # a value of theirs depends on every row of the data
CONTRASTS = {  # of C(), by the words of Python and of R
    "Treatment": "treatment", "contr.treatment": "treatment",
    "Sum": "sum", "contr.sum": "sum",
    "Helmert": "helmert", "contr.helmert": "helmert",
    "Poly": "poly", "contr.poly": "poly",
}  # fmt: skip
TRUE_WORDS = ("TRUE", "T", "True")
MAX_LENGTH = 2000  # characters: reading and expanding stay instant
MAX_PARENTHESES = 50  # far below the depth at which Python gives up

PRODUCT = ("*", "/", ":", "%in%")
SUM = ("+", "-", *PRODUCT)
_KINDS = ("name", "number", "string", "label", "end")
_ARITHMETIC = ("+", "-", "*", "/")
_ADVICE = {  # what R's users write for what stands elsewhere
    "offset": "an offset stands by itself after a '+', as in y ~ x + offset(z) + (1 | g)",
    "as.factor": "write factor(g)",
    "s": "smooth terms are not known; write poly(x, 3)",
    "ns": "splines are not known; write poly(x, 3)",
    "bs": "splines are not known; write poly(x, 3)",
    "cbind": "the response is one column",
    "Error": "strata of error are random terms: write (1 | block/plot) for Error(block/plot)",
    "relevel": 'write C(g, Treatment("ctl")) for relevel(g, "ctl")',
}
_BLANK = "a name with a blank or another sign in it stands in backticks, as in `Mouse ID`"
_TYPED = {  # signs that word processors put in the place of others
    **dict.fromkeys("\"'“”‘’„", "columns stand in backticks where they need to"),  # noqa: RUF001
    **dict.fromkeys("×·∗", "write * or :"),  # noqa: RUF001
    **dict.fromkeys("–—−", "write -"),  # noqa: RUF001
    **dict.fromkeys("<>!&", "comparisons are not known; add a column of 0 and 1 to the table"),
}
_POWERS = tuple("123456789")  # (a + b) ** 9 holds every interaction of nine columns
_PIECES = (
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))"
    rf"|(?P<name>{BARE}|`[^`\n]*`)"
    r"|(?P<string>\"[^\"\\\n]*\"|'[^'\\\n]*')"
    r"|(?P<operator>\*\*|\|\||%in%|[-+*/:^()|~,=]){more}"
    r"|(?P<end>\Z)|(?P<other>.))"
)
# a level of a factor may hold any sign, also ]: it ends where the column or its factor does
_LABEL = r"|(?P<label>\[(?:[^\]]|\](?!\s*(?::|\Z)))*\](?=\s*(?::|\Z)))"
FORMULA_TOKEN = re.compile(_PIECES.replace("{more}", ""), re.DOTALL)
COLUMN_TOKEN = re.compile(_PIECES.replace("{more}", _LABEL), re.DOTALL)


def is_name(text: str) -> bool:
    """Whether a formula can name a column `text`, if need be in backticks."""
    return text.isprintable() and text.strip() == text != "" and "`" not in text and text != "."


def refuse_long(text: str) -> None:
    """Refuse a user's text that is too long; what is written from one that is not may be longer."""
    if len(text) > MAX_LENGTH or text.count("(") > MAX_PARENTHESES:
        limits = f"{MAX_LENGTH} characters and {MAX_PARENTHESES} parentheses"
        raise FormulaError(f"the formula is too long: at most {limits}")


class Token(NamedTuple):
    """A piece of the text: its kind (a group of the pattern), and where it stands.

    text : without quotes
    """

    kind: str
    text: str
    start: int
    end: int


class Reader:
    """Recursive descent over the tokens of a text."""

    def __init__(self, text: str, pattern: re.Pattern[str] = FORMULA_TOKEN) -> None:
        self.text = unicodedata.normalize("NFC", text)  # an accent may come as two characters
        self.tokens = [_read_token(match) for match in pattern.finditer(self.text)]
        self.index = 0

    @property
    def next(self) -> Token:
        """The token that is read next."""
        return self.tokens[self.index]

    def take(self, wanted: str, expected: str) -> str:
        """Text of the next token, which must be of the kind or have the text that is wanted."""
        token = self.next
        if not (token.kind == wanted if wanted in _KINDS else _is_sign(token, wanted)):
            raise self.refusal(token, f"expected {expected}")
        self.index += 1
        return token.text

    def accept(self, *signs: str) -> str:
        """The next token's text if it is one of these; else empty, and nothing is taken."""
        is_one = _is_sign(self.next, *signs)
        self.index += is_one
        return self.tokens[self.index - 1].text if is_one else ""

    def refusal(self, token: Token, advice: str) -> FormulaError:
        """What was found, where, and what to do."""
        if token.kind == "name" and self.index and self.tokens[self.index - 1].kind == "name":
            advice = f"{advice}; {_BLANK}"
        if token.text in ("|", "||"):
            advice = f"{advice}; a random term stands in parentheses, as in (1 | animal)"
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
            sign = ":" if joint == "%in%" else joint
            rest.append((sign, self.chain(operand, operators, loosest + 1)))
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
        if self.text[start.start] == "`" or not self.accept("("):
            return Name(name)
        if name not in FORMULA_FUNCTIONS:
            near = nearest_name(name, FORMULA_FUNCTIONS)
            allowed = f"functions are {', '.join(FORMULA_FUNCTIONS)}; {_BLANK}.{near}"
            raise self.refusal(start, _ADVICE.get(name, allowed))
        arguments = [self.arithmetic()]
        while self.accept(","):
            arguments.append(self._further_argument(name, len(arguments)))
        self._check_arguments(start, arguments)
        self.take(")", "')', ',' or one of + - * / ** inside a call")
        return Call(name, tuple(arguments))

    def _further_argument(self, function: str, position: int) -> Expression:
        if (function, position) == ("C", 1):
            return self._contrast()
        if (function, position) == ("poly", 2):
            start = self.next
            option = self.take("name", "raw = TRUE")
            self.take("=", "'=', as in raw = TRUE")
            value = self.take("name", "TRUE, as in raw = TRUE")
            if option != "raw" or value not in TRUE_WORDS:
                raise self.refusal(start, "write poly(x, 2, raw = TRUE)")
            return Option("raw", "TRUE")
        return self.arithmetic()

    def _contrast(self) -> Contrast:
        """How a factor is coded, the second argument of C()."""
        start = self.next
        if start.text == "contr" and _is_sign(self.tokens[self.index + 1], "="):  # as R writes it
            self.index += 2
            start = self.next
        if start.kind == "string":
            raise self.refusal(start, f'for a reference level write Treatment("{start.text}")')
        word = self.take("name", f"how to code the factor: {', '.join(CONTRASTS)}")
        if word not in CONTRASTS:
            near = nearest_name(word, CONTRASTS)
            raise self.refusal(start, f"factors are coded by {', '.join(CONTRASTS)}.{near}")
        if not self.accept("("):
            return Contrast(word, None)
        if CONTRASTS[word] != "treatment":
            raise self.refusal(start, f"write {word} without parentheses")
        is_number = self.next.kind == "number"
        reference = self.take("number" if is_number else "string", "the reference level in quotes")
        self.take(")", f"')' after the reference level, as in {word}(\"ctl\")")
        return Contrast(word, reference)

    def _check_arguments(self, call: Token, arguments: list[Expression]) -> None:
        match call.text, arguments:
            case (_, [_]) | ("C", [_, Contrast()]):
                return
            case "poly", [_, Number(int(degree)), *_] if degree > 0 and len(arguments) < 4:
                return
            case "poly", _:
                advice = "write poly(x, 2): a column, and a whole number from 1 on"
            case "factor", _:
                advice = 'factor() takes one column; for the reference: C(g, Treatment("ctl"))'
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
        if isinstance(found, Name):
            advice = f"here a power of a column is the column; write I({write(found)}^2)"
            raise self.refusal(self.next, advice)
        power = self.accept(*_POWERS)
        if not power:
            raise self.refusal(self.next, "a power is a whole number from 1 to 9")
        return Power(found, operator, Number(int(power)))

    def arithmetic(self) -> Expression:
        """Numbers, columns and functions of them, as inside a call."""
        return self.chain(self._operand, _ARITHMETIC)

    def _operand(self) -> Expression:
        """Read an operand inside a call, where operators are those of arithmetic."""
        sign = self.accept("+", "-")
        start = self.next
        found: Expression
        if self.accept("("):
            found = self.arithmetic()
            self.take(")", "')' or one of + - * / ** inside a call")
        elif start.kind == "number":
            found = self._number()
        else:
            found = self.variable_or_call("a column, a number, a function or '('")
        if self.accept("**", "^"):
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


def _is_sign(token: Token, *signs: str) -> bool:
    """Whether a token is an operator or a number with one of these texts, and not a name."""
    return token.kind in ("operator", "number") and token.text in signs


def _read_token(match: re.Match[str]) -> Token:
    kind = str(match.lastgroup)
    token = Token(kind, match[kind], match.start(kind), match.end())
    if kind == "other":
        allowed = f"+ - * / : ** ^ ( ) | || ~ , and {', '.join(FORMULA_FUNCTIONS)}"
        advice = f"a formula holds only names, numbers, {allowed}"
        if token.text == "`":
            advice = "a name in backticks ends with one, on the same line, and holds no other"
        advice = _TYPED.get(token.text, advice)
        raise _refusal(match.string, token, advice)
    if kind == "string" or token.text.startswith("`"):
        token = token._replace(text=token.text[1:-1])
    if kind == "name" and not is_name(token.text):
        advice = "name every column; a dot for all others is not known"
        if token.text != ".":
            advice = "no column can have this name, which is empty or holds odd characters"
        raise _refusal(match.string, token, advice)
    return token


def _refusal(text: str, token: Token, advice: str) -> FormulaError:
    found = "the end" if token.kind == "end" else repr(token.text)
    where = f"at character {token.start + 1} of {text!r}"
    return FormulaError(f"found {found} {where}; {advice}", token.start)
