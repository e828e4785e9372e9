"""A replicate that ends its worker: found, reported as failed, and all others are kept."""

import os
import signal
from dataclasses import dataclass, replace

import pandas as pd
import pytest

from mcsim.errors import McsimError
from mcsim.results.store import Chunk, Store
from mcsim.results.verify import find_faults
from mcsim.scenario.load import load_scenario
from mcsim.study import chunks
from mcsim.study import run as study
from mcsim.study.analyse import LOST, ChunkAnalyser
from mcsim.study.chunks import Batch, pieces_of
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL
from tests.study.test_extend import LARGER, SMALLER, parts, rows

CULPRITS = (52, 60)  # in small blocks, which are soon halved


@dataclass
class Deadly(ChunkAnalyser):
    """Ends its process at a replicate to analyse, as a crash in a library would."""

    culprits: tuple[int, ...] = CULPRITS
    also_when_lost: bool = False

    def __call__(self, batch):
        for chunk in batch.chunks:
            is_given_up = chunk.is_lost and not self.also_when_lost
            if not is_given_up and any(chunk.first <= one <= chunk.last for one in self.culprits):
                os.kill(os.getpid(), signal.SIGSEGV)
        return super().__call__(batch)


@dataclass
class AlwaysDeadly(Deadly):
    culprits: tuple[int, ...] = CULPRITS[:1]
    also_when_lost: bool = True


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    path = tmp_path_factory.mktemp("lost") / "scenario.toml"
    path.write_text(SMALL + SMALLER + LARGER)
    return load_scenario(path)


@pytest.fixture(scope="module")
def disturbed(scenario, tmp_path_factory):
    """Folder of a study that lost two replicates."""
    directory = tmp_path_factory.mktemp("disturbed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        run_deadly(patch, Deadly, scenario, directory)
    return directory


def run_deadly(patch, analyser, scenario, directory):
    patch.setattr(study, "SERIAL_ROWS", 0)
    patch.setattr(chunks, "BATCH_CHUNKS", 2)  # so that there is work for two
    patch.setattr(study, "ChunkAnalyser", analyser)
    run_study(scenario, RunOptions(directory, n_workers=2))


def test_a_replicate_that_ends_its_workers_is_failed_and_the_others_are_kept(
    scenario, disturbed, tmp_path
):
    whole = run_study(scenario, RunOptions(tmp_path / "whole", n_workers=1)).directory
    fits, estimates = rows(disturbed, "fits"), rows(disturbed)
    lost = fits["replicate"].isin(CULPRITS)
    assert set(fits["method"][lost]) == set(fits["method"])
    assert fits["status"][lost].eq("failed").all()
    assert list(fits["message"][lost].unique()) == [LOST.format(replicate=one) for one in CULPRITS]
    measures = ["estimate", "std_error", "df", "ci_lower", "ci_upper", "p_value", "realized"]
    assert estimates.loc[estimates["replicate"].isin(CULPRITS), measures].isna().all(axis=None)
    undisturbed, keys = rows(whole), ["replicate", "method", "parameter", "component"]
    pd.testing.assert_frame_equal(estimates[keys], undisturbed[keys])
    for here, there in ((fits, rows(whole, "fits")), (estimates, undisturbed)):
        kept = ~here["replicate"].isin(CULPRITS)
        pd.testing.assert_frame_equal(here[kept], there[kept], check_exact=True, check_dtype=False)


def test_the_study_is_complete_and_counts_the_failures(scenario, disturbed, monkeypatch):
    n_failed = len(CULPRITS) * len(rows(disturbed, "fits")["method"].unique())
    (status,) = Store.read(disturbed).status().conditions
    assert (status.n_done, status.n_failed, status.missing) == (60, n_failed, ())
    assert find_faults(disturbed) == []
    assert set(summarize([disturbed])["n_failed"].to_pylist()) == {len(CULPRITS)}
    before = parts(disturbed)
    run_deadly(monkeypatch, Deadly, scenario, disturbed)
    assert parts(disturbed) == before


def test_workers_that_die_whatever_they_do_end_the_run(scenario, tmp_path, monkeypatch):
    with pytest.raises(McsimError, match=r"died twice \(exit code -11\) at Chunk"):
        run_deadly(monkeypatch, AlwaysDeadly, scenario, tmp_path / "out")


def test_halves_of_a_block_are_blocks_that_make_up_the_whole():
    chunk = Chunk("all", "key", 33, 64, ("right",))
    halves = [piece.chunks[0] for piece in pieces_of(Batch((chunk,)))]
    assert [(one.first, one.last) for one in halves] == [(33, 48), (49, 64)]
    assert {(one.condition, one.key, one.methods) for one in halves} == {("all", "key", ("right",))}
    one = Chunk("all", "key", 7, 7)
    lost = replace(one, is_lost=True)
    assert pieces_of(Batch((one,))) == [Batch((lost,))]
    assert pieces_of(Batch((lost,))) == []
    assert pieces_of(Batch((chunk, one))) == [Batch((chunk,)), Batch((one,))]
