"""The design that a table of data has, as the tables of a scenario."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.design.columns import ModelColumns, RandomColumns, model_columns
from mcsim.design.table import Table
from mcsim.engine.crossed.partitions import is_within
from mcsim.errors import DataError
from mcsim.scenario.values import OBSERVATION, RESERVED_NAMES, is_factor_level

Ints = NDArray[np.int64]

SAME_POINT = 1e-6  # of the range of a covariate: points closer than this are one
MOST_LOST = 0.5  # share of the points of a grid that may be lost
DIGITS = 4  # of a number that is not exact
EVEN = 0.2  # by how much a mean or an SD may differ from that of an even draw between its limits
KEEP = "keep the rows as they are, with --keep-design"
UNEVEN_COUNT = (
    "numbers of {!r} go from {} to {}, {:.3g} on average; the scenario draws {}, which comes to as"
    f" many; or {KEEP}"
)
NARROWER = (
    "{!r} has an SD of {:.3g}, less than if it were spread evenly between its limits; the scenario"
    f" draws it from {{:.4g}} to {{:.4g}}, which has this SD; or {KEEP}"
)
WIDER = (
    "{0!r} has an SD of {1:.3g}, and {2:.3g} in the scenario, which draws it evenly between its"
    f" limits: less is seen of its effect there; write factor({{0}}) if it names groups, or {KEEP}"
)


@dataclass(frozen=True)
class SeenDesign:
    """A design as a scenario has it.

    design : table of the scenario; lost : share of the observations of a grid that are not there
    """

    design: dict[str, Any]
    lost: float = 0.0


@dataclass(frozen=True)
class _Places:
    """Where factors vary: names of the levels and, last, of observations, outermost first.

    units : per place (n_rows,), the number of every row's unit; of rows, that of the row
    factors : per place, its own; dealt : those between two levels that cross
    crossed : levels whose units cross with those before; inner : (n_rows,) what rows lie in
    """

    names: tuple[str, ...]
    units: list[Ints]
    factors: dict[str, list[str]]
    dealt: dict[str, str]
    crossed: frozenset[str]
    inner: Ints


def levels_of(columns: ModelColumns) -> tuple[str, ...]:
    """Names of the grouping columns: the longest chain of nested units, then what crosses it."""
    groups = _groups(columns)
    return tuple(dict.fromkeys(name for one in _in_order(columns) for name in groups[one.level]))


def crossed_levels(columns: ModelColumns) -> frozenset[str]:
    """Grouping columns whose units cross with those of columns before, as the formula has them."""
    groups, levels = _groups(columns), _in_order(columns)
    return frozenset(
        groups[one.level][-1]
        for depth, one in enumerate(levels)
        if not all(is_within(one.unit_of_row, other.unit_of_row) for other in levels[:depth])
    )


def _groups(columns: ModelColumns) -> dict[str, tuple[str, ...]]:
    return {term.level: term.group for term in columns.formula.random}


def _in_order(columns: ModelColumns) -> list[RandomColumns]:
    """The levels as a scenario has them, where nested units stand before those that cross."""
    groups = _groups(columns)

    def n_names(chain: list[RandomColumns]) -> int:
        return len({name for one in chain for name in groups[one.level]})

    chains: list[list[RandomColumns]] = []
    for one in columns.levels:
        around = (chain for chain in chains if is_within(one.unit_of_row, chain[-1].unit_of_row))
        chains.append([*max(around, key=n_names, default=[]), one])
    longest = max(chains, key=n_names, default=[])
    return [
        *longest,
        *(one for one in columns.levels if all(one is not other for other in longest)),
    ]


def seen_design(table: Table, say: Callable[[str], None]) -> SeenDesign:
    """Units, factors where they vary, and covariates, in equal or in drawn numbers.

    say : takes where the scenario is not as the table

    Raises
    ------
    DataError
        No scenario but the table itself has such a design.
    """
    frame, formula = table.frame, table.formula
    for name in formula.names:
        if name in (*RESERVED_NAMES, OBSERVATION):
            raise DataError(f"in a scenario {name!r} has a meaning of its own; rename the column")
    for name in formula.made_factors:
        if name not in formula.labels:
            raise DataError(
                f"{name!r} is a factor in C() and a covariate elsewhere in the formula; give the"
                " factor a column of its own"
            )
    is_number = {name: pd.api.types.is_float_dtype(frame[name]) for name in formula.columns}
    factors = [name for name in formula.columns if not is_number[name]]
    places = _places(frame, model_columns(formula, frame), factors)
    covariates, n_points = {}, None
    for name in (name for name in formula.columns if is_number[name]):
        covariates[name], n_seen = _covariate(frame, name, places, say)
        n_points = n_seen or n_points
    n_counted = len(places.names) - (n_points is not None)
    counts = [_count_of_place(frame, places, depth, say) for depth in range(n_counted)]
    lost = 0.0
    if n_points is not None:
        counts.append(n_points)
        n_slots = n_points * len(np.unique(_slots(frame, places)))
        lost = float(f"{1.0 - len(frame) / n_slots:.{DIGITS}g}")
    return SeenDesign(
        {
            "response": formula.response,
            "factors": {name: _factor(frame[name], name, places) for name in factors},
            "levels": [
                {"name": name, "count": count} | _crossing(places, name)
                for name, count in zip(places.names[:-1], counts[:-1], strict=True)
            ],
            "observations": {"count": counts[-1]},
            "covariates": covariates,
        },
        lost,
    )


def _places(frame: pd.DataFrame, columns: ModelColumns, factors: Sequence[str]) -> _Places:
    levels, crossed = levels_of(columns), crossed_levels(columns)
    if crossed and (len(levels) > 2 or len(columns.levels) > 2):
        raise DataError(f"more than two levels, of which some cross, are not described; {KEEP}")
    paths = [
        [one] if one in crossed else list(levels[: depth + 1]) for depth, one in enumerate(levels)
    ]
    numbers = [frame.groupby(path, sort=False, observed=True).ngroup() for path in paths]
    units = [np.asarray(one, dtype=np.int64) for one in (*numbers, np.arange(len(frame)))]
    of_rows = frame.groupby(list(levels), sort=False, observed=True).ngroup()
    inner = np.asarray(of_rows, dtype=np.int64)
    names = (*levels, OBSERVATION)
    places = _Places(names, units, {name: [] for name in names}, {}, crossed, inner)
    for factor in factors:
        codes = np.asarray(frame[factor].cat.codes, dtype=np.int64)
        place = names[_depth(codes, units)]
        places.factors[place].append(factor)
        if crossed and place == OBSERVATION:
            is_of_pairs = is_within(places.inner, codes)
            places.dealt[factor] = "latin" if is_of_pairs else "all"
    return places


def _crossing(places: _Places, name: str) -> dict[str, Any]:
    """That the units of a level cross with those before, and the share of the pairs that meet."""
    if name not in places.crossed:
        return {}
    n_pairs = np.prod([len(np.unique(unit)) for unit in places.units[:-1]])
    met = len(np.unique(places.inner)) / float(n_pairs)
    return {"crossed": True} | ({} if met == 1.0 else {"met": _rounded(met)})


def _depth(values: NDArray[Any], units: Sequence[Ints]) -> int:
    """The outermost place within whose units the values do not differ."""
    for depth, unit in enumerate(units):
        first = np.unique(unit, return_index=True)[1]
        if np.array_equal(values[first][unit], values):
            return depth
    return len(units) - 1


def _factor(values: "pd.Series[Any]", name: str, places: _Places) -> Any:
    """Its levels, and whose it is where that is not the outermost level."""
    levels = labels_of(values, name)
    (place,) = (place for place, own in places.factors.items() if name in own)
    if name in places.dealt:
        return {"levels": levels, "of": list(places.names[:-1]), "dealt": places.dealt[name]}
    return levels if place == places.names[0] else {"levels": levels, "of": place}


def labels_of(values: "pd.Series[Any]", name: str) -> list[str]:
    """The levels of a factor; a DataError where one has a sign that names of cells have."""
    levels = [*map(str, values.cat.categories)]
    for one in levels:
        if not is_factor_level(one):
            raise DataError(
                f"the level {one!r} of {name!r} has a sign that a scenario gives a meaning, one of"
                " : , [ ]; rename it in the table"
            )
    return levels


def _count_of_place(
    frame: pd.DataFrame, places: _Places, depth: int, say: Callable[[str], None]
) -> Any:
    """Units per unit above and cell: a number, one per cell, or an even draw."""
    name = places.names[depth]
    own = [one for one in places.factors[name] if places.dealt.get(one) != "latin"]
    is_alone = depth == 0 or name in places.crossed  # below no other units
    above = () if is_alone or places.crossed else places.names[:depth]
    down_to = [one for place in above for one in places.factors[place]] + own
    first = np.unique(places.units[depth], return_index=True)[1]
    around = places.inner if name == OBSERVATION else places.units[depth - 1]
    parent = np.zeros(len(first), dtype=np.int64) if is_alone else around[first]
    units = frame.iloc[first][down_to].astype(str)
    n_each = units.groupby([parent, *down_to]).size()
    n_cells = int(np.prod([frame[name].nunique() for name in own], dtype=np.int64))
    if len(n_each) < n_cells * len(np.unique(parent)):
        where = f"some units of {places.names[depth - 1]!r} have" if depth else "there is"
        raise DataError(
            f"{where} nothing in some cell of {', '.join(map(repr, own))}; a scenario has units in"
            f" every cell. Leave a factor out, or {KEEP}"
        )
    low, high = int(n_each.min()), int(n_each.max())
    if low == high:
        return low
    by_cell = n_each.groupby(down_to, sort=False) if down_to else None
    if by_cell is not None and (by_cell.min() == by_cell.max()).all():
        numbers = by_cell.min()
        cells = pd.DataFrame(index=numbers.index).reset_index().agg(":".join, axis="columns")
        return dict(zip(cells, map(int, numbers), strict=True))
    return _drawn_count(name, np.asarray(n_each, dtype=np.int64), say)


def _drawn_count(name: str, counts: Ints, say: Callable[[str], None]) -> Any:
    """From the smallest to the largest, or where few are so large or so small with their mean."""
    ends = low, high = int(counts.min()), int(counts.max())
    mean, middle = float(counts.mean()), 0.5 * (low + high)
    if abs(middle - mean) > EVEN * mean:
        beyond = round(2.0 * mean) - (low if mean < middle else high)
        low, high = (low, max(low, beyond)) if mean < middle else (min(high, beyond), high)
        shown = f"{low} to {high}" if low < high else str(low)
        say(UNEVEN_COUNT.format(name, *ends, mean, shown))
    return {"uniform": [low, high]} if low < high else low


def _slots(frame: pd.DataFrame, places: _Places) -> Ints:
    """Number of the innermost unit and of the cell in it, per row."""
    own = places.factors[OBSERVATION]
    groups = frame[own].astype(str).groupby([places.inner, *own], sort=False)
    return np.asarray(groups.ngroup().to_numpy())


def _covariate(
    frame: pd.DataFrame, name: str, places: _Places, say: Callable[[str], None]
) -> tuple[dict[str, Any], int | None]:
    """Where its values come from, and how many points it has where some of them are lost."""
    values = frame[name].to_numpy()
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise DataError(f"the covariate {name!r} is {low:g} in every row; leave it out")
    depth = _depth(values, places.units)
    if depth < len(places.units) - 1:
        of_units = values[np.unique(places.units[depth], return_index=True)[1]]
        return _drawn_values(name, of_units, say) | {"level": places.names[depth]}, None
    groups = [np.sort(one.to_numpy()) for _, one in frame[name].groupby(_slots(frame, places))]
    if len({*map(len, groups)}) == 1 and _is_same(groups, high - low):
        return _points(groups[0]), None
    points, n_most = _distinct(values), max(map(len, groups))
    is_once = all(np.diff(one).min(initial=np.inf) > SAME_POINT * (high - low) for one in groups)
    n_lost = len(points) * len(groups) - len(values)
    if is_once and n_most > 1 and n_lost <= MOST_LOST * len(points) * len(groups):
        return _points(points), len(points)
    return _drawn_values(name, values, say), None


def _drawn_values(
    name: str, values: NDArray[np.float64], say: Callable[[str], None]
) -> dict[str, Any]:
    """Evenly from the smallest to the largest, or within these with the SD of the values."""
    low, high, sd = float(values.min()), float(values.max()), float(values.std())
    width = np.sqrt(12.0) * sd
    if width < (1.0 - EVEN) * (high - low):
        low = float(np.clip(values.mean() - 0.5 * width, low, high - width))
        high = low + width
        say(NARROWER.format(name, sd, low, high))
    elif width > (1.0 + EVEN) * (high - low):
        say(WIDER.format(name, sd, (high - low) / np.sqrt(12.0)))
    return {"uniform": [_rounded(low), _rounded(high)]}


def _is_same(groups: Sequence[NDArray[np.float64]], width: float) -> bool:
    return bool(np.ptp(np.array(groups), axis=0).max() <= SAME_POINT * width)


def _distinct(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values without those that are the same but for rounding."""
    found = np.unique(values)
    is_new = np.diff(found, prepend=-np.inf) > SAME_POINT * np.ptp(found)
    return np.asarray(found[is_new])


def _points(points: NDArray[np.float64]) -> dict[str, Any]:
    """A grid where they are evenly spaced."""
    low, high = float(points[0]), float(points[-1])
    away = np.abs(points - np.linspace(low, high, len(points))).max()
    is_even = away <= SAME_POINT * (high - low)
    return {"grid": [low, high]} if is_even else {"values": points.tolist()}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
