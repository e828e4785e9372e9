"""Study folders -> one row per condition, method and parameter; and how that is printed.

Works from the files alone, also while a study runs: a part is complete once it is in `fits/`.
"""

import csv
import fnmatch
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mcsim.errors import DataError, nearest_name
from mcsim.measures import MEASURES, Sample
from mcsim.names import ROW, Parameter
from mcsim.results.folder import STATUSES, read_conditions, read_manifest, write_whole
from mcsim.summary.estimates import Floats, Results, read_results
from mcsim.summary.text import aligned, percent, piped, shown_as, with_mcse

Record = dict[str, Any]
Take = Callable[[Results, int], Floats]

LABELS = ("study", "condition")
DESCRIPTION = ("method", "parameter", "component", "truth")
OF_CONDITIONS = ("swept", "kind", "level", "condition_in_words", "design_in_words")  # left there
THEORY = ("theory_emp_se", "theory_df", "theory_rejection")  # of balanced designs
OPTIONAL = ("numerator_df", *THEORY)  # which not every study has
COUNTS = ("n_replicates", "n", "n_failed", "n_boundary", "n_missing_interval")
MEASURED = tuple(name + suffix for name in MEASURES for suffix in ("", "_mcse"))
RESULTS = pa.schema(dict.fromkeys(COUNTS, pa.int64()) | dict.fromkeys(MEASURED, pa.float64()))

HEADER = ["method", "parameter", "truth", "mean", "bias", "RMSE", "coverage", "n", "at 0"]
THEORY_HEADER = ["method", "parameter", "SD", "in theory", "rejected", "in theory", "exact df"]
SHARES = ("coverage", "be_coverage", "rejection", "share_at_zero")  # printed in percent
SENTENCES = {
    "fits": "{n} replicate{s}, {n_failed} failed, {n_boundary} on the boundary",
    "kept": " (a variance of 0 or a correlation of +-1: a valid result)",
    "left out": " (a variance of 0 or a correlation of +-1: left out of the rows below)",
    "undefined": "  no estimate (a correlation where an SD is 0, or what the rows do not tell): {}",
    "no interval": "  no interval (an SD of 0, or information that is not positive definite): {}",
    "shared": "What the df methods of a fit share is printed once.",
    "failed": "Why fits failed: column `message` of fits/part-*.parquet.",
    "usable": "",
    "common": "Only replicates in which the fits of all methods are usable.\n",
    "fallback": "Where a fit is not usable, the method's fallback stands in.\n",
    "reading": "In parentheses: Monte Carlo standard errors. Coverage, in percent, is of nominal "
    "{}% intervals.\nat 0: share of estimates that are exactly 0.",
    "theory": "SD of the estimates and share of tests that reject, beside the closed forms of"
    " balanced designs\n(which know no boundary); exact df are those of the t test:",
    "variances": "Variances, such as {}, are left out: see summary.csv or summary.parquet.",
}


def summarize(
    directories: Sequence[Path], *, only_regular: bool = False, missing: str = "usable"
) -> pa.Table:
    """One row per condition, method and parameter, in the order of `conditions.parquet`.

    Of `n_replicates` finished ones, `n_failed` failed or did not converge, `n_boundary` ended on
    the boundary (`only_regular` leaves them out of all else), `n` have a usable estimate, of which
    `n_missing_interval` lack an interval. Measures and MCSEs are null where undefined. A directory
    is a study or holds studies; if there are several, the column `study` tells them apart. With
    `missing` "usable" every method has its own replicates, with "common" those that all methods of
    the condition can use; with "fallback" those that it lacks are of the method that its scenario
    names as its fallback. The metadata hold `confidence` (a list), `boundary` ("kept" or "left
    out") and `missing`. A folder that is no study, or holds results that its `conditions.parquet`
    does not list, is a DataError.
    """
    studies = [study for directory in directories for study in _studies_in(directory)]
    usable = STATUSES[: 1 if only_regular else 2]
    tables = [_summarize_study(study, usable, missing) for study in dict.fromkeys(studies)]
    table = _concatenate(tables)
    labels = LABELS if len(set(studies)) > 1 else LABELS[1:]
    known = {"study", *ROW, *DESCRIPTION, *OPTIONAL, *RESULTS.names}
    swept = [name for name in table.column_names if name not in known]
    confidences = sorted({_confidence(study) for study in studies})
    optional = [name for name in OPTIONAL if name in table.column_names]
    columns = [*labels, *swept, *DESCRIPTION, *optional, *RESULTS.names]
    return table.select(columns).replace_schema_metadata(
        {
            "confidence": json.dumps(confidences),
            "boundary": "left out" if only_regular else "kept",
            "missing": missing,
        }
    )


def filter_summary(table: pa.Table, *, methods: str = "*", parameters: str = "*") -> pa.Table:
    """Rows whose method and parameter match a glob (`diet[T.fed]*` too), or a DataError."""
    for label, glob in (("method", methods), ("parameter", parameters)):
        names = table[label].unique().to_pylist()
        found = matching(names, glob)
        if not found:
            allowed, hint = ", ".join(sorted(names)), nearest_name(glob, names)
            raise DataError(f"no {label} matches {glob!r}. The results have: {allowed}.{hint}")
        table = table.filter(pc.field(label).isin(found))
    return table


def matching(names: Iterable[str], glob: str) -> list[str]:
    """Names that match a glob, in which a bracket may stand for itself, as in `diet[T.fed]*`."""
    globs = (glob, glob.replace("[", "[[]"))
    return [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in globs)]


def write_summary(directory: Path, table: pa.Table) -> tuple[Path, Path]:
    """Paths of `summary.parquet` and `summary.csv`, each written whole or not at all."""
    text = _replace(directory / "summary.csv", to_csv(table).encode())
    parquet = io.BytesIO()
    pq.write_table(table, parquet, compression="zstd", write_page_checksum=True)
    return _replace(directory / "summary.parquet", parquet.getvalue()), text


def to_csv(table: pa.Table) -> str:
    """All columns; a field is empty where undefined."""
    text = io.StringIO()
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    csv.writer(text, lineterminator="\n").writerows([table.column_names, *rows])
    return text.getvalue()


def to_json(table: pa.Table) -> str:
    """All columns, one object per row; null where undefined."""
    return json.dumps(table.to_pylist(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _studies_in(directory: Path) -> list[Path]:
    marks = ("manifest.json", "conditions.parquet")
    folders = [directory, *sorted(directory.glob("*/"))]
    studies = [path for path in folders if all((path / mark).exists() for mark in marks)]
    if not studies:
        raise DataError(f"{directory}: no study here. Give a folder that mcsim run has written.")
    return studies


def _confidence(study: Path) -> float:
    return float(read_manifest(study)["confidence"])


def _summarize_study(study: Path, usable: Sequence[str], missing: str) -> pa.Table:
    conditions = read_conditions(study).drop_columns(OF_CONDITIONS)
    alpha = round(1 - _confidence(study), 12)
    descriptions = conditions.select(DESCRIPTION).to_pylist()
    take = HANDLINGS[missing](read_manifest(study).get("fallbacks", {}))
    found: dict[int, Record] = {}
    for rows, results in read_results(study, conditions, usable):
        for row in rows:
            found[row] = _summarize_row(results, row, descriptions[row] | {"alpha": alpha}, take)
    records = [found[row] for row in range(len(descriptions))]
    measured = pa.Table.from_pylist(records, RESULTS)
    names = ["study", *conditions.column_names, *RESULTS.names]
    first = pa.array([str(study)] * len(records), pa.string())
    return pa.table([first, *conditions.columns, *measured.columns], names)


def _summarize_row(results: Results, row: int, described: Record, take: Take) -> Record:
    is_scale = Parameter.read(described["parameter"], described["component"]).is_scale
    sample = Sample(described["truth"], is_scale, described["alpha"], *take(results, row))
    ok, boundary, *bad = results.count_fits(row)
    n = ok + boundary + sum(bad)
    return {"n_replicates": n, "n_failed": sum(bad), "n_boundary": boundary} | _measure(sample)


def _take_usable(_fallbacks: Mapping[str, str]) -> Take:
    return Results.numbers


def _take_common(_fallbacks: Mapping[str, str]) -> Take:
    def take(results: Results, row: int) -> Floats:
        replicates, values = results.numbered(row)
        return values[:, np.isin(replicates, results.usable_by_all(row))]

    return take


def _take_with_fallback(fallbacks: Mapping[str, str]) -> Take:
    def take(results: Results, row: int) -> Floats:
        replicates, values = results.numbered(row)
        other = results.row_of(row, fallbacks.get(results.method(row), ""))
        if other is None:
            return values
        all_replicates, all_values = results.numbered(other)
        is_missing = ~np.isin(all_replicates, replicates)
        order = np.argsort(np.append(replicates, all_replicates[is_missing]), kind="stable")
        return np.hstack([values, all_values[:, is_missing]])[:, order]

    return take


HANDLINGS = {"usable": _take_usable, "common": _take_common, "fallback": _take_with_fallback}


def _measure(sample: Sample) -> Record:
    has_estimate = ~np.isnan(sample.estimates)
    has_no_interval = np.isnan(sample.ci_lower) | np.isnan(sample.ci_upper)
    record = {"n": has_estimate.sum(), "n_missing_interval": (has_estimate & has_no_interval).sum()}
    for name, measure in MEASURES.items():
        record[name], record[f"{name}_mcse"] = measure(sample)
    return record


def _concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise DataError(f"these sweeps differ in kind; do one at a time: {error}") from error


def _replace(path: Path, content: bytes) -> Path:
    write_whole({path: content})
    return path


def _page(table: pa.Table, draw: Callable[[list[list[str]]], str], *, bullet: str) -> str:
    boundary = table.schema.metadata[b"boundary"].decode()
    conditions = _group(_printed(table), *LABELS)
    everything = {_labels(rows[0]): rows for rows in _group(table.to_pylist(), *LABELS)}
    paragraphs = []
    for rows in conditions:
        paragraphs += [_heading(rows[0])] if len(conditions) > 1 else []
        sentences = [bullet + sentence for sentence in _descriptions(rows, boundary)]
        paragraphs += ["\n".join(sentences), draw([HEADER, *_lines(rows, _cells)])]
        known = [
            row for row in everything[_labels(rows[0])] if row.get("theory_emp_se") is not None
        ]
        if known:
            theory = draw([THEORY_HEADER, *_lines(known, _theory_cells)])
            paragraphs += [SENTENCES["theory"], theory]
    return "\n\n".join([*paragraphs, "\n".join(_notes(table))]) + "\n"


def _group(records: list[Record], *names: str) -> list[list[Record]]:
    groups: dict[tuple[str | None, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record.get(name) for name in names), []).append(record)
    return list(groups.values())


def _printed(table: pa.Table) -> list[Record]:
    """All rows but those of variances, unless there is nothing else."""
    records: list[Record] = table.to_pylist()
    shown = [r for r in records if not Parameter.read(r["parameter"], r["component"]).is_variance]
    return shown or records


def _heading(record: Record) -> str:
    names = list(record)
    swept = names[names.index("condition") + 1 : names.index("method")]
    values = [f"{name} = {record[name]}" for name in swept if record[name] is not None]
    return ": ".join(filter(None, [record.get("study"), ", ".join(values) or record["condition"]]))


def _fit_of(method: str) -> str:
    """The name that the df methods of one fit share."""
    return method.partition("/")[0]


def _lines(rows: list[Record], cells_of: Callable[[Record], list[str]]) -> list[list[str]]:
    """Method and cells of every row; a component, once for all df methods of a fit."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        is_fixed = row["component"] in ("fixed", "terms")
        owner = row["method"] if is_fixed else _fit_of(row["method"])
        cells = cells_of(row)
        found.setdefault((owner, *cells), [row["method"], *cells])
    return list(found.values())


def _descriptions(rows: list[Record], boundary: str) -> Iterator[str]:
    """Sentences on the fits of every method; one for the df methods of a fit that agree."""
    fits: dict[str, dict[tuple[str, ...], str]] = {}
    for group in _group(rows, "method"):
        method = group[0]["method"]
        texts = fits.setdefault(_fit_of(method), {})
        texts.setdefault(tuple(_describe(group, boundary)), method)
    for fit, texts in fits.items():
        for (first, *others), method in texts.items():
            yield f"{fit if len(texts) == 1 else method}: {first}"
            yield from others


def _describe(rows: list[Record], boundary: str) -> Iterator[str]:
    method = rows[0]
    n, n_failed, n_boundary = (method[f"n_{name}"] for name in ("replicates", "failed", "boundary"))
    n_usable = n - n_failed - (n_boundary if boundary == "left out" else 0)
    undefined = {r["parameter"]: n_usable - r["n"] for r in rows}
    # n % n = 0: where there is no interval at all, the dash in the table says so
    lacking = {r["parameter"]: r["n_missing_interval"] % (r["n"] or 1) for r in rows}
    sentence = SENTENCES["fits"].format_map(method | {"n": n, "s": "" if n == 1 else "s"})
    yield sentence + (SENTENCES[boundary] if n_boundary else "")
    for key, counts in (("undefined", undefined), ("no interval", lacking)):
        if any(counts.values()):
            yield SENTENCES[key].format(", ".join(f"{p} {n}" for p, n in counts.items() if n))


def _cells(record: Record) -> list[str]:
    errors = [with_mcse(record[name], record[f"{name}_mcse"]) for name in ("mean", "bias", "rmse")]
    coverage = percent(record["coverage"], record["coverage_mcse"])
    truth, zeros = shown_as(record["truth"], ".6g"), shown_as(record["share_at_zero"], ".1%")
    parameter, n = record["parameter"], str(record["n"])
    return [parameter, truth, *errors, coverage, n, zeros]


def _labels(record: Record) -> tuple[str | None, ...]:
    return tuple(record.get(name) for name in LABELS)


def _theory_cells(record: Record) -> list[str]:
    rejection = record["theory_rejection"]
    return [
        record["parameter"],
        with_mcse(record["emp_se"], record["emp_se_mcse"]),
        shown_as(record["theory_emp_se"], ".4g"),
        percent(record["rejection"], record["rejection_mcse"]),
        "-" if rejection is None else f"{100 * rejection:.1f}",
        shown_as(record["theory_df"], ".0f"),
    ]


def _notes(table: pa.Table) -> list[str]:
    printed = _printed(table)
    shown = {record["parameter"] for record in printed}
    hidden = [name for name in table["parameter"].unique().to_pylist() if name not in shown]
    levels = (f"{100 * level:g}" for level in json.loads(table.schema.metadata[b"confidence"]))
    missing = SENTENCES[table.schema.metadata.get(b"missing", b"usable").decode()]
    notes = [missing + SENTENCES["reading"].format(" and ".join(levels))]
    if any("/" in record["method"] for record in printed):
        notes.append(SENTENCES["shared"])
    notes += [SENTENCES["failed"]] if any(record["n_failed"] for record in printed) else []
    return notes + [SENTENCES["variances"].format(name) for name in hidden[:1]]


def compare_methods(table: pa.Table, measure: str) -> list[list[str]]:
    """Rows of text: a measure per condition and parameter, the methods side by side.

    Raises
    ------
    DataError
        There is no such measure.
    """
    if measure not in MEASURES:
        hint = nearest_name(measure, MEASURES)
        raise DataError(f"no measure {measure!r}. There are: {', '.join(MEASURES)}.{hint}")
    show = percent if measure in SHARES else with_mcse
    methods = table["method"].unique().to_pylist()
    groups = _group(_printed(table), "study", "condition", "parameter")
    several = len(_group(table.to_pylist(), "study", "condition")) > 1
    rows = [[f"{measure}{' in %' * (measure in SHARES)}", *methods]]
    for group in groups:
        cells = {row["method"]: show(row[measure], row[f"{measure}_mcse"]) for row in group}
        labels = [group[0].get("study"), group[0]["condition"] if several else None]
        label = ": ".join(filter(None, [*labels, group[0]["parameter"]]))
        if any(cell != "-" for cell in cells.values()):
            rows.append([label, *(cells.get(method, "-") for method in methods)])
    return _with_shared_columns(rows)


def _with_shared_columns(rows: list[list[str]]) -> list[list[str]]:
    """One column for the df methods of a fit where they agree."""
    labels, *columns = zip(*rows, strict=True)
    kept = [labels]
    for fit, own in itertools.groupby(columns, lambda column: _fit_of(column[0])):
        found = list(own)
        agree = len(found) > 1 and len({column[1:] for column in found}) == 1
        kept += [(fit, *found[0][1:])] if agree else found
    return [list(row) for row in zip(*kept, strict=True)]


FORMATS: dict[str, Callable[[pa.Table], str]] = {
    "table": lambda table: _page(table, partial(aligned, n_left=2), bullet=""),
    "csv": to_csv,
    "json": to_json,
    "markdown": lambda table: _page(table, partial(piped, n_left=2), bullet="- "),
}
