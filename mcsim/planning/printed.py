"""A plan as a sentence and a table, or as CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable

import numpy as np

from mcsim.names import short_names, show_value, shown_label
from mcsim.planning.plan import MethodPlan, Plan, as_json, at_the_end
from mcsim.planning.search import OPEN, Look, rank
from mcsim.scenario.plan import Goal
from mcsim.summary.plans import EXACT
from mcsim.summary.records import Record
from mcsim.summary.text import BEGIN, END, aligned, booktabs, commented, piped, shown_as

DRAWN = (
    " Every design has its own draw of what is random in it; with `redraw = true` under [design],"
    " every replicate has."
)
BEST = " The best design that the budget buys: leave the bound of the target out."
UNKNOWN_LEVEL = (
    "Its type I error is not known, since rejections are counted here: run that design with an"
    " effect of 0."
)
MOST_SHOWN = 12  # designs of the table: those around the answer
NOTE = (
    "Intervals hold at every look with 95% for all designs together (confidence sequences). theory:"
    " closed form\nwithout boundary, which orders the search and decides nothing. Replicates are in"
    " {folder}."
)


def to_csv(plan: Plan) -> str:
    """The designs that were looked at, a row each."""
    rows = [{**row, **row.pop("design")} for row in as_json(plan)["designs"]]
    text = io.StringIO()
    names = [*plan.designs.keys, *_plain(rows[0], plan)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in rows)
    return text.getvalue()


def to_json(plan: Plan) -> str:
    """The answer and the designs that were looked at."""
    return json.dumps(as_json(plan), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_page(plan: Plan, draw: Callable[..., str], folder: str) -> str:
    """Sentences and a table to be read."""
    lines = [_answer(plan), *_beside(plan)]
    table, note = draw(_table(plan), n_left=2), NOTE.format(folder=folder)
    copied = [f"In words: {plan.details['in_words']}"] if plan.details else []
    return "\n\n".join(["\n".join(lines), *copied, table, note]) + "\n"


def _plain(row: Record, plan: Plan) -> list[str]:
    return [
        name for name in row if name not in plan.designs.keys and not isinstance(row[name], dict)
    ]


def _answer(plan: Plan) -> str:
    told, (first, *_) = as_json(plan), plan.goals
    n, chosen = len(plan.designs.cost), plan.chosen
    goals = " and ".join(map(str, plan.goals))
    if told["answer"] is None:
        nearest = max(chosen.looks, key=lambda look: rank(first, look.values[first]))
        name, value = plan.designs.name(nearest.design), nearest.values[first]._asdict()
        none = f"None of the {n:,} designs reaches {goals}"
        if not_told := _not_told(plan, chosen.looks):
            none = f"None of the {n:,} designs is known to reach {goals}: {not_told}"
        return (
            f"{none}. The nearest, {name}, reaches {_value(first, value)}."
            f"{BEST * (plan.budget is not None and len(plan.goals) == 1)}"
        )
    answer = told["answer"]
    name, cost = plan.designs.name(chosen.design or 0), f"{answer['cost']:,.10g}"
    reached = f"{name} reaches {_value(first, answer)} for {cost}: {goals}, by {chosen.method}."
    if first.bound is None:
        others = f"of the {n:,} designs for at most {plan.budget:,.10g}"
        if chosen.is_certified:
            return f"{reached} No other {others} does better."
        return f"{reached} Others {others} cannot be told from it."
    return f"{reached} {_why(plan)}"


def _why(plan: Plan) -> str:
    """Why no cheaper design is the answer."""
    cost, chosen = plan.designs.cost, plan.chosen
    limit, n = cost[chosen.design or 0], len(cost)
    n_cheaper = int(np.sum(cost < limit))
    if not n_cheaper:
        return f"It is the cheapest of the {n:,} designs."
    cheaper = [look for look in chosen.looks if cost[look.design] < limit]
    start = f"Of the {n_cheaper:,} cheaper one{'s' * (n_cheaper > 1)} of {n:,},"
    if not_told := _not_told(plan, cheaper):
        return f"{start} {not_told}."
    if chosen.falls:
        return f"{start} {len(cheaper)} were tried, and none does."
    if plan.is_drawn_once and not chosen.is_certified:
        return f"{start} {len(cheaper)} were tried, and none does.{DRAWN}"
    tried = f"none of {len(cheaper)} tried does" if cheaper else "larger ones were tried"
    return f"{start} none does: {tried}, and values grow with every count."


def _not_told(plan: Plan, looks: Iterable[Look]) -> str:
    """Which of some designs are open; empty if none is."""
    names = [plan.designs.name(look.design) for look in looks if look.verdict == OPEN]
    first = "; ".join(names[:3])
    return f"{len(names)} cannot be told, so near to the bound are they: {first}" if names else ""


def _beside(plan: Plan) -> list[str]:
    """Sentences on what the answer rests on: edges, other methods, level, other effects."""
    chosen = plan.chosen
    lines = [
        f"Values fall from {plan.designs.name(small)} to {plan.designs.name(large)}: what is not"
        f" tried may be better, so nothing is certain.{DRAWN * plan.is_drawn_once}"
        for small, large in chosen.falls[:1]
    ]
    if chosen.design is None:
        return lines
    lines += [f"{one} is the end of the search: look further." for one in at_the_end(plan)]
    if plan.details.get("type_1") is not None:
        effects = "; ".join(
            f"{100 * one['rejection']:.1f}% at {one['effect']:g}" for one in plan.details["effects"]
        )
        mde = plan.details["mde"]
        lines.append(
            f"Of that design: type I error {100 * plan.details['type_1']:.1f}%"
            + ("" if mde is None else f"; 80% power at an effect of {shown_as(mde, '.4g')}")
            + f"; power {effects}" * bool(effects)
            + "."
        )
    elif any(goal.measure == "rejection" for goal in plan.goals):
        lines.append(UNKNOWN_LEVEL)
    if worst := plan.details.get("truths", {}).get("worst"):
        truth = ", ".join(f"{key} = {show_value(value)}" for key, value in worst.items())
        lines.append(f"The worst truth is {shown_label(truth)}.")
    if len(plan.methods) > 1:
        lines += [f"By {one.method}: {_design_of(plan, one)}." for one in plan.methods]
    return lines


def _design_of(plan: Plan, one: MethodPlan) -> str:
    """The answer of one method, with what it costs; its value where that has no bound."""
    if one.design is None:
        return "no design"
    goal, look = plan.goals[0], next(look for look in one.looks if look.design == one.design)
    value = f", {_value(goal, look.values[goal]._asdict())}" * (goal.bound is None)
    return f"{plan.designs.name(one.design)}, {plan.designs.cost[one.design]:,.10g}{value}"


def _table(plan: Plan) -> list[list[str]]:
    """The designs whose values are nearest to that of the answer, dearest first."""
    chosen, (first, *others) = plan.chosen, plan.goals
    rows = [row for row in as_json(plan)["designs"] if row["method"] == chosen.method]
    rows.sort(key=lambda row: _distance(row["estimate"], first.bound))
    answer = [row for row in rows if chosen.design is not None and
              row["design"] == plan.designs.values(chosen.design)]  # fmt: skip
    shown = answer + [row for row in rows if row not in answer][: MOST_SHOWN - len(answer)]
    shown.sort(key=lambda row: -row["cost"])
    short = short_names(list(plan.designs.keys))
    head = [*short.values(), "cost", first.measure, "", "theory", "replicates", "verdict"]
    return [[*head, *map(str, others)]] + [
        [
            *map(str, row["design"].values()),
            f"{row['cost']:,.10g}",
            *_value(first, row).split(" ", 1),
            _number(first, row["theory"]),
            f"{row['n']:,}",
            row["verdict"] or "",
            *(_value(goal, row[str(goal)]) for goal in others),
        ]
        for row in shown
    ]


def _distance(value: float | None, bound: float | None) -> float:
    """How far a value is from the bound; last is what there is not."""
    if value is None:
        return math.inf
    return 0.0 if bound is None else abs(value - bound)


def _value(goal: Goal, row: Record) -> str:
    """`81.2% (81.1 to 81.4)`, or numbers as they are."""
    estimate, lower, upper = (_number(goal, row[name]) for name in ("estimate", "lower", "upper"))
    if row["lower"] is not None and lower == upper:
        return f"{estimate} ({EXACT})"
    return f"{estimate} ({lower.removesuffix('%')} to {upper.removesuffix('%')})"


def _number(goal: Goal, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}%" if goal.is_share else f"{value:.4g}"


def to_latex(plan: Plan, folder: str) -> str:
    """The table for the package booktabs, the sentences as comments."""
    before, begin, rest = to_page(plan, booktabs, folder).partition(BEGIN)
    table, end, after = rest.partition(END)
    lines = commented(before.strip()), f"{begin}{table}{end}", commented(after.strip())
    return "\n\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Plan, str], str]] = {
    "table": lambda plan, folder: to_page(plan, aligned, folder),
    "csv": lambda plan, _folder: to_csv(plan),
    "json": lambda plan, _folder: to_json(plan),
    "latex": to_latex,
    "markdown": lambda plan, folder: to_page(plan, piped, folder),
}
