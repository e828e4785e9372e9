"""A plan that was made, as its folder has it."""

import json
from pathlib import Path
from typing import NamedTuple

from mcsim.errors import DataError
from mcsim.measures import SHARES
from mcsim.names import short_names
from mcsim.results.folder import PLAN
from mcsim.summary.records import Record
from mcsim.summary.swept_words import count_in_words
from mcsim.summary.text import shown_as

EXACT = "exact"  # of a value without an interval


class MadePlan(NamedTuple):
    """A plan: `told` is what the file says; title of its scenario, and the study of the answer.

    words : for the counts of its designs, by their keys
    """

    title: str
    told: Record
    study: Path | None
    words: dict[str, str]

    @property
    def is_share(self) -> bool:
        """Whether the first target is a share, to be at least so large; else at most."""
        return self.told["target"][0]["measure"] in SHARES

    @property
    def target(self) -> str:
        """What was to be reached, in words."""
        return " and ".join(
            f"{one['measure']} of {one['parameter']}"
            + ("" if one["bound"] is None else f" {_side(one['measure'])} {one['bound']:g}")
            for one in self.told["target"]
        )

    def value(self, row: Record) -> str:
        """`81.2% (81.1 to 81.4)` of a design."""
        estimate, *ends = (row[name] for name in ("estimate", "lower", "upper"))
        factor, form, unit = (100.0, ".2f", "%") if self.is_share else (1.0, ".4g", "")
        shown = [shown_as(None if x is None else factor * x, form) for x in (estimate, *ends)]
        if row["lower"] is not None and shown[1] == shown[2]:
            return f"{shown[0]}{unit} ({EXACT})"
        return f"{shown[0]}{unit} ({shown[1]} to {shown[2]})"


def _side(measure: str) -> str:
    return "at least" if measure in SHARES else "at most"


def design_name(row: Record) -> str:
    """`animal.count=6,image.count=15`, the name of a design's folder."""
    short = short_names(list(row["design"]))
    return ",".join(f"{short[key]}={count}" for key, count in row["design"].items())


def read_plan(directory: Path) -> MadePlan | None:
    """The plan in a folder; None where there is none.

    Raises
    ------
    DataError
        It cannot be read, or its search has not ended.
    """
    path = directory / PLAN
    if not path.exists():
        return None
    try:
        told = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not told.get("designs"):
        raise DataError(f"{path}: the search has not ended; repeat mcsim plan to go on")
    answer = told["answer"] or max(told["designs"], key=lambda row: row["n"])
    study = directory / design_name(answer)
    manifest = study / "manifest.json"
    said = json.loads(manifest.read_bytes()) if manifest.exists() else {}
    words = {
        key: count_in_words(key, said.get("identity", {})) or short
        for key, short in short_names(list(answer["design"])).items()
    }
    is_there = told["answer"] and manifest.exists()
    return MadePlan(said.get("title") or directory.name, told, study if is_there else None, words)
