"""Where the search begins: MINQUE, the exact optimum of balanced designs inside the cone.

With P taken at Psi0 = 0.25 I, the estimates solve, in Sigma and sigma2,

    sum_s tr(P V_r P V_s) psi_s = y'P V_r P y

(Rao 1971). The left side depends on the design alone. P V P = P gives the row of sigma2, whose V
is the identity, from the others. What lies outside the cone is set to zero.
"""

from dataclasses import dataclass

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats, Ints
from mcsim.engine.arithmetic.replicates import (
    product,
    semidefinite_factor,
    symmetric_eigen,
    transpose,
)
from mcsim.engine.blocks import (
    Blocks,
    block_of,
    entries,
    entry,
    n_parameters,
    put_largest_pivots_first,
    set_block,
)
from mcsim.engine.likelihood import Likelihood

START = 0.5  # relative SD of every random effect, in columns of unit scale
START_STEP = 1e-4  # of Psi, around 0.25; error of the differences about 1e-7 relative
SURELY_TOLD = 1e-2  # where the error of rough differences, up to 1e-3, does not matter
FLAT = 1e-9  # of a parameter's own information: what the design does not tell
DOUBTFUL = 1e-5  # where the error of the differences, up to 1e-7, must be smaller to say so
NO_INFORMATION = 1e-7  # of the largest eigenvalue: what the normal equations do not determine


@dataclass(frozen=True)
class Start:
    """What designs say of their start: one for all replicates, or one for each.

    z : the parameters after those of Lam
    inverse : (n, n_theta + 1, n_theta + 1) of the normal equations; n_theta parameters of Lam
    traces : (n, n_levels, q, q) sum Z'PZ at Psi0
    flat : per design (m, n_theta + 1) orthonormal changes of psi, those of scaled columns, and of
        sigma2 that P V P does not depend on
    """

    z: Floats
    inverse: Floats
    traces: Floats
    flat: tuple[Floats, ...]


def plain_start(blocks: Blocks, n: int) -> tuple[Floats, Ints]:
    """Theta and order of Psi0, n times."""
    theta = np.zeros((n, n_parameters(blocks)))
    for b, i, j in entries(blocks):
        theta[:, entry(blocks, b, i, j)] = START if i == j else 0.0
    order = np.tile(np.arange(blocks.Q.shape[1]), (n, len(blocks.size), 1))
    return theta, order


def minque(
    likelihood: Likelihood, start: Start, replicates: Ints, D: Floats, r2: Floats
) -> tuple[Floats, Ints]:
    """Theta and order of the estimates of some replicates.

    Parameters
    ----------
    D, r2 : (n, n_levels, q, q) and (n,) derivative of -2 logLik and y'Py at Psi0
    """
    blocks, n, n_theta = likelihood.blocks, len(r2), n_parameters(likelihood.blocks)
    scale = (r2 / likelihood.nu_of(replicates))[:, None, None, None]
    own = replicates if len(start.inverse) > 1 else np.zeros_like(replicates)
    residual = (start.traces[own] - D) * scale  # sum (Z'Py)(Z'Py)'
    right = np.column_stack([*_along(blocks, residual), r2])
    for t, (_, i, j) in enumerate(entries(blocks)):
        right[:, -1] -= START**2 * right[:, t] if i == j else 0.0
    psi = np.zeros((n, n_theta + 1))
    for t in range(n_theta + 1):
        psi += right[:, t, None] * start.inverse[own, t]
    theta, order = plain_start(blocks, n)
    sigma2 = psi[:, -1]
    usable = np.isfinite(psi).all(axis=1) & (sigma2 > 0.0)
    ratio = np.where(usable[:, None], psi, 0.0) / np.where(usable, sigma2, 1.0)[:, None]
    for b, size in enumerate(blocks.size.tolist()):
        Psi = np.empty((n, size, size))
        for j in range(size):
            for i in range(j, size):
                Psi[:, i, j] = Psi[:, j, i] = ratio[:, entry(blocks, b, i, j)]
        Psi, rank = _nearest_in_cone(Psi)
        put_largest_pivots_first(blocks, order, b, Psi)
        set_block(blocks, order, theta, b, Psi, np.arange(size) >= rank[:, None])
    return theta, order


def _nearest_in_cone(Psi: Floats) -> tuple[Floats, Ints]:
    """Psi without its negative eigenvalues, and its rank."""
    size = Psi.shape[1]
    rank = np.full(len(Psi), size)
    outside = np.flatnonzero(np.einsum("nii->ni", semidefinite_factor(Psi)).min(axis=1) <= 0.0)
    if len(outside):
        values, vectors = symmetric_eigen(Psi[outside])
        values = np.where(values > 0.0, values, 0.0)
        Psi[outside] = product(vectors * values[:, None, :], transpose(vectors))
        rank[outside] = np.count_nonzero(values, axis=1)
    return Psi, rank


def start_of(likelihood: Likelihood, z: Floats, *, is_rough: bool = False) -> Start:
    """The start where `z` are the parameters after those of Lam, of every design.

    Parameters
    ----------
    likelihood : of at least one replicate, whose data do not matter
    is_rough : by half of the evaluations where these tell the covariances well apart
    """
    everyone = np.arange(np.size(likelihood.nu))
    equations, traces = _normal_equations(likelihood, everyone, z, START_STEP, is_rough=is_rough)
    values, vectors = _in_own_scale(equations)
    rough = everyone[is_rough & (values[:, 0] < SURELY_TOLD)]
    if len(rough):
        equations[rough], _ = _normal_equations(likelihood, rough, z, START_STEP)
        values[rough], vectors[rough] = _in_own_scale(equations[rough])
    inverse = np.ascontiguousarray(np.linalg.pinv(equations, rcond=NO_INFORMATION, hermitian=True))
    doubtful = np.flatnonzero(values[:, 0] < DOUBTFUL)
    if len(doubtful):  # Richardson's extrapolation
        wider, _ = _normal_equations(likelihood, doubtful, z, 2.0 * START_STEP)
        better = (4.0 * equations[doubtful] - wider) / 3.0
        values[doubtful], vectors[doubtful] = _in_own_scale(better)
    flat = [np.zeros((0, values.shape[1]))] * len(everyone)
    for number in np.flatnonzero(values[:, 0] < FLAT):
        own = vectors[number][:, values[number] < FLAT]
        flat[number] = np.ascontiguousarray(np.linalg.qr(own)[0].T)
    return Start(z, inverse, traces, tuple(flat))


def _normal_equations(
    likelihood: Likelihood, designs: Ints, z: Floats, step: float, *, is_rough: bool = False
) -> tuple[Floats, Floats]:
    """tr(P V_r P V_s) at Psi0 by differences of a step, and sum Z'PZ there; of every design.

    Parameters
    ----------
    is_rough : by differences to one side, whose error is of the size of the step
    """
    blocks, n = likelihood.blocks, len(designs)
    sides = (1.0,) if is_rough else (1.0, -1.0)
    theta, order = plain_start(blocks, 1 + len(sides) * n_parameters(blocks))
    for t, (b, i, j) in enumerate(entries(blocks)):
        size = int(blocks.size[b])
        for row, side in enumerate(sides, start=1 + len(sides) * t):
            Psi = START**2 * np.eye(size)
            Psi[i, j] += side * step
            Psi[j, i] = Psi[i, j]
            point = slice(row, row + 1)
            set_block(blocks, order[point], theta[point], b, Psi[None])
    n_points = len(theta)
    points = np.hstack([theta, np.tile(z, (n_points, 1))])
    found = likelihood.at(
        np.repeat(designs, n_points), np.tile(points, (n, 1)), np.tile(order, (n, 1, 1)),
        with_data=False,
    )  # fmt: skip
    no_traces = np.zeros((n * n_points, 0))
    traces = np.column_stack([*_along(blocks, found.D), no_traces])  # tr(P V_r) at every point
    traces = traces.reshape(n, n_points, -1)
    below = traces[:, :1] if is_rough else traces[:, 2::2]
    cross = (below - traces[:, 1 :: len(sides)]) / (len(sides) * step)  # tr(P V_r P V_s)
    psi = np.array([START**2 if i == j else 0.0 for _, i, j in entries(blocks)])
    equations = np.zeros((n, len(psi) + 1, len(psi) + 1))
    equations[:, :-1, :-1] = 0.5 * (cross + transpose(cross))
    equations[:, -1, -1] = likelihood.nu_of(designs)
    for own, trace in zip(equations, traces[:, 0], strict=True):
        E = own[:-1, :-1]
        own[:-1, -1] = own[-1, :-1] = trace - E @ psi
        own[-1, -1] = own[-1, -1] - 2.0 * psi @ trace + psi @ E @ psi
    return equations, found.D[::n_points]


def _in_own_scale(equations: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, ascending, of equations with a diagonal of 1, and the vectors in psi."""
    size = np.einsum("nii->ni", equations)
    largest = size.max(axis=1, keepdims=True)
    is_told = size > FLAT * largest  # less is rounding
    scale = np.sqrt(np.where(is_told, size, largest))
    told = is_told[:, :, None] & is_told[:, None, :]
    own = np.where(told, equations, 0.0) / (scale[:, :, None] * scale[:, None, :])
    values, vectors = np.linalg.eigh(own)
    return values, vectors / scale[:, :, None]


def _along(blocks: Blocks, D: Floats) -> list[Floats]:
    """Derivative along every entry of Psi: n_theta times (n,)."""
    parts = [block_of(blocks, b, D) for b in range(len(blocks.size))]
    return [parts[b][:, i, j] * (1.0 if i == j else 2.0) for b, i, j in entries(blocks)]
