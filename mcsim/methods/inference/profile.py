"""Profile-likelihood intervals for parameters that a method reports."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.profile.components import Correlation, Deviation, Share, Target
from mcsim.engine.profile.deviance import Surface
from mcsim.engine.profile.intervals import Fitted, profile_intervals
from mcsim.methods.inference.components import RandomNames
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.names import DISPERSION, SIGMA, Parameter

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Profiles:
    """What is profiled for each parameter; the limits of a variance are the squares of its SD's."""

    targets: Mapping[Parameter, Hashable]

    def intervals(
        self,
        surface_of: Callable[[Any], Surface],
        fit: Fitted,
        blocks: Sequence[ParameterBlock],
        *,
        confidence: float,
    ) -> list[ParameterBlock]:
        """The estimates with profile limits, none where the fit failed or a limit is uncertain."""
        wanted = list(dict.fromkeys(self.targets[one.parameter] for one in blocks))
        limits = profile_intervals(surface_of, fit, wanted, confidence=confidence)
        found = []
        for one in blocks:
            position = wanted.index(self.targets[one.parameter])
            power = 2 if one.parameter.is_variance else 1
            lower, upper = limits.lower[:, position] ** power, limits.upper[:, position] ** power
            if one.parameter == DISPERSION:  # of which the root of the inverse was profiled
                with np.errstate(divide="ignore"):
                    lower, upper = upper**-2.0, lower**-2.0
            is_whole = np.isfinite(lower) & np.isfinite(upper)
            found.append(
                replace(
                    one,
                    ci_lower=np.where(is_whole, lower, np.nan),
                    ci_upper=np.where(is_whole, upper, np.nan),
                )
            )
        return found


def profiles_of(levels: Sequence[RandomNames], derived: Sequence[Parameter]) -> Profiles:
    """What to profile for a model's components, levels from the outermost, and derived ones."""
    targets: dict[Parameter, Target] = {SIGMA: Deviation()}
    for depth, level in enumerate(levels):
        for i, sd in enumerate(level.sds()):
            targets[sd] = targets[sd.as_variance] = Deviation(((depth, i),))
        for i, j in level.correlated_pairs():
            targets[level.correlation(i, j)] = Correlation(depth, i, j)
    return Profiles(targets | {one: _derived_target(one, levels) for one in derived})


def _derived_target(parameter: Parameter, levels: Sequence[RandomNames]) -> Target:
    effects = {
        level.level: (depth, i)
        for depth, level in enumerate(levels)
        for i, column in enumerate(level.columns)
        if parameter.is_of_column(column)
    }
    if parameter.kind != "icc":
        return Deviation(tuple(effects.values()))
    own = effects.pop(str(parameter.level))
    return Share((own, *effects.values()))
