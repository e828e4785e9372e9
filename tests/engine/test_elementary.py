"""Exponential and logarithm of the engine against numpy's."""

import numba
import numpy as np

from mcsim.engine.arithmetic.elementary import exp, log1p


@numba.njit(error_model="numpy")
def both(x, of_exp, of_log):
    for i in range(len(x)):
        of_exp[i], of_log[i] = exp(x[i]), log1p(abs(x[i]))


def of(x):
    x = np.asarray(x, dtype=float)
    found = np.empty((2, len(x)))
    both(x, *found)
    return found


def test_exponential_and_logarithm_are_exact_to_some_units_in_the_last_place():
    generator = np.random.default_rng(3)
    x = np.concatenate([generator.uniform(-700, 700, 20000), generator.normal(size=20000)])
    x = np.concatenate([x, np.exp(generator.uniform(-80, 400, 20000)), [0.0, 1e300]])
    of_exp, of_log = of(x)
    inside = x < 709.0
    np.testing.assert_allclose(of_exp[inside], np.exp(x[inside]), rtol=3 * 2.3e-16)
    np.testing.assert_allclose(of_log, np.log1p(np.abs(x)), rtol=3 * 2.3e-16)


def test_what_has_no_number_is_infinite_zero_or_nan():
    of_exp, of_log = of([710.0, -710.0, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(of_exp, [np.inf, 0.0, np.inf, 0.0, np.nan])
    np.testing.assert_array_equal(of_log[2:], [np.inf, np.inf, np.nan])
