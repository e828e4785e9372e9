"""Every kind of figure, and the page, of many shapes of a study: all are drawn, or refused."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import mcsim
from mcsim.errors import DataError
from mcsim.plots import kinds as plots
from mcsim.report.page import page
from mcsim.scenario.estimators import ESTIMATOR_FACTS, PLUGIN
from mcsim.scenario.families import GAUSSIAN
from mcsim.summary.selection import Selection, shown_rows
from tests.conftest import SMALL
from tests.plots.test_kinds import figure_of, overlaps, panel_of, run

NEEDS_MORE = ("nlme", "lme4", PLUGIN)  # R, or a file
FORMULAS = {
    "ols": "y ~ diet * x",
    "ols-cluster": "y ~ diet * x + (1 | animal)",
    "gee": "y ~ diet * x + (1 | animal)",
    "image-means": "y ~ diet + (1 | image)",
}
METHODS = "".join(
    f"""
[[methods]]
name = "{one}"
estimator = "{one}"
formula = "{FORMULAS.get(one, "y ~ diet * x + (x | animal)")}"
"""
    for one, facts in ESTIMATOR_FACTS.items()
    if one not in NEEDS_MORE and GAUSSIAN in facts.families
)
STUDY = SMALL[: SMALL.index("[[methods]]")] + METHODS
NO_SPREAD_OF_ANIMALS = "0.0, x = 0.0 }"
AT_ZERO = STUDY.replace("0.6, x = 0.4 }\ncorrelation = 0.3", NO_SPREAD_OF_ANIMALS)
AT_ZERO = AT_ZERO.replace("0.25", "0.0")
LONG = STUDY.replace("animal", "a_level_with_a_name_that_goes_on_and_on").replace(
    'name = "ols-cluster"', f'name = "{"cluster-robust-" * 6}"'
)
SWEEPS = {
    1: "",
    2: '"truth.sigma" = [0.5, 1.0]',
    12: '"design.levels.image.count" = [2, 3]\n"truth.sigma" = [0.5, 1.0, 2.0]\n'
    '"truth.fixed.x" = [0, 1]',
    60: f'"truth.sigma" = {[0.1 * n for n in range(1, 16)]}\n"truth.fixed.x" = [0, 1, 2, 3]',
}
OF_ONE_KEY, NO_EFFECT = "one key is swept", "no effect is other than 0"
NO_SWEEP, NO_SPREAD, TOO_MUCH = "one condition, and nothing swept", "no row has emp_se", "too much"


def study_of(folder, text, n_conditions, n):
    sweep = f"\n[sweep]\n{SWEEPS[n_conditions]}\n" if SWEEPS[n_conditions] else ""
    return run(folder, text + sweep, n)


def check(directory, kinds, allowed):
    """Draw what there is to be drawn; whatever is refused is so for an allowed reason."""
    for kind in kinds:
        try:
            figure = figure_of(directory, kind)
        except DataError as error:
            assert any(one in str(error) for one in allowed), (kind, str(error))  # noqa: PT017
        else:
            assert overlaps(figure) == [], kind
    first = shown_rows(directory, Selection()).places[0] or "*"
    for kind in ("data", "design"):
        figure = mcsim.plot(directory, kind, condition=first)
        FigureCanvasAgg(figure).draw()
        assert overlaps(figure) == [], kind
    assert "</html>" in page(directory)


def test_methods_that_lack_parameters_have_figures_of_twelve_conditions(tmp_path):
    directory = study_of(tmp_path, STUDY, 12, 3)
    check(directory, ("se", "bias", "nested-loop"), [])
    sds = panel_of(figure_of(directory, "se"), "animal.sd(x)")
    assert 1 <= len(sds.containers) < 8  # of 8 methods, those that estimate it


@pytest.mark.slow
@pytest.mark.parametrize("n_conditions", SWEEPS)
@pytest.mark.parametrize("text", [STUDY, AT_ZERO, LONG], ids=["usual", "at zero", "long names"])
@pytest.mark.parametrize("n", [1, 3])
def test_every_kind_of_figure_and_the_page_are_drawn(tmp_path, text, n_conditions, n):
    allowed = [NO_SWEEP, OF_ONE_KEY, NO_EFFECT] if n_conditions <= 2 else []
    allowed += [NO_SPREAD] * (n == 1)
    allowed += [TOO_MUCH] * (n_conditions > 2)
    check(study_of(tmp_path, text, n_conditions, n), plots.KINDS, allowed)
