"""The likelihood at given points, and what the design alone says of the start of the search."""

import numpy as np

from mcsim.engine.optimise import fit_lanes
from mcsim.engine.search import Fits, new_fits, new_search
from mcsim.engine.start import START
from mcsim.engine.tree import Floats, Moments, Tree, new_workspace

START_STEP = 1e-4  # of Psi, around 0.25; error of the differences about 1e-7 relative


def run_search(tree: Tree, moments: Moments, probes: Floats) -> Fits:
    """Fit every replicate, or evaluate each at its row of `probes` (n_replicates, n_theta)."""
    fits = new_fits(tree, len(moments.rss))
    fit_lanes(tree, moments, probes, new_workspace(tree), new_search(tree), fits)
    return fits


def no_probes(tree: Tree) -> Floats:
    """Probes of a search that fits."""
    return np.empty((0, len(tree.start_inverse) - 1))


def with_start(tree: Tree) -> Tree:
    """The tree with the normal equations that the search begins with (see start.py)."""
    entries = _entries(tree)
    n = len(entries)
    probes = [_start_factor(tree)]
    for row, column, block in entries:
        probes += [
            _start_factor(tree, side * START_STEP, (row, column, block)) for side in (1.0, -1.0)
        ]
    D = run_search(tree, _no_data(tree, len(probes)), np.array(probes)).D
    N = np.array([_traces(tree, entries, at) for at in D])  # tr(P V_r) at every probe
    cross = -(N[1::2] - N[2::2]).T / (2.0 * START_STEP)  # tr(P V_r P V_s)
    psi = np.array([START**2 if row == column else 0.0 for row, column, _ in entries])
    equations = np.zeros((n + 1, n + 1))
    equations[:n, :n] = 0.5 * (cross + cross.T)
    equations[:n, n] = equations[n, :n] = N[0] - equations[:n, :n] @ psi
    equations[n, n] = tree.nu - 2.0 * psi @ N[0] + psi @ equations[:n, :n] @ psi
    inverse = np.linalg.pinv(equations, hermitian=True)
    return tree._replace(start_inverse=np.ascontiguousarray(inverse), start_N=D[0])


def _entries(tree: Tree) -> list[tuple[int, int, int]]:
    """Row, column and block of every parameter."""
    return [
        (row, column, block)
        for block, size in enumerate(tree.blocks.size.tolist())
        for column in range(size)
        for row in range(column, size)
    ]


def _start_factor(
    tree: Tree, change: float = 0.0, where: tuple[int, int, int] = (0, 0, -1)
) -> list[float]:
    """Theta of Psi = 0.25 I, with one entry of one block changed."""
    theta: list[float] = []
    for block, size in enumerate(tree.blocks.size.tolist()):
        Psi = START**2 * np.eye(size)
        if block == where[2]:
            Psi[where[0], where[1]] += change
            Psi[where[1], where[0]] = Psi[where[0], where[1]]
        factor = np.linalg.cholesky(Psi)
        theta += [factor[i, j] for j in range(size) for i in range(j, size)]
    return theta


def _traces(tree: Tree, entries: list[tuple[int, int, int]], D: Floats) -> list[float]:
    """Derivative along every entry of Psi."""
    traces = []
    for row, column, block in entries:
        level, first = tree.blocks.level[block], tree.blocks.first[block]
        if tree.blocks.is_matrix[block]:
            value = D[level, first + row, first + column] * (1.0 if row == column else 2.0)
        else:
            value = np.sum(tree.blocks.Q[block] * D[level])
        traces.append(float(value))
    return traces


def _no_data(tree: Tree, n: int) -> Moments:
    """Replicates whose data are nowhere in the span of the design."""
    k, _, n_classes = tree.B.shape
    shapes = (k, k, n_classes // tree.width), (k, tree.C.shape[2] // tree.width)
    root = (k, tree.Bx.shape[2] // tree.width)
    return Moments(
        np.zeros((n, tree.Bx.shape[1])),
        np.ones(n),
        *[np.zeros((n, *shape)) for shape in (*shapes, root)],
    )
