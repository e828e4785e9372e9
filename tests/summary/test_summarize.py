"""Study folders are written here with pyarrow alone; oracles are plain loops over their rows."""

import csv
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcsim.errors import DataError
from mcsim.measures import MEASURES
from mcsim.results.folder import FORMAT, Part, digest
from mcsim.results.folder import record as record_of
from mcsim.results.identity import PartContents
from mcsim.summary.cache import write_summary
from mcsim.summary.printed import FORMATS, print_measures
from mcsim.summary.selection import filter_summary
from mcsim.summary.summarize import summarize

GOLDEN = Path(__file__).parents[1] / "golden" / "summary.txt"
KEY = "0123456789ab"  # of all parts
SWEPT = "design.levels.animal.count"
NAME = pa.dictionary(pa.int32(), pa.string())
NUMBERS = ("estimate", "std_error", "df", "ci_lower", "ci_upper", "p_value", "realized")
ESTIMATES = pa.schema(
    [("condition", NAME), ("replicate", pa.int32())]
    + [(name, NAME) for name in ("method", "parameter", "component")]
    + [(name, pa.float64()) for name in NUMBERS]
)
FITS = pa.schema(
    {"condition": NAME, "replicate": pa.int32(), "method": NAME, "status": NAME}
    | {"loglik": pa.float64(), "evaluations": pa.int32()}
    | {"certificate": pa.float64(), "message": pa.string()}
)
# component and truth
PARAMETERS = {
    "Intercept": ("fixed", 1.0),
    "diet[T.fed]": ("fixed", 0.1),
    "x": ("fixed", -0.5),
    "diet[T.fed]:x": ("fixed", 0.2),
    "animal.sd(Intercept)": ("animal", 0.015),
    "animal.sd(x)": ("animal", 0.02),
    "animal.cor(Intercept,x)": ("animal", 0.0),
    "animal.var(Intercept)": ("animal", 0.000225),
    "animal.var(x)": ("animal", 0.0004),
    "image.sd(Intercept)": ("image", 0.06),
    "image.sd(x)": ("image", 0.08),
    "image.cor(Intercept,x)": ("image", 0.0),
    "sigma": ("residual", 0.085),
}


class Study(NamedTuple):
    conditions: pa.Table
    estimates: pa.Table
    fits: pa.Table


def draw_study(counts=(4, 25), n_replicates=60, methods=("general", "diagonal"), seed=1):
    """A study made up of normal draws: replicate 1 failed, 2 did not converge, SDs pile up at 0."""
    rng = np.random.default_rng(seed)
    cells = [(f"animal.count={count}", count, method) for count in counts for method in methods]
    conditions, estimates, fits = [], [], []
    for condition, count, method in cells:
        conditions += [
            (condition, json.dumps({SWEPT: count}), method, name, component, truth, count)
            for name, (component, truth) in PARAMETERS.items()
        ]
        for replicate in range(1, n_replicates + 1):
            status = {1: "failed", 2: "not_converged"}.get(replicate, "ok")
            rows = draw_rows(rng, count)
            if status == "ok" and rows["animal.sd(x)"]["estimate"] == 0:
                status = "boundary"
            fits.append(
                {"condition": condition, "replicate": replicate, "method": method, "status": status}
            )
            estimates += [
                {"condition": condition, "replicate": replicate, "method": method}
                | {"parameter": name, "component": PARAMETERS[name][0]}
                | ({} if status == "failed" else row)
                for name, row in rows.items()
            ]
    names = ["condition", "swept", "method", "parameter", "component", "truth", SWEPT]
    return Study(
        pa.table([pa.array(column) for column in zip(*conditions, strict=True)], names),
        pa.Table.from_pylist(estimates, ESTIMATES),
        pa.Table.from_pylist(fits, FITS),
    )


def draw_rows(rng, count):
    rows = {}
    for name, (component, truth) in PARAMETERS.items():
        se = max(abs(truth), 0.1) / math.sqrt(count)
        estimate = rng.normal(truth, se)
        rows[name] = {"estimate": estimate, "realized": truth + rng.normal(0, se / 2)}
        if component == "fixed":
            interval = {"ci_lower": estimate - 2 * se, "ci_upper": estimate + 2 * se}
            del rows[name]["realized"]
            rows[name] |= {"std_error": se, "df": 10.0, "p_value": rng.uniform()} | interval
        elif ".cor(" not in name:
            rows[name]["estimate"] = max(0.0, estimate)
    if rows["animal.sd(x)"]["estimate"] == 0:
        rows["animal.cor(Intercept,x)"] = {"estimate": None}
    if rows["image.sd(x)"]["estimate"] < 0.07:
        rows["x"] |= {"std_error": None, "ci_lower": None, "ci_upper": None, "p_value": None}
    return rows


def write_study(directory, study, *, cuts=(), confidence=0.95):
    """The files of a study; replicates are cut into parts after each of `cuts`."""
    for folder in ("commits", "estimates", "fits"):
        (directory / folder).mkdir(parents=True)
    parts = {KEY: {"condition": "", "methods": []}}
    manifest = {"format": FORMAT, "identity": {"methods.names": []}, "conditions": {"": ""}}
    manifest |= {"confidence": confidence, "parts": parts, "replicates": 1}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    pq.write_table(study.conditions, directory / "conditions.parquet")
    for first, last in pairwise([0, *sorted(cuts), 10**6]):
        write_part(directory, Part(KEY, first + 1, last), study)
    return directory


def write_part(directory, part, study):
    inside = (pc.field("replicate") >= part.first) & (pc.field("replicate") <= part.last)
    digests = dict.fromkeys(("estimates", "fits"), (0, ""))
    for kind in digests:
        if (rows := getattr(study, kind).filter(inside)).num_rows:
            path = directory / part.path(kind)
            pq.write_table(rows, path, compression="zstd")
            digests[kind] = digest(path.read_bytes())
    mark = record_of(part, PartContents("", ()), digests)
    (directory / part.path("commits")).write_bytes(mark)


def golden_summary(directory):
    write_study(directory / "study", draw_study(methods=("general",), n_replicates=200))
    return FORMATS["table"](summarize([directory / "study"]))


@pytest.fixture(scope="module")
def study():
    return draw_study()


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("results") / "stain", study, cuts=(7, 30))


@pytest.fixture(scope="module")
def summary(folder):
    return summarize([folder])


def fits_of(study, condition, method):
    rows = study.fits.to_pylist()
    return [row for row in rows if (row["condition"], row["method"]) == (condition, method)]


def usable_estimates(study, record, statuses=("ok", "boundary")):
    """Rows of one condition, method and parameter, by plain loops."""
    fits = fits_of(study, record["condition"], record["method"])
    usable = {fit["replicate"] for fit in fits if fit["status"] in statuses}
    wanted = [record[name] for name in ("condition", "method", "parameter")]
    rows = (
        row
        for row in study.estimates.to_pylist()
        if [row["condition"], row["method"], row["parameter"]] == wanted
    )
    return [row for row in rows if row["replicate"] in usable and row["estimate"] is not None]


def test_columns_are_labels_swept_values_truth_counts_and_measures(summary):
    assert summary.column_names == [
        *("condition", SWEPT, "method", "parameter", "component", "truth"),
        *("n_replicates", "n", "n_failed", "n_boundary", "n_missing_interval", "n_expected"),
        *(name + suffix for name in MEASURES for suffix in ("", "_mcse")),
    ]
    assert summary.schema.field(SWEPT).type == pa.int64()
    assert all(summary.schema.field(name).type == pa.float64() for name in MEASURES)


def test_rows_stand_in_the_order_of_the_conditions_file(study, summary):
    labels = ["condition", "method", "parameter", "component", "truth", SWEPT]
    assert summary.select(labels).equals(study.conditions.select(labels))


def test_counts_and_measures_are_those_of_a_plain_loop(study, summary):
    for record in summary.to_pylist()[:: len(PARAMETERS) // 2]:
        rows = usable_estimates(study, record)
        statuses = [fit["status"] for fit in fits_of(study, record["condition"], record["method"])]
        assert record["n_replicates"] == len(statuses) == 60
        assert record["n_failed"] == 2
        assert record["n_boundary"] == statuses.count("boundary")
        assert record["n"] == len(rows)
        assert record["n_missing_interval"] == sum(row["ci_lower"] is None for row in rows)
        estimates = [row["estimate"] for row in rows]
        assert record["mean"] == pytest.approx(sum(estimates) / len(rows), rel=1e-13)
        errors = [(estimate - record["truth"]) ** 2 for estimate in estimates]
        assert record["rmse"] == pytest.approx(math.sqrt(sum(errors) / len(rows)), rel=1e-13)


def test_share_at_zero_is_given_for_standard_deviations_and_variances_only(summary):
    records = summary.to_pylist()
    given = {r["parameter"] for r in records if r["share_at_zero"] is not None}
    assert given == {name for name in PARAMETERS if re.search(r"\.sd\(|\.var\(|^sigma$", name)}


def test_only_regular_leaves_boundary_fits_out_but_counts_them(study, folder, summary):
    regular = summarize([folder], only_regular=True)
    assert regular["n_boundary"].equals(summary["n_boundary"])
    for record in regular.to_pylist()[:3]:
        assert record["n"] == len(usable_estimates(study, record, statuses=("ok",)))
    assert "left out" in FORMATS["table"](regular)


def test_alpha_is_what_the_manifest_leaves_of_the_confidence(study, tmp_path):
    loose = summarize([write_study(tmp_path / "loose", study, confidence=0.8)])
    record = loose.to_pylist()[0]
    p_values = [row["p_value"] for row in usable_estimates(study, record)]
    assert record["rejection"] == np.mean(np.array(p_values) < 0.2)
    assert "nominal 80% intervals" in FORMATS["table"](loose)


def test_estimates_without_their_fits_are_not_complete(study, tmp_path):
    folder = write_study(tmp_path / "running", study, cuts=(30,))
    (folder / Part(KEY, 31, 10**6).path("fits")).unlink()
    assert set(summarize([folder])["n_replicates"].to_pylist()) == {30}


def test_what_has_no_replicate_yet_is_a_row_with_n_zero(study, tmp_path):
    first = study.conditions["condition"][0].as_py()
    started = study._replace(
        estimates=study.estimates.filter(pc.field("condition") == first),
        fits=study.fits.filter(pc.field("condition") == first),
    )
    summary = summarize([write_study(tmp_path / "started", started)])
    assert summary.num_rows == study.conditions.num_rows
    later = [r for r in summary.to_pylist() if r["condition"] != first]
    assert {(r["n_replicates"], r["n"], r["mean"], r["coverage"]) for r in later} == {
        (0, 0, None, None)
    }


def test_a_study_without_any_part_has_all_its_rows(study, tmp_path):
    nothing = Study(study.conditions, study.estimates.slice(0, 0), study.fits.slice(0, 0))
    summary = summarize([write_study(tmp_path / "planned", nothing)])
    assert summary["n"].to_pylist() == [0] * study.conditions.num_rows
    assert "general: 0 replicates, 0 failed, 0 on the boundary\n" in FORMATS["table"](summary)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, 59), max_size=6), seed=st.integers(0, 1000))
def test_the_cut_into_parts_and_the_order_of_rows_leave_no_trace(
    study, summary, tmp_path_factory, cuts, seed
):
    rng = np.random.default_rng(seed)
    shuffled = Study(
        study.conditions,
        study.estimates.take(rng.permutation(study.estimates.num_rows)),
        study.fits.take(rng.permutation(study.fits.num_rows)),
    )
    folder = write_study(tmp_path_factory.mktemp("cut") / "study", shuffled, cuts=cuts)
    assert FORMATS["csv"](summarize([folder])) == FORMATS["csv"](summary)


def test_several_studies_are_told_apart_and_share_their_columns(study, folder, tmp_path):
    conditions = study.conditions.rename_columns({SWEPT: "truth.sigma"})
    other = write_study(tmp_path / "other", study._replace(conditions=conditions))
    both = summarize([folder, other])
    assert both.column_names[:4] == ["study", "condition", SWEPT, "truth.sigma"]
    assert both["study"].unique().to_pylist() == [str(folder), str(other)]
    assert both["truth.sigma"].null_count == study.conditions.num_rows
    assert f"{other}: animal.count=4\n" in FORMATS["table"](both)


def test_a_folder_of_studies_stands_for_its_studies(folder, summary):
    assert summarize([folder.parent]).equals(summary)


def test_sweeps_over_different_kinds_of_values_are_refused_together(study, folder, tmp_path):
    values = pa.array(["few"] * study.conditions.num_rows)
    at = study.conditions.column_names.index(SWEPT)
    conditions = study.conditions.set_column(at, SWEPT, values)
    other = write_study(tmp_path / "other", study._replace(conditions=conditions))
    with pytest.raises(DataError, match="one at a time"):
        summarize([folder, other])


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_study_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"{name}: no study here"):
        summarize([tmp_path / name])


def test_estimates_that_no_condition_lists_are_refused(study, tmp_path):
    fewer = study.conditions.filter(pc.field("parameter") != "sigma")
    with pytest.raises(DataError, match="'parameter': 'sigma'"):
        summarize([write_study(tmp_path / "fewer", study._replace(conditions=fewer))])


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("diet[T.fed]", ["diet[T.fed]"]),
        ("diet[T.fed]*", ["diet[T.fed]", "diet[T.fed]:x"]),
        ("*.sd(x)", ["animal.sd(x)", "image.sd(x)"]),
        ("[ax]*", [name for name in PARAMETERS if name[0] in "ax"]),
    ],
)
def test_a_glob_matches_names_with_brackets_literally_too(summary, glob, found):
    filtered = filter_summary(summary, methods="gen*", parameters=glob)
    assert filtered["parameter"].unique().to_pylist() == found
    assert filtered["method"].unique().to_pylist() == ["general"]
    assert filtered.schema.metadata == summary.schema.metadata


def test_a_glob_that_finds_nothing_is_answered_with_the_names(summary):
    with pytest.raises(DataError, match=r"'generol'.*are: general; diagonal.*mean 'general'\?"):
        filter_summary(summary, methods="generol")


def test_summary_files_hold_the_table_and_nothing_else_is_left(summary, tmp_path):
    write_summary(tmp_path, summary)
    parquet, text = tmp_path / "summary.parquet", tmp_path / "summary.csv"
    assert sorted(tmp_path.iterdir()) == [text, parquet]
    assert pq.read_table(parquet).equals(summary, check_metadata=True)
    rows = list(csv.DictReader(text.read_text().splitlines()))
    assert [float(row["mean"]) for row in rows] == summary["mean"].to_pylist()
    assert rows[0]["share_at_zero"] == ""


def test_a_write_that_fails_leaves_the_old_file(summary, tmp_path, monkeypatch):
    write_summary(tmp_path, summary)
    parquet = tmp_path / "summary.parquet"
    before = parquet.read_bytes()

    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_summary(tmp_path, summary.slice(0, 1))
    assert parquet.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_json_has_one_object_per_row_and_null_where_undefined(summary):
    records = json.loads(FORMATS["json"](summary))
    assert records == summary.to_pylist()
    assert records[0]["share_at_zero"] is None


def test_markdown_has_a_row_of_equal_cells_for_each_printed_row(summary):
    lines = FORMATS["markdown"](summary).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    n_printed = 2 * 2 * (len(PARAMETERS) - 2)
    assert len(rows) == n_printed + 2 * 2
    assert {line.count("|") for line in rows} == {11}
    assert "- general: 60 replicates, 2 failed" in FORMATS["markdown"](summary)


def test_printed_table_is_the_golden_one(tmp_path):
    # rewrite with: python tests/regenerate.py --only summary
    assert golden_summary(tmp_path) == GOLDEN.read_text()


def test_printed_table_of_a_thousand_replicates_fits_in_125_columns(tmp_path):
    folder = write_study(tmp_path / "wide", draw_study(counts=(25,), n_replicates=1000))
    text = FORMATS["table"](summarize([folder]))
    assert max(map(len, text.splitlines())) <= 125
    assert text.startswith("general: 1,000 replicates, 2 failed, ")  # one condition: no heading


def test_tests_of_terms_are_said_to_be_marginal_where_there_are_any(summary):
    note = "Tests of several columns (F) are marginal, given all other columns"
    assert note not in FORMATS["table"](summary)
    kinds = ["terms" if one == "fixed" else one for one in summary["component"].to_pylist()]
    place = summary.column_names.index("component")
    assert note in FORMATS["table"](summary.set_column(place, "component", pa.array(kinds)))


def test_printed_table_says_how_many_fits_failed_also_when_none_did(study, tmp_path):
    usable = study._replace(
        estimates=study.estimates.filter(pc.field("replicate") == 3),
        fits=study.fits.filter(pc.field("replicate") == 3),
    )
    text = FORMATS["table"](summarize([write_study(tmp_path / "one", usable)]))
    assert "general: 1 replicate, 0 failed, " in text
    assert "Why fits failed" not in text


def test_printed_table_lists_what_is_missing(study, summary):
    general = summary.to_pylist()[: len(PARAMETERS)]
    by_name = {record["parameter"]: record for record in general}
    undefined = 58 - by_name["animal.cor(Intercept,x)"]["n"]
    text = FORMATS["table"](summary)
    assert f"what the rows do not tell): animal.cor(Intercept,x) {undefined}\n" in text
    missing, n = by_name["x"]["n_missing_interval"], by_name["x"]["n"]
    assert f"too little information): x {missing} ({missing / n:.1%})\n" in text
    assert f"{n - missing}/{n}: so many of the estimates have an interval" in text


def test_variances_are_printed_only_where_there_is_nothing_else(summary):
    assert "\ngeneral   animal.var(x)" not in FORMATS["table"](summary)
    assert "Variances, such as animal.var(Intercept), are left out" in FORMATS["table"](summary)
    variances = FORMATS["table"](filter_summary(summary, parameters="*.var(x)"))
    assert "\ngeneral   animal.var(x)" in variances
    assert "left out" not in variances


@pytest.mark.parametrize(
    ("value", "mcse", "printed"),
    [
        (0.014932, 0.000123, "0.01493 (0.00012)"),
        (-0.00004, 0.012, "0.000 (0.012)"),
        (1.23456, 0.0996, "1.23 (0.10)"),
        (1234.5678, 56.7, "1235 (57)"),
        (1234567.0, 4321.0, "1234567 (4321)"),
        (1.5e-13, 2.5e-14, "1.5e-13 (2.5e-14)"),
        (-0.999999952, 9.2e-9, "-0.999999952 (9.2e-09)"),
        (0.25, 0.0, "0.25 (0)"),
        (0.123456, None, "0.1235"),
        (None, None, "-"),
    ],
)
def test_numbers_end_at_the_second_digit_of_their_monte_carlo_error(summary, value, mcse, printed):
    row = summary.slice(0, 1)
    for name, number in (("rmse", value), ("rmse_mcse", mcse)):
        at = row.column_names.index(name)
        row = row.set_column(at, name, pa.array([number], pa.float64()))
    cells = FORMATS["markdown"](row).split("---: |\n")[1].split(" | ")
    assert cells[5] == printed


def test_a_measure_that_no_row_has_is_refused(summary):
    with pytest.raises(DataError, match=r"no row has the measure 'equivalence': .* \[-0.1, 0.1\]"):
        print_measures(summary, ["coverage", "equivalence"], "table")
