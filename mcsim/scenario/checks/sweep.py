"""What is wrong with a sweep: its keys, its number of conditions, and each condition.

A sweep changes design and truth, so a condition is no new scenario: these two are read again, and
the methods are checked again only where a swept value changes what the design calls its parts.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from mcsim.names import show_value
from mcsim.scenario.checks.design import design_problems
from mcsim.scenario.checks.draft import Draft, read_condition
from mcsim.scenario.checks.families import family_problems
from mcsim.scenario.checks.methods import estimand_problems, method_problems
from mcsim.scenario.checks.truth import truth_problems
from mcsim.scenario.conditions import conditions
from mcsim.scenario.keys import (
    Finding,
    KeyPath,
    NowhereError,
    canonical,
    expand_sweep,
    plain_copy,
    put_value,
)
from mcsim.scenario.records import Scenario

WHOLE_TRUTH = "truth"  # tables, each of all that is true at a time
MAX_CONDITIONS = 10_000  # more is a slip of the pen: each is a row of every table
OF_DATA = (design_problems, truth_problems, family_problems)
OF_ANALYSES = (method_problems, estimand_problems)  # the design comes in by its names alone


def sweep_problems(raw: Mapping[str, Any], draft: Draft, known: Set[Finding]) -> Iterator[Finding]:
    """What is wrong with the sweep beside what is known of the scenario without it."""
    sweep = draft.scenario.sweep or {}
    paths: dict[str, KeyPath] = {}
    for key in sweep:
        try:
            paths[key] = _swept_path(raw, key)
        except KeyError as error:
            yield ("sweep", key), str(error.args[0])
    if not sweep or ("sweep",) in draft.faulty:
        return
    n_conditions = math.prod(len(values) for values in sweep.values())
    if n_conditions > MAX_CONDITIONS:
        yield ("sweep",), f"the sweep makes {n_conditions} conditions; at most {MAX_CONDITIONS}"
    elif len(paths) == len(sweep):
        try:
            yield from _condition_problems({**raw, "sweep": sweep}, draft, known, paths)
        except NowhereError as error:
            yield ("sweep",), f"the swept keys do not go together: {error.args[0]}"


def _swept_path(raw: Mapping[str, Any], key: str) -> KeyPath:
    if not key.startswith(("design.", "truth.")) and key != WHOLE_TRUTH:
        raise KeyError(f"{key!r} cannot be swept; a swept key starts with design. or truth.")
    return put_value(plain_copy(raw), key, None)


def _condition_problems(
    raw: Mapping[str, Any], draft: Draft, known: Set[Finding], paths: Mapping[str, KeyPath]
) -> Iterator[Finding]:
    identities: list[str] = []
    is_sound = not known
    for values, swept in expand_sweep(raw):
        condition = read_condition(swept, draft)
        for path, message in set(_problems_of(condition, draft)) - known:
            is_sound = False
            own = [key for key in values if path[: len(paths[key])] == paths[key]]
            blamed = own or list(values)
            shown = ", ".join(f"{key} = {show_value(values[key])}" for key in blamed)
            yield ("sweep", blamed[0]), f"with {shown}: {message}"
        if is_sound:
            identities.append(_identity(condition))
    if is_sound and len(set(identities)) < len(identities):
        yield from _twin_problems(raw, identities)


def _problems_of(condition: Draft, draft: Draft) -> Iterator[Finding]:
    """What is wrong with a condition; the methods are looked at where names have changed."""
    yield from (finding for finding in condition.findings if finding[0])  # not what the file lacks
    has_same_names = _names_in(condition) == _names_in(draft)
    for find in OF_DATA if has_same_names else (*OF_DATA, *OF_ANALYSES):
        yield from find(condition)


def _names_in(draft: Draft) -> object:
    names = draft.names
    return names and (
        names.response,
        names.factor_levels,
        names.level_names,
        set(names.covariates),
    )


def _identity(condition: Draft) -> str:
    """Text that is the same for two conditions with the same data."""
    scenario = condition.scenario
    data = scenario.model_dump(include={"design", "truth"}, exclude_defaults=True)
    if (name := data["design"].get("table")) in condition.tables:
        data["design"]["table"] = condition.tables[name].digest
    return json.dumps([canonical(data), list(scenario.design.factors)])


def _twin_problems(raw: Mapping[str, Any], identities: Sequence[str]) -> Iterator[Finding]:
    labels = [one.label for one in conditions(Scenario.model_validate(raw))]
    earlier: dict[str, str] = {}
    for label, identity in zip(labels, identities, strict=True):
        if identity in earlier:
            message = f"{earlier[identity]} and {label} are the same condition; drop one"
            yield ("sweep",), message
        earlier[identity] = label
