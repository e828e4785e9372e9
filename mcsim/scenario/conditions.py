"""The conditions of a scenario's sweep, and what makes two conditions or two studies the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from mcsim.names import short_names, show_swept
from mcsim.scenario.design import Design, DesignSpec, TableDesignSpec
from mcsim.scenario.design_table import DesignTable, places_of_tables
from mcsim.scenario.keys import canonical, expand_sweep, flatten
from mcsim.scenario.plugin_file import PREFIX
from mcsim.scenario.records import Scenario
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.truth import TruthSpec

DESIGNS: TypeAdapter[DesignSpec | TableDesignSpec] = TypeAdapter(Design)


@dataclass(frozen=True)
class Condition:
    """One point of the sweep: what determines the data of its replicates.

    `identity` is the SHA-256 of design and truth alone, so that no other part of a scenario and
    no other condition can change the data. Tables are sorted by name, so that neither can the
    order of the file (the factors keep theirs, which orders the cells and is in the identity).
    """

    label: str
    values: dict[str, Any]
    design: DesignSpec | TableDesignSpec
    truth: TruthSpec
    identity: str
    table: DesignTable | None = None

    @property
    def has_own_rows(self) -> bool:
        """Whether each replicate has rows of its own, not those of the condition."""
        return self.design.redraw or self.truth.missing is not None

    @property
    def is_standard(self) -> bool:
        """Whether theory for one design and a normal truth applies."""
        return self.truth.is_standard and not self.design.redraw


def conditions(scenario: Scenario) -> tuple[Condition, ...]:
    """Every combination of the swept values, in the order of the file; one without a sweep."""
    raw = scenario.model_dump(exclude_defaults=True)
    names, found = short_names(list(scenario.sweep)), []
    before, design = None, None
    for values, swept in expand_sweep(raw):
        if design is None or swept["design"] is not before:  # nothing in it may be swept
            before, design = swept["design"], _read_design(swept["design"], scenario.tables)
        found.append(_condition(design, swept["truth"], values, names))
    return tuple(found)


def study_identity(scenario: Scenario) -> dict[str, Any]:
    """Canonical value per dotted key of all that determines a study's numbers but `replicates`."""
    no_numbers: Any = {
        **dict.fromkeys(("title", "replicates", "target_mcse", "plan", "report"), True),
        "methods": {"__all__": {"fallback"}},
        "estimands": {"__all__": {"equivalence"}},
    }
    raw = scenario.model_dump(exclude=no_numbers, exclude_none=True)
    raw["design"]["factors"] = scenario.design.plain_factors
    if tables := _tables_of_designs(scenario):
        raw["design"]["tables"] = tables
    for method in raw["methods"]:
        if method["identifiable"]:  # as in studies that are older than the key
            del method["identifiable"]
    order = {"design.factors": list(scenario.design.factors)}
    return dict(sorted(flatten(canonical(raw), ""))) | order | _plugin_identity(scenario)


def _tables_of_designs(scenario: Scenario) -> dict[str, str]:
    """SHA-256 by name of the tables that are designs: a plan may name a pilot's beside them."""
    if not scenario.tables:
        return {}
    raw = scenario.model_dump(mode="json", include={"design", "sweep"})
    names = {holder[key] for holder, key, _ in places_of_tables(raw)}
    return {name: one.digest for name, one in scenario.tables.items() if name in names}


def _plugin_identity(scenario: Scenario) -> dict[str, str]:
    """What determines the numbers of a user's functions: the text of their file."""
    own = [spec.name for spec in scenario.methods if spec.estimator.startswith(PREFIX)]
    digest = "" if scenario.plugin is None else scenario.plugin.digest
    return {f"methods.{name}.plugin": digest for name in own}


class _Read(NamedTuple):
    """A design, its table, and the text that it is in the identity."""

    design: DesignSpec | TableDesignSpec
    table: DesignTable | None
    text: str


def _read_design(raw: dict[str, Any], tables: Mapping[str, DesignTable]) -> _Read:
    given = DESIGNS.validate_python(raw)
    # a value that is written out and one left at its default are the same
    design = canonical(given.model_dump(exclude_defaults=True))
    design["factors"] = canonical(list(given.plain_factors.items()))
    table = tables.get(design.get("table"))
    rows = design if table is None else design | {"table": table.digest}
    own = DESIGNS.validate_python(design | {"factors": given.factors})
    return _Read(own, table, _compact(rows))


def _condition(
    read: _Read, raw_truth: dict[str, Any], values: dict[str, Any], names: dict[str, str]
) -> Condition:
    stated = StatedTruth.model_validate(raw_truth).in_sds()
    truth = canonical(stated.model_dump(exclude_defaults=True))
    text = f'{{"design":{read.text},"truth":{_compact(truth)}}}'
    return Condition(
        label=", ".join(f"{names[key]}={show_swept(v)}" for key, v in values.items()) or "all",
        values=values,
        design=read.design,
        truth=TruthSpec.model_validate(truth),
        identity=hashlib.sha256(text.encode()).hexdigest(),
        table=read.table,
    )


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
