"""What `mcsim run --dry-run` says, without a trace on disk."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mcsim.design.words import design_in_words
from mcsim.errors import DataError, McsimError
from mcsim.planning.dry_run import describe_plan
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.simulate.responses import prepare_simulator
from mcsim.study.run import RunOptions, run_study
from mcsim.study.shards import Shard
from tests.conftest import SMALL, run_mcsim

NOWHERE = Path("no such folder")
HERE = RunOptions(NOWHERE, 1)


def test_the_design_is_counted_in_words(small_scenario):
    scenario = load_scenario(small_scenario)
    design = prepare_simulator(conditions(scenario)[0], scenario.seed).design
    expected = "9 units of animal; 36 units of image, 4 per animal; 180 observations, 5 per image"
    assert design_in_words(design) == expected
    drawn = load_scenario(small_scenario, overrides=["design.levels.image.count={uniform=[1,9]}"])
    words = design_in_words(prepare_simulator(conditions(drawn)[0], 1).design)
    assert re.search(r"units of image, [1-9] to [1-9] per animal", words)


def test_nothing_is_written_and_methods_and_costs_are_told(small_scenario, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    done = run_mcsim("run", small_scenario, "--dry-run", "-n", 5000, cwd=tmp_path)
    assert (done.returncode, sorted(tmp_path.rglob("*"))) == (0, before)
    assert "Method right/containment, right/z: y ~ diet * x + (x | animal)" in done.stdout
    assert "animal.cor(Intercept,x)" in done.stdout
    assert (
        "5,000 replicates of 1 condition by 3 methods: 10,000 fits (right/containment, right/z from"
        " one fit)\n"
    ) in done.stdout
    assert re.search(r"Time: about \d+ (seconds?|minutes) with", done.stdout)


def test_the_plan_of_a_shard_is_that_of_its_share(small_scenario):
    scenario = load_scenario(small_scenario, replicates=640_000)
    text, of_shard = (
        str(describe_plan(scenario, RunOptions(NOWHERE, 1, shard=one), {}))
        for one in (None, Shard(3, 10))
    )
    assert "Shard 3/10: 64,000 of 640,000 data sets, 128,000 fits, of which" in of_shard
    whole, own = (float(re.search(r"Disk: about ([\d.,]+)", one)[1].replace(",", "")) for one in
                  (text, of_shard))  # fmt: skip
    assert own == pytest.approx(whole / 10, rel=0.1)


def test_what_is_done_is_not_to_do(small_scenario, tmp_path):
    scenario = load_scenario(small_scenario, replicates=20)  # by 2 methods, of which one has two df
    options = RunOptions(tmp_path / "out", 1)
    run_study(scenario, options)
    larger = scenario.model_copy(update={"replicates": 50})
    found = describe_plan(larger, options, {})
    assert (found.n_done, found.n_replicates, found.n_fits) == (20, 30, 60)
    assert f"To do: 30 of 50 data sets ({tmp_path / 'out'} has 20), 60 fits" in found.text
    assert (scratch := describe_plan(larger, HERE, {})).n_fits == 100
    assert found.n_bytes < scratch.n_bytes
    some = replace(options, replicates=[(15, 24)])
    assert describe_plan(larger, some, {}).n_fits == 8
    assert describe_plan(larger, replace(options, overwrite=True), {}).n_fits == 100
    third = scenario.methods[0].model_copy(update={"name": "new"})
    grown = scenario.model_copy(update={"methods": (*scenario.methods, third)})
    found = describe_plan(grown, options, {})
    assert (found.n_done, found.n_replicates, found.n_fits) == (0, 20, 20)
    other = describe_plan(load_scenario(small_scenario, seed=9), options, {})
    assert other.n_done == 0
    assert "holds another study; these keys differ:\n  seed is" in other.text


def test_replicates_needed_for_a_precision(small_scenario):
    # coverage near 95%: 0.95 x 0.05 / 0.005^2 = 1,900; the pilot is small, so 600 to 6,000
    text = describe_plan(load_scenario(small_scenario), HERE, {"coverage(x)": 0.005}).text
    found = re.search(r"MCSE of coverage\(x\) at most 0.005: about ([\d,]+) replicates", text)
    assert found is not None
    assert 600 < int(found[1].replace(",", "")) < 6000


@pytest.mark.parametrize("target", ["covrage=0.005", "coverage", "coverage=-1"])
def test_a_target_that_cannot_be_read_is_refused(small_scenario, tmp_path, target):
    done = run_mcsim("run", small_scenario, "--target-mcse", target, cwd=tmp_path)
    assert done.returncode == 2
    assert "coverage=0.005" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_measure_gets_a_hint(small_scenario):
    with pytest.raises(McsimError, match="Did you mean 'coverage'"):
        describe_plan(load_scenario(small_scenario), HERE, {"covrage": 0.1})


def test_a_measure_without_an_error_and_an_unknown_parameter_are_said(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(SMALL)
    text = describe_plan(load_scenario(path), HERE, {"median_ci_width(x)": 0.1}).text
    assert "MCSE of median_ci_width(x): nothing that was tried has one" in text
    with pytest.raises(McsimError, match="no method estimates 'nothing'"):
        describe_plan(load_scenario(path), HERE, {"coverage(nothing)": 0.1})


@pytest.mark.parametrize(
    ("random", "message"),
    [
        (
            "(1 | image) + (x || animal/image)",
            "level 'image' has the random effect 'Intercept' twice",
        ),
        ("(0 | animal)", "the term .* has no effect"),
        ("(C(x) | animal)", None),
        ("(poly(x, 30) | animal)", "makes up to 31 columns of these data; at most 20"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(small_scenario, random, message):
    formula = f'methods.right.formula="y ~ x + {random}"'
    scenario = load_scenario(small_scenario, overrides=[formula])
    if message is None:
        assert "C(x)[T.1.0]" in describe_plan(scenario, HERE, {}).text
        return
    with pytest.raises(DataError, match=message):
        describe_plan(scenario, HERE, {})
