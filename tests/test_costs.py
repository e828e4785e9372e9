"""What a replicate costs in counts, which no machine changes: bounds a tenth above them."""

import io
import subprocess
import sys
import tracemalloc

import pyarrow.parquet as pq
import pytest

from benchmarks.scenarios import SEED, UNBALANCED
from mcsim.results.store import Chunk
from mcsim.scenario.load import load_scenario
from mcsim.study.analyse import ChunkAnalyser
from mcsim.study.prepared import PreparedStudy

N = 256
COMPILED = """
import sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study

run_study(load_scenario(Path(sys.argv[1])), RunOptions(Path(sys.argv[2]), 1))
modules = [module for name, module in sys.modules.items() if name.startswith("mcsim")]
found = {id(v): v for module in modules for v in vars(module).values()}
print(sum(len(v.signatures) for v in found.values() if isinstance(v, CPUDispatcher)))
"""


def scenario(tmp_path, overrides=()):
    path = tmp_path / "seed.toml"
    path.write_text(SEED)
    return load_scenario(path, overrides=overrides)


@pytest.mark.parametrize(
    ("overrides", "evaluations", "n_bytes", "memory"),
    [
        ([], {"general": 15, "diagonal": 18}, 1_050, 11_000),
        (UNBALANCED, {"general": 27.5, "diagonal": 20}, 1_150, 58_000),
    ],
    ids=["balanced", "unbalanced"],
)
def test_a_replicate_takes_no_more_than_it_did(tmp_path, overrides, evaluations, n_bytes, memory):
    study = PreparedStudy(scenario(tmp_path, overrides))
    (label,) = study.conditions
    analyser = ChunkAnalyser(study)
    analyser.files(Chunk(label, "", 1, 2))  # prepares what replicates share
    tracemalloc.start()
    files = analyser.files(Chunk(label, "", 1, N))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    fits = pq.read_table(io.BytesIO(files.fits)).to_pandas()
    means = fits.groupby("method", observed=True)["evaluations"].mean()
    assert all(means[name] <= most for name, most in evaluations.items()), means
    assert (len(files.estimates) + len(files.fits)) / N <= n_bytes
    assert peak / N <= memory


def test_a_study_compiles_no_more_than_it_did(tmp_path):
    scenario(tmp_path)
    arguments = [sys.executable, "-c", COMPILED, tmp_path / "seed.toml", tmp_path / "out"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) <= 8  # entry points, each for one kind of arguments
