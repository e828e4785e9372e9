"""Replicates that each have rows of their own: together where that goes, else one by one.

One by one, the methods are prepared again for the rows of a replicate. A model that they cannot
support is a failed fit with the reason; what they cannot tell of a model that they do support is
null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelFrame
from mcsim.errors import DataError
from mcsim.methods.identifiability import without
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.likelihood import Reducers
from mcsim.methods.method import Analysis, StreamOf, fixed_contrasts
from mcsim.names import ESTIMATES, Parameter
from mcsim.scenario.records import MethodSpec
from mcsim.simulate.data_set import DataSet, draw_data_set
from mcsim.simulate.responses import simulator_of
from mcsim.simulate.streams import stream
from mcsim.study.at_truth import estimates_at_truth, methods_at_truth, with_shifts
from mcsim.study.joined import Part, joined
from mcsim.study.own_plan import Together, fitted_together
from mcsim.study.prepared import PreparedCondition, prepare_again
from mcsim.study.ready import ReadyMethod, failed
from mcsim.study.together import analyses_of, simulate

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

KEPT_VALUES = 4_000_000  # of the trees that are fitted together: some 100 MB with all that is made
OF_ROWS = "the rows that this replicate has: {}"  # whatever the refusal advises, it is of these
ROUNDING = 1e-8  # share of a contrast that counts as nothing


@dataclass(frozen=True)
class Sample:
    """Replicates that were analysed together.

    realized : values (n_replicates,)
    lacking : by method (n_replicates,) whether it lacks an effect in a replicate's rows
    """

    replicates: range
    realized: Mapping[Parameter, Floats]
    analyses: dict[str, Analysis]
    lacking: Mapping[str, Flags] = field(default_factory=dict)


def own_rows(condition: PreparedCondition, replicates: range) -> Iterator[Sample]:
    """Samples of so many replicates as may be kept at a time."""
    together = fitted_together(condition)
    size = max(1, KEPT_VALUES // (len(condition.simulator.mean) + together.n_values))
    for first in range(0, len(replicates), size):
        yield _sample(condition, together, replicates[first : first + size])


@dataclass
class _Found:
    """What is known of a sample so far, by parameter and by method."""

    realized: dict[Parameter, Floats]
    analyses: dict[str, list[Part]]
    lacking: dict[str, Flags]


def _sample(condition: PreparedCondition, together: Together, replicates: range) -> Sample:
    n = len(replicates)
    found = _Found({}, {name: [] for name in condition.ready}, {})
    is_done = {name: np.zeros(n, dtype=np.bool_) for name in condition.ready}
    if together.methods and (drawn := simulate(condition, together, replicates)) is not None:
        _put(found.realized, drawn.positions, drawn.realized, n)
        sigma = condition.simulator.sigma
        for name, part in analyses_of(together, drawn, sigma).items():
            found.analyses[name].append(part)
            is_done[name][part[0]] = True
    for position in np.flatnonzero(~np.all([*is_done.values()], axis=0)).tolist():
        left = [name for name, done in is_done.items() if not done[position]]
        _add_alone(found, condition, left, position, replicates)
    analyses = {
        name: joined(condition.ready[name].method.parameters(), parts)
        for name, parts in found.analyses.items()
    }
    return Sample(replicates, found.realized, analyses, found.lacking)


def _put(
    realized: dict[Parameter, Floats],
    at: NDArray[np.int64],
    values: Mapping[Parameter, Floats],
    n: int,
) -> None:
    for name, value in values.items():
        realized.setdefault(name, np.full(n, np.nan))[at] = value


def _add_alone(
    found: _Found,
    condition: PreparedCondition,
    names: Sequence[str],
    position: int,
    replicates: range,
) -> None:
    """Analyse one replicate by some methods."""
    replicate, at = replicates[position], np.array([position])
    planned = {name: condition.ready[name] for name in names}
    try:
        data = draw_data_set(condition.condition, condition.simulator, replicate)
        _put(found.realized, at, data.realized, len(replicates))

        def stream_of(_: int) -> np.random.Generator:
            return stream(condition.simulator.key, replicate, "bootstrap")

        analyses, lacking = analyse_rows(condition, planned, data, stream_of)
        for name in lacking:
            none = np.zeros(len(replicates), dtype=np.bool_)
            found.lacking.setdefault(name, none)[position] = True
    except DataError as error:
        analyses = {name: failed(one, str(error)) for name, one in planned.items()}
    for name, analysis in analyses.items():
        found.analyses[name].append((at, analysis))


def analyse_rows(
    condition: PreparedCondition,
    methods: Mapping[str, ReadyMethod],
    data: DataSet,
    stream_of: StreamOf,
) -> tuple[dict[str, Analysis], set[str]]:
    """By method; and the methods that lack a fixed effect which they have in the condition.

    Raises
    ------
    DataError
        There are no rows.
    """
    if not len(data.y):
        raise DataError("no observation is left")
    frame, shared = ModelFrame(data.design.frame), Reducers()
    y = data.y[None]  # one array, whose moments the methods share
    found: dict[str, Analysis] = {}
    analysed: dict[str, ReadyMethod] = {}
    for name, planned in methods.items():
        try:
            one = prepare_again(planned, frame, shared)
            analysis = one.method.analyse([one.take(y)], stream_of)
            found[name] = without(_as_planned(planned, one, analysis), one.undetermined)
            analysed[name] = one
        except (DataError, np.linalg.LinAlgError) as error:
            found[name] = failed(planned, OF_ROWS.format(error))
    simulator = simulator_of(condition.condition, condition.simulator.key, data.design)
    at_truth = methods_at_truth(condition.condition, simulator, analysed, {})
    found = with_shifts(found, at_truth, [estimates_at_truth(at_truth, y)])
    return found, {name for name, one in analysed.items() if one.aliased}


def as_tested(spec: MethodSpec, analysis: Analysis, lacking: Mapping[str, Flags]) -> Analysis:
    """The analysis without a likelihood-ratio test, its last row, where a model lacks effects.

    lacking : by method, where it does
    """
    if spec.likelihood_ratio is None:
        return analysis
    of_both = [lacking[one] for one in (spec.name, spec.likelihood_ratio) if one in lacking]
    if not of_both:
        return analysis
    is_lacking = np.any(of_both, axis=0)
    estimates = {}
    for df, blocks in analysis.estimates.items():
        values = {name: getattr(blocks[-1], name) for name in ESTIMATES}
        tested = {name: np.where(is_lacking, np.nan, one) for name, one in values.items()}
        estimates[df] = [*blocks[:-1], ParameterBlock(blocks[-1].parameter, **tested)]
    return replace(analysis, estimates=estimates)


def _as_planned(planned: ReadyMethod, one: ReadyMethod, analysis: Analysis) -> Analysis:
    """The analysis with the parameters of the condition, null where these rows cannot tell them."""
    if not one.aliased:
        return analysis
    lost = _not_estimable(one)
    estimates = {}
    for df, blocks in analysis.estimates.items():
        by_name = {one.parameter.name: one for one in blocks}
        estimates[df] = [
            ParameterBlock(parameter) if parameter.name in lost else by_name[parameter.name]
            for parameter in planned.method.parameters()
        ]
    return replace(analysis, estimates=estimates)


def _not_estimable(one: ReadyMethod) -> set[str]:
    """Fixed effects, terms, weighted sums of them and means that the rows leave open.

    Every aliased column is a combination of the others; the contrasts c with c'v = 0 for all those
    combinations v, and no others, have one value whatever is left out (Searle 1971, chapter 5).
    """
    columns = one.columns
    scale = np.maximum(np.abs(columns.X).max(axis=0), np.finfo(float).tiny)
    X, is_kept = columns.X / scale, ~np.isin(columns.names, one.aliased)
    combinations = np.zeros((len(one.aliased), X.shape[1]))
    combinations[:, is_kept] = -np.linalg.lstsq(X[:, is_kept], X[:, ~is_kept])[0].T
    combinations[:, ~is_kept] = np.eye(len(one.aliased))
    lost = {each.name for each in one.settings.estimands if each.comparison}
    for contrast in fixed_contrasts(columns, one.settings):
        L = contrast.L / scale
        size = np.abs(L) @ np.abs(combinations).T
        if np.any(np.abs(L @ combinations.T) > ROUNDING * size):
            lost.add(contrast.parameter.name)
    return lost
