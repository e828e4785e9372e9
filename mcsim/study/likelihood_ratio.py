"""Likelihood-ratio tests of a model against a smaller one, as further rows of its estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import Analysis, Method
from mcsim.names import Parameter
from mcsim.scenario.records import MethodSpec


def ratio_parameter(spec: MethodSpec, methods: Mapping[str, Method]) -> Parameter:
    """The test on as many df as parameters that the smaller model lacks; a DataError if none."""
    assert spec.likelihood_ratio is not None
    extra = methods[spec.name].n_parameters - methods[spec.likelihood_ratio].n_parameters
    if extra < 1:
        raise DataError(
            f"method {spec.name!r} has no more parameters than {spec.likelihood_ratio!r};"
            " likelihood_ratio names the smaller of two models"
        )
    return Parameter.likelihood_ratio(spec.likelihood_ratio, extra)


def with_likelihood_ratios(
    specs: Sequence[MethodSpec], methods: Mapping[str, Method], analyses: Mapping[str, Analysis]
) -> dict[str, Analysis]:
    """The analyses, with likelihood-ratio tests where methods ask for one.

    Twice the difference of the log-likelihoods, against chi-squared. That is too cautious where the
    smaller model holds a variance at zero (Self & Liang 1987).
    """
    found = dict(analyses)
    for spec in specs:
        if spec.likelihood_ratio is not None:
            larger, smaller = (analyses[one].fits for one in (spec.name, spec.likelihood_ratio))
            ratio = np.maximum(2.0 * (larger.loglik - smaller.loglik), 0.0)  # less is rounding
            ratio[smaller.status >= Status.NOT_CONVERGED] = np.nan
            parameter = ratio_parameter(spec, methods)
            df = np.where(np.isnan(ratio), np.nan, float(parameter.numerator_df or 0))
            test = ParameterBlock(parameter, ratio, df=df, p_value=special.chdtrc(df, ratio))
            own = analyses[spec.name]
            found[spec.name] = replace(
                own, estimates={name: [*rows, test] for name, rows in own.estimates.items()}
            )
    return found
