"""What closed forms expect of every design: they order the search, and decide nothing.

The information of a design is that of one outermost unit per cell times their number; for designs
that differ in this number alone it is found once. Power is that of the t test between the units,
which REML with few units falls short of.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from mcsim.design.columns import (
    Floats,
    ModelColumns,
    ModelFrame,
    model_columns,
    without_aliased,
)
from mcsim.design.units import Design, is_drawn
from mcsim.errors import DataError
from mcsim.methods.inference.theory import closed_forms
from mcsim.methods.method import fixed_contrasts
from mcsim.names import Parameter
from mcsim.planning.designs import Designs, Ints, one_design
from mcsim.scenario.conditions import conditions
from mcsim.scenario.design import DesignSpec
from mcsim.scenario.plan import Goal
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.scenario.true_values import truth_of
from mcsim.simulate.at_truth import true_least_squares
from mcsim.simulate.responses import prepare_simulator
from mcsim.study.implied_truth import true_value_of
from mcsim.study.prepared import settings_of

UNITS, UNITS_DRAWN = 2, 8  # per cell of what is evaluated; more where units differ
UNITS_OF_SPREAD = 12  # for the SEs of variances, which need degrees of freedom
MOST_EVALUATED = 2_000  # designs, at some 10 ms
LEAST_SHARE = 1e-12


def expected_values(
    scenario: Scenario, designs: Designs, goal: Goal, spec: MethodSpec
) -> Floats | None:
    """The value of a goal in every design, by closed forms; None where there are none."""
    is_of_spread = Parameter.read(goal.parameter).kind in ("sd", "variance")
    known = ("relative_se", "rmse") if is_of_spread else OF_EFFECTS
    if goal.measure not in known or scenario.has_counts:
        return None
    outermost = f"design.levels.{scenario.design.levels[0].name}.count"
    if scenario.design.crossed_levels or _has_order(scenario):
        outermost = ""  # no unit of it is alone: each design is evaluated
    inner = np.array([key != outermost for key in designs.keys])
    rows, place = np.unique(designs.counts[:, inner], axis=0, return_inverse=True)
    per_cell = UNITS_OF_SPREAD if is_of_spread else UNITS
    per_cell = max(per_cell, UNITS_DRAWN) if is_drawn(scenario.design) else per_cell
    if len(rows) > MOST_EVALUATED or len(scenario.design.levels) < is_of_spread:
        return None
    first = np.array([np.flatnonzero(place == one)[0] for one in range(len(rows))])
    try:
        found = [
            _one(scenario, _values(designs, int(one), outermost, per_cell), goal, spec)
            for one in first
        ]
    except (DataError, np.linalg.LinAlgError):
        return None
    if None in found:
        return None
    size, known_df, true = np.array(found, dtype=np.float64)[place].T
    n, n_cells = designs.n_outermost, designs.n_cells
    lost = n_cells if is_of_spread else 0
    base = n if inner.all() else per_cell * n[0] / designs.counts[0, ~inner].prod()
    scale = np.sqrt((base - lost) / np.maximum(n - lost, 0.5))
    share = np.nan_to_num(known_df / np.maximum(base - n_cells, 1.0), nan=1.0)  # within units, more
    alpha = 1.0 - scenario.confidence
    return _of_goal(goal, true, alpha, size * scale, np.maximum(n - n_cells, 1.0) * share)


def _has_order(scenario: Scenario) -> bool:
    """Whether what a unit gets depends on its number: when it starts, its own point."""
    design = scenario.design
    covariates = design.covariates.values() if isinstance(design, DesignSpec) else ()
    has_order = (one.starts or (one.level and (one.grid or one.values)) for one in covariates)
    return any(has_order) or any(not isinstance(of, str) for of in design.factor_places.values())


OF_EFFECTS = ("rejection", "ci_width", "mde", "rmse", "relative_se")


def _values(designs: Designs, design: int, outermost: str, per_cell: int) -> dict[str, int]:
    values = designs.values(design)
    return values | ({outermost: per_cell} if outermost in values else {})


def _one(
    scenario: Scenario, values: dict[str, int], goal: Goal, spec: MethodSpec
) -> tuple[float, float, float] | None:
    """The SE of the goal's parameter in one design, of an SD by the delta method, df, the truth.

    df : NaN where no closed form has them
    """
    (condition,) = conditions(one_design(scenario, values))
    simulator = prepare_simulator(condition, scenario.seed)
    design, settings = simulator.design, settings_of(scenario, spec, condition)
    columns = columns_in(design, spec)
    parameter = Parameter.read(goal.parameter)
    truth = truth_of(condition.truth, design.factors, scenario.estimands)
    value = true_value_of(columns, design, condition, spec, truth)(parameter)
    if parameter.kind in ("sd", "variance"):
        theory = closed_forms(columns, [], truth, {"": None}, 0.05) if columns.levels else {}
        variance = parameter.as_variance if parameter.kind == "sd" else parameter
        known = theory.get("", {}).get(variance)
        se = known and known.emp_se
        if se is None or not value:
            return None
        return se / (2 * value) if parameter.kind == "sd" else se, np.nan, value
    wanted = [one for one in fixed_contrasts(columns, settings) if one.parameter == parameter]
    found = true_least_squares(simulator, columns.X, wanted[0].L) if wanted else None
    if found is None:
        return None
    is_nested = columns.levels and not scenario.design.crossed_levels
    exact = closed_forms(columns, wanted, truth, {"": None}, 0.05) if is_nested else {}
    of_test = exact[""].get(parameter) if exact else None
    return float(found.std_error[0]), (of_test and of_test.df) or np.nan, value or 0.0


def columns_in(design: Design, spec: MethodSpec) -> ModelColumns:
    """The columns of a method in a design, none of which others determine."""
    formula = spec.parsed.outermost_first(list(design.unit_of_row).index)
    return without_aliased(model_columns(formula, ModelFrame(design.frame), spec.structure))[0]


def _of_goal(goal: Goal, value: Floats, alpha: float, se: Floats, df: Floats) -> Floats:
    """The goal's value, `value` being the true one of its parameter by the method."""
    t = special.stdtrit(df, 1.0 - alpha / 2.0)
    if goal.measure == "rejection":
        below, above = (special.nctdtr(df, abs(value) / se, one) for one in (-t, t))
        return np.asarray(np.nan_to_num(below) + 1.0 - np.nan_to_num(above))
    if goal.measure == "relative_se":
        return np.asarray(se / abs(value))
    if goal.measure == "rmse":
        return se
    per_se = 2.0 * t if goal.measure == "ci_width" else t + special.stdtrit(df, 0.8)
    return np.asarray(per_se * se)


def score(goal: Goal, value: Floats | float) -> Floats:
    """A value on a scale on which more is better, and differences mean about the same."""
    if goal.is_share:
        return np.asarray(special.ndtri(np.clip(value, LEAST_SHARE, 1.0 - LEAST_SHARE)))
    return np.asarray(-np.log(value))


def margins(goals: Sequence[Goal], expected: Sequence[Floats | None], designs: Designs) -> Floats:
    """How far every design is expected above its bounds, by its score: (n_designs,).

    Where no closed form says, it grows with the numbers of units, the more the further outside.
    """
    found = [
        _size_of(designs.counts) if values is None else score(goal, values) - _bound(goal)
        for goal, values in zip(goals, expected, strict=True)
    ]
    return np.asarray(np.min(found, axis=0))


def _bound(goal: Goal) -> float:
    return 0.0 if goal.bound is None else float(score(goal, goal.bound))


def _size_of(counts: Ints) -> Floats:
    return np.asarray(np.log(counts) @ 0.5 ** np.arange(1, counts.shape[1] + 1))
