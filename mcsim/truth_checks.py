"""What is wrong with the truth of a scenario, given the names of its design."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mcsim.column_checks import Finding, columns_problems, read_as, table_of, unknown_level
from mcsim.scenario import DesignNames, RandomSpec, split_pair

SINGULAR = -1e-10  # rounding of the smallest eigenvalue of a matrix of correlations


def random_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Effects without spread, and correlations that no effects can have."""
    for level, table in table_of(table_of(raw.get("truth")).get("random")).items():
        spec: RandomSpec | None = read_as(RandomSpec, table)
        path = ("truth", "random", level)
        if spec is None:
            continue
        if (spec.sd is None) == (spec.variance is None) or not spec.columns:
            message = f"truth.random.{level} must have exactly one of sd and variance, not empty"
            yield path, message
            continue
        pairs = list(_pair_problems(spec))
        yield from (((*path, "correlation", key), message) for key, message in pairs)
        if not pairs and not _is_possible(spec):
            message = "no effects can have these correlations together; bring them nearer to 0"
            yield (*path, "correlation"), message


def _pair_problems(spec: RandomSpec) -> Iterator[tuple[str, str]]:
    table = spec.correlation if isinstance(spec.correlation, dict) else {}
    seen: set[frozenset[str]] = set()
    for key in table:
        pair = frozenset(split_pair(key))
        if len(pair) != 2 or not pair <= set(spec.columns) or pair in seen:
            columns = ", ".join(spec.columns)
            yield key, f"{key!r} must be a pair, given once, of two columns of: {columns}"
        seen.add(pair)


def _is_possible(spec: RandomSpec) -> bool:
    varying = [column for column, sd in spec.standard_deviations.items() if sd > 0]
    matrix = [[spec.correlation_of(a, b) for b in varying] for a in varying]
    return not varying or bool(np.linalg.eigvalsh(matrix)[0] >= SINGULAR)


def truth_problems(raw: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    """Columns and levels that the design lacks."""
    truth = table_of(raw.get("truth"))
    yield from columns_problems(("truth", "fixed"), table_of(truth.get("fixed")), names)
    for level, table in table_of(truth.get("random")).items():
        if level not in names.level_names:
            yield ("truth", "random", level), unknown_level(level, "truth.random", names)
        for key in ("sd", "variance"):
            columns = table_of(table_of(table).get(key))
            yield from columns_problems(("truth", "random", level, key), columns, names)
