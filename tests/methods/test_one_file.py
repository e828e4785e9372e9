"""One fit of a table: numbers beside those of R's lme4, and fits that there are none of.

The data, in R:
    d <- expand.grid(day = 1:4, side = 1:2, dog = 1:6); i <- 1:48
    d$y <- 10 + 3 * sin(7 * d$dog) + 2 * cos(3 * d$dog + 11 * d$side) + sin(i^2)
    d$f <- c("a", "b", "c")[1 + i %% 3]
"""

import json

import numpy as np
import pandas as pd
import pytest

from mcsim.errors import DataError
from mcsim.methods.one_file import fit_frame
from tests.conftest import SMALL, call_mcsim


@pytest.fixture(scope="module")
def dogs():
    i = np.arange(1, 49)
    frame = pd.DataFrame(
        {"day": (i - 1) % 4 + 1.0, "side": (i - 1) // 4 % 2 + 1, "dog": (i - 1) // 8 + 1}
    )
    of_dog, of_side = (
        3 * np.sin(7 * frame["dog"]),
        2 * np.cos(3 * frame["dog"] + 11 * frame["side"]),
    )
    frame["y"] = 10 + of_dog + of_side + np.sin(i**2)
    return frame.assign(f=np.array(["a", "b", "c"])[i % 3])


def estimates(fit):
    return {one.parameter: one.estimate for one in fit.parameters}


@pytest.mark.parametrize(
    "random",
    [
        "(1 | dog) + (1 | side:dog)", "(1 | side:dog) + (1 | dog)", "(1 | dog) + (1 | dog:side)",
        "(1 | dog/side)",
    ],
)  # fmt: skip
def test_a_level_is_the_same_in_every_spelling(dogs, random):
    # lmer(y ~ day + (1 | dog) + (1 | side:dog), d)
    fit = fit_frame(dogs, f"y ~ day + {random}")
    assert fit.loglik == pytest.approx(-73.6659462, abs=1e-6)
    found = estimates(fit)
    assert found["dog.sd(Intercept)"] == pytest.approx(2.875887, rel=1e-4)
    assert found["side.sd(Intercept)"] == pytest.approx(0.6929735, rel=1e-4)


def test_labels_that_repeat_cross_and_both_other_readings_are_said(dogs):
    # lmer(y ~ day + (1 | dog) + (1 | side), d)
    crossed = fit_frame(dogs, "y ~ day + (1 | dog) + (1 | side)")
    assert crossed.loglik == pytest.approx(-77.2357713, abs=2e-5)  # lme4 stops at side.sd = 8e-4
    (note,) = crossed.notes
    assert "(... | dog/side) if a label of 'side' means another unit in every 'dog'" in note
    assert "(... | side/dog) if a label of 'dog' means another unit in every 'side'" in note
    # lmer(y ~ day + (1 | side/dog), d)
    other = fit_frame(dogs, "y ~ day + (1 | side/dog)")
    assert other.loglik == pytest.approx(-79.4812181, abs=1e-6)


@pytest.mark.parametrize("fixed", ["0", "-1", "day - day - 1"])
@pytest.mark.parametrize(
    ("estimator", "df"),
    [("reml", "containment"), ("ml", "satterthwaite"), ("reml", "kenward-roger"), ("ml", "z")],
)
def test_a_model_without_fixed_effects(dogs, estimator, fixed, df):
    # lmer(y ~ 0 + (1 | dog), d, REML = TRUE or FALSE): the same
    fit = fit_frame(dogs, f"y ~ {fixed} + (1 | dog)", estimator=estimator, df=df)
    assert fit.loglik == pytest.approx(-85.6683931, abs=1e-6)
    expected = {"dog.sd(Intercept)": 10.88467, "sigma": 0.9309330}
    assert estimates(fit) | expected == pytest.approx(estimates(fit), rel=1e-4)


@pytest.mark.parametrize(
    ("random", "loglik"),
    [
        ("(0 + f || dog)", -77.0358935),  # lmer(y ~ day + (0 + f || dog), d)
        ("(f || dog)", -77.0358935),  # lmer(y ~ day + (f || dog), d)
        ("(poly(day, 2) || dog)", -77.2357622),  # lmer(y ~ day + (poly(day, 2) || dog), d)
    ],
)
def test_two_bars_keep_the_columns_of_one_term_correlated(dogs, random, loglik):
    # the variances of (f || dog) cannot be told apart, the likelihood is what it is
    fit = fit_frame(dogs, f"y ~ day + {random}", identifiable=False)
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)


def test_five_nested_levels():
    # e <- expand.grid(r = 1:3, e = 1:2, d = 1:2, c = 1:2, b = 1:2, a = 1:3); i <- 1:144
    # e$y <- sin(i^2) + sin(5*e$a) + cos(3*e$a + 7*e$b) + sin(2*e$a + 5*e$b + 11*e$c) +
    #   cos(e$a + 2*e$b + 3*e$c + 13*e$d) + sin(4*e$a + 3*e$b + 2*e$c + e$d + 17*e$e)
    # lmer(y ~ 1 + (1 | a/b/c/d/e), e); the n x n likelihood is compared by the fit itself
    a, b, c, d, e, _ = (1 + one.ravel() for one in np.indices((3, 2, 2, 2, 2, 3)))
    y = np.sin(np.arange(1, 145) ** 2) + np.sin(5 * a) + np.cos(3 * a + 7 * b)
    y += np.sin(2 * a + 5 * b + 11 * c) + np.cos(a + 2 * b + 3 * c + 13 * d)
    y += np.sin(4 * a + 3 * b + 2 * c + d + 17 * e)
    frame = pd.DataFrame({"a": a, "b": b, "c": c, "d": d, "e": e, "y": y})
    fit = fit_frame(frame, "y ~ 1 + (1 | a/b/c/d/e)")
    assert fit.loglik == pytest.approx(-205.45108, abs=1e-4)
    found = [estimates(fit)[f"{level}.sd(Intercept)"] for level in "abcde"]
    assert found == pytest.approx([1.238898, 0.0, 1.157853, 0.0, 0.7322133], abs=1e-3)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ -1", "has no effect, fixed or random"),
        ("y ~ day + (0 | dog)", r"the term \(0 \| dog\) has no effect"),
        ("y ~ C(z)", "makes up to 41 columns of these data; at most 40 are fitted"),
        ("y ~ 1 + (0 + C(z) | dog)", "makes up to 41 columns of these data; at most 20 are fitted"),
        ("y ~ day + (1 | side) + (day || side)", "level 'side' has the random effect 'Intercept'"),
    ],
)
def test_what_no_model_is_made_of_is_refused(dogs, formula, message, monkeypatch):
    monkeypatch.setattr("mcsim.design.size.MAX_FIXED", 40)
    with pytest.raises(DataError, match=message):
        fit_frame(dogs.assign(z=np.arange(48) % 40), formula)


def test_columns_that_fill_the_memory_are_refused_with_their_size(dogs, monkeypatch):
    monkeypatch.setattr("mcsim.design.size.MAX_NUMBERS", 400)
    message = "makes up to 10 columns of 48 rows, 0.0 GB; at most 3.2e-06 GB are taken"
    with pytest.raises(DataError, match=message):
        fit_frame(dogs, "y ~ f * day + (day | dog)")


@pytest.mark.parametrize(
    ("y", "message"),
    [(4.0, "the response is 4 in every row"), ("day", "the model fits the response exactly")],
)
def test_a_fit_that_fails_says_why_and_ends_with_3(dogs, tmp_path, y, message):
    response = dogs["day"] * 3 if y == "day" else y
    dogs.assign(y=response).to_csv(tmp_path / "dogs.csv", index=False)
    command = ("fit", "dogs.csv", "--formula", "y ~ day + (1 | dog)")
    done = call_mcsim(*command, cwd=tmp_path)
    assert done.returncode == 3
    assert message in done.stderr
    assert json.loads(call_mcsim(*command, "--format", "json", cwd=tmp_path).stdout)["message"]


def test_what_is_left_out_of_the_data_is_said_on_stderr(dogs, tmp_path):
    y = dogs["y"].where(dogs.index > 2)
    dogs.assign(y=y).to_csv(tmp_path / "dogs.csv", index=False)
    done = call_mcsim("fit", "dogs.csv", "--formula", "y ~ day", cwd=tmp_path)
    assert done.stderr == (
        "dogs.csv: left out 3 of 48 rows, which lack a value: y (3)\n"
        "dogs.csv: no random term: its 45 rows are taken as independent\n"
    )
    assert "45 observations" in done.stdout


def test_codes_that_are_a_covariate_too_are_printed_as_in_the_table(dogs):
    names = [*estimates(fit_frame(dogs, "y ~ day + C(day) + (1 | dog)"))]
    assert names[:4] == ["Intercept", "day", "C(day)[T.2]", "C(day)[T.3]"]
    random = [*estimates(fit_frame(dogs, "y ~ day + (0 + C(day) | dog)", identifiable=False))]
    assert "dog.sd(C(day)[1])" in random


def test_a_reference_level_that_is_not_the_first_of_the_alphabet(dogs):
    # R: m <- lm(y ~ relevel(factor(f), "b"), d); coef(m)
    found = estimates(fit_frame(dogs, "y ~ f", {"f": "b"}))
    assert [*found][:3] == ["Intercept", "f[T.a]", "f[T.c]"]
    assert [*found.values()][:3] == pytest.approx(
        [10.4160432950, 0.2305326529, 0.1893911975], rel=1e-6
    )


def test_a_simulated_data_set_comes_back_with_its_reference_level(tmp_path):
    text = SMALL.replace('["fasted", "fed"]', '["lean", "fed"]').replace("fasted", "lean")
    (tmp_path / "small.toml").write_text(text)
    made = call_mcsim("simulate", "small.toml", "--replicate", 1, "-o", "one.csv", cwd=tmp_path)
    assert made.stderr == (
        "CSV has no order of levels: for the parameters of this scenario, fit it with --reference"
        " diet=lean (in R: relevel(factor(diet), 'lean'))\n"
    )
    formula = ["--formula", "y ~ diet * x + (1 | animal)", "--reference", "diet=lean"]
    fitted = call_mcsim("fit", "one.csv", *formula, "--format", "json", cwd=tmp_path)
    assert "diet[T.fed]" in [one["parameter"] for one in json.loads(fitted.stdout)["parameters"]]
    written = call_mcsim("init", "back", "--from-data", "one.csv", *formula, cwd=tmp_path)
    assert written.returncode == 0
    assert 'diet = ["lean", "fed"]' in (tmp_path / "back.toml").read_text()
    refused = call_mcsim("init", "other", "--reference", "diet=lean", cwd=tmp_path)
    assert (refused.returncode, (tmp_path / "other.toml").exists()) == (2, False)


def test_levels_that_a_csv_file_would_lose_are_said(tmp_path):
    text = SMALL.replace('["fasted", "fed"]', '["1", "NA"]').replace("T.fed", "T.NA")
    text = text.replace("{ fasted = 4, fed = 5 }", "4")
    (tmp_path / "small.toml").write_text(text)
    made = call_mcsim("simulate", "small.toml", "--replicate", 1, "-o", "1.csv", cwd=tmp_path)
    assert made.stderr == (
        "In CSV the level 'NA' of diet is read as a missing value: give it another name\n"
    )
    (tmp_path / "small.toml").write_text(text.replace('"NA"]', '"2"]').replace("T.NA", "T.2"))
    made = call_mcsim("simulate", "small.toml", "--replicate", 1, "-o", "1.csv", cwd=tmp_path)
    assert made.stderr == (
        "In CSV the levels of diet look like numbers: write C(diet) in the formula of mcsim fit"
        " (in R: factor(diet))\n"
    )


def test_covariates_far_from_zero_fit_as_those_near_it(dogs):
    near = fit_frame(dogs, "y ~ day + (day | dog)")
    seconds = fit_frame(dogs.assign(day=1.7e9 + 60.0 * dogs["day"]), "y ~ day + (day | dog)")
    assert seconds.loglik == pytest.approx(near.loglik - np.log(60.0), abs=1e-5)
    years = fit_frame(dogs.assign(day=2000.0 + dogs["day"]), "y ~ day + I(day^2) + (1 | dog)")
    curve = fit_frame(dogs, "y ~ day + I(day^2) + (1 | dog)")
    assert years.loglik == pytest.approx(curve.loglik, abs=1e-6)
    cubic = "y ~ day + I(day^2) + I(day^3) + (1 | dog)"
    left_out = str(fit_frame(dogs.assign(day=2000.0 + dogs["day"]), cubic))
    assert "determine it: I(day ** 3)\n(powers of a covariate far from 0" in left_out
    with pytest.raises(DataError, match=r"a year, centre or scale that; .* write poly\(year, 3\)"):
        fit_frame(dogs.assign(day=1000.0 + dogs["day"]), cubic)
    with pytest.raises(DataError, match=r"'I\(0 \* day\) \| dog' is zero in every row; leave it"):
        fit_frame(dogs, "y ~ day + (0 + I(0 * day) + day | dog)")


def test_a_factor_of_one_level_is_named_as_left_out(dogs):
    fit = fit_frame(dogs.assign(f="a"), "y ~ day + f + (1 | dog)")
    assert fit.aliased == ("f",)


def test_columns_may_be_called_as_functions_are_but_not_as_sigma(dogs):
    renamed = dogs.rename(columns={"day": "poly", "f": "C", "dog": "log"})
    fit = fit_frame(renamed, "y ~ poly(poly, 2) + C(C) + (1 | log)")
    assert fit.loglik == fit_frame(dogs, "y ~ poly(day, 2) + C(f) + (1 | dog)").loglik
    with pytest.raises(DataError, match="'sigma' cannot be told from the parameter sigma; rename"):
        fit_frame(dogs.rename(columns={"day": "sigma"}), "y ~ sigma + (1 | dog)")


def test_rows_left_out_are_said_where_the_fit_is_refused(dogs, tmp_path):
    dogs.assign(dog=dogs["dog"].where(~dogs["dog"].duplicated())).to_csv(tmp_path / "d.csv")
    done = call_mcsim("fit", "d.csv", "--formula", "y ~ day + (1 | dog)", cwd=tmp_path)
    assert done.returncode == 2
    assert "left out 42 of 48 rows, which lack a value: dog (42)" in done.stderr
    assert "cannot tell dog.sd(Intercept) and sigma apart" in done.stderr
