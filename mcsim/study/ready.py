"""A method of a scenario, ready for the responses of one design."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsim.design.columns import Floats, ModelColumns
from mcsim.engine.optimum.status import Status
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import Analysis, FitOutcomes, Method, MethodSettings
from mcsim.names import Parameter
from mcsim.scenario.records import MethodSpec


@dataclass(frozen=True)
class ReadyMethod:
    """A method that is ready for the responses of one design.

    columns : of the model; aliased : fixed effects that it leaves out since others determine them
    undetermined : parameters that the design leaves open, which are null in the results
    """

    spec: MethodSpec
    settings: MethodSettings
    method: Method
    columns: ModelColumns
    aliased: tuple[str, ...]
    undetermined: frozenset[Parameter]

    def take(self, responses: Floats) -> Any:
        """What the method needs of responses (n_replicates, n_rows); normal ones less offsets."""
        offset = self.columns.offset if self.settings.family is None else None
        return self.method.take(responses if offset is None else responses - offset)


def failed(planned: ReadyMethod, message: str) -> Analysis:
    """The analysis of one replicate that has failed, and why: no estimates."""
    none = np.full(1, np.nan)
    blocks = [ParameterBlock(one) for one in planned.method.parameters()]
    fits = FitOutcomes(np.array([Status.FAILED]), none, none, none, [message])
    return Analysis(dict.fromkeys(planned.settings.df, blocks), fits)
