"""Units and factors of a design: who is measured, where, in which cell."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mcsim.design.columns import model_columns
from mcsim.design.words import design_in_words, factors_in_words
from mcsim.errors import ScenarioError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import Parameter
from mcsim.scenario.conditions import conditions, study_identity
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.load import load_scenario
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.realized import realized_values
from mcsim.simulate.responses import draw_responses, prepare_simulator

THREE = """
replicates = 60
seed = 7
[design.factors]
diet = ["fasted", "fed"]
region = { levels = ["portal", "central"], of = "image" }
stain = { levels = ["a", "b", "c"], of = "observation" }
[[design.levels]]
name = "animal"
count = 5
[[design.levels]]
name = "image"
count = 3
[design.observations]
count = 2
[truth]
sigma = 0.5
[truth.fixed]
Intercept = 1.0
"diet[T.fed]" = 0.5
"region[T.central]" = -0.5
"stain[T.c]" = 0.3
"diet[T.fed]:region[T.central]:stain[T.b]" = 1.0
[truth.random.animal]
sd = { Intercept = 0.8 }
[truth.random.image]
sd = { Intercept = 0.4 }
[[methods]]
name = "anova"
formula = "y ~ diet * region * stain + (1 | animal/image)"
df = "kenward-roger"
"""
SHAPE = (2, 5, 2, 3, 3, 2)  # diet, animal, region, image, stain, observation
DIET, ANIMAL, REGION, IMAGE, STAIN, ROW = range(6)
N_REPLICATES = 2000
FORMULA = parse_formula("y ~ diet * region * stain + (1 | animal/image)")
PER_CELL = (
    """count = { "fasted:portal" = 1, "fasted:central" = 2, "fed:portal" = 3, "fed:central" = 4 }"""
)


@pytest.fixture
def built(tmp_path):
    def build(*overrides, text=THREE):
        path = tmp_path / "s.toml"
        path.write_text(text)
        scenario = load_scenario(path, overrides=overrides)
        [condition] = conditions(scenario)
        return condition, prepare_simulator(condition, scenario.seed)

    return build


def test_every_unit_above_has_units_of_each_cell_of_the_own_factors(built):
    frame = built()[1].design.frame
    by_image = frame.groupby("image", observed=True)
    assert by_image["region"].nunique().unique().tolist() == [1]
    assert by_image["stain"].value_counts().unique().tolist() == [2]
    assert frame.groupby(["animal", "region"], observed=True)["image"].nunique().unique() == [3]
    assert frame.groupby("diet", observed=True)["animal"].nunique().tolist() == [5, 5]
    assert len(frame) == np.prod(SHAPE)


def test_counts_per_cell_are_those_of_the_factors_down_to_the_level(built):
    design = built(
        f"design.levels.image.{PER_CELL}",
        'design.observations.count={uniform=[1, 3]}',
        "design.levels.animal.count={fasted=2, fed=3}",
    )[1].design  # fmt: skip
    images = design.frame.drop_duplicates("image")
    per_animal = images.groupby(["animal", "diet", "region"], observed=True).size().unstack()
    assert per_animal.loc[:, "portal"].tolist() == [1, 1, 3, 3, 3]
    assert per_animal.loc[:, "central"].tolist() == [2, 2, 4, 4, 4]
    per_stain = design.frame.groupby(["image", "stain"], observed=True).size()
    assert len(per_stain) == 3 * len(images)  # each stain in each image, 1 to 3 times
    assert set(per_stain) == {1, 2, 3}


def test_several_factors_of_one_level_make_cells_of_which_the_last_changes_fastest(built):
    design = built(
        'design.factors.side={ levels = ["left", "right"], of = "image" }',
        "design.levels.image.count=1",
    )[1].design
    first = design.frame.drop_duplicates("image").head(4)
    pairs = [tuple(row) for row in first[["region", "side"]].itertuples(index=False)]
    assert pairs == [*itertools.product(("portal", "central"), ("left", "right"))]


def test_a_grid_runs_through_every_cell_of_an_innermost_unit(built):
    design = built("design.covariates.x={values=[2.0, 5.0]}")[1].design
    by_cell = design.frame.groupby(["image", "stain"], observed=True)["x"].apply(list)
    assert by_cell.map(tuple).unique().tolist() == [(2.0, 5.0)]


def test_a_dry_run_says_where_each_factor_varies(built):
    design = built(f"design.levels.image.{PER_CELL}")[1].design
    assert design_in_words(design).startswith("10 units of animal; 50 units of image, 3 to 7 per")
    assert [*factors_in_words(design, design.factors)] == [
        "diet differs between units of animal; units per cell of diet: 5 fasted, 5 fed",
        "region differs between units of image; units per cell of diet and region: 5 fasted:portal,"
        " 10 fasted:central, 15 fed:portal, 20 fed:central",
        "stain differs between observations of one image; observations per cell of diet, region and"
        " stain: 10 to 40 in each of 12 cells",
    ]


def test_a_factor_of_the_outermost_level_is_one_however_it_is_written(built, tmp_path):
    plain = built()[0]
    in_full = 'design.factors.diet={levels=["fasted", "fed"], of="animal"}'
    assert built(in_full)[0].identity == plain.identity
    file = tmp_path / "s.toml"
    identities = [study_identity(load_scenario(file, overrides=one)) for one in ([], [in_full])]
    assert identities[0] == identities[1]
    assert identities[0]["design.factors.diet"] == ["fasted", "fed"]
    assert built('design.factors.region.of="observation"')[0].identity != plain.identity


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    path = tmp_path_factory.mktemp("three") / "s.toml"
    path.write_text(THREE)
    scenario = load_scenario(path)
    simulator = prepare_simulator(conditions(scenario)[0], scenario.seed)
    block = draw_responses(simulator, range(1, N_REPLICATES + 1))
    return simulator, block


def means(y, *kept):
    """Means over all other axes of the design, which keep their places."""
    axes = tuple(1 + axis for axis in range(6) if axis not in kept)
    return y.mean(axis=axes, keepdims=True)


def effect(y, *factors):
    """Interaction effects of crossed factors: what is left of means after those within them."""
    subsets = (
        one for size in range(len(factors) + 1) for one in itertools.combinations(factors, size)
    )
    return sum((-1) ** (len(factors) - len(one)) * means(y, *one) for one in subsets)


def squares(effects):
    """Sum of squares of all observations (n_replicates,)."""
    return np.sum(np.broadcast_to(effects, (len(effects), *SHAPE)) ** 2, axis=(1, 2, 3, 4, 5, 6))


def strata(y):
    """Mean squares of the classical analysis of variance, and their df, by stratum."""
    animal, image = means(y, DIET, ANIMAL), means(y, DIET, ANIMAL, REGION, IMAGE)
    within_image = y - image - means(y, DIET, REGION, STAIN) + means(y, DIET, REGION)
    between_images = image - animal - means(y, DIET, REGION) + means(y, DIET)
    found = {"animal": (animal - means(y, DIET), 8), "image": (between_images, 10 * 5 - 2),
             "row": (within_image, 60 * 5 - 8)}  # fmt: skip
    return {name: (squares(effects) / df, df) for name, (effects, df) in found.items()}


def test_cell_means_and_strata_have_their_moments(responses):
    # error probability: 4 Monte Carlo standard errors of 12 means and 3 mean squares, 0.1% in all
    y = responses[1].y.reshape(-1, *SHAPE)
    cells = means(y, DIET, REGION, STAIN).reshape(-1, 2, 2, 3)
    expected = np.full((2, 2, 3), 1.0)
    expected[1] += 0.5
    expected[:, 1] -= 0.5
    expected[:, :, 2] += 0.3
    expected[1, 1, 1] += 1.0
    mcse = cells.std(axis=0) / N_REPLICATES**0.5
    assert np.all(np.abs(cells.mean(axis=0) - expected) < 4 * mcse)
    # expected mean squares: sigma^2 + 6 image^2 + 36 animal^2
    sizes = {"row": 0.25, "image": 0.25 + 6 * 0.16, "animal": 0.25 + 6 * 0.16 + 36 * 0.64}
    for name, (square, df) in strata(y).items():
        mcse = sizes[name] * np.sqrt(2 / df / N_REPLICATES)
        assert abs(square.mean() - sizes[name]) < 4 * mcse, name


def test_realized_sds_leave_out_the_means_of_the_cells_down_to_the_level(responses):
    simulator, block = responses
    realized = realized_values(simulator, block.products)
    for name, variance, df in (("animal", 0.64, 10 - 2), ("image", 0.16, 60 - 4)):
        found = realized[Parameter.read(f"{name}.sd(Intercept)")] ** 2
        mcse = variance * np.sqrt(2 / df / N_REPLICATES)
        assert abs(found.mean() - variance) < 4 * mcse
        assert found.std() == pytest.approx(variance * np.sqrt(2 / df), rel=0.1)


def test_tests_of_terms_are_the_f_tests_of_the_analysis_of_variance(responses):
    simulator, block = responses
    terms = {"diet": "animal", "region": "image", "diet:region": "image", "stain": "row",
             "diet:stain": "row", "region:stain": "row", "diet:region:stain": "row"}  # fmt: skip
    columns = model_columns(FORMULA, simulator.design.frame)
    tested = tuple(EstimandSpec(name=f"test of {one}", term=one) for one in terms)
    method = prepare_method(columns, MethodSettings("reml", ("kenward-roger",), 0.95, tested))
    y = block.y[:20]
    analysis = method.analyse([method.take(y)], np.random.default_rng)
    rows = {one.parameter.name: one for one in analysis.estimates["kenward-roger"]}
    y = y.reshape(-1, *SHAPE)
    mean_squares = strata(y)
    inside = mean_squares["image"][0] > mean_squares["row"][0]
    inside &= mean_squares["animal"][0] > mean_squares["image"][0]
    assert inside.sum() > 15
    axes = {"diet": DIET, "region": REGION, "stain": STAIN}
    for term, stratum in terms.items():
        factors = [axes[name] for name in term.split(":")]
        df = np.prod([SHAPE[axis] - 1 for axis in factors])
        error, error_df = mean_squares[stratum]
        F = squares(effect(y, *factors)) / df / error
        row = rows[f"test of {term}"]
        assert row.estimate[inside] == pytest.approx(F[inside], rel=1e-5), term
        assert row.df[inside] == pytest.approx(error_df, rel=1e-5), term
        p = stats.f.sf(F[inside], df, error_df)
        assert row.p_value[inside] == pytest.approx(p, rel=1e-4, abs=1e-12), term


SLOPES = (
    'truth.random.animal.sd={ Intercept = 0.6, "region[T.central]" = 0.4 }',
    "truth.random.animal.correlation=0.3",
    'methods.anova.formula="y ~ diet * region + stain + (region | animal) + (1 | animal:image)"',
)


def test_a_factor_within_units_may_have_a_random_slope(built):
    simulator = built(*SLOPES)[1]
    block = draw_responses(simulator, range(1, N_REPLICATES + 1))
    realized = realized_values(simulator, block.products)
    slope = realized[Parameter.read("animal.sd(region[T.central])")] ** 2
    assert abs(slope.mean() - 0.16) < 4 * 0.16 * np.sqrt(2 / 8 / N_REPLICATES)
    y = block.y.reshape(-1, *SHAPE)
    difference = means(y, DIET, ANIMAL, REGION)
    difference = (difference[:, :, :, 1] - difference[:, :, :, 0]).reshape(-1, 10)
    # var = slope^2 + 2 (image^2 / 3 + sigma^2 / 18); error probability: 4 standard errors
    variance = 0.16 + 2 * (0.16 / 3 + 0.25 / 18)
    found = difference.var(axis=0, ddof=1)
    assert np.all(np.abs(found - variance) < 4 * variance * np.sqrt(2 / N_REPLICATES))


@pytest.mark.parametrize(
    "override",
    [
        "truth.missing={ observations = 0.2, units = { image = 0.1 } }",
        "design={ redraw = true, levels = [{ name = 'animal', count = 5 }, { name = 'image',"
        " count = { uniform = [1, 3] } }], observations = { count = 2 }, factors = { diet ="
        " ['fasted', 'fed'], region = { levels = ['portal', 'central'], of = 'image' }, stain ="
        " { levels = ['a', 'b', 'c'], of = 'observation' } } }",
    ],
    ids=["missing", "redraw"],
)
def test_replicates_with_rows_of_their_own_have_the_factors_of_their_units(built, override):
    condition, simulator = built(*SLOPES, override)
    sizes = {len(draw_data_set(condition, simulator, number).y) for number in (1, 2, 3)}
    assert len(sizes) == 3
    design = draw_data_set(condition, simulator, 1).design
    assert design.frame.groupby("image", observed=True)["region"].nunique().max() == 1
    assert np.isfinite(draw_data_set(condition, simulator, 1).realized[
        Parameter.read("animal.sd(region[T.central])")]).all()  # fmt: skip


WEDGE = """
replicates = 10
seed = 1
[design.factors]
period = { levels = ["p1", "p2", "p3", "p4"], of = "observation" }
[[design.levels]]
name = "cluster"
count = 7
[design.observations]
count = 2
[design.covariates]
treated = { starts = { level = "cluster", along = "period" } }
[truth]
sigma = 1.0
[truth.fixed]
treated = 0.5
[truth.random.cluster]
sd = { Intercept = 0.3 }
[[methods]]
name = "m"
formula = "y ~ period + treated + (1 | cluster)"
"""


def test_units_start_one_group_after_the_other(built):
    frame = built(text=WEDGE)[1].design.frame
    table = frame.groupby(["cluster", "period"], observed=True)["treated"].agg(["min", "max"])
    assert (table["min"] == table["max"]).all()
    assert [*map(int, table["min"].unstack().sum(axis=1))] == [3, 3, 3, 2, 2, 1, 1]
    assert table["min"].unstack().mean().round(3).tolist() == [0.0, 0.429, 0.714, 1.0]


def test_units_start_alike_in_every_cell_of_the_factors_between_them(built):
    arms = ['design.factors.arm=["a", "b"]', "design.levels.cluster.count={ a = 3, b = 6 }"]
    frame = built(*arms, text=WEDGE)[1].design.frame
    started = frame.groupby(["arm", "period"], observed=True)["treated"].mean().unstack()
    assert started.loc["a"].round(3).tolist() == started.loc["b"].round(3).tolist()
    assert started.loc["a"].round(3).tolist() == [0.0, 0.333, 0.667, 1.0]


def test_a_latin_square_gives_each_unit_all_levels_in_turn(built):
    square = ('design.factors.drug={ levels = ["A", "B", "C", "D"], of = ["cluster", "period"],'
              ' dealt = "latin" }')  # fmt: skip
    frame = built(square, text=WEDGE)[1].design.frame
    table = frame.groupby(["cluster", "period"], observed=True)["drug"].first().unstack()
    assert ["".join(row) for row in table.head(5).to_numpy()] == [
        "ABCD", "BCDA", "CDAB", "DABC", "ABCD",
    ]  # fmt: skip


def test_cells_may_not_be_there_as_where_sites_lie_in_countries(built):
    text = WEDGE.replace("period = ", 'site = ["s1", "s2", "s3"]\nland = ["A", "B"]\nperiod = ')
    sites = '{ "s1:A" = 2, "s2:A" = 3, "s3:A" = 0, "s1:B" = 0, "s2:B" = 0, "s3:B" = 4 }'
    condition, simulator = built(f"design.levels.cluster.count={sites}", text=text)
    frame = simulator.design.frame.drop_duplicates("cluster")
    assert frame["land"].value_counts().to_dict() == {"A": 5, "B": 4}
    assert len(simulator.effects[0].cells.n_units) == 3
    assert np.isfinite(draw_data_set(condition, simulator, 1).realized[
        Parameter.read("cluster.sd(Intercept)")]).all()  # fmt: skip


def test_a_level_may_be_called_observation(built):
    text = WEDGE.replace("cluster", "observation").replace("starts = {", "uniform = [0, 1] } #")
    frame = built(text=text)[1].design.frame
    assert frame.groupby("period", observed=True)["observation"].nunique().tolist() == [7] * 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("design.factors.stain.of='imgae'",
         "unknown level 'imgae' in design.factors.stain.of. The design has: animal, image,"
         " observation. Did you mean 'image'?"),
        ("design.factors.stain={ levels = ['a', 'b'] }", "missing key 'of' in design.factors"),
        ("design.factors.stain={ levels = ['a'], of = 'image' }",
         "stain.levels is ['a']; it must be a list of two or more different levels"),
        ("design.factors.stain.of=['animal']", 'must be the name of a level, "observation", or'),
        ("design.factors.stain.of=['animal', 'region']",
         '`of` names two, so say how: dealt = "latin" or "all"'),
        ("design.factors.stain={ levels=['a','b'], of=['animal', 'stain'], dealt='latin'}",
         "unknown level or factor 'stain' in design.factors.stain.of. The design has: animal,"
         " image, diet, region."),
        ("design.factors.stain.dealt='latin'", "`dealt` goes with a list of two names in `of`"),
        ("design.factors.stain={ levels=['a','b'], of=['animal', 'diet'], dealt='random'}",
         "design.factors.stain.dealt is 'random'; it must be one of: all, latin."),
        ("design.levels.image.count={ portal = 3, central = 2 }",
         "unknown cell 'portal'. Cells of diet, region: fasted:portal, fasted:central, fed:portal,"
         " fed:central."),
        ("design.observations.count={ 'fasted:portal:a' = 3 }",
         "no count for the cell 'fed:central:b'; each needs one: fasted:portal:a"),
        ("design.levels.animal.count={ fasted = 0, fed = 0 }", "all counts are 0; one at least"),
        ("design.levels.image.count={ 'fasted:portal' = 0, 'fasted:central' = 0, 'fed:portal' = 5,"
         " 'fed:central' = 1 }", "all counts in the cell 'fasted' are 0; one at least must be"),
        ("design.levels.animal.count={ fasted = -1, fed = 2 }", "it must be a whole number of"),
        ("design.levels.animal.count=100000", "a data set has up to 7,200,000 rows"),
        ("design.levels.image.count={ 'fasted:portal' = 9, 'fasted:central' = 1000000,"
         " 'fed:portal' = 5, 'fed:central' = 1000000 }", "a data set has up to 60,000,540 rows"),
        ("design.covariates.z={ starts = { level = 'clustr', along = 'stain' } }",
         "unknown level 'clustr' in design.covariates.z.starts. The design has: animal, image."),
        ("design.covariates.z={ starts = { level = 'animal', along = 'z' } }",
         "unknown variable 'z' in design.covariates.z.starts. The design has: diet, region, "),
        ("design.covariates.z={ starts = { level = 'animal', along = 'diet' } }",
         "'diet' does not differ within units of 'animal', so there are no steps; name one of"),
        ("design.covariates.z={ starts = { level = 'animal' } }",
         "missing key 'along' in design.covariates.z.starts"),
        ("design.covariates.z={ starts = { level = 'animal', along = 'stain' }, level = 'image' }",
         "`starts` names its level itself"),
        ("design.covariates.z={ values = [0, 1], level = 'animal' }",
         "design.levels.animal.count"),
    ],
)  # fmt: skip
def test_what_no_design_can_be_is_said_where_it_stands(built, override, message):
    with pytest.raises(ScenarioError) as caught:
        built(override)
    [line, *_] = [one for one in str(caught.value).splitlines() if message in one]
    assert line.startswith("--set design.")
