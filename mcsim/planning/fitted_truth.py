"""Estimates of a fit to a user's table as a truth, with as many digits as it needs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcsim.design.columns import Floats, ModelColumns, model_columns
from mcsim.design.table import Table
from mcsim.errors import DataError
from mcsim.formula import read_arithmetic
from mcsim.formula.expression import Name
from mcsim.methods.inference.components import RandomNames
from mcsim.methods.one_file import FileFit
from mcsim.names import DISPERSION, FIXED, SIGMA, Parameter

DIGITS, MOST_DIGITS = 4, 17  # of an estimate that becomes a truth
LOST_SHARE = 0.01  # of the SD and the variance of a row, that fewer digits may cost

Values = Mapping[Parameter, float]


def fitted_truth(
    fit: FileFit, table: Table, lost: float, responses: dict[str, Any]
) -> dict[str, Any]:
    """The estimates; an offset is a fixed effect of 1, which the method knows.

    Parameters
    ----------
    responses : what makes them of predictors, without what is estimated
    """
    values: Values = {
        Parameter.read(one.parameter, one.component): one.estimate or 0.0 for one in fit.parameters
    }
    if not values.get(SIGMA, 1.0):
        raise DataError(f"{SIGMA} is 0: the data leave no residual variation")
    if not values.get(DISPERSION, 1.0):
        raise DataError("the counts vary no more than Poisson's do; use --family poisson")
    values = _rounded(values, model_columns(table.formula, table.frame))
    fixed = {one.name: value for one, value in values.items() if one.component == FIXED}
    random: dict[str, dict[str, Any]] = {}
    for one, value in values.items():
        if one.kind in ("sd", "correlation"):
            level = random.setdefault(str(one.level), {})
            level.setdefault(one.kind, {})[",".join(one.columns)] = value
    for text in table.formula.offsets:
        is_name = isinstance(read_arithmetic(text), Name)
        fixed[text if is_name else f"I({text})"] = 1.0
    missing = {"missing": {"observations": lost}} if lost else {}
    own = {one.name: values[one] for one in (SIGMA, DISPERSION) if one in values}
    return responses | own | {"fixed": fixed, "random": random} | missing


def _rounded(values: Values, columns: ModelColumns) -> Values:
    """The values with so many digits that the means and variances of the rows stay the same.

    Of covariates far from 0, such as years, effects and SDs of intercepts need more digits.
    """
    means, variances = _moments(values, columns)
    variance = variances + values.get(SIGMA, 1.0) ** 2  # of counts, on the scale of the link
    for digits in range(DIGITS, MOST_DIGITS):
        found = {one: float(f"{value:.{digits}g}") for one, value in values.items()}
        own_means, own_variances = _moments(found, columns)
        of_means = np.abs(own_means - means) / np.sqrt(variance)
        of_variances = np.abs(own_variances - variances) / variance
        if max(of_means.max(), of_variances.max()) <= LOST_SHARE:
            return found
    return values


def _moments(values: Values, columns: ModelColumns) -> tuple[Floats, Floats]:
    """Mean, and variance of the random effects, of every row: (n_rows,)."""
    own = [values.get(Parameter.read(name, FIXED), 0.0) for name in columns.names]
    variance = np.zeros(len(columns.X))
    for level in columns.levels:
        names = RandomNames(level.level, level.names, level.structures)
        sd = np.array([values.get(one, 0.0) for one in names.sds()])
        Psi = np.diag(sd**2)
        for i, j in names.correlated_pairs():
            Psi[i, j] = Psi[j, i] = values.get(names.correlation(i, j), 0.0) * sd[i] * sd[j]
        variance += np.einsum("ni,ij,nj->n", level.Z, Psi, level.Z)
    return columns.X @ np.array(own), variance
