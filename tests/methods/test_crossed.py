"""Subjects and items, years and schools: fits of lme4, lmerTest and pbkrtest."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.errors import DataError
from mcsim.methods.one_file import fit_file, fit_frame

FOLDER = Path(__file__).parent.parent / "reference" / "crossed"
FITS = json.loads((FOLDER / "crossed.json").read_text())


def fixed(found):
    return [one for one in found.parameters if one.component == "fixed"]


@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_that_of_lme4(name):
    data, estimator = name.split("/")
    fit, path = FITS[name], FOLDER / f"{data}.csv"
    found = fit_file(path, fit["formula"], estimator=estimator.lower())
    assert found.loglik == pytest.approx(fit["loglik"], abs=1e-6)
    assert (found.status == "boundary") == fit["singular"]
    values = {one.parameter: one.estimate for one in found.parameters}
    for one in fit["vc"]:
        if one["var2"] is None and one["grp"] != "Residual":
            column = one["var1"].replace("(Intercept)", "Intercept")
            level = one["grp"].split(":")[0]
            assert values[f"{level}.sd({column})"] == pytest.approx(one["sdcor"], rel=1e-4)
    rows = fixed(found)
    assert [one.estimate for one in rows] == pytest.approx(np.atleast_1d(fit["estimate"]), rel=1e-5)
    assert [one.std_error for one in rows] == pytest.approx(
        np.atleast_1d(fit["std_error"]), rel=1e-5
    )
    wanted = np.atleast_1d(fit["satterthwaite_df"])
    assert [one.df for one in rows] == pytest.approx(wanted, rel=2e-3)
    if "kr_df" in fit:
        rows = fixed(fit_file(path, fit["formula"], estimator="reml", df="kenward-roger"))
        assert [one.df for one in rows] == pytest.approx(np.atleast_1d(fit["kr_df"]), rel=1e-4)
        assert [one.std_error for one in rows] == pytest.approx(
            np.atleast_1d(fit["kr_se"]), rel=1e-4
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"df": "containment"}, "'containment' is for nested units, but those of 'sample' and"),
    ],
)
def test_what_only_nested_units_have_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        fit_file(FOLDER / "Penicillin.csv", FITS["Penicillin/REML"]["formula"], **options)


@pytest.mark.parametrize("interval", ["profile", "bootstrap"])
def test_intervals_of_components_of_crossed_units(interval):
    # confint(lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, REML = FALSE)) is
    # .sig01 0.6335660 1.1821040, .sig02 1.0957895 3.5562918, .sigma 0.4858454 0.6294535
    found = fit_file(
        FOLDER / "Penicillin.csv",
        FITS["Penicillin/ML"]["formula"],
        estimator="ml",
        interval=interval,
    )
    intervals = {
        one.parameter: (one.ci_lower, one.ci_upper)
        for one in found.parameters
        if ".sd" in one.parameter or one.parameter == "sigma"
    }
    expected = {
        "plate.sd(Intercept)": (0.6335658, 1.1821039),
        "sample.sd(Intercept)": (1.0957893, 3.5562916),
        "sigma": (0.4858454, 0.6294535),
    }
    for name, limits in expected.items():
        rel = 1e-3 if interval == "profile" else 0.5
        assert intervals[name] == pytest.approx(limits, rel=rel)


@pytest.mark.parametrize(
    "random",
    ["(1 | s) + (1 | i) + (1 | s:i)", "(1 | i) + (1 | s/i)", "(1 | i:s) + (1 | s) + (1 | i)"],
)
def test_pairs_of_units_that_cross_are_a_level_beside_them(random):
    n = np.arange(288)
    frame = pd.DataFrame({"s": n // 24, "i": n // 3 % 8})
    frame["y"] = (
        np.sin(frame["s"] ** 2) + np.cos(5 * frame["i"]) + np.sin(n // 3 * 7) + np.cos(n**2)
    )
    found = fit_frame(frame.astype({"s": str, "i": str}), f"y ~ 1 + {random}")
    # lmer(y ~ 1 + (1 | s) + (1 | i) + (1 | s:i), d), factors s and i
    assert found.loglik == pytest.approx(-403.828415294, abs=1e-6)
    sds = [one.estimate for one in found.parameters if ".sd(" in one.parameter]
    assert sds == pytest.approx([0.719412691, 0.700197552, 0.837954890], rel=1e-4)
    assert sum("`" in one.parameter and ":" in one.parameter for one in found.parameters) == 2
