"""Residuals of a truth: independent draws of any shape become correlated, and get their SDs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcsim.design.units import Design
from mcsim.errors import DataError
from mcsim.scenario.truth import OF_MEAN, PowerSpec, ResidualSpec
from mcsim.simulate.distributions import Draw, draw_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
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
    unit = list(design.unit_of_row.values())[-1]
    if spec.correlation == "exchangeable":
        assert spec.rho is not None
        return partial(exchangeable, unit=unit, rho=spec.rho)
    if spec.correlation == "ar1":
        assert spec.phi is not None
        values = np.arange(len(unit)) if spec.along is None else design.frame[spec.along].to_numpy()
        return partial(autoregressive, steps=list(_steps(unit, values)), phi=spec.phi)
    return None


def _steps(unit: Ints, values: NDArray[Any]) -> Iterator[tuple[Ints, Ints]]:
    """First, second, ... of every unit in the order of its values: rows, and those one after."""
    order = np.lexsort((values, unit))  # stable: equal values keep the order of the rows
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    position = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    for step in range(1, int(position.max()) + 1):
        here = np.flatnonzero(position == step)
        yield order[here - 1], order[here]


def autoregressive(draws: Floats, *, steps: list[tuple[Ints, Ints]], phi: float) -> Floats:
    """Draws of mean 0 and SD 1 with the correlation phi ** distance within a unit.

    e_1 = z_1, e_k = phi e_(k-1) + sqrt(1 - phi^2) z_k. Draws that are not normal make e_1 of their
    shape, and later ones, which are sums of draws, nearer to the normal.

    Parameters
    ----------
    draws : (n_replicates, n_rows) independent
    steps : rows that come before, and rows that come one after them
    """
    found = draws.copy()
    for before, after in steps:
        found[:, after] = phi * found[:, before] + np.sqrt(1.0 - phi**2) * draws[:, after]
    return found


def exchangeable(draws: Floats, *, unit: Ints, rho: float) -> Floats:
    """Draws of mean 0 and SD 1 with the correlation rho between any two of a unit.

    The symmetric root of the correlation matrix: a unit's mean is stretched by
    sqrt(1 + (n - 1) rho), the deviations from it by sqrt(1 - rho).

    Parameters
    ----------
    draws : (n_replicates, n_rows) independent
    unit : (n_rows,) the rows of a unit stand together
    """
    starts = np.flatnonzero(np.diff(unit, prepend=-1))
    n = np.bincount(unit)
    means = np.add.reduceat(draws, starts, axis=1) / n
    stretch = np.sqrt(np.maximum(1.0 + (n - 1) * rho, 0.0)) - np.sqrt(1.0 - rho)
    return np.asarray(np.sqrt(1.0 - rho) * draws + (stretch * means)[:, unit])
