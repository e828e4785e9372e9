"""Scenarios to start from."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.errors import DataError
from mcsim.planning import KINDS
from mcsim.planning.starter import starter, starter_from_data
from mcsim.planning.truths import is_pilot
from mcsim.scenario.families import family_model
from mcsim.scenario.load import load_scenario
from mcsim.study.run import replicate_data
from tests.conftest import call_mcsim, run_mcsim

FORMULA = "y ~ diet * x + (x | animal) + (1 | animal:image)"


def design_of(path, formula):
    return tomllib.loads(starter_from_data(path, formula, "s").text)["design"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid_at_once_and_explains_itself(kind, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(starter(kind, "study"))
    assert load_scenario(path).replicates == 1000
    comments = [line for line in path.read_text().splitlines() if "#" in line]
    assert len(comments) > 8
    assert "mcsim run study.toml" in path.read_text()


def test_the_command_writes_a_scenario_that_runs_and_never_over_another(tmp_path):
    assert run_mcsim("init", "mine", "--kind", "two-level", cwd=tmp_path).returncode == 0
    done = run_mcsim("run", "mine.toml", "-n", 20, "-j", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "subject.icc" in done.stdout
    again = run_mcsim("init", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert "mine.toml is there already" in again.stderr
    alone = run_mcsim("init", "other", "--formula", "y ~ x", cwd=tmp_path)
    assert (alone.returncode, (tmp_path / "other.toml").exists()) == (2, False)


def test_a_scenario_from_data_has_their_design_and_their_fit(small_scenario, tmp_path):
    replicate_data(load_scenario(small_scenario), 1, None).to_csv(tmp_path / "p.csv", index=False)
    raw = tomllib.loads(starter_from_data(tmp_path / "p.csv", FORMULA, "p").text)
    design, truth = raw["design"], raw["truth"]
    assert design["factors"] == {"diet": ["fasted", "fed"]}
    assert [level["count"] for level in design["levels"]] == [{"fasted": 4, "fed": 5}, 4]
    assert (design["observations"]["count"], design["covariates"]["x"]["grid"]) == (5, [0.0, 1.0])
    # 9 animals: within four standard errors of the truth that made the data
    assert truth["fixed"]["x"] == pytest.approx(-1.0, abs=1.0)
    assert truth["sigma"] == pytest.approx(0.5, abs=0.15)
    assert set(truth["random"]) == {"animal", "image"}
    (tmp_path / "again.toml").write_text(starter_from_data(tmp_path / "p.csv", FORMULA, "p").text)
    frame = replicate_data(load_scenario(tmp_path / "again.toml"), 1, None)
    assert len(frame) == 9 * 4 * 5


def test_a_fit_on_the_boundary_is_said_to_be_no_truth_to_believe_in(tmp_path):
    x = np.tile([0.0, 0.5, 1.0], 6)
    frame = pd.DataFrame({"y": x + np.tile([0.1, -0.2, 0.1], 6), "x": x})
    frame["animal"] = np.repeat([*"abcdef"], 3)
    said = []
    for y, n in ((frame["y"], 1), (frame["y"] + np.repeat(np.arange(6.0), 3), 0)):
        frame.assign(y=y).to_csv(tmp_path / "p.csv", index=False)
        said.clear()
        starter_from_data(tmp_path / "p.csv", "y ~ x + (1 | animal)", "p", said.append)
        assert sum("on the boundary" in one for one in said) == n


def test_unequal_units_and_covariates_are_drawn(tmp_path):
    generator = np.random.default_rng(5)
    animal = np.repeat(np.arange(12), generator.integers(3, 9, 12))
    x = generator.uniform(2, 7, len(animal))
    y = generator.normal(0, 1, 12)[animal] + x + generator.normal(0, 1, len(x))
    pd.DataFrame({"animal": animal, "x": x, "y": y}).to_csv(tmp_path / "p.csv", index=False)
    design = design_of(tmp_path / "p.csv", "y ~ x + (1 | animal)")
    counts = np.bincount(animal)
    expected = {"uniform": [int(counts.min()), int(counts.max())]}
    assert design["observations"]["count"] == expected
    assert design["levels"][0]["count"] == 12
    low, high = design["covariates"]["x"]["uniform"]
    assert (low, high) == pytest.approx((x.min(), x.max()), rel=1e-3)


def test_skewed_numbers_and_spreads_are_drawn_with_the_mean_and_the_sd_of_the_data(tmp_path):
    """37 animals of 3 rows, one of 30; a normal covariate, one of zeros and ones."""
    animal = np.repeat(np.arange(38), [3] * 37 + [30])
    generator = np.random.default_rng(5)
    frame = pd.DataFrame({"animal": animal, "x": generator.normal(0, 1, len(animal))})
    frame["z"] = (generator.random(len(animal)) < 0.4) * 1.0
    frame["y"] = (
        frame["x"] + generator.normal(0, 1, 38)[animal] + generator.normal(0, 1, len(frame))
    )
    frame.to_csv(tmp_path / "p.csv", index=False)
    said = []
    made = starter_from_data(tmp_path / "p.csv", "y ~ x + z + (1 | animal)", "s", said.append)
    design = tomllib.loads(made.text)["design"]
    assert design["observations"]["count"] == {"uniform": [3, 4]}  # 3.7 on average
    low, high = design["covariates"]["x"]["uniform"]
    assert (high - low) / np.sqrt(12.0) == pytest.approx(frame["x"].std(ddof=0), rel=1e-3)
    assert frame["x"].min() <= low < high <= frame["x"].max()
    assert design["covariates"]["z"] == {"uniform": [0.0, 1.0]}
    assert [one.split(" ")[0] for one in said] == ["'x'", "'z'", "numbers"]
    assert "'observation' go from 3 to 30, 3.71 on average; the scenario draws 3 to 4" in said[2]


def test_data_that_no_scenario_can_describe_are_refused_unless_their_rows_are_kept(tmp_path):
    frame = pd.DataFrame(
        {"animal": np.repeat([*"edcba"], 4), "arm": ["a", "b"] * 10, "y": np.arange(20.0) % 7}
    )
    frame.loc[:3, "arm"] = "a"
    path = tmp_path / "p.csv"
    frame.to_csv(path, index=False)
    message = "some units of 'animal' have nothing in some cell of 'arm'.*--keep-design"
    with pytest.raises(DataError, match=message):
        starter_from_data(path, "y ~ arm + (1 | animal)", "p")
    made = starter_from_data(path, "y ~ arm + (1 | animal)", "s", keep_design=True)
    (tmp_path / "s.csv").write_text(made.table)
    (tmp_path / "s.toml").write_text(made.text)
    again = replicate_data(load_scenario(tmp_path / "s.toml"), 1, None)
    assert again["arm"].tolist() == frame["arm"].tolist()
    assert '# "design.copies.animal" = [1, 2, 4]' in made.text


def test_factors_are_of_the_level_where_they_vary(tmp_path):
    place = pd.MultiIndex.from_product([range(6), range(2), range(3), range(2), range(4)])
    animal, region, image, stain, x = map(np.asarray, zip(*place, strict=True))
    frame = pd.DataFrame(
        {"animal": animal, "image": image, "x": x / 3, "y": np.sin(animal * 7 + x)}
    )
    frame["diet"] = np.where(animal < 3, "fed", "fasted")
    frame["region"] = np.where(region, "portal", "central")
    frame["image"] = region * 3 + image
    frame["stain"] = np.where(stain, "a", "b")
    frame["age"] = animal % 4 * 1.5
    frame["y"] += np.cos(np.arange(len(frame)) ** 2)
    kept = frame[(frame["animal"] != 1) | (frame["image"] != 0)]  # one image is lost
    formula = "y ~ diet + region * x + stain + age + (1 | animal/image)"
    kept.to_csv(tmp_path / "p.csv", index=False)
    design = design_of(tmp_path / "p.csv", formula)
    assert design["factors"] == {
        "diet": ["fasted", "fed"],
        "region": {"levels": ["central", "portal"], "of": "image"},
        "stain": {"levels": ["a", "b"], "of": "observation"},
    }
    assert [one["count"] for one in design["levels"]] == [3, {"uniform": [2, 3]}]
    assert design["observations"] == {"count": 4}
    assert design["covariates"] == {
        "x": {"grid": [0.0, 1.0]},
        "age": {"uniform": [0.0, 4.5], "level": "animal"},
    }


def test_units_that_cross_stay_so(tmp_path):
    """Eight subjects meet six items of two kinds; one of two versions per pair, or both."""
    pair = pd.MultiIndex.from_product([range(8), range(6)], names=["subject", "item"])
    frame = pair.to_frame(index=False)
    subject, item = frame["subject"], frame["item"]
    frame["kind"] = np.where(item < 3, "long", "short")
    frame["version"] = np.where((subject + item) % 2, "a", "b")
    frame["y"] = np.sin(subject * 7) + np.cos(item * 5) + np.sin(np.arange(len(frame)) ** 2)
    formula = "y ~ kind + version + (1 | subject) + (1 | item)"
    item = {"name": "item", "count": 3}
    subject = {"name": "subject", "count": 8, "crossed": True}
    version = {"levels": ["a", "b"], "of": ["item", "subject"]}
    both = pd.concat([frame, frame.assign(version=frame["version"].map({"a": "b", "b": "a"}))])
    both["y"] = np.sin(np.arange(len(both)) ** 2)
    for rows, dealt, met in (
        (frame, "latin", {}),
        (both, "all", {}),
        (frame.drop([0, 7, 14]), "latin", {"met": 0.9375}),
    ):
        rows.to_csv(tmp_path / "p.csv", index=False)
        design = design_of(tmp_path / "p.csv", formula)
        assert design["levels"] == [item, subject | met]
        assert design["factors"] == {
            "kind": ["long", "short"],
            "version": version | {"dealt": dealt},
        }
        assert design["observations"] == {"count": 1}
    kept = starter_from_data(tmp_path / "p.csv", formula, "s", keep_design=True)
    assert tomllib.loads(kept.text)["design"]["levels"] == [
        {"name": "item"},
        {"name": "subject", "crossed": True},
    ]
    with pytest.raises(DataError, match="--keep-design"):
        design_of(tmp_path / "p.csv", "y ~ kind + (1 | subject) + (1 | item) + (1 | version:kind)")


@pytest.mark.parametrize("groups", ["(1 | school/class)", "(1 | school:class)"])
def test_nested_units_that_others_cross_stay_nested_whatever_their_labels(tmp_path, groups):
    names = ["school", "class", "year"]
    frame = pd.MultiIndex.from_product([range(6), [*"abc"], range(4)], names=names).to_frame(False)
    frame["y"] = np.sin(np.arange(len(frame)) ** 2)
    frame.to_csv(tmp_path / "p.csv", index=False)
    formula = f"y ~ 1 + {groups} + (1 | year)"
    kept = starter_from_data(tmp_path / "p.csv", formula, "s", keep_design=True)
    levels = tomllib.loads(kept.text)["design"]["levels"]
    assert levels == [{"name": "school"}, {"name": "class"}, {"name": "year", "crossed": True}]


def test_nested_units_that_cross_longer_chains_need_labels_of_their_own(tmp_path):
    names = ["school", "class", "era", "year", "part"]
    sizes = [range(3), [*"ab"], range(2), range(2), range(2)]
    frame = pd.MultiIndex.from_product(sizes, names=names).to_frame(False)
    frame["year"] += 2 * frame["era"]
    frame["month"] = 2 * frame["year"] + frame["part"]
    frame["y"] = np.sin(np.arange(len(frame)) ** 2)
    frame.to_csv(tmp_path / "p.csv", index=False)
    formula = "y ~ 1 + (1 | school/class) + (1 | era) + (1 | year) + (1 | month)"
    with pytest.raises(DataError, match=r"labels of 'class' repeat in school.*school1\.class1"):
        starter_from_data(tmp_path / "p.csv", formula, "s", keep_design=True)


def test_counts_that_differ_between_cells_alone_are_those_of_the_cells(tmp_path):
    n_images = {("fed", "a"): 3, ("fed", "b"): 1, ("fasted", "a"): 2, ("fasted", "b"): 2}
    rows = [
        (diet, animal, region, image, point, np.sin(animal * 3 + image * 5 + point**2))
        for (diet, region), n in n_images.items()
        for animal in ((0, 1, 2) if diet == "fed" else (3, 4))
        for image in range(n)
        for point in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["diet", "animal", "region", "image", "point", "y"])
    frame["image"] = frame["region"] + frame["image"].astype(str)
    frame.to_csv(tmp_path / "p.csv", index=False)
    design = design_of(tmp_path / "p.csv", "y ~ diet * region + (1 | animal/image)")
    assert [one["count"] for one in design["levels"]] == [
        {"fasted": 2, "fed": 3},
        {"fasted:a": 2, "fasted:b": 2, "fed:a": 3, "fed:b": 1},
    ]


def test_a_grid_that_has_lost_points_stays_a_grid(tmp_path):
    animal, x = np.divmod(np.arange(60), 6)
    y = np.sin(animal * 5.0) + x + np.cos(np.arange(60.0) ** 2)
    frame = pd.DataFrame({"animal": animal, "x": x / 5, "y": y})
    said = []
    frame.drop([3, 17, 18, 44, 59, 12]).to_csv(tmp_path / "p.csv", index=False)
    made = starter_from_data(tmp_path / "p.csv", "y ~ x + (1 | animal)", "s", said.append)
    raw = tomllib.loads(made.text)
    assert raw["design"]["covariates"]["x"] == {"grid": [0.0, 1.0]}
    assert raw["design"]["observations"] == {"count": 6}
    assert raw["truth"]["missing"] == {"observations": 0.1}
    assert any("10.0% of the points" in one for one in said)


def test_a_function_of_the_response_and_an_offset_become_a_scenario(tmp_path):
    n = np.arange(40)
    frame = pd.DataFrame({"animal": n // 8, "x": n % 8 / 7, "z": (n % 8) ** 2 / 10.0})
    frame["y"] = np.exp(frame["x"] + frame["z"] + np.sin(n // 8 * 3) + 0.1 * np.cos(n**2))
    frame.to_csv(tmp_path / "p.csv", index=False)
    formula = "log(y) ~ x + offset(z) + (1 | animal)"
    (tmp_path / "s.toml").write_text(starter_from_data(tmp_path / "p.csv", formula, "s").text)
    scenario = load_scenario(tmp_path / "s.toml")
    assert scenario.design.response == "log(y)"
    assert scenario.methods[0].formula == "`log(y)` ~ x + offset(z) + (1 | animal)"
    assert scenario.truth.fixed["z"] == 1.0
    done = call_mcsim("run", "s.toml", "-n", 40, "-j", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = pd.read_csv(tmp_path / "results" / "s" / "summary.csv").set_index("parameter")
    assert abs(summary["bias"]["x"]) < 4 * summary["bias_mcse"]["x"]  # P(error) < 1e-4, fixed seed


def test_without_a_formula_the_columns_are_named_and_one_is_suggested(tmp_path):
    frame = pd.DataFrame(
        {"Area (um2)": [1.5, 2.5] * 8, "Mouse ID": [f"m{n}" for n in range(8)] * 2}
    )
    frame["group"] = ["a", "b"] * 8
    frame.to_csv(tmp_path / "p.csv", index=False, sep=";", decimal=",")
    done = call_mcsim("init", "s", "--from-data", "p.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "numbers: `Area (um2)`; text: `Mouse ID` (8 labels), group (2 labels)" in done.stderr
    formula = done.stderr.rsplit("--formula '", 1)[1].split("'")[0]
    assert formula == "`Area (um2)` ~ group + (1 | `Mouse ID`)"


@pytest.fixture
def dogs(tmp_path):
    """Sides of dogs, whose labels repeat, and a dose in numbers."""
    i = np.arange(48)
    frame = pd.DataFrame({"day": i % 4, "side": i // 4 % 2, "dog": i // 8, "dose": i // 24 * 10})
    frame["y"] = 3 * np.sin(7 * frame["dog"]) + np.cos(i // 4 * 5) + np.sin(i**2)
    frame.to_csv(tmp_path / "dogs.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("random", ["(1 | dog) + (1 | side:dog)", "(1 | dog/side)"])
def test_every_spelling_of_a_level_makes_the_same_scenario_that_runs(dogs, random):
    formula = f"y ~ day +\n  C(dose) + {random}"
    done = call_mcsim("init", "s", "--from-data", "dogs.csv", "--formula", formula, cwd=dogs)
    assert done.returncode == 0, done.stderr
    raw = tomllib.loads((dogs / "s.toml").read_text())
    assert [level["name"] for level in raw["design"]["levels"]] == ["dog", "side"]
    assert raw["design"]["factors"] == {"dose": ["0", "10"]}
    assert raw["truth"]["random"].keys() == {"dog", "side"}
    assert "C(dose)[T.10]" in raw["truth"]["fixed"]
    done = call_mcsim("run", "s.toml", "-n", 2, "-j", 1, "--max-failures", 1, cwd=dogs)
    assert done.returncode == 0, done.stderr


def test_levels_by_labels_of_their_own_are_in_the_design(dogs):
    frame = pd.read_csv(dogs / "dogs.csv")
    frame.assign(side=frame["dog"] * 2 + frame["side"]).to_csv(dogs / "own.csv", index=False)
    formula = "y ~ 0 + (1 | side) + (1 | dog)"
    design = design_of(dogs / "own.csv", formula)
    assert [(one["name"], one["count"]) for one in design["levels"]] == [("dog", 6), ("side", 2)]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ day", "has no random term, so no units to simulate"),
        ("y ~ C(day) + day + (1 | dog)", "'day' is a factor in C\\(\\) and a covariate elsewhere"),
    ],
)
def test_formulas_that_no_scenario_is_made_of_are_refused(dogs, formula, message):
    with pytest.raises(DataError, match=message):
        starter_from_data(dogs / "dogs.csv", formula, "s")


def test_names_of_data_files_do_not_end_a_comment(dogs):
    (dogs / "a\nb.csv").write_bytes((dogs / "dogs.csv").read_bytes())
    text = starter_from_data(dogs / "a\nb.csv", "y ~ day + (1 | dog)", "s").text
    assert tomllib.loads(text)["title"] == "Design and fit of a?b.csv"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' cannot name a scenario"),
        ("a\nb", "cannot name a scenario"),
        ("x" * 300, "name too long"),
    ],
)
def test_names_that_no_file_can_have_are_refused(tmp_path, name, message):
    done = call_mcsim("init", name, cwd=tmp_path)
    assert (done.returncode, message in done.stderr, list(tmp_path.iterdir())) == (2, True, [])


def test_a_name_keeps_its_dots(tmp_path):
    for name in ("study.v2", "other.toml"):
        assert call_mcsim("init", name, cwd=tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"study.v2.toml", "other.toml"}


def test_a_factor_that_is_a_level_too_gives_the_level_a_name_of_its_own():
    # Machines of nlme: lmer(score ~ Machine + (1 | Worker/Machine)): SDs 4.781, 3.730, 0.9616
    path = Path(__file__).parent.parent / "reference" / "classical" / "Machines.csv"
    said = []
    formula = "score ~ Machine + (1 | Worker/Machine)"
    raw = tomllib.loads(starter_from_data(path, formula, "s", said.append).text)
    assert [(one["name"], one["count"]) for one in raw["design"]["levels"]] == [
        ("Worker", 6), ("Machine.unit", 1)
    ]  # fmt: skip
    assert raw["design"]["factors"]["Machine"]["of"] == "Machine.unit"
    assert raw["truth"]["random"]["Worker"]["sd"]["Intercept"] == 4.781
    assert raw["truth"]["random"]["Machine.unit"]["sd"]["Intercept"] == 3.73
    own_level = [
        "'Machine' tells units apart and is a column of the model; the level is called"
        " 'Machine.unit'"
    ]
    assert said == own_level
    said.clear()
    with pytest.raises(DataError, match=r"Machine.unit.sd\(Intercept\)"):
        starter_from_data(path, "score ~ Machine + (1 | Machine)", "s", said.append)
    assert said == own_level  # what the refusal is about


COUNTS = Path(__file__).parent.parent / "reference" / "families"


def made_of(name, formula, model, tmp_path, said=None, **options):
    """The scenario of a table of counts, read back."""
    said = [] if said is None else said
    start = starter_from_data(COUNTS / name, formula, "s", said.append, None, model, **options)
    (tmp_path / "s.toml").write_text(start.text)
    if start.table is not None:
        (tmp_path / "s.csv").write_text(start.table)
    return load_scenario(tmp_path / "s.toml")


def test_counts_become_a_scenario_of_their_family(tmp_path):
    formula = "y ~ diet * x + (1 | animal/image)"
    truth = made_of("nbinom_1.csv", formula, family_model("nbinom"), tmp_path).truth
    assert (truth.family, truth.link, truth.sigma) == ("nbinom", "log", None)
    assert truth.dispersion == pytest.approx(1.698)  # 1.6976938918 by glmmTMB, four digits
    formula = "incidence ~ factor(period) + (1 | herd)"
    model = family_model("binomial", trials="size")
    kept = made_of("cbpp.csv", formula, model, tmp_path, keep_design=True)
    assert kept.truth.trials == "size"
    assert kept.methods[0].df == ("containment",)
    formula = "y ~ diet + x + (1 | animal/image)"
    planned = made_of("poisson_1.csv", formula, family_model("poisson"), tmp_path)
    assert 'rejection = "x"' in (tmp_path / "s.toml").read_text()
    assert not is_pilot(planned)  # whose Wishart matrices would be of a sigma


def test_a_response_that_looks_like_a_count_is_suggested_to_be_one(tmp_path):
    for name, word in (("binomial_1.csv", "--family binomial"), ("poisson_1.csv", "nbinom or")):
        said = []
        made_of(name, "y ~ diet * x + (1 | animal)", None, tmp_path, said)
        assert any(word in one for one in said)


def test_trials_that_differ_need_the_rows_as_they_are(tmp_path):
    frame = pd.read_csv(COUNTS / "binomial_1.csv")
    frame["n"] = 1 + frame.index % 2
    frame.to_csv(tmp_path / "t.csv", index=False)
    model = family_model("binomial", trials="n")
    with pytest.raises(DataError, match="the trials, 'n', differ between rows; keep them with"):
        starter_from_data(tmp_path / "t.csv", "y ~ x + (1 | animal)", "s", model=model)


def test_covariates_far_from_zero_keep_the_digits_that_they_need(dogs):
    frame = pd.read_csv(dogs / "dogs.csv").assign(year=lambda one: 2000 + one["day"])
    frame.to_csv(dogs / "years.csv", index=False)
    near, far = (
        tomllib.loads(starter_from_data(dogs / "years.csv", formula, "s").text)["truth"]["fixed"]
        for formula in ("y ~ day + (1 | dog)", "y ~ year + (1 | dog)")
    )
    for day in (0, 3):
        mean = near["Intercept"] + day * near["day"]
        assert far["Intercept"] + (2000 + day) * far["year"] == pytest.approx(mean, abs=0.05)


def test_a_plan_starts_where_the_model_fits_and_asks_for_an_effect(dogs):
    frame = pd.read_csv(dogs / "dogs.csv").assign(log_area=lambda one: np.log(1 + one["dog"]))
    frame.to_csv(dogs / "areas.csv", index=False)
    formula = "y ~ poly(day, 2) + offset(log_area) + (1 | dog)"
    frame.assign(day=frame.index % 8).to_csv(dogs / "areas.csv", index=False)
    plan = tomllib.loads(starter_from_data(dogs / "areas.csv", formula, "s").text)["plan"]
    assert plan["search"]["design.observations.count"] == {"from": 4, "to": 32}
    assert plan["target"]["rejection"] == "poly(day, 2)[2]"


@pytest.mark.parametrize("name", ["observation", "residual", "total"])
def test_names_that_scenarios_have_are_no_names_of_columns(dogs, name):
    frame = pd.read_csv(dogs / "dogs.csv").rename(columns={"dog": name})
    frame.to_csv(dogs / "own.csv", index=False)
    with pytest.raises(DataError, match=f"in a scenario '{name}' has a meaning of its own; rename"):
        starter_from_data(dogs / "own.csv", f"y ~ day + (1 | {name})", "s")


@pytest.mark.parametrize("keep_design", [False, True])
def test_labels_that_no_scenario_can_have_are_named(dogs, keep_design):
    frame = pd.read_csv(dogs / "dogs.csv")
    frame["group"] = np.where(frame["dog"] < 3, "a:b", "c")
    frame.to_csv(dogs / "own.csv", index=False)
    with pytest.raises(DataError, match="the level 'a:b' of 'group' has a sign that a scenario"):
        starter_from_data(dogs / "own.csv", "y ~ group + (1 | dog)", "s", keep_design=keep_design)


def test_a_factor_may_have_any_other_name(dogs):
    frame = pd.read_csv(dogs / "dogs.csv").assign(
        parent=lambda one: np.where(one["dog"] < 3, "a", "b")
    )
    frame.rename(columns={"dog": "Tier-Nr."}).to_csv(dogs / "own.csv", index=False)
    raw = tomllib.loads(
        starter_from_data(dogs / "own.csv", "y ~ parent + (1 | `Tier-Nr.`/side)", "s").text
    )
    assert raw["design"]["factors"] == {"parent": ["a", "b"]}
    assert raw["plan"]["search"]["design.levels.Tier-Nr..count"] == {"from": 2, "to": 12}
