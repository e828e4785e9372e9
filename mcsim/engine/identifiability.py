"""Which covariances the design cannot tell apart, whatever the response.

Knows arrays only. Once the fixed effects are projected out, some of the matrices V_r that V is a
sum of may be combinations of the others: the likelihood is then the same for many values of the
covariances. Those directions are the null vectors of tr(P V_r P V_s), known to the search's start.
"""

from typing import NamedTuple

import numpy as np

from mcsim.engine.arithmetic.arrays import Flags, Floats
from mcsim.engine.blocks import entries
from mcsim.engine.compile import CompiledDesign

NONE = 1e-6  # of the scale of an entry: a change that is none


class Undetermined(NamedTuple):
    """Covariances that the likelihood does not depend on but together: m directions of change.

    levels : per level, outermost first, (m, q, q) changes of the covariance matrix of its effects
    scales : per level (q, q) what is small in such a change
    sigma2 : (m,) of the variance of the residuals
    """

    levels: tuple[Floats, ...]
    scales: tuple[Floats, ...]
    sigma2: Floats

    @property
    def is_sigma_open(self) -> bool:
        """Whether the variance of the residuals is among them."""
        return bool(np.any(np.abs(self.sigma2) > NONE))

    def open_entries(self, level: int) -> Flags:
        """Entries of a level's covariance matrix that are among them: (q, q)."""
        is_any: Flags = np.any(np.abs(self.levels[level]) > NONE * self.scales[level], axis=0)
        return is_any


def undetermined(design: CompiledDesign) -> list[Undetermined]:
    """Groups of covariances that the design cannot tell apart, with none in common."""
    (flat,) = design.starts[0].flat
    if not len(flat):
        return []
    from scipy.sparse.csgraph import connected_components

    projection = flat.T @ flat
    _, group = connected_components(np.abs(projection) > NONE, directed=False)
    found = [projection[group == number] for number in np.unique(group)]
    return [_changes(design, one) for one in found if np.abs(one).max() > NONE]


def _changes(design: CompiledDesign, directions: Floats) -> Undetermined:
    """Directions (m, n_theta + 1) in the given columns: S dPsi S'."""
    blocks, m = design.blocks, len(directions)
    changes = [np.zeros((m, *S.shape)) for S in design.scales]
    for t, (b, i, j) in enumerate(entries(blocks)):
        own = changes[len(changes) - 1 - int(blocks.level[b])]
        if blocks.is_matrix[b]:
            row, column = int(blocks.first[b]) + i, int(blocks.first[b]) + j
            own[:, row, column] = own[:, column, row] = directions[:, t]
        else:
            q = own.shape[1]
            own += directions[:, t, None, None] * blocks.Q[b][:q, :q]
    sizes = [np.linalg.norm(S, axis=1) for S in design.scales]
    return Undetermined(
        tuple(S @ change @ S.T for S, change in zip(design.scales, changes, strict=True)),
        tuple(np.outer(size, size) for size in sizes),
        directions[:, -1],
    )
