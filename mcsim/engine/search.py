"""What the search for the optimum remembers of every lane, and what comes out of it."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from mcsim.engine.tree import Floats, Ints, Tree


class Status(IntEnum):
    """How a fit ended; `NOT_CONVERGED` and `FAILED` are not usable."""

    OK = 0
    BOUNDARY = 1
    NOT_CONVERGED = 2
    FAILED = 3


class Search(NamedTuple):
    """State of the search, lane by lane."""

    replicate: Ints  # (width,) -1 where there is none
    phase: Ints  # what the evaluation that comes next is for
    evaluations: Ints
    n_rounds: Ints
    n_newton: Ints
    position: Ints  # of the pivot or the parameter that is being tried
    block: Ints  # that a false zero is left in
    trial: Floats  # (width, n_theta) where to evaluate next
    theta: Floats  # (width, n_theta) the accepted point, and what was found there:
    f: Floats
    r2: Floats
    gradient: Floats
    D: Floats  # (width, n_levels, q, q)
    scale: Floats  # (width, n_levels, q)
    beta: Floats
    T_inverse: Floats
    inverse: Floats  # (width, n_theta, n_theta) inverse Hessian, as the steps tell it
    H: Floats  # (width, n_theta, n_theta) Hessian
    step: Floats  # (width, n_theta)
    length: Floats  # (width,) of the step
    slope: Floats  # (width,) of -2 logLik along the step; minus twice the predicted decrease
    snap_cost: Floats
    direction: Floats  # (width, q)


class Fits(NamedTuple):
    """Results, replicate by replicate."""

    theta: Floats
    order: Ints  # (n_replicates, n_blocks, q)
    f: Floats
    r2: Floats
    violation: Floats
    status: Ints
    evaluations: Ints
    gradient: Floats
    H: Floats
    D: Floats  # (n_replicates, n_levels, q, q) derivative of -2 logLik in Psi
    N: Floats  # (n_replicates, n_levels, q, q) sum Z'PZ
    beta: Floats
    T_inverse: Floats


def _sizes(tree: Tree) -> tuple[int, int, int, int, int]:
    return (
        len(tree.start_inverse) - 1,
        len(tree.level_start) - 1,
        tree.B.shape[1],
        tree.Bx.shape[1],
        len(tree.blocks.size),
    )


def new_search(tree: Tree) -> Search:
    """A search with all lanes free."""
    n_theta, n_levels, q, p, _ = _sizes(tree)
    w = tree.width
    counters = [np.zeros(w, dtype=np.int64) for _ in range(7)]
    counters[0][:] = -1
    shapes: list[tuple[int, ...]] = [
        *[(n_theta,), (n_theta,), (), (), (n_theta,), (n_levels, q, q), (n_levels, q)],
        *[(p,), (p, p), (n_theta, n_theta), (n_theta, n_theta), (n_theta,), (), (), (), (q,)],
    ]
    return Search(*counters, *[np.zeros((w, *shape)) for shape in shapes])


def new_fits(tree: Tree, n_replicates: int) -> Fits:
    """Room for the results of some replicates."""
    n_theta, n_levels, q, p, n_blocks = _sizes(tree)
    n = n_replicates
    return Fits(
        theta=np.empty((n, n_theta)),
        order=np.empty((n, n_blocks, q), dtype=np.int64),
        f=np.empty(n),
        r2=np.empty(n),
        violation=np.empty(n),
        status=np.empty(n, dtype=np.int64),
        evaluations=np.empty(n, dtype=np.int64),
        gradient=np.empty((n, n_theta)),
        H=np.empty((n, n_theta, n_theta)),
        D=np.empty((n, n_levels, q, q)),
        N=np.empty((n, n_levels, q, q)),
        beta=np.empty((n, p)),
        T_inverse=np.empty((n, p, p)),
    )
