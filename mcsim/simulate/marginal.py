"""The true value of a comparison of means: over the rows of a design and the random effects."""

import numpy as np

from mcsim.design.columns import Floats
from mcsim.design.population import Population
from mcsim.design.units import Design
from mcsim.engine.families.marginal import normal_means
from mcsim.names import ODDS_RATIO, RISK_DIFFERENCE
from mcsim.scenario.estimand import Comparison
from mcsim.scenario.families import link_of
from mcsim.scenario.truth import RandomSpec, TruthSpec


def true_comparison(compared: Comparison, design: Design, truth: TruthSpec) -> float | None:
    """The value of a comparison; None where effects are not normal, whose means are not known.

    Errors as of `Population.at`.
    """
    random = {level: one for level, one in truth.random.items() if any(_sds(one))}
    if any(one.distribution != "normal" for one in random.values()):
        return None
    population = Population(design.frame)
    levels = population.levels_of(compared.factor, compared.levels)
    of_effects = [one.columns for one in random.values()]
    at = population.at(compared.factor, levels, tuple(truth.fixed), of_effects)
    coefficients = np.array([*truth.fixed.values()], dtype=np.float64)
    link = link_of(truth.family, truth.link)
    means = []
    for side in (0, 1):
        variance = np.zeros(len(at.weights))
        for Z, one in zip(at.Z, random.values(), strict=True):
            variance += np.einsum("rq,qs,rs->r", Z[side], _covariance(one), Z[side])
        sd = np.sqrt(np.maximum(variance, 0.0))
        found = normal_means(link, at.X[side] @ coefficients, sd).mean
        means.append((1.0 - (truth.zero_inflation or 0.0)) * float(at.weights @ found))
    first, second = means
    if compared.kind == RISK_DIFFERENCE:
        return second - first
    if compared.kind == ODDS_RATIO:
        first, second = first / (1.0 - first), second / (1.0 - second)
    return second / first


def _sds(spec: RandomSpec) -> list[float]:
    return [spec.standard_deviations[name] for name in spec.columns]


def _covariance(spec: RandomSpec) -> Floats:
    sd = np.array(_sds(spec))
    correlation = [[spec.correlation_of(a, b) for b in spec.columns] for a in spec.columns]
    return np.asarray(sd[:, None] * np.array(correlation) * sd)
