"""What the page of a plan says."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mcsim.names import short_names
from mcsim.report.words import Name, Sentence, listed, say
from mcsim.summary.plans import MadePlan, design_name
from mcsim.summary.records import Record, unique
from mcsim.summary.text import shown_as

REACHES = "{design} reaches {value} for {cost}: {target}, by {method}."
NONE = "None of the {n} designs reaches the target: {target}."
CERTAIN = "Of {n} designs, {tried} were simulated with {replicates} replicates; {rest}"
CHEAPER = "no cheaper one reaches the target."
BETTER = "none does better for the budget."
UNSURE = "others cannot be told from it."
END = "{names} is the end of the search: look further."
LEVEL = "Its type I error is {level}; it has 80% power for an effect of {mde}."


def plan_parts(
    plan: MadePlan, folder: Path, draw: Callable[[MadePlan], Markup]
) -> Mapping[str, Any]:
    """The parts by the names that the template has for them."""
    short = short_names(list(plan.told["designs"][0]["design"]))
    header: list[str | Sentence] = ["method", *short.values(), "cost", "value", "replicates"]
    return {
        "title": plan.title,
        "answer": _answer(plan),
        "figure": draw(plan),
        "rows": [[*header, "verdict"], *(_row(plan, one) for one in plan.told["designs"])],
        "n_left": 1,
        "folder": shlex.quote(str(folder / design_name(plan.told["designs"][0]))),
        "has_study": plan.study is not None,
    }


def _row(plan: MadePlan, row: Record) -> list[str | Sentence]:
    counts = [str(count) for count in row["design"].values()]
    cost, n = f"{row['cost']:,.10g}", f"{row['n']:,}"
    return [Name(row["method"]), *counts, cost, plan.value(row), n, row["verdict"] or ""]


def _answer(plan: MadePlan) -> list[Sentence]:
    told, answer = plan.told, plan.told["answer"]
    n = f"{told['n_designs']:,}"
    if answer is None:
        return [say(NONE, n=n, target=plan.target)]
    cost, method = f"{answer['cost']:,.10g}", (Name(told["method"]),)
    design = (Name(design_name(answer).replace(",", ", ")),)
    value, target = plan.value(answer), plan.target
    rest = UNSURE
    if told["certified"]:
        rest = BETTER if told["target"][0]["bound"] is None else CHEAPER
    tried = len({design_name(row) for row in told["designs"]})
    counts = {"tried": f"{tried:,}", "replicates": f"{told['n_replicates']:,}", "n": n}
    reached = say(REACHES, design=design, value=value, cost=cost, target=target, method=method)
    sentences = [reached, say(CERTAIN, rest=rest, **counts)]
    if ends := told.get("at_the_end"):
        sentences.append(say(END, names=listed(ends)))
    if answer.get("mde") is not None:
        level, mde = f"{100 * answer['type_1']:.1f}%", shown_as(answer["mde"], ".4g")
        sentences.append(say(LEVEL, level=level, mde=mde))
    others = unique(
        one["method"]
        for one in told["methods"]
        if one["answer"] and one["answer"]["design"] == answer["design"]
    )
    if len(others) > 1:
        sentences.append(say("It is the answer by {methods}.", methods=listed(others)))
    if "in_words" in answer:
        sentences.append(say("In words: {words}", words=answer["in_words"]))
    return sentences
