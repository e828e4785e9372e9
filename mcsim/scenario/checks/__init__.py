"""What is wrong with a scenario: every mistake at once, as a key path and a sentence.

The records check their own fields (fields.py). The other modules each look at one part, as far as
it can be read, and at what they need of the others, so that one mistake does not hide the next.
"""

from collections.abc import Mapping
from typing import Any

from mcsim.scenario.checks.draft import Tables, read_scenario
from mcsim.scenario.checks.plan import plan_problems, searched_problems
from mcsim.scenario.checks.sweep import OF_ANALYSES, OF_DATA, sweep_problems
from mcsim.scenario.keys import Finding


def find_problems(raw: Mapping[str, Any], tables: Tables | None = None) -> list[Finding]:
    """Every mistake of a scenario as read from its file; none means that it can be run.

    Parameters
    ----------
    tables : that its designs name, by name
    """
    draft = read_scenario(raw, tables)
    found = list(draft.findings)
    for find in (*OF_DATA, *OF_ANALYSES, plan_problems):
        found += find(draft)
    for check in (sweep_problems, searched_problems):
        found += dict.fromkeys(check(raw, draft, frozenset(found)))
    return found
