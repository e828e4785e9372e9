"""The columns that the formula library makes of a data frame.

It evaluates what it gets as Python, and gets it here alone: text that our own grammar has read as a
whole and written anew, of names that are columns of the data or symbols for them.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.errors import DataError, nearest_name
from mcsim.formula import read_terms, variable_names, written_name
from mcsim.formula.expression import Call, Contrast, Name, walk
from mcsim.formula.library import for_library

Floats = NDArray[np.float64]
Matrix = tuple[Floats, tuple[str, ...], tuple[int, ...], tuple[str, ...]]

MOST_SHOWN = 20  # levels of a factor in a message
NO_NUMBER = "is infinite, or not a number"


def library_matrix(frame: pd.DataFrame, written: str) -> Matrix:
    """Columns (n_rows, n), their names, the number of the term of each, and the terms.

    Raises
    ------
    DataError
        A right-hand side makes no columns of these data, or such that are no numbers.
    """
    from formulaic import Formula as ModelFormula
    from formulaic.errors import FormulaicError

    _check_references(written, frame)
    names = [*variable_names(written)]  # no others: a column may be called as a function is
    library = for_library(written, names)
    symbols = [library.symbols.get(name, name) for name in names]
    try:
        with np.errstate(all="ignore"):  # what is no number is refused below, with its name
            matrix = ModelFormula(library.text).get_model_matrix(
                frame[names].set_axis(symbols, axis="columns"),
                na_action="raise",
                context={"sqrt": np.sqrt},
            )
    # a column is not a number; C gets a second argument; hundreds of terms inside a call
    except (FormulaicError, ValueError, IndexError, RecursionError) as error:
        reason = f"a value {NO_NUMBER}" if "null values" in str(error) else str(error)
        for name, symbol in library.symbols.items():
            reason = reason.replace(symbol, written_name(name))
        raise DataError(f"{written!r} makes no columns of these data: {reason}") from error
    indices = {
        library.own_name(str(term)): positions
        for term, positions in matrix.model_spec.term_indices.items()
    }
    numbers = [0] * matrix.shape[1]
    for number, positions in enumerate(indices.values()):
        for position in positions:
            numbers[position] = number
    values = np.ascontiguousarray(matrix.to_numpy(dtype=np.float64))
    own_names = tuple(map(library.own_name, matrix.model_spec.column_names))
    for name, is_finite in zip(own_names, np.isfinite(values).all(axis=0), strict=True):
        if not is_finite:
            raise DataError(f"the column {name!r} of these data {NO_NUMBER}")
    return values, own_names, tuple(numbers), tuple(indices)


def _check_references(written: str, frame: pd.DataFrame) -> None:
    """Refuse a reference level that a factor does not have."""
    for one in walk(read_terms(written)):
        match one:
            case Call("C" | "factor", (Name(name), Contrast(word, str(level)))):
                levels = [*map(str, frame[name].astype("category").cat.categories)]
                if level not in levels:
                    has, near = ", ".join(levels[:MOST_SHOWN]), nearest_name(level, levels)
                    raise DataError(
                        f"{word}({level!r}): {name!r} has no such level. It has: {has}.{near}"
                    )
