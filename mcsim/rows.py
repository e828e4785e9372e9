"""Tables of a study: analyses as rows of its files, and what its conditions ask for."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.analysis import Analysis, Method, Parameter
from mcsim.engine.optimise import Status
from mcsim.scenario import Condition, MethodSpec, Scenario
from mcsim.simulate import estimand_value, realized_value, true_value, true_values
from mcsim.store import ESTIMATES_SCHEMA, FITS_SCHEMA

Floats = NDArray[np.float64]

STATUS_NAMES = pa.array([status.name.lower() for status in Status])


def conditions_table(
    scenario: Scenario, planned: Sequence[tuple[Condition, Mapping[str, Method]]]
) -> pa.Table:
    """One row per condition, method and parameter: swept values and truth."""
    rows = []
    for condition, methods in planned:
        truth = true_values(condition.truth)
        own = {one.name: estimand_value(condition.truth, one) for one in scenario.estimands}
        for spec in scenario.methods:
            for name in method_names(spec):
                rows += [
                    {
                        "condition": condition.label,
                        "swept": json.dumps(condition.values),
                        "method": name,
                        "parameter": one.name,
                        "component": one.component,
                        "numerator_df": one.numerator_df,
                        "truth": _truth_of(one, truth, own),
                        **condition.values,
                    }
                    for one in methods[spec.name].parameters()
                ]
    table = pa.Table.from_pylist(rows)
    for name, kind in (("truth", pa.float64()), ("numerator_df", pa.int64())):
        column = table.schema.get_field_index(name)
        table = table.set_column(column, name, table[name].cast(kind))
    return table


def _truth_of(
    parameter: Parameter, truth: Mapping[str, float], estimands: Mapping[str, float]
) -> float | None:
    if parameter.component == "terms":  # F has none
        return None
    return estimands.get(parameter.name, true_value(truth, parameter.name))


def method_names(spec: MethodSpec) -> list[str]:
    """One name, or with several df methods one per entry: `general/containment`."""
    return [spec.name] if len(spec.df) == 1 else [f"{spec.name}/{df}" for df in spec.df]


def estimate_rows(
    label: str,
    replicates: Sequence[int],
    realized: Mapping[str, Floats],
    analyses: Mapping[str, Analysis],
) -> pa.Table:
    """Rows of estimates/, replicate by replicate."""
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
    values = [realized_value(realized, one.parameter) for _, one in named]
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
