"""A right-hand side as the formula library reads it, and what it prints as users write it.

The library evaluates what it gets as Python. It gets what our own grammar has read as a whole,
written anew, of names that Python knows nothing by: others stand there as symbols.
"""

import builtins
import keyword
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from mcsim.formula import read_terms
from mcsim.formula.column_names import ColumnPiece, read_column
from mcsim.formula.expression import (
    Call,
    Contrast,
    Expression,
    Name,
    Option,
    changed,
    factors_of,
    variables,
    write,
)
from mcsim.formula.grammar import CONTRASTS, FORMULA_FUNCTIONS

_PLAIN = re.compile(r"(?!__)[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class LibraryText:
    """A right-hand side for the formula library.

    symbols : by name of a column of the data, what stands for it where that is not the name
    written : by factor of a term as the library has it, the same as the user wrote it
    is_own : whether the library reads what the user wrote
    """

    text: str
    is_own: bool
    symbols: Mapping[str, str]
    written: Mapping[str, str]

    def own_name(self, printed: str) -> str:
        """A column's or a term's name, as the library prints it, in the user's words."""
        if self.is_own or printed in ("1", "Intercept"):
            return printed
        return ":".join(map(self._own_piece, read_column(printed)))

    def _own_piece(self, piece: ColumnPiece) -> str:
        base = write(piece.base)
        label = piece.label
        if label is not None and _is_raw(piece.base):  # the library counts these columns from 0
            label = str(int(label) + 1)
        return self.written.get(base, base) + ("" if label is None else f"[{label}]")


def for_library(right_hand_side: str, taken: Collection[str]) -> LibraryText:
    """The text that the library may evaluate.

    Parameters
    ----------
    taken : names that no symbol may have

    Raises
    ------
    FormulaError
        Where the right-hand side cannot be read as a whole.
    """
    tree = read_terms(right_hand_side)
    symbols: dict[str, str] = {}
    for name in dict.fromkeys(variables(tree)):
        if not _is_harmless(name):
            free = (f"column_{n}" for n in range(len(taken) + len(symbols) + 1))
            symbols[name] = next(
                one for one in free if one not in taken and one not in symbols.values()
            )

    change = partial(_for_library, symbols)
    factors = [(changed(one, change), one) for one in factors_of(tree)]
    written = {_as_printed(library): write(own) for library, own in factors}
    text = write(changed(tree, change))
    return LibraryText(text, text == write(tree), symbols, written)


def _for_library(symbols: Mapping[str, str], one: Expression) -> Expression:
    match one:
        case Name(name):
            return Name(symbols.get(name, name))
        case Call("factor", arguments):
            return Call("C", arguments)
        case Contrast(word, reference):
            return Contrast(f"contr.{CONTRASTS[word]}", reference)
        case Option(name):
            return Option(name, "True")
    return one


def _as_printed(factor: Expression) -> str:
    """The library's own spelling, as it is read here."""
    (piece,) = read_column(write(factor))
    return str(piece)


def _is_harmless(name: str) -> bool:
    """Whether Python can only take this name for a column of the data."""
    is_word = keyword.iskeyword(name) or hasattr(builtins, name) or name in FORMULA_FUNCTIONS
    return _PLAIN.fullmatch(name) is not None and not is_word


def _is_raw(base: Name | Call) -> bool:
    return isinstance(base, Call) and any(isinstance(one, Option) for one in base.arguments)
