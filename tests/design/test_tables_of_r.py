"""Tables as laboratories keep them, read and fitted by R: tables/fit_tables.R."""

import json
from pathlib import Path

import pytest

from mcsim.methods.one_file import fit_file

FOLDER = Path(__file__).parent.parent / "tables"
FITS = json.loads((FOLDER / "fits.json").read_text())["fits"]


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: f"{fit['file']}: {fit['formula']}")
def test_a_table_is_read_as_r_reads_it(fit):
    found = fit_file(FOLDER / fit["file"], fit["formula"], df="z")
    assert found.n_obs == fit["n_obs"]
    assert found.loglik == pytest.approx(fit["reml"], abs=2e-6)
    fixed = [one.estimate for one in found.parameters if one.component == "fixed"]
    wanted = fit["fixed"] if isinstance(fit["fixed"], list) else [fit["fixed"]]
    assert sorted(fixed) == pytest.approx(sorted(wanted), rel=1e-5, abs=1e-6)
