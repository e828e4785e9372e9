"""The likelihood by its n x n definition: slow, short, and shares nothing with the elimination.

A guard for single fits; what studies are checked against stands in the tests.
"""

import numpy as np
import scipy  # loads its parts where they are used

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.blocks import n_parameters
from mcsim.engine.compile import CompiledDesign, Level
from mcsim.engine.crossed.crossing import Crossing
from mcsim.engine.fit import Fit
from mcsim.errors import LikelihoodError

MAX_ROWS = 2000  # an n x n factor takes about a second
TOLERANCE = 1e-6  # relative; wrong likelihoods were off by far more
ROUNDING = 1e-15  # of the definition, times rows and the condition of V


def check_against_dense(
    design: CompiledDesign, X: Floats, levels: tuple[Level, ...], y: Floats, fit: Fit
) -> None:
    """Compare the log-likelihood of a fit of one response with its definition.

    Parameters
    ----------
    X, levels, y : what `design` was compiled of, and the response (n_rows,)

    Raises
    ------
    LikelihoodError
        They differ by more than rounding.
    """
    found = float(fit.loglik[0])
    if len(y) > MAX_ROWS or not np.isfinite(found):
        return
    V = _covariance(design, levels, fit)
    try:
        factor = scipy.linalg.cho_factor(V, lower=True)
    except np.linalg.LinAlgError:  # rounding of the definition is larger than sigma^2
        return
    residual = y - X @ fit.coefficients[0]
    pivots = np.diag(factor[0])
    nu = design.nu
    deviance = 2.0 * np.sum(np.log(pivots)) + residual @ scipy.linalg.cho_solve(factor, residual)
    deviance += nu * np.log(2.0 * np.pi)
    if design.is_reml:
        Q, R = np.linalg.qr(X)  # columns may be far from 0, and almost the same
        deviance += np.linalg.slogdet(Q.T @ scipy.linalg.cho_solve(factor, Q))[1]
        deviance += 2.0 * np.sum(np.log(np.abs(np.diag(R))))
    expected = float(-0.5 * deviance)
    condition = float((pivots.max() / pivots.min()) ** 2)
    allowed = max(1.0, abs(expected)) * (TOLERANCE + ROUNDING * len(y) * condition)
    if not abs(found - expected) <= allowed:
        raise LikelihoodError(found, expected)


def _covariance(design: CompiledDesign, levels: tuple[Level, ...], fit: Fit) -> Floats:
    """V = sum Z Sigma Z' + sigma^2 R: (n_rows, n_rows)."""
    n = design.n_rows
    V = np.asarray(fit.scale[0] * _residual_covariance(design, fit))
    inside = np.ones((n, n), dtype=bool)
    covariances = iter(fit.covariances)
    for level in levels:
        together = level.unit_of_row[:, None] == level.unit_of_row
        inside = together if isinstance(design.tree, Crossing) else inside & together
        if level.Z.shape[1]:
            V += np.where(inside, level.Z @ next(covariances)[0] @ level.Z.T, 0.0)
    return V


def _residual_covariance(design: CompiledDesign, fit: Fit) -> Floats:
    """R, the rows as the design was given."""
    R = np.eye(design.n_rows)
    if design.residual is None:
        return R
    structure, units = design.residual.structure, design.residual.units
    weights = structure.weights(fit.curvature.theta[:1, n_parameters(design.blocks) :])[0]
    row_start = units.start.astype(np.int64)
    for unit, leaf in enumerate(units.class_of_unit.astype(np.int64)):
        own = slice(row_start[unit], row_start[unit + 1])
        stratum = units.stratum[own].astype(np.int64)
        products = structure.products(np.eye(len(stratum)), stratum)
        group = design.residual.whitening.group[leaf]
        rows = design.order[own]
        inverse = np.einsum("m,mij->ij", weights[:, group], np.array(products))
        R[np.ix_(rows, rows)] = np.linalg.inv(inverse)
    return R
