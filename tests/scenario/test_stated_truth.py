"""Total variances, their shares and standardised effects: what they come to in SDs."""

import pytest

from mcsim.errors import ScenarioError
from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.scenario.stated_truth import StatedTruth
from mcsim.scenario.truth import RandomSpec
from tests.conftest import SMALL

SHARES = {"total_variance": 4.0, "icc": {"animal": 0.3, "image": 0.06}}


def in_sds(**stated):
    return StatedTruth.model_validate(stated).in_sds().model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("stated", "sigma", "random"),
    [
        # 4 = 1.2 + 0.24 + 2.56
        (SHARES, 1.6, {"animal": 1.2**0.5, "image": 0.24**0.5}),
        ({"total_sd": 2.0, "icc": {"animal": 0.75}}, 1.0, {"animal": 3.0**0.5}),
        ({"sigma": 1.6, "icc": {"animal": 0.3, "image": 0.06}}, 1.6,
         {"animal": 1.2**0.5, "image": 0.24**0.5}),
        ({"total_variance": 1.0, "random": {"animal": {"variance": {"Intercept": 0.36}}}}, 0.8,
         {"animal": 0.6}),
        ({"sigma": 0.8, "icc": {"image": 0.2}, "random": {"animal": {"sd": {"Intercept": 0.4}}}},
         0.8, {"animal": 0.4, "image": 0.2**0.5}),
    ],
)  # fmt: skip
def test_shares_add_up_to_the_total(stated, sigma, random):
    found = in_sds(**stated)
    assert found["sigma"] == pytest.approx(sigma, rel=1e-11)
    for level, sd in random.items():
        spec = RandomSpec.model_validate(found["random"][level])
        assert spec.standard_deviations["Intercept"] == pytest.approx(sd, rel=1e-11)
    assert set(found["random"]) == set(random)


def test_slopes_stay_beside_a_share_of_the_intercepts():
    random = {"animal": {"sd": {"x": 0.2}, "correlation": {"Intercept,x": 0.5}}}
    found = in_sds(sigma=1.0, icc={"animal": 0.5}, random=random)["random"]["animal"]
    assert list(found["sd"].items()) == [("Intercept", 1.0), ("x", 0.2)]
    assert found["correlation"] == {"Intercept,x": 0.5}


def test_an_effect_d_is_in_total_sds_and_no_rounding_shows():
    fixed = {"x": {"d": 0.1}, "z": 3.0}
    assert in_sds(**SHARES, fixed=fixed)["fixed"] == {"x": 0.2, "z": 3.0}
    random = {"animal": {"sd": {"Intercept": 0.4}}}
    assert in_sds(sigma=0.3, random=random, fixed={"x": {"d": 0.2}})["fixed"] == {"x": 0.1}


@pytest.fixture
def load(tmp_path):
    def load_truth(truth, sweep=""):
        before, rest = SMALL.split("[truth]")
        path = tmp_path / "s.toml"
        methods = rest.split("[[methods]]", 1)[1]
        path.write_text(f"{before}[truth]\n{truth}\n[[methods]]{methods}{sweep}")
        return load_scenario(path)

    return load_truth


def test_shares_and_effects_can_be_swept(load):
    sweep = '\n[sweep]\n"truth.icc.animal" = [0.1, 0.4]\n"truth.fixed.x" = [0.3, { d = 0.3 }]\n'
    found = conditions(load("total_sd = 1.0\nicc = { animal = 0.2 }\nfixed = { x = 1.0 }", sweep))
    assert [one.truth.random["animal"].sd["Intercept"] for one in found[::2]] == pytest.approx(
        [0.1**0.5, 0.4**0.5]
    )
    assert [one.truth.fixed["x"] for one in found] == [0.3, 0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("sigma = 1.0\ntotal_sd = 2.0", "'total_sd' says what 'sigma' says; leave one out"),
        ("total_sd = 1.0\nicc = { animal = 0.7, image = 0.3 }", "leave nothing of the total"),
        ("sigma = 1.0\nicc = { animal = 0.5, image = 0.5 }", "leave nothing of the total"),
        ("sigma = 1.0\nicc = { animal = 1.0 }", "must be a number of at least 0 and below 1"),
        ("total_sd = 1.0\nrandom = { animal = { sd = { Intercept = 1.0 } } }", "leave nothing of"),
        ("sigma = 1.0\nicc = { mouse = 0.1 }", "unknown level 'mouse' in truth.icc"),
        (
            "sigma = 1.0\nicc = { animal = 0.1 }\nrandom.animal.sd.Intercept = 1.0",
            "the intercepts of 'animal' have an SD in truth.random",
        ),
        ("icc = { animal = 0.1 }", "missing key 'sigma' in truth"),
        ("sigma = 1.0\nfixed = { x = { r2 = 0.1 } }", "unknown key 'r2'"),
    ],
)  # fmt: skip
def test_variances_that_do_not_add_up_are_refused(load, truth, message):
    with pytest.raises(ScenarioError, match=message):
        load(truth)
