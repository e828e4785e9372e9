"""Studies run in process: the same numbers however the work is shared."""

import pytest

from mcsim.scenario.load import load_scenario
from mcsim.study import run as study


@pytest.fixture
def scenario(small_scenario):
    return load_scenario(small_scenario, replicates=120)


def _parts(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in sorted(directory.glob("*/part-*.parquet"))
    }


def test_workers_write_the_same_bytes_as_one_process(scenario, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SERIAL_ROWS", 0)
    shared = study.run_study(scenario, study.RunOptions(tmp_path / "two", n_workers=2))
    alone = study.run_study(scenario, study.RunOptions(tmp_path / "one", n_workers=1))
    assert _parts(shared.directory) == _parts(alone.directory)
    # 120 replicates: 32, 32, 32, 16, 8; estimates and fits
    assert len(_parts(alone.directory)) == 10


def test_small_studies_stay_in_one_process_but_not_slow_methods(scenario, tmp_path, monkeypatch):
    analyser = study.ChunkAnalyser(scenario)
    label = "all"
    chunks = [study.Chunk(label, "key", 1, 50), study.Chunk(label, "key", 51, 100)]
    chosen = []
    for name in study.EXECUTORS:
        monkeypatch.setitem(study.EXECUTORS, name, lambda n, name=name: chosen.append((name, n)))
    options = study.RunOptions(tmp_path, n_workers=2)
    study._executor(analyser, chunks, options)
    slow = tuple(spec.model_copy(update={"interval": "bootstrap"}) for spec in scenario.methods)
    analyser = study.ChunkAnalyser(scenario.model_copy(update={"methods": slow}))
    study._executor(analyser, chunks, options)
    study._executor(analyser, chunks[:1], options)
    assert chosen == [("serial", 1), ("processes", 2), ("serial", 1)]


def test_chunks_of_large_data_sets_are_smaller(scenario, tmp_path, monkeypatch):
    analyser = study.ChunkAnalyser(scenario)
    store = study.run_study(scenario, study.RunOptions(tmp_path / "one", n_workers=1))
    n_rows = len(analyser.prepared("all").simulator.mean)

    def largest():
        chunks = study.plan_chunks(analyser, store, [(1, 20_000)])
        assert study.n_replicates(chunks) == 20_000
        return max(study.n_replicates([chunk]) for chunk in chunks)

    assert largest() == 2048
    monkeypatch.setattr(study, "CHUNK_VALUES", 300 * n_rows)
    assert largest() == 256
    monkeypatch.setattr(study, "CHUNK_VALUES", n_rows)
    assert largest() == 32
