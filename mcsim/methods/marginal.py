"""Levels of a factor compared by their mean responses, averaged over a population.

Every observation of the population is set to the one level and to the other, whatever else it has
(marginal standardisation); random effects are averaged over by their normal distribution, with the
variance that they have together in the observation. Standard errors are those of the delta method
in coefficients and covariance parameters, given the population; those of ratios, and their
intervals, go by the logarithm. Letters: beta coefficients, theta parameters of Lam, the factor of
the covariance of random effects.
"""

from collections.abc import Callable, Sequence
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


class Means(NamedTuple):
    """Means at either level of n fits (n, 2), and their slopes in beta (n, 2, p) and theta."""

    mean: Floats
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

    def block(
        self, means: Means, df_method: DfMethod, confidence: float, effects: Effects | None = None
    ) -> ParameterBlock:
        """Estimates with their tests, whose df are those of the factor."""
        with np.errstate(all="ignore"):  # of a fit that has failed, or whose means are 0 or 1
            value, per = self._on_scale(means.mean)
            g, h = (_difference(per, slopes) for slopes in means[1:])
            variance = dot(g, apply(df_method.covariance, g))
            if effects is not None and h.shape[1]:
                of_theta = apply(effects.covariance, h) + 2.0 * apply(effects.with_beta, g)
                variance = variance + dot(h, of_theta)
            std_error = np.sqrt(np.where(variance < 0.0, np.nan, variance))
            value = np.where(np.isfinite(value), value, np.nan)
            df = np.min([df_method.of_contrast(c) for c in self._contrasts()], axis=0)
            lower, upper, p_value = t_test(value, std_error, df, confidence)
            if self.parameter.kind != RISK_DIFFERENCE:
                value, lower, upper = np.exp(value), np.exp(lower), np.exp(upper)
                std_error = value * std_error
        reported = np.where(np.isfinite(df), df, np.nan)
        return ParameterBlock(self.parameter, value, std_error, reported, lower, upper, p_value)

    def _on_scale(self, mean: Floats) -> tuple[Floats, Floats]:
        """The difference, or the log of the ratio, and the slopes (n, 2) of what is subtracted."""
        if self.parameter.kind == RISK_DIFFERENCE:
            scaled, per = mean, np.ones_like(mean)
        elif self.parameter.kind == ODDS_RATIO:
            scaled, per = np.log(mean) - np.log1p(-mean), 1.0 / (mean * (1.0 - mean))
        else:
            scaled, per = np.log(mean), 1.0 / mean
        return scaled[:, 1] - scaled[:, 0], per

    def _contrasts(self) -> Floats:
        """Those of the factor, one each; of all effects where it is part of random ones alone."""
        unit = np.eye(len(self.is_of_factor))
        return unit[self.is_of_factor] if self.is_of_factor.any() else unit


def blocks_of(
    compared: Sequence[Compared], beta: Floats, effects: Effects | None = None
) -> Callable[[DfMethod, float], list[ParameterBlock]]:
    """Comparisons by fits with coefficients (n, p), given a df method and a confidence.

    Means are found once for all comparisons of the same levels, and all df methods.
    """
    each = {id(one.at): one for one in compared}  # which a population keeps one of
    known = {key: means_of(one, beta, effects) for key, one in each.items()}

    def blocks(df_method: DfMethod, confidence: float) -> list[ParameterBlock]:
        return [one.block(known[id(one.at)], df_method, confidence, effects) for one in compared]

    return blocks


def means_of(one: Compared, beta: Floats, effects: Effects | None) -> Means:
    """Means of fits, each alone, so that its bits do not depend on others; NaN of failed ones."""
    (n, p), n_theta = beta.shape, 0 if effects is None else effects.covariance.shape[1]
    found = Means(*(np.full((n, 2, *more), np.nan) for more in ((), (p,), (n_theta,))))
    at = one.at
    for row in np.flatnonzero(np.isfinite(beta).all(axis=1)).tolist():
        for side in (0, 1):
            eta = np.einsum("rp,p->r", at.X[side], beta[row]) + at.offset
            sd, of_sd = _sds(at, side, effects, row)
            mean, in_eta, in_sd = normal_means(one.link, eta, sd)
            found.mean[row, side] = (at.weights * mean).sum()
            found.in_beta[row, side] = np.einsum("r,rp->p", at.weights * in_eta, at.X[side])
            found.in_theta[row, side] = np.einsum("r,rk->k", at.weights * in_sd, of_sd)
    return found


def _difference(per: Floats, slopes: Floats) -> Floats:
    """The second less the first: (n, m) of slopes (n, 2, m), each times its own of (n, 2)."""
    return np.asarray(per[:, 1, None] * slopes[:, 1] - per[:, 0, None] * slopes[:, 0])


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
