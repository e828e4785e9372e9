"""The structures of residuals, by the names that a model gives them."""

from mcsim.engine.residuals.ar1 import Autoregressive
from mcsim.engine.residuals.exchangeable import Exchangeable
from mcsim.engine.residuals.strata import Strata
from mcsim.engine.residuals.structure import ResidualStructure

KINDS: dict[str, type[ResidualStructure]] = {
    "ar1": Autoregressive,
    "exchangeable": Exchangeable,
    "strata": Strata,
}
