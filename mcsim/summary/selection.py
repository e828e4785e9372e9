"""What a figure shows: rows of a summary, words for them, and numbers of their replicates.

Works from the files alone. Knows no drawing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mcsim.errors import DataError
from mcsim.names import ROW, SCALES, Parameter, shown_labels
from mcsim.results.folder import STATUSES, read_conditions
from mcsim.summary.cache import known_summary
from mcsim.summary.estimates import NUMBERS, Floats, Ints, read_results
from mcsim.summary.records import Globs, Record, chosen, fit_of, unique, without_variances
from mcsim.summary.summarize import link_of_study, studies_in, swept_in, value_text
from mcsim.summary.swept_words import count_in_words, short_words, units_in_words

Key = tuple[str, ...]  # study, condition, method, parameter
KEY = ("study", *ROW)


class Numbers(NamedTuple):
    """What the usable fits of a row say, in replicate order: (n,) each, NaN where missing."""

    replicate: Ints
    estimate: Floats
    ci_lower: Floats
    ci_upper: Floats
    realized: Floats


class Question(NamedTuple):
    """What the title asks: by which measures, of which parameters; empty where none says."""

    parameters: Sequence[str] = ()
    measures: Sequence[str] = ()


NO_QUESTION = Question()
DRAWN = tuple(map(NUMBERS.index, Numbers._fields[1:]))


@dataclass(frozen=True)
class Selection:
    """Globs for what to draw, and the measure where a figure has one.

    parameters : None for those that tell the most, as many as the kind of figure has room for
    """

    methods: Globs = "*"
    parameters: Globs | None = "*"
    conditions: Globs = "*"
    measure: str | None = None


@dataclass(frozen=True)
class Shown:
    """Rows of the summaries of some studies; numbers of their replicates are read once.

    records : as `summarize` has them, with `place`, words for the condition (none where there is
    one), `words`, short ones for its swept values, and `scale`, the unit of effects and SDs where a
    link has one; swept : short names of what differs between the conditions, by column of the
    records;
    all_methods : of the studies, also those that are not selected
    question : what the scenarios say of it, if they agree
    """

    title: str
    confidence: float
    records: Sequence[Record]
    swept: dict[str, str]
    all_methods: Sequence[str] = ()
    question: Question = NO_QUESTION

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

    def numbered_methods(self, records: Sequence[Record]) -> dict[str, int]:
        """Names under which methods are shown, and their numbers, the same in every figure."""
        number = {name: i for i, name in enumerate(self.all_methods)}
        return {record["shown_as"]: number[record["method"]] for record in records}

    def values_of(self, column: str) -> dict[str, str]:
        """Values of a swept column and short words for them: numbers by size, others as they come.

        Keys are the values' texts (`value_text`), which tell all of them apart.
        """
        found = {value_text(record[column]): record["words"][column] for record in self.records}
        is_numeric = self.is_numeric(column)
        return {value: found[value] for value in sorted(found, key=float)} if is_numeric else found

    def is_numeric(self, column: str) -> bool:
        """Whether all values of a swept column are numbers."""
        values = [record[column] for record in self.records]
        return all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)

    def axis_words(self, column: str) -> str:
        """What a swept column is: of a number of units, in what; else its short name."""
        words = {
            count_in_words(column, _manifest(Path(study))["identity"])
            for study in unique(record["study"] for record in self.records)
        }
        return (words.pop() if len(words) == 1 else "") or self.swept[column]

    def axis_label(self, column: str) -> str:
        """The same where units in all stand in parentheses beside the values, if they do."""
        return self.axis_words(column) + " (in all)" * bool(self.units_in_all(column))

    def units_in_all(self, column: str) -> dict[str, int]:
        """Of a swept number of units, how many these are in all, by the text of its value.

        Empty where that is the number itself, or depends on other swept values.
        """
        found: dict[str, set[int]] = {}
        for record in self.records:
            words = self._designs.get((record["study"], record["condition"]))
            n = units_in_words(column, words or "")
            if n is None:
                return {}
            found.setdefault(value_text(record[column]), set()).add(n)
        if any(len(one) > 1 for one in found.values()):
            return {}
        totals = {value: one.pop() for value, one in found.items()}
        return {} if all(value == str(n) for value, n in totals.items()) else totals

    @cached_property
    def _designs(self) -> dict[tuple[str, str], str | None]:
        """Designs in words, by study and condition."""
        return {
            (study, row["condition"]): row["design_in_words"]
            for study in unique(record["study"] for record in self.records)
            for row in read_conditions(Path(study))
            .select(["condition", "design_in_words"])
            .to_pylist()
        }

    def of_parameters(self, names: Sequence[str]) -> "Shown":
        """The rows of some parameters alone, those in the order of their names."""
        records = [
            record for name in names for record in self.records if record["parameter"] == name
        ]
        return replace(self, records=records)

    def numbers_of(self, record: Record) -> Numbers:
        """What the replicates of one of the rows have."""
        return self._numbers[key_of(record)]

    @cached_property
    def _numbers(self) -> dict[Key, Numbers]:
        return _read_numbers({key_of(record) for record in self.records})


def shown_rows(results: Path, selection: Selection) -> Shown:
    """Rows of a study, or of the studies in a folder, that the globs select.

    Raises
    ------
    DataError
        There is no study, or a glob selects nothing.
    """
    whole, studies = known_summary(results), studies_in(results)
    table = filter_summary(
        whole,
        methods=selection.methods,
        parameters="*" if selection.parameters is None else selection.parameters,
        conditions=selection.conditions,
    )
    if "study" not in table.column_names:
        table = table.add_column(0, "study", pa.array([str(studies[0])] * table.num_rows))
    swept = swept_in(table, has_studies=len(studies) > 1)
    methods = unique(zip(*(table[name].to_pylist() for name in ("study", "method")), strict=True))
    links = {key: link_of_study(Path(key[0]), fit_of(key[1])) for key in methods}
    is_single = len(unique(map(_condition, records := table.to_pylist()))) == 1
    labels = shown_labels(record["condition"] for record in records)
    words = {key: short_words([value_text(r[key]) for r in records], key) for key in swept}
    for record in records:
        study = f"{Path(record['study']).name}: " * ("study" in swept)
        record["place"] = "" if is_single else study + labels[record["condition"]]
        record["words"] = {key: own[value_text(record[key])] for key, own in words.items()}
        record["scale"] = _scale(record, links[record["study"], record["method"]])
    titles = unique(_manifest(study).get("title", "") for study in studies)
    first, *others = (_manifest(study).get("report") or {} for study in studies)
    return Shown(
        title=titles[0] if len(titles) == 1 else str(results),
        confidence=float(_manifest(studies[0])["confidence"]),
        records=without_variances(records),
        swept=swept,
        all_methods=whole["method"].unique().to_pylist(),
        question=Question(**first) if all(one == first for one in others) else NO_QUESTION,
    )


def filter_summary(
    table: pa.Table, *, methods: Globs = "*", parameters: Globs = "*", conditions: Globs = "*"
) -> pa.Table:
    """Rows whose names match (`diet[T.fed]*` too), or a DataError."""
    wanted = {"method": methods, "parameter": parameters, "condition": conditions}
    for label, glob in wanted.items():
        found = chosen(label, glob, table[label].unique().to_pylist())
        table = table.filter(pc.field(label).isin(found))
    return table


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


def key_of(record: Record) -> Key:
    """What tells a row from all others."""
    return tuple(record[name] for name in KEY)


def _scale(record: Record, link: str | None) -> str:
    """The unit of an effect or an SD with a truth; none where responses are normal."""
    kind = Parameter.read(record["parameter"], record["component"]).kind
    is_in_units = kind in ("fixed", "own", "sd") and record["truth"] is not None
    return SCALES[link] if link and is_in_units else ""


def _read_numbers(wanted: set[Key]) -> dict[Key, Numbers]:
    found: dict[Key, Numbers] = {}
    for study in unique(key[0] for key in wanted):
        conditions = read_conditions(Path(study))
        keys = [(study, *row.values()) for row in conditions.select(ROW).to_pylist()]
        for rows, results in read_results(Path(study), conditions, STATUSES[:2]):
            for row in rows:
                if keys[row] in wanted:
                    replicates, numbers = results.numbered(row)
                    found[keys[row]] = Numbers(replicates.copy(), *numbers[list(DRAWN)])
    return found


def _manifest(study: Path) -> Record:
    return dict(json.loads((study / "manifest.json").read_text(encoding="utf-8")))


def _condition(record: Record) -> tuple[str, str]:
    return record["study"], record["condition"]
