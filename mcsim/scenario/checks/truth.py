"""What is wrong between the parts of a truth, and with its names, given those of the design."""

from collections.abc import Iterator

import numpy as np

from mcsim.names import split_pair
from mcsim.scenario.checks.columns import columns_problems, lacking, lacking_level
from mcsim.scenario.checks.design import most_observations
from mcsim.scenario.checks.draft import Draft, numbered
from mcsim.scenario.design import DesignNames, DesignSpec
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.residuals import residual_model
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.truth import (
    OF_MEAN,
    MissingSpec,
    RandomSpec,
    ResidualSpec,
    ShapeSpec,
)
from mcsim.scenario.values import RESIDUAL_CORRELATIONS, UniformCount

SINGULAR = -1e-10  # rounding of the smallest eigenvalue of a matrix of correlations
_RANDOM, _RESIDUAL, _MISSING = (("truth", key) for key in ("random", "residual", "missing"))


def truth_problems(draft: Draft) -> Iterator[Finding]:
    """Effects and residuals that cannot be, columns and levels that the design lacks."""
    truth, names = draft.scenario.truth, draft.names
    if truth is None:
        return
    faulty = {path[1] for path in draft.faulty if path[:1] == ("truth",) and len(path) > 1}
    is_read = faulty <= {"residual", "missing"}
    found = [*_variance_problems(truth)] if is_read and truth.is_normal else []
    yield from found
    random = truth.in_sds().random if is_read and not found else truth.random
    for level, spec in (random or {}).items():
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
    if spec.sd is None and spec.variance is None and path[-1] in (draft.scenario.truth.icc or ()):
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


def _variance_problems(truth: StatedTruth) -> Iterator[Finding]:
    """Variances that are stated twice, not at all, or do not add up."""
    given = [key for key in ("sigma", "total_sd", "total_variance") if getattr(truth, key)]
    if not given:
        meaning = "standard deviation of the residuals; or total_variance, or total_sd"
        yield ("truth",), f"missing key 'sigma' in truth; add it: {meaning}"
    for extra in given[1:]:
        yield ("truth", extra), f"{extra!r} says what {given[0]!r} says; leave one out"
    for level in truth.icc:
        if "Intercept" in getattr(truth.random.get(level), "columns", ()):
            message = f"the intercepts of {level!r} have an SD in truth.random; leave one out"
            yield ("truth", "icc", level), message
    is_shared = truth.icc or given != ["sigma"]
    if len(given) == 1 and is_shared and not (truth.total > 0.0 and truth.residual_variance > 0.0):
        place = ("truth", "icc") if truth.icc else ("truth", given[0])
        yield place, "the levels leave nothing of the total variance for the residuals"


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
    crossed = () if draft.names is None else draft.names.crossed_levels
    if spec.correlation is not None and crossed:
        yield (
            (*_RESIDUAL, "correlation"),
            (
                "residuals are correlated within the innermost units, which there are none of where"
                f" units cross, as those of {crossed[0]!r}; leave it out"
            ),
        )
    most = most_observations(draft)
    if spec.rho is not None and 1.0 + spec.rho * (most - 1) < 0.0:
        lowest = f"at least -1/{most - 1} = {-1.0 / (most - 1):.4g}"
        yield (*_RESIDUAL, "rho"), f"no {most} residuals can have this correlation; {lowest}"


def _gap_problems(missing: MissingSpec | None, draft: Draft) -> Iterator[Finding]:
    """Methods that count steps along grids whose own steps what is left does not tell."""
    design = draft.scenario.design
    if not (missing and missing.observations and isinstance(design, DesignSpec)):
        return
    if design.observations is None:
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


def _unknown_names(truth: StatedTruth, names: DesignNames) -> Iterator[Finding]:
    """Columns and levels that the design lacks."""
    yield from columns_problems(("truth", "fixed"), truth.fixed or (), names)
    for level in truth.icc or ():
        yield from lacking_level(("truth", "icc", level), level, "truth.icc", names)
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
            known = names.factor_levels[factor]
            yield from lacking((*path, level), "level", level, known, f"{factor!r} has")


def _missing_names(missing: MissingSpec, names: DesignNames) -> Iterator[Finding]:
    for name in missing.units or ():
        yield from lacking_level((*_MISSING, "units", name), name, "truth.missing.units", names)
    if missing.dropout is not None:
        path, out = (*_MISSING, "dropout"), missing.dropout
        yield from lacking_level((*path, "level"), out.level, "truth.missing.dropout", names)
        yield from lacking((*path, "along"), "covariate", out.along, names.covariates)
