"""What is known of fixed effects beside what a method estimates: their distribution at the truth.

Standard errors, df and the random part of an estimate are functions of the error contrasts, what is
left of the responses without the fixed effects. Given these, the estimate of a contrast is normal:
least squares at the truth, which is independent of them, plus a shift. So every share of tests is
the mean of normal probabilities (Rao and Blackwell), for any size of the effect.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcsim.design.columns import Floats, without_aliased
from mcsim.methods.inference.fixed_effects import Contrast, ParameterBlock
from mcsim.methods.method import Analysis, fixed_contrasts
from mcsim.names import Parameter
from mcsim.scenario.conditions import Condition
from mcsim.scenario.estimators import facts_of
from mcsim.scenario.true_values import truth_of
from mcsim.simulate.at_truth import TrueLeastSquares, true_least_squares
from mcsim.simulate.responses import Simulator
from mcsim.study.implied_truth import true_value_of
from mcsim.study.ready import ReadyMethod

EstimatesAtTruth = dict[TrueLeastSquares, Floats]
KnownLeastSquares = dict[bytes, TrueLeastSquares | None]  # by X, contrasts and offset

ROUNDING = 1e-9  # of the SE at the truth: a shift that is none, a truth that is missed by nothing


@dataclass(frozen=True)
class AtTruth:
    """Least squares at the truth of the fixed effects of a method.

    place : of the parameters among the estimates
    """

    least_squares: TrueLeastSquares
    place: Mapping[Parameter, int]


def methods_at_truth(
    condition: Condition,
    simulator: Simulator,
    ready: Mapping[str, ReadyMethod],
    known: KnownLeastSquares,
) -> dict[str, AtTruth]:
    """By name, the methods whose fixed effects have a known distribution, if the truth gives one.

    A parameter is left out whose least squares do not have its truth as their mean.

    Parameters
    ----------
    known : what was found for these rows; gains what is found
    """
    if not is_known_at_truth(condition):
        return {}
    found = {}
    for name, one in ready.items():
        if not facts_of(one.spec.estimator).rests_on_residuals:
            continue
        columns, _ = one.columns.once("aliased", without_aliased)
        all_contrasts = fixed_contrasts(columns, one.settings)
        contrasts = [each for each in all_contrasts if each.parameter.kind != "term"]
        L = np.concatenate([np.zeros((0, len(columns.names))), *(each.L for each in contrasts)])
        offset = np.zeros(len(columns.X)) if columns.offset is None else columns.offset
        key = hashlib.sha256(b"".join(one.tobytes() for one in (columns.X, L, offset))).digest()
        if key not in known:
            known[key] = true_least_squares(simulator, columns.X, L, offset) if contrasts else None
        least_squares = known[key]
        if least_squares is not None:
            place = _with_own_truth(condition, simulator, one, contrasts, least_squares)
            found[name] = AtTruth(least_squares, place)
    return found


def estimates_at_truth(methods: Mapping[str, AtTruth], responses: Floats) -> EstimatesAtTruth:
    """Estimates at the truth, once for methods that share their columns."""
    shared = dict.fromkeys(one.least_squares for one in methods.values())
    return {one: one.of(responses) for one in shared}


def with_shifts(
    analyses: Mapping[str, Analysis],
    methods: Mapping[str, AtTruth],
    estimates: Sequence[EstimatesAtTruth],
) -> dict[str, Analysis]:
    """The analyses with `shift` and `true_se` of their fixed effects.

    Parameters
    ----------
    estimates : at the truth, block by block
    """
    found = dict(analyses)
    for name, at_truth in methods.items():
        own = np.concatenate([block[at_truth.least_squares] for block in estimates])
        true_se = at_truth.least_squares.std_error
        found[name] = with_shift(found[name], at_truth.place, own, true_se)
    return found


def with_shift(
    analysis: Analysis, place: Mapping[Parameter, int], of_truth: Floats, true_se: Floats
) -> Analysis:
    """The analysis with `shift` and `true_se` of fixed effects.

    Parameters
    ----------
    of_truth : (n_replicates, k) estimates at the truth; true_se : (k,) or (n_replicates, k)
    """
    blocks_by_df = {
        df: [
            one
            if one.parameter not in place
            else _with_shift(
                one, of_truth[:, place[one.parameter]], true_se[..., place[one.parameter]]
            )
            for one in blocks
        ]
        for df, blocks in analysis.estimates.items()
    }
    return replace(analysis, estimates=blocks_by_df)


def _with_shift(block: ParameterBlock, of_truth: Floats, true_se: Floats) -> ParameterBlock:
    shift = block.estimate - of_truth
    shift = np.where(np.abs(shift) < ROUNDING * true_se, 0.0, shift)
    return replace(block, shift=shift, true_se=np.where(np.isnan(shift), np.nan, true_se))


def is_known_at_truth(condition: Condition) -> bool:
    """Whether responses are normal with a covariance that is known.

    It is not where rows are lost whose correlation goes by their place among all that were planned.
    """
    truth, residual = condition.truth, condition.truth.residual
    has_gaps = residual is not None and residual.correlation is not None
    return truth.is_normal and not (condition.has_own_rows and has_gaps)


def true_value_in(
    condition: Condition, simulator: Simulator, one: ReadyMethod
) -> Callable[[Parameter], float | None]:
    """What is true of a method's parameters, as of `true_value_of`."""
    design = simulator.design
    truth = truth_of(condition.truth, design.factors, one.settings.estimands)
    return true_value_of(one.columns, design, condition, one.spec, truth)


def _with_own_truth(
    condition: Condition,
    simulator: Simulator,
    one: ReadyMethod,
    contrasts: Sequence[Contrast],
    least_squares: TrueLeastSquares,
) -> dict[Parameter, int]:
    true_value = true_value_in(condition, simulator, one)
    found = {}
    for place, contrast in enumerate(contrasts):
        value = true_value(contrast.parameter)
        mean, std_error = least_squares.mean[place], least_squares.std_error[place]
        if value is not None and abs(mean - value) <= ROUNDING * (std_error + abs(value)):
            found[contrast.parameter] = place
    return found
