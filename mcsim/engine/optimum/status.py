"""How a fit ended: the one list, whose names the files of a study hold. Imports nothing."""

from enum import IntEnum


class Status(IntEnum):
    """How a fit ended; `NOT_CONVERGED` and `FAILED` are not usable."""

    OK = 0
    BOUNDARY = 1
    NOT_CONVERGED = 2
    FAILED = 3
