"""True SDs and correlations of random effects that a method writes in other columns than the truth.

Effects b of columns T with covariance S are effects A b of columns Z where T = Z A, as an intercept
is the sum of a factor's columns: their covariance is A S A'.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns, RandomColumns
from mcsim.design.units import Design
from mcsim.methods.inference.components import RandomNames
from mcsim.names import Parameter
from mcsim.scenario.true_values import Truth
from mcsim.scenario.truth import RandomSpec

Floats = NDArray[np.float64]

ROUNDING = 1e-9  # of the largest entry of a column


def implied_truth(
    columns: ModelColumns, design: Design, random: Mapping[str, RandomSpec]
) -> dict[Parameter, float | None]:
    """Truth of levels some of whose columns in the truth a method lacks; None where there is none.

    A level is left out where the method's columns cannot make those of the truth: what the two have
    in common then keeps its name's truth.
    """
    found: dict[Parameter, float | None] = {}
    for level in columns.levels:
        if level.level in random:
            found |= _of_level(level, design, random[level.level])
    return found


def with_implied(
    truth: Truth, implied: Mapping[Parameter, float | None], parameter: Parameter
) -> float | None:
    """The true value of a parameter, with what is implied in place of what is stated."""
    if parameter in implied:
        return implied[parameter]
    levels = {one.level for one in implied}
    if not (implied and parameter.is_derived):
        return truth.of(parameter)
    if any(value is None for one, value in implied.items() if one.kind == "sd"):
        return None
    stated = {one: value for one, value in truth.sds.items() if one.level not in levels}
    own = {one: value for one, value in implied.items() if one.kind == "sd" and value is not None}
    return replace(truth, sds=stated | own, estimands={}).of(parameter)


def _of_level(
    level: RandomColumns, design: Design, spec: RandomSpec
) -> dict[Parameter, float | None]:
    sds = spec.standard_deviations
    stated = tuple(name for name in spec.columns if sds[name] > 0.0)
    names = RandomNames(level.level, level.names, level.structures)
    own = {Parameter.of_level("sd", level.level, name) for name in stated}
    if own <= set(names.sds()):
        return {}
    T, Z = design.columns(stated).T, level.Z
    A, _, rank, _ = np.linalg.lstsq(Z, T)
    if rank < Z.shape[1] or np.abs(Z @ A - T).max() > ROUNDING * np.abs(T).max():
        return _left_empty(names, own)
    sd = np.array([sds[name] for name in stated])
    correlation = np.array([[spec.correlation_of(a, b) for b in stated] for a in stated])
    return _values(names, A @ (sd[:, None] * correlation * sd) @ A.T)


def _left_empty(names: RandomNames, stated: set[Parameter]) -> dict[Parameter, float | None]:
    """Nothing is true of the SDs that the truth does not name."""
    lost = [one for one in names.sds() if one not in stated]
    return dict.fromkeys([*lost, *(one.as_variance for one in lost)])


def _values(names: RandomNames, Psi: Floats) -> dict[Parameter, float | None]:
    variances = np.where(np.abs(Psi.diagonal()) < ROUNDING * np.abs(Psi).max(), 0.0, Psi.diagonal())
    found: dict[Parameter, float | None] = {}
    for one, variance in zip(names.sds(), variances.tolist(), strict=True):
        found |= {one: variance**0.5, one.as_variance: variance}
    for i, j in names.correlated_pairs():
        scale = float(np.sqrt(variances[i] * variances[j]))
        found[names.correlation(i, j)] = float(Psi[i, j]) / scale if scale > 0.0 else None
    return found
