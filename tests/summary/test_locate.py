"""Where observed estimates lie: known distributions, verdicts, and honest probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest

from mcsim.errors import DataError
from mcsim.interface import read_estimates
from mcsim.names import Parameter
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary import locate as location
from tests.conftest import SMALL, call_mcsim

ROOT = Path(__file__).parents[2]
OBSERVED = ROOT / "configs" / "observed"


@pytest.fixture(scope="module")
def stain(tmp_path_factory):
    """400 replicates of the seed scenario: enough for its verdicts."""
    scenario = load_scenario(ROOT / "configs" / "stain_profile.toml", replicates=400)
    directory = tmp_path_factory.mktemp("stain") / "out"
    return study.run_study(scenario, study.RunOptions(directory, n_workers=1)).directory


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "s.toml").write_text(SMALL)
    scenario = load_scenario(folder / "s.toml", replicates=300)
    return study.run_study(scenario, study.RunOptions(folder / "out", n_workers=1)).directory


def located(values, observed):
    names = [f"p{number}" for number in range(len(values))]
    empty = location.Located("m", "all", 0, (), 1.0, (0.0, 1.0))
    return location._located(empty, names, np.array(values, float), np.array(observed, float))


def test_ranks_percentiles_and_tails_of_known_numbers():
    # 0 .. 98 and the observed 1: two of 100 are at most that, on each side
    (one,) = located([np.arange(99.0)], [1.0]).parameters
    assert one.percentile == pytest.approx((1 + 0.5) / 99)
    assert one.tail == pytest.approx(2 * 3 / 100)  # 0, the simulated 1 and the observed 1
    assert (one.mean, one.n, one.is_beyond) == (49.0, 99, False)
    (far,) = located([np.arange(99.0)], [1000.0]).parameters
    assert (far.percentile, far.tail, far.is_beyond) == (1.0, 0.02, True)
    assert far.verdict == "impossible"
    # exact zeros: most of the simulated estimates are as observed
    (zero,) = located([np.repeat([0.0, 1.0], [60, 39])], [0.0]).parameters
    assert (zero.tail, zero.verdict) == (1.0, "possible")
    assert zero.percentile == pytest.approx(0.5 * 60 / 99)


COUNTS = """
replicates = 3
seed = 1
[design]
levels = [{ name = "animal", count = 8 }]
observations = { count = 3 }
[truth]
family = "nbinom"
dispersion = 1000000
fixed = { Intercept = 1.0 }
[[methods]]
name = "counts"
formula = "y ~ 1 + (1 | animal)"
"""


def test_a_parameter_that_no_data_set_has_is_refused(tmp_path):
    """The dispersion of counts that vary no more than Poisson's."""
    (tmp_path / "s.toml").write_text(COUNTS)
    scenario = load_scenario(tmp_path / "s.toml")
    directory = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1)).directory
    estimates = read_estimates(directory, parameter="dispersion")["estimate"]
    assert estimates.notna().sum() < 2
    with pytest.raises(DataError, match="fewer than 2 have an estimate of 'dispersion'; leave it"):
        location.locate(directory, location.Observed(None, {"dispersion": 3.0}))


def test_undefined_estimates_are_left_out_of_their_parameter_alone():
    values = np.vstack([np.arange(99.0), np.where(np.arange(99) < 50, np.nan, np.arange(99.0))])
    first, second = located(values, [49.0, 75.0]).parameters
    assert (first.n, second.n) == (99, 49)
    assert second.tail == pytest.approx(1.0, abs=0.1)


def test_a_tail_adjusted_for_one_parameter_is_the_tail():
    # 0 on one side: no value there is as far out as one of the other side
    (one,) = located([np.concatenate([np.zeros(50), np.arange(1.0, 50.0)])], [45.0]).parameters
    assert one.adjusted == one.tail > 0.05


def test_data_of_the_scenario_get_small_probabilities_as_rarely_as_they_should():
    # correlated parameters; 400 data sets: the share below 5% is within 4.3 standard errors of 5%
    # but for one run in 50,000
    generator = np.random.default_rng(8)
    mixing = np.array([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [0.0, 0.3, 1.0]])
    joint = []
    for _ in range(400):
        simulated = mixing @ generator.standard_normal((3, 199))
        joint.append(located(simulated, mixing @ generator.standard_normal(3)).joint)
    assert np.mean(np.array(joint) <= 0.05) == pytest.approx(
        0.05, abs=4.3 * (0.05 * 0.95 / 400) ** 0.5
    )
    assert np.mean(joint) == pytest.approx(0.5, abs=4.3 * (1 / 12 / 400) ** 0.5)


def test_the_residual_sds_of_the_question_cannot_come_from_its_scenario(stain):
    first = location.locate(stain, location.read_observed(OBSERVED / "model1.toml"))
    second = location.locate(stain, location.read_observed(OBSERVED / "model2.toml"))
    for found in (first, second):
        verdicts = {one.parameter: one.verdict for one in found.parameters}
        assert verdicts["sigma"] == "impossible"
        assert verdicts["animal.sd(Intercept)"] == verdicts["animal.sd(x)"] == "possible"
        distances = {one.parameter: one.distance for one in found.parameters}
        # residual df of about 4,000: the SD of sigma's estimates is 0.00095
        assert distances["sigma"] == pytest.approx(17.7 if found is first else 7.6, rel=0.15)
    assert (first.method, second.method) == ("general", "diagonal")
    text = location.to_table(first)
    assert "sigma: none of 400 simulated estimates is so large" in text
    assert "these estimates do not come from this scenario" in text


def test_a_fit_of_a_simulated_data_set_is_located_where_it_belongs(small, tmp_path):
    scenario = small.parent / "s.toml"
    call_mcsim("simulate", scenario, "--replicate", 5, "-o", "five.csv", cwd=tmp_path)
    formula = "y ~ diet * x + (x || animal/image)"
    fit = call_mcsim("fit", "five.csv", "--formula", formula, "--format", "json", cwd=tmp_path)
    (tmp_path / "five.json").write_text(fit.stdout)
    arguments = ["locate", small, "--observed", "five.json", "--method", "diagonal"]
    done = call_mcsim(*arguments, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n_replicates"] == 300
    assert found["joint"] > 0.01
    assert "animal.var(x)" not in {one["parameter"] for one in found["parameters"]}
    assert call_mcsim(*arguments, cwd=tmp_path).stdout.startswith("Among 300 simulated data sets")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sigma = 1", "no estimates"),
        ("[estimates]\nsigma = 'a'", "estimates: 'sigma' is 'a'; it must be a finite number"),
        ("[estimates]\nsigma = -1", "'sigma' is -1; it must not be negative"),
        ("[estimates]\n'animal.sd(x)' = -0.5", "is -0.5; it must not be negative"),
        ("[estimates]\n'animal.cor(x,Intercept)' = 1.5", "is 1.5; it must be from -1 to 1"),
        ("[estimates]\n'animal.icc' = 1.01", "'animal.icc' is 1.01; it must be from 0 to 1"),
        ("[estimates]\n'animal.icc' = -0.1", "'animal.icc' is -0.1; it must be from 0 to 1"),
        (
            "methods = 'right'\n[estimates]\nsigma = 1",
            "unknown key 'methods'. Did you mean 'method'",
        ),
        ("[estimates]\nsigma = 1\n[estimate]\nx = 1", "unknown key 'estimate'. Did you mean 'est"),
        ("[estimates]\nsigma = nan", "'sigma' is nan; it must be a finite number"),
        ("[estimates]\nsigma = -inf", "'sigma' is -inf; it must be a finite number"),
        ("[estimates]\nsigma = true", "'sigma' is True; it must be a finite number"),
        ("[estimates]\nsigma = 1" + "0" * 400, "'sigma' is 10+; it must be a finite number"),
        ("[estimates]\nsigma = 1" + "0" * 5000, "cannot be read"),
        ("[estimates]\nsigma = [1]", r"'sigma' is \[1\]; it must be a finite number"),
        ("[estimates]", "no estimates"),
        ("[[estimates]]\nsigma = 1", "no estimates"),
        ("estimates = [1, 2]", "no estimates"),
        ("method = 3\n[estimates]\nsigma = 1", "method is 3; it must be text in quotes"),
        ("method = ['right']\n[estimates]\nsigma = 1", "method is .* it must be text in quotes"),
        ("a = " + "[" * 5000 + "]" * 5000, "lie too deep within each other"),
        ("[estimates", "cannot be read"),
        ('method = "genral"\n[estimates]\nsigma = 1', "no method matches 'genral'"),
        ('method = "right"\n[estimates]\nsigmo = 1', "Did you mean 'sigma'"),
        ("[estimates]\nsigma = 1", "name one of them with --method"),
    ],
)
def test_what_cannot_be_located_is_said_plainly(small, tmp_path, text, message):
    path = tmp_path / "o.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        location.locate(small, location.read_observed(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "no estimates"),
        ('{"parameters": []}', "no estimates"),
        ('{"parameters": [1, {"parameter": "sigma"}]}', "'sigma' is None; it must be a finite"),
        ('{"parameters": [{"estimate": NaN, "parameter": "sigma"}]}', "'sigma' is nan"),
        ("[" * 100000, "lie too deep within each other"),
    ],
)
def test_json_that_is_no_fit_is_said_plainly(tmp_path, text, message):
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(DataError, match=message):
        location.read_observed(tmp_path / "o.json")


SERIAL = """
[[methods]]
name = "serial"
formula = "y ~ x + (1 | animal/image)"
residual = "ar1(x)"
"""


@pytest.mark.parametrize(
    ("name", "component", "limits"),
    [
        ("phi", "residual", (-1.0, 1.0)),
        ("phi", "fixed", (-np.inf, np.inf)),
        ("sd_ratio(diet[T.fed])", "residual", (0.0, np.inf)),
        ("dispersion", "residual", (0.0, np.inf)),
        ("risk", "risk_difference", (-1.0, 1.0)),
        ("odds", "odds_ratio", (0.0, np.inf)),
        ("animal.var(x)", "animal", (0.0, np.inf)),
        ("total.sd(x)", "total", (0.0, np.inf)),
        ("x", "fixed", (-np.inf, np.inf)),
    ],
)
def test_parameters_have_the_limits_of_their_kind(name, component, limits):
    assert Parameter.read(name, component).limits == limits


def test_limits_are_of_the_parameter_that_a_study_has(tmp_path):
    text = SMALL.split("[[methods]]")[0] + SERIAL
    (tmp_path / "s.toml").write_text(text)
    scenario = load_scenario(tmp_path / "s.toml", replicates=3)
    directory = study.run_study(scenario, study.RunOptions(tmp_path / "out", n_workers=1)).directory
    with pytest.raises(DataError, match=r"'phi' is 1.2; it must be from -1 to 1"):
        location.locate(directory, location.Observed(None, {"phi": 1.2}))


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no study"):
        location.locate(tmp_path, location.Observed("m", {"sigma": 1.0}))
