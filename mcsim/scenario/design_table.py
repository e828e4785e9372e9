"""A user's table whose rows are a design: its file, and what its columns are.

The file is read once and travels with the study to the workers and into its folder.
"""

import hashlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcsim.errors import DataError
from mcsim.formula import is_name
from mcsim.scenario.keys import Finding, KeyPath

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mcsim.table_file import TableFile

SWEPT = "design.table"
MOST_LEVELS = 500  # of a factor: a column of more labels is none
Factors = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class DesignTable:
    """A table by the name of its file, without folders."""

    name: str
    content: bytes = field(repr=False)
    file: "TableFile" = field(repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(map(str, self.file.frame.columns))

    @property
    def n_rows(self) -> int:
        """How many observations the table has."""
        return len(self.file.frame)

    def columns(
        self,
        units: tuple[str, ...],
        factors: Mapping[str, tuple[str, ...]],
        crossed: tuple[str, ...] = (),
    ) -> "TableColumns":
        """What the columns are, of which some tell units apart or have levels in an order.

        Parameters
        ----------
        crossed : units whose labels are the same in all units of the levels above
        """
        return replace(_columns(self, units, tuple(factors.items())), crossed=crossed)


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table: text of units, factors as categories, covariates as floats.

    unusable : why other columns are none of these, by name
    crossed : levels whose labels are the same units in all units of the levels above
    """

    units: dict[str, "pd.Series[Any]"]
    factors: dict[str, "pd.Series[Any]"]
    covariates: dict[str, "pd.Series[Any]"]
    unusable: dict[str, str]
    crossed: tuple[str, ...] = ()

    @cached_property
    def unit_of_row(self) -> dict[str, "NDArray[np.int64]"]:
        """The unit of every row (n_rows,), per level: numbered as they come, within outer units."""
        import numpy as np
        import pandas as pd

        units = pd.DataFrame(self.units)
        outer: list[str] = []
        found = {}
        for level in map(str, units):
            within = [level] if level in self.crossed else [*outer, level]
            outer += [] if level in self.crossed else [level]
            number = units.groupby(within, sort=False).ngroup()
            found[level] = number.to_numpy().astype(np.int64)
        return found

    @cached_property
    def most_observations(self) -> int:
        """Rows of the largest innermost unit."""
        import numpy as np

        return int(np.bincount([*self.unit_of_row.values()][-1]).max())


def read_design_tables(
    raw: MutableMapping[str, Any], folder: Path
) -> tuple[dict[str, DesignTable], list[Finding]]:
    """The tables that a scenario names, by name; `raw` gets their names without folders.

    Parameters
    ----------
    folder : of the scenario's file
    """
    found: dict[str, DesignTable] = {}
    problems: list[Finding] = []
    for holder, key, path in places_of_tables(raw):
        try:
            table = read_design_table(folder / holder[key])
        except DataError as error:
            problems.append((path, str(error)))
            continue
        if found.setdefault(table.name, table) != table:
            problems.append((path, f"there are two tables called {table.name!r}; rename one"))
        holder[key] = table.name
    return found, problems


def places_of_tables(raw: Mapping[str, Any]) -> Iterator[tuple[Any, Any, KeyPath]]:
    """Every name of a table: the table or list that holds it, its key there, and its path."""
    design, sweep, plan = raw.get("design"), raw.get("sweep"), raw.get("plan")
    pilot = plan.get("truth") if isinstance(plan, dict) else None
    if isinstance(pilot, dict) and isinstance(pilot.get("from"), str):
        yield pilot, "from", ("plan", "truth", "from")
    if _names_table(design):
        yield design, "table", ("design", "table")
    for key, values in sweep.items() if isinstance(sweep, dict) else ():
        for number, value in enumerate(values) if isinstance(values, list) else ():
            if key == SWEPT and isinstance(value, str):
                yield values, number, ("sweep", key)
            if key == "design" and _names_table(value):
                yield value, "table", ("sweep", key)


def _names_table(design: Any) -> bool:
    return isinstance(design, dict) and isinstance(design.get("table"), str)


def read_design_table(path: Path) -> DesignTable:
    """The table in a file; a DataError where there is none."""
    from mcsim.table_file import read_table_file  # pandas takes its time: most designs need none

    file = read_table_file(path)
    if file.frame.empty:
        raise DataError(f"{path} has no rows")
    return DesignTable(path.name, path.read_bytes(), file)


@lru_cache(maxsize=16)
def _columns(table: DesignTable, units: tuple[str, ...], factors: Factors) -> TableColumns:
    from mcsim.table_file import ambiguous_numbers

    found = TableColumns({}, {}, {}, {})
    for name in dict.fromkeys(filter(is_name, table.names)):
        if (n := table.names.count(name)) > 1:
            found.unusable[name] = f"stands there {n} times"
            continue
        values = table.file.frame[name]
        if values.isna().any():
            where = f"{values.index.name} {values.index[values.isna()][0]}"
            found.unusable[name] = f"has no value in {where}; a design needs all"
        elif name in units:
            found.units[name] = values.astype(str)
        else:
            _add(found, table.file, name, dict(factors).get(name))
    numbers = table.file.frame[[*found.covariates]]
    for name, why in ambiguous_numbers(numbers, table.file.decimal).items():
        del found.covariates[name]
        found.unusable[name] = why
    outermost_first = {name: found.units[name] for name in units if name in found.units}
    return replace(found, units=outermost_first)


def _add(found: TableColumns, file: "TableFile", name: str, levels: tuple[str, ...] | None) -> None:
    """Add a factor or a covariate, or why it is neither."""
    from mcsim.table_file import LARGEST, as_categories, as_numbers, strays_of, with_points

    values = with_points(file.frame[name], file.decimal)
    numbers = as_numbers(values)
    if levels is None and numbers is not None:
        if (numbers.abs() < LARGEST).all():
            found.covariates[name] = numbers
        else:
            found.unusable[name] = f"has numbers that are infinite or beyond {LARGEST:g}"
        return
    strays = strays_of(values)
    labels = as_categories(values, numbers)
    known = [*labels.cat.categories]
    if levels is None and len(strays):
        cell = f"{strays.iloc[0]!r} in {strays.index.name} {strays.index[0]}"
        found.unusable[name] = f"has numbers and cells that are none, such as {cell}"
    elif not 1 < len(known) <= MOST_LEVELS:
        n = f"{len(known):,}, not 2 to {MOST_LEVELS} levels"
        found.unusable[name] = f"cannot be a factor: it has {n}"
    elif levels is not None and {*levels} != {*known}:
        found.unusable[name] = f"has the levels {', '.join(known)}, not {', '.join(levels)}"
    else:
        found.factors[name] = labels.cat.set_categories(levels or known)
