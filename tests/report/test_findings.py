"""Sentences: what they say of known numbers, and how often they are wrong where nothing is off."""

import numpy as np
import pytest

from mcsim.measures import MEASURES
from mcsim.report import findings as module
from mcsim.report.answer import answer, figure_of
from mcsim.report.findings import ERROR_RATE, findings
from mcsim.report.words import Name
from mcsim.summary.selection import Shown
from tests.samples import measured, sample_of_one

PLAIN = dict.fromkeys(name + end for name in MEASURES for end in ("", "_mcse"))


def record(**known):
    named = {"method": "general", "parameter": "x", "component": "fixed", "truth": 0.5, "place": ""}
    counts = {"n": 1000, "n_replicates": 1000, "n_failed": 0, "n_missing_interval": 0}
    return PLAIN | named | counts | known


def shown(*records):
    return Shown("title", 0.95, records, {})


def plain(sentence):
    """Its text, with names in backquotes."""
    return "".join(f"`{piece}`" if isinstance(piece, Name) else piece for piece in sentence)


def said(*records):
    """Sentences by title and method."""
    lines = {}
    for one in findings(shown(*records)):
        for (_, sentence), methods in one.said.items():
            for method in methods:
                lines.setdefault((one.topic.title, method), []).append(plain(sentence))
    return lines


def biased(relative, mcse=0.008, truth=0.5, **known):
    numbers = {"bias": relative * truth, "bias_mcse": mcse * truth}
    return record(truth=truth, **numbers, **known)


def covering(share, n=1000, measure="coverage", **known):
    mcse = (share * (1 - share) / n) ** 0.5
    return record(**{measure: share, f"{measure}_mcse": mcse, "n": n}, **known)


def test_the_bias_of_a_negative_truth_says_which_way_in_words():
    lines = said(
        biased(0.517, -0.008, truth=-0.5, parameter="x"),
        biased(-0.1, -0.008, truth=-0.5, parameter="z"),
    )
    assert lines["Bias", "general"] == [
        "`x` is overestimated by 51.70% (MCSE 0.80%), too far from zero.",
        "`z` is underestimated by 10.00% (MCSE 0.80%), too near to zero.",
    ]


def test_a_bias_beyond_two_standard_errors_is_named_with_its_size():
    lines = said(
        biased(-0.12, parameter="animal.sd(x)"),
        biased(0.017, parameter="sigma"),
        biased(0.015, parameter="x"),
        biased(-0.015, parameter="Intercept"),
    )
    assert lines["Bias", "general"] == [
        "`animal.sd(x)` is underestimated by 12.00% (MCSE 0.80%).",
        "`sigma` is overestimated by 1.70% (MCSE 0.80%).",
        "The study cannot tell the bias of `x` and `Intercept` from zero.",
    ]


def test_bias_of_what_is_zero_has_no_percent():
    lines = said(record(truth=0.0, bias=0.12, bias_mcse=0.02, relative_bias=None))
    assert lines["Bias", "general"] == ["`x` is overestimated by 0.120 (MCSE 0.020)."]


def test_a_bias_without_monte_carlo_error_is_no_finding():
    assert said(record(bias=0.5, n=1)) == {}


def test_what_does_not_matter_or_rests_on_one_estimate_is_no_finding():
    tiny = biased(5e-8, mcse=1e-8, truth=1.0)
    assert said(tiny) == {}
    assert "overestimated by 0.0200%" in said(biased(2e-4, mcse=1e-5))["Bias", "general"][0]
    alone = covering(0.0, n=1, measure="rejection", truth=0.3)
    assert said(alone) == {}
    assert answer(shown(alone), []).sentences == [
        ("Nothing can be said: no parameter has two usable estimates.",)
    ]


def test_intervals_that_hold_the_truth_too_rarely_or_too_often():
    lines = said(
        covering(0.912, parameter="a"), covering(0.98, parameter="b"), covering(0.94, parameter="c")
    )
    assert lines["Intervals", "general"] == [
        "The 95% intervals of `a` hold the truth too rarely: 91.2% (MCSE 0.9%).",
        "The 95% intervals of `b` hold the truth too often: 98.0% (MCSE 0.4%).",
        "The study cannot tell the coverage of the intervals of `c` from 95%.",
    ]


def test_intervals_say_which_estimates_have_none():
    lines = said(covering(0.994, n=1000, n_missing_interval=336))
    assert lines["Intervals", "general"] == [
        "The 95% intervals of `x` hold the truth too often: 99.4% (MCSE 0.2%), without the 33.6% of"
        " the estimates that have none."
    ]


def test_the_error_of_an_estimate_of_what_is_zero_has_no_percent():
    rmse = {"rmse": 0.706, "rmse_mcse": 0.0094, "truth": 0.0}
    lines = said(
        record(parameter="animal.cor(Intercept,x)", component="animal", place="a", **rmse),
        record(parameter="animal.cor(Intercept,x)", place="b", **(rmse | {"truth": 0.5})),
    )
    assert lines["How far off a single estimate is", "general"] == [
        "A single estimate of `animal.cor(Intercept,x)` is off by 0.7060 (MCSE 0.0094) in `a`.",
        "A single estimate of `animal.cor(Intercept,x)` is off by 141.2% (MCSE 1.9%) in `b`.",
    ]


@pytest.mark.parametrize(("n", "is_off"), [(10, False), (50, False), (300, True)])
def test_full_coverage_is_off_only_where_there_are_enough_replicates(n, is_off):
    # the chance of 50 hits of 50 at 95% is 0.077, of 300 hits 2e-7
    (sentence,) = said(covering(1.0, n))["Intervals", "general"]
    assert ("too often" in sentence) == is_off


def test_rejections_are_type_one_error_where_the_truth_is_zero_and_power_elsewhere():
    lines = said(
        covering(0.104, measure="rejection", truth=0.0),
        covering(0.80, measure="rejection", truth=0.2, parameter="diet"),
    )
    assert lines["Tests of effects that are zero", "general"] == [
        "Tests of `x` reject too often: 10.4% (MCSE 1.0%)."
    ]
    assert lines["Power", "general"] == ["The power to find `diet` is 80.0% (MCSE 1.3%)."]


def test_conditions_are_counted_and_the_worst_is_named():
    places = [f"animal.count={n}" for n in (4, 10, 25)]
    lines = said(*(biased(b, place=p) for b, p in zip((-0.3, -0.1, 0.001), places, strict=True)))
    assert lines["Bias", "general"] == [
        "`x` is underestimated in 2 of 3 conditions, at worst by 30.00% (MCSE 0.80%) in"
        " `animal.count=4`."
    ]
    lines = said(*(biased(b, place=p) for b, p in zip((0.0, -0.1, 0.001), places, strict=True)))
    assert lines["Bias", "general"] == [
        "`x` is underestimated in 1 of 3 conditions by 10.00% (MCSE 0.80%) in `animal.count=10`."
    ]
    lines = said(*(biased(0.0, place=p) for p in places))
    assert lines["Bias", "general"] == [
        "The study cannot tell the bias of `x` from zero, in any condition."
    ]


def test_ranges_over_conditions_name_their_ends():
    rmse = {"rmse": 0.05, "rmse_mcse": 0.005}
    lines = said(record(**rmse, place="a"), record(rmse=0.2, rmse_mcse=0.02, place="b"))
    assert lines["How far off a single estimate is", "general"] == [
        "A single estimate of `x` is off by 10.0% (MCSE 1.0%) in `a` to 40.0% (MCSE 4.0%) in `b`."
    ]
    lines = said(record(**rmse, place="a"), record(**rmse, place="b"))
    assert lines["How far off a single estimate is", "general"] == [
        "A single estimate of `x` is off by 10.0% (MCSE 1.0%) throughout."
    ]


def test_methods_of_which_the_same_holds_stand_together():
    (found,) = findings(
        shown(biased(0.2, method="a"), biased(0.2, method="b"), biased(0.3, method="c"))
    )
    assert list(found.said.values()) == [["a", "b"], ["c"]]


def test_zeros_are_told_from_never():
    zeros = {"component": "animal", "share_at_zero_mcse": 0.01}
    lines = said(
        record(parameter="animal.sd(x)", share_at_zero=0.126, **zeros),
        record(parameter="sigma", share_at_zero=0.0, **zeros),
    )
    assert lines["Estimates of zero", "general"] == [
        "`animal.sd(x)` is estimated as exactly 0 in 12.6% (MCSE 1.0%).",
        "Never estimated as exactly 0: `sigma`.",
    ]


def answered(*records):
    found = answer(shown(*records), findings(shown(*records)))
    return [plain(sentence) for sentence in found.sentences], found.parameters


def test_the_answer_says_the_largest_of_what_chance_does_not_explain_and_by_which_methods():
    # by Bonferroni among 3: |z| > 2.43 where 2 is enough for one comparison
    small = biased(0.02, 0.0009, parameter="a")
    sentences, parameters = answered(small, biased(-0.5, 0.01), biased(0.9, 0.4, parameter="c"))
    assert sentences[0] == "`x` is underestimated by 50.0% (MCSE 1.0%)."
    assert "the 3 numbers that can be held against what they should be, 2 are off" in sentences[1]
    assert parameters == ["x"]
    both = [
        covering(share, measure="rejection", truth=0.0, method=one)
        for one, share in (("a", 0.15), ("b", 0.2))
    ]
    sentences, _ = answered(*both, covering(0.05, measure="rejection", truth=0.0, method="c"))
    by_both = "Tests of `x` reject too often: 20.0% (MCSE 1.3%), by `b`; also by `a` (15.0%)"
    assert sentences[0] == f"{by_both}."
    others = [covering(0.1, measure="rejection", truth=0.0, parameter=one) for one in "vwyz"]
    assert (
        answered(*both, *others[:2])[0][0] == f"{by_both}; those of `v` and `w` too, by `general`."
    )
    also_a = covering(0.1, measure="rejection", truth=0.0, parameter="v", method="a")
    assert answered(*both, others[1], also_a)[0][0] == (
        f"{by_both}; those of `v` too, by `a`; those of `w` too, by `general`."
    )
    assert answered(*both, *others)[0][0] == f"{by_both}; those of 4 other effects too."


def test_the_answer_counts_the_conditions_that_chance_does_not_explain():
    # of 0.07 the p is 0.007: below the limit of one comparison, above 0.0455 / 8
    shares = {"one": 0.2, "two": 0.15, "three": 0.07, "four": 0.05}
    rows = [covering(1 - one, place=place) for place, one in shares.items()]
    sentences, _ = answered(*rows, *[covering(0.95, parameter=one) for one in "vwyz"])
    assert sentences[0] == (
        "The 95% intervals of `x` hold the truth too rarely in 2 of 4 conditions, at worst: 80.0%"
        " (MCSE 1.3%) in `one`."
    )
    assert "the 8 numbers that can be held against what they should be, 2 are off" in sentences[1]


def test_the_estimates_without_an_interval_are_named_after_the_condition():
    lines = said(covering(0.8, n_missing_interval=336, place="one"), covering(0.95, place="two"))
    assert lines["Intervals", "general"] == [
        "The 95% intervals of `x` hold the truth too rarely in 1 of 2 conditions: 80.0% (MCSE 1.3%)"
        " in `one`, without the 33.6% of the estimates that have none."
    ]


def test_the_answer_names_what_is_off_of_what_no_sentence_tells():
    of_an_sd = {"parameter": "animal.sd(x)", "component": "animal"}
    off = record(relative_error_se=0.5, relative_error_se_mcse=0.02, model_se=0.1, emp_se=0.1)
    *_, last = answered(off | of_an_sd)[0]
    assert "1, of standard errors, is off" in last
    *_, last = answered(off | of_an_sd, biased(-0.5, 0.01))[0]
    assert "2, some of standard errors, are off" in last


def test_what_a_data_set_tells_the_least_goes_by_the_best_method():
    """Sigma is off by 45% by a method that is wrong; an SD by 37% by the only one that has it."""
    sigma = {"parameter": "sigma", "component": "residual", "truth": 1.0, "rmse_mcse": 0.01}
    sd = {"parameter": "a.sd(x)", "component": "a", "truth": 1.0, "rmse_mcse": 0.01}
    sentences, _ = answered(
        record(rmse=0.02, **sigma),
        record(rmse=0.45, method="ols", **sigma),
        record(rmse=0.37, **sd),
    )
    assert sentences[0].startswith("A single estimate of `a.sd(x)`, of which a data set tells")


def test_the_answer_tells_power_errors_and_level_where_nothing_is_off():
    rmse = {"rmse": 0.05, "rmse_mcse": 0.005}
    tests = [
        covering(0.80, measure="rejection", parameter="a", place="one") | rmse,
        covering(0.9, measure="rejection", parameter="a", place="two"),
        covering(0.05, measure="rejection", parameter="b", truth=0.0),
    ]
    assert answered(*tests) == (
        [
            "A test of `b`, an effect that is 0, rejects in 5.0% (MCSE 0.7%); its level is 5%.",
            "The power to find `a` is 80.0% (MCSE 1.3%) in `one` to 90.0% (MCSE 0.9%) in `two`.",
            "A single estimate of `a` is off by 10.0% (MCSE 1.0%) in `one` (root mean squared"
            " error).",
            "Of the one number that can be held against what it should be, none is off by more"
            " than chance explains among so many.",
        ],
        ["b", "a"],
    )


def test_a_method_that_is_far_off_does_not_make_a_parameter_the_one_that_is_known_least():
    of_each = [("a", "good", 0.1), ("a", "poor", 0.9), ("b", "good", 0.3), ("b", "poor", 0.3)]
    of_each += [("Intercept", "good", 9.0)]
    rows = [
        record(parameter=name, method=method, rmse=0.5 * error, rmse_mcse=0.01)
        for name, method, error in of_each
    ]
    assert answered(*rows)[1] == ["b"]


def test_the_figure_of_one_condition_shows_the_tests_or_intervals_of_the_answer():
    off = covering(0.3, measure="rejection", truth=0.0)
    intercept = covering(1.0, measure="rejection", truth=1.0, parameter="Intercept")
    for records, figure in (
        ([off, intercept], ("lollipop", "rejection", ["x"])),
        ([covering(0.7), biased(0.0, parameter="a")], ("lollipop", "coverage", ["x"])),
        ([covering(0.8, measure="rejection")], ("lollipop", "rejection", ["x"])),
        ([covering(1.0, measure="rejection")], ("estimates", None, ["x"])),
        ([biased(0.9)], ("estimates", None, ["x"])),
    ):
        study = shown(*records)
        assert figure_of(study, answer(study, findings(study))) == figure


def test_what_df_methods_share_is_told_once():
    rows = [
        biased(bias, method=f"m/{df}", parameter=name, component=component)
        for df, bias in (("z", 0.2), ("residual", 0.3))
        for name, component in (("x", "fixed"), ("a.sd(x)", "a"))
        for bias in [bias if component == "fixed" else 0.2]
    ]
    (finding,) = findings(shown(*rows))
    assert [(one.parameter, methods) for one, methods in finding.said.items()] == [
        ("x", ["m/z"]), ("x", ["m/residual"]), ("a.sd(x)", ["m"])
    ]  # fmt: skip
    assert len(finding.verdicts) == 3


def test_names_are_told_from_words_whatever_they_hold():
    name = "<b>{x}</b> by 3% in `y`"
    (finding,) = findings(shown(biased(0.2, parameter=name)))
    ((_, sentence),) = finding.said
    assert [piece for piece in sentence if isinstance(piece, Name)] == [name]
    assert "".join(sentence) == f"{name} is overestimated by 20.00% (MCSE 0.80%)."


@pytest.mark.parametrize("n", [3, 10, 200])
def test_unbiased_estimates_are_called_biased_as_often_as_stated(n):
    # 4000 studies of n normal estimates; 4 standard errors of the share: 0.013
    generator = np.random.default_rng(n)
    n_studies = 4000
    T = generator.standard_normal((n_studies, n)) + 1.0
    none = np.full(n, np.nan)
    n_off = 0
    for row in T:
        bias = measured("bias", sample_of_one(1.0, False, 0.05, row, *[none] * 5))
        one = record(truth=1.0, bias=bias.value, bias_mcse=bias.mcse, n=n)
        n_off += module._judge_bias(one, 0.95).sign != 0
    limit = 4 * (ERROR_RATE * (1 - ERROR_RATE) / n_studies) ** 0.5
    assert n_off / n_studies == pytest.approx(ERROR_RATE, abs=limit)


@pytest.mark.parametrize("n", [5, 40, 1000])
def test_nominal_intervals_are_called_off_no_more_often_than_stated(n):
    generator = np.random.default_rng(n)
    hits = generator.binomial(n, 0.95, 4000)
    n_off = sum(module._judge_coverage(covering(h / n, n), 0.95).sign != 0 for h in hits)
    limit = 4 * (ERROR_RATE * (1 - ERROR_RATE) / 4000) ** 0.5
    assert n_off / 4000 < ERROR_RATE + limit
