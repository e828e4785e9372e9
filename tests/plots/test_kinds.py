"""Figures: what is drawn is what the summary says, nothing overlaps, the bytes are reproducible."""

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import PathPatch, StepPatch
from PIL import Image

import mcsim
from mcsim.cli import read as commands
from mcsim.errors import DataError, McsimError
from mcsim.measures import MEASURES
from mcsim.plots import estimates
from mcsim.plots import kinds as plots
from mcsim.plots import measure_axes as words
from mcsim.plots import zip as zip_plot
from mcsim.plots.curves import End, SweptAxis, label_ends
from mcsim.plots.drawing import (
    COLOURS,
    FORMATS,
    colour,
    marker,
    render,
    style,
)
from mcsim.plots.power import _in_words as reach_in_words
from mcsim.plots.power import crossing
from mcsim.plots.replicate_panels import _broken
from mcsim.report.answer import suited
from mcsim.report.figures import DATA, DESIGN
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary.compare import compare
from mcsim.summary.records import drawn_once, one_per_fit
from mcsim.summary.selection import Numbers, Selection, shown_rows
from mcsim.summary.summarize import summarize
from mcsim.summary.swept_words import count_in_words, short_words
from mcsim.summary.text import SLACK, with_mcse, wrapped
from tests.conftest import SMALL, call_mcsim
from tests.samples import write_part

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
SWEPT = '\n[sweep]\n"design.levels.image.count" = [2, 3, 8]\n"truth.sigma" = [0.5, 1.0]\n'
LONG = "a_level_with_a_name_that_goes_on_and_on"
LONG_NAMES = SMALL.replace("animal", LONG).replace('"right"', f'"{"right-" * 10}"')
OF_A_SWEEP = ("nested-loop", "curves", "power", "heatmap")


def run(folder, text, n):
    folder.mkdir(exist_ok=True)
    (folder / "any.toml").write_text(text)
    scenario = load_scenario(folder / "any.toml", replicates=n)
    return study.run_study(scenario, study.RunOptions(folder / "study", n_workers=1)).directory


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return run(tmp_path_factory.mktemp("single"), SMALL, 80)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    return run(tmp_path_factory.mktemp("swept"), SMALL + SWEPT, 12)


def figure_of(directory, kind, **selection):
    shown = shown_rows(directory, chosen := Selection(**selection))
    with style():
        figure = plots.KINDS[kind](shown, chosen.measure)
        FigureCanvasAgg(figure).draw()
    return figure


def panel_of(figure, *title):
    wanted = "\n".join(title)
    return next(a for a in figure.axes if a.get_title(loc="left").startswith(wanted))


def records_of(directory, **wanted):
    rows = summarize([directory]).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def overlaps(figure):
    """Pairs of texts that lie on top of each other, by more than the edge of a letter."""
    boxes = [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts_of(figure)]
    pairs = itertools.combinations(boxes, 2)
    return [(one, other) for (one, first), (other, second) in pairs if first.overlaps(second)]


def texts_of(figure):
    """Texts that can be seen: no ticks beyond the view, nothing of axes that are off."""
    shown = [*figure.texts, *itertools.chain(*(legend.texts for legend in figure.legends))]
    for axis in (one for one in figure.axes if one.axison):
        shown += [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        for limits, labels in (
            (axis.get_xlim(), axis.get_xticklabels()),
            (axis.get_ylim(), axis.get_yticklabels()),
        ):
            index = 0 if labels == axis.get_xticklabels() else 1
            low, high = min(limits), max(limits)
            shown += [one for one in labels if low <= one.get_position()[index] <= high]
    return [text for text in shown if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("kind", plots.KINDS)
def test_every_kind_is_drawn_in_every_format(swept, tmp_path, kind):
    for form in FORMATS:
        chosen = Selection(parameters="animal.sd(x)", conditions="image.count=2*")
        if kind in ("power", "heatmap"):  # of tests; of two keys
            chosen = Selection(parameters="x")
        out = plots.plot(swept, kind, chosen, tmp_path / f"a.{form}")
        assert out.read_bytes().startswith(MAGIC[form])


@pytest.mark.parametrize("kind", plots.KINDS)
def test_words_do_not_overlap(single, swept, kind):
    figure = figure_of(swept if kind in OF_A_SWEEP else single, kind)
    assert overlaps(figure) == []


@pytest.mark.parametrize("kind", [kind for kind in plots.KINDS if kind not in OF_A_SWEEP])
def test_long_names_do_not_overlap(tmp_path, kind):
    figure = figure_of(run(tmp_path, LONG_NAMES, 12), kind)
    assert overlaps(figure) == []


def test_ticks_of_standard_errors_that_are_known_well_do_not_run_together(single):
    well_known = {"emp_se_mcse": 4.1e-05, "model_se": 0.005812, "model_se_mcse": 5e-06}
    shown = shown_rows(single, Selection(parameters=["Intercept", "x", "*.sd(*"]))
    records = [r | {"emp_se": 0.005851} | well_known for r in shown.records if r["model_se"]]
    with style():
        figure = plots.KINDS["se"](replace(shown, records=records), None)
        FigureCanvasAgg(figure).draw()
    for axis in (one for one in figure.axes if one.axison):
        boxes = [label.get_window_extent().padded(2) for label in axis.get_xticklabels()]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_depend_on_the_results_alone(single, tmp_path, form):
    # another hash seed, another time, no display, and a user's own style
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 20\nbackend: TkAgg\n")
    contents = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.{form}"
        environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
        environment |= {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed}
        environment |= {"MATPLOTLIBRC": str(tmp_path)} if seed == "2" else {}
        command = ["plot", single, "--kind", "methods", "--parameter", "animal.sd(x)", "-o", out]
        subprocess.run([sys.executable, "-m", "mcsim", *command], check=True, env=environment)
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]


def test_the_last_digits_of_the_layout_do_not_reach_the_bytes(swept, monkeypatch):
    # its solver goes by places in memory: positions differ by rounding from process to process
    shown = shown_rows(swept, Selection(parameters="x"))
    found = {plots.draw(shown, "nested-loop", "rmse", "svg")}
    execute = ConstrainedLayoutEngine.execute

    def execute_elsewhere(engine, figure):
        execute(engine, figure)
        for axis in figure.axes:
            bounds = np.array(axis.get_position().bounds) * (1 + 1e-14)
            axis.set_position(bounds, which="original")
            axis.set_in_layout(True)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", execute_elsewhere)
    found.add(plots.draw(shown, "nested-loop", "rmse", "svg"))
    assert len(found) == 1


def test_histogram_bars_and_the_bar_at_zero_are_shares_of_all_replicates(single):
    # plain counts of the estimates are the oracle
    axis = panel_of(figure_of(single, "estimates"), "animal.sd(x)", "diagonal")
    rows = pq.read_table(single / "estimates").to_pandas()
    own = rows[(rows["method"] == "diagonal") & (rows["parameter"] == "animal.sd(x)")]["estimate"]
    n_zero = int((own == 0).sum())
    assert n_zero > 5
    bars = [patch for patch in axis.patches if patch.get_hatch()]
    assert [bar.get_height() for bar in bars] == [pytest.approx(100 * n_zero / 80)]
    heights, edges, _ = next(p for p in axis.patches if isinstance(p, StepPatch)).get_data()
    assert heights.sum() == pytest.approx(100 * (80 - n_zero) / 80)
    counts, _ = np.histogram(own[own > 0], edges)
    assert heights == pytest.approx(100 * counts / 80)
    assert f"{100 * n_zero / 80:.1f}%" in axis.get_title(loc="left")


def test_truth_and_mean_with_its_monte_carlo_interval_are_drawn(single):
    axis = panel_of(figure_of(single, "estimates"), "x", "right")
    (record,) = records_of(single, method="right/z", parameter="x")
    lines = [line.get_xdata()[0] for line in axis.lines]
    assert lines == [record["truth"], record["mean"]]
    band = axis.patches[-1].get_bbox()
    half = 1.96 * record["mean_mcse"]
    assert (band.x0, band.x1) == pytest.approx((record["mean"] - half, record["mean"] + half))


def test_estimates_far_out_are_counted_not_drawn():
    axis_values = np.append(np.random.default_rng(1).normal(0, 1, 999), 1e9)
    record = {"truth": 0.0, "mean": 1e6, "mean_mcse": 1e6, "share_at_zero": None}
    with style():
        axis = plots.Figure().subplots()
        low_high = estimates.robust_range(axis_values, 0.0)
        estimates._draw_histogram(axis, record, axis_values, low_high)
    assert axis.get_xlim()[1] < 10
    assert [text.get_text() for text in axis.texts] == ["1 further out"]


def intervals(numbers):
    """Of arrays in the order of the files."""
    return Numbers(np.arange(numbers.shape[1]), *numbers[[0, 2, 3, 5]])


NUMBERS = st.floats(-100, 100, allow_nan=False)


@settings(max_examples=60)
@given(st.lists(st.tuples(NUMBERS, st.floats(0.1, 50), st.floats(0.1, 50)), min_size=1))
def test_intervals_that_miss_the_truth_lie_on_top(drawn):
    estimate, below, above = np.array(drawn).T
    numbers = np.array([estimate, above, estimate - below, estimate + above, above, above])
    found = zip_plot.thinned_intervals(1.0, intervals(numbers))
    covers = (numbers[2] <= 1.0) & (numbers[3] >= 1.0)
    assert found.covers.sum() == covers.sum()
    assert np.all(found.covers[:-1] >= found.covers[1:])
    assert found.rank == pytest.approx(100 * (np.arange(len(drawn)) + 0.5) / len(drawn))


def test_symmetric_intervals_stand_in_the_order_of_their_z_values():
    # Morris, White & Crowther (2019): ranked by abs(z), here 2, 0.5, 1 with limits at 1.96 SE
    estimate, se = np.array([4.0, 0.5, -3.0]), np.array([2.0, 1.0, 3.0])
    limits = np.array([estimate - 1.96 * se, estimate + 1.96 * se])
    numbers = np.array([estimate, se, *limits, se, se])
    found = zip_plot.thinned_intervals(0.0, intervals(numbers))
    assert found.lower.tolist() == pytest.approx(limits[0][[1, 2, 0]].tolist())
    assert found.covers.tolist() == [True, True, False]


def test_figures_do_not_grow_with_the_number_of_replicates():
    rng = np.random.default_rng(3)
    for n in (1_000, 100_000):
        T = rng.normal(0, 1, n)
        numbers = np.array([T, T, T - 2, T + 2, T, T])
        found = zip_plot.thinned_intervals(0.0, intervals(numbers))
        assert len(found.rank) == zip_plot.N_INTERVALS
        # thinning is even: 4.6% of normal estimates lie beyond 2; 250 lines tell it to 0.4%
        assert 1 - found.covers.mean() == pytest.approx(0.0455, abs=0.025)


def test_panels_of_the_zip_plot_show_the_coverage(single):
    figure = figure_of(single, "zip", methods="diagonal", parameters="x")
    (record,) = records_of(single, method="diagonal", parameter="x")
    axis = panel_of(figure, "x")
    lines = [one.get_path() for one in axis.patches if isinstance(one, PathPatch)]
    n_drawn = sum(len(path.vertices) for path in lines) // 2
    assert n_drawn == record["n"] == 80
    assert f"coverage {100 * record['coverage']:.1f}%" in axis.get_title(loc="left")


def test_forest_and_lollipops_stand_at_the_measures_with_their_monte_carlo_intervals(single):
    for kind, measure in (("bias", "relative_bias"), ("lollipop", "coverage")):
        (axis, *_) = figure_of(single, kind, parameters="animal.sd*", methods="diagonal").axes
        records = records_of(single, method="diagonal", component="animal")
        shown = [record for record in records if ".sd(" in record["parameter"]]
        ((_, _, (bars,)),) = axis.containers
        segments = bars.get_segments()
        expected = [
            [100 * (r[measure] + sign * 1.96 * r[f"{measure}_mcse"]) for sign in (-1, 1)]
            for r in shown
        ]
        if measure == "coverage":  # no share is larger
            assert any(high > 100.0 for _, high in expected)
            expected = [[low, min(high, 100.0)] for low, high in expected]
        assert [segment[:, 0].tolist() for segment in segments] == [
            pytest.approx(one) for one in expected
        ]


def test_curves_stand_at_the_swept_values(swept):
    figure = figure_of(swept, "curves", methods="diagonal", parameters="x", measure="rmse")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["sigma=0.5", "sigma=1"]  # at the lines
    line, _, (bars,) = axis.containers[0]
    label = {"method": "diagonal", "parameter": "x", "truth.sigma": 0.5}
    records = records_of(swept, **label)
    assert line.get_xdata().tolist() == pytest.approx([2, 3, 8], abs=0.05)  # a little aside
    assert line.get_ydata().tolist() == pytest.approx([record["rmse"] for record in records])
    half = [1.96 * record["rmse_mcse"] for record in records]
    lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    assert lengths == pytest.approx(half)


def test_curves_have_no_blank_panels_and_begin_with_effects(swept):
    figure = figure_of(swept, "curves", parameters=["x", "animal.sd(x)"], methods="diagonal")
    rows = [[a.get_ylabel() for a in figure.axes[i : i + 3] if a.axison] for i in (0, 3)]
    assert rows == [["RMSE", "power, %", "coverage, %"], ["RMSE", "coverage, %"]]
    tests = figure_of(swept, "curves", parameters="animal.sd(x)", methods="diagonal")
    assert [axis.axison for axis in tests.axes] == [True, True]
    kind, chosen = suited(swept, Selection(parameters=None))
    effects = {"diet[T.fed]", "x", "diet[T.fed]:x"}  # and no SDs, of which the answer tells
    assert (kind, {*chosen.parameters} - effects) == ("curves", set())


def test_long_swept_values_have_panels_not_words_at_lines(swept):
    shown = shown_rows(swept, Selection(methods="diagonal", parameters="x"))
    long = {0.5: "a distribution of many words", 1.0: "b"}
    records = [
        r | {"truth.sigma": one, "words": r["words"] | {"truth.sigma": one}}
        for r in shown.records
        for one in [long[r["truth.sigma"]]]
    ]
    with style():
        figure = plots.KINDS["curves"](replace(shown, records=records), "rmse")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["x\nsigma=a distribution of many words", "x\nsigma=b"]


def test_panels_of_a_share_have_one_range_and_show_what_it_is_held_against(swept):
    figure = figure_of(swept, "curves", methods="diagonal", parameters=["x", "sigma"])
    panels = [a for a in figure.axes if a.get_ylabel() == "coverage, %"]
    assert len(panels) == 2
    assert len({axis.get_ylim() for axis in panels}) == 1
    assert panels[0].get_ylim()[0] < 95 < panels[0].get_ylim()[1]


def test_power_is_drawn_with_its_band_and_where_it_reaches_80(swept):
    figure = figure_of(swept, "power", methods="diagonal", parameters="x")
    (axis,) = figure.axes
    records = records_of(swept, method="diagonal", parameter="x", **{"truth.sigma": 1.0})
    power = [100 * record["rejection"] for record in records]
    assert power in [pytest.approx(list(line.get_ydata())) for line in axis.lines]
    half = [196 * record["rejection_mcse"] for record in records]
    lowest = min(max(0, value - one) for value, one in zip(power, half, strict=True))
    band = axis.collections[-1].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(lowest, rel=1e-3, abs=1e-9)  # 1.96 to three digits


@pytest.mark.parametrize(
    ("y", "is_log", "place"),
    [
        ([20.0, 60.0, 100.0], False, 6.0),
        ([20.0, 60.0, 100.0], True, 4 * 2**0.5),  # half way on the logarithmic axis
        ([90.0, 95.0, 99.0], False, None),
        ([10.0, 20.0, 30.0], False, None),
    ],
)
def test_where_a_line_reaches_80(y, is_log, place):
    found = crossing(np.array([2.0, 4.0, 8.0]), np.array(y), is_log=is_log)
    assert found == (None if place is None else pytest.approx(place))


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ((12.1, 10.42, 14.0), "80% at 12.1 (10.4 to 14)"),
        ((0.869, 1.49, 0.879), "80% at 0.869 (to 0.879)"),  # of a line that falls and rises
        ((2.0, 1.5, None), "80% at 2 (from 1.5)"),
        ((2.0, 3.0, 1.0), "80% at 2"),
        ((None, 1.0, None), ""),
    ],
)
def test_an_interval_of_where_a_line_reaches_80_holds_the_place(places, words):
    assert reach_in_words(places) == words


def test_a_heatmap_has_a_number_for_every_condition(swept):
    figure = figure_of(swept, "heatmap", methods="diagonal", parameters="x", measure="rmse")
    (axis,) = figure.axes
    records = records_of(swept, method="diagonal", parameter="x")
    cells = axis.images[0].get_array()
    assert cells.shape == (2, 3)
    assert cells.T.ravel().tolist() == pytest.approx([record["rmse"] for record in records])
    assert len(axis.texts) == 6
    shown = shown_rows(swept, Selection(methods="diagonal", parameters="x"))
    long = dict.fromkeys(shown.swept, "random.animal.sd.Intercept")
    figure = plots.KINDS["heatmap"](replace(shown, swept=long), "rmse")
    assert figure.axes[0].get_ylabel() == "random.\nanimal.sd.\nIntercept"
    with pytest.raises(DataError, match=r"one key is swept, image.count, and a heatmap has two"):
        figure_of(swept, "heatmap", conditions="*sigma=0.5")


def test_a_heatmap_has_room_for_long_values_and_its_numbers_can_be_read(swept):
    shown = shown_rows(swept, Selection(parameters="x"))
    records = [
        record | {"words": {key: f"mixture [{record[key]}, 4]" for key in shown.swept}, "rmse": 2.0}
        for record in shown.records
    ]
    with style():
        figure = plots.KINDS["heatmap"](replace(shown, records=records), "rmse")
        FigureCanvasAgg(figure).draw()
    assert overlaps(figure) == []
    assert {text.get_color() for text in figure.axes[0].texts} == {"white"}  # on the darkest


def test_errors_on_another_scale_than_that_of_the_link_are_left_out():
    rows = [
        {"parameter": "x", "rmse": 1.0, "emp_se": 1.0, "scale": one} for one in ("log odds", "")
    ]
    assert words.having(rows, "rmse") == rows[:1]
    assert words.having(rows, "emp_se") == rows


def test_nested_loop_has_every_condition_and_the_swept_values(swept):
    figure = figure_of(swept, "nested-loop", parameters="x", methods="diagonal")
    steps = [patch.get_data() for patch in figure.axes[0].patches if isinstance(patch, StepPatch)]
    records = records_of(swept, method="diagonal", parameter="x")
    assert steps[0].values.tolist() == pytest.approx([record["rmse"] for record in records])
    lanes = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert lanes == [
        "units of image per animal\n(in all):\n2 (18), 3 (27), 8 (72)",
        "sigma:\n0.5, 1",
    ]


def test_standard_errors_stand_against_the_sd_of_the_estimates(single):
    axis = panel_of(figure_of(single, "se", methods="right/z", parameters="sigma"), "sigma")
    (record,) = records_of(single, method="right/z", parameter="sigma")
    (bars,) = axis.containers
    assert (bars[0].get_xdata()[0], bars[0].get_ydata()[0]) == pytest.approx(
        (record["emp_se"], record["model_se"])
    )


def test_estimates_stand_against_the_realized_values(single):
    chosen = {"methods": "diagonal", "parameters": "animal.sd(x)"}
    axis = panel_of(figure_of(single, "realized", **chosen), "animal.sd(x)")
    tables = [pq.read_table(path) for path in (single / "estimates").glob("*.parquet")]
    rows = pa.concat_tables(tables).to_pandas().sort_values("replicate")
    rows = rows[(rows["method"] == "diagonal") & (rows["parameter"] == "animal.sd(x)")]
    _, points, cross = axis.lines
    assert points.get_xdata().tolist() == rows["realized"].tolist()
    assert points.get_ydata().tolist() == rows["estimate"].tolist()
    (record,) = records_of(single, method="diagonal", parameter="animal.sd(x)")
    assert [*cross.get_xdata(), *cross.get_ydata()] == [record["truth"]] * 2


def test_difference_of_two_methods_is_that_of_compare(single):
    axis = panel_of(figure_of(single, "methods", parameters="animal.sd(x)"), "animal.sd(x)")
    rows = compare(single, "right/z", "diagonal").to_pylist()
    row = next(row for row in rows if row["parameter"] == "animal.sd(x)")
    expected = with_mcse(row["bias_difference"], row["bias_difference_mcse"])
    assert axis.get_title(loc="left") == f"animal.sd(x)\ndifference {expected}"
    assert len(axis.lines[-1].get_xdata()) == 80


def test_df_methods_of_a_fit_that_agree_are_drawn_once(single):
    shown = shown_rows(single, Selection(parameters="x"))
    assert [r["shown_as"] for r in one_per_fit(shown.records, ["bias"])] == ["right", "diagonal"]
    apart = [r["shown_as"] for r in one_per_fit(shown.records, ["ci_width"])]
    assert apart == ["right/containment", "right/z", "diagonal"]
    own = [r | {"method": f"right/{df}", "bias": b} for df, b in zip("abc", (1, 2, 1), strict=True)
           for r in shown.records[:1]]  # fmt: skip
    names = [r["shown_as"] for r in one_per_fit(own, ["bias"])]
    assert names == ["right/a and right/c", "right/b"]


def test_series_that_would_hide_each_other_are_drawn_once_with_all_names(swept):
    def made(method, parameter, n):
        return [r | {"method": method, "shown_as": method, "parameter": parameter} for r in n]

    shown = shown_rows(swept, Selection(parameters="x", methods="diagonal"))
    more = [r | {"rmse": 2 * r["rmse"]} for r in shown.records]
    hair = [r | {"rmse": r["rmse"] * (1 + 1e-13)} for r in shown.records]
    both = [*made("a", "x", shown.records), *made("b", "x", hair)]
    assert {r["shown_as"] for r in drawn_once(both, ["rmse"])} == {"a and b"}
    records = [*both, *made("a", "y", shown.records), *made("b", "y", more)]
    drawn = replace(shown, records=records, all_methods=["a", "b"])
    with style():
        figure = plots.KINDS["nested-loop"](drawn, "rmse")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["a", "b"]
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes[:2]}
    assert list(panels) == ["x\nthe same: a; b", "y"]
    steps = [[p for p in axis.patches if isinstance(p, StepPatch)] for axis in panels.values()]
    n_lines = [sum(not np.isnan(p.get_data().values).all() for p in own) for own in steps]
    assert n_lines == [1, 2]


def test_a_named_kind_shows_what_tells_the_most_and_all_that_is_asked_for(single, swept):
    def n_drawn(directory, kind, parameter):
        figure = mcsim.plot(directory, kind, method="diagonal", parameter=parameter)
        return len([axis for axis in figure.axes if axis.axison])

    assert [n_drawn(single, "estimates", one) for one in (None, "*", "x")] == [4, 9, 1]
    assert n_drawn(single, "realized", None) == 3  # the SDs, whatever else tells more
    assert n_drawn(swept, "nested-loop", None) == 4 + 1


def test_conditions_begin_on_the_left_and_panels_of_all_lines_are_counted():
    def row(*n_of_places):
        return [{"place": str(i)} for i, n in enumerate(n_of_places) for _ in range(n)]

    places = list(_broken([row(5, 5, 5), row(3, 3, 3), row(1, 1)], 8))
    assert [column for _, column in places if column == 0] == [0] * 6
    assert places[:6] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    assert places[15:24] == [*((3, i) for i in range(6)), *((4, i) for i in range(3))]
    assert places[24:] == [(5, 0), (5, 1)]
    assert list(_broken([row(9)], 8))[-1] == (1, 0)


def test_every_measure_has_words_and_can_be_drawn(single):
    assert set(words.AXES) == set(MEASURES)
    of_tests = {"expected_coverage", "type_s", "type_m", "mde"}
    for measure in MEASURES.keys() - {"rejection", "expected_rejection", "equivalence"}:
        parameter = "x" if measure in of_tests else "animal.sd(x)"
        chosen = {"methods": "diagonal", "parameters": parameter, "measure": measure}
        (axis,) = figure_of(single, "lollipop", **chosen).axes
        assert axis.get_xlabel() == words.AXES[measure].words


def test_power_and_type_one_error_are_told_apart(single):
    figure = figure_of(single, "lollipop", measure="rejection", parameters="diet*")
    (axis,) = figure.axes
    assert axis.get_xlabel() == "rejected, %"  # of diet, which has an effect, and of diet:x
    figure = figure_of(single, "lollipop", measure="rejection", parameters="diet[T.fed]:x")
    assert figure.axes[0].get_xlabel() == "type I error, %"


@pytest.mark.parametrize("kind", plots.KINDS)
def test_one_replicate_is_drawn_or_refused_in_words(tmp_path, kind):
    directory = run(tmp_path, SMALL + SWEPT, 1)
    if kind == "se":
        with pytest.raises(DataError, match="nothing to draw: no row has emp_se"):
            figure_of(directory, kind, parameters="x")
    else:
        parameter = "animal.sd(x)" if kind == "realized" else "x"
        assert overlaps(figure_of(directory, kind, parameters=parameter)) == []


@pytest.mark.parametrize("kind", [kind for kind in plots.KINDS if kind != "power"])  # no tests
def test_estimates_that_are_all_zero_are_drawn(swept, tmp_path, kind):
    directory = rewritten(swept, tmp_path, estimate=0.0)
    if kind == "se":
        figure = figure_of(directory, kind, parameters="animal.sd(x)")
    elif kind == "zip":
        figure = figure_of(directory, kind, parameters="sigma")
    else:
        figure = figure_of(directory, kind, parameters="animal.sd(x)", methods="*")
    with style():
        assert render(figure, "svg").startswith(MAGIC["svg"])


@pytest.mark.parametrize("kind", plots.KINDS)
def test_a_study_whose_fits_all_failed_says_so(swept, tmp_path, kind):
    directory = rewritten(swept, tmp_path, estimate=None, status="failed")
    with pytest.raises(DataError, match=r"nothing to draw.*Of 216 fits.*216 failed"):
        figure_of(directory, kind)


def rewritten(directory, folder, *, estimate, status=None):
    """A copy of a study with another estimate everywhere, and no measure but those of it."""
    copy = folder / "copy"
    for path in directory.rglob("*"):
        target = copy / path.relative_to(directory)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    for kind, values in (("estimates", {"estimate": estimate}), ("fits", {"status": status})):
        for path in (copy / kind).glob("*.parquet"):
            table = pq.read_table(path)
            frame = table.to_pandas()
            for name, value in values.items():
                if kind == "estimates" or value is not None:
                    frame[name] = value
            write_part(path, type(table).from_pandas(frame, table.schema))
    return copy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "curves"], "one condition, and nothing swept"),
        (["--kind", "nested-loop"], r"table \[sweep\]"),
        (["--kind", "methods", "--method", "right/*"], "df methods of one fit"),
        (["--kind", "lollipop", "--measure", "covrage"], "Did you mean 'coverage'"),
        (["--kind", "bias", "--measure", "bias"], "goes with --kind lollipop or nested-loop"),
        (["--kind", "bias", "--method", "general"], "no method matches 'general'"),
        (["--kind", "bias", "--condition", "some"], "no condition matches 'some'"),
        (["--kind", "realized", "--parameter", "x"], "only SDs and correlations of random effects"),
        (["--kind", "bias", "-o", "a.jpg"], "a.jpg: figures are written as .png, .svg, .pdf"),
        (["--kind", "bias", "-o", "any.toml/a.png"], "cannot write to any.toml"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_of_the_user(single, arguments, message):
    done = call_mcsim("plot", "study", "-o", "a.svg", *arguments, cwd=single.parent)
    assert done.returncode == 2
    assert re.search(message, done.stderr)


def test_too_many_panels_are_refused_with_what_to_choose(swept):
    with pytest.raises(McsimError, match=r"126 panels.*too much to look at.*--condition"):
        figure_of(swept, "zip")


def test_sixty_conditions_are_drawn(tmp_path):
    sweep = SWEPT.replace("[2, 3, 8]", str(list(range(2, 22)))).replace("0.5,", "0.5, 0.7,")
    head, methods = SMALL.split("[[methods]]", 1)
    directory = run(tmp_path, f"{head}[[methods]]{methods.split('[[methods]]')[1]}{sweep}", 2)
    for kind in ("bias", "nested-loop", "curves", "se"):
        figure = figure_of(directory, kind, parameters="animal.sd(x)")
        assert overlaps(figure) == []


def test_studies_in_a_folder_are_told_apart(single, swept, tmp_path):
    for name, directory in (("one", single), ("two", swept)):
        (tmp_path / name).symlink_to(directory)
    shown = shown_rows(tmp_path, Selection(parameters="x", conditions="all"))
    assert shown.places == [""]
    shown = shown_rows(tmp_path, Selection(parameters="x"))
    assert shown.places[:2] == ["one: all", "two: image.count=2, sigma=0.5"]
    assert list(shown.swept) == ["study", "design.levels.image.count", "truth.sigma"]
    assert plots.draw(shown, "curves", "rmse", "svg").startswith(MAGIC["svg"])


def test_the_command_knows_the_kinds_and_help_loads_no_matplotlib():
    assert (*plots.KINDS, plots.PLAN, DATA, DESIGN) == commands.PLOTS
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mcsim", "plot", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "mcsim.cli.read" in done.stderr
    assert "matplotlib" not in done.stderr
    assert "numpy" not in done.stderr


def test_a_method_has_its_colour_in_every_figure(single, swept):
    found = {
        container.lines[0].get_color()
        for directory, kind in ((single, "lollipop"), (single, "se"), (swept, "curves"))
        for axis in figure_of(directory, kind, methods="diagonal", parameters="x").axes
        for container in axis.containers
    }
    assert found == {COLOURS[2]}  # the third of the study's methods


@pytest.mark.parametrize(("width", "kind"), [(89, "estimates"), (89, "power"), (183, "curves")])
def test_a_width_is_kept_and_pictures_have_300_dots_per_inch(swept, tmp_path, width, kind):
    chosen = Selection(parameters="x", methods="diagonal")
    out = tmp_path / "a.png"
    plots.write(out, lambda: plots.figure(swept, kind, chosen), width)
    with Image.open(out) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert picture.width == pytest.approx(width / 25.4 * 300, abs=2)
    with style(width):
        figure = plots.figure(swept, kind, chosen)
        FigureCanvasAgg(figure).draw()
    assert overlaps(figure) == []


def test_what_does_not_fit_into_a_width_is_refused_and_fonts_are_embedded(swept, tmp_path):
    for_all = Selection(parameters="x")
    with pytest.raises(DataError, match=r"89 mm are too narrow.*give --width 149 at least"):
        plots.write(tmp_path / "a.pdf", lambda: plots.figure(swept, "curves", for_all), 89)
    plots.write(tmp_path / "a.pdf", lambda: plots.figure(swept, "curves", for_all))
    assert b"/FontFile2" in (tmp_path / "a.pdf").read_bytes()  # TrueType, in the file


def test_words_at_the_ends_of_lines_stay_within_the_panel_and_apart():
    swept = SweptAxis("n", "n", {"1": 1.0, "2": 2.0}, is_log=False, values={})
    with style():
        figure = plots.Figure()
        axis = figure.subplots()
        axis.set_ylim(0, 100)
        ends = [End(height, str(height), "black") for height in (0.0, 99.0, 1.0, 100.0, 100.0)]
        label_ends(axis, ends, swept)
        FigureCanvasAgg(figure).draw()
    heights = [text.xy[1] for text in axis.texts]
    assert heights == pytest.approx([0, 82, 9, 91, 100])
    assert overlaps(figure) == []


def test_a_table_as_a_tick_is_its_key_and_its_value():
    words = short_words(["{uniform = [5, 15]}", "{gamma = 1.0}", "normal"], "count")
    axis = SweptAxis("count", "count", {}, is_log=False, values=words, is_number=False)
    assert [*map(axis.tick, words)] == ["uniform\n[5, 15]", "gamma\n1", "normal"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["0.30000000000000004", "0.3333333333333333"], ["0.3", "0.333"]),
        (["0.30000000000000004", "0.3", "0.4"], ["0.3 #1", "0.3 #2", "0.4"]),
        (["1.00001234", "1.00002345"], ["1.00001", "1.00002"]),
        (["12345.6789", "100000", "2500000"], ["12346", "100000", "2.5e+06"]),
    ],
)
def test_swept_values_are_short_and_differ_where_they_do(values, words):
    assert list(short_words(values, "sigma").values()) == words


def test_a_number_of_units_says_in_what_they_are_counted():
    nested = {"design.levels.names": ["animal", "image"], "design.factors": ["diet", "zone"]}
    nested["design.factors.zone.of"] = "image"
    assert count_in_words("design.levels.animal.count", nested) == "units of animal per diet"
    image = count_in_words("design.levels.image.count", nested)
    assert image == "units of image per animal and zone"
    assert count_in_words("design.observations.count", nested) == "observations per image"
    crossed = {"design.levels.names": ["subject", "item"], "design.levels.item.crossed": True}
    assert count_in_words("design.levels.item.count", crossed) == "units of item"
    rows = count_in_words("design.observations.count", crossed)
    assert rows == "observations per innermost unit"
    assert count_in_words("truth.sigma", nested) == ""


def test_ticks_say_how_many_units_there_are_in_all(swept):
    figure = figure_of(swept, "power", parameters="x", methods="diagonal")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["2\n(18)", "3\n(27)", "8\n(72)"]  # of 4 + 5 animals
    assert figure.axes[0].get_xlabel() == "units of image per animal (in all)"
    cells = figure_of(swept, "heatmap", parameters="x", methods="diagonal").axes[0]
    axes = {
        cells.get_xlabel(): cells.get_xticklabels(),
        cells.get_ylabel(): cells.get_yticklabels(),
    }
    named = next(own for words, own in axes.items() if "(in" in words)
    assert {label.get_text() for label in named} == set(labels)
    assert shown_rows(swept, Selection()).units_in_all("truth.sigma") == {}


def test_colours_are_those_of_okabe_and_ito():
    # Okabe & Ito (2008), without the yellow, which is faint on white
    assert set(COLOURS[:7]) == {
        "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
    }  # fmt: skip
    assert len({(colour(n), marker(n)) for n in range(70)}) == 70


@given(st.text(st.sampled_from("abc_.,:( \n"), max_size=80), st.integers(5, 30))
def test_wrapped_names_keep_all_their_characters(text, width):
    lines = wrapped(text, width)
    assert "".join(lines.split()) == "".join(text.split())
    assert all(len(line) <= width + SLACK for line in lines.split("\n"))


def test_a_kind_that_is_none_is_answered_by_the_nearest(single):
    with pytest.raises(McsimError, match=r"no kind 'curve'\. There are: .*Did you mean 'curves'"):
        plots.figure(single, "curve", Selection())
