"""What is wrong between the parts of a design."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mcsim.scenario.checks.columns import DESIGN, lacking, lacking_level
from mcsim.scenario.checks.draft import Draft
from mcsim.scenario.checks.tables import table_problems
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.limits import MOST_ROWS
from mcsim.scenario.records import DesignNames, DesignSpec, TableDesignSpec, cells_of
from mcsim.scenario.values import OBSERVATION, UniformCount

MOST_CELLS = 500  # that may each have a count of their own
_SOURCES = ("grid", "normal", "starts", "uniform", "values")


def design_problems(draft: Draft) -> Iterator[Finding]:
    """Names used twice, counts of unknown cells, covariates without one source of values."""
    design, names = draft.scenario.design, draft.names
    if isinstance(design, TableDesignSpec):
        yield from table_problems(design, draft)
    if not isinstance(design, DesignSpec):
        return
    yield from _source_problems(design, draft)
    if names is not None:
        yield from _name_problems(names)
        yield from _factor_problems(names)
        yield from _covariate_level_problems(design, names)
        counts = _counts(design, draft)
        yield from _size_problems(counts, names)
        for place, (path, count) in counts.items():
            yield from _count_problems(path, count, names.factors_down_to(place), place)


def _counts(design: DesignSpec, draft: Draft) -> dict[str, tuple[KeyPath, object]]:
    """Where the count of every place stands, and the count; empty where one cannot be read."""
    parts = ("factors", "levels", "observations")
    if any(("design", part) in draft.faulty for part in parts) or None in (
        design.levels,
        design.observations,
    ):
        return {}
    found: dict[str, tuple[KeyPath, object]] = {
        level.name: (("design", "levels", number, "count"), level.count)
        for number, level in enumerate(design.levels)
    }
    return found | {
        design.places[-1]: (("design", "observations", "count"), design.observations.count)
    }


def _size_problems(
    counts: Mapping[str, tuple[KeyPath, object]], names: DesignNames
) -> Iterator[Finding]:
    """Data sets that are too large, told by the counts alone; the largest count is to blame."""
    sizes: dict[KeyPath, int] = {}
    for place, (path, count) in counts.items():
        own = names.factors_of(place)
        sizes[path] = _largest(count, len(own))
        if not isinstance(count, Mapping):
            sizes["design", "factors"] = sizes.get(("design", "factors"), 1) * _n_cells(own)
    n_rows = math.prod(sizes.values())
    if n_rows > MOST_ROWS:
        blamed = max(sizes, key=lambda path: sizes[path])
        found = f"{n_rows:,}" if n_rows < MOST_ROWS**2 else f"{n_rows:.1e}"
        yield blamed, f"a data set has up to {found} rows; at most {MOST_ROWS:,}: lower the counts"


def _largest(count: object, n_factors: int) -> int:
    """The largest number of units that a count stands for, of all cells of the own factors."""
    if not isinstance(count, Mapping):
        return count.uniform[1] if isinstance(count, UniformCount) else int(str(count))
    of_outer: Counter[tuple[str, ...]] = Counter()
    for cell, number in count.items():
        pieces = cell.split(":")
        of_outer[tuple(pieces[: len(pieces) - n_factors])] += number
    return max(of_outer.values(), default=0)


def _n_cells(factors: Mapping[str, Sequence[str]]) -> int:
    return math.prod(map(len, factors.values()))


def _source_problems(design: DesignSpec, draft: Draft) -> Iterator[Finding]:
    for name, spec in (design.covariates or {}).items():
        path = ("design", "covariates", name)
        if path in draft.faulty:
            continue
        given = [source for source in _SOURCES if getattr(spec, source) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            yield path, f"{name!r} must have exactly one of {', '.join(_SOURCES)}; it has: {found}"
        if spec.level is not None and (spec.grid or spec.values or spec.starts):
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


def _factor_problems(names: DesignNames) -> Iterator[Finding]:
    """Factors of nothing that there is, or dealt between what nothing can be dealt between."""
    dealt = {name for name, of in names.factor_places.items() if not isinstance(of, str)}
    for name, of in names.factor_places.items():
        path = ("design", "factors", name)
        how = getattr(names.factors[name], "dealt", None)
        where = f" in {'.'.join(path)}.of"
        if isinstance(of, str):
            yield from lacking((*path, "of"), "level", of, names.places, DESIGN, where)
            if how is not None:
                yield (*path, "dealt"), "`dealt` goes with a list of two names in `of`"
            continue
        if how is None:
            message = '`of` names two, so say how: dealt = "latin"'
            yield (*path, "of"), message
        known = [*names.level_names, *(one for one in names.factors if one not in dealt)]
        for one in of:
            yield from lacking((*path, "of"), "level or factor", one, known, DESIGN, where)


def _count_problems(
    path: KeyPath, count: object, factors: Mapping[str, Sequence[str]], place: str
) -> Iterator[Finding]:
    """Counts per cell that do not name each cell once."""
    if not isinstance(count, Mapping):
        return
    if not factors:
        instead = "a whole number or { uniform = [low, high] }"
        yield path, f"no factor is of {place!r} or a level around it, so no cells; write {instead}"
        return
    if _n_cells(factors) > MOST_CELLS:
        yield path, f"at most {MOST_CELLS} cells may have counts of their own; write one number"
        return
    cells = cells_of(factors)
    for cell in count:
        yield from lacking((*path, cell), "cell", cell, cells, f"Cells of {', '.join(factors)}")
    for cell in set(cells) - count.keys():
        yield path, f"no count for the cell {cell!r}; each needs one: {', '.join(cells)}"


def _covariate_level_problems(design: DesignSpec, names: DesignNames) -> Iterator[Finding]:
    known = {name for name, one in design.covariates.items() if one is not None and not one.starts}
    for name, spec in design.covariates.items():
        path, where = ("design", "covariates", name), f"design.covariates.{name}"
        if spec is None:
            continue
        yield from lacking_level((*path, "level"), spec.level, where, names)
        if spec.starts is not None:
            starts, steps = (*path, "starts"), [*names.factors, *known]
            where = f"{where}.starts"
            yield from lacking_level((*starts, "level"), spec.starts.level, where, names)
            along = spec.starts.along
            yield from lacking((*starts, "along"), "variable", along, steps, DESIGN, f" in {where}")


def most_observations(draft: Draft) -> int:
    """Largest number of observations of an innermost unit; 1 where it cannot be read."""
    design = draft.scenario.design
    if draft.names is None or ("design", "observations") in draft.faulty:
        return 1
    if isinstance(design, TableDesignSpec):
        columns = draft.tables[design.table].columns(design.level_names, design.factor_levels)
        return columns.most_observations * design.copies.get(OBSERVATION, 1)
    own, count = design.factors_of(design.places[-1]), design.observations.count
    return _largest(count, len(own)) * (1 if isinstance(count, Mapping) else _n_cells(own))
