"""Replicates with rows of their own: what is lost or drawn anew, and what their fits say.

Statistical comparisons are within 4 Monte Carlo standard errors: each fails by chance with
probability 6e-5, all of them (fewer than 40) with 0.3%. Seeds are fixed.
"""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mcsim.errors import DataError
from mcsim.methods.one_file import fit_file
from mcsim.names import Parameter
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.simulate.data_set import draw_data_set
from mcsim.simulate.missing import kept_rows
from mcsim.simulate.responses import prepare_simulator
from mcsim.study import run as study
from mcsim.study.analyse import analyse_replicates
from mcsim.study.prepared import prepare_condition

N_REPLICATES = 2000


@pytest.fixture
def prepared(small_scenario):
    """The only condition of the small scenario with other values, ready to be analysed."""

    def prepare(*overrides):
        scenario = load_scenario(small_scenario, overrides=overrides)
        return prepare_condition(scenario, conditions(scenario)[0])

    return prepare


@pytest.fixture
def kept(prepared):
    """Frame of a design, and which rows many replicates keep: (replicates, rows)."""

    def keep(missing):
        one = prepared(f"truth.missing={missing}")
        generator, spec = np.random.default_rng(3), one.condition.truth.missing
        design = one.simulator.design
        units, values = design.unit_of_row, design.covariate
        rows = [kept_rows(units, values, spec, generator) for _ in range(N_REPLICATES)]
        return design.frame, np.array(rows)

    return keep


def assert_share(per_replicate, expected):
    mcse = per_replicate.std(axis=0, ddof=1) / len(per_replicate) ** 0.5
    assert np.all(np.abs(per_replicate.mean(axis=0) - expected) < 4 * mcse)


def test_observations_are_lost_completely_at_random(kept):
    _, rows = kept("{observations=0.1}")
    assert_share(rows[:, :5].astype(float), 0.9)
    both = (~rows[:, 0] & ~rows[:, 1]).astype(float)  # rows of one image: independent
    assert_share(both, 0.01)


def test_units_are_lost_with_all_that_is_in_them(kept):
    _, rows = kept("{units={animal=0.2, image=0.3}}")
    images = rows.reshape(N_REPLICATES, -1, 5)
    assert np.all(images.all(axis=2) == images.any(axis=2))
    assert_share(images[:, :3, 0].astype(float), 0.8 * 0.7)
    both = images[:, 0, 0] & images[:, 1, 0]  # of one animal
    assert_share(both.astype(float), 0.8 * 0.7**2)


def test_dropout_takes_the_observations_after_a_point(kept):
    frame, rows = kept('{dropout={level="animal", along="x", after=0.5, probability=0.3}}')
    x = frame["x"].to_numpy()
    assert rows[:, x <= 0.5].all()
    later = rows[:, x > 0.5].reshape(N_REPLICATES, 9, -1)
    assert np.all(later.all(axis=2) == later.any(axis=2))
    assert_share(later[:, :, 0].mean(axis=1), 0.7)


def test_causes_of_loss_act_independently(kept):
    frame, rows = kept(
        "{observations=0.1, units={image=0.2}, "
        'dropout={level="image", along="x", after=0.5, probability=0.3}}'
    )
    is_later = frame["x"].to_numpy() > 0.5
    assert_share(rows[:, ~is_later].mean(axis=1), 0.9 * 0.8)
    assert_share(rows[:, is_later].mean(axis=1), 0.9 * 0.8 * 0.7)


def test_what_is_kept_has_the_moments_of_the_truth(prepared):
    one = prepared("truth.missing={observations=0.3, units={image=0.3}}", "truth.fixed={}")
    squares, sizes = [], []
    for replicate in range(1, N_REPLICATES + 1):
        data = draw_data_set(one.condition, one.simulator, replicate)
        at_zero = data.y[data.design.frame["x"].to_numpy() == 0.0]
        squares.append(np.sum(at_zero**2))
        sizes.append(len(at_zero))
    # a ratio of sums: its error by the delta method
    expected = 0.36 + 0.25 + 0.25
    differences = np.array(squares) - expected * np.array(sizes)
    assert_share(differences, 0.0)


def test_realized_values_are_of_the_units_that_are_left(prepared):
    # oracle: nearly no residuals, so that the effects can be read off the data
    one = prepared(
        "truth.missing={units={animal=0.4}, observations=0.2}",
        "truth.sigma=1e-9",
        "truth.random={animal={sd={Intercept=2}}}",
    )
    n_checked = 0
    for replicate in range(1, 40):
        data = draw_data_set(one.condition, one.simulator, replicate)
        frame = data.design.frame
        effects = data.y - 1.0 - 0.5 * (frame["diet"] == "fed") + frame["x"]
        by_animal = effects.groupby(frame["animal"], observed=True).first()
        diet = frame["diet"].groupby(frame["animal"], observed=True).first()
        around = by_animal - by_animal.groupby(diet, observed=True).transform("mean")
        degrees = len(around) - diet.nunique()
        realized = data.realized[Parameter.read("animal.sd(Intercept)")][0]
        if degrees > 0:
            assert realized == pytest.approx(np.sqrt(np.sum(around**2) / degrees), rel=1e-6)
            n_checked += len(around) < 9
    assert n_checked > 20


REDRAWN = (
    "design.redraw=true",
    "design.levels.image.count={uniform=[1, 5]}",
    "design.covariates.x={normal=[0, 1]}",
)


def test_a_design_is_drawn_anew_in_every_replicate(prepared):
    one = prepared(*REDRAWN)
    counts, means = [], []
    for replicate in range(1, 501):
        frame = draw_data_set(one.condition, one.simulator, replicate).design.frame
        counts.append(frame["image"].nunique() / 9)
        means.append(frame["x"].mean())
    assert len(set(counts)) > 10
    assert_share(np.array(counts), 3.0)
    assert_share(np.array(means), 0.0)
    again = draw_data_set(one.condition, one.simulator, 7)
    assert again.design.frame["x"].mean() == means[6]


def test_without_redraw_the_design_is_drawn_once(prepared):
    one = prepared(*REDRAWN[1:])
    frames = [draw_data_set(one.condition, one.simulator, k).design.frame for k in (1, 2)]
    assert frames[0].equals(frames[1])
    assert not one.condition.has_own_rows


@pytest.mark.parametrize(
    "overrides",
    [
        ("truth.missing={observations=0.3, units={image=0.2}}",),
        ('truth.missing.dropout={level="animal", along="x", after=0.3, probability=0.5}',),
        REDRAWN,
        (*REDRAWN, "truth.missing.observations=0.2"),
    ],
    ids=["missing", "dropout", "redraw", "both"],
)
def test_a_replicate_is_analysed_as_its_data_file_would_be(small_scenario, tmp_path, overrides):
    scenario = load_scenario(small_scenario, overrides=overrides)
    one = prepare_condition(scenario, conditions(scenario)[0])
    for replicate in (1, 4):
        study.replicate_data(scenario, replicate, None).to_csv(tmp_path / "one.csv", index=False)
        estimates, fits = analyse_replicates(one, range(replicate, replicate + 1))
        fitted = fit_file(tmp_path / "one.csv", scenario.methods[1].formula)
        rows = [row for row in estimates.to_pylist() if row["method"] == "diagonal"]
        assert {row["parameter"] for row in rows} == {p.parameter for p in fitted.parameters}
        for row, expected in zip(rows, fitted.parameters, strict=True):
            for key in ("estimate", "std_error", "df", "ci_lower"):
                # another order of rows of the same optimum; an SD of 0 is exact
                found, other = (
                    np.nan if v is None else v for v in (row[key], getattr(expected, key))
                )
                assert found == pytest.approx(other, rel=1e-5, abs=1e-8, nan_ok=True)
        assert fits.to_pylist()[-1]["loglik"] == pytest.approx(fitted.loglik, rel=1e-9)


def rows_of(one, replicate, method):
    estimates, fits = analyse_replicates(one, range(replicate, replicate + 1))
    (fit,) = [row for row in fits.to_pylist() if row["method"] == method]
    return {row["parameter"]: row for row in estimates.to_pylist() if row["method"] == method}, fit


def replicate_with(one, is_wanted):
    """First replicate whose diets of animals are as wanted."""
    for replicate in range(1, 500):
        frame = draw_data_set(one.condition, one.simulator, replicate).design.frame
        animals = frame.drop_duplicates("animal")["diet"].tolist() if len(frame) else []
        if is_wanted(animals):
            return replicate
    raise AssertionError


ESTIMANDS = (
    'estimands=[{name="fed at 0.5", fixed={Intercept=1, "diet[T.fed]"=1, x=0.5, '
    '"diet[T.fed]:x"=0.5}}, {name="difference", fixed={"diet[T.fed]"=1}}]'
)


def test_what_the_rows_of_a_replicate_cannot_tell_is_null(prepared):
    one = prepared("truth.missing.units={animal=0.6}", ESTIMANDS)
    only_fed = replicate_with(one, lambda diets: len(diets) >= 3 and set(diets) == {"fed"})
    rows, fit = rows_of(one, only_fed, "diagonal")
    assert fit["status"] in ("ok", "boundary")
    # reference group lost: the intercept would be that of the other group
    for name in ("Intercept", "diet[T.fed]", "x", "diet[T.fed]:x", "difference"):
        assert rows[name]["estimate"] is None
        assert rows[name]["ci_lower"] is None
    y = draw_data_set(one.condition, one.simulator, only_fed)
    assert rows["fed at 0.5"]["estimate"] == pytest.approx(y.y.mean(), abs=1e-6)  # balanced
    assert rows["animal.sd(Intercept)"]["estimate"] is not None
    only_fasted = replicate_with(one, lambda diets: len(diets) >= 3 and set(diets) == {"fasted"})
    rows, _ = rows_of(one, only_fasted, "diagonal")
    assert rows["Intercept"]["estimate"] is not None
    assert rows["x"]["estimate"] is not None
    for name in ("diet[T.fed]", "diet[T.fed]:x", "difference", "fed at 0.5"):
        assert rows[name]["estimate"] is None


def test_a_term_that_loses_a_column_has_no_test(small_scenario):
    overrides = [
        'design.factors={diet=["a", "b", "c"]}',
        "design.levels.animal.count=2",
        "truth.fixed={Intercept=1}",
        "truth.missing.units={animal=0.5}",
        'methods=[{name="m", formula="y ~ diet + x + (1 | animal)"}]',
    ]
    scenario = load_scenario(small_scenario, overrides=overrides)
    one = prepare_condition(scenario, conditions(scenario)[0])
    without_c = replicate_with(one, lambda diets: set(diets) == {"a", "b"} and len(diets) == 4)
    rows, _ = rows_of(one, without_c, "m")
    assert rows["diet[T.b]"]["p_value"] is not None
    assert (rows["diet[T.c]"]["estimate"], rows["diet"]["estimate"]) == (None, None)
    everything = replicate_with(one, lambda diets: set(diets) == {"a", "b", "c"} and len(diets) > 4)
    rows, _ = rows_of(one, everything, "m")
    assert rows["diet"]["estimate"] is not None


def test_a_likelihood_ratio_needs_all_fixed_effects(small_scenario):
    overrides = [
        "truth.missing.units={animal=0.6}",
        'methods=[{name="full", formula="y ~ diet * x + (1 | animal)", estimator="ml", '
        'likelihood_ratio="less"}, '
        '{name="less", formula="y ~ x + (1 | animal)", estimator="ml"}]',
    ]
    scenario = load_scenario(small_scenario, overrides=overrides)
    one = prepare_condition(scenario, conditions(scenario)[0])
    only_fed = replicate_with(one, lambda diets: len(diets) >= 3 and set(diets) == {"fed"})
    rows, _ = rows_of(one, only_fed, "full")
    assert rows["LR(less)"]["p_value"] is None
    both = replicate_with(one, lambda diets: len(set(diets)) == 2 and len(diets) > 4)
    rows, fit = rows_of(one, both, "full")
    smaller = rows_of(one, both, "less")[1]
    assert rows["LR(less)"]["estimate"] == pytest.approx(2 * (fit["loglik"] - smaller["loglik"]))
    assert rows["LR(less)"]["df"] == 2


def test_a_replicate_that_cannot_be_fitted_is_a_failed_row(prepared):
    one = prepared("truth.missing.units={animal=0.85}")
    n_parameters = len(one.methods["diagonal"].parameters())
    for wanted, message in (
        (lambda diets: len(diets) == 0, "no observation is left"),
        (lambda diets: len(diets) == 1, "the rows that this replicate has: the fixed effects"),
        (
            lambda diets: sorted(diets) == ["fasted", "fed"],
            "nothing that could tell animal.sd(Intercept)",
        ),
    ):
        replicate = replicate_with(one, wanted)
        rows, fit = rows_of(one, replicate, "diagonal")
        assert (fit["status"], fit["loglik"]) == ("failed", None)
        assert message in fit["message"]
        assert len(rows) == n_parameters
        assert all(row["estimate"] is None for row in rows.values())


def test_an_infinite_sd_in_one_design_is_that_replicates_failure(prepared):
    one = prepared(
        *REDRAWN[:2],
        "design.covariates.x={values=[1, 2, 3, 4, 5]}",
        'truth.residual.power={of="x", exponent=-1}',
    )
    assert rows_of(one, 1, "diagonal")[1]["status"] != "failed"
    # as if this replicate had drawn a 0
    broken = one.condition.design.model_copy(
        update={
            "covariates": {
                "x": one.condition.design.covariates["x"].model_copy(
                    update={"values": (0.0, 1.0, 2.0, 3.0, 4.0)}
                )
            }
        }
    )
    condition = type(one.condition)(**vars(one.condition) | {"design": broken})
    one = replace(one, condition=condition)
    _, fit = rows_of(one, 1, "diagonal")
    assert fit["status"] == "failed"
    assert "'x' is 0 in some observations" in fit["message"]


def test_no_amount_of_loss_ends_a_study(small_scenario, tmp_path):
    # four animals, most of what they give lost: every reason to fail turns up
    overrides = [
        "truth.missing={observations=0.7, units={animal=0.4, image=0.4}}",
        "design.levels.animal.count=2",
        "methods.right.df=['containment', 'satterthwaite', 'kenward-roger', 'z']",
    ]
    scenario = load_scenario(small_scenario, overrides=overrides, replicates=128)
    store = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1))
    fits = pq.read_table(store.directory / "fits").to_pylist()
    assert len(fits) == 128 * 5
    failed = [row for row in fits if row["status"] == "failed"]
    assert len({row["message"][2:] for row in failed}) >= 4
    assert any(row["status"] in ("ok", "boundary") for row in fits)
    assert store.missing() == {"all": ()}


@pytest.mark.parametrize(
    "overrides", [("truth.missing={observations=0.1, units={image=0.4}}",), REDRAWN]
)
def test_a_replicate_does_not_depend_on_those_it_is_fitted_with(prepared, overrides):
    one = prepared(*overrides)
    for together in analyse_replicates(one, range(1, 9)):
        for replicate in (2, 7):
            alone = analyse_replicates(one, range(replicate, replicate + 1))
            own = together.filter(pc.equal(together["replicate"], replicate))
            assert own.equals(next(each for each in alone if each.schema == together.schema))


def test_a_condition_that_loses_nothing_is_the_plain_one(small_scenario):
    plain = conditions(load_scenario(small_scenario))[0]
    for override in ("truth.missing.observations=0", "truth.missing={}", "design.redraw=false"):
        condition = conditions(load_scenario(small_scenario, overrides=[override]))[0]
        assert condition.identity == plain.identity
        assert not condition.has_own_rows
        assert condition.is_standard
    for override in ("truth.missing.observations=0.1", "design.redraw=true"):
        condition = conditions(load_scenario(small_scenario, overrides=[override]))[0]
        assert condition.has_own_rows
        assert not condition.is_standard


def test_a_design_that_no_formula_can_use_names_the_method(small_scenario):
    scenario = load_scenario(
        small_scenario, overrides=['methods=[{name="m", formula="y ~ log(x) + (1 | animal)"}]']
    )
    with (
        np.errstate(divide="ignore"),
        pytest.raises(DataError, match=r"method 'm' .* 'log\(x\)' .* infinite"),
    ):
        prepare_condition(scenario, conditions(scenario)[0])
    assert prepare_simulator(conditions(scenario)[0], 1)
