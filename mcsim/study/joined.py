"""Analyses of some replicates each as that of all of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import Analysis, FitOutcomes
from mcsim.names import AT_TRUTH, ESTIMATES, Parameter

Part = tuple[NDArray[np.int64], Analysis]  # positions of replicates, and their analysis


def joined(parameters: Sequence[Parameter], parts: Sequence[Part]) -> Analysis:
    """The analysis of all replicates, in the order of their positions.

    Parameters
    ----------
    parameters : of the condition; null where an analysis lacks one
    """
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([at for at, _ in parts]), kind="stable")
    estimates = {}
    for df in parts[0][1].estimates:
        by_name = [{one.parameter.name: one for one in own.estimates[df]} for _, own in parts]
        sizes = [len(at) for at, _ in parts]
        estimates[df] = [
            _joined(one, sizes, [own.get(one.name) for own in by_name], order) for one in parameters
        ]
    fits = [own.fits for _, own in parts]
    numbers = {
        name: np.concatenate([getattr(one, name) for one in fits])[order]
        for name in ("status", "loglik", "evaluations", "certificate")
    }
    message = [text for one in fits for text in one.message]
    return Analysis(estimates, FitOutcomes(**numbers, message=[message[k] for k in order]))


def _joined(
    parameter: Parameter,
    sizes: Sequence[int],
    blocks: Sequence[ParameterBlock | None],
    order: NDArray[np.int64],
) -> ParameterBlock:
    """Estimates of one parameter; the blocks are of so many replicates."""
    own = list(zip(sizes, blocks, strict=True))
    values = {
        name: np.concatenate(
            [np.broadcast_to(getattr(block, name, np.nan), n) for n, block in own]
        )[order]
        for name in (*ESTIMATES, *AT_TRUTH)
    }
    return ParameterBlock(parameter, **values)
