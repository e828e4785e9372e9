"""A method of a scenario, ready for the responses of one design."""

from dataclasses import dataclass
from typing import Any

from mcsim.design.columns import Floats, ModelColumns
from mcsim.methods.method import Method, MethodSettings
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
