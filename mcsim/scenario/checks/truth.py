"""What is wrong with the truth of a scenario, given the names of its design."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mcsim.names import split_pair
from mcsim.scenario.checks.columns import (
    Finding,
    columns_problems,
    read_as,
    table_of,
    unknown,
    unknown_level,
)
from mcsim.scenario.keys import KeyPath
from mcsim.scenario.records import DesignNames, ObservationsSpec, RandomSpec
from mcsim.scenario.truth import OF_MEAN, ResidualSpec, ShapeSpec
from mcsim.scenario.values import RESIDUAL_CORRELATIONS

SINGULAR = -1e-10  # rounding of the smallest eigenvalue of a matrix of correlations


def random_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Effects without spread, and correlations that no effects can have."""
    for level, table in table_of(table_of(raw.get("truth")).get("random")).items():
        spec: RandomSpec | None = read_as(RandomSpec, table)
        path = ("truth", "random", level)
        yield from _distribution_problems(path, table)
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


def _distribution_problems(path: KeyPath, table: object) -> Iterator[Finding]:
    shape: ShapeSpec | None = read_as(ShapeSpec, table_of(table).get("distribution"))
    if shape is not None and len(shape.given) != 1:
        names, found = (", ".join(sorted(one)) for one in (ShapeSpec.model_fields, shape.given))
        message = f"a distribution must have exactly one of {names}; it has: {found or 'none'}"
        yield (*path, "distribution"), message


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
    yield from _residual_names(table_of(truth.get("residual")), names)
    yield from _missing_names(table_of(truth.get("missing")), names)


def _residual_names(residual: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    path = ("truth", "residual")
    along, power = residual.get("along"), table_of(residual.get("power")).get("of")
    if isinstance(along, str) and along not in names.covariates:
        yield (*path, "along"), unknown("covariate", along, names.covariates, "The design has")
    if isinstance(power, str) and power not in (OF_MEAN, *names.covariates):
        known = [OF_MEAN, *names.covariates]
        yield (*path, "power", "of"), unknown("covariate", power, known, "There are")
    for factor, by_level in table_of(residual.get("sd_by")).items():
        if factor not in names.factors:
            message = unknown("factor", factor, names.factors, "The design has")
            yield (*path, "sd_by", factor), message
            continue
        for level in table_of(by_level):
            if level not in names.factors[factor]:
                message = unknown("level", level, names.factors[factor], f"{factor!r} has")
                yield (*path, "sd_by", factor, level), message


def _missing_names(missing: Mapping[str, Any], names: DesignNames) -> Iterator[Finding]:
    path = ("truth", "missing")
    for name in table_of(missing.get("units")):
        if name not in names.level_names:
            yield (*path, "units", name), unknown_level(name, "truth.missing.units", names)
    dropout = table_of(missing.get("dropout"))
    level, along = dropout.get("level"), dropout.get("along")
    if isinstance(level, str) and level not in names.level_names:
        yield (*path, "dropout", "level"), unknown_level(level, "truth.missing.dropout", names)
    if isinstance(along, str) and along not in names.covariates:
        message = unknown("covariate", along, names.covariates, "The design has")
        yield (*path, "dropout", "along"), message


def residual_problems(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys that do not go with the correlation, and one that the units are too large for."""
    path, table = ("truth", "residual"), table_of(raw.get("truth")).get("residual")
    spec: ResidualSpec | None = read_as(ResidualSpec, table)
    yield from _distribution_problems(path, table)
    if spec is None:
        return
    for name, keys in RESIDUAL_CORRELATIONS.items():
        given = [key for key in keys if getattr(spec, key) is not None]
        if name == spec.correlation and keys[0] not in given:
            message = f"correlation {name!r} needs the key {keys[0]!r}; add it"
            yield (*path, "correlation"), message
        for key in given if name != spec.correlation else ():
            yield (*path, key), f"{key!r} goes with correlation {name!r}, which is not given"
    most = _most_observations(raw)
    if spec.rho is not None and 1.0 + spec.rho * (most - 1) < 0.0:
        lowest = f"-1/{most - 1} = {-1.0 / (most - 1):.4g}"
        yield (*path, "rho"), f"no {most} residuals can have this correlation; at least {lowest}"


def _most_observations(raw: Mapping[str, Any]) -> int:
    """Largest number of observations of an innermost unit; 1 where it cannot be read."""
    given = table_of(raw.get("design")).get("observations")
    spec: ObservationsSpec | None = read_as(ObservationsSpec, given)
    if spec is None:
        return 1
    return spec.count if isinstance(spec.count, int) else spec.count.uniform[1]
