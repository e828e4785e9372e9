"""Studies in shards: the union is the whole, in one folder or joined, in a loop or a job array."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.cli.slurm import MOST_RESTARTS
from mcsim.errors import DataError, McsimError, StudyMismatchError
from mcsim.results.merge import merge_studies
from mcsim.results.ranges import cut, merge
from mcsim.results.store import Chunk, Store
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.study.shards import Shard, n_replicates, of_shard, parse_shard
from tests.conftest import SMALL, call_mcsim, run_mcsim
from tests.results.test_store import files
from tests.study.test_extend import LARGER, SMALLER, SWEEP, parts, rows

EXAMPLES = Path(__file__).parents[2] / "examples" / "batch"


@pytest.fixture
def run(tmp_path):
    """Run a scenario, or a shard of it, in this process."""

    def run_text(name, shard=None, *, text=SMALL + SWEEP, n=120, **options):
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        part = None if shard is None else parse_shard(shard)
        scenario = load_scenario(path, replicates=n)
        run_study(scenario, RunOptions(tmp_path / name, n_workers=1, shard=part, **options))
        return tmp_path / name

    return run_text


def silent(_):
    pass


def chunks_of(*n_per_condition):
    return [
        Chunk(f"condition {number}", f"key {number}", first, last)
        for number, n in enumerate(n_per_condition)
        for first, last in cut([(1, n)])
    ]


@pytest.mark.parametrize(("text", "shard"), [("2/5", Shard(2, 5)), ("1/1", Shard(1, 1))])
def test_a_shard_reads_as_it_prints(text, shard):
    assert parse_shard(text) == shard
    assert str(shard) == text


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "2/", "a/b", "-1/2", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(McsimError, match="is no shard; write K/N, such as 2/5"):
        parse_shard(text)


@given(
    st.lists(st.integers(1, 20_000), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_shards_are_disjoint_their_union_is_the_whole_and_they_are_even(n_per_condition, count):
    chunks = chunks_of(*n_per_condition)
    shards = [of_shard(chunks, Shard(number, count)) for number in range(1, count + 1)]
    for key, n in zip(dict.fromkeys(chunk.key for chunk in chunks), n_per_condition, strict=True):
        of_key = [[chunk for chunk in shard if chunk.key == key] for shard in shards]
        dealt = [(chunk.first, chunk.last) for own in of_key for chunk in own]
        assert merge(dealt) == ((1, n),)
        shares = [n_replicates(own) for own in of_key]
        assert sum(shares) == n
        assert max(shares) - min(shares) <= 32
    shares = [n_replicates(shard) for shard in shards]
    assert max(shares) - min(shares) <= 32


def test_many_shards_of_few_chunks_all_get_their_share():
    shares = {n_replicates(of_shard(chunks_of(4_000), Shard(k, 40))) for k in range(1, 41)}
    assert shares <= {96, 128}  # of 100 on average; 4,000 are cut into 20 chunks


def test_shards_of_conditions_with_one_chunk_each_are_even_too():
    chunks = chunks_of(*[32] * 9)
    sizes = [len(of_shard(chunks, Shard(number, 3))) for number in (1, 2, 3)]
    assert sizes == [3, 3, 3]


def test_the_numbers_are_those_of_the_whole_however_small_the_shards_are(run):
    whole = run("whole", text=SMALL, n=320)
    for number in range(1, 10):
        shards = run("shards", f"{number}/9", text=SMALL, n=320)
    assert len(parts(shards)) > len(parts(whole))
    pd.testing.assert_frame_equal(rows(shards), rows(whole), check_exact=True)


@pytest.mark.parametrize("count", [2, 3])
def test_shards_in_one_folder_write_the_bytes_of_the_whole_in_any_order(run, count):
    whole = run("whole")
    for number in range(count, 0, -1):
        shards = run("shards", f"{number}/{count}")
    assert parts(shards) == parts(whole)
    for name in ("scenario.toml", "conditions.parquet"):
        assert (shards / name).read_bytes() == (whole / name).read_bytes()


def test_shards_share_what_a_stopped_run_left(run):
    whole = run("whole")
    run("steps", replicates=[(20, 45), (100, 100)])
    for number in (1, 2, 3):
        run("steps", f"{number}/3")
    pd.testing.assert_frame_equal(rows(run("steps")), rows(whole), check_exact=True)
    before = parts(run("steps"))
    assert parts(run("steps", "1/3")) == before


def test_folders_of_shards_are_joined_to_the_bytes_of_the_whole(run, tmp_path):
    whole = run("whole")
    shards = [run(f"shard{number}", f"{number}/3") for number in (1, 2, 3)]
    for _ in range(2):  # again changes nothing
        store = merge_studies(shards, tmp_path / "out", silent)
        assert not any(store.missing().values())
        assert parts(store.directory) == parts(whole)
    for name in ("scenario.toml", "conditions.parquet", "manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()
    assert parts(merge_studies(shards, shards[0], silent).directory) == parts(whole)


def test_a_gap_is_reported_as_ranges_and_can_be_filled(run, tmp_path):
    shards = [run(f"shard{number}", f"{number}/3") for number in (1, 2)]
    store = merge_studies(shards, tmp_path / "out", silent)
    third = of_shard(
        [Chunk("all", key, *one) for key in store.contents for one in cut([(1, 120)])], Shard(3, 3)
    )
    for key, contents in store.contents.items():
        gap = [(chunk.first, chunk.last) for chunk in third if chunk.key == key]
        assert store.missing()[contents.condition] == merge(gap)
    assert parts(run("out")) == parts(run("whole"))


def test_parts_that_overlap_are_joined_without_doubles(run, tmp_path):
    small, large = run("small", text=SMALL, n=45), run("large", text=SMALL, replicates=[(20, 120)])
    for order in ([small, large], [large, small]):
        out = tmp_path / f"out {order[0].name}"
        store = merge_studies(order, out, silent)
        (status,) = store.status().conditions
        assert (status.n_planned, status.n_done) == (120, 120)
        pd.testing.assert_frame_equal(rows(out), rows(run("whole", text=SMALL)), check_exact=True)
        before = files(out)
        merge_studies(order, out, silent)
        assert parts(out) == {name: one for name, one in before.items() if "/part-" in name}


def test_folders_of_different_studies_are_refused_and_nothing_is_touched(run, tmp_path):
    one = run("one", n=10)
    other = run("other", text=(SMALL + SWEEP).replace("seed = 7", "seed = 8"), n=10)
    with pytest.raises(StudyMismatchError, match=r"one and .*other .* these keys differ: seed\. "):
        merge_studies([one, other], tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()
    before = files(other)
    with pytest.raises(StudyMismatchError, match="these keys differ: seed"):
        merge_studies([one], other, silent)
    assert files(other) == before


def test_different_results_of_one_study_are_never_overwritten(run, tmp_path):
    one, other = run("one", n=32), run("other", n=32)
    (*_, mark) = sorted((other / "commits").iterdir())
    mark.write_text(mark.read_text().replace('"sha256": "', '"sha256": "0'))
    before = files(one)
    with pytest.raises(StudyMismatchError, match=f"{mark.stem} differs between"):
        merge_studies([other], one, silent)
    assert files(one) == before


def test_a_damaged_part_is_not_joined(run, tmp_path):
    one = run("one", n=32)
    (*_, estimates) = sorted((one / "estimates").iterdir())
    estimates.write_bytes(estimates.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{estimates.stem} in .* --repair"):
        merge_studies([one], tmp_path / "out", silent)
    assert not (tmp_path / "out" / "estimates" / estimates.name).exists()


def test_folders_that_grew_are_joined_into_one_that_grew_alike(run, tmp_path):
    for number in (1, 2):
        run(f"shard{number}", f"{number}/2", text=SMALL)
        run(f"shard{number}", f"{number}/2", text=SMALL + SMALLER)
    shards = [tmp_path / "shard1", tmp_path / "shard2"]
    with pytest.raises(StudyMismatchError, match=r"got its methods one after the other.* -o "):
        merge_studies(shards, tmp_path / "out", silent)
    store = merge_studies(shards, shards[0], silent)
    whole = run("whole", text=SMALL + SMALLER)
    assert not any(store.missing().values())
    pd.testing.assert_frame_equal(rows(shards[0]), rows(whole), check_exact=True)


def test_the_command_says_what_a_shard_does_and_sums_up_at_the_last(small_scenario, tmp_path):
    arguments = ["run", small_scenario, "-o", "out", "-j", 1]
    first = call_mcsim(*arguments, "--shard", "1/2", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "")
    assert "Shard 1/2: 32 of 60 data sets.\n" in first.stderr
    assert "Shard 1/2 is done, but not the whole study: `mcsim status out`" in first.stderr
    assert not (tmp_path / "out" / "summary.csv").exists()
    second = call_mcsim(*arguments, "--shard", "2/2", cwd=tmp_path)
    assert second.returncode == 0
    assert "60 replicates, 0 failed" in second.stdout
    assert (tmp_path / "out" / "summary.csv").exists()
    refused = call_mcsim(*arguments, "--shard", "3/2", cwd=tmp_path)
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "'3/2' is no shard; write K/N, such as 2/5, with K from 1 to N and N at most 10,000\n"
    )


def test_the_command_joins_folders_and_names_gaps(small_scenario, tmp_path):
    for number in (1, 3):
        call_mcsim(
            "run", small_scenario, "-o", f"s{number}", "--shard", f"{number}/3", cwd=tmp_path
        )
    joined = call_mcsim("merge", "s1", "s3", "-o", "out", cwd=tmp_path)
    assert joined.returncode == 5, joined.stderr
    assert joined.stdout == (
        "all: 60 planned, 44 done, 0 fits failed; missing: --replicates 33-48\n"
    )
    assert "`mcsim run out/scenario.toml -o out` does what is missing" in joined.stderr
    filled = call_mcsim("run", "out/scenario.toml", "-o", "out", cwd=tmp_path)
    assert "60 replicates, 0 failed" in filled.stdout
    other = call_mcsim("run", small_scenario, "-o", "b", "-n", 5, "--seed", 8, cwd=tmp_path)
    assert other.returncode == 0
    refused = call_mcsim("merge", "s1", "b", "-o", "new", cwd=tmp_path)
    assert refused.returncode == 4
    assert "these keys differ: seed" in refused.stderr
    assert call_mcsim("merge", "s1", "nowhere", "-o", "new", cwd=tmp_path).returncode == 2


@pytest.fixture
def commands(tmp_path):
    """An environment with `mcsim`, and with a `scontrol` that writes down what it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in (
        ("mcsim", f'exec {sys.executable} -m mcsim "$@"'),
        ("scontrol", f'echo "$@" >> {tmp_path / "requeued"}'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def start_job(script, number, environment, folder, **more):
    """What sbatch does for one job of an array."""
    slurm = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(number)} | more
    return subprocess.Popen(
        ["/bin/bash", script],
        cwd=folder,
        env=environment | slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def job_script(tmp_path, *arguments):
    done = run_mcsim("slurm", "small.toml", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "job.slurm").write_text(done.stdout)
    return tmp_path / "job.slurm"


def test_a_job_script_hands_on_what_a_run_is_told(small_scenario, tmp_path):
    lines = "from mcsim.plugins import estimator", '@estimator("x")', "def own(data): return {}"
    (tmp_path / "my own.py").write_text("\n".join(lines))
    options = ["--plugin", "my own.py", "--max-failures", 0.5, "--seed", 3]
    script = job_script(tmp_path, "--array", 2, *options).read_text()
    assert "mcsim run small.toml --seed 3 --plugin 'my own.py' --max-failures 0.5 -j 1" in script
    assert "--max-failures" not in job_script(tmp_path, "--array", 2).read_text()


def test_an_array_of_jobs_writes_the_bytes_of_the_whole(small_scenario, tmp_path, commands):
    script = job_script(tmp_path, "--array", 3, "-o", "array", "-n", 200, "--set", "truth.sigma=1")
    jobs = [start_job(script, number, commands, tmp_path) for number in (1, 2, 3)]
    ended = [(job.communicate(timeout=120), job.returncode) for job in jobs]
    assert [code for _, code in ended] == [0, 0, 0], ended
    assert sum("200 replicates, 0 failed" in output for (output, _), _ in ended) >= 1
    whole = run_mcsim(
        "run", "small.toml", "-o", "whole", "-n", 200, "--set", "truth.sigma=1", cwd=tmp_path
    )
    assert whole.returncode == 0
    assert parts(tmp_path / "array") == parts(tmp_path / "whole")
    assert not (tmp_path / "requeued").exists()


@pytest.mark.parametrize(
    ("name", "restarts", "is_requeued"),
    [("USR1", "0", True), ("USR1", str(MOST_RESTARTS), False), ("TERM", "0", False)],
)
def test_a_job_near_its_time_limit_stops_and_starts_again(
    small_scenario, tmp_path, commands, name, restarts, is_requeued
):
    script = job_script(tmp_path, "--array", 2, "-o", "array", "-n", 500_000)
    job = start_job(script, 2, commands, tmp_path, SLURM_RESTART_COUNT=restarts)
    marks = tmp_path / "array" / "commits"
    deadline = time.monotonic() + 60
    while not list(marks.glob("part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.Signals[f"SIG{name}"])  # to the shell alone, as B: says
    output, message = job.communicate(timeout=5)
    assert (job.returncode, output) == (75, "")
    assert f"stopped by SIG{name}; what is done is safe" in message
    told = (tmp_path / "requeued").read_text() if is_requeued else ""
    assert told == ("requeue 77_2\n" if is_requeued else "")
    assert (tmp_path / "requeued").exists() == is_requeued
    (status,) = Store.read(tmp_path / "array").status().conditions
    assert 0 < status.n_done < 500_000


def test_a_job_that_cannot_run_says_so_and_does_not_start_again(small_scenario, tmp_path, commands):
    script = job_script(tmp_path, "--array", 2, "-o", "array")
    small_scenario.unlink()
    job = start_job(script, 1, commands, tmp_path)
    job.communicate(timeout=60)
    assert job.returncode == 2
    assert not (tmp_path / "requeued").exists()


def test_a_wrong_scenario_makes_no_job_script(tmp_path):
    (tmp_path / "a.toml").write_text(SMALL.replace("sigma = 0.5", "sigma = -1"))
    done = run_mcsim("slurm", "a.toml", "--array", 2, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "truth.sigma is -1" in done.stderr


def test_the_example_of_a_job_script_is_what_the_command_prints():
    done = run_mcsim(
        *("slurm", "../../configs/animals.toml", "--array", 4, "-n", 10_000, "-o", "animals"),
        cwd=EXAMPLES,
    )
    assert done.stdout == (EXAMPLES / "job.slurm").read_text()


def test_the_example_of_a_loop_runs_a_study(small_scenario, tmp_path, commands):
    loop = ["/bin/sh", EXAMPLES / "loop.sh", "small.toml", "2", "looped"]
    done = subprocess.run(
        loop, cwd=tmp_path, env=commands, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "60 replicates, 0 failed" in done.stdout
    whole = run_mcsim("run", "small.toml", "-o", "whole", cwd=tmp_path)
    assert whole.returncode == 0
    assert parts(tmp_path / "looped") == parts(tmp_path / "whole")


def test_methods_added_to_shards_are_shared_too(run):
    whole = run("whole", text=SMALL + SMALLER + LARGER)
    for text in (SMALL, SMALL + SMALLER + LARGER):
        for number in (1, 2):
            shards = run("shards", f"{number}/2", text=text)
    pd.testing.assert_frame_equal(rows(shards), rows(whole), check_exact=True)
