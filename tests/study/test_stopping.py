"""Runs that end when their Monte Carlo errors are small enough."""

import itertools
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcsim.errors import McsimError, StoppedError
from mcsim.results.folder import read_manifest
from mcsim.results.store import Store
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.study.stopping import (
    blocks,
    in_words,
    is_met,
    needed_replicates,
    read_targets,
    run_until_precise,
)
from mcsim.study.stopping import largest_mcse as largest
from mcsim.summary.summarize import summarize
from tests.conftest import call_mcsim


@pytest.fixture
def scenario(small_scenario):
    def load(targets, replicates=2000):
        override = f"target_mcse={targets}"
        return load_scenario(small_scenario, overrides=[override], replicates=replicates)

    return load


TARGETS = '{ coverage = 0.013, "bias(x)" = 0.05 }'


def estimates(folder):
    table = pq.read_table(folder / "estimates").to_pandas()
    keys = ["replicate", "method", "parameter"]
    return table.astype({"method": str, "parameter": str}).sort_values(keys, ignore_index=True)


def test_blocks_grow_by_a_half_at_most_and_end_with_all():
    assert list(blocks(1000)) == [256, 384, 512, 768, 1000]
    assert list(blocks(100)) == [100]
    assert list(blocks(256)) == [256]
    for n in (257, 10_000, 65_536):
        found = list(blocks(n))
        assert found[-1] == n
        assert all(a < b <= 1.5 * a for a, b in itertools.pairwise(found))


def test_a_run_ends_at_the_first_block_that_is_precise_enough(scenario, tmp_path):
    said = []
    wanted = scenario(TARGETS)
    options = RunOptions(tmp_path / "out", n_workers=1, report=said.append)
    run_until_precise(wanted, options)
    n = read_manifest(tmp_path / "out")["replicates"]
    targets = read_targets(wanted.target_mcse)
    for candidate in blocks(2000):
        plain = tmp_path / f"plain-{candidate}"
        run_study(scenario("{}", candidate), RunOptions(plain, n_workers=1))
        is_enough = all(is_met(summarize([plain]), target) for target in targets)
        assert is_enough == (candidate == n)
        if is_enough:
            break
    pd.testing.assert_frame_equal(estimates(tmp_path / "out"), estimates(plain), check_exact=True)
    assert f"Ended after {n:,} of at most 2,000 replicates." in said
    assert sum(": met, 0.0" in line for line in said) == 2
    assert not any(Store.read(tmp_path / "out").missing().values())
    run_until_precise(scenario(TARGETS, 100), options)
    assert said[-1] == f"Ended after {n:,} of at most {n:,} replicates."
    begun = RunOptions(tmp_path / "begun", n_workers=1)
    run_until_precise(wanted, replace(begun, replicates=[(1, 5)]))
    assert read_manifest(tmp_path / "begun")["replicates"] == 5
    run_until_precise(wanted, begun)
    assert read_manifest(tmp_path / "begun")["replicates"] == n


def test_interruptions_change_neither_the_end_nor_a_byte(scenario, tmp_path):
    wanted = scenario("{ coverage = 0.013 }")
    run_until_precise(wanted, RunOptions(tmp_path / "whole", n_workers=1))

    def stop(progress):
        counts.append(progress.n_replicates)
        if len(counts) % 3 == 0:
            raise StoppedError("stopped")

    counts, n_stops = [], 0
    while True:
        try:
            run_until_precise(wanted, RunOptions(tmp_path / "parts", n_workers=1, advance=stop))
            break
        except StoppedError:
            n_stops += 1
    assert n_stops > 1
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*/part-*")}
        for name in ("whole", "parts")
    )
    assert whole == parts
    again = RunOptions(tmp_path / "whole", n_workers=1, advance=lambda progress: counts.clear())
    assert run_until_precise(wanted, again)
    assert counts  # nothing was computed again


def test_a_target_that_cannot_be_met_ends_with_all_replicates(scenario, tmp_path):
    said = []
    wanted = scenario('{ "bias(x)" = 1e-9 }', 300)
    run_until_precise(wanted, RunOptions(tmp_path / "out", n_workers=1, report=said.append))
    assert read_manifest(tmp_path / "out")["replicates"] == 300
    table = summarize([tmp_path / "out"])
    [target] = read_targets(wanted.target_mcse)
    assert "not met" in in_words(table, [target])[0]
    found = largest(table, target)
    rows = [row for row in table.to_pylist() if row["parameter"] == "x"]
    assert found.mcse == max(row["bias_mcse"] for row in rows)
    assert needed_replicates(found, found.mcse / 2) == 4 * 300


def test_shards_and_unknown_parameters_are_refused_and_nothing_is_written(small_scenario, tmp_path):
    for arguments, message in (
        (["--shard", "1/2", "--set", "target_mcse={ coverage = 0.1 }"], "no shard knows"),
        (["--set", 'target_mcse={ "bias(z)" = 0.1 }'], "no method estimates 'z'"),
        (["--set", "target_mcse={ converage = 0.1 }"], "must be a measure"),
    ):
        done = call_mcsim("run", small_scenario, "-o", "out", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_targets_are_no_part_of_what_determines_the_numbers(scenario, tmp_path):
    run_study(scenario("{}", 40), RunOptions(tmp_path / "out", n_workers=1))
    run_until_precise(scenario("{ coverage = 0.4 }", 300), RunOptions(tmp_path / "out"))
    assert read_manifest(tmp_path / "out")["replicates"] == 256
    with pytest.raises(McsimError, match="is no measure"):
        read_targets({"coverag": 0.1})


@pytest.mark.parametrize(("share", "measure"), [(0.0, "rejection"), (1.0, "coverage")])
def test_a_share_of_none_or_all_is_not_known_exactly(share, measure):
    def table(n, n_missing=0):
        numbers = {measure: share, f"{measure}_mcse": 0.0, "n": n, "n_replicates": n}
        names = {"parameter": "x", "method": "a", "n_missing_interval": n_missing}
        return pa.Table.from_pylist([numbers | names])

    [target] = read_targets({f"{measure}(x)": 0.002})
    # half of Wilson's interval: prop.test(0, 256, correct = FALSE)$conf.int is (0, 0.01478386)
    assert largest(table(256), target).mcse == pytest.approx(0.01478386 / 2 / 1.96, rel=1e-4)
    assert [is_met(table(n), target) for n in (256, 384, 512)] == [False, False, True]
    assert is_met(table(512, n_missing=256), target) == (measure == "rejection")
    assert 480 < needed_replicates(largest(table(256), target), 0.002) < 1000


def test_a_run_goes_on_where_every_test_rejects_so_far(small_scenario, tmp_path):
    targets = 'target_mcse={ "rejection(Intercept)" = 0.002 }'
    wanted = load_scenario(
        small_scenario, overrides=[targets, "truth.fixed.Intercept=100"], replicates=600
    )
    run_until_precise(wanted, RunOptions(tmp_path / "out", n_workers=1))
    assert read_manifest(tmp_path / "out")["replicates"] == 512
