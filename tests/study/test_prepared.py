"""A study is prepared once: its conditions expanded, designs that are the same made once."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import mcsim
from mcsim.errors import DataError
from mcsim.planning.dry_run import describe_plan
from mcsim.scenario import conditions as module
from mcsim.scenario.load import load_scenario
from mcsim.study import prepared
from mcsim.study.prepared import PreparedStudy, prepare_condition
from mcsim.study.run import RunOptions, replicate_data, run_study
from mcsim.study.stopping import run_until_precise

SWEEP = 'sweep={"truth.sigma"=[0.1, 0.2, 0.3], "design.levels.animal.count"=[4, 5]}'
DRAWN = ("design.covariates.x={uniform=[0, 1]}", 'sweep={"truth.sigma"=[0.1, 0.2]}')


@pytest.fixture
def calls(monkeypatch):
    """Scenarios that were expanded into conditions."""
    found = []

    def expand(scenario):
        found.append(scenario)
        return module.conditions(scenario)

    monkeypatch.setattr(prepared, "conditions", expand)
    return found


WAYS = {
    "run": lambda scenario, folder: run_study(scenario, RunOptions(folder / "out", n_workers=1)),
    "in workers": lambda scenario, folder: run_study(
        scenario, RunOptions(folder / "out", n_workers=2)
    ),
    "until precise": lambda scenario, folder: run_until_precise(
        scenario.model_copy(update={"target_mcse": {"bias": 1e-9}, "replicates": 300}),
        RunOptions(folder / "out", n_workers=1),
    ),
    "dry run": lambda scenario, folder: describe_plan(
        scenario, RunOptions(folder / "out", n_workers=1), {"bias": 0.1}
    ),
    "simulate": lambda scenario, folder: replicate_data(scenario, 1, "sigma=0.1, animal.count=4"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_conditions_of_a_scenario_are_expanded_once(small_scenario, tmp_path, calls, way):
    scenario = load_scenario(small_scenario, overrides=[SWEEP], replicates=3)
    WAYS[way](scenario, tmp_path)
    assert len(calls) == 1


def test_nobody_else_expands_conditions():
    package = Path(mcsim.__file__).parent
    files = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bconditions\(scenario\)", path.read_text())
    }
    of_one = {"report/protocol.py", "planning/answer.py", "planning/truths.py"}
    assert files - of_one == {"study/prepared.py"}


def test_conditions_with_the_same_design_share_it_and_its_methods(small_scenario):
    study = PreparedStudy(load_scenario(small_scenario, overrides=[SWEEP]))
    by_count = {}
    for one in study.all_conditions():
        by_count.setdefault(one.condition.design.levels[0].count, []).append(one)
    assert {len(found) for found in by_count.values()} == {3}
    for first, *others in by_count.values():
        for one in others:
            assert one.simulator.design is first.simulator.design
            assert one.ready is first.ready
    (four, *_), (five, *_) = by_count.values()
    assert four.simulator.design is not five.simulator.design


def test_a_shared_design_gives_the_simulator_of_one_that_was_made_alone(small_scenario):
    scenario = load_scenario(small_scenario, overrides=[SWEEP])
    for shared in PreparedStudy(scenario).all_conditions():
        alone = prepare_condition(scenario, shared.condition)
        assert alone.simulator.mean.tobytes() == shared.simulator.mean.tobytes()
        for one, other in zip(alone.simulator.effects, shared.simulator.effects, strict=True):
            np.testing.assert_array_equal(one.Z, other.Z)
            np.testing.assert_array_equal(one.factor, other.factor)


def test_a_design_with_draws_is_that_of_its_condition_alone(small_scenario):
    one, other = PreparedStudy(load_scenario(small_scenario, overrides=DRAWN)).all_conditions()
    x, other_x = (it.simulator.design.frame["x"].to_numpy() for it in (one, other))
    assert not np.array_equal(x, other_x)


@pytest.mark.parametrize("redraw", ["true", "false"])
def test_a_refusal_of_a_design_that_is_drawn_says_so(small_scenario, redraw):
    drawn = ["design.levels.image.count={uniform=[1, 2]}", f"design.redraw={redraw}"]
    one_each = ["design.levels.animal.count=1", "methods.diagonal.formula='y ~ x + (1 | animal)'"]
    scenario = load_scenario(small_scenario, overrides=[*drawn, *one_each])
    message = "This is about the one design that seed 7 draws for the condition"
    own = ", not those that replicates draw for themselves (`redraw`)" * (redraw == "true")
    with pytest.raises(DataError, match=re.escape(message + own) + "$"):
        PreparedStudy(scenario).all_conditions()
    other = "methods.1={name='g',formula='y ~ x',estimator='gee'}"  # whatever is drawn
    with pytest.raises(DataError, match=r"'gee' needs the units; [^.]*$"):
        PreparedStudy(load_scenario(small_scenario, overrides=[*drawn, other])).all_conditions()


def test_a_study_travels_without_what_is_made_at_first_use(small_scenario):
    study = PreparedStudy(load_scenario(small_scenario, overrides=[SWEEP]))
    before = len(pickle.dumps(study))
    study.all_conditions()
    assert study.table.num_rows
    assert len(pickle.dumps(study)) == before
    there = pickle.loads(pickle.dumps(study))
    assert list(there.conditions) == list(study.conditions)
    assert there.n_rows(next(iter(there.conditions))) > 0


@pytest.mark.parametrize(
    "random",
    [
        "(x | animal) + (1 | image:animal)", "(1 | image:animal) + (x | animal)",
        "(x | animal) + (1 | image)",
    ],
)  # fmt: skip
def test_a_level_has_one_name_in_every_spelling(small_scenario, random):
    scenario = load_scenario(
        small_scenario,
        overrides=[
            f'methods.right.formula="y ~ x + {random}"',
            "methods.right.identifiable=false",
            "methods.diagonal.identifiable=false",
            "design.levels.image.count=1",  # labels do not tell which is the outer one
        ],
    )
    names = [one.name for one in PreparedStudy(scenario).parameters["right"]]
    assert names[2:6] == [
        "animal.sd(Intercept)", "animal.sd(x)", "animal.var(Intercept)", "animal.var(x)"
    ]  # fmt: skip
    assert names[-3:] == ["image.sd(Intercept)", "image.var(Intercept)", "sigma"]


def test_a_study_without_fixed_effects(small_scenario, tmp_path):
    scenario = load_scenario(
        small_scenario,
        overrides=[
            'methods.right.formula="y ~ 0 + (x | animal)"',
            'methods.diagonal.formula="y ~ -1"',
        ],
        replicates=3,
    )
    with pytest.raises(DataError, match=r"method 'diagonal' .*: 'y ~ -1' has no effect"):
        run_study(scenario, RunOptions(tmp_path / "out", n_workers=1))
    alone = scenario.model_copy(update={"methods": scenario.methods[:1]})
    run_study(alone, RunOptions(tmp_path / "out", n_workers=1))
    fits = mcsim.read_fits(tmp_path / "out")
    assert set(fits["status"]) <= {"ok", "boundary"}
