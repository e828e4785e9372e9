"""What makes two runs the same study, and how a study grows.

A study may gain replicates, conditions and methods. What it has keeps its files: each of them holds
one condition and the methods that were new together, and its name stands for what determines its
numbers.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

KEY_LENGTH = 12  # digits; two of a thousand keys agree with probability 2e-9
MOST_NAMED = 10  # keys that differ
OF_CONDITIONS = ("conditions", "design.", "sweep.", "truth.")
OF_ALL_METHODS = ("confidence", "estimands", "seed")


@dataclass(frozen=True)
class PartContents:
    """What all files with the same key hold."""

    condition: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """What determines the numbers of a study.

    values : by dotted key, as JSON has them; conditions : label to identity
    """

    values: Mapping[str, Any]
    conditions: Mapping[str, str]

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the scenario."""
        return list(self.values["methods.names"])


def identify(values: Mapping[str, object], conditions: Mapping[str, str]) -> Identity:
    """The identity as it comes back from a manifest: keys in order, lists for tuples.

    The labels of the conditions are values of it too: they stand in the files.
    """
    all_values = {**values, "conditions": list(conditions)}
    return Identity(json.loads(json.dumps(all_values, sort_keys=True)), conditions)


def changed_keys(there: Identity, here: Identity) -> Iterator[str]:
    """Keys whose values differ, but for those that only add conditions or methods to `there`."""
    grown = {"methods.names"}  # of a method that is gone, all other keys are absent
    conditions_kept = there.conditions.items() <= here.conditions.items()
    names = {*there.methods, *here.methods}
    for key in sorted(there.values.keys() | here.values.keys()):
        is_same = key in there.values and here.values.get(key) == there.values[key]
        is_of_conditions = conditions_kept and key.startswith(OF_CONDITIONS)
        is_of_new_method = _method_of(key, names) in {*here.methods} - {*there.methods}
        if not (is_same or is_of_conditions or is_of_new_method or key in grown):
            yield key


def first_of(items: Sequence[str]) -> list[str]:
    """At most `MOST_NAMED` of what a message lists, and how many more there are."""
    more = len(items) - MOST_NAMED
    return [*items[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]


def grow(before: Mapping[str, PartContents], identity: Identity) -> dict[str, PartContents]:
    """The contents by key, with new keys for what of the identity they lack."""
    contents = dict(before)
    known: dict[str, set[str]] = {}
    of_methods = cache(partial(_values_of, identity))
    for one in before.values():
        known.setdefault(one.condition, set()).update(one.methods)
    for label in identity.conditions:
        new = tuple(name for name in identity.methods if name not in known.get(label, ()))
        if new:
            of_condition = json.dumps([label, identity.conditions[label], new])
            text = f"{of_condition[:-1]}, {of_methods(new)}]"
            key = hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
            contents[key] = PartContents(label, new)
    return contents


def _values_of(identity: Identity, methods: Sequence[str]) -> str:
    """What determines the numbers of some methods beside the condition."""
    return json.dumps(
        [
            (key, value)
            for key, value in sorted(identity.values.items())
            if key.startswith(OF_ALL_METHODS) or _method_of(key, identity.methods) in methods
        ]
    )


def _method_of(key: str, names: Iterable[str]) -> str | None:
    """Method that a key is of: a name may hold dots and begin with another's."""
    found = [name for name in names if key.startswith(f"methods.{name}.")]
    return max(found, key=len, default=None)
