"""Plans for truths in doubt, against exact powers and the distribution of a pilot's estimates."""

import math

import numpy as np
import pytest
from scipy import stats

from mcsim.errors import DataError
from mcsim.planning.plan import PlanOptions, as_json, make_plan
from mcsim.planning.printed import FORMATS
from mcsim.planning.starter import starter
from mcsim.planning.truths import truths_of
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.estimates import read_results
from tests.conftest import call_mcsim
from tests.planning.test_plan import PLAN, SCENARIO, cost, scenario_of

SEARCH = "[plan.search]"
DRAWS = PLAN.replace(SEARCH, f"[plan.truth]\ndraws = 32\n{SEARCH}")
RANGE = PLAN.replace(
    SEARCH, f'[plan.truth.range]\n"truth.random.animal.sd.x" = [0.04, 0.06]\n{SEARCH}'
)


def power(counts, animal, image, sigma):
    """Exact, of the t test of the slopes of the animals."""
    animals, images, points = counts
    x = np.linspace(0, 1, points)
    of_image = image**2 + sigma**2 / np.sum((x - 0.5) ** 2)
    se, df = math.sqrt(2 * (animal**2 + of_image / images) / animals), 2 * animals - 2
    t = stats.t.ppf(0.975, df)
    return stats.nct.sf(t, df, 0.12 / se) + stats.nct.cdf(-t, df, 0.12 / se)


def test_the_worst_of_a_range_decides(tmp_path):
    made = make_plan(scenario_of(tmp_path, RANGE), PlanOptions(tmp_path / "plan"))
    designs = made.designs.counts.tolist()
    exact = [power(one, 0.06, 0.08, 0.085) for one in designs]
    right = min(cost(*one) for one, own in zip(designs, exact, strict=True) if own >= 0.8)
    assert made.designs.cost[made.chosen.design] == right
    assert made.chosen.is_certified
    assert made.details["truths"] == {"n": 2, "worst": {"truth.random.animal.sd.x": 0.06}}
    page = FORMATS["table"](made, "plan")
    assert "The worst truth is truth.random.animal.sd.x = 0.06." in page
    assert "That is for the worst of 2 truths. No cheaper one of 120 designs does as well." in page


def test_values_are_averages_over_what_a_pilot_leaves_open(tmp_path):
    scenario = scenario_of(tmp_path, DRAWS)
    truths = list(truths_of(scenario).sweep["truth"])
    assert len(truths) == 33
    assert truths[0]["random"]["animal"]["sd"] == {"Intercept": 0.015, "x": 0.05}
    of_truths = [
        (one["random"]["animal"]["sd"]["x"], one["random"]["image"]["sd"]["x"], one["sigma"])
        for one in truths
    ]
    made = make_plan(scenario, PlanOptions(tmp_path / "plan"))
    (goal,) = made.goals
    for look in made.chosen.looks:  # all intervals hold with 95%
        counts = tuple(made.designs.values(look.design).values())
        exact = [power(counts, *one) for one in of_truths]
        assert look.values[goal].lower <= np.mean(exact[1:]) <= look.values[goal].upper
    counts = tuple(made.designs.values(made.chosen.design).values())
    exact = [power(counts, *one) for one in of_truths]
    told = as_json(made)["answer"]
    assert told["theory"] is None
    assert told["truths"]["stated"] == pytest.approx(exact[0], abs=0.02)
    assert told["truths"]["low"] == pytest.approx(np.quantile(exact[1:], 0.1), abs=0.05)
    assert "It is the average over 32 truths that a pilot study leaves open" in told["in_words"]


ONE_LEVEL = """
replicates = 10
seed = 5
[design]
[[design.levels]]
name = "animal"
count = 9
[design.observations]
count = 4
[truth]
sigma = 0.1
[truth.fixed]
Intercept = 1.0
[truth.random.animal]
sd = { Intercept = 0.2 }
[[methods]]
name = "fitted"
formula = "y ~ 1 + (1 | animal)"
[plan]
cost = { animal = 1 }
target = { ci_width = "Intercept", at_most = 0.2 }
[plan.truth]
draws = 1024
[plan.search]
"design.levels.animal.count" = [9, 18]
"""


def test_a_truth_is_drawn_from_the_inverse_of_its_estimate(tmp_path):
    """The mean square of 9 animals, with 8 df, and the residual one, with 27, as in ANOVA."""
    drawn = truths_of(scenario_of(tmp_path, ONE_LEVEL, "")).sweep["truth"][1:]
    sd = np.array([one["random"]["animal"]["sd"]["Intercept"] for one in drawn])
    sigma = np.array([one["sigma"] for one in drawn])
    shares = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    between = np.quantile(sd**2 + sigma**2 / 4, shares)
    expected = (0.2**2 + 0.1**2 / 4) * 8 / stats.chi2.ppf(1 - shares, 8)
    assert between == pytest.approx(expected, rel=0.02)
    within = np.quantile(sigma**2, shares)
    assert within == pytest.approx(0.1**2 * 27 / stats.chi2.ppf(1 - shares, 27), rel=0.02)
    assert abs(np.corrcoef(sigma, sd**2 + sigma**2 / 4)[0, 1]) < 0.03


MISTAKES = {
    "both": ("draws = 32", 'draws = 32\nrange = { "truth.sigma" = [0.1] }', "one of them"),
    "none": ("draws = 32\n", "", "doubt of the truth is told by `draws` or by `range`"),
    "few": ("draws = 32", "draws = 3", "it must be a whole number from 8 to 1,024"),
    "pilot data": ("draws = 32", 'from = "pilot.csv"', "unknown key 'from'"),
    "no truth": ("draws = 32", 'range = { "design.x" = [1] }', "'design.x' is no key of the truth"),
    "a key of nothing": ("draws = 32", 'range = { "truth.sigm" = [0.1, 0.2] }', "truth.sigm"),
    "a relative size": (
        '{ rejection = "diet[T.fed]:x", at_least = 0.8 }',
        '{ relative_se = "animal.sd(x)", at_most = 0.4 }',
        "a truth that is drawn may be 0",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_doubt_that_cannot_be_is_refused(tmp_path, old, new, message):
    assert old in DRAWS
    (tmp_path / "scenario.toml").write_text(SCENARIO + DRAWS.replace(old, new))
    done = call_mcsim("plan", "scenario.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.toml"]


def test_a_pilot_that_says_nothing_is_refused(tmp_path):
    few = SCENARIO.replace("count = 4", "count = 1")
    with pytest.raises(
        DataError, match="a pilot with 0 degrees of freedom between units of animal"
    ):
        make_plan(scenario_of(tmp_path, DRAWS, few), PlanOptions(tmp_path / "plan"))
    assert not (tmp_path / "plan").exists()
    crossed = starter("subjects-items", "s")
    plan = (
        "[plan]\ncost = { subject = 10 }\ntarget = { ci_width = 'condition[T.b]', at_most = 1 }\n"
        "[plan.truth]\ndraws = 8\n[plan.search]\n'design.levels.subject.count' = [6, 12]\n"
    )
    with pytest.raises(DataError, match="it is for nested levels"):
        make_plan(scenario_of(tmp_path, plan, crossed), PlanOptions(tmp_path / "plan"))


def test_a_condition_has_the_numbers_that_it_has_alone(tmp_path):
    """Fits of conditions that differ in the truth go together."""
    few = SCENARIO.replace("replicates = 100", "replicates = 20")
    sweep = '[sweep]\n"truth.sigma" = {}\n'

    def estimates(name, values):
        path = tmp_path / f"{name}.toml"
        path.write_text(few + sweep.format(values))
        store = run_study(load_scenario(path), RunOptions(tmp_path / name, 1))
        return {
            (row["condition"], row["method"], row["parameter"]): numbers
            for row, numbers in _rows(store.directory)
        }

    alone, together = estimates("alone", [0.1]), estimates("together", [0.05, 0.1])
    assert len(together) == 2 * len(alone)
    for key, numbers in alone.items():
        np.testing.assert_array_equal(numbers, together[key])


def _rows(directory):
    from mcsim.results.folder import STATUSES, read_conditions

    conditions = read_conditions(directory)
    keys = conditions.to_pylist()
    for rows, results in read_results(directory, conditions, STATUSES[:2]):
        for row in rows:
            yield keys[row], results.numbered(row)[1]
