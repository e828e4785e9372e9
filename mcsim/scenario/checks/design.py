"""What is wrong between the parts of a design."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mcsim.scenario.checks.columns import DESIGN, lacking, lacking_level
from mcsim.scenario.checks.draft import Draft, columns_of, numbered
from mcsim.scenario.checks.tables import table_problems
from mcsim.scenario.design import DesignNames, DesignSpec, TableDesignSpec, cells_of
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.limits import MOST_ROWS
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
        yield from _crossing_problems(design, names)
        counts = _counts(design, draft)
        yield from _size_problems(counts, names)
        for place, (path, count) in counts.items():
            n_own = len(names.factors_of(place))
            yield from _count_problems(path, count, names.factors_down_to(place), place, n_own)


def _crossing_problems(design: DesignSpec, names: DesignNames) -> Iterator[Finding]:
    """Levels that cross with nothing, or whose numbers of units differ between what they meet."""
    for number, level in numbered(design.levels).items():
        path = ("design", "levels", number)
        if level.crossed and number == 0:
            yield (*path, "crossed"), "the first level has nothing before it to cross with"
        if level.crossed and level.count is not None and not isinstance(level.count, int):
            message = "a level that crosses has the same units for all: write a whole number"
            yield (*path, "count"), message
        if level.met is not None and not level.crossed:
            yield (*path, "met"), "`met` goes with crossed = true"


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
    return max(_by_outer_cell(count, n_factors).values(), default=0)


def _by_outer_cell(count: Mapping[str, int], n_own: int) -> dict[tuple[str, ...], int]:
    """The numbers of units of the cells of own factors together, by cell of the others."""
    found: Counter[tuple[str, ...]] = Counter()
    for cell, number in count.items():
        pieces = cell.split(":")
        found[tuple(pieces[: len(pieces) - n_own])] += number
    return found


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
        if spec.level is not None and spec.starts:
            yield (*path, "level"), "`starts` names its level itself"
        if spec.values is not None:
            message = _wrong_length(len(spec.values), spec.level, design, draft)
            yield from [((*path, "values"), message)] if message else []


def _wrong_length(n_values: int, level: str | None, design: DesignSpec, draft: Draft) -> str:
    """What is wrong with a number of values; empty if nothing, or if it cannot be told."""
    part = "observations" if level is None else "levels"
    if ("design", part) in draft.faulty:
        return ""
    counts = {one.name: one.count for one in design.levels} if level else {}
    if level is not None and level not in counts:  # which is another finding
        return ""
    count = counts[level] if level else design.observations.count
    key = f"design.levels.{level}.count" if level else "design.observations.count"
    if not isinstance(count, int):
        return f"values need a fixed {key}; with one that differs use grid"
    if n_values == count:
        return ""
    return f"values holds {n_values}, but {key} is {count}; make them equal"


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
    of_factor = {
        name: getattr(one, "of", names.level_names[0]) for name, one in names.factors.items()
    }
    dealt = {name for name, of in of_factor.items() if not isinstance(of, str)}
    for name, of in of_factor.items():
        path = ("design", "factors", name)
        how = getattr(names.factors[name], "dealt", None)
        where = f" in {'.'.join(path)}.of"
        if isinstance(of, str):
            places = [*filter(None, names.places)]
            yield from lacking((*path, "of"), "level", of, places, DESIGN, where)
            if how is not None:
                yield (*path, "dealt"), "`dealt` goes with a list of two names in `of`"
            continue
        if how is None:
            yield (*path, "of"), '`of` names two, so say how: dealt = "latin" or "all"'
        known = [*names.level_names, *(one for one in names.factors if one not in dealt)]
        for one in of:
            yield from lacking((*path, "of"), "level or factor", one, known, DESIGN, where)


def _count_problems(
    path: KeyPath, count: object, factors: Mapping[str, Sequence[str]], place: str, n_own: int
) -> Iterator[Finding]:
    """Counts per cell that do not name each cell once, or leave a unit empty.

    n_own : how many of the factors are of this place
    """
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
    for outer, n in _by_outer_cell(count, n_own).items():
        if n == 0:
            where = f" in the cell {':'.join(outer)!r}" if outer else ""
            yield path, f"all counts{where} are 0; one at least must be larger"


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
            if not _varies_within(spec.starts.level, along, design, names):
                within = f"{along!r} does not differ within units of {spec.starts.level!r}"
                instead = "name one of an inner level or of observations"
                yield (*starts, "along"), f"{within}, so there are no steps; {instead}"


def _varies_within(level: str, along: str, design: DesignSpec, names: DesignNames) -> bool:
    """Whether a variable may differ within units of a level; true where that cannot be told."""
    covariate = design.covariates.get(along)
    of = names.factor_places.get(along, covariate.level if covariate is not None else None)
    places = names.places
    known = level in places and isinstance(of, str) and of in places
    return not known or places.index(str(of)) > places.index(level)


def most_observations(draft: Draft) -> int:
    """Largest number of observations of an innermost unit; 1 where it cannot be read."""
    design = draft.scenario.design
    if draft.names is None or ("design", "observations") in draft.faulty:
        return 1
    if isinstance(design, TableDesignSpec):
        columns = columns_of(design, draft.tables)
        return columns.most_observations * design.copies.get(OBSERVATION, 1)
    own, count = design.factors_of(design.places[-1]), design.observations.count
    return _largest(count, len(own)) * (1 if isinstance(count, Mapping) else _n_cells(own))
