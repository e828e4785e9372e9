"""The folder of a plan: whether it is that of this plan, and its file."""

import json
from collections.abc import Callable
from pathlib import Path

from mcsim.errors import DataError, StudyMismatchError
from mcsim.planning.pilot import KEY, pilot_table
from mcsim.results.folder import PLAN, TABLES
from mcsim.results.whole_files import new_folder, write_whole, writing
from mcsim.scenario.conditions import study_identity
from mcsim.scenario.design_table import DesignTable
from mcsim.scenario.plan import PlanSpec
from mcsim.scenario.records import Scenario
from mcsim.summary.records import Record, unique

ADVICE = "Name another folder with -o."
MOST_LETTERS, SHOWN_LETTERS = 60, 50  # of a value in a message


def refuse_another_plan(directory: Path, study: Record) -> Record:
    """Raise a StudyMismatchError for a folder with something else, or designs of another study.

    Returns what determines the numbers there from now on: methods of before keep theirs.
    """
    path = directory / PLAN
    try:
        there = json.loads(path.read_bytes())["study"]
    except FileNotFoundError:
        if any(directory.glob("*")):
            raise StudyMismatchError(
                f"{directory} holds files but no plan; name another folder with -o"
            ) from None
        return study
    except (ValueError, KeyError, TypeError, OSError):
        raise DataError(f"{path} cannot be read; name another folder with -o") from None
    found = [key for key in study if key in there and there[key] != study[key]]
    found += [key for key in there.keys() ^ study.keys() if not key.startswith("methods.")]
    if found:
        told = unique(map(_difference(there, study), sorted(found)))
        lines = "".join(f"  {line}\n" for line in told)
        raise StudyMismatchError(
            f"{directory} holds a plan of another study; these differ:\n{lines}{ADVICE}"
        )
    return {**there, **study}


def _difference(there: Record, here: Record) -> Callable[[str], str]:
    """What a line says of a key with different values."""

    def shown(key: str, values: Record) -> str:
        absent = "searched" if key.startswith("design.") else "not stated"
        text = json.dumps(values[key]) if key in values else absent
        return text if len(text) <= MOST_LETTERS else f"{text[:SHOWN_LETTERS]} ..."

    def line(key: str) -> str:
        if key.split(".")[0] == "sweep":
            return "plan.truth: the truths in whose doubt designs are tried"
        return f"{key} is {shown(key, there)} there and {shown(key, here)} here"

    return line


def study_of(scenario: Scenario, plan: PlanSpec) -> Record:
    """What determines the numbers of all designs, as JSON has it."""
    values = {
        key: value
        for key, value in study_identity(scenario).items()
        if key not in plan.search and key != "methods.names"
    }
    pilot = pilot_table(scenario)
    values |= {} if pilot is None else {f"{KEY} (SHA-256)": pilot.digest}
    return dict(json.loads(json.dumps(values)))


def write_plan(directory: Path, content: Record, pilot: DesignTable | None = None) -> None:
    """Write the file of a plan, and a copy of its pilot's table, making the folder."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files = {directory / PLAN: text.encode()}
    if pilot is not None:
        files[directory / TABLES / pilot.name] = pilot.content
    with writing(directory), new_folder(directory):
        for path in files:
            path.parent.mkdir(exist_ok=True)
        write_whole(files, is_durable=False)
