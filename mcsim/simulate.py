"""Responses of simulated replicates, and the values realized among the effects drawn.

Every draw is addressed by (seed, condition, replicate, purpose): no replicate depends on another.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mcsim.design import Design, Floats, Ints, build_design, column
from mcsim.formula import same_column
from mcsim.scenario import Condition, RandomSpec, TruthSpec, split_pair

T = TypeVar("T")
Words = NDArray[np.uint32]

PURPOSES = {"design": 0, "response": 1}


@dataclass(frozen=True)
class LevelEffects:
    """Random effects of one level as they are drawn.

    factor : (q, q), factor factor' is the covariance; Z : (n_rows, q)
    cell_of_unit : (n_units,) factor cell whose mean the realized values leave out
    """

    level: str
    names: tuple[str, ...]
    factor: Floats
    Z: Floats
    unit_of_row: Ints
    cell_of_unit: Ints


@dataclass(frozen=True)
class Simulator:
    """All that the replicates of a condition share."""

    key: Words
    design: Design
    mean: Floats
    sigma: float
    effects: tuple[LevelEffects, ...]


@dataclass(frozen=True)
class ResponseBlock:
    """Responses of some replicates.

    y : (n_replicates, n_rows)
    realized : per parameter (n_replicates,), SD or correlation among the effects drawn, NaN where
        it is not defined
    """

    replicates: tuple[int, ...]
    y: Floats
    realized: dict[str, Floats]


def stream(key: Words, replicate: int, purpose: str) -> np.random.Generator:
    """The one random stream of a purpose in a replicate (0: the condition itself).

    The words handed to SeedSequence have a fixed number, so that no two addresses coincide.
    """
    words = np.append(key, np.array([replicate, PURPOSES[purpose]], dtype=np.uint32))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def stream_key(seed: int, identity: str) -> Words:
    """Eight words that stand for the study's seed and the condition's content."""
    digest = hashlib.sha256(f"{seed}/{identity}".encode()).digest()
    return np.frombuffer(digest, dtype=np.uint32)


def prepare_simulator(condition: Condition, seed: int) -> Simulator:
    """Draw the design of a condition and evaluate its truth."""
    key = stream_key(seed, condition.identity)
    design = build_design(condition.design, stream(key, 0, "design"))
    mean = np.zeros(len(design.frame))
    for name, coefficient in condition.truth.fixed.items():
        mean += coefficient * column(design.frame, name)
    effects = tuple(
        _level_effects(design, level.name, condition.truth.random[level.name])
        for level in condition.design.levels
        if level.name in condition.truth.random
    )
    return Simulator(key, design, mean, condition.truth.sigma, effects)


def _level_effects(design: Design, level: str, spec: RandomSpec) -> LevelEffects:
    names = spec.columns
    sd = np.array([spec.standard_deviations[name] for name in names])
    correlation = np.array([[spec.correlation_of(a, b) for b in names] for a in names])
    values, vectors = np.linalg.eigh(correlation)  # a Cholesky factor needs full rank
    return LevelEffects(
        level=level,
        names=names,
        factor=sd[:, None] * vectors * np.sqrt(np.clip(values, 0.0, None)),
        Z=np.column_stack([column(design.frame, name) for name in names]),
        unit_of_row=design.unit_of_row[level],
        cell_of_unit=design.cell_of_unit[level],
    )


def draw_responses(simulator: Simulator, replicates: Sequence[int]) -> ResponseBlock:
    """Simulate the given replicates (numbered from 1), each from its own stream."""
    y = np.empty((len(replicates), len(simulator.mean)))
    drawn = []
    for row, replicate in enumerate(replicates):
        generator = stream(simulator.key, replicate, "response")
        y[row] = simulator.mean
        realized: dict[str, float] = {}
        for effects in simulator.effects:
            shape = (len(effects.cell_of_unit), len(effects.names))
            u = generator.standard_normal(shape) @ effects.factor.T
            y[row] += np.sum(effects.Z * u[effects.unit_of_row], axis=1)
            realized |= _realized(effects, u)
        y[row] += simulator.sigma * generator.standard_normal(y.shape[1])
        drawn.append(realized)
    return ResponseBlock(
        tuple(replicates), y, {name: np.array([one[name] for one in drawn]) for name in drawn[0]}
    )


def _realized(effects: LevelEffects, u: Floats) -> dict[str, float]:
    """SDs and correlations among the effects, pooled within factor cells.

    The fixed effects take up the cell means, so the divisor is units less cells: this is what a
    sample of these units could tell if the effects were observed.
    """
    n_cells = int(effects.cell_of_unit.max()) + 1
    counts = np.bincount(effects.cell_of_unit, minlength=n_cells)
    within = u.copy()
    for j in range(u.shape[1]):
        sums = np.bincount(effects.cell_of_unit, weights=u[:, j], minlength=n_cells)
        within[:, j] -= (sums / counts)[effects.cell_of_unit]
    degrees = len(u) - n_cells
    sd = (
        np.sqrt(np.sum(within**2, axis=0) / degrees) if degrees > 0 else np.full(u.shape[1], np.nan)
    )
    realized = {}
    for i, first in enumerate(effects.names):
        realized[f"{effects.level}.sd({first})"] = float(sd[i])
        for j, second in enumerate(effects.names[i + 1 :], start=i + 1):
            scale = sd[i] * sd[j] * degrees
            product = float(np.sum(within[:, i] * within[:, j]))
            correlation = product / scale if scale > 0 else np.nan
            realized[f"{effects.level}.cor({first},{second})"] = correlation
    return realized


def true_values(truth: TruthSpec) -> dict[str, float]:
    """The parameters that the truth states: fixed effects, SDs, variances, correlations, sigma."""
    values = dict(truth.fixed) | {"sigma": truth.sigma}
    for level, spec in truth.random.items():
        for i, name in enumerate(spec.columns):
            sd = spec.standard_deviations[name]
            values |= {f"{level}.sd({name})": sd, f"{level}.var({name})": sd**2}
            for other in spec.columns[i + 1 :]:
                if sd > 0 and spec.standard_deviations[other] > 0:
                    values[f"{level}.cor({name},{other})"] = spec.correlation_of(name, other)
    return values


def true_value(values: Mapping[str, float], parameter: str) -> float | None:
    """The truth of a parameter: 0 for an effect that the truth lacks, None for a correlation."""
    missing = None if ".cor(" in parameter else 0.0
    return _by_meaning(values).get(_meaning(parameter), missing)


def realized_value(realized: Mapping[str, Floats], parameter: str) -> Floats | None:
    """Realized values of a method's parameter; a variance is the square of its SD."""
    if ".var(" in parameter:
        sd = _by_meaning(realized).get(_meaning(parameter.replace(".var(", ".sd(")))
        return None if sd is None else sd**2
    return _by_meaning(realized).get(_meaning(parameter))


def _by_meaning(values: Mapping[str, T]) -> dict[str, T]:
    return {_meaning(parameter): value for parameter, value in values.items()}


def _meaning(parameter: str) -> str:
    """One spelling for all names of a parameter: a formula may order columns in another way."""
    match = re.fullmatch(r"(\w+\.(?:sd|var|cor))\((.*)\)", parameter)
    if match is None:
        return same_column(parameter)
    return f"{match[1]}({','.join(sorted(map(same_column, split_pair(match[2]))))})"
