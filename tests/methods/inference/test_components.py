"""Wald intervals of components: where they are, and where they would say nothing."""

import numpy as np

from mcsim.methods.inference.components import _log_scale, _squared
from mcsim.names import Parameter

SD = Parameter.read("animal.sd(x)")


def test_an_interval_of_a_thousandth_to_the_thousandfold_is_the_widest():
    log_se = np.array([0.1, 3.5, 3.6, 50.0, np.nan])  # log(1000) / 1.96 = 3.524
    block = _log_scale(SD, np.full(5, 0.5), log_se**2, 1.96)
    assert np.isnan(block.ci_lower).tolist() == [False, False, True, True, True]
    assert np.isnan(block.ci_upper).tolist() == [False, False, True, True, True]
    assert np.isnan(block.std_error).tolist() == [False] * 4 + [True]
    np.testing.assert_allclose(block.ci_upper[0], 0.5 * np.exp(0.196))
    assert np.isnan(_squared(block).ci_upper).tolist() == [False, False, True, True, True]
