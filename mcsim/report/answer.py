"""The first screen: at most five sentences on what matters most, and which parameters those are.

Named is only what chance does not explain among all numbers that the study compares: Bonferroni's
limit, in place of that of one comparison, which holds for the findings further down.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mcsim.measures import SHARES
from mcsim.names import FIXED, MARGINAL, no_effect
from mcsim.report.asked import NO_EFFECT, asked
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
from mcsim.report.words import Name, Sentence, joined, listed, say
from mcsim.summary.plans import read_plan
from mcsim.summary.records import Record, has_no_effect, in_fits, measure_named, unique
from mcsim.summary.selection import Selection, Shown, shown_rows

MOST_SENTENCES, MOST_NAMED = 5, 3
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
ALL_POWER = "Every effect that is not 0 was found in every data set."
ERROR = "A single estimate of {name}{which} is off by {amount} (root mean squared error)."
HOW_SURE = "Of {n} should be, {n_off} off by more than chance explains among so many."
TOO_FEW = "Nothing can be said: no parameter has two usable estimates."


class Answer(NamedTuple):
    """Sentences, the parameters that they are about, and the measure for a figure, if any."""

    sentences: list[Sentence]
    parameters: list[str]
    measure: str


def answer(shown: Shown, found: Sequence[Finding]) -> Answer:
    """What was found, and how sure it is: what the title asks, if the scenario says that.

    Else tests first, then power and errors, then what is off.
    """
    n_judged = sum(len(one.verdicts) for one in found)
    limit = ERROR_RATE / max(1, n_judged)
    if first := asked(shown):
        sentences = [sentence for *_, sentence in first][: MOST_SENTENCES - 1]
        sentences += [_how_sure(found, limit, set())] * bool(n_judged)
        known = [name for name in shown.question.parameters if name in shown.parameters]
        return Answer(sentences, known, next(measure for measure, *_ in first))
    off = _off(shown, found, limit)
    tests = {"rejection": off.pop("rejection")} if "rejection" in off else {}
    about = [*([] if tests else _level(shown)), *_power(shown)]
    of_tests = [("" if one[0] == (ALL_POWER,) else "rejection", one) for one in about]
    of_error = [("", one) for one in _error(shown)]
    entries = [*tests.items(), *of_tests, *of_error, *off.items()]
    parameters = unique(parameter for _, (_, parameter) in entries)
    entries = entries[: MOST_SENTENCES - 1]
    sentences = [sentence for _, (sentence, _) in entries]
    if n_judged:
        told = {measure for measure, _ in entries if measure in (*tests, *off)}
        sentences.append(_how_sure(found, limit, told))
    if all(record["n"] < FEWEST for record in shown.records):
        sentences.append((TOO_FEW,))
    return Answer(sentences, parameters, next((name for name, _ in entries if name), ""))


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
    n_judged = sum(len(one.verdicts) for one in known)
    numbers = f"the {n_judged:,} numbers that can be held against what they"
    numbers = "the one number that can be held against what it" if n_judged == 1 else numbers
    return say(HOW_SURE, n=numbers, n_off=words)


def figure_of(shown: Shown, said: Answer) -> tuple[str, str | None, list[str]]:
    """The kind of figure that shows the answer, its measure, the parameters it has room for."""
    names = unique([*said.parameters, *_intercept_last(shown)])
    if not shown.swept and said.measure in SHARES:  # which estimates do not show
        kind, measure, names = "lollipop", said.measure, having(shown, names, said.measure)
    else:
        kind, measure = _kind_of(shown), None
    most = MOST_SHOWN.get(kind, MOST_SHOWN["estimates"])
    if shown.question.parameters:
        is_one = len(shown.question.measures) == 1  # whose panels stand side by side
        names, most = said.parameters, MOST_SHOWN["estimates"] if is_one else most
    return kind, measure, names[:most]


def _kind_of(shown: Shown) -> str:
    return "curves" if shown.swept else "estimates"


def _intercept_last(shown: Shown) -> list[str]:
    return sorted(shown.parameters, key=lambda name: name == "Intercept")


def having(shown: Shown, names: Sequence[str], measure: str | None) -> list[str]:
    """Those of the parameters that have a measure, as figures of it show them."""
    known = {r["parameter"] for r in shown.records if measure is None or r[measure] is not None}
    if measure == "rejection":
        known.discard("Intercept")  # nobody asks whether a mean is 0
    return [name for name in names if name in known]


def telling(shown: Shown) -> list[str]:
    """All parameters, those that tell the most first.

    Effects lead, which have all measures: those of the answer, then others.
    """
    told = answer(shown, findings(shown)).parameters
    if shown.question.parameters:
        return unique([*told, *_intercept_last(shown)])
    effects = {r["parameter"] for r in shown.records if r["component"] in EFFECTS} - {"Intercept"}
    own = [name for name in shown.parameters if name in effects]
    return unique(
        [*(name for name in told if name in effects), *own, *told, *_intercept_last(shown)]
    )


def suited(results: Path, selection: Selection) -> tuple[str, Selection]:
    """The kind of figure that suits a study or a plan, and what to draw unless it was said."""
    if read_plan(results) is not None:
        return "plan", selection
    shown = shown_rows(results, selection)
    kind = _kind_of(shown)
    return kind, _limited(kind, shown, selection)


def limited(results: Path, kind: str, selection: Selection) -> Selection:
    """The same, with the parameters that tell the most unless some were named."""
    is_open = selection.parameters is None and kind in MOST_SHOWN
    return _limited(kind, shown_rows(results, selection), selection) if is_open else selection


def _limited(kind: str, shown: Shown, selection: Selection) -> Selection:
    if selection.parameters is not None:
        return selection
    measure = measure_named(selection.measure or NEEDED.get(kind, "mean"))
    effects = {r["parameter"] for r in shown.records if kind != "power" or r["truth"]}
    own = [name for name in telling(shown) if name in effects]
    names = having(shown, own, measure)[: MOST_SHOWN[kind]]
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
    compares = _is_of_a_scale if topic.measure == "bias" else bool
    worst = max(sure, key=lambda one: (compares(one.record), one.size))
    name, method = worst.record["parameter"], worst.record["shown_as"]
    own = [
        verdict
        for verdict in verdicts
        if (verdict.record["parameter"], verdict.record["shown_as"]) == (name, method)
    ]
    same = [verdict for verdict in sure if verdict.sign == worst.sign]
    off = [verdict for verdict in same if verdict in own]
    sentence = say_off(topic, off, len(own), levels_in_words(shown.confidence))
    methods: dict[str, list[str]] = {}  # of every parameter
    for verdict in same:
        methods.setdefault(verdict.record["parameter"], []).append(verdict.record["shown_as"])
    *start, end = sentence
    words = [*start, end.removesuffix(".")]
    if len(shown.methods) > 1:
        words += [", by ", Name(method)]
        of_others = {
            verdict.record["shown_as"]: verdict.amount
            for verdict in sorted(same, key=lambda one: one.size)  # the last is the largest
            if verdict.record["parameter"] == name and verdict.record["shown_as"] != method
        }
        order = [one for one in unique(methods[name]) if one in of_others]
        also = [(Name(one), f" ({of_others[one].partition(' (')[0]})") for one in order]
        words += ["; also by ", *joined(also)] if also else []
    if topic.measure == "rejection":
        words += _other_effects(name, methods)
    return (*words, "."), name


def _other_effects(name: str, methods: Mapping[str, Sequence[str]]) -> list[str]:
    """Those of which the same is true, with the methods unless they are those of the first."""
    names = [one for one in methods if one != name]
    if len(names) > MOST_NAMED:
        return [f"; those of {len(names)} other effects too"]
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in names:
        groups.setdefault(tuple(unique(methods[one])), []).append(one)
    words: list[str] = []
    for by, own in groups.items():
        words += ["; those of ", *listed(own), " too"]
        words += [", by ", *listed(by)] if set(by) != set(methods[name]) else []
    return words


def _is_of_a_scale(record: Record) -> bool:
    """Whether sizes compare with others: not those of effects that are 0, in units of their own."""
    return record["truth"] != 0.0 or ".cor(" in record["parameter"]


def _error(shown: Shown) -> list[tuple[Sentence, str]]:
    """The parameter of which the best method tells the least, relative to its size."""
    known: dict[str, list[Record]] = {}
    for record in shown.records:
        if record["rmse_mcse"] is not None and record["truth"]:
            known.setdefault(record["parameter"], []).append(record)
    if len(known) > 1:
        known.pop("Intercept", None)  # whose size is that of an origin, which is arbitrary
    if not known:
        return []
    name = max(known, key=lambda one: _largest_of_the_best(known[one]))
    which = f", of which a data set tells the least among {len(known)} parameters,"
    amount = _over_conditions(known[name], typical_error)
    which *= len(known) > 1
    return [(say(ERROR, name=listed([name]), which=which, amount=amount), name)]


def _largest_of_the_best(records: Sequence[Record]) -> float:
    """The largest relative error in any condition, by the method with the smallest there."""
    best: dict[str, float] = {}
    for record in records:
        error, place = record["rmse"] / abs(record["truth"]), record["place"]
        best[place] = min(error, best.get(place, error))
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
