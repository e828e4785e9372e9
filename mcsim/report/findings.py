"""What a study found, in sentences made from its summary.

Something is said to be off only where the Monte Carlo error does not explain it: an average beyond
two standard errors (a t test, so that few replicates say less), a share by the binomial test of the
same level. Otherwise the sentence says that the study cannot tell.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy import special

from mcsim.report.words import Name, Sentence, listed, say
from mcsim.summary.records import OF_INTERVALS, Record, has_gaps, one_per_fit, share_missing, unique
from mcsim.summary.selection import Shown
from mcsim.summary.text import percent, with_mcse

ERROR_RATE = 0.0455  # of one statement where nothing is off: a normal beyond 2 standard errors


class Amount(NamedTuple):
    """A number, its words with the MCSE, and its unit."""

    value: float
    text: str
    unit: str = "%"


class Finding(NamedTuple):
    """Sentences on one measure: what it is, and by method what was found.

    n_off of n_judged rows are off; both are 0 where there is nothing to be held against;
    clearest : the sentence with the smallest Monte Carlo error for its size
    """

    title: str
    meaning: str
    sentences: Mapping[str, Sequence[Sentence]]
    n_off: int = 0
    n_judged: int = 0
    clearest: Sentence = ()


class Verdict(NamedTuple):
    """What one row says: -1 too small, 1 too large, 0 not known to be off; how far off.

    z : the same in Monte Carlo standard errors
    """

    sign: int
    size: float
    z: float
    amount: str
    record: Record


@dataclass(frozen=True)
class Judged:
    """A measure that is held against what it should be.

    says : of a row that is too small (-1) or too large (1), with {name}, {amount} and, of several
    conditions, {where}; rest : of all other parameters, {names}
    """

    title: str
    meaning: str
    measure: str
    judge: Callable[[Record, float], Verdict | None]
    says: Mapping[int, str]
    rest: str


@dataclass(frozen=True)
class Described:
    """A measure that is what it is: where it is smallest and largest.

    amount : None for rows that do not count; says : with {name} and {amount};
    rest : of parameters where it is 0 throughout, {names}
    """

    title: str
    meaning: str
    measure: str
    amount: Callable[[Record], Amount | None]
    says: str
    rest: str = ""


def findings(shown: Shown) -> list[Finding]:
    """What was found, measure by measure; those that no row has are left out."""
    found = []
    for topic in TOPICS:
        known = [record for record in shown.records if record[topic.measure] is not None]
        records = one_per_fit(known, [topic.measure])
        methods = unique(record["shown_as"] for record in records)
        by_method = {name: [r for r in records if r["shown_as"] == name] for name in methods}
        if isinstance(topic, Judged):
            finding = _judge_all(topic, by_method, shown.confidence)
        else:
            finding = _describe_all(topic, by_method, shown.confidence)
        found += [finding] if finding.sentences else []
    return found


def _levels(confidence: float) -> dict[str, str]:
    return {"nominal": f"{100 * confidence:g}%", "level": f"{100 - 100 * confidence:g}%"}


def _joined(sentences: Mapping[str, Sequence[Sentence]]) -> dict[str, Sequence[Sentence]]:
    """The sentences by the names of all methods of which they hold."""
    methods: dict[tuple[Sentence, ...], list[str]] = {}
    for method, own in sentences.items():
        methods.setdefault(tuple(own), []).append(method)
    return {", ".join(names): own for own, names in methods.items()}


def _judge_all(
    topic: Judged, by_method: Mapping[str, Sequence[Record]], confidence: float
) -> Finding:
    words, off, n_judged = _levels(confidence), [], 0
    sentences: dict[str, list[Sentence]] = {}
    for method, records in by_method.items():
        judged = [topic.judge(record, confidence) for record in records]
        verdicts = [verdict for verdict in judged if verdict is not None]
        off += [verdict for verdict in verdicts if verdict.sign]
        n_judged += len(verdicts)
        if verdicts:
            sentences[method] = _sentences(topic, verdicts, words)
    clearest: Sentence = ()
    if off:
        verdict = max(off, key=lambda one: one.z)
        clearest = _say(topic, [verdict], 1, words)
        if len(by_method) > 1:
            method = Name(verdict.record["shown_as"])
            clearest = (*clearest[:-1], clearest[-1].removesuffix("."), " (method ", method, ").")
        clearest = _after_colon(clearest)
    meaning = topic.meaning.format(**words)
    return Finding(topic.title, meaning, _joined(sentences), len(off), n_judged, clearest)


def _after_colon(sentence: Sentence) -> Sentence:
    """The sentence as it goes on in another: names keep their letters."""
    first, *rest = sentence
    return sentence if isinstance(first, Name) else (first[0].lower() + first[1:], *rest)


def _sentences(
    topic: Judged, verdicts: Sequence[Verdict], words: Mapping[str, str]
) -> list[Sentence]:
    sentences, rest, n_conditions = [], [], 1
    for name in unique(verdict.record["parameter"] for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.record["parameter"] == name]
        n_conditions = max(n_conditions, len(own))
        for sign in (-1, 1):
            off = [verdict for verdict in own if verdict.sign == sign]
            sentences += [_say(topic, off, len(own), words)] if off else []
        rest += [] if any(verdict.sign for verdict in own) else [name]
    if rest:
        where = "" if n_conditions == 1 else ", in any condition"
        sentences.append(say(topic.rest + where + ".", names=listed(rest), **words))
    return sentences


def _say(topic: Judged, off: Sequence[Verdict], n: int, words: Mapping[str, str]) -> Sentence:
    """One parameter, off in the same direction in some of n conditions."""
    worst = max(off, key=lambda verdict: verdict.size)
    where = "" if n == 1 else f" in {len(off)} of {n} conditions{', at worst' * (len(off) > 1)}"
    amount: Sentence = (worst.amount,)
    if worst.record["place"]:
        amount = (worst.amount, " in ", Name(worst.record["place"]))
    name = Name(worst.record["parameter"])
    side = _side(worst) if "{side}" in topic.says[worst.sign] else ""
    return say(topic.says[worst.sign], name=name, where=where, amount=amount, side=side, **words)


def _side(worst: Verdict) -> str:
    """Of a negative truth, what its relative bias, which has the other sign, says."""
    truth = worst.record["truth"]
    if truth is None or truth >= 0.0:
        return ""
    return f", too {'near to' if worst.sign > 0 else 'far from'} zero"


def _describe_all(
    topic: Described, by_method: Mapping[str, Sequence[Record]], confidence: float
) -> Finding:
    sentences: dict[str, list[Sentence]] = {}
    for method, records in by_method.items():
        amounts: dict[tuple[str, str], list[tuple[Amount, str]]] = {}
        for record in records:
            if (amount := topic.amount(record)) is not None:
                key = record["parameter"], amount.unit
                amounts.setdefault(key, []).append((amount, record["place"]))
        never = [name for (name, _), own in amounts.items() if topic.rest and not _ever(own)]
        own = [
            say(topic.says, name=Name(name), amount=_from_to(found))
            for (name, _), found in amounts.items()
            if name not in never
        ]
        own += [say(topic.rest, names=listed(never))] if never else []
        sentences |= {method: own} if own else {}
    return Finding(topic.title, topic.meaning.format(**_levels(confidence)), _joined(sentences))


def _ever(own: Sequence[tuple[Amount, str]]) -> bool:
    return any(amount.value for amount, _ in own)


def _from_to(own: Sequence[tuple[Amount, str]]) -> Sentence:
    """`12% (MCSE 1%)`, or the smallest and the largest and where they are."""
    low, high = (choose(own, key=lambda entry: entry[0].value) for choose in (min, max))
    (smallest, where), (largest, there) = low, high
    if smallest.value == largest.value:
        return (smallest.text + " in every condition" * (len(own) > 1),)
    return (smallest.text, " in ", Name(where), " to ", largest.text, " in ", Name(there))


def in_words(value: float, mcse: float | None, unit: str = "") -> str:
    """`12.3% (MCSE 0.8%)`."""
    return _with_unit(with_mcse(value, mcse), unit)


def _with_unit(shown: str, unit: str) -> str:
    if not shown.endswith(")"):
        return shown + unit
    return shown.replace(" (", f"{unit} (MCSE ").replace(")", f"{unit})")


def _judge_bias(record: Record, _confidence: float) -> Verdict | None:
    bias, mcse, truth = record["bias"], record["bias_mcse"], record["truth"]
    if mcse is None:
        return None
    sign = _sign_of_mean(bias, mcse, record["n"])
    factor, unit = (100 / abs(truth), "%") if truth else (1.0, "")
    amount = in_words(factor * abs(bias), factor * mcse, unit)
    return Verdict(sign, factor * abs(bias), _ratio(bias, mcse), amount, record)


def _judge_standard_error(record: Record, _confidence: float) -> Verdict | None:
    error, mcse = record["relative_error_se"], record["relative_error_se_mcse"]
    if mcse is None:
        return None
    sign, amount = (
        _sign_of_mean(error, mcse, record["n"]),
        in_words(100 * abs(error), 100 * mcse, "%"),
    )
    return Verdict(sign, abs(error), _ratio(error, mcse), amount, record)


def _judge_coverage(record: Record, confidence: float) -> Verdict | None:
    return _judge_share(record, "coverage", confidence)


def _judge_type_one_error(record: Record, confidence: float) -> Verdict | None:
    return _judge_share(record, "rejection", 1.0 - confidence) if record["truth"] == 0.0 else None


def _judge_share(record: Record, measure: str, expected: float) -> Verdict | None:
    share, n = record[measure], record["n"] - record["n_missing_interval"]
    if n < 1:
        return None
    hits = round(share * n)
    at_most = special.bdtr(hits, n, expected)
    at_least = special.bdtrc(hits - 1, n, expected) if hits else 1.0
    is_off = 2 * min(at_most, at_least) < ERROR_RATE
    sign = 0 if not is_off else -1 if share < expected else 1
    amount = _share_of(record, measure).text
    if measure in OF_INTERVALS and has_gaps(record):
        amount += f", without the {share_missing(record):.1%} of the estimates that have none"
    error = math.sqrt(expected * (1.0 - expected) / n)
    distance = abs(share - expected)
    return Verdict(sign, distance, _ratio(distance, error), amount, record)


def _ratio(value: float, mcse: float) -> float:
    return abs(value) / mcse if mcse else math.inf


def _sign_of_mean(value: float, mcse: float, n: int) -> int:
    """0 where a t test cannot tell the mean of n values from 0."""
    limit = float(special.stdtrit(n - 1, 1.0 - ERROR_RATE / 2)) * mcse
    return 0 if abs(value) <= limit else -1 if value < 0 else 1


def _share_of(record: Record, measure: str) -> Amount:
    share = percent(record[measure], record[f"{measure}_mcse"])
    return Amount(100 * record[measure], _with_unit(share, "%"))


def _power(record: Record) -> Amount | None:
    return None if record["truth"] == 0.0 else _share_of(record, "rejection")


def _zeros(record: Record) -> Amount | None:
    return None if record["truth"] == 0.0 else _share_of(record, "share_at_zero")


def _typical_error(record: Record) -> Amount:
    value, mcse, truth = record["rmse"], record["rmse_mcse"], abs(record["truth"])
    factor, unit = (100 / truth, "%") if truth else (1.0, "")
    text = in_words(factor * value, None if mcse is None else factor * mcse, unit)
    return Amount(factor * value, text, unit)


TOPICS: tuple[Judged | Described, ...] = (
    Judged(
        "Bias",
        "Mean of the estimates less the truth, in percent of the truth where that is not 0.",
        "bias",
        _judge_bias,
        {
            -1: "{name} is underestimated{where} by {amount}{side}.",
            1: "{name} is overestimated{where} by {amount}{side}.",
        },
        "The study cannot tell the bias of {names} from zero",
    ),
    Described(
        "How far off a single estimate is",
        "Root mean squared error, in percent of the truth where that is not 0.",
        "rmse",
        _typical_error,
        "{name}: {amount}.",
    ),
    Judged(
        "Intervals",
        "Share of the {nominal} intervals that hold the truth; estimates without one do not count.",
        "coverage",
        _judge_coverage,
        {
            -1: "The {nominal} intervals of {name} hold the truth too rarely{where}: {amount}.",
            1: "The {nominal} intervals of {name} hold the truth too often{where}: {amount}.",
        },
        "The study cannot tell the coverage of the intervals of {names} from {nominal}",
    ),
    Judged(
        "Tests of effects that are zero",
        "Share of the data sets in which a test at the {level} level rejects: type I error.",
        "rejection",
        _judge_type_one_error,
        {
            -1: "Tests of {name} reject too rarely{where}: {amount}.",
            1: "Tests of {name} reject too often{where}: {amount}.",
        },
        "The study cannot tell the type I error of the tests of {names} from {level}",
    ),
    Described(
        "Power",
        "Share of the data sets in which a test at the {level} level finds an effect.",
        "rejection",
        _power,
        "{name}: {amount}.",
    ),
    Judged(
        "Standard errors",
        "Mean standard error that a method reports, against the SD of its estimates.",
        "relative_error_se",
        _judge_standard_error,
        {
            -1: "The standard errors of {name} are too small{where} by {amount}.",
            1: "The standard errors of {name} are too large{where} by {amount}.",
        },
        "The study cannot tell that the standard errors of {names} are off",
    ),
    Described(
        "Estimates of zero",
        "Share of the data sets in which an SD that is not 0 is estimated as exactly 0, which is a"
        " valid optimum.",
        "share_at_zero",
        _zeros,
        "{name}: {amount}.",
        "{names}: never.",
    ),
)
