"""Study folders -> one row per condition, method and parameter.

Works from the files alone, also while a study runs: a part is complete once it is in `fits/`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mcsim.errors import DataError
from mcsim.measures import MEASURES, Sample
from mcsim.names import (
    EQUIVALENCE,
    FIXED,
    ROW,
    Parameter,
    no_effect,
    short_names,
    show_swept,
)
from mcsim.results.folder import STATUSES, read_conditions, read_manifest
from mcsim.summary.estimates import Floats, Results, read_results
from mcsim.summary.records import unique

Take = Callable[[Results, int], Floats]

LABELS = ("study", "condition")
DESCRIPTION = ("method", "parameter", "component", "truth")
OF_CONDITIONS = ("swept", "kind", "level", "condition_in_words", "design_in_words")  # left there
THEORY = ("theory_emp_se", "theory_df", "theory_rejection")  # of balanced designs
OPTIONAL = ("numerator_df", *THEORY, *EQUIVALENCE)  # which not every study has
COUNTS = ("n_replicates", "n", "n_failed", "n_boundary", "n_missing_interval", "n_expected")
MEASURED = tuple(name + suffix for name in MEASURES for suffix in ("", "_mcse"))
RESULTS = pa.schema(dict.fromkeys(COUNTS, pa.int64()) | dict.fromkeys(MEASURED, pa.float64()))
DEFAULT_LINKS = {"binomial": "logit", "poisson": "log", "nbinom": "log"}
MEASURED_TOGETHER = 100_000  # replicates of all rows: their arrays stay in the cache


def summarize(
    directories: Sequence[Path], *, only_regular: bool = False, missing: str = "usable"
) -> pa.Table:
    """One row per condition, method and parameter, in the order of `conditions.parquet`.

    Of `n_replicates` finished ones, `n_failed` failed or did not converge, `n_boundary` ended on
    the boundary (`only_regular` leaves them out of all else), `n` have a usable estimate, of which
    `n_missing_interval` lack an interval; `n_expected` have what the expected measures need.
    Measures and MCSEs are null where undefined. A directory is a study or holds studies; if there
    are several, the column `study` tells them apart. With
    `missing` "usable" every method has its own replicates, with "common" those that all methods of
    the condition can use; with "fallback" those that it lacks are of the method that its scenario
    names as its fallback. The metadata hold `confidence` (a list), `boundary` ("kept" or "left
    out"), `missing` and the `links` of truths that are not normal. A folder that is no study, or
    holds results that its `conditions.parquet` does not list, is a DataError.
    """
    studies = all_studies(directories)
    if missing not in HANDLINGS:
        raise DataError(f"missing is {missing!r}; it must be {', '.join(HANDLINGS)}")
    usable = STATUSES[: 1 if only_regular else 2]
    tables = {study: _summarize_study(study, usable, missing) for study in studies}
    words = {"boundary": "left out" if only_regular else "kept", "missing": missing}
    if links := {link_of_study(study) for study in studies} - {None}:
        words["links"] = ",".join(sorted(map(str, links)))
    return join_summaries(tables).replace_schema_metadata({**_confidences(studies), **words})


def join_summaries(tables: Mapping[Path, pa.Table]) -> pa.Table:
    """The rows of all studies, without metadata; the column `study` tells several apart.

    Raises
    ------
    DataError
        The studies sweep values of different types under the same name.
    """
    labels = LABELS if len(tables) > 1 else LABELS[1:]
    table = _concatenate(
        [
            one.add_column(0, "study", pa.array([_shown(study)] * one.num_rows, pa.string()))
            for study, one in tables.items()
        ]
    )
    known = {"study", *ROW, *DESCRIPTION, *OPTIONAL, *RESULTS.names}
    swept = [name for name in table.column_names if name not in known]
    optional = [name for name in OPTIONAL if name in table.column_names]
    return table.select([*labels, *swept, *DESCRIPTION, *optional, *RESULTS.names])


def _shown(study: Path) -> str:
    """The name of a folder, which need not be text in UTF-8."""
    return os.fsencode(study).decode(errors="backslashreplace")


def studies_in(directory: Path) -> list[Path]:
    """The study in a folder, and those in the folders in it; a DataError if there is none."""
    marks = ("manifest.json", "conditions.parquet")
    folders = [directory, *sorted(directory.glob("*/"))]
    studies = [path for path in folders if all((path / mark).exists() for mark in marks)]
    if not studies:
        raise DataError(f"{directory}: no study here. Give a folder that mcsim run has written.")
    return studies


def all_studies(directories: Sequence[Path]) -> list[Path]:
    """The studies in some folders, each once; errors as of `studies_in`."""
    if not directories:
        raise DataError("no folder of results is named")
    return list(dict.fromkeys(study for one in directories for study in studies_in(one)))


def _confidences(studies: Sequence[Path]) -> dict[str, str]:
    return {"confidence": json.dumps(sorted({_confidence(study) for study in studies}))}


def alpha_of(study: Path) -> float:
    """Level of the tests of a study."""
    return round(1 - _confidence(study), 12)


def _confidence(study: Path) -> float:
    return float(read_manifest(study)["confidence"])


def link_of_study(study: Path, method: str | None = None) -> str | None:
    """The link of a study's truth, or of a method; None of normal ones, or where it is swept."""
    said = read_manifest(study)["identity"]
    if {"sweep.truth.family", "sweep.truth.link", "sweep.truth"} & said.keys():
        return None
    of_truth = said.get("truth.family"), said.get("truth.link")
    family, link = (said.get(f"methods.{method}.{key}") for key in ("family", "link"))
    link = link or (of_truth[1] if family in (None, of_truth[0]) else None)
    family = family or of_truth[0]
    return None if family in (None, "gaussian") else link or DEFAULT_LINKS[family]


def _fallbacks(study: Path) -> dict[str, str]:
    """Methods and their fallbacks, whose parameters are on the same scale."""
    named: Mapping[str, str] = read_manifest(study).get("fallbacks", {})

    def link(method: str) -> str | None:
        return link_of_study(study, method.partition("/")[0])

    return {one: other for one, other in named.items() if link(one) == link(other)}


def _summarize_study(study: Path, usable: Sequence[str], missing: str) -> pa.Table:
    conditions = read_conditions(study).drop_columns(OF_CONDITIONS)
    take = HANDLINGS[missing](_fallbacks(study), _numbers(conditions, "truth"))
    measured = _Measured(conditions, alpha_of(study))
    for rows, results in read_results(study, conditions, usable):
        measured.add(rows, results, take)
    names = [*conditions.column_names, *RESULTS.names]
    return pa.table([*conditions.columns, *measured.columns()], names)


class Described:
    """What a conditions table says of its rows, for measures of their estimates."""

    def __init__(self, conditions: pa.Table, alpha: float) -> None:
        rows = conditions.select(["parameter", "component", "truth"]).to_pylist()
        read = [(Parameter.read(r["parameter"], r["component"]), r["truth"]) for r in rows]
        self._is_scale = np.array([one.is_scale for one, _ in read])
        self._is_at_edge = np.array([one.is_at_edge(truth) for one, truth in read])
        self._no_effect = np.array([no_effect(one.component) for one, _ in read])
        self._truth = _numbers(conditions, "truth")
        is_fixed = np.array([one.component == FIXED for one, _ in read])
        self._true_se = np.where(is_fixed, _numbers(conditions, "theory_emp_se"), np.nan)
        self._limits = np.column_stack([_numbers(conditions, name) for name in EQUIVALENCE])
        self._alpha = alpha

    def sample(self, rows: Sequence[int], numbers: Sequence[Floats]) -> Sample:
        """The rows, all with equally many replicates, given their NUMBERS, which may change."""
        # (9, n_rows, n), in memory too: sums of replicates that lie apart are not pairwise
        own, columns = np.array(rows), numbers[0][:, None]
        if len(rows) > 1:
            columns = np.stack(numbers, axis=1)
        columns = np.ascontiguousarray(columns)
        _fill_in_balanced(columns, self._true_se[own])
        edge, limits = self._is_at_edge[own], self._limits[own]
        described = self._truth[own], self._is_scale[own], edge, self._alpha, limits
        return replace(Sample(*described, *columns), no_effect=self._no_effect[own])


class _Measured:
    """Counts and measures of every row of a conditions table, NaN where undefined."""

    def __init__(self, conditions: pa.Table, alpha: float) -> None:
        self._described = Described(conditions, alpha)
        self._counts = np.zeros((len(COUNTS), conditions.num_rows), dtype=np.int64)
        self._measures = np.full((len(MEASURED), conditions.num_rows), np.nan)

    def add(self, rows: Sequence[int], results: Results, take: Take) -> None:
        """Measure some rows, those with equally many replicates together."""
        rows_by_n: dict[int, list[tuple[int, Floats]]] = {}
        for row in rows:
            ok, boundary, *bad = results.count_fits(row)
            self._counts[:4, row] = ok + boundary + sum(bad), 0, sum(bad), boundary
            numbers = take(results, row)
            n = numbers.shape[1]
            rows_by_n.setdefault(n, []).append((row, numbers))
            del numbers  # gone before those of the next row are read
            if n * len(rows_by_n[n]) >= MEASURED_TOGETHER:
                self._measure(rows_by_n.pop(n))
        for found in rows_by_n.values():
            self._measure(found)

    def _measure(self, found: list[tuple[int, Floats]]) -> None:
        rows, numbers = zip(*found, strict=True)
        own, sample = np.array(rows), self._described.sample(rows, numbers)
        has_estimate = ~np.isnan(sample.estimates)
        self._counts[1, own] = has_estimate.sum(axis=1)
        self._counts[4, own] = (has_estimate & ~sample.has_interval).sum(axis=1)
        self._counts[5, own] = (~np.isnan(sample.tails.above)).sum(axis=1)
        for place, measure in enumerate(MEASURES.values()):
            self._measures[2 * place : 2 * place + 2, own] = measure(sample)

    def columns(self) -> list[pa.Array]:
        """The columns of RESULTS."""
        numbers = [pa.array(one, pa.float64(), from_pandas=True) for one in self._measures]
        return [*map(pa.array, self._counts), *numbers]


def _fill_in_balanced(columns: Floats, true_se: Floats) -> None:
    """The distribution of estimates given their interval, which balanced designs have by theory.

    Parameters
    ----------
    columns : NUMBERS (9, n_rows, n), changed in place
    true_se : (n_rows,)
    """
    estimates, shift, given = columns[0], *columns[-2:]
    is_open = np.isnan(given) & ~np.isnan(estimates) & ~np.isnan(true_se)[:, None]
    shift[is_open] = 0.0
    given[is_open] = np.broadcast_to(true_se[:, None], given.shape)[is_open]


def _numbers(conditions: pa.Table, name: str) -> Floats:
    """A column, NaN where it is null, or where the study has none."""
    if name not in conditions.column_names:
        return np.full(conditions.num_rows, np.nan)
    return np.asarray(conditions[name].to_numpy(), dtype=np.float64)


def _take_usable(_fallbacks: Mapping[str, str], _truth: Floats) -> Take:
    return Results.numbers


def _take_common(_fallbacks: Mapping[str, str], _truth: Floats) -> Take:
    def take(results: Results, row: int) -> Floats:
        replicates, values = results.numbered(row)
        return values[:, np.isin(replicates, results.usable_by_all(row))]

    return take


def _take_with_fallback(fallbacks: Mapping[str, str], truth: Floats) -> Take:
    """Not of another quantity: with another true value it has another meaning."""

    def take(results: Results, row: int) -> Floats:
        replicates, values = results.numbered(row)
        other = results.row_of(row, fallbacks.get(results.method(row), ""))
        if other is None or not np.isclose(truth[row], truth[other], ROUNDING, 0.0, equal_nan=True):
            return values
        all_replicates, all_values = results.numbered(other)
        is_missing = ~np.isin(all_replicates, replicates)
        order = np.argsort(np.append(replicates, all_replicates[is_missing]), kind="stable")
        in_place = all_values[:, is_missing]
        if np.all(np.isnan(values[-2:])):  # a mean of the other method's alone is of neither
            in_place[-2:] = np.nan
        return np.hstack([values, in_place])[:, order]

    return take


ROUNDING = 1e-10  # of a true value that is implied
HANDLINGS = {"usable": _take_usable, "common": _take_common, "fallback": _take_with_fallback}


def _concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise DataError(f"these sweeps differ in kind; do one at a time: {error}") from error


def swept_in(table: pa.Table, *, has_studies: bool = False) -> dict[str, str]:
    """Short name, as in the labels, of every column with more than one value."""
    names = table.column_names
    columns = names[names.index("condition") + 1 : names.index(DESCRIPTION[0])]
    columns = ["study"] * has_studies + columns
    swept = [name for name in columns if len(unique(map(value_text, table[name].to_pylist()))) > 1]
    return short_names(swept)


def value_text(value: Any) -> str:
    """A swept value, in all its digits, for there may be others next to it; 2 for 2.0."""
    if value is None:
        return "-"
    text = show_swept(value)
    return text.removesuffix(".0") if isinstance(value, float) else text
