"""The dictionary of structures: what a truth draws is what a fit means by the same parameters."""

import numpy as np
import pytest

from mcsim.engine.residuals.kinds import KINDS
from mcsim.engine.residuals.structure import ResidualRows
from mcsim.scenario.values import RESIDUAL_CORRELATIONS

UNIT = np.array([0, 0, 0, 1, 1, 2])
CORRELATED = [name for name, kind in KINDS.items() if kind.parameters]


def test_the_scenario_and_the_engine_have_the_same_correlations():
    given = {name: keys[:1] for name, keys in RESIDUAL_CORRELATIONS.items()}
    assert given == {name: KINDS[name].parameters for name in CORRELATED}


@pytest.mark.parametrize("z", [-0.4, 0.3, 1.1])
@pytest.mark.parametrize("kind", CORRELATED)
def test_residuals_of_a_truth_have_the_covariance_of_the_fit(kind, z):
    structure = KINDS[kind](UNIT, ResidualRows(kind))
    at, sizes = np.array([[z]]), np.unique(np.bincount(UNIT))
    root = structure.correlate(np.eye(len(UNIT)), structure.values(at)[0][0])
    drawn = root.T @ root
    for unit, size in enumerate(np.bincount(UNIT)):
        group = np.searchsorted(sizes, size) if structure.by_size else 0
        forms = structure.products(np.eye(size), np.zeros(size, dtype=int))
        inverse = np.einsum("m,mij->ij", structure.weights(at)[0, :, group], np.array(forms))
        own = unit == UNIT
        assert drawn[np.ix_(own, own)] == pytest.approx(np.linalg.inv(inverse), abs=1e-5)
        assert np.abs(drawn[np.ix_(own, ~own)]).max() == 0.0
