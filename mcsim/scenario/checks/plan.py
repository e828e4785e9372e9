"""What is wrong with a plan, beside its fields."""

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from mcsim.errors import nearest_name
from mcsim.scenario.checks.draft import Draft, numbered
from mcsim.scenario.checks.sweep import sweep_problems
from mcsim.scenario.design import DesignNames, TableDesignSpec
from mcsim.scenario.families import GAUSSIAN
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.plan import (
    FIXED_COST,
    OBSERVATION,
    OBSERVATIONS,
    SHARES,
    SIZES,
    PlanSpec,
    TargetSpec,
)

MOST_TRUTHS = 64
MOST_CHECKED = 100  # counts of a key that are checked one by one; of more the ends


def plan_problems(draft: Draft) -> Iterator[Finding]:
    """Costs and counts of unknown levels, targets that ask for nothing, unknown methods."""
    plan = draft.scenario.plan
    if plan is None or draft.names is None:
        return
    if isinstance(draft.scenario.design, TableDesignSpec):
        yield ("plan",), "a plan searches counts; a design that is a table has none: leave one out"
        return
    yield from _search_problems(plan, draft.names)
    targets = list(_targets(plan))
    if not targets and not any(path[:2] == ("plan", "target") for path in draft.faulty):
        message = 'a plan needs a target, such as target = { rejection = "x", at_least = 0.8 }'
        yield ("plan",), message
    for path, target in targets:
        yield from _target_problems(path, target, plan, n_targets=len(targets))
    yield from _truth_problems(plan, getattr(draft.scenario.truth, "family", None))
    yield from _method_problems(plan, draft)


def _search_problems(plan: PlanSpec, names: DesignNames) -> Iterator[Finding]:
    keys = {f"design.levels.{level}.count": level for level in names.level_names}
    keys[OBSERVATIONS] = OBSERVATION
    cost, search = plan.cost or {}, plan.search or {}
    for key in search:
        if key not in keys:
            allowed = ", ".join(keys)
            message = f"{key!r} cannot be searched; counts can: {allowed}.{nearest_name(key, keys)}"
            yield ("plan", "search", key), message
        elif cost and keys[key] not in cost:
            yield ("plan", "cost"), f"{keys[key]!r} is searched and has no cost; add it, 0 if none"
    for name in cost:
        if name not in (known := [*keys.values(), FIXED_COST]):
            message = f"{name!r} costs nothing here. There are: {', '.join(known)}."
            yield ("plan", "cost", name), message + nearest_name(name, known)
    counts = [values for values in search.values() if values is not None]
    if len(counts) == len(search) and all(len(values) < 2 for values in counts):
        yield ("plan", "search"), "this is a search of one design; give a key several counts"


def _targets(plan: PlanSpec) -> Iterator[tuple[KeyPath, TargetSpec]]:
    if plan.target is not None:
        yield ("plan", "target"), plan.target
    for number, one in numbered(plan.targets).items():
        yield ("plan", "targets", number), one


def _target_problems(
    path: KeyPath, target: TargetSpec, plan: PlanSpec, *, n_targets: int
) -> Iterator[Finding]:
    given = target.given
    if len(given) != 1:
        known = ", ".join((*SHARES, *SIZES))
        yield path, f"a target has one measure, here {len(given)}; measures: {known}"
        return
    (measure,) = given
    right, wrong = ("at_least", "at_most") if measure in SHARES else ("at_most", "at_least")
    bound = getattr(target, right)
    if getattr(target, wrong) is not None:
        yield (*path, wrong), f"{measure!r} has the bound `{right}`, not `{wrong}`"
    elif bound is None and (plan.budget is None or n_targets > 1):
        without = "" if plan.budget is None else "; a budget is for one target without a bound"
        yield path, f"a target needs a bound: add {right}{without}"
    elif bound is not None and measure in SHARES and not bound < 1:
        yield (*path, right), f"{measure!r} is a share: `at_least` is below 1, such as 0.8"


def _truth_problems(plan: PlanSpec, family: str | None) -> Iterator[Finding]:
    if (truth := plan.truth) is None or truth.range is None:
        return
    is_drawn = truth.draws is not None or truth.pilot is not None
    if is_drawn is bool(truth.range):
        message = "doubt of the truth is told by `from`, `draws` or both, or by `range`"
        yield ("plan", "truth"), message
    if truth.pilot is not None and family not in (None, GAUSSIAN):
        message = f"a pilot's table is for normal responses, not for {family}; state a `range`"
        yield ("plan", "truth", "from"), message
    for key in truth.range:
        if not key.startswith("truth."):
            yield ("plan", "truth", "range", key), f"{key!r} is no key of the truth"
    n = math.prod(len(values or ()) for values in truth.range.values())
    if n > MOST_TRUTHS:
        message = f"{n} combinations are too many; at most {MOST_TRUTHS}: the ends of ranges do"
        yield ("plan", "truth", "range"), message
    if is_drawn and any(one.relative_se for _, one in _targets(plan)):
        message = "a truth that is drawn may be 0, so that nothing is relative to it; take rmse"
        yield ("plan", "truth"), message


def _method_problems(plan: PlanSpec, draft: Draft) -> Iterator[Finding]:
    specs = numbered(draft.scenario.methods)
    if any(one.name is None or one.df is None for one in specs.values()):
        return
    known = [name for one in specs.values() for name in one.result_names]
    named: list[tuple[KeyPath, Any]] = [(("plan", "method"), plan.method)]
    named += [(("plan", "methods", number), one) for number, one in enumerate(plan.methods or ())]
    for path, name in named:
        if name is not None and name not in known:
            near = nearest_name(name, known)
            yield path, f"unknown method {name!r}. There are: {', '.join(known)}.{near}"


def searched_problems(
    raw: Mapping[str, Any], draft: Draft, known: Set[Finding]
) -> Iterator[Finding]:
    """The first thing that is wrong with the designs of a search, if all else is right."""
    plan = draft.scenario.plan
    if known or plan is None:
        return
    of_keys = [{key: values} for key, values in plan.search.items()]
    of_keys = [one if len(*one.values()) <= MOST_CHECKED else _ends(one) for one in of_keys]
    largest = {key: values[-1:] for key, values in plan.search.items()}
    sweeps: list[tuple[KeyPath, dict[str, Any]]] = [
        (("plan", "search"), one) for one in (*of_keys, largest)
    ]
    if plan.truth is not None:
        sweeps.append((("plan", "truth", "range"), dict(plan.truth.range)))
    for where, sweep in sweeps:
        scenario = draft.scenario.model_copy(update={"sweep": sweep})
        problems = sweep_problems(raw, replace(draft, scenario=scenario), known)
        for path, message in problems:
            yield (*where, *path[1:]), message
            return


def _ends(sweep: dict[str, Any]) -> dict[str, Any]:
    return {key: (values[0], values[-1]) for key, values in sweep.items()}
