"""Chunks: as large as their data sets allow, and small ones together."""

import pytest

from mcsim.results.store import Chunk
from mcsim.scenario.load import load_scenario
from mcsim.study import chunks
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import RunOptions, run_prepared
from mcsim.study.shards import n_replicates


@pytest.fixture
def scenario(small_scenario):
    return load_scenario(small_scenario, replicates=120)


def test_chunks_of_large_data_sets_are_smaller(scenario, tmp_path, monkeypatch):
    study = PreparedStudy(scenario)
    store = run_prepared(study, RunOptions(tmp_path / "one", n_workers=1))
    n_rows = study.n_rows("all")

    def largest():
        planned = chunks.plan_chunks(study, store.contents, [(1, 20_000)])
        assert n_replicates(planned) == 20_000
        return max(n_replicates([chunk]) for chunk in planned)

    assert largest() == 2048
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 300 * n_rows)
    assert largest() == 256
    monkeypatch.setattr(chunks, "CHUNK_VALUES", n_rows)
    assert largest() == 32


def sizes(study, replicates):
    todo = [Chunk("all", "key", 1, n) for n in replicates]
    found = list(chunks.batches(study, todo))
    assert [chunk for batch in found for chunk in batch.chunks] == todo
    return [len(batch.chunks) for batch in found]


def test_small_chunks_go_together_and_large_or_slow_ones_alone(scenario, monkeypatch):
    study = PreparedStudy(scenario)
    monkeypatch.setattr(chunks, "BATCH_VALUES", 10 * study.n_rows("all"))
    assert sizes(study, [2] * 12) == [5, 5, 2]
    assert sizes(study, [100, 11, 3, 3, 11]) == [1, 1, 2, 1]
    monkeypatch.setattr(chunks, "BATCH_REPLICATES", 8)
    assert sizes(study, [4, 2, 2, 1]) == [3, 1]
    monkeypatch.setattr(chunks, "BATCH_CHUNKS", 4)
    assert sizes(study, [1] * 9) == [4, 4, 1]
    slow = tuple(spec.model_copy(update={"interval": "bootstrap"}) for spec in scenario.methods)
    slow_study = PreparedStudy(scenario.model_copy(update={"methods": slow}))
    assert sizes(slow_study, [1] * 3) == [1] * 3
