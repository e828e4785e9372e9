"""A user's own table: the columns that a formula names, as numbers, factors and labels of units."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsim.errors import DataError, FormulaError, nearest_name
from mcsim.formula import Formula, is_name, parse_formula

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")  # in a CSV file
LARGEST = 1e150  # of a number: its square can still be added up

Column = "pd.Series[Any]"


@dataclass(frozen=True)
class Table:
    """The rows of a user's table that a formula can be fitted to.

    frame : columns that the formula names: floats, factors as categories, labels of units as they
        are; formula : with every group from the outermost unit inwards
    notes : what was left out, a sentence each
    """

    frame: pd.DataFrame
    formula: Formula
    notes: tuple[str, ...]


References = Mapping[str, str]  # factor to its reference level, where that is not the first


def read_table(path: Path, formula: str, references: References | None = None) -> Table:
    """Rows of a CSV or Parquet file.

    Raises
    ------
    DataError
        The file, a column or the formula cannot be used.
    """
    parsed = read_formula(formula)  # before the file, which may be large
    readers: dict[str, Callable[[Path], tuple[pd.DataFrame, list[str]]]] = {
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: data come as .csv or .parquet, not {path.suffix!r}")
    try:
        frame, notes = readers[path.suffix](path)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return _referred(_usable(frame, parsed, str(path), notes), references or {})


def table_of(frame: pd.DataFrame, formula: str, references: References | None = None) -> Table:
    """Rows of a data frame; as `read_table`."""
    table = _usable(_by_row(frame), read_formula(formula), "the data frame", [])
    return _referred(table, references or {})


def parse_references(texts: Iterable[str]) -> dict[str, str]:
    """Reference levels from `FACTOR=LEVEL`."""
    found: dict[str, str] = {}
    for text in texts:
        factor, equals, level = (part.strip() for part in text.partition("="))
        if not equals or found.setdefault(factor, level) != level:
            raise DataError(f"--reference {text!r}: write FACTOR=LEVEL once per factor")
    return found


def first_label(labels: Sequence[str]) -> str:
    """The level that comes first where nothing but text tells their order, as in a CSV file."""
    text = pd.Series(labels)
    return str(_categories(text, _numbers(text)).cat.categories[0])


def read_formula(formula: str) -> Formula:
    """The formula of a command line; a DataError where it cannot be read."""
    try:
        return parse_formula(formula)
    except FormulaError as error:
        raise DataError(f"--formula {formula!r}: {error}") from None


def _read_parquet(path: Path) -> tuple[pd.DataFrame, list[str]]:
    return _by_row(pd.read_parquet(path)), []


def _by_row(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with rows counted from 1, for messages."""
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"), axis=0)


def _read_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Columns as text, by the line that they stand in; None where a value is missing."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        head = [name.strip() for name in next(reader, [])]
        found = ((reader.line_num, row) for row in reader)
        rows = {line: row for line, row in found if row}
    n_names = max((number for number, name in enumerate(head, 1) if name), default=0)
    if n_names <= 1 and any(sign in "".join(head) for sign in ";\t"):
        raise DataError(f"{path}: separate the columns by commas; the head is {head[0]!r}")
    if not n_names:
        raise DataError(f"{path}: the first line holds no names of columns")
    notes = []
    n_fields = {*map(len, rows.values())}
    is_wider = len(n_fields) == 1 and min(n_fields) > n_names  # commas at the end of every line
    if is_wider and not any(any(row[n_names:]) for row in rows.values()):
        rows = {line: row[:n_names] for line, row in rows.items()}
        notes = [f"{path}: left out what stands after the last name of the head: it is empty"]
    for line, row in rows.items():
        if len(row) != n_names:
            raise DataError(
                f"{path}: line {line} has {len(row)} fields, but the head has {n_names} names; give"
                " every column a name and every line a field for it (text with commas in quotes)"
            )
    values = [[None if one in MISSING else one for one in row] for row in rows.values()]
    index = pd.Index(list(rows), name="line")
    return pd.DataFrame(values, index, pd.Index(head[:n_names]), dtype=object), notes


def _usable(frame: pd.DataFrame, formula: Formula, path: str, notes: list[str]) -> Table:
    """Rows that have a value in every column of the formula, and these columns."""
    for name in formula.names:
        _check_column(name, [*map(str, frame.columns)], path)
    frame = frame[list(formula.names)]
    is_missing = frame.isna()
    is_kept = ~is_missing.any(axis=1)
    if not is_kept.all():
        n_lost = is_missing.sum()
        where = ", ".join(f"{name} ({n})" for name, n in n_lost.items() if n)
        lost = f"left out {int((~is_kept).sum())} of {len(frame)} rows, which lack a value"
        notes = [*notes, f"{path}: {lost}: {where}"]
        frame = frame[is_kept]
    if frame.empty:
        raise DataError(
            f"{path} has no rows"
            + " with a value in every column of the formula" * bool(len(is_kept))
        )
    found = {name: _converted(frame[name], formula, path) for name in formula.names}
    frame = pd.DataFrame(found).reset_index(drop=True)
    return Table(frame, _outermost_first(formula, frame), tuple(notes))


def _referred(table: Table, references: References) -> Table:
    """The table with the reference level of every factor first."""
    frame = table.frame.copy()
    for name, level in references.items():
        _check_reference(name, level, frame)
        others = [one for one in frame[name].cat.categories if one != level]
        frame[name] = frame[name].cat.reorder_categories([level, *others])
    return replace(table, frame=frame)


def _check_reference(name: str, level: str, frame: pd.DataFrame) -> None:
    """Refuse a reference level of what is no factor, or one that no row has."""
    is_factor = frame.dtypes.map(lambda one: isinstance(one, pd.CategoricalDtype))
    factors = [*map(str, frame.columns[is_factor])]
    if name not in factors:
        there = ", ".join(factors) or "none"
        raise DataError(
            f"--reference names {name!r}, which is no factor of the formula. Its factors:"
            f" {there}.{nearest_name(name, factors)}"
        )
    levels = [*map(str, frame[name].cat.categories)]
    if level not in levels:
        raise DataError(
            f"--reference {name}={level}: {name!r} has no level {level!r}. It has:"
            f" {', '.join(levels)}.{nearest_name(level, levels)}"
        )


def _check_column(name: str, names: Sequence[str], path: str) -> None:
    if name not in names:
        near = nearest_name(name, filter(is_name, names))  # others cannot be written
        raise DataError(f"{path} has no column {name!r}. It has: {', '.join(names)}.{near}")
    if names.count(name) > 1:
        raise DataError(f"{path} has {names.count(name)} columns {name!r}; rename the others")


def _converted(values: "pd.Series[Any]", formula: Formula, path: str) -> "pd.Series[Any]":
    """The column as what the formula takes it for."""
    name = str(values.name)
    if name in formula.groups and name not in (formula.response, *formula.columns):
        return values  # labels tell units apart as they are; numbers would merge long ones
    numbers = _numbers(values)
    if name == formula.response and numbers is None:
        raise DataError(f"{path}: the response {name!r} is text; it must be numbers")
    if numbers is None or name in formula.labels:
        return _categories(values, numbers)
    for faulty, number in numbers[~(numbers.abs() < LARGEST)].items():
        found = f"{path}: {values.index.name} {faulty}: {name!r} is {number:g}"
        raise DataError(f"{found}; it must be a number below {LARGEST:g} in size")
    if name in formula.groups and numbers.nunique() < values.nunique():
        raise DataError(
            f"{path}: {name!r} is a covariate and a group, and some of its labels are the same"
            " number; give the group a column of its own"
        )
    return numbers


def _numbers(values: "pd.Series[Any]") -> "pd.Series[Any] | None":
    """The column as floats; None where it holds text."""
    if isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values):
        return None
    if any("_" in one for one in values if isinstance(one, str)):  # Python reads 1_000
        return None
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _categories(values: "pd.Series[Any]", numbers: "pd.Series[Any] | None") -> "pd.Series[Any]":
    """Labels as text: in the order that their maker chose, of the numbers, or of the alphabet."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.remove_unused_categories().cat.rename_categories(str)
    if numbers is not None and pd.api.types.is_float_dtype(values) and (numbers % 1 == 0).all():
        values = values.astype(np.int64)  # 2, not 2.0
    text = values.astype(str)
    order = text if numbers is None else numbers
    labels = pd.DataFrame({"text": text, "order": order}).drop_duplicates("text")
    categories = labels.sort_values(["order", "text"])["text"]
    return pd.Series(pd.Categorical(text, categories=categories), index=values.index)


def _outermost_first(formula: Formula, frame: pd.DataFrame) -> Formula:
    """The formula with units that lie within others after these, where labels tell."""
    label = {name: pd.factorize(frame[name])[0] for name in formula.groups}
    n_units = {name: int(codes.max()) + 1 for name, codes in label.items()}

    def is_within(inner: str, outer: str) -> bool:
        n_pairs = len(np.unique(label[inner] * n_units[outer] + label[outer]))
        return n_units[outer] < n_units[inner] == n_pairs

    ordered = formula.outermost_first(
        lambda name: sum(is_within(name, other) for other in formula.groups)
    )
    # with one inner unit in every outer one labels tell nothing: animal/image stays
    effects = {(term.level, term.columns) for term in ordered.random}
    return ordered if len(effects) == len(ordered.random) else formula
