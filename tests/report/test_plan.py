"""The page and the figure of a plan: the answer of its file, in words, and every design tried."""

import json

import pytest

from mcsim.errors import DataError, McsimError
from mcsim.plots import kinds as plots
from mcsim.report.page import write_report
from mcsim.summary.selection import Selection
from tests.conftest import call_mcsim

KEYS = ("design.levels.animal.count", "design.levels.image.count")


def design(counts, cost, estimate, verdict, method="general"):
    ends = {"lower": estimate - 0.004, "upper": estimate + 0.004}
    found = {"design": dict(zip(KEYS, counts, strict=True)), "method": method, "cost": cost}
    return found | {"estimate": estimate, **ends, "n": 512, "theory": None, "verdict": verdict}


DESIGNS = [
    design((6, 15), 6120.0, 0.8053, "reaches"),
    design((6, 14), 5952.0, 0.7877, "does not"),
]
TOLD = {
    "study": {},
    "answer": DESIGNS[0] | {"type_1": 0.042, "mde": 0.05955, "effects": []},
    "certified": True,
    "target": [{"measure": "rejection", "parameter": "diet[T.fed]:x", "bound": 0.8}],
    "budget": None,
    "method": "general",
    "n_designs": 3306,
    "n_replicates": 22016,
    "methods": [{"method": "general", "certified": True, "answer": DESIGNS[0]}],
    "designs": DESIGNS,
}


def page_of(folder, **changed):
    (folder / "plan.json").write_text(json.dumps(TOLD | changed))
    return write_report(folder).read_text()


def test_the_page_of_a_plan_says_its_answer_and_why(tmp_path):
    page = page_of(tmp_path)
    answer = page.partition('<div class="answer">')[2].partition("</div>")[0]
    for sentence in (
        "<code>animal.count=6, image.count=15</code> reaches 80.53% (80.13 to 80.93) for 6,120:"
        ' rejection of diet[T.fed]:x at least 0.8, by <code class="whole">general</code>.',
        "Of 3,306 designs, 2 were simulated with 22,016 replicates; no cheaper one reaches the",
        "Its type I error is 4.2%; it has 80% power for an effect of 0.05955.",
    ):
        assert sentence in answer
    assert page.count("<svg") == 1
    assert "<td>5,952</td>" in page


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"answer": None}, "None of the 3,306 designs reaches the target: rejection of"),
        ({"certified": False}, "others cannot be told from it."),
    ],
)
def test_the_page_of_a_plan_without_a_sure_answer_says_so(tmp_path, changed, sentence):
    assert sentence in page_of(tmp_path, **changed)


def test_the_figure_of_a_plan_has_every_design_and_the_target(tmp_path):
    page_of(tmp_path)
    figure = plots.figure(tmp_path, "plan", Selection())
    (axis,) = figure.axes
    points = [line.get_xydata()[0] for line in axis.lines if line.get_marker() in ("o", "s")]
    assert [tuple(point) for point in points] == [(6120.0, 80.53), (5952.0, 78.77)]
    assert axis.lines[-1].get_ydata() == [80.0, 80.0]
    assert axis.texts[0].get_text() == "animal.count=6, image.count=15"
    done = call_mcsim("plot", tmp_path, "-o", tmp_path / "plan.svg", cwd=tmp_path)
    assert "(--kind plan)" in done.stderr
    assert (tmp_path / "plan.svg").read_text().startswith("<?xml")


def test_a_plan_that_has_not_ended_or_is_none_is_refused(tmp_path):
    with pytest.raises(McsimError, match="is no plan: --kind plan draws"):
        plots.figure(tmp_path, "plan", Selection())
    for text, message in (('{"study": {}}', "has not ended"), ("{", "cannot be read")):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(DataError, match=message):
            write_report(tmp_path)
