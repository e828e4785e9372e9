"""Where the search begins: MINQUE, the exact optimum of balanced designs inside the cone.

With P taken at Psi0 = 0.25 I, the estimates solve, in Sigma and sigma2,

    sum_s tr(P V_r P V_s) psi_s = y'P V_r P y

(Rao 1971). The left side depends on the design alone. P V P = P gives the row of sigma2, whose V
is the identity, from the others. What lies outside the cone is set to zero.
"""

from collections.abc import Callable

import numpy as np

from mcsim.engine.arithmetic.replicates import (
    product,
    semidefinite_factor,
    symmetric_eigen,
    transpose,
)
from mcsim.engine.nested.blocks import block_of, entries, entry, put_largest_pivots_first, set_block
from mcsim.engine.nested.likelihood import Likelihood
from mcsim.engine.nested.tree import (
    Floats,
    Ints,
    Moments,
    Points,
    Tree,
    n_parameters,
    new_workspace,
)

START = 0.5  # relative SD of every random effect, in columns of unit scale
START_STEP = 1e-4  # of Psi, around 0.25; error of the differences about 1e-7 relative
NO_INFORMATION = 1e-7  # of the largest eigenvalue: what the normal equations do not determine


def plain_start(tree: Tree, n: int) -> tuple[Floats, Ints]:
    """Theta and order of Psi0, n times."""
    theta = np.zeros((n, n_parameters(tree)))
    for b, i, j in entries(tree.blocks):
        theta[:, entry(tree.blocks, b, i, j)] = START if i == j else 0.0
    order = np.tile(np.arange(tree.classes.B.shape[1]), (n, len(tree.blocks.size), 1))
    return theta, order


def minque(tree: Tree, D: Floats, r2: Floats) -> tuple[Floats, Ints]:
    """Theta and order of the start.

    Parameters
    ----------
    D, r2 : (n, n_levels, q, q) and (n,) derivative of -2 logLik and y'Py at Psi0
    """
    n, n_theta = len(r2), n_parameters(tree)
    residual = (tree.start_traces - D) * (r2 / tree.model.nu)[
        :, None, None, None
    ]  # sum (Z'Py)(Z'Py)'
    right = np.column_stack([*_along(tree, residual), r2])
    for t, (_, i, j) in enumerate(entries(tree.blocks)):
        right[:, -1] -= START**2 * right[:, t] if i == j else 0.0
    psi = np.zeros((n, n_theta + 1))
    for t in range(n_theta + 1):
        psi += right[:, t, None] * tree.start_inverse[t]
    theta, order = plain_start(tree, n)
    sigma2 = psi[:, -1]
    usable = np.isfinite(psi).all(axis=1) & (sigma2 > 0.0)
    ratio = np.where(usable[:, None], psi, 0.0) / np.where(usable, sigma2, 1.0)[:, None]
    for b, size in enumerate(tree.blocks.size.tolist()):
        Psi = np.empty((n, size, size))
        for j in range(size):
            for i in range(j, size):
                Psi[:, i, j] = Psi[:, j, i] = ratio[:, entry(tree.blocks, b, i, j)]
        Psi, rank = _nearest_in_cone(Psi)
        put_largest_pivots_first(tree.blocks, order, b, Psi)
        set_block(tree.blocks, order, theta, b, Psi, np.arange(size) >= rank[:, None])
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


def start_of(tree: Tree) -> Tree:
    """The tree with the normal equations of the start."""

    def at(theta: Floats, order: Ints) -> Points:
        n_values = len(new_workspace(tree).lanes.data)
        moments = no_data(n_values, tree.roots.Bx.shape[1], len(theta))
        everyone = np.arange(len(theta))
        return Likelihood(tree, moments).at(everyone, theta, order, with_data=False)

    return with_start(tree, at)


def with_start(tree: Tree, at: Callable[[Floats, Ints], Points]) -> Tree:
    """The tree with the normal equations of the start.

    Parameters
    ----------
    at : evaluates points theta (n, n_theta), order (n, n_blocks, q), without data
    """
    theta, order = plain_start(tree, 1 + 2 * n_parameters(tree))
    for t, (b, i, j) in enumerate(entries(tree.blocks)):
        size = int(tree.blocks.size[b])
        for row, side in ((1 + 2 * t, 1.0), (2 + 2 * t, -1.0)):
            Psi = START**2 * np.eye(size)
            Psi[i, j] += side * START_STEP
            Psi[j, i] = Psi[i, j]
            point = slice(row, row + 1)
            set_block(tree.blocks, order[point], theta[point], b, Psi[None])
    found = at(theta, order)
    no_traces = np.zeros((len(theta), 0))
    traces = np.column_stack([*_along(tree, found.D), no_traces])  # tr(P V_r) at every point
    cross = -(traces[1::2] - traces[2::2]) / (2.0 * START_STEP)  # tr(P V_r P V_s)
    psi = np.array([START**2 if i == j else 0.0 for _, i, j in entries(tree.blocks)])
    equations = np.zeros((len(psi) + 1, len(psi) + 1))
    equations[:-1, :-1] = 0.5 * (cross + cross.T)
    equations[:-1, -1] = equations[-1, :-1] = traces[0] - equations[:-1, :-1] @ psi
    equations[-1, -1] = tree.model.nu - 2.0 * psi @ traces[0] + psi @ equations[:-1, :-1] @ psi
    inverse = np.ascontiguousarray(np.linalg.pinv(equations, rcond=NO_INFORMATION, hermitian=True))
    return tree._replace(start_inverse=inverse, start_traces=found.D[0])


def _along(tree: Tree, D: Floats) -> list[Floats]:
    """Derivative along every entry of Psi: n_theta times (n,)."""
    parts = [block_of(tree.blocks, b, D) for b in range(len(tree.blocks.size))]
    return [parts[b][:, i, j] * (1.0 if i == j else 2.0) for b, i, j in entries(tree.blocks)]


def no_data(n_values: int, p: int, n: int, n_forms: int = 0) -> Moments:
    """Replicates whose data are nowhere in the span of the design."""
    return Moments(np.zeros((n, n_values)), np.zeros((n, p)), np.ones(n), np.ones((n, n_forms)))
