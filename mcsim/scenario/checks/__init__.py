"""What is wrong with a scenario: every mistake at once, as a key path and a sentence.

The records check their own fields (fields.py). The other modules each look at one part, as far as
it can be read, and at what they need of the others, so that one mistake does not hide the next.
"""

from collections.abc import Mapping
from typing import Any

from mcsim.scenario.checks.draft import read_scenario
from mcsim.scenario.checks.plan import plan_problems
from mcsim.scenario.checks.sweep import OF_ANALYSES, OF_DATA, sweep_problems
from mcsim.scenario.keys import Finding


def find_problems(raw: Mapping[str, Any]) -> list[Finding]:
    """Every mistake of a scenario as read from its file; none means that it can be run."""
    draft = read_scenario(raw)
    found = list(draft.findings)
    for find in (*OF_DATA, *OF_ANALYSES, plan_problems):
        found += find(draft)
    return found + list(dict.fromkeys(sweep_problems(raw, draft, frozenset(found))))
