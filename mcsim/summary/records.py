"""Rows of a summary as records, and which of them a table or a figure shows."""

import fnmatch
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from mcsim.errors import DataError, nearest_name
from mcsim.measures import MEASURES
from mcsim.names import Parameter, no_effect, plain_label, shown_label, shown_labels

Record = dict[str, Any]
T = TypeVar("T")
Globs = str | Sequence[str]  # one, or several, any of which may match

WORDS = {  # what others call a measure
    "power": "rejection", "type1": "rejection", "type_1_error": "rejection",
    "type1_error": "rejection", "type_i_error": "rejection", "size": "rejection",
    "width": "ci_width", "root_mean_squared_error": "rmse", "mean_squared_error": "mse",
    "bias_eliminated_coverage": "be_coverage", "empirical_se": "emp_se",
    "se": "emp_se (SD of the estimates) or model_se (what the method reports)",
    "sd": "emp_se (SD of the estimates)", "variance": "emp_se (SD of the estimates)",
    "accuracy": "rmse", "precision": "emp_se", "percent_bias": "relative_bias",
}  # fmt: skip

DIGITS = 9  # significant ones: sums of other orders differ beyond
OF_INTERVALS = ("coverage", "be_coverage", "ci_width", "median_ci_width")


def unique(values: Iterable[T]) -> list[T]:
    """The values without repetitions, in order of appearance."""
    return list(dict.fromkeys(values))


def has_no_effect(record: Record) -> bool:
    """Whether the truth is known to be no effect: 0, of a ratio 1."""
    return bool(record["truth"] == no_effect(record["component"]))


def has_effect(record: Record) -> bool:
    """Whether the truth is known to be an effect."""
    return record["truth"] is not None and not has_no_effect(record)


def fit_of(method: str) -> str:
    """The name that the df methods of one fit share."""
    return method.partition("/")[0]


def without_variances(records: list[Record]) -> list[Record]:
    """All rows but those of variances, unless there is nothing else."""
    kept = [r for r in records if not Parameter.read(r["parameter"], r["component"]).is_variance]
    return kept or records


def one_per_fit(records: Sequence[Record], measures: Sequence[str]) -> list[Record]:
    """Rows without the df methods that agree with another of their fit in all these measures.

    Where all methods of a fit agree, they are shown as the fit, else as all that agree.
    """
    found: dict[str, dict[tuple[Any, ...], list[str]]] = {}
    for method in unique(record["method"] for record in records):
        own = [record for record in records if record["method"] == method]
        said = tuple((r["place"], r["parameter"], *(r[name] for name in measures)) for r in own)
        found.setdefault(fit_of(method), {}).setdefault(said, []).append(method)
    names = {
        methods[0]: fit if len(same) == 1 else " and ".join(methods)
        for fit, same in found.items()
        for methods in same.values()
    }
    return [r | {"shown_as": names[r["method"]]} for r in records if r["method"] in names]


def in_fits(record: Record) -> str:
    """The method of a row, or its fit where that is of effects: SDs have no df of their own."""
    is_tested = record["component"] in ("fixed", "terms")
    return record["method"] if is_tested else fit_of(record["method"])


def raw_methods(shown: Iterable[str], methods: Iterable[str]) -> set[str]:
    """The methods that names mean under which they are shown, be it fits or several."""
    names = {name for one in shown for name in one.split(" and ")}
    return {method for method in methods if method in names or fit_of(method) in names}


def drawn_once(
    records: Sequence[Record], measures: Sequence[str], joint: str = " and "
) -> list[Record]:
    """Rows without the methods that others would hide, which are named with those.

    They agree in all these measures of all rows, to the rounding of arithmetic.
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    for method in unique(record["shown_as"] for record in records):
        own = [record for record in records if record["shown_as"] == method]
        said = tuple((r["place"], r["parameter"], *(_rounded(r[m]) for m in measures)) for r in own)
        found.setdefault(said, []).append(method)
    names = {one[0]: joint.join(one) for one in found.values()}
    return [r | {"shown_as": names[r["shown_as"]]} for r in records if r["shown_as"] in names]


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:.{DIGITS}g}"


def measure_named(text: str) -> str:
    """The name of a measure; `power` is another one of `rejection`.

    Raises
    ------
    DataError
        There is no such measure; says how mcsim calls it, if it is one under another name.
    """
    plain = text.strip().lower().replace("-", "_").replace(" ", "_")
    if plain == "power" or plain in MEASURES:
        return WORDS.get(plain, plain)
    known = f"is called {WORDS[plain]} here" if plain in WORDS else "is no measure"
    hint = "" if plain in WORDS else nearest_name(plain, MEASURES)
    raise DataError(f"{text!r} {known}. Measures: {', '.join(MEASURES)} (or power).{hint}")


def matching(names: Iterable[str], wanted: str) -> list[str]:
    """Names that match a glob, in which a bracket may stand for itself, as in `diet[T.fed]*`.

    Failing that, the methods of the fit with that name; failing that, the one (or the methods of
    the one fit) that begins so; failing that, those of `one and other`, as tables name several.
    """
    known = unique(names)
    globs = (wanted, wanted.replace("[", "[[]"))
    found = [name for name in known if any(fnmatch.fnmatchcase(name, one) for one in globs)]
    found = found or [name for name in known if fit_of(name) == wanted]
    begun = [name for name in known if wanted and name.startswith(wanted)]
    found = found or (begun if len(begun) == 1 or len(set(map(fit_of, begun))) == 1 else [])
    if found or " and " not in wanted:
        return found
    parts = [matching(known, one) for one in wanted.split(" and ")]
    return unique(itertools.chain(*parts)) if all(parts) else []


def matching_conditions(labels: Iterable[str], wanted: str) -> list[str]:
    """Labels that match as above, with whole keys too: `design.levels.animal.count = 4`."""
    shown = {plain_label(one): label for label, one in shown_labels(labels).items()}
    exact = {plain_label(label): label for label in shown.values()}
    if plain_label(wanted) in exact:
        return [exact[plain_label(wanted)]]
    return [shown[one] for one in matching(shown, plain_label(shown_label(wanted)))] or [
        exact[one] for one in matching(exact, plain_label(wanted))
    ]


MATCH = {"condition": matching_conditions}


def globs_of(wanted: Globs) -> Sequence[str]:
    """One glob or several as several."""
    return [wanted] if isinstance(wanted, str) else wanted


def chosen(kind: str, wanted: Globs, names: Iterable[str]) -> list[str]:
    """The methods, parameters or conditions (`kind`) that match any glob, in their order.

    Raises
    ------
    DataError
        A glob matches none; lists all.
    """
    known = unique(names)
    found: set[str] = set()
    if not wanted and not isinstance(wanted, str):
        raise DataError(f"no {kind} is named; leave the empty list out, for all of them")
    for glob in globs_of(wanted):
        own = MATCH.get(kind, matching)(known, glob)
        if not own:
            begun = [name for name in known if glob and name.startswith(glob)]
            several = f" {len(begun)} begin so." if len(begun) > 1 else ""
            there = "; ".join(shown_labels(known).values())
            nearest = nearest_name(glob, known)
            raise DataError(f"no {kind} matches {glob!r}. There are: {there}.{several}{nearest}")
        found.update(own)
    return [name for name in known if name in found]


def the_one(kind: str, wanted: Globs | None, names: Iterable[str]) -> str:
    """The one that matches; if none is asked for, the only one there is; else a DataError."""
    known = unique(names)
    found = chosen(kind, wanted, known) if wanted else known
    if len(found) > 1:
        several = f"{' and '.join(map(repr, globs_of(wanted or ())))} is several: name one of them"
        if not wanted:
            several = f"there are {len(found)} {kind}s: name one of them with --{kind}"
        raise DataError(f"{several}: {'; '.join(shown_labels(found).values())}")
    return found[0]


def is_unreachable(record: Record) -> bool:
    """Whether there are intervals, none of which can hold the truth, which is at the edge."""
    known = None not in (record["truth"], record["ci_width"] or record["median_ci_width"])
    return known and record["coverage"] is None


def has_gaps(record: Record) -> bool:
    """Whether some, but not all, of the estimates of a row lack an interval."""
    return bool(0 < record["n_missing_interval"] < record["n"])


def n_in_words(record: Record) -> str:
    """`3,000`, or `2,316/3,000` where not all estimates have an interval."""
    n, missing = record["n"], record["n_missing_interval"]
    return f"{n - missing:,}/{n:,}" if has_gaps(record) else f"{n:,}"


def share_missing(record: Record) -> float:
    """Share of the estimates that have no interval."""
    return float(record["n_missing_interval"] / record["n"])


def note_on_intervals(records: Sequence[Record]) -> list[str]:
    """What `2,316/3,000` means, and where most are missing; empty where no interval is."""
    found = [record for record in records if has_gaps(record)]
    if not found:
        return []
    worst = max(found, key=share_missing)
    names = _where(worst)
    return [
        f"{n_in_words(worst)}: so many of the estimates have an interval; coverage and widths are"
        f" of those.\nAt worst {share_missing(worst):.1%} lack one: {names}.",
    ]


def _share_open(record: Record) -> float:
    """Share of the fits that leave a parameter open, though they did not fail."""
    n_fits = record["n_replicates"] - record["n_failed"]
    return (n_fits - record["n"]) / n_fits if n_fits else 0.0


def note_on_estimates(records: Sequence[Record]) -> list[str]:
    """Where fits that did not fail have no estimate; empty where all have."""
    worst = max(records, key=_share_open, default=None)
    if worst is None or not _share_open(worst):
        return []
    return [
        f"Numbers are of the fits that have an estimate: correlations have none where an SD is 0, a"
        f" dispersion\nwhere it has no end. At worst {_share_open(worst):.1%} have none:"
        f" {_where(worst)}."
    ]


def _where(record: Record) -> str:
    condition = shown_label(record.get("condition", "all"))
    method = record.get("shown_as") or record.get("method")
    where = (condition, record.get("parameter"), method)
    return ", ".join(name for name in where if name not in (None, "all"))
