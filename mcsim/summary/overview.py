"""A sweep as tables to be read: of the parameters that matter, a line per condition and method."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mcsim.names import shown_labels
from mcsim.summary.printed import (
    COLUMNS,
    DRAWN,
    SENTENCES,
    cell_of,
    drawn,
    lines_of,
    notes_on,
    print_summary,
)
from mcsim.summary.records import Record, fit_of, unique, without_variances
from mcsim.summary.summarize import swept_in, value_text
from mcsim.summary.text import COMMAND, told

SCREEN = 40  # lines: of a table that is longer, nobody sees the beginning
SUMS = ("n_replicates", "n_failed", "n_boundary")
OTHERS = "{} of {:,} parameters in {:,} conditions. All, some, or measures of all side by side:"
ASK = ("--parameter '*'", "--parameter {}", "--measure coverage --by parameter")


class Page(NamedTuple):
    """How a summary is printed.

    columns : those that were named; width : of the terminal; command : that prints it again
    """

    form: str
    columns: Sequence[str]
    width: int | None
    command: str


def print_study(table: pa.Table, page: Page, telling: Callable[[], Sequence[str]]) -> str:
    """The summary; of a sweep that would fill screens, a line per condition and method.

    telling : all parameters, of which the first are shown that a screen has room for, at least one
    """
    text = print_summary(table, page.form, page.columns, page.width)
    is_sweep = len(unique(map(_condition, table.to_pylist()))) > 1
    if page.form not in DRAWN or not is_sweep or not _is_long(text):
        return text
    known = set(table["parameter"].unique().to_pylist())
    names = [name for name in unique(telling()) if name in known]
    text = _overview(table, page, names[:1])
    for n in range(2, len(names) + 1):
        if _is_long(more := _overview(table, page, names[:n])):
            break
        text = more
    return text


def _overview(table: pa.Table, page: Page, shown: Sequence[str]) -> str:
    """Fits in all conditions, a table of each of these parameters, and how to see the others."""
    say = partial(told, form=page.form, width=page.width)
    records = without_variances(table.to_pylist())
    swept = swept_in(table, has_studies="study" in table.column_names)
    tables = []
    for name in shown:
        own = [record for record in records if record["parameter"] == name]
        rows = _rows(own, swept, page.columns)
        tables += [say([f"{name}:"]), drawn(page.form, page.width)(rows, n_left=len(swept) + 1)]
    kept = [record for record in records if record["parameter"] in shown]
    notes = notes_on(table.filter(pc.field("parameter").isin(shown)), kept, "briefly")
    names = unique(str(record["parameter"]) for record in records)
    another = next((name for name in names if name not in shown), names[0])
    others = [OTHERS.format(len(shown), len(names), len(unique(map(_condition, records))))]
    others += [f"{COMMAND}{page.command} {one.format(shlex.quote(another))}" for one in ASK]
    return "\n\n".join([say(_fits(records, page.form)), *tables, say(notes), say(others)]) + "\n"


def _rows(
    records: list[Record], swept: Mapping[str, str], columns: Sequence[str]
) -> list[list[str]]:
    """A line per condition and method, the header first; columns that say nothing are left out."""
    names = list(columns) or [
        name
        for name in (*COLUMNS, "n_failed")
        if name != "mean" and any(record[name] is not None for record in records)
    ]
    if not columns and not any(record["n_failed"] for record in records):
        names.remove("n_failed")

    texts = {key: shown_labels(value_text(record[key]) for record in records) for key in swept}

    def cells(record: Record) -> list[str]:
        values = (texts[key][value_text(record[key])] for key in swept)
        return [*values, *(cell_of(record, name) for name in names)]

    header = ["method", *swept.values(), *(COLUMNS.get(name, name) for name in names)]
    rows = [header, *lines_of(records, cells)]
    end = len(swept) + 1
    return [[*row[1:end], row[0], *row[end:]] for row in rows]


def _fits(records: Sequence[Record], form: str) -> list[str]:
    """How many fits of every model there are in all conditions, and how they ended."""
    found = {
        (r.get("study"), r["condition"], fit_of(r["method"])): [r[name] for name in SUMS]
        for r in records
    }
    sentences = []
    for fit in unique(fit for _, _, fit in found):
        own = (counts for key, counts in found.items() if key[-1] == fit)
        n, n_failed, n_boundary = map(sum, zip(*own, strict=True))
        sentence = SENTENCES["fits"].format(
            n=n, s="s" * (n != 1), n_failed=n_failed, n_boundary=n_boundary
        )
        sentences.append(f"{'- ' * (form == 'markdown')}{fit}: {sentence}")
    return sentences


def _is_long(text: str) -> bool:
    return text.count("\n") > SCREEN


def _condition(record: Record) -> tuple[str | None, str]:
    return record.get("study"), record["condition"]
