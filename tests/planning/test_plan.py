"""Oracles: brute force over all designs by the noncentral t, costs by hand, the same plan again."""

import json
import math
import re
from itertools import product

import numpy as np
import pytest
from scipy import special, stats

from mcsim.errors import DataError
from mcsim.interface import plan as plan_of_python
from mcsim.planning.control import CONTROL, law_of, with_control
from mcsim.planning.designs import Designs, designs_of
from mcsim.planning.measured import Value, value_of
from mcsim.planning.plan import PlanOptions, as_json, make_plan
from mcsim.planning.printed import FORMATS
from mcsim.planning.screen import expected_values
from mcsim.planning.search import REACHES, Judge, best, cheapest
from mcsim.planning.sequence import radius, share_of_error
from mcsim.planning.starter import starter
from mcsim.planning.values import Bench
from mcsim.results.store import Store
from mcsim.scenario.load import load_scenario
from mcsim.scenario.plan import Goal
from mcsim.simulate.responses import draw_responses
from mcsim.study.prepared import PreparedStudy
from tests.conftest import call_mcsim

SCENARIO = """
replicates = 100
seed = 3
[design]
factors = { diet = ["fasted", "fed"] }
[[design.levels]]
name = "animal"
count = 4
[[design.levels]]
name = "image"
count = 3
[design.observations]
count = 5
[design.covariates]
x = { grid = [0.0, 1.0] }
[truth]
sigma = 0.085
[truth.fixed]
Intercept = 1.0
"diet[T.fed]:x" = 0.12
[truth.random.animal]
sd = { Intercept = 0.015, x = 0.05 }
[truth.random.image]
sd = { Intercept = 0.06, x = 0.08 }
[[methods]]
name = "general"
formula = "y ~ diet * x + (x | animal/image)"
df = ["satterthwaite", "kenward-roger"]
[[methods]]
name = "two-stage"
formula = "y ~ diet * x + (1 | animal)"
estimator = "two-stage"
"""
PLAN = """
[plan]
cost = { animal = 30, image = 5, observation = 0.2 }
target = { rejection = "diet[T.fed]:x", at_least = 0.8 }
method = "two-stage"
[plan.search]
"design.levels.animal.count" = { from = 3, to = 14 }
"design.levels.image.count" = { from = 2, to = 6 }
"design.observations.count" = [4, 8]
"""
POWER = Goal("rejection", "diet[T.fed]:x", 0.8)


def scenario_of(directory, plan=PLAN, text=SCENARIO):
    path = directory / "scenario.toml"
    path.write_text(text + plan)
    return load_scenario(path)


def power(animals, images, points):
    """The exact power of the two-stage test: a t test of the slopes of the animals."""
    x = np.linspace(0, 1, points)
    of_image = 0.08**2 + 0.085**2 / np.sum((x - 0.5) ** 2)
    se, df = math.sqrt(2 * (0.05**2 + of_image / images) / animals), 2 * animals - 2
    t = stats.t.ppf(0.975, df)
    return stats.nct.sf(t, df, 0.12 / se) + stats.nct.cdf(-t, df, 0.12 / se)


def cost(animals, images, points):
    return 2 * animals * (30 + images * (5 + 0.2 * points))


def truth_of_the_search():
    """Cost and design of all, cheapest first, that reach the target."""
    designs = product(range(3, 15), range(2, 7), (4, 8))
    return sorted((cost(*one), one) for one in designs if power(*one) >= 0.8)


def test_the_answer_is_that_of_brute_force(tmp_path):
    plan = make_plan(scenario_of(tmp_path), PlanOptions(tmp_path / "plan"))
    (price, design), *_ = truth_of_the_search()
    chosen = plan.chosen
    assert tuple(plan.designs.values(chosen.design).values()) == design
    assert plan.designs.cost[chosen.design] == pytest.approx(price)
    assert chosen.is_certified
    assert len(chosen.looks) < 25  # of 120
    for look in chosen.looks:  # all of their intervals hold with 95%
        exact = power(*plan.designs.values(look.design).values())
        low, high = look.values[POWER].lower, look.values[POWER].upper
        assert low - 1e-9 <= exact <= high + 1e-9
        assert (look.verdict == REACHES) == (exact >= 0.8)


class InterruptedHereError(Exception):
    pass


def test_a_plan_that_was_interrupted_ends_in_the_same_bytes(tmp_path):
    seen = []

    def stop(line):
        seen.append(line)
        if len(seen) == 4:
            raise InterruptedHereError

    scenario = scenario_of(tmp_path)
    with pytest.raises(InterruptedHereError):
        make_plan(scenario, PlanOptions(tmp_path / "plan", report=stop))
    lost = sorted((tmp_path / "plan").glob("*/commits/part-*"))[0]
    lost.unlink()  # as a kill between a part and its mark leaves it
    make_plan(scenario, PlanOptions(tmp_path / "plan"))
    make_plan(scenario, PlanOptions(tmp_path / "whole"))
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "plan", tmp_path / "whole")
    ]
    assert files[0] == files[1]


def test_a_folder_of_another_plan_is_refused_and_a_larger_search_goes_on(tmp_path):
    make_plan(scenario_of(tmp_path), PlanOptions(tmp_path / "plan"))
    before = {path.name for path in (tmp_path / "plan").iterdir()}
    larger = PLAN.replace("to = 6", "to = 7")
    make_plan(scenario_of(tmp_path, larger), PlanOptions(tmp_path / "plan"))
    assert before < {path.name for path in (tmp_path / "plan").iterdir()}
    fewer = PLAN.replace('"design.observations.count" = [4, 8]\n', "[plan.truth]\ndraws = 8\n")
    text = SCENARIO.replace("count = 5", "count = 4").replace("0.12", "0.13")
    scenario_of(tmp_path, fewer, text)
    done = call_mcsim("plan", "scenario.toml", "-o", "plan", cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.endswith(
        "plan holds a plan of another study; these differ:\n"
        "  design.observations.count is searched there and 4 here\n"
        "  plan.truth: the truths in whose doubt designs are tried\n"
        "  truth.fixed.diet[T.fed]:x is 0.12 there and 0.13 here\n"
        "Name another folder with -o.\n"
    )


def test_a_plan_may_be_repeated_for_other_methods_and_measures(tmp_path):
    """With the numbers that a new folder has; what was written for others is kept and used."""
    both = PLAN.replace('method = "two-stage"', 'methods = ["two-stage", "general/kenward-roger"]')
    power = '{ rejection = "diet[T.fed]:x", at_least = 0.8 }'
    wide = PLAN.replace(power, '{ ci_width = "diet[T.fed]:x", at_most = 0.21 }')
    alone = "[[methods]]".join(SCENARIO.split("[[methods]]")[::2])  # two-stage
    tables = []
    for number, (plan, text) in enumerate(
        [(PLAN, SCENARIO), (both, SCENARIO), (PLAN, SCENARIO), (PLAN, alone), (wide, SCENARIO)]
    ):
        scenario, most = scenario_of(tmp_path, plan, text), 1024
        made = make_plan(scenario, PlanOptions(tmp_path / "plan", most=most))
        new = make_plan(scenario, PlanOptions(tmp_path / str(number), most=most))
        assert as_json(made)["designs"] == as_json(new)["designs"]
        tables = sorted((tmp_path / "plan").glob("*/conditions.parquet"))
        tables[0].unlink()  # and so it is written again
    other = SCENARIO.replace('two-stage"\nformula = "y ~ diet * x', 'two-stage"\nformula = "y ~ x')
    scenario_of(tmp_path, PLAN, other)
    done = call_mcsim("plan", "scenario.toml", "-o", "plan", cwd=tmp_path)
    assert done.returncode in (2, 4)
    assert "--overwrite" not in done.stderr
    with pytest.raises(DataError, match="plan holds a plan; the folders in it are studies"):
        Store.read(tmp_path / "plan")


def test_no_share_is_told_beyond_its_ends(tmp_path):
    """Of 512 intervals of which nearly all cover: their sequence goes beyond 100%."""
    target = '{ coverage = "image.sd(x)", at_least = 0.9 }'
    plan = PLAN.replace('{ rejection = "diet[T.fed]:x", at_least = 0.8 }', target)
    plan = plan.replace('"two-stage"', '"general/satterthwaite"').replace("to = 14", "to = 4")
    made = make_plan(scenario_of(tmp_path, plan), PlanOptions(tmp_path / "plan", most=512))
    (goal,) = made.goals
    seen = [look.values[goal] for look in made.chosen.looks]
    assert all(0.0 <= one.lower <= one.estimate <= one.upper <= 1.0 for one in seen)
    assert any(one.upper == 1.0 for one in seen)
    certain = [Value(1.0001, 0.01, 512)]  # with a control, power may go beyond as well
    judge = Judge(
        (POWER,), lambda _design, _n: {POWER: certain}, lambda *_: 0.001, 512, 0.05, print
    )
    assert judge.at(0, 512, 0.05).values[POWER].estimate == 1.0


def test_an_exact_test_of_the_same_data_takes_most_of_the_error_of_power(tmp_path):
    """Of 8 animals: a fifth of the variance of counts by probabilities, 1/40 with the exact test.

    The values agree within 4 Monte Carlo errors of their difference: false in 1 of 16,000.
    """
    methods = ("general/satterthwaite", "general/kenward-roger")
    plan = PLAN.replace("from = 3, to = 14", "from = 4, to = 5").replace("[4, 8]", "[10]")
    plan = plan.replace("from = 2, to = 6", "from = 4, to = 5").replace("two-stage", methods[0])
    scenario = scenario_of(tmp_path, plan, SCENARIO.replace("x = 0.05", "x = 0.02"))
    designs = designs_of(scenario.plan, scenario)
    bench = Bench(scenario, designs, (POWER,), methods, tmp_path / "plan", 1)
    for method in methods:
        (told,) = bench.samples(0, 1024)[method, POWER]
        plain, controlled = value_of(POWER, told._replace(control=None)), value_of(POWER, told)
        counted = plain.value * (1.0 - plain.value)
        assert plain.spread**2 < counted / 5
        assert controlled.spread**2 < counted / 40
        assert abs(controlled.value - plain.value) < 4 * plain.spread / math.sqrt(1024)


UNEVEN = SCENARIO.replace("count = 3", "count = { uniform = [2, 6] }").replace(
    "x = 0.05", "x = 0.02"
)


def test_the_control_has_its_law_in_unbalanced_designs(tmp_path):
    """Mean and variance of its squared SE, in 20,000 data sets: within 4 Monte Carlo errors."""
    study = PreparedStudy(with_control(scenario_of(tmp_path, "", UNEVEN)))
    (condition,) = study.all_conditions()
    method = condition.ready[CONTROL].method
    y = draw_responses(condition.simulator, range(1, 20_001)).y
    analysis = method.analyse([method.take(y)], lambda _: np.random.default_rng())
    for block in analysis.estimates["residual"]:
        squares = block.std_error**2
        mean, variance = law_of(condition, block.parameter.name)
        found, of_squares = squares.var(), (squares - squares.mean()) ** 2
        assert abs(squares.mean() - mean) < 4 * squares.std() / math.sqrt(20_000)
        assert abs(found - variance) < 4 * of_squares.std() / math.sqrt(20_000)
    assert law_of(condition, "no such effect") is None


def test_the_control_takes_error_off_power_in_unbalanced_designs(tmp_path):
    """A quarter of the variance of counts by probabilities; with the law of the control, 1/10.

    The values agree within 4 Monte Carlo errors: false in 1 of 16,000.
    """
    methods = ("general/kenward-roger", "two-stage")
    plan = PLAN.replace("from = 3, to = 14", "from = 4, to = 5").replace("[4, 8]", "[10]")
    plan = plan.replace('"design.levels.image.count" = { from = 2, to = 6 }\n', "")
    scenario = scenario_of(tmp_path, plan, UNEVEN)
    designs = designs_of(scenario.plan, scenario)
    bench = Bench(scenario, designs, (POWER,), methods, tmp_path / "plan", 1)
    for method in methods:
        (told,) = bench.samples(0, 1024)[method, POWER]
        plain, controlled = value_of(POWER, told._replace(control=None)), value_of(POWER, told)
        counted = plain.value * (1.0 - plain.value)
        assert plain.spread**2 < counted / 4
        assert controlled.spread**2 < counted / 10
        assert abs(controlled.value - plain.value) < 4 * plain.spread / math.sqrt(1024)


def fake_values(seed):
    """Values of designs as REML has them: below the screen, with noise."""
    rng, known = np.random.default_rng(seed), {}

    def values_of(designs):
        def values(design, n):
            exact = special.ndtr(special.ndtri(power(*designs.counts[design].tolist())) - 0.15)
            draws = known.setdefault(design, rng.normal(exact, 0.05, 65_536))
            return {POWER: [Value(float(draws[:n].mean()), float(draws[:n].std()), n)]}

        return values

    return values_of


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("is_known", [True, False])
def test_the_search_finds_what_is_there_with_few_looks(tmp_path, seed, is_known):
    """One of 240 answers may be wrong at 5% each; none is, with these seeds."""
    designs = designs_of(scenario_of(tmp_path).plan, scenario_of(tmp_path))
    exact = np.array([power(*one) for one in designs.counts.tolist()])
    reached = special.ndtr(special.ndtri(exact) - 0.15) >= 0.8
    right = np.flatnonzero(reached)[np.argmin(designs.cost[reached])]
    screen = special.ndtri(exact) - special.ndtri(0.8)
    if not is_known:
        screen = np.log(designs.counts) @ [0.5, 0.25, 0.125]
    judge = Judge((POWER,), fake_values(seed)(designs), lambda *_: 0.001, 65_536, 0.05, print)
    assert cheapest(designs, screen, judge, is_known=is_known) == (right, True)
    assert len(judge.looks) < (25 if is_known else 45)


def test_the_best_for_a_budget_is_that_of_brute_force(tmp_path):
    scenario = scenario_of(tmp_path, PLAN.replace(", at_least = 0.8 }", " }\nbudget = 900"))
    designs = designs_of(scenario.plan, scenario)
    assert (designs.cost <= 900).all()
    exact = np.array([power(*one) for one in designs.counts.tolist()])
    plan = make_plan(scenario, PlanOptions(tmp_path / "plan", most=4096))
    assert exact[plan.chosen.design] > exact.max() - 0.005
    assert designs.ends == (14, 6, 8)  # of the search, most of which the budget does not buy
    assert FORMATS["table"](plan, "").count("end of the search") == 1  # observations.count=8


def test_the_best_is_told_with_some_precision_and_what_has_no_value_is_not_the_best(tmp_path):
    """One design alone: until its interval is 5 points wide. Sizes: differences of 2% count."""
    shape, keys, cost = np.array([[1], [2], [3]]), ("a",), np.array([1.0, 2.0, 3.0])
    one = Designs(keys, shape, cost, cost, 1, (3,))
    half = Goal("rejection", "x", None)

    def counted(_design, n):
        return {half: [Value(0.5, 0.5, n)]}

    judge = Judge((half,), counted, lambda *_: 0.005, 65_536, 0.05, print)
    assert best(one, shape[:, 0], judge) == (2, True)
    assert 0.03 < (told := judge.looks[2].values[half]).upper - told.lower < 0.05

    width, values = Goal("coverage", "x", None), {0: 0.9, 1: math.nan, 2: 0.95}  # each is tried

    def some(design, n):
        return {width: [Value(values[design], 0.2, n)]}

    judge = Judge((width,), some, lambda *_: 0.005, 65_536, 0.05, print)
    assert best(one, shape[:, 0], judge) == (2, True)
    assert judge.looks[1].n == 256
    values.update({0: math.nan, 2: math.nan})
    judge = Judge((width,), some, lambda *_: 0.005, 65_536, 0.05, print)
    assert best(one, shape[:, 0], judge) == (None, False)


def test_a_confidence_sequence_holds_at_all_looks():
    """Misses of 2,000 sequences at level 10%, of t variables; more than 3.5 SE above is a fault."""
    rng = np.random.default_rng(5)
    looks = 512 * 2 ** np.arange(5)
    draws = rng.standard_t(8, (2000, looks[-1]))
    misses = np.zeros(len(draws), dtype=bool)
    for n in looks.tolist():
        half = radius(n, 0.1) * draws[:, :n].std(axis=1)
        misses |= np.abs(draws[:, :n].mean(axis=1)) > half
    assert misses.mean() < 0.1 + 3.5 * math.sqrt(0.1 * 0.9 / len(draws))
    assert sum(share_of_error(0.05, number) for number in range(1, 10_000)) < 0.05


def test_costs_are_those_of_the_units(tmp_path):
    scenario = scenario_of(tmp_path)
    designs = designs_of(scenario.plan, scenario)
    expected = [cost(*one) for one in designs.counts.tolist()]
    assert designs.cost == pytest.approx(expected)
    one = PLAN.replace('"design.levels.animal.count" = { from = 3, to = 14 }\n', "")
    text = SCENARIO.replace("count = 4", "count = { fasted = 4, fed = 6 }")
    scenario = scenario_of(tmp_path, one.replace("{ animal", "{ fixed = 100, animal"), text)
    designs = designs_of(scenario.plan, scenario)
    assert designs.cost[0] == 100 + 10 * (30 + 2 * (5 + 0.2 * 4))


def test_units_that_cross_cost_once_and_are_screened_design_by_design(tmp_path):
    text = starter("subjects-items", "s").split("[[methods]]", 2)
    plan = (
        "[plan]\ncost = { subject = 10, item = 5, observation = 0.1 }\n"
        'target = { ci_width = "condition[T.b]", at_most = 2 }\n[plan.search]\n'
        '"design.levels.subject.count" = [6, 12]\n"design.levels.item.count" = [4, 8]\n'
    )
    scenario = scenario_of(tmp_path, plan, f"{text[0]}[[methods]]{text[1]}")
    designs = designs_of(scenario.plan, scenario)
    s, i = designs.counts.T
    assert designs.cost == pytest.approx(10 * s + 5 * i + 0.1 * s * i)
    goal = scenario.plan.target.goal
    width = expected_values(scenario, designs, goal, scenario.methods[0])
    made = make_plan(scenario, PlanOptions(tmp_path / "plan", most=1024))
    assert made.chosen.is_certified
    goal = made.goals[0]
    found = {look.design: look.values[goal] for look in made.chosen.looks}
    assert made.chosen.design == 1
    assert found[1].upper <= 2.0 < found[0].lower  # 6 subjects with 8 items, not with 4
    for design in range(4):
        study = PreparedStudy(designs.scenario(scenario, design))
        (condition,) = study.all_conditions()
        se = condition.at_truth["maximal"].least_squares.std_error[1]
        t = stats.t.ppf(0.975, designs.n_outermost[design] - designs.n_cells)
        assert width[design] == pytest.approx(2 * t * se)


@pytest.mark.parametrize(
    ("measure", "parameter"),
    [
        ("rejection", "diet[T.fed]:x"),
        ("ci_width", "x"),
        ("relative_se", "animal.var(x)"),
        ("relative_se", "image.sd(x)"),
    ],
)
def test_the_screen_has_the_closed_forms_of_each_design(tmp_path, measure, parameter):
    scenario = scenario_of(tmp_path)
    designs = designs_of(scenario.plan, scenario)
    goal, method = Goal(measure, parameter, 0.1), scenario.methods[0]
    found = expected_values(scenario, designs, goal, method)
    for design in (0, 57, 119):
        table = PreparedStudy(designs.scenario(scenario, design)).table.to_pylist()
        rows = {r["parameter"]: r for r in table if r["method"] == "general/satterthwaite"}
        row = rows[parameter]
        expected = row["theory_rejection"]
        if measure == "ci_width":
            expected = 2 * stats.t.ppf(0.975, row["theory_df"]) * row["theory_emp_se"]
        elif parameter == "animal.var(x)":
            expected = row["theory_emp_se"] / row["truth"]
        elif measure == "relative_se":  # by the delta method, from that of the variance
            expected = rows["image.var(x)"]["theory_emp_se"] / (2 * row["truth"] ** 2)
        rel = 0.2 if measure == "relative_se" else 1e-6  # df of strata grow in proportion only
        assert found[design] == pytest.approx(expected, rel=rel)


def test_designs_that_are_maximal_are_below_no_other():
    counts = np.random.default_rng(2).integers(1, 9, (60, 3))
    designs = Designs(("a", "b", "c"), counts, np.ones(60), np.ones(60), 1)
    some = np.arange(0, 60, 2)
    brute = [
        i
        for i in some.tolist()
        if not any((counts[j] >= counts[i]).all() and (counts[j] > counts[i]).any() for j in some)
    ]
    found = designs.maximal(some)
    assert {tuple(counts[i]) for i in found} == {tuple(counts[i]) for i in brute}


COUNTS = """
replicates = 100
seed = 3
[design]
factors = { diet = ["fasted", "fed"] }
[[design.levels]]
name = "animal"
count = 4
[design.observations]
count = 1
[truth]
family = "poisson"
[truth.fixed]
Intercept = 2.0
"diet[T.fed]" = 0.4
[[methods]]
name = "rates"
formula = "y ~ diet"
estimator = "glm"
[plan]
cost = { animal = 30 }
target = { rejection = "diet[T.fed]", at_least = 0.8 }
within = 0.02
[plan.search]
"design.levels.animal.count" = { from = 3, to = 40 }
"""


def test_a_plan_for_counts_goes_by_simulation_alone(tmp_path):
    """Of Poisson rates of 7.4 and 11.0 per animal: the difference of logs is next to normal."""
    made = make_plan(scenario_of(tmp_path, COUNTS, ""), PlanOptions(tmp_path / "plan", most=8192))
    n = np.arange(3, 41)
    se = np.sqrt((math.exp(-2.0) + math.exp(-2.4)) / n)
    right = int(n[stats.norm.sf(1.96 - 0.4 / se) >= 0.8][0])
    (found,) = made.designs.values(made.chosen.design).values()
    assert abs(found - right) <= 1
    assert len(made.chosen.looks) < 12  # of 38
    assert "Its type I error is not known, since rejections" in FORMATS["table"](made, "plan")
    assert all(one.lower >= 0.0 and one.upper <= 1.0
               for look in made.chosen.looks for one in look.values.values())  # fmt: skip


def test_a_counted_share_is_never_certain_and_what_has_no_value_is_refused(tmp_path):
    """Of 64 studies that all show an effect of 0.4 to lie below 9: Wilson's bound, not 0."""
    effect = 'name = "small"\nfixed = { "diet[T.fed]" = 1.0 }\nequivalence = [-9, 9]\n'
    text = COUNTS.replace("[plan]", f"[[estimands]]\n{effect}[plan]").replace("to = 40", "to = 5")
    power, goal = 'rejection = "diet[T.fed]", at_least = 0.8', "equivalence of small at least 0.99"
    shown = text.replace(power, 'equivalence = "small", at_least = 0.99')
    made = make_plan(scenario_of(tmp_path, shown, ""), PlanOptions(tmp_path / "plan", most=64))
    (look,) = made.chosen.looks
    (interval,) = look.values.values()
    assert (interval.estimate, look.verdict) == (1.0, "cannot be told")
    assert 0.7 < interval.lower < 0.99
    told = FORMATS["table"](made, "plan")
    assert f"None of the 3 designs is known to reach {goal}: 1 cannot be told" in told
    scenario = scenario_of(tmp_path, text.replace(power, 'mde = "diet[T.fed]", at_most = 1'), "")
    with pytest.raises(DataError, match="no value by method 'rates': it is known where effects"):
        make_plan(scenario, PlanOptions(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        ("coverage", "that takes an interval, and a truth that it can hold"),
        ("relative_se", "nothing is relative to a truth of 0; take rmse"),
    ],
)
def test_what_has_no_value_where_an_sd_is_0_is_refused(tmp_path, goal, reason):
    """In one of two truths; by method twice, which is once."""
    bound = "at_least = 0.8" if goal == "coverage" else "at_most = 0.8"
    method = 'method = "general/satterthwaite"\nmethods = ["general/satterthwaite"]'
    wanted = f'{goal} = "animal.sd(x)", {bound}'
    plan = PLAN.replace('rejection = "diet[T.fed]:x", at_least = 0.8', wanted)
    plan = plan.replace('method = "two-stage"', method).replace("to = 14", "to = 3")
    plan += '[plan.truth]\nrange = { "truth.random.animal.sd.x" = [0.05, 0.0] }\n'
    scenario = scenario_of(tmp_path, plan)
    assert scenario.plan.all_methods == ("general/satterthwaite",)
    with pytest.raises(DataError, match=reason):
        make_plan(scenario, PlanOptions(tmp_path / "plan", most=64))


VALUES = "{ values = [0.0, 0.2, 0.5, 1.0] }"
MISTAKES = {
    "level without a cost": (
        ("image = 5, ", ""),
        "scenario.toml:35:1: 'image' is searched and has no cost; add it, 0 if none",
    ),
    "cost of nothing": (("image = 5", "imgae = 5"), "'imgae' costs nothing here. There are: "),
    "one design": (
        (PLAN[PLAN.index("[plan.search]") :], '[plan.search]\n"design.observations.count" = [4]\n'),
        "this is a search of one design; give a key several counts",
    ),
    "what is no count": (
        ('"design.observations.count"', '"truth.sigma"'),
        "'truth.sigma' cannot be searched; counts can: design.levels.animal.count, ",
    ),
    "range upside down": (("{ from = 2, to = 6 }", "{ from = 6, to = 2 }"), "counts in ascending"),
    "counts that the design cannot have": (
        ("[plan]", "[plan]  # x = values\n"),
        "with design.observations.count = 8: ",
    ),
    "designs that are too large": (
        ("to = 14 }", "to = 100000, step = 99997 }"),
        "a data set has up to 3,000,000 rows; at most 2,000,000: lower the counts",
    ),
    "counts that a method cannot have": (
        (
            PLAN[PLAN.index('"two-stage"') : PLAN.index(", to = 6")],
            '"general/satterthwaite"\n[plan.search]\n"design.levels.image.count" = { from = 1',
        ),
        "goes on, and says nothing of them. Or let plan.search begin with more units",
    ),
    "no target": (
        ('target = { rejection = "diet[T.fed]:x", at_least = 0.8 }\n', ""),
        "a plan needs a target, such as target = { rejection",
    ),
    "wrong bound": (("at_least = 0.8", "at_most = 0.8"), "'rejection' has the bound `at_least`"),
    "no bound": ((", at_least = 0.8", ""), "a target needs a bound: add at_least"),
    "a share of 80": (("at_least = 0.8", "at_least = 80"), "is a share: `at_least` is below 1"),
    "two measures": (("at_least", 'rmse = "x", at_least'), "a target has one measure, here 2"),
    "unknown method": (
        ('method = "two-stage"', 'method = "two-stages"'),
        "unknown method 'two-stages'. There are: general/satterthwaite, general/kenward-roger,",
    ),
    "unknown parameter": (
        ('"diet[T.fed]:x"', '"diet:x"'),
        "plan.target: method 'two-stage' reports no 'diet:x'. It has: Intercept, ",
    ),
    "no test": (
        (
            '"diet[T.fed]:x", at_least = 0.8 }\nmethod = "two-stage"',
            '"animal.sd(x)", at_least = 0.8 }',
        ),
        "plan.target: 'animal.sd(x)' is not tested, so that it has no rejection; take relative_se",
    ),
    "no effect": (('"diet[T.fed]:x", at', '"diet[T.fed]", at'), "its truth is 0, so that tests"),
    "too little money": (("method =", "budget = 10\nmethod ="), "buys no design; the cheapest"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_bad_question_is_refused_and_nothing_written(tmp_path, change, message):
    assert change[0] in PLAN
    text = SCENARIO.replace("count = 5", "count = 4").replace("{ grid = [0.0, 1.0] }", VALUES)
    scenario = text if "x = values" in change[1] else SCENARIO
    (tmp_path / "scenario.toml").write_text(scenario + PLAN.replace(*change))
    for options in ((), ("--dry-run",)):
        done = call_mcsim("plan", "scenario.toml", *options, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.toml"]


def test_a_scenario_without_a_plan_and_a_plan_with_a_sweep_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"the scenario has no \[plan\]: add cost"):
        make_plan(scenario_of(tmp_path, ""), PlanOptions(tmp_path / "plan"))
    sweep = PLAN + '[sweep]\n"truth.sigma" = [0.1, 0.2]\n'
    (tmp_path / "scenario.toml").write_text(SCENARIO + sweep)
    done = call_mcsim("plan", "scenario.toml", cwd=tmp_path)
    assert "leave [sweep] out" in done.stderr


def test_a_run_takes_no_notice_of_a_plan(tmp_path):
    with_plan = PreparedStudy(scenario_of(tmp_path)).identity
    assert with_plan == PreparedStudy(scenario_of(tmp_path, "")).identity


def test_the_command_prints_the_answer_in_all_formats(tmp_path):
    small = PLAN.replace("to = 14", "to = 9").replace("[4, 8]", "[8]")
    methods = 'methods = ["general/kenward-roger", "two-stage"]\neffects = [0.2]\nwithin = 0.02'
    small = small.replace('method = "two-stage"', methods)
    (tmp_path / "scenario.toml").write_text(SCENARIO + small)
    command = ("plan", "scenario.toml", "--max-replicates", 1024)
    done = call_mcsim(*command, "--dry-run", cwd=tmp_path)
    assert done.stdout.startswith("35 designs, from 259.2 to 1,252.8, for rejection")
    assert not (tmp_path / "results").exists()
    told = json.loads(call_mcsim(*command, "--format", "json", cwd=tmp_path).stdout)
    assert {one["method"] for one in told["methods"]} == {"general/kenward-roger", "two-stage"}
    answer = told["answer"]
    assert answer["lower"] > 0.8
    assert answer["cost"] == min(
        one["answer"]["cost"] for one in told["methods"] if one["answer"] is not None
    )
    assert 0 < answer["type_1"] < 0.07
    assert answer["effects"][0]["rejection"] > 0.99
    page = call_mcsim(*command, cwd=tmp_path).stdout
    assert f"for {answer['cost']:,.10g}: rejection of diet[T.fed]:x at least 0.8, by" in page
    found = plan_of_python(tmp_path / "scenario.toml", tmp_path / "results" / "scenario-plan",
                           max_replicates=1024, report=lambda line: None)  # fmt: skip
    assert (found.answer, str(found)) == (answer, page.replace("results/", f"{tmp_path}/results/"))
    assert len(found.designs) == len(told["designs"])
    latex = call_mcsim(*command, "--format", "latex", cwd=tmp_path).stdout
    before, table, after = re.split(r"(?<=\n)(?=\\begin)|(?<=tabular})\n", latex)
    assert r"\toprule" in table
    assert all(line.startswith("% ") for line in (before + after).split("\n") if line)
    table = call_mcsim(*command, "--format", "csv", cwd=tmp_path).stdout.splitlines()
    assert table[0].startswith("design.levels.animal.count,design.levels.image.count,")
    assert len(table) == 1 + len(told["designs"])


def test_a_truth_that_is_not_normal_is_counted(tmp_path):
    level = "[truth.random.image]"
    text = SCENARIO.replace(level, f"{level}\ndistribution = {{ t = 4 }}")
    plan = PLAN.replace("at_least = 0.8", "at_least = 0.5").replace("to = 14", "to = 5")
    second = "[[plan.targets]]\nci_width = 'x'\nat_most = 0.4\n[plan.search]"
    plan = plan.replace("[plan.search]", second)
    made = make_plan(scenario_of(tmp_path, plan, text), PlanOptions(tmp_path / "plan", most=512))
    assert made.chosen.looks
    spread = [one.values[made.goals[0]] for one in made.chosen.looks]
    assert all(0 <= one.estimate <= 1 and one.n == 512 for one in spread)
    assert made.details == {}


def test_the_answer_says_where_its_design_is_one_draw_of_many(tmp_path):
    search = """
[plan]
cost = { animal = 30 }
target = { rejection = "diet[T.fed]:x", at_least = 0.01 }
method = "two-stage"
[plan.search]
"design.levels.animal.count" = [4, 5]
"""
    text = SCENARIO.replace("[design]", "[design]\nredraw = true")
    text = text.replace("count = 3", "count = { uniform = [2, 4] }")
    text = text.replace("[truth]", "[truth]\nmissing = { observations = 0.6 }", 1)
    text = re.sub(r'(?s)\[\[methods\]\]\nname = "general".*?(?=\[\[)', "", text)
    made = make_plan(scenario_of(tmp_path, search, text), PlanOptions(tmp_path / "plan", most=256))
    words = as_json(made)["answer"]["in_words"]
    assert "for a cost of 240 (one draw; every simulated study has its own). Analysed" in words
    failed = 1.0 - made.chosen.looks[0].n / 256  # regressions of an animal that has too few rows
    assert failed > 0.02
    assert f"{100 * failed:.1f}% of all studies that were simulated this analysis was not" in words


@pytest.mark.parametrize(("estimator", "is_said"), [("ols", True), ("two-stage", False)])
def test_the_answer_says_where_its_test_does_not_hold_its_level(tmp_path, estimator, is_said):
    search = """
[plan]
cost = { animal = 30 }
target = { rejection = "diet[T.fed]", at_least = 0.01 }
method = "rows"
[plan.search]
"design.levels.animal.count" = [4, 5]
"""
    text = re.sub(r'(?s)\[\[methods\]\]\nname = "general".*?(?=\[\[)', "", SCENARIO)
    text = text.replace("Intercept = 0.015", "Intercept = 0.15")
    text += f"""
[[methods]]
name = "rows"
formula = "y ~ diet * x{" + (1 | animal)" * (not is_said)}"
estimator = "{estimator}"
"""
    options = PlanOptions(tmp_path / "plan", most=256)
    answer = as_json(make_plan(scenario_of(tmp_path, search, text), options))["answer"]
    assert (answer["type_1"] > 0.075) == is_said
    said = f"this test rejects in {100 * answer['type_1']:.1f}%, not in 5%"
    assert (said in answer["in_words"]) == is_said


CODINGS = """
replicates = 100
seed = 3
[design]
factors = { g = ["a", "b"] }
[[design.levels]]
name = "animal"
count = 4
[design.observations]
count = 6
[design.covariates]
x = { grid = [0, 10] }
[truth]
sigma = 0.5
fixed = { Intercept = 2, x = 0.3, "g[T.b]" = 0.5, "g[T.b]:x" = 0.1 }
[truth.random.animal]
sd = { Intercept = 0.5, x = 0.1 }
[[methods]]
name = "shifted"
formula = "y ~ g * I(x - 5) + (x | animal)"
[[methods]]
name = "stated"
formula = "y ~ g * x + (x | animal)"
[plan]
cost = { animal = 1 }
target = { rejection = "g[T.b]", at_least = 0.5 }
method = "shifted"
[plan.search]
"design.levels.animal.count" = [6, 8]
"""
ONE, BOTH = 'method = "shifted"', 'methods = ["stated", "shifted"]'
SHIFTED = '{ Intercept = 3.5, "I(x - 5)" = 0.3, "g[T.b]" = 1.0, "g[T.b]:I(x - 5)" = 0.1 }'


def test_an_effect_in_another_coding_is_as_large_as_it_is_there(tmp_path):
    scenario = scenario_of(tmp_path, CODINGS, "")
    designs = designs_of(scenario.plan, scenario)
    goal, shifted = scenario.plan.target.goal, scenario.methods[0]
    found = expected_values(scenario, designs, goal, shifted)
    stated = re.sub(r"fixed = .*", f"fixed = {SHIFTED}", CODINGS)  # the same mean
    stated = (
        stated[: stated.index('[[methods]]\nname = "stated"')] + stated[stated.index("[plan]") :]
    )
    same = scenario_of(tmp_path, stated, "")
    assert found == pytest.approx(expected_values(same, designs, goal, shifted), rel=1e-9)
    made = make_plan(scenario, PlanOptions(tmp_path / "out", most=256))
    assert "the power to detect g[T.b] = 1 at the 5% level" in FORMATS["table"](made, "out")
    both = scenario_of(tmp_path, CODINGS.replace(ONE, BOTH), "")
    message = r"'g\[T.b\]' is 1 by method 'shifted' and 0.5 by 'stated', so that no design is"
    with pytest.raises(DataError, match=message):
        make_plan(both, PlanOptions(tmp_path / "both"))
    assert not (tmp_path / "both").exists()
