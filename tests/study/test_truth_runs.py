"""Studies whose truth is not that of the models: the same bytes however they are run."""

import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.write import dump_scenario
from mcsim.study import chunks
from mcsim.study import run as study
from tests.conftest import call_mcsim

OPTIONS = {
    "ar1": ['truth.residual={correlation="ar1", phi=0.6, along="x"}'],
    "exchangeable": ['truth.residual={correlation="exchangeable", rho=0.3}'],
    "sd": ['truth.residual={sd_by={diet={fed=2}}, power={of="mean", exponent=0.5}}'],
    "shapes": [
        "truth.residual.distribution={t=5}",
        "truth.random.animal.distribution={mixture=[0.2, 3]}",
    ],
    "missing": ["truth.missing={observations=0.1, units={image=0.1}}"],
    "dropout": ['truth.missing.dropout={level="animal", along="x", after=0.5, probability=0.3}'],
    "redraw": ["design.redraw=true", "design.levels.image.count={uniform=[2, 4]}"],
}
OPTIONS["everything"] = [
    'truth.residual={distribution={gamma=2}, correlation="ar1", phi=-0.3, power={of="x", '
    "exponent=0.5}}",
    "truth.residual.sd_by={diet={fasted=0.5}}",
    "truth.random.image.distribution={skew_normal=4}",
    *OPTIONS["missing"],
    "design.redraw=true",
    "design.covariates.x={uniform=[1, 2]}",
]
METHOD = 'methods=[{name="m", formula="y ~ diet + x + (1 | animal)", df=["containment", "z"]}]'


def parts(directory):
    found = sorted(directory.glob("*/part-*.parquet"))
    return {path.relative_to(directory): path.read_bytes() for path in found}


@pytest.mark.parametrize("option", OPTIONS)
def test_sharing_and_resuming_change_no_byte(small_scenario, tmp_path, monkeypatch, option):
    overrides = [METHOD, *OPTIONS[option]]
    scenario = load_scenario(small_scenario, overrides=overrides, replicates=10)
    monkeypatch.setattr(study, "SERIAL_ROWS", 0)
    monkeypatch.setattr(chunks, "BATCH_CHUNKS", 1)  # so that there is work for two
    for name in ("SLOW_CHUNK_SIZE", "LARGEST_BLOCK"):
        monkeypatch.setattr(chunks, name, 8)

    def run(name, **options):
        return study.run_study(scenario, study.RunOptions(tmp_path / name, **options)).directory

    alone = run("alone", n_workers=1)
    run("resumed", n_workers=1, replicates=[(1, 8)])
    assert len(parts(alone)) == 2 * len(parts(tmp_path / "resumed"))
    assert parts(run("resumed", n_workers=1)) == parts(alone)
    assert parts(run("shared", n_workers=2)) == parts(alone)
    fits = pq.read_table(alone / "fits")["status"].to_pylist()
    assert len(fits) == 2 * 10
    assert not {"failed", "not_converged"} & set(fits)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_resolved_copy_makes_the_same_data(small_scenario, tmp_path, option):
    scenario = load_scenario(small_scenario, overrides=OPTIONS[option])
    (tmp_path / "copy.toml").write_text(dump_scenario(scenario))
    copy = load_scenario(tmp_path / "copy.toml")
    assert copy == scenario
    assert conditions(copy)[0].identity == conditions(scenario)[0].identity


def test_one_replicate_of_its_own_rows_does_not_depend_on_the_others(small_scenario, tmp_path):
    overrides = OPTIONS["everything"]
    scenario = load_scenario(small_scenario, overrides=overrides, replicates=32)
    tables = []
    for name, replicates in (("all", None), ("one", [(27, 27)])):
        options = study.RunOptions(tmp_path / name, n_workers=1, replicates=replicates)
        directory = study.run_study(scenario, options).directory
        estimates = pd.read_parquet(directory / "estimates")
        tables.append(estimates[estimates["replicate"] == 27].reset_index(drop=True))
    assert tables[0].equals(tables[1])


def test_the_options_on_the_command_line(small_scenario, tmp_path):
    options = [text for one in (METHOD, *OPTIONS["everything"]) for text in ("--set", one)]
    done = call_mcsim("run", small_scenario, *options, "-n", 24, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "m: 24 replicates, 0 failed" in done.stdout
    planned = call_mcsim("run", small_scenario, *options, "--dry-run", cwd=tmp_path)
    assert "every replicate has its own; less what a replicate loses" in planned.stdout
    assert "one by one" not in planned.stdout
    of_all_rows = METHOD.replace("+ x", "+ scale(x)").replace("* x", "* scale(x)")
    changes = [text for one in (of_all_rows, *OPTIONS["everything"]) for text in ("--set", one)]
    planned = call_mcsim("run", small_scenario, *changes, "--dry-run", cwd=tmp_path)
    assert re.search(r"for which m is prepared one by one: about \d+ ms each", planned.stdout)
    sizes = set()
    for replicate in (1, 2):
        data = call_mcsim(
            "simulate", small_scenario, *options, "--replicate", replicate, cwd=tmp_path
        )
        sizes.add(data.stdout.count("\n"))
    assert len(sizes) == 2
    assert max(sizes) < 181


def test_failed_replicates_count_as_any_other_failure(small_scenario, tmp_path):
    options = ["--set", METHOD, "--set", "truth.missing.units={animal=0.8}", "-o", "out"]
    stopped = call_mcsim("run", small_scenario, *options, cwd=tmp_path)
    assert stopped.returncode == 3
    assert "41 of 60 fits of 'm/containment' failed" in stopped.stderr
    done = call_mcsim("run", small_scenario, *options, "--max-failures", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fits = pq.read_table(tmp_path / "out" / "fits").to_pandas()
    assert 0 < (fits["status"] == "failed").mean() < 1
    reason = "nothing that could tell animal.sd(Intercept)"
    assert fits["message"].str.contains(reason, regex=False).any()


def test_conditions_with_and_without_own_rows_in_one_sweep(small_scenario, tmp_path):
    scenario = load_scenario(
        small_scenario, overrides=['sweep."truth.missing.observations"=[0, 0.2]'], replicates=8
    )
    store = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1))
    plain = load_scenario(small_scenario, replicates=8)
    other = study.run_study(plain, study.RunOptions(tmp_path / "plain", n_workers=1))
    tables = [pd.read_parquet(one.directory / "estimates") for one in (store, other)]
    same = tables[0][tables[0]["condition"] == "missing.observations=0"]
    assert len(tables[0]) == 2 * len(same)
    np.testing.assert_array_equal(same["estimate"], tables[1]["estimate"])
