"""How many columns a formula may make of a data frame: told before they are made."""

from functools import partial

import pandas as pd

from mcsim.errors import DataError
from mcsim.formula import Formula, n_columns
from mcsim.formula.expression import Call, Expression, Name, Number, variables, walk

MAX_FIXED, MAX_RANDOM = 200, 20  # of a model, and of a random term: a fit takes seconds
MAX_NUMBERS = 100_000_000  # in all columns of a model: several times as many are held for a while


def check_sizes(formula: Formula, frame: pd.DataFrame) -> None:
    """Refuse a formula that makes too many columns, or too many numbers in all of them.

    Raises
    ------
    DataError
        Before any column is made.
    """
    n = _checked(formula.fixed, frame, MAX_FIXED)
    n += sum(_checked(one.columns, frame, MAX_RANDOM) for one in formula.random)
    if n * len(frame) > MAX_NUMBERS:
        raise DataError(
            f"{formula.text!r} makes up to {n:,} columns of {len(frame):,} rows,"
            f" {8e-9 * n * len(frame):,.1f} GB; at most {8e-9 * MAX_NUMBERS:g} GB are taken. Leave"
            " out columns or rows"
        )


def _checked(text: str, frame: pd.DataFrame, most: int) -> int:
    """Columns that a right-hand side makes, at most; refuses more than `most`."""
    n = n_columns(text, partial(_width, frame))
    if n > most:
        raise DataError(
            f"{text!r} makes up to {n:,} columns of these data; at most {most} are fitted. Leave"
            " out factors of many levels, or C() around a covariate, or write (1 | g) for them"
        )
    return n


def _width(frame: pd.DataFrame, expression: Expression) -> int:
    """At most how many columns a name or a call makes."""
    match expression:
        case Name(name) if isinstance(frame[name].dtype, pd.CategoricalDtype):
            return len(frame[name].cat.categories)
        case Call("C" | "factor"):
            return max(1, len(frame[[*variables(expression)]].drop_duplicates()))
        case Call("poly", (_, Number(int(degree)), *_)):
            return degree
        case Call(_, arguments):
            return max(_width(frame, one) for argument in arguments for one in walk(argument))
    return 1
