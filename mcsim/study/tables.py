"""Tables of a study: analyses as rows of its files."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.methods.method import Analysis, Method
from mcsim.names import AT_TRUTH, ESTIMATES, Parameter
from mcsim.results.folder import STATUSES
from mcsim.results.store import ESTIMATES_SCHEMA, FITS_SCHEMA
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.study.likelihood_ratio import ratio_parameter

Floats = NDArray[np.float64]

STATUS_NAMES = pa.array(STATUSES)


def parameters_of(spec: MethodSpec, methods: Mapping[str, Method]) -> list[Parameter]:
    """All that a method of a scenario reports, its likelihood-ratio test last."""
    own = methods[spec.name].parameters()
    if spec.likelihood_ratio is None:
        return own
    return [*own, ratio_parameter(spec, methods)]


def fallbacks(scenario: Scenario) -> dict[str, str]:
    """Method in the results to the one that stands in for it, with the same df if it has them."""
    names = {
        spec.name: dict(zip(spec.df, spec.result_names, strict=True)) for spec in scenario.methods
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
    realized_of: Callable[[str, Parameter], Floats | None],
    analyses: Mapping[str, Analysis],
) -> pa.Table:
    """Rows of estimates/, replicate by replicate.

    Parameters
    ----------
    realized_of : realized values of what a method, by name, estimates by a parameter
    """
    named = [
        (name if len(analysis.estimates) == 1 else f"{name}/{df}", estimate)
        for name, analysis in analyses.items()
        for df, estimates in analysis.estimates.items()
        for estimate in estimates
    ]
    columns = _key_columns(label, replicates, [name for name, _ in named])
    columns["parameter"] = _repeated([one.parameter.name for _, one in named], len(replicates))
    columns["component"] = _repeated([one.parameter.component for _, one in named], len(replicates))
    for measure in ESTIMATES:
        columns[measure] = _interleaved([getattr(one, measure) for _, one in named])
    none = np.full(len(replicates), np.nan)
    values = [realized_of(name.partition("/")[0], one.parameter) for name, one in named]
    columns["realized"] = _interleaved([none if one is None else one for one in values])
    for name in AT_TRUTH:
        columns[name] = _interleaved([getattr(one, name) for _, one in named])
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
