"""The first sentences where a scenario says what its title asks: every method beside the others."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mcsim.names import no_effect
from mcsim.report.findings import FEWEST, levels_in_words
from mcsim.report.words import Name, Sentence, joined, listed, say
from mcsim.summary.records import Record, drawn_once, has_no_effect, one_per_fit, unique
from mcsim.summary.selection import Shown
from mcsim.summary.summarize import value_text
from mcsim.summary.swept_words import COUNT
from mcsim.summary.text import percent, with_mcse

FAILED = "failed"  # beside measures
MOST_METHODS, MOST_NAMED = 8, 6  # that a sentence tells apart, that it names of the others
NO_EFFECT = {0.0: "an effect that is 0", 1.0: "a ratio that is 1"}
FEW = 0.95  # of the data sets: a method that has fewer is not compared on the same
LARGEST, SMALLEST = "the largest", "the smallest"


class Number(NamedTuple):
    """A number, its words and its MCSE, in this unit."""

    value: float
    text: str
    mcse: float | None
    unit: str
    record: Record


class Told(NamedTuple):
    """How a measure is told: which number stands out, and what it is held against.

    held : what is said of that where no number stands out; base : what percents are of
    """

    says: str
    number: Callable[[Record], Number]
    which: str = LARGEST
    expected: float | None = None
    held: str = ""
    base: str = ""


def asked(shown: Shown) -> list[tuple[str, str, Sentence]]:
    """Measure, parameter and sentence, in the order in which the scenario asks for them."""
    found = []
    for measure in shown.question.measures:
        if measure == FAILED:
            found += [(measure, "", one) for one in _of_failures(shown)]
            continue
        for name in _worth(measure, shown):
            own = [r for r in shown.records if r["parameter"] == name and r["n"] >= FEWEST]
            known = [r for r in own if r[measure] is not None]
            for told, records in _ways(measure, known, shown.confidence):
                merged = drawn_once(one_per_fit(records, [measure]), [measure])
                found.append((measure, name, _sentence(told, merged, shown, name)))
    return found


def _worth(measure: str, shown: Shown) -> Sequence[str]:
    """The parameters that are asked for; of errors, those whose truth is not 0, if any."""
    names = shown.question.parameters
    if measure not in ("bias", "rmse"):
        return names
    sized = {r["parameter"] for r in shown.records if r["truth"]}
    return [name for name in names if name in sized] or names


def _ways(
    measure: str, records: Sequence[Record], confidence: float
) -> list[tuple[Told, list[Record]]]:
    """How a measure is told of which records; of tests, apart where there is an effect."""
    if measure != "rejection":
        return [(_told(measure, records, confidence), list(records))] if records else []
    null = [record for record in records if has_no_effect(record)]
    others = [record for record in records if not has_no_effect(record)]
    found = []
    if null:
        what = NO_EFFECT[no_effect(null[0]["component"])]
        level = levels_in_words(confidence)["level"]
        says = f"A test of {{name}}, {what}, rejects in {{amounts}}."
        which, held = f"farthest from its level, {level},", f"; its level is {level}"
        of_tests = Told(says, _share(measure), which, 100.0 * (1.0 - confidence), held)
        found.append((of_tests, null))
    if others:
        says = "The power to find {name} is {amounts}."
        found.append((Told(says, _share(measure), SMALLEST), others))
    return found


def _told(measure: str, records: Sequence[Record], confidence: float) -> Told:
    if measure == "coverage":
        nominal = levels_in_words(confidence)["nominal"]
        says = f"The {nominal} intervals of {{name}} hold the truth in {{amounts}}."
        return Told(says, _share(measure), "farthest off", 100.0 * confidence)
    if measure == "share_at_zero":
        return Told("{name} is estimated as exactly 0 in {amounts}.", _share(measure))
    truths = {record["truth"] for record in records}
    in_units = measure == "rmse" and len(truths) > 1  # as figures show it
    says = "The bias of {name} is {amounts}."
    if measure == "rmse":
        says = "A single estimate of {name} is off by {amounts}."
    base = "of the truth; " if all(truths) and not in_units else ""
    return Told(says, _of_the_truth(measure, in_units=in_units), base=base)


def _share(measure: str) -> Callable[[Record], Number]:
    def number(record: Record) -> Number:
        share, mcse = record[measure], record[f"{measure}_mcse"]
        text = percent(share, mcse).partition(" ")[0]
        return Number(100.0 * share, text, mcse and 100.0 * mcse, "%", record)

    return number


def _of_the_truth(measure: str, *, in_units: bool = False) -> Callable[[Record], Number]:
    """In percent of the truth, and with its sign, where that is not 0; or in its units."""

    def number(record: Record) -> Number:
        truth, mcse = 0.0 if in_units else record["truth"], record[f"{measure}_mcse"]
        factor = 100.0 / abs(truth) if truth else 1.0
        sign = -1.0 if measure == "bias" and truth < 0.0 else 1.0  # that of figures
        value, error = sign * factor * record[measure], mcse and factor * mcse
        unit = "%" if truth else f" {record['scale']}" if record.get("scale") else ""
        return Number(value, with_mcse(value, error).partition(" ")[0], error, unit, record)

    return number


def _of_failures(shown: Shown) -> list[Sentence]:
    """How many fits failed, if any did."""
    fits = {
        (r["place"], r["method"].partition("/")[0]): r | {"shown_as": r["method"].partition("/")[0]}
        for r in shown.records
    }
    if not any(record["n_failed"] for record in fits.values()):
        return []

    def number(record: Record) -> Number:
        share = record["n_failed"] / record["n_replicates"]
        return Number(100.0 * share, f"{100.0 * share:.1f}", None, "%", record)

    return [_sentence(Told("Fits that failed: {amounts}.", number), [*fits.values()], shown, "")]


def _sentence(told: Told, records: Sequence[Record], shown: Shown, name: str) -> Sentence:
    """Method by method, from where to where over the conditions."""
    groups = {
        method: [told.number(one) for one in records if one["shown_as"] == method]
        for method in unique(record["shown_as"] for record in records)
    }
    order = _order(shown) if all(map(_is_monotone(shown), groups.values())) else None
    ranged = {method: _range(own, is_ordered=order is not None) for method, own in groups.items()}
    words = _by_method(told, groups, ranged)
    numbers = [one for own in groups.values() for one in own]
    words += _of_few(groups)
    between = "; " if len(groups) > 1 else ", "
    if order is not None:
        words += [f"{between}{order}{told.held}"]
    elif min(len({one.record["place"] for one in numbers}), len(set(ranged.values()))) > 1 or any(
        " to " in text for text in ranged.values()
    ):
        most = _most(told, numbers).record
        by = (" by ", *listed(most["shown_as"].split(" and "))) if len(groups) > 1 else ()
        words += [f"{between}{told.which}", *by, " with ", *_place(most, shown)]
    else:
        words += [told.held] * bool(told.held)
    errors = [one.mcse for one in numbers if one.mcse]
    if errors:
        unit = numbers[0].unit
        words += [f" ({told.base}MCSE at most {max(errors):.2g}{unit})"]
    return say(told.says, name=(Name(name),), amounts=tuple(words))


def _of_few(groups: Mapping[str, Sequence[Number]]) -> list[str]:
    """Methods whose numbers leave out the data sets that they failed on."""
    words: list[str] = []
    for method, own in groups.items():
        least = min((one.record for one in own), key=lambda r: r["n"] / r["n_replicates"])
        has_failed = least["n_failed"] > (1.0 - FEW) * least["n_replicates"]
        if has_failed and own[0].mcse is not None:
            words += [" (", Name(method), f": of as few as {least['n']:,} of "]
            words += [f"{least['n_replicates']:,} data sets)"]
    return words


def _by_method(
    told: Told, groups: Mapping[str, Sequence[Number]], ranged: Mapping[str, str]
) -> list[str]:
    """`1.7 to 5.0% by a; 11.7% by b`; of many methods those that stand out, then all others."""
    names: dict[str, list[str]] = {}
    for method, text in ranged.items():
        names.setdefault(text, []).extend(method.split(" and "))
    if len(names) == 1:
        return [next(iter(names))]
    if len(names) > MOST_METHODS:
        by_rank = sorted(groups, key=lambda one: -_rank(told, _most(told, groups[one])))
        rest = [name for name in ranged if name in by_rank[MOST_METHODS - 1 :]]
        kept = {name: ranged[name] for name in ranged if name not in rest}
        of_rest = _range([one for name in rest for one in groups[name]], is_ordered=False)
        rest = [name for one in rest for name in one.split(" and ")]
        others: Sentence = listed(rest) if len(rest) <= MOST_NAMED else (f"{len(rest)} others",)
        pairs = [(text, listed(name.split(" and "))) for name, text in kept.items()]
        pairs.append((of_rest, others))
    else:
        pairs = [(text, listed(methods)) for text, methods in names.items()]
    return list(joined([(f"{text} by ", *methods) for text, methods in pairs], "; ", "; "))


def _range(numbers: Sequence[Number], *, is_ordered: bool) -> str:
    """`91% to 11%`, in the order of the conditions or from the smallest to the largest."""
    ends = [numbers[0], numbers[-1]]
    if not is_ordered:
        ends = [choose(numbers, key=lambda one: one.value) for choose in (min, max)]
    low, high = ends
    if low.text == high.text:
        return f"{high.text}{high.unit}"
    return f"{low.text}{low.unit * (low.unit != high.unit)} to {high.text}{high.unit}"


def _most(told: Told, numbers: Sequence[Number]) -> Number:
    return max(numbers, key=lambda one: _rank(told, one))


def _rank(told: Told, number: Number) -> float:
    if told.which == SMALLEST:
        return -number.value
    return abs(number.value - (told.expected or 0.0))


def _order(shown: Shown) -> str | None:
    """`from 4 to 25 units of animal per diet`, of conditions that differ in one number."""
    column, *others = shown.swept or ("",)
    if not column or others or not shown.is_numeric(column):
        return None
    values = shown.values_of(column)
    first, *_, last = values.values()
    if not COUNT.fullmatch(column):
        return f"from {shown.swept[column]}={first} to {last}"
    totals = shown.units_in_all(column)
    in_all = ""
    if totals:
        low, *_, high = (totals[value] for value in values)
        in_all = f" ({low:,} to {high:,} in all)"
    return f"from {first} to {last} {shown.axis_words(column)}{in_all}"


def _is_monotone(shown: Shown) -> Callable[[Sequence[Number]], bool]:
    """Whether the first and last condition of a swept number have the extremes."""
    if _order(shown) is None:
        return lambda _numbers: False
    column = next(iter(shown.swept))
    places = list(shown.values_of(column))

    def is_monotone(numbers: Sequence[Number]) -> bool:
        own = [value_text(one.record[column]) for one in numbers]
        values = [one.value for one in numbers]
        ends = {values[0], values[-1]}
        return own == places and ends == {min(values), max(values)}

    return is_monotone


def _place(record: Record, shown: Shown) -> Sentence:
    """`3 units of animal per diet (6 in all), x=2`."""
    words: list[str] = []
    for column, name in shown.swept.items():
        words += [", "] * bool(words)
        value = record["words"][column]
        if COUNT.fullmatch(column) and shown.is_numeric(column):
            total = shown.units_in_all(column).get(value_text(record[column]))
            in_all = f" ({total:,} in all)" if total else ""
            words += [f"{value} {shown.axis_words(column)}{in_all}"]
        else:
            words += [Name(f"{name}={value}")]
    return tuple(words)
