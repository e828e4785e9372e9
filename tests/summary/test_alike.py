"""Conditions whose short labels are alike, and the temporary file of a summary."""

import errno
from contextlib import nullcontext

import pytest

from mcsim.errors import DataError
from mcsim.results.folder import STATUSES, read_conditions
from mcsim.results.status import ConditionStatus, StudyStatus
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.summary import compare, effects, estimates
from mcsim.summary.overview import _rows
from mcsim.summary.printed import print_summary
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL

VALUES = ["0.3", "0.30000000000000004"]
LABELS = [f"sigma={one}" for one in VALUES]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alike")
    (folder / "s.toml").write_text(f'{SMALL}[sweep]\n"truth.sigma" = [{", ".join(VALUES)}]\n')
    scenario = load_scenario(folder / "s.toml", replicates=3)
    return run_study(scenario, RunOptions(folder / "out", n_workers=1)).directory


def test_labels_that_would_look_alike_are_whole(directory):
    table = summarize([directory])
    printed = print_summary(table, "table").splitlines()
    assert [line for line in printed if line.startswith("sigma=")] == LABELS

    own = [row for row in table.to_pylist() if row["parameter"] == "x"]
    rows = _rows(own, {"truth.sigma": "sigma"}, ["bias"])
    assert sorted({row[0] for row in rows[1:]}) == VALUES

    rows = compare.to_rows(compare.compare(directory, "right/z", "diagonal"))
    assert sorted({row[0].split(": ")[0] for row in rows[1:]}) == LABELS

    rows = effects.to_rows(effects.along_effects([directory], [0.5]))
    assert sorted({row[0] for row in rows[1:]}) == LABELS

    status = StudyStatus([ConditionStatus(one, 3, 3, 0, ()) for one in LABELS])
    assert [line.split(":")[0] for line in str(status).splitlines()[:2]] == LABELS


class FullDisk:
    """A file on a disk without space."""

    def seek(self, _place):
        return 0

    def write(self, _numbers):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_temporary_folder_is_named_as_such(directory, monkeypatch):
    monkeypatch.setattr(
        estimates.tempfile, "SpooledTemporaryFile", lambda _size: nullcontext(FullDisk())
    )
    with pytest.raises(DataError, match=r"temporary file.*: No space left.*TMPDIR=FOLDER"):
        list(estimates.read_results(directory, read_conditions(directory), STATUSES[:2]))
