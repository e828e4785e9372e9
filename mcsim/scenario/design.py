"""The design of a scenario: who is measured, and where; in numbers of units, or as a table."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from mcsim.scenario.values import (
    OBSERVATION,
    AtLeastOne,
    Count,
    Dealt,
    Ends,
    FactorLevels,
    FactorPlace,
    Flag,
    Interval,
    MeanAndSd,
    Name,
    Points,
    Positive,
    Record,
    SomeShare,
    Text,
    UniformCount,
    Whole,
    shape_of_count,
    shape_of_design,
    shape_of_factor,
)

_Count = Annotated[
    Annotated[Count, Tag("<number>")]
    | Annotated[UniformCount, Tag("<range>")]
    | Annotated[dict[str, Whole], Tag("<table>")],
    Discriminator(shape_of_count),
]


class LevelName(Record):
    """The name of a grouping level, whatever else its table holds."""

    model_config = ConfigDict(extra="ignore")

    name: Name = Field(description="name of the level, as formulas write it")


class LevelSpec(LevelName):
    """One grouping level of the design."""

    model_config = ConfigDict(extra="forbid")

    count: _Count = Field(
        description="units per unit of the level above and per cell of this level's own factors; "
        "{ uniform = [low, high] } draws it; { fasted = 25, fed = 20 } has a count per cell of the "
        'factors down to this level, joined by colons, { "fasted:portal" = 3, ... }; of 0 where a '
        "cell is not there"
    )
    crossed: Flag | None = Field(
        None,
        description="true: its units are the same for all units of the levels before, which meet "
        "all of them; the count is then that of the level alone",
    )
    met: SomeShare | None = Field(
        None, description="crossed: share of the pairs that meet, drawn at random; else all do"
    )


class ObservationsSpec(Record):
    """Observations of each innermost unit."""

    count: _Count = Field(
        description="observations per innermost unit and per cell of the factors of observations; "
        "or { uniform = [low, high] }, or a count per cell"
    )


class StartsSpec(Record):
    """When units start, one group of them after the other, as in a stepped wedge."""

    level: Text = Field(description="level whose units start, as many at each step, in order")
    along: Text = Field(description="factor or covariate whose values are the steps, in order")


class CovariateSpec(Record):
    """Where a covariate's values come from: exactly one of the sources."""

    grid: Ends | None = Field(
        None,
        description="first and last of points evenly spaced in every innermost unit, and per cell "
        "of the factors of observations; with a level, of its units in each unit above",
    )
    values: Points | None = Field(
        None, description="the points themselves, the same wherever a grid would be"
    )
    uniform: Interval | None = Field(None, description="drawn uniformly between these two")
    normal: MeanAndSd | None = Field(None, description="drawn from a normal: mean and sd")
    starts: StartsSpec | None = Field(
        None,
        description="0, and 1 once the unit has started, none at the first step and all at the "
        'last: { level = "cluster", along = "period" }',
    )
    level: Text | None = Field(
        None, description="one value per unit of this level, not one per observation"
    )


class FactorSpec(Record):
    """A factor that says whose it is."""

    levels: FactorLevels = Field(description="its levels; the first is the reference")
    of: FactorPlace = Field(
        description="level between whose units it varies, every unit of the level above having "
        'units of each cell; "observation": it varies within innermost units; or a list of two, '
        "levels or other factors, between whose cells `dealt` says how"
    )
    dealt: Dealt | None = Field(
        None,
        description="of two: a Latin square, each unit of the first has the levels in turn along "
        "the second, starting with another one than the unit before; or all levels in each pair, "
        "whose observations are then counted per level",
    )


_Factor = Annotated[
    Annotated[FactorLevels, Tag("<levels>")] | Annotated[FactorSpec, Tag("<factor>")],
    Discriminator(shape_of_factor),
]


def cells_of(factors: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Cells of factors, such as `fed:male`, the last factor changing fastest."""
    return tuple(":".join(cell) for cell in itertools.product(*factors.values()))


class _DesignParts(Record):
    """Names that every design gives to its parts."""

    response: Name = Field("y", description="name of the response column")
    factors: dict[Name, _Factor] = Field(
        {},
        description="factors between the outermost units, by their levels, of which the first is "
        'the reference; of others { levels = ["portal", "central"], of = "image" }',
    )
    levels: Annotated[tuple[LevelName, ...], AtLeastOne] = Field(
        description="grouping levels, outermost first", json_schema_extra={"minItems": 1}
    )

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the grouping levels, outermost first."""
        return tuple(level.name for level in self.levels)

    @property
    def places(self) -> tuple[str, ...]:
        """What factors may be of: the levels, outermost first, and observations."""
        rows = OBSERVATION if OBSERVATION not in self.level_names else ""  # then that is a level
        return (*self.level_names, rows)

    @property
    def factor_levels(self) -> dict[str, tuple[str, ...]]:
        """The levels of every factor."""
        return {
            name: one.levels if isinstance(one, FactorSpec) else one
            for name, one in self.factors.items()
        }

    @property
    def factor_places(self) -> dict[str, str | tuple[str, str]]:
        """What every factor is of: one of the places, or two names that it is dealt between."""
        return {
            name: (self.places[-1] if one.dealt == "all" else one.of)
            if isinstance(one, FactorSpec)
            else self.level_names[0]
            for name, one in self.factors.items()
        }

    @property
    def crossed_levels(self) -> tuple[str, ...]:
        """Levels whose units cross with those of the levels before."""
        return tuple(one.name for one in self.levels if getattr(one, "crossed", None))

    def factors_of(self, *places: str) -> dict[str, tuple[str, ...]]:
        """Levels of the factors of some places, those of the first place first."""
        levels, of = self.factor_levels, self.factor_places
        return {name: levels[name] for place in places for name in levels if of[name] == place}

    def factors_down_to(self, place: str) -> dict[str, tuple[str, ...]]:
        """Levels of the factors of a place and of those around it, outermost first."""
        return self.factors_of(*self.places[: self.places.index(place) + 1])

    @property
    def plain_factors(self) -> dict[str, Any]:
        """The factors as a file has them, those of the outermost level as a list."""
        raw = self.model_dump(include={"factors"}, exclude_defaults=True).get("factors", {})
        levels, of, outermost = self.factor_levels, self.factor_places, self.level_names[0]
        return {n: levels[n] if of[n] == outermost else one for n, one in raw.items()}


class DesignNames(_DesignParts):
    """Names of the parts of a design, whatever else its tables hold."""

    model_config = ConfigDict(extra="ignore")

    covariates: dict[Name, Any] = Field({}, description="covariates of the observations")


class DesignSpec(DesignNames):
    """Who is measured, and where."""

    model_config = ConfigDict(extra="forbid")

    levels: Annotated[tuple[LevelSpec, ...], AtLeastOne] = Field(
        description="grouping levels, outermost first", json_schema_extra={"minItems": 1}
    )
    covariates: dict[Name, CovariateSpec] = Field({}, description="covariates, by name")
    observations: ObservationsSpec = Field(description="observations of each innermost unit")
    redraw: Flag = Field(
        False,
        description="draw random counts and covariates anew in every replicate, not once for all",
    )


class TableLevel(LevelName):
    """A column of a table that tells units apart."""

    model_config = ConfigDict(extra="forbid")

    crossed: Flag | None = Field(
        None, description="true: a label is the same unit in all units of the levels above"
    )


class TableDesignSpec(_DesignParts):
    """A design that is a table: a row per observation, columns of units, factors and covariates."""

    table: Text = Field(
        description="file of the table, CSV, Parquet or Excel, seen from the scenario's folder"
    )
    levels: Annotated[tuple[TableLevel, ...], AtLeastOne] = Field(
        description="columns that tell units apart, outermost first; labels count within the units "
        "of the level above",
        json_schema_extra={"minItems": 1},
    )
    factors: dict[Name, FactorLevels] = Field(  # type: ignore[assignment]
        {},
        description="levels of factors, where the first is to be another than that of the alphabet,"
        " or where they are numbers; other columns of text are factors, those of numbers are "
        "covariates",
    )
    copies: dict[Text, Positive] = Field(
        {},
        description="how often the units of a level stand in the design, each with all that lies "
        "within it and a label of its own: { animal = 3 }",
    )

    @property
    def redraw(self) -> bool:
        """Whether replicates draw the design anew: nothing of a table is drawn."""
        return False


Design = Annotated[
    Annotated[DesignSpec, Tag("<units>")] | Annotated[TableDesignSpec, Tag("<rows>")],
    Discriminator(shape_of_design),
]
