"""Compile all that is compiled, before anything waits for it."""

from collections.abc import Callable

import numpy as np

from mcsim.engine.arithmetic import compiled
from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.bfgs import updated_inverse
from mcsim.engine.arithmetic.unit_sums import weighted_sums
from mcsim.engine.compile import Level, collapse_design, compile_design
from mcsim.engine.draws import Cells, add_effects, set_responses
from mcsim.engine.families.kinds import LOGIT
from mcsim.engine.fit import reduce_responses
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.nest import nest_of
from mcsim.engine.laplace.search import laplace_optima
from mcsim.engine.nested.forest import OwnRows, grow
from mcsim.study.workers.kinds import EXECUTORS, Place
from mcsim.study.workers.processes import usable_cpus

COUNTS = "counts"  # the part that only they need
ROWS = 12  # of a design that is large enough to be fitted


def compile_engine(report: Callable[[str], None], *, has_counts: bool = False) -> None:
    """Compile what this machine has not compiled yet, on two processors where there are two.

    Parameters
    ----------
    has_counts : whether responses are counts or proportions, which need more
    """
    wanted = [*PARTS] if has_counts else [name for name in PARTS if name != COUNTS]
    cold = [name for name in wanted if compiled.is_cold(name)]
    if not cold:
        return
    if compiled.WHY_NOT_KEPT:
        report(f"Compiling the engine, about 20 seconds, not to be kept: {compiled.WHY_NOT_KEPT}")
    else:
        report("Compiling the engine: once per machine and version, about 20 seconds.")
    n_workers = min(len(cold), usable_cpus())
    with EXECUTORS["processes" if n_workers > 1 else "serial"](Place(n_workers)) as executor:
        for _ in executor.map_unordered(_compile_part, cold):
            pass


def _compile_part(name: str) -> None:
    PARTS[name]()
    compiled.note_complete(name)


def _compile_likelihood() -> None:
    X, levels = _small_design()
    compile_design(X, levels, names=("Intercept",))


def _compile_the_rest() -> None:
    X, levels = _small_design()
    y = np.zeros((1, ROWS))
    reduce_responses(collapse_design(X, levels, names=("Intercept",)), y)
    column, start = np.array([0]), np.array([0, ROWS])
    is_first = np.arange(ROWS)[None] % 3 == 0
    grow(OwnRows(start, is_first, X.T.copy(), (column,), column), y[0], 1)
    set_responses(np.zeros((1, 2 * ROWS))[:, :ROWS], 1.0, y[0], y)
    at = np.array([0, ROWS], dtype=np.uint64)
    cells = Cells(at[:1], np.ones(1))
    add_effects(np.zeros((1, 2))[:, :1], np.eye(1), np.ones((1, ROWS)), at, cells, y)
    weighted_sums(y, y)
    updated_inverse(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones((1, 1)))


def _small_design() -> tuple[Floats, tuple[Level, ...]]:
    unit = np.repeat(np.arange(ROWS // 3), 3)
    level = Level(unit, np.ones((ROWS, 1)), (("general", 1),), ("Intercept",))
    return np.ones((ROWS, 1)), (level,)


def _compile_counts() -> None:
    X, levels = _small_design()
    design = collapse_design(X, levels, names=("Intercept",))
    nest = nest_of(design, X, levels, np.zeros(ROWS), np.ones(ROWS))
    y = np.array([[0.0, 1.0] * (ROWS // 2)])
    laplace_optima(LaplaceLikelihood(nest, design.blocks, LOGIT, y))


PARTS = {
    COUNTS: _compile_counts,
    "likelihood": _compile_likelihood,
    "the rest": _compile_the_rest,
}
