"""Power along the size of an effect, from fits at one size.

The intervals stay the same, whatever the effects; the estimates move along.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mcsim.errors import DataError
from mcsim.measures import MEASURES, Sample
from mcsim.names import ROW, shown_labels
from mcsim.results.folder import STATUSES, read_conditions
from mcsim.summary.estimates import read_results
from mcsim.summary.records import Record
from mcsim.summary.summarize import (
    MEASURED_TOGETHER,
    OF_CONDITIONS,
    Described,
    all_studies,
    alpha_of,
)
from mcsim.summary.text import percent, with_mcse

ALONG = ("expected_rejection", "type_s", "type_m")
MEASURED = tuple(f"{name}{end}" for name in ALONG for end in ("", "_mcse"))
NOTE = (
    "power: share of tests that reject, in percent, if the effect were this; type S: of them with"
    " the wrong sign;\ntype M: by what factor their estimates exaggerate. In parentheses: Monte"
    " Carlo standard errors."
)


def along_effects(directories: Sequence[Path], effects: Sequence[float]) -> pa.Table:
    """One row per condition, method, fixed effect and size that it might have.

    Raises
    ------
    DataError
        No test has a distribution that is known for other effects.
    """
    records = []
    for study in all_studies(directories):
        conditions = read_conditions(study).drop_columns(OF_CONDITIONS)
        described, keys = Described(conditions, alpha_of(study)), conditions.select(ROW).to_pylist()
        label = {"study": str(study)} if len(directories) > 1 else {}
        found: dict[int, list[Record]] = {}
        for rows, results in read_results(study, conditions, STATUSES[:2]):
            for row in rows:
                sample = described.sample([row], [results.numbers(row)])
                if np.isnan(sample.tails.above).all():
                    continue
                found[row] = [label | keys[row] | one for one in _along(sample, effects)]
        records += [record for row in sorted(found) for record in found[row]]
    if not records:
        raise DataError(
            "no test here has a power that is known for other effects: that takes a normal truth,"
            " and estimator reml, ml, ols, ols-cluster, gee or two-stage"
        )
    return pa.Table.from_pylist(records)


def to_rows(table: pa.Table) -> list[list[str]]:
    """A table to be read, the header first."""
    rows = [["condition", "method", "parameter", "effect", "power", "type S", "type M"]]
    labels = shown_labels(table.column("condition").to_pylist())
    for one in table.to_pylist():
        power, type_s = (percent(one[name], one[f"{name}_mcse"]) for name in ALONG[:2])
        shown = f"{one['effect']:.6g}", power, type_s, with_mcse(one["type_m"], one["type_m_mcse"])
        rows.append([labels[one["condition"]], one["method"], one["parameter"], *shown])
    return rows


def _along(sample: Sample, effects: Sequence[float]) -> Iterator[Record]:
    """The measures if the row's effect were of each size; None where undefined."""
    n = int((~np.isnan(sample.tails.above)).sum())
    n_together = max(1, MEASURED_TOGETHER // sample.estimates.shape[1])
    for first in range(0, len(effects), n_together):
        some = effects[first : first + n_together]
        there = replace(sample, truth=np.array(some))  # of one row, which numpy repeats
        measured = np.array([one for name in ALONG for one in MEASURES[name](there)])
        for effect, values in zip(some, measured.T.tolist(), strict=True):
            numbers = dict(zip(MEASURED, values, strict=True))
            known = {name: None if np.isnan(one) else one for name, one in numbers.items()}
            yield {"effect": effect, "n": n, **known}
