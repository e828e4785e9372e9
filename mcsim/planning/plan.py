"""Which design to take: the answer to the `[plan]` of a scenario, and how sure it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mcsim.design.units import is_drawn
from mcsim.errors import DataError
from mcsim.names import short_names
from mcsim.planning.answer import Chosen, details_of
from mcsim.planning.designs import Designs, Floats, designs_of
from mcsim.planning.folder import refuse_another_plan, study_of, write_plan
from mcsim.planning.map import map_of
from mcsim.planning.pilot import pilot_of, pilot_table, with_estimates
from mcsim.planning.screen import expected_values, margins
from mcsim.planning.search import ERROR, Judge, Look, best, cheapest, rank
from mcsim.planning.truths import truths_of
from mcsim.planning.values import Bench, refuse_unknown
from mcsim.scenario.plan import Goal, PlanSpec
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.study.prepared import PreparedStudy
from mcsim.study.warm_up import compile_engine, parts_for
from mcsim.study.workers.signals import stop_on_signals
from mcsim.summary.records import Record

MOST_REPLICATES = 65_536  # of a design, unless told
OF_AVERAGES = 2.0  # times as much: 64 truths that are drawn are as far from all others
WITHIN_SHARE, WITHIN_SIZE = 0.005, 0.02  # differences that do not matter; of a size, relative to it

NO_VALUE = {  # why a measure may have none
    "relative_se": "nothing is relative to a truth of 0; take rmse",
    "rmse": "that takes a truth; `truth` in the method names what a parameter estimates",
    "mde": "it is known where effects and residuals are normal, by estimator reml, ml, ols,"
    " ols-cluster, gee or two-stage; take rejection",
    "coverage": "that takes an interval, and a truth that it can hold, which an SD of 0 is not"
    " where intervals are on the log scale; take rmse",
}
FAILED = "in none of the designs that were tried has a replicate one"


@dataclass(frozen=True)
class MethodPlan:
    """The answer for one method: a design, or None where none reaches the goals.

    is_certified : whether every other design was told from it
    falls : pairs of designs whose value falls as counts grow, which no answer could be sure of
    looks : at designs, in the order of the search; expected : by goal, of every design by closed
    forms
    """

    method: str
    design: int | None
    is_certified: bool
    falls: tuple[tuple[int, int], ...]
    looks: tuple[Look, ...]
    expected: dict[Goal, Floats | None]


@dataclass(frozen=True)
class Plan:
    """A plan that was made.

    is_drawn_once : whether random counts or covariates are drawn once for each design
    has_truths : whether values are not those of the stated truth, of which closed forms are
    details : of the answer, as of `details_of`
    """

    title: str
    designs: Designs
    goals: tuple[Goal, ...]
    methods: tuple[MethodPlan, ...]
    budget: float | None
    is_drawn_once: bool
    has_truths: bool
    details: Record

    @property
    def chosen(self) -> MethodPlan:
        """The method with the answer: the cheapest design, or with a budget the best."""
        answered = [one for one in self.methods if one.design is not None]
        if not answered:
            return self.methods[0]
        if self.goals[0].bound is None:
            return max(answered, key=self._value)
        return min(answered, key=lambda one: self.designs.cost[one.design or 0])

    @property
    def n_replicates(self) -> int:
        """Replicates of all designs; methods share theirs."""
        looks = [look for one in self.methods for look in one.looks]
        return sum(max(x.n for x in looks if x.design == i) for i in {x.design for x in looks})

    def _value(self, one: MethodPlan) -> float:
        look = next(look for look in one.looks if look.design == one.design)
        return rank(self.goals[0], look.values[self.goals[0]])


@dataclass(frozen=True)
class PlanOptions:
    """How to make a plan; the answer depends on `most` alone."""

    directory: Path
    n_workers: int = 1
    most: int = MOST_REPLICATES
    report: Callable[[str], None] = lambda message: None


def make_plan(scenario: Scenario, options: PlanOptions) -> Plan:
    """Search the designs of a scenario's plan, with their replicates in a folder.

    Raises
    ------
    DataError
        The scenario has no plan, no design can reach it, or a method cannot be fitted.
    StudyMismatchError
        The folder holds the designs of another plan.
    """
    spec = plan_of(scenario)
    with stop_on_signals():
        compile_engine(options.report, parts_for(scenario))
    pilot = pilot_of(scenario)
    scenario = scenario if pilot is None else with_estimates(scenario, pilot)
    designs, goals = designs_of(spec, scenario), tuple(one.goal for one in spec.all_targets)
    names = spec.all_methods or (scenario.methods[0].result_names[0],)
    kept = tuple(one for one in scenario.methods if set(one.result_names) & {*names})
    scenario = scenario.model_copy(update={"methods": _with_tested(scenario, kept)})
    _refuse_goals(scenario, designs, goals, names)
    truths = truths_of(scenario, pilot)
    study = study_of(scenario.model_copy(update={"sweep": truths.sweep}), spec)
    study = refuse_another_plan(options.directory, study)
    write_plan(options.directory, {"study": study}, pilot_table(scenario))  # to claim the folder
    bench = Bench(scenario, designs, goals, names, options.directory, options.n_workers, truths)
    found = []
    for name in names:
        method = next(one for one in kept if name in one.result_names)
        found.append(_of_method(bench, spec, name, method, options))
    flags = _is_drawn_once(scenario), bool(truths.sweep)
    plan = Plan(scenario.title, designs, goals, tuple(found), spec.budget, *flags, {})
    if (chosen := _answer_of(plan)) is not None:
        plan = replace(plan, details=details_of(chosen, bench, spec.effects))
    write_plan(options.directory, {"study": study, **as_json(plan), "maps": _maps(plan)})
    return plan


def plan_of(scenario: Scenario) -> PlanSpec:
    """The plan of a scenario; a DataError where it has none."""
    if scenario.plan is None:
        raise DataError(
            "the scenario has no [plan]: add cost = { animal = 300 }, target = { rejection ="
            ' "x", at_least = 0.8 } and [plan.search]'
        )
    if scenario.sweep:
        raise DataError("a plan searches the designs itself; leave [sweep] out")
    return scenario.plan


def at_the_end(plan: Plan) -> list[str]:
    """Counts of the answer that are the largest of the search: `animal.count=60`."""
    if plan.chosen.design is None:
        return []
    designs = plan.designs
    values = designs.values(plan.chosen.design)
    return [
        f"{short_names([key])[key]}={count}"
        for (key, count), end in zip(values.items(), designs.ends, strict=True)
        if designs.counts[:, designs.keys.index(key)].min() < count == end
    ]


def as_json(plan: Plan) -> Record:
    """The plan as plain tables, for programs."""
    chosen = plan.chosen
    return {
        "answer": _answer(plan, chosen) and (_answer(plan, chosen) or {}) | plan.details,
        "certified": chosen.is_certified,
        "at_the_end": at_the_end(plan),
        "target": [goal._asdict() for goal in plan.goals],
        "budget": plan.budget,
        "method": chosen.method,
        "n_designs": len(plan.designs.cost),
        "n_replicates": plan.n_replicates,
        "methods": [
            {"method": one.method, "certified": one.is_certified, "answer": _answer(plan, one)}
            for one in plan.methods
        ],
        "designs": [_row(plan, one, look) for one in plan.methods for look in one.looks],
    }


def _maps(plan: Plan) -> Record:
    """By method, what figures show of all designs."""
    goal = plan.goals[0]
    found = {}
    for one in plan.methods:
        best = max(one.looks, key=lambda look: rank(goal, look.values[goal])).design
        centre = best if one.design is None else one.design
        expected = one.expected[goal]
        found[one.method] = map_of(plan.designs, goal, expected, [*one.looks], centre)
    return found


def _with_tested(scenario: Scenario, kept: Sequence[MethodSpec]) -> tuple[MethodSpec, ...]:
    """The methods, and those that they are tested against."""
    needed = {one.name for one in kept} | {one.likelihood_ratio for one in kept}
    return tuple(
        one.model_copy(update={"fallback": None}) for one in scenario.methods if one.name in needed
    )


def _of_method(
    bench: Bench, plan: PlanSpec, name: str, method: MethodSpec, options: PlanOptions
) -> MethodPlan:
    designs, goals = bench.designs, bench.goals
    expected = {goal: expected_values(bench.scenario, designs, goal, method) for goal in goals}
    margin = margins(goals, list(expected.values()), designs)
    is_known = any(values is not None for values in expected.values())

    def values(design: int, n: int) -> Any:
        return {goal: bench.values(design, n)[name, goal] for goal in goals}

    def within(goal: Goal, value: float) -> float:
        times = OF_AVERAGES if bench.truths.is_average else 1.0
        return plan.within or times * (
            WITHIN_SHARE if goal.is_share else WITHIN_SIZE * (goal.bound or abs(value))
        )

    judge = Judge(
        goals,
        values,
        within,
        options.most,
        ERROR / max(1, len(bench.methods)),
        lambda look: options.report(f"{designs.name(look.design)}: {_in_words(look)}"),
    )
    if goals[0].bound is None:
        answer = best(designs, margin, judge)
    else:
        answer = cheapest(designs, margin, judge, is_known=is_known)
    _refuse_no_value(judge, name)
    falls = tuple(judge.falls(designs))
    if _is_drawn_once(bench.scenario) and answer.design is not None:
        cheaper = np.flatnonzero(designs.cost < designs.cost[answer.design])
        is_told = answer.is_certified and not {*cheaper.tolist()} - judge.looks.keys()
        answer = answer._replace(is_certified=is_told)  # another draw may be luckier
    return MethodPlan(name, *answer, falls, tuple(judge.looks.values()), expected)


def _refuse_no_value(judge: Judge, method: str) -> None:
    """Raise a DataError for a goal that has a value in none of the designs that were tried."""
    for goal in judge.goals:
        if all(math.isnan(look.values[goal].estimate) for look in judge.looks.values()):
            raise DataError(_no_value(goal, method))


def _no_value(goal: Goal, method: str) -> str:
    return (
        f"plan.target: {goal.measure} of {goal.parameter!r} has no value by method {method!r}:"
        f" {NO_VALUE.get(goal.measure, FAILED)}"
    )


def _is_drawn_once(scenario: Scenario) -> bool:
    return is_drawn(scenario.design) and not scenario.design.redraw


def _answer_of(plan: Plan) -> Chosen | None:
    one = plan.chosen
    look = next((look for look in one.looks if look.design == one.design), None)
    if look is None:
        return None
    return Chosen(plan.designs, plan.goals, one.method, look, one.is_certified)


def _answer(plan: Plan, one: MethodPlan) -> Record | None:
    look = next((look for look in one.looks if look.design == one.design), None)
    return None if look is None else _row(plan, one, look)


def _row(plan: Plan, one: MethodPlan, look: Look) -> Record:
    """A design that was looked at; the value is of the first goal, those of others beside it."""
    first, *others = plan.goals
    expected = one.expected[first]
    row: Record = {
        "design": plan.designs.values(look.design),
        "method": one.method,
        "cost": float(plan.designs.cost[look.design]),
        **_interval(look, first),
        "theory": None if expected is None or plan.has_truths else float(expected[look.design]),
        "verdict": look.verdict if first.bound is not None else None,
    }
    return row | {str(goal): _interval(look, goal) for goal in others}


def _interval(look: Look, goal: Goal) -> Record:
    found = look.values[goal]._asdict()
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _in_words(look: Look) -> str:
    shown = (
        "no value"
        if math.isnan(one.estimate)
        else f"{one.estimate:.4g} ({one.lower:.4g} to {one.upper:.4g})"
        for one in look.values.values()
    )
    verdict = "" if None in (goal.bound for goal in look.values) else f": {look.verdict}"
    return f"{', '.join(shown)} from {look.n:,} replicates{verdict}"


def _refuse_goals(
    scenario: Scenario, designs: Designs, goals: Sequence[Goal], methods: Sequence[str]
) -> None:
    """Raise a DataError for what no design can reach, or no method tells, by the cheapest one."""
    scenario.refuse_lacking_functions()  # they lack in every design
    study = PreparedStudy(designs.scenario(scenario, int(np.argmin(designs.cost))))
    try:
        rows, (condition,) = study.table.to_pylist(), study.all_conditions()
    except DataError as error:
        raise DataError(f"{error}. Or let plan.search begin with more units") from None
    known = {
        (name, parameter.name)
        for spec in scenario.methods
        if (at_truth := condition.at_truth.get(spec.name)) is not None
        for name in spec.result_names
        for parameter in at_truth.place
    }
    for goal in goals:
        _refuse_two_quantities(goal, [row for row in rows if row["method"] in methods])
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        refuse_unknown(own, goals, method, 1.0 - scenario.confidence)
        for goal in goals:
            if goal.measure == "mde" and (method, goal.parameter) not in known:
                raise DataError(_no_value(goal, method))


def _refuse_two_quantities(goal: Goal, rows: Sequence[Record]) -> None:
    """Raise a DataError where methods call two things by the name of a goal's parameter."""
    own = {row["method"]: row["truth"] for row in rows if row["parameter"] == goal.parameter}
    known = {method: truth for method, truth in own.items() if truth is not None}
    first = next(iter(known.items()), None)
    for other, truth in known.items():
        if first and not math.isclose(truth, first[1], rel_tol=1e-9):
            raise DataError(
                f"plan.target: {goal.parameter!r} is {first[1]:g} by method {first[0]!r} and"
                f" {truth:g} by {other!r}, so that no design is the better one for both; plan with"
                " one of them, or write their columns alike"
            )


def expected_plan(scenario: Scenario) -> str:
    """What would be searched, and the cheapest design by closed forms, in sentences."""
    spec, pilot = plan_of(scenario), pilot_of(scenario)
    scenario = scenario if pilot is None else with_estimates(scenario, pilot)
    designs, goals = designs_of(spec, scenario), tuple(one.goal for one in spec.all_targets)
    names = spec.all_methods or (scenario.methods[0].result_names[0],)
    _refuse_goals(scenario, designs, goals, names)
    name = names[0]
    method = next(one for one in scenario.methods if name in one.result_names)
    expected = [expected_values(scenario, designs, goal, method) for goal in goals]
    lines = [
        f"{len(designs.cost):,} designs, from {designs.cost.min():,.10g} to"
        f" {designs.cost.max():,.10g}, for {' and '.join(map(str, goals))} by {name}."
    ]
    margin = margins(goals, expected, designs)
    hopeful = np.flatnonzero(margin >= 0.0)
    if any(one is None for one in expected) or goals[0].bound is None:
        lines.append("There is no closed form to say more before designs are simulated.")
    elif not len(hopeful):
        lines.append("By closed forms, which are too high with few units, none reaches it.")
    else:
        design = int(hopeful[np.argmin(designs.cost[hopeful])])
        lines.append(
            f"By closed forms, which are too high with few units: {designs.name(design)} for"
            f" {designs.cost[design]:,.10g}. A plan begins there, and simulates what decides."
        )
    return "\n".join(lines)
