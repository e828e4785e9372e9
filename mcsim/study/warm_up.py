"""Compile all that is compiled, before anything waits for it."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from mcsim.engine.arithmetic import compiled
from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.bfgs import updated_inverse
from mcsim.engine.arithmetic.unit_sums import weighted_sums
from mcsim.engine.compile import (
    CompiledDesign,
    Level,
    collapse_design,
    compile_design,
    crossed_design,
)
from mcsim.engine.draws import Cells, add_effects, set_responses
from mcsim.engine.families.kinds import LOGIT
from mcsim.engine.fit import reduce_responses
from mcsim.engine.laplace.crossed_likelihood import CrossedLaplaceLikelihood
from mcsim.engine.laplace.crossing import cross_of
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.nest import Nest, nest_of
from mcsim.engine.laplace.quadrature import QuadratureLikelihood
from mcsim.engine.laplace.search import laplace_optima
from mcsim.engine.nested.forest import OwnRows, grow
from mcsim.scenario.records import Scenario
from mcsim.study.workers.kinds import EXECUTORS, Place
from mcsim.study.workers.processes import usable_cpus

COUNTS, QUADRATURE, CROSSED = "counts", "quadrature of counts", "counts of units that cross"
ROWS = 12  # of a design that is large enough to be fitted


def parts_for(scenario: Scenario) -> list[str]:
    """What a scenario needs beside what all do."""
    if not scenario.has_counts:
        return []
    has_points = any((spec.quadrature or 1) > 1 for spec in scenario.methods)
    does_cross = bool(scenario.design.crossed_levels)
    return [COUNTS, *[QUADRATURE] * has_points, *[CROSSED] * does_cross]


def compile_engine(report: Callable[[str], None], parts: Collection[str] = ()) -> None:
    """Compile what this machine has not compiled yet, on two processors where there are two.

    Parameters
    ----------
    parts : beside what all need
    """
    wanted = [name for name in PARTS if name in (*parts, *FOR_ALL)]
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
    design, nest = _small_nest()
    laplace_optima(LaplaceLikelihood(nest, design.blocks, LOGIT, BINARY))


def _compile_quadrature() -> None:
    design, nest = _small_nest()
    laplace_optima(QuadratureLikelihood(nest, design.blocks, LOGIT, BINARY, 2))


def _compile_crossed() -> None:
    X, (level,) = _small_design()
    levels = level, replace(level, unit_of_row=np.arange(ROWS) % 3)
    design = crossed_design(X, levels, ("Intercept",), is_reml=False)
    design, cross = cross_of(design, X, levels, np.zeros(ROWS), np.ones(ROWS))
    laplace_optima(CrossedLaplaceLikelihood(cross, design.blocks, LOGIT, BINARY))


def _small_nest() -> tuple[CompiledDesign, Nest]:
    X, levels = _small_design()
    design = collapse_design(X, levels, names=("Intercept",))
    return design, nest_of(design, X, levels, np.zeros(ROWS), np.ones(ROWS))


BINARY = np.array([[0.0, 1.0] * (ROWS // 2)])
FOR_ALL = {"likelihood": _compile_likelihood, "the rest": _compile_the_rest}
PARTS = {  # what takes longest first
    QUADRATURE: _compile_quadrature,
    CROSSED: _compile_crossed,
    COUNTS: _compile_counts,
} | FOR_ALL
