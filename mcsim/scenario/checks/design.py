"""What is wrong between the parts of a design."""

import math
from collections.abc import Iterator, Mapping

from mcsim.scenario.checks.columns import lacking, lacking_level
from mcsim.scenario.checks.draft import Draft
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.limits import MOST_ROWS
from mcsim.scenario.records import DesignNames, DesignSpec
from mcsim.scenario.values import UniformCount

MOST_CELLS = 500  # that may each have a count of their own
_SOURCES = ("grid", "normal", "uniform", "values")


def design_problems(draft: Draft) -> Iterator[Finding]:
    """Names used twice, counts of unknown cells, covariates without one source of values."""
    design, names = draft.scenario.design, draft.names
    if design is None:
        return
    yield from _source_problems(design, draft)
    yield from _size_problems(design, draft)
    if names is not None:
        yield from _name_problems(names)
        yield from _count_problems(design, names)
        yield from _covariate_level_problems(design, names)


def _size_problems(design: DesignSpec, draft: Draft) -> Iterator[Finding]:
    """Data sets that are too large, told by the counts alone; the largest count is to blame."""
    parts = ("factors", "levels", "observations")
    if any(("design", part) in draft.faulty for part in parts) or None in (
        design.levels,
        design.observations,
    ):
        return
    sizes: dict[KeyPath, int] = {
        ("design", "levels", number, "count"): _largest(level.count)
        for number, level in enumerate(design.levels)
    }
    sizes["design", "observations", "count"] = _largest(design.observations.count)
    if not isinstance(design.levels[0].count, Mapping):
        sizes["design", "factors"] = _n_cells(design)
    n_rows = math.prod(sizes.values())
    if n_rows > MOST_ROWS:
        blamed = max(sizes, key=lambda path: sizes[path])
        found = f"{n_rows:,}" if n_rows < MOST_ROWS**2 else f"{n_rows:.1e}"
        yield blamed, f"a data set has up to {found} rows; at most {MOST_ROWS:,}: lower the counts"


def _largest(count: object) -> int:
    """The largest number of units that a count stands for, or of all cells together."""
    if isinstance(count, Mapping):
        return sum(count.values())
    return count.uniform[1] if isinstance(count, UniformCount) else int(str(count))


def _n_cells(design: DesignNames) -> int:
    return math.prod(map(len, design.factors.values()))


def _source_problems(design: DesignSpec, draft: Draft) -> Iterator[Finding]:
    for name, spec in (design.covariates or {}).items():
        path = ("design", "covariates", name)
        if path in draft.faulty:
            continue
        given = [source for source in _SOURCES if getattr(spec, source) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            yield path, f"{name!r} must have exactly one of {', '.join(_SOURCES)}; it has: {found}"
        if spec.level is not None and (spec.grid or spec.values):
            yield (*path, "level"), "only a drawn covariate, uniform or normal, can have a level"
        if spec.values is not None and ("design", "observations") not in draft.faulty:
            message = _wrong_length(len(spec.values), design.observations.count)
            yield from [((*path, "values"), message)] if message else []


def _wrong_length(n_values: int, count: object) -> str:
    if not isinstance(count, int):
        return "values need a fixed design.observations.count; with a drawn one use grid"
    if n_values == count:
        return ""
    return f"values holds {n_values}, but design.observations.count is {count}; make them equal"


def _name_problems(names: DesignNames) -> Iterator[Finding]:
    used: list[tuple[KeyPath, str]] = [(("design", "response"), names.response)]
    used += [(("design", "factors", name), name) for name in names.factors]
    used += [(("design", "levels", i, "name"), name) for i, name in enumerate(names.level_names)]
    used += [(("design", "covariates", name), name) for name in names.covariates]
    taken: set[str] = set()
    for path, name in used:
        if name in taken:
            others = "response, factors, levels and covariates"
            yield path, f"the name {name!r} is used twice in the design; {others} must differ"
        taken.add(name)


def _count_problems(design: DesignSpec, names: DesignNames) -> Iterator[Finding]:
    for number, level in enumerate(design.levels):
        cells, path = level.count, ("design", "levels", number, "count")
        if not isinstance(cells, dict):
            continue
        if number > 0 or not names.factors:
            place = f"at {names.level_names[0]!r}, the outermost level, of a design with factors"
            instead = "a whole number or { uniform = [low, high] }"
            yield path, f"a count per cell stands only {place}; write {instead}"
            continue
        if _n_cells(names) > MOST_CELLS:
            yield path, f"at most {MOST_CELLS} cells may have counts of their own; write one number"
            continue
        for cell in cells:
            yield from lacking((*path, cell), "cell", cell, names.cells, "The factors have")
        for cell in set(names.cells) - cells.keys():
            yield path, f"no count for the cell {cell!r}; each needs one: {', '.join(names.cells)}"


def _covariate_level_problems(design: DesignSpec, names: DesignNames) -> Iterator[Finding]:
    for name, spec in design.covariates.items():
        path = ("design", "covariates", name)
        if spec is not None:
            yield from lacking_level((*path, "level"), spec.level, ".".join(path), names)


def most_observations(draft: Draft) -> int:
    """Largest number of observations of an innermost unit; 1 where it cannot be read."""
    design = draft.scenario.design
    if design is None or ("design", "observations") in draft.faulty:
        return 1
    return _largest(design.observations.count)
