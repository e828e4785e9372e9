"""Studies run in process: the same numbers however the work is shared."""

import pytest

from mcsim.results.store import Chunk
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.study.chunks import Batch
from mcsim.study.prepared import PreparedStudy


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
    todo = [Batch((Chunk("all", "key", first, first + 49),)) for first in (1, 51)]
    chosen = []
    for name in study.EXECUTORS:
        monkeypatch.setitem(
            study.EXECUTORS, name, lambda place, name=name: chosen.append((name, place.n_workers))
        )
    options = study.RunOptions(tmp_path, n_workers=2)
    study._executor(PreparedStudy(scenario), todo, options)
    slow = tuple(spec.model_copy(update={"interval": "bootstrap"}) for spec in scenario.methods)
    slow_study = PreparedStudy(scenario.model_copy(update={"methods": slow}))
    study._executor(slow_study, todo, options)
    study._executor(slow_study, todo[:1], options)
    assert chosen == [("serial", 1), ("processes", 2), ("serial", 1)]
