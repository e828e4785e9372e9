"""How many columns a formula may make of a data frame: told before they are made."""

from functools import partial

import pandas as pd

from mcsim.errors import DataError
from mcsim.formula import n_columns
from mcsim.formula.expression import Call, Expression, Name, Number, variables, walk

MAX_FIXED, MAX_RANDOM = 200, 20  # of a model, and of a random term: a fit takes seconds


def check_size(text: str, frame: pd.DataFrame, most: int) -> None:
    """Refuse a right-hand side that makes more than `most` columns.

    Raises
    ------
    DataError
        Before any column is made.
    """
    n = n_columns(text, partial(_width, frame))
    if n > most:
        raise DataError(
            f"{text!r} makes up to {n:,} columns of these data; at most {most} are fitted. Leave"
            " out factors of many levels, or C() around a covariate, or write (1 | g) for them"
        )


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
