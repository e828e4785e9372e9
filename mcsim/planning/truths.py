"""The truths that a plan looks at beside the stated one: a range of each, or what a pilot leaves.

A pilot is a study with the counts of the scenario, whose estimates are the stated truth. The
covariance of what is seen of its units, T = Psi + V with V what the levels below add, was estimated
with as many degrees of freedom as there are units less parents; given the estimate, T is the
inverse of a Wishart matrix (in balanced designs exactly the fiducial distribution of the strata).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from mcsim.design.columns import Floats, Ints
from mcsim.errors import DataError
from mcsim.scenario.conditions import Condition, conditions
from mcsim.scenario.records import Scenario
from mcsim.simulate.responses import LevelEffects, Simulator, prepare_simulator

DIGITS = 4  # of an SD that is drawn
NO_PILOT = "plan.truth: {}; state plan.truth.range in its place, or leave [plan.truth] out"


@dataclass(frozen=True)
class Truths:
    """Truths as the sweep of every design's study.

    is_average : whether values are averaged over all but the first, which is the stated one; else
    the worst counts
    """

    sweep: dict[str, tuple[Any, ...]]
    is_average: bool = False

    @property
    def n_drawn(self) -> int:
        """How many values are averaged over."""
        return len(self.sweep["truth"]) - 1 if self.is_average else 0


def truths_of(scenario: Scenario, pilot: Scenario | None = None) -> Truths:
    """The truths of a scenario's plan; without any, the stated one alone.

    Parameters
    ----------
    pilot : the study that has estimated the SDs of the truth; None for one with the design of the
        scenario

    Raises
    ------
    DataError
        Its design cannot be a pilot.
    """
    spec = None if scenario.plan is None else scenario.plan.truth
    if spec is None:
        return Truths({})
    if spec.n_draws is None:
        return Truths(dict(spec.range))
    (stated,) = conditions(scenario.model_copy(update={"plan": None}))
    (seen,) = [stated] if pilot is None else conditions(pilot)
    seed = scenario.seed
    drawn = _drawn(stated, _units(seen, seed), seed, spec.n_draws)
    return Truths({"truth": tuple(drawn)}, is_average=True)


def is_pilot(scenario: Scenario) -> bool:
    """Whether a study with the design of a scenario says something of all SDs."""
    (condition,) = conditions(scenario)
    try:
        _units(condition, scenario.seed)
    except DataError:
        return False
    return True


def _units(condition: Condition, seed: int) -> "_Units":
    if condition.design.crossed_levels:
        raise DataError(NO_PILOT.format("it is for nested levels"))
    if condition.truth.sigma is None:
        raise DataError(NO_PILOT.format("it is for normal responses"))
    return _Units(prepare_simulator(condition, seed))


def _drawn(condition: Condition, units: "_Units", seed: int, n: int) -> list[dict[str, Any]]:
    """The stated truth, and n that its estimation leaves open, as tables of a scenario."""
    stated = condition.truth.model_dump(exclude_defaults=True)
    found = [stated]
    for uniform in _even_uniforms(units.n_uniforms, n, seed):
        sigma, covariances = units.draw(uniform)
        truth = stated | {"sigma": float(f"{sigma:.{DIGITS}g}"), "random": {}}
        for name, spec in stated.get("random", {}).items():
            truth["random"][name] = spec | _in_sds(covariances[name])
        found.append(truth)
    return found


def _even_uniforms(n_columns: int, n: int, seed: int) -> Floats:
    """Points that fill the cube (n, n_columns) evenly: averages over them have little error."""
    from scipy.stats import qmc  # slow to load

    power = max(1, int(np.ceil(np.log2(n))))
    points = qmc.Sobol(n_columns, rng=np.random.default_rng(seed)).random_base2(power)
    return np.clip(np.asarray(points[:n], dtype=np.float64), 1e-9, 1.0 - 1e-9)


def _in_sds(one: tuple[tuple[str, ...], Floats]) -> dict[str, Any]:
    names, Psi = one
    sd = np.sqrt(np.diag(Psi))
    scale = np.where(sd > 0.0, sd, 1.0)
    r = np.clip(Psi / np.outer(scale, scale), -1.0, 1.0)
    pairs = [(a, b) for a in range(len(names)) for b in range(a)]
    return {
        "sd": {name: float(f"{one:.{DIGITS}g}") for name, one in zip(names, sd, strict=True)},
        "correlation": {f"{names[b]},{names[a]}": float(round(r[a, b], DIGITS)) for a, b in pairs},
    }


class _Units:
    """The units of a pilot level by level, innermost first, and what their rows tell of effects.

    information : (n_units, k, k) of the innermost units, for the columns of all effects, with
    sigma 1
    """

    def __init__(self, simulator: Simulator) -> None:
        self.sigma, design = simulator.sigma, simulator.design
        effects: dict[str, LevelEffects] = {one.level: one for one in simulator.effects}
        ends = np.cumsum([0, *(len(one.names) for one in effects.values())]).tolist()
        self.levels = [*design.unit_of_row.items()][::-1]
        self.slices = dict(zip(effects, map(slice, ends, ends[1:]), strict=True))
        self.effects = effects
        U = np.concatenate([one.Z_of_rows for one in effects.values()], axis=1)
        unit = self.levels[0][1]
        self.information = _sums(unit, U[:, :, None] * U[:, None, :])
        names, n_units = zip(
            *((name, int(one.max()) + 1) for name, one in self.levels), strict=True
        )
        n_cells = len(np.unique(design.cell_of_unit(names[-1], design.factors)))
        less = [*n_units[1:], n_cells]
        self.df = {name: n - m for name, n, m in zip(names, n_units, less, strict=True)}
        n_columns = np.linalg.matrix_rank(self.information.mean(axis=0))
        self.df_sigma = max(1, len(unit) - n_units[0] * int(n_columns))
        self.parents = [
            outer[np.unique(inner, return_index=True)[1]]
            for (_, inner), (_, outer) in zip(self.levels, self.levels[1:], strict=False)
        ]
        for name, one in effects.items():
            if self.df[name] < len(one.names):
                raise DataError(
                    NO_PILOT.format(
                        f"a pilot with {self.df[name]} degrees of freedom between units of {name}"
                        f" says nothing of {len(one.names)} SDs"
                    )
                )

    @property
    def n_uniforms(self) -> int:
        """Random numbers of a draw."""
        sizes = [len(one.names) for one in self.effects.values()]
        return 1 + sum(q * (q + 1) // 2 for q in sizes)

    def draw(self, uniform: Floats) -> tuple[float, dict[str, tuple[tuple[str, ...], Floats]]]:
        """Sigma, and by level the columns and their covariance."""
        df, used = self.df_sigma, 1
        sigma = self.sigma * float(np.sqrt(df / _chi2(uniform[0], df)))
        stated, drawn = self.information / self.sigma**2, self.information / sigma**2
        found = {}
        for depth, (name, _) in enumerate(self.levels):
            if name in self.effects:
                one, own = self.effects[name], self.slices[name]
                q = len(one.names)
                n = q * (q + 1) // 2
                Psi = one.factor @ one.factor.T
                T = _drawn_covariance(
                    Psi + _noise(stated, own), self.df[name], uniform[used : used + n]
                )
                root = _root(T - _noise(drawn, own))
                used += n
                found[name] = one.names, root @ root.T
                stated = _with_effects(stated, own, one.factor)
                drawn = _with_effects(drawn, own, root)
            if depth < len(self.parents):
                stated, drawn = (_sums(self.parents[depth], x) for x in (stated, drawn))
        return sigma, found


def _sums(unit: Ints, values: Floats) -> Floats:
    total = np.zeros((int(unit.max()) + 1, *values.shape[1:]))
    np.add.at(total, unit, values)
    return total


def _noise(information: Floats, own: slice) -> Floats:
    """What the levels below add to the covariance of the effects of a level, as one sees them."""
    return np.asarray(np.linalg.pinv(information[:, own, own].mean(axis=0)))


def _with_effects(information: Floats, own: slice, root: Floats) -> Floats:
    """Information that is left where effects with the covariance root root' come on top."""
    J = information[:, :, own] @ root
    inner = np.eye(root.shape[1]) + root.T @ information[:, own, own] @ root
    return np.asarray(information - J @ np.linalg.solve(inner, J.transpose(0, 2, 1)))


def _drawn_covariance(T: Floats, df: int, uniform: Floats) -> Floats:
    """A covariance whose estimate with `df` degrees of freedom was T: df times W^-1, W Wishart."""
    q = len(T)
    B = np.zeros((q, q))
    B[np.diag_indices(q)] = np.sqrt([_chi2(u, df - i) for i, u in enumerate(uniform[:q])])
    B[np.tril_indices(q, -1)] = special.ndtri(uniform[q:])
    M = np.linalg.solve(B, np.linalg.cholesky(T).T).T  # Bartlett's factor
    return df * M @ M.T


def _chi2(uniform: float, df: int) -> float:
    return float(special.chdtri(df, 1.0 - uniform))


def _root(covariance: Floats) -> Floats:
    """A root of what is positive in it: where less is seen than the levels below add, none."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))
