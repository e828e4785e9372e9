"""Plans for truths in doubt, against exact powers and the distribution of a pilot's estimates."""

import hashlib
import json
import math

import numpy as np
import pytest
from scipy import stats

from mcsim.errors import DataError, StudyMismatchError
from mcsim.planning.pilot import pilot_of, with_estimates
from mcsim.planning.plan import PlanOptions, as_json, make_plan
from mcsim.planning.printed import FORMATS
from mcsim.planning.starter import starter, starter_from_data
from mcsim.planning.truths import truths_of
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, replicate_data, run_study
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
        low, high = look.values[goal].lower, look.values[goal].upper
        assert low - 1e-9 <= np.mean(exact[1:]) <= high + 1e-9
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
    "both": (
        "draws = 32",
        'draws = 32\nrange = { "truth.sigma" = [0.1] }',
        "doubt of the truth is told by `from`, `draws` or both, or by `range`",
    ),
    "none": ("draws = 32\n", "", "doubt of the truth is told by `from`"),
    "few": ("draws = 32", "draws = 3", "it must be a whole number from 8 to 1,024"),
    "no pilot": ("draws = 32", 'from = "pilot.csv"', "there is no file "),
    "no column": ("draws = 32", 'from = "scenario.txt"', "scenario.txt has no column 'y'"),
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
    (tmp_path / "scenario.txt").write_text("animal,x\n1,2\n")
    done = call_mcsim("plan", "scenario.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scenario.toml", "scenario.txt"}


FROM = DRAWS.replace("draws = 32", 'from = "data/pilot.csv"\ndraws = 32')
FORMULA = "y ~ diet * x + (x | animal/image)"


def write_pilot(tmp_path, chosen=slice(None)):
    """A table of 4 animals per diet, with SDs that no scenario here states."""
    own = SCENARIO.replace("count = 3", "count = 4").replace("0.085", "0.1")
    (tmp_path / "data").mkdir(exist_ok=True)
    frame = replicate_data(scenario_of(tmp_path / "data", "", own), 1, None)
    frame[chosen].to_csv(tmp_path / "data" / "pilot.csv", index=False)
    return frame


def test_truths_of_a_table_are_those_of_its_design_and_estimates(tmp_path):
    """As `init` writes them, whose counts are those of the balanced table."""
    write_pilot(tmp_path)
    scenario = scenario_of(tmp_path, FROM)
    pilot = pilot_of(scenario)
    found = truths_of(with_estimates(scenario, pilot), pilot).sweep["truth"]
    made = starter_from_data(tmp_path / "data" / "pilot.csv", FORMULA, "s").text
    assert '# from = "' in made
    path = tmp_path / "started.toml"
    path.write_text(made.replace("# [plan.truth]", "[plan.truth]\ndraws = 32"))
    expected = truths_of(load_scenario(path, seed=3)).sweep["truth"]
    assert len(found) == len(expected) == 33
    for one, own in zip(found, expected, strict=True):
        assert one["random"] == own["random"]
        assert one["sigma"] == own["sigma"]
        assert one["fixed"] == {"Intercept": 1.0, "diet[T.fed]:x": 0.12}  # as is stated


def test_rows_that_are_lost_and_a_group_that_is_not_there_say_less(tmp_path):
    """Of one diet alone there are 3 degrees of freedom between animals, of two 6."""
    n_rows = len(write_pilot(tmp_path))
    spread = []
    for chosen in (slice(None), slice(n_rows // 2)):
        write_pilot(tmp_path, chosen)
        scenario = scenario_of(tmp_path, FROM.replace("draws = 32", "draws = 256"))
        pilot = pilot_of(scenario)
        truths = truths_of(with_estimates(scenario, pilot), pilot).sweep["truth"]
        variances = np.array([one["random"]["image"]["sd"]["x"] ** 2 for one in truths[1:]])
        spread.append(np.subtract(*np.quantile(np.log(variances + 1e-4), [0.9, 0.1])))
    assert spread[1] > 1.2 * spread[0]


def test_a_plan_keeps_its_pilot_and_a_run_knows_nothing_of_it(tmp_path):
    write_pilot(tmp_path)
    few = FROM.replace("draws = 32", "draws = 8").replace("to = 14", "to = 4")
    scenario = scenario_of(tmp_path, few)
    made = make_plan(scenario, PlanOptions(tmp_path / "plan", most=16))
    told = json.loads((tmp_path / "plan" / "plan.json").read_bytes())
    content = (tmp_path / "data" / "pilot.csv").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert told["study"]["plan.truth.from (SHA-256)"] == digest
    assert (tmp_path / "plan" / "tables" / "pilot.csv").read_bytes() == content
    assert not [*(tmp_path / "plan").glob("*/tables")]
    assert made.has_truths
    write_pilot(tmp_path, slice(10, None))
    with pytest.raises(StudyMismatchError, match=r"plan.truth.from \(SHA-256\) is"):
        make_plan(load_scenario(tmp_path / "scenario.toml"), PlanOptions(tmp_path / "plan"))
    folders = [tmp_path / "with", tmp_path / "without"]
    for folder, plan in zip(folders, (few, ""), strict=True):
        short = SCENARIO.replace("replicates = 100", "replicates = 2")
        run_study(scenario_of(tmp_path, plan, short), RunOptions(folder, 1))
    estimates = [[*folder.glob("estimates/*")] for folder in folders]
    assert estimates[0][0].name == estimates[1][0].name
    assert load_scenario(folders[0] / "scenario.toml").tables.keys() == {"pilot.csv"}


def test_a_table_that_no_method_can_be_fitted_to_is_refused(tmp_path):
    write_pilot(tmp_path)
    ols = SCENARIO.replace('df = ["satterthwaite", "kenward-roger"]', 'estimator = "two-stage"')
    ols = ols.replace("(x | animal/image)", "(1 | animal)")
    with pytest.raises(DataError, match="no method has a formula to fit to the pilot's table"):
        make_plan(scenario_of(tmp_path, FROM, ols), PlanOptions(tmp_path / "plan"))
    write_pilot(tmp_path, slice(5))
    with pytest.raises(DataError, match=r"^plan.truth.from: "):
        make_plan(scenario_of(tmp_path, FROM), PlanOptions(tmp_path / "plan"))
    assert not (tmp_path / "plan").exists()


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
