"""Closed forms where units cross and the design is balanced: least squares, and mean squares.

Least squares are then REML's estimates of the fixed effects, whatever the variances. Where their
variance is a sum of several mean squares, a1 M1 + a2 M2 + ..., the test has no exact df; those of
Satterthwaite are (a1 M1 + a2 M2 + ...)^2 / (a1^2 M1^2 / df1 + ...), here from the expected
information, which says the same. Where every level has a mean square of its own, the estimates of
variances are differences of these. The boundary is left out of account.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mcsim.design.columns import ModelColumns, RandomColumns
from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.blocks import block_of, set_block
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.crossed.crossing import Crossing
from mcsim.engine.crossed.sums import CrossedReduction
from mcsim.engine.fit import factor_slopes, weighted
from mcsim.engine.information import Expected, expected_information
from mcsim.engine.optimum.minque import plain_start
from mcsim.methods.inference.df import Satterthwaite, Sensitivity
from mcsim.methods.inference.fixed_effects import Contrast
from mcsim.methods.inference.theory import (
    TOLERANCE,
    Theory,
    own_df_of,
    power_of,
    spread_of_sigma,
    true_coefficients,
    true_covariances,
)
from mcsim.names import SIGMA, Parameter
from mcsim.scenario.true_values import Truth


def crossed_forms(
    columns: ModelColumns,
    design: CompiledDesign,
    contrasts: Sequence[Contrast],
    truth: Truth,
    constant_df: Mapping[str, Floats | None],
    alpha: float,
) -> dict[str, dict[Parameter, Theory]]:
    """By df method and parameter: what REML's estimates do in repeated studies.

    Empty where the design is not balanced, or the truth is not one of the model's.

    Parameters
    ----------
    constant_df : by df method (p,); None for one that estimates Satterthwaite's df
    """
    covariances = true_covariances(columns, truth)
    if covariances is None or not truth.sigma > 0.0 or not design.blocks.is_matrix.all():
        return {}
    if not columns.once("least squares are best", least_squares_are_best):
        return {}
    theta, order = _point(design, [one / truth.sigma**2 for one in covariances])
    told = expected_information(design, theta, order)
    if not np.isfinite(told.W).all():
        return {}
    to_given = np.linalg.inv(design.R).astype(np.float64)
    C = truth.sigma**2 * (to_given @ told.T_inverse @ to_given.T)
    rule = Satterthwaite(C, Sensitivity(to_given, told.T_inverse, told.slopes), told.W)
    tests = [
        (one, float(np.sqrt(one.L[0] @ C[0] @ one.L[0])), float(rule.of_contrast(one.L[0])[0]))
        for one in contrasts
        if one.parameter.kind != "term"
    ]
    components = _components(columns, design, told, theta, order, truth.sigma)
    beta, found = true_coefficients(columns, truth), {}
    for name, own_df in constant_df.items():
        effects = {
            one.parameter: power_of(one.L[0] @ beta, se, df, own_df_of(own_df, one.L[0]), alpha)
            for one, se, df in tests
        }
        found[name] = effects | components
    return found


def least_squares_are_best(columns: ModelColumns) -> bool:
    """Whether V X stays among the combinations of X, whatever the covariances."""
    Q = np.linalg.qr(columns.X)[0]
    for level in columns.levels:
        unit, Z = level.unit_of_row, level.Z
        sums = np.zeros((int(unit.max()) + 1, Z.shape[1], Q.shape[1]))
        np.add.at(sums, unit, Z[:, :, None] * Q[:, None, :])
        for i, j in _pairs(level):
            VX = Z[:, i, None] * sums[unit, j] + Z[:, j, None] * sums[unit, i]
            if np.linalg.norm(VX - Q @ (Q.T @ VX)) > TOLERANCE * np.linalg.norm(VX):
                return False
    return True


def _pairs(level: RandomColumns) -> list[tuple[int, int]]:
    """Columns that a parameter stands between."""
    found, first = [], 0
    for _, size in level.structures:
        own = range(first, first + size)
        found += [(i, j) for i in own for j in own if j <= i]
        first += size
    return found


def _point(design: CompiledDesign, relative: Sequence[Floats]) -> tuple[Floats, Ints]:
    """Theta and order of the covariances of the random effects, in units of sigma^2."""
    blocks = design.blocks
    theta, order = plain_start(blocks, 1)
    Psi = np.zeros((1, len(relative), *blocks.Q.shape[1:]))
    for level, (own, S) in enumerate(zip(relative[::-1], design.scales[::-1], strict=True)):
        inverse, q = np.linalg.inv(S), len(S)
        Psi[0, level, :q, :q] = inverse @ own @ inverse.T
    for b in range(len(blocks.size)):
        set_block(blocks, order, theta, b, block_of(blocks, b, Psi))
    return theta, order


def _components(
    columns: ModelColumns,
    design: CompiledDesign,
    told: Expected,
    theta: Floats,
    order: Ints,
    sigma: float,
) -> dict[Parameter, Theory]:
    """SD of the variance estimates and of sigma; none where mean squares are shared."""
    tree, reduction = design.tree, design.reduction
    assert isinstance(tree, Crossing)
    assert isinstance(reduction, CrossedReduction)
    has_own = len(reduction.strata) == len(columns.levels) == tree.block_unit[1]
    if not has_own or any(len(level.structures) > 1 for level in columns.levels):
        return {}
    found: dict[Parameter, Theory] = {}
    slopes = factor_slopes(design, order)
    for level, change in zip(columns.levels, slopes, strict=True):
        Lam = weighted(change, told.theta)
        for i, name in enumerate(level.names):
            g = 2.0 * np.einsum("tk,k->t", change[0, :, i], Lam[0, i])
            g = sigma**2 * np.append(g, Lam[0, i] @ Lam[0, i])
            variance = Parameter.of_level("variance", level.level, name)
            found[variance] = Theory(float(np.sqrt(g @ told.W[0] @ g)))
    found[SIGMA] = spread_of_sigma(sigma, 2.0 / told.W[0, -1, -1])
    return found
