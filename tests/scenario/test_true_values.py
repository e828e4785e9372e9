"""The truth of a condition: known answers, by closed forms written beside them."""

import math

import numpy as np
import pytest

from mcsim.names import SIGMA, Parameter
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.true_values import derived_value, targets_of, truth_of
from mcsim.scenario.truth import TruthSpec

SPEC = {
    "sigma": 0.5,
    "fixed": {"Intercept": 1.0, "diet[T.fed]:x": 0.3, "I(x**2)": 0.7, "phi": 2.0},
    "random": {
        "animal": {"sd": {"Intercept": 0.6, "x": 0.4}, "correlation": {"x,Intercept": 0.3}},
        "image": {"variance": {"Intercept": 0.25, "x": 0.0}, "correlation": 0.2},
    },
}
FACTORS = {"diet": ("fasted", "fed", "starved")}


def truth(estimands=(), **changes):
    return truth_of(TruthSpec.model_validate(SPEC | changes), FACTORS, estimands)


def of(name, component=None, **changes):
    return truth(**changes).of(Parameter.read(name, component))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Intercept", 1.0),
        ("x:diet[T.fed]", 0.3),
        ("I(x ** 2)", 0.7),
        ("x", 0.0),  # the truth lacks it
        ("fed at 1", 0.0),
        ("sigma", 0.5),
        ("animal.sd(x)", 0.4),
        ("animal.var(x)", 0.4**2),
        ("image.sd(Intercept)", 0.5),
        ("image.var(Intercept)", 0.25),
        ("cell.sd(x)", 0.0),
        ("cell.var(x)", 0.0),
        ("animal.cor(Intercept,x)", 0.3),
        ("animal.cor(x,Intercept)", 0.3),
        ("image.cor(Intercept,x)", None),  # effects of x do not vary
        ("cell.cor(Intercept,x)", None),
        ("total.sd(Intercept)", math.sqrt(0.36 + 0.25)),
        ("total.var(Intercept)", 0.36 + 0.25),
        ("total.sd(x)", 0.4),
        ("total.sd(z)", 0.0),
        ("animal.icc", 0.36 / (0.36 + 0.25 + 0.25)),
        ("image.icc", 0.25 / (0.36 + 0.25 + 0.25)),
        ("cell.icc", 0.0),
    ],
)
def test_what_the_truth_states_and_what_follows_from_it(name, value):
    assert of(name) == (value if value is None else pytest.approx(value, rel=1e-15))


@pytest.mark.parametrize(
    ("residual", "phi", "rho", "ratio"),
    [
        (None, 0.0, 0.0, 1.0),
        ({"correlation": "ar1", "phi": 0.4}, 0.4, None, 1.0),
        ({"correlation": "exchangeable", "rho": 0.3}, None, 0.3, 1.0),
        ({"sd_by": {"diet": {"fasted": 2.0, "fed": 3.0}}}, 0.0, 0.0, 1.5),
    ],
)
def test_parameters_of_the_residuals(residual, phi, rho, ratio):
    assert of("phi", "residual", residual=residual) == phi
    assert of("rho", "residual", residual=residual) == rho
    assert of("sd_ratio(diet[T.fed])", "residual", residual=residual) == ratio
    # a user's function may report one, whose component is that of fixed effects
    assert of("rho", "fixed", residual=residual) == (0.0 if rho is None else rho)


def test_a_covariate_may_have_the_name_of_a_parameter_of_the_residuals():
    residual = {"correlation": "ar1", "phi": 0.4}
    assert of("phi", "fixed", residual=residual) == 2.0
    assert of("phi", "residual", residual=residual) == 0.4


def test_a_test_of_a_term_has_no_truth():
    assert of("x", "terms") is None
    assert of("LR(smaller)", "terms") is None


def test_estimands():
    weights = {"x:diet[T.fed]": 2.0, "I(x ** 2)": 1.0, "x": 5.0}
    estimands = [
        EstimandSpec(name="both", fixed=weights),
        EstimandSpec(name="animal.icc"),
        EstimandSpec(name="total.var(x)"),
    ]
    found = truth(estimands)
    assert found.of(Parameter.read("both", "fixed")) == pytest.approx(2 * 0.3 + 0.7)
    assert found.of(Parameter.read("animal.icc")) == of("animal.icc")
    assert found.of(Parameter.read("total.var(x)")) == pytest.approx(0.16)


def test_all_that_is_stated_has_that_value():
    residual = {"correlation": "ar1", "phi": 0.4}
    found = truth(residual=residual)
    names = {one.name: found.of(one) for one in found.parameters}
    assert names["animal.var(x)"] == pytest.approx(0.16)
    assert names["sd_ratio(diet[T.starved])"] == 1.0
    assert None not in names.values()
    assert "rho" not in names
    assert "image.cor(Intercept,x)" not in names


@pytest.mark.parametrize(
    ("parameter", "target"),
    [
        ("image.sd(x)", "total.sd(x)"),
        ("image.var(x)", "total.var(x)"),  # declared of its SD
        ("image.sd(Intercept)", "image.sd(Intercept)"),
        ("image.var(z)", "image.sd(z)"),  # declared itself
        ("image.cor(z,x)", "animal.cor(x,z)"),
        ("z:x", "both"),
        ("sigma", "total.sd(Intercept)"),
    ],
)
def test_targets_are_what_is_declared(parameter, target):
    targets = targets_of(
        {
            "image.sd(x)": "total.sd(x)",
            "image.sd(z)": "total.sd(z)",
            "image.var(z)": "image.sd(z)",
            "image.cor(x,z)": "animal.cor(x,z)",
            "x:z": "both",
            "sigma": "total.sd(Intercept)",
        }
    )
    one = Parameter.read(parameter)
    assert targets.get(one, one).name == target


def test_derived_quantities_of_arrays_leave_totals_out():
    values = {
        Parameter.read("animal.sd(x)"): np.array([3.0, 0.0]),
        Parameter.read("image.sd(x)"): np.array([4.0, 1.0]),
        Parameter.read("total.sd(x)"): np.array([5.0, 1.0]),
        Parameter.read("image.var(x)"): np.array([16.0, 1.0]),
        SIGMA: np.array([2.0, 2.0]),
    }
    assert derived_value(Parameter.read("total.sd(x)"), values).tolist() == [5.0, 1.0]
    assert derived_value(Parameter.read("total.var(x)"), values).tolist() == [25.0, 1.0]
