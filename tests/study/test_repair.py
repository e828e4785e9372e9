"""A repair computes what is damaged or missing, and ends in the bytes of before."""

import json
import random
import shutil

import pytest

from mcsim.errors import DataError
from mcsim.results.verify import find_faults
from mcsim.scenario.load import load_scenario
from mcsim.study.repair import repair_study
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.printed import to_csv
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL, run_mcsim
from tests.results.test_store import files
from tests.results.test_verify import flip_a_bit


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study of 60 replicates, as it must be again after every repair."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(SMALL)
    run_study(load_scenario(folder / "small.toml"), RunOptions(folder / "study", n_workers=1))
    return folder / "study"


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


DAMAGES = {"delete": lambda path: path.unlink(), "flip": flip_a_bit, "truncate": truncate}


@pytest.mark.parametrize("seed", range(6))
def test_a_repair_ends_in_the_bytes_of_before(finished, tmp_path, seed):
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    before = files(finished)
    chance = random.Random(seed)
    paths = [study / name for name in before if name.count("/") == 1]
    for path in chance.sample(paths, 3):
        chance.choice(list(DAMAGES.values()))(path)
    foreign = study / "estimates" / "mine.parquet"
    foreign.write_bytes(b"mine")
    faults = find_faults(study)
    repair_study(faults, RunOptions(study, n_workers=1))
    assert len(faults) > 1
    assert [str(fault) for fault in find_faults(study)] == [
        "estimates/mine.parquet: foreign: no part of this study"
    ]
    assert files(study) == before | {"estimates/mine.parquet": b"mine"}


def test_a_repair_computes_the_damaged_parts_only(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    damaged = sorted(study.glob("estimates/*"))[1]
    flip_a_bit(damaged)
    untouched = {path: path.stat().st_mtime_ns for path in study.glob("*/part-*")}
    n_planned = []
    repair_study(find_faults(study), RunOptions(study, n_workers=1, start=n_planned.append))
    assert n_planned == [16]  # 60 replicates are cut into 32, 16, 8 and 4
    changed = {path.stem for path, time in untouched.items() if path.stat().st_mtime_ns != time}
    assert changed == {damaged.stem}


def test_damaged_parts_beyond_the_planned_replicates_are_repaired_too(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    fewer = load_scenario(study / "scenario.toml", replicates=10)
    run_study(fewer, RunOptions(study, n_workers=1))
    flip_a_bit(sorted(study.glob("fits/*"))[-1])
    repair_study(find_faults(study), RunOptions(study, n_workers=1))
    assert find_faults(study) == []
    assert len(list(study.glob("commits/*"))) == 4


def test_a_flipped_bit_is_an_error_or_nothing_but_never_another_number(finished, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    right, chance = to_csv(summarize([study])), random.Random(1)
    n_refused = 0
    for path in study.glob("*/part-*-0000001-0000032.parquet"):
        content = path.read_bytes()
        for _ in range(100):
            flip_a_bit(path, chance.randrange(len(content)))
            try:
                assert to_csv(summarize([study])) == right
            except DataError:
                n_refused += 1
            path.write_bytes(content)
    assert n_refused > 50  # the others are of columns that no summary reads


def test_the_command_names_what_is_wrong_and_repairs_it(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    clean = run_mcsim("verify", "out", cwd=tmp_path)
    assert (clean.returncode, clean.stdout, clean.stderr) == (0, "", "out: nothing is wrong\n")
    damaged = sorted((tmp_path / "out").glob("estimates/*"))[0]
    content = damaged.read_bytes()
    truncate(damaged)
    found = run_mcsim("verify", "out", cwd=tmp_path)
    line = f"estimates/{damaged.name}: truncated: 200 of {len(content)} bytes\n"
    assert (found.returncode, found.stdout) == (2, line)
    assert found.stderr == "out: 1 found wrong; `--repair` mends all but foreign files\n"
    for command in (["summarize", "out"], ["run", "out/scenario.toml", "-o", "out"]):
        refused = run_mcsim(*command, cwd=tmp_path)
        assert refused.returncode == 2
        assert f"{damaged.name} is damaged: " in refused.stderr
        assert "`mcsim verify out --repair` computes it again" in refused.stderr
        assert "Traceback" not in refused.stderr
    repaired = run_mcsim("verify", "out", "--repair", cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert damaged.read_bytes() == content
    assert (tmp_path / "out" / "summary.csv").exists()


def put_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        *DAMAGES.values(),
        put_folder,
        lambda path: path.write_text(path.read_text().replace("seed = 7", "seed = 8")),
    ],
)
def test_the_scenario_of_the_study_is_brought_back(finished, tmp_path, damage):
    study = tmp_path / "study"
    shutil.copytree(finished, study)
    damage(study / "scenario.toml")
    flip_a_bit(sorted(study.glob("fits/*"))[0])
    repair_study(find_faults(study), RunOptions(study, n_workers=1))
    assert find_faults(study) == []
    assert files(study) == files(finished)


def test_without_a_copy_of_the_scenario_the_study_is_to_be_run_again(finished, tmp_path):
    study, path = tmp_path / "study", tmp_path / "study" / "manifest.json"
    shutil.copytree(finished, study)
    manifest = json.loads(path.read_text())  # as an earlier version wrote it
    del manifest["checksum"], manifest["scenario"]
    path.write_text(json.dumps(manifest))
    (study / "scenario.toml").unlink()
    with pytest.raises(DataError, match=r"scenario\.toml is damaged or missing. Repeat .mcsim run"):
        repair_study(find_faults(study), RunOptions(study, n_workers=1))
    (tmp_path / "own.toml").write_text(SMALL)
    run_study(load_scenario(tmp_path / "own.toml"), RunOptions(study, n_workers=1))
    assert files(study) == files(finished)


@pytest.mark.parametrize("content", [None, b"PAR1 and no more"])
def test_a_table_of_conditions_that_cannot_be_read_is_named_and_written_again(
    finished, tmp_path, content
):
    folder = tmp_path / "study"
    shutil.copytree(finished, folder)
    path = folder / "conditions.parquet"
    path.unlink()
    if content:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read.*Repeat .mcsim run"):
            summarize([folder])
    faults = find_faults(folder)
    assert [fault.where for fault in faults] == ["conditions.parquet"]
    repair_study(faults, RunOptions(folder, n_workers=1))
    assert path.read_bytes() == (finished / "conditions.parquet").read_bytes()
    assert find_faults(folder) == []
