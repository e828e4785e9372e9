"""Replicates whose fits are not usable: by method, common to all, or with a fallback."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcsim.errors import DataError
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary import summarize as summary
from mcsim.summary.printed import FORMATS, measures_named
from mcsim.summary.selection import filter_summary
from mcsim.summary.side_by_side import side_by_side
from tests.conftest import SMALL, call_mcsim


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two models of few animals, so that many fits lie on the boundary; the first falls back."""
    folder = tmp_path_factory.mktemp("missing")
    text = SMALL.replace("sd = { Intercept = 0.6, x = 0.4 }", "sd = { Intercept = 0.2, x = 0.1 }")
    (folder / "s.toml").write_text(text.replace('"z"]', '"z"]\nfallback = "diagonal"'))
    options = study.RunOptions(folder / "out", n_workers=1)
    directory = study.run_study(load_scenario(folder / "s.toml", replicates=150), options).directory
    estimates = pq.read_table(directory / "estimates").to_pandas()
    fits = pq.read_table(directory / "fits").to_pandas()
    wide = estimates[estimates["parameter"] == "image.sd(Intercept)"].pivot_table(
        index="replicate", columns="method", values="estimate", observed=True
    )
    status = fits.pivot(index="replicate", columns="method", values="status")
    return directory, wide, status == "ok"


def mean_and_n(directory, method, missing):
    """Without fits on the boundary, so that there is something missing."""
    table = summary.summarize([directory], only_regular=True, missing=missing)
    (row,) = [
        row
        for row in table.to_pylist()
        if (row["method"], row["parameter"]) == (method, "image.sd(Intercept)")
    ]
    return row["mean"], row["n"]


def test_by_default_every_method_has_its_own(results):
    directory, wide, ok = results
    for method in wide:
        own = wide.loc[ok[method], method]
        assert mean_and_n(directory, method, "usable") == (pytest.approx(own.mean()), len(own))
    assert ok.to_numpy().any(axis=0).all()
    assert not ok["right/z"].equals(ok["diagonal"])


def test_common_replicates_are_those_that_all_methods_can_use(results):
    directory, wide, ok = results
    common = ok.all(axis=1)
    assert 0 < common.sum() < ok.sum().min()
    for method in wide:
        expected = (pytest.approx(wide.loc[common, method].mean()), common.sum())
        assert mean_and_n(directory, method, "common") == expected


def test_a_fallback_stands_in(results):
    directory, wide, ok = results
    expected = np.where(ok["right/z"], wide["right/z"], wide["diagonal"].where(ok["diagonal"]))
    expected = expected[~np.isnan(expected)]
    assert len(expected) > ok["right/z"].sum()
    found = mean_and_n(directory, "right/z", "fallback")
    assert found == (pytest.approx(expected.mean()), len(expected))
    # a method without one keeps its own
    assert mean_and_n(directory, "diagonal", "fallback")[1] == ok["diagonal"].sum()


@pytest.mark.parametrize("own_given", [np.nan, 0.5])
def test_expected_measures_are_never_of_the_fallback_alone(own_given):
    class Results:
        def numbered(self, row):
            numbers = np.ones((9, 3 if row else 2))
            numbers[-2:] = 0.5 if row else own_given
            return np.array([1, 2, 3] if row else [1, 3]), numbers

        def method(self, _row):
            return "own"

        def row_of(self, _row, name):
            return {"other": 1}.get(name)

    take = summary.HANDLINGS["fallback"]({"own": "other"}, np.array([1.0, 1.0]))
    assert take(Results(), 0)[-1] == pytest.approx([own_given] * 3, nan_ok=True)


OTHER_QUANTITIES = """
[[methods]]
name = "own"
formula = "y ~ diet * x + (x | animal)"
fallback = "centred"
[[methods]]
name = "centred"
formula = "y ~ diet * center(x) + (1 | animal)"
"""


def test_no_fallback_stands_in_with_another_quantity(tmp_path):
    text = SMALL[: SMALL.index("[[methods]]")].replace("Intercept = 0.6", "Intercept = 0.2")
    (tmp_path / "s.toml").write_text(text + OTHER_QUANTITIES)
    options = study.RunOptions(tmp_path / "out", n_workers=1)
    directory = study.run_study(
        load_scenario(tmp_path / "s.toml", replicates=60), options
    ).directory
    rows = {}
    for missing in ("usable", "fallback"):
        table = summary.summarize([directory], only_regular=True, missing=missing).to_pylist()
        rows |= {(missing, r["parameter"]): r for r in table if r["method"] == "own"}
    assert (
        rows["usable", "Intercept"] == rows["fallback", "Intercept"]
    )  # 1 at x = 0, 0.5 at x = 0.5
    assert rows["usable", "sigma"]["n"] < rows["fallback", "sigma"]["n"]
    manifest = {"fallbacks": {"own": "centred"}, "identity": {"truth.family": "binomial"}}
    other = {"methods.centred.family": "gaussian"}
    with pytest.MonkeyPatch.context() as patch:
        for identity, expected in ((other, {}), ({}, {"own": "centred"})):
            told = manifest | {"identity": manifest["identity"] | identity}
            patch.setattr(summary, "read_manifest", lambda _study, told=told: told)
            assert summary._fallbacks(directory) == expected


def test_the_page_says_what_was_done_and_the_data_do_not_change_with_a_fallback(results):
    directory, _, _ = results
    tables = {
        missing: FORMATS["table"](summary.summarize([directory], missing=missing))
        for missing in summary.HANDLINGS
    }
    assert "fallback stands in" in tables["fallback"]
    assert "fits of all methods are usable" in tables["common"]
    # all fits are usable where those on the boundary count: the same numbers
    numbers = {
        text[: text.index("In parentheses")].rpartition("\n\n")[0] for text in tables.values()
    }
    assert len(numbers) == 1


def test_a_fallback_may_be_added_later(results, tmp_path):
    directory, _, _ = results
    text = (directory.parent / "s.toml").read_text().replace('fallback = "diagonal"\n', "")
    (tmp_path / "s.toml").write_text(text)
    scenario = load_scenario(tmp_path / "s.toml", replicates=150)
    study.run_study(scenario, study.RunOptions(directory, n_workers=1))
    # the study is the same; its manifest says what the scenario says now
    assert mean_and_n(directory, "right/z", "fallback") == mean_and_n(
        directory, "right/z", "usable"
    )


def test_one_measure_side_by_side(results):
    directory, _, _ = results
    table = summary.summarize([directory])
    rows = side_by_side(table, "coverage")
    assert rows[0] == ["coverage in %", "right/containment", "right/z", "diagonal"]
    by_parameter = {row[0]: row[1:] for row in rows[1:]}
    assert by_parameter["animal.cor(Intercept,x)"][2] == "-"  # the diagonal model has none
    (x,) = [
        row for row in table.to_pylist() if (row["method"], row["parameter"]) == ("right/z", "x")
    ]
    assert by_parameter["x"][1] == f"{100 * x['coverage']:.1f} ({100 * x['coverage_mcse']:.1f})"
    sds = filter_summary(table, parameters="*.sd(*")
    assert side_by_side(sds, "coverage")[0] == ["coverage in %", "right", "diagonal"]
    z = filter_summary(sds, methods="right/z")
    assert side_by_side(z, "coverage")[0] == ["coverage in %", "right/z"]
    with pytest.raises(DataError, match="Did you mean 'coverage'"):
        measures_named(["covrage"])


def test_swept_values_or_parameters_stand_side_by_side(tmp_path):
    # the numbers are those of the table with a line per condition and parameter
    sweep = '\n[sweep]\n"design.levels.image.count" = [2, 3]\n"truth.fixed.x" = [0, -1]\n'
    (tmp_path / "a.toml").write_text(SMALL + sweep)
    assert call_mcsim("run", "a.toml", "-n", 4, "-o", "s", cwd=tmp_path).returncode == 0
    table = filter_summary(summary.summarize([tmp_path / "s"]), parameters=["x", "animal.sd(x)"])
    known = {label: cells for label, *cells in side_by_side(table, "rmse")}
    assert known["rmse"] == ["right", "diagonal"]
    header, *rows = side_by_side(table, "rmse", "image.count")
    assert header == ["rmse", "image.count=2", "image.count=3"]
    assert len(rows) == 2 * 2 * 2  # values of x, parameters, fits: df methods do not differ
    for label, *cells in rows:
        x, parameter, method = label.split(": ")
        place = known["rmse"].index(method)
        assert cells == [known[f"image.count={n}, {x}: {parameter}"][place] for n in (2, 3)]
    assert side_by_side(table, "rmse", "design.levels.image.count")[0] == header
    header, *rows = side_by_side(table, "rmse", "parameter")
    assert header == ["rmse", "x", "animal.sd(x)"]
    assert len(rows) == 4 * 2  # conditions and fits
    assert side_by_side(table, "rejection", "fixed.x")[0][1:] == ["fixed.x=0", "fixed.x=-1"]
    done = call_mcsim("summarize", "s", "--by", "sigma", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "side by side stand method, parameter, image.count, fixed.x" in done.stderr
    for options in (("--format", "csv"), ("--columns", "n"), ("--effects", "0.1")):
        done = call_mcsim("summarize", "s", "--by", "fixed.x", *options, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--by" in done.stderr


def test_one_measure_on_the_command_line(results, tmp_path):
    directory, _, _ = results
    done = call_mcsim("summarize", directory, "--measure", "rejection", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("power/type I in %")
    assert "sigma" not in done.stdout  # it has no test
    assert "share of tests that reject, in percent: power where the truth is not 0" in done.stdout
    power = call_mcsim("summarize", directory, "--measure", "power", cwd=tmp_path)
    assert power.stdout == done.stdout
    several = ["--measure", "bias,coverage", "--measure", "rmse"]
    tables = call_mcsim("summarize", directory, *several, cwd=tmp_path).stdout
    assert [line.split()[0] for line in tables.split("\n") if "diagonal" in line] == [
        "bias", "coverage", "rmse"
    ]  # fmt: skip
    found = call_mcsim("summarize", directory, *several, "--format", "csv", cwd=tmp_path).stdout
    columns = found.splitlines()[0].split(",")
    assert [name for name in columns if name.endswith("_mcse")] == [
        "bias_mcse", "rmse_mcse", "coverage_mcse"
    ]  # fmt: skip
    assert {"truth", "n", "n_failed"} < set(columns)


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("type1", "'type1' is called rejection here"),
        ("type_i_error", "is called rejection here"),
        ("se", r"is called emp_se \(SD of the estimates\) or model_se"),
        ("width", "is called ci_width here"),
        ("covrage", "is no measure.*Did you mean 'coverage'"),
    ],
)
def test_usual_words_for_measures_are_answered_with_the_name(word, answer):
    with pytest.raises(DataError, match=answer):
        measures_named([word])


def test_measures_have_one_spelling_each():
    assert measures_named(["RMSE, power", "be-coverage", "rejection"]) == [
        "rmse", "rejection", "be_coverage"
    ]  # fmt: skip
