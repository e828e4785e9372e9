"""Compile all that is compiled, before anything waits for it."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from mcsim.design.columns import model_columns
from mcsim.design.table import Table
from mcsim.engine.arithmetic import compiled
from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.bfgs import updated_inverse
from mcsim.engine.arithmetic.unit_sums import unit_sums, weighted_sums
from mcsim.engine.compile import (
    CompiledDesign,
    Level,
    collapse_design,
    compile_design,
    crossed_design,
    no_data,
)
from mcsim.engine.crossed.crossing import Crossing
from mcsim.engine.crossed.large import LargeCrossedLikelihood
from mcsim.engine.draws import Cells, add_effects, set_responses
from mcsim.engine.families.kinds import LOGIT
from mcsim.engine.fit import fit_block, reduce_responses
from mcsim.engine.laplace.crossed_likelihood import CrossedLaplaceLikelihood
from mcsim.engine.laplace.crossing import cross_of
from mcsim.engine.laplace.likelihood import LaplaceLikelihood
from mcsim.engine.laplace.nest import Nest, nest_of
from mcsim.engine.laplace.quadrature import QuadratureLikelihood
from mcsim.engine.laplace.search import laplace_optima
from mcsim.engine.nested.forest import OwnRows, grow
from mcsim.engine.optimum.minque import start_of
from mcsim.engine.residuals.kinds import KINDS
from mcsim.engine.residuals.structure import ResidualRows
from mcsim.scenario.families import FamilyModel
from mcsim.scenario.records import Scenario
from mcsim.study.workers.kinds import EXECUTORS, Place
from mcsim.study.workers.processes import usable_cpus

COUNTS, QUADRATURE, CROSSED_COUNTS = "counts", "quadrature of counts", "counts of units that cross"
CROSSED, RESIDUALS = "units that cross", "residuals with a structure"
ROWS = 12  # of a design that is large enough to be fitted


def parts_for(scenario: Scenario) -> list[str]:
    """What a scenario needs beside what all do."""
    return _parts(
        does_cross=bool(scenario.design.crossed_levels)
        or any(key.endswith(".crossed") for key in scenario.sweep),
        has_counts=scenario.has_counts,
        has_points=any((spec.quadrature or 1) > 1 for spec in scenario.methods),
        has_residuals=any(spec.residual is not None for spec in scenario.methods),
    )


def parts_for_table(table: Table, model: FamilyModel | None) -> list[str]:
    """What the fit of a table needs beside what all do."""
    return _parts(
        does_cross=model_columns(table.formula, table.frame).are_crossed,
        has_counts=model is not None,
        has_points=model is not None and model.quadrature > 1,
        has_residuals=False,
    )


def _parts(
    *, does_cross: bool, has_counts: bool, has_points: bool, has_residuals: bool
) -> list[str]:
    is_needed = {
        COUNTS: has_counts,
        QUADRATURE: has_counts and has_points,
        CROSSED: does_cross,
        CROSSED_COUNTS: has_counts and does_cross,
        RESIDUALS: has_residuals,
    }
    return [name for name, needed in is_needed.items() if needed]


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
    how_long = f"about {10 * math.ceil(sum(SECONDS[name] for name in cold) / 10)} seconds"
    if compiled.WHY_NOT_KEPT:
        report(f"Compiling the engine, {how_long}, not to be kept: {compiled.WHY_NOT_KEPT}")
    else:
        report(f"Compiling the engine: once per machine and version, {how_long}.")
    n_workers = min(len(cold), usable_cpus())
    with EXECUTORS["processes" if n_workers > 1 else "serial"](Place(n_workers)) as executor:
        for own in ([name for name in cold if name != RESIDUALS], {RESIDUALS}.intersection(cold)):
            for _ in executor.map_unordered(_compile_part, own):  # the last needs what is compiled
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
    set_responses(np.zeros((1, ROWS)), 0, 1.0, y[0], y)
    at = np.array([0, ROWS], dtype=np.uint64)
    cells = Cells(at[:1], np.ones(1))
    add_effects(np.zeros((1, 1)), 0, np.eye(1), np.ones((1, ROWS)), at, cells, y)
    weighted_sums(y, y)
    unit_sums(y, y.T, np.arange(ROWS), ROWS)
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
    X, levels = _crossed_levels()
    design = compile_design(X, levels, names=("Intercept",), are_crossed=True)
    fit_block(design, BINARY)
    assert isinstance(design.tree, Crossing)
    start_of(LargeCrossedLikelihood(design.tree, no_data(design)), np.zeros(0))


def _compile_crossed_counts() -> None:
    X, levels = _crossed_levels()
    design = crossed_design(X, levels, ("Intercept",), is_reml=False)
    design, cross = cross_of(design, X, levels, np.zeros(ROWS), np.ones(ROWS))
    laplace_optima(CrossedLaplaceLikelihood(cross, design.blocks, LOGIT, BINARY))


def _compile_residuals() -> None:
    X, levels = _small_design()
    for kind in KINDS:
        stratum = np.arange(ROWS) % 2 if kind == "strata" else None
        residual = ResidualRows(kind, stratum=stratum)
        design = compile_design(X, levels, names=("Intercept",), residual=residual)
        reduce_responses(design, BINARY)


def _crossed_levels() -> tuple[Floats, tuple[Level, ...]]:
    X, (level,) = _small_design()
    return X, (level, replace(level, unit_of_row=np.arange(ROWS) // 2 % 3))


def _small_nest() -> tuple[CompiledDesign, Nest]:
    X, levels = _small_design()
    design = collapse_design(X, levels, names=("Intercept",))
    return design, nest_of(design, X, levels, np.zeros(ROWS), np.ones(ROWS))


BINARY = np.array([[0.0, 1.0] * (ROWS // 2)])
FOR_ALL = {"likelihood": _compile_likelihood, "the rest": _compile_the_rest}
SECONDS = {  # that each adds on two processors
    QUADRATURE: 24,
    CROSSED_COUNTS: 10,
    COUNTS: 15,
    CROSSED: 6,
    RESIDUALS: 12,
    "likelihood": 13,
    "the rest": 1,
}
PARTS = {  # what takes longest first
    QUADRATURE: _compile_quadrature,
    CROSSED_COUNTS: _compile_crossed_counts,
    COUNTS: _compile_counts,
    CROSSED: _compile_crossed,
    RESIDUALS: _compile_residuals,
} | FOR_ALL
