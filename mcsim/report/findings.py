"""What a study found, in sentences made from its summary.

Something is said to be off only where the Monte Carlo error does not explain it: an average beyond
two standard errors (a t test, so that few replicates say less), a share by the binomial test of the
same level. Otherwise the sentence says that the study cannot tell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy import special

from mcsim.report.words import Name, Sentence, listed, say
from mcsim.summary.records import (
    OF_INTERVALS,
    Record,
    has_gaps,
    has_no_effect,
    in_fits,
    one_per_fit,
    share_missing,
    unique,
)
from mcsim.summary.selection import Shown
from mcsim.summary.text import percent, with_mcse

ERROR_RATE = 0.0455  # of one statement where nothing is off: a normal beyond 2 standard errors
IMMATERIAL = 0.01  # percent of the truth: nobody minds such a bias, however sure it is
FEWEST = 2  # estimates of a row that something is said of


class Amount(NamedTuple):
    """A number, its words with the MCSE, and its unit."""

    value: float
    text: str
    unit: str = "%"


class Said(NamedTuple):
    """A sentence, and the parameter that it is about; none where it is about several."""

    parameter: str
    sentence: Sentence


class Verdict(NamedTuple):
    """What one row says: -1 too small, 1 too large, 0 not known to be off; how far off.

    p : chance of being off so far, or farther, if nothing is
    left_out : words on estimates that do not count
    """

    sign: int
    size: float
    p: float
    amount: str
    record: Record
    left_out: str = ""


class Finding(NamedTuple):
    """What was found of one measure: sentences with the methods of which they hold.

    verdicts : of every row that is held against something
    """

    topic: "Judged | Described"
    meaning: str
    said: Mapping[Said, Sequence[str]]
    verdicts: Sequence[Verdict] = ()


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
        known = [r for r in shown.records if r[topic.measure] is not None and r["n"] >= FEWEST]
        tested = [r for r in known if in_fits(r) == r["method"]]
        others = [r for r in known if in_fits(r) != r["method"]]  # the same for all df methods
        records = one_per_fit(tested, [topic.measure]) + one_per_fit(others, [topic.measure])
        methods = unique(record["shown_as"] for record in records)
        by_method = {name: [r for r in records if r["shown_as"] == name] for name in methods}
        if isinstance(topic, Judged):
            finding = _judge_all(topic, by_method, shown.confidence)
        else:
            finding = _describe_all(topic, by_method, shown.confidence)
        found += [finding] if finding.said else []
    return found


def levels_in_words(confidence: float) -> dict[str, str]:
    """`95%` of intervals and `5%` of tests, as the templates of sentences want them."""
    return {"nominal": f"{100 * confidence:g}%", "level": f"{100 - 100 * confidence:g}%"}


def _joined(said: Mapping[str, Sequence[Said]]) -> dict[Said, list[str]]:
    """The sentences, each once, with all methods of which it holds."""
    methods: dict[Said, list[str]] = {}
    for method, own in said.items():
        for one in own:
            methods.setdefault(one, []).append(method)
    return methods


def _judge_all(
    topic: Judged, by_method: Mapping[str, Sequence[Record]], confidence: float
) -> Finding:
    words, everything = levels_in_words(confidence), []
    said: dict[str, list[Said]] = {}
    for method, records in by_method.items():
        judged = [topic.judge(record, confidence) for record in records]
        verdicts = [verdict for verdict in judged if verdict is not None]
        everything += verdicts
        if verdicts:
            said[method] = _sentences(topic, verdicts, words)
    return Finding(topic, topic.meaning.format(**words), _joined(said), everything)


def _sentences(topic: Judged, verdicts: Sequence[Verdict], words: Mapping[str, str]) -> list[Said]:
    said, rest, n_conditions = [], [], 1
    for name in unique(verdict.record["parameter"] for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.record["parameter"] == name]
        n_conditions = max(n_conditions, len(own))
        for sign in (-1, 1):
            off = [verdict for verdict in own if verdict.sign == sign]
            said += [Said(name, say_off(topic, off, len(own), words))] if off else []
        rest += [] if any(verdict.sign for verdict in own) else [name]
    if rest:
        where = "" if n_conditions == 1 else ", in any condition"
        said.append(Said("", say(topic.rest + where + ".", names=listed(rest), **words)))
    return said


def say_off(topic: Judged, off: Sequence[Verdict], n: int, words: Mapping[str, str]) -> Sentence:
    """One parameter, off in the same direction in some of n conditions."""
    worst = max(off, key=lambda verdict: verdict.size)
    where = "" if n == 1 else f" in {len(off)} of {n} conditions{', at worst' * (len(off) > 1)}"
    amount: Sentence = (worst.amount, worst.left_out)
    if worst.record["place"]:
        amount = (worst.amount, " in ", Name(worst.record["place"]), worst.left_out)
    name = Name(worst.record["parameter"])
    side = _side(worst) if "{side}" in topic.says[worst.sign] else ""
    return say(topic.says[worst.sign], name=name, where=where, amount=amount, side=side, **words)


def _side(worst: Verdict) -> str:
    """Of a negative truth, what over- and underestimated mean."""
    truth = worst.record["truth"]
    if truth is None or truth >= 0.0:
        return ""
    return f", too {'far from' if worst.sign > 0 else 'near to'} zero"


def _describe_all(
    topic: Described, by_method: Mapping[str, Sequence[Record]], confidence: float
) -> Finding:
    said: dict[str, list[Said]] = {}
    for method, records in by_method.items():
        amounts: dict[tuple[str, str], list[tuple[Amount, str]]] = {}
        for record in records:
            if (amount := topic.amount(record)) is not None:
                key = record["parameter"], amount.unit
                amounts.setdefault(key, []).append((amount, record["place"]))
        never = [name for (name, _), own in amounts.items() if topic.rest and not _ever(own)]
        own = [
            Said(name, say(topic.says, name=Name(name), amount=from_to(found)))
            for (name, _), found in amounts.items()
            if name not in never
        ]
        own += [Said("", say(topic.rest, names=listed(never)))] if never else []
        said |= {method: own} if own else {}
    meaning = topic.meaning.format(**levels_in_words(confidence))
    return Finding(topic, meaning, _joined(said))


def _ever(own: Sequence[tuple[Amount, str]]) -> bool:
    return any(amount.value for amount, _ in own)


def from_to(own: Sequence[tuple[Amount, str]]) -> Sentence:
    """`12% (MCSE 1%)` and where, if in some conditions only; or the smallest and the largest."""
    low, high = (choose(own, key=lambda entry: entry[0].value) for choose in (min, max))
    (smallest, where), (largest, there) = low, high
    if smallest.text == largest.text:
        if len({one for _, one in own}) > 1:
            return (smallest.text + " throughout",)
        return (smallest.text, " in ", Name(where)) if where else (smallest.text,)
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
    sign, p = _judge_mean(bias, mcse, record["n"])
    factor, unit = (100 / abs(truth), "%") if truth else (1.0, _unit(record))
    if sign and truth and factor * abs(bias) < IMMATERIAL:
        return None
    sign *= -1 if truth is not None and truth < 0.0 else 1  # that of the relative bias in figures
    amount = in_words(factor * abs(bias), factor * mcse, unit)
    return Verdict(sign, factor * abs(bias), p, amount, record)


def _judge_standard_error(record: Record, _confidence: float) -> Verdict | None:
    error, mcse = record["relative_error_se"], record["relative_error_se_mcse"]
    if mcse is None:
        return None
    sign, p = _judge_mean(error, mcse, record["n"])
    return Verdict(sign, abs(error), p, in_words(100 * abs(error), 100 * mcse, "%"), record)


def _judge_coverage(record: Record, confidence: float) -> Verdict | None:
    return _judge_share(record, "coverage", confidence)


def _judge_type_one_error(record: Record, confidence: float) -> Verdict | None:
    return _judge_share(record, "rejection", 1.0 - confidence) if has_no_effect(record) else None


def _judge_share(record: Record, measure: str, expected: float) -> Verdict | None:
    share, n = record[measure], record["n"] - record["n_missing_interval"]
    if n < 1:
        return None
    hits = round(share * n)
    at_most = special.bdtr(hits, n, expected)
    at_least = special.bdtrc(hits - 1, n, expected) if hits else 1.0
    p = 2 * float(min(at_most, at_least))
    sign = 0 if p >= ERROR_RATE else -1 if share < expected else 1
    amount, left_out = _share_of(record, measure).text, ""
    if measure in OF_INTERVALS and has_gaps(record):
        left_out = f", without the {share_missing(record):.1%} of the estimates that have none"
    return Verdict(sign, abs(share - expected), p, amount, record, left_out)


def _judge_mean(value: float, mcse: float, n: int) -> tuple[int, float]:
    """0 where a t test cannot tell the mean of n values from 0, and what the test says."""
    p = 0.0 if value else 1.0
    if mcse:
        p = 2.0 * float(special.stdtr(n - 1, -abs(value) / mcse))
    return (0 if p >= ERROR_RATE else -1 if value < 0 else 1), p


def _share_of(record: Record, measure: str) -> Amount:
    share = percent(record[measure], record[f"{measure}_mcse"])
    return Amount(100 * record[measure], _with_unit(share, "%"))


def share_rejected(record: Record) -> Amount:
    """The share of rejections: power, or type I error."""
    return _share_of(record, "rejection")


def _power(record: Record) -> Amount | None:
    return None if has_no_effect(record) else share_rejected(record)


def _zeros(record: Record) -> Amount | None:
    return None if record["truth"] == 0.0 else _share_of(record, "share_at_zero")


def typical_error(record: Record) -> Amount:
    """The root mean squared error, in percent of the truth where that is not 0."""
    value, mcse, truth = record["rmse"], record["rmse_mcse"], abs(record["truth"])
    factor, unit = (100 / truth, "%") if truth else (1.0, _unit(record))
    text = in_words(factor * value, None if mcse is None else factor * mcse, unit)
    return Amount(factor * value, text, unit)


def _unit(record: Record) -> str:
    """Of an effect or an SD on the scale of a link: ` log odds`."""
    return f" {record['scale']}" if record.get("scale") else ""


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
        typical_error,
        "A single estimate of {name} is off by {amount}.",
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
        "The power to find {name} is {amount}.",
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
        "{name} is estimated as exactly 0 in {amount}.",
        "Never estimated as exactly 0: {names}.",
    ),
)
