"""What every method gives, and what methods ask of the columns of their model."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.design import ModelColumns
from mcsim.inference import ParameterBlock, RandomNames, containment_df

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FitOutcomes:
    """How the fits of a block ended; `message` is None for a usable fit.

    status : (n_replicates,) of `Status`; evaluations : NaN where they are not counted
    """

    status: Ints
    loglik: Floats
    evaluations: Floats
    certificate: Floats
    message: list[str | None]


@dataclass(frozen=True)
class Analysis:
    """Estimates of a block, per df method, and the outcomes of the fits they share."""

    estimates: dict[str, list[ParameterBlock]]
    fits: FitOutcomes


class Method(Protocol):
    """A prepared method: takes blocks of responses, then analyses all of them.

    n_values : numbers that it keeps of a response
    """

    n_values: int

    def parameters(self) -> list[tuple[str, str]]:
        """Parameter and component of every estimate, in order."""
        ...

    def take(self, responses: Floats) -> Any:
        """Return what the method needs of responses (n_replicates, n_rows)."""
        ...

    def analyse(self, taken: list[Any]) -> Analysis:
        """Fit every response of the blocks that were taken."""
        ...


@dataclass(frozen=True)
class MethodSettings:
    """What a scenario says of a method beside its formula."""

    estimator: str
    df: tuple[str, ...]
    confidence: float


def random_names(columns: ModelColumns) -> list[RandomNames]:
    """Names of the random effects per level, outermost first."""
    return [RandomNames(level.level, level.names, level.structures) for level in columns.levels]


def parameter_names(columns: ModelColumns) -> list[tuple[str, str]]:
    """Names in the order of the estimates."""
    names = [(name, "fixed") for name in columns.names]
    for level in random_names(columns):
        names += [(parameter, level.level) for parameter in level.parameters()]
    return [*names, ("sigma", "residual")]


def degrees_of_freedom(columns: ModelColumns, name: str) -> Floats:
    """Degrees of freedom of every fixed effect: (p,), infinite for the normal distribution."""
    if name == "z":
        return np.full(len(columns.names), np.inf)
    return containment_df(
        columns.X,
        columns.term_of_column,
        [level.unit_of_row for level in columns.levels],
        [column == "Intercept" for column in columns.names],
    )
