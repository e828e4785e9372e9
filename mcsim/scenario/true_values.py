"""The true value of every parameter of a condition: asked here, and nowhere else.

What the truth of a scenario states, what follows from it, and what estimands are made of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mcsim.names import DISPERSION, FIXED, RESIDUAL, SIGMA, TOTAL, Parameter
from mcsim.scenario.estimand import Comparison, EstimandSpec
from mcsim.scenario.residuals import ResidualModel
from mcsim.scenario.truth import TruthSpec
from mcsim.scenario.values import RESIDUAL_CORRELATIONS

Value = TypeVar("Value", float, Any)  # a number, or an array of them


@dataclass(frozen=True)
class Truth:
    """True values of a condition.

    fixed, sds, correlations, residual : what is stated, correlations of effects that vary alone
    estimands : weights of the fixed effects by name, None of what is made of others
    comparisons : of means by name, whose true values depend on the rows of the design
    """

    fixed: Mapping[Parameter, float]
    sds: Mapping[Parameter, float]
    correlations: Mapping[Parameter, float]
    residual: Mapping[Parameter, float]
    estimands: Mapping[str, Mapping[Parameter, float] | None] = field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def sigma(self) -> float:
        """Standard deviation of the residuals, which normal responses have."""
        return self.residual[SIGMA]

    @property
    def parameters(self) -> list[Parameter]:
        """All that is stated, variances beside their SDs."""
        sds = [*self.sds, *(one.as_variance for one in self.sds)]
        return [*self.fixed, *sds, *self.correlations, *self.residual]

    def of(self, parameter: Parameter) -> float | None:
        """The true value of a parameter.

        0 for effects that the truth lacks; None for a test of a term, for a comparison of means,
        and for correlations and parameters of the residuals that the truth does not have.
        """
        if parameter.kind == "term" or parameter.name in self.comparisons:
            return None
        if weights := self.estimands.get(parameter.name):
            return math.fsum(self.fixed.get(one, 0.0) * weight for one, weight in weights.items())
        if parameter.is_derived:
            if parameter.kind == "icc" and SIGMA not in self.residual:
                return None
            return float(derived_value(parameter, {**self.sds, **self.residual}))
        if parameter.is_variance:
            return self.sds.get(parameter.as_sd, 0.0) ** 2
        stated = [self.fixed, self.sds, self.correlations, self.residual]
        if parameter.component == RESIDUAL:  # a covariate may have the same name
            stated = [self.residual]
        of_rows = ("correlation", "residual", "sigma", "dispersion")
        missing = None if parameter.kind in of_rows else 0.0
        return next((values[parameter] for values in stated if parameter in values), missing)


def truth_of(
    spec: TruthSpec,
    factors: Mapping[str, Sequence[str]] | None = None,
    estimands: Sequence[EstimandSpec] = (),
) -> Truth:
    """The truth of a condition.

    Parameters
    ----------
    factors : of the design, by name; whose levels may have SDs of their own
    """
    fixed = {Parameter.read(name, FIXED): value for name, value in spec.fixed.items()}
    sds, correlations = {}, {}
    for level, one in spec.random.items():
        of_level = one.standard_deviations
        for i, column in enumerate(one.columns):
            sds[Parameter.of_level("sd", level, column)] = of_level[column]
            for other in one.columns[i + 1 :]:
                if of_level[column] > 0 and of_level[other] > 0:
                    name = Parameter.of_level("correlation", level, column, other)
                    correlations[name] = one.correlation_of(column, other)
    residual = _residual_values(spec, factors or {})
    weights = {one.name: _weights(one) for one in estimands if one.term is None}
    compared = {one.name: one.comparison for one in estimands if one.comparison}
    return Truth(fixed, sds, correlations, residual, weights, compared)


def _residual_values(
    truth: TruthSpec, factors: Mapping[str, Sequence[str]]
) -> dict[Parameter, float]:
    """Sigma, correlations of residuals, and ratios of SDs to the first level's."""
    if truth.sigma is None:
        return {} if truth.dispersion is None else {DISPERSION: truth.dispersion}
    spec, values = truth.residual, {SIGMA: truth.sigma}
    for name, *_ in RESIDUAL_CORRELATIONS.values():
        given = None if spec is None else getattr(spec, name)
        if given is not None or spec is None or spec.correlation is None:
            values[Parameter.read(name, RESIDUAL)] = given or 0.0
    for factor, (first, *others) in factors.items():
        sds = {} if spec is None else spec.sd_by.get(factor, {})
        for level in others:
            ratio = sds.get(level, 1.0) / sds.get(first, 1.0)
            values[Parameter.sd_ratio(factor, level)] = ratio
    return values


def as_method_has_it(
    truth: Truth,
    stated: TruthSpec,
    model: ResidualModel | None,
    factors: Mapping[str, Sequence[str]],
) -> Truth:
    """The truth of a method: its sigma, and so shares, are those of the first level of `by:FACTOR`.

    Parameters
    ----------
    factors : of the design, by name
    """
    by_level = {} if stated.residual is None else stated.residual.sd_by
    if model is None or model.by not in by_level or model.by not in factors:
        return truth
    sigma = truth.sigma * by_level[model.by].get(factors[model.by][0], 1.0)
    return replace(truth, residual={**truth.residual, SIGMA: sigma})


def _weights(estimand: EstimandSpec) -> dict[Parameter, float] | None:
    if estimand.fixed is None:
        return None
    return {Parameter.read(name, FIXED): weight for name, weight in estimand.fixed.items()}


def derived_value(parameter: Parameter, values: Mapping[Parameter, Value]) -> Value:
    """A derived quantity, from the SDs of the levels and, for a share, SIGMA among `values`."""
    (column,) = parameter.columns
    variances = {
        one.level: value**2
        for one, value in values.items()
        if one.kind == "sd" and one.level != TOTAL and one.is_of_column(column)
    }
    total = sum(variances.values())
    if parameter.kind == "icc":
        return variances.get(parameter.level, 0.0 * total) / (total + values[SIGMA] ** 2)
    return total if parameter.is_variance else total**0.5


def targets_of(declared: Mapping[str, str]) -> dict[Parameter, Parameter]:
    """What parameters estimate that are not after their namesake.

    Parameters
    ----------
    declared : of a method; what is declared of an SD holds of its variance too
    """
    found = {Parameter.read(key): Parameter.read(value) for key, value in declared.items()}
    return {key.as_variance: value.as_variance for key, value in found.items()} | found
