"""Closed forms for balanced designs: what a simulation must agree with.

All innermost units (images) have the same columns Z, which are the random effects of every level,
and all units of a level hold as many of them: c_l. The mean squares of level l then estimate
M_l = sigma^2 (Z'Z)^-1 + sum of c_k Psi_k over the levels k from l inwards, are independent between
levels, and are Wishart matrices over their df. REML gives Psi_l = (M_l - M_(l+1)) / c_l wherever
those are positive definite, and least squares for the fixed effects.
Searle, Casella & McCulloch (1992), chapter 4. The boundary is left out of account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mcsim.design.columns import ModelColumns, RandomColumns
from mcsim.methods.inference.fixed_effects import Contrast
from mcsim.names import FIXED, SIGMA, Parameter
from mcsim.scenario.true_values import Truth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 1e-9  # of the length of a column: what rounding leaves


class Theory(NamedTuple):
    """SD of an estimator; df and power of the exact t test of a fixed effect; None where unknown.

    rejection : of the test with the method's own df
    """

    emp_se: float | None
    df: float | None = None
    rejection: float | None = None


@dataclass(frozen=True)
class Balanced:
    """A balanced design, levels outermost first.

    Z : (n_points, q); c : innermost units per unit; n_units : per level
    G : per level (n_units, q, p) fixed effects as coefficients of Z: what of the mean of a unit is
        not that of the unit above; residual : (n_innermost, n_points, p) of the fixed effects
    scale : (p,) of the fixed effects, which G and residual are in units of
    df : (n_levels + 1, q) of the mean squares, the last of the residuals
    """

    Z: Floats
    c: tuple[int, ...]
    G: tuple[Floats, ...]
    residual: Floats
    scale: Floats
    df: Floats


def balanced(columns: ModelColumns) -> Balanced | None:
    """The design of a model as the closed forms need it; None where they do not hold."""
    rows = _equal_units(columns.levels[-1].unit_of_row)
    Z = None if rows is None else _common_columns(columns.levels, rows)
    if rows is None or Z is None:
        return None
    units = [level.unit_of_row[rows[:, 0]] for level in columns.levels]
    counts = [np.bincount(unit) for unit in units]
    scale = np.abs(columns.X).max(axis=0)
    X = (columns.X / scale)[rows]
    B = np.linalg.pinv(Z) @ X
    G = _by_level(B, units)
    residual = X - Z @ B
    is_even = all(np.ptp(count) == 0 for count in counts)
    sizes = np.abs(Z).max(axis=0)[:, None]
    is_correlated = len(columns.levels[0].structures) < Z.shape[1]
    ranks = _ranks([sizes * one for one in G], residual, is_correlated=is_correlated)
    if not (is_even and ranks):
        return None
    n_units = [len(count) for count in counts]
    df = np.empty((len(n_units) + 1, Z.shape[1]))
    df[:-1] = np.diff(n_units, prepend=0)[:, None] - np.array(ranks[0])
    df[-1] = rows.size - n_units[-1] * Z.shape[1] - ranks[1]
    return Balanced(Z, tuple(int(count[0]) for count in counts), G, residual, scale, df)


def _equal_units(unit_of_row: Ints) -> Ints | None:
    """Rows of every innermost unit, (n_units, n_points), if all have as many."""
    counts = np.bincount(unit_of_row)
    if np.ptp(counts):
        return None
    return np.argsort(unit_of_row, kind="stable").reshape(len(counts), -1)


def _common_columns(levels: Sequence[RandomColumns], rows: Ints) -> Floats | None:
    """Z of every innermost unit, (n_points, q), if it is the same for all units and levels.

    The structure must be one matrix, or independent columns that are orthogonal.
    """
    first, Z = levels[0], levels[0].Z[rows[0]]
    is_same = all(
        level.names == first.names
        and level.structures == first.structures
        and np.array_equal(level.Z[rows], np.broadcast_to(Z, (*rows.shape, Z.shape[1])))
        for level in levels
    )
    lengths = np.linalg.norm(Z, axis=0)
    is_orthogonal = np.allclose(Z.T @ Z, np.diag(lengths**2), atol=TOLERANCE * lengths.min() ** 2)
    is_free = first.structures == (("general", Z.shape[1]),)
    is_diagonal = is_orthogonal and set(first.structures) == {("general", 1)}
    full_rank = np.linalg.matrix_rank(Z) == Z.shape[1]
    return Z if is_same and full_rank and (is_free or is_diagonal) else None


def _by_level(B: Floats, units: Sequence[Ints]) -> tuple[Floats, ...]:
    """What of the mean of every unit is not that of the unit above, per level (n_units, ...)."""
    found, above = [], np.zeros_like(B)
    for unit in units:
        own = np.zeros((int(unit.max()) + 1, *B.shape[1:]))
        np.add.at(own, unit, B)
        mean = (own / np.bincount(unit)[:, None, None])[unit]
        found.append((mean - above)[np.unique(unit, return_index=True)[1]])
        above = mean
    return tuple(found)


def _ranks(
    G: Sequence[Floats], residual: Floats, *, is_correlated: bool
) -> tuple[list[list[int]], int] | None:
    """Fixed effects per level and column of Z, and among the residuals, if least squares is best.

    No combination of the fixed effects may tie the strata together, nor may columns of Z whose
    effects are correlated have different fixed effects.
    """
    tolerance = TOLERANCE * len(residual)
    per_level, q = [], G[0].shape[1]
    for one in G:
        per_column = [int(np.linalg.matrix_rank(one[:, j], tol=tolerance)) for j in range(q)]
        together = np.linalg.matrix_rank(np.hstack([*np.swapaxes(one, 0, 1)]), tol=tolerance)
        if is_correlated and any(rank != together for rank in per_column):
            return None
        per_level.append(per_column)
    within = residual.reshape(-1, residual.shape[2])
    among_residuals = int(np.linalg.matrix_rank(within, tol=tolerance))
    n_found = sum(map(sum, per_level)) + among_residuals
    return (per_level, among_residuals) if n_found == residual.shape[2] else None


def closed_forms(
    columns: ModelColumns,
    contrasts: Sequence[Contrast],
    truth: Truth,
    constant_df: Mapping[str, Floats | None],
    alpha: float,
) -> dict[str, dict[Parameter, Theory]]:
    """By df method and parameter: what REML's estimates do in repeated studies.

    Empty where the design is not balanced, a level has no degrees of freedom (one image per
    animal), or the truth is not one of the model's.

    Parameters
    ----------
    constant_df : by df method (p,); None for one that gives the exact df of a balanced design
    """
    covariances = true_covariances(columns, truth)
    design = None if covariances is None else columns.once("balanced", balanced)
    if covariances is None or design is None or not (design.df > 0).all():
        return {}
    M = _mean_squares(design, covariances, truth.sigma)
    components = _components(columns, design, M, truth.sigma)
    tests = [
        (one, *_of_contrast(columns, design, M, one.L[0]))
        for one in contrasts
        if one.parameter.kind != "term"
    ]
    if not all(se > 0.0 for _, se, _ in tests):  # lost to rounding beside far larger variances
        return {}
    beta = true_coefficients(columns, truth)
    found = {}
    for name, own_df in constant_df.items():
        effects = {
            one.parameter: power_of(one.L[0] @ beta, se, df, own_df_of(own_df, one.L[0]), alpha)
            for one, se, df in tests
        }
        found[name] = effects | components
    return found


def own_df_of(df: Floats | None, c: Floats) -> float | None:
    """Df of a contrast where those of the coefficients are constants; None where they are not."""
    return None if df is None else float(df[c != 0.0].min())


def power_of(
    value: float, se: float, df: float | None, own_df: float | None, alpha: float
) -> Theory:
    """Power of the t test; the statistic has `df`, its quantile `own_df` unless that is None."""
    if df is None:
        return Theory(se)
    own_df = df if own_df is None else own_df
    is_normal = np.isinf(own_df)
    upper = 1.0 - alpha / 2.0
    quantile = float(special.ndtri(upper) if is_normal else special.stdtrit(own_df, upper))
    tails = special.nctdtr(df, abs(value) / se, [-quantile, quantile])
    below, above = np.nan_to_num(tails, nan=0.0)  # not a number where it underflows
    rejection = float(below + 1.0 - above)
    return Theory(se, df, rejection if np.isfinite(quantile) else None)


def true_coefficients(columns: ModelColumns, truth: Truth) -> Floats:
    """The true value of every column's coefficient."""
    return np.array([truth.fixed.get(Parameter.read(name, FIXED), 0.0) for name in columns.names])


def true_covariances(columns: ModelColumns, truth: Truth) -> list[Floats] | None:
    """True Psi per level of the model, None where the truth is not one of the model's."""
    names = {Parameter.read(name, FIXED) for name in columns.names}
    if any(value and one not in names for one, value in truth.fixed.items()):
        return None
    if truth.sds.keys() - {sd for level in columns.levels for sd in _sds(level)}:
        return None
    found = [_covariance(level, truth) for level in columns.levels]
    is_like_model = [
        len(level.structures) == 1 or np.array_equal(Psi, np.diag(np.diag(Psi)))
        for level, Psi in zip(columns.levels, found, strict=True)
    ]
    return found if all(is_like_model) else None


def _sds(level: RandomColumns) -> list[Parameter]:
    return [Parameter.of_level("sd", level.level, name) for name in level.names]


def _covariance(level: RandomColumns, truth: Truth) -> Floats:
    sds = np.array([truth.sds.get(sd, 0.0) for sd in _sds(level)])
    correlations = np.eye(len(sds))
    for i, first in enumerate(level.names):
        for j, second in enumerate(level.names[:i]):
            name = Parameter.of_level("correlation", level.level, first, second)
            correlations[i, j] = correlations[j, i] = truth.correlations.get(name, 0.0)
    return np.asarray(sds[:, None] * sds * correlations)


def _mean_squares(design: Balanced, covariances: Sequence[Floats], sigma: float) -> list[Floats]:
    """M of every level, outermost first, that of the residuals last."""
    M: list[Floats] = [np.asarray(sigma**2 * np.linalg.inv(design.Z.T @ design.Z))]
    for c, Psi in zip(reversed(design.c), reversed(covariances), strict=True):
        M.insert(0, M[0] + c * Psi)
    return M


def _components(
    columns: ModelColumns, design: Balanced, M: Sequence[Floats], sigma: float
) -> dict[Parameter, Theory]:
    """SD of the variance estimates: of a difference of two mean squares; and that of sigma."""
    spread = [2.0 * np.diag(one) ** 2 / df for one, df in zip(M, design.df, strict=True)]
    found = {}
    for depth, level in enumerate(columns.levels):
        sd = np.sqrt(spread[depth] + spread[depth + 1]) / design.c[depth]
        for name, value in zip(level.names, sd, strict=True):
            variance = Parameter.of_level("variance", level.level, name)
            found[variance] = Theory(float(value))
    found[SIGMA] = spread_of_sigma(sigma, design.df[-1, 0])
    return found


def spread_of_sigma(sigma: float, df: float) -> Theory:
    """SD of a chi variable."""
    half = df / 2.0
    mean = np.exp(special.gammaln(half + 0.5) - special.gammaln(half)) / np.sqrt(half)
    return Theory(float(sigma * np.sqrt(1.0 - mean**2)))


def _of_contrast(
    columns: ModelColumns, design: Balanced, M: Sequence[Floats], c: Floats
) -> tuple[float, float | None]:
    """SE of c'beta, and the df of its test where one mean square estimates it."""
    weights = np.linalg.solve(columns.X.T @ columns.X, c) * design.scale
    between = [one @ weights for one in design.G]  # weights of the rows, stratum by stratum
    within = design.residual @ weights
    ZZ = design.Z.T @ design.Z
    variance = (M[-1] @ ZZ)[0, 0] * np.sum(within**2)
    for c_level, one, own in zip(design.c, between, M, strict=False):
        variance += c_level * np.einsum("ui,ij,uj->", one, ZZ @ own @ ZZ, one)
    se = float(np.sqrt(max(0.0, variance)))
    sizes = [np.abs(one).max(axis=0) for one in between]
    negligible = TOLERANCE * max(np.abs(within).max(), *map(np.max, sizes))
    used = [number for number, one in enumerate(sizes) if one.max() > negligible]
    if np.abs(within).max() > negligible:
        return se, None if used else float(design.df[-1, 0])
    if len(used) > 1:
        return se, None
    own_weights, used_columns = between[used[0]], sizes[used[0]] > negligible
    is_one = np.linalg.matrix_rank(own_weights, tol=1e-7 * np.linalg.norm(own_weights)) == 1
    is_matrix = len(columns.levels[0].structures) == 1
    has_df = is_one and (is_matrix or used_columns.sum() == 1)
    return se, float(design.df[used[0], used_columns][0]) if has_df else None
