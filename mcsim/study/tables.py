"""Tables of a study: analyses as rows of its files, and what its conditions ask for."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError, nearest_name
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import Analysis, Method, Parameter
from mcsim.results.folder import STATUSES
from mcsim.results.store import ESTIMATES_SCHEMA, FITS_SCHEMA
from mcsim.scenario.conditions import Condition
from mcsim.scenario.keys import show_value
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.simulate.responses import (
    estimand_value,
    realized_value,
    residual_values,
    target_of,
    true_value,
    true_values,
)
from mcsim.study.likelihood_ratio import ratio_parameter

Floats = NDArray[np.float64]

THEORY = tuple(f"theory_{name}" for name in Theory._fields)
STATUS_NAMES = pa.array(STATUSES)


def conditions_table(
    scenario: Scenario, planned: Sequence[tuple[Condition, Mapping[str, Method]]]
) -> pa.Table:
    """One row per condition, method and parameter: swept values and truth."""
    rows, swept = [], _swept_columns([condition for condition, _ in planned])
    for condition, methods in planned:
        truth = true_values(condition.truth)
        truth |= residual_values(condition.truth, condition.design.factors)
        own = {one.name: estimand_value(condition.truth, one) for one in scenario.estimands}
        for spec in scenario.methods:
            method = methods[spec.name]
            theory = method.theory(condition.truth) if condition.is_standard else {}
            _check_declared(spec, methods, {*truth, *own})
            for df, name in zip(spec.df, method_names(spec), strict=True):
                forms = theory.get(df, {})
                rows += [
                    {
                        "condition": condition.label,
                        "swept": json.dumps(condition.values),
                        "method": name,
                        "parameter": one.name,
                        "component": one.component,
                        "numerator_df": one.numerator_df,
                        "truth": _truth_of(one, spec, truth, own),
                        **_columns_of(forms.get(one.name, Theory(None))),
                        **swept[condition.label],
                    }
                    for one in parameters_of(spec, methods)
                ]
    table = pa.Table.from_pylist(rows)
    for name in (*THEORY, "truth", "numerator_df"):
        column = table.schema.get_field_index(name)
        kind = pa.int64() if name == "numerator_df" else pa.float64()
        table = table.set_column(column, name, table[name].cast(kind))
    return table


def _swept_columns(planned: Sequence[Condition]) -> dict[str, dict[str, Any]]:
    """Swept values by condition: as text where those of a key are not all numbers."""
    found: dict[str, dict[str, Any]] = {condition.label: {} for condition in planned}
    for key in planned[0].values:
        given = [condition.values[key] for condition in planned]
        are_numbers = all(isinstance(one, int | float) for one in given)
        for condition, value in zip(planned, given, strict=True):
            text = value if isinstance(value, str) else show_value(value)
            found[condition.label][key] = value if are_numbers else text
    return found


def _columns_of(theory: Theory) -> dict[str, float | None]:
    return dict(zip(THEORY, theory, strict=True))


def _check_declared(spec: MethodSpec, methods: Mapping[str, Method], known: set[str]) -> None:
    """Raise a DataError where a method declares a truth of nothing, or one that there is not."""
    own = [one.name for one in parameters_of(spec, methods)]
    totals = {re.sub(r"^\w+(\.sd|\.var)", r"total\1", name) for name in known if "(" in name}
    for key, value in spec.truth.items():
        for name, names in ((key, own), (value, sorted(known | totals))):
            if name not in names:
                raise DataError(
                    f"method {spec.name!r} declares the truth of {key!r} as {value!r}; unknown:"
                    f" {name!r}. There are: {', '.join(names)}.{nearest_name(name, names)}"
                )


def _truth_of(
    parameter: Parameter,
    spec: MethodSpec,
    truth: Mapping[str, float],
    estimands: Mapping[str, float],
) -> float | None:
    if parameter.component == "terms":  # F has none
        return None
    name = target_of(parameter.name, spec.truth)
    if parameter.component == "residual" and name not in truth:
        return estimands.get(name)  # a structure of the residuals that the truth does not have
    return estimands.get(name, true_value(truth, name))


def parameters_of(spec: MethodSpec, methods: Mapping[str, Method]) -> list[Parameter]:
    """All that a method of a scenario reports, its likelihood-ratio test last."""
    own = methods[spec.name].parameters()
    if spec.likelihood_ratio is None:
        return own
    return [*own, ratio_parameter(spec, methods)]


def method_names(spec: MethodSpec) -> list[str]:
    """One name, or with several df methods one per entry: `general/containment`."""
    return [spec.name] if len(spec.df) == 1 else [f"{spec.name}/{df}" for df in spec.df]


def fallbacks(scenario: Scenario) -> dict[str, str]:
    """Method in the results to the one that stands in for it, with the same df if it has them."""
    names = {
        spec.name: dict(zip(spec.df, method_names(spec), strict=True)) for spec in scenario.methods
    }
    found: dict[str, str] = {}
    for spec in scenario.methods:
        if spec.fallback is not None:
            others = names[spec.fallback]
            first = next(iter(others.values()))
            found |= {name: others.get(df, first) for df, name in names[spec.name].items()}
    return found


def estimate_rows(
    label: str,
    replicates: Sequence[int],
    realized: Mapping[str, Floats],
    analyses: Mapping[str, Analysis],
    specs: Sequence[MethodSpec] = (),
) -> pa.Table:
    """Rows of estimates/, replicate by replicate; `specs` may declare what parameters estimate."""
    declared = {name: spec.truth for spec in specs for name in method_names(spec)}
    named = [
        (name if len(analysis.estimates) == 1 else f"{name}/{df}", estimate)
        for name, analysis in analyses.items()
        for df, estimates in analysis.estimates.items()
        for estimate in estimates
    ]
    columns = _key_columns(label, replicates, [name for name, _ in named])
    for key in ("parameter", "component"):
        columns[key] = _repeated([getattr(one, key) for _, one in named], len(replicates))
    for measure in ("estimate", "std_error", "df", "ci_lower", "ci_upper", "p_value"):
        columns[measure] = _interleaved([getattr(one, measure) for _, one in named])
    none = np.full(len(replicates), np.nan)
    targets = [target_of(one.parameter, declared.get(name, {})) for name, one in named]
    values = [realized_value(realized, target) for target in targets]
    columns["realized"] = _interleaved([none if one is None else one for one in values])
    return pa.table(columns, schema=ESTIMATES_SCHEMA)


def fit_rows(label: str, replicates: Sequence[int], analyses: Mapping[str, Analysis]) -> pa.Table:
    """Rows of fits/: one per replicate and method."""
    named = [
        (name if len(analysis.estimates) == 1 else f"{name}/{df}", analysis.fits)
        for name, analysis in analyses.items()
        for df in analysis.estimates
    ]
    columns = _key_columns(label, replicates, [name for name, _ in named])
    status = np.column_stack([fits.status for _, fits in named]).ravel()
    messages = zip(*(fits.message for _, fits in named), strict=True)
    columns |= {
        "status": pa.DictionaryArray.from_arrays(pa.array(status, pa.int32()), STATUS_NAMES),
        "loglik": _interleaved([fits.loglik for _, fits in named]),
        "evaluations": _interleaved([fits.evaluations for _, fits in named]).cast(pa.int32()),
        "certificate": _interleaved([fits.certificate for _, fits in named]),
        "message": pa.array([one for row in messages for one in row], pa.string()),
    }
    return pa.table(columns, schema=FITS_SCHEMA)


def _key_columns(
    label: str, replicates: Sequence[int], methods: Sequence[str]
) -> dict[str, pa.Array]:
    numbers = np.repeat(np.asarray(replicates, dtype=np.int32), len(methods))
    return {
        "condition": _repeated([label] * len(methods), len(replicates)),
        "replicate": pa.array(numbers),
        "method": _repeated(methods, len(replicates)),
    }


def _interleaved(values: Sequence[Floats]) -> pa.Array:
    """Columns, one per row of a replicate, as one; null where there is no number."""
    numbers = np.column_stack(values).ravel()
    return pa.array(numbers, mask=~np.isfinite(numbers))


def _repeated(values: Sequence[str], times: int) -> pa.DictionaryArray:
    once = pa.array(values, pa.string()).dictionary_encode()
    indices = np.tile(once.indices.to_numpy(), times)
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), once.dictionary)
