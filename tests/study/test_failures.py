"""Too many failed fits end a run early, with a message that says how to look at them."""

import pyarrow as pa
import pytest

from mcsim.errors import TooManyFailuresError
from mcsim.results.store import ESTIMATES_SCHEMA, FITS_SCHEMA, Chunk, Store, encode
from mcsim.scenario.load import load_scenario
from mcsim.study.failures import FailureWatch, check_failures, first_failure
from mcsim.study.run import RunOptions, run_study
from tests.conftest import SMALL, call_mcsim
from tests.study.test_extend import rows

# without any variation the likelihood cannot be evaluated
FAILING = """
[sweep]
"truth.sigma" = [0.5, 1e-40]
"""
NO_EFFECTS = SMALL.replace("sd = { Intercept = 0.6, x = 0.4 }", "sd = { Intercept = 0.0 }").replace(
    "variance = { Intercept = 0.25 }", "variance = { Intercept = 0.0 }"
).replace("correlation = 0.3\n", "")  # fmt: skip
MESSAGE = "no residual variation is left: the model fits the response exactly"


def chunk_of(first, last, condition="all"):
    return Chunk(condition, condition, first, last)


def parts_of(chunk, failed=()):
    """Two methods, of which the second fails in some replicates."""
    fits = [
        {
            "condition": chunk.condition,
            "replicate": replicate,
            "method": method,
            "status": "failed" if replicate in failed and method == "second" else "boundary",
            "message": f"reason {replicate}" if replicate in failed else None,
        }
        for replicate in range(chunk.first, chunk.last + 1)
        for method in ("first", "second")
    ]
    return encode(
        pa.Table.from_pylist([], schema=ESTIMATES_SCHEMA),
        pa.Table.from_pylist(fits, schema=FITS_SCHEMA),
    )


def count(watch, first, last, failed=(), condition="all"):
    chunk = chunk_of(first, last, condition)
    watch.count([(chunk, parts_of(chunk, failed))])


def watch_of(n_replicates, allowed=0.01, conditions=("all",)):
    return FailureWatch([chunk_of(1, n_replicates, one) for one in conditions], allowed)


def test_the_first_tenth_may_have_the_allowed_share_and_not_one_more():
    count(watch_of(1000), 1, 100, failed=[7, 9])  # 2 of 200 fits
    with pytest.raises(TooManyFailuresError) as caught:
        count(watch_of(1000), 1, 100, failed=[7, 9, 8])
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        "stopped: 3 of 200 fits failed in the first 100 of 1000 replicates; --max-failures allows"
        " 1.0%. What is done stays. The first is replicate 7 of condition all, method 'second':\n"
        "reason 7\n"
        "To fit it alone: mcsim run SCENARIO --replicates 7 -o FOLDER; to have its data:"
        " mcsim simulate SCENARIO --replicate 7 -o FILE.csv."
        " To go on all the same: --max-failures 1"
    )


def test_nothing_is_said_before_the_first_tenth_nor_after():
    watch = watch_of(1000)
    count(watch, 1, 50, failed=[3])  # 1 of 100
    count(watch, 51, 150)  # of 300
    count(watch, 151, 1000, failed=range(151, 1000))
    count(watch_of(1000, allowed=1.0), 1, 1000, failed=range(1, 1001))


def test_a_run_that_is_done_is_not_stopped():
    count(watch_of(20), 1, 20, failed=range(1, 21))
    chunks = [chunk_of(1, 16), chunk_of(17, 20)]
    watch = FailureWatch(chunks, 0.01)
    watch.count([(one, parts_of(one, failed=range(1, 21))) for one in chunks])  # in one commit
    with pytest.raises(TooManyFailuresError, match="stopped: 16 of 32 fits"):
        count(FailureWatch(chunks, 0.01), 1, 16, failed=range(1, 17))


def test_every_condition_has_its_own_first_tenth():
    watch = watch_of(100, conditions=["sound", "failing"])
    count(watch, 1, 100, condition="sound")
    with pytest.raises(TooManyFailuresError, match=r"in the first 10 of 100 .* condition failing"):
        count(watch, 1, 10, failed=[4], condition="failing")


def test_the_first_failure_is_that_of_the_smallest_replicate():
    failed = first_failure(parts_of(chunk_of(33, 64), failed=[60, 41]))
    assert str(failed) == "replicate 41 of condition all, method 'second':\nreason 41"


def test_the_end_of_a_study_names_condition_and_method():
    summary = pa.table(
        {"condition": ["all"], "method": ["m"], "n_replicates": [200], "n_failed": [3]}
    )
    check_failures(summary, 0.015)
    with pytest.raises(TooManyFailuresError, match="3 of 200 fits of 'm' failed in condition all"):
        check_failures(summary, 0.01)


def test_a_run_ends_early_and_keeps_what_is_done(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(NO_EFFECTS + FAILING)
    scenario = load_scenario(path, replicates=400)
    options = RunOptions(tmp_path / "out", n_workers=1, max_failures=0.01)
    with pytest.raises(TooManyFailuresError, match=MESSAGE):
        run_study(scenario, options)
    sound, failing = Store.read(tmp_path / "out").status().conditions
    assert (sound.n_done, sound.n_failed) == (128, 0)  # the largest chunk of each condition
    assert (failing.n_done, failing.n_failed) == (128, 3 * 128)
    run_study(scenario, RunOptions(tmp_path / "out", n_workers=1))
    assert not any(Store.read(tmp_path / "out").missing().values())


def test_the_command_says_what_to_do_and_it_can_be_done(tmp_path):
    (tmp_path / "failing.toml").write_text(NO_EFFECTS.replace("sigma = 0.5", "sigma = 1e-40"))
    stopped = call_mcsim("run", "failing.toml", "-n", 300, "-o", "out", "-j", 1, cwd=tmp_path)
    assert (stopped.returncode, stopped.stdout) == (3, "")
    assert f"method 'right/containment':\n{MESSAGE}\n" in stopped.stderr
    assert "mcsim run SCENARIO --replicates 1 -o FOLDER" in stopped.stderr
    assert "mcsim simulate SCENARIO --replicate 1 -o FILE.csv" in stopped.stderr
    alone = call_mcsim("run", "failing.toml", "--replicates", 1, "-o", "alone", cwd=tmp_path)
    assert alone.returncode == 3
    assert set(rows(tmp_path / "alone", "fits")["message"]) == {MESSAGE}
    data = call_mcsim("simulate", "failing.toml", "--replicate", 1, "-o", "1.csv", cwd=tmp_path)
    assert (data.returncode, (tmp_path / "1.csv").exists()) == (0, True)
    on = call_mcsim(
        "run", "failing.toml", "-n", 300, "-o", "out", "--max-failures", 1, cwd=tmp_path
    )
    assert on.returncode == 0
    assert "300 replicates, 300 failed" in on.stdout
