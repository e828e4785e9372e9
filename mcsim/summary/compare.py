"""Two methods on the same data sets: paired differences with their Monte Carlo errors."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcsim.errors import DataError
from mcsim.names import Parameter, shown_labels
from mcsim.results.folder import STATUSES, read_conditions, read_manifest
from mcsim.summary.estimates import Results, read_results
from mcsim.summary.records import (
    Record,
    n_in_words,
    note_on_intervals,
    the_one,
    unique,
    without_variances,
)
from mcsim.summary.text import percent, with_mcse

Floats = NDArray[np.float64]

ROUNDING = 1e-12  # of a squared correlation: methods that estimate the same
SAME, SAME_AT_ZERO = 1e-10, 1e-13  # of a number, of the largest: numbers that are the same
DIFFERENCES = ("bias", "mse", "coverage", "rejection", "ci_width")
COLUMNS = pa.schema(
    [
        *[(name, pa.string()) for name in ("condition", "parameter", "component")],
        *[(name, pa.int64()) for name in ("n", "n_missing_interval")],
        *[
            (name + suffix, pa.float64())
            for name in (*(f"{one}_difference" for one in DIFFERENCES), "relative_precision")
            for suffix in ("", "_mcse")
        ],
    ]
)
HEADER = ["parameter", "n", "bias", "mse", "coverage %", "rejection %", "width", "precision"]
NOTE = (
    "Method {second} less method {first} on the same data sets; in parentheses Monte Carlo standard"
    "\nerrors. precision: variance of {first}'s estimates over that of {second}'s, less 1."
)


def compare(study: Path, first: str, second: str) -> pa.Table:
    """One row per condition and parameter that both methods have: `second` less `first`.

    Over replicates in which both have what a measure needs; n have both estimates, of which
    n_missing_interval lack an interval of either. Differences: the mean and SD / sqrt(n) of the
    paired differences, each method being held against its own true value. Relative precision:
    (S_first / S_second)^2 - 1 (Morris, White & Crowther 2019, table 6).

    Raises
    ------
    DataError
        There is no such study or method, or both are the same.
    """
    table = read_conditions(study)
    described = table.select(["condition", "method", "parameter", "component", "truth"]).to_pylist()
    first, second = (
        the_one("method", name, [row["method"] for row in described]) for name in (first, second)
    )
    if first == second:
        others = unique(row["method"] for row in described if row["method"] != first)
        there = f"the others are {', '.join(others)}" if others else "the study has no other"
        raise DataError(f"{first!r} is compared with itself; name two methods: {there}")
    alpha = 1.0 - float(read_manifest(study)["confidence"])
    records = {}
    for rows, results in read_results(study, table, STATUSES[:2]):
        for row in rows:
            other = results.row_of(row, second) if described[row]["method"] == first else None
            if other is not None and described[row]["component"] != "terms":
                records[row] = _compared(results, (row, other), described, alpha)
    return pa.Table.from_pylist([records[row] for row in sorted(records)], COLUMNS)


def _compared(
    results: Results, rows: tuple[int, int], table: Sequence[Record], alpha: float
) -> Record:
    """Each method against its own true value: in another coding it is another one."""
    described, truths = table[rows[0]], [table[row]["truth"] for row in rows]
    (replicates, first), (others, second) = (results.numbered(row) for row in rows)
    _, here, there = np.intersect1d(replicates, others, return_indices=True)
    A = first[:, here]
    B = without_rounding(A, second[:, there])
    thetas = [math.nan if one is None else one for one in truths]
    if math.isclose(*thetas, rel_tol=SAME):  # but for the rounding of what is implied
        thetas[1] = thetas[0]
    parameter = Parameter.read(described["parameter"], described["component"])
    is_at_edge = any(map(parameter.is_at_edge, truths))
    record = {name: described[name] for name in ("condition", "parameter", "component")}
    has_both = ~np.isnan(A[0] + B[0])
    has_intervals = has_both & ~np.isnan(A[2] + A[3] + B[2] + B[3])
    record["n"] = int(has_both.sum())
    record["n_missing_interval"] = record["n"] - int(has_intervals.sum())
    for name in DIFFERENCES:
        pairs = zip((A, B), thetas, strict=True)
        scores = [_score(name, numbers, theta, alpha) for numbers, theta in pairs]
        if name == "coverage" and is_at_edge and not all(np.nansum(one) for one in scores):
            scores = [np.full(A.shape[1], np.nan)] * 2  # such as of an SD of 0 on the log scale
        value, mcse = _mean(scores[1] - scores[0])
        record |= {f"{name}_difference": value, f"{name}_difference_mcse": mcse}
    value, mcse = _relative_precision(A[0], B[0])
    return record | {"relative_precision": value, "relative_precision_mcse": mcse}


def without_rounding(A: Floats, B: Floats) -> Floats:
    """B, with the bits of A where rounding alone makes them differ: numbers of replicates, (.., n).

    It is told by their size and, for those that are 0 but for rounding, by the largest of A.
    """
    sizes = np.where(np.isfinite(A), np.abs(A), 0.0)
    largest = sizes.max(axis=-1, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore"):  # infinite limits
        is_same = np.abs(B - A) <= SAME * sizes + SAME_AT_ZERO * largest
    return np.where(is_same, A, B)


def _score(measure: str, numbers: Floats, theta: float, alpha: float) -> Floats:
    """What is averaged for a measure; NaN where there is nothing."""
    estimate, _, lower, upper, p_value, *_ = numbers
    if measure == "bias":
        return np.asarray(estimate - theta)
    if measure == "mse":
        return np.asarray((estimate - theta) ** 2)
    if measure == "ci_width":
        return np.asarray(upper - lower)
    if measure == "rejection":
        return np.where(np.isnan(p_value), np.nan, p_value < alpha)
    covers = (lower <= theta) & (theta <= upper)
    return np.where(np.isnan(lower + upper + theta), np.nan, covers)


def _mean(differences: Floats) -> tuple[float | None, float | None]:
    values = differences[~np.isnan(differences)]
    if len(values) == 0:
        return None, None
    with np.errstate(over="ignore"):  # an interval of a nearly flat likelihood may be that wide
        spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    mcse = spread / math.sqrt(len(values))
    return float(values.mean()), mcse if math.isfinite(mcse) else None


def _relative_precision(A: Floats, B: Floats) -> tuple[float | None, float | None]:
    both = ~np.isnan(A + B)
    n = int(both.sum())
    if n < 3 or not (A[both].std() > 0.0 and B[both].std() > 0.0):
        return None, None
    ratio = float(A[both].var(ddof=1) / B[both].var(ddof=1))
    rho = float(np.corrcoef(A[both], B[both])[0, 1])
    apart = 1.0 - rho**2 if 1.0 - rho**2 > ROUNDING else 0.0
    return ratio - 1.0, 2.0 * ratio * math.sqrt(apart / (n - 1))


def notes_on(table: pa.Table, first: str, second: str) -> list[str]:
    """What the rows of text mean."""
    return [
        NOTE.format(first=first, second=second),
        *note_on_intervals(without_variances(table.to_pylist())),
    ]


def to_rows(table: pa.Table) -> list[list[str]]:
    """Rows of text, the header first; variances left out, which say the same as their SDs."""
    records = without_variances(table.to_pylist())
    labels = shown_labels(row["condition"] for row in records)
    rows = [HEADER]
    for row in records:
        label = f"{labels[row['condition']]}: " * (len(labels) > 1) + row["parameter"]
        cells = [
            (percent if name in ("coverage", "rejection") else with_mcse)(
                row[f"{name}_difference"], row[f"{name}_difference_mcse"]
            )
            for name in DIFFERENCES
        ]
        precision = with_mcse(row["relative_precision"], row["relative_precision_mcse"])
        rows.append([label, n_in_words(row), *cells, precision])
    return rows
