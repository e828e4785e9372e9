"""Means over normal effects, against numerical integration and differences."""

import numpy as np
import pytest
from scipy import integrate, stats

from mcsim.engine.families.marginal import normal_means
from mcsim.engine.families.means import MEANS

ETA = np.array([-3.0, 0.2, 2.0])
STEP = 1e-5


@pytest.mark.parametrize("sd", [0.0, 0.4, 3.0, 12.0])
@pytest.mark.parametrize("link", MEANS)
def test_means_and_their_derivatives(link, sd):
    sd = min(sd, 2.0) if link == "log" else sd  # whose mean is e^(sd^2 / 2)
    found = normal_means(link, ETA, np.full(3, sd))
    for eta, mean in zip(ETA, found.mean, strict=True):
        expected, _ = integrate.quad(
            lambda z, eta=eta: MEANS[link](eta + sd * z) * stats.norm.pdf(z),
            *(-12.0, 12.0),
            points=[-eta / sd] if sd else None,
            epsabs=1e-13,
            limit=500,
        )
        assert mean == pytest.approx(expected, abs=2e-11)

    def mean(eta, sd):
        return normal_means(link, eta, np.abs(np.full(3, sd))).mean  # even in the SD

    in_eta = (mean(ETA + STEP, sd) - mean(ETA - STEP, sd)) / (2 * STEP)
    in_sd = (mean(ETA, sd + STEP) - mean(ETA, sd - STEP)) / (2 * STEP)
    np.testing.assert_allclose(found.in_eta, in_eta, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(found.in_sd, in_sd, rtol=1e-7, atol=1e-10)
