"""Oracle: numpy's products."""

import numpy as np
import pytest

from mcsim.engine.arithmetic.unit_sums import unit_sums, weighted_sums


@pytest.mark.parametrize("n_rows", [1, 3, 4, 7, 40])
def test_sums_are_products_whose_bits_do_not_depend_on_the_others(n_rows):
    rng = np.random.default_rng(n_rows)
    responses, weights = rng.normal(size=(5, n_rows)), rng.normal(size=(3, n_rows))
    together = weighted_sums(responses, weights)
    assert together == pytest.approx(responses @ weights.T, rel=1e-12, abs=1e-13)
    alone = np.concatenate([weighted_sums(one[None], weights) for one in responses])
    assert alone.tobytes() == together.tobytes()
    in_one_unit = unit_sums(responses, weights.T, np.zeros(n_rows, dtype=np.int64), 1)[:, 0]
    assert in_one_unit == pytest.approx(together, rel=1e-12, abs=1e-13)
