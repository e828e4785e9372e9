"""The table of conditions says what every row is, so that its readers need no scenario."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcsim.errors import DataError
from mcsim.methods.inference.components import RandomNames
from mcsim.names import Parameter
from mcsim.results.folder import read_conditions
from mcsim.results.merge import merge_studies
from mcsim.scenario.load import load_scenario
from mcsim.scenario.plugin_file import read_plugin
from mcsim.study.conditions_table import SCHEMA
from mcsim.study.implied_truth import _values
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.compare import compare
from tests.conftest import SMALL

TEXT = (
    SMALL
    + """
[[estimands]]
name = "total.sd(x)"
[[estimands]]
name = "fed at 1"
fixed = { "diet[T.fed]" = 1.0, "diet[T.fed]:x" = 1.0 }
[sweep]
"design.levels.image.count" = [2, 4]
"truth.sigma" = [0.5, 1]
"""
)
ADDED = ("kind", "level", "condition_in_words", "design_in_words")


def run(folder, text, replicates=1, report=lambda _: None):
    folder.mkdir()
    path = folder / "scenario.toml"
    path.write_text(text)
    scenario = load_scenario(path, replicates=replicates)
    return run_study(scenario, RunOptions(folder / "out", n_workers=1, report=report)).directory


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return run(tmp_path_factory.mktemp("table") / "study", TEXT)


def test_it_has_the_kind_and_level_of_every_parameter(study):
    rows = pq.read_table(study / "conditions.parquet").to_pylist()
    for row in rows:
        one = Parameter.read(row["parameter"], row["component"])
        assert (row["kind"], row["level"]) == (one.kind, one.level)
    kinds = {row["parameter"]: (row["kind"], row["level"]) for row in rows}
    assert kinds["animal.cor(Intercept,x)"] == ("correlation", "animal")
    assert kinds["total.sd(x)"] == ("sd", "total")
    assert kinds["fed at 1"] == ("own", None)
    assert kinds["sigma"] == ("sigma", None)


def test_it_has_words_for_a_condition_and_its_design(study):
    rows = pq.read_table(study / "conditions.parquet").to_pylist()
    words = {row["condition"]: (row["condition_in_words"], row["design_in_words"]) for row in rows}
    assert words["image.count=2, sigma=1"] == (
        "image.count = 2, sigma = 1",
        "9 units of animal; 18 units of image, 2 per animal; 90 observations, 5 per image",
    )
    assert len(words) == 4


def test_a_key_of_the_sweep_is_a_column_after_those_that_every_study_has(study):
    table = pq.read_table(study / "conditions.parquet")
    assert table.column_names == [*SCHEMA.names, "design.levels.image.count", "truth.sigma"]
    assert set(table["truth.sigma"].to_pylist()) == {0.5, 1.0}


def as_format_2(study, folder):
    """A copy of a study as an earlier version wrote it: without the added columns."""
    folder.mkdir()
    table = pq.read_table(study / "conditions.parquet").drop_columns(list(ADDED))
    pq.write_table(table, folder / "conditions.parquet")
    manifest = json.loads((study / "manifest.json").read_text()) | {"format": 2}
    del manifest["checksum"]  # which came later
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "scenario.toml").write_bytes((study / "scenario.toml").read_bytes())
    return folder


def test_a_table_of_format_2_is_read_with_all_columns_but_the_words_of_a_design(study, tmp_path):
    now, old = read_conditions(study), read_conditions(as_format_2(study, tmp_path / "old"))
    assert {*old.column_names} == {*now.column_names}
    assert old["design_in_words"].null_count == len(old)
    for name in {*now.column_names} - {"design_in_words"}:
        assert old[name].to_pylist() == now[name].to_pylist(), name


def test_folders_of_both_formats_are_joined_into_one_of_the_new(study, tmp_path):
    old = as_format_2(study, tmp_path / "old")
    joined = merge_studies([old, study], tmp_path / "joined", lambda _: None).directory
    assert read_conditions(joined).equals(read_conditions(study))
    assert json.loads((joined / "manifest.json").read_text())["format"] == 3


def test_a_total_of_effects_that_the_truth_lacks_is_zero_and_not_realized(tmp_path):
    text = SMALL.replace(", x = 0.4 }", " }").replace("correlation = 0.3\n", "")
    text += '[[estimands]]\nname = "total.sd(x)"\n'
    folder = run(tmp_path / "study", text, replicates=3)
    rows = pq.read_table(folder / "conditions.parquet").to_pylist()
    assert {row["truth"] for row in rows if row["parameter"] == "total.sd(x)"} == {0.0}
    estimates = pq.read_table(folder / "estimates").to_pylist()
    assert {row["realized"] for row in estimates if row["parameter"] == "total.sd(x)"} == {None}


@pytest.mark.parametrize("name", ["x", "sigma", "animal.sd(x)"])
def test_an_estimand_with_the_name_of_a_parameter_is_refused(tmp_path, name):
    text = f'{SMALL}\n[[estimands]]\nname = "{name}"\nfixed = {{ x = 1 }}\n'
    message = f"method 'right' reports '{name}' twice: the name of an estimand must be none of its"
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path / "study", text)
    assert not (tmp_path / "study" / "out").exists()


def test_there_is_no_theory_where_a_level_has_no_degrees_of_freedom(tmp_path):
    text = SMALL.replace("count = 4\n", "count = 1\n").replace("fed = 5", "fed = 4")
    text = text.replace("(x | animal) + (1 | animal:image)", "(x | animal/image)")
    text = text.replace("[[methods]]", "[[methods]]\nidentifiable = false")
    table = read_conditions(run(tmp_path / "study", text))
    assert table["theory_emp_se"].null_count == table.num_rows


def test_nor_where_sigma_is_lost_to_rounding(tmp_path):
    path = Path(__file__).parents[2] / "configs" / "stain_profile.toml"
    text = path.read_text().replace("x = 0.08", "x = 2147483648").replace("= 25", "= 3")
    text = re.sub("count = 10\\b", "count = 3", text)
    table = read_conditions(run(tmp_path / "study", text))
    assert table["theory_emp_se"].null_count == table.num_rows


ANIMAL = {"Intercept": 0.6, "x": 0.4}  # SDs of the truth, with a correlation of 0.3


def truths(folder, animal):
    """Truth by parameter where a method has other random effects of the animals."""
    text = SMALL.replace("(x | animal) +", f"({animal} | animal) +")
    rows = pq.read_table(run(folder, text) / "conditions.parquet").to_pylist()
    return {row["parameter"]: row["truth"] for row in rows if row["method"].startswith("right")}


def test_the_truth_of_other_columns_of_the_same_effects_is_derived(tmp_path):
    found = truths(tmp_path / "study", "I(x + 1)")  # u + v x = (u - v) + v (x + 1)
    u, v = ANIMAL.values()
    sd = (u**2 + v**2 - 2 * 0.3 * u * v) ** 0.5
    assert found["animal.sd(Intercept)"] == pytest.approx(sd)
    assert found["animal.sd(I(x + 1))"] == pytest.approx(v)
    correlation = (0.3 * u * v - v**2) / (sd * v)
    assert found["animal.cor(Intercept,I(x + 1))"] == pytest.approx(correlation)


def test_an_implied_correlation_of_0_is_exactly_0():
    """Rounding of the columns is no correlation: its relative bias was 1e13."""
    names = RandomNames("animal", ("Intercept", "x"), (("general", 2),))
    found = _values(names, np.array([[0.16, -4e-17], [-4e-17, 0.04]]))
    assert found[names.correlation(0, 1)] == 0.0
    assert _values(names, np.array([[0.16, 0.04], [0.04, 0.04]]))[names.correlation(0, 1)] == 0.5


OTHER_CODINGS = """
[[methods]]
name = "shift"
formula = "y ~ diet * I(x - 2) + (I(x - 2) | animal) + (1 | image)"
[[methods]]
name = "centred"
formula = "y ~ diet * center(x) + (center(x) | animal) + (1 | image)"
[[methods]]
name = "fewer"
formula = "y ~ diet * x + (1 | animal)"
[[methods]]
name = "sum"
formula = "y ~ C(diet, Sum) * x + (x | animal)"
[[estimands]]
name = "total.sd(Intercept)"
[[estimands]]
name = "fed at 0"
fixed = { Intercept = 1, "diet[T.fed]" = 1 }
"""


def realized(study):
    rows = pq.read_table(study / "estimates").to_pandas()
    rows = rows.assign(method=rows["method"].astype(str).str.partition("/")[0])
    rows = rows.groupby(["method", "parameter", "replicate"], observed=True)["realized"].first()
    return lambda method, name: rows[method, name].to_numpy()


def test_realized_values_are_of_the_effects_as_a_method_writes_them(tmp_path):
    of = realized(run(tmp_path / "study", SMALL + OTHER_CODINGS, replicates=3))
    u, v, r = (
        of("right", f"animal.{one}") for one in ("sd(Intercept)", "sd(x)", "cor(Intercept,x)")
    )
    image = of("right", "image.sd(Intercept)")
    for name, column, at in (("shift", "I(x - 2)", 2.0), ("centred", "center(x)", 0.5)):
        sd = np.sqrt(u**2 + 2 * at * r * u * v + at**2 * v**2)  # u + v x = (u + at v) + v (x - at)
        assert of(name, "animal.sd(Intercept)") == pytest.approx(sd)
        assert of(name, "animal.var(Intercept)") == pytest.approx(sd**2)
        assert of(name, f"animal.sd({column})") == pytest.approx(v)
        correlation = (r * u + at * v) / sd
        assert of(name, f"animal.cor(Intercept,{column})") == pytest.approx(correlation)
        assert of(name, "total.sd(Intercept)") == pytest.approx(np.hypot(sd, image))
    assert np.array_equal(of("fewer", "animal.sd(Intercept)"), u)
    assert np.array_equal(of("sum", "animal.cor(Intercept,x)"), r)


def test_nothing_is_realized_of_columns_that_change_with_the_rows(tmp_path):
    text = SMALL.replace("[[methods]]", "[truth.missing]\nobservations = 0.2\n[[methods]]", 1)
    of = realized(run(tmp_path / "study", text + OTHER_CODINGS, replicates=3))
    u, v, r = (
        of("right", f"animal.{one}") for one in ("sd(Intercept)", "sd(x)", "cor(Intercept,x)")
    )
    assert np.isnan(of("centred", "animal.sd(Intercept)")).all()
    assert np.isnan(of("centred", "total.sd(Intercept)")).all()
    sd = np.sqrt(u**2 + 4.0 * r * u * v + 4.0 * v**2)
    assert of("shift", "animal.sd(Intercept)") == pytest.approx(sd)


def test_a_sum_of_effects_in_two_codings_has_no_truth(tmp_path):
    said = []
    study = run(tmp_path / "study", SMALL + OTHER_CODINGS, report=said.append)
    rows = pq.read_table(study / "conditions.parquet").to_pylist()
    found = {
        row["method"].partition("/")[0]: row["truth"]
        for row in rows
        if row["parameter"] == "fed at 0"
    }
    # at x = 2 and at the mean of x, 0.5: 1 + 0.5 - 1 x
    assert found["right"] == found["fewer"] == 1.5
    assert (found["shift"], found["centred"]) == pytest.approx((-0.5, 1.0))
    assert found["sum"] is None
    table = compare(study, "right/z", "shift").to_pylist()
    (row,) = [one for one in table if one["parameter"] == "fed at 0"]
    rows = pq.read_table(study / "estimates").to_pandas().set_index(["method", "parameter"])
    one, other = (rows.loc[(name, "fed at 0"), "estimate"].item() for name in ("right/z", "shift"))
    assert row["bias_difference"] == pytest.approx((other + 0.5) - (one - 1.5))


def test_there_is_no_truth_of_effects_that_cannot_stand_for_those_of_the_truth(tmp_path):
    found = truths(tmp_path / "diet", "0 + diet")
    assert found["animal.sd(diet[fed])"] is None
    assert found["animal.var(diet[fed])"] is None
    assert truths(tmp_path / "fewer", "1")["animal.sd(Intercept)"] == ANIMAL["Intercept"]


def test_totals_and_shares_have_the_truth_of_the_derived_sds(tmp_path):
    text = SMALL.replace("(x | animal) +", "(I(x + 1) | animal) +")
    text += '\n[[estimands]]\nname = "animal.icc"\n[[estimands]]\nname = "total.var(Intercept)"\n'
    rows = pq.read_table(run(tmp_path / "study", text) / "conditions.parquet").to_pylist()
    found = {row["parameter"]: row["truth"] for row in rows if row["method"].startswith("right")}
    animal, image, sigma2 = found["animal.var(Intercept)"], 0.25, 0.25
    assert animal == pytest.approx(0.6**2 + 0.4**2 - 2 * 0.3 * 0.6 * 0.4)
    assert found["total.var(Intercept)"] == pytest.approx(animal + image)
    assert found["animal.icc"] == pytest.approx(animal / (animal + image + sigma2))


def test_what_a_design_leaves_open_has_no_truth(tmp_path):
    found = truths(tmp_path / "study", "0 + diet")
    assert found["animal.cor(diet[fasted],diet[fed])"] is None


FIXED = SMALL[: SMALL.index("[[methods]]")]
for _name, _fixed in {
    "shift": "diet * I(x - 1)",
    "cells": "0 + diet + diet:x",
    "poly": "diet + poly(x, 2)",
    "fewer": "diet",
    "offset": "diet + poly(x, 1, raw = TRUE) + offset(2 * x)",
    "log": "diet + log(x + 1)",
}.items():
    FIXED += f'[[methods]]\nname = "{_name}"\nformula = "y ~ {_fixed} + (1 | animal)"\n'


def fixed_truths(folder):
    rows = pq.read_table(folder / "conditions.parquet").to_pylist()
    found = {}
    for row in rows:
        if row["kind"] in ("fixed", "own"):
            found.setdefault(row["method"], {})[row["parameter"]] = row["truth"]
    return found


def test_fixed_effects_in_other_columns_have_the_truth_that_makes_the_same_mean(tmp_path):
    # the mean is 1 + 0.5 fed - x
    text = FIXED[: FIXED.index('[[methods]]\nname = "cells"')]
    text += '[[estimands]]\nname = "at 0"\nfixed = { Intercept = 1, "I(x - 1)" = -1 }\n'
    found = fixed_truths(run(tmp_path / "shift", text))
    shift = {"Intercept": 0.0, "diet[T.fed]": 0.5, "I(x - 1)": -1.0, "diet[T.fed]:I(x - 1)": 0.0}
    assert found["shift"] == pytest.approx(shift | {"at 0": 1.0}, abs=1e-12)
    found = fixed_truths(run(tmp_path / "others", FIXED))
    cells = {"diet[fasted]": 1.0, "diet[fed]": 1.5, "diet[fasted]:x": -1.0, "diet[fed]:x": -1.0}
    assert found["cells"] == pytest.approx(cells)
    # R: x <- rep(0:4 / 4, 36); coef(lm(1 - x ~ poly(x, 2))): 0.5, -4.743416, 0
    poly = {"Intercept": 0.5, "diet[T.fed]": 0.5, "poly(x, 2)[1]": -4.743416, "poly(x, 2)[2]": 0.0}
    assert found["poly"] == pytest.approx(poly, abs=1e-6)
    (raw,) = (value for name, value in found["offset"].items() if "raw" in name)
    assert (raw, found["offset"]["Intercept"]) == pytest.approx((-3.0, 1.0))
    assert found["fewer"] == {"Intercept": 1.0, "diet[T.fed]": 0.5}
    assert found["log"] == {"Intercept": 1.0, "diet[T.fed]": 0.5, "log(x + 1)": None}
    said = FIXED.replace("x = -1.0", 'x = -1.0\n"log(x + 1)" = 0.0')  # then it is meant
    assert fixed_truths(run(tmp_path / "said", said))["log"]["log(x + 1)"] == 0.0


@pytest.mark.parametrize("listed", ["", '"diet[T.fed]" = 0.0\n'])
def test_an_effect_is_0_whether_or_not_the_truth_lists_the_0(tmp_path, listed):
    fixed = f'{listed}"diet[T.fed]:x" = 0.5\n'
    text = FIXED.replace('"diet[T.fed]" = 0.5\n', fixed).replace('"diet + log', '"diet + x + log')
    assert fixed_truths(run(tmp_path / "study", text))["fewer"]["diet[T.fed]"] == 0.0


def test_what_only_a_plugin_names_has_no_truth(tmp_path):
    (tmp_path / "own.py").write_text(
        "from mcsim.plugins import estimator\n@estimator('x', 'diet[T.feed]')\n"
        "def own(data): return {'x': 1.0, 'diet[T.feed]': 2.0}\n"
    )
    own = '[[methods]]\nname = "own"\nformula = "y ~ x + (1 | animal)"\nestimator = "plugin:own"\n'
    (tmp_path / "s.toml").write_text(SMALL + own)
    scenario = load_scenario(tmp_path / "s.toml").with_plugin(read_plugin(tmp_path / "own.py"))
    study = run_study(
        scenario.model_copy(update={"replicates": 4}), RunOptions(tmp_path / "out", 1)
    )
    assert fixed_truths(study.directory)["own"] == {"x": -1.0, "diet[T.feed]": None}


@pytest.mark.parametrize("key", ["redraw = true", "[truth.missing]\nobservations = 0.1"])
def test_columns_that_change_with_the_rows_of_a_replicate_have_no_derived_truth(tmp_path, key):
    table = "[design]" if "redraw" in key else "[truth.fixed]"
    text = FIXED.replace(table, f"[design]\n{key}" if "redraw" in key else f"{key}\n{table}")
    text = text.replace("diet + log(x + 1) + (1", "diet + x + (poly(x, 1)")
    said = []
    folder = run(tmp_path / "study", text, report=said.append)
    found = fixed_truths(folder)
    assert {*found["poly"].values()} == {None}
    assert found["cells"]["diet[fed]"] == pytest.approx(1.5)
    assert found["offset"]["Intercept"] == pytest.approx(1.0)
    assert found["log"] == {"Intercept": 1.0, "diet[T.fed]": 0.5, "x": -1.0}
    rows = pq.read_table(folder / "conditions.parquet").to_pylist()
    random = {row["truth"] for row in rows if (row["method"], row["level"]) == ("log", "animal")}
    assert random == {None}
    assert [one for one in said if one.startswith("Method 'poly' has no true value of Intercept, ")]
