"""Designs that are a user's table: its rows, units, factors and covariates, and copies of units."""

import shutil

import numpy as np
import pandas as pd
import pytest

from mcsim.design.from_table import design_of_table
from mcsim.errors import DataError, ScenarioError, StudyMismatchError
from mcsim.names import Parameter
from mcsim.report.protocol import protocol
from mcsim.results.merge import merge_studies
from mcsim.results.verify import find_faults
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.records import Scenario
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.responses import draw_responses, prepare_simulator
from mcsim.study.repair import repair_study
from mcsim.study.run import RunOptions, replicate_data, run_study
from mcsim.study.shards import Shard
from mcsim.summary.selection import Shown
from tests.conftest import SMALL, call_mcsim

HEAD, REST = SMALL.split("[design]")
TABLE = f"""{HEAD}[design]
table = "pilot.csv"
[[design.levels]]
name = "animal"
[[design.levels]]
name = "image"
[truth]{REST.partition("[truth]")[2]}"""
SWEPT = '\n[sweep]\n"design.copies.animal" = [1, 2]\n'


@pytest.fixture
def folder(tmp_path):
    """A scenario, and its table: that of the small one's design, rows in disorder."""
    (tmp_path / "small.toml").write_text(SMALL)
    frame = replicate_data(load_scenario(tmp_path / "small.toml"), 1, None)
    frame.sample(frac=1.0, random_state=1).to_csv(tmp_path / "pilot.csv", index=False)
    (tmp_path / "s.toml").write_text(TABLE)
    return tmp_path


def change(folder, edit, name="pilot.csv"):
    edit(pd.read_csv(folder / "pilot.csv")).to_csv(folder / name, index=False)


def design_in(folder, *overrides):
    scenario = load_scenario(folder / "s.toml", overrides=overrides)
    return prepare_simulator(conditions(scenario)[0], scenario.seed).design


def test_the_table_of_a_design_is_that_design_but_for_the_order_of_its_units(folder):
    small = load_scenario(folder / "small.toml")
    expected = prepare_simulator(conditions(small)[0], 1).design.frame
    design = design_in(folder)
    both = [one.astype(str).sort_values(["image", "x"])[["animal", "image", "diet", "x"]]
            for one in (design.frame, expected)]  # fmt: skip
    assert both[0].to_numpy().tolist() == both[1].to_numpy().tolist()
    assert design.frame["diet"].cat.categories.tolist() == ["fasted", "fed"]
    for level in ("animal", "image"):  # the rows of a unit stand together
        assert np.all(np.diff(design.unit_of_row[level]) >= 0)
        of_unit = design.frame.groupby(level, observed=True)["diet"].first().cat.codes
        assert of_unit.tolist() == design.cell_of_unit(level, ["diet"]).tolist()
    assert "y" not in design.frame  # what is simulated takes the place of what was measured


def test_labels_count_within_the_units_above(folder):
    change(folder, lambda frame: frame.assign(image=frame["image"].str[-2:].astype(int) % 4))
    design = design_in(folder)
    assert design.unit_of_row["image"].max() == 35
    assert design.frame["image"].cat.categories[0].startswith("animal")
    assert design.frame["image"].nunique() == 36


def test_copies_have_labels_of_their_own_and_hold_all_that_lies_within(folder):
    change(folder, lambda frame: frame.replace({"animal": {"animal1": "1", "animal2": "1.2"}}))
    design = design_in(folder, "design.copies={ animal = 2, image = 3, observation = 4 }")
    once = design_in(folder)
    assert [design.unit_of_row[level].max() + 1 for level in ("animal", "image")] == [18, 36 * 6]
    assert len(design.frame) == 180 * 24
    assert design.frame["animal"].nunique() == 18  # the copy of 1 is not 1.2, which there is
    assert {"1", "1.2", "1..2", "1.2..2"} <= {*design.frame["animal"].cat.categories}
    for name in ("diet", "x"):
        share = [one[name].value_counts(normalize=True) for one in (once.frame, design.frame)]
        assert share[0].to_dict() == pytest.approx(share[1].to_dict())
    per_image = design.frame.groupby("image", observed=True)["x"].apply(lambda one: [*one][:5])
    assert per_image.map(sorted).map(tuple).unique().tolist() == [(0.0, 0.25, 0.5, 0.75, 1.0)]


def test_levels_of_factors_have_the_order_that_is_given_and_numbers_may_be_labels(folder):
    change(folder, lambda frame: frame.assign(dose=(4 * frame["x"]).astype(int)))
    given = 'design.factors={ diet = ["fed", "fasted"], dose = ["4", "0", "1", "2", "3"] }'
    text = TABLE.replace('"diet[T.fed]"', '"diet[T.fasted]"').replace("diet * x", "diet * x + dose")
    (folder / "s.toml").write_text(text)
    assert design_in(folder, given).factors == {
        "diet": ("fed", "fasted"), "dose": ("4", "0", "1", "2", "3"),
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "tsv", "xlsx"])
def test_every_kind_of_table_makes_the_same_design(folder, ending):
    frame = pd.read_csv(folder / "pilot.csv")
    writers = {"parquet": lambda path: frame.to_parquet(path),
               "tsv": lambda path: frame.to_csv(path, sep="\t", index=False),
               "xlsx": lambda path: frame.to_excel(path, index=False)}  # fmt: skip
    writers[ending](folder / f"pilot.{ending}")
    found = design_in(folder, f"design.table='pilot.{ending}'").frame
    pd.testing.assert_frame_equal(found, design_in(folder).frame)


def test_responses_have_the_moments_of_the_rows_of_an_unbalanced_table(folder):
    change(folder, lambda frame: frame.sort_values(["animal", "image"])[15:160])
    scenario = load_scenario(folder / "s.toml")
    [condition] = conditions(scenario)
    simulator = prepare_simulator(condition, scenario.seed)
    n, frame = 2000, simulator.design.frame
    y = draw_responses(simulator, range(1, n + 1)).y
    x = frame["x"].to_numpy()
    expected = 1.0 + 0.5 * (frame["diet"] == "fed").to_numpy() - x
    # animal: 0.6, 0.4 with correlation 0.3; image: 0.25; sigma: 0.5. 4 standard errors: 1% in all
    variance = 0.36 + 2 * 0.3 * 0.6 * 0.4 * x + 0.16 * x**2 + 0.25 + 0.25
    assert np.all(np.abs(y.mean(axis=0) - expected) < 4.5 * np.sqrt(variance / n))
    assert np.all(np.abs(y.var(axis=0) - variance) < 4.5 * variance * np.sqrt(2 / n))
    assert draw_data_set(condition, simulator, 3).y.tolist() == y[2].tolist()


def test_losses_and_residual_models_take_the_tables_units(folder):
    given = ("truth.missing={ observations = 0.1, units = { image = 0.2 } }",
             "truth.residual={ correlation = 'ar1', phi = 0.5, along = 'x' }")  # fmt: skip
    scenario = load_scenario(folder / "s.toml", overrides=given)
    [condition] = conditions(scenario)
    data = draw_data_set(condition, prepare_simulator(condition, 1), 1)
    assert 60 < len(data.y) < 160
    done = call_mcsim("run", "s.toml", "-n", 5, "-j", 1, "--max-failures", 1,
                      *(word for one in given for word in ("--set", one)), cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_folder_of_a_study_has_all_that_shards_and_repairs_need(folder):
    (folder / "s.toml").write_text(TABLE + SWEPT)
    (folder / "data").mkdir()
    (folder / "pilot.csv").rename(folder / "data" / "pilot.csv")
    scenario = load_scenario(folder / "s.toml", overrides=["design.table='data/pilot.csv'"])
    shards = [folder / f"shard{number}" for number in (1, 2)]
    for number, shard in enumerate(shards, 1):
        run_study(scenario, RunOptions(shard, 1, planned=64, shard=Shard(number, 2)))
    shutil.rmtree(folder / "data")
    out = folder / "whole"
    store = merge_studies(shards, out, lambda _: None)
    assert not any(store.missing().values())
    assert (out / "tables" / "pilot.csv").read_bytes() == scenario.tables["pilot.csv"].content
    assert find_faults(out) == []
    again = load_scenario(out / "scenario.toml")
    assert [one.identity for one in conditions(again)] == [
        one.identity for one in conditions(scenario)
    ]
    next((out / "estimates").iterdir()).unlink()
    repair_study(find_faults(out), RunOptions(out, 1))
    assert find_faults(out) == []
    assert len(replicate_data(again, 1, "copies.animal=2")) == 360
    (out / "tables" / "pilot.csv").write_text("animal\n1\n")
    assert [str(one) for one in find_faults(out)] == [
        "tables/pilot.csv: corrupted: not what was written (SHA-256)"
    ]
    with pytest.raises(DataError, match=r"pilot\.csv cannot be computed again: put the file back"):
        repair_study(find_faults(out), RunOptions(out, 1))
    with pytest.raises(DataError, match=r"pilot\.csv is damaged or missing"):
        merge_studies([out], folder / "other", lambda _: None)


def test_another_file_is_another_study_whatever_its_name(folder):
    before = load_scenario(folder / "s.toml")
    run_study(before, RunOptions(folder / "out", 1, planned=2))
    change(folder, lambda frame: frame.assign(x=frame["x"] + 1.0))
    after = load_scenario(folder / "s.toml")
    assert conditions(before)[0].identity != conditions(after)[0].identity
    with pytest.raises(StudyMismatchError, match=r"design.tables.pilot.csv is .* there and"):
        run_study(after, RunOptions(folder / "out", 1, planned=2))


def test_tables_can_be_swept_and_those_of_one_content_are_one_condition(folder):
    change(folder, lambda frame: frame[frame["x"] < 0.9], "fewer.csv")
    shutil.copy(folder / "pilot.csv", folder / "same.csv")
    given = "sweep={{ 'design.table' = ['pilot.csv', '{}'] }}"
    scenario = load_scenario(folder / "s.toml", overrides=[given.format("fewer.csv")])
    assert [one.label for one in conditions(scenario)] == ["table=pilot.csv", "table=fewer.csv"]
    sizes = [len(replicate_data(scenario, 1, one.label)) for one in conditions(scenario)]
    assert sizes == [180, 144]
    with pytest.raises(ScenarioError, match=r"table=same\.csv are the same condition"):
        load_scenario(folder / "s.toml", overrides=[given.format("same.csv")])


def test_columns_that_nothing_uses_may_be_anything(folder):
    change(folder, lambda frame: frame.assign(
        weight=np.nan, note="none", twice=1, number=[*range(len(frame) - 1), "lost"],
        size=float("inf"), by=[f"n{n}" for n in range(len(frame))]))  # fmt: skip
    lines = (folder / "pilot.csv").read_text().replace("twice", "x:y", 1)
    (folder / "pilot.csv").write_text(lines)
    assert {"weight", "note", "number", "size"}.isdisjoint(design_in(folder).frame.columns)


def test_realized_values_leave_out_the_cells_of_the_fixed_effects_alone(folder):
    # a text per animal, which nothing names: no cell has two animals if it counts
    change(folder, lambda frame: frame.assign(owner=frame["animal"].str.upper()))
    scenario = load_scenario(folder / "s.toml")
    [condition] = conditions(scenario)
    simulator = prepare_simulator(condition, scenario.seed)
    realized = draw_data_set(condition, simulator, 1).realized
    assert 0.2 < realized[Parameter.read("animal.sd(Intercept)")][0] < 1.2
    assert [len(one.cells.n_units) for one in simulator.effects] == [2, 2]
    told = call_mcsim("run", "s.toml", "--dry-run", cwd=folder).stdout
    assert "diet differs between units of animal" in told
    assert "owner" not in told


def test_the_protocol_names_the_table(folder):
    scenario = load_scenario(folder / "s.toml", overrides=["design.copies.animal=2"])
    told = ["".join(one) for one in protocol(scenario, Shown("", 0.95, [], {}), {}).mechanism]
    assert "Units, factors and covariates are those of the table pilot.csv." in told
    assert "copies {animal = 2}." in told


def test_a_scenario_that_comes_from_no_file_has_no_table(folder):
    raw = load_scenario(folder / "s.toml").model_dump()
    scenario = Scenario.model_validate(raw)
    with pytest.raises(DataError, match=r"the table 'pilot\.csv' was not read; use load_scenario"):
        design_of_table(scenario.design, None)


def with_gap(frame):
    frame = frame.astype({"x": object})
    frame.loc[3, "x"] = None
    return frame


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("design.table='pilto.csv'", "pilto.csv'. Did you mean 'pilot.csv'?"),
        ("design.table='s.toml'", "data come as .csv, .tsv, .txt, .parquet, .xlsx, not '.toml'"),
        ("design.table=3", "design.table is 3; it must be text in quotes"),
        ("design.table='none.csv'", "none.csv has no rows"),
        ("design.levels.image.name='imgae'",
         "unknown column 'imgae' in design.levels. pilot.csv has: diet, animal, image, x, y."),
        ("design.levels.image.name='animal'", "'animal' stands twice: the response and every"),
        ("design.response='x'", "unknown variable 'x'"),
        ("design.factors={ dite = ['fed', 'fasted'] }",
         "unknown column 'dite' in design.factors. pilot.csv has: diet, animal, image, x, y."),
        ("design.factors={ diet = ['fed', 'fat'] }",
         "column 'diet' of pilot.csv has the levels fasted, fed, not fed, fat"),
        ("design.factors={ animal = ['a', 'b'] }", "'animal' is the response or a level"),
        ("design.factors={ diet = { levels = ['fed', 'fasted'], of = 'animal' } }",
         "it must be a list of two or more different levels"),
        ("design.copies={ animl = 3 }",
         "unknown level 'animl' in design.copies. The design has: animal, image, observation."),
        ("design.copies={ animal = 0 }", "design.copies.animal is 0; it must be a whole number"),
        ("design.copies={ animal = 20000 }", "a data set has 3,600,000 rows; at most 2,000,000"),
        ("design.levels.animal.count=3", "unknown key 'count'. Allowed here: crossed, name."),
        ("design.observations.count=3",
         "unknown key 'observations'. Allowed here: copies, factors, levels, response, table."),
        ("methods.right.formula='y ~ dose + (1 | animal)'",
         "unknown variable 'dose'. The design has: diet, x."),
        ('truth.fixed."diet[T.fat]"=1.0', "unknown column 'diet[T.fat]'"),
        ("truth.residual={ correlation = 'exchangeable', rho = -0.3 }",
         "no 5 residuals can have this correlation; at least -1/4 = -0.25"),
        ("sweep={ 'design.table' = ['pilot.csv', 'sub/pilot.csv'] }",
         "there are two tables called 'pilot.csv'; rename one"),
        ("sweep={ 'design.copies.imgae' = [1, 2] }", "unknown level 'imgae' in design.copies"),
        ("sweep={ 'design.table' = ['pilot.csv', 'gone.csv'] }", "there is no file"),
    ],
)  # fmt: skip
def test_what_a_table_cannot_be_is_said_where_it_stands(folder, override, message):
    (folder / "none.csv").write_text("animal,image,x\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "pilot.csv").write_text("diet,animal,image,x\nfed,a,1,2\nfasted,b,1,3\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(folder / "s.toml", overrides=[override])
    assert message in str(caught.value)
    assert "Did you mean" in str(caught.value) or "<" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (with_gap,
         "s.toml:6:1: column 'x' of pilot.csv has no value in line 5; a design needs all"),
        (lambda frame: frame.assign(x=["1e200", *frame["x"][1:]]),
         "s.toml:6:1: column 'x' of pilot.csv has numbers that are infinite or beyond 1e+150"),
        (lambda frame: frame.assign(x=["lost", *frame["x"][1:]]),
         "s.toml:6:1: column 'x' of pilot.csv has numbers and cells that are none, such as 'lost'"),
        (lambda frame: frame.assign(diet="fed"),
         "s.toml:6:1: column 'diet' of pilot.csv cannot be a factor: it has 1, not 2 to"),
        (lambda frame: frame.assign(image=[None, *frame["image"][1:]]),
         "s.toml:10:1: column 'image' of pilot.csv has no value in line 2; a design needs all"),
        (lambda frame: frame.rename(columns={"image": "img"}),
         "s.toml:10:1: unknown column 'image' in design.levels. pilot.csv has: diet, animal, img"),
        (lambda frame: frame.rename(columns={"y": "x"}),
         "s.toml:6:1: column 'x' of pilot.csv stands there 2 times"),
    ],
)  # fmt: skip
def test_what_the_table_lacks_is_said_with_line_and_column(folder, edit, message, monkeypatch):
    change(folder, edit)
    monkeypatch.chdir(folder)
    with pytest.raises(ScenarioError) as caught:
        load_scenario("s.toml")
    assert message in str(caught.value)
