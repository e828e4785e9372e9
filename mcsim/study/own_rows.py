"""What the rows of one replicate can tell, where each replicate has rows of its own.

The methods are prepared again for these rows. A model that they cannot support is a failed fit with
the reason; what they cannot tell of a model that they do support is null.
"""

import hashlib
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from mcsim.design.columns import ModelFrame
from mcsim.design.units import Design
from mcsim.engine.optimum.status import Status
from mcsim.errors import DataError
from mcsim.methods.identifiability import without
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.likelihood import Reducers
from mcsim.methods.method import Analysis, FitOutcomes, StreamOf, fixed_contrasts
from mcsim.scenario.records import MethodSpec
from mcsim.simulate.data_set import DataSet
from mcsim.simulate.responses import simulator_of
from mcsim.study.at_truth import estimates_at_truth, methods_at_truth, with_shifts
from mcsim.study.prepared import PreparedCondition, prepare_again
from mcsim.study.ready import ReadyMethod

MOST_KNOWN = 64  # prepared methods that are kept, for rows that come again
ROUNDING = 1e-8  # share of a contrast that counts as nothing


def analyse_rows(
    condition: PreparedCondition, data: DataSet, stream_of: StreamOf
) -> tuple[dict[str, Analysis], set[str]]:
    """By method; and the methods that lack a fixed effect which they have in the condition.

    Raises
    ------
    DataError
        There are no rows.
    """
    if not len(data.y):
        raise DataError("no observation is left")
    rows, frame, shared = _hash(data.design), ModelFrame(data.design.frame), Reducers()
    y = data.y[None]  # one array, whose moments the methods share
    found: dict[str, Analysis] = {}
    analysed: dict[str, ReadyMethod] = {}
    for name, planned in condition.ready.items():
        try:
            if (rows, name) not in condition.known:
                _remember(condition, (rows, name), prepare_again(planned, frame, shared))
            one = condition.known[rows, name]
            analysis = one.method.analyse([one.take(y)], stream_of)
            found[name] = without(_as_planned(planned, one, analysis), one.undetermined)
            analysed[name] = one
        except (DataError, np.linalg.LinAlgError) as error:
            found[name] = failed(planned, str(error))
    simulator = simulator_of(condition.condition, condition.simulator.key, data.design)
    at_truth = methods_at_truth(condition.condition, simulator, analysed, {})
    found = with_shifts(found, at_truth, [estimates_at_truth(at_truth, y)])
    return found, {name for name, one in analysed.items() if one.aliased}


def failed(planned: ReadyMethod, message: str) -> Analysis:
    """The analysis of one replicate that has failed, and why: no estimates."""
    none = np.full(1, np.nan)
    blocks = [ParameterBlock(one) for one in planned.method.parameters()]
    fits = FitOutcomes(np.array([Status.FAILED]), none, none, none, [message])
    return Analysis(dict.fromkeys(planned.settings.df, blocks), fits)


def as_tested(spec: MethodSpec, analysis: Analysis, reduced: Collection[str]) -> Analysis:
    """The analysis without a likelihood-ratio test, its last row, where a model lacks effects.

    reduced : methods whose model does
    """
    if spec.likelihood_ratio is None or not {spec.name, spec.likelihood_ratio} & set(reduced):
        return analysis
    estimates = {
        df: [*blocks[:-1], ParameterBlock(blocks[-1].parameter)]
        for df, blocks in analysis.estimates.items()
    }
    return replace(analysis, estimates=estimates)


def _hash(design: Design) -> bytes:
    """Equal for rows that one prepared method can analyse: labels of units do not matter."""
    digest = hashlib.sha256()
    for unit in design.unit_of_row.values():
        digest.update(unit.tobytes())
    for name in design.frame.columns.difference(list(design.unit_of_row)):
        column = design.frame[name]
        is_factor = isinstance(column.dtype, pd.CategoricalDtype)
        digest.update((column.cat.codes if is_factor else column).to_numpy().tobytes())
    return digest.digest()


def _remember(condition: PreparedCondition, key: tuple[bytes, str], one: ReadyMethod) -> None:
    if len(condition.known) >= MOST_KNOWN:
        condition.known.clear()
    condition.known[key] = one


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
    """Fixed effects, terms and weighted sums of them that the rows leave open.

    Every aliased column is a combination of the others; the contrasts c with c'v = 0 for all those
    combinations v, and no others, have one value whatever is left out (Searle 1971, chapter 5).
    """
    columns = one.columns
    scale = np.maximum(np.abs(columns.X).max(axis=0), np.finfo(float).tiny)
    X, is_kept = columns.X / scale, ~np.isin(columns.names, one.aliased)
    combinations = np.zeros((len(one.aliased), X.shape[1]))
    combinations[:, is_kept] = -np.linalg.lstsq(X[:, is_kept], X[:, ~is_kept])[0].T
    combinations[:, ~is_kept] = np.eye(len(one.aliased))
    lost = set()
    for contrast in fixed_contrasts(columns, one.settings):
        L = contrast.L / scale
        size = np.abs(L) @ np.abs(combinations).T
        if np.any(np.abs(L @ combinations.T) > ROUNDING * size):
            lost.add(contrast.parameter.name)
    return lost
