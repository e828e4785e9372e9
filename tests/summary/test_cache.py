"""A summary that is read from the folder is the one that would be computed."""

import os
import shutil
import time

import pytest

from mcsim.errors import DataError
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.summary import cache as latest
from mcsim.summary.cache import known_summary, latest_summary
from mcsim.summary.printed import FORMATS
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL, call_mcsim, run_mcsim
from tests.study.test_extend import SMALLER

NAMES = ("summary.csv", "summary.parquet")


def run(folder, text, n):
    (folder / "any.toml").write_text(text)
    scenario = load_scenario(folder / "any.toml", replicates=n)
    return run_study(scenario, RunOptions(folder / "study", n_workers=1)).directory


@pytest.fixture
def study(tmp_path):
    folder = run(tmp_path, SMALL, 20)
    latest_summary(folder)
    return folder


def is_computed(study, monkeypatch):
    """Whether the summary is computed; it must be the right one and written in any case."""
    computed, right = [], summarize([study])
    with monkeypatch.context() as patch:
        patch.setattr(
            latest.summarize, "summarize", lambda one: computed.append(one) or summarize(one)
        )
        table = latest_summary(study)
    assert table.equals(right)
    for form in FORMATS.values():
        assert form(table) == form(right)
    assert (study / "summary.csv").read_text() == FORMATS["csv"](right)
    return computed != []


def test_a_summary_of_the_same_files_is_not_computed_again(study, monkeypatch):
    before = [(study / name).read_bytes() for name in NAMES]
    assert not is_computed(study, monkeypatch)
    assert [(study / name).read_bytes() for name in NAMES] == before


@pytest.mark.parametrize(("text", "n"), [(SMALL, 30), (SMALL + SMALLER, 20)])
def test_more_replicates_or_methods_make_a_new_one(study, monkeypatch, text, n):
    run(study.parent, text, n)
    assert is_computed(study, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_that_is_gone_is_made_again(study, monkeypatch, name):
    (study / name).unlink()
    assert is_computed(study, monkeypatch)


@pytest.mark.parametrize("content", [b"", b"PAR1 no more", None])
def test_a_damaged_summary_is_made_again(study, monkeypatch, content):
    path = study / "summary.parquet"
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    assert is_computed(study, monkeypatch)


def test_other_code_makes_a_new_one(study, monkeypatch):
    monkeypatch.setattr(latest, "CODE", latest.CODE[:2])
    assert is_computed(study, monkeypatch)


def test_how_the_study_was_cut_leaves_no_trace(study, tmp_path):
    whole = [(study / name).read_bytes() for name in NAMES]
    shutil.rmtree(study)
    for n in (3, 17, 20):
        run(tmp_path, SMALL, n)
        latest_summary(study)
    assert [(study / name).read_bytes() for name in NAMES] == whole


def seconds_to_repeat(scenario, n, cwd):
    def run_once():
        started = time.perf_counter()
        done = run_mcsim("run", scenario, "-n", n, "-o", f"of_{n}", cwd=cwd)
        assert done.returncode == 0, done.stderr
        return time.perf_counter() - started

    run_once()
    return min(run_once() for _ in range(3))


@pytest.mark.slow
def test_repeating_a_finished_study_of_100000_replicates_costs_less_than_a_second(tmp_path):
    scenario = tmp_path / "plain.toml"
    methods = '[[methods]]\nname = "plain"\nformula = "y ~ diet * x + (1 | animal)"\n'
    scenario.write_text(SMALL.partition("[[methods]]")[0] + methods)
    few, many = (seconds_to_repeat(scenario, n, tmp_path) for n in (1, 100_000))
    assert many - few < 1.0


@pytest.mark.parametrize("is_truncated", [True, False])
@pytest.mark.parametrize("kind", ["estimates", "fits"])
def test_a_part_that_was_damaged_since_is_told_by_every_reader(study, kind, is_truncated):
    (path,) = (study / kind).glob("part-*-0000001-0000016.parquet")
    time_ns, content = path.stat().st_mtime_ns, bytearray(path.read_bytes())
    size = len(content)
    if is_truncated:
        path.write_bytes(content[:-10])
        os.utime(path, ns=(time_ns, time_ns))  # as a disk loses it, not a program
        damage = f"truncated: {size - 10} of {size} bytes"
    else:
        content[size // 2] ^= 1
        path.write_bytes(content)
        damage = r"corrupted: not what was written \(SHA-256\)"
    advice = f"`mcsim verify {study} --repair` computes it again"
    for read in (latest_summary, lambda one: summarize([one]), known_summary):
        with pytest.raises(DataError, match=rf"{path.name} is damaged: {damage}. {advice}"):
            read(study)
    done = call_mcsim("run", "any.toml", "-n", 20, "-o", "study", cwd=study.parent)
    assert (done.returncode, "Results are in" in done.stderr) == (2, False)
    assert "is damaged: " in done.stderr
