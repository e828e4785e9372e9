"""What the first screen says where the scenario says what its title asks."""

import json

import pytest

from mcsim.errors import DataError, ScenarioError
from mcsim.plots import curves
from mcsim.report.answer import answer, figure_of
from mcsim.report.asked import asked
from mcsim.report.findings import findings
from mcsim.results.folder import read_manifest
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.selection import Question, Selection, Shown, shown_rows
from tests.conftest import SMALL
from tests.report.test_findings import covering, plain, record

KEY = "truth.sigma"


def told(measures, *records, parameters=("x",), swept=()):
    """The sentences of a question; conditions differ in sigma."""
    names = {KEY: "sigma"} if swept else {}
    methods = list(dict.fromkeys(one["method"] for one in records))
    question = Question(parameters, measures)
    shown = Shown("title", 0.95, records, names, methods, question)
    return [plain(sentence) for *_, sentence in asked(shown)]


def with_sigma(values, make):
    return [
        make(one) | {KEY: sigma, "place": f"sigma={sigma}", "words": {KEY: str(sigma)}}
        for sigma, one in values.items()
    ]


def null(share, method="general"):
    return covering(share, measure="rejection", truth=0.0, method=method)


def test_every_method_stands_beside_the_others():
    records = [null(0.33, "ols"), null(0.05, "mixed/z"), null(0.05, "two-stage")]
    assert told(["rejection"], *records) == [
        "A test of `x`, an effect that is 0, rejects in 33.0% by `ols`; 5.0% by `mixed` and"
        " `two-stage`; its level is 5% (MCSE at most 1.5%)."
    ]


def test_tests_are_power_where_there_is_an_effect():
    records = [null(0.05), covering(0.8, measure="rejection", truth=0.5)]
    assert told(["rejection"], *records) == [
        "A test of `x`, an effect that is 0, rejects in 5.0%; its level is 5% (MCSE at most"
        " 0.69%).",
        "The power to find `x` is 80.0% (MCSE at most 1.3%).",
    ]


def test_a_sweep_is_told_from_end_to_end_where_its_ends_have_the_extremes():
    def of(method):
        return lambda rmse: record(rmse=rmse, rmse_mcse=0.005, method=method)

    one, other = {1: 0.4, 2: 0.3, 4: 0.1}, {1: 0.5, 2: 0.2, 4: 0.1}
    records = with_sigma(one, of("a")) + with_sigma(other, of("b"))
    assert told(["rmse"], *records, swept=[KEY]) == [
        "A single estimate of `x` is off by 80.0 to 20.0% by `a`; 100.0 to 20.0% by `b`; from"
        " sigma=1 to 4 (of the truth; MCSE at most 1%)."
    ]
    records = with_sigma(one | {2: 0.45}, of("a"))
    assert told(["rmse"], *records, swept=[KEY]) == [
        "A single estimate of `x` is off by 20.0 to 90.0%, the largest with `sigma=2` (of the"
        " truth; MCSE at most 1%)."
    ]


def test_the_condition_is_named_that_is_the_farthest_from_the_level():
    records = with_sigma({1: 0.05, 2: 0.2, 4: 0.04}, null)
    assert told(["rejection"], *records, swept=[KEY]) == [
        "A test of `x`, an effect that is 0, rejects in 4.0 to 20.0%, farthest from its level, 5%,"
        " with `sigma=2` (MCSE at most 1.3%)."
    ]
    records = with_sigma({1: 0.95, 2: 0.80, 4: 0.99}, covering)
    assert told(["coverage"], *records, swept=[KEY]) == [
        "The 95% intervals of `x` hold the truth in 80.0 to 99.0%, farthest off with `sigma=2`"
        " (MCSE at most 1.3%)."
    ]


def test_what_stands_out_is_said_of_the_method_that_it_is_true_of():
    one = with_sigma({1: 0.05, 2: 0.2, 4: 0.04}, lambda share: null(share, "a"))
    other = with_sigma({1: 0.1, 2: 0.06, 4: 0.05}, lambda share: null(share, "b"))
    assert told(["rejection"], *one, *other, swept=[KEY]) == [
        "A test of `x`, an effect that is 0, rejects in 4.0 to 20.0% by `a`; 5.0 to 10.0% by `b`;"
        " farthest from its level, 5%, by `a` with `sigma=2` (MCSE at most 1.3%)."
    ]


def test_an_error_whose_truth_is_swept_is_in_its_units_as_figures_have_it():
    records = with_sigma({1: 0.1, 2: 0.2}, lambda rmse: record(rmse=rmse, rmse_mcse=0.01))
    records = [one | {"truth": one[KEY]} for one in records]
    assert told(["rmse"], *records, swept=[KEY]) == [
        "A single estimate of `x` is off by 0.100 to 0.200, from sigma=1 to 2 (MCSE at most 0.01)."
    ]


def test_of_many_methods_those_that_stand_out_are_told_apart():
    shares = dict(zip("abcdefghi", (0.05, 0.5, 0.06, 0.4, 0.04, 0.3, 0.2, 0.15, 0.25), strict=True))
    (sentence,) = told(["rejection"], *(null(share, name) for name, share in shares.items()))
    assert sentence == (
        "A test of `x`, an effect that is 0, rejects in 50.0% by `b`; 40.0% by `d`; 4.0% by `e`;"
        " 30.0% by `f`; 20.0% by `g`; 15.0% by `h`; 25.0% by `i`; 5.0 to 6.0% by `a` and `c`; its"
        " level is 5% (MCSE at most 1.6%)."
    )


def test_the_bias_has_the_sign_that_figures_give_it():
    known = {"bias": -0.25, "bias_mcse": 0.01}
    records = [record(truth=-0.5, **known), record(truth=0.0, parameter="z", **known)]
    assert told(["bias"], *records, parameters=("x", "z")) == [
        "The bias of `x` is 50.0% (of the truth; MCSE at most 2%).",  # too far from zero
    ]
    assert told(["bias"], records[1], parameters=("z",)) == [
        "The bias of `z` is -0.250 (MCSE at most 0.01).",
    ]


def test_failures_are_told_by_fit_and_numbers_of_fewer_data_sets_say_so():
    few = {"n": 500, "n_failed": 500}
    rmse = {"rmse": 0.1, "rmse_mcse": 0.005}
    records = [record(method="a/z", **rmse), record(method="a/t", **rmse)]
    records += [record(method="nlme", **few, rmse=0.2, rmse_mcse=0.005)]
    assert told(["failed", "rmse"], *records) == [
        "Fits that failed: 0.0% by `a`; 50.0% by `nlme`.",
        "A single estimate of `x` is off by 20.0% by `a`; 40.0% by `nlme` (`nlme`: of as"
        " few as 500 of 1,000 data sets) (of the truth; MCSE at most 1%).",
    ]
    assert told(["failed"], record(**rmse)) == []


ASKS = """
[report]
parameters = ["animal.sd(x)"]
measures = ["rmse", "share_at_zero"]
"""


@pytest.fixture
def study(tmp_path):
    """A study that was run before anybody said what its title asks."""
    (tmp_path / "s.toml").write_text(SMALL)
    run_study(load_scenario(tmp_path / "s.toml"), RunOptions(tmp_path / "out", 1, planned=8))
    (tmp_path / "s.toml").write_text(SMALL + ASKS)
    return tmp_path


def test_a_question_is_of_the_page_not_of_the_numbers(study):
    before = read_manifest(study / "out")
    run_study(load_scenario(study / "s.toml"), RunOptions(study / "out", 1, planned=8))
    after = read_manifest(study / "out")
    assert after["identity"] == before["identity"]
    shown = shown_rows(study / "out", Selection())
    assert shown.question == Question(["animal.sd(x)"], ["rmse", "share_at_zero"])
    said = answer(shown, findings(shown))
    assert plain(said.sentences[0]).startswith("A single estimate of `animal.sd(x)` is off by ")
    assert figure_of(shown, said)[2] == ["animal.sd(x)"]


def test_a_question_about_what_no_method_reports_is_refused(study):
    text = (study / "s.toml").read_text().replace('"animal.sd(x)"', '"animal.sd(z)"')
    (study / "s.toml").write_text(text)
    with pytest.raises(DataError, match=r"report\.parameters: no method reports 'animal\.sd\(z\)'"):
        run_study(load_scenario(study / "s.toml"), RunOptions(study / "new", 1, planned=8))
    assert not (study / "new").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["rmse", "share_at_zero"]', '["rsme"]', "must be one of: bias, coverage, failed"),
        ('["rmse", "share_at_zero"]', "[]", "must be a list of measures"),
        ('["animal.sd(x)"]', '"animal.sd(x)"', "must be a list of names"),
    ],
)
def test_a_question_that_is_none_is_refused(study, old, new, message):
    (study / "s.toml").write_text((study / "s.toml").read_text().replace(old, new))
    with pytest.raises(ScenarioError, match=message):
        load_scenario(study / "s.toml")


def test_curves_show_the_measures_that_the_title_asks_for():
    def measures(*named):
        records = [record(relative_bias=0.1)]
        question = Question(["x"], named)
        return curves._measures(Shown("t", 0.95, records, {}, ["general"], question))

    assert measures() == ["rmse", "rejection", "coverage"]
    assert measures("rmse") == ["rmse"]
    assert measures("bias", "failed", "coverage") == ["relative_bias", "coverage", "rmse"]


def test_the_question_is_in_the_manifest_only_where_there_is_one(study):
    assert "report" not in json.loads((study / "out" / "manifest.json").read_text())
