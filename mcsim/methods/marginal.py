"""Levels of a factor compared by their mean responses, averaged over a population.

Every observation of the population is set to the one level and to the other, whatever else it has
(marginal standardisation); random effects are averaged over by their normal distribution, with the
variance that they have together in the observation. Standard errors are those of the delta method
in coefficients and covariance parameters, given the population; those of ratios, and their
intervals, go by the logarithm. Letters: beta coefficients, theta parameters of Lam, the factor of
the covariance of random effects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.design.population import AtLevels, Population, involves
from mcsim.engine.arithmetic.arrays import Flags
from mcsim.engine.arithmetic.replicates import apply, dot
from mcsim.engine.families.marginal import normal_means
from mcsim.methods.inference.df import DfMethod
from mcsim.methods.inference.fixed_effects import ParameterBlock, t_test
from mcsim.methods.method import Floats, MethodSettings
from mcsim.names import ODDS_RATIO, RISK_DIFFERENCE, Parameter
from mcsim.scenario.estimators import facts_of
from mcsim.scenario.families import FAMILIES_OF


@dataclass(frozen=True)
class Effects:
    """Random effects of n fits, and what is known of them.

    factors, slopes : Lam per level (n, q, q), and its derivatives in theta (n, n_theta, q, q)
    covariance : (n, n_theta, n_theta) of theta; with_beta : (n, n_theta, p)
    """

    factors: Sequence[Floats]
    slopes: Sequence[Floats]
    covariance: Floats
    with_beta: Floats


class Found(NamedTuple):
    """Differences, or logs of ratios, of n fits (n,), and their slopes in beta and theta."""

    value: Floats
    in_beta: Floats
    in_theta: Floats


@dataclass(frozen=True)
class Compared:
    """Two levels of a factor, ready to be compared by fits of a model.

    is_of_factor : (p,) fixed effects that the factor is part of
    """

    parameter: Parameter
    link: str
    at: AtLevels
    is_of_factor: Flags

    def of_fits(self, beta: Floats, effects: Effects | None = None) -> Found:
        """What fits with these coefficients (n, p) say."""
        n, p = beta.shape
        n_theta = 0 if effects is None else effects.covariance.shape[1]
        found = Found(np.full(n, np.nan), np.full((n, p), np.nan), np.full((n, n_theta), np.nan))
        for row in np.flatnonzero(
            np.isfinite(beta).all(axis=1)
        ).tolist():  # each alone: the same bits
            value, g, h = self._of_fit(beta[row], effects, row)
            if np.isfinite([value, *g, *h]).all():
                found.value[row], found.in_beta[row], found.in_theta[row] = value, g, h
        return found

    def block(
        self, found: Found, df_method: DfMethod, confidence: float, effects: Effects | None = None
    ) -> ParameterBlock:
        """Estimates with their tests, whose df are those of the factor."""
        value, g, h = found
        variance = dot(g, apply(df_method.covariance, g))
        if effects is not None and h.shape[1]:
            of_theta = apply(effects.covariance, h) + 2.0 * apply(effects.with_beta, g)
            variance = variance + dot(h, of_theta)
        std_error = np.sqrt(np.where(variance < 0.0, np.nan, variance))
        df = np.min([df_method.of_contrast(c) for c in self._contrasts()], axis=0)
        lower, upper, p_value = t_test(value, std_error, df, confidence)
        reported = np.where(np.isfinite(df), df, np.nan)
        if self.parameter.kind != RISK_DIFFERENCE:
            with np.errstate(over="ignore"):
                value, lower, upper = np.exp(value), np.exp(lower), np.exp(upper)
            std_error = value * std_error
        return ParameterBlock(self.parameter, value, std_error, reported, lower, upper, p_value)

    def _contrasts(self) -> Floats:
        """Those of the factor, one each; of all effects where it is part of random ones alone."""
        unit = np.eye(len(self.is_of_factor))
        return unit[self.is_of_factor] if self.is_of_factor.any() else unit

    def _of_fit(
        self, beta: Floats, effects: Effects | None, row: int
    ) -> tuple[float, Floats, Floats]:
        """The difference, or the log of the ratio, and its slopes in beta and theta."""
        found = [self._mean(side, beta, effects, row) for side in (0, 1)]
        (first, g0, h0), (second, g1, h1) = found
        if self.parameter.kind == RISK_DIFFERENCE:
            return second - first, g1 - g0, h1 - h0
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.parameter.kind == ODDS_RATIO:
                log = np.log(second) - np.log1p(-second) - np.log(first) + np.log1p(-first)
                per = 1.0 / (first * (1.0 - first)), 1.0 / (second * (1.0 - second))
            else:
                log, per = np.log(second) - np.log(first), (1.0 / first, 1.0 / second)
            return float(log), per[1] * g1 - per[0] * g0, per[1] * h1 - per[0] * h0

    def _mean(
        self, side: int, beta: Floats, effects: Effects | None, row: int
    ) -> tuple[float, Floats, Floats]:
        """The mean with all at a level, and its slopes in beta and theta."""
        at = self.at
        eta = np.einsum("rp,p->r", at.X[side], beta) + at.offset
        sd, of_sd = _sds(at, side, effects, row)
        mean, in_eta, in_sd = normal_means(self.link, eta, sd)
        in_beta = np.einsum("r,r,rp->p", at.weights, in_eta, at.X[side])
        in_theta = np.einsum("r,r,rk->k", at.weights, in_sd, of_sd)
        return float((at.weights * mean).sum()), in_beta, in_theta


def _sds(at: AtLevels, side: int, effects: Effects | None, row: int) -> tuple[Floats, Floats]:
    """SDs (n,) of the random effects of observations together, and their slopes (n, n_theta)."""
    if effects is None:
        return np.zeros(len(at.weights)), np.zeros((len(at.weights), 0))
    variance = np.zeros(len(at.weights))
    slopes = np.zeros((len(variance), effects.covariance.shape[1]))  # half those of the variance
    for Z, factor, slope in zip(at.Z, effects.factors, effects.slopes, strict=True):
        own = np.einsum("rq,qs->rs", Z[side], factor[row])
        variance += (own * own).sum(axis=1)
        slopes += np.einsum("rq,kqs,rs->rk", Z[side], slope[row], own)
    sd = np.sqrt(variance)
    return sd, slopes / np.where(sd > 0.0, sd, 1.0)[:, None]


def comparisons(columns: ModelColumns, settings: MethodSettings) -> list[Compared]:
    """The comparisons asked for that a model of counts or proportions can make.

    Left out where the model lacks the factor, or is of another family.

    Raises
    ------
    DataError
        A column of the model has no value at another level of the factor.
    """
    facts, model = facts_of(settings.estimator), settings.family
    if model is None or not facts.has_means or not columns.names:
        return []
    has_effects = settings.estimator == "laplace"
    of_effects = tuple(level.names for level in columns.levels) if has_effects else ()
    population = settings.population or Population(columns.frame)
    found = []
    for one in settings.estimands:
        asked = one.comparison
        if asked is None or model.family not in FAMILIES_OF[asked.kind]:
            continue
        all_names = (*columns.names, *(name for own in of_effects for name in own))
        if not any(involves(name, asked.factor) for name in all_names):
            continue
        levels = population.levels_of(asked.factor, asked.levels)
        at = population.at(asked.factor, levels, columns.names, of_effects, columns.formula)
        is_own = np.array([involves(name, asked.factor) for name in columns.names])
        found.append(Compared(Parameter.read(one.name, asked.kind), model.link, at, is_own))
    return found
