"""Degrees of freedom for tests of fixed effects, one way per class.

Knows arrays only. Letters: C covariance of beta, c a contrast, L rows of contrasts that are tested
together, W covariance of the covariance parameters, dC_r the derivative of C in one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.arithmetic.replicates import (
    apply,
    dot,
    inverse_positive,
    product,
    symmetric_eigen,
    transpose,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EQUAL = 1e-8  # df of several contrasts that are one number


class DfMethod(Protocol):
    """What tests and intervals ask of a df method; n_replicates = n."""

    @property
    def covariance(self) -> Floats:
        """Covariance of beta that the standard errors come from: (n, p, p)."""
        ...

    def of_contrast(self, c: Floats) -> Floats:
        """Degrees of freedom of c'beta, c (p,): (n,), infinite for the normal distribution."""
        ...

    def of_term(self, L: Floats) -> tuple[Floats, Floats]:
        """Denominator df of the F test of L beta = 0, L (rows, p), and what F is multiplied by."""
        ...


@dataclass(frozen=True)
class ConstantDf:
    """Df that the design alone gives, one per coefficient; a contrast has the smallest.

    df : (p,), or (n, p) where every replicate has its own design
    """

    covariance: Floats
    df: Floats

    def of_contrast(self, c: Floats) -> Floats:
        """The smallest of the coefficients' df, NaN if one has none."""
        return np.full(len(self.covariance), self.df[..., c != 0.0].min(axis=-1))

    def of_term(self, L: Floats) -> tuple[Floats, Floats]:
        """The same; F as it is."""
        return self.of_contrast(np.abs(L).sum(axis=0)), np.ones(len(self.covariance))


@dataclass(frozen=True)
class Sensitivity:
    """How the model's covariance of beta, in any unit, depends on the covariance parameters.

    basis : (p, p) or (n, p, p) a contrast c of beta is c'basis in the coordinates of what follows
    C : (n, p, p); slopes : (n, n_parameters, p, p) its derivatives
    """

    basis: Floats
    C: Floats
    slopes: Floats

    def rows(self, L: Floats) -> Floats:
        """Contrasts L (rows, p) in these coordinates: (n, rows, p)."""
        return np.array(np.broadcast_to(L @ self.basis, (len(self.C), *L.shape)))


@dataclass(frozen=True)
class Satterthwaite:
    """2 (c'Cc)^2 / var(c'Cc), the variance by the delta method.

    Satterthwaite (1946); terms of several columns as Fai & Cornelius (1996), method 1.
    W : (n, n_parameters, n_parameters) covariance of the covariance parameters
    """

    covariance: Floats
    sensitivity: Sensitivity
    W: Floats

    def of_contrast(self, c: Floats) -> Floats:
        """Degrees of freedom of one contrast."""
        return self._of(c @ self.sensitivity.basis)

    def _of(self, c: Floats) -> Floats:
        variance, g = quadratic(c, self.sensitivity.C), quadratic(c, self.sensitivity.slopes)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(2.0 * variance**2 / dot(g, apply(self.W, g)))

    def of_term(self, L: Floats) -> tuple[Floats, Floats]:
        """From the df of the uncorrelated contrasts that the term falls apart into."""
        n, size = len(self.W), len(L)
        rows = self.sensitivity.rows(L)
        _, vectors = symmetric_eigen(product(product(rows, self.sensitivity.C), transpose(rows)))
        contrasts = product(transpose(vectors), rows)
        df = np.stack([self._of(contrasts[:, m]) for m in range(size)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(df > 2.0, df / (df - 2.0), 0.0).sum(axis=1)
            joint = 2.0 * expected / (expected - size)
        joint = np.where(np.all(df > 2.0, axis=1), joint, 2.0)
        is_one_number = np.ptp(df, axis=1) < EQUAL * df.min(axis=1)
        joint = np.where(is_one_number, df.mean(axis=1), joint)
        return np.where(np.isfinite(df).all(axis=1), joint, np.nan), np.ones(n)


@dataclass(frozen=True)
class KenwardRoger:
    """Kenward & Roger (1997): standard errors adjusted for small samples, scaled F, and their df.

    covariance : adjusted; W : inverse expected information
    """

    covariance: Floats
    sensitivity: Sensitivity
    W: Floats

    def of_contrast(self, c: Floats) -> Floats:
        """With one row, their df are those of Satterthwaite with the expected information."""
        return Satterthwaite(self.covariance, self.sensitivity, self.W).of_contrast(c)

    def of_term(self, L: Floats) -> tuple[Floats, Floats]:
        """Denominator df and scale of F, by the moments of the scaled statistic."""
        n, size = len(self.W), float(len(L))
        C, slopes = self.sensitivity.C, self.sensitivity.slopes
        rows = self.sensitivity.rows(L)
        middle = inverse_positive(product(product(rows, C), transpose(rows)))
        Theta = product(product(transpose(rows), middle), rows)
        turned = [product(Theta, slopes[:, r]) for r in range(slopes.shape[1])]
        traces = np.stack([_trace(one) for one in turned], axis=1)
        A1 = dot(traces, apply(self.W, traces))
        A2 = np.zeros(n)
        for r, first in enumerate(turned):
            for s, second in enumerate(turned):
                A2 += self.W[:, r, s] * _trace(product(first, second))
        with np.errstate(divide="ignore", invalid="ignore"):
            B = (A1 + 6.0 * A2) / (2.0 * size)
            g = ((size + 1.0) * A1 - (size + 4.0) * A2) / ((size + 2.0) * A2)
            divisor = 3.0 * size + 2.0 * (1.0 - g)
            c1, c2, c3 = g / divisor, (size - g) / divisor, (size + 2.0 - g) / divisor
            mean = 1.0 / (1.0 - A2 / size)
            variance = (2.0 / size) * (1.0 + c1 * B) / ((1.0 - c2 * B) ** 2 * (1.0 - c3 * B))
            rho = variance / (2.0 * mean**2)
            df = 4.0 + (size + 2.0) / (size * rho - 1.0)
            return df, df / (mean * (df - 2.0))


def quadratic(c: Floats, S: Floats) -> Floats:
    """Value c'Sc for symmetric S (n, ..., p, p): (n, ...); c is (p,), or (n, p)."""
    total = np.zeros(S.shape[:-2])
    for i in range(S.shape[-1]):
        for j in range(i + 1):
            weight = np.asarray((1.0 if i == j else 2.0) * c[..., i] * c[..., j])
            if np.any(weight):
                total += weight.reshape(-1, *[1] * (total.ndim - 1)) * S[..., i, j]
    return total


def _trace(P: Floats) -> Floats:
    total = np.zeros(len(P))
    for i in range(P.shape[1]):
        total += P[:, i, i]
    return total


def containment_df(
    stratum: Ints, sizes: Ints, term_of_column: Sequence[int], is_intercept: Sequence[bool]
) -> Floats:
    """Degrees of freedom (n, p) of every fixed effect by nlme's inner-outer rule, n designs.

    A term is estimated at the outermost level within whose units all its columns are constant, or
    among the rows. That stratum has m_l - m_(l-1) - p_l df, with m units there, m_0 = 1 with an
    intercept, and p columns estimated there; the intercept takes the df of the rows. Without an
    intercept nlme adds 1 to all strata but the outermost, and so does this. NaN where nothing is
    left. Source: Pinheiro & Bates (2000), section 2.4.2.

    Parameters
    ----------
    stratum : (n, p) as of `stratum_of`; sizes : (n, L + 1) units of the levels, and rows
    """
    (n, _p), innermost = stratum.shape, sizes.shape[1]
    stratum, is_one = stratum.copy(), np.array(is_intercept, dtype=bool)
    sizes = np.column_stack([np.full(n, int(is_one.any())), sizes])
    for term in set(term_of_column):
        columns = [j for j, number in enumerate(term_of_column) if number == term]
        stratum[:, columns] = stratum[:, columns].max(axis=1, keepdims=True)
    df = np.zeros((n, innermost + 1))
    for level in range(1, innermost + 1):
        estimated = np.count_nonzero((stratum == level) & ~is_one, axis=1)
        df[:, level] = sizes[:, level] - sizes[:, level - 1] - estimated
    df[:, 2:] += not is_one.any()
    stratum[:, is_one] = innermost
    found = np.take_along_axis(df, stratum, axis=1)
    return np.where(found > 0, found, np.nan)


def stratum_of(values: Floats, units: Sequence[Ints]) -> int:
    """1 .. L for the outermost level within whose units the column is constant, else L + 1.

    Parameters
    ----------
    units : unit of every row, outermost level first
    """
    for level, unit in enumerate(units, start=1):
        first = np.zeros(int(unit.max()) + 1)
        first[unit] = values
        if np.array_equal(first[unit], values):
            return level
    return len(units) + 1
