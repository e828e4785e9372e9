"""The files of a study, read by the programs that people use."""

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from mcsim.scenario.load import load_scenario
from mcsim.study import run as study

COLUMNS = {
    "estimates": [
        *("condition", "replicate", "method", "parameter", "component", "estimate", "std_error"),
        *("df", "ci_lower", "ci_upper", "p_value", "realized", "shift", "true_se"),
    ],
    "fits": [
        *("condition", "replicate", "method", "status", "loglik", "evaluations", "certificate"),
        "message",
    ],
}
TEXTS = ("condition", "method", "parameter", "component", "status", "message")
INTEGERS = ("replicate", "evaluations")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("readers")
    (folder / "s.toml").write_text(SMALL)
    scenario = load_scenario(folder / "s.toml", replicates=120)
    return study.run_study(scenario, study.RunOptions(folder / "out", n_workers=1)).directory


def with_pandas(pattern):
    return pd.concat(map(pd.read_parquet, sorted(pattern.parent.glob(pattern.name))))


READERS = {
    "pandas": with_pandas,
    "polars": lambda pattern: pl.read_parquet(pattern).to_pandas(),
    "duckdb": lambda pattern: duckdb.sql(f"SELECT * FROM '{pattern}'").df(),
    "pyarrow": lambda pattern: ds.dataset(pattern.parent).to_table().to_pandas(),
}


def plain(frame):
    """Texts as text, in one order: dictionaries are a matter of storage."""
    frame = frame.astype({name: object for name in TEXTS if name in frame})
    keys = [name for name in ("replicate", "method", "parameter") if name in frame]
    return frame.sort_values(keys, ignore_index=True)


@pytest.mark.parametrize("folder", ["estimates", "fits"])
def test_all_readers_see_the_same_rows_and_types(directory, folder):
    found = {name: plain(read(directory / folder / "*.parquet")) for name, read in READERS.items()}
    reference = found["pyarrow"]
    assert len(reference) == 120 * (2 * 12 + 13 if folder == "estimates" else 3)
    assert list(reference.columns) == COLUMNS[folder]
    for name, frame in found.items():
        assert list(frame.columns) == COLUMNS[folder], name
        for column in frame:
            is_text, is_integer = column in TEXTS, column in INTEGERS
            kind = frame[column].dtype.kind
            assert kind == ("O" if is_text else "i" if is_integer else "f"), (name, column)
            ours, theirs = reference[column], frame[column]
            assert (ours.isna() == theirs.isna()).all(), (name, column)
            assert (ours[ours.notna()] == theirs[ours.notna()]).all(), (name, column)
