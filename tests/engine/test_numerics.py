"""Hard columns and sizes: right, or an error that names the cause."""

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns, without_aliased
from mcsim.engine.compile import Level, compile_design
from mcsim.engine.fit import fit_block
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method

GENERAL = (("general", 2),)


def draw(n_animals, n_images, n_points, seed=1):
    """Units, a covariate from 0 to 1 and a response."""
    generator = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_animals * n_images), n_points)
    animal = image // n_images
    x = np.tile(np.linspace(0, 1, n_points), n_animals * n_images)
    y = generator.normal(size=n_animals)[animal] + 0.5 * generator.normal(size=len(x)) + x
    y += (0.7 * generator.normal(size=n_animals * n_images))[image] * x
    return animal, image, x, y


def fit(animal, image, x, y):
    X = np.column_stack([np.ones(len(x)), animal % 2, x])
    Z = np.column_stack([np.ones(len(x)), x])
    levels = (Level(animal, Z, GENERAL, ("1", "x")), Level(image, Z, GENERAL, ("1", "x")))
    return fit_block(compile_design(X, levels, names=("1", "group", "x")), y[None])


@pytest.mark.parametrize(("unit", "origin"), [(10.0, 2001.0), (1e-6, 0.0), (1.0, 1e6)])
def test_unit_and_origin_of_a_covariate_change_the_slopes_alone(unit, origin):
    animal, image, x, y = draw(12, 5, 10)
    before, after = fit(animal, image, x, y), fit(animal, image, origin + unit * x, y)
    assert after.certificate[0] <= CERTIFICATE_TOLERANCE
    assert after.scale[0] == pytest.approx(before.scale[0], rel=1e-7)
    assert after.coefficients[0, 2] * unit == pytest.approx(before.coefficients[0, 2], rel=1e-7)
    for old, new in zip(before.covariances, after.covariances, strict=True):
        assert new[0, 1, 1] * unit**2 == pytest.approx(old[0, 1, 1], rel=1e-5)


@pytest.mark.parametrize("size", [(2, 6, 5), (3000, 2, 3)])
def test_one_unit_per_group_and_thousands_of_units_are_certified(size):
    # with one animal per group the likelihood is flat along one direction
    for seed in range(30 if size[0] == 2 else 1):
        assert fit(*draw(*size, seed)).certificate[0] <= CERTIFICATE_TOLERANCE


def frame_of(animal, image, x, y):
    names = {"animal": animal.astype(str), "image": image.astype(str)}
    return pd.DataFrame(names | {"x": x, "twice": 2 * x, "y": y}).astype({"animal": "category"})


def test_fixed_effects_that_others_determine_are_left_out_and_named():
    frame = frame_of(*draw(10, 4, 5))
    with_twice = model_columns(parse_formula("y ~ x + twice + (1 | animal)"), frame)
    without = model_columns(parse_formula("y ~ x + (1 | animal)"), frame)
    kept, aliased = without_aliased(with_twice)
    assert (kept.names, aliased) == (("Intercept", "x"), ("twice",))
    settings = MethodSettings("reml", ("containment",), 0.95)
    responses = frame["y"].to_numpy()[None]
    results = []
    for columns in (with_twice, without):
        method = prepare_method(columns, settings)
        blocks = method.analyse([method.take(responses)], np.random.default_rng).estimates[
            "containment"
        ]
        results.append([(block.parameter.name, block.estimate[0], block.df[0]) for block in blocks])
    assert repr(results[0]) == repr(results[1])


@pytest.mark.parametrize(("structure", "n_correlations"), [("compound", 3), ("identity", 0)])
def test_effects_of_a_factor_within_units_may_share_their_variance(structure, n_correlations):
    generator = np.random.default_rng(3)
    animal, treatment = np.repeat(np.arange(12), 9), np.tile(["a", "b", "c"], 36)
    effects = generator.normal(size=(12, 1)) + generator.normal(size=(12, 3))
    y = effects[animal, np.tile(np.arange(3), 36)] + generator.normal(size=108)
    frame = pd.DataFrame({"animal": animal, "treatment": pd.Categorical(treatment), "y": y})
    formula = parse_formula("y ~ treatment + (0 + treatment | animal)")
    columns = model_columns(formula, frame, {"animal": structure})
    method = prepare_method(columns, MethodSettings("reml", ("containment",), 0.95))
    blocks = method.analyse([method.take(y[None])], np.random.default_rng).estimates["containment"]
    rows = {block.parameter.name: block for block in blocks}
    sds = [rows[f"animal.sd(treatment[{level}])"] for level in "abc"]
    assert len({round(sd.estimate[0], 12) for sd in sds}) == 1
    assert len({round(sd.ci_lower[0], 12) for sd in sds}) == 1
    correlations = {round(r.estimate[0], 12) for name, r in rows.items() if ".cor(" in name}
    assert sum(".cor(" in name for name in rows) == n_correlations
    assert len(correlations) <= 1
