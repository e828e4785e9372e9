"""What batch jobs read: exit codes, JSON, time stamps; and two of them at the same moment."""

import json
import re
from threading import Thread

import pytest

from mcsim.results.status import MANY, ConditionStatus, StudyStatus
from mcsim.results.store import Store
from mcsim.results.whole_files import alone_in
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from tests.conftest import call_mcsim


@pytest.fixture
def half(small_scenario, tmp_path):
    """A sound study of 60 replicates that has 32 of them."""
    done = call_mcsim(
        "run", small_scenario, "-o", "half", "--replicates", "1-32", "--quiet", cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return tmp_path / "half"


def test_what_is_incomplete_is_not_corrupt(half, tmp_path):
    seen = call_mcsim("status", half, "--check", "--format", "json", cwd=tmp_path)
    assert seen.returncode == 5
    counts = {"planned": 60, "done": 32, "failed": 0}
    condition = {"condition": "all", **counts, "missing": "33-60"}
    assert json.loads(seen.stdout) == {"complete": False, **counts, "conditions": [condition]}
    assert "does what is missing" in seen.stderr
    assert call_mcsim("status", half, cwd=tmp_path).returncode == 0
    checked = call_mcsim("verify", half, "--format", "json", cwd=tmp_path)
    assert checked.returncode == 5
    fault = {"where": "all", "what": "missing: --replicates 33-60", "damage": False}
    assert json.loads(checked.stdout) == {"sound": False, "faults": [fault]}
    part = next((half / "fits").iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    checked = call_mcsim("verify", half, "--format", "json", cwd=tmp_path)
    assert checked.returncode == 2
    assert [one["damage"] for one in json.loads(checked.stdout)["faults"]] == [True, False]


def test_a_whole_study_is_0_everywhere(half, small_scenario, tmp_path):
    rest = call_mcsim("run", small_scenario, "-o", "half", "--format", "json", cwd=tmp_path)
    assert {row["method"] for row in json.loads(rest.stdout)} >= {"right/z", "diagonal"}
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d Results are in half$", rest.stderr, re.M)
    for arguments in (["status", half, "--check"], ["verify", half], ["merge", half, "-o", "new"]):
        done = call_mcsim(*arguments, "--format", "json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)


def test_a_dry_run_has_its_numbers_as_json(small_scenario, tmp_path):
    done = call_mcsim(
        *("run", small_scenario, "--dry-run", "--format", "json", "-j", 1),
        *("--target-mcse", "coverage(x)=0.01"),
        cwd=tmp_path,
    )
    found = json.loads(done.stdout)
    assert (found["conditions"], found["replicates"], found["fits"]) == (1, 60, 120)
    assert found["processes"] == 1
    assert min(found["seconds"], found["bytes"], found["needed"]["coverage(x)"]) > 0


@pytest.mark.parametrize("n", [1, 2, MANY, MANY + 1, 10 * MANY])
def test_the_status_of_many_conditions_names_those_that_lack_something(n):
    sound = [ConditionStatus(f"sigma={i}", 10, 10, 0, ()) for i in range(n - 1)]
    lacking = ConditionStatus("sigma=9.5", 10, 4, 0, ((1, 6),))
    lines = str(StudyStatus([*sound, lacking])).splitlines()
    assert "sigma=9.5: 10 planned, 4 done, 0 fits failed; missing: --replicates 1-6" in lines
    total = f"{n} conditions: {10 * n:,} planned, {10 * n - 6:,} done, 0 fits failed; 1 incomplete"
    assert (lines[-1] == total) == (n > 1)
    assert len(lines) == (2 if n > MANY else n + (n > 1))


def test_two_extensions_at_the_same_moment_keep_the_larger_plan(
    small_scenario, tmp_path, monkeypatch
):
    scenario, opened = load_scenario(small_scenario), Store.open
    run_study(scenario, RunOptions(tmp_path / "out", 1))

    def open_second(*arguments, **options):
        monkeypatch.setattr(Store, "open", opened)
        run_study(scenario, RunOptions(tmp_path / "out", 1, planned=90))
        return opened(*arguments, **options)

    monkeypatch.setattr(Store, "open", open_second)
    run_study(scenario, RunOptions(tmp_path / "out", 1, planned=70))
    (status,) = Store.read(tmp_path / "out").status().conditions
    assert (status.n_planned, status.missing) == (90, ())


def test_only_one_process_at_a_time_opens_a_folder(tmp_path):
    waited = []

    def wait():
        with alone_in(tmp_path):
            waited.append(is_free)

    is_free = False
    with alone_in(tmp_path):
        other = Thread(target=wait)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        is_free = True
    other.join(10.0)
    assert waited == [True]
