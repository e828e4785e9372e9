import math
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import count_peers, counts, peers, timing

EIGHT_ANIMALS = ["design.levels.animal.count=4"]
CLOSE = 1e-5  # of a log-likelihood: optimizers of others stop at about 1e-6


@pytest.fixture(scope="module")
def data_set() -> tuple[pd.DataFrame, float]:
    return timing.one_data_set(EIGHT_ANIMALS)


@pytest.fixture
def rscript(tmp_path, monkeypatch):
    """Makes a program named Rscript that does what a line of shell says."""

    def make(line: str) -> Path:
        program = tmp_path / "Rscript"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return tmp_path

    return make


@pytest.mark.parametrize("name", peers.installed_peers())
def test_no_other_program_finds_a_higher_likelihood(name, data_set):
    frame, loglik = data_set
    found = peers.installed_peers()[name](frame)
    assert not found.error
    assert found.seconds > 0
    assert found.loglik is None or found.loglik < loglik + CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("case", counts.CASES)
def test_no_other_program_finds_a_higher_likelihood_of_counts(case):
    family, more, formula, _ = counts.CASES[case]
    frame, responses = counts.data_of(family, more, formula)
    _, loglik = counts.own_fits(frame, responses[:1], family, formula, "laplace", "containment")
    for name, fit in count_peers.installed_peers(family, formula).items():
        found = peers.fit_or_reason(fit, frame)
        assert found.error or found.loglik, name
        assert found.loglik is None or found.loglik < loglik + CLOSE, name


def test_an_error_of_a_program_becomes_its_reason(monkeypatch, data_set):
    def fit(frame):
        raise ZeroDivisionError(f"{len(frame)} rows")

    monkeypatch.setattr(peers, "PEERS", {"numpy (for example)": fit, "not-a-program": fit})
    found = peers.installed_peers()
    assert list(found) == ["numpy (for example)"]
    result = found["numpy (for example)"](data_set[0])
    assert result.error == f"ZeroDivisionError: {len(data_set[0])} rows"
    assert result.loglik is None
    assert math.isnan(result.seconds)


def test_r_gets_the_data_and_tells_likelihood_and_seconds(rscript, data_set):
    folder = rscript('cp "$1" "$2" "$(dirname "$0")"; echo "12.5 0.25"')
    assert peers.fit_with_r("nlme", data_set[0]) == peers.PeerFit(12.5, 0.25)
    assert "library(nlme)" in (folder / "fit.R").read_text()
    pd.testing.assert_frame_equal(pd.read_csv(folder / "data.csv"), data_set[0])


def test_a_failing_fit_in_r_is_reported_with_its_message(rscript, data_set):
    rscript("echo 'Error in lme.formula: iteration limit' >&2; exit 1")
    with pytest.raises(RuntimeError, match="iteration limit"):
        peers.fit_with_r("nlme", data_set[0])


def test_r_counts_only_with_the_package(rscript):
    rscript('case "$2" in *lme4*) exit 0;; esac; exit 1')
    assert "lme4" in peers.installed_peers()
    assert "nlme" not in peers.installed_peers()
