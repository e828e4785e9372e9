"""Every error a user can meet, each with its exit code, and the problems that a message lists."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `mcsim` command."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 2
    TOO_MANY_FAILURES = 3
    OTHER_STUDY = 4
    INCOMPLETE = 5
    STOPPED = 75
    INTERRUPTED = 130


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a file or an option: where it stands, what it is, what to do."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.message}"


class McsimError(Exception):
    """An error that is the user's to mend; printed without a traceback."""

    exit_code = ExitCode.BAD_INPUT


class ScenarioError(McsimError):
    """A scenario that cannot be run; carries all its problems at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FormulaError(McsimError):
    """A formula that cannot be read; `position` counts characters from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        self.position = position
        super().__init__(message)


class LikelihoodError(McsimError):
    """A log-likelihood that is not that of its definition: mcsim is wrong, not the user."""

    exit_code = ExitCode.BUG

    def __init__(self, found: float, expected: float) -> None:
        super().__init__(
            f"the log-likelihood of this fit, {found:.6f}, is not that of its definition,"
            f" {expected:.6f}: a fault of mcsim, so no number of it is printed; please report it"
            " with the data and the formula"
        )


class DataError(McsimError):
    """A data file or a design that a formula cannot be fitted to."""


class PartReplacedError(DataError):
    """A file of a study that another run has replaced since it was listed."""


class StudyMismatchError(McsimError):
    """The results folder holds another study."""

    exit_code = ExitCode.OTHER_STUDY


class LargerStudyError(StudyMismatchError):
    """Another process has made the study larger since it was looked at."""

    def __init__(self, directory: object) -> None:
        super().__init__(f"{directory} holds more replicates of this study; repeat the command")


class IncompleteError(McsimError):
    """A study lacks replicates: nothing is wrong with those that are there."""

    exit_code = ExitCode.INCOMPLETE


class TooManyFailuresError(McsimError):
    """More replicates failed than the user allows."""

    exit_code = ExitCode.TOO_MANY_FAILURES


class StoppedError(BaseException):
    """A signal stopped the run; what was finished is safe.

    As KeyboardInterrupt, it is no Exception: libraries make errors of their own of those.
    """

    exit_code = ExitCode.STOPPED


class KeyboardStoppedError(StoppedError):
    """Ctrl-C stopped the run; what was finished is safe."""

    exit_code = ExitCode.INTERRUPTED


def nearest_name(name: str, allowed: Iterable[str]) -> str:
    """The sentence ` Did you mean 'x'?`, or an empty text where nothing is near."""
    import difflib

    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
