"""The observations over which mean responses are averaged, all of them at one level of a factor."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mcsim.design.arithmetic import offset_of
from mcsim.design.columns import Floats, column
from mcsim.errors import DataError
from mcsim.formula import Formula, read_column
from mcsim.formula.column_names import is_of_all_rows
from mcsim.formula.expression import variables

Names = tuple[str, ...]


@dataclass(frozen=True)
class AtLevels:
    """Rows at either of two levels of a factor; those that are alike are one.

    X : (2, n, p) columns of the fixed effects; Z : per level of the model (2, n, q)
    offset, weights : (n,), the share that each has of the population
    """

    X: Floats
    Z: tuple[Floats, ...]
    offset: Floats
    weights: Floats


@dataclass(frozen=True, eq=False)
class Population:
    """The rows of a frame, each of the same weight.

    has_others : whether models are also fitted to other rows than these
    """

    frame: pd.DataFrame
    has_others: bool = False
    _known: dict[tuple[object, ...], AtLevels] = field(default_factory=dict, repr=False)

    def levels_of(self, factor: str, given: tuple[str, str] | None) -> tuple[str, str]:
        """The levels that are compared: those given, else those of a factor that has two."""
        if given is not None:
            return given
        first, second = map(str, self.frame[factor].cat.categories)
        return first, second

    def at(
        self,
        factor: str,
        levels: tuple[str, str],
        names: Names,
        of_effects: Sequence[Names] = (),
        formula: Formula | None = None,
    ) -> AtLevels:
        """All rows at one of the levels, and at the other.

        Parameters
        ----------
        names : of the columns of fixed effects; of_effects : of those of random effects, per level
        formula : whose offsets the rows have

        Raises
        ------
        DataError
            No row is at a level, or a column has no value there.
        """
        offsets = () if formula is None else formula.offsets
        key = (factor, levels, names, *of_effects, offsets)
        if key not in self._known:
            self._refuse_moving((*names, *(one for own in of_effects for one in own)))
            offset = (
                np.zeros(len(self.frame)) if formula is None else offset_of(formula, self.frame)
            )
            blocks = [
                columns_at(self.frame, own, factor, level)
                for own in (names, *of_effects)
                for level in levels
            ]
            self._known[key] = _alike(blocks, offset)
        return self._known[key]

    def _refuse_moving(self, names: Names) -> None:
        """Raise a DataError for columns that are others where a model has other rows."""
        for name in names:
            if self.has_others and name != "Intercept" and is_of_all_rows(name):
                raise DataError(
                    f"means are averaged over the rows of the design, but {name!r} changes with the"
                    " rows that a replicate has; write it without functions of all rows"
                )


def columns_at(frame: pd.DataFrame, names: Names, factor: str, level: str) -> Floats:
    """The columns with these names, (n_rows, n_names), with all rows at a level of a factor.

    Raises
    ------
    DataError
        No row is at the level, or a column makes something of the factor and of other columns.
    """
    is_there = frame[factor].astype(str).to_numpy() == level
    if not is_there.any():
        raise DataError(f"no observation has {factor} {level!r}, which is to be compared")
    found = np.ones((len(frame), len(names)))
    for j, name in enumerate(names):
        for piece in read_column(name):
            used, values = set(variables(piece.base)), column(frame, str(piece))
            if factor in used and len(used) > 1:
                raise DataError(
                    f"{str(piece)!r} makes something of {factor!r} and of other columns, which is"
                    f" unknown at other levels of {factor!r}; write their product with ':'"
                )
            found[:, j] *= values[np.argmax(is_there)] if factor in used else values
    return found


def involves(name: str, factor: str) -> bool:
    """Whether a column is made of a factor."""
    return any(factor in variables(piece.base) for piece in read_column(name))


def _alike(blocks: Sequence[Floats], offset: Floats) -> AtLevels:
    """Rows with the same columns as one, from blocks that are two by two of one kind."""
    rows = np.column_stack([*blocks, offset])
    distinct, n_rows = np.unique(rows, axis=0, return_counts=True)
    ends = np.cumsum([block.shape[1] for block in blocks])
    pieces = np.split(distinct, ends, axis=1)
    X, *Z = (np.stack(pieces[i : i + 2]) for i in range(0, len(blocks), 2))
    return AtLevels(X, tuple(Z), pieces[-1][:, 0], n_rows / len(rows))
