"""A summary as text: a table or Markdown to be read, CSV and JSON to be worked with."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from mcsim.errors import DataError
from mcsim.measures import MEASURES, SHARES
from mcsim.names import MARGINAL, link_scale, shown_labels
from mcsim.summary.records import (
    OF_INTERVALS,
    Record,
    fit_of,
    is_unreachable,
    measure_named,
    n_in_words,
    note_on_intervals,
    unique,
    without_variances,
)
from mcsim.summary.side_by_side import METHOD, POWER, side_by_side
from mcsim.summary.summarize import COUNTS, OPTIONAL
from mcsim.summary.text import (
    aligned,
    booktabs,
    percent,
    piped,
    shown_as,
    told,
    truth_as,
    with_mcse,
    without_mcse,
)

LABELS = ("study", "condition")
NAMES = ["method", "parameter"]
COLUMNS = {  # of the table, unless others are named: columns of a summary and their headings
    "truth": "truth", "mean": "mean", "bias": "bias", "rmse": "RMSE", "coverage": "coverage",
    "rejection": POWER, "n": "n", "share_at_zero": "at 0",
}  # fmt: skip
EXPECTED_HEADER = [*NAMES, POWER, "coverage", "type S", "type M", "MDE", "equivalent"]
THEORY_HEADER = ["method", "parameter", "SD", "interior", "rejected", "interior", "df"]
OFTEN = 0.05  # share of fits on the boundary that closed forms of the interior no longer describe
WHAT_MAKES = {
    "equivalence": "it is of estimands with limits, equivalence = [-0.1, 0.1] beside `fixed`",
}
SENTENCES = {
    "fits": "{n:,} replicate{s}, {n_failed:,} failed, {n_boundary:,} on the boundary",
    "kept": " (a variance of 0 or a correlation of +-1: a valid result)",
    "left out": " (a variance of 0 or a correlation of +-1: left out of the rows below)",
    "undefined": "  no estimate (a correlation where an SD is 0, or what the rows do not tell): {}",
    "no interval": "  no interval (an SD of 0 or next to it, or too little information): {}",
    "unreachable": "  no coverage (a truth at the edge of what can be, such as an SD of 0, which"
    " these intervals cannot hold): {}",
    "power": "{}: share of tests that reject, in percent: power where the truth is not 0, else the"
    " Type I error.",
    "marginal": "Tests of several columns (F) are marginal, given all other columns: beside an"
    " interaction, that of a main\neffect is about the reference level of the other factor, not the"
    " average over its levels.",
    "shared": "What the df methods of a fit share is printed once.",
    "failed": "Why fits failed: column `message` of fits/part-*.parquet.",
    "usable": "",
    "scale": "Truths of effects and SDs are {}.",
    "means": "Risk differences, rate ratios and odds ratios compare mean responses, averaged over"
    " the design's observations\nand, in mixed models, over random effects.",
    "common": "Only replicates in which the fits of all methods are usable.\n",
    "fallback": "Where a fit is not usable, the method's fallback stands in.\n",
    "reading": "In parentheses: Monte Carlo standard errors; that of the mean is that of the bias."
    " Coverage, in percent, is of\nnominal {}% intervals. at 0: share of the estimates that are 0.",
    "briefly": "In parentheses: Monte Carlo standard errors. Coverage, in percent, is of nominal"
    " {}% intervals.",
    "theory": "SD of the estimates and share of tests that reject, beside the closed forms of"
    " balanced designs\nin the interior, which know no boundary; df are exact or, where units"
    " cross, Satterthwaite's at the truth:",
    "expected": "Expected, in percent, of tests and intervals: means of the probabilities that the"
    " normal distribution of the\nestimate gives at the truth, with smaller errors than counts."
    " type S: rejections with the wrong sign; type M: by\nwhat factor these estimates exaggerate;"
    " MDE: effect with 80% power.{}",
    "counted": " Counted alone: {}.",
    "often": "Here {} of the fits are on the boundary: the closed forms can be off by several"
    " points.",
    "variances": "Variances, such as {}, are left out: see summary.csv or summary.parquet.",
}


def to_csv(table: pa.Table) -> str:
    """All columns; a field is empty where undefined."""
    text = io.StringIO()
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    csv.writer(text, lineterminator="\n").writerows([table.column_names, *rows])
    return text.getvalue()


def to_json(table: pa.Table) -> str:
    """All columns, one object per row; null where undefined."""
    return json.dumps(table.to_pylist(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _page(table: pa.Table, form: str, columns: Sequence[str], width: int | None) -> str:
    draw, say = partial(drawn(form, width), n_left=2), partial(told, form=form, width=width)
    bullet = "- " if form == "markdown" else ""
    words = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
    records = table.to_pylist()
    printed = without_variances(records)
    conditions = _group(printed, *LABELS)
    everything = {_labels(rows[0]): rows for rows in _group(records, *LABELS)}
    labels = shown_labels(row["condition"] for row in printed)
    paragraphs = []
    for rows in conditions:
        paragraphs += [say([_heading(rows[0], labels)])] if len(conditions) > 1 else []
        sentences = [bullet + sentence for sentence in _descriptions(rows, words)]
        paragraphs += [say(sentences), draw(_main(rows, columns))]
        if columns:
            continue
        paragraphs += _expected(rows, draw, say)
        known = [
            row for row in everything[_labels(rows[0])] if row.get("theory_emp_se") is not None
        ]
        if known:
            theory = draw([THEORY_HEADER, *lines_of(known, _theory_cells)])
            often = _far_from_theory(known)
            paragraphs += [say([SENTENCES["theory"]]), theory, *[say(often)] * bool(often)]
    return "\n\n".join([*paragraphs, say(notes_on(table, printed))]) + "\n"


def _main(rows: list[Record], columns: Sequence[str]) -> list[list[str]]:
    """The table of a condition: the columns that are named, or those that have something."""
    names = list(columns or COLUMNS)
    if not columns and all(row["rejection"] is None for row in rows):
        names.remove("rejection")
    header = [*NAMES, *(COLUMNS.get(name, name) for name in names)]

    def cells(record: Record) -> list[str]:
        return [record["parameter"], *(cell_of(record, name) for name in names)]

    return [header, *lines_of(rows, cells)]


def _group(records: list[Record], *names: str) -> list[list[Record]]:
    groups: dict[tuple[str | None, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record.get(name) for name in names), []).append(record)
    return list(groups.values())


def _heading(record: Record, labels: Mapping[str, str]) -> str:
    return ": ".join(filter(None, [record.get("study"), labels[record["condition"]]]))


def lines_of(rows: list[Record], cells_of: Callable[[Record], list[str]]) -> list[list[str]]:
    """Method and cells of every row; a component, once for all df methods of a fit."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        is_fixed = row["component"] in ("fixed", "terms", *MARGINAL)
        owner = row["method"] if is_fixed else fit_of(row["method"])
        cells = cells_of(row)
        found.setdefault((owner, *cells), [row["method"], *cells])
    return list(found.values())


def _descriptions(rows: list[Record], words: Mapping[str, str]) -> Iterator[str]:
    """Sentences on the fits of every method; one for the df methods of a fit that agree."""
    fits: dict[str, dict[tuple[str, ...], str]] = {}
    for group in _group(rows, "method"):
        method = group[0]["method"]
        texts = fits.setdefault(fit_of(method), {})
        texts.setdefault(tuple(_describe(group, words)), method)
    for fit, texts in fits.items():
        for (first, *others), method in texts.items():
            yield f"{fit if len(texts) == 1 else method}: {first}"
            yield from others


def _describe(rows: list[Record], words: Mapping[str, str]) -> Iterator[str]:
    method, boundary = rows[0], words["boundary"]
    n, n_failed, n_boundary = (method[f"n_{name}"] for name in ("replicates", "failed", "boundary"))
    n_usable = n - n_failed - (n_boundary if boundary == "left out" else 0)
    if words.get("missing", "usable") != "usable":  # replicates of other methods decide too
        n_usable = max(r["n"] for r in rows)
    undefined = {r["parameter"]: n_usable - r["n"] for r in rows}
    # n % n = 0: where there is no interval at all, the dash in the table says so
    lacking = {r["parameter"]: r["n_missing_interval"] % (r["n"] or 1) for r in rows}
    sentence = SENTENCES["fits"].format_map(method | {"n": n, "s": "" if n == 1 else "s"})
    yield sentence + (SENTENCES[boundary] if n_boundary else "")
    shares = {
        r["parameter"]: f"{n:,} ({n / r['n']:.1%})" for r in rows if (n := lacking[r["parameter"]])
    }
    named = {parameter: f"{n:,}" for parameter, n in undefined.items() if n}
    for key, amounts in (("undefined", named), ("no interval", shares)):
        if amounts:
            yield SENTENCES[key].format(", ".join(f"{p} {n}" for p, n in amounts.items()))
    if held := [r["parameter"] for r in rows if is_unreachable(r)]:
        yield SENTENCES["unreachable"].format(", ".join(held))


def cell_of(record: Record, name: str) -> str:
    """A column of a summary in words."""
    value = record[name]
    if name == "n":
        return n_in_words(record)
    if name == "truth":
        return truth_as(value)
    if name == "share_at_zero":
        return shown_as(value, ".1%")
    if name == "mean" and record["bias"] is not None:  # its error is that of the bias
        return without_mcse(value, record["mean_mcse"])
    if name in MEASURES:
        return (percent if name in SHARES else with_mcse)(value, record[f"{name}_mcse"])
    return f"{value:,}" if isinstance(value, int) else shown_as(value, ".6g")


def _expected(
    rows: list[Record], draw: Callable[[list[list[str]]], str], say: Callable[[list[str]], str]
) -> list[str]:
    """A table of the expected measures, and which tests have none."""
    known = [row for row in rows if row.get("n_expected")]
    if not known:
        return []
    tested = [row for row in rows if row["rejection"] is not None and not row["n_expected"]]
    others = ", ".join(unique(f"{row['parameter']} of {row['method']}" for row in tested))
    lines = [EXPECTED_HEADER, *lines_of(known, _expected_cells)]
    if all(line[-1] == "-" for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    note = SENTENCES["counted"].format(others) if others else ""
    return [say([SENTENCES["expected"].format(note)]), draw(lines)]


def _expected_cells(record: Record) -> list[str]:
    shares = ("expected_rejection", "expected_coverage", "type_s", "equivalence")
    rejection, coverage, type_s, equivalence = (
        percent(record[name], record[f"{name}_mcse"]) for name in shares
    )
    type_m, mde = (with_mcse(record[name], record[f"{name}_mcse"]) for name in ("type_m", "mde"))
    return [record["parameter"], rejection, coverage, type_s, type_m, mde, equivalence]


def _labels(record: Record) -> tuple[str | None, ...]:
    return tuple(record.get(name) for name in LABELS)


def _far_from_theory(rows: list[Record]) -> list[str]:
    share = max(row["n_boundary"] / max(1, row["n_replicates"]) for row in rows)
    return [SENTENCES["often"].format(f"{share:.0%}")] if share > OFTEN else []


def _theory_cells(record: Record) -> list[str]:
    rejection = record["theory_rejection"]
    return [
        record["parameter"],
        with_mcse(record["emp_se"], record["emp_se_mcse"]),
        shown_as(record["theory_emp_se"], ".4g"),
        percent(record["rejection"], record["rejection_mcse"]),
        "-" if rejection is None else f"{100 * rejection:.1f}",
        shown_as(record["theory_df"], ".0f"),
    ]


def notes_on(table: pa.Table, printed: list[Record], reading: str = "reading") -> list[str]:
    """What a reader of these rows of a table must know; `reading` says how to read its numbers."""
    shown = {record["parameter"] for record in printed}
    hidden = [name for name in table["parameter"].unique().to_pylist() if name not in shown]
    levels = (f"{100 * level:g}" for level in json.loads(table.schema.metadata[b"confidence"]))
    missing = SENTENCES[table.schema.metadata.get(b"missing", b"usable").decode()]
    notes = [missing + SENTENCES[reading].format(" and ".join(levels))]
    links = table.schema.metadata.get(b"links", b"").decode().split(",")
    if len(links) == 1 and any(links):
        notes.append(SENTENCES["scale"].format(link_scale(links[0])))
    if any(record["component"] in MARGINAL for record in printed):
        notes.append(SENTENCES["means"])
    notes += note_on_intervals(printed)
    notes += [SENTENCES["power"].format(POWER)] * any(
        record["rejection"] is not None for record in printed
    )
    if any(record["component"] == "terms" for record in printed):
        notes.append(SENTENCES["marginal"])
    if reading == "reading" and any("/" in record["method"] for record in printed):
        notes.append(SENTENCES["shared"])
    notes += [SENTENCES["failed"]] if any(record["n_failed"] for record in printed) else []
    return notes + [SENTENCES["variances"].format(name) for name in hidden[:1]]


def only_measures(table: pa.Table, measures: Sequence[str]) -> pa.Table:
    """The table with these measures alone, with their Monte Carlo errors."""
    left_out = {f"{name}{end}" for name in MEASURES for end in ("", "_mcse")} - {
        f"{name}{end}" for name in measures for end in ("", "_mcse")
    }
    return table.drop_columns([name for name in table.column_names if name in left_out])


def columns_named(texts: Sequence[str], table: pa.Table) -> list[str]:
    """The columns of a table by texts such as `truth,rmse`, each once; a DataError for others."""
    known = [name for name in table.column_names if _is_printed(name)]
    return unique(
        one.strip() if one.strip() in known else measure_named(one)
        for text in texts
        for one in text.split(",")
    )


def _is_printed(name: str) -> bool:
    """Whether a column is one of numbers: labels are there anyway, and errors in parentheses."""
    return name == "truth" or name in COUNTS or name in (*OPTIONAL, *MEASURES)


def only_columns(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The labels, and these columns with their Monte Carlo errors."""
    wanted = {f"{name}{end}" for name in columns for end in ("", "_mcse")}
    return table.select(
        [name for name in table.column_names
         if name in wanted or not _is_printed(name.removesuffix("_mcse"))]
    )  # fmt: skip


def measures_named(texts: Sequence[str]) -> list[str]:
    """The measures of texts such as `coverage,bias`, each once; a DataError where one is none."""
    return unique(measure_named(one) for text in texts for one in text.split(","))


def print_measures(
    table: pa.Table, measures: Sequence[str], form: str, width: int | None = None, by: str = METHOD
) -> str:
    """A table per measure, methods side by side or what `by` names; CSV and JSON have columns.

    Raises
    ------
    DataError
        No row has one of the measures.
    """
    for name in measures:
        if table[name].null_count == table.num_rows:
            what = WHAT_MAKES.get(name, "mcsim summarize shows which measures there are")
            raise DataError(f"no row has the measure {name!r}: {what}")
    if form not in DRAWN:
        return FORMATS[form](only_measures(table, measures))
    draw = drawn(form, width)
    tables = [draw(side_by_side(table, one, by), n_left=1) for one in measures]
    records = without_variances(table.to_pylist())
    notes = note_on_intervals(records) if set(measures) & set(OF_INTERVALS) else []
    notes += [SENTENCES["power"].format(POWER)] * ("rejection" in measures)
    return "\n\n".join([*tables, *[told(notes, form, width)] * bool(notes)]) + "\n"


DRAWN = {"table": aligned, "markdown": piped, "latex": booktabs}  # tables to be read, by format


def drawn(form: str, width: int | None) -> Callable[..., str]:
    """What draws a table: as text, in blocks no wider than `width`, or for other programs."""
    return partial(aligned, width=width) if form == "table" else DRAWN[form]


def print_summary(
    table: pa.Table, form: str, columns: Sequence[str] = (), width: int | None = None
) -> str:
    """A summary in one of FORMATS: all of it, or the columns that are named."""
    if form in DRAWN:
        return _page(table, form, columns, width)
    return DATA[form](only_columns(table, columns) if columns else table)


def print_drawn(
    rows: list[list[str]], notes: Sequence[str], form: str, n_left: int, width: int | None
) -> str:
    """A table and notes on it."""
    return f"{drawn(form, width)(rows, n_left=n_left)}\n\n{told(notes, form, width)}\n"


DATA: dict[str, Callable[[pa.Table], str]] = {"csv": to_csv, "json": to_json}
FORMATS: dict[str, Callable[..., str]] = {
    form: partial(print_summary, form=form)
    for form in ("table", "csv", "json", "markdown", "latex")
}
