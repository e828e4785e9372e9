"""statsmodels' MixedLM: models that it cannot fit."""

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method


@pytest.mark.parametrize("formula", ["(diet || g)", "(1 | g) + (0 + x + z | g)"])
def test_statsmodels_has_no_blocks_of_correlated_effects(formula):
    frame = pd.DataFrame(
        {"x": np.arange(40.0) ** 2, "z": np.sin(np.arange(40)), "g": np.arange(40) % 5}
    )
    frame["diet"] = pd.Categorical(["a", "b"] * 20)
    with pytest.raises(DataError, match="correlates all random effects of 'g' or none"):
        prepare_method(
            model_columns(parse_formula(f"y ~ 1 + {formula}"), frame),
            MethodSettings("statsmodels", ("containment",), 0.95),
        )
