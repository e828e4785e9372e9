"""What a design leaves open of a model: parameters that no data could tell apart.

A model with SDs that only their sum, or nothing, determines is refused, as lme4 does, unless its
`identifiable` is false. What is left open is null in the results: any value would do.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from mcsim.design.columns import ModelColumns
from mcsim.engine.compile import CompiledDesign
from mcsim.engine.identifiability import NONE, Undetermined, undetermined
from mcsim.errors import DataError
from mcsim.methods.inference.components import RandomNames
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import Analysis, random_names
from mcsim.names import SIGMA, Parameter

NOT_IDENTIFIABLE = (
    "this design cannot tell {} apart: other values of them have the same likelihood, whatever the"
    " data. Leave a level or a random effect out of the formula, or observe more;"
    " `identifiable = false` in the method (`--not-identifiable` of mcsim fit) goes on, and says"
    " nothing of them"
)
NOTHING_LEFT = (
    "the fixed effects of this design leave nothing that could tell {}, which their standard errors"
    " depend on. Observe more units, or leave that level out of the formula"
)


def left_open(
    design: CompiledDesign,
    columns: ModelColumns,
    derived: Sequence[Parameter],
    *,
    is_allowed: bool,
    has_residuals: bool = True,
) -> frozenset[Parameter]:
    """Parameters of the random effects and of the residuals that the design leaves open.

    Parameters
    ----------
    derived : totals and shares of variance
    is_allowed : whether SDs may be among them
    has_residuals : False for counts, whose variance follows from their mean

    Raises
    ------
    DataError
        SDs are, and may not be, or the standard errors of fixed effects depend on them.
    """
    names = random_names(columns)
    groups = [one for one in undetermined(design) if has_residuals or not one.is_sigma_open]
    found: set[Parameter] = set()
    for group in groups:
        sds, correlations = list(_open_sds(group, names)), list(_open_correlations(group, names))
        in_words = _in_words([one.name for one in (*sds, *correlations)])
        if sds and not _is_nothing(group, columns):
            raise DataError(NOTHING_LEFT.format(in_words))
        if sds and not is_allowed:
            raise DataError(NOT_IDENTIFIABLE.format(in_words))
        found |= {*sds, *(one.as_variance for one in sds), *correlations}
        found |= {
            level.correlation(i, j)
            for level in names
            for i, j in level.correlated_pairs()
            if not found.isdisjoint((level.sds()[i], level.sds()[j]))
        }
    found |= {one for one in derived if _is_open(one, groups, names, found)}
    return frozenset(found)


def without(analysis: Analysis, parameters: Iterable[Parameter]) -> Analysis:
    """The analysis with nothing said of some parameters."""
    lost = frozenset(parameters)
    if not lost:
        return analysis
    none = np.full(len(analysis.fits.status), np.nan)
    estimates = {
        df: [ParameterBlock(one.parameter, none) if one.parameter in lost else one for one in own]
        for df, own in analysis.estimates.items()
    }
    return replace(analysis, estimates=estimates)


def _open_sds(group: Undetermined, names: Sequence[RandomNames]) -> Iterator[Parameter]:
    for number, level in enumerate(names):
        is_open = group.open_entries(number).diagonal()
        yield from (one for one, open_ in zip(level.sds(), is_open, strict=True) if open_)
    if group.is_sigma_open:
        yield SIGMA


def _open_correlations(group: Undetermined, names: Sequence[RandomNames]) -> Iterator[Parameter]:
    for number, level in enumerate(names):
        is_open = group.open_entries(number)
        for i, j in level.correlated_pairs():
            if is_open[i, j]:
                yield level.correlation(i, j)


def _is_open(
    derived: Parameter,
    groups: Sequence[Undetermined],
    names: Sequence[RandomNames],
    found: Iterable[Parameter],
) -> bool:
    """Whether a total of variances is; a share, where any of its variances or sigma is."""
    parts = [
        (number, i, sd)
        for number, level in enumerate(names)
        for i, (column, sd) in enumerate(zip(level.columns, level.sds(), strict=True))
        if derived.is_of_column(column)
    ]
    if derived.kind == "icc":
        return not {SIGMA, *(sd for _, _, sd in parts)}.isdisjoint(found)
    for group in groups:
        total = sum(group.levels[number][:, i, i] for number, i, _ in parts)
        scale = max(group.scales[number][i, i] for number, i, _ in parts)
        if np.any(np.abs(total) > NONE * scale):
            return True
    return False


def _is_nothing(group: Undetermined, columns: ModelColumns) -> bool:
    """Whether the changes leave V as it is: the fixed effects then have the same standard errors.

    V u is the same for a vector u of random numbers.
    """
    u = np.random.default_rng(0).normal(size=len(columns.X))
    for k, sigma2 in enumerate(group.sigma2):
        change, size = sigma2 * u, np.abs(sigma2 * u)
        for level, changes in zip(columns.levels, group.levels, strict=False):
            unit, Z = level.unit_of_row, level.Z
            sums = np.stack([np.bincount(unit, z * u) for z in Z.T], axis=1)
            change = change + np.sum(Z * (sums @ changes[k])[unit], axis=1)
            size = size + np.sum(np.abs(Z) * (np.abs(sums) @ np.abs(changes[k]))[unit], axis=1)
        if np.abs(change).max() > NONE * size.max():
            return False
    return True


def _in_words(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
