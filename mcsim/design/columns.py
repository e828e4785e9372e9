"""The columns that a formula makes of a data frame.

Knows names and data frames; the engine gets the arrays.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.design.arithmetic import offset_of
from mcsim.design.library import Matrix, library_matrix
from mcsim.design.size import check_sizes
from mcsim.engine.arithmetic.basis import orthonormal_basis
from mcsim.engine.crossed.partitions import units_that_cross
from mcsim.errors import DataError, FormulaError, nearest_name
from mcsim.formula import (
    ColumnPiece,
    Formula,
    RandomTerm,
    read_column,
    read_terms,
    variable_names,
)
from mcsim.formula.expression import Name, write

T = TypeVar("T")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]  # of `_matrix`
Kinds = tuple[tuple[str, tuple[str, ...]], ...]

TAKEN_NAMES = ("Intercept", "sigma")  # parameters that a column could not be told from
MOST_KNOWN = 256
_known: dict[tuple[str, Kinds], Labels | None] = {}  # what right-hand sides make of data


@dataclass(frozen=True)
class RandomColumns:
    """Random-effect columns of one level of a model.

    structures : name and number of columns of blocks of consecutive columns, which are independent
        of each other; a diagonal structure is one of blocks of one column
    """

    level: str
    unit_of_row: Ints
    Z: Floats
    names: tuple[str, ...]
    structures: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ModelColumns:
    """What a formula makes of a data frame, and both of these; levels outermost first.

    X : (n_rows, p); term_of_column : (p,) number of the term that each column belongs to
    offset : (n_rows,), what every response has without any coefficient; None without one
    are_crossed : whether units of some levels lie in several of another
    unit_of_row : where X holds means of units, the unit of every row of the frame
    """

    X: Floats
    names: tuple[str, ...]
    term_of_column: tuple[int, ...]
    terms: tuple[str, ...]
    levels: tuple[RandomColumns, ...]
    formula: Formula
    frame: pd.DataFrame
    offset: Floats | None = None
    are_crossed: bool = False
    unit_of_row: Ints | None = None
    _found: dict[str, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    def once(self, what: str, find: Callable[["ModelColumns"], T]) -> T:
        """What `find` says of these columns, found at the first question about `what`."""
        if what not in self._found:
            self._found[what] = find(self)
        found: T = self._found[what]
        return found


def means_of_units(X: Floats, unit_of_row: Ints) -> Floats:
    """Means (n_units, p) of the rows of every unit."""
    sums = np.stack([np.bincount(unit_of_row, column) for column in X.T], axis=1)
    return np.asarray(sums / np.bincount(unit_of_row)[:, None])


def column(frame: pd.DataFrame, name: str) -> Floats:
    """The column called `name`, as the formula library prints names: `diet[T.fed]:x`.

    Raises
    ------
    DataError
        The frame cannot make this column.
    """
    try:
        pieces = read_column(name)
    except FormulaError as error:
        raise DataError(f"{name!r} is no name of a column: {error}") from None
    product = np.ones(len(frame))
    for piece in pieces:
        product = product * _piece(frame, piece)
    return product


def _piece(frame: pd.DataFrame, piece: ColumnPiece) -> Floats | float:
    if str(piece) == "Intercept":
        return 1.0
    if isinstance(piece.base, Name) and piece.base.text in frame.columns:
        values = frame[piece.base.text]
        if piece.label is not None:
            return _dummy(values, piece.level)
        if not isinstance(values.dtype, pd.CategoricalDtype):
            return values.to_numpy(dtype=np.float64)
    base = write(piece.base)
    X, names, *_ = _matrix(frame, f"0 + {base}")
    ending = "" if piece.label is None else f"[{piece.level}]"
    own = [j for j, name in enumerate(names) if name.endswith(ending)]
    if not own:  # the contrasts of a factor go with an intercept
        X, names, *_ = _matrix(frame, base)
        own = [j for j, name in enumerate(names) if name == str(piece)]
    if len(own) != 1:
        made = ", ".join(name for name in names if name != "Intercept")
        raise DataError(f"{str(piece)!r} makes {len(own)} columns; name one of them: {made}")
    return X[:, own[0]]


def _dummy(values: "pd.Series[Any]", level: str) -> Floats:
    """1 where the values are at a level, as text, else 0."""
    if isinstance(values.dtype, pd.CategoricalDtype) and not values.isna().any():
        is_level = [str(category) == level for category in values.cat.categories]
        return np.array(is_level, dtype=np.float64)[values.cat.codes.to_numpy()]
    return np.asarray(values.astype(str).to_numpy() == level, dtype=np.float64)


class ModelFrame:
    """A data frame whose model columns are made once: the formula library takes its time."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.matrix = lru_cache(maxsize=None)(partial(_matrix, frame))
        self.unit_of_row = lru_cache(maxsize=None)(partial(_unit_of_row, frame))


def model_columns(
    formula: Formula,
    data: pd.DataFrame | ModelFrame,
    structures: Mapping[str, str] | None = None,
) -> ModelColumns:
    """Columns of the fixed and random parts of `formula`.

    Parameters
    ----------
    data : a ModelFrame where several formulas have columns in common
    structures : by level, in place of general for terms that are written with one bar

    Raises
    ------
    DataError
        A name is not in the frame, the grouping is not nested, or a level repeats a column.
    """
    data = ModelFrame(data) if isinstance(data, pd.DataFrame) else data
    for name in formula.names:
        if name != formula.response:
            _check_name(name, data.frame)
    check_sizes(formula, data.frame)
    X, names, term_of_column, terms = data.matrix(formula.fixed)
    random = tuple(
        one for term in formula.random for one in _independent(term, data, structures or {})
    )
    random = _told_apart(random, data)
    formula = replace(formula, random=random)
    by_level: dict[str, list[RandomTerm]] = {}
    for term in random:
        by_level.setdefault(term.level, []).append(term)
    levels = [
        _random_columns(level, own, data, (structures or {}).get(level, "general"))
        for level, own in by_level.items()
    ]
    levels.sort(key=lambda level: int(level.unit_of_row.max()))
    are_crossed = units_that_cross([level.unit_of_row for level in levels])
    offset = offset_of(formula, data.frame) if formula.offsets else None
    return ModelColumns(
        X, names, term_of_column, terms, tuple(levels), formula, data.frame, offset, are_crossed
    )


def without_columns(columns: ModelColumns, names: Collection[str]) -> ModelColumns:
    """The model without the fixed effects that are named."""
    kept = [j for j, name in enumerate(columns.names) if name not in names]
    return replace(
        columns,
        X=np.ascontiguousarray(columns.X[:, kept]),
        names=tuple(columns.names[j] for j in kept),
        term_of_column=tuple(columns.term_of_column[j] for j in kept),
    )


def _check_name(name: str, frame: pd.DataFrame) -> None:
    if name in TAKEN_NAMES:
        what = "the intercept" if name == "Intercept" else f"the parameter {name}"
        raise DataError(f"a column called {name!r} cannot be told from {what}; rename it")
    if name not in frame.columns:
        columns = ", ".join(map(str, frame.columns))
        raise DataError(
            f"the formula names {name!r}, which is no column of the data. The data have:"
            f" {columns}.{nearest_name(name, map(str, frame.columns))}"
        )


def _matrix(frame: pd.DataFrame, right_hand_side: str) -> Matrix:
    """Columns, their names, the number of the term of each, and the terms.

    The formula library takes milliseconds, and what it does to plain variables is soon said: where
    it was asked before for the same columns of the same kinds of data, they are made here. That is
    done only if it gave the same bits the first time.
    """
    written = write(read_terms(right_hand_side))
    for name in variable_names(written):
        _check_name(name, frame)
    kinds = _kinds(frame, written)
    if kinds is None:
        return library_matrix(frame, written)
    if (written, kinds) not in _known:
        values, names, *_ = found = library_matrix(frame, written)
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[written, kinds] = found[1:] if _is_plain(frame, names, values) else None
        return found
    known = _known[written, kinds]
    if known is None:
        return library_matrix(frame, written)
    return _plain_matrix(frame, known[0]), *known


def _kinds(frame: pd.DataFrame, written: str) -> Kinds | None:
    """Of the variables, their categories, empty for a number; None where more must be known.

    Functions may look at all of the data, and the library drops categories that are not there.
    """
    if "(" in written:
        return None
    kinds = []
    for name in variable_names(written):
        values = frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            n_rows = np.bincount(values.cat.codes.to_numpy() + 1, minlength=1)
            n_present = np.count_nonzero(n_rows[1:])
            if n_rows[0] or n_present < len(values.cat.categories) or values.cat.ordered:
                return None
            kinds.append((name, tuple(map(str, values.cat.categories))))
        elif values.dtype == np.float64 and np.isfinite(values.to_numpy()).all():
            kinds.append((name, ()))
        else:
            return None
    return tuple(kinds)


def _is_plain(frame: pd.DataFrame, names: tuple[str, ...], values: Floats) -> bool:
    """Whether `_plain_matrix` has the same bits; of three numbers, the order would matter."""
    try:
        pieces = [read_column(name) for name in names]
    except FormulaError:
        return False
    if any(sum(piece.label is None for piece in own) > 2 for own in pieces):
        return False
    return _plain_matrix(frame, names).tobytes() == values.tobytes()


def _plain_matrix(frame: pd.DataFrame, names: tuple[str, ...]) -> Floats:
    """The columns with these names, (n_rows, n_names)."""
    values = np.empty((len(frame), len(names)))
    pieces: dict[str, Floats | float] = {}
    for position, name in enumerate(names):
        product = np.ones(len(frame))
        for piece in read_column(name):
            if str(piece) not in pieces:
                pieces[str(piece)] = _piece(frame, piece)
            product = product * pieces[str(piece)]
        values[:, position] = product
    return values


def _independent(
    term: RandomTerm, data: ModelFrame, structures: Mapping[str, str]
) -> list[RandomTerm]:
    """What a term with two bars stands for: as in lme4, columns of one factor stay correlated."""
    if term.structure == "general":
        return [term]
    *_, pieces = data.matrix(term.columns)
    columns = [piece if piece == "1" else f"0 + {piece}" for piece in pieces]
    if all(data.matrix(one)[0].shape[1] == 1 for one in columns):
        return [term]
    if term.level in structures:
        raise DataError(
            f"({term.columns} || {term.level}) keeps the columns of one factor correlated; a"
            f" structure of {term.level!r} goes with one bar: write ({term.columns} | {term.level})"
        )
    return [replace(term, columns=one, structure="general") for one in columns]


def _random_columns(
    level: str, terms: Sequence[RandomTerm], data: ModelFrame, structure: str
) -> RandomColumns:
    blocks: list[Floats] = []
    names: list[str] = []
    structures: list[tuple[str, int]] = []
    for term in terms:
        Z, term_names, *_ = data.matrix(term.columns)
        repeated = sorted(set(names) & set(term_names))
        if repeated:
            raise DataError(
                f"level {level!r} has the random effect {repeated[0]!r} twice; write one term, or"
                " 0 + in the second, as in (1 | g) + (0 + x | g)"
            )
        if not term_names:
            raise DataError(f"the term ({term.columns} | {level}) has no effect; leave it out")
        blocks.append(Z)
        names += term_names
        if "diagonal" in (term.structure, structure):
            structures += [("general", 1)] * Z.shape[1]
        else:
            structures.append((structure, Z.shape[1]))
    unit = data.unit_of_row(terms[0].group)
    return RandomColumns(level, unit, np.hstack(blocks), tuple(names), tuple(structures))


def _told_apart(random: Sequence[RandomTerm], data: ModelFrame) -> tuple[RandomTerm, ...]:
    """The terms; levels that end in one name, but have other units, are named by their paths.

    So a pair of a subject and an item is `subject:item`, as lme4 writes it, and no `item`.
    """
    units: dict[str, dict[tuple[str, ...], Ints]] = {}
    for term in random:
        units.setdefault(term.group[-1], {})[term.group] = data.unit_of_row(term.group)
    found = []
    for term in random:
        first, *others = units[term.group[-1]].values()
        is_one = all(np.array_equal(first, other) for other in others)
        named = "" if is_one else ":".join(term.group)
        found.append(replace(term, named=named))
    return tuple(found)


def _unit_of_row(frame: pd.DataFrame, path: tuple[str, ...]) -> Ints:
    """Numbers of the units that the columns of `path` make together, in their order."""
    codes = np.zeros(len(frame), dtype=np.int64)
    for name in path:
        own, labels = pd.factorize(frame[name])
        codes = pd.factorize(codes * len(labels) + own)[0].astype(np.int64)
    return codes


def without_aliased(columns: ModelColumns) -> tuple[ModelColumns, tuple[str, ...]]:
    """The model without fixed effects that those before them determine, and their names."""
    if not columns.names:
        return columns, ()
    _, coefficients = orthonormal_basis(columns.X)
    kept = np.argmax(coefficients != 0.0, axis=1)  # where each vector of the basis began
    aliased = tuple(name for j, name in enumerate(columns.names) if j not in kept)
    if not aliased:
        return columns, aliased
    return replace(
        columns,
        X=np.ascontiguousarray(columns.X[:, kept]),
        names=tuple(columns.names[j] for j in kept),
        term_of_column=tuple(columns.term_of_column[j] for j in kept),
    ), aliased
