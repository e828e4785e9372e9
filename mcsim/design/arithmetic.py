"""Functions of a column that make one number of one: of the response, and offsets."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.formula import Formula, read_arithmetic
from mcsim.formula.expression import Call, Chain, Expression, Name, Number, Power, Signed, write

Floats = NDArray[np.float64]

_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "I": np.asarray,
    "exp": np.exp,
    "log": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
}
_OPERATORS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


def measured_response(formula: Formula, frame: pd.DataFrame) -> Floats:
    """What of the response is fitted, less the offsets, (n_rows,); errors as of `offset_of`."""
    with np.errstate(all="ignore"):  # what is no number is refused by who knows the rows
        measured = _value(read_arithmetic(formula.measured), frame)
        return np.asarray(measured - offset_of(formula, frame), dtype=np.float64)


def offset_of(formula: Formula, frame: pd.DataFrame) -> Floats:
    """The sum of a formula's offsets, (n_rows,).

    Raises
    ------
    DataError
        An offset is a function of several rows, or of text.
    """
    total = np.zeros(len(frame))
    for text in formula.offsets:
        total = total + _value(read_arithmetic(text), frame)
    return total


def _value(expression: Expression, frame: pd.DataFrame) -> Floats:
    match expression:
        case Name(name) if name in frame.columns and frame[name].dtype == np.float64:
            return frame[name].to_numpy()
        case Number(value):
            return np.full(len(frame), float(value))
        case Call(function, (argument,)) if function in _FUNCTIONS:
            return _FUNCTIONS[function](_value(argument, frame))
        case Signed(sign, operand):
            return _value(operand, frame) * (-1.0 if sign == "-" else 1.0)
        case Power(base, _, exponent):
            return np.asarray(_value(base, frame) ** _value(exponent, frame))
        case Chain(first, rest):
            found = _value(first, frame)
            for sign, operand in rest:
                found = _OPERATORS[sign](found, _value(operand, frame))
            return found
    allowed = ", ".join(_FUNCTIONS)
    raise DataError(
        f"{write(expression)!r} has no value in a single row of numbers; an offset or a response"
        f" is made of columns of numbers, + - * / **, and {allowed}"
    )
