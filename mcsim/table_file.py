"""The file of a user's table: which signs stand between its columns, and what is in its cells."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from mcsim.errors import DataError, nearest_name

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", ".")
_MARKS = {  # of the byte order, at the start of a file
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
STRAY_SHARE = 0.5  # of a column's cells at most: more text than that, and it is one of labels
LARGEST = 1e150  # of a number: its square can still be added up
_WITH_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
_SEPARATORS = ("\t", ";", ",")
_OTHERS = {  # formats that people have, and what to do
    ".xls": "save it as .xlsx or .csv",
    ".ods": "save it as .xlsx or .csv",
    ".rds": "in R: write.csv(d, 'data.csv', row.names = FALSE)",
    ".rdata": "in R: write.csv(d, 'data.csv', row.names = FALSE)",
    ".sav": "export it as .csv",
    ".dta": "export it as .csv",
}


@dataclass(frozen=True)
class TableFile:
    """All rows of a table, named as messages name them.

    frame : text where the file is text, with None where a value is missing
    decimal : sign in numbers; notes : what was left out or guessed, a sentence each
    """

    frame: pd.DataFrame
    decimal: str = "."
    notes: tuple[str, ...] = ()


def read_table_file(path: Path) -> TableFile:
    """Rows of a text file with columns, a Parquet file or the first sheet of an Excel file.

    Raises
    ------
    DataError
        The file cannot be read as a table.
    """
    readers: Mapping[str, Callable[[Path], TableFile]] = {
        ".csv": _read_text,
        ".tsv": _read_text,
        ".txt": _read_text,
        ".parquet": lambda path: by_row(pd.read_parquet(path)),
        ".xlsx": _read_excel,
    }
    if not path.is_file():
        near = nearest_name(path.name, [one.name for one in path.parent.glob("*.*")])
        raise DataError(f"there is no file {str(path)!r}.{near}")
    ending = path.suffix.lower()
    if ending not in readers:
        advice = _OTHERS.get(ending, "save it as one of these")
        raise DataError(f"{path}: data come as {', '.join(readers)}, not {path.suffix!r}; {advice}")
    try:
        return readers[ending](path)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def by_row(frame: pd.DataFrame) -> TableFile:
    """The frame with rows counted from 1, and columns with names of text."""
    index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return TableFile(frame.set_axis(index, axis=0).set_axis([*map(str, frame.columns)], axis=1))


def with_points(values: "pd.Series[Any]", decimal: str) -> "pd.Series[Any]":
    """Numbers with a decimal comma as numbers with a point, where the file may have commas."""
    if decimal == ".":
        return values
    is_number = values.map(lambda one: _WITH_COMMA.fullmatch(one) is not None)
    return values.where(~is_number, values.str.replace(",", "."))


def ambiguous_numbers(columns: pd.DataFrame, decimal: str) -> dict[str, str]:
    """Columns whose 2.763 may be 2763, since others have decimal commas, and why; or 2,763."""
    if decimal == ".":
        return {}
    for sign, other in (".,", ",."):
        of_sign = {str(name): _with(sign, own) for name, own in columns.items()}
        beside = next((one for _, own in columns.items() for one in _with(other, own)), None)
        shape = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(\{sign}[0-9]{{3}})+")
        all_marked = [one for marked in of_sign.values() for one in marked]
        if beside is not None and all(map(shape.fullmatch, all_marked)):
            why = (
                f"has numbers such as {{}}, thousands or decimals, and others are such as {beside}"
            )
            return {name: why.format(marked[0]) for name, marked in of_sign.items() if marked}
    return {}


def _with(sign: str, values: "pd.Series[Any]") -> list[str]:
    """The cells that are numbers with this sign, a comma or a point."""
    is_number = re.compile(rf"[+-]?[0-9]*\{sign}[0-9]+(?:[eE][+-]?[0-9]+)?").fullmatch
    return [one for one in values if isinstance(one, str) and is_number(one)]


def as_numbers(values: "pd.Series[Any]") -> "pd.Series[Any] | None":
    """The column as floats; None where it holds text."""
    if isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values):
        return None
    if any("_" in one for one in values if isinstance(one, str)):  # Python reads 1_000
        return None
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def strays_of(values: "pd.Series[Any]", share: float = STRAY_SHARE) -> "pd.Series[Any]":
    """The cells that are no numbers; none where they are more than a share of the column."""
    is_other = isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values)
    strays = values if is_other else values[pd.to_numeric(values, errors="coerce").isna()]
    return strays if len(strays) <= share * len(values) else values[:0]


def as_categories(values: "pd.Series[Any]", numbers: "pd.Series[Any] | None") -> "pd.Series[Any]":
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


def _read_text(path: Path) -> TableFile:
    text, notes = _decoded(path)
    lines = text.splitlines()
    named = re.fullmatch(r"sep=(.)", lines[0].strip()) if lines else None  # as Excel writes it
    head = next(filter(str.strip, lines[bool(named) :]), "")
    plain = re.sub(r'"[^"]*"', "", head)
    separator = named[1] if named else max(_SEPARATORS, key=plain.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    numbered = ((reader.line_num, row) for row in reader)
    try:
        rows = {line: row for line, row in numbered if row}
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num}: cannot be read: {str(error).expandtabs(1)}. Quotes"
            ' within quoted text are doubled (in R: qmethod = "double")'
        ) from None
    if named:
        rows.pop(1, None)
    decimal = "." if separator == "," else ","  # at most: numbers may have a point all the same
    return _table(path, rows, "line", decimal, notes)


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The file's text; older spreadsheets do not write UTF-8."""
    data = path.read_bytes()
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding), []
    if data[1:2] == b"\0":
        return data.decode("utf-16-le"), []
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        note = f"{path}: read as Windows-1252, since it is not UTF-8"
        return data.decode("cp1252"), [note]


def _read_excel(path: Path) -> TableFile:
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise DataError(
            f"{path}: to read .xlsx, pip install 'mcsim[excel]', or save the sheet as .csv"
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (KeyError, TypeError, BadZipFile, InvalidFileException) as error:
        raise DataError(f"{path}: cannot be read as an Excel file: {error}") from None
    sheet, *others = book.worksheets
    notes = []
    if others:
        titles = ", ".join(repr(one.title) for one in others)
        notes = [f"{path}: read the first sheet, {sheet.title!r}; there are also {titles}"]
    numbered = enumerate(sheet.iter_rows(values_only=True), 1)
    rows = {number: [*map(_cell, row)] for number, row in numbered}
    return _table(path, {n: row for n, row in rows.items() if any(row)}, "row", ".", notes)


def _cell(value: Any) -> str:
    """A cell as text: 2 for 2.0, a date without a time, as it looks in the sheet."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, datetime) and value.time() == time.min:  # a date: Excel knows no other
        value = value.date()
    return "" if value is None else str(value)


def _table(
    path: Path, rows: dict[int, list[str]], counted: str, decimal: str, notes: list[str]
) -> TableFile:
    """The table of the rows, of which the first holds the names."""
    head = [unicodedata.normalize("NFC", name.strip()) for name in next(iter(rows.values()), [])]
    rows = dict([*rows.items()][1:])
    n_names = max((number for number, name in enumerate(head, 1) if name), default=0)
    if not n_names:
        raise DataError(f"{path}: the first line holds no names of columns")
    if n_names == 1 and len(head[0].split()) > 1:
        if counted == "row":
            raise DataError(
                f"{path}: the first row that is not empty has one cell, {head[0]!r}; take out what"
                " stands above the names of the columns"
            )
        if len({*map(len, rows.values())}) < 2:
            raise DataError(
                f"{path}: separate the columns by commas, semicolons or tabs; the head is"
                f" {head[0]!r}"
            )
    n_fields = {*map(len, rows.values())}
    is_wider = len(n_fields) == 1 and min(n_fields) > n_names  # commas at the end of every line
    if is_wider and not any(any(row[n_names:]) for row in rows.values()):
        rows = {line: row[:n_names] for line, row in rows.items()}
        notes = [
            *notes,
            f"{path}: left out what stands after the last name of the head: it is empty",
        ]
    _refuse_ragged(path, rows, n_names, counted)
    cells = [[one.strip() for one in row] for row in rows.values()]
    values = [[None if one in MISSING else one for one in row] for row in cells]
    index = pd.Index(list(rows), name=counted)
    frame = pd.DataFrame(values, index, pd.Index(head[:n_names]), dtype=object)
    return TableFile(frame, decimal, tuple(notes))


def _refuse_ragged(
    path: Path, rows: Mapping[int, Sequence[str]], n_names: int, counted: str
) -> None:
    for line, row in rows.items():
        if len(row) != n_names:
            raise DataError(
                f"{path}: {counted} {line} has {len(row)} fields, but the head has {n_names} names;"
                " give every column a name and every line a field for it (text with the separating"
                " sign in quotes)"
            )
