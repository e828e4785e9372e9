"""A user's own table: the columns that a formula names, as numbers, factors and labels of units."""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsim.design.arithmetic import measured_response
from mcsim.errors import DataError, FormulaError, nearest_name
from mcsim.formula import Formula, is_name, parse_formula, variable_names, written_name
from mcsim.table_file import (
    LARGEST,
    TableFile,
    ambiguous_numbers,
    as_categories,
    as_numbers,
    by_row,
    read_table_file,
    strays_of,
    with_points,
)

MANY_LEVELS = 20  # of a factor in the fixed effects: text with more may be meant otherwise
DATE = re.compile(r"(\d{4}-\d\d?-\d\d?|\d\d?[./-]\d\d?[./-]\d{2,4})([ T]|$)|\d+ days?\b")
MOST_SHOWN = 5  # cells or labels in a message
CROSSED = (
    "{0!r} and {1!r} cross: units of each lie in several of the other. If labels repeat, write"
    " (... | {2}/{3}) if a label of {1!r} means another unit in every {0!r}, (... | {3}/{2}) if a"
    " label of {0!r} means another unit in every {1!r}"
)

Column = "pd.Series[Any]"


@dataclass(frozen=True)
class Table:
    """The rows of a user's table that a formula can be fitted to.

    frame : columns that the formula names: floats, factors as categories, labels of units as they
        are; formula : with every group from the outermost unit inwards
    notes : what was left out or may be meant otherwise, a sentence each
    places : of the rows, such as `data.csv: row 7`
    """

    frame: pd.DataFrame
    formula: Formula
    notes: tuple[str, ...]
    places: "pd.Series[str]"

    @property
    def response(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What is fitted: a function of the response, less the offsets, (n_rows,)."""
        return measured_response(self.formula, self.frame)


References = Mapping[str, str]  # factor to its reference level, where that is not the first


def read_table(
    path: Path,
    formula: str,
    references: References | None = None,
    others: Sequence[str] = (),
) -> Table:
    """Rows of a file, as of `read_table_file`.

    Parameters
    ----------
    others : columns of numbers that are needed beside those of the formula

    Raises
    ------
    DataError
        The file, a column or the formula cannot be used.
    """
    read_formula(formula)  # before the file, which may be large
    return table_in(read_table_file(path), str(path), formula, references, others)


def table_in(
    file: TableFile,
    path: str,
    formula: str,
    references: References | None = None,
    others: Sequence[str] = (),
) -> Table:
    """Rows of a file that was read; as `read_table`."""
    return _referred(_usable(file, read_formula(formula), path, others), references or {})


def table_of(
    frame: pd.DataFrame,
    formula: str,
    references: References | None = None,
    others: Sequence[str] = (),
) -> Table:
    """Rows of a data frame; as `read_table`."""
    return table_in(by_row(frame), "the data frame", formula, references, others)


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
    return str(as_categories(text, as_numbers(text)).cat.categories[0])


def read_formula(formula: str) -> Formula:
    """The formula of a command line; a DataError where it cannot be read."""
    try:
        return parse_formula(formula)
    except FormulaError as error:
        raise DataError(f"--formula {formula!r}: {error}") from None


def _usable(file: TableFile, formula: Formula, path: str, others: Sequence[str]) -> Table:
    """Rows that have a value in every column that is needed, and these columns."""
    frame, notes = file.frame, list(file.notes)
    names = tuple(dict.fromkeys([*formula.names, *others]))
    for name in names:
        _check_column(name, [*frame.columns], path, notes)
    frame = frame[list(names)]
    is_missing = frame.isna()
    is_kept = ~is_missing.any(axis=1)
    if frame.empty:
        raise DataError(f"{path} has no rows")
    if not is_kept.all():
        n_lost = is_missing.sum()
        where = ", ".join(f"{name} ({n})" for name, n in n_lost.items() if n)
        if not is_kept.any():
            raise DataError(
                f"{path} has no rows with a value in every column of the formula; rows that lack"
                f" one: {where}"
            )
        lost = f"left out {int((~is_kept).sum())} of {len(frame)} rows, which lack a value"
        notes.append(f"{path}: {lost}: {where}")
        frame = frame[is_kept]
    found = {
        name: _converted(with_points(frame[name], file.decimal), formula, path) for name in names
    }
    converted = pd.DataFrame(found)
    numbers = frame[[name for name in names if _is_numbers(converted[name])]]
    for name, why in ambiguous_numbers(numbers, file.decimal).items():
        raise DataError(f"{path}: {name!r} {why}; write both with one sign, thousands with none")
    for name in (name for name in others if not _is_numbers(converted[name])):
        raise DataError(f"{path}: {name!r} is text or a group; it must be numbers")
    _refuse_undefined(formula, converted, path)
    counted = converted.index
    places = pd.Series([f"{path}: {counted.name} {row}" for row in counted], dtype=object)
    converted = converted.reset_index(drop=True)
    ordered = _outermost_first(formula, converted)
    notes += (f"{path}: {note}" for note in _doubts(ordered, converted))
    return Table(converted, ordered, tuple(notes), places)


def _referred(table: Table, references: References) -> Table:
    """The table with the reference level of every factor first."""
    frame = table.frame.copy()
    for name, level in ((name, str(level)) for name, level in references.items()):
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


def _check_column(name: str, names: Sequence[str], path: str, notes: Sequence[str]) -> None:
    if name not in names:
        written = [written_name(one) if is_name(one) else repr(one) for one in names if one]
        near = nearest_name(name, map(written_name, filter(is_name, names)))
        has = f"{path} has no column {name!r}. It has: {', '.join(written)}.{near}"
        raise DataError("\n".join([has, *notes]))
    if names.count(name) > 1:
        raise DataError(f"{path} has {names.count(name)} columns {name!r}; rename the others")


def _converted(values: "pd.Series[Any]", formula: Formula, path: str) -> "pd.Series[Any]":
    """The column as what the formula takes it for."""
    name = str(values.name)
    if name in formula.groups and name not in (formula.response, *formula.columns):
        return values  # labels tell units apart as they are; numbers would merge long ones
    _refuse_complex(values, path)
    numbers = as_numbers(values)
    if numbers is None and name not in (*formula.groups, *formula.labels):
        _refuse_strays(values, name == formula.response, path)
    if numbers is None or name in formula.labels:
        return as_categories(values, numbers)
    for faulty, number in numbers[~(numbers.abs() < LARGEST)].items():
        found = f"{path}: {values.index.name} {faulty}: {name!r} is {number:g}"
        raise DataError(f"{found}; it must be a number below {LARGEST:g} in size")
    if name in formula.groups and numbers.nunique() < values.nunique():
        raise DataError(
            f"{path}: {name!r} is a covariate and a group, and some of its labels are the same"
            " number; give the group a column of its own"
        )
    return numbers


def _refuse_complex(values: "pd.Series[Any]", path: str) -> None:
    if pd.api.types.is_complex_dtype(values) or values.dtype == object:
        for place, cell in values.items():
            if isinstance(cell, complex | np.complexfloating):
                raise DataError(
                    f"{path}: {values.name!r} holds complex numbers: {values.index.name} {place}"
                    f" {cell!s}. Give it their real part, their size or their angle, numpy's real,"
                    " abs or angle"
                )


def _refuse_strays(values: "pd.Series[Any]", is_response: bool, path: str) -> None:
    """Refuse a column of numbers in which some cells are none, and a response of text."""
    strays = strays_of(values, 1.0) if is_response else strays_of(values)
    if strays.empty and not is_response:
        return
    counted, name = values.index.name, str(values.name)
    shown = ", ".join(f"{counted} {line} {cell!r}" for line, cell in strays[:MOST_SHOWN].items())
    more = f" and {len(strays) - MOST_SHOWN} more" * (len(strays) > MOST_SHOWN)
    what = "the response must be numbers" if is_response else "most cells are numbers"
    factor = "" if is_response else f"; for a factor write factor({written_name(name)})"
    raise DataError(
        f"{path}: {name!r} has cells that are no numbers ({what}): {shown}{more}. Mend them, or"
        f" leave them empty{factor}"
    )


def _refuse_undefined(formula: Formula, frame: pd.DataFrame, path: str) -> None:
    """Refuse rows in which a function of the response, or an offset, has no value."""
    for name in (name for name in formula.offset_names if not _is_numbers(frame[name])):
        raise DataError(f"{path}: the offset {name!r} is text; it must be numbers")
    values = measured_response(formula, frame)
    for position in np.flatnonzero(~(np.abs(values) < LARGEST)).tolist():
        given = f"{formula.response} = {frame[formula.response].iloc[position]:g}"
        raise DataError(
            f"{path}: {frame.index.name} {frame.index[position]}: {formula.measured} is"
            f" {values[position]:g} ({given}); it must be a number below {LARGEST:g} in size"
        )


def _is_numbers(values: "pd.Series[Any]") -> bool:
    return values.dtype == np.float64


def _outermost_first(formula: Formula, frame: pd.DataFrame) -> Formula:
    """The formula with units that lie within others after these, where labels tell."""
    label = {name: pd.factorize(frame[name])[0] for name in formula.groups}
    n_units = {name: int(codes.max()) + 1 for name, codes in label.items()}

    def is_within(inner: str, outer: str) -> bool:
        n_pairs = len(np.unique(label[inner] * n_units[outer] + label[outer]))
        return n_units[outer] < n_units[inner] == n_pairs

    def path(group: Sequence[str]) -> Iterator[str]:
        around = {name: [one for one in group if is_within(name, one)] for name in group}
        for name in group:
            yield from sorted(around[name], key=lambda one: len(around[one]))
            yield name

    random = (replace(one, group=tuple(dict.fromkeys(path(one.group)))) for one in formula.random)
    ordered = replace(formula, random=tuple(random))
    # with one inner unit in every outer one labels tell nothing: animal/image stays
    effects = {(term.level, term.columns) for term in ordered.random}
    return ordered if len(effects) == len(ordered.random) else formula


def _doubts(formula: Formula, frame: pd.DataFrame) -> Iterator[str]:
    """What the labels may mean otherwise, or what is taken for granted."""
    yield from _long_factors(formula, frame)
    if not formula.random:
        yield f"no random term: its {len(frame)} rows are taken as independent"
        return
    yield from _crossed_labels(formula, frame)
    yield from _named_by_one(formula, frame)
    path = formula.random[0].group
    unit = frame.groupby(list(path), sort=False, observed=True).ngroup()
    parts = max((term.group for term in formula.random), key=len)
    inner = None
    if parts[: len(path)] == path != parts:
        inner = frame.groupby(list(parts), sort=False, observed=True).ngroup()
    for name in formula.columns:
        if isinstance(frame[name].dtype, pd.CategoricalDtype) and name not in path:
            yield from _repeated_labels(unit, inner, frame, path, name)


def _long_factors(formula: Formula, frame: pd.DataFrame) -> Iterator[str]:
    """Text in the fixed effects that may be meant as a covariate, or as a unit."""
    for name in variable_names(formula.fixed):
        if not isinstance(frame[name].dtype, pd.CategoricalDtype) or name in formula.made_factors:
            continue
        labels = frame[name].cat.categories
        are_dates = all(map(DATE.match, labels)) and len(labels) > 1
        if are_dates or len(labels) > MANY_LEVELS:
            kind = "holds dates, which are text here" if are_dates else "is text"
            yield (
                f"{name!r} {kind}: a factor of {len(labels):,} levels. For a trend write its"
                " numbers, such as days since the first, into a column"
            )


def _crossed_labels(formula: Formula, frame: pd.DataFrame) -> Iterator[str]:
    """Units that lie in several of another level: they cross, or repeat their labels."""
    paths = list(dict.fromkeys(term.group for term in formula.random))
    units = [frame.groupby(list(one), sort=False, observed=True).ngroup() for one in paths]
    for (a, own), (b, other) in itertools.combinations(zip(paths, units, strict=True), 2):
        n_pairs = len(pd.DataFrame({"a": own, "b": other}).drop_duplicates())
        if n_pairs > max(own.max(), other.max()) + 1:
            yield CROSSED.format(a[-1], b[-1], written_name(a[-1]), written_name(b[-1]))


def _named_by_one(formula: Formula, frame: pd.DataFrame) -> Iterator[str]:
    """Levels of several names of which no other term tells that the last is the innermost."""

    def n_units(names: Collection[str]) -> int:
        return len(frame[[*names]].drop_duplicates()) if names else 1

    groups = [set(term.group) for term in formula.random]
    for path in dict.fromkeys(term.group for term in formula.random):
        told = {name for one in groups if one < {*path} for name in one}
        is_known = path[-1] in told or n_units(path[:-1]) == n_units(told)
        if not is_known and n_units(path) > n_units(path[-1:]):
            yield (
                f"the level of (... | {':'.join(map(written_name, path))}) is called"
                f" {path[-1]!r}, its last name, but its units are those of all these names together"
            )


def _repeated_labels(
    unit: "pd.Series[int]",
    inner: "pd.Series[int] | None",
    frame: pd.DataFrame,
    path: Sequence[str],
    factor: str,
) -> Iterator[str]:
    """A label in two levels of a factor: one unit that saw both, or two of the same name."""
    if inner is not None and frame.groupby(inner, sort=False)[factor].nunique().max() > 1:
        return  # it differs between the rows of a part, so surely within the whole
    n_levels = frame.groupby(unit, sort=False)[factor].nunique()
    is_repeated = n_levels > 1
    labels = frame[path[-1]].groupby(unit, sort=False).first().astype(str)
    is_counted = labels.str.fullmatch("[0-9]{1,2}").all()  # as 1, 2, 3 in every group
    if not is_repeated.any() or (is_repeated.all() and not is_counted):
        return
    shown = ", ".join(labels[is_repeated][:MOST_SHOWN])
    more = ", ..." if is_repeated.sum() > MOST_SHOWN else ""
    groups = ":".join(map(written_name, (factor, *path)))
    yield (
        f"{path[-1]!r} {shown}{more} has rows in several levels of {factor!r}, and is taken as one"
        f" unit in all of them; if these are different units, write (... | {groups})"
    )
