"""Counts and proportions of a user's table: what cannot be one, and where it stands."""

import numpy as np

from mcsim.design.table import Table
from mcsim.errors import DataError
from mcsim.formula import written_name
from mcsim.methods.method import Floats
from mcsim.scenario.families import FamilyModel


def counts_of(table: Table, model: FamilyModel) -> Floats:
    """The response of every row, which must be one of the family: (n_rows,).

    Raises
    ------
    DataError
        It is not, or there are fewer trials; names the row.
    """
    formula = table.formula
    if formula.measured != written_name(formula.response):
        raise DataError(
            f"family {model.family!r} is of the response as it is, not of {formula.measured}; write"
            f" {written_name(formula.response)} ~ ..."
        )
    y, name = table.frame[formula.response].to_numpy(dtype=np.float64), formula.response
    is_whole = (y >= 0.0) & (y % 1.0 == 0.0)
    if model.family != "binomial":
        _refuse(table, name, ~is_whole, f"family {model.family!r} takes whole numbers from 0 up")
        return y
    has_none = not isinstance(model.trials, str) and model.trials == 1.0
    if np.all((y >= 0.0) & (y <= 1.0)):
        rule = (
            "the response is the number of successes, not their share: give its column, and name"
            " that of the trials with --trials (`trials`)"
        )
        _refuse(table, name, ~is_whole, rule)
    trials = np.full(len(y), model.trials) if not isinstance(model.trials, str) else None
    if trials is None:
        trials = table.frame[str(model.trials)].to_numpy(dtype=np.float64)
        is_number = (trials >= 1.0) & (trials % 1.0 == 0.0)
        _refuse(table, str(model.trials), ~is_number, "trials are whole numbers from 1 up")
    _refuse(table, name, ~is_whole, "successes are whole numbers from 0 up")
    more = f"; these are {model.trials!r}" if isinstance(model.trials, str) else (
        "; a row has one unless --trials (`trials`) names their column" * has_none)  # fmt: skip
    _refuse(table, name, y > trials, f"there can be no more successes than trials{more}")
    return y


def _refuse(table: Table, name: str, is_wrong: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
            rule: str) -> None:  # fmt: skip
    """Raise a DataError for the first row that is wrong."""
    for row in np.flatnonzero(is_wrong).tolist():
        value = table.frame[name].iloc[row]
        raise DataError(f"{table.places[row]}: {name!r} is {value:g}; {rule}")
