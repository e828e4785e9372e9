"""Profile-likelihood intervals for the variance components that a method reports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import CompiledDesign
from mcsim.engine.fit import Fit
from mcsim.engine.nested.moments import Moments
from mcsim.engine.profile.components import Correlation, Deviation, Share, Target
from mcsim.engine.profile.intervals import profile_intervals
from mcsim.formula import same_column
from mcsim.methods.inference.components import RandomNames
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.scenario.derived import derived_parts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Profiles:
    """What is profiled for each parameter; the limits of a variance are the squares of its SD's."""

    targets: dict[str, Target]

    def intervals(
        self,
        design: CompiledDesign,
        moments: Moments,
        fit: Fit,
        blocks: Sequence[ParameterBlock],
        *,
        confidence: float,
    ) -> list[ParameterBlock]:
        """The estimates with profile limits, none where the fit failed or a limit is uncertain."""
        wanted = list(dict.fromkeys(self.targets.values()))
        limits = profile_intervals(design, moments, fit, wanted, confidence=confidence)
        found = []
        for one in blocks:
            position = wanted.index(self.targets[one.parameter])
            power = 2 if ".var(" in one.parameter else 1
            lower, upper = limits.lower[:, position] ** power, limits.upper[:, position] ** power
            is_whole = np.isfinite(lower) & np.isfinite(upper)
            found.append(
                replace(
                    one,
                    ci_lower=np.where(is_whole, lower, np.nan),
                    ci_upper=np.where(is_whole, upper, np.nan),
                )
            )
        return found


def profiles_of(levels: Sequence[RandomNames], derived: Sequence[str]) -> Profiles:
    """What to profile for a model's components, levels from the outermost, and derived ones."""
    targets: dict[str, Target] = {"sigma": Deviation()}
    for depth, level in enumerate(levels):
        for i, column in enumerate(level.columns):
            for kind in ("sd", "var"):
                targets[f"{level.level}.{kind}({column})"] = Deviation(((depth, i),))
        for i, j in level.correlated_pairs():
            name = f"{level.level}.cor({level.columns[i]},{level.columns[j]})"
            targets[name] = Correlation(depth, i, j)
    return Profiles(targets | {name: _derived_target(name, levels) for name in derived})


def _derived_target(name: str, levels: Sequence[RandomNames]) -> Target:
    parts = derived_parts(name)
    assert parts is not None
    effects = {
        level.level: (depth, i)
        for depth, level in enumerate(levels)
        for i, column in enumerate(level.columns)
        if same_column(column) == same_column(parts.column)
    }
    if parts.kind != "icc":
        return Deviation(tuple(effects.values()))
    own = effects.pop(parts.level)
    return Share((own, *effects.values()))
