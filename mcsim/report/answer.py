"""The first screen: at most five sentences on what matters most, and which parameters those are.

Named is only what chance does not explain among all numbers that the study compares: Bonferroni's
limit, in place of that of one comparison, which holds for the findings further down.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mcsim.names import FIXED, MARGINAL, no_effect
from mcsim.report.findings import (
    ERROR_RATE,
    FEWEST,
    Amount,
    Finding,
    Judged,
    Verdict,
    findings,
    from_to,
    levels_in_words,
    say_off,
    share_rejected,
    typical_error,
)
from mcsim.report.words import Sentence, listed, say
from mcsim.summary.plans import read_plan
from mcsim.summary.records import Record, has_no_effect, in_fits, measure_named, unique
from mcsim.summary.selection import Selection, Shown, shown_rows

MOST_SENTENCES = 5
OF_EFFECTS = "relative_error_se"  # SDs and correlations near an edge have no telling ones
MOST_SHOWN = {  # parameters of a figure, unless some are named
    "curves": 2, "estimates": 4, "nested-loop": 4, "power": 4, "heatmap": 4,
    "zip": 4, "methods": 4, "realized": 4, "se": 8,
}  # fmt: skip
NEEDED = {  # measures of kinds that not all parameters have
    "zip": "coverage", "realized": "rmse_estimation", "se": "model_se", "heatmap": "rejection",
    "power": "rejection",
}  # fmt: skip
ORDER = ("rejection", "coverage", "bias", "relative_error_se")  # of the sentences
POWER = "The power to find {name}{which} is {amount}."
EFFECTS = (FIXED, *MARGINAL)  # components
LEVEL = "A test of {name}, {what}, rejects in {amount}; its level is {level}."
NO_EFFECT = {0.0: "an effect that is 0", 1.0: "a ratio that is 1"}
ALL_POWER = "Every effect that is not 0 was found in every data set."
ERROR = "A single estimate of {name}{which} is off by {amount} (root mean squared error)."
HOW_SURE = (
    "Of the numbers that can be held against what they should be ({n}, of {topics}), {n_off} off by"
    " more than chance explains among so many."
)
TOO_FEW = "Nothing can be said: no parameter has two usable estimates."


class Answer(NamedTuple):
    """Sentences, and the parameters that they are about, in their order."""

    sentences: list[Sentence]
    parameters: list[str]


def answer(shown: Shown, found: Sequence[Finding]) -> Answer:
    """What was found, and how sure it is: tests first, then power and errors, then what is off."""
    n_judged = sum(len(one.verdicts) for one in found)
    limit = ERROR_RATE / max(1, n_judged)
    off = _off(shown, found, limit)
    tests = {"rejection": off.pop("rejection")} if "rejection" in off else {}
    about = [*([] if tests else _level(shown)), *_power(shown), *_error(shown)]
    entries = [*tests.items(), *(("", one) for one in about), *off.items()]
    parameters = unique(parameter for _, (_, parameter) in entries)
    entries = entries[: MOST_SENTENCES - 1]
    sentences = [sentence for _, (sentence, _) in entries]
    if n_judged:
        sentences.append(_how_sure(found, limit, {measure for measure, _ in entries} - {""}))
    if all(record["n"] < FEWEST for record in shown.records):
        sentences.append((TOO_FEW,))
    return Answer(sentences, parameters)


def _how_sure(found: Sequence[Finding], limit: float, told: set[str]) -> Sentence:
    """How many numbers are off, and of what else than was told."""
    known = [one for one in found if one.verdicts]
    n_off = [sum(_is_sure(verdict, limit) for verdict in one.verdicts) for one in known]
    unsaid = [
        one.topic.title.lower()
        for one, n in zip(known, n_off, strict=True)
        if n and one.topic.measure not in told
    ]
    also = f", {'some of' if told else 'of'} {' and '.join(unsaid)}," if unsaid else ""
    n = sum(n_off)
    words = f"{n or 'none'}{also} {'is' if n < 2 else 'are'}"
    topics = ", ".join(one.topic.title.lower() for one in known)
    n_judged = sum(len(one.verdicts) for one in known)
    return say(HOW_SURE, n=f"{n_judged:,}", topics=topics, n_off=words)


def figure_of(shown: Shown, parameters: Sequence[str]) -> tuple[str, list[str]]:
    """The kind of figure that shows the answer, and the parameters it has room for."""
    kind = "curves" if shown.swept else "estimates"
    others = sorted(shown.parameters, key=lambda name: name == "Intercept")
    return kind, unique([*parameters, *others])[: MOST_SHOWN[kind]]


def telling(shown: Shown) -> list[str]:
    """All parameters, those that tell the most first.

    Effects lead, which have all measures: those of the answer, then others.
    """
    told = answer(shown, findings(shown)).parameters
    effects = {r["parameter"] for r in shown.records if r["component"] in EFFECTS} - {"Intercept"}
    own = [name for name in shown.parameters if name in effects]
    others = sorted(shown.parameters, key=lambda name: name == "Intercept")
    return unique([*(name for name in told if name in effects), *own, *told, *others])


def suited(results: Path, selection: Selection) -> tuple[str, Selection]:
    """The kind of figure that suits a study or a plan, and what to draw unless it was said."""
    if read_plan(results) is not None:
        return "plan", selection
    shown = shown_rows(results, selection)
    kind, _ = figure_of(shown, [])
    return kind, _limited(kind, shown, selection)


def limited(results: Path, kind: str, selection: Selection) -> Selection:
    """The same, with the parameters that tell the most unless some were named."""
    is_open = selection.parameters is None and kind in MOST_SHOWN
    return _limited(kind, shown_rows(results, selection), selection) if is_open else selection


def _limited(kind: str, shown: Shown, selection: Selection) -> Selection:
    if selection.parameters is not None:
        return selection
    measure = measure_named(selection.measure or NEEDED.get(kind, "mean"))
    known = {
        record["parameter"]
        for record in shown.records
        if record[measure] is not None and (kind != "power" or record["truth"])
    }
    if measure == "rejection" and len(known) > 1:
        known.discard("Intercept")  # nobody asks whether a mean is 0
    names = [name for name in telling(shown) if name in known][: MOST_SHOWN[kind]]
    return replace(selection, parameters=names or "*")


def _is_sure(verdict: Verdict, limit: float) -> bool:
    return bool(verdict.sign) and verdict.p < limit


def _off(shown: Shown, found: Sequence[Finding], limit: float) -> dict[str, tuple[Sentence, str]]:
    """The largest of what is off, by measure; standard errors of effects alone."""
    known = [one for one in found if one.verdicts]
    said = {}
    for one in sorted(known, key=lambda one: ORDER.index(one.topic.measure)):
        assert isinstance(one.topic, Judged)
        sure = [
            verdict
            for verdict in one.verdicts
            if _is_sure(verdict, limit)
            and (one.topic.measure != OF_EFFECTS or verdict.record["component"] in EFFECTS)
        ]
        if sure:
            said[one.topic.measure] = _worst(one.topic, one.verdicts, sure, shown)
    return said


def _worst(
    topic: Judged, verdicts: Sequence[Verdict], sure: Sequence[Verdict], shown: Shown
) -> tuple[Sentence, str]:
    worst = max(sure, key=lambda one: (_is_of_a_scale(one.record), one.size))
    name, method = worst.record["parameter"], worst.record["shown_as"]
    own = [
        verdict
        for verdict in verdicts
        if (verdict.record["parameter"], verdict.record["shown_as"]) == (name, method)
    ]
    off = [verdict for verdict in own if verdict.sign == worst.sign]
    sentence = say_off(topic, off, len(own), levels_in_words(shown.confidence))
    methods = unique(
        verdict.record["shown_as"]
        for verdict in sure
        if verdict.sign == worst.sign and verdict.record["parameter"] == name
    )
    if len(shown.methods) > 1:
        *start, end = sentence
        words: Sentence = (f"{end.removesuffix('.')}, by ", *listed(methods), ".")
        sentence = (*start, *words)
    return sentence, name


def _is_of_a_scale(record: Record) -> bool:
    """Whether sizes compare with others: not those of effects that are 0, in units of their own."""
    return record["truth"] != 0.0 or ".cor(" in record["parameter"]


def _error(shown: Shown) -> list[tuple[Sentence, str]]:
    """The parameter of which one data set tells the least, relative to its size."""
    known: dict[str, list[Record]] = {}
    for record in shown.records:
        if record["rmse_mcse"] is not None and record["truth"]:
            known.setdefault(record["parameter"], []).append(record)
    if not known:
        return []
    name = max(known, key=lambda one: _least_error(known[one]))
    which = f", of which a data set tells the least among {len(known)} parameters,"
    amount = _over_conditions(known[name], typical_error)
    which *= len(known) > 1
    return [(say(ERROR, name=listed([name]), which=which, amount=amount), name)]


def _least_error(records: Sequence[Record]) -> float:
    """Relative RMSE by the best method, which is what data tell, in the worst condition."""
    best: dict[str, float] = {}
    for r in records:
        size = r["rmse"] / abs(r["truth"])
        best[r["place"]] = min(size, best.get(r["place"], size))
    return max(best.values())


def _level(shown: Shown) -> list[tuple[Sentence, str]]:
    """How often the effect that is 0 and rejected most is rejected."""
    known = [
        r
        for r in shown.records
        if r["rejection"] is not None and has_no_effect(r) and r["n"] >= FEWEST
    ]
    if not known:
        return []
    name = max(known, key=lambda record: record["rejection"])["parameter"]
    own = [record for record in known if record["parameter"] == name]
    level = levels_in_words(shown.confidence)["level"]
    amount = _over_conditions(own, share_rejected)
    what = NO_EFFECT[no_effect(own[0]["component"])]
    return [(say(LEVEL, name=listed([name]), what=what, amount=amount, level=level), name)]


def _power(shown: Shown) -> list[tuple[Sentence, str]]:
    """The effect that is the hardest to find, from where to where."""
    known: dict[str, list[Record]] = {}
    for record in shown.records:
        if record["rejection"] is not None and not has_no_effect(record) and record["n"] >= FEWEST:
            known.setdefault(record["parameter"], []).append(record)
    known.pop("Intercept", None)  # nobody asks whether a mean is 0
    if not known:
        return []
    name = min(known, key=lambda one: min(r["rejection"] for r in known[one]))
    if all(record["rejection"] == 1.0 for record in known[name]):
        return [((ALL_POWER,), name)]
    which = f", the hardest to find of {len(known)} effects," if len(known) > 1 else ""
    amount = _over_conditions(known[name], share_rejected)
    return [(say(POWER, name=listed([name]), which=which, amount=amount), name)]


def _over_conditions(records: Sequence[Record], amount_of: Callable[[Record], Amount]) -> Sentence:
    """From where to where: conditions and, where there are several, methods."""
    several = len(set(map(in_fits, records))) > 1
    amounts = [
        (amount_of(r), ", ".join(filter(None, [r["place"], in_fits(r) * several]))) for r in records
    ]
    return from_to(amounts)
