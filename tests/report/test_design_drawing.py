"""The drawing of a design: its numbers are those of the rows, nothing overlaps."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import mcsim
from mcsim.design.units import build_design
from mcsim.plots.drawing import style
from mcsim.report.design_drawing import MOST_CELLS, draw_design
from mcsim.scenario.load import load_scenario
from tests.conftest import SMALL, call_mcsim
from tests.plots.test_kinds import overlaps

KINDS = ("nested", "regions", "stepped-wedge", "cross-over", "split-plot", "subjects-items")
LONG = (
    SMALL.replace("animal", "a_level_with_a_name_that_goes_on_and_on")
    .replace('["fasted", "fed"]', '["fasted for a long while", "fed with all there is", "none"]')
    .replace("{ fasted = 4, fed = 5 }", "{ uniform = [3, 5] }")
    .replace("[T.fed]", "[T.none]")
)


def drawn(path):
    scenario = load_scenario(path)
    assert scenario.design is not None
    design = build_design(scenario.design, np.random.default_rng(1))
    with style():
        figure = draw_design(design, scenario.title, "")
        FigureCanvasAgg(figure).draw()
    return figure, design


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_design_is_drawn_and_no_words_overlap(tmp_path, kind):
    assert call_mcsim("init", "one", "--kind", kind, cwd=tmp_path).returncode == 0
    figure, design = drawn(tmp_path / "one.toml")
    assert overlaps(figure) == []
    said = " ".join(texts(figure)).replace("\n", " ")
    for level, unit in design.unit_of_row.items():
        assert f"{unit.max() + 1:,} units of {level}" in said
    assert f"{len(design.frame):,} observations" in said


def test_long_names_do_not_overlap_and_many_cells_are_counted(tmp_path):
    many = ", ".join(f'"{i}"' for i in range(9))
    (tmp_path / "long.toml").write_text(LONG)
    assert overlaps(drawn(tmp_path / "long.toml")[0]) == []
    (tmp_path / "many.toml").write_text(
        SMALL.replace('"fasted", "fed"', many).replace("{ fasted = 4, fed = 5 }", "40")
        .replace("[T.fed]", "[T.1]")
    )  # fmt: skip
    figure, _ = drawn(tmp_path / "many.toml")
    assert overlaps(figure) == []
    assert f"{9 - MOST_CELLS} more cells" in " ".join(texts(figure)).replace("\n", " ")


def test_numbers_stand_below_the_cells_and_crossed_units_are_joined(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    figure, _ = drawn(tmp_path / "small.toml")
    assert {"fasted\n4", "fed\n5"} <= set(texts(figure))
    call_mcsim("init", "crossed", "--kind", "subjects-items", cwd=tmp_path)
    figure, design = drawn(tmp_path / "crossed.toml")
    (first, second) = design.unit_of_row.values()
    joins = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len(joins) > min(first.max(), second.max())  # more than one unit's


def test_a_condition_is_named(tmp_path):
    text = SMALL + '\n[sweep]\n"design.levels.image.count" = [2, 3]\n'
    (tmp_path / "any.toml").write_text(text)
    assert call_mcsim("run", "any.toml", "-n", 1, "-o", "s", cwd=tmp_path).returncode == 0
    figure = mcsim.plot(tmp_path / "s", "design", condition="image.count=3")
    assert "27 units of image\n3 per animal" in texts(figure)
    assert any("image.count=3." in text.get_text() for text in figure.texts)
