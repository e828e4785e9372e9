"""The largest sizes that are taken: a slip of the pen gets a message, not the machine's memory."""

import math
from numbers import Real
from typing import Any

from mcsim.errors import DataError

MOST_ROWS = 2_000_000  # of a data set: to build it and its models takes about 1 kB per row
MOST_REPLICATES = 10_000_000  # of a condition: an MCSE is then 3,000 times smaller than an SD
MOST_RESAMPLES = 100_000  # of a bootstrap interval
MOST_PROCESSES = 1_024  # of a run
MOST_SHARDS = 10_000  # of a study
CONFIDENCE = (0.01, 0.999)  # of the intervals of one fit
WIDTH = (40, 1_000)  # mm of a figure
LARGEST, SMALLEST = 1e50, 1e-50  # sizes of numbers but 0: their fourth powers can be added up


def is_of_size(number: float) -> bool:
    """Whether a number is 0 or of a size that can be computed with; not one that is NaN."""
    return number == 0 or SMALLEST <= abs(number) <= LARGEST


def number_in(
    name: str, value: Any, low: float, high: float, *, is_whole: bool = False, others: str = ""
) -> float:
    """An argument that is to be a number from `low` to `high`; numpy's are numbers too.

    Parameters
    ----------
    others : what else it may be, for the message

    Raises
    ------
    DataError
        It is something else, such as True, or NaN.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and low <= value <= high and (value % 1 == 0 or not is_whole):
        return int(value) if is_whole else float(value)
    shown = value if isinstance(value, Real) else repr(value)
    end = "up" if math.isinf(high) else f"to {high:,}"
    raise DataError(
        f"{name} is {shown}; it must be a {'whole ' * is_whole}number from {low} {end}{others}"
    )
