"""Residuals of a truth: independent draws of any shape become correlated, and get their SDs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mcsim.design.positions import positions
from mcsim.design.units import Design
from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.residuals.kinds import KINDS
from mcsim.engine.residuals.structure import ResidualRows
from mcsim.errors import DataError
from mcsim.scenario.truth import OF_MEAN, PowerSpec, ResidualSpec
from mcsim.simulate.distributions import Draw, draw_of

Correlate = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Residuals:
    """What makes residuals of independent draws with mean 0 and SD 1.

    draw : fills an array with such draws
    sd : (n_rows,), to be multiplied by |mean| ** mean_exponent
    """

    draw: Draw
    sd: Floats
    correlate: Correlate | None
    mean_exponent: float

    @property
    def is_plain(self) -> bool:
        """Whether all have one SD, and are independent."""
        return self.correlate is None and not self.mean_exponent and bool(np.ptp(self.sd) == 0.0)

    def add(self, draws: Floats, responses: Floats) -> None:
        """Add residuals to means (n_replicates, n_rows), in place."""
        residuals = draws if self.correlate is None else self.correlate(draws)
        if self.mean_exponent:
            responses += self.sd * np.abs(responses) ** self.mean_exponent * residuals
        else:
            responses += self.sd * residuals


def residuals_in(design: Design, mean: Floats, sigma: float, spec: ResidualSpec) -> Residuals:
    """The residuals that a truth states.

    Parameters
    ----------
    mean : (n_rows,) sum of the fixed effects

    Raises
    ------
    DataError
        A residual SD would be infinite.
    """
    sd, mean_exponent = np.full(len(mean), sigma), 0.0
    for factor, by_level in spec.sd_by.items():
        for level, multiplier in by_level.items():
            sd[(design.frame[factor] == level).to_numpy()] *= multiplier
    if spec.power is not None and spec.power.of == OF_MEAN:
        _refuse_infinite(mean, spec.power)
        mean_exponent = spec.power.exponent
    elif spec.power is not None:
        values = np.abs(design.frame[spec.power.of].to_numpy(dtype=np.float64))
        _refuse_infinite(values, spec.power)
        sd *= values**spec.power.exponent
    return Residuals(draw_of(spec.distribution), sd, _correlation(design, spec), mean_exponent)


def _refuse_infinite(values: Floats, power: PowerSpec) -> None:
    if power.exponent < 0.0 and not values.all():
        raise DataError(
            f"truth.residual.power: {power.of!r} is 0 in some observations, whose residual SD would"
            f" be infinite with the exponent {power.exponent:g}; use an exponent above 0, or"
            " what is never 0"
        )


def _correlation(design: Design, spec: ResidualSpec) -> Correlate | None:
    if spec.correlation is None:
        return None
    kind = KINDS[spec.correlation]
    unit, along = list(design.unit_of_row.values())[-1], None
    if spec.along is not None:
        along = positions(design.frame[spec.along].to_numpy(dtype=np.float64), unit)
    values = np.array([getattr(spec, name) for name in kind.parameters])
    return partial(kind(unit, ResidualRows(spec.correlation, along)).correlate, values=values)
