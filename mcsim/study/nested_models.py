"""Whether a model is a special case of another: what a likelihood-ratio test rests on.

By the columns that both have in a design. A covariance is a sum of known matrices, one for every
product of random effects of a level, times unknown numbers: those of the smaller model are to be
sums of those of the larger one. u'Mv of random u, v stands for each matrix M: as many of them as
there are matrices tell whether one is such a sum.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns, RandomColumns, without_aliased
from mcsim.design.residual_rows import residual_columns
from mcsim.engine.residuals.kinds import KINDS
from mcsim.scenario.estimators import facts_of
from mcsim.scenario.families import FamilyModel
from mcsim.study.ready import ReadyMethod

Floats = NDArray[np.float64]

ROUNDING = 1e-7  # of a column, or of the numbers that stand for a matrix
MORE_PROBES = 4  # than matrices
SEED = 1  # of the probes, which decide nothing else
OTHER_FIXED = (
    "REML likelihoods of other fixed effects, or of the same in another coding, do not compare;"
    " write them alike, or use estimator 'ml'"
)


def why_not_nested(larger: ReadyMethod, smaller: ReadyMethod) -> str | None:
    """Why the smaller model is no special case of the larger one; None where it is."""
    columns = [one.columns.once("aliased", without_aliased)[0] for one in (larger, smaller)]
    return (
        _of_families(larger.settings.family, smaller.settings.family, columns[1])
        or _of_fixed(*columns, is_reml=facts_of(larger.spec.estimator).likelihood == "REML")
        or _of_residuals(larger, smaller)
        or _of_random(larger, columns[0], columns[1])
    )


def _of_families(
    larger: FamilyModel | None, smaller: FamilyModel | None, columns: ModelColumns
) -> str | None:
    if larger is None or smaller is None:
        return None
    if (larger.family, smaller.family) != ("nbinom", "poisson") and larger.family != smaller.family:
        return f"its family is {smaller.family!r}, not {larger.family!r}"
    if larger.link != smaller.link:
        return f"its link is {smaller.link!r}, not {larger.link!r}"
    if larger.quadrature != smaller.quadrature and columns.levels:
        there, here = smaller.quadrature, larger.quadrature
        return f"its likelihood is by quadrature = {there}, not {here}; give both the same"
    return None


def _of_fixed(larger: ModelColumns, smaller: ModelColumns, *, is_reml: bool) -> str | None:
    wanted = smaller.X
    offsets = [0.0 if one.offset is None else one.offset for one in (larger, smaller)]
    change = np.asarray(offsets[1] - offsets[0])
    if change.any():
        wanted = np.column_stack([wanted, change])
    made = np.zeros((larger.X.shape[1], wanted.shape[1]))
    if made.size:
        scale = np.abs(larger.X).max(axis=0)
        made = np.linalg.lstsq(larger.X / scale, wanted)[0] / scale[:, None]
    error = np.abs(larger.X @ made - wanted).max(axis=0, initial=0.0)
    is_lost = error > ROUNDING * np.abs(wanted).max(axis=0, initial=0.0)
    names = [*smaller.names, "its offset"]
    lost = [name for name, own in zip(names, is_lost, strict=False) if own]
    if is_reml:
        same = made[:, : len(smaller.names)]
        is_same = not lost and same.shape[0] == same.shape[1]
        if not is_same or abs(np.linalg.slogdet(same)[1]) > ROUNDING:
            return OTHER_FIXED
    return f"it has what the larger one lacks: {', '.join(lost)}" if lost else None


def _of_residuals(larger: ReadyMethod, smaller: ReadyMethod) -> str | None:
    if smaller.settings.residual in (None, larger.settings.residual):
        return None
    return "its residuals are others; leave its `residual` out, or give both the same"


def _of_random(ready: ReadyMethod, larger: ModelColumns, smaller: ModelColumns) -> str | None:
    own = [(one.level, blocks) for one in smaller.levels for blocks in _blocks(one)]
    if not own:
        return None
    there = [block for one in larger.levels for block in _blocks(one)]
    residual = ready.settings.residual
    if residual is not None and residual.correlation and KINDS[residual.correlation].is_even:
        unit = residual_columns(residual, larger).unit_of_row  # as an intercept of these units
        assert unit is not None
        there.append((unit, np.ones((len(unit), 1)), "general"))
    generator = np.random.default_rng(SEED)
    n_matrices = sum(_n_matrices(*one) for one in (*there, *(block for _, block in own))) + 1
    known, wanted = [], []
    for _ in range(n_matrices + MORE_PROBES):
        u, v = generator.standard_normal((2, len(larger.X)))
        rest = [float(u @ v)] * (ready.settings.family is None)
        known.append([*rest, *(number for one in there for number in _probed(one, u, v))])
        wanted.append([[*_probed(block, u, v)] for _, block in own])
    F = np.array(known)
    F = F / np.maximum(np.linalg.norm(F, axis=0), np.finfo(float).tiny)  # none of effects apart
    for place, (level, _) in enumerate(own):
        f = np.array([one[place] for one in wanted])
        left = f - F @ np.linalg.lstsq(F, f)[0]
        if (np.linalg.norm(left, axis=0) > ROUNDING * np.linalg.norm(f, axis=0)).any():
            return f"its random effects of {level} are none of the larger one"
    return None


_Block = tuple[NDArray[np.int64], Floats, str]  # units of the rows, columns, structure


def _blocks(level: RandomColumns) -> Iterator[_Block]:
    first = 0
    for structure, size in level.structures:
        yield level.unit_of_row, level.Z[:, first : first + size], structure
        first += size


def _n_matrices(_unit: NDArray[np.int64], Z: Floats, structure: str) -> int:
    q: int = Z.shape[1]
    return q * (q + 1) // 2 if structure == "general" else 2


def _probed(block: _Block, u: Floats, v: Floats) -> Sequence[float]:
    """Of all matrices M of a block u'Mv, from sums within units."""
    unit, Z, structure = block
    left, right = (np.stack([np.bincount(unit, w * z) for z in Z.T]) for w in (u, v))
    products = left @ right.T
    if structure == "general":
        symmetric = products + products.T
        return list(symmetric[np.triu_indices(len(symmetric))])
    same = float(np.trace(products))
    return [same] if structure == "identity" else [same, float(products.sum()) - same]
