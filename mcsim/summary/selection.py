"""What a figure shows: rows of a summary, words for them, and numbers of their replicates.

Works from the files alone. Knows no drawing.
"""

import fnmatch
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError, nearest_name
from mcsim.measures import MEASURES
from mcsim.names import ROW, Parameter, short_names, show_swept
from mcsim.results.folder import STATUSES, read_conditions
from mcsim.summary.estimates import Results, read_results
from mcsim.summary.summarize import DESCRIPTION, filter_summary, summarize

Record = dict[str, Any]
Key = tuple[str, ...]  # study, condition, method, parameter
T = TypeVar("T")

KEY = ("study", *ROW)


@dataclass(frozen=True)
class Selection:
    """Globs for what to draw, and the measure where a figure has one."""

    methods: str = "*"
    parameters: str = "*"
    conditions: str = "*"
    measure: str | None = None


@dataclass(frozen=True)
class Shown:
    """Rows of the summaries of some studies.

    records : as `summarize` has them, with `place`, words for the condition (none where there is
    one); swept : short names of what differs between the conditions, by column of the records
    """

    title: str
    confidence: float
    records: Sequence[Record]
    swept: dict[str, str]

    @property
    def places(self) -> list[str]:
        """Words for the conditions, in order."""
        return unique(record["place"] for record in self.records)

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters, in order."""
        return unique(record["parameter"] for record in self.records)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in order."""
        return unique(record["method"] for record in self.records)

    def only(self, records: Iterable[Record]) -> "Shown":
        """The same with other rows."""
        return replace(self, records=list(records))


def unique(values: Iterable[T]) -> list[T]:
    """The values without repetitions, in order of appearance."""
    return list(dict.fromkeys(values))


def shown_rows(results: Path, selection: Selection) -> Shown:
    """Rows of a study, or of the studies in a folder, that the globs select.

    Raises
    ------
    DataError
        There is no study, or a glob selects nothing.
    """
    table = summarize([results])
    studies = studies_in(results)
    table = filter_summary(table, methods=selection.methods, parameters=selection.parameters)
    if "study" not in table.column_names:
        table = table.add_column(0, "study", pa.array([str(studies[0])] * table.num_rows))
    table = filter_conditions(table, selection.conditions)
    swept = _swept(table, has_studies=len(studies) > 1)
    is_single = len(unique(map(_condition, records := table.to_pylist()))) == 1
    for record in records:
        study = f"{Path(record['study']).name}: " * ("study" in swept)
        record["place"] = "" if is_single else study + record["condition"]
    titles = unique(_manifest(study).get("title", "") for study in studies)
    return Shown(
        title=titles[0] if len(titles) == 1 else str(results),
        confidence=float(_manifest(studies[0])["confidence"]),
        records=without_variances(records),
        swept=swept,
    )


def filter_conditions(table: pa.Table, glob: str) -> pa.Table:
    """Rows whose condition matches a glob, or a DataError."""
    labels = table["condition"].unique().to_pylist()
    found = [label for label in labels if fnmatch.fnmatchcase(label, glob)]
    if not found:
        raise DataError(
            f"no condition matches {glob!r}. The results have: {'; '.join(labels)}."
            f"{nearest_name(glob, labels)}"
        )
    return table.filter(pa.compute.field("condition").isin(found))


def without_variances(records: list[Record]) -> list[Record]:
    """All rows but those of variances, unless there is nothing else."""
    kept = [r for r in records if not Parameter.read(r["parameter"], r["component"]).is_variance]
    return kept or records


def one_per_fit(records: Sequence[Record], measures: Sequence[str]) -> list[Record]:
    """Rows without the df methods that agree with another of their fit in all these measures.

    Where all methods of a fit agree, the rest has the name of the fit.
    """
    found: dict[str, dict[tuple[Any, ...], str]] = {}
    for method in unique(record["method"] for record in records):
        own = [record for record in records if record["method"] == method]
        said = tuple((r["place"], r["parameter"], *(r[name] for name in measures)) for r in own)
        found.setdefault(_fit_of(method), {}).setdefault(said, method)
    names = {
        method: fit if len(same) == 1 else method
        for fit, same in found.items()
        for method in same.values()
    }
    return [r | {"shown_as": names[r["method"]]} for r in records if r["method"] in names]


def check_measure(name: str) -> str:
    """The name of a measure, or a DataError that lists them."""
    if name not in MEASURES:
        hint = nearest_name(name, MEASURES)
        raise DataError(f"no measure {name!r}. There are: {', '.join(MEASURES)}.{hint}")
    return name


def refuse_nothing(records: Sequence[Record], measures: Sequence[str], shown: Shown) -> None:
    """Raise a DataError where no row has any of the measures, with what may be the reason."""
    if any(record[name] is not None for record in records for name in measures):
        return
    n = {(r["study"], r["condition"], r["method"]): r["n_replicates"] for r in shown.records}
    bad = {(r["study"], r["condition"], r["method"]): r["n_failed"] for r in shown.records}
    raise DataError(
        f"nothing to draw: no row has {' or '.join(measures)}. Of {sum(n.values())} fits that are"
        f" finished, {sum(bad.values())} failed (column `message` of fits/ says why);"
        " mcsim summarize shows which measures there are"
    )


def read_numbers(
    shown: Shown, take: Callable[[Record, NDArray[Any], NDArray[Any]], T]
) -> dict[Key, T]:
    """What `take` makes of every row's replicates and their NUMBERS, by `key_of` the row.

    Parameters
    ----------
    take : of the record, replicates (n,) and numbers (6, n) in the order of `results.NUMBERS`
    """
    found: dict[Key, T] = {}
    wanted = {key_of(record): record for record in shown.records}
    for study in unique(key[0] for key in wanted):
        conditions = read_conditions(Path(study))
        keys = [(study, *row.values()) for row in conditions.select(ROW).to_pylist()]
        for rows, results in read_results(Path(study), conditions, STATUSES[:2]):
            for row in rows:
                if (key := keys[row]) in wanted:
                    found[key] = _taken(take, wanted[key], results, row)
    return found


def key_of(record: Record) -> Key:
    """What tells a row from all others."""
    return tuple(record[name] for name in KEY)


def _taken(take: Callable[..., T], record: Record, results: Results, row: int) -> T:
    return take(record, *results.numbered(row))


def studies_in(results: Path) -> list[Path]:
    """The study in a folder, and those in the folders in it."""
    marks = [results / "manifest.json", *sorted(results.glob("*/manifest.json"))]
    return [mark.parent for mark in marks if (mark.parent / "conditions.parquet").exists()]


def _manifest(study: Path) -> Record:
    return dict(json.loads((study / "manifest.json").read_text()))


def _condition(record: Record) -> tuple[str, str]:
    return record["study"], record["condition"]


def _swept(table: pa.Table, *, has_studies: bool) -> dict[str, str]:
    """Short name, as in the labels, of every column with more than one value."""
    names = table.column_names
    columns = names[names.index("condition") + 1 : names.index(DESCRIPTION[0])]
    columns = ["study"] * has_studies + columns
    swept = [name for name in columns if len(unique(map(value_text, table[name].to_pylist()))) > 1]
    return short_names(swept)


def value_text(value: Any) -> str:
    """A swept value as the labels of conditions have it."""
    return "-" if value is None else show_swept(value)


def _fit_of(method: str) -> str:
    """The name that the df methods of one fit share."""
    return method.partition("/")[0]
