"""The rows of a model's residuals: units, order and strata, as the engine needs them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns
from mcsim.design.positions import positions
from mcsim.engine.residuals.kinds import KINDS
from mcsim.engine.residuals.structure import ResidualRows
from mcsim.errors import DataError, nearest_name
from mcsim.names import RESIDUAL, Parameter
from mcsim.scenario.residuals import ResidualModel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ResidualColumns:
    """What a model says of its residuals in a data frame.

    unit_of_row : (n_rows,) units within which they are correlated, None for strata
    is_own_level : whether these units have no random effects
    """

    rows: ResidualRows
    unit_of_row: Ints | None
    is_own_level: bool


def residual_parameters(model: ResidualModel | None, frame: pd.DataFrame) -> tuple[Parameter, ...]:
    """Parameters of the residuals beside sigma."""
    if model is None:
        return ()
    if model.correlation is not None:
        names = KINDS[model.correlation].parameters
        return tuple(Parameter.read(name, RESIDUAL) for name in names)
    assert model.by is not None
    _, levels = _strata(model.by, frame)
    return tuple(Parameter.sd_ratio(model.by, level) for level in levels[1:])


def residual_columns(model: ResidualModel, columns: ModelColumns) -> ResidualColumns:
    """Units, order and strata of the residuals.

    Raises
    ------
    DataError
        The data lack a column, or cannot tell the parameters.
    """
    own = {one.name for one in residual_parameters(model, columns.frame)}
    clash = own & set(columns.names)
    if clash:
        raise DataError(
            f"the fixed effect {clash.pop()!r} has the name of a parameter of the residuals; give"
            " the covariate another name"
        )
    if model.by is not None:
        stratum, _ = _strata(model.by, columns.frame)
        return ResidualColumns(ResidualRows("strata", stratum=stratum), None, False)
    assert model.correlation is not None
    unit, is_own_level = _units(model, columns)
    sizes = np.bincount(unit)
    if sizes.max() == 1:
        raise DataError(
            f"no two observations share a unit, so residual = {model.correlation!r} has nothing to"
            " estimate; leave it out"
        )
    along = None
    if model.along is not None:
        along = positions(_numbers(model.along, columns.frame), unit)
    has_one = KINDS[model.correlation].is_even or (sizes.max() == 2 and _is_one_step(along, unit))
    if has_one and not is_own_level:
        _refuse_intercepts(columns, unit)
    return ResidualColumns(ResidualRows(model.correlation, along), unit, is_own_level)


def _units(model: ResidualModel, columns: ModelColumns) -> tuple[Ints, bool]:
    """Units of the correlation, and whether the formula has no random effects for them."""
    innermost = columns.levels[-1] if columns.levels else None
    if model.within is None:
        if innermost is None:
            raise DataError(
                "the formula has no grouping, so say within which units the residuals are"
                f' correlated: residual = {{ correlation = "{model.correlation}",'
                ' within = "image" }'
            )
        return innermost.unit_of_row, False
    labels = pd.factorize(_column(model.within, columns.frame))[0].astype(np.int64)
    if innermost is None:
        return labels, True
    pairs = np.column_stack([innermost.unit_of_row, labels])
    found = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    n_units, n_outer = int(found.max()) + 1, int(innermost.unit_of_row.max()) + 1
    if n_units > n_outer:
        return found, True
    if int(labels.max()) + 1 < n_outer and model.within != innermost.level:
        raise DataError(
            f"residuals are correlated within innermost units, those of {innermost.level!r} or"
            f" parts of them, and {model.within!r} holds several; use within ="
            f" {innermost.level!r}, or leave {innermost.level!r} out of the formula"
        )
    return innermost.unit_of_row, False


def _is_one_step(along: Ints | None, unit: Ints) -> bool:
    """Whether rows that follow each other in their units all have the same distance."""
    if along is None:
        return True
    order = np.lexsort((along, unit))
    return len(np.unique(np.diff(along[order])[np.diff(unit[order]) == 0])) == 1


def _refuse_intercepts(columns: ModelColumns, unit: Ints) -> None:
    """Refuse a random intercept beside a correlation that is the same for every pair."""
    level, first = columns.levels[-1], 0
    for structure, size in level.structures:
        Z = level.Z[:, first : first + size]
        first += size
        if structure == "general" and _spans_one(Z, unit):
            raise DataError(
                f"a random intercept of {level.level!r} and residuals with one correlation within"
                f" {level.level!r} are the same thing; leave one of them out"
            )


def _spans_one(Z: Floats, unit: Ints) -> bool:
    """Whether one combination of the columns is 1 in all rows."""
    left = np.ones(len(Z)) - Z @ np.linalg.lstsq(Z, np.ones(len(Z)))[0]
    return bool(np.abs(left).max() < 1e-8)


def _strata(name: str, frame: pd.DataFrame) -> tuple[Ints, list[str]]:
    """Numbers of the levels of a factor that occur, and their names; the first is the reference."""
    column = _column(name, frame)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        raise DataError(f"residual = 'by:{name}' needs a factor; {name!r} is a number")
    used = column.cat.remove_unused_categories()
    levels = [str(level) for level in used.cat.categories]
    if len(levels) < 2:
        raise DataError(
            f"residual = 'by:{name}' has one SD, since all observations have {name} ="
            f" {levels[0]!r}; leave it out"
        )
    return used.cat.codes.to_numpy().astype(np.int64), levels


def _numbers(name: str, frame: pd.DataFrame) -> Floats:
    column = _column(name, frame)
    if isinstance(column.dtype, pd.CategoricalDtype):
        raise DataError(f"residual: `along` needs a covariate to order by; {name!r} is a factor")
    return np.asarray(column, dtype=np.float64)


def _column(name: str, frame: pd.DataFrame) -> "pd.Series[float]":
    if name not in frame.columns:
        raise DataError(
            f"residual names {name!r}, which is no column of the data. The data have:"
            f" {', '.join(map(str, frame.columns))}.{nearest_name(name, map(str, frame.columns))}"
        )
    return frame[name]
