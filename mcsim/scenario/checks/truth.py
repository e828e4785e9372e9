"""What is wrong between the parts of a truth, and with its names, given those of the design."""

from collections.abc import Iterator

import numpy as np

from mcsim.names import split_pair
from mcsim.scenario.checks.columns import columns_problems, lacking, lacking_level
from mcsim.scenario.checks.design import most_observations
from mcsim.scenario.checks.draft import Draft, numbered
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.records import DesignNames
from mcsim.scenario.residuals import residual_model
from mcsim.scenario.truth import (
    OF_MEAN,
    MissingSpec,
    RandomSpec,
    ResidualSpec,
    ShapeSpec,
    TruthSpec,
)
from mcsim.scenario.values import RESIDUAL_CORRELATIONS, UniformCount

SINGULAR = -1e-10  # rounding of the smallest eigenvalue of a matrix of correlations
_RANDOM, _RESIDUAL, _MISSING = (("truth", key) for key in ("random", "residual", "missing"))


def truth_problems(draft: Draft) -> Iterator[Finding]:
    """Effects and residuals that cannot be, columns and levels that the design lacks."""
    truth, names = draft.scenario.truth, draft.names
    if truth is None:
        return
    for level, spec in (truth.random or {}).items():
        yield from _random_problems((*_RANDOM, level), spec, draft)
    yield from _residual_problems(truth.residual, draft)
    yield from _gap_problems(truth.missing, draft)
    if names is not None:
        yield from _unknown_names(truth, names)


def _random_problems(path: KeyPath, spec: RandomSpec | None, draft: Draft) -> Iterator[Finding]:
    """Effects without spread, and correlations that no effects can have."""
    if spec is None:
        return
    yield from _shape_problems((*path, "distribution"), spec.distribution, draft)
    if path in draft.faulty:
        return
    if (spec.sd is None) == (spec.variance is None) or not spec.columns:
        where = ".".join(map(str, path))
        yield path, f"{where} must have exactly one of sd and variance, not empty"
        return
    pairs = list(_pair_problems(spec))
    yield from (((*path, "correlation", key), message) for key, message in pairs)
    if not pairs and not _is_possible(spec):
        message = "no effects can have these correlations together; bring them nearer to 0"
        yield (*path, "correlation"), message


def _shape_problems(path: KeyPath, shape: object, draft: Draft) -> Iterator[Finding]:
    if isinstance(shape, ShapeSpec) and path not in draft.faulty and len(shape.given) != 1:
        names, found = (", ".join(sorted(one)) for one in (ShapeSpec.model_fields, shape.given))
        message = f"a distribution must have exactly one of {names}; it has: {found or 'none'}"
        yield path, message


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
    return len(varying) < 2 or bool(np.linalg.eigvalsh(matrix)[0] >= SINGULAR)


def _residual_problems(spec: ResidualSpec | None, draft: Draft) -> Iterator[Finding]:
    """Keys that do not go with the correlation, and one that the units are too large for."""
    if spec is None:
        return
    yield from _shape_problems((*_RESIDUAL, "distribution"), spec.distribution, draft)
    if _RESIDUAL in draft.faulty:
        return
    for name, keys in RESIDUAL_CORRELATIONS.items():
        given = [key for key in keys if getattr(spec, key) is not None]
        if name == spec.correlation and keys[0] not in given:
            message = f"correlation {name!r} needs the key {keys[0]!r}; add it"
            yield (*_RESIDUAL, "correlation"), message
        for key in given if name != spec.correlation else ():
            yield (*_RESIDUAL, key), f"{key!r} goes with correlation {name!r}, which is not given"
    most = most_observations(draft)
    if spec.rho is not None and 1.0 + spec.rho * (most - 1) < 0.0:
        lowest = f"at least -1/{most - 1} = {-1.0 / (most - 1):.4g}"
        yield (*_RESIDUAL, "rho"), f"no {most} residuals can have this correlation; {lowest}"


def _gap_problems(missing: MissingSpec | None, draft: Draft) -> Iterator[Finding]:
    """Methods that count steps along grids whose own steps what is left does not tell."""
    design = draft.scenario.design
    if not (missing and missing.observations and design and design.observations):
        return
    grids = {name for name, spec in (design.covariates or {}).items() if spec and spec.grid}
    for number, method in numbered(draft.scenario.methods).items():
        model = residual_model(method.residual)
        is_along = model is not None and model.along in grids
        if is_along and isinstance(design.observations.count, UniformCount):
            yield (
                ("methods", number, "residual"),
                "where observations are lost from grids of drawn counts, the distances between"
                " those left are not told; give design.observations.count one number, or leave"
                " truth.missing.observations out",
            )


def _unknown_names(truth: TruthSpec, names: DesignNames) -> Iterator[Finding]:
    """Columns and levels that the design lacks."""
    yield from columns_problems(("truth", "fixed"), truth.fixed or (), names)
    for level, spec in (truth.random or {}).items():
        yield from lacking_level((*_RANDOM, level), level, "truth.random", names)
        for key in ("sd", "variance"):
            columns = getattr(spec, key, None) or ()
            yield from columns_problems((*_RANDOM, level, key), columns, names)
    if truth.residual is not None:
        yield from _residual_names(truth.residual, names)
    if truth.missing is not None:
        yield from _missing_names(truth.missing, names)


def _residual_names(residual: ResidualSpec, names: DesignNames) -> Iterator[Finding]:
    yield from lacking((*_RESIDUAL, "along"), "covariate", residual.along, names.covariates)
    if residual.power is not None:
        path, known = (*_RESIDUAL, "power", "of"), (OF_MEAN, *names.covariates)
        yield from lacking(path, "covariate", residual.power.of, known, "There are")
    for factor, by_level in (residual.sd_by or {}).items():
        path = (*_RESIDUAL, "sd_by", factor)
        yield from lacking(path, "factor", factor, names.factors)
        for level in by_level or () if factor in names.factors else ():
            known = names.factors[factor]
            yield from lacking((*path, level), "level", level, known, f"{factor!r} has")


def _missing_names(missing: MissingSpec, names: DesignNames) -> Iterator[Finding]:
    for name in missing.units or ():
        yield from lacking_level((*_MISSING, "units", name), name, "truth.missing.units", names)
    if missing.dropout is not None:
        path, out = (*_MISSING, "dropout"), missing.dropout
        yield from lacking_level((*path, "level"), out.level, "truth.missing.dropout", names)
        yield from lacking((*path, "along"), "covariate", out.along, names.covariates)
