"""Models of the residuals against nlme (tests/reference/residual.R)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.engine.fit import fit_moments
from mcsim.engine.optimum.certificate import CERTIFICATE_TOLERANCE
from mcsim.engine.optimum.search import Status
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.scenario.residuals import ResidualModel, residual_model

REFERENCE = Path(__file__).parents[1] / "reference"
DATA = (
    "ar1_balanced",
    "ar1_unbalanced",
    "exchangeable_balanced",
    "exchangeable_unbalanced",
    "by_diet_balanced",
    "by_stain_unbalanced",
)


def read(name):
    frame = pd.read_csv(REFERENCE / f"residual_{name}.csv")
    for column in frame.columns.difference(["x", "y"]):
        frame[column] = pd.Categorical(frame[column], categories=sorted(frame[column].unique()))
    return frame, json.loads((REFERENCE / f"residual_{name}.json").read_text())["models"]


@pytest.mark.parametrize("criterion", ["REML", "ML"])
@pytest.mark.parametrize("model", ["slopes", "animal", "gls"])
@pytest.mark.parametrize("name", DATA)
def test_fit_is_that_of_nlme(name, model, criterion):
    frame, models = read(name)
    nlme = models[model][criterion]
    residual = residual_model(nlme["residual_model"])
    if residual.correlation is not None:
        residual = ResidualModel(correlation=residual.correlation, within="image")
    columns = model_columns(parse_formula(nlme["formula"]), frame)
    settings = MethodSettings(criterion.lower(), ("containment",), 0.95, residual=residual)
    method = prepare_method(columns, settings)
    taken = method.take(frame["y"].to_numpy()[None])
    fit = fit_moments(method.design, taken)
    assert fit.certificate[0] <= CERTIFICATE_TOLERANCE
    # nlme stops up to 5e-8 short of the optimum where a variance is zero: there ours is better
    assert fit.loglik[0] == pytest.approx(nlme["logLik"], abs=1e-6)
    assert fit.loglik[0] >= nlme["logLik"] - 1e-9
    is_inside = fit.status[0] == Status.OK
    rel = 1e-4 if is_inside else 1e-3
    assert fit.coefficients[0] == pytest.approx(np.array(nlme["beta"]), rel=rel)
    assert np.sqrt(np.diag(fit.covariance[0])) == pytest.approx(np.array(nlme["se"]), rel=rel)
    found = {
        one.parameter.name: one
        for one in method.analyse([taken], np.random.default_rng).estimates["containment"]
    }
    assert [found[one].df[0] for one in columns.names] == nlme["df"]
    assert found["sigma"].estimate[0] == pytest.approx(nlme["sigma"], rel=rel)
    own = [one.estimate[0] for one in found.values() if one.parameter.component == "residual"][1:]
    assert own == pytest.approx(nlme["residual"], rel=rel)
    for covariance, expected in zip(fit.covariances, nlme["covariances"], strict=True):
        scale = np.abs(expected).max()
        size = scale if is_inside else max(scale, 1e-3 * nlme["sigma"] ** 2)
        assert covariance[0] == pytest.approx(np.array(expected), abs=rel * size)
