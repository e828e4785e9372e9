"""A user's own table: the columns that a formula names, as numbers and factors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from mcsim.errors import DataError, FormulaError, nearest_name
from mcsim.formula import Formula, parse_formula


def read_frame(path: Path, formula: str) -> pd.DataFrame:
    """Columns of a CSV or Parquet file that a formula names: numbers as floats, text as factors.

    Raises
    ------
    DataError
        The file, a column or the formula cannot be used.
    """
    parsed = read_formula(formula)  # before the file, which may be large
    return complete_rows(_read(path), parsed, str(path))


def read_formula(formula: str) -> Formula:
    """The formula of a command line; a DataError where it cannot be read."""
    try:
        return parse_formula(formula)
    except FormulaError as error:
        raise DataError(f"--formula {formula!r}: {error}") from None


def _read(path: Path) -> pd.DataFrame:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: data come as .csv or .parquet, not {path.suffix!r}")
    try:
        return readers[path.suffix](path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def complete_rows(frame: pd.DataFrame, formula: Formula, path: str) -> pd.DataFrame:
    """Columns of the formula, numbers as floats, text as categories; `path` names the data."""
    used = [formula.response, *formula.names]
    for name in used:
        if name not in frame.columns:
            columns = ", ".join(map(str, frame.columns))
            near = nearest_name(name, map(str, frame.columns))
            raise DataError(f"{path} has no column {name!r}. It has: {columns}.{near}")
    frame = frame[list(dict.fromkeys(used))].copy()
    n_missing = int(frame.isna().any(axis=1).sum())
    if n_missing:
        raise DataError(f"{path}: {n_missing} rows lack a value; remove them or fill them in")
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = frame[name].astype(np.float64)
        elif isinstance(frame[name].dtype, pd.CategoricalDtype):  # whose order its maker chose
            frame[name] = frame[name].cat.remove_unused_categories().cat.rename_categories(str)
        else:
            text = frame[name].astype(str)
            frame[name] = pd.Categorical(text, categories=sorted(text.unique()))
    if not pd.api.types.is_float_dtype(frame[formula.response]):
        raise DataError(f"{path}: the response {formula.response!r} is text; it must be numbers")
    return frame
