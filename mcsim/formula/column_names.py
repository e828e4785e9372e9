"""Names of columns taken apart: `diet[T.fed]:x` is a level of a factor, times a covariate."""

import itertools
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from mcsim.errors import FormulaError
from mcsim.formula.expression import (
    Call,
    Contrast,
    Expression,
    Name,
    Option,
    changed,
    variables,
    walk,
    write,
)
from mcsim.formula.grammar import COLUMN_TOKEN, CONTRASTS, OF_ALL_ROWS, Reader, refuse_long

_BLANKS = re.compile(r"\s+(?![^\[]*\])")  # those inside a factor's level are part of it


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


def variables_of(name: str) -> set[str]:
    """The variables that a column is made of; errors as of `read_column`."""
    return {one for piece in read_column(name) for one in variables(piece.base)}


@lru_cache(maxsize=1024)
def same_column(name: str) -> str:
    """One spelling for all names of a column: `x:I(z**2)` and `I(z ** 2):x` are the same.

    Other names, as a user's estimators may have, differ by more than blanks.
    """
    try:
        pieces = read_column(name)
    except FormulaError:
        return _BLANKS.sub("", name)
    return ":".join(sorted(str(replace(one, base=_in_one_word(one.base))) for one in pieces))


def is_of_all_rows(column: str) -> bool:
    """Whether the values of a column change with the other rows of the data, as poly's do."""
    parts = itertools.chain.from_iterable(walk(piece.base) for piece in read_column(column))
    calls = [one for one in parts if isinstance(one, Call) and one.function in OF_ALL_ROWS]
    return any(Option("raw", "TRUE") not in call.arguments for call in calls)


def _in_one_word(base: Name | Call) -> Name | Call:
    """With C() for factor(), and R's words for the coding of factors."""

    def change(one: Expression) -> Expression:
        match one:
            case Call("factor", arguments):
                return Call("C", arguments)
            case Contrast(word, reference):
                return Contrast(f"contr.{CONTRASTS[word]}", reference)
        return one

    found = changed(base, change)
    assert isinstance(found, Name | Call)
    return found


class _ColumnReader(Reader):
    """Reads the factors of a column's name; brackets follow at once, without a blank."""

    def piece(self) -> ColumnPiece:
        base = self.variable_or_call("a column or a function")
        end = self.tokens[self.index - 1].end
        if self.next.kind != "label" or self.next.start != end:
            return ColumnPiece(base, None)
        return ColumnPiece(base, self.take("label", "a level in brackets")[1:-1])
