"""The figure of one data set: its values are those that mcsim simulate writes."""

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import mcsim
from mcsim.errors import DataError
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from tests.conftest import SMALL, call_mcsim

SWEPT = '\n[sweep]\n"truth.sigma" = [0.5, 1.0]\n'


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "any.toml").write_text(SMALL + SWEPT)
    scenario = load_scenario(folder / "any.toml", replicates=2)
    return study.run_study(scenario, study.RunOptions(folder / "study", n_workers=1)).directory


def test_the_lines_are_the_data_and_the_mean_is_that_of_the_truth(swept):
    data = study.replicate_data(load_scenario(swept / "scenario.toml"), 2, "sigma=1.0")
    figure = mcsim.plot(swept, "data", condition="sigma=1.0", replicate=2)
    FigureCanvasAgg(figure).draw()
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.axison}
    assert set(panels) == {f"diet {level}" for level in data["diet"].cat.categories}
    assert all(a.get_ylim()[0] < data["y"].min() for a in panels.values())  # nothing is cut
    for title, axis in panels.items():
        own = data[data["diet"] == title.removeprefix("diet ")]
        *lines, mean = axis.lines
        assert len(lines) == own.groupby(["animal", "image"], observed=True).ngroups
        drawn = sorted(float(value) for line in lines for value in line.get_ydata())
        assert drawn == pytest.approx(sorted(own["y"]))
        # 1 + 0.5 diet[T.fed] - x of SMALL
        ends = pd.Series(mean.get_ydata(), mean.get_xdata())
        assert ends.iloc[-1] - ends.iloc[0] == pytest.approx(ends.index[0] - ends.index[-1])


def test_the_covariate_is_one_of_the_study_that_varies_within_units(tmp_path):
    others = "a = { uniform = [0, 1] }\nw = { normal = [0, 1], level = 'animal' }\n"
    text = SMALL.replace("[design.covariates]\n", f"[design.covariates]\n{others}")
    (tmp_path / "any.toml").write_text(text.replace("x = -1.0", "x = -1.0\nw = 0.2"))
    scenario = load_scenario(tmp_path / "any.toml", replicates=1)
    folder = study.run_study(scenario, study.RunOptions(tmp_path / "study", n_workers=1)).directory
    axes = [axis for axis in mcsim.plot(folder, "data").axes if axis.axison]
    assert {axis.get_xlabel() for axis in axes} == {"x"}


def test_one_condition_is_to_be_named_and_the_option_is_of_this_kind(swept, tmp_path):
    with pytest.raises(DataError, match="there are 2 conditions: name one of them"):
        mcsim.plot(swept, "data")
    options = ("--condition", "sigma=0.5", "--replicate", "2", "-o", tmp_path / "a.svg")
    assert call_mcsim("plot", swept, "--kind", "data", *options, cwd=tmp_path).returncode == 0
    done = call_mcsim("plot", swept, "--kind", "bias", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "--replicate goes with --kind data, not bias" in done.stderr


def test_a_data_set_without_rows_and_a_width_that_is_no_number_are_refused(tmp_path):
    text = SMALL.replace("[truth]\n", "[truth]\nmissing = { observations = 0.999999 }\n", 1)
    (tmp_path / "any.toml").write_text(text)
    scenario = load_scenario(tmp_path / "any.toml", replicates=1)
    folder = study.run_study(scenario, study.RunOptions(tmp_path / "study", n_workers=1)).directory
    with pytest.raises(DataError, match="replicate 1 has lost all of its rows; --replicate names"):
        mcsim.plot(folder, "data")
    done = call_mcsim("plot", folder, "-o", tmp_path / "a.svg", "--width", "nan", cwd=tmp_path)
    assert done.returncode == 2
    assert "'nan' is no number" in done.stderr
