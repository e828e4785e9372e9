"""Methods prepared for the rows of each replicate, whose columns come from arrays: no formula."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.design.units import Flags
from mcsim.engine.nested.forest import OwnRows
from mcsim.errors import DataError
from mcsim.methods.cluster_robust import ClusterRobust
from mcsim.methods.gee import Gee
from mcsim.methods.least_squares import ImageMeans, LeastSquares
from mcsim.methods.likelihood import LikelihoodMethod, Reducers
from mcsim.methods.method import Analysis, StreamOf
from mcsim.methods.two_stage import TwoStage
from mcsim.study.own_blocks import OwnBlock
from mcsim.study.prepared import prepare_columns
from mcsim.study.ready import ReadyMethod, failed

OF_COLUMNS = (LikelihoodMethod, LeastSquares, ClusterRobust, Gee, ImageMeans, TwoStage)


def is_of_columns(ready: ReadyMethod) -> bool:
    """Whether a method asks for nothing but columns: no data frame, and no formula.

    Tests of terms that are not marginal look at the frame. Those of type 3 are the same for all
    rows from which the effects can be estimated.
    """
    method, tests = ready.method, {one.test for one in ready.settings.estimands if one.term}
    is_stacked = isinstance(method, LikelihoodMethod) and method.structures is not None
    needs_frame = tests - {None, "type 3"} if is_stacked else tests
    is_plain = ready.settings.residual is None and not needs_frame
    return isinstance(method, OF_COLUMNS) and is_plain


def analyse_each(
    ready: ReadyMethod,
    columns: ModelColumns,
    block: OwnBlock,
    rows: OwnRows,
    is_sure: Flags,
    streams: Sequence[StreamOf],
) -> list[Analysis | None]:
    """Analyses of the replicates of a block; None where rows are in doubt.

    Parameters
    ----------
    columns : of the condition, without fixed effects that the method leaves out
    is_sure : (n,) whether no fixed effect is nearly a combination of others
    streams : of every replicate
    """
    found: list[Analysis | None] = []
    for number, (first, end) in enumerate(zip(rows.start, rows.start[1:], strict=False)):
        if not is_sure[number]:
            found.append(None)
            continue
        levels = tuple(
            replace(
                level,
                unit_of_row=np.cumsum(rows.is_first[depth, first:end]) - 1,
                Z=np.ascontiguousarray(rows.columns[Z, first:end].T),
            )
            for depth, (level, Z) in enumerate(zip(columns.levels, rows.Z, strict=False))
        )
        X = np.ascontiguousarray(rows.columns[rows.X, first:end].T)
        own = replace(columns, X=X, levels=levels)
        own.once("aliased", lambda one: (one, ()))
        try:
            one = prepare_columns(ready, own, Reducers())
            y = block.y[None, first:end]
            analysis = one.method.analyse([one.take(y)], streams[number])
            found.append(None if one.aliased or one.undetermined else analysis)
        except (DataError, np.linalg.LinAlgError) as error:
            found.append(failed(ready, str(error)))
    return found
